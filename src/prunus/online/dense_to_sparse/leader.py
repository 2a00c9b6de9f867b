"""Which of several models speaks: the one that scored best of late, judged on labels that none of them had seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

WORST = 20.0
"""Nats that a batch's mean loss counts for at most: one that is far above must be forgotten like others."""


class Leader:
    """Follows the leader, with a memory: the model with the least discounted log-loss speaks next.

    After each batch ``loss <- memory loss + (1 - memory) (mean log-loss of the batch)``, for each model; of equal ones the first
    leads. Two models are told apart on the same events, so what these have in common does not count.

    Args:
        n: models.
        memory: share of the discounted losses that a batch keeps, in [0, 1): long where the leader seldom changes, short
            where it must change as soon as the stream does.

    Attributes:
        best: number of the one that leads.

    References:
        Herbster and Warmuth 1998, "Tracking the best expert" (why the past must be forgotten where the best one changes).
    """

    def __init__(self, n: int, memory: float) -> None:
        self._memory = memory
        self._losses = torch.zeros(n)
        self.best = 0

    def judge(self, losses: Sequence[Tensor]) -> None:
        """Take in how the models did on a batch, now that its labels are known; nothing where no loss is a number.

        A loss that is none, where others are, counts as :data:`WORST`: a model that ran away must not lead for ever.

        Args:
            losses: mean log-loss of each.
        """
        batch = torch.stack(list(losses))
        if batch.isfinite().any():
            batch = batch.nan_to_num(nan=WORST, posinf=WORST).clamp(max=WORST)
            self._losses.lerp_(batch, 1 - self._memory)
            self.best = int(self._losses.argmin())

    def sound(self, within: float) -> list[bool]:
        """Say of each model whether its discounted loss is at most so many times the least one: not by one batch, which chance decides."""
        found: list[bool] = (self._losses <= within * self._losses.min()).tolist()
        return found

    def state(self) -> dict[str, Any]:
        """Give all that a later choice depends on, copied."""
        return {"losses": self._losses.clone(), "best": self.best}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self._losses, self.best = state["losses"].clone(), state["best"]
