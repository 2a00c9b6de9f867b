"""What the engine can run: an input stage and a stack of dense or sparse layers, as plain arrays.

A network maps raw features x to one score,

    z_s = clamp((t_s(x[f_s]) - c_s) * a_s, l_s, u_s)            for each input slot s (fill_s where x[f_s] is NaN)
    h_0 = z,   h_k = act_k(W_k h_{k-1} + b_k),   score = h_K

with t_s one of the kinds below. A feature that no slot names is never read.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from prunus.errors import NetworkError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_WIDTH = 1 << 16
"""Largest number of features, slots or units that a network may have."""


class SlotKind(IntEnum):
    """How an input slot reads its feature x."""

    VALUE = 0  #: t(x) = x
    LOG = 1  #: t(x) = sign(x) log1p(min(|x|, 2^127))
    MISSING = 2  #: z = 1 where x is NaN, else 0 (center, scale, bounds and fill are not used)
    EQUAL = 3  #: z = 1 where x == center, else 0; fill where x is NaN (scale and bounds are not used)


class Activation(IntEnum):
    """What a layer applies to W h + b."""

    IDENTITY = 0  #: x
    RELU = 1  #: max(x, 0)
    RELU6 = 2  #: min(max(x, 0), 6)
    SIGMOID = 3  #: 1 / (1 + exp(-x))


def _require(condition: object, message: str) -> None:
    if not condition:
        raise NetworkError(message)


def _array(value: NDArray[np.generic], dtype: type[np.generic], name: str, ndim: int = 1) -> NDArray[np.generic]:
    array = np.ascontiguousarray(value)
    _require(array.ndim == ndim, f"{name} has {array.ndim} dimensions; expected {ndim}")
    cast = array.astype(dtype, copy=False)
    _require(
        np.array_equal(cast, array, equal_nan=cast.dtype.kind == "f") or cast.dtype.kind == "f",
        f"{name} does not fit {dtype.__name__}",
    )
    if cast.dtype.kind == "f":
        _require(np.isfinite(cast).all(), f"{name} holds NaN or infinity; expected finite numbers")
    return cast


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
            object.__setattr__(self, name, _array(getattr(self, name), dtype, f"inputs.{name}"))
        for name in ("center", "scale", "lower", "upper", "fill"):
            object.__setattr__(self, name, _array(getattr(self, name), np.float32, f"inputs.{name}"))
        n = len(self.feature)
        _require(0 < n <= MAX_WIDTH, f"{n} input slots; expected 1 to {MAX_WIDTH}")
        for name in ("kind", "center", "scale", "lower", "upper", "fill"):
            _require(
                len(getattr(self, name)) == n, f"inputs.{name} has {len(getattr(self, name))} entries; expected {n}"
            )
        _require(
            (self.feature >= 0).all() and (np.diff(self.feature) >= 0).all(), "inputs.feature must rise from 0 or more"
        )
        _require(
            (self.kind <= max(SlotKind)).all(),
            f"unknown slot kind {int(self.kind.max())}; expected at most {max(SlotKind)}",
        )
        _require((self.lower <= self.upper).all(), "inputs.lower exceeds inputs.upper")

    @property
    def n_slots(self) -> int:
        """Number of inputs of the first layer."""
        return len(self.feature)

    def take(self, slots: NDArray[np.int64]) -> InputStage:
        """Return the stage of some slots only, in the order given (which must keep ``feature`` rising)."""
        return InputStage(*(getattr(self, name)[slots] for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Dense:
    """A dense layer.

    Attributes:
        weight: float32 [n_outputs, n_inputs].
        bias: float32 [n_outputs].
        activation: applied to each output.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    activation: Activation

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", _array(self.weight, np.float32, "weight", 2))
        object.__setattr__(self, "bias", _array(self.bias, np.float32, "bias"))
        object.__setattr__(self, "activation", Activation(self.activation))
        _require(len(self.bias) == self.n_outputs, f"{len(self.bias)} biases for {self.n_outputs} outputs")
        _require(
            1 <= self.n_outputs <= MAX_WIDTH and 1 <= self.n_inputs <= MAX_WIDTH,
            f"layer of shape {self.weight.shape}; expected sides of 1 to {MAX_WIDTH}",
        )

    @property
    def n_inputs(self) -> int:
        """Inputs of the layer."""
        return int(self.weight.shape[1])

    @property
    def n_outputs(self) -> int:
        """Outputs of the layer."""
        return int(self.weight.shape[0])

    @property
    def nonzeros(self) -> int:
        """Weights that are not zero, biases not counted."""
        return int(np.count_nonzero(self.weight))

    def dense_weight(self) -> NDArray[np.float32]:
        """float32 [n_outputs, n_inputs]: the weights as a dense matrix."""
        return self.weight


@dataclass(frozen=True)
class Sparse:
    """A sparse layer in CSR form: row o owns ``indices[indptr[o]:indptr[o + 1]]``.

    Attributes:
        indptr: int32 [n_outputs + 1], rising from 0 to the number of stored weights.
        indices: int32 [n_stored], input of each weight, rising inside a row.
        values: float32 [n_stored].
        bias: float32 [n_outputs].
        n_inputs: inputs of the layer.
        activation: applied to each output.
    """

    indptr: NDArray[np.int32]
    indices: NDArray[np.int32]
    values: NDArray[np.float32]
    bias: NDArray[np.float32]
    n_inputs: int
    activation: Activation

    def __post_init__(self) -> None:
        object.__setattr__(self, "indptr", _array(self.indptr, np.int32, "indptr"))
        object.__setattr__(self, "indices", _array(self.indices, np.int32, "indices"))
        object.__setattr__(self, "values", _array(self.values, np.float32, "values"))
        object.__setattr__(self, "bias", _array(self.bias, np.float32, "bias"))
        object.__setattr__(self, "activation", Activation(self.activation))
        object.__setattr__(self, "n_inputs", int(self.n_inputs))
        _require(
            1 <= self.n_outputs <= MAX_WIDTH and 1 <= self.n_inputs <= MAX_WIDTH,
            f"layer {self.n_inputs} -> {self.n_outputs}; expected sides of 1 to {MAX_WIDTH}",
        )
        _require(
            len(self.indptr) == self.n_outputs + 1,
            f"indptr has {len(self.indptr)} entries; expected {self.n_outputs + 1}",
        )
        _require(
            self.indptr[0] == 0 and (np.diff(self.indptr) >= 0).all() and self.indptr[-1] == len(self.indices),
            "indptr must rise from 0 to the number of weights",
        )
        _require(len(self.values) == len(self.indices), f"{len(self.values)} values for {len(self.indices)} indices")
        _require(
            not len(self.indices) or (self.indices.min() >= 0 and self.indices.max() < self.n_inputs),
            f"an index lies outside 0..{self.n_inputs - 1}",
        )
        row = np.repeat(np.arange(self.n_outputs), np.diff(self.indptr))
        key = row.astype(np.int64) * self.n_inputs + self.indices
        _require((np.diff(key) > 0).all(), "indices must rise inside a row, without repeats")

    @classmethod
    def from_dense(cls, weight: NDArray[np.float32], bias: NDArray[np.float32], activation: Activation) -> Sparse:
        """Keep the weights that are not zero.

        Args:
            weight: float32 [n_outputs, n_inputs].
            bias: float32 [n_outputs].
            activation: of the layer.
        """
        rows, columns = np.nonzero(weight)
        indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=weight.shape[0]))]).astype(np.int32)
        return cls(indptr, columns.astype(np.int32), weight[rows, columns], bias, weight.shape[1], activation)

    @property
    def n_outputs(self) -> int:
        """Outputs of the layer."""
        return len(self.bias)

    @property
    def nonzeros(self) -> int:
        """Weights that are not zero, biases not counted."""
        return int(np.count_nonzero(self.values))

    def dense_weight(self) -> NDArray[np.float32]:
        """float32 [n_outputs, n_inputs]: the weights as a dense matrix."""
        weight = np.zeros((self.n_outputs, self.n_inputs), np.float32)
        weight[np.repeat(np.arange(self.n_outputs), np.diff(self.indptr)), self.indices] = self.values
        return weight


Layer = Dense | Sparse


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
        layers: for each layer (n_inputs, n_outputs, stored weights, is_sparse).
    """

    n_features: int
    n_features_read: int
    n_groups: int
    n_slots: int
    n_log_slots: int
    layers: tuple[tuple[int, int, int, bool], ...]

    @property
    def widest(self) -> int:
        """Largest number of activations that stand side by side (slots or outputs of a layer)."""
        return max(self.n_slots, *(outputs for _, outputs, _, _ in self.layers))


@dataclass(frozen=True)
class Network:
    """An input stage and its layers; the last layer has one output, the score.

    Attributes:
        n_features: columns that X must have.
        inputs: the input stage.
        layers: first to last.
    """

    n_features: int
    inputs: InputStage
    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        _require(1 <= self.n_features <= MAX_WIDTH, f"{self.n_features} features; expected 1 to {MAX_WIDTH}")
        _require(
            int(self.inputs.feature.max()) < self.n_features,
            f"a slot reads feature {int(self.inputs.feature.max())} of {self.n_features}",
        )
        _require(1 <= len(self.layers) <= 64, f"{len(self.layers)} layers; expected 1 to 64")
        width = self.inputs.n_slots
        for number, layer in enumerate(self.layers):
            _require(
                layer.n_inputs == width, f"layer {number} takes {layer.n_inputs} inputs; the one before gives {width}"
            )
            width = layer.n_outputs
        _require(width == 1, f"the last layer gives {width} outputs; expected 1, the score")

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
            layers=tuple(
                (x.n_inputs, x.n_outputs, len(x.values), True)
                if isinstance(x, Sparse)
                else (x.n_inputs, x.n_outputs, x.weight.size, False)
                for x in self.layers
            ),
        )

    def narrow(self) -> Network:
        """Return the same network over the features it reads, in their order, and no others."""
        kept = self.features_read
        feature = np.searchsorted(kept, self.inputs.feature).astype(np.int32)
        stage = self.inputs
        inputs = InputStage(feature, stage.kind, stage.center, stage.scale, stage.lower, stage.upper, stage.fill)
        return Network(len(kept), inputs, self.layers)
