"""Rows for items that came after the training, from who took them; all other rows stay as they are.

With P the profiles of n users (from the items that the model knows) and x_j the 0/1 column of who of them took the new
item j, the new row is the direction of ridge regression, cut to its largest values and made as long as rows are here:

    w_j = (P'P + l I)^-1 P' x_j,  l = 1 % of the mean of diag(P'P);    d_j = c top_m(w_j),  |d_j| = mean |d_i|

that is, what separates who took the item from who did not, in the factors that there are. A tied encoder has the same
row. In an untied one the row is c' top_m of the mean profile of who took it, less the mean profile of all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from prunus.engine.histories import to_csr
from prunus.engine.levels import quantise
from prunus.engine.recommender import DenseFactors, SparseFactors, SparseRows
from prunus.errors import DataError, RecommenderError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from prunus.engine.histories import Histories
    from prunus.engine.recommender import Recommender

_RIDGE = 0.01  # of the mean of P'P's diagonal: enough where users are fewer than factors, little where they are many

_USERS = 256  # at once, so that their histories fit in memory as a matrix


def add_rows(model: Recommender, histories: Histories, n_new: int) -> Recommender:
    """Return the model with rows for new items, numbered after those it has.

    Args:
        model: the factors.
        histories: of users who took old and new items, as :meth:`~prunus.engine.recommend_scorer.RecommendScorer.recommend`
            takes them; new items have the numbers from ``model.n_items`` on.
        n_new: how many new items there are. Each must be in some history beside an old one.

    Raises:
        RecommenderError: item-item weights have no factors to describe a new item in: train them again.
        DataError: histories have another form, or nobody took a new item.
    """
    if isinstance(model, SparseFactors) and model.encode is None:
        msg = "item-item weights have no factors in which a new item could be described; expected factors: train again"
        raise RecommenderError(msg)
    if n_new < 1:
        msg = f"got {n_new} new items; expected 1 or more"
        raise DataError(msg)
    profile, taken = _split(model, histories, n_new)
    lonely = np.flatnonzero(taken.sum(axis=0) == 0)
    if len(lonely):
        msg = (
            f"nobody who took an old item took new item {model.n_items + lonely[0]} ({len(lonely)} such items); expected"
            " a taker for each: leave it out until it has one"
        )
        raise DataError(msg)
    gram = profile.T @ profile
    gram[np.diag_indices_from(gram)] += _RIDGE * max(float(np.trace(gram)) / len(gram), 1e-30)
    decode = np.asarray(np.linalg.solve(gram, profile.T @ taken).T, np.float64)
    if model.tied:
        return _append(model, decode, None)
    mean = (taken.T @ profile) / taken.sum(axis=0)[:, None] - profile.mean(axis=0)
    return _append(model, decode, np.asarray(mean, np.float64))


def _split(model: Recommender, histories: Histories, n_new: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the profiles of users who took old items, and who of them took which new item: 0/1 [n_users, n_new]."""
    indptr, items = to_csr(histories, model.n_items + n_new)
    user = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    old = items < model.n_items
    counts = np.bincount(user[old], minlength=len(indptr) - 1)
    taken = np.zeros((len(counts), n_new))
    taken[user[~old], items[~old] - model.n_items] = 1
    kept = np.flatnonzero(counts)
    return _profiles(model, np.searchsorted(kept, user[old]), items[old], len(kept)), taken[kept]


def _profiles(
    model: Recommender, user: NDArray[np.int64], items: NDArray[np.int32], n_users: int
) -> NDArray[np.float64]:
    """Return the profiles [n_users, n_factors] of (user, item) pairs, users rising, a few hundred users at a time."""
    assert model.encode is not None
    encode = model.encode.to_dense() if isinstance(model.encode, SparseRows) else model.encode
    if model.encode_scale is not None:
        encode = encode * model.encode_scale[:, None]
    found = np.empty((n_users, model.n_factors))
    for start in range(0, n_users, _USERS):
        first, last = np.searchsorted(user, [start, start + _USERS])
        seen = np.zeros((min(_USERS, n_users - start), model.n_items), np.float32)
        seen[user[first:last] - start, items[first:last]] = 1
        found[start : start + _USERS] = seen @ encode
    return found


def _append(model: Recommender, decode: NDArray[np.float64], encode: NDArray[np.float64] | None) -> Recommender:
    n_new = len(decode)
    rest: dict[str, Any] = {
        "encode_scale": _longer(model.encode_scale, n_new),
        "bias": _longer(model.bias, n_new),
        "popular": model.popular,
    }
    if isinstance(model, SparseFactors):
        assert model.encode is not None
        more = None if encode is None else _more_rows(model.encode, encode)
        return SparseFactors(_more_rows(model.decode, decode), more, **rest)
    assert model.encode is not None
    step = model.step
    if step is not None and len(step) > 1:
        step = np.concatenate([step, np.full(n_new, np.median(step), np.float32)])
    new = None if encode is None else _dense_rows(model.encode, encode, step)
    return DenseFactors(_dense_rows(model.decode, decode, step), new, **rest, step=step)


def _more_rows(rows: SparseRows, wanted: NDArray[np.float64]) -> SparseRows:
    """Append rows of as many values as rows have on average, and of their mean length."""
    stored = max(1, round(len(rows.value) / rows.n_rows))
    squares = np.bincount(rows.row, np.square(rows.value, dtype=np.float64), minlength=rows.n_rows)
    kept = np.zeros_like(wanted)
    top = np.argsort(-np.abs(wanted), axis=1, kind="stable")[:, :stored]
    np.put_along_axis(kept, top, np.take_along_axis(wanted, top, axis=1), axis=1)
    made = _of_length(kept, float(np.sqrt(squares).mean()))
    step = rows.step
    if step is not None:
        own = np.float32(np.median(step))
        made = quantise(made, 8, own)[0]
        step = step if len(step) == 1 else np.concatenate([step, np.full(len(made), own, np.float32)])
    new = SparseRows.from_dense(made)
    return SparseRows(
        rows.n_factors,
        np.concatenate([rows.indptr, rows.indptr[-1] + new.indptr[1:]]),
        np.concatenate([rows.factor, new.factor]),
        np.concatenate([rows.value, new.value]),
        step,
    )


def _dense_rows(
    matrix: NDArray[np.float32], wanted: NDArray[np.float64], step: NDArray[np.float32] | None
) -> NDArray[np.float32]:
    made = _of_length(wanted, float(np.linalg.norm(matrix, axis=1).mean()))
    if step is not None:
        made = quantise(made, 8, np.float32(np.median(step)))[0]
    return np.concatenate([matrix, made])


def _of_length(rows: NDArray[np.float64], length: float) -> NDArray[np.float32]:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows * (length / np.where(norms > 0, norms, 1))).astype(np.float32)


def _longer(array: NDArray[np.float32] | None, n_new: int) -> NDArray[np.float32] | None:
    """Append the median, which no few extreme items move."""
    return None if array is None else np.concatenate([array, np.full(n_new, np.median(array), np.float32)])
