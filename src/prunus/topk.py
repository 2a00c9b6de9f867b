"""Top-k lists and their metrics; as in :mod:`prunus.metrics`, each figure prints its convention with its name.

All items are ranked, except those in the user's history, which are never recommended. Relevance is binary. A user with
nothing to find is left out of every mean. ``docs/metrics.md`` compares the conventions with other tools'.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from prunus.data.splits import pair_keys
from prunus.errors import DataError
from prunus.metrics import PerQuery

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from prunus.data.interactions import Interactions

    Score = Callable[..., NDArray[np.float32]]
    """Histories, a CSR array [n, n_items], to scores [n, n_items]; where users are named, they are the second argument."""

    Metric = Callable[[NDArray[np.int32], Interactions], PerQuery]
    """A metric whose options are fixed: (lists, test) -> PerQuery."""

Divide = Literal["relevant", "min"]
"""What recall divides by: the number of items to find, or that number where it is below k, and k elsewhere."""

BLOCK_SCORES = 1 << 23
"""Scores held at a time while lists are made: 32 MiB of float32, and as much again to find the best."""

_NAMES = re.compile(r"(ndcg|recall|hr|mrr)@([1-9][0-9]*)", re.IGNORECASE)


def top_k(scores: NDArray[np.floating[Any]], k: int) -> NDArray[np.int32]:
    """Find the best items of each row, best first; of equal scores, the item with the lower number first.

    Args:
        scores: [n, n_items]; -inf marks what must not be recommended.
        k: length of the lists.

    Returns:
        int32 [n, k]; -1 where a row has no more items.

    Raises:
        DataError: a score is NaN.
    """
    if np.isnan(scores).any():
        row, item = (int(one) for one in np.argwhere(np.isnan(scores))[0])
        msg = f"the score of item {item} for user {row} is NaN; expected a number: NaN cannot be ranked"
        raise DataError(msg)
    n, n_items = scores.shape
    width = min(k, n_items)
    found = np.argpartition(-scores, width - 1, axis=1)[:, :width]
    # argpartition takes any of the items that tie for the last place: those rows are sorted whole.
    last = np.take_along_axis(scores, found, axis=1).min(axis=1, keepdims=True)
    open_rows = np.flatnonzero((np.count_nonzero(scores >= last, axis=1) > width) & np.isfinite(last[:, 0]))
    found[open_rows] = np.argsort(-scores[open_rows], axis=1, kind="stable")[:, :width]
    found.sort(axis=1)
    best = np.take_along_axis(scores, found, axis=1)
    order = np.argsort(-best, axis=1, kind="stable")
    lists = np.full((n, k), -1, np.int32)
    lists[:, :width] = np.where(
        np.take_along_axis(best, order, axis=1) == -np.inf, -1, np.take_along_axis(found, order, axis=1)
    )
    return lists


def recommend(
    score: Score,
    histories: Interactions,
    k: int,
    *,
    users: NDArray[np.int64] | None = None,
    popular: NDArray[np.integer[Any]] | None = None,
) -> NDArray[np.int32]:
    """Rank all items for each user, those of the history left out.

    Args:
        score: gives the scores of some histories; called with blocks of users.
        histories: one row a user.
        k: length of the lists.
        users: int64 [n_users], passed on to a ``score`` that knows users of the training data.
        popular: [n_items], all items, the most popular first: the list of whoever has an empty history; default: these
            are scored like the others.

    Returns:
        int32 [n_users, k], best first; -1 where no items are left.

    Raises:
        DataError: a score is NaN, or the scores have another shape.
    """
    matrix = histories.users_x_items()
    block = max(1, BLOCK_SCORES // histories.n_items)
    lists = np.empty((histories.n_users, k), np.int32)
    for start in range(0, histories.n_users, block):
        rows = matrix[start : start + block]
        named = () if users is None else (users[start : start + block],)
        scores = np.array(score(rows, *named), dtype=np.float32)
        if scores.shape != rows.shape:
            msg = f"got scores of shape {scores.shape} for histories of shape {rows.shape}; expected one score an item"
            raise DataError(msg)
        scores[rows.nonzero()] = -np.inf
        lists[start : start + block] = top_k(scores, k)
    if popular is not None:
        first = np.full(k, -1, np.int32)
        first[: min(k, len(popular))] = popular[:k]
        lists[np.diff(histories.indptr) == 0] = first
    return lists


def hits(lists: NDArray[np.int32], test: Interactions) -> NDArray[np.bool_]:
    """Tell which places of the lists hold an item to find: bool [n_users, k].

    Args:
        lists: int32 [n_users, k], -1 for nothing.
        test: what each user is to find.

    Raises:
        DataError: there are not as many lists as users.
    """
    if len(lists) != test.n_users:
        msg = f"got {len(lists)} lists for {test.n_users} users; expected one a user"
        raise DataError(msg)
    keys = np.arange(test.n_users, dtype=np.int64)[:, None] * test.n_items + lists
    return np.isin(keys, pair_keys(test)) & (lists >= 0)


def recall(lists: NDArray[np.int32], test: Interactions, k: int = 20, *, divide: Divide = "relevant") -> PerQuery:
    """Share of the items to find that are among the first k.

    Recall@k = |found in the first k| / n_relevant, or / min(k, n_relevant) with ``divide="min"``, which a perfect list
    brings to 1 for every user.

    Args:
        lists: int32 [n_users, at least k], best first.
        test: what each user is to find.
        k: places that count.
        divide: ``"relevant"`` (trec_eval, UltraGCN, LightGCN) or ``"min"`` (Liang et al., WWW 2018).

    Raises:
        DataError: lists are shorter than k, there are not as many as users, or an option is unknown.
    """
    if divide not in get_args(Divide):
        msg = f"got divide={divide!r}; expected one of {', '.join(map(repr, get_args(Divide)))}"
        raise DataError(msg)
    found: NDArray[np.int64] = _first(lists, test, k).sum(axis=1)
    n_relevant = np.diff(test.indptr)
    divisor: NDArray[np.int64] = np.maximum(n_relevant if divide == "relevant" else np.minimum(n_relevant, k), 1)
    return _per_user(found / divisor, test, f"Recall(divide={divide!r})@{k}")


def ndcg(lists: NDArray[np.int32], test: Interactions, k: int = 20) -> PerQuery:
    """Normalized discounted cumulative gain with binary gain.

    With h_r = 1 where the item at rank r is one to find,

        nDCG@k = (sum over r <= k of h_r / log2(1 + r)) / (sum over r <= min(k, n_relevant) of 1 / log2(1 + r)).

    Args:
        lists: int32 [n_users, at least k], best first.
        test: what each user is to find.
        k: places that count.

    Raises:
        DataError: lists are shorter than k, or there are not as many as users.
    """
    weights = 1.0 / np.log2(2.0 + np.arange(k))
    gain: NDArray[np.float64] = _first(lists, test, k) @ weights
    best: NDArray[np.float64] = np.concatenate([[1.0], np.cumsum(weights)])[np.minimum(np.diff(test.indptr), k)]
    return _per_user(gain / best, test, f"nDCG(gain='binary', ideal='min(k, relevant)')@{k}")


def hit_rate(lists: NDArray[np.int32], test: Interactions, k: int = 20) -> PerQuery:
    """Whether any item to find is among the first k: 0 or 1.

    Args:
        lists: int32 [n_users, at least k], best first.
        test: what each user is to find.
        k: places that count.

    Raises:
        DataError: lists are shorter than k, or there are not as many as users.
    """
    found = np.minimum(_first(lists, test, k).sum(axis=1), 1)
    return _per_user(found.astype(np.float64), test, f"HR@{k}")


def mrr(lists: NDArray[np.int32], test: Interactions, k: int = 20) -> PerQuery:
    """Reciprocal rank of the first item that is one to find; 0 where none is among the first k.

    Args:
        lists: int32 [n_users, at least k], best first.
        test: what each user is to find.
        k: places that count.

    Raises:
        DataError: lists are shorter than k, or there are not as many as users.
    """
    found = _first(lists, test, k)
    return _per_user(np.where(found.any(axis=1), 1.0 / (1.0 + found.argmax(axis=1)), 0.0), test, f"RR@{k}")


def by_name(name: str, *, divide: Divide = "relevant") -> Metric:
    """Find a metric by the name that the command line uses.

    Args:
        name: ``ndcg@20``, ``recall@20``, ``hr@10`` or ``mrr@10``; case does not matter.
        divide: as in :func:`recall`.

    Raises:
        DataError: the name is unknown.
    """
    match = _NAMES.fullmatch(name.strip())
    if match is None:
        msg = f"got metric {name!r}; expected ndcg, recall, hr or mrr with @k, such as ndcg@20"
        raise DataError(msg)
    kind, k = match[1].lower(), int(match[2])

    def metric(lists: NDArray[np.int32], test: Interactions) -> PerQuery:
        if kind == "recall":
            return recall(lists, test, k, divide=divide)
        return {"ndcg": ndcg, "hr": hit_rate, "mrr": mrr}[kind](lists, test, k)

    return metric


def sampled_leave_one_out(
    score: Score, histories: Interactions, test: Interactions, k: int = 10, *, negatives: int = 99, seed: int = 0
) -> tuple[PerQuery, PerQuery]:
    """HR@k and nDCG@k of one item to find among sampled others, as NCF reported: **for comparison with old tables only**.

    Sampled metrics need not even put two systems in the order of the full ranking, and say nothing about lists. Each
    user's item competes with ``negatives`` items drawn without replacement from those in neither part; an equal score
    counts against it.

    Args:
        score: as in :func:`recommend`.
        histories: one row a user.
        test: one item for each user, or none.
        k: places that count.
        negatives: items drawn for each user.
        seed: of the draw.

    Raises:
        DataError: a user has several items to find, or not enough items are left to draw.

    References:
        He et al., Neural collaborative filtering, WWW 2017; Krichene, Rendle, On sampled metrics for item
        recommendation, KDD 2020.
    """
    sizes = np.diff(test.indptr)
    if sizes.max() > 1:
        msg = (
            f"{test.source}: user {int(sizes.argmax())} has {sizes.max()} items to find; expected one (leave-last-out)"
        )
        raise DataError(msg)
    if histories.n_items - 1 - np.diff(histories.indptr).max() < negatives:
        msg = f"{test.source}: a user leaves fewer than {negatives} items to draw; expected a larger catalogue"
        raise DataError(msg)
    rng, matrix = np.random.default_rng(seed), histories.users_x_items()
    rank = np.full(test.n_users, np.inf)
    for user in np.flatnonzero(sizes).tolist():
        item = test.history(user)[0]
        free = np.setdiff1d(np.arange(test.n_items), np.append(histories.history(user), item), assume_unique=True)
        scores = np.asarray(score(matrix[[user]]))[0]
        rank[user] = 1 + np.count_nonzero(scores[rng.choice(free, negatives, replace=False)] >= scores[item])
    name = f"(leave one out, {negatives} sampled negatives: comparison only)@{k}"
    hit = rank <= k
    gain = np.where(hit, 1.0 / np.log2(1.0 + rank), 0.0)
    return _per_user(hit.astype(np.float64), test, f"HR{name}"), _per_user(gain, test, f"nDCG{name}")


def _first(lists: NDArray[np.int32], test: Interactions, k: int) -> NDArray[np.bool_]:
    if lists.ndim != 2 or not 1 <= k <= lists.shape[1]:
        msg = f"got k = {k} and lists of shape {lists.shape}; expected [n_users, at least k] and k of 1 or more"
        raise DataError(msg)
    return hits(lists[:, :k], test)


def _per_user(values: NDArray[np.float64], test: Interactions, name: str) -> PerQuery:
    return PerQuery(np.where(np.diff(test.indptr) > 0, values, np.nan), name)
