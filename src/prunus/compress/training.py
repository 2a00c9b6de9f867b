"""Train one proposed student: teacher scores, synthetic documents, the loop, pruning, and the way into the engine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from prunus.compiler import compile_layers
from prunus.compiler_int8 import compile_int8
from prunus.compress.parity import check_int8_parity, check_parity
from prunus.design import Budget
from prunus.distill.augment import draw
from prunus.distill.loop import Loop, LoopSettings, TrainingSet
from prunus.distill.losses import LossMix
from prunus.distill.quantising import Quantising
from prunus.engine.int8 import BLOCK
from prunus.metrics import ndcg
from prunus.prune.gradual import GradualPruning
from prunus.prune.schedule import CubicSchedule
from prunus.student.mlp import MLP, StagedInputs
from prunus.student.quantise import QuantisedMLP

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from prunus.compress.recipe import RankerRecipe
    from prunus.compress.workspace import Workspace
    from prunus.data.ranking import RankingData, Schema
    from prunus.design import Architecture
    from prunus.distill.loop import Callback
    from prunus.engine.network import InputStage, Network
    from prunus.latency import LatencyModel, Prices
    from prunus.teacher.scores import Teacher

MAX_SYNTHETIC = 2_000_000
"""Synthetic documents in the pool at most: their teacher scores are computed once and cost most of the preparation."""

PARITY_ROWS = 5000
"""Validation documents that parity is proved on."""

STAGING_ROWS = 65_536
"""Documents staged at a time, so that the copies in between stay small."""

SCALING_ROWS = 131_072
"""Training documents that the line from a student's scores to its teacher's is taken from, about, at most."""

PRUNE_FROM, PRUNE_TO = 0.2, 0.65
"""Share of the steps at which pruning begins and ends: before it the dense student learns, after it the sparse one
recovers while the learning rate falls."""

QUANTISE_FROM = 0.7
"""Share of the steps after which a student that will run as int8 learns with its numbers rounded: the masks stand."""

PRUNINGS = 50
"""Times that masks are chosen in a run; more changed nothing on globo_ltr, fewer than about 20 lost quality."""


class Progress(Protocol):
    """Who is told how far a run is; see :class:`prunus.compress.recipe.Silent`."""

    def stage(self, name: str, total: float) -> None:
        """Begin a stage of ``total`` units."""

    def advance(self, done: float, note: str = "") -> None:
        """Say how much of the stage is done, and what there is to say of it."""


@dataclass(frozen=True)
class Lesson:
    """All that the students of one run learn from.

    Attributes:
        data: staged and standardised.
        valid: validation documents.
        valid_z: float32 [n, n_slots], staged.
        mean: of the teacher's scores over the training documents.
        deviation: standard deviation of the same.
    """

    data: TrainingSet
    valid: RankingData
    valid_z: torch.Tensor
    mean: float
    deviation: float

    def take(self, slots: NDArray[np.int64]) -> Lesson:
        """Return the same lesson for a student that reads some slots only, in the order given."""
        columns = torch.from_numpy(slots)
        z, synthetic = (part.index_select(1, columns) for part in (self.data.z, self.data.synthetic_z))
        data = replace(self.data, z=z, synthetic_z=synthetic)
        return replace(self, data=data, valid_z=self.valid_z.index_select(1, columns))


@dataclass(frozen=True)
class Trained:
    """One trained student.

    Attributes:
        architecture: what it was designed as.
        seed: of its first weights and its order of documents.
        network: as the engine runs it, scores on the teacher's scale.
        valid: validation nDCG.
        history: one record an epoch.
        parity: instruction set -> largest difference to the torch student, as a share of max(1, |score|).
    """

    architecture: Architecture
    seed: int
    network: Network
    valid: float
    history: list[dict[str, Any]]
    parity: dict[str, float]


def staged(inputs: InputStage, X: NDArray[np.float32]) -> torch.Tensor:
    """Run the input stage over documents.

    Args:
        inputs: the stage.
        X: float32 [n, n_features].

    Returns:
        float32 [n, n_slots].
    """
    stage = StagedInputs(inputs)
    out = torch.empty((len(X), inputs.n_slots), dtype=torch.float32)
    for start in range(0, len(X), STAGING_ROWS):
        out[start : start + STAGING_ROWS] = stage(torch.from_numpy(X[start : start + STAGING_ROWS]))
    return out


def synthetic_documents(teacher: Teacher, train: RankingData, recipe: RankerRecipe) -> NDArray[np.float32]:
    """Draw the pool of synthetic documents.

    Returns:
        float32 [m, n_features]; no rows where the teacher has no cells or cannot score new documents.
    """
    n = min(round(recipe.synthetic_docs * train.n_docs), MAX_SYNTHETIC)
    if recipe.augmentation == "none" or n == 0:
        return np.empty((0, train.n_features), np.float32)
    lacking = np.isnan(train.X)
    low = np.where(lacking, np.inf, train.X).min(axis=0)
    high = np.where(lacking, -np.inf, train.X).max(axis=0)
    empty = lacking.all(axis=0)
    midpoints = teacher.midpoints(np.where(empty, 0, low), np.where(empty, 0, high))
    if midpoints is None:
        return np.empty((0, train.n_features), np.float32)
    return draw(recipe.augmentation, train.X, midpoints, n, np.random.default_rng([recipe.seed, 1]))


def prepare(
    inputs: InputStage,
    train: RankingData,
    train_scores: NDArray[np.float64],
    valid: RankingData,
    synthetic: NDArray[np.float32],
    synthetic_scores: NDArray[np.float64],
) -> Lesson:
    """Stage documents and standardise scores.

    Args:
        inputs: the input stage.
        train: training documents.
        train_scores: float64 [n_docs], the teacher's.
        valid: validation documents.
        synthetic: float32 [m, n_features].
        synthetic_scores: float64 [m], the teacher's.
    """
    mean, deviation = float(train_scores.mean()), max(float(train_scores.std()), 1e-12)

    def standard(scores: NDArray[np.float64]) -> torch.Tensor:
        return torch.from_numpy(((scores - mean) / deviation).astype(np.float32))

    data = TrainingSet(
        staged(inputs, train.X),
        standard(train_scores),
        torch.from_numpy(train.y),
        train.offsets,
        staged(inputs, synthetic),
        standard(synthetic_scores),
    )
    return Lesson(data, valid, staged(inputs, valid.X), mean, deviation)


class _Report:
    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def on_step(self, loop: Loop) -> None:
        if loop.step % 20 == 0:
            last = f"valid {loop.history[-1]['valid']:.4f}" if loop.history else ""
            self.progress.advance((loop.step + 1) / loop.total_steps, last)

    def on_epoch(self, loop: Loop) -> None:
        self.progress.advance(loop.epoch / loop.settings.epochs, f"valid {loop.history[-1]['valid']:.4f}")


def train_student(
    architecture: Architecture,
    lesson: Lesson,
    inputs: InputStage,
    schema: Schema,
    recipe: RankerRecipe,
    *,
    seed: int,
    prices: Prices,
    latency: LatencyModel,
    space: Workspace | None,
    progress: Progress,
    callbacks: Sequence[Callback] = (),
) -> Trained:
    """Train a proposed student to the end, or go on where it was, and compile it.

    Args:
        architecture: what to train.
        lesson: what to learn from.
        inputs: the input stage.
        schema: of the raw features.
        recipe: settings.
        seed: of first weights and order.
        prices: of a sparse network's parts, in the unit of the architecture's target.
        latency: time model, which chooses each layer's kernel.
        space: where checkpoints and the finished student are kept; None keeps nothing.
        progress: told how far it is.
        callbacks: called while it learns, after those of its kind.
    """
    checkpoint = None if space is None else space.file(f"{architecture.key}-seed{seed}.pt")
    best, loop = train_model(
        architecture, lesson, inputs, recipe,
        seed=seed, prices=prices, checkpoint=checkpoint, progress=progress, callbacks=callbacks,
    )  # fmt: skip
    batch = Budget.parse(recipe.budget).batch
    network, scale, shift = to_network(best, lesson, inputs, schema.n_features, latency, batch)
    if isinstance(best, QuantisedMLP):
        parity = check_int8_parity(network, schema, lesson.valid, best, inputs, scale=scale, shift=shift, k=recipe.k)
    else:
        with torch.no_grad():
            expected = best(lesson.valid_z[:PARITY_ROWS]).numpy().astype(np.float64) * scale + shift
        parity = check_parity(network, schema, lesson.valid.X[:PARITY_ROWS], expected)
    return Trained(architecture, seed, network, loop.validate(best), loop.history, parity)


def train_model(
    architecture: Architecture,
    lesson: Lesson,
    inputs: InputStage,
    recipe: RankerRecipe,
    *,
    seed: int,
    prices: Prices,
    checkpoint: Path | None,
    progress: Progress,
    callbacks: Sequence[Callback] = (),
) -> tuple[MLP, Loop]:
    """Train a proposed student in torch; arguments as of :func:`train_student`.

    Returns:
        The student that was best by validation once its masks stood and its numbers were rounded, and the loop.
    """
    model = new_student(architecture, inputs, seed=seed)
    mix = LossMix(recipe.pointwise, recipe.listwise, recipe.labels)
    share = recipe.synthetic_share if len(lesson.data.synthetic_teacher) else 0.0
    settings = LoopSettings(recipe.n_epochs, recipe.batch_docs, share, recipe.learning_rate, mix=mix, seed=seed)

    def validate(student: MLP) -> float:
        with torch.no_grad():
            scores = student(lesson.valid_z).numpy()
        return ndcg(lesson.valid.y, scores, lesson.valid.offsets, k=recipe.k).mean

    loop = Loop(model, lesson.data, settings, validate=validate, checkpoint=checkpoint)
    loop.callbacks = [*_callbacks(architecture, model, prices, loop.total_steps), _Report(progress), *callbacks]
    return loop.run(), loop


def new_student(architecture: Architecture, inputs: InputStage, *, seed: int) -> MLP:
    """Draw the student of an architecture.

    Args:
        architecture: kind and widths.
        inputs: the input stage.
        seed: of the first weights.
    """
    if architecture.kind in ("int8", "block"):
        blocks = architecture.kind == "block"
        return QuantisedMLP(inputs, architecture.widths, seed=seed, first=architecture.first, blocks=blocks)
    return MLP(inputs.n_slots, architecture.widths, seed=seed)


def grains_of(model: MLP) -> list[int]:
    """How many neighbouring inputs of each layer are pruned together: four where it is stored by blocks, else one."""
    if isinstance(model, QuantisedMLP):
        return [BLOCK if int8 and model.blocks else 1 for int8 in model.int8]
    return [1] * len(model.masks)


def _callbacks(architecture: Architecture, model: MLP, prices: Prices, total_steps: int) -> list[Callback]:
    """What is done to a student of this kind while it learns: pruning, then rounding."""
    last = max(total_steps - 1, 1)
    callbacks: list[Callback] = []
    if isinstance(model, QuantisedMLP):
        callbacks.append(Quantising(min(round(QUANTISE_FROM * last), last - 1)))
    if architecture.kind in ("sparse", "block"):
        start = min(int(PRUNE_FROM * last), last - 1)
        end = max(int(PRUNE_TO * last), start + 1)
        schedule = CubicSchedule(start, end, max((end - start) // PRUNINGS, 1))
        callbacks.insert(0, GradualPruning(schedule, prices, architecture.target, grains_of(model)))
    return callbacks


def to_network(
    model: MLP,
    lesson: Lesson,
    inputs: InputStage,
    n_features: int,
    latency: LatencyModel | None,
    batch: int,
) -> tuple[Network, float, float]:
    """Bring a student's scores onto the teacher's scale and compile it.

    The scale is the least-squares line through (student score, teacher score) over the training documents (or every so
    many of them, where there are very many), folded into the last layer; a positive slope keeps the order, so a slope that is not positive is left out.

    Returns:
        The network, and the (scale, shift) from the student's own scores to the teacher's scale.
    """
    every = len(lesson.data.z) // SCALING_ROWS + 1
    with torch.no_grad():
        parts = lesson.data.z[::every].split(STAGING_ROWS)
        scores = torch.cat([model(part) for part in parts]).numpy().astype(np.float64)
    target = lesson.data.teacher.numpy()[::every].astype(np.float64)
    spread = float(np.var(scores))
    slope = float(np.mean((scores - scores.mean()) * (target - target.mean()))) / spread if spread > 0 else 0.0
    if slope <= 0:
        slope = 1.0
    shift = float(target.mean()) - slope * float(scores.mean())
    scale, offset = slope * lesson.deviation, shift * lesson.deviation + lesson.mean
    if isinstance(model, QuantisedMLP):
        stage, layers = model.stage(inputs), model.layers(scale=scale, shift=offset)
        return compile_int8(n_features, stage, layers, latency=latency, batch=batch), scale, offset
    plain = model.layers(scale=scale, shift=offset)
    return compile_layers(n_features, inputs, plain, latency=latency, batch=batch), scale, offset
