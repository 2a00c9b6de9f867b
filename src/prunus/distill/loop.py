"""The one training loop: distil a teacher into a student, with callbacks, progress and exact resume."""

from __future__ import annotations

import copy
import itertools
import json
import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from prunus.distill.checkpoint import keep, kept
from prunus.distill.losses import LossMix, pointwise_loss

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from prunus.student.mlp import MLP


LEAST_STEPS = 24
"""Optimiser steps of an epoch at least, where there are so many queries: small sets need small batches to get anywhere."""


@dataclass(frozen=True)
class TrainingSet:
    """What a student learns from, staged and standardised.

    Attributes:
        z: float32 [n, n_slots], staged inputs of the real documents.
        teacher: float32 [n], teacher scores, standardised over the real documents.
        labels: float32 [n].
        offsets: int64 [n_queries + 1].
        synthetic_z: float32 [m, n_slots].
        synthetic_teacher: float32 [m], on the scale of ``teacher``.
    """

    z: Tensor
    teacher: Tensor
    labels: Tensor
    offsets: NDArray[np.int64]
    synthetic_z: Tensor
    synthetic_teacher: Tensor


@dataclass(frozen=True)
class LoopSettings:
    """How to train. Defaults were chosen on globo_ltr's validation part; docs/distillation.md has the tables.

    Attributes:
        epochs: passes over the real documents.
        batch_docs: real documents a step, about (whole queries); fewer where an epoch would have under 24 steps.
        synthetic_share: synthetic documents a step, as a share of the real ones.
        learning_rate: peak of the schedule (linear warm-up over 5 % of the steps, then a half cosine to 1 %).
        weight_decay: decoupled, as in AdamW.
        average: weights are averaged exponentially over about this many steps, at most a tenth of all; the average is
            what is kept.
        mix: the loss.
        seed: of the order of the documents.
    """

    epochs: int = 30
    batch_docs: int = 4096
    synthetic_share: float = 0.5
    learning_rate: float = 8e-3
    weight_decay: float = 1e-4
    average: int = 300
    mix: LossMix = field(default_factory=LossMix)
    seed: int = 0


class Callback(Protocol):
    """What may be done while a loop runs; every method may be left as it is."""

    def on_step(self, loop: Loop) -> None:
        """Act after an optimiser step."""

    def on_epoch(self, loop: Loop) -> None:
        """Act after an epoch, its record in ``loop.history[-1]``."""


class Loop:
    """Trains one student. All state that a resume needs is in here.

    Attributes:
        model: the student that is trained.
        averaged: its weights, averaged exponentially.
        step: optimiser steps done.
        epoch: epochs done.
        history: one record an epoch.
    """

    def __init__(
        self,
        model: MLP,
        data: TrainingSet,
        settings: LoopSettings,
        *,
        validate: Callable[[MLP], float],
        callbacks: Sequence[Callback] = (),
        checkpoint: Path | None = None,
    ) -> None:
        """Set up.

        Args:
            model: student, trained in place.
            data: what it learns from.
            settings: how.
            validate: quality of a student on validation data, the larger the better.
            callbacks: called after each step and each epoch.
            checkpoint: file that the state is kept in after each epoch; where it exists the loop goes on from it.
        """
        self.model, self.data, self.settings = model, data, settings
        self.validate, self.callbacks, self.checkpoint = validate, callbacks, checkpoint
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, betas=(0.9, 0.99)
        )
        self.averaged = [p.detach().clone() for p in model.parameters()]
        self.step = self.epoch = 0
        self.history: list[dict[str, Any]] = []
        self.batches = self._batch_bounds()
        self.best = -math.inf
        self.best_state: dict[str, Tensor] | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in an epoch."""
        return len(self.batches)

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.steps_per_epoch * self.settings.epochs

    def _batch_bounds(self) -> list[tuple[int, int]]:
        n_queries = len(self.data.offsets) - 1
        docs = int(self.data.offsets[-1])
        steps = max(round(docs / self.settings.batch_docs), LEAST_STEPS)
        cuts = np.linspace(0, n_queries, min(steps, n_queries) + 1).round().astype(int)
        return [(int(a), int(b)) for a, b in itertools.pairwise(cuts)]

    def _learning_rate(self) -> float:
        warm = max(self.total_steps // 20, 1)
        if self.step < warm:
            share = (self.step + 1) / warm
        else:
            u = (self.step - warm) / max(self.total_steps - warm, 1)
            share = 0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * u))
        return self.settings.learning_rate * share

    def _loss(self, queries: NDArray[np.int64], synthetic: NDArray[np.int64]) -> Tensor:
        data, offsets = self.data, self.data.offsets
        sizes = offsets[queries + 1] - offsets[queries]
        ends = np.cumsum(sizes)
        rows_np = np.arange(ends[-1]) + np.repeat(offsets[queries] - (ends - sizes), sizes)
        rows = torch.from_numpy(rows_np)
        query = torch.from_numpy(np.repeat(np.arange(len(queries)), sizes))
        teacher = data.teacher[rows]
        if len(synthetic) == 0:
            return self.settings.mix(self.model(data.z[rows]), teacher, data.labels[rows], query, len(queries))
        extra = torch.from_numpy(synthetic)
        scores = self.model(torch.cat([data.z[rows], data.synthetic_z[extra]]))
        real, made = scores[: len(rows)], scores[len(rows) :]
        loss = self.settings.mix(real, teacher, data.labels[rows], query, len(queries))
        share = len(extra) / len(rows)
        return loss + self.settings.mix.pointwise * share * pointwise_loss(made, data.synthetic_teacher[extra])

    def _run_epoch(self) -> float:
        rng = np.random.default_rng([self.settings.seed, self.epoch])
        order = rng.permutation(len(self.data.offsets) - 1)
        pool = len(self.data.synthetic_teacher)
        per_step = self.data.offsets[-1] / len(self.batches)
        n_synthetic = round(self.settings.synthetic_share * per_step) if pool else 0
        average = max(min(self.settings.average, self.total_steps // 10), 1)
        total = 0.0
        self.model.train()
        for first, last in self.batches:
            for group in self.optimizer.param_groups:
                group["lr"] = self._learning_rate()
            synthetic = rng.integers(0, pool, n_synthetic) if n_synthetic else np.empty(0, np.int64)
            loss = self._loss(order[first:last], synthetic)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            weight = 1.0 / min(average, self.step + 1)
            torch._foreach_lerp_(self.averaged, [p.detach() for p in self.model.parameters()], weight)
            total += float(loss.detach())
            for callback in self.callbacks:
                callback.on_step(self)
            self.step += 1
        return total / len(self.batches)

    def averaged_model(self) -> MLP:
        """Return a copy of the student with its averaged weights (masks as they are now)."""
        model = copy.deepcopy(self.model)
        with torch.no_grad():
            for parameter, value in zip(model.parameters(), self.averaged, strict=True):
                parameter.copy_(value)
        return model.eval()

    def forget_best(self) -> None:
        """Drop the best epoch so far: what it was measured on has changed (the masks moved)."""
        self.best, self.best_state = -math.inf, None

    def run(self) -> MLP:
        """Train to the end, or go on from the checkpoint, and return the best averaged student by validation.

        Raises:
            RecipeChangedError: the checkpoint was made with other settings or another shape.
            OutputError: the checkpoint cannot be written.
        """
        self._resume()
        while self.epoch < self.settings.epochs:
            loss = self._run_epoch()
            self.epoch += 1
            model = self.averaged_model()
            quality = self.validate(model)
            self.history.append({"epoch": self.epoch, "loss": loss, "valid": quality, "density": self.model.density})
            if quality > self.best:
                self.best = quality
                self.best_state = {k: v.clone() for k, v in model.state_dict().items()}
            for callback in self.callbacks:
                callback.on_epoch(self)
            self._save()
        model = self.averaged_model()
        if self.best_state is not None:
            model.load_state_dict(self.best_state)
        return model.eval()

    def _fingerprint(self) -> str:
        shape = [self.data.z.shape[1], *self.model.widths]
        return json.dumps(
            {
                "settings": asdict(self.settings),
                "shape": shape,
                "documents": len(self.data.teacher),
                "queries": len(self.data.offsets) - 1,
            },
            sort_keys=True,
        )

    def _save(self) -> None:
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "averaged": self.averaged,
            "step": self.step,
            "epoch": self.epoch,
            "history": json.dumps(self.history),
            "best": self.best,
            "best_state": self.best_state,
        }
        keep(self.checkpoint, self._fingerprint(), state)

    def _resume(self) -> None:
        state = kept(self.checkpoint, self._fingerprint())
        if state is None:
            return
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.averaged = state["averaged"]
        self.step, self.epoch = state["step"], state["epoch"]
        self.history = json.loads(state["history"])
        self.best, self.best_state = state["best"], state["best_state"]
