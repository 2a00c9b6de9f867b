"""The slow twin of the native engine, in NumPy: the meaning of a :class:`~prunus.engine.network.Network`, in float64.

Nothing here is fast and nothing is clever. The native kernels are held against it in the tests, and a model file's
check scores come from it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from prunus.engine.network import Activation, SlotKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from prunus.engine.network import InputStage, Network

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


def score(network: Network, X: NDArray[np.float32]) -> NDArray[np.float32]:
    """Score documents, slowly and obviously.

    Args:
        network: the network.
        X: float32 [n_docs, n_features].

    Returns:
        float32 [n_docs]; rounded once, at the end.
    """
    h = input_stage(network.inputs, X)
    for layer in network.layers:
        h = activate(h @ layer.dense_weight().astype(np.float64).T + layer.bias, layer.activation)
    with np.errstate(over="ignore"):
        return h[:, 0].astype(np.float32)


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
