"""Item-item weights cut to their largest, and fitted anew on what is left: the student that needs no training."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from prunus.engine.recommender import SparseFactors, SparseRows
from prunus.errors import TeacherError
from prunus.extras import need

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from prunus.teacher.linear import EaseProblem

BLOCK = 512
"""Items whose weights are looked through at a time: beside the matrix this takes 16 bytes for each of its weights."""
MOST_DENSE = 8192
"""Items of which a refit makes X'X dense, 4 bytes an entry: the most common ones."""


def largest(
    weights: NDArray[np.float32],
    n_kept: int,
    popular: NDArray[np.int32],
    importance: NDArray[np.float32] | None = None,
) -> SparseFactors:
    """Keep the weights of largest magnitude, over all items; each item keeps the largest that goes into it.

    Args:
        weights: float32 [n_items, n_items]; row i is what item i says for each item, as in
            :class:`prunus.teacher.linear.ItemItem`. What items say for themselves is not kept.
        n_kept: weights in all, n_items to n_items (n_items - 1).
        popular: int32, items by falling popularity, the answer to an empty history.
        importance: float32 [n_items], above 0, what the magnitudes of an item's row are multiplied by for the comparison;
            None for ones. See :func:`saliency`.

    Raises:
        ValueError: n_kept is out of range.
    """
    n_items = len(weights)
    if not n_items <= n_kept <= n_items * (n_items - 1):
        msg = f"got {n_kept} weights of {n_items} items; expected {n_items} to {n_items * (n_items - 1)}"
        raise ValueError(msg)
    by = np.ones(n_items, np.float32) if importance is None else importance
    least = _threshold(weights, n_kept, by)
    lengths, factors, values, sizes = [], [], [], []
    for start in range(0, n_items, BLOCK):
        incoming = weights[:, start : start + BLOCK].T.copy()
        size = np.abs(incoming) * by
        here = np.arange(len(size))
        size[here, start + here] = -1.0
        size[here, size.argmax(axis=1)] = np.inf
        row, column = np.nonzero(size >= least)
        lengths.append(np.bincount(row, minlength=len(size)))
        factors.append(column.astype(np.int32))
        values.append(incoming[row, column])
        sizes.append(size[row, column])
    size = np.concatenate(sizes)
    kept = np.zeros(len(size), np.bool_)
    kept[np.argpartition(-size, n_kept - 1)[:n_kept]] = True
    starts = np.concatenate([[0], np.cumsum(np.concatenate(lengths))])
    indptr = np.concatenate([[0], np.cumsum(kept)])[starts].astype(np.int32)
    rows = SparseRows(n_items, indptr, np.concatenate(factors)[kept], np.concatenate(values)[kept])
    return SparseFactors(rows, popular=popular, item_item=True)


def _threshold(weights: NDArray[np.float32], n_kept: int, by: NDArray[np.float32]) -> np.float32:
    """Return a size that at least ``n_kept`` weights have, and hardly any more.

    The upper bits of a float are its place among others: a histogram over them, 256 bins an octave, takes one look at each weight.
    """
    counts = np.zeros(1 << 16, np.int64)
    for start in range(0, len(weights), BLOCK):
        size = np.abs(weights[start : start + BLOCK], dtype=np.float32) * by[start : start + BLOCK, None]
        here = np.arange(len(size))
        size[here, start + here] = 0.0
        counts += np.bincount(size.view(np.uint32).ravel() >> 15, minlength=len(counts))
    above = np.cumsum(counts[::-1])[::-1]
    return np.uint32(np.flatnonzero(above >= n_kept)[-1] << 15).view(np.float32)


def saliency(problem: EaseProblem) -> NDArray[np.float32]:
    """Give what the magnitudes of an item's weights are multiplied by, to tell what leaving one out costs.

    The objective of EASE rises by w_ij^2 (G_ii + r_i) where w_ij alone is set to 0 at its least, so the factor is the root of
    G_ii + r_i: the same weight matters more of an item that many have. Weights that stand scaled for popular items are compared as they stand.

    Args:
        problem: the least squares.

    References:
        LeCun, Denker, Solla, Optimal brain damage, NeurIPS 1989.
    """
    diagonal = np.asarray(problem.matrix.multiply(problem.matrix).sum(axis=0)).ravel()
    return np.sqrt(diagonal + problem.ridge).astype(np.float32)


def refit(model: SparseFactors, problem: EaseProblem) -> SparseFactors:
    """Fit the weights of a cut model anew, by least squares on its own pattern.

    For each item j with the pattern S, b = (G_SS + diag(r_S))^-1 G_Sj: EASE's own problem, with all weights but those of the
    pattern held at 0. Like EASE's they are multiplied by the item's scale.

    Args:
        model: item-item weights; only their pattern counts.
        problem: the least squares that the teacher solved.

    Returns:
        The same pattern with other values, on no levels.

    Raises:
        TeacherError: a problem is not positive definite as rounded.

    References:
        SANSA, Spisak et al., RecSys 2023, for the idea of weights on a prescribed pattern.
    """
    solve = need("scipy.linalg.lapack", extra="io").dposv
    entries = _gram(problem.matrix)
    rows = model.decode
    values = np.empty(len(rows.value), np.float32)
    for item, (start, end) in enumerate(zip(rows.indptr[:-1], rows.indptr[1:], strict=True)):
        pattern = rows.factor[start:end]
        inner, right = entries(pattern, item)
        inner[np.diag_indices_from(inner)] += problem.ridge[pattern]
        if end > start:
            _, found, info = solve(inner, right, lower=1)
            if info:
                msg = f"got no positive definite problem for item {item} in float32; expected one: give the teacher a larger l2"
                raise TeacherError(msg)
            values[start:end] = found * problem.scale[item]
    return replace(model, decode=SparseRows(rows.n_factors, rows.indptr, rows.factor, values))


def _gram(matrix: Any) -> Callable[[NDArray[np.int32], int], tuple[NDArray[np.float32], NDArray[np.float32]]]:  # noqa: ANN401 - scipy
    """Return what gives G_SS and G_Sj of a pattern S and an item j, where G = X'X.

    Items whose rows of G are the longest are in most patterns, and stand in a dense block; the rows of all others are short.
    """
    gram = (matrix.T @ matrix).tocsr()
    order = np.argsort(-np.diff(gram.indptr), kind="stable")[:MOST_DENSE]
    dense = gram[order][:, order].toarray()
    rank, place = np.full(gram.shape[0], -1), np.full(gram.shape[0], -1)
    rank[order] = np.arange(len(order))

    def entries(pattern: NDArray[np.int32], item: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        asked = np.append(pattern, item)
        at = rank[asked]
        found = dense[np.ix_(at, at)]
        rare = np.flatnonzero(at < 0)
        if len(rare):
            found[rare] = found[:, rare] = 0.0
            rows = gram[asked[rare]]
            place[asked] = np.arange(len(asked))  # so one look at each entry of a row says where it goes
            column = place[rows.indices]
            place[asked] = -1
            row = np.repeat(rare, np.diff(rows.indptr))[column >= 0]
            column, value = column[column >= 0], rows.data[column >= 0]
            found[row, column] = found[column, row] = value
        return found[:-1, :-1], found[:-1, -1]

    return entries
