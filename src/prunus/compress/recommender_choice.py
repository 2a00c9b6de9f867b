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

SHORT = 1 / 6
"""Share of the epochs that a candidate is trained for."""
MOST_ITEMS = 16_384
"""Of a larger catalogue candidates learn the most popular items, so many: their teacher is fitted for them alone."""
SHARES = (1 / 8, 1 / 4, 1 / 2, 1.0)
"""Of the budget that weights are cut to: where cutting regularises, fewer rank better than all that there is room for."""
LIGHT = 0.1
"""Of the teacher's usual weight, what short rows of some data want."""

SHORT_ROWS = 64
"""Bytes an item up to which the short training chooses the teacher's weight. In longer rows a heavy teacher overtakes a light
one only after more epochs: MovieLens-1M at 128 bytes, weights .5 and .05, on the tenth .2039 and .2097 after 10 epochs, on
the test part .2741 and .2707 after 30."""


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
    share of the epochs with the usual weight of the teacher, with a light one, and with none. Teacher and candidates learn from the
    other nine tenths alone.

    Args:
        train: the training part.
        teacher: settings of EASE.
        budget: of the run.
        recipe: of the run.
        space: where candidates are kept: a run that was stopped goes on there.
        progress: told of each candidate.
        metadata: what will stand in the file beside the model.
        plans: the candidates, the smallest first; default: :func:`candidates`.
        kept: folder of fitted teachers.

    Returns:
        For each candidate ``name``, ``epochs``, ``plan`` (of :class:`StudentPlan`; of dense rows with the width that fills
        the budget), ``bytes_per_item``, ``ndcg@k`` and ``seconds`` of wall time; the best first, of equal ones the smaller.

    Raises:
        BudgetImpossibleError: the budget buys no candidate one value an item.
    """
    split = tenth(train, MOST_ITEMS, recipe.seed)
    part = split.train
    limit = RowBudget(budget.bytes_per_item * part.n_items, part.n_items)
    source = TeacherSource(part, recipe, space, progress, settings=teacher, kept=kept)
    first = cache(lambda: drawn_width(part, limit, bits=recipe.bits, metadata=metadata))
    short = recipe.model_copy(update={"epochs": short_epochs(recipe)})

    def measured(plan: StudentPlan) -> dict[str, Any]:
        name = _file_name(plan)
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
        }

    found: list[dict[str, Any]] = []
    refused = None
    for plan in plans or candidates(recipe):
        try:
            found.append(space.json(f"tried-{_file_name(plan)}", partial(measured, plan)))
        except BudgetImpossibleError as error:
            refused = error
    if not found:
        assert refused is not None
        raise refused
    return sorted(found, key=lambda one: -one[f"ndcg@{recipe.k}"])


def candidates(recipe: RecommenderRecipe) -> list[StudentPlan]:
    """List what is tried, the smallest first.

    Args:
        recipe: of the run.
    """
    weights = sorted({0.0, LIGHT * recipe.teacher_weight, recipe.teacher_weight})
    cut = [StudentPlan("item-item", share=share) for share in SHARES]
    return cut + [StudentPlan("dense", weight) for weight in weights]


def chosen(tried: list[dict[str, Any]], budget: RowBudget, recipe: RecommenderRecipe) -> StudentPlan:
    """Give the plan of the best candidate; of dense rows above :data:`SHORT_ROWS` with the teacher's weight of the recipe.

    Args:
        tried: the candidates, the best first.
        budget: of the run.
        recipe: of the run.
    """
    plans = [StudentPlan(**one["plan"]) for one in tried]
    if plans[0].kind == "dense" and budget.bytes_per_item > SHORT_ROWS:
        return next(plan for plan in plans if (plan.kind, plan.teacher_weight) == ("dense", recipe.teacher_weight))
    return plans[0]


def short_epochs(recipe: RecommenderRecipe) -> int:
    """Tell the epochs that a candidate is trained for."""
    return max(round(SHORT * recipe.epochs), 1)


def _file_name(plan: StudentPlan) -> str:
    return f"{plan.kind}-{plan.teacher_weight:g}-{plan.share:g}"
