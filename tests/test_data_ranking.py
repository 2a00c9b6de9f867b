"""The validated type: what it accepts, what it refuses, and how it is cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunus.data.ranking import RankingData, Schema, offsets_from_qid, split_row
from prunus.errors import (
    EmptyDataError,
    InfiniteValueError,
    LabelError,
    MissingValueError,
    SchemaError,
    SplitQueryError,
)

SIZES = st.lists(st.integers(1, 5), min_size=2, max_size=8)


def ranking(sizes, **changes):
    """Make data whose every value tells its place."""
    n = sum(sizes)
    fields = {
        "X": np.arange(2 * n, dtype=np.float32).reshape(n, 2),
        "y": np.arange(n, dtype=np.float32) % 5,
        "offsets": np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        "feature_names": ("a", "b"),
        "query_ids": np.arange(len(sizes)) * 10,
        "doc_ids": np.array([f"d{i}" for i in range(n)], dtype=object),
        "users": np.arange(len(sizes)) % 2,
        "teacher_scores": np.arange(n, dtype=np.float64),
    }
    return RankingData(**(fields | changes))


@given(sizes=SIZES, data=st.data())
def test_offsets_from_query_ids(sizes, data):
    """Offsets turn into query ids and back, for ids of any type."""
    kind = data.draw(st.sampled_from([int, float, str]))
    heads = np.array([kind(i * 7 % 11) for i in range(len(sizes))])
    offsets = offsets_from_qid(np.repeat(heads, sizes))
    assert np.diff(offsets).tolist() == sizes
    assert split_row(np.repeat(heads, sizes)) is None


@given(sizes=SIZES)
def test_split_queries_are_found(sizes):
    """A query that comes back is found at the row where it does."""
    qid = np.append(np.repeat(np.arange(len(sizes)), sizes), 0)
    assert split_row(qid) == len(qid) - 1
    with pytest.raises(SplitQueryError, match=f"query 0 comes back at row {len(qid) - 1}"):
        offsets_from_qid(qid)


def test_no_rows():
    """No rows are a named error."""
    with pytest.raises(EmptyDataError):
        offsets_from_qid(np.zeros(0))


@given(sizes=SIZES, data=st.data())
def test_queries_are_taken_with_all_they_have(sizes, data):
    """Taking queries in any order, repeats allowed, takes their rows, ids, users and scores along."""
    whole = ranking(sizes)
    picked = np.array(data.draw(st.lists(st.integers(0, len(sizes) - 1), min_size=1, max_size=9)))
    part = whole.take_queries(picked)
    rows = np.concatenate([np.arange(whole.offsets[q], whole.offsets[q + 1]) for q in picked])
    assert np.array_equal(part.X, whole.X[rows])
    assert np.array_equal(part.y, whole.y[rows])
    assert part.doc_ids.tolist() == whole.doc_ids[rows].tolist()
    assert np.array_equal(part.teacher_scores, whole.teacher_scores[rows])
    assert np.array_equal(part.query_ids, whole.query_ids[picked])
    assert np.array_equal(part.users, whole.users[picked])
    assert np.array_equal(np.diff(part.offsets), np.array(sizes)[picked])
    assert part.query_of_doc.tolist() == np.repeat(np.arange(len(picked)), np.array(sizes)[picked]).tolist()


@given(sizes=SIZES, fraction=st.floats(0.01, 0.99), seed=st.integers(0, 99))
def test_split_is_a_partition(sizes, fraction, seed):
    """Both parts hold whole queries, neither is empty, and together they hold each query once."""
    whole = ranking(sizes)
    first, second = whole.split_by_query(fraction, seed)
    assert sorted([*first.query_ids, *second.query_ids]) == whole.query_ids.tolist()
    assert first.n_docs + second.n_docs == whole.n_docs
    again = whole.split_by_query(fraction, seed)[0]
    assert np.array_equal(first.query_ids, again.query_ids)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"X": np.zeros((0, 2), np.float32)}, EmptyDataError),
        ({"X": np.zeros(3, np.float32)}, EmptyDataError),
        ({"y": np.zeros(2, np.float32)}, SchemaError),
        ({"y": np.array([0, -1, 0], np.float32)}, LabelError),
        ({"y": np.array([0, np.nan, 0], np.float32)}, LabelError),
        ({"y": np.array([0, 32, 0], np.float32)}, LabelError),
        ({"feature_names": ("a",)}, SchemaError),
        ({"feature_names": ("a", "a")}, SchemaError),
        ({"offsets": np.array([0, 2])}, SplitQueryError),
        ({"offsets": np.array([0, 2, 2, 3])}, SplitQueryError),
        ({"offsets": np.array([0, 3, 1, 3])}, SplitQueryError),
        ({"offsets": np.array([1, 3])}, SplitQueryError),
        ({"query_ids": np.zeros(3)}, SchemaError),
        ({"users": np.zeros(3)}, SchemaError),
        ({"doc_ids": np.zeros(2)}, SchemaError),
        ({"teacher_scores": np.zeros(2)}, SchemaError),
    ],
)
def test_what_cannot_be_is_refused(changes, error):
    """No object exists whose parts do not fit each other."""
    with pytest.raises(error):
        ranking([1, 2], **changes)


def test_arrays_are_made_contiguous_float32():
    """Any real array becomes contiguous float32; one that is so already is not copied."""
    X = np.asfortranarray(np.arange(6, dtype=np.float64).reshape(3, 2))
    data = ranking([1, 2], X=X, y=np.array([0, 1, 2]))
    assert data.X.dtype == data.y.dtype == np.float32
    assert data.X.flags.c_contiguous
    assert np.array_equal(data.X, X)
    good = np.zeros((3, 2), np.float32)
    assert ranking([1, 2], X=good).X is good


def test_schema_finds_columns_by_name():
    """Columns are found in any order; absent ones are named unless they are not needed."""
    schema = Schema(("a", "b", "c"))
    assert schema.allow_missing == (False, False, False)
    assert schema.columns(["c", "x", "b", "a"]) == [3, 2, 0]
    assert schema.columns(["c", "a"], needed=[0, 2]) == [1, -1, 0]
    with pytest.raises(SchemaError, match=r"1 needed features are absent \(b\)"):
        schema.columns(["c", "a"])


@pytest.mark.parametrize("fields", [{"allow_missing": (True,)}, {"feature_names": ("a", "a", "b")}])
def test_wrong_schema_is_refused(fields):
    """A schema whose parts do not fit is a named error."""
    with pytest.raises(SchemaError):
        Schema(**({"feature_names": ("a", "b", "c")} | fields))


def test_schema_explains_what_the_engine_refused():
    """The first infinity or forbidden NaN among the features that are read is named with its row."""
    schema = Schema(("a", "b", "c"), (False, True, False))
    X = np.zeros((4, 3), np.float32)
    X[2, 0], X[3, 1], X[1, 2] = np.nan, np.nan, np.inf
    with pytest.raises(MissingValueError, match="'a' is NaN at row 2"):
        schema.explain(X, [0, 1, 2])
    with pytest.raises(InfiniteValueError, match="'c' is inf at row 1"):
        schema.explain(X, [1, 2])
    schema.explain(X, [1])
