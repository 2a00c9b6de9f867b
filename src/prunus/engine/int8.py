r"""The layers of a network whose weights are int8: their inputs are rounded to bytes, their sums are exact integers.

    q_k = clamp(rint(fma(h_k, s, z)), 0, 255)                    float32 -> uint8, half to even, NaN -> 0
    h'_o = act(fma(float32(sum_k w_ok q_k), scale_o, bias_o))    int8 x uint8 -> int32 -> float32

with one fused multiply-add (a single rounding to float32) where fma is written. So the real weight that such a layer
stands for is w_ok * scale_o * s, and whoever makes one folds the zero point z into the bias.

The law: from the same float32 inputs h, the bytes q and the sums are the same integers on every instruction set, and
where a layer of int8 follows another with no sigmoid between, the h between are the same bits. Inputs that a float32
layer or the input stage made are another matter: instruction sets (and the twin) may differ there in a last bit, and
where fma(h, s, z) lies that close to a half integer, q may differ by one step, never by more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from prunus.engine.arrays import check_rows, check_sides, checked_array, require, rows_of
from prunus.engine.layers import Activation, FullMatrix, LayerShape

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK = 4
"""Neighbouring inputs that a block covers: what one instruction multiplies and sums."""

LARGEST = 127
"""Largest magnitude of a weight. 255 * 127 * MAX_WIDTH < 2^31, so no sum overflows int32."""


def _weights(value: NDArray[np.int8]) -> NDArray[np.int8]:
    weight = checked_array(value, np.int8, "weight", 2)
    require((weight >= -LARGEST).all(), f"weight holds -128; expected -{LARGEST} to {LARGEST}")
    return weight


def _input_scale(value: float) -> float:
    scale = float(np.float32(value))
    require(2.0**-64 <= scale <= 2.0**64, f"input_scale is {value}; expected 2^-64 to 2^64")
    return scale


def _input_zero(value: float) -> float:
    zero = float(np.float32(value))
    require(abs(zero) <= 2.0**20, f"input_zero is {value}; expected -2^20 to 2^20")
    return zero


@dataclass(frozen=True)
class DenseInt8(FullMatrix):
    """A dense layer of int8 weights; see the module's formula.

    Attributes:
        weight: int8 [n_outputs, n_inputs], -127 to 127.
        scale: float32 [n_outputs], of a sum.
        bias: float32 [n_outputs].
        input_scale: s, steps in one unit of h; a float32, 2^-64 to 2^64.
        input_zero: z, the step of h = 0; a float32, -2^20 to 2^20.
        activation: applied to each output.
    """

    weight: NDArray[np.int8]
    scale: NDArray[np.float32]
    bias: NDArray[np.float32]
    input_scale: float
    input_zero: float
    activation: Activation

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", _weights(self.weight))
        object.__setattr__(self, "scale", checked_array(self.scale, np.float32, "scale"))
        object.__setattr__(self, "bias", checked_array(self.bias, np.float32, "bias"))
        object.__setattr__(self, "input_scale", _input_scale(self.input_scale))
        object.__setattr__(self, "input_zero", _input_zero(self.input_zero))
        object.__setattr__(self, "activation", Activation(self.activation))
        self._check_matrix()
        require(len(self.scale) == self.n_outputs, f"{len(self.scale)} scales for {self.n_outputs} outputs")

    @property
    def shape(self) -> LayerShape:
        """What the layer's time depends on."""
        return LayerShape(self.n_inputs, self.n_outputs, self.weight.size, "dense_int8")

    def steps(self) -> NDArray[np.int8]:
        """int8 [n_outputs, n_inputs]: the stored weights as a dense matrix, before any scale."""
        return self.weight

    def dense_weight(self) -> NDArray[np.float32]:
        """float32 [n_outputs, n_inputs]: the real weights that the layer stands for, weight * scale * input_scale."""
        return _real(self.weight, self.scale, self.input_scale)


@dataclass(frozen=True)
class BlockInt8:
    """A block-sparse layer of int8 weights; row o owns ``blocks[indptr[o]:indptr[o + 1]]``.

    A block covers four neighbouring inputs, 4 b to 4 b + 3: what one VNNI instruction multiplies and sums. Inputs past
    the last one (where ``n_inputs`` is no multiple of four) are bytes of 0.

    Attributes:
        indptr: int32 [n_outputs + 1], rising from 0 to the number of blocks.
        blocks: int32 [n_blocks], b of each block, rising inside a row.
        weight: int8 [n_blocks, 4], -127 to 127, 0 where the input does not exist.
        scale: float32 [n_outputs], of a sum.
        bias: float32 [n_outputs].
        n_inputs: inputs of the layer.
        input_scale: s, steps in one unit of h; a float32, 2^-64 to 2^64.
        input_zero: z, the step of h = 0; a float32, -2^20 to 2^20.
        activation: applied to each output.
    """

    indptr: NDArray[np.int32]
    blocks: NDArray[np.int32]
    weight: NDArray[np.int8]
    scale: NDArray[np.float32]
    bias: NDArray[np.float32]
    n_inputs: int
    input_scale: float
    input_zero: float
    activation: Activation

    def __post_init__(self) -> None:
        for name in ("indptr", "blocks"):
            object.__setattr__(self, name, checked_array(getattr(self, name), np.int32, name))
        object.__setattr__(self, "weight", _weights(self.weight))
        for name in ("scale", "bias"):
            object.__setattr__(self, name, checked_array(getattr(self, name), np.float32, name))
        object.__setattr__(self, "n_inputs", int(self.n_inputs))
        object.__setattr__(self, "input_scale", _input_scale(self.input_scale))
        object.__setattr__(self, "input_zero", _input_zero(self.input_zero))
        object.__setattr__(self, "activation", Activation(self.activation))
        check_sides(self.n_inputs, self.n_outputs)
        require(len(self.scale) == self.n_outputs, f"{len(self.scale)} scales for {self.n_outputs} outputs")
        expected = (len(self.blocks), BLOCK)
        require(self.weight.shape == expected, f"weight has shape {self.weight.shape}; expected {expected}")
        check_rows(self.indptr, self.blocks, self.n_outputs, -(-self.n_inputs // BLOCK), "blocks")
        beyond = self.blocks[:, None] * BLOCK + np.arange(BLOCK) >= self.n_inputs
        require(not self.weight[beyond].any(), "a weight past the last input is not 0")

    @classmethod
    def from_dense(cls, layer: DenseInt8) -> BlockInt8:
        """Keep the blocks that hold a weight that is not zero.

        Args:
            layer: a layer whose zeros fill whole blocks, for this to pay.
        """
        n_columns = -(-layer.n_inputs // BLOCK)
        padded = np.zeros((layer.n_outputs, n_columns * BLOCK), np.int8)
        padded[:, : layer.n_inputs] = layer.weight
        weight = padded.reshape(layer.n_outputs, n_columns, BLOCK)
        indptr, row, blocks = rows_of(np.asarray(weight.any(axis=2)))
        return cls(
            indptr, blocks, weight[row, blocks], layer.scale, layer.bias, layer.n_inputs,
            layer.input_scale, layer.input_zero, layer.activation,
        )  # fmt: skip

    @property
    def n_outputs(self) -> int:
        """Outputs of the layer."""
        return len(self.bias)

    @property
    def nonzeros(self) -> int:
        """Weights that are not zero, biases not counted."""
        return int(np.count_nonzero(self.weight))

    @property
    def shape(self) -> LayerShape:
        """What the layer's time depends on; a stored block counts as its four weights."""
        return LayerShape(self.n_inputs, self.n_outputs, self.weight.size, "block_int8")

    def steps(self) -> NDArray[np.int8]:
        """int8 [n_outputs, n_inputs]: the stored weights as a dense matrix, before any scale."""
        weight = np.zeros((self.n_outputs, -(-self.n_inputs // BLOCK), BLOCK), np.int8)
        weight[np.repeat(np.arange(self.n_outputs), np.diff(self.indptr)), self.blocks] = self.weight
        return np.ascontiguousarray(weight.reshape(self.n_outputs, -1)[:, : self.n_inputs])

    def dense_weight(self) -> NDArray[np.float32]:
        """float32 [n_outputs, n_inputs]: the real weights that the layer stands for, weight * scale * input_scale."""
        return _real(self.steps(), self.scale, self.input_scale)


def _real(steps: NDArray[np.int8], scale: NDArray[np.float32], input_scale: float) -> NDArray[np.float32]:
    return np.asarray(steps * (scale.astype(np.float64) * input_scale)[:, None], np.float32)
