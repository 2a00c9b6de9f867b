"""Distillation between hidden layers: maps, the learned pairing, and that vectors teach something."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (extra 'train')")
from torch import nn  # noqa: E402

from prunus.distill.attention import (  # noqa: E402
    AttentionDistillation,
    MapKind,
    activations,
    attention_transfer_loss,
    map_kind,
    similarity_map,
    soft_target_loss,
    spatial_map,
    watch,
)
from prunus.errors import ModuleError  # noqa: E402

IMAGES = {"student": [(5, 3, 4, 6), (5, 4, 2, 3)], "teacher": [(5, 8, 4, 6), (5, 7, 4, 6), (5, 6, 2, 3)]}
VECTORS = {"student": [(5, 3), (5, 4)], "teacher": [(5, 8), (5, 7), (5, 6)]}
SERIES = {"student": [(5, 3, 6)], "teacher": [(5, 8, 6), (5, 7, 3)]}
SHAPES = {"images": IMAGES, "vectors": VECTORS, "series": SERIES}


def draw(shapes: dict[str, list[tuple[int, ...]]], seed: int = 0) -> tuple[list, list]:
    """Draw student features, which want a gradient, and teacher features."""
    generator = torch.Generator().manual_seed(seed)
    student = [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes["student"]]
    return student, [torch.randn(shape, generator=generator) for shape in shapes["teacher"]]


def unit(rows: np.ndarray) -> np.ndarray:
    """Divide each row by its length."""
    return rows / np.sqrt((rows**2).sum(axis=1, keepdims=True))


def pooled(squares: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Average [n, *positions] over the cells of a coarser or finer grid, cell i from floor to ceiling of its share."""
    for axis, (old, new) in enumerate(zip(squares.shape[1:], size, strict=True), start=1):
        cells = [range(i * old // new, -(-(i + 1) * old // new)) for i in range(new)]
        squares = np.stack([squares.take(list(cell), axis=axis).mean(axis=axis) for cell in cells], axis=axis)
    return squares


def numpy_maps(student: np.ndarray, teacher: np.ndarray, kind: MapKind) -> tuple[np.ndarray, np.ndarray]:
    """Compute both layers' maps from their definition."""
    if kind is MapKind.SIMILARITY:
        return tuple(unit(f.reshape(len(f), -1) @ f.reshape(len(f), -1).T) for f in (student, teacher))
    squares = pooled((student**2).mean(axis=1), teacher.shape[2:])
    return unit(squares.reshape(len(student), -1)), unit((teacher**2).mean(axis=1).reshape(len(teacher), -1))


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, kind) for name in SHAPES for kind in MapKind if (name, kind) != ("vectors", MapKind.SPATIAL)],
)
def test_loss_is_its_formula(name: str, kind: MapKind) -> None:
    """The loss is the sum over pairs of layers, written out in loops of NumPy over the module's own weights."""
    student, teacher = draw(SHAPES[name])
    model = AttentionDistillation(student, teacher, width=16, kind=kind, seed=1).double().eval()
    s, t = ([f.detach().double().numpy() for f in features] for features in (student, teacher))

    def project(part: nn.Sequential, x: np.ndarray) -> np.ndarray:
        # In eval mode a fresh batch norm only divides by sqrt(1 + eps).
        return (x @ part[0].weight.detach().numpy().T + part[0].bias.detach().numpy()) / np.sqrt(1 + part[1].eps)

    queries = [project(part, f.reshape(*f.shape[:2], -1).mean(2)) for part, f in zip(model.queries, t, strict=True)]
    keys = [
        np.maximum(project(part, f.reshape(*f.shape[:2], -1).mean(2)), 0) for part, f in zip(model.keys, s, strict=True)
    ]
    ours, theirs = (p.detach().numpy() for p in (model.student_positions, model.teacher_positions))
    total = 0.0
    for i in range(len(t)):
        logits = np.stack(
            [
                (project(model.bilinear, key)[:, i * 16 : (i + 1) * 16] * queries[i]).sum(1) + theirs[i] @ ours[j]
                for j, key in enumerate(keys)
            ],
            axis=1,
        )
        weight = np.exp(logits / 4.0)
        weight /= weight.sum(axis=1, keepdims=True)
        for j in range(len(s)):
            a, b = numpy_maps(s[j], t[i], kind)
            total += (weight[:, j] * ((a - b) ** 2).mean(axis=1)).mean()
    found = model([f.double() for f in student], [f.double() for f in teacher])
    assert float(found.detach()) == pytest.approx(total, rel=1e-9)


@pytest.mark.parametrize("name", SHAPES)
def test_every_layer_and_weight_learns(name: str) -> None:
    """The loss of the kind that fits sends a gradient that is not zero to each student layer and each own weight."""
    student, teacher = draw(SHAPES[name])
    model = AttentionDistillation(student, teacher, width=16)
    model(student, teacher).backward()
    assert all(float(f.grad.norm()) > 1e-4 for f in student)
    # A bias right before a batch norm is taken off with the mean; with one student layer the attention is 1.
    learned = [p for n, p in model.named_parameters() if not n.endswith("0.bias")] if len(student) > 1 else []
    assert all(float(p.grad.norm()) > 0 for p in learned)


def test_spatial_maps_of_vectors_teach_nothing() -> None:
    """A vector's spatial map is 1 whatever it holds: no gradient; its similarity map does give one."""
    student, teacher = draw(VECTORS)
    np.testing.assert_allclose(spatial_map(student[0]).detach().numpy(), 1.0, rtol=1e-6)
    model = AttentionDistillation(student, teacher, width=16, kind=MapKind.SPATIAL)
    loss = model(student, teacher)
    loss.backward()
    assert float(loss.detach()) < 1e-12
    assert all(float(f.grad.abs().max()) < 1e-6 for f in student)
    assert map_kind([*student, *teacher]) is MapKind.SIMILARITY
    fresh, _ = draw(VECTORS)
    attention_transfer_loss(fresh, teacher[:2]).backward()
    assert all(float(f.grad.norm()) > 1e-4 for f in fresh)


@pytest.mark.parametrize(("name", "kind"), [("images", MapKind.SPATIAL), ("vectors", MapKind.SIMILARITY)])
def test_attention_transfer_is_its_formula(name: str, kind: MapKind) -> None:
    """Pairs by hand: the sum over pairs of the mean squared difference of the maps."""
    student, teacher = draw(SHAPES[name])
    found = float(attention_transfer_loss(student, teacher[1:]).detach())
    pairs = [numpy_maps(s.detach().numpy(), t.numpy(), kind) for s, t in zip(student, teacher[1:], strict=True)]
    assert found == pytest.approx(sum(((a - b) ** 2).mean() for a, b in pairs), rel=1e-5)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("factor", [0.01, 7.0])
def test_scale_of_a_layer_does_not_matter(name: str, factor: float) -> None:
    """Maps have unit length, so a layer that is a multiple of another attends to the same."""
    student, _ = draw(SHAPES[name])
    for feature, function in itertools.product(student, (spatial_map, similarity_map)):
        np.testing.assert_allclose(
            function(feature * factor).detach(), function(feature).detach(), rtol=2e-5, atol=1e-6
        )


def test_the_pairing_is_learned() -> None:
    """A student layer that sees what the teacher's layer sees draws the attention away from one that cannot."""
    generator = torch.Generator().manual_seed(0)
    teacher = [torch.randn(64, 8, generator=generator)]
    student = [torch.randn(64, 4, generator=generator), teacher[0] @ torch.randn(8, 8, generator=generator)]
    model = AttentionDistillation(student, teacher, width=16)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(100):
        optimizer.zero_grad()
        model(student, teacher).backward()
        optimizer.step()
    assert float(model.attention(student, teacher)[:, 0, 1].mean().detach()) > 0.9


def test_kind_is_chosen_by_what_can_be_compared() -> None:
    """Positions are compared where every layer has several along as many axes."""
    assert map_kind([torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 2, 2)]) is MapKind.SPATIAL
    assert map_kind([torch.zeros(2, 3, 4, 4), torch.zeros(2, 3)]) is MapKind.SIMILARITY
    assert map_kind([torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4)]) is MapKind.SIMILARITY
    assert map_kind([torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 1, 1)]) is MapKind.SIMILARITY


def test_refit_keeps_what_was_learned() -> None:
    """Only the keys of layers that lost channels are new, and the loss can be taken again."""
    student, teacher = draw(VECTORS)
    model = AttentionDistillation(student, teacher, width=16)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    smaller = [student[0], student[1][:, :2]]
    model.refit(smaller)
    changed = {
        name
        for name, value in model.state_dict().items()
        if value.shape != before[name].shape or (value != before[name]).any()
    }
    assert {name.split(".")[0] + "." + name.split(".")[1] for name in changed} == {"keys.1"}
    assert torch.isfinite(model(smaller, teacher))


class TestWatch:
    """Collecting what layers give."""

    def test_collects_and_lets_go(self) -> None:
        """Outputs come by name and carry gradients, and no hook is left behind."""
        net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2), nn.ReLU())
        x = torch.randn(5, 3)
        assert activations(net) == ("1", "3")
        with watch(net, ("3", "1")) as features:
            out = net(x)
        assert {name: tuple(f.shape) for name, f in features.items()} == {"1": (5, 4), "3": (5, 2)}
        torch.testing.assert_close(features["3"], out)
        assert features["1"].requires_grad
        assert not any(part._forward_hooks for part in net.modules())

    def test_refuses_unknown_layers(self) -> None:
        """The message names the layers that there are."""
        with (
            pytest.raises(ModuleError, match="no layer 'relu'; expected some of 0, 1"),
            watch(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), ("relu",)),
        ):
            pass

    def test_refuses_what_is_no_feature(self) -> None:
        """A layer that gives a tuple is named."""
        net = nn.LSTM(3, 4)
        with pytest.raises(ModuleError, match="gives tuple"), watch(net, ("",)):
            net(torch.randn(2, 1, 3))

    def test_needs_activations_to_guess(self) -> None:
        """Where no activation is a module, the layers must be named."""
        with pytest.raises(ModuleError, match="expected the names"):
            activations(nn.Linear(2, 2))


class TestSoftTargets:
    """The softened outputs."""

    def test_is_the_divergence(self) -> None:
        """T^2 times KL of the softened classes, from its definition."""
        rng = np.random.default_rng(0)
        s, t = rng.normal(size=(2, 6, 4)) * 3
        p, q = (np.exp(x / 4) / np.exp(x / 4).sum(axis=1, keepdims=True) for x in (t, s))
        expected = 16 * (p * np.log(p / q)).sum(axis=1).mean()
        assert float(soft_target_loss(torch.tensor(s), torch.tensor(t), 4.0)) == pytest.approx(expected)

    @pytest.mark.parametrize("shape", [(7,), (7, 1)])
    @pytest.mark.parametrize("temperature", [1.0, 4.0])
    def test_one_number_is_the_limit_of_normal_distributions(self, shape: tuple[int, ...], temperature: float) -> None:
        """It agrees with torch's own divergence of two normal distributions, at any temperature."""
        generator = torch.Generator().manual_seed(0)
        s, t = torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)
        normal = torch.distributions.Normal
        expected = temperature**2 * torch.distributions.kl_divergence(normal(t, temperature), normal(s, temperature))
        assert float(soft_target_loss(s, t, temperature)) == pytest.approx(float(expected.mean()), rel=1e-5)
