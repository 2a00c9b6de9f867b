"""A click model that learns from a stream, and the running average of its weights, which is what scores.

On a stream there is no end towards which a learning rate could fall: the last batches shake the weights for ever. The
average of the weights over the last steps (Polyak and Juditsky 1992) is quieter and follows the drift all the same.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from prunus.errors import CheckpointError
from prunus.student.ctr import ClickNet
from prunus.student.ctr_optimiser import ClickOptimiser
from prunus.student.soap import step_flops

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from prunus.online.learner import Prepared
    from prunus.online.replay import Past
    from prunus.student.ctr import ClickShape
    from prunus.student.ctr_optimiser import Rule


@dataclass(frozen=True)
class Rates:
    """How, and how fast, a model learns.

    Attributes:
        dense: learning rate of the MLPs.
        rows: learning rate of the embeddings (Adam).
        average: share of the running average of the weights that a step keeps, in [0, 1); 0 for no average. In the
            first steps the average forgets faster: it keeps t / (t + 10) after t of them.
        rule: of the MLPs.
    """

    dense: float = 2e-3
    rows: float = 1e-2
    average: float = 0.95
    rule: Rule = "adam"


class Trainee:
    """A net, its optimiser, and its average.

    Embeddings are not averaged: the row of a rare id should count as soon as it has learned something.

    Attributes:
        net: the net that learns.
        averaged: the net that scores: running averages of all weights and biases, the embeddings of ``net`` themselves.
    """

    def __init__(self, shape: ClickShape, rates: Rates, *, seed: int) -> None:
        self.rates = rates
        self.net = ClickNet(shape, seed=seed)
        self.averaged = ClickNet(shape, seed=seed)
        self.averaged.table = self.net.table
        self._dense, self._average = _dense(self.net), _dense(self.averaged)
        self._begin()

    def _begin(self) -> None:
        """Forget the optimiser's moments and what the average was over."""
        rates = self.rates
        self.optimiser = ClickOptimiser(self.net, rule=rates.rule, learning_rate=rates.dense, row_rate=rates.rows)
        self._steps = 0

    @property
    def step_flops(self) -> float:
        """Operations of the optimiser's step that grow faster than the weights: those of SOAP."""
        return step_flops(self.net.shape.matrices) if self.rates.rule == "soap" else 0.0

    def forget(self, batch: Prepared) -> None:
        """Begin anew the rows that were given to other ids with this batch."""
        for field, rows in enumerate(batch.fresh):
            if len(rows):
                self.net.reset_rows(field, rows)
                self.optimiser.reset_rows(field, rows)

    @torch.no_grad()
    def score(self, batch: Prepared, masks: Sequence[Tensor] | None = None) -> Tensor:
        """Score a batch with the averaged weights: float32 [n], logits, offsets left out."""
        weights = None if masks is None else masked(self.averaged, masks)
        return self.averaged.forward(batch.z, batch.rows, weights)

    @torch.no_grad()
    def step(self) -> bool:
        """Take one step by the gradients that stand in the net; none, and say so, where one of them is no number."""
        taken = self.optimiser.step()
        self.optimiser.zero_grad()
        if not taken:
            return False
        keep = min(self.rates.average, self._steps / (self._steps + 10.0))
        torch._foreach_lerp_(self._average, self._dense, 1.0 - keep)
        self._steps += 1
        return True

    @torch.no_grad()
    def become(self, net: ClickNet, dense: Sequence[Tensor]) -> None:
        """Begin anew from another net.

        Args:
            net: of the same shape; its embeddings are copied.
            dense: weight and bias of each layer.
        """
        self.net.table.copy_(net.table)
        torch._foreach_copy_(self._dense, list(dense))
        torch._foreach_copy_(self._average, list(dense))
        self._begin()

    @torch.no_grad()
    def serving(self, masks: Sequence[Tensor] | None = None) -> ClickNet:
        """Give a copy of the averaged net, zero where the masks are."""
        net = copy.deepcopy(self.averaged)
        for weight, mask in zip(net.hidden, masks or (), strict=masks is not None):
            weight.mul_(mask)
        return net

    def state(self) -> dict[str, Any]:
        """Give all that a later step depends on; what it holds is copied."""
        parts = copy.deepcopy({"net": self.net.state_dict(), "average": self._average})
        return {**parts, "optimiser": self.optimiser.state_dict(), "steps": self._steps}

    @torch.no_grad()
    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a state.

        Raises:
            CheckpointError: it is of a net of another shape.
        """
        own, found = ({k: tuple(v.shape) for k, v in s.items()} for s in (self.net.state_dict(), state["net"]))
        if own != found:
            msg = f"got the weights {found}; expected {own}: the run was started with another shape, begin a new run"
            raise CheckpointError(msg)
        self.net.load_state_dict(state["net"])
        torch._foreach_copy_(self._average, list(state["average"]))
        self.optimiser.load_state_dict(state["optimiser"])
        self._steps = state["steps"]


def _dense(net: ClickNet) -> list[Tensor]:
    """Weights and biases of all layers, their gradients left out."""
    return [parameter.detach() for layer in net.linears for parameter in layer.parameters()]


def masked(net: ClickNet, masks: Sequence[Tensor]) -> list[Tensor]:
    """Hidden weights of a net, zero where the masks (float32, 0 or 1) are; gradients pass where they are not."""
    return [weight * mask for weight, mask in zip(net.hidden, masks, strict=True)]


def log_loss(logits: Tensor, batch: Prepared | Past, target: Tensor | None = None) -> Tensor:
    """Mean log-loss of a batch.

    Args:
        logits: float32 [n], offsets left out.
        batch: the events.
        target: float32 [n], probabilities to learn in place of the labels.
    """
    target = batch.label if target is None else target
    return functional.binary_cross_entropy_with_logits(logits + batch.offset, target)
