"""Gradual pruning while training: a callback that chooses the masks anew, a little smaller each time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from prunus.prune.blocks import order_by_likeness
from prunus.prune.magnitude import cost, saliency, select
from prunus.prune.mask import Mask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from prunus.distill.loop import Loop
    from prunus.latency import Prices
    from prunus.prune.schedule import CubicSchedule
    from prunus.student.mlp import MLP

DRAWS, DOCUMENTS = 6, 4096
"""Backward passes for an estimate of the curvature, and documents in each."""


def gauss_newton(model: MLP, z: Tensor, *, seed: int) -> list[NDArray[np.float32]]:
    """Estimate mean over documents of (d score / d w)^2 for every weight.

    With random signs e, E[(d sum_i e_i s_i / d w)^2] = sum_i (d s_i / d w)^2: one backward pass sums the squares over a
    batch (Hutchinson's estimator), and a few draws make it steady.

    Args:
        model: the student.
        z: float32 [n, n_inputs], staged documents to draw from.
        seed: of documents and signs.

    Returns:
        float32 [n_outputs, n_inputs] for each layer.
    """
    generator = torch.Generator().manual_seed(seed)
    weights = [layer.weight for layer in model.linears]
    total = [torch.zeros_like(w) for w in weights]
    for _ in range(DRAWS):
        rows = torch.randint(0, len(z), (DOCUMENTS,), generator=generator)
        signs = torch.randint(0, 2, (DOCUMENTS,), generator=generator) * 2.0 - 1.0
        gradients = torch.autograd.grad((model(z[rows]) * signs).sum(), weights)
        torch._foreach_add_(total, [gradient.detach() ** 2 for gradient in gradients])
    return [(sums / (DOCUMENTS * DRAWS)).numpy() for sums in total]


def reorder(loop: Loop, hidden: int, order: NDArray[np.int64]) -> None:
    """Put the units of a hidden layer in another order; the student computes the same function.

    Everything that belongs to a unit moves with it: its row, its bias, its column in the next layer, their masks, the
    optimiser's moments of them and their averages.

    Args:
        loop: whose student, optimiser and averages are changed in place.
        hidden: number of the layer.
        order: int64 [n_units], a permutation: the unit that stands at each place afterwards.
    """
    model, index = loop.model, torch.from_numpy(order)
    row, column = model.linears[hidden], model.linears[hidden + 1]
    moves = [(row.weight, 0), (row.bias, 0), (column.weight, 1)]
    averages = {id(parameter): value for parameter, value in zip(model.parameters(), loop.averaged, strict=True)}
    tensors = [(model.masks[hidden], 0), (model.masks[hidden + 1], 1)]
    for parameter, axis in moves:
        tensors += [(parameter.data, axis), (averages[id(parameter)], axis)]
        state = loop.optimizer.state[parameter]
        tensors += [(value, axis) for value in state.values() if value.shape == parameter.shape]
    for tensor, axis in tensors:
        tensor.copy_(tensor.index_select(axis, index))


class GradualPruning:
    """Prunes every layer of the student in training along a schedule, down to a target cost.

    Stateless between steps: masks live in the student and draws are seeded by the step, so a resume needs no more.
    """

    def __init__(
        self,
        schedule: CubicSchedule,
        prices: Prices,
        target: float,
        grains: Sequence[int] | None = None,
        *,
        by_likeness: bool = False,
    ) -> None:
        """Set up.

        Args:
            schedule: when, and how far.
            prices: of the network's parts.
            target: cost to reach, in the unit of the prices.
            grains: for each layer, how many neighbouring inputs go together, 1 or 4; None for 1 everywhere.
            by_likeness: whether hidden units that are read by blocks are first put beside those that matter to the
                same outputs. It gained nothing on globo_ltr: units that start in one block learn to share it.
        """
        self.schedule, self.prices, self.target = schedule, prices, target
        self.grains, self.by_likeness = grains, by_likeness

    def on_step(self, loop: Loop) -> None:
        """Choose new masks where the schedule says so."""
        if not self.schedule.due(loop.step):
            return
        model = loop.model
        dense = cost(self.prices, [np.ones(mask.shape, np.bool_) for mask in model.masks], self.grains)
        level = self.schedule.level(loop.step, dense, self.target)
        weights = [layer.weight for layer in model.linears]
        scores = self._scores(loop)
        if loop.step == self.schedule.start and self.by_likeness and self.grains is not None:
            for number, grain in enumerate(self.grains[1:]):
                if grain > 1:
                    order = order_by_likeness(scores[number + 1])
                    reorder(loop, number, order)
                    scores[number], scores[number + 1] = scores[number][order], scores[number + 1][:, order]
        kept = select(scores, [mask.numpy() > 0 for mask in model.masks], self.prices, level, self.grains)
        with torch.no_grad():
            for buffer, mask, weight in zip(model.masks, map(Mask, kept), weights, strict=True):
                buffer.copy_(torch.from_numpy(mask.kept))
                weight.mul_(buffer)

    def _scores(self, loop: Loop) -> list[NDArray[np.float64]]:
        """Saliency of every weight of the student as it is."""
        curvatures = gauss_newton(loop.model, loop.data.z, seed=loop.step)
        return saliency([layer.weight.detach().numpy() for layer in loop.model.linears], curvatures)

    def on_epoch(self, loop: Loop) -> None:
        """Forget the best epoch while the masks still move: it was another network."""
        if loop.step <= self.schedule.end:
            loop.forget_best()
