"""One student of item factors, trained to a number of bytes an item as its file is packed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from prunus.distill.factors import FactorLoop, FactorSettings, TeacherLists
from prunus.engine.recommender_file import packed_bytes
from prunus.errors import BudgetImpossibleError
from prunus.prune.lottery import Importance, Lottery, Reset, Scope, by_magnitude, choose
from prunus.prune.schedule import ExponentialSchedule
from prunus.student.factors import Factors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from prunus.data.interactions import Interactions
    from prunus.engine.recommender import DenseFactors, SparseFactors

LISTED: Final = 100
"""Popular items that a file names: who has no history is shown no more."""

OVER: Final = 1.03
"""A ticket is drawn for so much of the budget: levels turn some of its values to zero, and the rest goes when they come."""

_TRIES: Final = 12
"""Halvings of the density, down to a few hundredths of a percent of the bytes."""


@dataclass(frozen=True)
class TicketPlan:
    """How a student is pruned.

    Attributes:
        scope: among which weights the smallest go.
        reset: what survivors start from after each pruning.
        prune_until: share of the epochs after which the density is reached.
        every: epochs between two prunings.
        late: epochs done at the values that survivors go back to, where they go back to late ones.
        importance: scores weights; the larger stay.
    """

    scope: Scope = "row"
    reset: Reset = "none"
    prune_until: float = 0.5
    every: int = 1
    late: int = 0
    importance: Importance = by_magnitude


@dataclass(frozen=True)
class FactorStudent:
    """What training gave.

    Attributes:
        model: the factors on their levels.
        history: one record an epoch.
    """

    model: SparseFactors | DenseFactors
    history: list[dict[str, Any]]


def popular_items(train: Interactions) -> NDArray[np.int32]:
    """Give the items that most users took, the most popular first: int32, at most 100."""
    return np.argsort(-train.popularity, kind="stable")[:LISTED].astype(np.int32)


def train_factors(
    train: Interactions,
    lists: TeacherLists | None,
    bytes_per_item: float,
    *,
    n_factors: int = 512,
    bits: int = 4,
    settings: FactorSettings | None = None,
    plan: TicketPlan | None = None,
    metadata: Mapping[str, object] | None = None,
    checkpoint: Path | None = None,
    on_epoch: Callable[[FactorLoop], dict[str, float]] | None = None,
) -> FactorStudent:
    """Train item factors whose file takes at most so many bytes an item, without the id map.

    The density that fits is found on the first weights and once more when the weights go on levels, each time by
    packing; what training then adds to the entropy of the values goes at the end, smallest values first.

    Args:
        train: histories to learn from.
        lists: a teacher's lists for the same users; None for no teacher.
        bytes_per_item: budget.
        n_factors: width of a row before pruning; at most the number of items.
        bits: of a value in the file.
        settings: of the training.
        plan: of the pruning.
        metadata: what will stand in the file beside the model, which counts.
        checkpoint: file for resumes.
        on_epoch: see :class:`~prunus.distill.factors.FactorLoop`.

    Raises:
        BudgetImpossibleError: one value an item is too much.
        RecipeChangedError: the checkpoint belongs to another training.
    """
    settings, plan = settings or FactorSettings(), plan or TicketPlan()
    popular = popular_items(train)
    model = Factors(train.n_items, min(n_factors, train.n_items), seed=settings.seed, bits=bits)
    budget = _Budget(bytes_per_item * train.n_items, popular, metadata or {})
    share = budget.density(model, OVER)
    loop = FactorLoop(model, train, lists, settings, on_round=budget.trim, on_epoch=on_epoch, checkpoint=checkpoint)
    if share < 1.0:
        loop.pruner = _pruner(model, loop, share, plan)
    loop.run()
    budget.trim(model)
    return FactorStudent(model.factors(popular), loop.history)


def _pruner(model: Factors, loop: FactorLoop, share: float, plan: TicketPlan) -> Lottery:
    per_epoch = loop.steps_per_epoch
    end = max(math.floor(plan.prune_until * loop.settings.epochs), 1) * per_epoch
    return Lottery(
        {"weight": model.weight},
        ExponentialSchedule(0, end, min(plan.every * per_epoch, end)),
        share,
        scope=plan.scope,
        reset=plan.reset,
        late=plan.late * per_epoch,
        masks={"weight": model.mask},
        importance=plan.importance,
    )


class _Budget:
    """Bytes of a file, and what of a student fits into them."""

    def __init__(self, n_bytes: float, popular: NDArray[np.int32], metadata: Mapping[str, object]) -> None:
        self.n_bytes, self.popular, self.metadata = n_bytes, popular, metadata

    def spent(self, model: Factors) -> int:
        """Bytes of the file as the student is now."""
        return packed_bytes(model.factors(self.popular), metadata=self.metadata)

    def density(self, model: Factors, over: float) -> float:
        """Density of the largest rows that fit into the budget times ``over``; the student stays as it is.

        Raises:
            BudgetImpossibleError: not even one value an item fits.
        """
        scores = {"weight": model.weight.detach().abs()}
        state = {name: value.clone() for name, value in model.state_dict().items()}

        def fits(n_kept: int) -> bool:
            model.mask.copy_(choose(scores, n_kept / model.n_factors, "row")["weight"])
            model.calibrate()
            return self.spent(model) <= over * self.n_bytes

        low, high = 0, model.n_factors
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if fits(middle) else (low, middle - 1)
        if low == 0:
            fits(1)
            least = math.ceil(self.spent(model) / model.n_items)
            msg = (
                f"the budget of {self.n_bytes / model.n_items:.3g} bytes an item is too small for one value an item"
                f" and the file around them; expected {least}B or more"
            )
            raise BudgetImpossibleError(msg, f"{least}B")
        model.load_state_dict(state)
        return low / model.n_factors

    @torch.no_grad()
    def trim(self, model: Factors) -> None:
        """Remove the smallest factors until the file fits; each item keeps one."""
        if self.spent(model) <= self.n_bytes:
            return
        rows = model.rows().abs()
        scores = {"weight": torch.where(model.mask, rows, -1.0)}
        kept = model.mask.clone()
        low, high = 0.0, float(kept.float().mean())
        for _ in range(_TRIES):
            middle = (low + high) / 2
            model.mask.copy_(choose(scores, middle, "global")["weight"])
            low, high = (middle, high) if self.spent(model) <= self.n_bytes else (low, middle)
        model.mask.copy_(choose(scores, max(low, 1e-9), "global")["weight"] & kept)
