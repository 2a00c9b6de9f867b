"""The whole job of a recommender: split and budget in; model file, verdict and figures out."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from prunus import __version__, topk
from prunus.bench import machine
from prunus.compress.beside import MOST_ITEMS, cut_curve, examples
from prunus.compress.factors import FactorStudent, drawn_width
from prunus.compress.kept_teacher import fingerprint
from prunus.compress.recipe import Silent
from prunus.compress.recommender_choice import choose_student
from prunus.compress.recommender_student import StudentPlan, TeacherSource, train_student
from prunus.compress.row_budget import RowBudget, row_length
from prunus.compress.workspace import Workspace, digest
from prunus.engine import recommender_file
from prunus.engine.disk import write_atomically
from prunus.teacher.choose import choose_ease
from prunus.teacher.item_scores import Popularity, lists_of
from prunus.teacher.linear import EaseSettings, ItemItem
from prunus.verdict import Verdict, compare, paired_interval

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from prunus.compress.recommender_recipe import RecommenderRecipe
    from prunus.compress.training import Progress
    from prunus.data.splits import Split
    from prunus.engine.recommend_scorer import RecommendScorer
    from prunus.engine.recommender_file import Sizes
    from prunus.metrics import PerQuery
    from prunus.teacher.item_scores import ItemScorer

ASKED_USERS = 50
"""Test users whose lists tell one teacher from another."""


@dataclass(frozen=True)
class Result:
    """What a run gave.

    Attributes:
        scorer: the student, loaded from its file.
        verdict: of the paired test on the test part.
        values: the run's figures, as written to result.json.
    """

    scorer: RecommendScorer
    verdict: Verdict
    values: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return the figures as plain values."""
        return self.values

    def sentence(self) -> str:
        """Say the outcome in plain English."""
        return self.verdict.sentence(of="user")


def compress_recommender(
    split: Split,
    *,
    recipe: RecommenderRecipe,
    out: Path,
    teacher: ItemScorer | None = None,
    titles: Sequence[str] | None = None,
    progress: Progress | None = None,
    teachers: Path | None = None,
) -> Result:
    """Compress a recommender, stage after stage; what an earlier run finished is kept.

    Nothing is chosen on the test part: it gives the verdict on the one student, and the figures of the table.

    Args:
        split: what to learn from, and users to test on.
        recipe: settings.
        out: directory of the results; made if it is not there.
        teacher: the model to learn from; None for EASE fitted on the training part.
        titles: [n_items] the items' names as people know them, for the lists that a report shows; default: their ids.
        progress: told how far it is.
        teachers: folder where fitted teachers are kept for runs with other budgets; None to keep none.

    Raises:
        BudgetImpossibleError: the budget does not buy one value an item.
        NotEnoughMemoryError: EASE of the catalogue needs more memory than there is.
        RecipeChangedError: the directory holds a run with other inputs or settings.
        OutputError: a result cannot be written.
    """
    progress = progress or Silent()
    torch.set_num_threads(recipe.threads)
    budget = RowBudget.parse(recipe.budget, split.train.n_items)
    # These say at once what cannot be.
    if recipe.kind == "tickets":
        row_length(budget, min(recipe.factors, split.train.n_items), recipe.bits)
    elif recipe.kind != "item-item":
        drawn_width(split.train, budget, bits=recipe.bits)
    space = Workspace(out)
    parts = {"train": split.train, "histories": split.histories, "test": split.test}
    inputs = {name: fingerprint(part) for name, part in parts.items()}
    if teacher is not None:
        inputs["teacher"] = digest(teacher.name, lists_of(teacher, split, recipe.k, users=ASKED_USERS))
    space.claim({"recipe": recipe.model_dump(), "inputs": inputs, "versions": {"prunus": __version__}})
    settings: EaseSettings | None = None
    trials: list[dict[str, Any]] = []
    if teacher is None:
        with space.seconds("teacher"):
            settings, trials = _settings(split, recipe, space, progress)
    source = TeacherSource(split.train, recipe, space, progress, given=teacher, settings=settings, kept=teachers)
    metadata = {
        "made_by": f"prunus {__version__}",
        "teacher": source.name,
        "budget": recipe.budget,
        "split": split.how,
    }
    tried: list[dict[str, Any]] = []
    plan = StudentPlan("dense" if recipe.kind == "auto" else recipe.kind, recipe.teacher_weight)
    if recipe.kind == "auto" and settings is not None:
        with space.seconds("choose"):
            inner = space.part("candidates")
            tried = choose_student(split.train, settings, budget, recipe, inner, progress, metadata, kept=teachers)
        plan = StudentPlan(**tried[0]["plan"])
    with space.seconds("teacher"):
        of_teacher = space.array("teacher-test", lambda: lists_of(source.get(), split, recipe.k))
    progress.stage("cut the teacher's weights, to compare", 1.0)
    with space.seconds("curve"):
        curve = _curve(source, split, budget, recipe, space, metadata)
    with space.seconds("distil"):
        progress.stage(f"the student: {plan}", 1.0 if plan.kind == "item-item" else recipe.epochs)
        student = train_student(plan, source, budget, recipe, space, progress, metadata)
    progress.stage("verdict", 1.0)
    model = student.model
    path = out / "recommender.prunus"
    sizes = recommender_file.save(path, model, split.train.item_ids, metadata=metadata)
    scorer = recommender_file.load(path)
    lists = {
        "teacher": of_teacher,
        "student": scorer.recommend(split.histories, recipe.k, n_threads=recipe.threads).ids,
        "popularity": lists_of(Popularity(split.train.popularity), split, recipe.k),
    }
    figures = _Figures(split, recipe.k)
    verdict = compare(figures.ndcg(of_teacher), figures.ndcg(lists["student"]), margin=recipe.margin)
    values = _values(split, recipe, source, student, sizes, path, figures, lists, verdict, space)
    shown = {name: lists[name] for name in ("teacher", "student")}
    values["teacher"]["trials"] = trials
    values["student"] |= {"plan": asdict(plan)}
    values |= {"candidates": tried, "curve": curve, "examples": examples(split, shown, titles, seed=recipe.seed)}
    write_atomically(out / "result.json", (json.dumps(values, indent=1) + "\n").encode())
    return Result(scorer, verdict, values)


def _settings(
    split: Split, recipe: RecommenderRecipe, space: Workspace, progress: Progress
) -> tuple[EaseSettings, list[dict[str, Any]]]:
    """Settings of EASE, with what was tried to choose them: nothing where the recipe has them."""
    if recipe.teacher is not None:
        return recipe.teacher, []
    progress.stage("choose the teacher's settings", 1.0)
    trials = space.json(
        "teacher",
        lambda: [
            {"settings": asdict(one.settings), "value": one.value}
            for one in choose_ease(split.train, recipe.k, seed=recipe.seed)
        ],
    )
    return EaseSettings(**trials[0]["settings"]), trials


def _curve(
    source: TeacherSource,
    split: Split,
    budget: RowBudget,
    recipe: RecommenderRecipe,
    space: Workspace,
    metadata: dict[str, Any],
) -> list[dict[str, Any]]:
    """The equal-byte curve of the teacher's own weights; none of a teacher without, or of too large a catalogue."""

    def make() -> list[dict[str, Any]]:
        teacher = source.get()
        if not isinstance(teacher, ItemItem) or split.train.n_items > MOST_ITEMS:
            return []
        return cut_curve(teacher.weights, split, budget, recipe.k, metadata, source.problem())

    found: list[dict[str, Any]] = space.json("curve", make)
    return found


class _Figures:
    """Metrics over the test part."""

    def __init__(self, split: Split, k: int) -> None:
        self._test, self._k = split.test, k

    def ndcg(self, lists: NDArray[np.int32]) -> PerQuery:
        return topk.ndcg(lists, self._test, self._k)

    def of(self, lists: NDArray[np.int32]) -> dict[str, float]:
        table = {"ndcg": topk.ndcg, "recall": topk.recall, "hr": topk.hit_rate, "mrr": topk.mrr}
        return {f"{name}@{self._k}": metric(lists, self._test, self._k).mean for name, metric in table.items()}


def _values(
    split: Split,
    recipe: RecommenderRecipe,
    source: TeacherSource,
    trained: FactorStudent,
    sizes: Sizes,
    path: Path,
    figures: _Figures,
    lists: dict[str, NDArray[np.int32]],
    verdict: Verdict,
    space: Workspace,
) -> dict[str, Any]:
    metric, model = f"ndcg@{recipe.k}", trained.model
    names = {"teacher": source.name, "student": f"{model.nonzeros / model.n_items:.3g} values an item"}
    rows = []
    for role, found in lists.items():
        difference, lower, upper = paired_interval(figures.ndcg(lists["teacher"]), figures.ndcg(found))
        row = {"role": role, "name": names.get(role, role), **figures.of(found), "chosen": role == "student"}
        rows.append(row if role == "teacher" else row | {"difference": difference, "lower": lower, "upper": upper})
    student = {
        "name": rows[1]["name"],
        **figures.of(lists["student"]),
        "bytes_per_item": sizes.bytes_per_item,
        "file_bytes": sizes.file,
        "id_map_bytes": sizes.id_map,
        "nonzeros": model.nonzeros,
    }
    return {
        "kind": "recommender",
        "metric": metric,
        "convention": str(figures.ndcg(lists["student"])),
        "split": split.how,
        "data": {
            "items": split.train.n_items,
            "train": {"users": split.train.n_users, "interactions": split.train.nnz},
            "test": {"users": split.n_test_users, "interactions": split.test.nnz},
            "cold_users": int(
                np.count_nonzero((np.diff(split.histories.indptr) == 0) & (np.diff(split.test.indptr) > 0))
            ),
            "left_out": split.train.left_out,
        },
        "teacher": {"name": source.name, **figures.of(lists["teacher"])},
        "student": student,
        "verdict": verdict.to_json(),
        "files": {"model": str(path), "report": str(path.parent / "report.html")},
        "rows": [rows[0], rows[1] | student, rows[2]],
        "training": {"history": trained.history},
        "machine": machine.describe(),
        "recipe": recipe.model_dump(mode="json"),
        "seconds": space.spent(),
    }
