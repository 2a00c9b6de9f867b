"""The slow twin of the native tree kernels, in NumPy: the meaning of an :class:`~prunus.engine.ensemble.Ensemble`.

Nothing here is fast and nothing is clever: every document walks every tree, one node at a time. The native kernels are
held against it in the tests, and a model file's check scores come from it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from prunus.engine.ensemble import (
    MISSING_RIGHT,
    NAN_IS_ZERO,
    NEGATIVE_IS_NO_CODE,
    NUMERIC,
    ZERO,
    ZERO_IS_MISSING,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from prunus.engine.ensemble import Ensemble

_NO_CODE = -1


def _codes(x: NDArray[np.float32], negative_is_no_code: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return int64 codes, x cut towards zero; -1 for what is no code (negative, beyond int32, infinite, NaN).

    Args:
        x: float32 [n].
        negative_is_no_code: bool [n], whether -1 < x < 0 is no code; else it is code 0.
    """
    with np.errstate(invalid="ignore"):
        valid = (x > -1) & (x < np.float32(2.0**31)) & ~(negative_is_no_code & (x < 0))
    return np.where(valid, np.trunc(np.where(valid, x, 0)), _NO_CODE).astype(np.int64)


def _goes_left(ensemble: Ensemble, node: NDArray[np.int64], x: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Say for each pair of a node and the number that it reads whether the document goes left."""
    byte = ensemble.missing[node]
    kind, missing_left = byte & 3, (byte & MISSING_RIGHT) == 0
    isnan = np.isnan(x)
    categorical = ensemble.category[node] != NUMERIC
    with np.errstate(invalid="ignore"):
        missing = (isnan & (kind != NAN_IS_ZERO)) | ((np.abs(x) <= ZERO) & (kind == ZERO_IS_MISSING))
        left = np.where(isnan, np.float32(0), x) <= ensemble.threshold[node]
    code = _codes(x, (byte & NEGATIVE_IS_NO_CODE) != 0)
    for at in np.flatnonzero(categorical):
        chosen = ensemble.category[node[at]]
        members = ensemble.set_code[ensemble.set_start[chosen] : ensemble.set_start[chosen + 1]]
        left[at] = bool((members == code[at]).any())
    return np.where(missing, missing_left, left)


def leaves(ensemble: Ensemble, X: NDArray[np.float32]) -> NDArray[np.int32]:
    """Return the leaf that each document reaches in each tree.

    Args:
        ensemble: the trees.
        X: float32 [n_docs, n_features].

    Returns:
        int32 [n_docs, n_trees]: index of the leaf inside its tree (its absolute index less ``leaf_start[t]``).
    """
    n_docs = X.shape[0]
    rows = np.arange(n_docs)
    found = np.empty((n_docs, ensemble.n_trees), np.int32)
    for tree in range(ensemble.n_trees):
        at = np.full(n_docs, ensemble.root[tree], np.int64)
        while (walking := at >= 0).any():
            node, row = at[walking], rows[walking]
            left = _goes_left(ensemble, node, X[row, ensemble.feature[node]])
            at[walking] = np.where(left, ensemble.left[node], ensemble.right[node])
        found[:, tree] = ~at - ensemble.leaf_start[tree]
    return found


def score(ensemble: Ensemble, X: NDArray[np.float32]) -> NDArray[np.float32]:
    """Score documents, slowly and obviously.

    Args:
        ensemble: the trees.
        X: float32 [n_docs, n_features].

    Returns:
        float32 [n_docs]: base and leaf values summed in float64, in the order of the trees, and rounded once.
    """
    total = np.full(X.shape[0], ensemble.base, np.float64)
    for tree, leaf in enumerate(leaves(ensemble, X).T):
        total += ensemble.value[ensemble.leaf_start[tree] + leaf]
    with np.errstate(over="ignore"):
        return total.astype(np.float32)
