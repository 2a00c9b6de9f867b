"""Learned masks on a stream: a rule for a net that learns on its own (:mod:`prunus.prune.learned`, a stand-in)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from prunus.online.dense_to_sparse.patterns import largest
from prunus.prune.learned import LearnedMasks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from prunus.prune.learned import Surrogate
    from prunus.student.ctr import ClickNet


@dataclass
class Learned:
    """Masks by learned scores; weights go on learning while they are masked, and decay.

    The price keeps the number of standing weights near the budget, not at it: of those too many, the lowest scores are
    masked as well.

    Attributes:
        n_kept: the budget, weights that stand in all layers.
        ramp: steps in which the number of weights may fall to the budget.
        decay: as of :class:`~prunus.online.dense_to_sparse.rules.StraightThrough`.
        surrogate: of the step.
        rate: of the scores.
    """

    n_kept: int
    ramp: int = 60
    decay: float = 1e-3
    surrogate: Surrogate = "softplus"
    rate: float = 0.02
    every: int = 1
    forgets: bool = False
    prunes: bool = True
    _learned: LearnedMasks | None = field(default=None, init=False, repr=False)

    def begin(self, net: ClickNet, seed: int) -> list[Tensor]:
        """Let all stand."""
        del seed
        self._learned = LearnedMasks(net.hidden, self.n_kept, rate=self.rate, surrogate=self.surrogate)
        return [torch.ones_like(weight) for weight in net.hidden]

    def choose(self, net: ClickNet, masks: list[Tensor], gradients: Sequence[Tensor], step: int) -> list[Tensor]:
        """Learn the scores of the last step, and give the masks that follow."""
        assert self._learned is not None
        if gradients:
            self._learned.learn([weight.detach() for weight in net.hidden], gradients)
        size = sum(mask.numel() for mask in masks)
        left = max((1.0 - step / max(self.ramp, 1)) ** 3, 0.0) if step < self.ramp else 0.0
        most = int(self.n_kept + (size - self.n_kept) * left)
        if self._learned.n_standing <= most:
            return self._learned.masks()
        lowest = min(float(score.min()) for score in self._learned.scores)
        return largest([score - lowest for score in self._learned.scores], most)

    def gradient(self, weight: Tensor, mask: Tensor, gradient: Tensor) -> Tensor:
        """G, and the decay of what is masked."""
        return gradient.addcmul(weight, 1.0 - mask, value=self.decay)

    def state(self) -> dict[str, Any]:
        """Give the scores and their price."""
        assert self._learned is not None
        return self._learned.state()

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        assert self._learned is not None
        self._learned.load(state)
