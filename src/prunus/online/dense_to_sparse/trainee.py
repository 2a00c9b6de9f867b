"""A click model that learns from a stream, and running averages of its weights, the best of which is what scores.

On a stream there is no end towards which a learning rate could fall: the last batches shake the weights for ever. The
average of the weights over the last steps (Polyak and Juditsky 1992) is quieter and follows the drift all the same. How far
back it should reach depends on the stream: where nothing drifts the longest average is the best, after a change the
shortest. Where there are several, all of them score every fourth batch, and the one that did best of late is heard.

Which one leads also says how large steps should be. While it is a long one, what a step adds is noise that the average has to
take out again, so steps become smaller; when a short one leads, they are what they were.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from prunus.errors import CheckpointError
from prunus.online.dense_to_sparse.leader import Leader
from prunus.student.ctr import ClickNet
from prunus.student.ctr_optimiser import ClickOptimiser
from prunus.student.soap import step_flops

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from prunus.online.learner import Prepared
    from prunus.student.ctr import ClickShape
    from prunus.student.ctr_optimiser import Rule

JUDGED = 4
"""Batches from one that all averages score, and are judged by, to the next: they are told apart on the same events, so few are
enough, and one batch whole costs a fraction of four in parts."""

JUDGED_OVER = 0.9
"""Memory of that judgement: ten batches, so that the average becomes shorter soon after a change."""

CALM_OVER = 0.9
"""Memory of how calm the stream is: ten judgements, forty batches."""

SLOWER = 0.6
"""Share of the rate of the MLPs that is given up on a calm stream."""


@dataclass(frozen=True)
class Rates:
    """How, and how fast, a model learns.

    Attributes:
        dense: learning rate of the MLPs.
        rows: learning rate of the embeddings (Adam).
        averages: share that a step keeps of each running average of the weights, in [0, 1), rising; 0 for no average. In
            the first steps averages forget faster: they keep t / (t + 10) after t of them.
        rule: of the MLPs.
    """

    dense: float = 2e-3
    rows: float = 1e-2
    averages: tuple[float, ...] = (0.95,)
    rule: Rule = "adam"


class Trainee:
    """A net, its optimiser, and its averages.

    Embeddings are not averaged: the row of a rare id should count as soon as it has learned something.

    With several averages, c is the discounted share of judgements in which one of the longer half led. Then steps of the MLPs are
    ``1 - 0.6 c`` of their rate, and those of an embedding fall with the number that it has taken, as far as c says
    (:attr:`~prunus.student.ctr_optimiser.ClickOptimiser.settling`).

    Attributes:
        net: the net that learns.

    References:
        Chee and Toulis 2018, arXiv 1710.06382 (smaller steps once the weights only oscillate; for a stream without drift, so for good).
    """

    def __init__(self, shape: ClickShape, rates: Rates, *, seed: int) -> None:
        assert list(rates.averages) == sorted(rates.averages), "rising: the longer half is the second one"
        self.rates = rates
        self.net = ClickNet(shape, seed=seed)
        self._averages = [ClickNet(shape, seed=seed) for _ in rates.averages]
        # Of each net one row: a handful of operations for all layers at once is a small part of one for each of them.
        self._weights, *self._averaged = flat = torch.empty(1 + len(self._averages), self.net.n_weights)
        self._all_averages, self._memories = flat[1:], torch.tensor(rates.averages, dtype=torch.float64)[:, None]
        self.net.move_weights(self._weights)
        for average, weights in zip(self._averages, self._averaged, strict=True):
            average.move_weights(weights)
            average.table = self.net.table
        sizes = [weight.numel() for weight in self.net.hidden]
        self._cut = torch.empty(sum(sizes))
        self._cut_by_layer = [
            part.view_as(weight) for part, weight in zip(self._cut.split(sizes), self.net.hidden, strict=True)
        ]
        self._leader = Leader(len(self._averages), JUDGED_OVER**JUDGED)
        self._said: list[Tensor] = []
        self._batches = 0
        self._calm = 0.0
        self._begin()

    def _begin(self) -> None:
        """Forget the optimiser's moments and what the average was over."""
        rates = self.rates
        self.optimiser = ClickOptimiser(self.net, rule=rates.rule, learning_rate=rates.dense, row_rate=rates.rows)
        self._steps = 0
        self._read: tuple[Prepared, Tensor, Tensor | None] | None = None

    @property
    def averaged(self) -> ClickNet:
        """The net that scores: running averages of all weights and biases, the embeddings of :attr:`net` themselves."""
        return self._averages[self._leader.best]

    @property
    def scorings(self) -> float:
        """Times that the net is evaluated for a score: once, and in every fourth batch by the other averages."""
        return 1.0 + (len(self._averages) - 1) / JUDGED

    @property
    def step_flops(self) -> float:
        """Operations of the optimiser's step that grow faster than the weights: those of SOAP."""
        return step_flops(self.net.shape.matrices) if self.rates.rule == "soap" else 0.0

    def forget(self, batch: Prepared) -> None:
        """Begin anew the rows that were given to other ids with this batch."""
        if any(map(len, batch.fresh)):
            self.optimiser.reset_rows(self.net.reset_rows(batch.fresh))

    @torch.no_grad()
    def masked(self, mask: Tensor | None) -> list[Tensor]:
        """Give the hidden weights of the net that learns, zero where a mask is; good until the next call of this or of :meth:`score`.

        Args:
            mask: float32 [n], 0 or 1, of all hidden layers one after the other; None: nothing is masked.
        """
        return self._masked(self.net, self._weights, mask)

    def _masked(self, net: ClickNet, weights: Tensor, mask: Tensor | None) -> list[Tensor]:
        """Hidden weights of a net that a vector holds, zero where the mask is; good until the next call."""
        if mask is None:
            return net.hidden
        torch.mul(weights[: len(mask)], mask, out=self._cut)
        return self._cut_by_layer

    @torch.no_grad()
    def score(self, batch: Prepared, mask: Tensor | None = None) -> Tensor:
        """Score a batch with the average that is the best of late: float32 [n], logits, offsets left out.

        In some batches the others score too, for :meth:`judge`.

        Args:
            batch: the events.
            mask: as in :meth:`masked`.
        """
        embeddings, best = self.net.embed(batch.rows), self._leader.best
        inputs = self._inputs(best, mask, batch.z, embeddings)
        logits = self.averaged.score(inputs[-1])
        x = None if self.net.shape.bottom else inputs[0]
        self._read = batch, embeddings, x
        self._said = []
        if len(self._averages) > 1 and self._batches % JUDGED == 0:
            self._said = [
                logits if number == best else average.score(self._inputs(number, mask, batch.z, embeddings, x)[-1])
                for number, average in enumerate(self._averages)
            ]
        return logits

    def _inputs(
        self, number: int, mask: Tensor | None, z: Tensor, embeddings: Tensor, x: Tensor | None = None
    ) -> list[Tensor]:
        """Give the inputs of each layer of an average."""
        average = self._averages[number]
        return average.activations(z, embeddings, self._masked(average, self._averaged[number], mask), x)

    def read(self, batch: Prepared) -> tuple[Tensor, Tensor | None]:
        """Give the embeddings of a batch and, without a bottom MLP, what the top MLP reads: as found when it was scored.

        Args:
            batch: the one that was scored last, with no step since; of any other they are looked up.
        """
        scored, self._read = self._read, None
        if scored is None or scored[0] is not batch:
            return self.net.embed(batch.rows).detach(), None
        return scored[1:]

    @torch.inference_mode()
    def judge(self, batch: Prepared) -> None:
        """Learn which average is the best from the labels of the batch that was scored last."""
        self._batches += 1
        if self._said:
            self._leader.judge([log_loss(said, batch) for said in self._said])
            self._said = []
            calm = float(self._leader.best >= len(self._averages) / 2)
            self._calm += (1 - CALM_OVER) * (calm - self._calm)

    @torch.inference_mode()
    def step(self) -> bool:
        """Take one step by the gradients that stand in the net; none, and say so, where one of them is no number."""
        self.optimiser.learning_rate = self.rates.dense * (1.0 - SLOWER * self._calm)
        self.optimiser.settling = self._calm
        taken = self.optimiser.step()
        self.optimiser.zero_grad()
        if not taken:
            return False
        forgets = 1.0 - self._memories.clamp(max=self._steps / (self._steps + 10.0))
        self._all_averages.lerp_(self._weights, forgets.float())
        self._steps += 1
        return True

    @torch.no_grad()
    def become(self, net: ClickNet, dense: Sequence[Tensor]) -> None:
        """Begin anew from another net; which average leads stays, until batches say otherwise.

        Args:
            net: of the same shape; its embeddings are copied.
            dense: weight and bias of each layer.
        """
        self.net.table.copy_(net.table)
        torch._foreach_copy_([part.detach() for layer in self.net.linears for part in layer.parameters()], list(dense))
        for average in self._averaged:
            average.copy_(self._weights)
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
        parts = copy.deepcopy({"net": self.net.state_dict(), "averages": self._averaged})
        return {
            **parts,
            "leader": self._leader.state(),
            "batches": self._batches,
            "calm": self._calm,
            "optimiser": self.optimiser.state_dict(),
            "steps": self._steps,
        }

    @torch.no_grad()
    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a state.

        Raises:
            CheckpointError: it is of a net of another shape, or of another version.
        """
        other = "rows" not in state["optimiser"]["rows"] or "calm" not in state
        if other or len(state.get("averages", ())) != len(self._averages):
            msg = "got the state of a learner with other averages; expected one of this version: begin a new run"
            raise CheckpointError(msg)
        own, found = ({k: tuple(v.shape) for k, v in s.items()} for s in (self.net.state_dict(), state["net"]))
        if own != found:
            msg = f"got the weights {found}; expected {own}: the run was started with another shape, begin a new run"
            raise CheckpointError(msg)
        self.net.load_state_dict(state["net"])
        for average, one in zip(self._averaged, state["averages"], strict=True):
            average.copy_(one)
        self._leader.load(state["leader"])
        self._batches, self._calm = state["batches"], state["calm"]
        self.optimiser.load_state_dict(state["optimiser"])
        self._steps = state["steps"]
        self._read, self._said = None, []


def flattened(masks: Sequence[Tensor]) -> Tensor:
    """Give masks of hidden layers one after the other, as :meth:`Trainee.score` and :meth:`Trainee.masked` take them."""
    return torch.cat([torch.empty(0), *(mask.flatten() for mask in masks)])


def masked(net: ClickNet, masks: Sequence[Tensor]) -> list[Tensor]:
    """Hidden weights of a net, zero where the masks (float32, 0 or 1) are; gradients pass where they are not."""
    return [weight * mask for weight, mask in zip(net.hidden, masks, strict=True)]


def log_loss(logits: Tensor, batch: Prepared) -> Tensor:
    """Mean log-loss of a batch.

    Args:
        logits: float32 [n], offsets left out.
        batch: the events.
    """
    return functional.binary_cross_entropy_with_logits(logits + batch.offset, batch.label)
