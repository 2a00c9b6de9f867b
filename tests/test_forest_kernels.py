"""The native tree kernels against their slow twin: the same leaf in every tree, on every instruction set."""

from __future__ import annotations

import mmap

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensembles import (
    ALL_MISSING,
    SHAPES,
    description,
    edge_rows,
    ensembles,
    make_ensemble,
    native,
    native_leaves,
    native_scores,
)
from prunus import _native
from prunus.engine import ensemble_reference

ISAS = _native.isas()
SIZES = (0, 1, 2, 7, 9, 31, 63, 64, 65, 129, 200, 257, 513, 700)


@pytest.fixture(params=ISAS)
def isa(request):
    """Each instruction set that this machine has."""
    return request.param


def total(ensemble, leaves):
    """Return float64 scores, summed exactly enough, of the leaves that were reached."""
    return ensemble.base + ensemble.value[leaves + ensemble.leaf_start[:-1]].sum(axis=1)


def assert_same(ensemble, forest, X):
    """Hold leaves to the twin's, and scores to the float64 sum within the law's 2e-5: in one batch, and in batches of 50."""
    expected = ensemble_reference.leaves(ensemble, X)
    exact = total(ensemble, expected)
    for batch in {max(len(X), 1), 50}:
        for first in range(0, max(len(X), 1), batch):
            rows = slice(first, first + batch)
            np.testing.assert_array_equal(native_leaves(forest, X[rows]), expected[rows])
            difference = np.abs(native_scores(forest, X[rows]) - exact[rows])
            np.testing.assert_array_less(difference, 2e-5 * np.maximum(1, np.abs(exact[rows])))


@given(ensemble=ensembles(), n=st.integers(0, 300), seed=st.integers(0, 2**32))
def test_random_ensembles(ensemble, n, seed):
    """Ensembles drawn at random reach the twin's leaves, on every instruction set."""
    X = edge_rows(np.random.default_rng(seed), ensemble, n)
    for name in ISAS:
        assert_same(ensemble, native(ensemble, name), X)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n_leaves", [2, 3, 5, 31, 32, 33, 64, 65, 128, 129, 255, 257, 1024, 1025])
def test_sizes_and_shapes(isa, shape, n_leaves):
    """Trees around every width of a code, balanced and as deep as they can be."""
    rng = np.random.default_rng([n_leaves, SHAPES.index(shape)])
    ensemble = make_ensemble(rng, [n_leaves, 1, n_leaves], 7, shape=shape, missing=ALL_MISSING)
    forest = native(ensemble, isa)
    for n in (1, 5, 8, 150):
        assert_same(ensemble, forest, edge_rows(rng, ensemble, n))


@pytest.mark.parametrize("n", SIZES)
def test_batches(isa, n):
    """Every number of documents, around those that fill a block."""
    rng = np.random.default_rng(n)
    ensemble = make_ensemble(rng, rng.integers(1, 65, 50), 11, missing=ALL_MISSING, categorical=0.1)
    assert_same(ensemble, native(ensemble, isa), edge_rows(rng, ensemble, n))


@pytest.mark.parametrize("n_thresholds", [1, 2, 3, 7, 8, 15, 16, 17, 31, 63, 64, 127, 255, 256, 300, 511, 513, 3000])
def test_thresholds_of_one_feature(isa, n_thresholds):
    """Any number of thresholds of one feature, and values on each of them and beside it."""
    rng = np.random.default_rng(n_thresholds)
    pool = np.unique(rng.normal(size=2 * n_thresholds).astype(np.float32))[:n_thresholds]
    n_trees = n_thresholds // 40 + 1
    ensemble = make_ensemble(rng, [64] * n_trees, 2, thresholds=pool)
    cut = ensemble.threshold.copy()  # every threshold at least once, where there are nodes enough
    cut[: min(len(pool), len(cut))] = pool[: len(cut)]
    ensemble = type(ensemble)(**{**description(ensemble), "threshold": cut})
    own = np.concatenate([pool, np.nextafter(pool, np.float32(9)), np.nextafter(pool, np.float32(-9)), [np.nan]])
    X = np.stack([own, rng.permutation(own)], axis=1)
    assert_same(ensemble, native(ensemble, isa), np.ascontiguousarray(X, np.float32))


@pytest.mark.parametrize("missing", ALL_MISSING)
@pytest.mark.parametrize("n_features", [1, 2, 3, 4, 5, 8, 9])
def test_missing_values(isa, missing, n_features):
    """NaN, zeros of both signs and almost-zeros go where each kind of node sends them."""
    rng = np.random.default_rng(missing)
    ensemble = make_ensemble(rng, [9] * 20, n_features, missing=[missing])
    special = np.array([np.nan, 0.0, -0.0, 1e-35, -1e-35, 1.0001e-35, -1.0001e-35, 1e-45, np.inf, -np.inf], np.float32)
    X = rng.choice(special, (140, n_features))
    assert_same(ensemble, native(ensemble, isa), X)
    assert_same(ensemble, native(ensemble, isa), X[:3])


@pytest.mark.parametrize("largest_code", [0, 1, 31, 32, 500, 65_535, 65_536, 2**31 - 1])
def test_categories(isa, largest_code):
    """Sets with small and huge codes; what is no code goes right, what is missing where the node says."""
    rng = np.random.default_rng(largest_code % 1000)
    ensemble = make_ensemble(rng, [20] * 9, 3, categorical=0.7, largest_code=min(largest_code, 70_000))
    if largest_code:
        codes = ensemble.set_code.copy()
        codes[ensemble.set_start[1:] - 1] = largest_code
        codes[:-1] = np.minimum(codes[:-1], largest_code)
        repeats = np.flatnonzero(np.diff(codes) == 0)
        assert not len(np.setdiff1d(repeats, ensemble.set_start[1:-1] - 1))
        ensemble = type(ensemble)(**{**description(ensemble), "set_code": codes})
    X = edge_rows(rng, ensemble, 200)
    assert_same(ensemble, native(ensemble, isa), X)
    assert_same(ensemble, native(ensemble, isa), X[:3])


def test_a_document_does_not_know_its_batch(isa):
    """A row has, bit for bit, the score it has alone, in every batch of 1 to 1100 and at every place of it."""
    rng = np.random.default_rng(3)
    ensemble = make_ensemble(rng, rng.integers(1, 65, 100), 9, missing=ALL_MISSING, shape="leafwise")
    X = edge_rows(rng, ensemble, 1100)
    forest = native(ensemble, isa)
    alone = np.concatenate([native_scores(forest, X[i : i + 1]) for i in range(len(X))])
    for n in (*range(1, 40), 63, 64, 65, 127, 128, 129, 200, 255, 256, 300, 384, 511, 512, 513, 640, 1000, 1024, 1100):
        first = int(rng.integers(0, len(X) - n + 1))
        np.testing.assert_array_equal(native_scores(forest, X[first : first + n]), alone[first : first + n])
    order = rng.permutation(len(X))
    np.testing.assert_array_equal(native_scores(forest, np.ascontiguousarray(X[order])), alone[order])


def test_instruction_sets_give_the_same_bits():
    """Sums are exact, so not even the instruction set can change a score."""
    rng = np.random.default_rng(4)
    ensemble = make_ensemble(rng, rng.integers(1, 300, 60), 9, missing=ALL_MISSING, categorical=0.1, scale=1e3)
    X = edge_rows(rng, ensemble, 300)
    expected = native_scores(native(ensemble, "scalar"), X)
    for name in ISAS:
        np.testing.assert_array_equal(native_scores(native(ensemble, name), X), expected)


def test_threads_give_the_same_bits(isa):
    """The number of threads changes no bit of any score."""
    rng = np.random.default_rng(5)
    ensemble = make_ensemble(rng, [31] * 40, 9)
    forest = native(ensemble, isa)
    for n in (1, 64, 65, 1500):
        X = edge_rows(rng, ensemble, n)
        expected = native_scores(forest, X)
        for n_threads in (2, 3, 7, 64):
            np.testing.assert_array_equal(native_scores(forest, X, n_threads=n_threads), expected)


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1.0, 1e3, 1e30, 1e200])
def test_sums_of_many_trees(isa, scale):
    """A thousand trees sum to float64's sum within 2e-5, from tiny values to those that leave float32."""
    rng = np.random.default_rng(6)
    ensemble = make_ensemble(rng, [16] * 1000, 5, scale=scale)
    X = edge_rows(rng, ensemble, 130)
    exact = total(ensemble, ensemble_reference.leaves(ensemble, X))
    with np.errstate(over="ignore"):
        rounded = exact.astype(np.float32)
    for n in (3, 130):
        scores = native_scores(native(ensemble, isa), X[:n])
        finite = np.isfinite(rounded[:n])
        np.testing.assert_array_equal(scores[~finite], rounded[:n][~finite])
        error = np.abs(scores[finite] - exact[:n][finite])
        np.testing.assert_array_less(error, 2e-5 * np.maximum(1, np.abs(exact[:n][finite])))


def test_values_that_cancel(isa):
    """Values of 1e6 that sum to almost nothing lose no more than the law allows."""
    rng = np.random.default_rng(7)
    ensemble = make_ensemble(rng, [2] * 400, 3, scale=1e6)
    value = ensemble.value.copy()
    ensemble_pairs = value.reshape(-1, 2)
    ensemble_pairs[1::2] = rng.normal(size=(200, 2)) * 1e-3 - ensemble_pairs[::2]
    same = {name: getattr(ensemble, name).copy() for name in ("feature", "threshold", "missing", "left", "right")}
    for name, array in same.items():
        array[1::2] = array[::2] - (2 if name in ("left", "right") else 0)
    ensemble = type(ensemble)(**{**description(ensemble), **same, "value": value})
    assert_same(ensemble, native(ensemble, isa), edge_rows(rng, ensemble, 150))


@pytest.mark.parametrize("shift", [1, 2, 3, 5])
def test_rows_at_any_address(isa, shift):
    """Neither X nor out needs more alignment than a float has, and nothing is written beside out."""
    rng = np.random.default_rng(8)
    ensemble = make_ensemble(rng, [40] * 20, 7)
    X = edge_rows(rng, ensemble, 150)
    room, out_room = np.zeros(X.size + 8, np.float32), np.full(170, 7, np.float32)
    moved = room[shift : shift + X.size].reshape(X.shape)
    moved[:] = X
    forest = native(ensemble, isa)
    for n in (3, 150):
        out_room[:] = 7
        forest.score(moved[:n], out_room[shift : shift + n])
        np.testing.assert_array_equal(out_room[shift : shift + n], native_scores(forest, X[:n]))
        assert (out_room[:shift] == 7).all()
        assert (out_room[shift + n :] == 7).all()
    with pytest.raises(TypeError, match="aligned float32"):
        forest.score(np.frombuffer(bytearray(X.nbytes + 1), np.uint8)[1:].view(np.float32).reshape(X.shape), out_room[:150])  # fmt: skip


@pytest.mark.parametrize("n_features", [1, 2, 3, 4, 5, 7, 16, 17])
def test_no_byte_past_the_end_is_read(isa, n_features):
    """The last row may end where readable memory ends."""
    rng = np.random.default_rng(9)
    ensemble = make_ensemble(rng, [20] * 9, n_features, missing=ALL_MISSING)
    forest = native(ensemble, isa)
    for n in (1, 20, 64, 65, 100, 129):
        X = edge_rows(rng, ensemble, n)
        room = (X.nbytes + mmap.PAGESIZE - 1) // mmap.PAGESIZE * mmap.PAGESIZE
        memory = mmap.mmap(-1, room + mmap.PAGESIZE)
        whole = np.frombuffer(memory, np.uint8)
        protect(memory, room)
        at_end = whole[room - X.nbytes : room].view(np.float32).reshape(X.shape)
        at_end[:] = X
        np.testing.assert_array_equal(native_scores(forest, at_end), native_scores(forest, X))


def protect(memory, start):
    """Take the right to read away from the pages of a map from ``start`` on."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    if libc.mprotect(ctypes.c_void_p(address + start), mmap.PAGESIZE, 0) != 0:
        pytest.skip("this system has no mprotect")


def test_the_instruction_set_is_the_one_asked_for(isa):
    """A forest says which kernels it runs; VNNI has nothing for trees."""
    ensemble = make_ensemble(np.random.default_rng(0), [3], 2)
    assert native(ensemble, isa).isa == isa.removesuffix("vnni")


def hostile():
    """Return changes of a sound description that must be refused, with a word of the message."""
    return [
        ("n_features", 0, "features"),
        ("n_features", 1 << 17, "features"),
        ("n_features", 2, "reads feature"),
        ("base", np.nan, "base"),
        ("base", np.inf, "base"),
        ("feature", (3, -1), "reads feature"),
        ("feature", (3, 2**31 - 1), "reads feature"),
        ("threshold", (2, np.nan), "NaN"),
        ("missing", (1, 3), "missing byte"),
        ("missing", (1, 8), "missing byte"),
        ("missing", (1, 255), "missing byte"),
        ("category", (1, 99), "set 99"),
        ("category", (1, -2), "category -2"),
        ("left", (5, 5), "child"),
        ("left", (5, 0), "child"),
        ("left", (0, 2**31 - 1), "child"),
        ("left", (0, -(2**31)), "child"),
        ("right", (0, 10_000), "child"),
        ("root", (0, 1), "root"),
        ("root", (1, -1), "root"),
        ("node_start", (0, 1), "node_start"),
        ("node_start", (1, -5), "node_start"),
        ("node_start", (2, 2**31 - 1), "node_start"),
        ("leaf_start", (1, 0), "leaf"),
        ("leaf_start", (2, 2**31 - 1), "leaf_start"),
        ("set_start", (1, 2**31 - 1), "set_start"),
        ("set_start", (1, -1), "set_start"),
        ("set_code", (0, -1), "negative"),
        ("set_code", (1, 0), "rise"),
        ("value", (0, np.nan), "NaN"),
        ("value", (0, -np.inf), "infinity"),
        ("value", (slice(None), 1e308), "too large"),
    ]


@pytest.mark.parametrize(("name", "change", "word"), hostile())
def test_hostile_descriptions_are_refused(isa, name, change, word):
    """References out of range, loops, absurd sizes and numbers that are none are refused by a message."""
    rng = np.random.default_rng(11)
    sound = description(make_ensemble(rng, [12, 9, 1], 5, categorical=0.2))
    sound["category"][[1]] = -1
    sound["missing"][[1]] = 0
    sound["category"][[2]] = -1
    sound["missing"][[2]] = 0
    sound["set_start"] = np.array([0, 2, 4], np.int32)
    sound["set_code"] = np.array([3, 7, 3, 9], np.int32)
    sound["category"] = np.minimum(sound["category"], 1)
    _native.Forest(*sound.values(), isa=isa)
    if isinstance(change, tuple):
        changed = sound[name].copy()
        changed[change[0]] = change[1]
    else:
        changed = change
    with pytest.raises(ValueError, match=word):
        _native.Forest(*{**sound, name: changed}.values(), isa=isa)


def test_a_child_has_one_parent(isa):
    """A node or a leaf that two nodes point to is refused, and so is one that hangs in another tree."""
    sound = description(make_ensemble(np.random.default_rng(12), [4, 4], 2, shape="balanced"))
    for name, at, child, word in (
        ("right", 0, int(sound["left"][0]), "another parent"),
        ("right", 1, int(sound["left"][1]), "another parent"),
        ("left", 1, 4, "no leaf of its tree"),
        ("left", 1, -8, "no leaf of its tree"),
    ):
        changed = sound[name].copy()
        changed[at] = child
        with pytest.raises(ValueError, match=word):
            _native.Forest(*{**sound, name: changed}.values(), isa=isa)


def test_lengths_that_disagree_are_refused(isa):
    """An array of another length than the others is refused before it is read."""
    sound = description(make_ensemble(np.random.default_rng(13), [9, 9], 3))
    for name, array in sound.items():
        if not isinstance(array, np.ndarray) or name == "set_code":
            continue
        with pytest.raises(ValueError, match=r"expected|must rise"):
            _native.Forest(*{**sound, name: array[:-1]}.values(), isa=isa)
        if name != "set_start":
            with pytest.raises(ValueError, match=r"expected|must rise|leaf"):
                _native.Forest(*{**sound, name: np.concatenate([array, array[-1:]])}.values(), isa=isa)


def test_calls_with_wrong_arrays_are_refused(isa):
    """Wrong types, shapes and sizes of X and out are refused by name."""
    forest = native(make_ensemble(np.random.default_rng(14), [9, 9], 3), isa)
    X, out = np.zeros((5, 3), np.float32), np.zeros(5, np.float32)
    with pytest.raises(ValueError, match="X has 2 columns; expected 3"):
        forest.score(np.zeros((5, 2), np.float32), out)
    with pytest.raises(ValueError, match="out has 4 entries"):
        forest.score(X, out[:4])
    with pytest.raises(TypeError, match="X must be aligned float32"):
        forest.score(X.astype(np.float64), out)
    with pytest.raises(ValueError, match="out has 3 columns"):
        forest.leaves(X, np.zeros((5, 3), np.int32))
    with pytest.raises(TypeError, match="out must be aligned int32"):
        forest.leaves(X, np.zeros((5, 2), np.float32))
    with pytest.raises(ValueError, match="n_threads"):
        forest.score(X, out, n_threads=0)
