"""Item-item weights cut to their largest: the student that needs no training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from prunus.engine.recommender import SparseFactors, SparseRows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from prunus.data.interactions import Interactions


BLOCK = 512
"""Items whose weights are looked through at a time: beside the matrix this takes 16 bytes for each of its weights."""


def cut(weights: NDArray[np.float32], k: int, popular: NDArray[np.int32]) -> SparseFactors:
    """Keep the k weights of largest magnitude that go into each item.

    Args:
        weights: float32 [n_items, n_items]; row i is what item i says for each item, as in
            :class:`prunus.teacher.linear.ItemItem`.
        k: weights an item, 1 to n_items - 1.
        popular: int32, items by falling popularity, the answer to an empty history.

    Raises:
        ValueError: k is out of range.
    """
    n_items = len(weights)
    if not 1 <= k < n_items:
        msg = f"got {k} weights an item of {n_items} items; expected 1 to {n_items - 1}"
        raise ValueError(msg)
    kept = np.empty((n_items, k), np.int64)
    for start in range(0, n_items, BLOCK):
        incoming = np.abs(weights[:, start : start + BLOCK].T)
        incoming[np.arange(len(incoming)), np.arange(start, start + len(incoming))] = -1.0
        kept[start : start + BLOCK] = np.sort(np.argpartition(-incoming, k - 1, axis=1)[:, :k], axis=1)
    values = weights[kept, np.arange(n_items)[:, None]]
    indptr = np.arange(0, n_items * k + 1, k, dtype=np.int32)
    rows = SparseRows(n_items, indptr, kept.astype(np.int32).ravel(), values.astype(np.float32).ravel())
    return SparseFactors(rows, popular=popular, item_item=True)


def refit(model: SparseFactors, train: Interactions, l2: float) -> SparseFactors:
    """Fit the weights of a cut model anew, by least squares on its own pattern.

    For each item j with the pattern S, b = (G_SS + l2 I)^-1 G_Sj with G = X'X: EASE's own problem, without its
    constraint that the rest be there.

    Args:
        model: item-item weights; only their pattern counts.
        train: the histories X.
        l2: regularisation, > 0.

    References:
        SANSA, Spisak et al., RecSys 2023, for the idea of weights on a prescribed pattern.
    """
    matrix = train.users_x_items()
    gram = (matrix.T @ matrix).toarray().astype(np.float64)
    rows = model.decode
    values = np.empty(len(rows.value), np.float32)
    for item, (start, end) in enumerate(zip(rows.indptr[:-1], rows.indptr[1:], strict=True)):
        pattern = rows.factor[start:end]
        inner = gram[np.ix_(pattern, pattern)] + l2 * np.eye(end - start)
        values[start:end] = np.linalg.solve(inner, gram[pattern, item])
    fitted = SparseRows(rows.n_factors, rows.indptr, rows.factor, values)
    return SparseFactors(fitted, popular=model.popular, item_item=True)
