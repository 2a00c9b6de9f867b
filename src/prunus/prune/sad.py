"""Show, attend, distil and prune: the three models of arXiv 2401.10484, on any torch module.

One loop trains a student on

    loss = task + alpha soft + beta attention

(:func:`~prunus.distill.attention.soft_target_loss`, :class:`~prunus.distill.attention.AttentionDistillation`), removes
more of it after every few epochs, and sets the survivors back or does not:

- ``SAD``: nothing is removed.
- ``SP_SAD``: whole channels go, the module shrinks, survivors keep their values.
- ``LTH_SAD``: single weights go, survivors start again from their first values: a lottery ticket, sought with a teacher.
- ``SS_SAD``: the ticket is sought without the teacher, who then teaches what was found.

Their figures are those of the paper's table 2, for images; ``dataclasses.replace(LTH_SAD, epochs=120, prune_every=5)``
fits them to a smaller job. What the paper leaves open is settled as its bracket says: the rate is a share of the first
weights (with a share of those left, its 60 % are out of reach), magnitude decides over all layers together (by layer:
``scope="tensor"``), and the learning rate starts again with the weights.

References:
    Rajaram R et al. 2023, arXiv 2401.10484, algorithm 1 and tables 2 to 4; docs/films.md reruns its films.
"""

from __future__ import annotations

import bisect
import contextlib
import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from prunus.distill.attention import AttentionDistillation, activations, soft_target_loss, watch
from prunus.errors import ModuleError, TrainingError
from prunus.foreign.torch_module import evaluating
from prunus.prune.channels import count_weights, remove_channels
from prunus.prune.lottery import Importance, Lottery, Reset, by_magnitude
from prunus.prune.schedule import LinearSchedule

if TYPE_CHECKING:
    from prunus.prune.lottery import Ticket

Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""Outputs of a batch and what they should be in, a scalar out."""

Layers: TypeAlias = tuple[Sequence[str], Sequence[str]]
"""Names of the student's and of the teacher's layers that attention is compared between."""


ATTENTION_DECAY = 5e-4
"""Weight decay of the attention's own parameters: what may suit a student would press its shares towards evenness."""


@dataclass(frozen=True)
class Recipe:
    """How a student is taught and pruned. The defaults are those of the code of Show, Attend and Distill.

    Attributes:
        epochs: passes over the data (with ``teach`` "ticket": after the search).
        sparsity: share of the first weights that is gone in the end, in [0, 1).
        prune_rate: share of the first weights that each pruning removes.
        prune_every: epochs between two prunings.
        grain: what is removed, single weights or whole channels.
        scope: among which the smallest go: those of each layer, or all.
        reset: what survivors start from after a pruning (channels: "none" or "rate").
        late: for the reset "late", the epochs done at the values that survivors go back to.
        teach: "always", or "ticket" when the search for it goes without the teacher.
        alpha: weight of the soft targets.
        beta: weight of the attention.
        temperature: of the soft targets.
        width: of the attention's queries and keys.
        learning_rate: at first.
        milestones: epochs, since the values that training last started from, after which the rate is multiplied by
            ``decay``.
        decay: see there.
        batch: rows in a step.
        momentum: of stochastic gradient descent.
        weight_decay: of the student's parameters.
    """

    epochs: int
    sparsity: float = 0.0
    prune_rate: float = 0.05
    prune_every: int = 20
    grain: Literal["weight", "channel"] = "weight"
    scope: Literal["tensor", "global"] = "global"
    reset: Reset = "none"
    late: int = 0
    teach: Literal["always", "ticket"] = "always"
    alpha: float = 0.9
    beta: float = 200.0
    temperature: float = 4.0
    width: int = 128
    learning_rate: float = 0.05
    milestones: tuple[int, ...] = ()
    decay: float = 0.1
    batch: int = 64
    momentum: float = 0.9
    weight_decay: float = 5e-4

    def __post_init__(self) -> None:
        if not 0 <= self.sparsity < 1 or not 0 < self.prune_rate <= 1 or self.epochs < 1:
            msg = (
                f"got epochs {self.epochs}, sparsity {self.sparsity}, prune_rate {self.prune_rate}; "
                "expected at least one epoch, a sparsity in [0, 1) and a rate in (0, 1]"
            )
            raise ValueError(msg)
        if self.rounds and self.rounds * self.prune_every >= self.total_epochs:
            msg = (
                f"got {self.rounds} prunings {self.prune_every} epochs apart in {self.total_epochs} epochs; expected "
                "epochs after the last one: more of them, a larger prune_rate or a smaller prune_every"
            )
            raise ValueError(msg)
        if self.grain == "channel" and self.reset in ("first", "late"):
            msg = f"got reset {self.reset!r} for channels; expected 'none' or 'rate': what goes leaves no values behind"
            raise ValueError(msg)

    @property
    def rounds(self) -> int:
        """Number of prunings."""
        return round(self.sparsity / self.prune_rate)

    @property
    def total_epochs(self) -> int:
        """Epochs of the whole training, the search for the ticket with it."""
        return self.epochs + (self.rounds * self.prune_every if self.teach == "ticket" else 0)


SAD = Recipe(epochs=240, milestones=(150, 180, 210))
SP_SAD = Recipe(
    epochs=160, sparsity=0.6, prune_rate=0.10, prune_every=20, grain="channel", beta=100.0, milestones=(60, 120)
)
LTH_SAD = Recipe(
    epochs=1200, sparsity=0.6, prune_rate=0.05, prune_every=75, reset="first", alpha=0.8, beta=50.0,
    milestones=(170, 340, 510),
)  # fmt: skip
SS_SAD = Recipe(
    epochs=200, sparsity=0.7, prune_rate=0.05, prune_every=20, reset="first", teach="ticket", learning_rate=5e-4
)


@dataclass(frozen=True)
class Trained:
    """What came of a training.

    Attributes:
        module: the student, in eval mode; smaller than it was where channels went.
        ticket: masks and the values that training under them started from; None where no single weights went.
        history: one record an epoch: epoch, loss, learning_rate, weights (that are not zero).
    """

    module: nn.Module
    ticket: Ticket | None
    history: list[dict[str, Any]] = field(repr=False)


def prune_and_distil(
    student: nn.Module,
    teacher: nn.Module | None,
    x: Tensor,
    y: Tensor,
    recipe: Recipe,
    *,
    loss: Loss,
    layers: Layers | None = None,
    importance: Importance = by_magnitude,
    seed: int = 0,
) -> Trained:
    """Train a copy of a student, pruned and taught as the recipe says.

    Args:
        student: any module; it stays as it is.
        teacher: any module with outputs of the same shape, or None to learn from ``y`` alone.
        x: float [n, ...], inputs of both.
        y: [n, ...], what the student's outputs should be.
        recipe: such as ``LTH_SAD``.
        loss: of the task, such as ``torch.nn.functional.mse_loss``.
        layers: names of the layers that attention is compared between; None for the activations of both.
        importance: scores single weights; the larger stay. See :mod:`prunus.prune.lottery`.
        seed: of the order of the rows, of dropout and of the attention's first weights.

    Returns:
        The student and its ticket. The same arguments give the same bits on the same machine with one thread.

    Raises:
        ModuleError: a layer that was named is not there, there are none to guess, or the channels cannot become so few.
        TrainingError: the loss is no longer finite.
    """
    student = copy.deepcopy(student)
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=[]))
        torch.manual_seed(seed)
        if teacher is not None:
            stack.enter_context(evaluating(teacher))
        training = _Training(student, teacher, x, y, recipe, loss, layers, importance)
        rng = np.random.default_rng(seed)
        for epoch in range(recipe.total_epochs):
            training.run_epoch(epoch, rng.permutation(len(x)))
    ticket = None if training.lottery is None else training.lottery.ticket()
    return Trained(training.student.eval(), ticket, training.history)


class _Training:
    """One training; the student is replaced by a smaller one when channels go."""

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module | None,
        x: Tensor,
        y: Tensor,
        recipe: Recipe,
        loss: Loss,
        layers: Layers | None,
        importance: Importance,
    ) -> None:
        self.student, self.teacher, self.x, self.y, self.recipe, self.loss = student, teacher, x, y, recipe, loss
        self.steps = -(-len(x) // recipe.batch)
        self.step = self.rate_start = 0
        self.history: list[dict[str, Any]] = []
        self.attention: AttentionDistillation | None = None
        self.layers: Layers = ((), ())
        if teacher is not None and recipe.beta:
            self.layers = layers or (activations(student), activations(teacher))
            self.attention = AttentionDistillation(*self._examples(), width=recipe.width)
        self.n_weights = sum(weight.numel() for weight in student.parameters() if weight.ndim > 1)
        self.schedule: LinearSchedule | None = None
        self.lottery: Lottery | None = None
        if recipe.rounds:
            self.schedule = LinearSchedule.stepwise(recipe.rounds, recipe.prune_every * self.steps)
            if recipe.grain == "weight":
                self.lottery = Lottery.of_module(
                    student,
                    self.schedule,
                    1.0 - recipe.sparsity,
                    scope=recipe.scope,
                    reset=recipe.reset,
                    late=recipe.late * self.steps,
                    importance=importance,
                )
        self.optimizer = self._new_optimizer()

    def _examples(self) -> tuple[list[Tensor], list[Tensor]]:
        """Features of a few rows, of the student and the teacher."""
        assert self.teacher is not None
        with torch.no_grad(), evaluating(self.student):
            rows = self.x[:2]
            found = []
            for module, names in zip((self.student, self.teacher), self.layers, strict=True):
                with watch(module, names) as features:
                    module(rows)
                silent = [name for name in names if name not in features]
                if silent:
                    msg = f"layer {silent[0]!r} of {type(module).__name__} is never called; expected layers that are"
                    raise ModuleError(msg)
                found.append([features[name] for name in names])
        return found[0], found[1]

    def _new_optimizer(self) -> torch.optim.Optimizer:
        own = [] if self.attention is None else list(self.attention.parameters())
        recipe = self.recipe
        groups: list[dict[str, Any]] = [
            {"params": list(self.student.parameters())},
            {"params": own, "weight_decay": ATTENTION_DECAY},
        ]
        return torch.optim.SGD(
            groups,
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
        )

    def run_epoch(self, epoch: int, order: np.ndarray[Any, np.dtype[np.int64]]) -> None:
        recipe = self.recipe
        taught = recipe.teach == "always" or epoch >= recipe.total_epochs - recipe.epochs
        total = rate = 0.0
        self.student.train()
        for rows in np.array_split(order, self.steps):
            rate = self._set_rate()
            self.optimizer.zero_grad(set_to_none=True)
            loss = self._loss(torch.from_numpy(rows), taught=taught)
            loss.backward()
            self.optimizer.step()
            total += float(loss.detach()) / self.steps
            self._prune()
            self.step += 1
        if not np.isfinite(total):
            msg = f"the loss of epoch {epoch + 1} is {total}; expected a finite number: lower learning_rate or beta, or scale y"
            raise TrainingError(msg)
        weights = count_weights(self.student)
        self.history.append({"epoch": epoch + 1, "loss": total, "learning_rate": rate, "weights": weights})

    def _set_rate(self) -> float:
        clock = self.lottery.rate_step(self.step) if self.lottery else self.step - self.rate_start
        passed = bisect.bisect_right(self.recipe.milestones, clock // self.steps)
        rate = self.recipe.learning_rate * self.recipe.decay**passed
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        return rate

    def _loss(self, rows: Tensor, *, taught: bool) -> Tensor:
        recipe, x = self.recipe, self.x[rows]
        if self.teacher is None or not taught:
            return self.loss(self.student(x), self.y[rows])
        ours, theirs = self.layers
        with torch.no_grad(), watch(self.teacher, theirs) as shown:
            target = self.teacher(x)
        with watch(self.student, ours) as seen:
            output = self.student(x)
        loss = self.loss(output, self.y[rows]) + recipe.alpha * soft_target_loss(output, target, recipe.temperature)
        if self.attention is not None:
            loss = loss + recipe.beta * self.attention([seen[n] for n in ours], [shown[n] for n in theirs])
        return loss

    def _prune(self) -> None:
        if self.lottery is not None:
            self.lottery.after_step(self.step, self.optimizer)
        elif self.schedule is not None and self.step and self.schedule.due(self.step):
            share = self.schedule.level(self.step, 1.0, 1.0 - self.recipe.sparsity)
            target = round(share * self.n_weights)
            self.student = remove_channels(self.student, self.x[:2], target, scope=self.recipe.scope)
            if self.attention is not None:
                self.attention.refit(self._examples()[0])
            self.optimizer = self._new_optimizer()
            self.rate_start = self.step + 1 if self.recipe.reset == "rate" else 0
            self._set_rate()
