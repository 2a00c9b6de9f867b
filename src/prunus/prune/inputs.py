"""Whole inputs of a student that keeps its weights: in what order they can be spared.

A dense layer has no weights to prune one by one, but an input that it does not read costs neither its place in the input
stage nor its column of weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from prunus.distill.loop import Loop
    from prunus.student.mlp import MLP

DOCUMENTS = 16_384
"""Documents that an estimate is taken from."""


def input_saliency(model: MLP, z: Tensor, *, seed: int) -> NDArray[np.float64]:
    """Estimated rise of the squared error to the teacher when an input is held at its mean: 1/2 E[((z_j - m_j) ds/dz_j)^2].

    Args:
        model: the student.
        z: float32 [n, n_inputs], staged documents to draw from.
        seed: of the draw.

    Returns:
        float64 [n_inputs].

    References:
        LeCun, Denker, Solla 1990, "Optimal Brain Damage": its expansion, of the input instead of a weight.
    """
    rows = torch.randint(0, len(z), (DOCUMENTS,), generator=torch.Generator().manual_seed(seed))
    inputs = z[rows].requires_grad_()
    (slope,) = torch.autograd.grad(model(inputs).sum(), inputs)
    moved = (inputs.detach() - inputs.detach().mean(0)) * slope
    return np.asarray(0.5 * moved.square().mean(0).double().numpy())


class InputElimination:
    """Takes the inputs from a student in training, one after the other, until one is left; the rest learns on each time.

    Between its first and its last step the number of inputs falls geometrically, so the early, easy ones go quickly. At
    each step those go that lose the least for the time they cost.

    Attributes:
        order: inputs that are gone, the first to go first.
    """

    def __init__(self, start: int, end: int, price: NDArray[np.float64]) -> None:
        """Set up.

        Args:
            start: step after which the first inputs go.
            end: step after which one input is left.
            price: float64 [n_inputs], time or bytes that an input costs.
        """
        self.start, self.end, self.price = start, max(end, start + 1), price
        self.order: list[int] = []

    @property
    def importance(self) -> list[int]:
        """All inputs, the most important one first: those that stand, then the others from the last that went to the first."""
        gone = set(self.order)
        return [slot for slot in range(len(self.price)) if slot not in gone] + self.order[::-1]

    def on_step(self, loop: Loop) -> None:
        """Take as many inputs as the schedule says."""
        done = min(max((loop.step - self.start) / (self.end - self.start), 0.0), 1.0)
        n = len(self.price)
        surplus = n - len(self.order) - round(n ** (1.0 - done))
        if surplus <= 0:
            return
        value = input_saliency(loop.model, loop.data.z, seed=loop.step) / self.price
        value[self.order] = np.inf
        gone = np.argsort(value, kind="stable")[:surplus]
        self.order.extend(gone.tolist())
        with torch.no_grad():
            columns = torch.from_numpy(gone)
            loop.model.masks[0][:, columns] = 0.0
            loop.model.linears[0].weight[:, columns] = 0.0

    def on_epoch(self, loop: Loop) -> None:
        """Forget the best epoch: it was a student of more inputs."""
        loop.forget_best()
