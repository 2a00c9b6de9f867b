"""What stands beside a recommender in its result: the teacher's weights cut to the same bytes, and lists to look at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from prunus import topk
from prunus.compress.factors import OVER, popular_items
from prunus.compress.row_budget import RowBudget, fit
from prunus.engine.levels import quantise_model
from prunus.engine.recommender import SparseFactors
from prunus.engine.recommender_file import packed_bytes
from prunus.errors import BudgetImpossibleError
from prunus.student.item_item import largest, refit, saliency
from prunus.teacher.item_scores import from_model, lists_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from prunus.data.splits import Split
    from prunus.teacher.linear import EaseProblem

MOST_ITEMS = 10_000
"""Up to so many items the curve has cut weights: each of its points cuts anew. (The fit of what is kept also takes X'X of the rest, which is not checked.)"""
BITS = 8
"""Bits of a weight that is cut: sizes of weights lie far apart and are not trained to their levels. The entropy code
makes large levels cheap where they are rare: on a tenth of the training part 8 ranked better than 7, 6 and 5 at equal bytes."""
CANDIDATE_BITS = 5
"""Bits of the budget for each weight that is looked at: fewer than a weight takes, of which the gap to the next is most."""
TIMES = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Budgets of the equal-byte curve, as multiples of the run's."""
EXAMPLES = 5
SHOWN = 10


def cut_weights(
    weights: NDArray[np.float32],
    popular: NDArray[np.int32],
    budget: RowBudget,
    metadata: Mapping[str, object],
    problem: EaseProblem | None = None,
) -> SparseFactors:
    """Cut item-item weights to a budget: the student that needs no training.

    Where the least squares are known that the weights solve, those stay that cost the most to leave out
    (:func:`~prunus.student.item_item.saliency`), and they are fitted anew (:func:`~prunus.student.item_item.refit`). Else
    the largest stay as they are.

    Args:
        weights: float32 [n_items, n_items], of the teacher.
        popular: int32, items by falling popularity.
        budget: bytes of the file.
        metadata: what stands beside it in the file.
        problem: of which the weights are the solution.

    Raises:
        BudgetImpossibleError: the budget does not buy one weight an item.
    """
    importance = None if problem is None else saliency(problem)
    n_items = budget.n_items
    n_kept = min(max(int(budget.n_bytes * 8 / CANDIDATE_BITS), n_items), n_items * (n_items - 1))
    model = largest(weights, n_kept, popular, importance)
    if problem is not None:
        wider = RowBudget(OVER * budget.n_bytes, n_items)
        model = refit(fit(_on_levels(model), wider, metadata, importance), problem)
    return fit(_on_levels(model), budget, metadata, importance)


def _on_levels(model: SparseFactors) -> SparseFactors:
    packed = quantise_model(model, BITS)
    assert isinstance(packed, SparseFactors)
    return packed


def cut_curve(
    weights: NDArray[np.float32],
    split: Split,
    budget: RowBudget,
    k: int,
    metadata: Mapping[str, object],
    problem: EaseProblem | None = None,
) -> list[dict[str, Any]]:
    """Quality of the teacher's cut weights at several budgets around the run's: one record each.

    Args:
        weights: float32 [n_items, n_items], of the teacher.
        split: histories to answer.
        budget: of the run.
        k: length of the lists.
        metadata: what would stand beside it in the file.
        problem: see :func:`cut_weights`.
    """
    found, popular = [], popular_items(split.train)
    for times in TIMES:
        try:
            model = cut_weights(weights, popular, RowBudget(times * budget.n_bytes, budget.n_items), metadata, problem)
        except BudgetImpossibleError:
            continue
        value = topk.ndcg(lists_of(from_model(model), split, k), split.test, k).mean
        spent = packed_bytes(model, metadata=metadata) / budget.n_items
        found.append({"model": "cut EASE", "times": times, "bytes_per_item": spent, f"ndcg@{k}": value})
    return found


def examples(
    split: Split, lists: Mapping[str, NDArray[np.int32]], titles: Sequence[str] | None, *, seed: int
) -> list[dict[str, Any]]:
    """Give the lists of a few test users, drawn at random.

    Args:
        split: their histories, and what was to be found.
        lists: int32 [n_users, k] of each model.
        titles: the items' names as people know them; default: their ids.
        seed: of the draw.
    """
    able = np.flatnonzero(split.test.lengths)
    users = np.sort(np.random.default_rng(seed).permutation(able)[:EXAMPLES]).tolist()
    names = titles or split.train.item_ids or tuple(map(str, range(split.train.n_items)))
    found = []
    for user in users:
        wanted = set(split.test.history(user).tolist())
        history = split.histories.history(user)
        if split.histories.times is not None:
            mine = slice(split.histories.indptr[user], split.histories.indptr[user + 1])
            history = history[np.argsort(-split.histories.times[mine], kind="stable")]
        shown = {
            name: [{"item": names[item], "hit": item in wanted} for item in rows[user, :SHOWN].tolist() if item >= 0]
            for name, rows in lists.items()
        }
        ids = split.histories.user_ids
        found.append(
            {
                "user": str(user) if ids is None else ids[user],
                "items": len(history),
                "history": [names[item] for item in history[:SHOWN].tolist()],
                "to_find": len(wanted),
                "lists": shown,
            }
        )
    return found
