"""Modules of torch become networks that score as they do, or are refused by name."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="torch is not installed (extra 'train')")

from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402
from torch.nn.utils import parametrizations, parametrize, prune  # noqa: E402

from prunus.compiler import compile_net  # noqa: E402
from prunus.engine.network import Activation, Sparse  # noqa: E402
from prunus.errors import ForeignModelError, ParityError, SchemaError  # noqa: E402
from prunus.foreign.parity import ROWS  # noqa: E402
from prunus.foreign.torch_module import read_module  # noqa: E402

N = 9


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def norm(width):
    """Make a batch normalisation that has seen data."""
    layer = nn.BatchNorm1d(width)
    for tensor, low, high in ((layer.running_mean, -2, 2), (layer.running_var, 0.1, 3), (layer.weight.data, -2, 2), (layer.bias.data, -1, 1)):  # fmt: skip
        tensor.uniform_(low, high)
    return layer


class Written(nn.Module):
    """Standardisation by buffers, functions instead of modules, a view, and a squeeze."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.randn(N) * 1e5)
        self.register_buffer("std", torch.rand(N) + 0.1)
        self.register_buffer("one", torch.tensor(1.0))
        self.first, self.second, self.last = nn.Linear(N, 12), nn.Linear(12, 6), nn.Linear(6, 1)
        self.more = nn.Parameter(torch.randn(6, 6))
        self.scale = 2.5

    def forward(self, x):
        """Score."""
        x = (x.float() - self.mean) / torch.sqrt(self.std**2 + 1e-6)
        x = x.clamp(min=-3, max=3).view(x.shape[0], -1)
        h = functional.dropout(functional.relu(self.first(x)), 0.5, training=self.training)
        h = torch.sigmoid(self.second(h.view(h.size(0), -1)) * 2 - self.one)
        h = functional.hardtanh(h @ self.more.t(), -0.5, 0.5)
        return (1 - self.last(h)).squeeze(-1) * self.scale + 3


class Functions(nn.Module):
    """Each function and method once more, in other spellings."""

    def __init__(self):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(5, N)), nn.Parameter(torch.randn(5))
        self.last = nn.Parameter(torch.randn(5))

    def forward(self, x):
        """Score."""
        h = torch.relu(functional.linear(x, self.weight, bias=self.bias)).flatten(1)
        h = torch.tanh(torch.add(h.mul(0.5), -1)).neg().clip(max=0.5)
        h = functional.relu6(torch.sub(3, h).contiguous()).to(torch.float32)
        h -= 1
        h = functional.hardsigmoid(torch.div(h, 2.0)).sigmoid().relu().tanh()
        return torch.matmul(h, self.last).reshape(-1)


def pruned(amount=0.8):
    """Make a net that torch.nn.utils.prune has pruned, run once since, so that its weights are no leaves."""
    net = nn.Sequential(nn.Linear(N, 20), nn.ReLU6(), nn.Linear(20, 10), nn.ReLU6(), nn.Linear(10, 1))
    for layer in net[::2]:
        prune.l1_unstructured(layer, "weight", amount=amount)
    prune.random_unstructured(net[0], "bias", amount=0.5)
    net(torch.zeros(2, N))
    return net


def parametrised():
    """Make a net whose weights are computed: a weight norm, and a rule of its own."""

    class Symmetric(nn.Module):
        def forward(self, w):
            return w.triu() + w.triu(1).T

    net = nn.Sequential(nn.Linear(N, N), nn.Tanh(), nn.Linear(N, 1))
    parametrize.register_parametrization(net[0], "weight", Symmetric())
    parametrizations.weight_norm(net[2])
    return net


def sparse_weights():
    """Make a net whose first weights are stored in CSR form."""
    net = nn.Sequential(nn.Linear(N, 6), nn.ReLU(), nn.Linear(6, 1))
    weight = net[0].weight.data * (torch.rand(6, N) < 0.4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch calls this support beta
        net[0].weight = nn.Parameter(weight.to_sparse_csr(), requires_grad=False)
    return net


MODULES = {
    "linear alone": lambda: nn.Linear(N, 1),
    "no bias": lambda: nn.Sequential(nn.Linear(N, 5, bias=False), nn.ReLU(), nn.Linear(5, 1, bias=False)),
    "relu": lambda: nn.Sequential(nn.Linear(N, 30), nn.ReLU(), nn.Linear(30, 20), nn.ReLU(), nn.Linear(20, 1)),
    "relu6": lambda: nn.Sequential(nn.Linear(N, 30), nn.ReLU6(), nn.Linear(30, 1), nn.Sigmoid()),
    "hardtanh to six": lambda: nn.Sequential(nn.Linear(N, 8), nn.Hardtanh(0, 6), nn.Linear(8, 1)),
    "hardtanh": lambda: nn.Sequential(nn.Linear(N, 8), nn.Hardtanh(-2, 1), nn.Linear(8, 1), nn.Hardtanh()),
    "tanh": lambda: nn.Sequential(nn.Linear(N, 8), nn.Tanh(), nn.Linear(8, 1), nn.Tanh()),
    "hardsigmoid": lambda: nn.Sequential(nn.Linear(N, 8), nn.Hardsigmoid(), nn.Linear(8, 1), nn.Hardsigmoid()),
    "norm first": lambda: nn.Sequential(norm(N), nn.Linear(N, 8), nn.ReLU(), nn.Linear(8, 1)),
    "norm before": lambda: nn.Sequential(nn.Linear(N, 8), norm(8), nn.ReLU6(), nn.Linear(8, 1), norm(1)),
    "norm after": lambda: nn.Sequential(nn.Linear(N, 8), nn.ReLU6(), norm(8), nn.Linear(8, 1)),
    "norm without weights": lambda: nn.Sequential(nn.BatchNorm1d(N, affine=False), nn.Linear(N, 1)),
    "norm twice": lambda: nn.Sequential(norm(N), norm(N), nn.ReLU(), norm(N), nn.Linear(N, 1)),
    "dropout": lambda: nn.Sequential(
        nn.Dropout(), nn.Linear(N, 8), nn.Identity(), nn.ReLU(), nn.AlphaDropout(), nn.Linear(8, 1)
    ),
    "flatten": lambda: nn.Sequential(nn.Flatten(), nn.Linear(N, 8), nn.Flatten(1, -1), nn.Linear(8, 1)),
    "nested": lambda: nn.Sequential(nn.Sequential(nn.Linear(N, 8), nn.ReLU()), nn.Sequential(nn.Linear(8, 1))),
    "sigmoids": lambda: nn.Sequential(
        nn.Sigmoid(), nn.Sigmoid(), nn.Linear(N, 4), nn.Sigmoid(), nn.ReLU(), nn.Linear(4, 1)
    ),
    "written": Written,
    "functions": Functions,
    "pruned": pruned,
    "pruned layer alone": lambda: prune.l1_unstructured(nn.Linear(N, 1), "weight", 0.5),
    "parametrised": parametrised,
    "sparse weights": sparse_weights,
}


def documents(module, n=300):
    """Draw documents where a module's own standardisation puts them."""
    X = torch.randn(n, N)
    return X * module.std + module.mean if isinstance(module, Written) else X


def module_scores(module, X):
    """Score with torch, in eval mode."""
    module.eval()
    with torch.no_grad():
        return module(X).numpy().reshape(-1)


@pytest.mark.parametrize("make", MODULES.values(), ids=MODULES.keys())
def test_modules_score_the_same(make):
    """compiled(x) = module(x), on rows that the proof at compile time did not see."""
    module = make()
    X = documents(module)
    scorer = compile_net(read_module(module))
    expected = module_scores(module, X)
    np.testing.assert_array_less(np.abs(scorer.score(X.numpy()) - expected), 1e-4 * np.maximum(1, np.abs(expected)))
    assert scorer.metadata["parity"]["rows"] == 2 * ROWS
    assert scorer.metadata["parity"]["largest_difference"] <= 1e-4
    assert scorer.metadata["origin"]["format"] == "torch"


@settings(max_examples=30)
@given(st.data())
def test_random_stacks_score_the_same(data):
    """Any stack of the known layers compiles, and the proof holds."""
    width, layers = N, []
    for kind in data.draw(st.lists(st.sampled_from(["linear", "norm", "relu", "relu6", "hard", "sigmoid", "tanh"]), max_size=8)):  # fmt: skip
        outputs = data.draw(st.integers(1, 12)) if kind == "linear" else width
        layers.append(
            {
                "linear": lambda w=width, o=outputs: nn.Linear(w, o),
                "norm": lambda w=width: norm(w),
                "relu": nn.ReLU,
                "relu6": nn.ReLU6,
                "hard": lambda: nn.Hardtanh(-0.3, 1.5),
                "sigmoid": nn.Sigmoid,
                "tanh": nn.Tanh,
            }[kind]()
        )
        width = outputs
    module = nn.Sequential(*layers, nn.Linear(width, 1))
    X = torch.randn(64, N)
    scorer = compile_net(read_module(module))
    np.testing.assert_allclose(scorer.score(X.numpy()), module_scores(module, X), rtol=1e-4, atol=1e-4)


def test_a_pruned_net_runs_sparse_and_small():
    """Masks become sparse layers; units that nothing reads or that read nothing are gone."""
    net = pruned(0.9)
    prune.ln_structured(net[2], "weight", amount=0.5, n=2, dim=0)
    network = compile_net(read_module(net)).network
    assert isinstance(network.layers[0], Sparse)
    assert network.layers[1].n_outputs <= 5
    assert network.nonzeros <= sum(int(layer.weight.count_nonzero()) for layer in net[::2])


def test_nothing_is_added_to_a_net_that_fits():
    """A net of the engine's own layers keeps its weights to the bit."""
    module = nn.Sequential(nn.Linear(N, 7), nn.ReLU6(), nn.Linear(7, 1))
    network = compile_net(read_module(module)).network
    assert [layer.activation for layer in network.layers] == [Activation.RELU6, Activation.IDENTITY]
    for layer, linear in zip(network.layers, module[::2], strict=True):
        np.testing.assert_array_equal(layer.dense_weight(), linear.weight.detach().numpy())
        np.testing.assert_array_equal(layer.bias, linear.bias.detach().numpy())
    assert (network.inputs.scale == 1).all()
    assert not network.inputs.center.any()


def test_the_module_comes_back_as_it_was():
    """Modes, weights, masks and gradients of the module are those from before."""
    net = nn.Sequential(pruned(), nn.Dropout())
    net[0][0].eval()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    modes = [part.training for part in net.modules()]
    compile_net(read_module(net))
    assert [part.training for part in net.modules()] == modes
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    net(torch.zeros(2, N)).sum().backward()
    assert net[0][0].weight_orig.grad is not None


def test_feature_names():
    """Names are taken in order, are f0, f1, ... else, and must be as many as features; NaN is refused at a call."""
    net = read_module(nn.Linear(3, 1))
    assert compile_net(net).schema.feature_names == ("f0", "f1", "f2")
    scorer = compile_net(net, feature_names=["a", "b", "c"])
    assert scorer.features_used == ("a", "b", "c")
    assert not any(scorer.schema.allow_missing)
    with pytest.raises(SchemaError, match="got 2 feature names for a net of 3"):
        compile_net(net, feature_names=["a", "b"])


def module_of(forward, **parts):
    """Make a module of parts and a forward."""

    class Made(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(N, 1)
            self.wide = nn.Linear(N, N)
            for name, part in parts.items():
                setattr(self, name, part)

    Made.forward = forward
    return Made()


class OwnLinear(nn.Linear):
    """A linear layer with another forward."""

    def forward(self, x):
        """Apply it."""
        return super().forward(x).abs()


REFUSED = {
    "gelu and leaky": (
        lambda: nn.Sequential(nn.Linear(N, 4), nn.GELU(), nn.LeakyReLU(), nn.Linear(4, 1)),
        "uses GELU, LeakyReLU; expected only .*Linear",
    ),
    "layer norm": (lambda: nn.Sequential(nn.LayerNorm(N), nn.Linear(N, 1)), "uses LayerNorm"),
    "convolution": (lambda: nn.Sequential(nn.Conv1d(1, 1, 1), nn.Linear(N, 1)), "uses Conv1d"),
    "softmax function": (lambda: module_of(lambda s, x: s.linear(functional.softmax(x, -1))), "uses softmax"),
    "exponential": (lambda: module_of(lambda s, x: s.linear(x.exp())), "uses exp"),
    "own layer": (lambda: nn.Sequential(OwnLinear(N, 1)), "uses abs"),
    "recurrent": (lambda: nn.LSTM(N, 1), "uses LSTM"),
    "residual": (lambda: module_of(lambda s, x: s.linear(x + s.wide(x))), "branches"),
    "product of data": (lambda: module_of(lambda s, x: s.linear(x * x)), "depends on the features"),
    "two inputs": (lambda: module_of(lambda s, x, y: s.linear(x) + y), "more than one input"),
    "two outputs": (lambda: module_of(lambda s, x: (s.linear(x), x)), "returns something else"),
    "four outputs": (lambda: nn.Linear(N, 4), "gives 4 outputs; expected 1"),
    "branch on data": (lambda: module_of(lambda s, x: s.linear(x) if x.sum() > 0 else x), "cannot trace"),
    "fails": (lambda: module_of(lambda s, x: s.nothing(x)), "cannot trace"),
    "widths": (lambda: nn.Sequential(nn.Linear(N, 4), nn.Linear(5, 1)), "takes 5 inputs, and 4 stand before it"),
    "no layer": (lambda: nn.Sequential(nn.ReLU()), "how many features"),
    "half": (lambda: nn.Linear(N, 1).half(), r"float16; expected float32.*\.float\(\)"),
    "double": (lambda: nn.Linear(N, 1).double(), "float64"),
    "lazy": (lambda: nn.Sequential(nn.LazyLinear(1)), "no values yet"),
    "meta": (lambda: nn.Linear(N, 1, device="meta"), "no values yet"),
    "NaN weight": (lambda: nn.Sequential(nn.Linear(N, 1), nn.BatchNorm1d(1, eps=math.nan)), "NaN"),
    "batch statistics": (
        lambda: nn.Sequential(nn.BatchNorm1d(N, track_running_stats=False), nn.Linear(N, 1)),
        "by the batch",
    ),
    "divides by the data": (lambda: module_of(lambda s, x: s.linear(1 / x)), "divides by the data"),
    "divides by zero": (lambda: module_of(lambda s, x: s.linear(x / 0)), "by zero"),
    "from the left": (lambda: module_of(lambda s, x: torch.matmul(s.wide.weight, x)), "from the left"),
    "clamped by tensors": (
        lambda: module_of(lambda s, x: s.linear(torch.clamp(x, torch.zeros(N)))),
        "one pair of numbers",
    ),
    "always drops": (lambda: module_of(lambda s, x: s.linear(functional.dropout(x, 0.5))), "eval mode too"),
    "cast": (lambda: module_of(lambda s, x: s.linear(x.to(torch.float64))), "casts to torch.float64"),
    "mixes documents": (lambda: module_of(lambda s, x: s.linear(x).view(1, -1)), "changes the shape"),
    "layer after squeeze": (
        lambda: module_of(lambda s, x: s.linear(s.linear(x).squeeze(1))),
        "before the last squeeze",
    ),
    "squeeze of many": (lambda: module_of(lambda s, x: s.wide(x).squeeze(1)), "squeezes 9 columns"),
    "flattens documents": (lambda: module_of(lambda s, x: s.wide(x).flatten()), "flattens"),
    "takes a column": (lambda: module_of(lambda s, x: s.wide(x)[:, 1]), "columns"),
    "constants that do not fit": (
        lambda: module_of(lambda s, x: s.linear(x + (s.linear.weight @ s.linear.weight))),
        "cannot",
    ),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_run_is_refused_by_name(make, message):
    """What the engine has no kernel for is a ForeignModelError that says what was met."""
    with pytest.raises(ForeignModelError, match=message):
        compile_net(read_module(make()))


def test_quantised_modules_are_refused_by_name():
    """A module of torch's quantised layers is refused, and told what to give instead."""

    class Quantised(nn.Module):
        __module__ = "torch.ao.nn.quantized.modules.linear"

    with pytest.raises(ForeignModelError, match="'0' is quantised"):
        read_module(nn.Sequential(Quantised()))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_is_refused():
    """TorchScript cannot be traced."""
    with pytest.raises(ForeignModelError, match="TorchScript"):
        read_module(torch.jit.script(nn.Linear(N, 1)))


def test_parity_is_proved_against_the_module_itself():
    """Where the module does something that its layers do not show, the proof finds it."""
    module = nn.Sequential(nn.Linear(N, 4), nn.ReLU(), nn.Linear(4, 1))
    net = read_module(module)
    compile_net(net)
    module.register_forward_hook(lambda _module, _input, output: output + 1e-2)
    with pytest.raises(ParityError, match="where the net gives"):
        compile_net(net)


@pytest.mark.parametrize("row", [0, ROWS - 1, ROWS, 2 * ROWS - 1])
@pytest.mark.parametrize("wrong", [1e-2, math.nan, math.inf])
def test_parity_sees_every_row(row, wrong):
    """One row of any kind that differs is enough."""
    module = nn.Linear(N, 1)
    net = read_module(module)

    def run(X):
        scores = net.run(X).copy()
        scores[row] += wrong * (1 if math.isfinite(wrong) and row < ROWS else 1e6)
        return scores

    with pytest.raises(ParityError, match="1 of 512 generated rows"):
        compile_net(type(net)(net.inputs, net.layers, run))
