"""Layers as arrays in, int8 among them, a network that the engine runs out; the float32 way is :mod:`prunus.compiler`.

Dead parts are removed as there, with two differences. A unit that reads nothing gives the constant act(b), which an int8
layer reads as the byte q(act(b)): it adds scale * weight * q to the next bias. And where a layer is stored by blocks of
four inputs, inputs go four at a time, so that blocks stay where they are; a dead unit among living neighbours stays as
an empty row.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from prunus.compiler import LayerLike, choose_kernel
from prunus.engine.int8 import BLOCK
from prunus.engine.network import Activation, BlockInt8, DenseInt8, InputStage, Layer, Network
from prunus.engine.reference import activate
from prunus.prune.blocks import fold_any, unfold

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from prunus.latency import LatencyModel

BLOCKS_BELOW = 0.7
"""Share of the blocks below which an int8 layer runs by blocks when no time model says better: a stored block costs its
kernel an address beside the multiply-add, and the dense one shares loads between outputs."""


class Int8Like(Protocol):
    """An int8 layer as arrays; a byte q = rint(h * input_scale) stands for each input h, 0 for 0."""

    @property
    def weight(self) -> NDArray[np.int8]:
        """int8 [n_outputs, n_inputs]."""

    @property
    def scale(self) -> NDArray[np.float32]:
        """float32 [n_outputs], of a sum."""

    @property
    def bias(self) -> NDArray[np.float32]:
        """float32 [n_outputs]."""

    @property
    def input_scale(self) -> float:
        """Bytes in one unit of an input."""

    @property
    def activation(self) -> Activation:
        """Applied to each output."""

    @property
    def blocks(self) -> bool:
        """Whether zeros stand in blocks of four inputs."""


@dataclass
class _Part:
    """A layer while it shrinks: weights as they are (integers for int8), in float64."""

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]
    like: LayerLike | Int8Like
    scale: NDArray[np.float64] | None
    input_scale: float
    grain: int

    @classmethod
    def of(cls, layer: LayerLike | Int8Like) -> _Part:
        weight, bias = layer.weight.astype(np.float64), layer.bias.astype(np.float64)
        scale = getattr(layer, "scale", None)
        if scale is None:
            return cls(weight, bias, layer, None, 0.0, 1)
        grain = BLOCK if getattr(layer, "blocks", False) else 1
        return cls(weight, bias, layer, scale.astype(np.float64), float(getattr(layer, "input_scale", 1.0)), grain)

    def read(self) -> NDArray[np.bool_]:
        """Say of each input whether its place must stay; one place always does."""
        read = unfold(fold_any(np.asarray(self.weight.any(axis=0)), self.grain), self.grain, self.weight.shape[1])
        if not read.any():
            read = read.copy()
            read[: self.grain] = True
        return read

    def constants(self) -> NDArray[np.bool_]:
        """Say of each output whether it reads nothing."""
        return ~np.asarray(self.weight.any(axis=1))

    def absorb(self, columns: NDArray[np.bool_], values: NDArray[np.float64]) -> None:
        """Move inputs that are constants into the bias."""
        if self.scale is None:
            self.bias += self.weight[:, columns] @ values
        else:
            q = np.clip(np.rint((values * np.float64(np.float32(self.input_scale))).astype(np.float32)), 0, 255)
            self.bias += self.scale * (self.weight[:, columns] @ q.astype(np.float64))
        self.weight[:, columns] = 0.0


def shrink_int8(parts: Sequence[_Part]) -> NDArray[np.int64]:
    """Remove dead units in place, and return the inputs of the first layer that stay, rising."""
    changed = True
    while changed:
        changed = False
        for part, after in itertools.pairwise(parts):
            constant = part.constants()
            if constant.any():
                after.absorb(constant, activate(part.bias[constant], part.like.activation))
            keep = after.read()
            if not keep.all():
                part.weight, part.bias, after.weight = part.weight[keep], part.bias[keep], after.weight[:, keep]
                if part.scale is not None:
                    part.scale = part.scale[keep]
                changed = True
    read = parts[0].read()
    parts[0].weight = parts[0].weight[:, read]
    return np.flatnonzero(read)


def compile_int8(
    n_features: int,
    inputs: InputStage,
    layers: Sequence[LayerLike | Int8Like],
    *,
    latency: LatencyModel | None = None,
    batch: int = 128,
) -> Network:
    """Compile a stack of layers of which some are int8.

    Args:
        n_features: columns of the raw features.
        inputs: the input stage, one slot for each input of the first layer.
        layers: first to last; the last is float32 and has one output.
        latency: time model of this CPU, which chooses the kernels; without it densities do.
        batch: documents in a call that the kernels are chosen for.

    Raises:
        NetworkError: the shapes do not fit, or a number is not finite.
    """
    parts = [_Part.of(layer) for layer in layers]
    slots = shrink_int8(parts)
    return Network(n_features, inputs.take(slots), tuple(_layer(part, latency, batch) for part in parts))


def _layer(part: _Part, latency: LatencyModel | None, batch: int) -> Layer:
    activation = part.like.activation
    bias = part.bias.astype(np.float32)
    if part.scale is None:
        return choose_kernel(part.weight.astype(np.float32), bias, activation, latency, batch)
    scale = part.scale.astype(np.float32)
    dense = DenseInt8(part.weight.astype(np.int8), scale, bias, part.input_scale, 0.0, activation)
    if part.grain != BLOCK:
        return dense
    blocks = BlockInt8.from_dense(dense)
    times = [0.0, 0.0] if latency is None else [latency.layer_us(x, batch=batch) for x in (blocks, dense)]
    if min(times) > 0:
        return blocks if times[0] < times[1] else dense
    return blocks if len(blocks.blocks) * BLOCK < BLOCKS_BELOW * dense.weight.size else dense
