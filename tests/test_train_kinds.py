"""A given architecture of every kind is trained, compiled and proved equal to its student on every instruction set."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from latency_models import round_numbers
from prunus.compress.inputs import ChosenInputs
from prunus.compress.parity import check_int8_parity
from prunus.compress.recipe import RankerRecipe, Silent
from prunus.compress.training import Lesson, Trained, prepare, to_network, train_student
from prunus.compress.workspace import Workspace
from prunus.data.synthetic import generate_ranking
from prunus.design import Architecture
from prunus.engine.network import BlockInt8, Dense, DenseInt8, Sparse
from prunus.engine.scorer import RankScorer, isas
from prunus.errors import NetworkError
from prunus.latency import Prices
from prunus.metrics import ndcg
from prunus.prune.blocks import fold_any
from prunus.student.inputs import learn_inputs
from prunus.student.quantise import QuantisedMLP

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prunus.data.ranking import RankingData, Schema
    from prunus.engine.network import InputStage

WIDTHS = (24, 12)
WORLD = tuple[Lesson, "InputStage", "Schema", "RankingData"]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Small products on two threads of a busy machine wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def world() -> WORLD:
    """Generate a data set whose teacher is a smooth function of four features."""
    train, valid = (generate_ranking(n, seed, n_features=16, missing=0.1) for n, seed in ((250, 1), (120, 2)))
    inputs, schema = learn_inputs(train)

    def teach(data: RankingData) -> np.ndarray:
        X = np.nan_to_num(data.X[:, [1, 2, 4, 5]], nan=1.0)
        return np.asarray(np.tanh(X[:, 0]) + np.abs(np.tanh(X[:, 1] - 1)) - np.tanh(X[:, 2]) * X[:, 3], np.float64)

    lesson = prepare(inputs, train, teach(train), valid, np.empty((0, 16), np.float32), np.empty(0))
    return lesson, inputs, schema, valid


def trained(world: WORLD, architecture: Architecture, *, epochs: int = 6, seed: int = 0) -> Trained:
    """Train by prices of a weight each, four for a block: targets are numbers of weights."""
    lesson, inputs, schema, _ = world
    prices = Prices(0.0, 1.0, 0.0, np.zeros(inputs.n_slots), 4.0)
    recipe = RankerRecipe(budget="1us", epochs=epochs, batch_docs=400, augmentation="none")
    return train_student(
        architecture, lesson, inputs, schema, recipe,
        seed=seed, prices=prices, latency=round_numbers(), space=None, progress=Silent(),
    )  # fmt: skip


CASES: tuple[tuple[Architecture, tuple[type, ...]], ...] = (
    (Architecture("dense", WIDTHS, 1.0), (Dense,)),
    (Architecture("sparse", WIDTHS, 200.0), (Sparse, Dense)),
    (Architecture("int8", WIDTHS, 1.0), (DenseInt8,)),
    (Architecture("int8", WIDTHS, 1.0, "f32"), (Dense, DenseInt8)),
    (Architecture("block", WIDTHS, 200.0), (BlockInt8, DenseInt8)),
    (Architecture("block", WIDTHS, 200.0, "f32"), (Sparse, BlockInt8, DenseInt8)),
)


@pytest.mark.parametrize(("architecture", "kinds"), CASES, ids=[case[0].name for case in CASES])
def test_every_kind_trains(world: WORLD, architecture: Architecture, kinds: tuple[type, ...]) -> None:
    """It learns, meets its target, ends in its kernels, and the engine gives its quality on every instruction set."""
    lesson, _, schema, valid = world
    found = trained(world, architecture)
    chance = ndcg(valid.y, np.random.default_rng(0).random(valid.n_docs), valid.offsets).mean
    assert found.valid > chance + 0.05
    assert set(found.parity) == set(isas())
    assert all(isinstance(layer, (*kinds, Dense, Sparse)) for layer in found.network.layers)
    assert isinstance(found.network.layers[1], kinds)
    if architecture.kind in ("sparse", "block"):  # a pruned layer may still run dense where that is faster
        blocks = [x for x in found.network.layers if isinstance(x, BlockInt8 | DenseInt8)]
        stored = sum(4 * int(fold_any(x.steps() != 0, 4).sum()) for x in blocks)
        stored += sum(x.nonzeros for x in found.network.layers if not isinstance(x, BlockInt8 | DenseInt8))
        assert 0.5 * architecture.target < stored <= architecture.target
    for isa in isas():
        scores = RankScorer(found.network, schema, isa=isa).score(valid.X)
        assert ndcg(valid.y, scores, valid.offsets).mean == pytest.approx(found.valid, abs=1e-3)
    assert lesson.valid is valid


def test_a_student_that_reads_some_inputs(world: WORLD, tmp_path: Path) -> None:
    """It reads the most important ones only, the teacher's own among them, and a run that resumes takes the same."""
    lesson, inputs, schema, valid = world
    prices = Prices(0.0, 1.0, 0.0, np.ones(inputs.n_slots), 4.0)
    recipe = RankerRecipe(budget="1us", epochs=8, batch_docs=400, augmentation="none")
    architecture = Architecture("int8", WIDTHS, 1.0, n_inputs=6)
    space = Workspace(tmp_path)
    space.claim({})
    first, again = (ChosenInputs(lesson, inputs, recipe, prices, space) for _ in range(2))
    assert sorted(first.importance().tolist()) == list(range(inputs.n_slots))
    assert {1, 2, 4, 5} <= set(first.stage(architecture).feature.tolist())
    np.testing.assert_array_equal(again.importance(), first.importance())
    assert first.stage(Architecture("int8", WIDTHS, 1.0)) is inputs
    found = train_student(
        architecture, first.lesson_of(architecture), first.stage(architecture), schema, recipe,
        seed=0, prices=prices, latency=round_numbers(), space=None, progress=Silent(),
    )  # fmt: skip
    assert found.network.inputs.n_slots <= 6
    scores = RankScorer(found.network, schema).score(valid.X)
    assert ndcg(valid.y, scores, valid.offsets).mean == pytest.approx(found.valid, abs=1e-3)


class TestParityIsProved:
    """The proof fails where it must."""

    def student(self, world: WORLD) -> QuantisedMLP:
        """Draw and calibrate."""
        lesson, inputs, _, _ = world
        model = QuantisedMLP(inputs, WIDTHS, seed=3)
        model.calibrate(lesson.data.z)
        return model.eval()

    def check(self, world: WORLD, model: QuantisedMLP, **change: object) -> None:
        """Prove the parity of a student with its own network, one field of whose first layer is changed."""
        lesson, inputs, schema, valid = world
        network, scale, shift = to_network(model, lesson, inputs, 16, None, 128)
        first = network.layers[0]
        assert isinstance(first, DenseInt8)
        wrong = replace(network, layers=(replace(first, **change), *network.layers[1:]))  # type: ignore[arg-type]
        check_int8_parity(wrong, schema, valid, model, inputs, scale=scale, shift=shift, k=10)

    def test_the_right_network_passes(self, world: WORLD) -> None:
        """Nothing is changed."""
        self.check(world, self.student(world))

    def test_a_wrong_one_is_refused(self, world: WORLD) -> None:
        """A bias that is off by a hundredth, a scale by a thousandth, or one weight by twenty steps."""
        model = self.student(world)
        lesson, inputs, _, _ = world
        first = to_network(model, lesson, inputs, 16, None, 128)[0].layers[0]
        assert isinstance(first, DenseInt8)
        weight = first.weight.copy()
        column = int(np.abs(weight.astype(int)).sum(axis=0).argmax())
        weight[:, column] = np.clip(weight[:, column].astype(int) - 20, -127, 127)
        for change in ({"bias": first.bias + 0.01}, {"scale": first.scale * 1.001}, {"weight": weight}):
            with pytest.raises(NetworkError, match="differs from the student's"):
                self.check(world, model, **change)


@pytest.mark.long
def test_rounding_costs_little(world: WORLD) -> None:
    """Over three seeds, int8 students rank as float32 ones do, within a hundredth of nDCG; killed, one resumes."""
    losses = []
    for seed in range(3):
        plain = trained(world, Architecture("dense", WIDTHS, 1.0), epochs=20, seed=seed)
        rounded = trained(world, Architecture("int8", WIDTHS, 1.0), epochs=20, seed=seed)
        losses.append(plain.valid - rounded.valid)
    assert np.mean(losses) < 0.01


@pytest.mark.long
def test_the_same_file_twice(world: WORLD, tmp_path: Path) -> None:
    """A seed repeats: two trainings of a block student give the same bytes."""
    from prunus.engine.file import save

    files = []
    for name in ("a", "b"):
        found = trained(world, Architecture("block", WIDTHS, 200.0), seed=1)
        save(tmp_path / name, found.network, world[2], metadata={})
        files.append((tmp_path / name).read_bytes())
    assert files[0] == files[1]
