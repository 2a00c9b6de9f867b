"""The slow twin of the native recommend kernels, in NumPy: the meaning of a recommender.

Sums are in float64 and rounded once; the native kernels are held against it in the tests, and a model file's check
scores come from it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from prunus.engine.recommender import DenseFactors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from prunus.engine.recommender import Recommender

NOBODY = np.int32(-1)
"""Stands in a list after its last item."""


def profiles(model: Recommender, indptr: NDArray[np.int64], items: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return the users' profiles, sum over the history of c_i e_i.

    Args:
        model: the factors.
        indptr: int64 [n_users + 1]: user u has the history ``items[indptr[u]:indptr[u + 1]]``.
        items: int32, item numbers.

    Returns:
        float64 [n_users, n_factors].
    """
    n_users = len(indptr) - 1
    found = np.zeros((n_users, model.n_factors))
    for user in range(n_users):
        for item in items[indptr[user] : indptr[user + 1]]:
            scale = 1.0 if model.encode_scale is None else float(model.encode_scale[item])
            if isinstance(model, DenseFactors):
                assert model.encode is not None
                found[user] += scale * model.encode[item].astype(np.float64)
            elif model.encode is None:
                found[user, item] += scale
            else:
                own = slice(model.encode.indptr[item], model.encode.indptr[item + 1])
                found[user, model.encode.factor[own]] += scale * model.encode.value[own].astype(np.float64)
    return found


def score(model: Recommender, indptr: NDArray[np.int64], items: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return the scores of all items, those of the history not masked.

    Args:
        model: the factors.
        indptr: as in :func:`profiles`.
        items: as in :func:`profiles`.

    Returns:
        float32 [n_users, n_items].
    """
    profile = profiles(model, indptr, items)
    scores = np.zeros((len(profile), model.n_items))
    if isinstance(model, DenseFactors):
        scores += profile @ model.decode.T.astype(np.float64)
    else:
        rows = model.decode
        for item in range(model.n_items):
            own = slice(rows.indptr[item], rows.indptr[item + 1])
            scores[:, item] = profile[:, rows.factor[own]] @ rows.value[own].astype(np.float64)
    if model.bias is not None:
        scores += model.bias
    with np.errstate(over="ignore"):
        return scores.astype(np.float32)


def top_k(
    scores: NDArray[np.float32], allowed: NDArray[np.bool_], k: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return the k best allowed items of each user: higher scores first, among equal ones the lower item number.

    Args:
        scores: float32 [n_users, n_items].
        allowed: bool [n_users, n_items].
        k: length of the lists.

    Returns:
        int32 [n_users, k] and float32 [n_users, k]: items and scores; -1 and -inf where no item is left.
    """
    n_users, n_items = scores.shape
    ids = np.full((n_users, k), NOBODY, np.int32)
    best = np.full((n_users, k), -np.inf, np.float32)
    for user in range(n_users):
        kept = np.flatnonzero(allowed[user])
        order = kept[np.argsort(-scores[user, kept], kind="stable")][:k]
        ids[user, : len(order)] = order
        best[user, : len(order)] = scores[user, order]
    assert k <= n_items or (ids[:, n_items:] == NOBODY).all()
    return ids, best
