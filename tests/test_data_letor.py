"""LETOR/SVMlight text: what is written is read back, and what is wrong is named with its line."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from prunus.data import letor
from prunus.data.letor import read_letor, read_letor_text
from prunus.errors import (
    DataError,
    EmptyDataError,
    InfiniteValueError,
    LabelError,
    ParseError,
    SchemaError,
    SplitQueryError,
)

if TYPE_CHECKING:
    from pathlib import Path

FINITE = st.floats(width=32, allow_infinity=False)


def write(X, y, qid, *, first_id=1, sparse=False, comments=None, end="\n"):
    """Write rows as LETOR text, the plain way."""
    lines = []
    for i, row in enumerate(X):
        pairs = [f"{first_id + j}:{float(value)!r}" for j, value in enumerate(row) if not (sparse and value == 0)]
        comment = f" #{comments[i]}" if comments else ""
        lines.append(" ".join([f"{y[i]:g}", f"qid:{qid[i]}", *pairs]) + comment + end)
    return "".join(lines).encode()


@st.composite
def ranking_rows(draw):
    """Draw features, labels and query ids whose rows stand together."""
    n, n_features = draw(st.integers(1, 12)), draw(st.integers(1, 6))
    X = draw(arrays(np.float32, (n, n_features), elements=st.one_of(st.just(0.0), FINITE)))
    y = draw(arrays(np.float32, n, elements=st.integers(0, 31)))
    sizes = draw(st.lists(st.integers(1, 4), min_size=n, max_size=n))
    ids = draw(st.lists(st.integers(-(2**62), 2**62), min_size=n, max_size=n, unique=True))
    return X, y, np.repeat(ids, sizes)[:n]


@given(
    rows=ranking_rows(),
    sparse=st.booleans(),
    zipped=st.booleans(),
    end=st.sampled_from(["\n", "\r\n", " \n", " \r\n"]),
    with_comments=st.booleans(),
    chunk=st.sampled_from([1, 40, 1 << 20]),
    sparse_chunk=st.sampled_from([1, 40, 1 << 20]),
)
def test_round_trip(tmp_path_factory, rows, sparse, zipped, end, with_comments, chunk, sparse_chunk):
    """What was written is read back bit by bit, in chunks of any size, dense or sparse, plain or zipped."""
    X, y, qid = rows
    comments = [f"docid = D{i} inc = 1" for i in range(len(y))] if with_comments else None
    text = write(X, y, qid, sparse=sparse, comments=comments, end=end)
    path = tmp_path_factory.mktemp("letor") / "rows"
    path.write_bytes(gzip.compress(text) if zipped else text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(letor, "CHUNK_BYTES", chunk)
        patch.setattr(letor, "SPARSE_CHUNK_BYTES", sparse_chunk)
        data = read_letor(path, n_features=X.shape[1])
    assert np.array_equal(data.X, X, equal_nan=True)
    assert np.array_equal(data.y, y)
    assert np.array_equal(np.repeat(data.query_ids, np.diff(data.offsets)), qid)
    assert data.feature_names == tuple(f"f{j + 1}" for j in range(X.shape[1]))
    assert data.doc_ids is None if comments is None else data.doc_ids.tolist() == [f"D{i}" for i in range(len(y))]


def test_both_parsers_agree(tmp_path, monkeypatch):
    """The fast reader of dense text gives the same bits as the general one."""
    rng = np.random.default_rng(3)
    X = np.exp(5 * rng.standard_normal((500, 9))).astype(np.float32)
    X[rng.random(X.shape) < 0.1] = np.nan
    path = tmp_path / "dense.txt"
    path.write_bytes(write(X, rng.integers(0, 5, 500), np.repeat(np.arange(50), 10)))
    fast = read_letor(path)
    monkeypatch.setattr(letor, "_parse_dense", lambda _rows, _text: False)
    general = read_letor(path)
    assert np.array_equal(fast.X, general.X, equal_nan=True)
    assert np.array_equal(fast.y, general.y)
    assert np.array_equal(fast.offsets, general.offsets)


def test_the_fast_parser_takes_dense_text_and_leaves_the_rest(tmp_path, monkeypatch):
    """Dense text never reaches scikit-learn; sparse text of equal line lengths is not mistaken for dense."""
    dense, sparse = tmp_path / "dense", tmp_path / "sparse"
    dense.write_text("1 qid:1 1:5 2:6\n0 qid:1 1:7 2:8\n")
    sparse.write_text("1 qid:1 1:5 2:6\n0 qid:1 1:7 3:8\n")
    assert read_letor(sparse).X.tolist() == [[5, 6, 0], [7, 0, 8]]
    monkeypatch.setattr(letor, "_parse_sparse", None)
    assert read_letor(dense).X.tolist() == [[5, 6], [7, 8]]


def test_ids_from_zero(tmp_path, monkeypatch):
    """A file in which id 0 occurs, be it late, has features f0, f1, ...: every id keeps its number in its name."""
    path = tmp_path / "zero"
    path.write_text("1 qid:1 2:3\n0 qid:1 1:4\n0 qid:2 0:5 4:6\n")
    monkeypatch.setattr(letor, "CHUNK_BYTES", 1)
    data = read_letor(path)
    assert data.feature_names == ("f0", "f1", "f2", "f3", "f4")
    assert data.X.tolist() == [[0, 0, 3, 0, 0], [0, 4, 0, 0, 0], [5, 0, 0, 0, 6]]


def test_comments_blank_lines_and_a_byte_order_mark(tmp_path):
    """Blank lines and lines that are comments are no documents; a comment of no known form is kept whole."""
    path = tmp_path / "comments"
    path.write_bytes(
        b"\xef\xbb\xbf# made by hand\n\n2 qid:7 1:1 # page one\n  \n0 qid:7 1:2\n1 qid:8 1:nan #docid=GX-1 prob = .5"
    )
    data = read_letor(path)
    assert data.doc_ids.tolist() == ["page one", "", "GX-1"]
    assert data.y.tolist() == [2, 0, 1]
    assert np.isnan(data.X[2, 0])
    assert data.query_ids.tolist() == [7, 8]


def test_several_files_go_into_one_block(tmp_path):
    """A later, wider file widens the rows of an earlier one by zeros."""
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_text("1 qid:1 1:5\n")
    second.write_text("0 qid:1 3:8\n1 qid:2 1:1\n")
    data = read_letor_text([first, second]).ranking_data()
    assert data.X.tolist() == [[5, 0, 0], [0, 0, 8], [1, 0, 0]]
    assert data.offsets.tolist() == [0, 2, 3]


GOOD = "1 qid:1 1:0.5 2:1\n0 qid:1 1:0.25 2:2\n"


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        ("", EmptyDataError, "no documents"),
        ("\n# nothing\n\n", EmptyDataError, "no documents"),
        (GOOD + "1 qid:2 1:0.5 2:", ParseError, "line 3: got '2:' as a feature"),
        (GOOD + "1 qid:2 1:0.5 2", ParseError, "line 3: got '2' as a feature"),
        (GOOD + "1 1:0.5 2:3\n", ParseError, "line 3: got '1:0.5' after the label, not qid:Q"),
        (GOOD + "1\n", ParseError, "line 3: got nothing after the label"),
        (GOOD + "\n1 qid: 1:3\n", ParseError, "line 4: got 'qid:': the query id must be an integer"),
        (GOOD + "1 qid:q7 1:3\n", ParseError, "line 3: got 'qid:q7'"),
        (GOOD + "good qid:2 1:3 2:3\n", ParseError, "line 3: got 'good' as the label"),
        (GOOD + "1 qid:2 1:abc 2:3\n", ParseError, "line 3: got '1:abc' as a feature"),
        (GOOD + "1 qid:2 x:1 2:3\n", ParseError, "line 3: got 'x:1' as a feature"),
        (GOOD + "1 qid:2 2:1 1:3\n", ParseError, "line 3: got feature id 1 after 2: ids must rise"),
        (GOOD + "1 qid:2 2:1 2:3\n", ParseError, "line 3: got feature id 2 after 2: ids must rise"),
        (GOOD + "1 qid:2 -1:1 2:3\n", ParseError, "line 3: got feature id -1"),
        (GOOD + "1 qid:2 2147483:3\n", ParseError, "line 3: got feature id 2147483"),
        (GOOD + "1 qid:99999999999999999999 1:3\n", ParseError, "line 3: got 'qid:99999999999999999999'"),
        (GOOD + "-1 qid:2 1:3 2:3\n", LabelError, "line 3: got label -1"),
        (GOOD + "nan qid:2 1:3 2:3\n", LabelError, "line 3: got label nan"),
        (GOOD + "# c\n32 qid:2 1:3 2:3 # d\n", LabelError, "line 4: got label 32"),
        (GOOD + "1 qid:2 1:3 2:inf\n", InfiniteValueError, "line 3: feature 2 is inf"),
        (GOOD + "1 qid:2 1:3 2:-1e39\n", InfiniteValueError, "line 3: feature 2 is -inf"),
        (GOOD + "# c\n1 qid:2 1:3\n0 qid:1 1:3\n", SplitQueryError, "line 5: query 1 comes back"),
        ("1 qid:1\n0 qid:1\n", ParseError, "no line lists a feature"),
    ],
)
@pytest.mark.parametrize("chunk", [1, 1 << 20])
def test_bad_text(tmp_path, monkeypatch, text, error, says, chunk):
    """Every fault is a named error that tells file and line, wherever the chunks end."""
    path = tmp_path / "bad.txt"
    path.write_text(text)
    monkeypatch.setattr(letor, "CHUNK_BYTES", chunk)
    with pytest.raises(error) as caught:
        read_letor(path)
    assert says in str(caught.value)
    assert str(path) in str(caught.value)
    assert "expected" in str(caught.value)


def test_split_query_is_named_in_its_own_file(tmp_path):
    """A query split over two files is found in the second one."""
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_text("1 qid:1 1:5\n1 qid:2 1:5\n")
    second.write_text("#\n0 qid:2 1:8\n1 qid:1 1:1\n")
    with pytest.raises(SplitQueryError, match=r"b, line 3: query 1"):
        read_letor_text([first, second]).ranking_data()


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.99])
def test_truncated_gzip(tmp_path, keep):
    """A gzip file that was cut off is an error, not a shorter data set."""
    whole = gzip.compress((GOOD * 1).encode() * 500)
    path = tmp_path / "cut.gz"
    path.write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(ParseError, match="truncated"):
        read_letor(path)


def test_damaged_gzip(tmp_path):
    """A flipped byte in gzip data is a named error."""
    rng = np.random.default_rng(0)
    text = write(rng.random((200, 5)), np.zeros(200), np.arange(200))
    whole = bytearray(gzip.compress(text))
    whole[len(whole) // 2] ^= 0xFF
    path = tmp_path / "damaged.gz"
    path.write_bytes(whole)
    with pytest.raises(DataError):
        read_letor(path)


def test_missing_file_and_too_many_features(tmp_path):
    """A file that is not there, and one with more features than asked for, are named errors."""
    with pytest.raises(DataError, match=r"absent\.txt: cannot be opened"):
        read_letor(tmp_path / "absent.txt")
    path = tmp_path / "wide"
    path.write_text("1 qid:1 7:1\n")
    with pytest.raises(SchemaError, match="ids up to 7"):
        read_letor(path, n_features=6)
    assert read_letor(path, n_features=9).X.shape == (1, 9)


def test_mq2008_text_is_its_parquet(data_dir: Path):
    """The original text files hold the same rows as the Parquet file made from them elsewhere."""
    pq = pytest.importorskip("pyarrow.parquet")
    table = pq.read_table(data_dir / "mq2008" / "mq2008_s1_s4.parquet")
    rows = read_letor_text([data_dir / "mq2008" / f"S{part}.txt.gz" for part in (1, 2, 3, 4)])
    data = rows.ranking_data()
    expected = np.stack([table[f"f{j}"].to_numpy() for j in range(1, 47)], axis=1)
    assert np.array_equal(data.X, expected)
    assert np.array_equal(data.y, table["label"].to_numpy())
    assert np.array_equal(rows.qid(), table["qid"].to_numpy())
    assert data.doc_ids.tolist() == table["docid"].to_pylist()


def test_lightgbm_example_is_what_scikit_learn_reads(data_dir: Path):
    """Sparse text gives the same values as scikit-learn reading the whole file at once."""
    datasets = pytest.importorskip("sklearn.datasets")
    path = data_dir / "lightgbm_rank" / "train.txt.gz"
    X, y, qid = datasets.load_svmlight_file(str(path), query_id=True, dtype=np.float32, zero_based=False)
    data = read_letor(path)
    assert np.array_equal(data.X, X.toarray())
    assert np.array_equal(data.y, y)
    assert np.array_equal(np.repeat(data.query_ids, np.diff(data.offsets)), qid)
