"""A recommender's budget in bytes: how many values an item it buys, and cutting what came out larger."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from prunus.engine.levels import quantise_rows
from prunus.engine.recommender import SparseFactors, SparseRows
from prunus.engine.recommender_file import packed_bytes
from prunus.errors import BudgetError, BudgetImpossibleError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SAMPLED_ITEMS = 4000
"""Rows drawn to tell what a row costs. Random rows cost more than trained ones, which share factors: the safe side."""
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

    def holds(self, model: SparseFactors, metadata: Mapping[str, object]) -> bool:
        """Whether a model's file keeps within the budget.

        Args:
            model: on levels, as it is to be written.
            metadata: what will stand beside it.
        """
        return packed_bytes(model, metadata=metadata) <= self.n_bytes


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
    return _largest(lambda length: bytes_per_item(length) <= budget.bytes_per_item, 1, n_factors - 1)


def fit(model: SparseFactors, budget: RowBudget, metadata: Mapping[str, object]) -> SparseFactors:
    """Cut the smallest values of a model, over all items, until its file keeps within the budget.

    Each item keeps its largest value.

    Args:
        model: tied, on levels.
        budget: the bytes.
        metadata: what will stand beside it in the file.

    Raises:
        BudgetImpossibleError: one value an item is too much.
    """
    rows = model.decode
    size = np.abs(rows.value)
    first = np.lexsort((-size, rows.row))[rows.indptr[:-1][rows.lengths > 0]]
    size[first] = np.inf
    order = np.argsort(-size, kind="stable")

    def cut(n_kept: int) -> SparseFactors:
        kept = np.zeros(len(order), np.bool_)
        kept[order[:n_kept]] = True
        starts = np.concatenate([[0], np.cumsum(kept)])[rows.indptr].astype(np.int32)
        part = SparseRows(rows.n_factors, starts, rows.factor[kept], rows.value[kept], rows.step)
        return replace(model, decode=part, encode=None)

    if budget.holds(model, metadata):
        return model
    if not budget.holds(cut(len(first)), metadata):
        least = f"{np.ceil(packed_bytes(cut(len(first)), metadata=metadata) / budget.n_items):.0f}B"
        msg = f"got {budget.bytes_per_item:.3g} bytes an item; one value an item takes more: expected at least {least}"
        raise BudgetImpossibleError(msg, least)
    return cut(_largest(lambda n: budget.holds(cut(n), metadata), len(first), len(order)))


def _largest(fits: Callable[[int], bool], low: int, high: int) -> int:
    """The largest number for which ``fits`` holds; it holds at ``low``, and once it fails it fails above."""
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low
