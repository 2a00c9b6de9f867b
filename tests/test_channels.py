"""Channels of any torch module go, and the module really shrinks."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (extra 'train')")
pytest.importorskip("torch_pruning", reason="torch_pruning is not installed (extra 'train')")
from torch import Tensor, nn  # noqa: E402

from prunus.errors import ModuleError  # noqa: E402
from prunus.prune.channels import count_weights, remove_channels  # noqa: E402
from prunus.prune.lottery import weights_of  # noqa: E402


class Skip(nn.Module):
    """Two arms that must lose the same channels, an embedding beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.inner, self.back = nn.Linear(10, 24), nn.Linear(24, 32), nn.Linear(32, 24)
        self.norm, self.last = nn.BatchNorm1d(32), nn.Linear(24, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Run."""
        h = torch.relu(self.first(x))
        return self.last(torch.relu(h + self.back(torch.relu(self.norm(self.inner(h))))))


def mlp() -> nn.Module:
    """A stack with batch norms."""
    return nn.Sequential(
        nn.Linear(10, 32),
        nn.BatchNorm1d(32),
        nn.ReLU(),
        nn.Linear(32, 16),
        nn.BatchNorm1d(16),
        nn.ReLU(),
        nn.Linear(16, 1),
    )


def cnn() -> nn.Module:
    """Convolutions, then a classifier."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5),
    )  # fmt: skip


MODULES = {"mlp": (mlp, (4, 10)), "skip": (Skip, (4, 10)), "cnn": (cnn, (2, 3, 8, 8))}


def make(name: str) -> tuple[nn.Module, Tensor]:
    """Draw a module and an input for it."""
    build, shape = MODULES[name]
    torch.manual_seed(0)
    module = build()
    return module, torch.randn(shape)


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("scope", ["tensor", "global"])
@pytest.mark.parametrize("share", [0.8, 0.4, 0.1])
def test_shrinks_to_the_target(name: str, scope: str, share: float) -> None:
    """Tensors get smaller, the target is met and nearly used up, outputs keep their shape, and gradients flow."""
    module, x = make(name)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    target = round(share * count_weights(module))
    small = remove_channels(module, x, target, scope=scope)
    # In the smallest a step takes a channel of each layer, which is a large part of what is left.
    assert (0.75 if share > 0.1 else 0.4) * target < count_weights(small) <= target
    assert sum(w.numel() for w in weights_of(small).values()) == count_weights(small)
    assert small(x).shape == module.eval()(x).shape
    small(x).square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in small.parameters())
    assert all(
        torch.equal(value, before[key])
        for key, value in module.state_dict().items()
        if "running" not in key and "tracked" not in key
    )


def test_dead_channels_go_first_and_the_function_stays() -> None:
    """Where half of the units read nothing and are read by nothing, exactly those go."""
    module, x = make("mlp")
    module.eval()
    dead = torch.arange(32) % 2 == 0
    with torch.no_grad():
        module[0].weight[dead], module[0].bias[dead], module[1].bias[dead] = 0.0, 0.0, 0.0
        module[3].weight[:, dead] = 0.0
    small = remove_channels(module, x, count_weights(module))
    assert small[0].out_features == 16
    torch.testing.assert_close(small(x), module(x))


def test_arms_of_a_skip_connection_lose_the_same_channels() -> None:
    """What the layers still add up has one width, and the inner layer has its own."""
    module, x = make("skip")
    small = remove_channels(module, x, 500)
    assert small.first.out_features == small.back.out_features == small.last.in_features < 24
    assert small.inner.out_features == small.norm.num_features == small.back.in_features


def test_scopes_differ() -> None:
    """By layer each loses its share; over all, the layer of small weights relative to its mean loses more."""
    module, x = make("mlp")
    with torch.no_grad():
        module[3].weight[:12] *= 0.01
        module[3].bias[:12] *= 0.01
        module[6].weight[:, :12] *= 0.01
    each, together = (remove_channels(module, x, 430, scope=scope) for scope in ("tensor", "global"))
    assert together[3].out_features < each[3].out_features
    assert abs(each[0].out_features / 32 - each[3].out_features / 16) < 0.1


def test_refuses_what_cannot_be() -> None:
    """A target below one channel a layer, unknown layers, an output that would change: each is said."""
    module, x = make("mlp")
    with pytest.raises(ModuleError, match=r"target of 5 weights; expected at least 12"):
        remove_channels(module, x, 5)
    with pytest.raises(ModuleError, match="no layer 'head'"):
        remove_channels(module, x, 300, whole=["head"])
    with pytest.raises(ModuleError, match="calls no Linear"):
        remove_channels(nn.ReLU(), x, 300)
    wide = nn.Sequential(nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, 4))
    with pytest.raises(ModuleError, match=r"instead of \(4, 4\).*`whole`"):
        remove_channels(wide, x, 40, whole=[])
