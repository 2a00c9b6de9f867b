"""Layers of int8 weights: what they are, their twin's arithmetic, and the native kernels against it."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine_networks import make_inputs, make_rows, names
from int8_networks import (
    dense_int8,
    exact_inputs,
    integer_layer,
    mixed_network,
    mixed_networks,
    one_score_of,
    score_and_slack,
)
from prunus import _native
from prunus.engine import reference
from prunus.engine.file import check_rows, load, save
from prunus.engine.network import Activation, BlockInt8, Dense, DenseInt8, Network, Sparse
from prunus.engine.scorer import RankScorer
from prunus.errors import NetworkError

ISAS = _native.isas()


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
            ({"weight": np.full((2, 5), np.nan)}, "does not fit int8"),
            ({"weight": np.ones(5, np.int8)}, "dimensions"),
            ({"weight": np.ones((3, 5), np.int8)}, "biases"),
            ({"scale": np.ones(3)}, "scales"),
            ({"scale": np.array([1, np.nan])}, "NaN"),
            ({"bias": np.array([1, np.inf])}, "NaN or infinity"),
            ({"input_scale": 0.0}, r"2\^64"),
            ({"input_scale": float("nan")}, r"2\^64"),
            ({"input_scale": 1e-60}, r"2\^64"),
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


SIZES = (
    (1, 1),
    (3, 2),
    (4, 4),
    (5, 3),
    (8, 15),
    (15, 16),
    (16, 17),
    (17, 5),
    (33, 31),
    (63, 8),
    (64, 33),
    (65, 64),
    (130, 9),
)
BATCHES = (1, 2, 4, 5, 15, 16, 17, 31, 33, 48, 63, 64, 65, 130)


@pytest.mark.parametrize("isa", ISAS)
class TestKernels:
    """Every instruction set against the twin."""

    @pytest.mark.parametrize("block", [False, True])
    @pytest.mark.parametrize("density", [0.0, 0.1, 0.5, 1.0])
    @pytest.mark.parametrize("size", SIZES)
    def test_each_sum_is_the_twins(self, isa, size, density, block):
        """Each output alone, for each size and batch: the same integer."""
        n_inputs, n_outputs = size
        rng = np.random.default_rng(n_inputs * 100 + n_outputs)
        layer = integer_layer(rng, n_inputs, n_outputs, density, block=block)
        X = rng.integers(0, 256, (130, n_inputs)).astype(np.float32)
        sums = reference.integer_sums(layer, X)
        for output in {0, n_outputs // 2, n_outputs - 1}:
            pick = np.zeros((1, n_outputs), np.float32)
            pick[0, output] = 1
            last = Dense(pick, np.zeros(1, np.float32), Activation.IDENTITY)
            network = Network(n_inputs, exact_inputs(n_inputs), (layer, last))
            scorer = RankScorer(network, names(network), isa=isa)
            for n in BATCHES:
                np.testing.assert_array_equal(scorer.score(X[:n]), sums[:n, output])

    @pytest.mark.parametrize("block", [False, True])
    @pytest.mark.parametrize("sign", [-1, 1])
    def test_no_sum_saturates(self, isa, sign, block):
        """Bytes of 255 and weights of 127 sum to what they sum to, over 65536 inputs too."""
        for n_inputs in (4, 300, 65536):
            weight = np.full((2, n_inputs), 127 * sign, np.int8)
            layer = DenseInt8(weight, np.ones(2), np.zeros(2), 1.0, 0.0, Activation.IDENTITY)
            network = one_score_of((BlockInt8.from_dense(layer) if block else layer,), n_inputs)
            X = np.full((3, n_inputs), 300, np.float32)
            expected = np.float32(255 * 127 * sign * n_inputs) * np.float32(1.5)
            np.testing.assert_array_equal(RankScorer(network, names(network), isa=isa).score(X), [expected] * 3)

    def test_bytes_of_every_float(self, isa):
        """Rounding is the twin's at halves, next to them, beyond the ends and at infinities that a layer made."""
        for scale, zero in ((1.0, 0.0), (0.5, 100.0), (37.7, 3.3), (2.0**-64, 0.0), (2.0**64, -7.0), (1.0, 2.0**20)):
            layer = DenseInt8([[1]], [1.0], [0.0], scale, zero, Activation.IDENTITY)
            middle = (np.arange(-2, 258) + 0.5 - zero) / scale
            near = [np.nextafter(np.float32(middle), np.float32(side)) for side in (-np.inf, np.inf)]
            whole = (np.arange(-2, 258) - zero) / scale
            far = np.array([0, 1e30, -1e30, 3e38, -3e38, 1e9, -1e9, 1e-45])
            X = np.concatenate([middle, *near, whole, far]).astype(np.float32).reshape(-1, 1)
            network = Network(1, exact_inputs(1), (layer, Dense([[1.0]], [0.0], Activation.IDENTITY)))
            clipped = np.clip(X, -1e30, 1e30)
            np.testing.assert_array_equal(
                RankScorer(network, names(network), isa=isa).score(X), reference.quantize(layer, clipped)[:, 0]
            )

    @pytest.mark.parametrize("activation", list(Activation))
    @pytest.mark.parametrize("scale", [0.3, 42.5, 1000.0])
    @pytest.mark.parametrize("zero", [-3.0, 0.0, 0.7, 128.0])
    def test_chains_are_the_twins(self, isa, activation, scale, zero):
        """Bytes handed from int8 layer to int8 layer are the twin's, whatever part of the clamp is left out."""
        rng = np.random.default_rng(int(scale) + activation)
        layers = [dense_int8(rng, 24, 21, activation=activation, scale=9.0)]
        layers.append(
            BlockInt8.from_dense(dense_int8(rng, 21, 35, density=0.4, activation=activation, scale=scale, zero=zero))
        )
        layers.append(dense_int8(rng, 35, 18, activation=activation, scale=scale, zero=zero))
        layers.append(integer_layer(rng, 18, 9, 0.5, block=True))
        network = one_score_of(layers, 24)
        X = rng.integers(0, 28, (150, 24)).astype(np.float32)
        got = RankScorer(network, names(network), isa=isa).score(X)
        expected = reference.score(network, X)
        if activation is Activation.SIGMOID:  # its last bits differ, and a byte by one step with them
            assert np.mean(got == expected) > 0.5
        else:
            np.testing.assert_array_equal(got, expected)

    def test_an_overflow_becomes_a_byte(self, isa):
        """Infinity and NaN that a float32 layer makes are bytes of 255 and 0, fused or not, as in the twin."""
        huge = np.float32(3e38)
        weights = np.float32([[huge, huge, 0], [-huge, -huge, 0], [0, 0, 1]])
        difference = np.float32([[1, 1, 0]])  # inf - inf
        byte = DenseInt8(np.diag([1, 2, 4]), np.ones(3), np.zeros(3), 1.0, 0.0, Activation.IDENTITY)
        of_nan = DenseInt8([[1]], [1.0], [7.0], 1.0, 9.0, Activation.IDENTITY)
        X = np.float32([[9, 9, 5]] * 3)
        for make in (Dense, Sparse.from_dense):
            first = make(weights, np.zeros(3, np.float32), Activation.IDENTITY)
            second = make(difference, np.zeros(1, np.float32), Activation.IDENTITY)
            for layers, expected in (((first, byte), 255 + 4 * 5 / 4), ((first, second, of_nan), 7)):
                network = one_score_of(layers, 3)
                got = RankScorer(network, names(network), isa=isa).score(X)
                np.testing.assert_array_equal(got, [expected] * 3)
                with np.errstate(invalid="ignore"):
                    assert reference.quantize(byte, np.float32([np.inf, -np.inf, np.nan])).tolist() == [255, 0, 0]

    def test_a_document_does_not_know_its_batch(self, isa):
        """A row of a batch has, bit for bit, the score it has alone, at every other place, and with threads."""
        network = mixed_network(np.random.default_rng(3), 30, (41, 37, 22, 9), "sdbs", 0.4)
        scorer = RankScorer(network, names(network), isa=isa)
        X = make_rows(np.random.default_rng(4), network, 150)
        scores = scorer.score(X)
        for i in (0, 15, 16, 63, 64, 149):
            assert scorer.score(X[i : i + 1])[0] == scores[i]
        for n in (2, 4, 5, 17, 33, 49, 100):
            np.testing.assert_array_equal(scorer.score(X[:n]), scores[:n])
        order = np.random.default_rng(5).permutation(150)
        np.testing.assert_array_equal(scorer.score(np.ascontiguousarray(X[order])), scores[order])
        np.testing.assert_array_equal(scorer.score(X, n_threads=3), scores)

    def test_statuses(self, isa):
        """NaN where it is forbidden and infinity set the same flags as in the twin."""
        network = mixed_network(np.random.default_rng(6), 13, (12, 8), "bd", 0.6)
        schema = names(network)
        native = RankScorer(network, schema, isa=isa)._native
        rng = np.random.default_rng(7)
        for n in (1, 3, 16, 70):
            for bad in (np.nan, np.inf, -np.inf):
                X = make_rows(rng, network, n)
                assert native.score(X, np.empty(n, np.float32), 1) == 0
                X[rng.integers(n), rng.integers(13)] = bad
                status = native.score(X, np.empty(n, np.float32), 1)
                assert status == reference.status(network, X, schema.allow_missing) != 0


@given(network=mixed_networks(), n=st.integers(0, 140), seed=st.integers(0, 2**32))
def test_random_mixed_networks(network, n, seed):
    """Scores lie within what one step at each rounding can change, on every instruction set."""
    X = make_rows(np.random.default_rng(seed), network, n)
    expected, slack = score_and_slack(network, X)
    for isa in ISAS:
        got = RankScorer(network, names(network), isa=isa).score(X)
        assert (np.abs(got - expected) <= slack).all()


class TestFile:
    """Networks with int8 layers in a model file."""

    @given(network=mixed_networks(), seed=st.integers(0, 2**32))
    def test_save_then_load_is_identity(self, tmp_path_factory, network, seed):
        """Every layer comes back as it was, checked by rows that keep away from rounding boundaries."""
        path = tmp_path_factory.mktemp("model") / "m.prunus"
        save(path, network, names(network), metadata={})
        loaded = load(path).network
        for got, expected in zip(loaded.layers, network.layers, strict=True):
            assert type(got) is type(expected)
            for name in type(expected).__dataclass_fields__:
                np.testing.assert_array_equal(getattr(got, name), getattr(expected, name))
        X = make_rows(np.random.default_rng(seed), network, 20)
        np.testing.assert_array_equal(load(path).score(X), RankScorer(network, names(network)).score(X))

    @pytest.mark.parametrize("missing", [False, True])
    def test_check_rows_keep_away_from_boundaries(self, missing):
        """No step of a check row is so near a half integer that float32 could round it to either side."""
        network = mixed_network(np.random.default_rng(8), 100, (400, 200, 100), "sbd", 0.3)
        schema = names(network, [missing] * 100)
        rows = check_rows(network, schema)
        distance = reference.distance_from_half(network, rows)
        assert (distance > 3e-4).all()
        assert np.isnan(rows[-1]).any() == missing
        plain = make_rows(np.random.default_rng(9), network, 100)
        assert np.median(reference.distance_from_half(network, plain)) < 3e-3
