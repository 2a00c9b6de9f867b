"""A net that learns on its own, under a rule that chooses its mask; alone, or after a dense master that learns beside it."""

from __future__ import annotations

import dataclasses
import math
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from prunus.errors import CheckpointError
from prunus.online.dense_to_sparse.trainee import Trainee, log_loss
from prunus.online.learner import Flops, Predictions
from prunus.online.replay import Replay
from prunus.prune.mask import Mask

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from prunus.online.dense_to_sparse.rules import Rule
    from prunus.online.dense_to_sparse.trainee import Rates
    from prunus.online.learner import Learner, Prepared
    from prunus.prune.obs import Emitted
    from prunus.student.ctr import ClickNet, ClickShape

T = TypeVar("T")


RATIO_MEMORY = 0.95
"""Share that a batch keeps of the fading losses by which past events are judged."""
REOPEN = 0.4
"""Share of the way to a bound within which the ratio must come before past events are learned from again."""
LOOK = 5
"""Batches from one look at past events to the next, while they are not learned from."""


@dataclass(frozen=True)
class Again:
    """Learning from the past once more, while it is worth it.

    Events that are known by heart teach nothing but to trust what was remembered of them (rows of rare ids, above all), and
    events of another time teach what is no longer so. The first have a loss well below that of new events, the second one
    above it: so events are learned from again only while the ratio of the two losses, fading, is between two bounds.

    Attributes:
        times: batches drawn from the replay for each batch of the stream.
        memory: events that the replay keeps.
        least: smallest ratio of the loss on past events to that on new ones.
        most: largest ratio.
    """

    times: int = 0
    memory: int = 204_800
    least: float = 0.87
    most: float = 1.05


class Single:
    """One net; see :class:`prunus.online.learner.Learner`.

    Each step learns from the batch, then from as many batches of the replay as ``again`` says.
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
        self._replay = Replay(self._again.memory, seed=seed)
        self._masks = rule.begin(self._trainee.net, seed)
        self._gradients: list[Tensor] = []
        self._steps = 0
        self._batch = 0
        self._new, self._ratio, self._looks, self._worth = 0.0, 1.0, 0, True

    @property
    def flops_per_event(self) -> Flops:
        """Forward and backward (three times forward) and the optimiser for each learning, and one scoring."""
        shape = self._trainee.net.shape
        learning = 3.0 * shape.flops() + self._trainee.step_flops / max(self._batch, 1)
        serve = shape.flops([float(mask.mean()) for mask in self._masks])
        return Flops(train=(1 + self._again.times) * learning + shape.flops(), serve=serve)

    def predict(self, batch: Prepared) -> Predictions:
        """Score a batch with the averaged weights."""
        self._trainee.forget(batch)
        return Predictions(None, self._trainee.score(batch, self._masks))

    def learn(self, batch: Prepared) -> bool:
        """Learn from the batch, then from the past; not at all from a batch that cannot be learned from."""
        self._batch = len(batch)
        loss = self._step(batch)
        if loss is None:
            return False
        self._new += (1.0 - RATIO_MEMORY) * (loss - self._new) if self._new else loss
        if self._again.times:
            self._replay.add(batch)
            for _ in range(self._again.times):
                self._learn_again(len(batch))
        return True

    def _learn_again(self, n: int) -> None:
        """Learn from past events, or where that is not worth it now only look, every few times, whether it is again."""
        # Once past events were found not to be worth it, they must be well within the bounds to be so again.
        nearer = 1.0 if self._worth else REOPEN
        worth = 1.0 - nearer * (1.0 - self._again.least) <= self._ratio <= 1.0 + nearer * (self._again.most - 1.0)
        self._worth = worth
        self._looks += 1
        if worth or self._looks % LOOK == 0:
            batch = self._replay.draw(n)
            past = self._step(batch) if worth else self._look(batch)
            if past is not None:
                self._ratio += (1.0 - RATIO_MEMORY) * (past / self._new - self._ratio)

    @torch.no_grad()
    def _look(self, batch: Prepared) -> float | None:
        net = self._trainee.net
        masked = [weight * mask for weight, mask in zip(net.hidden, self._masks, strict=True)]
        loss = float(log_loss(net(batch.z, batch.rows, masked), batch))
        return loss if math.isfinite(loss) else None

    def _step(self, batch: Prepared) -> float | None:
        """Take one step; give the loss before it, None where the step could not be taken."""
        if self._steps % self._rule.every == 0:
            self.repattern()
        net = self._trainee.net
        leaves = [(w.detach() * mask).requires_grad_() for w, mask in zip(net.hidden, self._masks, strict=True)]
        loss = log_loss(net.predict(batch.z, net.embed(batch.rows), leaves), batch)
        loss.backward()
        gradients = [leaf.grad for leaf in leaves if leaf.grad is not None]
        for weight, mask, gradient in zip(net.hidden, self._masks, gradients, strict=True):
            weight.grad = self._rule.gradient(weight.detach(), mask, gradient)
        if not self._trainee.step():
            return None
        self._gradients = gradients
        if self._rule.forgets:
            with torch.no_grad():
                for weight, mask in zip(net.hidden, self._masks, strict=True):
                    weight.mul_(mask)
        self._steps += 1
        return float(loss.detach())

    def repattern(self) -> None:
        """Choose the mask anew, as the rule has it."""
        self._masks = self._rule.choose(self._trainee.net, self._masks, self._gradients, self._steps)

    @torch.no_grad()
    def become(self, net: ClickNet, cut: Sequence[Emitted]) -> None:
        """Begin anew from another net, cut: its embeddings, its weights where they are kept, its moments none.

        Args:
            net: of the same shape.
            cut: its hidden layers.
        """
        parts = [*((layer.weight, layer.bias) for layer in cut), (net.linears[-1].weight, net.linears[-1].bias)]
        self._trainee.become(net, [part for pair in parts for part in pair])
        self._masks = [layer.kept.float() for layer in cut]

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
            "again": (self._new, self._ratio, self._looks, self._worth),
        }
        parts = {"trainee": self._trainee.state(), "replay": self._replay.state(), "rule": self._rule.state()}
        return {**own, **parts}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        same_method(self, state)
        self._trainee.load(state["trainee"])
        self._replay.load(state["replay"])
        self._rule.load(state["rule"])
        self._masks = [mask.float() for mask in state["masks"]]
        self._new, self._ratio, self._looks, self._worth = state["again"]
        self._gradients, self._steps, self._batch = list(state["gradients"]), state["steps"], state["batch"]


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
