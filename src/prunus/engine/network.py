"""What the engine can run: an input stage and a stack of layers, as plain arrays.

A network maps raw features x to one score,

    z_s = clamp((t_s(x[f_s]) - c_s) * a_s, l_s, u_s)            for each input slot s (fill_s where x[f_s] is NaN)
    h_0 = z,   h_k = act_k(W_k h_{k-1} + b_k),   score = h_K

with t_s one of the kinds below. A feature that no slot names is never read. Layers of float32 weights
(:mod:`~prunus.engine.layers`) and of int8 weights, which first round their inputs to bytes
(:mod:`~prunus.engine.int8`), follow each other in any order; the last one is float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from prunus.engine.arrays import MAX_LAYERS, MAX_WIDTH, checked_array, require
from prunus.engine.int8 import BlockInt8, DenseInt8
from prunus.engine.layers import Activation, Dense, LayerShape, Sparse

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "GROUP",
    "MAX_WIDTH",
    "Activation",
    "BlockInt8",
    "Dense",
    "DenseInt8",
    "InputStage",
    "Layer",
    "LayerShape",
    "Network",
    "NetworkShape",
    "SlotKind",
    "Sparse",
    "count_groups",
]


class SlotKind(IntEnum):
    """How an input slot reads its feature x."""

    VALUE = 0  #: t(x) = x
    LOG = 1  #: t(x) = sign(x) log1p(min(|x|, 2^127))
    MISSING = 2  #: z = 1 where x is NaN, else 0 (center, scale, bounds and fill are not used)
    EQUAL = 3  #: z = 1 where x == center, else 0; fill where x is NaN (scale and bounds are not used)


@dataclass(frozen=True)
class InputStage:
    """Raw features to the first layer's inputs; see the module's formula.

    Attributes:
        feature: int32 [n_slots], index of the feature that each slot reads, rising (a feature may have several slots).
        kind: uint8 [n_slots], a :class:`SlotKind` each.
        center: float32 [n_slots], in the units of t(x).
        scale: float32 [n_slots].
        lower: float32 [n_slots], lower bound of z.
        upper: float32 [n_slots], upper bound of z.
        fill: float32 [n_slots], z of a missing value.
    """

    feature: NDArray[np.int32]
    kind: NDArray[np.uint8]
    center: NDArray[np.float32]
    scale: NDArray[np.float32]
    lower: NDArray[np.float32]
    upper: NDArray[np.float32]
    fill: NDArray[np.float32]

    def __post_init__(self) -> None:
        for name, dtype in (("feature", np.int32), ("kind", np.uint8)):
            object.__setattr__(self, name, checked_array(getattr(self, name), dtype, f"inputs.{name}"))
        for name in ("center", "scale", "lower", "upper", "fill"):
            object.__setattr__(self, name, checked_array(getattr(self, name), np.float32, f"inputs.{name}"))
        n = len(self.feature)
        require(0 < n <= MAX_WIDTH, f"{n} input slots; expected 1 to {MAX_WIDTH}")
        for name in ("kind", "center", "scale", "lower", "upper", "fill"):
            require(
                len(getattr(self, name)) == n, f"inputs.{name} has {len(getattr(self, name))} entries; expected {n}"
            )
        require(
            (self.feature >= 0).all() and (np.diff(self.feature) >= 0).all(), "inputs.feature must rise from 0 or more"
        )
        require(
            (self.kind <= max(SlotKind)).all(),
            f"unknown slot kind {int(self.kind.max())}; expected at most {max(SlotKind)}",
        )
        require((self.lower <= self.upper).all(), "inputs.lower exceeds inputs.upper")

    @property
    def n_slots(self) -> int:
        """Number of inputs of the first layer."""
        return len(self.feature)

    def take(self, slots: NDArray[np.int64]) -> InputStage:
        """Return the stage of some slots only, in the order given (which must keep ``feature`` rising)."""
        return InputStage(*(getattr(self, name)[slots] for name in self.__dataclass_fields__))


Layer = Dense | Sparse | DenseInt8 | BlockInt8


GROUP = 4
"""Neighbouring features that the engine loads and transposes together."""


def count_groups(features: NDArray[np.integer]) -> int:
    """Count the groups of four neighbouring features that cover some features, as the engine forms them.

    Args:
        features: rising, all different.
    """
    groups, end = 0, -1
    for feature in features.tolist():
        if feature >= end:
            groups, end = groups + 1, feature + GROUP
    return groups


@dataclass(frozen=True)
class NetworkShape:
    """All of a network that its time depends on, without its values.

    Attributes:
        n_features: columns of X.
        n_features_read: features that some slot reads.
        n_groups: groups of four neighbouring features that must be loaded to read them.
        n_slots: input slots.
        n_log_slots: those of kind LOG.
        layers: of each layer, first to last.
    """

    n_features: int
    n_features_read: int
    n_groups: int
    n_slots: int
    n_log_slots: int
    layers: tuple[LayerShape, ...]

    @property
    def widest(self) -> int:
        """Largest number of activations that stand side by side (slots or outputs of a layer)."""
        return max(self.n_slots, *(layer.n_outputs for layer in self.layers))


@dataclass(frozen=True)
class Network:
    """An input stage and its layers; the last layer has one output, the score, unless it is told otherwise.

    Attributes:
        n_features: columns that X must have.
        inputs: the input stage.
        layers: first to last.
        n_outputs: of the last layer. Only part of a larger model has several, such as the bottom network of a click
            model; nothing else takes such a network.
    """

    n_features: int
    inputs: InputStage
    layers: tuple[Layer, ...]
    n_outputs: int = 1

    def __post_init__(self) -> None:
        require(1 <= self.n_features <= MAX_WIDTH, f"{self.n_features} features; expected 1 to {MAX_WIDTH}")
        require(
            int(self.inputs.feature.max()) < self.n_features,
            f"a slot reads feature {int(self.inputs.feature.max())} of {self.n_features}",
        )
        require(1 <= len(self.layers) <= MAX_LAYERS, f"{len(self.layers)} layers; expected 1 to {MAX_LAYERS}")
        width = self.inputs.n_slots
        for number, layer in enumerate(self.layers):
            require(
                layer.n_inputs == width, f"layer {number} takes {layer.n_inputs} inputs; the one before gives {width}"
            )
            width = layer.n_outputs
        wanted = "1, the score" if self.n_outputs == 1 else str(self.n_outputs)
        require(width == self.n_outputs, f"the last layer gives {width} outputs; expected {wanted}")
        require(
            isinstance(self.layers[-1], Dense | Sparse),
            f"the last layer is a {type(self.layers[-1]).__name__}; expected Dense or Sparse: the score stays float32",
        )

    @property
    def features_read(self) -> NDArray[np.int32]:
        """int32, rising: the features that some slot reads."""
        feature = self.inputs.feature  # rises; np.unique would import numpy.ma, a tenth of the time that loading takes
        return np.asarray(feature[np.concatenate([[True], feature[1:] != feature[:-1]])])

    @property
    def nonzeros(self) -> int:
        """Weights of all layers that are not zero, biases not counted."""
        return sum(layer.nonzeros for layer in self.layers)

    @property
    def shape(self) -> NetworkShape:
        """What the network's time depends on."""
        return NetworkShape(
            n_features=self.n_features,
            n_features_read=len(self.features_read),
            n_groups=count_groups(self.features_read),
            n_slots=self.inputs.n_slots,
            n_log_slots=int((self.inputs.kind == SlotKind.LOG).sum()),
            layers=tuple(layer.shape for layer in self.layers),
        )

    def narrow(self) -> Network:
        """Return the same network over the features it reads, in their order, and no others."""
        kept = self.features_read
        feature = np.searchsorted(kept, self.inputs.feature).astype(np.int32)
        stage = self.inputs
        inputs = InputStage(feature, stage.kind, stage.center, stage.scale, stage.lower, stage.upper, stage.fill)
        return Network(len(kept), inputs, self.layers, self.n_outputs)
