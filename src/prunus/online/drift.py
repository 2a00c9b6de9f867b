"""When a stream has changed: River's detectors on the master's loss, and on the gap of the sparse model to it.

Both take one number a batch, and tell when it has risen (Page-Hinkley: the sum of what lies above the mean, less an
allowance). The **loss** is the master's mean log-loss. The **gap** is the mean of the paired difference of the two models'
log-losses. Either is first divided by the spread of its first numbers about their neighbours, so that no setting has a
unit, the same ones hold for any share of clicks, and a model that learns fast in its first batches spreads nothing.
"""

from __future__ import annotations

import importlib.util
import itertools
import math
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from prunus.extras import need

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


LOSS, GAP = (0.4, 8.0), (0.15, 25.0)
"""Allowance and threshold of each watch, in spreads; chosen on the generator's drifts, see docs/streams.md."""


class Detector(Protocol):
    """What River's change detectors are to us."""

    @property
    def drift_detected(self) -> bool:
        """Whether the last number told of a change."""

    def update(self, x: float) -> None:
        """Take one number."""


class Watch:
    """A detector whose state is the numbers that it saw.

    River's detectors cannot be saved but as pickles, which nobody should load. Here the last numbers are kept, and a
    detector that sees them again is in the same state. Where there are ``2 * memory`` of them, the older half is forgotten
    and the detector made anew from the rest, so that a stream without end needs no memory without end.

    Args:
        make: makes a detector of numbers whose spread is 1.
        learn: numbers from which the spread is learned, at least 2; none of them alarms.
        memory: numbers that are remembered at least; not below ``learn``.
    """

    def __init__(self, make: Callable[[], Detector], learn: int, memory: int = 4096) -> None:
        self._make = make
        self._learn = learn
        self._memory = max(memory, learn)
        self.load(())

    def update(self, x: float) -> bool:
        """Take one number, and say whether the stream changed; a number that is not finite is left out."""
        if not math.isfinite(x):
            return False
        if len(self._seen) >= 2 * self._memory:
            self.load(self._seen[self._memory :])
        self._seen.append(x)
        if len(self._seen) < self._learn:
            return False
        if len(self._seen) == self._learn:
            # Half the mean square of differences is the variance of noise about any level that moves slowly (von Neumann
            # 1941). Numbers that did not vary have no spread to go by: they are taken as they are.
            squares = [(b - a) ** 2 for a, b in itertools.pairwise(self._seen)]
            self._spread = math.sqrt(statistics.fmean(squares) / 2) or 1.0
            for one in self._seen:
                self._detector.update(one / self._spread)
            return False
        self._detector.update(x / self._spread)
        return bool(self._detector.drift_detected)

    def reset(self) -> None:
        """Forget everything."""
        self.load(())

    def state(self) -> list[float]:
        """Give the numbers that a checkpoint needs."""
        return list(self._seen)

    def load(self, seen: Sequence[float]) -> None:
        """Go on from a state."""
        self._seen: list[float] = []
        self._spread = 1.0
        self._detector = self._make()
        for x in seen:
            self.update(float(x))


class Drift:
    """The two watches of a stream.

    Args:
        loss_allowance: spreads by which a loss may stand above its mean and not count.
        loss_threshold: sum of spreads above which it has risen.
        gap_allowance: of the gap, likewise.
        gap_threshold: of the gap, likewise.
        learn: batches from which a spread is learned; after a new pattern the gap's is learned anew.
    """

    def __init__(
        self,
        *,
        loss_allowance: float = LOSS[0],
        loss_threshold: float = LOSS[1],
        gap_allowance: float = GAP[0],
        gap_threshold: float = GAP[1],
        learn: int = 50,
    ) -> None:
        detector = _page_hinkley()

        def watch(allowance: float, threshold: float, after: int) -> Watch:
            # alpha forgets the sum over some thousand batches: a slow trend still counts, an old one does not.
            kind = {"min_instances": after, "delta": allowance, "threshold": threshold, "alpha": 0.9999, "mode": "up"}
            return Watch(lambda: detector(**kind), learn)

        self._loss = watch(loss_allowance, loss_threshold, min(learn, 30))
        self._gap = watch(gap_allowance, gap_threshold, learn)

    def loss(self, value: float) -> bool:
        """Take the master's mean log-loss of a batch, in nats, and say whether it has risen."""
        return self._loss.update(value)

    def gap(self, value: float) -> bool:
        """Take the mean paired difference of log-losses of a batch, in nats, and say whether it has grown."""
        return self._gap.update(value)

    def new_pattern(self) -> None:
        """Forget the gap: it belonged to another pattern."""
        self._gap.reset()

    def state(self) -> dict[str, list[float]]:
        """Give what a checkpoint needs."""
        return {"loss": self._loss.state(), "gap": self._gap.state()}

    def load(self, state: Mapping[str, Sequence[float]]) -> None:
        """Go on from a state."""
        self._loss.load(state["loss"])
        self._gap.load(state["gap"])


def _page_hinkley() -> Any:  # noqa: ANN401 - River's classes share no type of ours
    """Give River's detector from its own file: its package imports data sets, and SQLAlchemy, pandas and scikit-learn, for 1.5 s."""
    root = Path(need("river", extra="stream").__path__[0])
    spec = importlib.util.spec_from_file_location("river.drift.page_hinkley", root / "drift" / "page_hinkley.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found.PageHinkley
