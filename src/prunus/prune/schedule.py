"""When to prune, and how far: the cubic schedule of gradual pruning."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CubicSchedule:
    """From everything to the target along 1 - (1 - u)^3, u the share of the pruning steps done.

    Attributes:
        start: first step that prunes.
        end: step at which the target is reached.
        every: steps between two prunings.

    References:
        Zhu and Gupta 2017, "To prune, or not to prune", arXiv 1710.01878, equation 1.
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

    def due(self, step: int) -> bool:
        """Whether masks are chosen anew after ``step`` (steps count from 0; the end is always due)."""
        return step == self.end or (self.start <= step < self.end and (step - self.start) % self.every == 0)

    def level(self, step: int, initial: float, target: float) -> float:
        """The level to reach at ``step``: ``initial`` until the start, ``target`` from the end.

        Args:
            step: of training.
            initial: level before pruning (a cost, or a density).
            target: level after it.
        """
        u = min(max((step - self.start) / (self.end - self.start), 0.0), 1.0)
        return target + (initial - target) * (1.0 - u) ** 3
