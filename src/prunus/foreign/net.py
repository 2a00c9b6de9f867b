"""What a reader of foreign nets gives: arrays for the engine, and the net itself to hold them against."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from prunus.engine.layers import Dense
    from prunus.engine.network import InputStage


@dataclass(frozen=True)
class ForeignNet:
    """A net that another tool made, as arrays.

    Attributes:
        inputs: one slot for each feature, in order.
        layers: first to last; the last has one output.
        run: the net itself, on the tool it was made for: float32 [n_docs, n_features] to scores [n_docs].
        origin: where it came from, in plain JSON values; kept in the model file.
    """

    inputs: InputStage
    layers: tuple[Dense, ...]
    run: Callable[[NDArray[np.float32]], NDArray[np.floating[Any]]]
    origin: Mapping[str, object] = field(default_factory=dict)

    @property
    def n_features(self) -> int:
        """Columns of the raw features."""
        return self.inputs.n_slots
