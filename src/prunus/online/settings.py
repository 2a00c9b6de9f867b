"""The recipe of a stream: every choice of the loop, so that the same recipe on the same events repeats the run."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from prunus.online.drift import GAP, LOSS

LARGEST_BATCH = 204_800
"""As many events as the default learner keeps to learn from once more; a batch must fit."""


class StreamSettings(BaseModel):
    """How a stream is learned from, tested, watched and emitted from. Unknown keys are refused.

    How events are read and ordered is the source's affair.

    Attributes:
        cut: share of the dense model's operations that the sparse model does without.
        dim: width of an embedding.
        bottom: units of the MLP under the dense features; none for no such MLP.
        top: units of the hidden layers over all inputs, of the dense model.
        interactions: whether products of embeddings are inputs, see :class:`prunus.student.ctr.ClickShape`.
        watched: whether a dense master learns beside the sparse model, for the gap between them.
        batch: events that are predicted, then learned from, at once; at most :data:`LARGEST_BATCH`.
        window: events of a window of the log, in whole batches; a sparse model is emitted at most once a window.
        warm_up: events before the first emission, while models learn the first of it; no total counts them.
        emit_every: windows from one emission to the next.
        new_pattern_after: events after which a new pattern is chosen if none was before (the "r_max" of the reference).
        capacity: ids of one field that can have an embedding of their own.
        admit_after: times that an id is seen before it has one.
        expire_after: events after which an id that was not seen any more loses it; None: when another needs it.
        keep_models: models that were served and stay on disk, to roll back to.
        loss_allowance: of the watch of the master's loss, see :class:`prunus.online.drift.Drift`.
        loss_threshold: of the watch of the master's loss, there too.
        gap_allowance: of the watch of the gap, there too.
        gap_threshold: of the watch of the gap, there too.
        seed: everything random follows from it.
        threads: of training. With a dense master, from two up, it and the sparse model learn at the same time and share
            them: two round as one does. Any other number may round otherwise.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    cut: float = Field(default=0.9, ge=0, lt=1)
    dim: int = Field(default=16, ge=1)
    bottom: tuple[int, ...] = ()
    top: tuple[int, ...] = (512, 256, 128)
    interactions: bool = True
    watched: bool = True
    batch: int = Field(default=512, ge=1, le=LARGEST_BATCH)
    # 40 batches: NE of a window is then known to about 1 %, a paired gap to about a tenth of that.
    window: int = Field(default=20_480, ge=1)
    warm_up: int = Field(default=102_400, ge=0)
    emit_every: int = Field(default=1, ge=1)
    new_pattern_after: int = Field(default=102_400, ge=1)
    capacity: int = Field(default=50_000, ge=1)
    admit_after: int = Field(default=2, ge=1)
    expire_after: int | None = Field(default=None, ge=1)
    keep_models: int = Field(default=10, ge=1)
    loss_allowance: float = Field(default=LOSS[0], ge=0)
    loss_threshold: float = Field(default=LOSS[1], gt=0)
    gap_allowance: float = Field(default=GAP[0], ge=0)
    gap_threshold: float = Field(default=GAP[1], gt=0)
    seed: int = 0
    threads: int = Field(default=1, ge=1)

    @property
    def threads_each(self) -> int:
        """Threads of one of the models that learn at the same time."""
        return max(self.threads // 2, 1) if self.watched else self.threads
