"""Pruning by blocks of four inputs: folding, prices, what goes first, and a student that ends in blocks."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunus.latency import Prices
from prunus.prune.blocks import fold_any, fold_sum, order_by_likeness, standing, unfold
from prunus.prune.magnitude import cost, select
from prunus.prune.structured import alive

if TYPE_CHECKING:
    from collections.abc import Iterator

GRAINS = ([4, 4, 1], [1, 4, 1], [4, 1, 1], [1, 1, 1])


def prices(n_slots: int) -> Prices:
    """Price a network in round numbers; a block costs less than two weights."""
    return Prices(fixed=1.0, weight=1.0, unit=3.0, slot=np.linspace(2.0, 10.0, n_slots), block=1.5)


def stack(seed: int, sizes: tuple[int, ...] = (10, 9, 6, 1)) -> list[np.ndarray]:
    """Draw importances of a stack of layers."""
    rng = np.random.default_rng(seed)
    return [rng.exponential(size=(b, a)) for a, b in itertools.pairwise(sizes)]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Small products on two threads of a busy machine wait for each other."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class TestFolding:
    """From weights to blocks and back."""

    @given(st.integers(1, 30), st.integers(0, 99), st.sampled_from([1, 4]))
    def test_every_input_has_one_block(self, n_inputs: int, seed: int, grain: int) -> None:
        """Sums over blocks are sums over inputs, and what is unfolded folds back."""
        values = np.random.default_rng(seed).random((3, n_inputs))
        np.testing.assert_allclose(fold_sum(values, grain).sum(axis=1), values.sum(axis=1))
        blocks = np.random.default_rng(seed).random((3, -(-n_inputs // grain))) < 0.5
        wide = unfold(blocks, grain, n_inputs)
        assert wide.shape == (3, n_inputs)
        np.testing.assert_array_equal(fold_any(wide, grain), blocks)

    def test_a_short_last_block(self) -> None:
        """Inputs 4 and 5 of six stand in one block."""
        np.testing.assert_array_equal(fold_sum(np.arange(6.0)[None], 4), [[6.0, 9.0]])


class TestCost:
    """What a network of blocks costs."""

    def test_counts(self) -> None:
        """Blocks, the slots and units of blocks that are read, and the last layer's weights."""
        first, last = np.zeros((6, 8), np.bool_), np.ones((1, 6), np.bool_)
        first[:2, :4] = True
        first[2:, 5] = True
        price = Prices(1.0, 1.0, 3.0, np.full(8, 10.0), 1.5)
        assert cost(price, [first, last], [4, 1]) == 1 + 6 * 1.5 + 6 + 3 * (6 + 1) + 80
        assert cost(price, [first, last], [1, 1]) == 1 + 12 + 6 + 3 * (6 + 1) + 50

    def test_a_dead_unit_among_living_neighbours_is_paid(self) -> None:
        """Its place in the block must stay, as an empty row."""
        first, second, last = np.ones((4, 4), np.bool_), np.ones((2, 4), np.bool_), np.ones((1, 2), np.bool_)
        first[1] = False
        price = Prices(0.0, 0.0, 1.0, np.zeros(4), 0.0)
        assert cost(price, [first, second, last], [4, 4, 1]) == 4 + 2 + 1
        assert cost(price, [first, second, last], [4, 1, 1]) == 3 + 2 + 1

    @given(st.integers(0, 500))
    def test_without_blocks_nothing_changed(self, seed: int) -> None:
        """A grain of 1 everywhere is the default."""
        kept = [s > 0.5 for s in stack(seed)]
        assert cost(prices(10), kept) == cost(prices(10), kept, [1, 1, 1])


class TestSelect:
    """What goes first."""

    @given(st.integers(0, 500), st.floats(0.0, 1.0), st.sampled_from(GRAINS))
    def test_meets_the_target_in_whole_blocks(self, seed: int, share: float, grains: list[int]) -> None:
        """New masks cost at most the target (or are one path), only lose weights, and lose them by blocks."""
        scores = stack(seed)
        price = prices(10)
        kept = [np.ones(s.shape, np.bool_) for s in scores]
        target = 1.0 + share * (cost(price, kept, grains) - 1.0)
        for _ in range(2):
            new = select(scores, kept, price, target, grains)
            assert all((a <= b).all() for a, b in zip(new, kept, strict=True))
            assert cost(price, new, grains) <= target or all(
                fold_any(mask, grain).sum() == 1 for mask, grain in zip(new, grains, strict=True)
            )
            living = alive(new)
            for number, (mask, grain) in enumerate(zip(new, grains, strict=True)):
                np.testing.assert_array_equal(mask, living[number])
                whole = unfold(fold_any(mask, grain), grain, mask.shape[1])
                if number > 0:  # a block's place is empty only where the unit there reads nothing
                    whole &= new[number - 1].any(axis=1)
                np.testing.assert_array_equal(mask, whole)
            kept, target = new, 0.6 * target

    @given(st.integers(0, 500), st.sampled_from(GRAINS))
    def test_one_path_always_stays(self, seed: int, grains: list[int]) -> None:
        """Even a target of nothing leaves a way from an input to the score."""
        scores = stack(seed)
        new = select(scores, [np.ones(s.shape, np.bool_) for s in scores], prices(10), 0.0, grains)
        reached = np.asarray(new[0].any(axis=1))
        for mask in new[1:]:
            reached = mask[:, reached].any(axis=1)
        assert reached.tolist() == [True]

    def test_the_block_of_the_least_sum_goes_first(self) -> None:
        """One large weight does not save a block whose sum is the smaller."""
        scores = [np.array([[5.0, 0, 0, 0, 2, 2, 2, 0]]), np.ones((1, 1))]
        new = select(
            scores, [np.ones(s.shape, np.bool_) for s in scores], Prices(0, 0, 0, np.zeros(8), 1.0), 1.0, [4, 1]
        )
        assert new[0].tolist() == [[False] * 4 + [True] * 4]

    def test_a_block_shares_the_price_of_its_inputs(self) -> None:
        """Of two blocks of equal use, the one whose four inputs cost more is dropped."""
        scores = [np.ones((3, 8)), np.ones((1, 3))]
        price = Prices(0.0, 0.1, 0.0, np.array([1.0, 1, 1, 1, 1, 1, 9, 1]), 0.1)
        new = select(scores, [np.ones(s.shape, np.bool_) for s in scores], price, 8.0, [4, 1])
        assert new[0].any(axis=0).tolist() == [True] * 4 + [False] * 4


class TestOrder:
    """Related units side by side."""

    @given(st.integers(1, 40), st.integers(0, 99))
    def test_is_a_permutation(self, n_units: int, seed: int) -> None:
        """Every unit stands once, whatever the number."""
        order = order_by_likeness(np.random.default_rng(seed).random((7, n_units)))
        assert sorted(order.tolist()) == list(range(n_units))

    def test_finds_planted_groups(self) -> None:
        """Units that matter to the same outputs end in the same block."""
        rng = np.random.default_rng(0)
        group = rng.permutation(np.repeat(np.arange(5), 4))
        columns = np.eye(5)[:, group] * rng.uniform(1, 2, 20) + 0.01 * rng.random((5, 20))
        order = order_by_likeness(columns)
        assert all(len(set(group[order][b * 4 : b * 4 + 4])) == 1 for b in range(5))


def test_standing_inputs_come_in_blocks() -> None:
    """One input that is read keeps its three neighbours' places."""
    mask = np.zeros((2, 10), np.bool_)
    mask[0, 5] = mask[1, 9] = True
    assert np.flatnonzero(standing([mask], [4])[0]).tolist() == [4, 5, 6, 7, 8, 9]
    assert np.flatnonzero(standing([mask], [1])[0]).tolist() == [5, 9]


def test_a_student_pruned_by_blocks_ends_in_blocks() -> None:
    """Trained, pruned and rounded, it meets its target, and its zeros are whole blocks when it is compiled."""
    torch = pytest.importorskip("torch")
    from prunus.compiler_int8 import compile_int8
    from prunus.data.synthetic import generate_ranking
    from prunus.distill.loop import Loop, LoopSettings, TrainingSet
    from prunus.distill.quantising import Quantising
    from prunus.engine.network import BlockInt8, DenseInt8
    from prunus.prune.gradual import GradualPruning
    from prunus.prune.schedule import CubicSchedule
    from prunus.student.inputs import learn_inputs
    from prunus.student.mlp import StagedInputs
    from prunus.student.quantise import QuantisedMLP

    data = generate_ranking(60, seed=2)
    inputs, _ = learn_inputs(data)
    z = StagedInputs(inputs)(torch.from_numpy(data.X))
    target = z[:, 0] / z[:, 0].std()
    lesson = TrainingSet(z, target, torch.from_numpy(data.y), data.offsets, z[:0], target[:0])
    price = Prices(0.0, 1.0, 0.0, np.zeros(inputs.n_slots), 4.0)
    model = QuantisedMLP(inputs, (16, 8), seed=0, blocks=True)
    loop = Loop(model, lesson, LoopSettings(3, 300, 0.0), validate=lambda _: 0.0)
    steps = loop.total_steps
    wanted = 0.3 * sum(mask.numel() for mask in model.masks)
    pruning = GradualPruning(CubicSchedule(steps // 5, steps // 2, 2), price, wanted, [4, 4, 1])
    loop.callbacks = [pruning, Quantising(2 * steps // 3)]
    best = loop.run()
    assert isinstance(best, QuantisedMLP)
    assert cost(price, [mask.numpy() > 0 for mask in best.masks], [4, 4, 1]) <= wanted
    assert best.density > 0.2
    network = compile_int8(data.n_features, best.stage(inputs), best.layers())
    hidden = [layer for layer in network.layers if isinstance(layer, BlockInt8 | DenseInt8)]
    assert len(hidden) == 2
    assert any(isinstance(layer, BlockInt8) for layer in hidden)
    blocks = sum(int(fold_any(layer.steps() != 0, 4).sum()) for layer in hidden)
    assert 4 * blocks + network.layers[-1].nonzeros <= wanted


def test_reordering_units_changes_nothing_that_is_computed() -> None:
    """Scores, average and every later step stay the same, but for the order of sums; masks move with their weights."""
    torch = pytest.importorskip("torch")
    from prunus.data.synthetic import generate_ranking
    from prunus.distill.loop import Loop, LoopSettings, TrainingSet
    from prunus.prune.gradual import reorder
    from prunus.student.mlp import MLP

    data = generate_ranking(30, seed=0)
    z = torch.randn(data.n_docs, 6, generator=torch.Generator().manual_seed(0))
    lesson = TrainingSet(z, z[:, 0], torch.from_numpy(data.y), data.offsets, z[:0], z[:0, 0])
    found = []
    for moved in (False, True):
        model = MLP(6, (10, 7), seed=1)
        model.masks[1][:, 3] = 0
        loop = Loop(model, lesson, LoopSettings(2, 100, 0.0), validate=lambda _: 0.0)
        loop._run_epoch()
        if moved:
            order = np.random.default_rng(0).permutation(10)
            before = model.layers()[1].weight
            reorder(loop, 0, order)
            np.testing.assert_array_equal(model.layers()[1].weight, before[:, order])
            assert not model.masks[1][:, int(np.flatnonzero(order == 3)[0])].any()
        loop.epoch = 1
        loop._run_epoch()
        with torch.no_grad():
            found.append((model(z).numpy(), loop.averaged_model()(z).numpy()))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-4, atol=1e-4)
