"""What learns on a stream: it says what it thinks of a batch, then it is told the labels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from prunus.student.ctr_gradient import Touched

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from prunus.prune.mask import Mask
    from prunus.student.ctr import ClickNet


@dataclass(frozen=True)
class Prepared:
    """A batch of events as a learner reads them.

    Attributes:
        z: float32 [n, n_dense], dense features normalised by what came before the batch; missing ones are 0.
        rows: int64 [n, n_ids], row of each id in its embedding table; 0 for an id that has none yet.
        label: float32 [n], 0 or 1.
        offset: float32 [n], added to the logit in the loss: log-odds by which sampling of negatives shifted the labels.
        fresh: for each id field int64 [m], rows given to a new id with this batch. What they held belongs to another id
            and is forgotten before the batch is scored.
    """

    z: Tensor
    rows: Tensor
    label: Tensor
    offset: Tensor
    fresh: tuple[Tensor, ...] = ()

    def __len__(self) -> int:
        """Count the events."""
        return len(self.label)

    @cached_property
    def touched(self) -> Touched:
        """Where the rows are read: found once for all nets that learn from the batch."""
        return Touched.by(self.rows)


@dataclass(frozen=True)
class Predictions:
    """What a learner thinks of a batch, offsets left out.

    Attributes:
        dense: float32 [n], logits of the dense master; None for a learner that has none.
        sparse: float32 [n], logits of the model that serves.
    """

    dense: Tensor | None
    sparse: Tensor


@dataclass(frozen=True)
class Flops:
    """Floating point operations for one event, two to a multiply-add, embeddings and interactions left out.

    Attributes:
        train: of a step of training, the scoring of its batch included.
        serve: of scoring with the sparse model.
    """

    train: float
    serve: float


class Learner(Protocol):
    """Learns from batch after batch, and gives a sparse model at any time.

    Deterministic: a learner made anew with the same arguments that has loaded a state goes on to the same bits.
    """

    @property
    def name(self) -> str:
        """Name of the method, for tables and reports."""

    @property
    def flops_per_event(self) -> Flops:
        """What it costs now."""

    def predict(self, batch: Prepared) -> Predictions:
        """Score a batch; labels are not looked at. Only rows of new ids are changed."""

    def learn(self, batch: Prepared) -> bool:
        """Take one step of training on the batch that was scored last.

        Returns:
            Whether it was learned from: not where a loss or a gradient is no number, which would leave no weight one.
        """

    def repattern(self) -> None:
        """Choose the sparsity pattern anew now, because the stream changed or the sparse model fell behind."""

    def masks(self) -> list[Mask]:
        """Give the mask of each hidden layer, in the order of ``ClickNet.hidden``."""

    def net(self) -> ClickNet:
        """Give the sparse model: a net whose hidden weights are zero where the mask is."""

    def state(self) -> dict[str, Any]:
        """Give everything that a checkpoint needs: plain values, tensors, and dicts and lists of them, all copies."""

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a state.

        Raises:
            CheckpointError: it is of another method, or of a net of another shape.
        """
