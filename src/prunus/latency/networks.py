"""Random networks to be timed: for the calibration, and for the benchmark of what it predicts."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from prunus.engine.network import Activation, Dense, InputStage, Layer, Network, SlotKind, Sparse

if TYPE_CHECKING:
    from numpy.typing import NDArray

WIDTHS = (8, 1000)
"""Units of a hidden layer, least and most; drawn evenly in the logarithm."""

HIDDEN_LAYERS = (1, 5)
"""Hidden layers, least and most."""

DENSITIES = (0.01, 1.0)
"""Share of the weights that a sparse layer keeps, least and most; drawn evenly in the logarithm."""

DENSE_SHARE = 0.4
"""Layers that run on the dense kernel."""

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


def random_layer(rng: np.random.Generator, n_inputs: int, n_outputs: int) -> Layer:
    """Draw a layer: dense, or sparse with rows of about the same length or (as pruning leaves them) of very different ones."""
    activation = Activation.IDENTITY if n_outputs == 1 else Activation.RELU6
    weight = rng.standard_normal((n_outputs, n_inputs), np.float32) / np.float32(n_inputs**0.5)
    bias = np.zeros(n_outputs, np.float32)
    if rng.random() < DENSE_SHARE:
        return Dense(weight, bias, activation)
    keep: NDArray[np.float64] | float = log_uniform(rng, *DENSITIES)
    if rng.random() < 0.5:
        keep = keep * rng.gamma(2.0, 0.5, (n_outputs, 1)) * rng.gamma(2.0, 0.5, (1, n_inputs))
    weight[rng.random(weight.shape) > keep] = 0
    return Sparse.from_dense(weight, bias, activation)


def random_network(rng: np.random.Generator, *, widest: int = WIDTHS[1]) -> Network:
    """Draw a network: 1 to 5 hidden layers of 8 to 1000 units, densities of 1 to 100 %, plain and log inputs.

    Args:
        rng: source of randomness.
        widest: bound of the widths.
    """
    n_features, inputs = random_inputs(rng)
    n_hidden = int(rng.integers(HIDDEN_LAYERS[0], HIDDEN_LAYERS[1] + 1))
    sizes = [inputs.n_slots, *(round(log_uniform(rng, WIDTHS[0], widest)) for _ in range(n_hidden)), 1]
    layers = tuple(random_layer(rng, a, b) for a, b in itertools.pairwise(sizes))
    return Network(n_features, inputs, layers)
