"""ONNX graphs become networks that score as ONNX Runtime does, or are refused by name."""

from __future__ import annotations

import os
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

onnx = pytest.importorskip("onnx", reason="onnx is not installed (extra 'onnx')")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra 'onnx')")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from prunus.compiler import compile_net  # noqa: E402
from prunus.engine.network import Activation, Sparse  # noqa: E402
from prunus.errors import ForeignModelError, ParityError, PrunusError  # noqa: E402
from prunus.foreign.onnx_graph import read_onnx  # noqa: E402

N = 7
RNG = np.random.default_rng(0)


class Graph:
    """Builds a graph of one path: each step reads the tip."""

    def __init__(self, n_features=N, opset=17, element_type=TensorProto.FLOAT, batch="n"):
        self.nodes, self.constants, self.tip = [], [], "X"
        self.opset, self.dtype = opset, np.float64 if element_type == TensorProto.DOUBLE else np.float32
        self.input = helper.make_tensor_value_info("X", element_type, [batch, n_features])
        self.element_type = element_type

    def constant(self, value, dtype=None):
        """Add an initialiser and give its name."""
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype or self.dtype), name))
        return name

    def add(self, operator, *inputs, domain="", **attributes):
        """Add a node; None among the inputs stands for the tip, arrays are constants."""
        given = inputs or (None,)
        names = [self.tip if x is None else x if isinstance(x, str) else self.constant(x, getattr(x, "dtype", None)) for x in given]  # fmt: skip
        self.tip = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, names, [self.tip], domain=domain, **attributes))
        return self

    def linear(self, outputs, inputs, **attributes):
        """Add a Gemm of random weights."""
        weight = RNG.normal(size=(inputs, outputs)) / np.sqrt(inputs)
        return self.add("Gemm", None, weight.astype(self.dtype), RNG.normal(size=outputs).astype(self.dtype), **attributes)  # fmt: skip

    def build(self, **changes):
        """Give the model."""
        output = helper.make_tensor_value_info(self.tip, self.element_type, None)
        graph = helper.make_graph(self.nodes, "net", [self.input], [output], self.constants)
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid("ai.onnx.ml", 2)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8, **changes)
        for extra in (node.domain for node in self.nodes):
            if extra not in {"", "ai.onnx.ml"}:
                model.opset_import.append(helper.make_opsetid(extra, 1))
        return model


def f(*values):
    """Make a float32 array."""
    return np.asarray(values, np.float32)


def i(*values):
    """Make an int64 array."""
    return np.asarray(values, np.int64)


def draw(*shape):
    """Draw float32 numbers."""
    return RNG.normal(size=shape).astype(np.float32)


def positive(*shape):
    """Draw positive float32 numbers."""
    return RNG.uniform(0.2, 3, shape).astype(np.float32)


def normalised(graph, width, **attributes):
    """Add a batch normalisation."""
    return graph.add("BatchNormalization", None, draw(width), draw(width), draw(width), positive(width), **attributes)


def transposed(graph):
    """Multiply by a weight that the graph transposes, casts and shifts itself."""
    graph.nodes.append(helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(draw(3, N))))
    graph.nodes.append(helper.make_node("Constant", [], ["s"], value_float=0.5))
    graph.nodes.append(helper.make_node("Transpose", ["w"], ["wt"], perm=[1, 0]))
    graph.nodes.append(helper.make_node("Mul", ["wt", "s"], ["ws"]))
    graph.nodes.append(helper.make_node("Cast", ["ws"], ["wc"], to=1))
    return graph.add("MatMul", None, "wc")


def flattened(graph):
    """Flatten as torch exports x.view(x.size(0), -1)."""
    graph.nodes.append(helper.make_node("Shape", [graph.tip], ["shape"]))
    graph.nodes.append(helper.make_node("Gather", ["shape", graph.constant(0, np.int64)], ["n"], axis=0))
    graph.nodes.append(helper.make_node("Unsqueeze", ["n", graph.constant([0], np.int64)], ["ns"]))
    graph.nodes.append(helper.make_node("Concat", ["ns", graph.constant([-1], np.int64)], ["to"], axis=0))
    return graph.add("Reshape", None, "to")


GRAPHS = {
    "gemm": lambda: Graph().linear(5, N).add("Relu").linear(1, 5),
    "gemm transposed": lambda: (
        Graph().add("Gemm", None, draw(4, N), draw(4), transB=1, alpha=0.5, beta=2.0).linear(1, 4)
    ),
    "gemm without bias": lambda: Graph().add("Gemm", None, draw(N, 4)).add("Gemm", None, draw(4, 1), draw(1, 1)),
    "gemm with one bias": lambda: Graph().add("Gemm", None, draw(N, 4), draw(1)).linear(1, 4),
    "matmul and add": lambda: (
        Graph().add("MatMul", None, draw(N, 4)).add("Add", draw(4), None).add("Relu").linear(1, 4)
    ),
    "matmul of a vector": lambda: Graph().linear(4, N).add("Relu").add("MatMul", None, draw(4)),
    "clip": lambda: Graph().linear(5, N).add("Clip", None, f(0).reshape(()), f(6).reshape(())).linear(1, 5),
    "clip as attributes": lambda: Graph(opset=10).linear(5, N).add("Clip", min=0.0, max=6.0).linear(1, 5),
    "clip one side": lambda: Graph().linear(5, N).add("Clip", None, "", f(0.5).reshape(())).linear(1, 5),
    "max and min": lambda: Graph().linear(5, N).add("Max", None, f(0)).add("Min", f(6), None).linear(1, 5),
    "sigmoid": lambda: Graph().linear(5, N).add("Sigmoid").linear(1, 5).add("Sigmoid"),
    "tanh": lambda: Graph().linear(5, N).add("Tanh").linear(1, 5),
    "hard sigmoid": lambda: (
        Graph().linear(5, N).add("HardSigmoid").linear(1, 5).add("HardSigmoid", alpha=0.1, beta=0.4)
    ),
    "norm": lambda: normalised(normalised(Graph(), N).linear(5, N), 5, epsilon=0.1).add("Relu").linear(1, 5),
    "norm of opset 7": lambda: normalised(Graph(opset=7).linear(5, N).add("Relu"), 5).linear(1, 5),
    "standardised": lambda: Graph().add("Sub", None, draw(N) * 1000).add("Div", None, positive(1, N)).linear(1, N),
    "standardised otherwise": lambda: (
        Graph()
        .add("Mul", positive(N), None)
        .add("Add", None, draw(N))
        .add("Clip", None, f(-2).reshape(()))
        .linear(1, N)
    ),
    "constant less the data": lambda: Graph().add("Sub", f(1), None).linear(1, N).add("Neg"),
    "scaler": lambda: (
        Graph().add("Scaler", domain="ai.onnx.ml", offset=draw(N).tolist(), scale=positive(N).tolist()).linear(1, N)
    ),
    "identity and dropout": lambda: Graph().add("Identity").linear(5, N).add("Dropout").add("Cast", to=1).linear(1, 5),
    "dropout of opset 10": lambda: Graph(opset=10).add("Dropout", ratio=0.4).linear(1, N),
    "flatten": lambda: Graph().add("Flatten").linear(1, N).add("Flatten", axis=1),
    "reshape": lambda: Graph().add("Reshape", None, i(-1, N)).linear(1, N).add("Reshape", None, i(-1)),
    "reshape with zero": lambda: Graph().add("Reshape", None, i(0, -1)).linear(1, N).add("Reshape", None, i(-1, 1)),
    "squeeze": lambda: Graph().linear(1, N).add("Squeeze", None, i(1)).add("Mul", None, f(2)),
    "squeeze as attribute": lambda: Graph(opset=11).linear(1, N).add("Squeeze", axes=[1]).add("Unsqueeze", axes=[1]),
    "transposed constant": lambda: transposed(Graph()).add("Relu").linear(1, 3),
    "flattened by shape": lambda: flattened(Graph()).linear(1, N),
    "double": lambda: Graph(element_type=TensorProto.DOUBLE).linear(4, N).add("Relu").linear(1, 4),
    "fixed batch": lambda: Graph(batch=5).linear(4, N).add("Relu").linear(1, 4).add("Reshape", None, i(5)),
    "unknown width": lambda: Graph(n_features=None).linear(4, N).add("Relu").linear(1, 4),
    "oldest opset": lambda: Graph(opset=9).linear(5, N).add("Relu").linear(1, 5),
    "newer opset": lambda: Graph(opset=22).linear(5, N).add("Relu").linear(1, 5),
}


def judge(model, X, batch=None):
    """Score with ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    dtype = np.float64 if "double" in session.get_inputs()[0].type else np.float32
    step = batch or len(X)
    parts = [session.run(None, {"X": X[at : at + step].astype(dtype)})[0] for at in range(0, len(X), step)]
    return np.concatenate([x.reshape(-1) for x in parts])


@pytest.mark.parametrize("make", GRAPHS.values(), ids=GRAPHS.keys())
def test_graphs_score_the_same(make):
    """compiled(x) = ONNX Runtime(x), on rows that the proof at compile time did not see."""
    graph = make()
    model = graph.build()
    scorer = compile_net(read_onnx(model))
    X = (draw(300, N) * 2).astype(np.float32)
    batch = graph.input.type.tensor_type.shape.dim[0].dim_value or None
    expected = judge(model, X, batch)
    np.testing.assert_array_less(np.abs(scorer.score(X) - expected), 1e-4 * np.maximum(1, np.abs(expected)))
    assert scorer.metadata["origin"]["format"] == "onnx"
    assert scorer.metadata["parity"]["largest_difference"] <= 1e-4


@settings(max_examples=40)
@given(st.data())
def test_random_paths_score_the_same(data):
    """Any path of known operators compiles, and the proof holds."""
    graph, width = Graph(), N
    for kind in data.draw(st.lists(st.sampled_from(["linear", "norm", "Relu", "Sigmoid", "Tanh", "HardSigmoid", "Add", "Mul", "Sub", "Clip"]), max_size=9)):  # fmt: skip
        if kind == "linear":
            outputs = data.draw(st.integers(1, 9))
            graph, width = graph.linear(outputs, width), outputs
        elif kind == "norm":
            normalised(graph, width)
        elif kind in {"Add", "Mul", "Sub"}:
            one = data.draw(st.sampled_from([(), (1,), (width,), (1, width)]))
            graph.add(kind, *((None, draw(*one)) if data.draw(st.booleans()) else (draw(*one), None)))
        elif kind == "Clip":
            graph.add("Clip", None, f(-0.5).reshape(()), f(0.7).reshape(()))
        else:
            graph.add(kind)
    compile_net(read_onnx(graph.linear(1, width).build()))


def test_weights_stored_sparsely():
    """A graph whose weights are sparse tensors, as pruning tools write them, is read, and runs sparse."""
    graph = Graph()
    weight = draw(N, 40) * (RNG.random((N, 40)) < 0.1)
    places = np.flatnonzero(weight)
    graph.add("MatMul", None, "w").add("Relu").linear(1, 40)
    model = graph.build()
    values = numpy_helper.from_array(weight.reshape(-1)[places], "w")
    for indices in (places, np.stack(np.unravel_index(places, weight.shape), 1)):
        del model.graph.sparse_initializer[:]
        model.graph.sparse_initializer.append(
            helper.make_sparse_tensor(values, numpy_helper.from_array(indices.astype(np.int64), "i"), weight.shape)
        )
        network = compile_net(read_onnx(model)).network
        assert isinstance(network.layers[0], Sparse)
        assert network.layers[0].nonzeros <= len(places)


def test_what_torch_exports(tmp_path):
    """A pruned module, exported by torch, compiles to the network that the module itself compiles to."""
    torch = pytest.importorskip("torch", reason="torch is not installed (extra 'train')")
    from torch import nn
    from torch.nn.utils import prune

    from prunus.foreign.torch_module import read_module

    torch.manual_seed(0)
    module = nn.Sequential(nn.BatchNorm1d(N), nn.Linear(N, 30), nn.ReLU6(), nn.Dropout(), nn.Linear(30, 1), nn.Flatten(0)).eval()  # fmt: skip
    prune.l1_unstructured(module[1], "weight", amount=0.8)
    path = tmp_path / "net.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the older of torch's two exporters says that it will go
        torch.onnx.export(module[:5], (torch.zeros(2, N),), path, dynamo=False, input_names=["X"], dynamic_axes={"X": {0: "n"}})  # fmt: skip
    from_file, from_module = (compile_net(net).network for net in (read_onnx(path), read_module(module)))
    assert [x.activation for x in from_file.layers] == [Activation.RELU6, Activation.IDENTITY]
    for one, other in zip(from_file.layers, from_module.layers, strict=True):
        np.testing.assert_allclose(one.dense_weight(), other.dense_weight(), rtol=1e-5)
        np.testing.assert_allclose(one.bias, other.bias, rtol=1e-5, atol=1e-6)


def test_what_bench_writes_for_its_peers():
    """The graphs that bench gives ONNX Runtime, where they have no logarithm and no missing values, are read too."""
    from engine_networks import make_network
    from prunus.bench.adapters.onnx_net import arrays_of, build
    from prunus.engine.network import SlotKind

    network = make_network(np.random.default_rng(1), 12, (9, 5), kinds=(SlotKind.VALUE,), density=0.4)
    # One pair of bounds for all slots: others become Max and Min with vectors, which are no clips of one pair.
    inputs = type(network.inputs)(**{**vars(network.inputs), "lower": np.full(12, -3), "upper": np.full(12, 3)})
    network = type(network)(network.n_features, inputs, network.layers)
    again = compile_net(read_onnx(build(arrays_of(network, np.zeros(12, bool))))).network
    np.testing.assert_allclose(again.inputs.center, network.inputs.center[again.features_read], rtol=1e-6)
    assert [x.activation for x in again.layers] == [x.activation for x in network.layers]


def external(tmp_path):
    """Write a model whose weights stand in another file."""
    model = Graph().linear(40, N).add("Relu").linear(1, 40).build()
    onnx.save_model(model, tmp_path / "net.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    return tmp_path / "net.onnx"


def test_external_weights_are_refused(tmp_path):
    """Weights in another file are refused by name, and so is that file's absence."""
    path = external(tmp_path)
    with pytest.raises(ForeignModelError, match=r"keeps weights in another file .*expected one file"):
        read_onnx(path)
    (tmp_path / "w.bin").unlink()
    with pytest.raises(ForeignModelError, match="in another file"):
        read_onnx(path)


def two_inputs():
    """Make a model of two inputs."""
    model = Graph().linear(1, N).build()
    model.graph.input.append(helper.make_tensor_value_info("Y", TensorProto.FLOAT, [1]))
    return model


def two_outputs():
    """Make a model of two outputs."""
    model = Graph().linear(4, N).linear(1, 4).build()
    model.graph.output.append(helper.make_tensor_value_info("t0", TensorProto.FLOAT, None))
    return model


def residual():
    """Make a graph that adds what stood before."""
    graph = Graph().linear(N, N)
    return graph.add("Add", None, "X").linear(1, N).build()


def typed(array, data_type):
    """Make a model whose weights have another element type."""
    graph = Graph().add("MatMul", None, "w")
    tensor = TensorProto(name="w", data_type=data_type, dims=[N, 1], raw_data=bytes(array.nbytes))
    graph.constants.append(tensor)
    return graph.build()


def damaged():
    """Make a model whose weights are fewer than their shape says."""
    graph = Graph().add("MatMul", None, "w")
    graph.constants.append(TensorProto(name="w", data_type=1, dims=[N, 1], raw_data=b"\0" * 8))
    return graph.build()


def huge_sparse():
    """Make a model of a few bytes whose weights would take gigabytes."""
    model = Graph(n_features=None).add("MatMul", None, "w").build()
    values, indices = numpy_helper.from_array(f(1), "w"), numpy_helper.from_array(i(0), "i")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [60_000, 60_000]))
    return model


def huge_sum():
    """Make a model of a few bytes whose constants would broadcast to gigabytes."""
    graph = Graph(n_features=60_000)
    graph.nodes.append(helper.make_node("Add", [graph.constant(np.zeros((60_000, 1))), graph.constant(np.zeros((1, 60_000)))], ["w"]))  # fmt: skip
    return graph.add("MatMul", None, "w").build()


REFUSED = {
    "softmax and gelu": (lambda: Graph().linear(4, N).add("Softmax").add("Gelu").linear(1, 4).build(), "uses Gelu, Softmax; expected only Add, BatchNormalization, .*Gemm"),
    "unknown domain": (lambda: Graph().add("Thing", domain="com.acme").linear(1, N).build(), "uses com.acme.Thing"),
    "quantised": (lambda: Graph().linear(4, N).add("QuantizeLinear", None, f(1), np.zeros(1, np.uint8)).add("DequantizeLinear", None, f(1), np.zeros(1, np.uint8)).linear(1, 4).build(), "weights are quantised .*float32 weights"),
    "quantised weights": (lambda: typed(np.zeros(N, np.int8), TensorProto.INT8), "INT8 .quantised"),
    "half precision": (lambda: typed(np.zeros(N, np.float16), TensorProto.FLOAT16), "FLOAT16 .half precision"),
    "bfloat16": (lambda: typed(np.zeros(N, np.float16), TensorProto.BFLOAT16), "BFLOAT16 .half precision"),
    "unknown element type": (lambda: typed(np.zeros(N, np.float16), 999), "element type 999"),
    "damaged weights": (damaged, "damaged"),
    "huge sparse weights": (huge_sparse, "at most 67108864"),
    "huge sum of constants": (huge_sum, "more than 67108864"),
    "two inputs": (two_inputs, "inputs .'X', 'Y'.*expected one of each"),
    "two outputs": (two_outputs, "outputs .*expected one of each"),
    "residual": (residual, "branches"),
    "square": (lambda: Graph().add("Mul", None, None).linear(1, N).build(), "branches"),
    "many outputs": (lambda: Graph().linear(3, N).build(), "gives 3 outputs; expected 1"),
    "from the left": (lambda: Graph().add("MatMul", draw(N, N), None).linear(1, N).build(), "from the left"),
    "gemm from the left": (lambda: Graph().add("Gemm", None, draw(N, 1), transA=1).build(), "from the left"),
    "divides by the data": (lambda: Graph().add("Div", f(1), None).linear(1, N).build(), "divides by the data"),
    "divides by zero": (lambda: Graph().add("Div", None, f(0)).linear(1, N).build(), "by zero"),
    "bounds from the data": (lambda: Graph().add("Clip", f(0).reshape(()), None).linear(1, N).build(), "bounds that depend"),
    "bounds of each unit": (lambda: Graph().add("Max", None, draw(N)).linear(1, N).build(), "more than one number"),
    "training norm": (lambda: normalised(Graph(), N, training_mode=1).linear(1, N).build(), "training mode"),
    "training dropout": (lambda: Graph().add("Dropout", None, f(0.5).reshape(()), np.asarray(True)).linear(1, N).build(), "training mode"),
    "cast to integers": (lambda: Graph().add("Cast", to=7).add("Cast", to=1).linear(1, N).build(), "casts to element type 7"),
    "integer input": (lambda: Graph(element_type=TensorProto.INT64).add("Cast", to=1).linear(1, N).build(), "element type 7; expected float32"),
    "transposed data": (lambda: Graph().add("Transpose").build(), "uses Transpose"),
    "mixed documents": (lambda: Graph().add("Reshape", None, i(1, -1)).linear(1, N).build(), "changes the shape"),
    "flattened documents": (lambda: Graph().add("Flatten", axis=0).linear(1, N).build(), "changes the shape"),
    "squeezed columns": (lambda: Graph().linear(3, N).add("Squeeze", None, i(1)).build(), "changes the shape"),
    "layer after squeeze": (lambda: Graph().linear(1, N).add("Squeeze", None, i(1)).add("Gemm", None, draw(1, 1)).build(), "before the last squeeze"),
    "constant output": (lambda: Graph().add("Identity", draw(3)).build(), "does not depend on the features"),
    "no width": (lambda: Graph(n_features=None).add("Relu").build(), "how many features"),
    "NaN weight": (lambda: Graph().add("MatMul", None, draw(N, 1) * np.nan).build(), "NaN"),
    "three dimensions": (lambda: Graph().add("MatMul", None, draw(1, N, 1)).build(), r"shape \[1, 7, 1\]"),
    "names no numbers": (lambda: Graph().add("MatMul", None, np.zeros((N, 1), bool)).build(), "has bool as input 1"),
    "input left out": (lambda: Graph().add("Gemm", None, "").build(), "has nothing as input 1"),
    "does not run": (lambda: Graph(opset=1000).linear(1, N).build(), "ONNX Runtime cannot run"),
}  # fmt: skip


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_run_is_refused_by_name(make, message):
    """What the engine has no kernel for is a ForeignModelError that says what was met."""
    with pytest.raises(ForeignModelError, match=message):
        compile_net(read_onnx(make()))


@pytest.mark.parametrize("content", [b"", b"tree\nversion=v4\n", b"\x08\x07" * 40, os.urandom(64)], ids=["empty", "text", "bytes", "random"])  # fmt: skip
def test_what_is_no_model_is_refused(tmp_path, content):
    """Files that are no ONNX model, or are not there, are named."""
    path = tmp_path / "net.onnx"
    with pytest.raises(ForeignModelError, match=r"net\.onnx cannot be read"):
        read_onnx(path)
    path.write_bytes(content)
    with pytest.raises(ForeignModelError):
        read_onnx(path)


def test_damaged_models_are_named_errors():
    """Whatever bytes of a model are changed, the outcome is a network that agrees with ONNX Runtime, or a named error."""
    content = normalised(Graph().linear(6, N), 6).add("Relu").linear(1, 6).build().SerializeToString()
    rng = np.random.default_rng(5)
    outcomes = set()
    for _ in range(400):
        damaged = bytearray(content)
        for _ in range(int(rng.integers(1, 4))):
            damaged[int(rng.integers(len(damaged)))] = int(rng.integers(256))
        cut = bytes(damaged[: int(rng.integers(1, len(damaged)))]) if rng.random() < 0.2 else bytes(damaged)
        try:
            compile_net(read_onnx(cut))
            outcomes.add("compiled")
        except PrunusError as error:
            outcomes.add(type(error).__name__)
    assert {"compiled", "ForeignModelError"} <= outcomes


def test_parity_is_proved_against_onnx_runtime(monkeypatch):
    """Where an operator is read wrongly, the proof finds it: here a sigmoid taken for a clip from 0 to 1."""
    from prunus.foreign import onnx_graph

    model = Graph().linear(5, N).add("Sigmoid").linear(1, 5).build()
    compile_net(read_onnx(model))
    monkeypatch.setitem(onnx_graph._OPERATORS, "Sigmoid", lambda path, _node, _place: path.chain.clamp(0, 1, "wrong"))
    with pytest.raises(ParityError, match="where the net gives"):
        compile_net(read_onnx(model))
