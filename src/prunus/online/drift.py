"""When a stream has changed: River's detectors on the master's loss, and on the gap of the sparse model to it.

Both take one number a batch. The **loss** is the master's mean log-loss (ADWIN: its mean over a window that shrinks when
the two ends of it differ). The **gap** is the mean of the paired difference of the two models' log-losses (Page-Hinkley:
the sum of what lies above the mean, less an allowance). Either is first divided by the spread of its first numbers, so
that no setting has a unit, and the same ones hold for any share of clicks.
"""

from __future__ import annotations

import importlib.util
import math
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from prunus.extras import need

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

RANGE = 8.0
"""Spreads that ADWIN's bound, which is for numbers from 0 to 1, takes as its range: four to either side."""


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
            # Numbers that did not vary have no spread to go by: they are taken as they are.
            self._spread = statistics.stdev(self._seen) or 1.0
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
        delta: of ADWIN: the chance, by its bound, that it calls a change where there is none.
        allowance: of Page-Hinkley: spreads by which a gap may stand above its mean and not count.
        threshold: of Page-Hinkley: sum of spreads above which a gap has grown.
        learn: batches from which a spread is learned; after a new pattern the gap's is learned anew.
    """

    def __init__(
        self, *, delta: float = 0.002, allowance: float = 0.15, threshold: float = 25.0, learn: int = 50
    ) -> None:
        ADWIN, PageHinkley = _river("adwin", "ADWIN"), _river("page_hinkley", "PageHinkley")
        self._loss = Watch(lambda: _Scaled(ADWIN(delta=delta), 1 / RANGE), learn)
        self._gap = Watch(
            # alpha forgets the sum over some thousand batches: a slow trend still counts, an old one does not.
            lambda: PageHinkley(min_instances=learn, delta=allowance, threshold=threshold, alpha=0.9999, mode="up"),
            learn,
        )

    def loss(self, value: float) -> bool:
        """Take the master's mean log-loss of a batch, in nats, and say whether it has changed."""
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


def _river(module: str, name: str) -> Any:  # noqa: ANN401 - River's classes share no type of ours
    """Give a detector from its own file: its package imports data sets, and SQLAlchemy, pandas and scikit-learn, for 1.5 s."""
    root = Path(need("river", extra="stream").__path__[0])
    spec = importlib.util.spec_from_file_location(f"river.drift.{module}", root / "drift" / f"{module}.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return getattr(found, name)


class _Scaled:
    """A detector that sees numbers times a factor."""

    def __init__(self, detector: Detector, factor: float) -> None:
        self._detector, self._factor = detector, factor

    @property
    def drift_detected(self) -> bool:
        """Whether the last number told of a change."""
        return self._detector.drift_detected

    def update(self, x: float) -> None:
        """Take one number."""
        self._detector.update(self._factor * x)
