"""Search: train the designs that a time model allows, one after the other, until the time is up.

Two objectives, quality on validation data (the larger the better) and predicted cost (the smaller the better), and
Optuna's multi-objective tree-structured Parzen estimator proposes what to train next. What is predicted to miss its
target is ruled out before it is trained; what falls behind the frontier while it trains is stopped. The journal lies in
the run's work folder: a killed search goes on, and several processes that run the same command share one search.

References:
    Ozaki et al. 2022, "Multiobjective Tree-Structured Parzen Estimator", JAIR 73.
"""

from __future__ import annotations

import logging
import os
import platform
import time
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from prunus.design import PRUNED, Architecture, dense_cost, halving, largest_dense, ruled_out
from prunus.extras import need

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from prunus.compress.measure import Costs
    from prunus.compress.training import Trained
    from prunus.design import Kind
    from prunus.distill.loop import Callback, Loop

KINDS: Final[tuple[Kind, ...]] = ("sparse", "dense", "int8", "block")

RATIOS: Final = (0.25, 0.5, 1.0)
"""Width of a hidden layer, as a share of the one before."""

LAYERS: Final = (1, 3)
"""Hidden layers, least and most."""

START_WIDTHS: Final = (16, 512)
"""First hidden layer of a student that is pruned, before it is, least and most."""

TARGETS: Final = (0.2, 1.3)
"""Targets that are searched, as shares of the budget: below it for the frontier, a little above to see what that brings."""

RULED_OUT_IN_A_ROW: Final = 60
"""Proposals that may be ruled out one after the other before the search gives up: the budget allows next to nothing."""

STARTUP: Final = 10
"""Random trials before the estimator proposes."""

STOP_FROM: Final = {"dense": 0.3, "int8": 0.3, "sparse": 0.7, "block": 0.7}
"""Share of the epochs before which nothing is stopped. Until the masks stand, students that will be pruned are as good as
the wide networks that they still are, and say nothing of what will be left of them."""

SLACK: Final = 0.01
"""How far behind a student may be at its first epoch, as a share of the other's quality; less and less towards the last,
where it is a tenth of this. On globo_ltr two seeds of one design differ by about 0.002 at the end."""


class Stopped(Exception):  # noqa: N818 - no error: the trial is behind the frontier, or the time is up
    """Ends a training between two epochs; its checkpoint stays."""

    def __init__(self, *, behind: bool) -> None:
        """Say why: behind the frontier, or out of time."""
        super().__init__(behind)
        self.behind = behind


@dataclass(frozen=True)
class Searched:
    """One trial.

    Attributes:
        number: of the trial, from 0.
        architecture: what was trained.
        valid: validation quality: of the best epoch, or of the last one where it was stopped.
        cost: predicted, in the budget's unit; the target where it was stopped.
        stopped: whether it fell behind the frontier and was not trained to the end.
        history: validation quality by epoch.
    """

    number: int
    architecture: Architecture
    valid: float
    cost: float
    stopped: bool
    history: list[float]

    def to_json(self) -> dict[str, Any]:
        """Return plain values, for result.json."""
        return {
            "number": self.number,
            "name": self.architecture.name,
            "kind": self.architecture.kind,
            "target": self.architecture.target,
            "valid": self.valid,
            "predicted": self.cost,
            "stopped": self.stopped,
            "epochs": len(self.history),
        }


def frontier(trials: Sequence[Searched]) -> list[Searched]:
    """Keep the trials that no other one beats in both quality and cost, the cheapest first; stopped ones are left out."""
    found: list[Searched] = []
    for trial in sorted((t for t in trials if not t.stopped), key=lambda t: (t.cost, -t.valid)):
        if not found or trial.valid > found[-1].valid:
            found.append(trial)
    return found


def behind(kind: str, target: float, history: Sequence[float], epochs: int, others: Sequence[Searched]) -> bool:
    """Say whether a student is behind the frontier at its last epoch.

    Args:
        kind: of the student.
        target: what it is to cost.
        history: validation quality by epoch, so far.
        epochs: of a whole training.
        others: trials that were trained to the end.

    Returns:
        Whether some other trial that costs no more was better at the same epoch, by more than the slack.
    """
    share = len(history) / epochs
    if share < STOP_FROM[kind] or share >= 1.0:
        return False
    slack = 1.0 - SLACK * (1.0 - 0.9 * share)
    pruned = kind in PRUNED
    return any(
        other.cost <= target
        and (other.architecture.kind in PRUNED) == pruned
        and len(other.history) >= len(history)
        and history[-1] < other.history[len(history) - 1] * slack
        for other in others
        if not other.stopped
    )


class _Watch:
    """Tells the study how a training goes, and ends it where it falls behind or the time is up."""

    def __init__(self, search: Search, architecture: Architecture, epochs: int, deadline: float) -> None:
        self.search, self.architecture, self.epochs, self.deadline = search, architecture, epochs, deadline
        self.history: list[float] = []

    def on_step(self, loop: Loop) -> None:
        """Leave steps alone."""

    def on_epoch(self, loop: Loop) -> None:
        """Look at the last epoch."""
        self.history = [float(record["valid"]) for record in loop.history]
        others = self.search.trials()
        if behind(self.architecture.kind, self.architecture.target, self.history, self.epochs, others):
            raise Stopped(behind=True)
        if time.monotonic() > self.deadline and loop.epoch < self.epochs:
            raise Stopped(behind=False)


class Search:
    """A search that is kept in a journal; see the module."""

    def __init__(self, journal: Path, costs: Costs, *, seed: int, epochs: int) -> None:
        """Open a search, or begin one.

        Args:
            journal: file of the search; made if it is not there.
            costs: budget, inputs, prices and time model.
            seed: of the proposals; the number of trials so far is mixed in, so that a resumed search does not repeat itself.
            epochs: of a whole training.
        """
        optuna = need("optuna", extra="train")
        logging.getLogger("optuna").setLevel(logging.WARNING)
        storage = need("optuna.storages", extra="train")
        backend = need("optuna.storages.journal", extra="train").JournalFileBackend(str(journal))
        self._optuna, self._costs, self._epochs = optuna, costs, epochs
        self._study = optuna.create_study(
            study_name="ranker",
            storage=storage.JournalStorage(backend),
            directions=["maximize", "minimize"],
            load_if_exists=True,
        )
        so_far = len(self._study.trials)
        with warnings.catch_warnings():
            # Optuna calls these three options experimental; the version is pinned, and none of them is in its files.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._study.sampler = optuna.samplers.TPESampler(
                seed=(seed * 10_007 + so_far) % 2**31,
                n_startup_trials=STARTUP,
                multivariate=True,
                group=True,
                constant_liar=True,
            )
        self._owner = f"{platform.node()} {os.getpid()}"
        self._give_back()

    def _give_back(self) -> None:
        """Propose again what a process that is no more was training."""
        state = self._optuna.trial.TrialState
        for trial in self._study.get_trials(states=(state.RUNNING,)):
            node, _, pid = str(trial.user_attrs.get("owner", "")).rpartition(" ")
            if node == platform.node() and not _alive(int(pid)):
                self._study.tell(trial.number, state=state.FAIL)
                if "design" in trial.user_attrs:
                    self._study.enqueue_trial(trial.params)

    def trials(self) -> list[Searched]:
        """All trials that were trained, by any process, in the order of their numbers."""
        found = []
        for trial in self._study.get_trials(deepcopy=False, states=(self._optuna.trial.TrialState.COMPLETE,)):
            attributes = trial.user_attrs
            found.append(
                Searched(
                    trial.number,
                    Architecture.parse(attributes["design"]),
                    trial.values[0],
                    trial.values[1],
                    bool(attributes["stopped"]),
                    list(attributes["history"]),
                )
            )
        return found

    def _suggest(self, trial: Any) -> Architecture | None:  # noqa: ANN401 - an optuna Trial
        """Propose a design: its kind, depth and target; of a pruned one the width it starts at, else the target says it."""
        kind = trial.suggest_categorical("kind", KINDS)
        first: Literal["int8", "f32"] = "int8"
        n_layers = trial.suggest_int("layers", *LAYERS)
        if kind in ("int8", "block") and n_layers > 1:  # of a single hidden layer nothing would be int8
            first = trial.suggest_categorical("first", ("int8", "f32"))
        ratio = trial.suggest_categorical("ratio", RATIOS)
        costs, total = self._costs, self._costs.budget.total
        target = trial.suggest_float("target", TARGETS[0] * total, TARGETS[1] * total, log=True)
        if kind in PRUNED:
            widths = halving(trial.suggest_int("width", *START_WIDTHS, log=True), n_layers, ratio)
        else:
            found = largest_dense(
                costs.inputs, costs.budget, costs.latency, costs.schema,
                n_layers=n_layers, target=target, widest=START_WIDTHS[1], kind=kind, ratio=ratio,
            )  # fmt: skip
            if found is None:
                return None
            widths = found
        proposed = Architecture(kind, widths, float(f"{target:.4g}"), first)
        if kind not in PRUNED:
            proposed = Architecture(kind, widths, float(f"{self._whole_cost(proposed) * 1.001:.4g}"), first)
        price = costs.prices_of(kind)
        why = ruled_out(proposed, costs.inputs, costs.budget, costs.latency, costs.schema, price)
        return None if why else proposed

    def _whole_cost(self, architecture: Architecture) -> float:
        costs = self._costs
        return dense_cost(
            costs.inputs, architecture.widths, costs.budget, costs.latency, costs.schema, architecture.kind
        )

    def run(
        self,
        seconds: float,
        train: Callable[[Architecture, Sequence[Callback]], tuple[Trained, float]],
        told: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Train designs until the time is up.

        Args:
            seconds: to spend; a training that is under way then is stopped after its epoch.
            train: trains a design with these callbacks; returns the student and its predicted cost.
            told: told which trial begins.
        """
        state = self._optuna.trial.TrialState
        deadline = time.monotonic() + seconds
        refused = 0
        while time.monotonic() < deadline and refused < RULED_OUT_IN_A_ROW:
            trial = self._study.ask()
            trial.set_user_attr("owner", self._owner)
            design = self._suggest(trial)
            known = {t.architecture.spelled for t in self.trials()}
            if design is None or design.spelled in known:
                self._study.tell(trial, state=state.FAIL)
                refused += 1
                continue
            refused = 0
            trial.set_user_attr("design", design.spelled)
            told(f"search, trial {trial.number}: {design.name}")
            watch = _Watch(self, design, self._epochs, deadline)
            try:
                trained, cost = train(design, [watch])
            except Stopped as why:
                if not why.behind:
                    self._study.tell(trial, state=state.FAIL)
                    return
                valid, cost = watch.history[-1], design.target
                trial.set_user_attr("stopped", value=True)
            else:
                valid, watch.history = trained.valid, [float(record["valid"]) for record in trained.history]
                trial.set_user_attr("stopped", value=False)
            trial.set_user_attr("history", watch.history)
            self._study.tell(trial, [valid, cost])


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
