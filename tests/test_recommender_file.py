"""Packing of whole numbers, id maps, and the model file of a recommender."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prunus.engine import range_code
from prunus.engine import recommender_reference as reference
from prunus.engine.item_ids import pack_ids, unpack_ids
from prunus.engine.levels import quantise_model
from prunus.engine.packing import CODED, PLAIN, SAME, about_bytes, pack, unpack
from prunus.engine.recommender import SparseFactors, SparseRows
from prunus.engine.recommender_file import from_bytes, load, packed_bytes, save, sizes, to_bytes
from prunus.errors import ModelFileError, NetworkError, RecommenderError
from recommenders import make_dense, make_histories, make_sparse

MODELS = {
    "tied": lambda rng: make_sparse(rng, bits=5),
    "tied_scaled": lambda rng: make_sparse(rng, bits=4, scale=True, bias=True, per_row=True),
    "untied": lambda rng: make_sparse(rng, tied=False, bits=8, bias=True),
    "float32": lambda rng: make_sparse(rng, tied=False),
    "item_item": lambda rng: make_sparse(rng, item_item=True, bits=6),
    "empty rows": lambda rng: make_sparse(rng, stored=1, spread=1, bits=3),
    "no values": lambda rng: make_sparse(rng, stored=0, spread=0),
    "dense": lambda rng: make_dense(rng, bits=8, scale=True),
    "dense_untied": lambda rng: make_dense(rng, bits=6, tied=False, per_row=True),
    "dense float32": lambda rng: make_dense(rng, bias=True),
    "one item": lambda rng: make_sparse(rng, n_items=1, n_factors=1, stored=1, spread=0),
}

FIELDS = ("encode_scale", "bias", "popular", "step")


def equal(a, b):
    """Say whether two arrays, or two rows, or two Nones, are the same."""
    if a is None or b is None:
        return a is b
    if hasattr(a, "indptr"):
        return all(equal(getattr(a, part), getattr(b, part)) for part in ("indptr", "factor", "value", "step"))
    return np.array_equal(a, b)


@pytest.mark.parametrize("name", MODELS)
def test_a_file_gives_back_the_model(name):
    """Every array comes back bit by bit, and so do names and metadata; equal input gives equal bytes."""
    model = MODELS[name](np.random.default_rng(5))
    ids = tuple(f"item {number} ü\n" for number in range(model.n_items))
    content = to_bytes(model, ids, metadata={"teacher": "ease", "k": np.int64(3)})
    assert content == to_bytes(model, ids, metadata={"teacher": "ease", "k": 3})
    again, names, metadata = from_bytes(content, "m")
    assert type(again) is type(model)
    assert again.tied == model.tied
    assert equal(again.decode, model.decode)
    assert equal(again.encode, model.encode)
    assert all(equal(getattr(again, field, None), getattr(model, field, None)) for field in FIELDS)
    assert getattr(again, "item_item", False) == getattr(model, "item_item", False)
    assert (names, metadata) == (ids, {"teacher": "ease", "k": 3})
    assert to_bytes(again, names, metadata=metadata) == content


def known_model():
    """Make a model without a random number, large enough for an entropy code."""
    rows = [[number for number in range(64) if (number * number + 3 * item) % 7 < 2] for item in range(200)]
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    factor = np.concatenate(rows)
    level = (factor * 5 + np.repeat(np.arange(200), np.diff(indptr))) % 15 - 7
    level[level == 0] = 1
    made = SparseRows(64, indptr, factor, level.astype(np.float32) * np.float32(0.125), np.float32([0.125]))
    return SparseFactors(made, bias=np.arange(200, dtype=np.float32) / 64, popular=np.arange(0, 200, 3))


def test_a_file_of_an_earlier_build_still_loads():
    """A file that is kept beside the tests (written by save once) loads for as long as its version is read."""
    scorer = load(Path(__file__).parent / "golden" / "recommender-v2.prunus")
    model = known_model()
    assert equal(scorer.model.decode, model.decode)
    assert all(equal(getattr(scorer.model, field, None), getattr(model, field, None)) for field in FIELDS)
    assert scorer.item_ids == tuple(f"item {i}" for i in range(200))
    assert scorer.metadata == {"teacher": "ease"}


def test_ones_and_zeros_are_not_written():
    """A scale of ones and a bias of zeros cost nothing, and mean the same."""
    rng = np.random.default_rng(1)
    model = make_sparse(rng, bits=4)
    with_them = SparseFactors(model.decode, None, np.ones(50), np.zeros(50), model.popular)
    assert to_bytes(with_them) == to_bytes(model)
    indptr, items = make_histories(rng, 4, 50)
    np.testing.assert_array_equal(reference.score(with_them, indptr, items), reference.score(model, indptr, items))


def test_bytes_of_a_large_model():
    """3,043 items of 64 of 512 factors in 5 bits: patterns within 4 % of the bound of a uniform choice, and small headers."""
    rng = np.random.default_rng(0)
    n_items, width, stored = 3043, 512, 64
    model = quantise_model(make_sparse(rng, n_items, width, stored, spread=0), 5)
    model = SparseFactors(model.decode, popular=model.popular[:200])
    level = np.rint(model.decode.value / model.decode.step).astype(int) + 15
    share = np.bincount(level) / len(level)
    share = share[share > 0]
    p = len(level) / n_items / width
    bits = len(level) * -(share * np.log2(share)).sum()
    bits += n_items * width * -(p * np.log2(p) + (1 - p) * np.log2(1 - p))
    content = to_bytes(model, [str(7 * i) for i in range(n_items)])
    found = sizes(content, "m")
    assert found.file == len(content)
    assert 0 < found.id_map < 100  # every seventh number
    assert 0.98 * bits / 8 / n_items < found.bytes_per_item < 1.04 * bits / 8 / n_items + 1
    without = packed_bytes(model)
    assert 0 <= found.file - found.id_map - without < 150  # the id map's entry in the header is not counted as id map
    assert packed_bytes(model, value_bits=3) < 0.85 * without


NUMBERS = st.lists(st.integers(0, 40) | st.integers(0, 2**31 - 1), max_size=300)


@given(NUMBERS | st.lists(st.integers(0, 3), min_size=100, max_size=200))
@settings(max_examples=50)
def test_packing_gives_back_the_numbers(numbers):
    """Any whole numbers, and never more bytes than plain ones take."""
    packed = pack(np.array(numbers, np.int64))
    assert unpack(packed, len(numbers), "x").tolist() == numbers
    assert len(packed) <= max(5, 2 + (len(numbers) * 31 + 7) // 8)
    assert about_bytes(np.array(numbers, np.int64)) <= len(packed)


@pytest.mark.parametrize("share", [0.003, 0.05, 0.5, 0.95])
def test_coded_numbers_cost_their_entropy(share):
    """Geometric numbers take at most 3 % more than their entropy, over many lanes."""
    x = np.random.default_rng(2).geometric(share, 50_000) - 1
    packed = pack(x)
    entropy = -(share * np.log2(share) + (1 - share) * np.log2(1 - share)) / share
    assert packed[0] == CODED
    assert len(packed) * 8 < 1.03 * entropy * len(x) + 8 * 64
    assert about_bytes(x) == pytest.approx(len(packed), rel=0.01, abs=80)  # states of the lanes
    np.testing.assert_array_equal(unpack(packed, len(x), "x"), x)


def test_first_bytes_are_as_documented():
    """Which way of packing was chosen stands in the first byte."""
    assert pack(np.full(9, 70000))[0] == SAME
    assert pack(np.zeros(0, np.int64))[0] == SAME
    assert pack(np.array([3, 1, 2, 0]))[0] == PLAIN
    assert pack(np.random.default_rng(0).geometric(0.5, 5000))[0] == CODED


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=60).filter(any))
def test_tables_sum_to_the_total_and_forget_no_symbol(counts):
    """Frequencies sum to 4096, and each symbol that is used has one."""
    counts = np.array(counts, np.int64)
    frequency = range_code.read_table(range_code.write_table(counts))
    assert frequency.sum() == range_code.TOTAL
    assert ((frequency > 0) == (counts > 0)).all()


def test_tables_of_every_byte_are_read_or_refused():
    """Whatever bytes stand in a table, they are frequencies that sum to 4096, or a named error."""
    rng = np.random.default_rng(4)
    for _ in range(500):
        table = rng.integers(0, 256, rng.integers(1, 257)).astype(np.uint8) % rng.choice([2, 100, 194, 256])
        try:
            frequency = range_code.read_table(table)
        except RecommenderError:
            continue
        assert frequency.sum() == range_code.TOTAL
        assert frequency.min() >= 0


@pytest.mark.parametrize("seed", [0])
def test_damaged_packings_are_refused_or_read(seed):
    """Bytes changed, cut or added: a named error, or numbers in range."""
    rng = np.random.default_rng(seed)
    x = rng.geometric(0.2, 1500)
    packed = pack(x)
    refused = 0
    for _ in range(70):
        bad = packed.copy()
        bad[rng.integers(len(bad)) if rng.random() < 0.5 else rng.integers(14)] ^= 1 << rng.integers(8)
        bad = bad[: rng.integers(len(bad))] if rng.random() < 0.2 else bad
        try:
            found = unpack(bad, len(x), "x")
        except RecommenderError:
            refused += 1
            continue
        assert len(found) == len(x)
        assert found.min() >= 0
        assert found.max() < 2**31
    assert refused > 50


IDS = {
    "numbers": ("5", "3", "100000000000", "-7", "0"),
    "one": ("x",),
    "leading zeros": ("01", "1", "001"),
    "texts": ("", "a\n", "ü", "\x00", "名前"),
    "not quite numbers": ("1", "-0", "+1", "1.0", " 1", "٣"),
    "large": ("9" * 30, "1"),
}


@pytest.mark.parametrize("case", IDS)
def test_id_maps_give_back_the_names(case):
    """Numbers and texts come back as they were."""
    assert unpack_ids(pack_ids(IDS[case]), len(IDS[case])) == IDS[case]


def test_bad_id_maps_are_refused():
    """Damage, other lengths and names that repeat are named errors, without much memory."""
    packed = pack_ids([f"item{i}" for i in range(50)])
    rng = np.random.default_rng(0)
    for n in (49, 51, 1):
        with pytest.raises(RecommenderError):
            unpack_ids(packed, n)
    for _ in range(200):
        bad = packed.copy()
        bad[rng.integers(len(bad))] ^= 1 << rng.integers(8)
        with pytest.raises(RecommenderError):
            unpack_ids(bad, 50)
    with pytest.raises(RecommenderError, match="repeat"):
        to_bytes(make_sparse(rng, n_items=2), ("a", "a"))
    with pytest.raises(RecommenderError, match="2"):
        to_bytes(make_sparse(rng, n_items=3), ("a", "b"))


def test_what_cannot_be_saved(tmp_path):
    """Scores that overflow, and metadata under the file's own keys, are refused; nothing is written."""
    model = make_sparse(np.random.default_rng(0))
    huge = SparseFactors(model.decode, encode_scale=np.full(50, 3e38, np.float32))
    with pytest.raises(NetworkError, match="overflow"):
        save(tmp_path / "m.prunus", huge)
    for key in ("factors", "kind"):
        with pytest.raises(ModelFileError, match=key):
            save(tmp_path / "m.prunus", model, metadata={key: 1})
    assert not list(tmp_path.iterdir())
