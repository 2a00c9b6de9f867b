"""Dense to sparse by replacement: a dense master, and a sparse model cut from it anew every so many events.

Between two emissions both learn from the same batches, the sparse model under the mask that it was emitted with. How it is
cut: the largest weights as they are, or optimal brain surgeon from running moments of the master's layers
(:mod:`prunus.prune.obs`), where what is left makes up for what went.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from prunus.online.dense_to_sparse.patterns import budget, by_layer, largest
from prunus.online.dense_to_sparse.rules import Kept
from prunus.online.dense_to_sparse.single import Single, same_method
from prunus.online.dense_to_sparse.trainee import Trainee, log_loss
from prunus.online.learner import Flops, Predictions
from prunus.prune.obs import Emitted, Moments, emit, emit_units

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prunus.online.dense_to_sparse.trainee import Rates
    from prunus.online.learner import Prepared
    from prunus.prune.mask import Mask
    from prunus.student.ctr import ClickNet, ClickShape

Cut = Literal["magnitude", "weights", "blocks", "units"]
"""How a model is cut from the master: by size alone, or by optimal brain surgeon of single weights, of blocks of 1x4, or of
whole units."""


@dataclass(frozen=True)
class EmissionSettings:
    """Settings of emission.

    Attributes:
        density: share of the hidden weights that the sparse model keeps, in (0, 1].
        cut: how.
        every: steps between two emissions (the "r" of the reference).
        memory: share of the moments that a batch keeps.
        sample: steps between two batches that the moments take.
    """

    density: float = 0.1
    cut: Cut = "weights"
    every: int = 200
    memory: float = 0.9
    sample: int = 5


class Emitting:
    """A dense master and what was emitted from it last; see :class:`prunus.online.learner.Learner`."""

    def __init__(self, shape: ClickShape, rates: Rates, settings: EmissionSettings, *, seed: int) -> None:
        """Begin.

        Args:
            shape: of the master.
            rates: of learning, of both.
            settings: of emission.
            seed: of the first weights.
        """
        self._settings = settings
        self._master = Trainee(shape, rates, seed=seed)
        self._sparse = Single("emitted", shape, rates, Kept(), seed=seed)
        self._moments = [Moments.zeros(a, b) for a, b in shape.matrices]
        self._steps = 0
        self.name = f"emitted, {settings.cut}"

    @property
    def flops_per_event(self) -> Flops:
        """Both learn and score; the moments take a batch of some."""
        shape = self._master.net.shape
        sparse = self._sparse.flops_per_event
        moments = sum(2.0 * (b + 1) ** 2 for _, b in shape.matrices) / self._settings.sample
        return Flops(train=4.0 * shape.flops() + moments + sparse.train, serve=sparse.serve)

    def predict(self, batch: Prepared) -> Predictions:
        """Score a batch with both."""
        self._master.forget(batch)
        return Predictions(self._master.score(batch), self._sparse.predict(batch).sparse)

    def learn(self, batch: Prepared) -> bool:
        """Let both learn, and emit when it is time."""
        sampled = self._steps % self._settings.sample == 0 and self._settings.cut != "magnitude"
        inputs: list[torch.Tensor] = []
        net = self._master.net
        logits = net.predict(batch.z, net.embed(batch.rows), inputs=inputs if sampled else None)
        for x in inputs:
            if x.requires_grad:
                x.retain_grad()
        loss = log_loss(logits, batch)
        loss.backward()
        if sampled and torch.isfinite(loss):
            self._observe(batch, inputs, logits.detach())
        learned = self._master.step()
        learned &= self._sparse.learn(batch)
        self._steps += 1
        if self._steps % self._settings.every == 0:
            self.repattern()
        return learned

    @torch.no_grad()
    def _observe(self, batch: Prepared, inputs: list[torch.Tensor], logits: torch.Tensor) -> None:
        """Take a batch into the moments; derivatives are of each event's own loss."""
        n, layers = len(batch), self._master.net.linears
        last = torch.relu(layers[-2](inputs[-1]))
        error = torch.sigmoid(logits + batch.offset) - batch.label
        outputs = [*inputs[1:], last]
        gradients = [x.grad for x in inputs[1:]] + [error[:, None] * layers[-1].weight / n]
        for moment, x, y, gradient in zip(self._moments, inputs, outputs, gradients, strict=True):
            width = len(moment.outputs)  # where the bottom ends, its outputs are the first of the inputs above
            assert gradient is not None
            derivative = n * gradient[:, :width] * (y[:, :width] > 0)
            moment.observe(x.detach(), derivative, 1.0 - self._settings.memory)

    @torch.no_grad()
    def repattern(self) -> None:
        """Emit: the sparse model becomes the master, cut."""
        net, settings = self._master.averaged, self._settings
        n_kept = budget(net, settings.density)
        if settings.cut == "magnitude" or any(moment.weight == 0 for moment in self._moments):
            masks = largest(by_layer(net.hidden), n_kept)
            cut = [
                Emitted(w * m, layer.bias, m > 0) for w, m, layer in zip(net.hidden, masks, net.linears, strict=False)
            ]
        else:
            layers = [(layer.weight, layer.bias) for layer in net.linears[:-1]]
            if settings.cut == "units":
                cut = emit_units(layers, self._moments, n_kept)
            else:
                cut = emit(layers, self._moments, n_kept, 4 if settings.cut == "blocks" else 1)
        self._sparse.become(net, cut)

    def masks(self) -> list[Mask]:
        """Give the mask of each hidden layer."""
        return self._sparse.masks()

    def net(self) -> ClickNet:
        """Give the sparse model."""
        return self._sparse.net()

    def state(self) -> dict[str, Any]:
        """Give all that a later step depends on."""
        moments = [(m.inputs.clone(), m.outputs.clone(), m.weight) for m in self._moments]
        own = {"name": self.name, "moments": moments, "steps": self._steps}
        return {**own, "master": self._master.state(), "sparse": self._sparse.state()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        same_method(self, state)
        self._master.load(state["master"])
        self._sparse.load(state["sparse"])
        self._moments = [
            Moments(inputs.clone(), outputs.clone(), weight) for inputs, outputs, weight in state["moments"]
        ]
        self._steps = state["steps"]
