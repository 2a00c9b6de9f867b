"""A recommender's budget in bytes: how many values an item it buys, and cutting what came out larger."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from prunus.engine.levels import MOST_BITS, quantise, quantise_rows
from prunus.engine.recommender import DenseFactors, SparseFactors, SparseRows
from prunus.engine.recommender_codec import about_row_bytes
from prunus.engine.recommender_file import packed_bytes
from prunus.errors import BudgetError, BudgetImpossibleError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

SAMPLED_ITEMS = 4000
"""Rows drawn to tell what a row costs. Random rows cost more than trained ones, which share factors: the safe side."""
SLACK = 0.002
"""Share of the budget that a cut may leave unused."""
COARSER = 1.05
"""What the distance of two levels is multiplied by, again and again, where dense factors came out too large."""
POPULAR = 100
"""Popular items kept in the file for empty histories."""


@dataclass(frozen=True)
class RowBudget:
    """Bytes that a recommender's file may have, without the items' names.

    Attributes:
        n_bytes: of the file.
        n_items: items of the catalogue.
    """

    n_bytes: float
    n_items: int

    @classmethod
    def parse(cls, text: str, n_items: int) -> RowBudget:
        """Read a budget as it is typed: ``128B`` is bytes an item, ``400KB`` or ``2MB`` bytes of the file.

        Args:
            text: the budget.
            n_items: items of the catalogue.

        Raises:
            BudgetError: the text has another form.
        """
        found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(B|KB|kB|MB)\s*", text)
        if found is None or not float(found[1]) > 0:
            msg = f"got the budget {text!r}; expected bytes an item such as 128B, or of the file such as 400KB or 2MB"
            raise BudgetError(msg)
        unit = {"B": n_items, "KB": 1e3, "kB": 1e3, "MB": 1e6}[found[2]]
        return cls(float(found[1]) * unit, n_items)

    @property
    def bytes_per_item(self) -> float:
        """Bytes for each item."""
        return self.n_bytes / self.n_items


def row_length(budget: RowBudget, n_factors: int, bits: int) -> int:
    """Find how many values an item the budget buys, of a width of row.

    Args:
        budget: the bytes.
        n_factors: width of a row.
        bits: of a value.

    Returns:
        1 to n_factors - 1.

    Raises:
        BudgetImpossibleError: it does not buy one value an item.
    """
    n = min(budget.n_items, SAMPLED_ITEMS)
    drawn = np.random.default_rng(0).standard_normal((n, n_factors)).astype(np.float32)
    order = np.argsort(-np.abs(drawn), axis=1)
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)

    def bytes_per_item(length: int) -> float:
        rows = np.zeros_like(drawn)
        kept = order[:, :length]
        np.put_along_axis(rows, kept, np.take_along_axis(drawn, kept, axis=1), axis=1)
        popular = np.arange(min(POPULAR, n), dtype=np.int32)
        return packed_bytes(SparseFactors(quantise_rows(SparseRows.from_dense(rows), bits), popular=popular)) / n

    least = bytes_per_item(1)
    if least > budget.bytes_per_item:
        msg = (
            f"got {budget.bytes_per_item:.3g} bytes an item ({budget.n_bytes:,.0f} for {budget.n_items:,} items); one value"
            f" an item takes {least:.3g}: expected at least {np.ceil(least):.0f}B"
        )
        raise BudgetImpossibleError(msg, f"{np.ceil(least):.0f}B")
    return _largest(bytes_per_item, budget.bytes_per_item, 1, n_factors - 1)


def fit(
    model: SparseFactors,
    budget: RowBudget,
    metadata: Mapping[str, object],
    importance: NDArray[np.float32] | None = None,
) -> SparseFactors:
    """Cut the smallest values of a model, over all items, until its file keeps within the budget.

    Each item keeps its largest value. How many stay is found by entropy (:func:`~prunus.engine.recommender_codec.about_row_bytes`)
    and held against the packed file, which sets the estimate right.

    Args:
        model: tied, or item-item weights; on levels.
        budget: the bytes.
        metadata: what will stand beside it in the file.
        importance: float32 [n_factors], above 0, what magnitudes are multiplied by for the comparison; None for ones.

    Raises:
        BudgetImpossibleError: one value an item is too much.
    """
    rows = model.decode
    order, n_least = _by_size(rows, importance)

    def cut(n_kept: int) -> SparseFactors:
        kept = np.zeros(len(order), np.bool_)
        kept[order[:n_kept]] = True
        starts = np.concatenate([[0], np.cumsum(kept, dtype=np.int32)])[rows.indptr]
        part = SparseRows(rows.n_factors, starts, rows.factor[kept], rows.value[kept], rows.step)
        return replace(model, decode=part, encode=None)

    def packed(n_kept: int) -> int:
        return packed_bytes(cut(n_kept), metadata=metadata)

    least = packed(n_least)
    if least > budget.n_bytes:
        nearest = f"{np.ceil(least / budget.n_items):.0f}B"
        msg = (
            f"got {budget.bytes_per_item:.3g} bytes an item; one value an item takes more: expected at least {nearest}"
        )
        raise BudgetImpossibleError(msg, nearest)
    about = cache(lambda n_kept: about_row_bytes(cut(n_kept)))
    # Of more than eight values for each byte no file keeps within the budget.
    low, high = n_least, max(min(len(order), int(8 * budget.n_bytes)), n_least)
    ratio = least / about(n_least)
    while low < high:
        n_kept = _largest(lambda n: ratio * about(n), budget.n_bytes, low, high, slack=SLACK / 4)  # noqa: B023 - called here
        n_kept = max(n_kept, low + 1)
        size = packed(n_kept)
        ratio = size / about(n_kept)
        if size > budget.n_bytes:
            high = n_kept - 1
            continue
        low = n_kept
        if size >= (1 - SLACK) * budget.n_bytes:
            break
    return model if low == len(order) else cut(low)


def _by_size(rows: SparseRows, importance: NDArray[np.float32] | None) -> tuple[NDArray[np.int64], int]:
    """Return where values stand, the first of each row before all others and the rest by falling size, and how many are first."""
    size = np.abs(rows.value) if importance is None else np.abs(rows.value) * importance[rows.factor]
    lengths = rows.lengths[rows.lengths > 0]
    if not len(lengths):
        return np.zeros(0, np.int64), 0
    most = np.maximum.reduceat(size, rows.indptr[:-1][rows.lengths > 0])
    at = np.flatnonzero(size == np.repeat(most, lengths))
    first = at[np.unique(rows.row[at], return_index=True)[1]]
    size[first] = np.inf
    return np.argsort(-size, kind="stable"), len(first)


def coarsen(model: DenseFactors, budget: RowBudget, metadata: Mapping[str, object]) -> DenseFactors:
    """Set the levels of dense factors further apart until their file keeps within the budget.

    Args:
        model: tied, on levels with one step.
        budget: the bytes.
        metadata: what will stand beside it in the file.

    Raises:
        BudgetImpossibleError: not even zeros fit.
    """
    values, step = model.decode, model.step
    while packed_bytes(model, metadata=metadata) > budget.n_bytes:
        if step is None or not model.decode.any():
            msg = f"got {budget.bytes_per_item:.3g} bytes an item for {values.shape[1]} dense factors; expected more"
            raise BudgetImpossibleError(msg, f"{math.ceil(packed_bytes(model, metadata=metadata) / budget.n_items)}B")
        step = step * np.float32(COARSER)
        kept = step.astype(np.float16).astype(np.float32)
        model = replace(model, decode=quantise(values, MOST_BITS, kept)[0], encode=None, step=kept)
    return model


def _largest(size_of: Callable[[int], float], bound: float, low: int, high: int, *, slack: float = 0.0) -> int:
    """Find the largest number whose size is within a bound; sizes rise with the number, and that of ``low`` is.

    Sizes are next to linear, so each guess is where a straight line meets the bound; packing is what takes the time.

    Args:
        size_of: the size of a number.
        bound: of the size.
        low: the least number.
        high: the largest number.
        slack: share of the bound that may be left unused.
    """
    least, most = size_of(low), size_of(high)
    if most <= bound:
        return high
    while high - low > 1 and least < (1 - slack) * bound:
        share = (bound - least) / max(most - least, 1e-9)
        middle = min(max(low + int(share * (high - low)), low + 1), high - 1)
        size = size_of(middle)
        if size <= bound:
            low, least = middle, size
        else:
            high, most = middle, size
    return low
