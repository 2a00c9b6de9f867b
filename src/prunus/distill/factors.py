"""The training loop of item factors: a teacher's lists and the histories in, factors out, with exact resume."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from prunus.distill.checkpoint import keep, kept
from prunus.distill.lists import cosine_loss, head_loss, softmax_loss

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from prunus.data.interactions import Interactions
    from prunus.student.factors import Factors
    from prunus.teacher.item_scores import ItemScorer


DRAWN = 0.25
"""Share of a step's items that is drawn at least: the fewer there are, the more of the others each stands for."""


@dataclass(frozen=True)
class TeacherLists:
    """The head of a teacher's list for each user of a training set.

    Attributes:
        items: int32 [n_users, K], the best first; items of the history are not among them.
        scores: float32 [n_users, K], -inf where a user has fewer items left than K.
    """

    items: NDArray[np.int32]
    scores: NDArray[np.float32]


def teacher_lists(teacher: ItemScorer, histories: Interactions, k: int, *, block: int = 512) -> TeacherLists:
    """Ask a teacher for the head of each user's list.

    Args:
        teacher: any source of scores.
        histories: of the users of the training data.
        k: items a list; at most all.
        block: users asked for at once, which bounds the memory: block x n_items x 4 bytes, twice.
    """
    matrix, k = histories.users_x_items(), min(k, histories.n_items)
    items = np.empty((histories.n_users, k), np.int32)
    scores = np.empty((histories.n_users, k), np.float32)
    for start in range(0, histories.n_users, block):
        part = matrix[start : start + block]
        users = np.arange(start, start + part.shape[0])
        found = np.array(teacher.scores(part, users), np.float32)
        found[np.repeat(np.arange(part.shape[0]), np.diff(part.indptr)), part.indices] = -np.inf
        best, order = torch.from_numpy(found).topk(k, dim=1)
        items[start : start + block], scores[start : start + block] = order.numpy(), best.numpy()
    return TeacherLists(items, scores)


@dataclass(frozen=True)
class FactorSettings:
    """How to train item factors. Defaults were chosen on a tenth of ml_1m's training part; docs/distillation.md.

    Attributes:
        epochs: passes over the users, or over as many as ``epoch_users`` allows.
        batch_users: users a step.
        epoch_users: users of an epoch at most, drawn anew for each; 0 for all.
        learning_rate: of NAdam, until it falls.
        fall_from: share of the schedule after which the rate falls, a half cosine down to 2 %.
        cycle: epochs of one run of the rate's schedule where a pruner sets it back; 0 for all.
        data: weight of the histories' own loss, see :func:`~prunus.distill.lists.cosine_loss`.
        teacher: weight of the loss to the teacher's lists.
        among: what the student's softmax is over: the head of the teacher's list (:func:`~prunus.distill.lists.softmax_loss`),
            or all unseen items (:func:`~prunus.distill.lists.head_loss`).
        temperature: of the softmax over the teacher's scores, in standard deviations of the scores of a list.
        round_from: share of the steps after which factors stand on levels; 1 for never.
        columns: items that a step computes with: the batch's histories and the heads of its lists, and others drawn
            evenly up to so many, but no fewer than :data:`DRAWN` of so many; 0 for the whole catalogue.
        seed: of the order of users and of drawn items.
    """

    epochs: int = 60
    batch_users: int = 256
    epoch_users: int = 0
    learning_rate: float = 0.03
    fall_from: float = 0.6
    cycle: int = 0
    data: float = 1.0
    teacher: float = 0.5
    among: Literal["head", "catalogue"] = "head"
    temperature: float = 0.85
    round_from: float = 0.8
    columns: int = 0
    seed: int = 0


class Pruner(Protocol):
    """What removes weights while the loop runs, such as :class:`prunus.prune.lottery.Lottery`."""

    def after_step(self, step: int, optimizer: torch.optim.Optimizer | None = None) -> bool:
        """Act after a step; say whether weights were removed."""

    def rate_step(self, step: int) -> int:
        """Step at which the learning rate's schedule stands."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resume needs."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from such a state."""


class FactorLoop:
    """Trains item factors. All state that a resume needs is in here.

    Attributes:
        step: optimiser steps done.
        epoch: epochs done.
        history: one record an epoch.
    """

    def __init__(
        self,
        model: Factors,
        histories: Interactions,
        lists: TeacherLists | None,
        settings: FactorSettings,
        *,
        pruner: Pruner | None = None,
        on_round: Callable[[Factors], None] | None = None,
        on_epoch: Callable[[FactorLoop], dict[str, float]] | None = None,
        checkpoint: Path | None = None,
    ) -> None:
        """Set up.

        Args:
            model: student, trained in place.
            histories: of the training users; those without items are left out.
            lists: of the teacher for the same users; None to learn from the histories alone.
            settings: how.
            pruner: called after each step.
            on_round: called once the factors stand on levels.
            on_epoch: called after each epoch; what it gives is kept in its record.
            checkpoint: file that the state is kept in after each epoch; where it exists the loop goes on from it.
        """
        self.model, self.lists, self.settings = model, lists, settings
        self.pruner, self.checkpoint = pruner, checkpoint
        self.on_round, self.on_epoch = on_round, on_epoch
        self.indptr, self.items = histories.indptr, histories.items.astype(np.int64)
        self.users = np.flatnonzero(np.diff(self.indptr))
        self.optimizer = torch.optim.NAdam(model.parameters(), lr=settings.learning_rate)
        self.temperature = 1.0 if lists is None else settings.temperature * _spread(lists.scores)
        self.step = self.epoch = 0
        self.history: list[dict[str, Any]] = []

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in an epoch."""
        return math.ceil(min(len(self.users), self.settings.epoch_users or len(self.users)) / self.settings.batch_users)

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.steps_per_epoch * self.settings.epochs

    def _learning_rate(self) -> float:
        at = self.step if self.pruner is None else self.pruner.rate_step(self.step)
        length = self.steps_per_epoch * (self.settings.cycle or self.settings.epochs)
        fallen = max(at / length - self.settings.fall_from, 0.0) / max(1.0 - self.settings.fall_from, 1e-9)
        return self.settings.learning_rate * (0.02 + 0.98 * 0.5 * (1.0 + math.cos(math.pi * min(fallen, 1.0))))

    def run(self) -> Factors:
        """Train to the end, or go on from the checkpoint.

        Raises:
            RecipeChangedError: the checkpoint was made with other settings or another shape.
            OutputError: the checkpoint cannot be written.
        """
        self._resume()
        while self.epoch < self.settings.epochs:
            loss = self._run_epoch()
            self.epoch += 1
            record = {"epoch": self.epoch, "loss": loss, "density": float(self.model.mask.float().mean())}
            self.history.append(record | (self.on_epoch(self) if self.on_epoch else {}))
            self._save()
        return self.model.eval()

    def _run_epoch(self) -> float:
        rng = np.random.default_rng([self.settings.seed, self.epoch])
        order = rng.permutation(self.users)[: self.settings.epoch_users or None]
        total = 0.0
        self.model.train()
        for start in range(0, len(order), self.settings.batch_users):
            if self.step == round(self.settings.round_from * self.total_steps):
                self.model.calibrate()
                if self.on_round is not None:
                    self.on_round(self.model)
            for group in self.optimizer.param_groups:
                group["lr"] = self._learning_rate()
            loss = self._loss(order[start : start + self.settings.batch_users], rng)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            total += float(loss.detach())
            if self.pruner is not None:
                self.pruner.after_step(self.step, self.optimizer)
            self.step += 1
        return total / self.steps_per_epoch

    def _loss(self, users: NDArray[np.int64], rng: np.random.Generator) -> Tensor:
        settings, model = self.settings, self.model
        sizes = self.indptr[users + 1] - self.indptr[users]
        indptr = np.concatenate([[0], np.cumsum(sizes)])
        items = self.items[np.arange(indptr[-1]) + np.repeat(self.indptr[users] - indptr[:-1], sizes)]
        columns, place, expected = self._columns(users, items, rng)
        starts, flat = torch.from_numpy(indptr), torch.from_numpy(place[items])
        rows = model.rows(columns)
        profiles = model.profiles(rows, starts, flat)
        scores = profiles @ rows.T
        loss = torch.zeros(())
        if settings.data:
            squares = scores.square()
            whole = squares.sum(1) if expected is None else squares @ (1.0 / expected)
            loss = settings.data * _own_loss(model, rows, profiles, whole, starts, flat)
        if settings.teacher and self.lists is not None:
            sharpness = model.log_sharpness.exp()
            head = torch.from_numpy(place[self.lists.items[users]])
            teacher = torch.from_numpy(self.lists.scores[users])
            if settings.among == "head":
                gone = torch.isneginf(teacher)
                of_teacher = softmax_loss(
                    scores.gather(1, head) * sharpness, teacher, gone, temperature=self.temperature
                )
            else:
                seen = torch.zeros(scores.shape, dtype=torch.bool)
                seen[torch.from_numpy(np.repeat(np.arange(len(users)), sizes)), flat] = True
                of_teacher = head_loss(
                    scores * sharpness, head, teacher, seen, temperature=self.temperature, expected=expected
                )
            loss = loss + settings.teacher * of_teacher
        return loss

    def _columns(
        self, users: NDArray[np.int64], items: NDArray[np.int64], rng: np.random.Generator
    ) -> tuple[Tensor | None, NDArray[np.int64], Tensor | None]:
        """Choose the items that a step computes with.

        Args:
            users: of the batch.
            items: of their histories.
            rng: of the draw.

        Returns:
            Items, rising (None for all); for each item of the catalogue, its place among them or -1; and how often each
            of them is expected there (None where all are).
        """
        n_items, wanted = self.model.n_items, self.settings.columns
        if not 0 < wanted < n_items:
            return None, np.arange(n_items), None
        chosen = np.zeros(n_items, np.bool_)
        chosen[items] = True
        if self.lists is not None:
            chosen[self.lists.items[users]] = True
        rest = np.flatnonzero(~chosen)
        n_drawn = min(max(wanted - int(chosen.sum()), math.ceil(DRAWN * wanted)), len(rest))
        expected = np.where(chosen, 1.0, n_drawn / max(len(rest), 1)).astype(np.float32)
        chosen[rng.choice(rest, n_drawn, replace=False)] = True
        columns = np.flatnonzero(chosen)
        place = np.full(n_items, -1)
        place[columns] = np.arange(len(columns))
        return torch.from_numpy(columns), place, torch.from_numpy(expected[columns])

    def _fingerprint(self) -> str:
        return json.dumps(
            {
                "settings": asdict(self.settings),
                "shape": [self.model.n_items, self.model.n_factors, self.model.bits],
                "users": len(self.users),
                "interactions": len(self.items),
                "lists": None if self.lists is None else list(self.lists.items.shape),
            },
            sort_keys=True,
        )

    def _save(self) -> None:
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "pruner": None if self.pruner is None else self.pruner.state_dict(),
            "step": self.step,
            "epoch": self.epoch,
            "history": json.dumps(self.history),
        }
        keep(self.checkpoint, self._fingerprint(), state)

    def _resume(self) -> None:
        state = kept(self.checkpoint, self._fingerprint())
        if state is None:
            return
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.pruner is not None:
            self.pruner.load_state_dict(state["pruner"])
        self.step, self.epoch = state["step"], state["epoch"]
        self.history = json.loads(state["history"])


def _spread(scores: NDArray[np.float32]) -> float:
    """Mean standard deviation of the scores of a list; 1 where all are alike."""
    known = np.isfinite(scores)
    count = np.maximum(known.sum(axis=1), 1)
    mean = np.where(known, scores, 0).sum(axis=1, dtype=np.float64) / count
    square = np.where(known, (np.where(known, scores, 0) - mean[:, None]) ** 2, 0).sum(axis=1) / count
    return float(np.sqrt(square).mean()) or 1.0


def _own_loss(model: Factors, rows: Tensor, profiles: Tensor, whole: Tensor, indptr: Tensor, items: Tensor) -> Tensor:
    """Cosine loss of scores y = p D^T - n * x, what an item adds to its own score, n_j = |d_j|^2, taken off.

    x . y = |p|^2 - sum_H n_j and |y|^2 = |p D^T|^2 - 2 <p, sum_H n_j d_j> + sum_H n_j^2.

    Args:
        model: the student, for its sums over histories.
        rows: float32 [n_items, n_factors], d.
        profiles: float32 [n_users, n_factors], p.
        whole: float32 [n_users], |p D^T|^2.
        indptr: int64 [n_users + 1], where each history starts.
        items: int64, item numbers of all histories.
    """
    n = rows.square().sum(1, keepdim=True)
    weighted = model.profiles(torch.cat([rows, torch.ones_like(n), n], dim=1) * n, indptr, items)
    of_rows, of_n, of_n2 = weighted[:, :-2], weighted[:, -2], weighted[:, -1]
    at_history = profiles.square().sum(1) - of_n
    return cosine_loss(
        at_history, whole - 2.0 * (profiles * of_rows).sum(1) + of_n2, (indptr[1:] - indptr[:-1]).float()
    )
