"""The layers of a network whose weights are float32: h -> act(W h + b), with W dense or sparse."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from prunus.engine.arrays import check_rows, check_sides, checked_array, require, rows_of

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Activation(IntEnum):
    """What a layer applies to W h + b."""

    IDENTITY = 0  #: x
    RELU = 1  #: max(x, 0)
    RELU6 = 2  #: min(max(x, 0), 6)
    SIGMOID = 3  #: 1 / (1 + exp(-x))


class LayerShape(NamedTuple):
    """All of a layer that its time depends on.

    Attributes:
        n_inputs: inputs of the layer.
        n_outputs: outputs of the layer.
        stored: weights that are stored, zeros among them counted.
        kind: ``dense``, ``sparse``, ``dense_int8`` or ``block_int8``.
    """

    n_inputs: int
    n_outputs: int
    stored: int
    kind: str


class FullMatrix:
    """What layers share that store every weight: ``weight`` [n_outputs, n_inputs], ``bias`` [n_outputs]."""

    weight: NDArray[Any]
    bias: NDArray[np.float32]

    def _check_matrix(self) -> None:
        check_sides(self.n_inputs, self.n_outputs)
        require(len(self.bias) == self.n_outputs, f"{len(self.bias)} biases for {self.n_outputs} outputs")

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


@dataclass(frozen=True)
class Dense(FullMatrix):
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
        object.__setattr__(self, "weight", checked_array(self.weight, np.float32, "weight", 2))
        object.__setattr__(self, "bias", checked_array(self.bias, np.float32, "bias"))
        object.__setattr__(self, "activation", Activation(self.activation))
        self._check_matrix()

    @property
    def shape(self) -> LayerShape:
        """What the layer's time depends on."""
        return LayerShape(self.n_inputs, self.n_outputs, self.weight.size, "dense")

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
        object.__setattr__(self, "indptr", checked_array(self.indptr, np.int32, "indptr"))
        object.__setattr__(self, "indices", checked_array(self.indices, np.int32, "indices"))
        object.__setattr__(self, "values", checked_array(self.values, np.float32, "values"))
        object.__setattr__(self, "bias", checked_array(self.bias, np.float32, "bias"))
        object.__setattr__(self, "activation", Activation(self.activation))
        object.__setattr__(self, "n_inputs", int(self.n_inputs))
        check_sides(self.n_inputs, self.n_outputs)
        require(len(self.values) == len(self.indices), f"{len(self.values)} values for {len(self.indices)} indices")
        check_rows(self.indptr, self.indices, self.n_outputs, self.n_inputs, "indices")

    @classmethod
    def from_dense(cls, weight: NDArray[np.float32], bias: NDArray[np.float32], activation: Activation) -> Sparse:
        """Keep the weights that are not zero.

        Args:
            weight: float32 [n_outputs, n_inputs].
            bias: float32 [n_outputs].
            activation: of the layer.
        """
        indptr, row, column = rows_of(weight != 0)
        return cls(indptr, column, weight[row, column], bias, weight.shape[1], activation)

    @property
    def n_outputs(self) -> int:
        """Outputs of the layer."""
        return len(self.bias)

    @property
    def nonzeros(self) -> int:
        """Weights that are not zero, biases not counted."""
        return int(np.count_nonzero(self.values))

    @property
    def shape(self) -> LayerShape:
        """What the layer's time depends on."""
        return LayerShape(self.n_inputs, self.n_outputs, len(self.values), "sparse")

    def dense_weight(self) -> NDArray[np.float32]:
        """float32 [n_outputs, n_inputs]: the weights as a dense matrix."""
        weight = np.zeros((self.n_outputs, self.n_inputs), np.float32)
        weight[np.repeat(np.arange(self.n_outputs), np.diff(self.indptr)), self.indices] = self.values
        return weight
