"""RankScorer: what it takes, what it gives, and how it refuses."""

from __future__ import annotations

import itertools
import os
import pickle
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine_networks import make_network, make_rows, names, table_network
from ensembles import ALL_MISSING, make_ensemble
from prunus import _native
from prunus.data.ranking import Schema
from prunus.engine import ensemble_reference
from prunus.engine.network import Activation, Dense, InputStage, Network, SlotKind, Sparse
from prunus.engine.scorer import RankScorer, choose_isa
from prunus.errors import (
    ColumnError,
    DataError,
    InfiniteValueError,
    InstructionSetError,
    MissingValueError,
    NetworkError,
    SchemaError,
)


@pytest.fixture
def network():
    """A network that reads some of its features."""
    return make_network(np.random.default_rng(0), 30, (12, 6), slots=14, kinds=tuple(SlotKind))


@pytest.fixture
def trees():
    """Trees of every kind of node that read the even ones of 30 features."""
    small = make_ensemble(np.random.default_rng(3), (9, 20, 1, 33), 15, missing=ALL_MISSING, categorical=0.2)
    return replace(small, n_features=30, feature=2 * small.feature)


@pytest.fixture(params=["network", "trees"])
def scorer(request, network, trees):
    """A scorer of either kind of model; feature 3 and up may be missing in the network, all in the trees."""
    if request.param == "trees":
        return RankScorer(trees, names(trees, np.full(30, True)), metadata={"teacher": "t"})
    return RankScorer(network, names(network, np.arange(30) >= 3), metadata={"teacher": "t"})


@pytest.fixture
def X(network):  # noqa: N802 - the matrix, under the name it has everywhere
    """Documents for it."""
    return make_rows(np.random.default_rng(1), network, 50)


def test_other_types_are_converted(scorer, X):
    """Any array of real numbers, in any layout, scores as its float32 copy does."""
    expected = scorer.score(X)
    wide = np.zeros((100, 60), np.float32)
    wide[::2, ::2] = X
    buffer = np.zeros(X.nbytes + 1, np.uint8)
    odd = buffer[1:].view(np.float32).reshape(X.shape)
    odd[:] = X
    for same in (X.astype(np.float64), np.asfortranarray(X), wide[::2, ::2], X.tolist(), odd, X.astype(">f4")):
        np.testing.assert_array_equal(scorer.score(same), expected)
    whole = np.round(X).astype(np.int16)
    np.testing.assert_array_equal(scorer.score(whole), scorer.score(whole.astype(np.float32)))
    np.testing.assert_array_equal(scorer.score(X > 0), scorer.score((X > 0).astype(np.float32)))


def test_one_dimension_is_one_document(scorer, X):
    """A row alone gives one score."""
    np.testing.assert_array_equal(scorer.score(X[7]), scorer.score(X)[7:8])


def test_masked_values_are_missing(scorer, X):
    """What a masked array hides is not read but missing."""
    mask = np.zeros(X.shape, bool)
    mask[::3, 5:] = True
    expected = np.where(mask, np.nan, X).astype(np.float32)
    np.testing.assert_array_equal(scorer.score(np.ma.array(X, mask=mask)), scorer.score(expected))


def test_no_documents_give_no_scores(scorer):
    """A batch of none is no error."""
    assert scorer.score(np.empty((0, 30), np.float32)).shape == (0,)
    assert scorer.rank(np.empty((0, 30), np.float32), np.array([0, 0])).shape == (0,)


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame, pa.table], ids=["pandas", "polars", "arrow"])
def test_frames_are_matched_by_name(scorer, X, frame):
    """Columns of a frame stand in any order, extra ones are ignored, and those not read may be absent."""
    columns = {name: X[:, i] for i, name in enumerate(scorer.schema.feature_names)}
    columns = {"other": X[:, 0], **dict(reversed(columns.items()))}
    expected = scorer.score(X)
    np.testing.assert_array_equal(scorer.score(frame(columns)), expected)
    used = {name: columns[name] for name in scorer.features_used}
    np.testing.assert_array_equal(scorer.score(frame(used)), expected)
    del used[scorer.features_used[0]]
    with pytest.raises(SchemaError, match=f"1 needed features are absent.*{scorer.features_used[0]}"):
        scorer.score(frame(used))
    out = np.empty(len(X), np.float32)
    assert scorer.score(frame(columns), out=out) is out


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame, pa.table], ids=["pandas", "polars", "arrow"])
def test_nulls_of_a_frame_are_missing(scorer, frame):
    """A null is a missing value, in columns of whole numbers and of truths too."""
    f = int(scorer.schema.feature_names.index(scorer.features_used[-1]))
    for values in ([1, None, 2], [True, None, False], [0.5, None, -1.0]):
        columns = {name: [1.0, 2.0, 3.0] for name in scorer.schema.feature_names}
        columns[f"f{f}"] = values
        dense = np.tile(np.array([[1.0], [2.0], [3.0]], np.float32), (1, 30))
        dense[:, f] = [np.nan if v is None else float(v) for v in values]
        np.testing.assert_array_equal(scorer.score(frame(columns)), scorer.score(dense))
    nullable = pd.DataFrame({**columns, f"f{f}": pd.array([1, None, 2], dtype="Int64")})
    dense[:, f] = [1, np.nan, 2]
    np.testing.assert_array_equal(scorer.score(nullable), scorer.score(dense))


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame, pa.table], ids=["pandas", "polars", "arrow"])
def test_text_in_a_frame_is_refused(scorer, frame):
    """A needed column of text is named."""
    columns = {name: [1.0, 2.0] for name in scorer.schema.feature_names}
    columns[scorer.features_used[1]] = ["a", "b"]
    with pytest.raises(ColumnError, match=repr(scorer.features_used[1])):
        scorer.score(frame(columns))


def test_a_repeated_column_is_refused(scorer, X):
    """A needed column that stands twice is no choice for us to make."""
    frame = pd.DataFrame(X, columns=list(scorer.schema.feature_names))
    twice = pd.concat([frame, frame[[scorer.features_used[0]]]], axis=1)
    with pytest.raises(ColumnError, match="2 times"):
        scorer.score(twice)


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (np.zeros((5, 29), np.float32), SchemaError, r"got X of shape \[5, 29\]; expected \[n_docs, 30\]"),
        (np.zeros((5, 31)), SchemaError, r"expected \[n_docs, 30\]"),
        (np.zeros(29, np.float32), SchemaError, r"got X of shape \[29\]"),
        (np.zeros((2, 3, 30), np.float32), SchemaError, r"\[2, 3, 30\]"),
        (np.float32(1), SchemaError, r"shape \[\]"),
        (np.zeros((5, 30), complex), ColumnError, "complex128"),
        (np.full((5, 30), "a"), ColumnError, "<U1"),
        (None, ColumnError, "object"),
        ([[1, 2], [3]], ColumnError, "real numbers"),
    ],
)
def test_wrong_documents_are_refused(scorer, bad, error, message):
    """Wrong shapes and types of X are named errors."""
    with pytest.raises(error, match=message):
        scorer.score(bad)


@pytest.mark.parametrize("make", [
    lambda: np.empty(49, np.float32),
    lambda: np.empty((50, 1), np.float32),
    lambda: np.empty(50),
    lambda: np.empty(100, np.float32)[::2],
    lambda: np.empty(201, np.uint8)[1:].view(np.float32),
    lambda: [0.0] * 50,
    lambda: np.broadcast_to(np.float32(0), 50),
])  # fmt: skip
def test_an_out_that_cannot_take_the_scores_is_refused(scorer, X, make):
    """A wrong out is a named error, whichever way X comes in."""
    for documents in (X, X.astype(np.float64)):
        with pytest.raises(SchemaError, match=r"got out of .*; expected .* float32 array of shape \[50\]"):
            scorer.score(documents, out=make())


@pytest.mark.parametrize("n_threads", [0, -1, 1 << 20, "2", None, 1.5])
def test_a_wrong_number_of_threads_is_refused(scorer, X, n_threads):
    """n_threads is a whole number from 1 to 65535."""
    for documents in (X, X.astype(np.float64)):
        with pytest.raises(DataError, match="n_threads"):
            scorer.score(documents, n_threads=n_threads)


def test_forbidden_values_are_named(network, X):
    """The error of a bad value names feature and row; values in features that are not read do not matter."""
    read = [int(f) for f in network.features_read]
    strict = RankScorer(network, names(network))
    unread = next(f for f in range(30) if f not in read)
    X[:, unread] = np.inf
    scores = strict.score(X)
    X[:, unread] = np.nan
    np.testing.assert_array_equal(strict.score(X), scores)
    X[17, read[2]] = np.nan
    with pytest.raises(MissingValueError, match=f"'f{read[2]}' is NaN at row 17"):
        strict.score(X)
    X[17, read[2]] = -np.inf
    for documents in (X, X.astype(np.float64), pd.DataFrame(X, columns=list(strict.schema.feature_names))):
        with pytest.raises(InfiniteValueError, match=f"'f{read[2]}' is -inf at row 17"):
            strict.score(documents)
    too_large = np.where(np.isinf(X), 1e300, X.astype(np.float64))
    with pytest.raises(InfiniteValueError, match="row 17"):
        strict.score(too_large)


def test_rank_is_a_stable_descending_order(scorer, X):
    """Best first inside each query; ties, made by repeating documents, keep the input order; k cuts each query."""
    X = np.repeat(X, 3, axis=0)[np.random.default_rng(2).permutation(150)]
    offsets = np.array([0, 40, 40, 41, 150])
    scores = scorer.score(X)
    expected = [
        begin + np.array(sorted(range(end - begin), key=lambda i, b=begin: (-scores[b + i], i)), dtype=np.int64)
        for begin, end in itertools.pairwise(offsets)
    ]
    got = scorer.rank(X, offsets)
    assert got.dtype == np.int64
    np.testing.assert_array_equal(got, np.concatenate(expected))
    np.testing.assert_array_equal(scorer.rank(X, offsets, k=5), np.concatenate([e[:5] for e in expected]))
    np.testing.assert_array_equal(scorer.rank(X), sorted(range(150), key=lambda i: (-scores[i], i)))
    assert len(scorer.rank(X, k=7)) == 7


@pytest.mark.parametrize("offsets", [[], [0], [0, 49], [1, 50], [0, 30, 20, 50], [0.0, 50.0], [[0, 50]]])
def test_wrong_offsets_are_refused(scorer, X, offsets):
    """Offsets rise from 0 to the number of documents."""
    with pytest.raises(DataError, match="offsets"):
        scorer.rank(X, np.array(offsets))


def test_wrong_k_is_refused(scorer, X):
    """At least one document is asked for."""
    with pytest.raises(DataError, match="k=0"):
        scorer.rank(X, k=0)


def test_narrow_scores_the_same(scorer, X):
    """A narrow scorer takes only the columns that are read and gives the same bits."""
    narrow = scorer.narrow()
    assert narrow.schema.feature_names == scorer.features_used
    columns = np.ascontiguousarray(X[:, scorer.model.features_read])
    np.testing.assert_array_equal(narrow.score(columns), scorer.score(X))
    assert narrow.metadata == scorer.metadata


def test_pickle_keeps_everything(scorer, X):
    """A scorer comes back from a pickle with its scores, schema, metadata and chosen instruction set."""
    again = pickle.loads(pickle.dumps(scorer))  # noqa: S301 - our own bytes
    np.testing.assert_array_equal(again.score(X), scorer.score(X))
    assert (again.schema, again.metadata, again.isa) == (scorer.schema, scorer.metadata, scorer.isa)
    last = _native.isas()[-1]
    forced = RankScorer(scorer.model, scorer.schema, isa=last)
    assert pickle.loads(pickle.dumps(forced)).isa == last  # noqa: S301 - our own bytes


def test_a_forked_child_scores(scorer, X):
    """A scorer that scored before a fork scores after it, with threads too."""
    expected = scorer.score(X)
    scorer.score(X, n_threads=2)
    child = os.fork()
    if child == 0:
        same = (scorer.score(X) == expected).all() and (scorer.score(X, n_threads=2) == expected).all()
        os._exit(0 if same else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_many_threads_share_one_scorer(scorer, X):
    """Calls from several Python threads do not disturb one another."""
    expected = scorer.score(X)
    wrong = []

    def work(n):
        wrong.extend(n for _ in range(200) if not (scorer.score(X[:n]) == expected[:n]).all())

    threads = [threading.Thread(target=work, args=(n,)) for n in (1, 5, 20, 50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_repr_says_what_it_is(scorer):
    """The repr names features, weights or trees, and instruction set."""
    assert repr(scorer).startswith(f"RankScorer({len(scorer.features_used)} of 30 features read, ")
    assert repr(scorer).endswith(f"{scorer.isa})")


def test_the_schema_must_fit(network):
    """A schema of another width is refused."""
    with pytest.raises(SchemaError, match="29 features for a model of 30"):
        RankScorer(network, Schema(tuple(f"f{i}" for i in range(29))))


def test_trees_take_missing_values_and_infinities(trees, X):
    """Trees score NaN and infinities in every feature as their twin does; a schema that forbids NaN does not fit them."""
    X[::2, ::3] = np.nan
    X[::3, 1::4] = np.inf
    X[1::3, ::5] = -np.inf
    scorer = RankScorer(trees, names(trees, np.full(30, True)))
    np.testing.assert_array_equal(scorer.leaves(X), ensemble_reference.leaves(trees, X))
    np.testing.assert_allclose(scorer.score(X), ensemble_reference.score(trees, X), rtol=2e-5, atol=2e-5)
    with pytest.raises(SchemaError, match="forbids missing values in 1 features \\('f7'\\)"):
        RankScorer(trees, names(trees, np.arange(30) != 7))


def test_leaves_of_any_documents(trees, X):
    """Leaves are int32, by document and tree; arrays of other types, single rows and frames are taken as by score."""
    scorer = RankScorer(trees, names(trees, np.full(30, True)))
    expected = ensemble_reference.leaves(trees, X)
    found = scorer.leaves(X)
    assert found.dtype == np.int32
    for same in (X, X.astype(np.float64), np.asfortranarray(X), pd.DataFrame(X, columns=[f"f{i}" for i in range(30)])):
        np.testing.assert_array_equal(scorer.leaves(same), expected)
    np.testing.assert_array_equal(scorer.leaves(X[7]), expected[7:8])
    assert scorer.leaves(X[:0]).shape == (0, 4)
    with pytest.raises(SchemaError, match=r"expected \[n_docs, 30\]"):
        scorer.leaves(X[:, :29])


def test_each_kind_of_model_says_what_it_is_not(network, trees):
    """A scorer of trees has no network, and one of a network has no leaves; both have a model."""
    ours, theirs = RankScorer(network, names(network)), RankScorer(trees, names(trees, np.full(30, True)))
    assert (ours.model, ours.network, theirs.model) == (network, network, trees)
    with pytest.raises(NetworkError, match=r"an ensemble of 4 trees; expected a network: take scorer\.model"):
        _ = theirs.network
    with pytest.raises(NetworkError, match="a network, which has no leaves"):
        ours.leaves(np.zeros((1, 30), np.float32))
    assert "4 trees" in repr(theirs)


def test_trees_of_one_leaf_score(X):
    """Trees that read nothing give their constant to arrays, and to frames of any columns; they narrow to one column."""
    alone = make_ensemble(np.random.default_rng(0), (1, 1), 30, base=0.5)
    scorer = RankScorer(alone, names(alone, np.full(30, True)))
    expected = np.full(50, 0.5 + alone.value.sum(), np.float32)
    assert scorer.features_used == ()
    for documents in (X, pd.DataFrame({"other": X[:, 0]}), pl.DataFrame({"a": X[:, 0]}), pa.table({"a": X[:, 0]})):
        np.testing.assert_array_equal(scorer.score(documents), expected)
    np.testing.assert_array_equal(scorer.narrow().score(X[:, :1]), expected)


def test_trees_and_networks_are_swapped(network, trees, X):
    """A scorer of a network goes on with trees, and back."""
    scorer = RankScorer(network, names(network, np.full(30, True)))
    other = RankScorer(trees, names(trees, np.full(30, True)))
    first = scorer.score(X)
    scorer.swap(other)
    np.testing.assert_array_equal(scorer.score(X), other.score(X))
    scorer.swap(RankScorer(network, names(network, np.full(30, True))))
    np.testing.assert_array_equal(scorer.score(X), first)


def test_an_unknown_instruction_set_is_refused(network):
    """A name that this machine cannot run is a named error with the ones it can."""
    with pytest.raises(InstructionSetError, match=r"isa='sse9'; expected one of .*scalar"):
        RankScorer(network, names(network), isa="sse9")
    assert choose_isa("scalar") == "scalar"


def test_the_environment_forces_the_instruction_set():
    """PRUNUS_ISA decides for the whole process, and a wrong name is an error when a scorer is made."""
    code = (
        "import numpy as np\n"
        "from prunus.engine.network import *\n"
        "from prunus.engine.scorer import RankScorer\n"
        "from prunus.data.ranking import Schema\n"
        "one = np.ones(1, np.float32)\n"
        "net = Network(1, InputStage([0], [0], one, one, -one, one, one), (Dense(np.ones((1, 1), np.float32), one, 0),))\n"
        "print(RankScorer(net, Schema(('a',))).isa)\n"
    )
    for isa in _native.isas():
        done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PRUNUS_ISA": isa}, capture_output=True, text=True, check=True)  # fmt: skip
        assert done.stdout == f"{isa}\n"
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PRUNUS_ISA": "mmx"}, capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 1
    assert "InstructionSetError: got PRUNUS_ISA='mmx'; expected one of" in done.stderr


def native_arguments(network):
    """Return what the native constructor takes for a network."""
    inputs = network.inputs
    return {
        "n_features": network.n_features,
        "allow_missing": np.zeros(network.n_features, np.uint8),
        **{name: getattr(inputs, name).copy() for name in inputs.__dataclass_fields__},
        "layers": [
            ["sparse", x.indptr.copy(), x.indices.copy(), x.values.copy(), x.bias.copy(), x.n_inputs, int(x.activation)]
            if isinstance(x, Sparse)
            else ["dense", x.weight.copy(), x.bias.copy(), int(x.activation)]
            for x in network.layers
        ],
        "isa": _native.isas()[0],
    }


def build(arguments):
    """Call the native constructor."""
    return _native.Network(**{**arguments, "layers": [tuple(x) for x in arguments["layers"]]})


DAMAGE = {
    "feature out of range": lambda a: a["feature"].__setitem__(-1, 1000),
    "negative feature": lambda a: a["feature"].__setitem__(0, -1),
    "features fall": lambda a: a["feature"].__setitem__(-1, 0),
    "unknown kind": lambda a: a["kind"].__setitem__(0, 4),
    "NaN center": lambda a: a["center"].__setitem__(0, np.nan),
    "infinite scale": lambda a: a["scale"].__setitem__(0, np.inf),
    "bounds crossed": lambda a: a["lower"].__setitem__(0, 1e9),
    "short fill": lambda a: a.update(fill=a["fill"][:-1]),
    "short allow_missing": lambda a: a.update(allow_missing=a["allow_missing"][:-1]),
    "no features": lambda a: a.update(n_features=0, allow_missing=np.zeros(0, np.uint8)),
    "no layers": lambda a: a.update(layers=[]),
    "two outputs": lambda a: a["layers"].pop(),
    "widths do not fit": lambda a: a["layers"].pop(0),
    "index too large": lambda a: a["layers"][0][2].__setitem__(0, 10_000),
    "negative index": lambda a: a["layers"][0][2].__setitem__(0, -1),
    "indptr falls": lambda a: a["layers"][0][1].__setitem__(2, a["layers"][0][1][1] - 1),
    "indptr too long": lambda a: a["layers"][0][1].__setitem__(-1, a["layers"][0][1][-1] + 1),
    "indptr not from 0": lambda a: a["layers"][0][1].__setitem__(0, 1),
    "short values": lambda a: a["layers"][0].__setitem__(3, a["layers"][0][3][:-1]),
    "NaN weight": lambda a: a["layers"][0][3].__setitem__(0, np.nan),
    "NaN dense weight": lambda a: a["layers"][1][1].__setitem__((0, 0), np.nan),
    "infinite bias": lambda a: a["layers"][1][2].__setitem__(0, np.inf),
    "short bias": lambda a: a["layers"][1].__setitem__(2, a["layers"][1][2][:-1]),
    "unknown activation": lambda a: a["layers"][1].__setitem__(3, 9),
    "unknown layer": lambda a: a["layers"][1].__setitem__(0, "round"),
    "layer too short": lambda a: a["layers"][1].pop(),
    "unknown isa": lambda a: a.update(isa="sse9"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_the_native_engine_checks_for_itself(damage):
    """Arrays that do not describe a network are refused before anything is packed."""
    arguments = native_arguments(table_network("mixed"))
    build(arguments)
    damage(arguments)
    with pytest.raises(ValueError, match=r"\w"):
        build(arguments)


def test_a_network_that_cannot_be_packed_is_a_network_error(network):
    """What the native engine refuses comes out under its own name."""
    damaged = Network(network.n_features, network.inputs, network.layers)
    damaged.layers[0].indices[0] = 10_000
    with pytest.raises(NetworkError, match="index 10000 lies outside"):
        RankScorer(damaged, names(damaged))


@given(st.integers(0, 2**32))
def test_native_arguments_of_any_length_are_safe(seed):
    """Random int32 arrays as indptr and indices are refused or run, never worse."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(0, 6))
    layer = ("sparse", rng.integers(-1, n + 2, int(rng.integers(0, 6))).astype(np.int32), rng.integers(-1, 3, n).astype(np.int32), np.ones(n, np.float32), np.zeros(int(rng.integers(0, 4)), np.float32), int(rng.integers(0, 4)), 0)  # fmt: skip
    one = np.ones(2, np.float32)
    arguments = {
        "n_features": 2, "allow_missing": np.zeros(2, np.uint8), "feature": np.arange(2, dtype=np.int32), "kind": np.zeros(2, np.uint8),
        "center": one, "scale": one, "lower": -one, "upper": one, "fill": one, "isa": _native.isas()[0],
    }  # fmt: skip
    try:
        native = _native.Network(**arguments, layers=[layer, ("dense", np.ones((1, len(layer[4])), np.float32), np.zeros(1, np.float32), 0)])  # fmt: skip
    except ValueError:
        return
    native.score(np.ones((3, 2), np.float32), np.empty(3, np.float32))


def test_a_wide_linear_model_scores():
    """The widest network that is allowed runs, sparse and dense."""
    width = 1 << 16
    zero, one = np.zeros(width, np.float32), np.ones(width, np.float32)
    inputs = InputStage(np.arange(width), np.zeros(width), zero, one, -9 * one, 9 * one, zero)
    weight = np.full((1, width), 2.0**-16, np.float32)
    for layer in (Dense(weight, zero[:1], 0), Sparse.from_dense(weight, zero[:1], Activation.IDENTITY)):
        network = Network(width, inputs, (layer,))
        scores = RankScorer(network, names(network)).score(np.ones((3, width), np.float32))
        np.testing.assert_allclose(scores, 1, rtol=1e-6)
