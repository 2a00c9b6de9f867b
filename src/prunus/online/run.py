"""A whole stream: from its events and a recipe to the loop that learns from them, and the models that come off it."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Any

import torch

from prunus import __version__
from prunus.compress.workspace import Workspace
from prunus.data.id_table import IdTable
from prunus.engine.event_scorer import EventScorer
from prunus.online.click_model import to_click_model
from prunus.online.dense_to_sparse import default
from prunus.online.inputs import Inputs
from prunus.online.loop import Loop
from prunus.student.ctr import ClickShape
from prunus.student.normalise import RunningNormaliser

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from prunus.data.events import EventSchema
    from prunus.online.learner import Learner
    from prunus.online.loop import Source
    from prunus.online.settings import StreamSettings


def shape_of(schema: EventSchema, settings: StreamSettings) -> ClickShape:
    """Give the sizes of the dense master."""
    return ClickShape(
        n_dense=len(schema.dense),
        rows=(settings.capacity + 1,) * len(schema.id_fields),
        dim=settings.dim,
        bottom=settings.bottom,
        interactions=settings.interactions,
        top=settings.top,
    )


def density_of(shape: ClickShape, cut: float) -> float:
    """Share of the hidden weights that a model of so many fewer operations keeps; the last layer is always whole.

    Args:
        shape: of the dense model.
        cut: share of its operations to do without.
    """
    last = shape.flops([0.0] * len(shape.matrices))
    return max(0.0, ((1 - cut) * shape.flops() - last) / (shape.flops() - last))


def make_learner(shape: ClickShape, settings: StreamSettings) -> Learner:
    """Make the learner that a recipe asks for."""
    density = density_of(shape, settings.cut)
    if settings.watched:
        return default.watched(shape, density, seed=settings.seed, at_once=settings.threads > 1)
    return default.sparse(shape, density, seed=settings.seed)


def run_stream(
    source: Source,
    schema: EventSchema,
    *,
    settings: StreamSettings,
    out: Path,
    inputs: Mapping[str, Any],
    say: Callable[[str], None],
    on_window: Callable[[dict[str, Any]], None] = lambda _: None,
    on_batch: Callable[[int], None] = lambda _: None,
    checkpoint_s: float = 30.0,
) -> dict[str, Any]:
    """Learn from a stream until it ends, or go on where the last run of this directory was.

    Args:
        source: the events.
        schema: what their columns are.
        settings: the recipe.
        out: the run's directory.
        inputs: plain values that say what the source reads and by which rules; a run goes on with the same ones only.
        say: is told in a sentence what somebody should know.
        on_window: is given each line of the log.
        on_batch: is given the number of events so far.
        checkpoint_s: seconds from one checkpoint to the next.

    Returns:
        The summary; see :meth:`prunus.online.loop.Loop.run`.

    Raises:
        RecipeChangedError: the directory holds a run of other settings or inputs.
        KeyboardInterrupt: it was told to stop; a checkpoint is written.
    """
    shape = shape_of(schema, settings)
    recipe = {
        "inputs": {**inputs, "schema": schema.to_json()},
        "settings": settings.model_dump(mode="json"),
        # Other versions of these may round otherwise; the bits are then no longer those of one run.
        "versions": {"prunus": __version__, "torch": torch.__version__, "machine": platform.machine()},
    }
    Workspace(out).claim(recipe)

    def emit(learner: Learner, now: Inputs, about: dict[str, Any]) -> EventScorer:
        model = to_click_model(learner.net(), learner.masks(), now.normaliser, now.tables)
        return EventScorer(model, schema, metadata={**about, "made_by": f"prunus {__version__} stream run"})

    loop = Loop(
        source,
        make_learner(shape, settings),
        Inputs(
            [IdTable(settings.capacity, settings.admit_after, settings.expire_after) for _ in shape.rows],
            RunningNormaliser(len(schema.dense)),
        ),
        emit,
        settings=settings,
        out=out,
        dense_flops=shape.flops(),
        say=say,
        on_window=on_window,
        on_batch=on_batch,
        checkpoint_s=checkpoint_s,
    )
    return loop.run()
