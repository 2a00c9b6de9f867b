"""From teacher and budget to the best student by validation: design, training, measuring, choosing. No test data here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from prunus.bench.quick import time_scorer
from prunus.compress.training import Progress, Trained, prepare, synthetic_documents, train_student
from prunus.design import Architecture, Budget, prices, propose
from prunus.engine.file import to_bytes
from prunus.engine.network import Activation, Dense, Network, Sparse
from prunus.engine.scorer import RankScorer
from prunus.errors import BudgetImpossibleError, SchemaError, TeacherError
from prunus.student.inputs import learn_inputs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from prunus.compress.recipe import RankerRecipe
    from prunus.compress.workspace import Workspace
    from prunus.data.ranking import RankingData, Schema
    from prunus.engine.network import InputStage, Layer
    from prunus.latency import LatencyModel, Prices
    from prunus.teacher.scores import Teacher

TOLERANCE = 1.05
"""A student whose measured cost is above this times the budget is not chosen while another one keeps it."""

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
        SchemaError: the teacher reads another number of features.
        TeacherError: a score is not finite.
    """
    n_features = getattr(teacher, "n_features", data.n_features)
    if n_features != data.n_features:
        msg = f"{data.source} has {data.n_features} features, the teacher reads {n_features}; expected the same: see --features and --ignore"
        raise SchemaError(msg)
    own = getattr(teacher, "score_data", None)
    scores = np.asarray(own(data) if own is not None else teacher.score(data.X), np.float64)
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
    inputs, schema = learn_inputs(train, missing=recipe.missing, categories=getattr(teacher, "categories", None), seed=recipe.seed)
    proposed = propose(inputs, train.n_features, budget, latency, effort=recipe.effort)
    price = prices(inputs, budget, latency)

    keep = (lambda _, make: make()) if space is None else space.array
    progress.stage("teacher scores", 1.0)
    train_scores = keep("teacher-train", lambda: teacher_scores(teacher, train))
    progress.advance(0.5)
    can_score = getattr(teacher, "score_data", None) is None
    synthetic = synthetic_documents(teacher, train, recipe) if can_score else np.empty((0, train.n_features), np.float32)
    synthetic_scores = keep("teacher-synthetic", lambda: teacher.score(synthetic) if len(synthetic) else np.empty(0))
    progress.advance(1.0)
    lesson = prepare(inputs, train, train_scores, valid, synthetic, synthetic_scores)

    candidates = []
    for architecture in proposed:
        fitted = _fit_target(architecture, inputs, price, valid, budget, latency)
        for seed in range(recipe.seed, recipe.seed + recipe.seeds):
            current = fitted
            for attempt in range(RETRIES + 1):
                progress.stage(f"train {current.name}" + (f", seed {seed}" if recipe.seeds > 1 else ""), 1.0)
                trained = train_student(
                    current, lesson, inputs, train.n_features, recipe,
                    seed=seed, prices=price, latency=latency, space=space, progress=progress,
                )  # fmt: skip
                candidate = _measured(trained, schema, valid, budget, latency)
                total = _total(budget)
                if candidate.cost <= TOLERANCE * total or attempt == RETRIES:
                    break
                current = _smaller(current, total / candidate.cost)
            candidates.append(candidate)
    fitting = [c for c in candidates if c.cost <= TOLERANCE * _total(budget)]
    if not fitting:
        least = min(c.cost for c in candidates)
        nearest = Budget(n_bytes=int(least)) if budget.n_bytes is not None else Budget(float(f"{least:.3g}"), budget.batch)
        msg = f"got a budget of {budget}; every student trained for it measures more: the nearest possible budget is {nearest}"
        raise BudgetImpossibleError(msg, str(nearest))
    chosen = max(fitting, key=lambda c: c.trained.valid)
    return Distilled(candidates, chosen, inputs, schema)


def _total(budget: Budget) -> float:
    return budget.us_per_doc if budget.us_per_doc is not None else float(budget.n_bytes or 0)


def measured_us(network: Network, X: NDArray[np.float32], batch: int, *, seconds: float = 0.25) -> float:
    """Time a network on real documents, us for each document: the least of three medians, so that a neighbour's burst is no verdict.

    Args:
        network: to time.
        X: float32 [n, n_features].
        batch: documents in a call.
        seconds: for each of the three.
    """
    from prunus.data.ranking import Schema as AnySchema

    names = tuple(f"f{i}" for i in range(network.n_features))
    scorer = RankScorer(network, AnySchema(names, (True,) * network.n_features))
    return min(time_scorer(scorer, X, batch, seconds)[0] for _ in range(3))


def _measured(trained: Trained, schema: Schema, valid: RankingData, budget: Budget, latency: LatencyModel) -> Candidate:
    predicted = latency.predict(trained.network, budget.batch).us_per_doc
    if budget.n_bytes is not None:
        return Candidate(trained, float(len(to_bytes(trained.network, schema, metadata={}))), predicted)
    return Candidate(trained, measured_us(trained.network, valid.X, budget.batch), predicted)


def _fit_target(
    architecture: Architecture, inputs: InputStage, price: Prices, valid: RankingData, budget: Budget, latency: LatencyModel
) -> Architecture:
    """Correct a time target by what a random network of this very shape takes on these very documents."""
    if budget.n_bytes is not None:
        return architecture
    network = _random_like(architecture, inputs, price, valid.n_features)
    ratio = measured_us(network, valid.X, budget.batch) / latency.predict(network, budget.batch).us_per_doc
    if architecture.kind == "dense":
        return architecture if ratio <= TOLERANCE else _smaller(architecture, 1.0 / ratio)
    return replace(architecture, target=architecture.target / float(np.clip(ratio, 0.8, 1.6)))


def _random_like(architecture: Architecture, inputs: InputStage, price: Prices, n_features: int) -> Network:
    rng = np.random.default_rng(0)
    sizes = [inputs.n_slots, *architecture.widths, 1]
    all_weights = sum(a * b for a, b in zip(sizes[:-1], sizes[1:], strict=True))
    units = 0.7 * sum(sizes[1:])
    left = max(architecture.target - price.fixed - 0.7 * float(price.slot.sum()) - units * price.unit, 0.0)
    density = 1.0 if architecture.kind == "dense" else min(max(left / price.weight / all_weights, 0.01), 1.0)
    layers: list[Layer] = []
    for a, b in zip(sizes[:-1], sizes[1:], strict=True):
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
