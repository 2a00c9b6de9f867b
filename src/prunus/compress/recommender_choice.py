"""Which kind of student is the best for some data and budget: candidates made quickly and held against each other."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from prunus import topk
from prunus.compress.factors import drawn_width, wider
from prunus.compress.recommender_student import StudentPlan, TeacherSource, train_student
from prunus.compress.row_budget import RowBudget
from prunus.engine.recommend_scorer import RecommendScorer
from prunus.engine.recommender_file import packed_bytes
from prunus.errors import BudgetImpossibleError
from prunus.teacher.choose import tenth

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from prunus.compress.recommender_recipe import RecommenderRecipe
    from prunus.compress.training import Progress
    from prunus.compress.workspace import Workspace
    from prunus.data.interactions import Interactions
    from prunus.teacher.linear import EaseSettings

ROUNDS = (1 / 6, 1 / 2)
"""Shares of the epochs that dense rows are trained for: all of them, then the two best of those. A short training undervalues a
heavy teacher of long rows: MovieLens-1M at 128 bytes, weights .5 and .05, on the tenth .2039 and .2097 after 10 epochs."""
FAR = 0.05
"""Share of the best figure that the first dense rows may be behind cut weights for others, with another weight of the teacher, to be
tried: on online_retail they were 7 % behind, and the teacher's weight moved them by 4."""
MOST_ITEMS = 16_384
"""Of a larger catalogue candidates learn the most popular items, so many: their teacher is fitted for them alone."""
SHARES = (1 / 8, 1 / 4, 1 / 2, 1.0)
"""Of the budget that weights are cut to: where cutting regularises, fewer rank better than all that there is room for."""
LIGHT = 0.1
"""Of the teacher's usual weight, what short rows of some data want."""


def choose_student(
    train: Interactions,
    teacher: EaseSettings,
    budget: RowBudget,
    recipe: RecommenderRecipe,
    space: Workspace,
    progress: Progress,
    metadata: dict[str, Any],
    *,
    plans: Sequence[StudentPlan] | None = None,
    kept: Path | None = None,
) -> list[dict[str, Any]]:
    """Hold candidates against each other on a tenth of the training part, and give them all, the best first.

    They are the teacher's own weights, cut to the budget and to shares of it, and dense rows trained for a
    share of the epochs with a light weight of the teacher and, unless they are :data:`FAR` behind, with the usual one and with
    none. Where dense rows are within the recipe's margin of the best, the two best of them are trained anew for longer
    (:data:`ROUNDS`), and the third is dropped. Teacher and candidates learn from the other nine tenths alone.

    Args:
        train: the training part.
        teacher: settings of EASE.
        budget: of the run.
        recipe: of the run.
        space: where candidates are kept: a run that was stopped goes on there.
        progress: told of each candidate.
        metadata: what will stand in the file beside the model.
        plans: the candidates, in the order tried; default: :func:`candidates`.
        kept: folder of fitted teachers.

    Returns:
        For each candidate ``name``, ``epochs``, ``plan`` (of :class:`StudentPlan`; of dense rows with the width that fills
        the budget), ``bytes_per_item``, ``ndcg@k``, ``seconds`` of wall time and whether it was ``dropped``; the best first, of equal
        ones the one tried first, and dropped ones last.

    Raises:
        BudgetImpossibleError: the budget buys no candidate one value an item.
    """
    split = tenth(train, MOST_ITEMS, recipe.seed)
    part = split.train
    limit = RowBudget(budget.bytes_per_item * part.n_items, part.n_items)
    source = TeacherSource(part, recipe, space, progress, settings=teacher, kept=kept)
    first = cache(lambda: drawn_width(part, limit, bits=recipe.bits, metadata=metadata))

    def measured(plan: StudentPlan, epochs: int) -> dict[str, Any]:
        name, short = _file_name(plan, epochs), recipe.model_copy(update={"epochs": epochs})
        tried = replace(plan, width=plan.width or first()) if plan.kind == "dense" else plan
        with space.seconds("teacher"):
            _ = source.get() if plan.kind == "item-item" else source.heads() if plan.teacher_weight else None
        progress.stage(f"try {plan}", 1.0 if plan.kind == "item-item" else short.epochs)
        with space.seconds(name):
            model = train_student(tried, source, limit, short, space, progress, metadata, name=name).model
            lists = RecommendScorer(model).recommend(split.histories, recipe.k, n_threads=recipe.threads).ids
        size = packed_bytes(model, metadata=metadata)
        if tried.width is not None:
            # A short training tells the bytes of a value; of part of a catalogue it does not tell those of the rest.
            whole = part.n_items == train.n_items
            plan = replace(plan, width=wider(tried.width, size / limit.n_bytes, train.n_items) if whole else None)
        return {
            "name": str(plan),
            "epochs": 0 if plan.kind == "item-item" else short.epochs,
            "plan": asdict(plan),
            "bytes_per_item": size / part.n_items,
            f"ndcg@{recipe.k}": topk.ndcg(lists, split.test, recipe.k).mean,
            "seconds": space.spent()[name],
            "dropped": False,
        }

    def once(plan: StudentPlan, epochs: int) -> dict[str, Any]:
        one: dict[str, Any] = space.json(f"tried-{_file_name(plan, epochs)}", partial(measured, plan, epochs))
        return one

    metric = f"ndcg@{recipe.k}"
    found: list[dict[str, Any]] = []
    refused = None
    for plan in plans or candidates(recipe):
        of_dense = [one[metric] for one in found if one["plan"]["kind"] == "dense"]
        if plan.kind == "dense" and of_dense and max(of_dense) < (1 - FAR) * max(one[metric] for one in found):
            continue
        try:
            found.append(once(plan, round_epochs(recipe)[0]))
        except BudgetImpossibleError as error:
            refused = error
    if not found:
        assert refused is not None
        raise refused
    found.sort(key=lambda one: -one[metric])
    dense = [one for one in found if one["plan"]["kind"] == "dense"]
    if len(dense) > 1 and dense[0][metric] >= (1 - recipe.margin) * found[0][metric]:
        again = [once(StudentPlan(**one["plan"]), round_epochs(recipe)[1]) for one in dense[:2]]
        rest = [one | {"dropped": True} for one in dense[2:]]
        found = [one for one in found if one not in dense] + again + rest
    return sorted(found, key=lambda one: (one["dropped"], -one[metric]))


def candidates(recipe: RecommenderRecipe) -> list[StudentPlan]:
    """List what is tried, in this order.

    Args:
        recipe: of the run.
    """
    weights = dict.fromkeys((LIGHT * recipe.teacher_weight, recipe.teacher_weight, 0.0))
    cut = [StudentPlan("item-item", share=share) for share in SHARES]
    return cut + [StudentPlan("dense", weight) for weight in weights]


def round_epochs(recipe: RecommenderRecipe) -> tuple[int, int]:
    """Tell the epochs that candidates are trained for, in the first round and in the second."""
    first, second = (max(round(share * recipe.epochs), 1) for share in ROUNDS)
    return first, second


def _file_name(plan: StudentPlan, epochs: int) -> str:
    if plan.kind == "item-item":
        return f"{plan.kind}-{plan.share:g}"
    return f"{plan.kind}-{plan.teacher_weight:g}-{epochs}"
