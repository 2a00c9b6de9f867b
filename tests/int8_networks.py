"""Networks with int8 layers for the engine's tests."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from engine_networks import make_inputs
from prunus.engine import reference
from prunus.engine.network import Activation, BlockInt8, Dense, DenseInt8, InputStage, Network, Sparse


def dense_int8(rng, n_inputs, n_outputs, *, density=1.0, activation=Activation.RELU6, scale=20.0, zero=0.0):
    """Draw a dense int8 layer whose 1x4 blocks are there with a probability of ``density``."""
    blocks = rng.random((n_outputs, -(-n_inputs // 4))) < density
    weight = rng.integers(-127, 128, (n_outputs, n_inputs))
    weight *= np.repeat(blocks, 4, axis=1)[:, :n_inputs]
    return DenseInt8(
        weight.astype(np.int8),
        rng.uniform(0.5, 1.5, n_outputs) / (127 * scale * np.sqrt(max(1.0, n_inputs * density))),
        rng.normal(size=n_outputs) * 0.3,
        scale,
        zero,
        activation,
    )


def exact_inputs(n):
    """Slots that pass their features on unchanged, so that no rounding precedes the first layer."""
    bound = np.full(n, 1e30)
    return InputStage(np.arange(n), np.zeros(n), np.zeros(n), np.ones(n), -bound, bound, np.zeros(n))


def one_score_of(layers, n_features):
    """Sum the last layer's outputs with weights that are powers of two, so that no output hides behind another."""
    width = layers[-1].n_outputs
    weight = np.float32(2.0) ** -(np.arange(width) % 7)
    last = Dense(weight.reshape(1, -1).astype(np.float32), np.zeros(1, np.float32), Activation.IDENTITY)
    return Network(n_features, exact_inputs(n_features), (*layers, last))


def integer_layer(rng, n_inputs, n_outputs, density, *, block, low=-127, high=127):
    """Draw an int8 layer that leaves its sums as they are: scale 1, bias 0, no activation."""
    layer = dense_int8(rng, n_inputs, n_outputs, density=density)
    weight = np.where(layer.weight != 0, rng.integers(low, high + 1, layer.weight.shape), 0).astype(np.int8)
    layer = DenseInt8(weight, np.ones(n_outputs), np.zeros(n_outputs), 1.0, 0.0, Activation.IDENTITY)
    return BlockInt8.from_dense(layer) if block else layer


def mixed_network(rng, n_features, widths, kinds, density, *, activation=Activation.RELU6, inputs=None):
    """Draw a network; ``kinds`` has a letter for each hidden layer: s, S (sparse, dense f32), d, b (dense, block int8)."""
    layers, width = [], n_features
    for outputs, kind in zip(widths, kinds, strict=True):
        quantized = dense_int8(
            rng, width, outputs, density=density if kind in "sb" else 1.0, activation=activation,
            scale=rng.uniform(10, 60), zero=rng.choice([0.0, 20.0]),
        )  # fmt: skip
        real = quantized.dense_weight()
        match kind:
            case "d":
                layers.append(quantized)
            case "b":
                layers.append(BlockInt8.from_dense(quantized))
            case "s":
                layers.append(Sparse.from_dense(real, quantized.bias, activation))
            case "S":
                layers.append(Dense(real, quantized.bias, activation))
        width = outputs
    last = Dense(rng.normal(size=(1, width)) / np.sqrt(width), [0.1], Activation.IDENTITY)
    return Network(n_features, inputs or make_inputs(rng, n_features), (*layers, last))


@st.composite
def mixed_networks(draw):
    """Draw a network of any mix of kinds."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n_features = draw(st.integers(1, 70))
    widths = tuple(draw(st.lists(st.integers(1, 70), min_size=1, max_size=4)))
    kinds = "".join(draw(st.sampled_from("sSdb")) for _ in widths)
    density = draw(st.sampled_from([0.0, 0.05, 0.3, 1.0]))
    activation = draw(st.sampled_from([Activation.RELU, Activation.RELU6, Activation.IDENTITY]))
    return mixed_network(rng, n_features, widths, kinds, density, activation=activation)


def score_and_slack(network, X):
    """Return the twin's scores, and how far others may lie: a byte may differ by one step where it is near a boundary.

    The slack is carried forward through absolute weights: each activation is 1-Lipschitz, and a byte moves by a step
    only if its real step lies within what its input may be off from a half integer.
    """
    h = reference.input_stage(network.inputs, X)
    off = 2e-6 * np.maximum(1, np.abs(h))
    for layer in network.layers:
        if isinstance(layer, DenseInt8 | BlockInt8):
            step = h.astype(np.float32) * np.float64(layer.input_scale) + layer.input_zero
            moved = off * layer.input_scale + 1e-6 * np.abs(step)
            distance = np.abs(step - np.floor(step) - 0.5)
            bytes_off = np.where(distance <= moved, np.ceil(moved), 0) + np.floor(moved)
            weight, scale = np.abs(layer.steps().astype(np.float64)), np.abs(layer.scale.astype(np.float64))
            sums = reference.integer_sums(layer, h.astype(np.float32))
            y = reference.fma(sums.astype(np.float32), layer.scale, layer.bias).astype(np.float64)
            off = bytes_off @ weight.T * scale
        else:
            weight = layer.dense_weight().astype(np.float64)
            y = h @ weight.T + layer.bias
            off = off @ np.abs(weight).T + 2e-6 * (np.abs(h) @ np.abs(weight).T + np.abs(layer.bias) + 1)
        h = reference.activate(y, layer.activation)
    return h[:, 0].astype(np.float32), off[:, 0] + 1e-5 * np.maximum(1, np.abs(h[:, 0]))
