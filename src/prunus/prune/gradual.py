"""Gradual pruning while training: a callback that chooses the masks anew, a little smaller each time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from prunus.prune.magnitude import cost, saliency, select

if TYPE_CHECKING:
    from prunus.distill.loop import Loop
    from prunus.latency import Prices
    from prunus.prune.schedule import CubicSchedule


class GradualPruning:
    """Prunes every layer of the student in training along a schedule, down to a target cost.

    Stateless between steps: masks live in the student and second moments in its optimiser, so a resume needs no more.
    """

    def __init__(self, schedule: CubicSchedule, prices: Prices, target: float) -> None:
        """Set up.

        Args:
            schedule: when, and how far.
            prices: of the network's parts.
            target: cost to reach, in the unit of the prices.
        """
        self.schedule, self.prices, self.target = schedule, prices, target

    def on_step(self, loop: Loop) -> None:
        """Choose new masks where the schedule says so."""
        if not self.schedule.due(loop.step):
            return
        model = loop.model
        dense = cost(self.prices, [np.ones(mask.shape, np.bool_) for mask in model.masks])
        level = self.schedule.level(loop.step, dense, self.target)
        weights = [layer.weight for layer in model.linears]
        moments = [loop.optimizer.state[w]["exp_avg_sq"].numpy() for w in weights]
        scores = saliency([w.detach().numpy() for w in weights], moments)
        kept = select(scores, [mask.numpy() > 0 for mask in model.masks], self.prices, level)
        with torch.no_grad():
            for mask, new, weight in zip(model.masks, kept, weights, strict=True):
                mask.copy_(torch.from_numpy(new))
                weight.mul_(mask)

    def on_epoch(self, loop: Loop) -> None:
        """Forget the best epoch while the masks still move: it was another network."""
        if loop.step <= self.schedule.end:
            loop.forget_best()
