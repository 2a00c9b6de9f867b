"""The native kernels against their slow twin: every instruction set, every network of the table, every batch size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine_networks import TABLE, make_network, make_rows, names, networks, table_network
from prunus import _native
from prunus.engine import reference
from prunus.engine.network import Activation, Dense, InputStage, Network, SlotKind
from prunus.engine.scorer import RankScorer

ISAS = _native.isas()
BATCHES = (0, 1, 2, 3, 4, 5, 8, 9, 15, 16, 17, 24, 25, 31, 33, 48, 63, 64, 65, 127, 130)


def assert_same(got, expected, tolerance=1e-5):
    """Hold scores to the twin's, ten times closer than sameness asks for."""
    assert got.dtype == np.float32
    np.testing.assert_array_less(np.abs(got - expected), tolerance * np.maximum(1, np.abs(expected)))


@pytest.fixture(params=ISAS)
def isa(request):
    """Each instruction set that this machine has."""
    return request.param


@pytest.fixture(params=TABLE)
def network(request):
    """Each network of the table."""
    return table_network(request.param)


def test_scores_are_the_twins(isa, network):
    """Native scores equal the twin's for every batch size."""
    scorer = RankScorer(network, names(network), isa=isa)
    rng = np.random.default_rng(1)
    for n in BATCHES:
        X = make_rows(rng, network, n)
        assert_same(scorer.score(X), reference.score(network, X))


def test_missing_values_are_the_twins(isa, network):
    """Native scores equal the twin's where values are missing that may be."""
    rng = np.random.default_rng(2)
    missing = rng.random(network.n_features) < 0.7
    scorer = RankScorer(network, names(network, missing), isa=isa)
    for n in (1, 3, 16, 70):
        X = make_rows(rng, network, n, missing=missing)
        assert_same(scorer.score(X), reference.score(network, X))


@given(drawn=networks(), n=st.integers(0, 140), seed=st.integers(0, 2**32))
def test_random_networks(drawn, n, seed):
    """Native scores equal the twin's for networks drawn at random, on every instruction set."""
    network, missing = drawn
    X = make_rows(np.random.default_rng(seed), network, n, missing=missing)
    expected = reference.score(network, X)
    for isa in ISAS:
        assert_same(RankScorer(network, names(network, missing), isa=isa).score(X), expected, 1e-4)


def test_a_document_does_not_know_its_batch(isa, network):
    """A row of a batch has, bit for bit, the score it has alone and at every other place of a batch."""
    scorer = RankScorer(network, names(network), isa=isa)
    X = make_rows(np.random.default_rng(3), network, 150)
    scores = scorer.score(X)
    for i in (0, 15, 16, 63, 64, 149):
        assert scorer.score(X[i : i + 1])[0] == scores[i]
    for n in (2, 4, 5, 8, 9, 17, 24, 25, 33, 40, 49, 100):
        np.testing.assert_array_equal(scorer.score(X[:n]), scores[:n])
    order = np.random.default_rng(4).permutation(150)
    np.testing.assert_array_equal(scorer.score(np.ascontiguousarray(X[order])), scores[order])


def test_threads_give_the_same_bits(isa):
    """The number of threads changes no bit of any score."""
    network = table_network("mixed")
    scorer = RankScorer(network, names(network), isa=isa)
    for n in (1, 64, 65, 1000):
        X = make_rows(np.random.default_rng(5), network, n)
        expected = scorer.score(X)
        for n_threads in (2, 3, 7, 64):
            np.testing.assert_array_equal(scorer.score(X, n_threads=n_threads), expected)


@pytest.mark.parametrize("shift", [1, 2, 3, 5])
def test_rows_at_any_address(isa, shift):
    """Neither X nor out needs more alignment than a float has."""
    network = table_network("straddling")
    X = make_rows(np.random.default_rng(6), network, 70)
    room, out_room = np.zeros(X.size + 8, np.float32), np.full(90, 7, np.float32)
    moved = room[shift : shift + X.size].reshape(X.shape)
    moved[:] = X
    out = out_room[shift : shift + 70]
    scorer = RankScorer(network, names(network), isa=isa)
    assert scorer.score(moved, out=out) is out
    np.testing.assert_array_equal(out, scorer.score(X))
    assert (out_room[:shift] == 7).all()
    assert (out_room[shift + 70 :] == 7).all()


def test_no_byte_past_the_end_is_read(isa):
    """The last row may end where readable memory ends."""
    import mmap

    page = mmap.PAGESIZE
    for name in ("one weight", "two features", "three features", "five features", "straddling", "few features read"):
        network = table_network(name)
        for n in (1, 5, 16, 40):
            size = n * network.n_features * 4
            memory = mmap.mmap(-1, (size + page - 1) // page * page + page)
            try:
                end = len(memory) - page
                whole = np.frombuffer(memory, np.uint8)
                X = whole[end - size : end].view(np.float32).reshape(n, network.n_features)
                X[:] = make_rows(np.random.default_rng(7), network, n)
                expected = reference.score(network, X)
                forbid(whole[end:].ctypes.data, page)
                assert_same(RankScorer(network, names(network), isa=isa).score(X), expected)
            finally:
                allow(whole[end:].ctypes.data, page)
                del X, whole
                memory.close()


def forbid(address, size):
    """Make a page unreadable: touching it ends the process."""
    import ctypes

    assert ctypes.CDLL(None, use_errno=True).mprotect(ctypes.c_void_p(address), size, 0) == 0


def allow(address, size):
    """Make a page readable again."""
    import ctypes

    assert ctypes.CDLL(None, use_errno=True).mprotect(ctypes.c_void_p(address), size, 3) == 0


def one_slot(kind, activation=Activation.IDENTITY):
    """Score = activation of one slot, unscaled."""
    inputs = InputStage([0], [kind], [0], [1], [-1e30], [1e30], [0])
    return Network(1, inputs, (Dense(np.ones((1, 1), np.float32), np.zeros(1, np.float32), activation),))


@pytest.mark.parametrize("n", [1, 1 << 16])
def test_signed_log1p_over_all_floats(isa, n):
    """The logarithm has a relative error below 5e-7 from the smallest denormal to the largest float, zeros kept."""
    network = one_slot(SlotKind.LOG)
    scorer = RankScorer(network, names(network), isa=isa)
    bits = np.arange(0, 0x7F800000, 9973 if n > 1 else 9973 * 1009, dtype=np.uint32)
    corners = np.array([0, 1e-45, 1e-38, 1e-30, 1e-7, 0.5, 1, 2, 1e10, 2.0**126, 2.0**127, 3.4e38], np.float32)
    x = np.concatenate([bits.view(np.float32), corners])
    x = np.concatenate([x, -x])
    got = np.concatenate([scorer.score(part.reshape(-1, 1)) for part in np.split(x, range(n, len(x), n))])
    expected = reference.signed_log1p(x.astype(np.float64))
    normal = np.abs(x) > 1.2e-38
    assert np.abs(got - expected)[~normal].max() < 1e-38
    assert (np.abs(got - expected)[normal] / np.abs(expected[normal])).max() < 5e-7


def test_sigmoid_over_its_range(isa):
    """The sigmoid has an absolute error below 5e-7 everywhere and saturates without overflow."""
    network = one_slot(SlotKind.VALUE, Activation.SIGMOID)
    scorer = RankScorer(network, names(network), isa=isa)
    x = np.concatenate([np.linspace(-100, 100, 100_001), [-3e38, 3e38, -1e20, 1e20]]).astype(np.float32)
    np.testing.assert_allclose(scorer.score(x.reshape(-1, 1)), reference.score(network, x.reshape(-1, 1)), atol=5e-7)


def test_large_raw_values_do_not_cancel(isa):
    """A feature like a timestamp keeps its precision: x - center is taken before the scale."""
    inputs = InputStage([0], [0], [1.7e9], [1 / 128], [-1e6], [1e6], [0])
    network = Network(1, inputs, (Dense(np.ones((1, 1), np.float32), np.zeros(1, np.float32), Activation.IDENTITY),))
    X = np.float32(1.7e9) + np.arange(-64, 64, dtype=np.float32).reshape(-1, 1) * 128
    expected = (X[:, 0].astype(np.float64) - np.float64(np.float32(1.7e9))) / 128
    np.testing.assert_array_equal(RankScorer(network, names(network), isa=isa).score(X), expected)


@pytest.mark.parametrize("n_features", [23, 75])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_status_sees_one_bad_value_anywhere(isa, bad, n_features):
    """One NaN or infinity sets its flag, wherever it stands in a feature that is read, and nowhere else."""
    slots = n_features + 7
    network = make_network(np.random.default_rng(8), n_features, (9,), slots=slots, kinds=tuple(SlotKind))
    allowed = np.arange(n_features) % 2 == 0
    schema = names(network, allowed)
    native = RankScorer(network, schema, isa=isa)._native
    rng = np.random.default_rng(9)
    for n in (1, 3, 16, 40, 64, 70):
        clean = make_rows(rng, network, n)
        for feature in range(n_features):
            X = clean.copy()
            X[rng.integers(n), feature] = bad
            status = native.score(X, np.empty(n, np.float32), 1)
            assert status == reference.status(network, X, schema.allow_missing)
