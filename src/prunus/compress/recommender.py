"""The whole job of a recommender: split and budget in; model file, verdict and figures out."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from prunus import __version__, topk
from prunus.bench import machine
from prunus.compress.beside import MOST_ITEMS, cut_curve, cut_weights, examples
from prunus.compress.factors import FactorStudent, popular_items, train_dense, train_factors
from prunus.compress.recipe import Silent
from prunus.compress.row_budget import RowBudget, row_length
from prunus.compress.workspace import Workspace, digest
from prunus.distill.factors import FactorLoop, FactorSettings, TeacherLists, teacher_lists
from prunus.engine import recommender_file
from prunus.engine.disk import write_atomically
from prunus.errors import TeacherError
from prunus.student.factors import leading_factors
from prunus.teacher.choose import choose_ease
from prunus.teacher.item_scores import Popularity, lists_of
from prunus.teacher.linear import EaseSettings, ItemItem, fit_ease
from prunus.verdict import Verdict, compare, paired_interval

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from prunus.compress.recommender_recipe import RecommenderRecipe
    from prunus.compress.training import Progress
    from prunus.data.interactions import Interactions
    from prunus.data.splits import Split
    from prunus.engine.recommend_scorer import RecommendScorer
    from prunus.engine.recommender import DenseFactors, SparseFactors
    from prunus.engine.recommender_file import Sizes
    from prunus.metrics import PerQuery
    from prunus.teacher.item_scores import ItemScorer

MOST_COLUMNS = 8192
"""Items that softmaxes are taken over in training; of a larger catalogue, a sample."""
EPOCH_STEPS = 24
"""Steps of an epoch at most: as many as MovieLens-1M has. Of more users, each epoch draws some."""
MANY_USERS = 65_536
"""From so many users on, four times as many stand in a step: most histories are short then."""
MOST_START = 16_384
"""Items whose teacher's leading factors are computed; of a larger catalogue they take several times EASE's memory."""
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

    Raises:
        BudgetImpossibleError: the budget does not buy one value an item.
        NotEnoughMemoryError: EASE of the catalogue needs more memory than there is.
        RecipeChangedError: the directory holds a run with other inputs or settings.
        OutputError: a result cannot be written.
    """
    progress = progress or Silent()
    torch.set_num_threads(recipe.threads)
    budget = RowBudget.parse(recipe.budget, split.train.n_items)
    if recipe.kind == "tickets":
        row_length(budget, min(recipe.factors, split.train.n_items), recipe.bits)  # says at once what cannot be
    space = Workspace(out)
    parts = {"train": split.train, "histories": split.histories, "test": split.test}
    inputs = {name: fingerprint(part) for name, part in parts.items()}
    if teacher is not None:
        inputs["teacher"] = digest(teacher.name, lists_of(teacher, split, recipe.k, users=ASKED_USERS))
    space.claim({"recipe": recipe.model_dump(), "inputs": inputs, "versions": {"prunus": __version__}})
    with space.seconds("teacher"):
        source = _Teacher(teacher, split, recipe, space, progress)
        source.heads()
        of_teacher = space.array("teacher-test", lambda: lists_of(source.get(), split, recipe.k))
    metadata = {
        "made_by": f"prunus {__version__}",
        "teacher": source.name,
        "budget": recipe.budget,
        "split": split.how,
    }
    progress.stage("cut the teacher's weights, to compare", 1.0)
    with space.seconds("curve"):
        curve = _curve(source, split, budget, recipe, space, metadata)
    with space.seconds("distil"):
        student = _train(source, budget, split, recipe, space, metadata, progress)
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
    values |= {"curve": curve, "examples": examples(split, shown, titles, seed=recipe.seed)}
    write_atomically(out / "result.json", (json.dumps(values, indent=1) + "\n").encode())
    return Result(scorer, verdict, values)


def fingerprint(data: Interactions) -> str:
    """Hash of users, items and their names."""
    return digest(data.indptr, data.items, data.n_items, list(data.item_ids or ()))


class _Teacher:
    """The teacher, fitted only where something is asked of it that an earlier run did not keep."""

    def __init__(
        self, given: ItemScorer | None, split: Split, recipe: RecommenderRecipe, space: Workspace, progress: Progress
    ) -> None:
        self._scorer, self._split, self._recipe, self._space, self._progress = given, split, recipe, space, progress
        self.trials: list[dict[str, Any]] = []
        self.settings = None if given is not None else recipe.teacher or self._chosen()
        self.name = given.name if given is not None else str(self.settings)

    def _chosen(self) -> EaseSettings:
        self._progress.stage("choose the teacher's settings", 1.0)
        self.trials = self._space.json(
            "teacher",
            lambda: [
                {"settings": asdict(one.settings), "value": one.value}
                for one in choose_ease(self._split.train, self._recipe.k, seed=self._recipe.seed)
            ],
        )
        return EaseSettings(**self.trials[0]["settings"])

    def get(self) -> ItemScorer:
        if self._scorer is None:
            self._progress.stage("fit the teacher", 1.0)
            self._scorer = fit_ease(self._split.train, self.settings)
        return self._scorer

    def start(self, n_factors: int) -> NDArray[np.float32] | None:
        """Rows for the student to start from: the leading factors of item-item weights; None of other teachers."""
        if self._split.train.n_items > MOST_START:
            return None
        if self._space.file("start.npy").exists():
            return self._space.array("start", lambda: np.empty(0))
        scorer = self.get()
        if not isinstance(scorer, ItemItem):
            return None
        return self._space.array("start", lambda: leading_factors(scorer.weights, n_factors, seed=self._recipe.seed))

    def heads(self) -> TeacherLists:
        """The teacher's lists for the training users."""
        train, names = self._split.train, ("heads", "head-scores")
        files = [self._space.file(f"{name}.npy") for name in names]
        if not all(file.exists() for file in files):
            found = teacher_lists(self.get(), train, self._recipe.lists)
            self._space.array(names[0], lambda: found.items)
            self._space.array(names[1], lambda: found.scores)
        return TeacherLists(*(self._space.array(name, lambda: np.empty(0)) for name in names))


def _train(
    source: _Teacher,
    budget: RowBudget,
    split: Split,
    recipe: RecommenderRecipe,
    space: Workspace,
    metadata: dict[str, Any],
    progress: Progress,
) -> FactorStudent:
    """Train a student to the budget."""
    n_items, heads = split.train.n_items, source.heads()
    batch = FactorSettings().batch_users * (1 if split.train.n_users < MANY_USERS else 4)
    settings = FactorSettings(
        epochs=recipe.epochs,
        batch_users=batch,
        epoch_users=EPOCH_STEPS * batch,
        columns=MOST_COLUMNS if n_items > MOST_COLUMNS else 0,
        teacher=recipe.teacher_weight,
        seed=recipe.seed,
    )
    progress.stage("distil", recipe.epochs)

    def on_epoch(loop: FactorLoop) -> dict[str, float]:
        progress.advance(loop.epoch)
        return {}

    how: dict[str, Any] = {
        "bits": recipe.bits,
        "settings": settings,
        "metadata": metadata,
        "checkpoint": space.file("student.pt"),
        "on_epoch": on_epoch,
    }
    if recipe.kind == "item-item":
        return FactorStudent(_cut(source, budget, split, space, metadata), [])
    if recipe.kind == "dense":
        return train_dense(split.train, heads, budget, **how)
    n_factors = min(recipe.factors, n_items)
    return train_factors(split.train, heads, budget, n_factors=n_factors, start=source.start(n_factors), **how)


def _cut(
    source: _Teacher, budget: RowBudget, split: Split, space: Workspace, metadata: dict[str, Any]
) -> SparseFactors | DenseFactors:
    """Cut the teacher's own weights to the budget, or take those of an earlier run."""
    file = space.file("student.prunus")
    if not file.exists():
        teacher = source.get()
        if not isinstance(teacher, ItemItem):
            msg = f"got the teacher {teacher.name}, which has no weights between items; expected EASE, or another kind"
            raise TeacherError(msg)
        model = cut_weights(teacher.weights, popular_items(split.train), budget, metadata)
        recommender_file.save(file, model, metadata=metadata)
    return recommender_file.from_bytes(file.read_bytes(), str(file))[0]


def _curve(
    source: _Teacher,
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
        return cut_curve(teacher.weights, split, budget, recipe.k, metadata)

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
    source: _Teacher,
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
        "teacher": {"name": source.name, **figures.of(lists["teacher"]), "trials": source.trials},
        "student": student,
        "verdict": verdict.to_json(),
        "files": {"model": str(path), "report": str(path.parent / "report.html")},
        "rows": [rows[0], rows[1] | student, rows[2]],
        "training": {"history": trained.history},
        "machine": machine.describe(),
        "recipe": recipe.model_dump(mode="json"),
        "seconds": space.spent(),
    }
