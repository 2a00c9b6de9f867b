"""Random networks to be timed: for the calibration, and for the benchmark of what it predicts."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from prunus.engine.int8 import BLOCK
from prunus.engine.network import (
    Activation,
    BlockInt8,
    Dense,
    DenseInt8,
    InputStage,
    Layer,
    Network,
    SlotKind,
    Sparse,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

WIDTHS = (8, 1000)
"""Units of a hidden layer, least and most; drawn evenly in the logarithm."""

HIDDEN_LAYERS = (1, 5)
"""Hidden layers, least and most."""

DENSITIES = (0.01, 1.0)
"""Share of the weights that a sparse layer keeps, least and most; drawn evenly in the logarithm."""

KINDS = {"dense": 0.3, "sparse": 0.4, "dense_int8": 0.15, "block_int8": 0.15}
"""Kernels of the hidden layers, and their shares; the last layer is one row, sparse or dense."""

BATCHES = (1, 4096)
"""Documents in a call, least and most; drawn evenly in the logarithm."""


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw a number evenly in its logarithm."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def random_batch(rng: np.random.Generator) -> int:
    """Draw how many documents a call has."""
    return round(log_uniform(rng, *BATCHES))


def random_inputs(rng: np.random.Generator) -> tuple[int, InputStage]:
    """Draw the number of features (44 and 136, as in well-known data, or any) and those that are read, plain or as logarithms."""
    n_features = (44, 136, round(log_uniform(rng, 8, 300)))[int(rng.integers(3))]
    n_read = n_features if rng.random() < 0.4 else int(rng.integers(max(n_features // 8, 1), n_features + 1))
    read = np.sort(rng.choice(n_features, n_read, replace=False)).astype(np.int32)
    kind = np.where(rng.random(n_read) < rng.random(), SlotKind.LOG, SlotKind.VALUE).astype(np.uint8)
    ones = np.ones(n_read, np.float32)
    return n_features, InputStage(read, kind, 0 * ones, ones, -5 * ones, 5 * ones, 0 * ones)


def random_layer(rng: np.random.Generator, n_inputs: int, n_outputs: int, *, last: bool = False) -> Layer:
    """Draw a layer: dense, or sparse with rows of about the same length or (as pruning leaves them) of very different ones."""
    kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
    if last:
        kind = "sparse" if kind.startswith("block") else "dense" if kind.endswith("int8") else kind
    columns = -(-n_inputs // BLOCK) if kind == "block_int8" else n_inputs
    keep: NDArray[np.float64] | float = 1.0
    if kind in ("sparse", "block_int8"):
        keep = log_uniform(rng, *DENSITIES)
        if rng.random() < 0.5:
            keep = keep * rng.gamma(2.0, 0.5, (n_outputs, 1)) * rng.gamma(2.0, 0.5, (1, columns))
    return layer_of(rng, kind, n_inputs, n_outputs, keep, last=last)


def layer_of(
    rng: np.random.Generator,
    kind: str,
    n_inputs: int,
    n_outputs: int,
    keep: NDArray[np.float64] | float,
    *,
    last: bool = False,
) -> Layer:
    """Draw a layer of a kind.

    Args:
        rng: source of randomness.
        kind: of :data:`KINDS`.
        n_inputs: of the layer.
        n_outputs: of the layer.
        keep: probability that a weight (of ``block_int8``: a block) stays, for all or [n_outputs, n_columns].
        last: whether it is the last layer, which has no activation.
    """
    activation = Activation.IDENTITY if last else Activation.RELU6
    columns = -(-n_inputs // BLOCK) if kind == "block_int8" else n_inputs
    kept = rng.random((n_outputs, columns)) <= keep
    bias = np.zeros(n_outputs, np.float32)
    if not kind.endswith("int8"):
        weight = rng.standard_normal((n_outputs, n_inputs), np.float32) / np.float32(n_inputs**0.5) * kept
        return Dense(weight, bias, activation) if kind == "dense" else Sparse.from_dense(weight, bias, activation)
    kept = np.repeat(kept, BLOCK, axis=1)[:, :n_inputs] if kind == "block_int8" else kept
    steps = (rng.integers(1, 60, (n_outputs, n_inputs)) * kept).astype(np.int8)
    scale = np.full(n_outputs, 1e-3 / n_inputs**0.5, np.float32)
    layer = DenseInt8(steps, scale, bias, 40.0, 0.0, activation)
    return layer if kind == "dense_int8" else BlockInt8.from_dense(layer)


def random_network(rng: np.random.Generator, *, widest: int = WIDTHS[1]) -> Network:
    """Draw a network: 1 to 5 hidden layers of 8 to 1000 units, densities of 1 to 100 %, float32 and int8, logs or not.

    Args:
        rng: source of randomness.
        widest: bound of the widths.
    """
    n_features, inputs = random_inputs(rng)
    n_hidden = int(rng.integers(HIDDEN_LAYERS[0], HIDDEN_LAYERS[1] + 1))
    sizes = [inputs.n_slots, *(round(log_uniform(rng, WIDTHS[0], widest)) for _ in range(n_hidden)), 1]
    pairs = list(itertools.pairwise(sizes))
    layers = tuple(random_layer(rng, *pair, last=n == n_hidden) for n, pair in enumerate(pairs))
    return Network(n_features, inputs, layers)
