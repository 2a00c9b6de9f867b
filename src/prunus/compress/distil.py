"""From teacher and budget to the best student by validation: design, training, measuring, choosing. No test data here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import cycle, pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch

from prunus.bench.quick import enough_rows
from prunus.bench.worker import batches_of
from prunus.compress.training import Lesson, Progress, Trained, prepare, synthetic_documents, train_student
from prunus.data.ranking import Schema
from prunus.design import Architecture, Budget, prices, propose
from prunus.engine.file import to_bytes
from prunus.engine.network import Activation, Dense, Network, Sparse
from prunus.engine.scorer import RankScorer
from prunus.errors import BudgetImpossibleError, SchemaError, TeacherError
from prunus.student.inputs import learn_inputs
from prunus.teacher.scores import ScoreTeacher
from prunus.teacher.trees import TreeTeacher

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from prunus.compress.recipe import RankerRecipe
    from prunus.compress.workspace import Workspace
    from prunus.data.ranking import RankingData
    from prunus.engine.network import InputStage, Layer
    from prunus.latency import LatencyModel, Prices
    from prunus.teacher.scores import Teacher

TOLERANCE = 1.05
"""A student whose measured cost is above this times the budget is not chosen while another one keeps it."""

TIMED_ROWS = 20_000
"""Validation documents that a measurement cycles through: more than a core's caches hold."""

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
    """

    candidates: list[Candidate]
    chosen: Candidate
    inputs: InputStage
    schema: Schema


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


def distil(
    teacher: Teacher,
    train: RankingData,
    valid: RankingData,
    recipe: RankerRecipe,
    *,
    latency: LatencyModel,
    space: Workspace | None,
    progress: Progress,
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

    Raises:
        BudgetImpossibleError: no network meets the budget.
    """
    torch.set_num_threads(recipe.threads)
    budget = Budget.parse(recipe.budget)
    inputs, schema = learn_inputs(
        train, missing=recipe.missing, categories=getattr(teacher, "categories", None), seed=recipe.seed
    )
    proposed = propose(inputs, train.n_features, budget, latency, effort=recipe.effort)
    price = prices(inputs, budget, latency)

    keep = (lambda _, make: make()) if space is None else space.array
    progress.stage("teacher scores", 1.0)
    train_scores = keep("teacher-train", lambda: teacher_scores(teacher, train))
    progress.advance(0.5)
    synthetic = (
        synthetic_documents(teacher, train, recipe)
        if not isinstance(teacher, ScoreTeacher)
        else np.empty((0, train.n_features), np.float32)
    )
    synthetic_scores = keep("teacher-synthetic", lambda: teacher.score(synthetic) if len(synthetic) else np.empty(0))
    progress.advance(1.0)
    lesson = prepare(inputs, train, train_scores, valid, synthetic, synthetic_scores)

    school = School(lesson, inputs, schema, valid, budget, price, latency, recipe, space, progress)
    candidates = [
        _train_to_budget(architecture, seed, school)
        for architecture in proposed
        for seed in range(recipe.seed, recipe.seed + recipe.seeds)
    ]
    fitting = [c for c in candidates if c.cost <= TOLERANCE * _total(budget)]
    if not fitting:
        least = min(c.cost for c in candidates)
        nearest = (
            Budget(n_bytes=int(least)) if budget.n_bytes is not None else Budget(float(f"{least:.3g}"), budget.batch)
        )
        msg = f"got a budget of {budget}; every student trained for it measures more: the nearest possible budget is {nearest}"
        raise BudgetImpossibleError(msg, str(nearest))
    chosen = max(fitting, key=lambda c: c.trained.valid)
    return Distilled(candidates, chosen, inputs, schema)


def _total(budget: Budget) -> float:
    return budget.us_per_doc if budget.us_per_doc is not None else float(budget.n_bytes or 0)


@dataclass(frozen=True)
class School:
    """What every training of a run shares."""

    lesson: Lesson
    inputs: InputStage
    schema: Schema
    valid: RankingData
    budget: Budget
    prices: Prices
    latency: LatencyModel
    recipe: RankerRecipe
    space: Workspace | None
    progress: Progress

    def remembered(self, name: str, measure: Callable[[], float]) -> float:
        """Return a measurement, the same again when the run is resumed: choices follow from it."""
        return measure() if self.space is None else float(self.space.json(f"measured-{name}", measure))


def _train_to_budget(architecture: Architecture, seed: int, school: School) -> Candidate:
    """Train, measure, and train again a little smaller where the measured cost misses the budget."""
    current = _fit_target(architecture, school)
    total = _total(school.budget)
    for attempt in range(RETRIES + 1):
        school.progress.stage(f"train {current.name}" + (f", seed {seed}" if school.recipe.seeds > 1 else ""), 1.0)
        trained = train_student(
            current, school.lesson, school.inputs, school.valid.n_features, school.recipe,
            seed=seed, prices=school.prices, latency=school.latency, space=school.space, progress=school.progress,
        )  # fmt: skip
        candidate = _measured(trained, school)
        if candidate.cost <= TOLERANCE * total or attempt == RETRIES:
            return candidate
        current = _smaller(current, total / candidate.cost)
    raise AssertionError


def measured_us(
    network: Network, X: NDArray[np.float32], batch: int, latency: LatencyModel, *, seconds: float = 0.6
) -> float:
    """Time a network on real documents, us for each document, the machine's drift since its calibration divided out.

    Args:
        network: to time.
        X: float32 [n, n_features]; batches are cut from it in turn.
        batch: documents in a call.
        latency: time model, whose anchor the drift is measured by.
        seconds: to spend.
    """
    scorer = RankScorer(
        network, Schema(tuple(f"f{i}" for i in range(network.n_features)), (True,) * network.n_features)
    )
    batches = cycle(batches_of(enough_rows(X[:TIMED_ROWS], batch), batch))
    return latency.anchored_us(lambda: scorer.score(next(batches)), seconds=seconds) / batch


def _measured(trained: Trained, school: School) -> Candidate:
    predicted = school.latency.predict(trained.network, school.budget.batch).us_per_doc
    if school.budget.n_bytes is not None:
        return Candidate(trained, float(len(to_bytes(trained.network, school.schema, metadata={}))), predicted)

    def measure() -> float:
        return measured_us(trained.network, school.valid.X, school.budget.batch, school.latency)

    return Candidate(trained, school.remembered(f"{trained.architecture.key}-seed{trained.seed}", measure), predicted)


def _fit_target(architecture: Architecture, school: School) -> Architecture:
    """Correct a time target by what a random network of this very shape takes on these very documents."""
    if school.budget.n_bytes is not None:
        return architecture
    batch, latency = school.budget.batch, school.latency
    network = _random_like(architecture, school.inputs, school.prices, school.valid.n_features)

    def measure() -> float:
        return measured_us(network, school.valid.X, batch, latency) / latency.predict(network, batch).us_per_doc

    ratio = school.remembered(f"{architecture.key}-random", measure)
    if architecture.kind == "dense":
        # A dense design has no slack to prune away: it is narrowed or widened to what was measured.
        return _smaller(architecture, 1.0 / ratio) if ratio > 1.0 else architecture
    return replace(architecture, target=architecture.target / float(np.clip(ratio, 0.7, 1.6)))


def _random_like(architecture: Architecture, inputs: InputStage, price: Prices, n_features: int) -> Network:
    rng = np.random.default_rng(0)
    sizes = [inputs.n_slots, *architecture.widths, 1]
    all_weights = sum(a * b for a, b in pairwise(sizes))
    units = 0.7 * sum(sizes[1:])
    left = max(architecture.target - price.fixed - 0.7 * float(price.slot.sum()) - units * price.unit, 0.0)
    density = 1.0 if architecture.kind == "dense" else min(max(left / price.weight / all_weights, 0.01), 1.0)
    layers: list[Layer] = []
    for a, b in pairwise(sizes):
        weight = rng.normal(size=(b, a)).astype(np.float32)
        activation = Activation.IDENTITY if b == 1 else Activation.RELU6
        bias = np.zeros(b, np.float32)
        if architecture.kind == "dense":
            layers.append(Dense(weight, bias, activation))
        else:
            weight[rng.random(weight.shape) >= density] = 0
            layers.append(Sparse.from_dense(weight, bias, activation))
    return Network(n_features, inputs, tuple(layers))


def _smaller(architecture: Architecture, factor: float) -> Architecture:
    """Aim lower: a sparse target shrinks by the factor, a dense network's widths by its square root."""
    if architecture.kind == "sparse":
        return replace(architecture, target=architecture.target * factor * 0.97)
    widths = tuple(max(int(w * factor**0.5 * 0.97), 2) for w in architecture.widths)
    return replace(architecture, widths=widths, target=architecture.target * factor)
