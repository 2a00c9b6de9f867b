"""One student of a recommender, of any kind, and what it needs of its teacher; what an earlier run made is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from prunus.compress.beside import cut_weights
from prunus.compress.factors import FactorStudent, popular_items, train_dense, train_factors
from prunus.compress.kept_teacher import kept_ease
from prunus.compress.row_budget import RowBudget
from prunus.distill.factors import FactorLoop, FactorSettings, TeacherLists, teacher_lists
from prunus.engine import recommender_file
from prunus.errors import TeacherError
from prunus.student.factors import leading_factors
from prunus.teacher.linear import EaseProblem, EaseSettings, ItemItem, ease_problem

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from prunus.compress.recommender_recipe import RecommenderRecipe
    from prunus.compress.training import Progress
    from prunus.compress.workspace import Workspace
    from prunus.data.interactions import Interactions
    from prunus.engine.recommender import DenseFactors, SparseFactors
    from prunus.teacher.item_scores import ItemScorer

MOST_COLUMNS = 8192
"""Items that softmaxes are taken over in training; of a larger catalogue, a sample."""
EPOCH_STEPS = 24
"""Steps of an epoch at most: as many as MovieLens-1M has. Of more users, each epoch draws some."""
MANY_USERS = 65_536
"""From so many users on, four times as many stand in a step: most histories are short then."""
MOST_START = 16_384
"""Items whose teacher's leading factors are computed; of a larger catalogue they take several times EASE's memory."""


@dataclass(frozen=True)
class StudentPlan:
    """What a student is.

    Attributes:
        kind: as in :class:`~prunus.compress.recommender_recipe.RecommenderRecipe`, but for ``auto``.
        teacher_weight: of the loss to the teacher's lists; cut weights have none.
        share: of the budget that the student is made for.
        width: factors of a dense row where that is known.
    """

    kind: Literal["tickets", "dense", "item-item"]
    teacher_weight: float = 0.0
    share: float = 1.0
    width: int | None = None

    def __str__(self) -> str:
        """Name it for people."""
        if self.kind == "item-item":
            return self.kind if self.share == 1 else f"{self.kind}, 1/{1 / self.share:g} of the budget"
        return f"{self.kind}, teacher's weight {self.teacher_weight:g}"


class TeacherSource:
    """A teacher of some training part, fitted only where something is asked of it that an earlier run did not keep."""

    def __init__(
        self,
        train: Interactions,
        recipe: RecommenderRecipe,
        space: Workspace,
        progress: Progress,
        *,
        given: ItemScorer | None = None,
        settings: EaseSettings | None = None,
        kept: Path | None = None,
    ) -> None:
        """Set up.

        Args:
            train: what it is fitted on, and whose users have lists.
            recipe: of the run.
            space: where its lists are kept.
            progress: told when it is fitted.
            given: the teacher itself, which is not fitted.
            settings: of EASE where none is given.
            kept: folder of fits, see :func:`~prunus.compress.kept_teacher.kept_ease`.
        """
        self.train, self._recipe, self._space, self._progress = train, recipe, space, progress
        self._scorer, self.settings, self._kept = given, settings, kept
        self.name = given.name if given is not None else str(settings)

    def get(self) -> ItemScorer:
        """Give the teacher; fit it first if need be."""
        if self._scorer is None:
            self._progress.stage("fit the teacher", 1.0)
            self._scorer = kept_ease(self._kept, self.train, self.settings)
        return self._scorer

    def weights(self) -> NDArray[np.float32]:
        """Give its weights between items: float32 [n_items, n_items].

        Raises:
            TeacherError: it has none.
        """
        teacher = self.get()
        if not isinstance(teacher, ItemItem):
            msg = f"got the teacher {teacher.name}, which has no weights between items; expected EASE, or another kind"
            raise TeacherError(msg)
        return teacher.weights

    def problem(self) -> EaseProblem | None:
        """Give the least squares that its weights solve; None of a teacher that was given."""
        return None if self.settings is None else ease_problem(self.train, self.settings)

    def start(self, n_factors: int) -> NDArray[np.float32] | None:
        """Give rows for a student to start from: the leading factors of item-item weights; None of other teachers."""
        if self.train.n_items > MOST_START:
            return None
        if self._space.file("start.npy").exists():
            return self._space.array("start", lambda: np.empty(0))
        if not isinstance(self.get(), ItemItem):
            return None
        return self._space.array("start", lambda: leading_factors(self.weights(), n_factors, seed=self._recipe.seed))

    def heads(self) -> TeacherLists:
        """Give the teacher's lists for the training users."""
        names = ("heads", "head-scores")
        files = [self._space.file(f"{name}.npy") for name in names]
        if not all(file.exists() for file in files):
            found = teacher_lists(self.get(), self.train, self._recipe.lists)
            self._space.array(names[0], lambda: found.items)
            self._space.array(names[1], lambda: found.scores)
        return TeacherLists(*(self._space.array(name, lambda: np.empty(0)) for name in names))


def train_student(
    plan: StudentPlan,
    source: TeacherSource,
    budget: RowBudget,
    recipe: RecommenderRecipe,
    space: Workspace,
    progress: Progress,
    metadata: dict[str, Any],
    *,
    name: str = "student",
) -> FactorStudent:
    """Train a student, or cut it from the teacher's weights; an earlier run's training goes on.

    Args:
        plan: what it is.
        source: its teacher, whose training part it learns from.
        budget: of the run, of which the plan takes its share.
        recipe: of the run; its kind and weight are the plan's.
        space: where the state is kept, under ``name``.
        progress: told of the epochs.
        metadata: what will stand in the file beside the model.
        name: of the files.

    Raises:
        BudgetImpossibleError: the budget does not buy one value an item.
        TeacherError: weights are to be cut, and the teacher has none.
    """
    train, budget = source.train, RowBudget(plan.share * budget.n_bytes, budget.n_items)
    if plan.kind == "item-item":
        return FactorStudent(_cut(source, budget, space, metadata, name), [])
    batch = FactorSettings().batch_users * (1 if train.n_users < MANY_USERS else 4)
    settings = FactorSettings(
        epochs=recipe.epochs,
        batch_users=batch,
        epoch_users=EPOCH_STEPS * batch,
        columns=MOST_COLUMNS if train.n_items > MOST_COLUMNS else 0,
        teacher=plan.teacher_weight,
        seed=recipe.seed,
    )
    heads = source.heads() if plan.teacher_weight else None

    def on_epoch(loop: FactorLoop) -> dict[str, float]:
        progress.advance(loop.epoch)
        return {}

    how: dict[str, Any] = {
        "bits": recipe.bits,
        "settings": settings,
        "metadata": metadata,
        "checkpoint": space.file(f"{name}.pt"),
        "on_epoch": on_epoch,
    }
    if plan.kind == "dense":
        return train_dense(train, heads, budget, width=plan.width, **how)
    n_factors = min(recipe.factors, train.n_items)
    start = source.start(n_factors) if plan.teacher_weight else None
    return train_factors(train, heads, budget, n_factors=n_factors, start=start, **how)


def _cut(
    source: TeacherSource, budget: RowBudget, space: Workspace, metadata: dict[str, Any], name: str
) -> SparseFactors | DenseFactors:
    """Cut the teacher's own weights to the budget, or take those of an earlier run."""
    file = space.file(f"{name}.prunus")
    if not file.exists():
        model = cut_weights(source.weights(), popular_items(source.train), budget, metadata, source.problem())
        recommender_file.save(file, model, metadata=metadata)
    return recommender_file.from_bytes(file.read_bytes(), str(file))[0]
