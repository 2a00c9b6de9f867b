"""Pruning: masks, the schedule, what goes first, and what dies with it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunus.latency import Prices
from prunus.prune.magnitude import cost, select
from prunus.prune.mask import Mask
from prunus.prune.schedule import CubicSchedule
from prunus.prune.structured import alive, shrink


def stack(seed: int, sizes: tuple[int, ...] = (6, 5, 4, 1), density: float = 1.0) -> list[np.ndarray]:
    """Draw weights of a stack of layers."""
    rng = np.random.default_rng(seed)
    return [
        (rng.normal(size=(b, a)) * (rng.random((b, a)) < density)).astype(np.float32)
        for a, b in itertools.pairwise(sizes)
    ]


def prices(n_slots: int = 6) -> Prices:
    """Price a network in round numbers."""
    return Prices(fixed=1.0, weight=1.0, unit=3.0, slot=np.linspace(2.0, 10.0, n_slots))


def forward(weights: list[np.ndarray], biases: list[np.ndarray], x: np.ndarray) -> np.ndarray:
    """Run a ReLU6 stack."""
    for number, (w, b) in enumerate(zip(weights, biases, strict=True)):
        x = x @ w.T.astype(float) + b
        if number < len(weights) - 1:
            x = np.clip(x, 0, 6)
    return x[:, 0]


class TestMask:
    """Only 0 and 1 can stand in a mask."""

    @pytest.mark.parametrize("wrong", [2, -1, 0.5, np.nan])
    def test_refuses_other_values(self, wrong: float) -> None:
        """A value that is neither 0 nor 1 is refused."""
        with pytest.raises(ValueError, match="only 0 and 1"):
            Mask(np.array([[1.0, wrong]]))

    def test_refuses_other_shapes(self) -> None:
        """A mask is outputs by inputs."""
        with pytest.raises(ValueError, match="expected 2"):
            Mask(np.ones(3))

    def test_counts(self) -> None:
        """Density and sparsity add up to one."""
        mask = Mask(np.array([[1, 0], [0, 0]]))
        assert (mask.nonzeros, mask.density, mask.sparsity) == (1, 0.25, 0.75)
        assert mask.within(Mask.ones((2, 2)))
        assert not Mask.ones((2, 2)).within(mask)


class TestSchedule:
    """The cubic schedule."""

    def test_ends(self) -> None:
        """It starts at the initial level, ends at the target and never rises."""
        schedule = CubicSchedule(10, 50, 4)
        levels = [schedule.level(step, 1.0, 0.1) for step in range(70)]
        assert levels[0] == levels[10] == 1.0
        assert levels[50] == levels[69] == pytest.approx(0.1)
        assert all(a >= b for a, b in itertools.pairwise(levels))

    def test_the_formula(self) -> None:
        """Half way, an eighth of the distance is left (Zhu and Gupta 2017, equation 1)."""
        assert CubicSchedule(0, 100, 1).level(50, 1.0, 0.0) == pytest.approx(0.125)

    def test_the_end_is_always_due(self) -> None:
        """Whatever the stride, the last pruning happens at the end and none after it."""
        schedule = CubicSchedule(3, 20, 7)
        assert [step for step in range(40) if schedule.due(step)] == [3, 10, 17, 20]

    @pytest.mark.parametrize("wrong", [(5, 5, 1), (6, 5, 1), (0, 5, 0), (-1, 5, 1)])
    def test_refuses_nonsense(self, wrong: tuple[int, int, int]) -> None:
        """Start, end and stride must make sense."""
        with pytest.raises(ValueError, match="expected"):
            CubicSchedule(*wrong)


class TestSelect:
    """What goes first."""

    @given(st.integers(0, 1000), st.floats(0.0, 1.0))
    def test_meets_the_target_inside_the_old_masks(self, seed: int, share: float) -> None:
        """New masks cost at most the target (or are one path), and only ever lose weights."""
        weights = stack(seed, density=0.8)
        kept = [w != 0 for w in weights]
        price = prices()
        target = 1.0 + share * (cost(price, kept) - 1.0)
        new = select([w.astype(float) ** 2 for w in weights], kept, price, target)
        assert all((a <= b).all() for a, b in zip(new, kept, strict=True))
        assert cost(price, new) <= target or all(mask.sum() == 1 for mask in new)

    @given(st.integers(0, 1000))
    def test_one_path_always_stays(self, seed: int) -> None:
        """Even a target of nothing leaves a way from an input to the score."""
        new = select([w.astype(float) ** 2 for w in stack(seed)], [w != 0 for w in stack(seed)], prices(), 0.0)
        assert [int(mask.sum()) for mask in new] == [1, 1, 1]
        for before, after in itertools.pairwise(new):
            assert np.flatnonzero(before.any(axis=1)).tolist() == np.flatnonzero(after.any(axis=0)).tolist()

    def test_dear_inputs_go_before_cheap_ones(self) -> None:
        """Of two inputs of equal use, the one that costs more time is dropped."""
        weights = [np.ones((4, 2), np.float32), np.ones((1, 4), np.float32)]
        price = Prices(0.0, 1.0, 0.0, np.array([1.0, 50.0]))
        new = select([w.astype(float) for w in weights], [w != 0 for w in weights], price, 30.0)
        assert new[0].any(axis=0).tolist() == [True, False]

    def test_the_smallest_weight_of_equal_price_goes_first(self) -> None:
        """Inside a layer, magnitude decides."""
        weights = [np.array([[3.0, 1.0, 2.0]], np.float32), np.ones((1, 1), np.float32)]
        price = Prices(0.0, 1.0, 0.0, np.zeros(3))
        new = select([w.astype(float) ** 2 for w in weights], [w != 0 for w in weights], price, 3.0)
        assert new[0].tolist() == [[True, False, True]]


class TestShrink:
    """Dead parts go, and the function stays."""

    @given(st.integers(0, 2000), st.floats(0.05, 0.9))
    def test_same_function(self, seed: int, density: float) -> None:
        """The smaller stack computes the same scores from fewer inputs."""
        weights = stack(seed, (7, 6, 5, 1), density)
        rng = np.random.default_rng(seed)
        biases = [rng.normal(size=len(w)).astype(np.float32) for w in weights]
        relu6 = [lambda x: np.clip(x, 0, 6)] * 2 + [lambda x: x]
        small = shrink(weights, biases, relu6)
        x = rng.normal(size=(20, 7))
        np.testing.assert_allclose(
            forward(small.weights, small.biases, x[:, small.slots]), forward(weights, biases, x), rtol=1e-5, atol=1e-5
        )

    @given(st.integers(0, 2000), st.floats(0.05, 0.9))
    def test_nothing_dead_is_left(self, seed: int, density: float) -> None:
        """Every unit left reads something and is read, unless it is the last of its layer."""
        weights = stack(seed, (7, 6, 5, 1), density)
        small = shrink(weights, [np.zeros(len(w), np.float32) for w in weights], [lambda x: np.clip(x, 0, 6)] * 3)
        for before, after in zip(small.weights[:-1], small.weights[1:], strict=True):
            if len(before) > 1:
                assert after.any(axis=0).all()
                assert before.any(axis=1).all()

    @given(st.integers(0, 2000), st.floats(0.05, 0.9))
    def test_alive_drops_only_what_cannot_reach_the_score(self, seed: int, density: float) -> None:
        """Clearing dead weights never changes the scores of a network without biases."""
        weights = stack(seed, (7, 6, 5, 1), density)
        masks = alive([w != 0 for w in weights])
        zero = [np.zeros(len(w)) for w in weights]
        x = np.random.default_rng(seed).normal(size=(20, 7))
        np.testing.assert_array_equal(
            forward([w * m for w, m in zip(weights, masks, strict=True)], zero, x), forward(weights, zero, x)
        )


def test_curvature_is_the_mean_squared_derivative() -> None:
    """The random-sign estimate agrees with derivatives taken document by document."""
    torch = pytest.importorskip("torch")
    from prunus.prune import gradual
    from prunus.student.mlp import MLP

    model = MLP(4, (6, 3), seed=0)
    z = torch.randn(64, 4, generator=torch.Generator().manual_seed(1))
    exact = [np.zeros(tuple(layer.weight.shape)) for layer in model.linears]
    for row in z:
        grads = torch.autograd.grad(model(row[None]).sum(), [layer.weight for layer in model.linears])
        for sums, grad in zip(exact, grads, strict=True):
            np.add(sums, grad.numpy() ** 2 / len(z), out=sums)
    estimates = [gradual.gauss_newton(model, z, seed=seed) for seed in range(60)]
    for layer, sums in enumerate(exact):
        mean = np.mean([estimate[layer] for estimate in estimates], axis=0)
        np.testing.assert_allclose(mean, sums, rtol=0.35, atol=0.02 * sums.max())
