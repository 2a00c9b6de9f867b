"""Lists from histories: every kernel against the slow twin, and what a service asks of the scorer."""

from __future__ import annotations

import pickle
import threading
from types import SimpleNamespace

import numpy as np
import pytest

import prunus
from engine_networks import make_network, names
from prunus import _native
from prunus.engine import recommender_reference as reference
from prunus.engine.levels import quantise_rows
from prunus.engine.recommend_scorer import RecommendScorer
from prunus.engine.recommender import DenseFactors, SparseFactors, SparseRows
from prunus.engine.recommender_file import save
from prunus.errors import DataError, InstructionSetError, ModelFileError, NetworkError, RecommenderError
from recommenders import make_dense, make_histories, make_sparse

ISAS = _native.isas()

MODELS = {
    "levels": lambda rng, n: make_sparse(rng, n, 300, 24, bits=6, spread=20),
    "levels, scaled": lambda rng, n: make_sparse(rng, n, 128, 9, bits=8, scale=True, bias=True, per_row=True),
    "one block too wide": lambda rng, n: make_sparse(rng, n, 129, 40, bits=5, bias=True),
    "levels of four bits, a third stored": lambda rng, n: make_sparse(rng, n, 300, 100, bits=4, spread=20, bias=True),
    "untied": lambda rng, n: make_sparse(rng, n, 70, 9, bits=4, tied=False, scale=True),
    "sparse beyond lookup": lambda rng, n: make_sparse(rng, n, 5000, 2, bits=4),
    "floats": lambda rng, n: make_sparse(rng, n, 40, 7, tied=False),
    "empty rows": lambda rng, n: make_sparse(rng, n, 30, 1, spread=1, bits=3),
    "nothing": lambda rng, n: make_sparse(rng, n, 3, 0, spread=0),
    "full rows": lambda rng, n: make_sparse(rng, n, 40, 40, spread=0, bits=8),
    "item-item": lambda rng, n: make_sparse(rng, n, stored=min(5, n), item_item=True, scale=True, bias=True),
    "dense": lambda rng, n: make_dense(rng, n, 17, bits=8, bias=True),
    "dense floats": lambda rng, n: make_dense(rng, n, 8, tied=False),
    "dense of four bits, two lines a row": lambda rng, n: make_dense(rng, n, 150, bits=4),
    "dense of four bits, six lines a row": lambda rng, n: make_dense(rng, n, 701, bits=4, bias=True),
}


def close(found, expected):
    """Say whether scores agree within the tolerance of the house; infinities must be the same."""
    same = found == expected
    with np.errstate(invalid="ignore"):
        return same | (np.abs(found - expected) <= 1e-4 * np.maximum(1, np.abs(expected)))


def seen_matrix(indptr, items, n_items):
    """Give bool [n_users, n_items] of the histories."""
    seen = np.zeros((len(indptr) - 1, n_items), bool)
    seen[np.repeat(np.arange(len(indptr) - 1), np.diff(indptr)), items] = True
    return seen


def check_lists(found, scores, allowed, k):
    """Hold lists against the twin's scores: the same scores in order, each item's own, no item twice or forbidden."""
    _, best = reference.top_k(scores, allowed, k)
    assert found.ids.shape == found.scores.shape == (len(scores), k)
    assert close(found.scores, best).all()
    rows, columns = np.nonzero(found.ids >= 0)
    own = found.ids[rows, columns]
    assert allowed[rows, own].all()
    assert close(found.scores[rows, columns], scores[rows, own]).all()
    assert ((found.ids >= 0) == np.isfinite(best)).all()
    for row in found.ids:
        kept = row[row >= 0]
        assert len(np.unique(kept)) == len(kept)
    assert (found.scores[:, 1:] <= found.scores[:, :-1]).all()
    ties = (found.scores[:, 1:] == found.scores[:, :-1]) & (found.ids[:, 1:] >= 0)
    assert (found.ids[:, 1:] > found.ids[:, :-1])[ties].all()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", MODELS)
def test_lists_equal_the_twins(name, isa):
    """Numbers of items and users on both sides of a vector's width, lists of all lengths: the twin's lists."""
    for seed, (n_items, n_users) in enumerate([(1, 1), (15, 3), (16, 17), (17, 33), (163, 21)]):
        rng = np.random.default_rng(seed)
        model = MODELS[name](rng, n_items)
        scorer = RecommendScorer(model, isa=isa)
        indptr, items = make_histories(rng, n_users, n_items)
        scores = reference.score(model, indptr, items)
        assert close(scorer.scores((indptr, items)), scores).all()
        warm = np.diff(indptr) > 0
        for k in (1, 7, n_items + 2):
            found = scorer.recommend((indptr, items), k)
            np.testing.assert_array_equal(found.cold, ~warm)
            kept = SimpleNamespace(ids=found.ids[warm], scores=found.scores[warm])
            check_lists(kept, scores[warm], ~seen_matrix(indptr, items, n_items)[warm], k)


def test_every_isa_has_its_kernel():
    """The scorer says which kernel runs: what looks bytes up where the CPU can, and no other for another set."""
    model = MODELS["levels"](np.random.default_rng(0), 50)
    found = {isa: RecommendScorer(model, isa=isa) for isa in ISAS}
    for isa, scorer in found.items():
        assert scorer.isa in {isa, "avx512vbmi"}
        assert scorer._live.native.quads == (scorer.isa == "avx512vbmi")
    with pytest.raises(InstructionSetError):
        RecommendScorer(model, isa="sse")


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("n_users", [1, 19])
def test_candidates_block_and_seen(isa, n_users):
    """Only candidates, nothing blocked, and own items only where they are asked for."""
    rng = np.random.default_rng(7)
    model = make_sparse(rng, 90, 200, 12, bits=6)
    scorer = RecommendScorer(model, isa=isa)
    indptr, items = make_histories(rng, n_users, 90)
    scores, seen = reference.score(model, indptr, items), seen_matrix(indptr, items, 90)
    candidates, block = rng.choice(90, 30, replace=False), rng.choice(90, 40, replace=False)
    may = np.isin(np.arange(90), candidates) & ~np.isin(np.arange(90), block)
    warm = np.diff(indptr) > 0
    for mask_seen in (True, False):
        found = scorer.recommend((indptr, items), 25, candidates=candidates, block=block, mask_seen=mask_seen)
        allowed = may & ~(seen & mask_seen)
        kept = SimpleNamespace(ids=found.ids[warm], scores=found.scores[warm])
        check_lists(kept, scores[warm], allowed[warm], 25)
        popular = [item for item in model.popular_order(90) if may[item]]
        for row in found.ids[~warm]:
            assert row[row >= 0].tolist() == popular[:25]
    assert (scorer.recommend([[1]], 3, candidates=[]).ids == -1).all()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("bits", [4, 8])
def test_long_histories(isa, bits):
    """Levels as large as they come, of one sign in each factor, in histories about the lengths at which sums are widened."""
    n_items, n_factors, stored = 4200, 40, 20
    rng = np.random.default_rng(bits)
    factor = np.sort(np.argsort(rng.random((n_items, n_factors)), axis=1)[:, :stored], axis=1).ravel()
    rows = SparseRows(n_factors, np.arange(n_items + 1) * stored, factor, np.where(factor % 2, 1.0, -1.0))
    model = SparseFactors(quantise_rows(rows, bits), popular=np.arange(n_items))
    histories = [rng.permutation(n_items)[:length] for length in (17, 18, 256, 257, 4080, 4081, n_items)]
    scorer, dense = RecommendScorer(model, isa=isa), model.decode.to_dense().astype(np.float64)
    scores = (np.array([dense[history].sum(axis=0) for history in histories]) @ dense.T).astype(np.float32)
    assert close(scorer.scores(histories), scores).all()
    check_lists(scorer.recommend(histories, 9, mask_seen=False), scores, np.ones_like(scores, bool), 9)


def test_histories_and_out_of_any_layout():
    """How an array lies in memory changes no list, also once the usual layout was met; `out` that does not fit is refused."""
    scorer = RecommendScorer(make_sparse(np.random.default_rng(3), 60, 40, 9, bits=4))
    indptr, items = np.array([0, 3, 5], np.int32), np.array([1, 8, 30, 4, 59], np.int32)
    expected = scorer.recommend((indptr, items), 6)
    frozen = items.copy()
    frozen.flags.writeable = False
    shifted = np.frombuffer(b"x" + items.tobytes(), np.uint8)[1:].view(np.int32)  # not aligned
    for other in (items.astype(np.int64), items.astype(">i4"), np.repeat(items, 2)[::2], frozen, shifted):
        found = scorer.recommend((indptr, other), 6)
        np.testing.assert_array_equal(found.ids, expected.ids)
        np.testing.assert_array_equal(found.scores, expected.scores)
    out = np.empty((2, 6), np.int32), np.empty((2, 6), np.float32)
    assert scorer.recommend((indptr, items), 6, out=out).ids is out[0]
    np.testing.assert_array_equal(out[0], expected.ids)
    out[1].flags.writeable = False
    for refused in (out, (np.asfortranarray(out[0]), out[0].astype(np.float32)), (out[1], out[0])):
        with pytest.raises(DataError, match="out"):
            scorer.recommend((indptr, items), 6, out=refused)


def test_ties_go_to_the_lower_number():
    """Items of the same row have the same score, and stand by number, however many they are."""
    rows = SparseRows(2, np.arange(401), np.zeros(400), np.ones(400))
    model = SparseFactors(rows, popular=np.random.default_rng(0).permutation(400))
    for isa in ISAS:
        for users in (1, 20):
            found = RecommendScorer(model, isa=isa).recommend([[5, 9]] * users, 7)
            assert found.ids.tolist() == [[0, 1, 2, 3, 4, 6, 7]] * users
            assert (found.scores == 2).all()


def test_signs_zeros_and_large_numbers():
    """Negative scores rank below, -0 ties with 0, and a profile too large for tables of bytes is scored all the same."""
    for size in (1e-30, 1.0, 1e37):
        rows = SparseRows(3, np.array([0, 1, 2, 3, 3]), np.array([0, 0, 1]), np.float32([1, -1, 1]), np.ones(1))
        model = SparseFactors(rows, encode_scale=np.full(4, size, np.float32))
        for isa in ISAS:
            found = RecommendScorer(model, isa=isa).recommend([[0]], 4, mask_seen=False)
            assert found.ids.tolist() == [[0, 2, 3, 1]], (size, isa)
            np.testing.assert_allclose(found.scores[0], np.float32([size, 0, 0, -size]), rtol=1e-5)


def test_forms_of_histories():
    """CSR of any integers, objects with indptr, lists in any order with repeats: the same lists."""
    rng = np.random.default_rng(2)
    scorer = RecommendScorer(make_sparse(rng, 60, bits=5))
    rows = [[3, 50, 7], [], [7, 7, 1, 3], [59]]
    clean = [sorted(set(row)) for row in rows]
    indptr = np.cumsum([0, *map(len, clean)])
    items = np.concatenate(clean).astype(int)
    expected = scorer.recommend(rows, 9)
    for form in (
        clean,
        [np.array(row, int) for row in rows],
        (indptr, items),
        (indptr.astype(np.int32), items.astype(np.int32)),
        (np.array([0, 3, 3, 7, 8]), np.array([3, 50, 7, 7, 7, 1, 3, 59])),
        SimpleNamespace(indptr=indptr, items=items),
        SimpleNamespace(indptr=indptr, indices=items),
    ):
        found = scorer.recommend(form, 9)
        np.testing.assert_array_equal(found.ids, expected.ids)
        assert found.cold.tolist() == [False, True, False, False]
    ids, scores = expected
    assert ids is expected.ids
    assert scores is expected.scores
    assert scorer.recommend([], 3).ids.shape == (0, 3)


BAD = {
    "item beyond": ([[60]], {}),
    "item below": ([[-1]], {}),
    "item beyond in CSR": ((np.array([0, 1]), np.array([60])), {}),
    "text": ([["a"]], {}),
    "floats": ([[0.5]], {}),
    "a number": (7, {}),
    "indptr falls": ((np.array([0, 2, 1]), np.array([1])), {}),
    "indptr too long": ((np.array([0, 2]), np.array([1])), {}),
    "indptr empty": ((np.zeros(0, int), np.zeros(0, int)), {}),
    "k of 0": ([[1]], {"k": 0}),
    "no threads": ([[1]], {"n_threads": 0}),
    "candidate beyond": ([[1]], {"candidates": [60]}),
    "blocked below": ([[1]], {"block": [-1]}),
    "blocked text": ([[1]], {"block": ["a"]}),
    "out of another shape": ([[1]], {"out": (np.empty((2, 20), np.int32), np.empty((1, 20), np.float32))}),
    "out of another length": ([[1]], {"out": (np.empty((1, 20), np.int32), np.empty((1, 19), np.float32))}),
    "out of another type": ([[1]], {"out": (np.empty((1, 20), np.int64), np.empty((1, 20), np.float32))}),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_calls_are_refused(case):
    """Each way to ask wrongly is a DataError."""
    scorer = RecommendScorer(make_sparse(np.random.default_rng(0), 60))
    histories, options = BAD[case]
    with pytest.raises(DataError):
        scorer.recommend(histories, **options)


def test_out_and_threads_change_nothing():
    """Arrays of the caller are written and given back; lists do not depend on threads."""
    rng = np.random.default_rng(4)
    for model in (make_sparse(rng, 200, 256, 16, bits=6), make_sparse(rng, 200, stored=5, item_item=True)):
        scorer = RecommendScorer(model)
        histories = make_histories(rng, 100, 200)
        expected = scorer.recommend(histories, 10)
        out = np.empty((100, 10), np.int32), np.empty((100, 10), np.float32)
        found = scorer.recommend(histories, 10, out=out, n_threads=3)
        assert found.ids is out[0]
        np.testing.assert_array_equal(out[0], expected.ids)
        np.testing.assert_array_equal(out[1], expected.scores)
        np.testing.assert_array_equal(scorer.scores(histories, n_threads=4), scorer.scores(histories))


def test_names():
    """Lists by name; unknown names are counted and skipped, or an error; a user of whom nothing is known is cold."""
    rng = np.random.default_rng(1)
    ids = tuple(f"film {i}" for i in range(40))
    scorer = RecommendScorer(make_sparse(rng, 40, bits=5), ids)
    found = scorer.recommend_ids([["film 3", "nope"], ["nope"], ["film 1", "film 1"]], 5, block=["film 9", "nope"])
    numbers = scorer.recommend([[3], [], [1]], 5, block=[9])
    assert found.names == [[ids[item] for item in row] for row in numbers.ids]
    assert found.scores == numbers.scores.tolist()
    assert found.unknown.tolist() == [1, 1, 0]
    assert found.cold.tolist() == [False, True, False]
    assert scorer.recommend_ids([["film 3"]], 5, candidates=["film 7", "film 8"]).names[0] in (
        ["film 7", "film 8"],
        ["film 8", "film 7"],
    )
    with pytest.raises(DataError, match="nope"):
        scorer.recommend_ids([["nope"]], unknown="error")
    with pytest.raises(DataError, match="skip"):
        scorer.recommend_ids([["nope"]], unknown="ignore")
    plain = RecommendScorer(scorer.model)
    assert plain.recommend_ids([["3"]], 2).names == [[str(i) for i in plain.recommend([[3]], 2).ids[0]]]
    with pytest.raises(RecommenderError):
        RecommendScorer(scorer.model, ids[:-1])


@pytest.mark.parametrize("name", MODELS)
def test_a_file_makes_the_same_lists(tmp_path, name):
    """Saved and loaded, by the facade too: the same lists, names and metadata."""
    rng = np.random.default_rng(8)
    scorer = RecommendScorer(MODELS[name](rng, 33), [f"i{i}" for i in range(33)], metadata={"teacher": "ease"})
    scorer.save(tmp_path / "m.prunus")
    again = prunus.load(tmp_path / "m.prunus")
    assert isinstance(again, RecommendScorer)
    histories = make_histories(rng, 5, 33)
    np.testing.assert_array_equal(again.recommend(histories, 6).ids, scorer.recommend(histories, 6).ids)
    assert (again.item_ids, again.metadata) == (scorer.item_ids, {"teacher": "ease"})


def test_kinds_are_told_apart(tmp_path):
    """A recommender is no ranker and no click model, nor the other way round; who asks is told what the file is."""
    from prunus.engine import click_file, file, recommender_file

    path, other = tmp_path / "m.prunus", tmp_path / "n.prunus"
    save(path, make_dense(np.random.default_rng(0)))
    network = make_network(np.random.default_rng(0), 5, (4,))
    file.save(other, network, names(network), metadata={})
    assert file.read_header(path)["kind"] == "recommender"
    for load, given, message in (
        (file.load, path, "is a recommender model; expected a ranker model"),
        (click_file.load, path, "is a recommender model; expected a click model"),
        (click_file.load, other, "is a ranker model; expected a click model"),
        (recommender_file.load, other, "is a ranker model; expected a recommender model"),
    ):
        with pytest.raises(ModelFileError, match=message):
            load(given)


def test_pickle_and_repr():
    """A scorer survives pickle, with the instruction set that was asked for."""
    scorer = RecommendScorer(make_sparse(np.random.default_rng(0)), isa="scalar")
    again = pickle.loads(pickle.dumps(scorer))  # noqa: S301 - our own
    assert again.isa == "scalar"
    np.testing.assert_array_equal(again.recommend([[1, 2]]).ids, scorer.recommend([[1, 2]]).ids)
    assert "50 items" in repr(scorer)


def test_swap_is_whole():
    """While models and their names are swapped, each call sees one of the two: all of its names are of one kind."""
    rng = np.random.default_rng(3)
    first, second = (
        RecommendScorer(make_sparse(rng, n, bits=5), [f"{prefix}{i}" for i in range(n)])
        for n, prefix in ((40, "a"), (90, "b"))
    )
    live = RecommendScorer(first.model, first.item_ids)
    wrong, done = [], threading.Event()

    def ask():
        while not done.is_set():
            names = live.recommend_ids([["a1", "b1"]], 30).names[0]
            if len({name[0] for name in names}) != 1:
                wrong.append(names)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(300):
        live.swap(second)
        live.swap(first)
    done.set()
    for thread in threads:
        thread.join()
    assert not wrong
    live.swap(second)
    assert live.model is second.model
    with pytest.raises(NetworkError, match="RecommendScorer"):
        live.swap(None)


def test_dense_factors_are_a_matrix_product():
    """Dense factors score as float64 matrix products do."""
    rng = np.random.default_rng(0)
    decode, encode = rng.normal(size=(2, 30, 5)).astype(np.float32)
    scorer = RecommendScorer(DenseFactors(decode, encode))
    seen = np.zeros((1, 30))
    seen[0, [3, 8]] = 1
    np.testing.assert_allclose(
        scorer.scores([[3, 8]]), seen @ encode @ decode.T.astype(np.float64), rtol=1e-4, atol=1e-5
    )
