"""From teacher and budget to the best student by validation: design, training, measuring, choosing. No test data here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch

from prunus.compress.inputs import ChosenInputs
from prunus.compress.measure import Costs
from prunus.compress.proposals import propose
from prunus.compress.search import Search, Searched, frontier
from prunus.compress.training import Progress, Trained, prepare, synthetic_documents, train_student
from prunus.design import WIDEST, Architecture, Budget, halving, prices
from prunus.errors import BudgetImpossibleError, DataError, EmptyDataError, SchemaError, TeacherError
from prunus.student.inputs import learn_inputs
from prunus.teacher.exact import fastest
from prunus.teacher.scores import ScoreTeacher
from prunus.teacher.trees import TreeTeacher

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from prunus.compress.recipe import RankerRecipe
    from prunus.compress.workspace import Workspace
    from prunus.data.ranking import RankingData, Schema
    from prunus.distill.loop import Callback
    from prunus.engine.network import InputStage
    from prunus.latency import LatencyModel
    from prunus.teacher.scores import Teacher

TOLERANCE = 1.05
"""A student whose measured cost is above this times the budget is not chosen while another one keeps it."""

LEAST_SPREAD = 1e-6
"""Standard deviation of a teacher's scores, relative to their size, below which float32 cannot tell documents apart."""

RETRIES = 2
"""Times that an architecture is trained again, smaller, because its measured time missed the budget."""


@dataclass(frozen=True)
class Candidate:
    """A trained student with what it costs.

    Attributes:
        trained: the student.
        cost: measured us for each document at the budget's batch, or bytes of its file.
        predicted_us: what the time model said, at the budget's batch.
    """

    trained: Trained
    cost: float
    predicted_us: float

    @property
    def name(self) -> str:
        """Kind and widths."""
        return self.trained.architecture.name


@dataclass(frozen=True)
class Distilled:
    """What distillation found.

    Attributes:
        candidates: all students, in the order of training.
        chosen: the one with the best validation nDCG among those that keep the budget.
        inputs: the input stage before pruning.
        schema: what the student expects.
        trials: of the search, where there was one; those on its frontier are among the candidates.
    """

    candidates: list[Candidate]
    chosen: Candidate
    inputs: InputStage
    schema: Schema
    trials: tuple[Searched, ...] = ()


def teacher_scores(teacher: Teacher, data: RankingData) -> NDArray[np.float64]:
    """Score documents with the teacher, or take the scores that came with them.

    Raises:
        SchemaError: the teacher reads another number of features, or in another order.
        TeacherError: a score is not finite.
    """
    n_features = getattr(teacher, "n_features", data.n_features)
    if n_features != data.n_features:
        msg = f"{data.source} has {data.n_features} features, the teacher reads {n_features}; expected the same: see --features and --ignore"
        raise SchemaError(msg)
    names = data.feature_names
    if isinstance(teacher, TreeTeacher) and not teacher.names_are_default and names != teacher.feature_names:
        first = next(n for n, t in zip(names, teacher.feature_names, strict=True) if n != t)
        msg = (
            f"{data.source}: column {first!r} does not stand where the teacher reads it; expected the columns in the"
            " teacher's order: read the data with feature_names=teacher.feature_names"
        )
        raise SchemaError(msg)
    scores = np.asarray(
        teacher.score_data(data) if isinstance(teacher, ScoreTeacher) else teacher.score(data.X), np.float64
    )
    if not np.isfinite(scores).all():
        msg = f"the teacher gave a score that is not finite for row {int(np.flatnonzero(~np.isfinite(scores))[0])} of {data.source}"
        raise TeacherError(msg)
    return scores


@dataclass(frozen=True)
class Plan:
    """What is decided before anything is trained or written.

    Attributes:
        inputs: the input stage.
        schema: what the student will expect.
        proposed: students worth training.
    """

    inputs: InputStage
    schema: Schema
    proposed: list[Architecture]


def plan(teacher: Teacher, parts: Sequence[RankingData], recipe: RankerRecipe, latency: LatencyModel) -> Plan:
    """Check the data and propose students; everything that can be refused is refused here.

    Args:
        teacher: what to learn from.
        parts: training documents first, then the others.
        recipe: settings.
        latency: time model of this CPU.

    Raises:
        SchemaError: the parts have different features.
        MissingValueError: a part lacks a value that the training documents never lacked.
        InfiniteValueError: a part holds an infinity in a feature that may be read.
        EmptyDataError: a part has no relevant document.
        BudgetImpossibleError: no network meets the budget.
    """
    train = parts[0]
    budget = Budget.parse(recipe.budget)
    categories = getattr(teacher, "categories", None)
    inputs, schema = learn_inputs(train, missing=recipe.missing, categories=categories, seed=recipe.seed)
    for part in parts:
        if part.feature_names != train.feature_names:
            msg = f"{part.source} has other features than {train.source}; expected the same names in the same order"
            raise SchemaError(msg)
        schema.explain(part.X, np.unique(inputs.feature).tolist())
        if not (part.y > 0).any():
            msg = f"{part.source}: no document is relevant (every label is 0); expected some label above 0: see --label"
            raise EmptyDataError(msg)
    return Plan(inputs, schema, propose(inputs, budget, latency, schema, effort=recipe.effort))


def distil(
    teacher: Teacher,
    train: RankingData,
    valid: RankingData,
    recipe: RankerRecipe,
    *,
    latency: LatencyModel,
    space: Workspace | None,
    progress: Progress,
    planned: Plan | None = None,
) -> Distilled:
    """Design, train and choose.

    Args:
        teacher: what to learn from.
        train: documents to learn on.
        valid: documents to choose by.
        recipe: settings.
        latency: time model of this CPU.
        space: where work is kept, or None.
        progress: told how far it is.
        planned: what :func:`plan` gave, where it was called before.

    Raises:
        BudgetImpossibleError: no network meets the budget.
        TeacherError: the teacher gives every document about the same score.
    """
    torch.set_num_threads(recipe.threads)
    planned = planned or plan(teacher, [train, valid], recipe, latency)
    inputs, schema = planned.inputs, planned.schema
    budget = Budget.parse(recipe.budget)
    price = prices(inputs, budget, latency, schema)

    keep = (lambda _, make: make()) if space is None else space.array
    progress.stage("teacher scores", 1.0)

    @cache
    def labeller() -> Teacher:  # made only where labels are not kept from an earlier run
        return fastest(teacher, train.n_docs) if isinstance(teacher, TreeTeacher) else teacher

    train_scores = keep("teacher-train", lambda: teacher_scores(labeller(), train))
    if train_scores.std() <= LEAST_SPREAD * max(1.0, abs(float(train_scores.mean()))):
        msg = (
            f"the teacher's scores of {train.source} are all about {train_scores.mean():.6g};"
            " expected scores that tell documents apart"
        )
        raise TeacherError(msg)
    progress.advance(0.5)
    no_synthetic = np.empty((0, train.n_features), np.float32)
    synthetic = no_synthetic if isinstance(teacher, ScoreTeacher) else synthetic_documents(teacher, train, recipe)
    synthetic_scores = keep("teacher-synthetic", lambda: labeller().score(synthetic) if len(synthetic) else np.empty(0))
    progress.advance(1.0)
    lesson = prepare(inputs, train, train_scores, valid, synthetic, synthetic_scores)
    chosen_inputs = ChosenInputs(lesson, inputs, recipe, price, space)
    costs = Costs(
        budget, inputs, schema, price, latency, valid.X, space, WIDEST[recipe.effort], stage_of=chosen_inputs.stage
    )

    def train_one(
        architecture: Architecture, seed: int, callbacks: Sequence[Callback] = (), stage: str = ""
    ) -> Trained:
        progress.stage(stage or f"train {architecture.name}" + (f", seed {seed}" if recipe.seeds > 1 else ""), 1.0)
        return train_student(
            architecture, chosen_inputs.lesson_of(architecture), chosen_inputs.stage(architecture), schema, recipe,
            seed=seed, prices=prices(inputs, budget, latency, schema, architecture.target if stage else None, architecture.kind),
            latency=latency, space=space, progress=progress, callbacks=callbacks,
        )  # fmt: skip

    candidates = [
        _train_to_budget(architecture, seed, costs, train_one)
        for architecture in planned.proposed
        for seed in range(recipe.seed, recipe.seed + recipe.seeds)
    ]
    trials = _search(recipe, costs, space, train_one)
    listed = [Architecture.parse(text) for text in recipe.architectures]
    for architecture in [*listed, *(trial.architecture for trial in frontier(trials))]:
        trained = train_one(architecture, recipe.seed, stage=f"train {architecture.name}")
        cost = costs.of(trained.network, f"{architecture.key}-seed{recipe.seed}")
        candidates.append(Candidate(trained, cost, costs.predicted_us(trained.network)))
    fitting = [c for c in candidates if c.cost <= tolerance(budget) * budget.total]
    if not fitting:
        nearest = budget.of(min(c.cost for c in candidates))
        msg = f"got a budget of {budget}; every student trained for it measures more: the nearest possible budget is {nearest}"
        raise BudgetImpossibleError(msg, str(nearest))
    chosen = max(fitting, key=lambda c: c.trained.valid)
    return Distilled(candidates, chosen, inputs, schema, tuple(trials))


def _search(
    recipe: RankerRecipe, costs: Costs, space: Workspace | None, train: Callable[..., Trained]
) -> list[Searched]:
    """Spend what is left of the search's time, and return all its trials."""
    if not recipe.search_minutes:
        return []
    if space is None:
        msg = "got search_minutes without a directory; expected one: the search is kept there"
        raise DataError(msg)
    search = Search(space.file("search.journal"), costs, seed=recipe.seed, epochs=recipe.n_epochs)
    stage = ""

    def told(what: str) -> None:
        nonlocal stage
        stage = what

    def train_trial(architecture: Architecture, callbacks: Sequence[Callback]) -> tuple[Trained, float]:
        trained = train(architecture, recipe.seed, callbacks, stage)
        return trained, costs.predicted(trained.network)

    left = 60 * recipe.search_minutes - space.spent().get("search", 0.0)
    if left > 0:
        with space.seconds("search"):
            search.run(left, train_trial, told)
    return search.trials()


def _train_to_budget(
    architecture: Architecture, seed: int, costs: Costs, train: Callable[[Architecture, int], Trained]
) -> Candidate:
    """Train, measure, and train again a little smaller where the measured cost misses the budget."""
    current = costs.fit(architecture)
    total = costs.budget.total
    for attempt in range(RETRIES + 1):
        trained = train(current, seed)
        cost = costs.of(trained.network, f"{current.key}-seed{seed}")
        predicted = costs.predicted_us(trained.network)
        if cost <= tolerance(costs.budget) * total or attempt == RETRIES:
            return Candidate(trained, cost, predicted)
        current = _smaller(current, total / cost)
    raise AssertionError


def tolerance(budget: Budget) -> float:
    """Share of the budget that a measured cost may reach: a time is measured to a few per cent, bytes are bytes."""
    return 1.0 if budget.n_bytes is not None else TOLERANCE


def _smaller(architecture: Architecture, factor: float) -> Architecture:
    """Aim lower: a pruned target shrinks by the factor, a dense network's widths by its square root."""
    if architecture.kind in ("sparse", "block"):
        return replace(architecture, target=architecture.target * factor * 0.97)
    first = max(min(int(architecture.widths[0] * factor**0.5), architecture.widths[0] - 1), 2)
    return replace(architecture, widths=halving(first, len(architecture.widths)), target=architecture.target * factor)
