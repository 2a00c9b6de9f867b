"""The slow twin of the native engine, in NumPy: the meaning of a :class:`~prunus.engine.network.Network`, in float64.

Layers of int8 weights are taken step by step in their own types instead, with every rounding where
:mod:`~prunus.engine.int8` writes it, so that integers are compared with integers.

Nothing here is fast and nothing is clever. The native kernels are held against it in the tests, and a model file's
check scores come from it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from prunus.engine.network import Activation, BlockInt8, DenseInt8, SlotKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from prunus.engine.network import InputStage, Layer, Network

MISSING = 1
"""Status flag: a NaN stands in a feature that is read and may not be missing."""

INFINITE = 2
"""Status flag: an infinity stands in a feature that is read."""


def signed_log1p(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return sign(x) log1p(min(|x|, 2^127)); NaN stays NaN.

    Args:
        x: any shape.
    """
    return np.copysign(np.log1p(np.minimum(np.abs(x), 2.0**127)), x)


def input_stage(stage: InputStage, X: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the inputs of the first layer.

    Args:
        stage: the input stage.
        X: float32 [n_docs, n_features].

    Returns:
        float64 [n_docs, n_slots].
    """
    z = np.empty((X.shape[0], stage.n_slots), np.float64)
    for slot in range(stage.n_slots):
        x = X[:, stage.feature[slot]].astype(np.float64)
        center, scale, lower, upper, fill = (
            float(column[slot]) for column in (stage.center, stage.scale, stage.lower, stage.upper, stage.fill)
        )
        kind = SlotKind(int(stage.kind[slot]))
        if kind is SlotKind.MISSING:
            z[:, slot] = np.isnan(x)
        elif kind is SlotKind.EQUAL:
            z[:, slot] = np.where(np.isnan(x), fill, x == center)
        else:
            t = signed_log1p(x) if kind is SlotKind.LOG else x
            # An infinity times a scale of 0 is no number; the status says that there was an infinity.
            with np.errstate(invalid="ignore"):
                z[:, slot] = np.where(np.isnan(x), fill, np.clip((t - center) * scale, lower, upper))
    return z


def activate(h: NDArray[np.float64], activation: Activation) -> NDArray[np.float64]:
    """Apply an activation.

    Args:
        h: any shape.
        activation: which.
    """
    if activation is Activation.RELU:
        return np.maximum(h, 0.0)
    if activation is Activation.RELU6:
        return np.clip(h, 0.0, 6.0)
    if activation is Activation.SIGMOID:
        return np.exp(-np.logaddexp(0.0, -h))
    return h


def fma(a: NDArray[np.float32], b: NDArray[np.float32], c: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a b + c, rounded once, to the nearest float32 (half to even).

    In float64 the product is exact and the sum is not, so its last bit is made odd wherever something was cut off: an
    odd float64 never lies halfway between two float32, and rounds to the same side as the exact number.

    Args:
        a: any shape.
        b: any shape that broadcasts with it.
        c: likewise.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        product, c64 = np.broadcast_arrays(a.astype(np.float64) * b, np.asarray(c, np.float64))
        total = np.asarray(product + c64)
        part = total - product
        error = (product - (total - part)) + (c64 - part)  # exact (Knuth's TwoSum)
        even = (total.view(np.int64) & 1) == 0
        odd = np.where((error != 0) & even, np.nextafter(total, np.copysign(np.inf, error)), total)
        return np.where(np.isfinite(total), odd, total).astype(np.float32)


def quantize(layer: DenseInt8 | BlockInt8, h: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Round a layer's inputs to bytes: q = clamp(rint(fma(h, s, z)), 0, 255), NaN to 0.

    Args:
        layer: its input_scale s and input_zero z.
        h: float32, any shape.
    """
    steps = fma(h, np.asarray(layer.input_scale, np.float32), np.asarray(layer.input_zero, np.float32))
    return np.clip(np.rint(np.where(np.isnan(steps), 0, steps)), 0, 255).astype(np.uint8)


def integer_sums(layer: DenseInt8 | BlockInt8, h: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the sums over the inputs, which are exact.

    Args:
        layer: a layer of int8 weights.
        h: float32 [n_docs, n_inputs].

    Returns:
        int64 [n_docs, n_outputs]; each fits int32.
    """
    return quantize(layer, h).astype(np.int64) @ layer.steps().astype(np.int64).T


def run_layer(layer: Layer, h: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the outputs of a layer.

    Args:
        layer: any layer.
        h: float64 [n_docs, n_inputs].

    Returns:
        float64 [n_docs, n_outputs].
    """
    if isinstance(layer, DenseInt8 | BlockInt8):
        sums = integer_sums(layer, h.astype(np.float32)).astype(np.float32)
        return activate(fma(sums, layer.scale, layer.bias).astype(np.float64), layer.activation)
    return activate(h @ layer.dense_weight().astype(np.float64).T + layer.bias, layer.activation)


def run(network: Network, X: NDArray[np.float32]) -> NDArray[np.float64]:
    """Run a network, slowly and obviously.

    Args:
        network: the network.
        X: float32 [n_docs, n_features].

    Returns:
        float64 [n_docs, n_outputs].
    """
    h = input_stage(network.inputs, X)
    for layer in network.layers:
        h = run_layer(layer, h)
    return h


def score(network: Network, X: NDArray[np.float32]) -> NDArray[np.float32]:
    """Score documents.

    Args:
        network: the network, of one output.
        X: float32 [n_docs, n_features].

    Returns:
        float32 [n_docs]; rounded once, at the end.
    """
    with np.errstate(over="ignore"):
        return run(network, X)[:, 0].astype(np.float32)


def distance_from_half(network: Network, X: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return how far the inputs of int8 layers stay from where they would round to another byte.

    Only inputs that instruction sets may compute differently count: those that the input stage, a float32 layer or a
    sigmoid made.

    Args:
        network: the network.
        X: float32 [n_docs, n_features].

    Returns:
        float64 [n_docs], in steps: the least distance of fma(h, s, z) from a half integer between bytes; 0.5 at most.
    """
    h = input_stage(network.inputs, X)
    least = np.full(len(X), 0.5)
    exact = False
    for layer in network.layers:
        quantized = isinstance(layer, DenseInt8 | BlockInt8)
        if isinstance(layer, DenseInt8 | BlockInt8) and not exact:
            steps = np.clip(h * layer.input_scale + layer.input_zero, 0, 255)
            least = np.minimum(least, np.abs(steps - np.floor(steps) - 0.5).min(axis=1))
        exact = quantized and layer.activation is not Activation.SIGMOID
        h = run_layer(layer, h)
    return least


def status(network: Network, X: NDArray[np.float32], allow_missing: Sequence[bool]) -> int:
    """Return the flags :data:`MISSING` and :data:`INFINITE` of a batch.

    Args:
        network: the network.
        X: float32 [n_docs, n_features].
        allow_missing: for each feature, whether it may be NaN.
    """
    read = X[:, network.features_read]
    forbidden = ~np.asarray(allow_missing, bool)[network.features_read]
    missing = bool(np.isnan(read[:, forbidden]).any())
    return MISSING * missing | INFINITE * bool(np.isinf(read).any())
