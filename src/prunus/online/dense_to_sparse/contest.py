"""Several learners of one stream; the one that has scored best of late speaks for all."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import torch

from prunus.errors import CheckpointError
from prunus.online.dense_to_sparse.leader import WORST, Leader
from prunus.online.dense_to_sparse.single import same_method
from prunus.online.dense_to_sparse.trainee import log_loss
from prunus.online.learner import Flops, Predictions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from prunus.online.dense_to_sparse.single import Single
    from prunus.online.learner import Prepared
    from prunus.prune.mask import Mask
    from prunus.student.ctr import ClickNet

MEMORY = 0.95
"""Of the contest: twenty batches. Which learner suits a stream changes more slowly than how far back its average may reach."""

HEARD = 4.0
"""A learner whose discounted loss is more than so many times the least one's has run away: nobody learns from it."""


class Contest:
    """Learners side by side, of which the best speaks; see :class:`prunus.online.learner.Learner`.

    What helps on one stream harms on another, and no first part of a stream tells how the rest will be: so it is tried all the time.

    Nor need a learner go by labels alone. With y the label of a new event and p the mean of the probabilities that the learners gave
    it before it was learned, a learner that trusts p by t learns (1 - t) y + t p. The log-loss of p is never above the learners' mean
    log-loss, and p knows nothing of y.

    Args:
        name: of the method.
        learners: those that compete.
        trusts: t in [0, 1], one for each learner; default 0, labels alone.

    References:
        Zhang et al. 2018, arXiv 1706.00384, and Anil et al. 2018, arXiv 1804.03235 (models that learn side by side, each from what the
        others say).
    """

    def __init__(self, name: str, learners: Sequence[Single], trusts: Sequence[float] | None = None) -> None:
        self.name = name
        self._learners = tuple(learners)
        self._trusts = (0.0,) * len(self._learners) if trusts is None else tuple(trusts)
        assert len(self._trusts) == len(self._learners), "one for each"
        self._leader = Leader(len(self._learners), MEMORY)
        self._said: list[Tensor] = []

    @property
    def _best(self) -> Single:
        return self._learners[self._leader.best]

    @property
    def flops_per_event(self) -> Flops:
        """Of all in training, of the one that leads in serving."""
        every = [learner.flops_per_event for learner in self._learners]
        return dataclasses.replace(every[self._leader.best], train=sum(one.train for one in every))

    def predict(self, batch: Prepared) -> Predictions:
        """Score a batch with all, and give what the one that leads says."""
        self._said = [learner.predict(batch).sparse for learner in self._learners]
        return Predictions(None, self._said[self._leader.best])

    def learn(self, batch: Prepared) -> bool:
        """Judge what was said of the batch, and let all learn; say whether one has: of the others it changed nothing."""
        losses = [log_loss(said, batch) for said in self._said]
        self._leader.judge(losses)
        together = self._together(batch, losses)
        both = zip(self._learners, self._trusts, strict=True)
        return any([one.learn(batch, batch.label.lerp(together, trust) if trust else None) for one, trust in both])  # noqa: C419 - all learn

    def _together(self, batch: Prepared, losses: Sequence[Tensor]) -> Tensor:
        """The mean of the probabilities that the learners gave the batch, float32 [n], offsets included.

        Those that ran away are left out; where all did, the labels.
        """
        each = zip(self._said, losses, self._leader.sound(HEARD), strict=True)
        heard = [said for said, loss, sound in each if sound and float(loss) < WORST]  # no NaN is less
        return torch.sigmoid(torch.stack(heard) + batch.offset).mean(0) if heard else batch.label

    def repattern(self) -> None:
        """Choose all masks anew."""
        for learner in self._learners:
            learner.repattern()

    def masks(self) -> list[Mask]:
        """Give the masks of the one that leads."""
        return self._best.masks()

    def net(self) -> ClickNet:
        """Give the model of the one that leads."""
        return self._best.net()

    def state(self) -> dict[str, Any]:
        """Give all states."""
        states = [learner.state() for learner in self._learners]
        return {"name": self.name, "trusts": list(self._trusts), "leader": self._leader.state(), "learners": states}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from all states.

        Raises:
            CheckpointError: they are of another method, or of learners that trust each other by other weights.
        """
        same_method(self, state)
        if state.get("trusts") != list(self._trusts):
            msg = f"got a state of trusts {state.get('trusts')}; expected {list(self._trusts)}: begin a new run"
            raise CheckpointError(msg)
        self._leader.load(state["leader"])
        self._said = []
        for learner, one in zip(self._learners, state["learners"], strict=True):
            learner.load(one)
