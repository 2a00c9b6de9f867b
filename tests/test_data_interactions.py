"""Interactions: validated, read alike from every kind of source, and split without loss or leak."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interactions_world import make_interactions
from prunus.data import splits
from prunus.data.interactions import Interactions
from prunus.data.interactions_reading import InteractionColumns, read_given, read_interactions
from prunus.data.splits import Split, pair_keys
from prunus.errors import ColumnError, DataError, EmptyDataError, ParseError, SchemaError, UnknownItemError

pl = pytest.importorskip("polars")

ROWS = [(3, 10, 4.0, 500), (1, 20, 2.0, 100), (3, 7, 5.0, 300), (1, 7, 4.5, 50), (20, 10, 1.0, 60), (3, 10, 4.0, 200)]
"""user, item, rating, time: out of order, one repeat."""


def lines(mark: str, *, n: int = 4) -> bytes:
    """Write ROWS as text."""
    return "".join(mark.join(map(str, row[:n])) + "\n" for row in ROWS).encode()


def frame() -> Any:
    """Give ROWS as a frame with other names."""
    return pl.DataFrame(ROWS, schema=["UserId", "movieId", "rating", "ts"], orient="row")


def parquet(path: Path) -> None:
    """Write ROWS as Parquet."""
    frame().write_parquet(path)


SOURCES = {
    "tabs": lines("\t"),
    "blanks": lines("  ").replace(b"\n", b" \r\n"),
    "ml-1m": lines("::"),
    "commas": lines(","),
    "gzip": gzip.compress(lines("\t"), mtime=0),
    "header": b"rating,item_id,timestamp,user_id\n" + "".join(f"{r},{i},{t},{u}\n" for u, i, r, t in ROWS).encode(),
    "parquet": parquet,
}


def write(folder: Path, content: Any, name: str = "data") -> Path:
    """Write one source."""
    path = folder / name
    if callable(content):
        content(path)
    else:
        path.write_bytes(content)
    return path


@pytest.mark.parametrize("kind", SOURCES)
def test_every_source_reads_alike(tmp_path: Path, kind: str) -> None:
    """Any form of the same rows gives the same numbers, first times and names, in the numeric order of the names."""
    data = read_interactions(write(tmp_path, SOURCES[kind]))
    assert (data.user_ids, data.item_ids, data.n_items) == (("1", "3", "20"), ("7", "10", "20"), 3)
    assert data.indptr.tolist() == [0, 2, 4, 5]
    assert data.items.tolist() == [0, 2, 0, 1, 1]
    assert data.times is not None
    assert data.times.tolist() == [50, 100, 300, 200, 60]
    assert data.left_out == {"that repeat an item of the user": 1}


def test_frame_threshold_condition() -> None:
    """Ratings below the threshold and rows outside the condition are left out and counted."""
    data = read_interactions(frame(), InteractionColumns(min_rating=4, where="movieId<20"))
    assert data.user_ids == ("1", "3")
    assert data.items.tolist() == [0, 0, 1]
    assert data.left_out == {
        "for which the condition is not true": 1,
        "below the least rating": 1,
        "that repeat an item of the user": 1,
    }


def test_lists_and_given(tmp_path: Path) -> None:
    """One list a user; the two parts of a given split share their numbers, and ids from 0 on need no names."""
    train = write(tmp_path, b"0 1 3 0\n1 2\n2 0 1 2 3 4\n", "train.txt")
    test = write(tmp_path, b"0 5 2\n2 5\n1\n", "test.txt")
    first, second = read_given(train, test)
    assert first.item_ids is second.item_ids is first.user_ids is None
    assert first.n_items == second.n_items == 6
    assert [first.history(u).tolist() for u in range(3)] == [[0, 1, 3], [2], [0, 1, 2, 3, 4]]
    assert [second.history(u).tolist() for u in range(3)] == [[2, 5], [], [5]]


def test_strings_and_several_times() -> None:
    """String ids keep their zeros and sort as text; several time columns make one order."""
    table = pl.DataFrame(
        {"user": ["b", "a", "b"], "item": ["007", "7", "é"], "day": [2, 1, 1], "hour": [0, 5, 9]},
    )
    data = read_interactions(table, InteractionColumns(time=("day", "hour")))
    assert (data.user_ids, data.item_ids) == (("a", "b"), ("007", "7", "é"))
    assert data.times is not None
    assert data.times.tolist() == [0, 2, 1]


def test_text_ids_keep_their_zeros(tmp_path: Path) -> None:
    """In text, 007 and 7 are two items, with a header or without; a third column of large whole numbers is a time."""
    for head in (b"", b"user,item,timestamp\n"):
        data = read_interactions(write(tmp_path, head + b"1,007,978300760\n1,7,978300761\n"))
        assert data.item_ids == ("007", "7")
        assert data.times is not None
        assert data.times.tolist() == [978300760, 978300761]


def test_unknown_items() -> None:
    """Items that a model does not know are left out and counted, or an error, by choice; the user stays."""
    names = ("x", "y")
    table = pl.DataFrame({"user": [1, 1, 2], "item": ["y", "z", "z"]})
    data = read_interactions(table, catalogue=names)
    assert data.item_ids == names
    assert [data.history(u).tolist() for u in range(data.n_users)] == [[1], []]
    assert data.left_out == {"with an item that the model does not know": 2}
    numbered = read_given(table.with_columns(item=pl.lit("1")), table.with_columns(item=pl.lit("5")), catalogue=2)
    assert [(part.nnz, part.n_items, part.item_ids) for part in numbered] == [(2, 2, None), (0, 2, None)]
    with pytest.raises(UnknownItemError, match=r"2 rows name 1 items .*'z'"):
        read_interactions(table, catalogue=names, unknown="error")


@pytest.mark.parametrize(
    ("content", "columns", "error", "said"),
    [
        (b"", {}, EmptyDataError, "is empty"),
        (b"1\t2\t3\n1\t2\n1\t5\t6\n", {}, ParseError, "line 2: got 2 fields where the first line has 3"),
        (b"1\t2\tgood\n1\t3\tbad\n", {}, ParseError, "line 1: got '1 2 good', whose rating"),
        (b"1,2\n1,\n", {}, ColumnError, "without an id"),
        (lines("\t", n=2), {"min_rating": 3}, ColumnError, "no column of ratings"),
        (lines("\t"), {"min_rating": 9}, EmptyDataError, "6 rows below the least rating"),
        (lines("\t"), {"item": "song"}, ColumnError, "no column 'song'"),
        (lines("\t"), {"time": ("when",)}, ColumnError, "no column 'when'"),
        (b"user,item,ts\n1,2,mon\n", {}, ColumnError, "is no time"),
        (gzip.compress(lines("\t"), mtime=0)[:-9], {}, ParseError, "cannot be read"),
    ],
)
def test_bad_sources(tmp_path: Path, content: bytes, columns: dict[str, Any], error: type, said: str) -> None:
    """What cannot be used is a named error that says what was got."""
    with pytest.raises(error, match=said):
        read_interactions(write(tmp_path, content), InteractionColumns(**columns))


def test_missing_file(tmp_path: Path) -> None:
    """A file that is not there is named."""
    with pytest.raises(DataError, match="cannot be opened"):
        read_interactions(tmp_path / "nothing.txt")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"items": [1, 0, 2]}, DataError),
        ({"items": [1, 1, 2]}, DataError),
        ({"items": [0, 1, 3]}, DataError),
        ({"items": [-1, 1, 2]}, DataError),
        ({"indptr": [0, 2, 4]}, SchemaError),
        ({"indptr": [0, 4, 3]}, SchemaError),
        ({"indptr": [0]}, EmptyDataError),
        ({"times": [1, 2]}, SchemaError),
        ({"user_ids": ("a",)}, SchemaError),
        ({"item_ids": ("a", "b", "a")}, SchemaError),
    ],
)
def test_validated(change: dict[str, Any], error: type) -> None:
    """Nothing that cannot be right is built."""
    good: dict[str, Any] = {"indptr": [0, 2, 3], "items": [0, 1, 1], "n_items": 3}
    Interactions(**good)
    with pytest.raises(error):
        Interactions(**good | change)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 7), st.integers(-9, 9)), min_size=1))
def test_reading_is_a_set_of_pairs(rows: list[tuple[int, int, int]]) -> None:
    """Whatever the rows: the pairs are their set, each with its least time; taking users takes rows of the matrix."""
    data = read_interactions(pl.DataFrame(rows, schema=["user", "item", "time"], orient="row"))
    users = sorted({row[0] for row in rows})
    items = sorted({row[1] for row in rows})
    expected = {(u, i): min(t for v, j, t in rows if (v, j) == (u, i)) for u, i, _ in rows}
    assert data.times is not None
    found = zip(data.user_of.tolist(), data.items.tolist(), data.times.tolist(), strict=True)
    assert {(users[u], items[i]): t for u, i, t in found} == expected
    picked = np.arange(data.n_users)[::-1]
    assert (data.take_users(picked).users_x_items().toarray() == data.users_x_items().toarray()[picked]).all()


@pytest.mark.parametrize("how", ["leave-last-out", "random:0.3", "strong:0.2", "time:0.25"])
@pytest.mark.parametrize("seed", [0, 1])
def test_splits_lose_and_leak_nothing(how: str, seed: int) -> None:
    """The parts are disjoint, together the data, repeat with the seed, and hold out about the share asked for."""
    data = make_interactions()
    split = splits.by_name(how, seed)(data)
    again = splits.by_name(how, seed)(data)
    assert (pair_keys(split.test) == pair_keys(again.test)).all()
    parts = [split.train, split.test] + ([] if split.histories is split.train else [split.histories])
    assert sum(part.nnz for part in parts) == data.nnz
    if how.startswith("strong"):
        assert split.histories.n_users == 12
        assert (np.diff(split.histories.indptr) >= 1).all()
        assert (np.diff(split.test.indptr) >= 1).all()
        assert split.train.n_users + split.test.n_users == data.n_users
    else:
        assert (np.union1d(pair_keys(split.train), pair_keys(split.test)) == pair_keys(data)).all()
    if how.startswith(("random", "time")):
        assert split.test.nnz / data.nnz == pytest.approx(float(how.partition(":")[2]), abs=0.02)


def test_the_latest_is_held_out() -> None:
    """Leave-last-out takes each user's last item, and the split by time nothing older than what it leaves."""
    data = make_interactions()
    last = splits.leave_last_out(data)
    assert last.test.times is not None
    assert last.train.times is not None
    for user in range(data.n_users):
        mine = slice(last.train.indptr[user], last.train.indptr[user + 1])
        assert last.test.indptr[user + 1] - last.test.indptr[user] == 1
        assert (last.train.times[mine] < last.test.times[last.test.indptr[user]]).all()
    late = splits.by_time(data)
    assert late.train.times is not None
    assert late.test.times is not None
    assert late.train.times.max() < late.test.times.min()


def test_single_items_stay() -> None:
    """A user with one item is never tested on it, except by time."""
    data = Interactions([0, 1, 3], [0, 0, 1], 2, times=[9, 1, 2])
    assert splits.leave_last_out(data).test.indptr.tolist() == [0, 0, 1]
    assert splits.random_by_user(data, 0.9).test.indptr.tolist() == [0, 0, 1]
    assert splits.by_time(data, 0.3).histories.history(0).tolist() == []


def test_split_refusals() -> None:
    """A split that cannot be made says why."""
    data = make_interactions()
    untimed = Interactions(data.indptr, data.items, data.n_items)
    for how, said in (
        ("leave-last-out", "has no times"),
        ("time", "has no times"),
        ("half", "expected leave-last-out"),
    ):
        with pytest.raises(DataError, match=said):
            splits.by_name(how)(untimed)
    with pytest.raises(DataError, match="share of 1"):
        splits.random_by_user(data, 1)
    with pytest.raises(DataError, match="stand in the history"):
        Split(data, data, data, "leak")
    with pytest.raises(EmptyDataError, match="expected some of both"):
        splits.given(data, data)
    with pytest.raises(DataError, match="read them together"):
        splits.given(data, data.take_users(np.array([0])))
