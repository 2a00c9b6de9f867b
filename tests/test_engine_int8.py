"""Layers of int8 weights: what they are, their twin's arithmetic, and the native kernels against it."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine_networks import make_inputs
from prunus.engine import reference
from prunus.engine.network import Activation, BlockInt8, Dense, DenseInt8, Network
from prunus.errors import NetworkError


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


class TestTypes:
    """What the two dataclasses are and refuse."""

    def good(self, **changes):
        """Return the arguments of a good dense layer of 2 outputs and 5 inputs, with some changed."""
        parts = {"weight": np.ones((2, 5), np.int8), "scale": np.ones(2), "bias": np.zeros(2)}
        return parts | {"input_scale": 40.0, "input_zero": 1.0, "activation": Activation.RELU} | changes

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"weight": np.full((2, 5), -128, np.int8)}, "-128"),
            ({"weight": np.full((2, 5), 200)}, "does not fit int8"),
            ({"weight": np.ones(5, np.int8)}, "dimensions"),
            ({"weight": np.ones((3, 5), np.int8)}, "biases"),
            ({"scale": np.ones(3)}, "scales"),
            ({"scale": np.array([1, np.nan])}, "NaN"),
            ({"bias": np.array([1, np.inf])}, "NaN or infinity"),
            ({"input_scale": 0.0}, "above 0"),
            ({"input_scale": float("nan")}, "above 0"),
            ({"input_scale": 1e-60}, "above 0"),
            ({"input_zero": float("inf")}, "input_zero"),
        ],
    )
    def test_a_wrong_dense_layer_is_refused(self, changes, words):
        """The message says what is wrong."""
        DenseInt8(**self.good())
        with pytest.raises(NetworkError, match=words):
            DenseInt8(**self.good(**changes))

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"indptr": [0, 1]}, "indptr"),
            ({"indptr": [0, 2, 3]}, "indptr"),
            ({"blocks": [0, 2]}, "outside"),
            ({"blocks": [0, -1]}, "outside"),
            ({"indptr": [0, 2, 2], "blocks": [1, 0]}, "rise"),
            ({"indptr": [0, 2, 2], "blocks": [0, 0]}, "rise"),
            ({"weight": np.ones((3, 4), np.int8)}, "shape"),
            ({"weight": np.ones((2, 4), np.int8)}, "past the last input"),
        ],
    )
    def test_a_wrong_block_layer_is_refused(self, changes, words):
        """The message says what is wrong."""
        weight = np.array([[1, 2, 3, 4], [5, 0, 0, 0]], np.int8)
        good = self.good(weight=weight, indptr=[0, 1, 2], blocks=[0, 1], n_inputs=5)
        BlockInt8(**good)
        with pytest.raises(NetworkError, match=words):
            BlockInt8(**(good | changes))

    @pytest.mark.parametrize("n_inputs", [1, 3, 4, 5, 8, 17])
    @pytest.mark.parametrize("density", [0.0, 0.3, 1.0])
    def test_blocks_hold_the_same_weights(self, n_inputs, density):
        """A dense layer and its blocks have one matrix, one count of weights, one real value."""
        layer = dense_int8(np.random.default_rng(n_inputs), n_inputs, 9, density=density)
        blocks = BlockInt8.from_dense(layer)
        np.testing.assert_array_equal(blocks.steps(), layer.weight)
        np.testing.assert_array_equal(blocks.dense_weight(), layer.dense_weight())
        assert blocks.nonzeros == layer.nonzeros == np.count_nonzero(layer.weight)
        real = layer.weight * np.float64(layer.scale)[:, None] * layer.input_scale
        np.testing.assert_allclose(layer.dense_weight(), real, rtol=1e-7)
        assert layer.shape == (n_inputs, 9, n_inputs * 9, "dense_int8")
        assert blocks.shape == (n_inputs, 9, 4 * len(blocks.blocks), "block_int8")

    def test_the_score_stays_float32(self):
        """A network may not end in a layer of int8."""
        rng = np.random.default_rng(0)
        with pytest.raises(NetworkError, match="DenseInt8; expected Dense or Sparse"):
            Network(3, make_inputs(rng, 3), (dense_int8(rng, 3, 1),))


FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


def nearest(exact):
    """Round a fraction to the nearest float32, half to even, by trying the neighbours."""
    around = np.float32(float(exact))
    with np.errstate(over="ignore"):
        near = [around, np.nextafter(around, np.float32(np.inf)), np.nextafter(around, np.float32(-np.inf))]
    finite = [x for x in near if np.isfinite(x)]
    return min(finite, key=lambda x: (abs(Fraction(float(x)) - exact), int(x.view(np.int32)) & 1))


class TestTwin:
    """The arithmetic of the twin, against fractions."""

    @given(a=FLOATS, b=FLOATS, c=FLOATS)
    def test_fma_rounds_once(self, a, b, c):
        """The result is the float32 nearest to the exact a b + c."""
        exact = Fraction(a) * Fraction(b) + Fraction(c)
        if abs(exact) < Fraction(2) ** 127:
            assert reference.fma(np.float32([a]), np.float32(b), np.float32(c))[0] == nearest(exact)

    def test_fma_does_not_round_twice(self):
        """A sum just above the middle of two float32, which float64 rounds to the middle, goes up."""
        a, b, c = np.float32(1 + 2**-12), np.float32(1 + 2**-12), np.float32(2**-60)
        assert float(np.float64(a) * b + c) == 1 + 2**-11 + 2**-24  # the middle of two float32
        assert reference.fma(np.array([a]), b, c)[0] == np.float32(1 + 2**-11 + 2**-23)
        assert reference.fma(np.array([a]), b, -c)[0] == np.float32(1 + 2**-11)

    def test_bytes(self):
        """Half goes to even, all beyond 0 and 255 to the ends, NaN to 0."""
        layer = DenseInt8(np.ones((1, 1), np.int8), np.ones(1), np.zeros(1), 2.0, 3.0, Activation.IDENTITY)
        h = np.float32([0, 0.25, 0.75, -1.25, -1.5, -9, 126, 126.3, 1e30, -1e30, 3e38, np.inf, -np.inf, np.nan])
        expected = [3, 4, 4, 0, 0, 0, 255, 255, 255, 0, 255, 255, 0, 0]
        np.testing.assert_array_equal(reference.quantize(layer, h), expected)

    def test_a_network_by_hand(self):
        """Two layers of int8 and the output, as numbers in a row."""
        first = DenseInt8([[1, -2, 3], [127, 0, -1]], [0.5, 1.0], [1.0, -4.0], 10.0, 5.0, Activation.RELU)
        second = BlockInt8([0, 1], [0], [[2, -1, 0, 0]], [1.0], [0.0], 2, 1.0, 0.0, Activation.IDENTITY)
        last = Dense(np.float32([[1]]), np.float32([0.5]), Activation.IDENTITY)
        inputs = make_inputs(np.random.default_rng(0), 3, kinds=(0,))
        inputs = type(inputs)(inputs.feature, inputs.kind, *np.float32([[0] * 3, [1] * 3, [-9] * 3, [9] * 3, [0] * 3]))
        X = np.float32([[0.5, 1.0, -0.3]])  # bytes 10, 15, 2: sums 10 - 30 + 6 and 1270 - 2
        # h = relu(-7 + 1), relu(1268 - 4): bytes 0 and 255 (1264 is beyond): sum -255
        assert reference.score(Network(3, inputs, (first, second, last)), X)[0] == -254.5

    def test_a_layer_of_int8_is_nearly_its_real_weights(self):
        """With steps fine enough, the layer computes W h + b with its real weights."""
        rng = np.random.default_rng(1)
        layer = dense_int8(rng, 40, 8, activation=Activation.IDENTITY, scale=40.0)
        h = rng.uniform(0, 6, (100, 40)).astype(np.float32)
        got = reference.integer_sums(layer, h) * layer.scale + layer.bias
        step = np.abs(layer.dense_weight()).sum(axis=1) * 0.5 / layer.input_scale
        assert (np.abs(got - (h @ layer.dense_weight().T + layer.bias)) <= step + 1e-4).all()
