"""A net that learns on its own, under a rule that chooses its mask; alone, or after a dense master that learns beside it."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from prunus.errors import CheckpointError
from prunus.online.dense_to_sparse.trainee import Trainee, flattened
from prunus.online.learner import Flops, Predictions
from prunus.online.replay import Replay
from prunus.prune.mask import Mask
from prunus.student.ctr_gradient import backward

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from prunus.online.dense_to_sparse.rules import Rule
    from prunus.online.dense_to_sparse.trainee import Rates
    from prunus.online.learner import Learner, Prepared
    from prunus.online.replay import Past
    from prunus.prune.obs import Emitted
    from prunus.student.ctr import ClickNet, ClickShape
    from prunus.student.ctr_gradient import Touched

T = TypeVar("T")


@dataclass(frozen=True)
class Again:
    """Learning from the past once more.

    Attributes:
        every: batches of the stream for each one that is drawn from the replay; 0: none is drawn.
        memory: events that the replay keeps.
        trust: share of what is learned then that the model itself said of the event when it was new; the rest is the label.
    """

    every: int = 0
    memory: int = 204_800
    trust: float = 0.5


class Single:
    """One net; see :class:`prunus.online.learner.Learner`.

    Each step learns from the batch, then, as often as ``again`` says, from a batch of the replay.
    """

    def __init__(
        self, name: str, shape: ClickShape, rates: Rates, rule: Rule, *, seed: int, again: Again | None = None
    ) -> None:
        """Begin.

        Args:
            name: of the method.
            shape: of the net.
            rates: of learning.
            rule: chooses the mask.
            seed: of the first weights and of every draw.
            again: learning from the past once more; default none.
        """
        self.name = name
        self._trainee = Trainee(shape, rates, seed=seed)
        self._rule = rule
        self._again = again or Again()
        self._replay = Replay(self._again.memory, trust=self._again.trust, seed=seed)
        self._mask(rule.begin(self._trainee.net, seed))
        self._gradients: list[Tensor] = []
        self._steps = 0
        self._batch = 0
        self._since = 0  # batches since one was drawn
        self._said = torch.empty(0)

    @property
    def flops_per_event(self) -> Flops:
        """Forward and backward (three times forward) and the optimiser for each learning; scorings by averages."""
        shape = self._trainee.net.shape
        learning = 3.0 * shape.flops() + self._trainee.step_flops / max(self._batch, 1)
        serve = shape.flops(self._density)
        steps = 1 + (1 / self._again.every if self._again.every else 0)
        return Flops(train=steps * learning + self._trainee.scorings * shape.flops(), serve=serve)

    def predict(self, batch: Prepared) -> Predictions:
        """Score a batch with averaged weights."""
        self._trainee.forget(batch)
        self._said = self._trainee.score(batch, self._flat)
        return Predictions(None, self._said)

    def learn(self, batch: Prepared, target: Tensor | None = None) -> bool:
        """Learn from the batch, then from the past; not at all from a batch that cannot be learned from.

        Args:
            batch: the one that was scored last.
            target: float32 [n], probabilities to learn in place of the labels; what the replay keeps is not changed by it.
        """
        self._batch = len(batch)
        self._trainee.judge(batch)
        vectors, x = self._trainee.read(batch)
        target = batch.label if target is None else target
        if not self._step(batch, vectors, target, (batch.rows, batch.touched), x):
            return False
        if self._again.every:
            self._replay.add(batch, vectors, self._said)
            self._since += 1
            if self._since >= self._again.every:
                self._since = 0
                past = self._replay.draw(len(batch))
                self._step(past, past.vectors, past.label)
        return True

    @torch.inference_mode()
    def _step(
        self,
        events: Prepared | Past,
        vectors: Tensor,
        target: Tensor,
        rows: tuple[Tensor, Touched] | None = None,
        x: Tensor | None = None,
    ) -> bool:
        """Take one step towards a target, and say whether it could be taken; embeddings learn where their ``rows`` are given."""
        if self._steps % self._rule.every == 0:
            self.repattern()
        net = self._trainee.net
        backward(net, events.z, vectors, target, events.offset, self._trainee.masked(self._flat), rows, x)
        gradients = [weight.grad for weight in net.hidden if weight.grad is not None]
        for weight, mask, gradient in zip(net.hidden, self._masks, gradients, strict=True):
            weight.grad = self._rule.gradient(weight, mask, gradient)
        if not self._trainee.step():
            return False
        self._gradients = gradients
        if self._rule.forgets:
            torch._foreach_mul_(net.hidden, self._masks)
        self._steps += 1
        return True

    @torch.inference_mode()  # as a step: what a rule made in one may be changed in no other mode
    def repattern(self) -> None:
        """Choose the mask anew, as the rule has it."""
        self._mask(self._rule.choose(self._trainee.net, self._masks, self._gradients, self._steps))

    def _mask(self, masks: list[Tensor]) -> None:
        self._masks, self._density = masks, [float(mask.mean()) for mask in masks]
        self._flat = flattened(masks) if self._rule.prunes else None

    @torch.no_grad()
    def become(self, net: ClickNet, cut: Sequence[Emitted]) -> None:
        """Begin anew from another net, cut: its embeddings, its weights where they are kept, its moments none.

        Args:
            net: of the same shape.
            cut: its hidden layers.
        """
        parts = [*((layer.weight, layer.bias) for layer in cut), (net.linears[-1].weight, net.linears[-1].bias)]
        self._trainee.become(net, [part for pair in parts for part in pair])
        self._mask([layer.kept.float() for layer in cut])

    def masks(self) -> list[Mask]:
        """Give the mask of each hidden layer."""
        return [Mask(mask.numpy()) for mask in self._masks]

    def net(self) -> ClickNet:
        """Give the net that scores, zero where it is masked."""
        return self._trainee.serving(self._masks)

    def state(self) -> dict[str, Any]:
        """Give all that a later step depends on, the replay with it."""
        masks = [mask.to(torch.bool) for mask in self._masks]
        own = {
            "name": self.name,
            "masks": masks,
            "gradients": list(self._gradients),
            "steps": self._steps,
            "batch": self._batch,
            "since": self._since,
        }
        parts = {"trainee": self._trainee.state(), "replay": self._replay.state(), "rule": self._rule.state()}
        return {**own, **parts}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        same_method(self, state)
        self._trainee.load(state["trainee"])
        self._replay.load(state["replay"])
        self._rule.load(state["rule"])
        self._mask([mask.float() for mask in state["masks"]])
        self._gradients, self._steps, self._batch = list(state["gradients"]), state["steps"], state["batch"]
        self._since = state["since"]


class Beside:
    """A sparse learner and, beside it, a dense master that shares nothing with it but the stream.

    The master is what the sparse model is watched against: it costs its own training and changes no score.
    """

    def __init__(self, sparse: Learner, master: Single, *, at_once: bool = False) -> None:
        """Put two learners side by side.

        Args:
            sparse: whose model serves.
            master: the dense net.
            at_once: whether the master works in a thread of its own. Each call ends when both are done, and the bits are
                the same: neither reads what the other writes, and each draws from generators of its own.
        """
        self._sparse, self._master = sparse, master
        self._thread = ThreadPoolExecutor(1, "master") if at_once else None
        self.name = sparse.name

    @property
    def flops_per_event(self) -> Flops:
        """Of both in training, of the sparse model in serving."""
        sparse = self._sparse.flops_per_event
        return dataclasses.replace(sparse, train=sparse.train + self._master.flops_per_event.train)

    def predict(self, batch: Prepared) -> Predictions:
        """Score a batch with both."""
        master, sparse = self._both(self._master.predict, self._sparse.predict, batch)
        return Predictions(master.sparse, sparse.sparse)

    def learn(self, batch: Prepared) -> bool:
        """Let both learn; say whether both have."""
        return all(self._both(self._master.learn, self._sparse.learn, batch))

    def _both(self, master: Callable[[Prepared], T], sparse: Callable[[Prepared], T], batch: Prepared) -> tuple[T, T]:
        """Call both; where one fails, not before the other has ended."""
        if self._thread is None:
            return master(batch), sparse(batch)
        beside = self._thread.submit(master, batch)
        try:
            own = sparse(batch)
        finally:
            wait([beside])
        return beside.result(), own

    def repattern(self) -> None:
        """Choose the sparse learner's mask anew."""
        self._sparse.repattern()

    def masks(self) -> list[Mask]:
        """Give the sparse learner's masks."""
        return self._sparse.masks()

    def net(self) -> ClickNet:
        """Give the sparse model."""
        return self._sparse.net()

    def state(self) -> dict[str, Any]:
        """Give both states."""
        return {"name": self.name, "sparse": self._sparse.state(), "master": self._master.state()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from both states."""
        same_method(self, state)
        self._sparse.load(state["sparse"])
        self._master.load(state["master"])


def same_method(learner: Learner, state: Mapping[str, Any]) -> None:
    """Refuse the state of another method.

    Raises:
        CheckpointError: it is one.
    """
    if state["name"] != learner.name:
        msg = f"got a state of {state['name']!r}; expected one of {learner.name!r}: begin a new run"
        raise CheckpointError(msg)
