"""When to prune, and how far: the cubic schedule of gradual pruning, the exponential and the linear one of tickets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class Schedule(ABC):
    """The steps at which masks are chosen anew.

    Attributes:
        start: first step that prunes.
        end: step at which the target is reached.
        every: steps between two prunings.
    """

    start: int
    end: int
    every: int

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end or self.every < 1:
            msg = (
                f"got start {self.start}, end {self.end}, every {self.every}; expected 0 <= start < end and every >= 1"
            )
            raise ValueError(msg)

    @classmethod
    def stepwise(cls, rounds: int, every: int) -> Self:
        """Prune ``rounds`` times, ``every`` steps apart; the last pruning reaches the target."""
        if rounds < 1 or every < 1:
            msg = f"got {rounds} rounds of {every} steps; expected at least 1 of each"
            raise ValueError(msg)
        return cls(start=0, end=rounds * every, every=every)

    def due(self, step: int) -> bool:
        """Whether masks are chosen anew after ``step`` (steps count from 0; the end is always due)."""
        return step == self.end or (self.start <= step < self.end and (step - self.start) % self.every == 0)

    def _done(self, step: int) -> float:
        """Share of the pruning steps done, in [0, 1]."""
        return min(max((step - self.start) / (self.end - self.start), 0.0), 1.0)

    @abstractmethod
    def level(self, step: int, initial: float, target: float) -> float:
        """The level to reach at ``step``: ``initial`` until the start, ``target`` from the end.

        Args:
            step: of training.
            initial: level before pruning (a cost, or a density).
            target: level after it.
        """


@dataclass(frozen=True)
class CubicSchedule(Schedule):
    """From everything to the target along 1 - (1 - u)^3, u the share of the pruning steps done.

    Attributes:
        start: first step that prunes.
        end: step at which the target is reached.
        every: steps between two prunings.

    References:
        Zhu and Gupta 2017, "To prune, or not to prune", arXiv 1710.01878, equation 1.
    """

    def level(self, step: int, initial: float, target: float) -> float:
        """See :meth:`Schedule.level`."""
        return target + (initial - target) * (1.0 - self._done(step)) ** 3


@dataclass(frozen=True)
class ExponentialSchedule(Schedule):
    """Each pruning removes the same share of what is left: initial (target / initial)^u, u as above.

    Pruned after every epoch this is the smooth schedule of Compressed ELSA. Pruned a few times, each after a whole
    training, it is iterative magnitude pruning: the stepwise schedule of the lottery ticket papers.

    Attributes:
        start: first step that prunes.
        end: step at which the target is reached.
        every: steps between two prunings.

    References:
        Compressed ELSA, arXiv 2602.09935; Frankle and Carbin 2019, arXiv 1803.03635.
    """

    def level(self, step: int, initial: float, target: float) -> float:
        """See :meth:`Schedule.level`; both levels above 0."""
        return float(initial * (target / initial) ** self._done(step))


@dataclass(frozen=True)
class LinearSchedule(Schedule):
    """Each pruning removes the same share of what there was at first: initial + (target - initial) u, u as above.

    Sixty per cent of the weights in steps of five: twelve prunings, as arXiv 2401.10484 has it.

    Attributes:
        start: first step that prunes.
        end: step at which the target is reached.
        every: steps between two prunings.
    """

    def level(self, step: int, initial: float, target: float) -> float:
        """See :meth:`Schedule.level`."""
        return initial + (target - initial) * self._done(step)
