"""One student of item factors, trained to a number of bytes an item as its file is packed."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from prunus.compress.row_budget import POPULAR, SAMPLED_ITEMS, RowBudget, coarsen, fit, row_length
from prunus.distill.factors import FactorLoop, FactorSettings, TeacherLists
from prunus.engine.recommender import DenseFactors, SparseFactors
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

OVER: Final = 1.03
"""A ticket is drawn for so much of the budget: levels turn some of its values to zero, and the rest goes when they come."""


LONG: Final = 1 / 8
"""Rows that keep so much of their width start from a teacher's leading factors, to which all items contribute; shorter
ones end better from factors that are drawn (nDCG@20 .1993 to .1959 at 14 of 512 values; docs/distillation.md)."""


PILOT: Final = 1 / 6
"""Share of the epochs of the training that tells how many bytes dense factors take."""


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
        over: the row's length is told for so much of the budget, for levels turn some of its values to zero; what is too
            much goes when they come.
    """

    scope: Scope = "row"
    reset: Reset = "none"
    prune_until: float = 0.5
    every: int = 1
    late: int = 0
    importance: Importance = by_magnitude
    over: float = OVER


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
    """Give the items that most users took, the most popular first: int32, as many as a file keeps."""
    return np.argsort(-train.popularity, kind="stable")[:POPULAR].astype(np.int32)


def train_factors(
    train: Interactions,
    lists: TeacherLists | None,
    budget: RowBudget,
    *,
    n_factors: int = 512,
    bits: int = 4,
    settings: FactorSettings | None = None,
    plan: TicketPlan | None = None,
    start: NDArray[np.float32] | None = None,
    metadata: Mapping[str, object] | None = None,
    checkpoint: Path | None = None,
    on_epoch: Callable[[FactorLoop], dict[str, float]] | None = None,
) -> FactorStudent:
    """Train item factors whose file keeps within a budget.

    The length of a row is told from drawn rows (:func:`~prunus.compress.row_budget.row_length`). When the weights go on
    levels the smallest of all go until the file fits, and training goes on with what is left; what it then adds to the
    entropy of the values goes at the end.

    Args:
        train: histories to learn from.
        lists: a teacher's lists for the same users; None for no teacher.
        budget: bytes of the file, the items' names not counted.
        n_factors: width of a row before pruning; at most the number of items.
        bits: of a value in the file.
        settings: of the training.
        plan: of the pruning.
        start: float32 [n_items, m], rows whose directions are the first weights, such as the leading factors of a
            teacher's weights; None to draw them. They are drawn, too, where rows end short: see :data:`LONG`.
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
    length = row_length(RowBudget(plan.over * budget.n_bytes, budget.n_items), model.n_factors, bits)
    if start is not None and length >= LONG * model.n_factors:
        model.start_from(np.ascontiguousarray(start[:, : model.n_factors]))

    def trim(student: Factors) -> None:
        _trim(student, budget, popular, metadata or {})

    loop = FactorLoop(model, train, lists, settings, on_round=trim, on_epoch=on_epoch, checkpoint=checkpoint)
    loop.pruner = lottery = _pruner(model, loop, length / model.n_factors, plan)
    loop.run()
    if lottery.schedule.end >= loop.total_steps:  # too few steps for a schedule: all at once
        model.mask.copy_(choose({"weight": model.weight.detach().abs()}, lottery.density, "row")["weight"])
    if float(model.step) == 0:
        model.calibrate()
    found = model.factors(popular)
    assert isinstance(found, SparseFactors)
    # Cut as it stands: a row that is normalised anew has other values, and they may take more again.
    return FactorStudent(fit(found, budget, metadata or {}), loop.history)


def train_dense(
    train: Interactions,
    lists: TeacherLists | None,
    budget: RowBudget,
    *,
    bits: int = 4,
    settings: FactorSettings | None = None,
    width: int | None = None,
    metadata: Mapping[str, object] | None = None,
    checkpoint: Path | None = None,
    on_epoch: Callable[[FactorLoop], dict[str, float]] | None = None,
) -> FactorStudent:
    """Train small factors of which none is pruned, to the same bytes as a ticket.

    Training with the rounding in place leaves most values on few levels, so that an item takes fewer bytes than of drawn
    rows, at 3 bits about half. How many is told by a short training (:data:`PILOT`) as wide as drawn rows allow, and the
    student is as much wider (:func:`wider`). Should it come out larger than the budget, its levels are set further apart
    until it fits.

    Args:
        train: histories to learn from.
        lists: a teacher's lists for the same users; None for no teacher.
        budget: bytes of the file, the items' names not counted.
        bits: of a value in the file.
        settings: of the training.
        width: factors an item where that is known; None to have it told.
        metadata: what will stand in the file beside the model, which counts.
        checkpoint: file for resumes.
        on_epoch: see :class:`~prunus.distill.factors.FactorLoop`.

    Raises:
        BudgetImpossibleError: one factor is too much.
        RecipeChangedError: the checkpoint belongs to another training.
    """
    settings, popular = settings or FactorSettings(), popular_items(train)

    def trained(width: int, settings: FactorSettings, **options: Any) -> tuple[DenseFactors, list[dict[str, Any]]]:  # noqa: ANN401
        model = Factors(train.n_items, width, seed=settings.seed, bits=bits)
        loop = FactorLoop(model, train, lists, settings, **options)
        loop.run()
        if float(model.step) == 0:
            model.calibrate()
        return _dense(model, popular), loop.history

    if width is None:
        first = drawn_width(train, budget, bits=bits, metadata=metadata)
        pilot = replace(settings, epochs=max(round(PILOT * settings.epochs), 1))
        kept = None if checkpoint is None else checkpoint.with_name(f"pilot-{checkpoint.name}")
        taken = packed_bytes(trained(first, pilot, checkpoint=kept)[0], metadata=metadata or {})
        width = wider(first, taken / budget.n_bytes, train.n_items)
    found, history = trained(width, settings, checkpoint=checkpoint, on_epoch=on_epoch)
    return FactorStudent(coarsen(found, budget, metadata or {}), history)


def drawn_width(
    train: Interactions, budget: RowBudget, *, bits: int, metadata: Mapping[str, object] | None = None
) -> int:
    """Find how many drawn factors an item a budget buys; trained ones take fewer bytes.

    Args:
        train: the catalogue.
        budget: bytes of the file.
        bits: of a value in the file.
        metadata: what will stand in the file beside the model.

    Raises:
        BudgetImpossibleError: one factor is too much.
    """
    n = min(train.n_items, SAMPLED_ITEMS)
    popular = np.arange(min(POPULAR, n), dtype=np.int32)

    def bytes_per_item(width: int) -> float:
        model = Factors(n, width, seed=0, bits=bits)
        model.calibrate()
        return packed_bytes(_dense(model, popular), metadata=metadata or {}) / n

    low, high = 0, min(math.ceil(8 * budget.bytes_per_item), train.n_items)  # a value takes a bit at least
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if bytes_per_item(middle) <= budget.bytes_per_item else (low, middle - 1)
    if low == 0:
        msg = f"got {budget.bytes_per_item:.3g} bytes an item; one factor of {bits} bits takes more: expected a larger budget"
        raise BudgetImpossibleError(msg, f"{math.ceil(bytes_per_item(1))}B")
    return low


def wider(width: int, share: float, n_items: int) -> int:
    """Tell the width of rows that fill a budget, of which trained rows of some width take a share."""
    return max(min(int(width / share), n_items), 1)


def _dense(model: Factors, popular: NDArray[np.int32]) -> DenseFactors:
    found = model.factors(popular)
    assert isinstance(found, DenseFactors)
    return found


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
        beside={"log_length": model.log_length, "log_sharpness": model.log_sharpness},
        importance=plan.importance,
    )


@torch.no_grad()
def _trim(model: Factors, budget: RowBudget, popular: NDArray[np.int32], metadata: Mapping[str, object]) -> None:
    """Remove the smallest factors of all until the file fits; each item keeps one."""
    found = model.factors(popular)
    if isinstance(found, SparseFactors):
        rows = fit(found, budget, metadata).decode
        kept = torch.zeros_like(model.mask)
        kept[torch.from_numpy(rows.row), torch.from_numpy(rows.factor.astype(np.int64))] = True
        model.mask.copy_(kept)
