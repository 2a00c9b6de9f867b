"""Shared weights trained dense and masked at once, under a mask that never stands still.

The dense net w and the sparse net m w share all they have; one step descends

    a L(w) + b L(m w),

so what the mask leaves out goes on learning through the first term and comes back when it has grown, and what stays learns
to do without the rest. The mask m is chosen anew every few steps from the largest weights of all layers together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from prunus.online.dense_to_sparse.patterns import budget, by_layer, largest
from prunus.online.dense_to_sparse.single import same_method
from prunus.online.dense_to_sparse.trainee import Trainee, flattened, log_loss, masked
from prunus.online.learner import Flops, Predictions
from prunus.prune.mask import Mask
from prunus.prune.schedule import CubicSchedule

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prunus.online.dense_to_sparse.trainee import Rates
    from prunus.online.learner import Prepared
    from prunus.student.ctr import ClickNet, ClickShape


@dataclass(frozen=True)
class CotrainSettings:
    """Settings of co-training.

    Attributes:
        density: share of the hidden weights that the sparse net keeps, in (0, 1].
        ramp: steps in which the density falls to that, along a cubic.
        every: steps between two choices of the mask.
        dense_weight: a, weight of the dense net's loss.
        sparse_weight: b, weight of the sparse net's loss.
    """

    density: float = 0.1
    ramp: int = 66
    every: int = 10
    dense_weight: float = 1.0
    sparse_weight: float = 2.0


class Cotrained:
    """A dense master and a sparse net of the same weights; see :class:`prunus.online.learner.Learner`."""

    name = "co-trained"

    def __init__(self, shape: ClickShape, rates: Rates, settings: CotrainSettings, *, seed: int) -> None:
        """Begin.

        Args:
            shape: of the dense master.
            rates: of learning.
            settings: of the sparse net.
            seed: of the first weights.
        """
        self._trainee = Trainee(shape, rates, seed=seed)
        self._settings = settings
        self._schedule = CubicSchedule(0, max(settings.ramp, 1), settings.every)
        self._masks = [torch.ones_like(weight) for weight in self._trainee.net.hidden]
        self._steps = 0

    @property
    def flops_per_event(self) -> Flops:
        """Both nets forward and backward (three times forward) and both averages forward; the torch code skips no zero."""
        shape = self._trainee.net.shape
        return Flops(train=8.0 * shape.flops(), serve=shape.flops([float(mask.mean()) for mask in self._masks]))

    def predict(self, batch: Prepared) -> Predictions:
        """Score a batch with the averages of both nets."""
        self._trainee.forget(batch)
        return Predictions(self._trainee.score(batch), self._trainee.score(batch, flattened(self._masks)))

    def learn(self, batch: Prepared) -> bool:
        """Take one step by the sum of both losses."""
        if self._steps % self._settings.every == 0:
            self.repattern()
        net, settings = self._trainee.net, self._settings
        embeddings = net.embed(batch.rows)
        dense = log_loss(net.predict(batch.z, embeddings), batch)
        sparse = log_loss(net.predict(batch.z, embeddings, masked(net, self._masks)), batch)
        (settings.dense_weight * dense + settings.sparse_weight * sparse).backward()
        learned = self._trainee.step()
        self._steps += 1
        return learned

    def repattern(self) -> None:
        """Keep the largest weights of all layers, as many as the schedule allows now."""
        net = self._trainee.net
        density = self._schedule.level(self._steps, 1.0, self._settings.density)
        self._masks = largest(by_layer(net.hidden), budget(net, density))

    def masks(self) -> list[Mask]:
        """Give the mask of each hidden layer."""
        return [Mask(mask.numpy()) for mask in self._masks]

    def net(self) -> ClickNet:
        """Give the sparse net, weights averaged."""
        return self._trainee.serving(self._masks)

    def state(self) -> dict[str, Any]:
        """Give all that a later step depends on."""
        masks = [mask.to(torch.bool) for mask in self._masks]
        return {"name": self.name, "trainee": self._trainee.state(), "masks": masks, "steps": self._steps}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        same_method(self, state)
        self._trainee.load(state["trainee"])
        self._masks = [mask.float() for mask in state["masks"]]
        self._steps = state["steps"]
