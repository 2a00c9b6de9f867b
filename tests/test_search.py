"""The search: what it proposes, stops, keeps and shares; nothing is trained here but by a stand-in."""

from __future__ import annotations

import itertools
import os
import platform
import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("optuna", reason="the search needs Optuna, of the extra [train]")

from latency_models import round_numbers
from prunus.compress.measure import Costs
from prunus.compress.search import KINDS, Search, Searched, Stopped, behind, frontier
from prunus.data.ranking import Schema
from prunus.design import PRUNED, Architecture, Budget, prices
from prunus.engine.network import InputStage, SlotKind

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

EPOCHS = 10
SCHEMA = Schema(tuple(f"f{i}" for i in range(30)))


def costs_of(budget: Budget) -> Costs:
    """Make costs with 30 inputs and a time model in round numbers."""
    one = np.ones(30, np.float32)
    kind = np.where(np.arange(30) % 2, SlotKind.LOG, SlotKind.VALUE)
    inputs = InputStage(np.arange(30), kind, 0 * one, one, -5 * one, 5 * one, 0 * one)
    latency = round_numbers()
    price = prices(inputs, budget, latency, SCHEMA)
    return Costs(budget, inputs, SCHEMA, price, latency, np.zeros((1, 30), np.float32), None, 512)


def trial(number: int, valid: float, cost: float, *, stopped: bool = False, kind: Any = "dense") -> Searched:
    """Make a trial whose quality rises over ten epochs."""
    history = [valid * (0.9 + 0.01 * epoch) for epoch in range(1, EPOCHS + 1)]
    return Searched(number, Architecture(kind, (8,), cost), valid, cost, stopped, history)


class Trainer:
    """Stands in for training: quality grows with the target, and each epoch is told to the callbacks."""

    def __init__(self, clock: Any = None) -> None:
        self.trained: list[Architecture] = []
        self.clock = clock

    def __call__(self, architecture: Architecture, callbacks: Sequence[Any]) -> tuple[Any, float]:
        """Train."""
        self.trained.append(architecture)
        best = 0.5 + 0.1 * np.tanh(architecture.target) - (0.2 if architecture.widths[0] % 2 else 0.0)
        loop = SimpleNamespace(history=[], epoch=0)
        for epoch in range(1, EPOCHS + 1):
            loop.epoch = epoch
            loop.history.append({"epoch": epoch, "valid": best * epoch / EPOCHS})
            if self.clock is not None:
                self.clock()
            for callback in callbacks:
                callback.on_epoch(loop)
        return SimpleNamespace(valid=best, history=loop.history), architecture.target


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give a clock that moves by a second each time it is wound, so that no test waits."""
    now = itertools.count()
    state = [0.0]

    def wind() -> None:
        state[0] = float(next(now))

    monkeypatch.setattr("prunus.compress.search.time", SimpleNamespace(monotonic=lambda: state[0]))
    return wind


@pytest.mark.parametrize("seed", range(5))
def test_nothing_beats_the_frontier(seed: int) -> None:
    """No trial is at once better and cheaper than one on the frontier, and every other one is beaten by one on it."""
    rng = np.random.default_rng(seed)
    trials = [
        trial(i, float(rng.random()), float(rng.integers(1, 20)), stopped=bool(rng.random() < 0.2)) for i in range(40)
    ]
    kept = frontier(trials)
    for one in (t for t in trials if not t.stopped):
        beaten = any(k.cost <= one.cost and k.valid >= one.valid for k in kept)
        assert beaten
        if one in kept:
            assert not any(k.cost <= one.cost and k.valid > one.valid for k in kept)
    assert not any(k.stopped for k in kept)
    assert [k.cost for k in kept] == sorted(k.cost for k in kept)


@pytest.mark.parametrize(
    ("kind", "target", "last", "epoch", "expected"),
    [
        ("dense", 1.0, 0.40, 5, True),  # far behind one that costs as much
        ("dense", 0.5, 0.40, 5, False),  # nothing as cheap is known
        ("dense", 1.0, 0.569, 5, False),  # behind by less than two seeds differ
        ("dense", 1.0, 0.40, 2, False),  # too early to say
        ("dense", 1.0, 0.40, 10, False),  # done anyway
        ("sparse", 1.0, 0.40, 6, False),  # its masks move: it is compared with nothing yet
        ("sparse", 1.0, 0.40, 8, False),  # no pruned student is known
        ("int8", 1.0, 0.40, 5, True),
    ],
)
def test_who_is_behind(kind: str, target: float, last: float, epoch: int, *, expected: bool) -> None:
    """A student is stopped where another one that costs no more was clearly better at the same epoch."""
    other = trial(0, 0.6, 1.0)
    history = [last] * epoch
    assert behind(kind, target, history, EPOCHS, [other]) is expected
    assert not behind(kind, target, history, EPOCHS, [trial(0, 0.6, 1.0, stopped=True)])


def test_students_that_are_pruned_are_compared_with_their_like() -> None:
    """Once the masks stand, a block student may be behind a sparse one."""
    assert behind("block", 1.0, [0.4] * 8, EPOCHS, [trial(0, 0.6, 1.0, kind="sparse")])


@pytest.mark.parametrize("text", ["0.1us", "1us@20", "30KB"])
def test_every_proposal_may_keep_its_target(text: str, tmp_path: Path, clock: Any) -> None:
    """What is trained is predicted to fit, no design is trained twice, and no kind has every turn."""
    costs = costs_of(Budget.parse(text))
    trainer = Trainer(clock)
    search = Search(tmp_path / "journal", costs, seed=1, epochs=EPOCHS)
    search.run(220.0, trainer)
    assert len(trainer.trained) > 15
    assert len({a.spelled for a in trainer.trained}) == len(trainer.trained)
    assert len({a.kind for a in trainer.trained}) >= len(KINDS) - 1
    for one in trainer.trained:
        assert one.target <= 1.31 * costs.budget.total
        assert (one.kind in PRUNED) == (one.kind in ("sparse", "block"))
    found = search.trials()
    assert [t.architecture for t in found] == trainer.trained[: len(found)]
    assert any(t.stopped for t in found)
    assert all(t.stopped or t.valid == t.history[-1] for t in found)


def test_a_search_goes_on_where_it_was(tmp_path: Path, clock: Any) -> None:
    """A second process sees the trials of the first, and proposes others."""
    costs = costs_of(Budget(0.2))
    first = Trainer(clock)
    Search(tmp_path / "journal", costs, seed=1, epochs=EPOCHS).run(100.0, first)
    second = Trainer(clock)
    search = Search(tmp_path / "journal", costs, seed=1, epochs=EPOCHS)
    before = len(search.trials())
    assert before >= 5
    search.run(200.0, second)
    assert len(search.trials()) > before
    finished = {t.architecture.spelled for t in search.trials()[:before]}
    assert not finished & {a.spelled for a in second.trained}


def test_what_a_dead_process_was_training_is_trained_first(tmp_path: Path, clock: Any) -> None:
    """The design of a trial whose process is gone is proposed again; that of a living one is left alone."""
    costs = costs_of(Budget(0.2))

    class KilledError(BaseException):
        """Stands for a signal."""

    def killed(architecture: Architecture, callbacks: Sequence[Any]) -> Any:
        del callbacks
        lost.append(architecture)
        raise KilledError

    for owner_lives in (False, True):
        journal = tmp_path / f"journal-{owner_lives}"
        lost: list[Architecture] = []
        search = Search(journal, costs, seed=3, epochs=EPOCHS)
        pid = os.getpid() if owner_lives else gone()
        search._owner = f"{platform.node()} {pid}"
        with pytest.raises(KilledError):
            search.run(100.0, killed)
        trainer = Trainer(clock)
        Search(journal, costs, seed=3, epochs=EPOCHS).run(30.0, trainer)
        assert (trainer.trained[0] == lost[0]) is not owner_lives


def gone() -> int:
    """Return the number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_time_ends_a_training_between_two_epochs(tmp_path: Path, clock: Any) -> None:
    """What is under way when the time is up does not count as a trial."""
    search = Search(tmp_path / "journal", costs_of(Budget(0.2)), seed=0, epochs=EPOCHS)
    trainer = Trainer(clock)
    search.run(float(EPOCHS) + 3.5, trainer)
    assert len(trainer.trained) == 2
    assert len(search.trials()) == 1


def test_a_budget_that_allows_nothing_ends_the_search(tmp_path: Path) -> None:
    """Where every proposal is ruled out the search gives up instead of running on."""
    costs = costs_of(Budget(0.2))
    search = Search(tmp_path / "journal", costs, seed=0, epochs=EPOCHS)
    costs.budget = Budget(1e-6)
    trainer = Trainer()
    search.run(1e9, trainer)
    assert trainer.trained == []


def test_stopping_says_why() -> None:
    """Behind the frontier is not out of time."""
    assert Stopped(behind=True).behind
    assert not Stopped(behind=False).behind
