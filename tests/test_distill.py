"""Losses, synthetic documents and the loop."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prunus.data.synthetic import generate_ranking
from prunus.distill.augment import draw
from prunus.distill.loop import Loop, LoopSettings, TrainingSet
from prunus.distill.losses import LossMix, gain_distribution, listwise_loss, pointwise_loss, segment_log_softmax
from prunus.errors import RecipeChangedError
from prunus.metrics import ndcg
from prunus.prune.gradual import GradualPruning
from prunus.prune.schedule import CubicSchedule
from prunus.student.mlp import MLP

if TYPE_CHECKING:
    from pathlib import Path


def queries(seed: int, n_queries: int = 7) -> tuple[torch.Tensor, np.ndarray]:
    """Draw the query of each document, and the offsets."""
    sizes = np.random.default_rng(seed).integers(1, 9, n_queries)
    return torch.from_numpy(np.repeat(np.arange(n_queries), sizes)), np.concatenate([[0], np.cumsum(sizes)])


class TestLosses:
    """Each loss against its formula, query by query."""

    @given(st.integers(0, 10_000))
    def test_softmax_of_each_query(self, seed: int) -> None:
        """The flat form equals torch's own, list by list."""
        query, offsets = queries(seed)
        scores = torch.randn(len(query), generator=torch.Generator().manual_seed(seed)) * 30
        flat = segment_log_softmax(scores, query, len(offsets) - 1)
        for a, b in itertools.pairwise(offsets):
            torch.testing.assert_close(flat[a:b], torch.log_softmax(scores[a:b], 0), rtol=1e-5, atol=1e-5)

    @given(st.integers(0, 10_000))
    def test_listwise_is_least_at_the_target(self, seed: int) -> None:
        """No scores have a smaller cross-entropy than the ones that the target was made from."""
        query, offsets = queries(seed)
        generator = torch.Generator().manual_seed(seed)
        best = torch.randn(len(query), generator=generator)
        other = best + 0.3 * torch.randn(len(query), generator=generator)
        target = torch.exp(segment_log_softmax(best, query, len(offsets) - 1))
        n = len(offsets) - 1
        assert listwise_loss(best, target, query, n) <= listwise_loss(other, target, query, n) + 1e-6

    def test_huge_scores_give_finite_gradients(self) -> None:
        """Scores of 1e30 neither overflow nor give NaN."""
        scores = torch.tensor([1e30, -1e30, 0.0], requires_grad=True)
        query = torch.zeros(3, dtype=torch.int64)
        listwise_loss(scores, torch.tensor([0.2, 0.3, 0.5]), query, 1).backward()
        assert scores.grad is not None
        assert torch.isfinite(scores.grad).all()

    def test_gains(self) -> None:
        """Gains are 2^label - 1, shared out; a query without a relevant document weighs nothing."""
        query = torch.tensor([0, 0, 0, 1, 1])
        got = gain_distribution(torch.tensor([2.0, 1.0, 0.0, 0.0, 0.0]), query, 2)
        torch.testing.assert_close(got, torch.tensor([0.75, 0.25, 0.0, 0.0, 0.0]))

    def test_the_mix_is_the_sum_of_its_terms(self) -> None:
        """Weights of zero leave a term out; weights add up."""
        query, offsets = queries(3)
        n = len(offsets) - 1
        s, t = torch.randn(len(query)), torch.randn(len(query))
        y = torch.randint(0, 3, (len(query),)).float()
        alone = [LossMix(1, 0, 0), LossMix(0, 1, 0), LossMix(0, 0, 1)]
        parts = [mix(s, t, y, query, n) for mix in alone]
        torch.testing.assert_close(LossMix(2, 3, 4)(s, t, y, query, n), 2 * parts[0] + 3 * parts[1] + 4 * parts[2])
        torch.testing.assert_close(parts[0], pointwise_loss(s, t))


class TestAugment:
    """Synthetic documents stand where their rule says."""

    X = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    points = tuple(np.sort(np.random.default_rng(f).normal(size=5 + f)).astype(np.float32) for f in range(4))

    def test_independent_takes_midpoints_only(self) -> None:
        """Every value is one of the feature's midpoints, and all of them occur."""
        made = draw("independent", self.X, self.points, 2000, np.random.default_rng(1))
        for f, points in enumerate(self.points):
            assert set(made[:, f]) == set(points)

    @pytest.mark.parametrize("how", ["replace", "neighbour"])
    def test_rows_stay_near_a_real_one(self, how: str) -> None:
        """Each row agrees with some real document in a share of the features near 1 - share."""
        made = draw(how, self.X, self.points, 400, np.random.default_rng(1), share=0.25)  # type: ignore[arg-type]
        same = (made[:, None, :] == self.X[None]).sum(axis=2).max(axis=1)
        assert 0.6 < same.mean() / 4 < 0.95

    def test_neighbours_move_at_most_two_cells(self) -> None:
        """A changed value lies in a cell at most two away from its own."""
        X = np.repeat(self.X[:1], 3000, axis=0)
        made = draw("neighbour", X, self.points, 3000, np.random.default_rng(2), share=1.0)
        for f, points in enumerate(self.points):
            edges = (points[1:] + points[:-1]) / 2
            own = np.searchsorted(edges, self.X[0, f])
            assert np.abs(np.searchsorted(edges, made[:, f]) - own).max() <= 2

    def test_missing_stays_missing_among_neighbours(self) -> None:
        """A missing value has no neighbouring cell."""
        X = self.X.copy()
        X[:, 2] = np.nan
        assert np.isnan(draw("neighbour", X, self.points, 100, np.random.default_rng(3))[:, 2]).all()

    def test_none_gives_nothing(self) -> None:
        """Without augmentation there is no synthetic row."""
        assert draw("none", self.X, self.points, 100, np.random.default_rng(3)).shape == (0, 4)


class _KilledError(Exception):
    """Stands for a kill in the middle of a run."""


class _KillAt:
    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_step(self, loop: Loop) -> None:
        if loop.epoch == self.epoch and loop.step % loop.steps_per_epoch == 1:
            raise _KilledError

    def on_epoch(self, loop: Loop) -> None:
        """Let epochs pass."""


class TestLoop:
    """The loop learns, prunes for good, repeats and resumes to the bit."""

    @pytest.fixture(scope="class")
    @classmethod
    def lesson(cls) -> tuple[TrainingSet, np.ndarray]:
        """A small set whose teacher is a known function."""
        data = generate_ranking(120, seed=3, n_features=12, docs_per_query=(5, 15), missing=0.0)
        z = (data.X - data.X.mean(0)) / np.maximum(data.X.std(0), 1e-6)
        z = np.clip(z, -3, 3).astype(np.float32)
        target = (np.tanh(z[:, 0]) + z[:, 1] * z[:, 2] * 0.3).astype(np.float32)
        target = (target - target.mean()) / target.std()
        empty = torch.empty((0, 12))
        return (
            TrainingSet(
                torch.from_numpy(z),
                torch.from_numpy(target),
                torch.from_numpy(data.y),
                data.offsets,
                empty,
                torch.empty(0),
            ),
            data.y,
        )

    def loop(
        self,
        lesson: tuple[TrainingSet, np.ndarray],
        checkpoint: Path | None = None,
        *,
        prune: bool = True,
        **kwargs: object,
    ) -> Loop:
        """Make a loop over the small set."""
        data, y = lesson
        settings = LoopSettings(
            **{"epochs": 6, "batch_docs": 200, "average": 10, "mix": LossMix(1, 0.1, 0), "seed": 1, **kwargs}
        )  # type: ignore[arg-type]

        def validate(model: MLP) -> float:
            with torch.no_grad():
                return ndcg(y, model(data.z).numpy(), data.offsets).mean

        loop = Loop(MLP(12, (16, 8), seed=0), data, settings, validate=validate, checkpoint=checkpoint)
        if prune:
            from prunus.latency import Prices

            total = loop.total_steps
            schedule = CubicSchedule(total // 4, total * 2 // 3, 2)
            loop.callbacks = [GradualPruning(schedule, Prices(0.0, 1.0, 1.0, np.ones(12)), 90.0)]
        return loop

    def test_learns(self, lesson: tuple[TrainingSet, np.ndarray]) -> None:
        """The loss falls by more than half."""
        loop = self.loop(lesson, prune=False, epochs=12)
        loop.run()
        assert loop.history[-1]["loss"] < 0.5 * loop.history[0]["loss"]

    def test_masked_weights_stay_zero(self, lesson: tuple[TrainingSet, np.ndarray]) -> None:
        """After pruning, what the masks removed is zero in every layer, and the target is met."""
        loop = self.loop(lesson)
        model = loop.run()
        for layer, mask in zip(model.layers(), model.masks, strict=True):
            assert (layer.weight[mask.numpy() == 0] == 0).all()
        assert model.nonzeros <= 90
        assert model.nonzeros > 40

    def test_same_seed_same_bits(self, lesson: tuple[TrainingSet, np.ndarray]) -> None:
        """Two runs give the same weights to the bit; another seed gives others."""
        first, again = (self.loop(lesson).run().layers() for _ in range(2))
        other = self.loop(lesson, seed=2).run().layers()
        assert all((a.weight == b.weight).all() and (a.bias == b.bias).all() for a, b in zip(first, again, strict=True))
        assert any((a.weight != b.weight).any() for a, b in zip(first, other, strict=True))

    @pytest.mark.parametrize("epoch", [0, 1, 3, 5])
    def test_resume_gives_the_same_bits(
        self, lesson: tuple[TrainingSet, np.ndarray], tmp_path: Path, epoch: int
    ) -> None:
        """Killed in any epoch and run again, the student equals that of an uninterrupted run."""
        expected = self.loop(lesson).run().layers()
        killed = self.loop(lesson, tmp_path / "state.pt")
        killed.callbacks = [*killed.callbacks, _KillAt(epoch)]
        with pytest.raises(_KilledError):
            killed.run()
        got = self.loop(lesson, tmp_path / "state.pt")
        layers = got.run().layers()
        assert all(
            (a.weight == b.weight).all() and (a.bias == b.bias).all() for a, b in zip(expected, layers, strict=True)
        )
        assert [row["epoch"] for row in got.history] == [1, 2, 3, 4, 5, 6]

    def test_another_recipe_is_refused(self, lesson: tuple[TrainingSet, np.ndarray], tmp_path: Path) -> None:
        """A checkpoint of other settings is not gone on from."""
        self.loop(lesson, tmp_path / "state.pt").run()
        with pytest.raises(RecipeChangedError, match="other settings"):
            self.loop(lesson, tmp_path / "state.pt", learning_rate=1e-4).run()
