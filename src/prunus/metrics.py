"""Metrics of rankings, each printing its convention with its name so that no figure stands without it.

The conventions (gain, discount, ties, queries without a relevant document), and how other tools differ, are written
down in ``docs/metrics.md``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from prunus.errors import DataError, EmptyDataError, LabelError, SplitQueryError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    Metric = Callable[["ArrayLike", "ArrayLike", "ArrayLike"], "PerQuery"]
    """A metric whose options are fixed: (y, scores, offsets) -> PerQuery."""

Empty = Literal["skip", "zero", "one"]
"""What a query without a relevant document gets: left out of the mean, 0, or 1."""

_NAMES = re.compile(r"(ndcg|mrr)(?:@([0-9]+))?", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class PerQuery:
    """A metric's value for each query.

    Attributes:
        values: float64 [n_queries], NaN where the query is left out.
        name: the metric with its convention, such as ``nDCG(dcg='exp-log2', empty='skip')@10``.
        empty: bool [n_queries], true where the query has no relevant document (whatever ``values`` gives it); None for
            the queries that are left out.
    """

    values: NDArray[np.float64]
    name: str
    empty: NDArray[np.bool_] | None = None

    @property
    def n_counted(self) -> int:
        """Number of queries that the mean is taken over."""
        return int(np.count_nonzero(~np.isnan(self.values)))

    @property
    def n_empty(self) -> int:
        """Number of queries without a relevant document."""
        return int(np.count_nonzero(np.isnan(self.values) if self.empty is None else self.empty))

    @property
    def mean(self) -> float:
        """Mean over the queries that are counted, each with the same weight.

        Raises:
            EmptyDataError: no query is counted.
        """
        counted = self.values[~np.isnan(self.values)]
        if len(counted) == 0:
            msg = (
                f"{self.name}: none of the {len(self.values)} queries has a relevant document, so there is no mean;"
                " expected at least one label above 0: check the labels"
            )
            raise EmptyDataError(msg)
        return float(counted.mean())

    def __str__(self) -> str:
        shown = f"{self.mean:.4f}" if self.n_counted else "undefined"
        return f"{self.name} = {shown} over {self.n_counted} queries ({self.n_empty} without a relevant document)"


def rank_order(scores: ArrayLike, offsets: ArrayLike) -> NDArray[np.int64]:
    """Sort the documents of each query by score, best first; equal scores keep their order in the input.

    Args:
        scores: [n_docs], real numbers without NaN; infinities are sorted like any other number.
        offsets: int64 [n_queries + 1], rising from 0 to n_docs.

    Returns:
        int64 [n_docs], row indices: places offsets[q]:offsets[q + 1] hold the rows of query q, best first.

    Raises:
        DataError: a score is NaN.
        SplitQueryError: the offsets do not rise from 0 to n_docs.
    """
    values = real_column(scores, "scores")
    bad = np.isnan(values)
    if bad.any():
        msg = (
            f"{np.count_nonzero(bad)} of {len(values)} scores are NaN, the first at row {int(np.argmax(bad))};"
            " expected a number for each document: NaN cannot be ranked"
        )
        raise DataError(msg)
    query = _query_of_doc(_checked_offsets(offsets, len(values)))
    # Both keys of lexsort are sorted stably, and the last one counts first.
    return np.lexsort((-values, query)).astype(np.int64, copy=False)


def ndcg(y: ArrayLike, scores: ArrayLike, offsets: ArrayLike, k: int | None = 10, *, empty: Empty = "skip") -> PerQuery:
    """Normalized discounted cumulative gain of each query.

    With y_(r) the label of the document at rank r = 1, 2, ... (highest score first, ties by input order),

        DCG@k = sum over r <= k of (2^y_(r) - 1) / log2(1 + r),        nDCG@k = DCG@k / max DCG@k

    where the maximum is over all orders of the query's documents. A query whose labels are all 0 has no nDCG.

    Args:
        y: [n_docs], labels from 0 up.
        scores: [n_docs], any real scale; only the order inside a query matters.
        offsets: int64 [n_queries + 1], rising from 0 to n_docs.
        k: ranks that count, 1 or more; None for all.
        empty: what a query without a relevant document gets: ``"skip"`` leaves it out (NaN), ``"zero"`` 0, ``"one"`` 1.

    Returns:
        One value in [0, 1] for each query.

    Raises:
        DataError: a score is NaN, lengths differ, or an option is unknown.
        LabelError: a label is negative or not finite.
        SplitQueryError: the offsets do not rise from 0 to n_docs.

    References:
        Burges et al., Learning to rank using gradient descent, ICML 2005.

    Example:
        >>> ndcg(y=[0, 2, 1], scores=[0.3, 0.2, 0.1], offsets=[0, 3]).mean.__round__(4)
        0.659
    """
    labels, bounds, order = _ranked(y, scores, offsets, k)
    gains = np.exp2(labels) - 1.0
    found = _discounted(gains[order], bounds, k)
    best = _discounted(gains[rank_order(labels, bounds)], bounds, k)
    nothing = best == 0
    values = np.divide(found, best, out=np.zeros_like(found), where=~nothing)
    return _per_query(values, nothing, f"nDCG(dcg='exp-log2', empty={empty!r})", k, empty)


def mrr(
    y: ArrayLike,
    scores: ArrayLike,
    offsets: ArrayLike,
    k: int | None = None,
    *,
    relevant: float = 1.0,
    empty: Empty = "skip",
) -> PerQuery:
    """Reciprocal rank of the first relevant document of each query; its mean is the MRR.

        RR@k = 1 / min{r : y_(r) >= relevant},  0 where no such r <= k

    Args:
        y: [n_docs], labels from 0 up.
        scores: [n_docs], any real scale.
        offsets: int64 [n_queries + 1], rising from 0 to n_docs.
        k: ranks that count, 1 or more; None for all.
        relevant: the lowest label of a relevant document, above 0.
        empty: what a query without a relevant document gets, as in :func:`ndcg`.

    Returns:
        One value in [0, 1] for each query.

    Raises:
        DataError: a score is NaN, lengths differ, or an option is unknown.
        LabelError: a label is negative or not finite.
        SplitQueryError: the offsets do not rise from 0 to n_docs.
    """
    if not relevant > 0:
        msg = f"got relevant={relevant}; expected a label above 0"
        raise DataError(msg)
    labels, bounds, order = _ranked(y, scores, offsets, k)
    hit = labels[order] >= relevant
    rank = np.arange(len(labels)) - np.repeat(bounds[:-1], np.diff(bounds)) + 1
    first = np.minimum.reduceat(np.where(hit, rank, np.inf), bounds[:-1])
    values = np.where(first <= (np.inf if k is None else k), 1.0 / first, 0.0)
    return _per_query(values, np.isinf(first), f"RR(rel={relevant:g}, empty={empty!r})", k, empty)


def by_name(name: str, *, empty: Empty = "skip") -> Metric:
    """Find a metric by the name that the command line uses.

    Args:
        name: ``"ndcg@10"``, ``"mrr"``, ``"mrr@10"`` and so on; case does not matter, and without @k all ranks count.
        empty: what a query without a relevant document gets, as in :func:`ndcg`.

    Returns:
        A function (y, scores, offsets) -> :class:`PerQuery`.

    Raises:
        DataError: the name is unknown, or k is 0.
    """
    match = _NAMES.fullmatch(name.strip())
    if match is None:
        msg = f"got metric {name!r}; expected ndcg or mrr, with @k for the first k ranks, such as ndcg@10"
        raise DataError(msg)
    k = None if match[2] is None else int(match[2])
    _check_options(k, empty)
    function = ndcg if match[1].lower() == "ndcg" else mrr

    def metric(y: ArrayLike, scores: ArrayLike, offsets: ArrayLike) -> PerQuery:
        return function(y, scores, offsets, k, empty=empty)

    return metric


def real_column(values: ArrayLike, name: str) -> NDArray[np.floating]:
    """Return a one-dimensional array of floats: float32 and float64 as they are, all else as float64."""
    column = np.asarray(values)
    if column.ndim != 1 or column.dtype.kind not in "fiub":
        msg = f"got {name} of shape {column.shape} and type {column.dtype}; expected one real number a document"
        raise DataError(msg)
    return column if column.dtype in (np.float32, np.float64) else column.astype(np.float64)


def _checked_offsets(offsets: ArrayLike, n_docs: int) -> NDArray[np.int64]:
    bounds = np.asarray(offsets)
    whole = bounds.ndim == 1 and bounds.dtype.kind in "iu" and len(bounds) >= 2
    if not whole or bounds[0] != 0 or bounds[-1] != n_docs or not (bounds[1:] > bounds[:-1]).all():
        msg = f"offsets must be integers that rise from 0 to {n_docs} (the number of documents), one more than queries"
        raise SplitQueryError(msg)
    return bounds.astype(np.int64, copy=False)


def _query_of_doc(bounds: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.repeat(np.arange(len(bounds) - 1, dtype=np.int64), np.diff(bounds))


def _check_options(k: int | None, empty: str) -> None:
    if k is not None and k < 1:
        msg = f"got k = {k}; expected 1 or more ranks, or None for all"
        raise DataError(msg)
    if empty not in get_args(Empty):
        msg = f"got empty={empty!r}; expected one of {', '.join(map(repr, get_args(Empty)))}"
        raise DataError(msg)


def _ranked(
    y: ArrayLike, scores: ArrayLike, offsets: ArrayLike, k: int | None
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Check the input of a metric; return labels float64 [n_docs], offsets, and the rows best first."""
    _check_options(k, "skip")
    labels = real_column(y, "labels").astype(np.float64)
    n_scores = len(real_column(scores, "scores"))
    if len(labels) != n_scores:
        msg = f"got {n_scores} scores for {len(labels)} labels; expected one score and one label a document"
        raise DataError(msg)
    bad = ~((labels >= 0) & np.isfinite(labels))
    if bad.any():
        row = int(np.argmax(bad))
        msg = f"got label {labels[row]} at row {row}; expected finite labels of 0 or more: map them to grades first"
        raise LabelError(msg)
    return labels, _checked_offsets(offsets, len(labels)), rank_order(scores, offsets)


def _discounted(gains: NDArray[np.float64], bounds: NDArray[np.int64], k: int | None) -> NDArray[np.float64]:
    """Return the DCG of each query: float64 [n_queries], of gains that stand in rank order inside each query."""
    query = _query_of_doc(bounds)
    rank = np.arange(len(gains)) - bounds[query] + 1
    if k is not None:
        counted = rank <= k
        query, rank, gains = query[counted], rank[counted], gains[counted]
    # bincount adds in the order of the rows, so a query's sum does not depend on the queries beside it.
    sums: NDArray[np.float64] = np.bincount(query, gains / np.log2(1.0 + rank), len(bounds) - 1).astype(np.float64)
    return sums


def _per_query(
    values: NDArray[np.float64], nothing: NDArray[np.bool_], name: str, k: int | None, empty: Empty
) -> PerQuery:
    """Give the queries without a relevant document their value, and the name its cutoff."""
    _check_options(k, empty)
    value_of_empty = {"skip": np.nan, "zero": 0.0, "one": 1.0}[empty]
    return PerQuery(np.where(nothing, value_of_empty, values), name if k is None else f"{name}@{k}", nothing)
