"""Sources give events in order of arrival, all of them, and go on where another left off, bit by bit."""

from __future__ import annotations

import dataclasses
import errno
import gzip
import io
import json
from pathlib import Path

import numpy as np
import pytest

from event_streams import SCHEMA, assert_resumes, assert_same, lines, read_all, rows
from prunus.data import frames
from prunus.data.event_opening import open_events
from prunus.data.event_rejects import Rejects
from prunus.data.event_sources import ParquetSource
from prunus.data.events import EventSchema, hash_integers, hash_strings
from prunus.errors import ColumnError, DataError, EventError, ExpressionError, OutputError, ParseError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def write(path, records, group=4):
    """Write records as a Parquet file of small row groups."""
    pq.write_table(pa.Table.from_pylist(records), path, row_group_size=group)
    return path


def test_parquet_rows_become_events(tmp_path):
    """Ids, dense values, labels, times and keys of a file are those of its rows, nulls included."""
    records = rows(20)
    events = read_all(ParquetSource(write(tmp_path / "a.parquet", records), SCHEMA))
    assert len(events) == 20
    assert events.ids[:, 0].tolist() == hash_integers(np.array([one["user"] for one in records])).tolist()
    assert events.ids[:, 1].tolist() == hash_strings([one["item"] or "" for one in records]).tolist()
    expected = np.array([[one["age"], np.nan if one["price"] is None else one["price"]] for one in records], np.float32)
    assert np.array_equal(events.dense, expected, equal_nan=True)
    assert events.label.tolist() == [one["clicks"] for one in records]
    assert events.time.tolist() == [one["ms"] for one in records]
    assert len(set(events.key.tolist()) - {0}) == 20


@pytest.mark.parametrize("batch_rows", [5, 1 << 16])
@pytest.mark.parametrize("n", [3, 100])
def test_parquet_resumes_bit_by_bit(tmp_path, monkeypatch, n, batch_rows):
    """Several files, row groups, a filter, bad rows in every place: any split goes on with the same batches and counts."""
    monkeypatch.setattr(frames, "BATCH_ROWS", batch_rows)
    records = rows(40)
    for place, (name, value) in {
        0: ("ms", None),
        5: ("clicks", None),
        9: ("age", float("inf")),
        10: ("age", 1e39),
        16: ("item", "x" * 1025),
        39: ("clicks", None),
    }.items():
        records[place][name] = value
    schema = dataclasses.replace(SCHEMA, where="user%5>0", key=())
    write(tmp_path / "b.parquet", records[:17])
    write(tmp_path / "a1.parquet", records[17:18])
    write(tmp_path / "a2.parquet", records[18:])
    paths = [tmp_path / "b.parquet", tmp_path / "a*.parquet"]
    batches = assert_resumes(lambda: ParquetSource(paths, schema, rejects=Rejects("set-aside")), n)
    kept = [i for i, one in enumerate(records) if one["user"] % 5 and i not in {0, 5, 9, 10, 16, 39}]
    assert [time for batch in batches for time in batch.time.tolist()] == [1000 + 10 * i for i in kept]
    assert all(len(batch) == n for batch in batches[:-1])


def test_arithmetic_that_overflows_spoils_its_row_alone(tmp_path):
    """A value on which the label's expression fails is one bad event, wherever it stands among others."""
    records = rows(40)
    for place in (0, 17, 18, 39):
        records[place]["clicks"] = 2**62
    write(tmp_path / "a.parquet", records)
    schema = dataclasses.replace(SCHEMA, label="clicks*4>0")
    batches = assert_resumes(lambda: ParquetSource(tmp_path / "a.parquet", schema, rejects=Rejects("set-aside")), 9)
    times = [time for batch in batches for time in batch.time.tolist()]
    assert times == [1000 + 10 * i for i in range(40) if i not in {0, 17, 18, 39}]


def test_bad_rows_are_told_with_their_place(tmp_path):
    """Each bad row is counted by its reason and set aside with place and content, or refused with both."""
    records = rows(12)
    records[3]["ms"], records[5]["clicks"], records[8]["price"] = None, None, float("-inf")
    write(tmp_path / "a.parquet", records)
    aside = tmp_path / "aside" / "rows.jsonl"
    source = ParquetSource(tmp_path / "a.parquet", SCHEMA, rejects=Rejects("set-aside", aside))
    assert len(read_all(source)) == 9
    assert source.rejects.counts == {"bad_time": 1, "bad_label": 1, "bad_dense": 1}
    told = [json.loads(line) for line in aside.read_text().splitlines()]
    assert [(one["reason"], one["held"]["request"]) for one in told] == [
        ("bad_time", "r3"),
        ("bad_label", "r5"),
        ("bad_dense", "r8"),
    ]
    strict = ParquetSource(tmp_path / "a.parquet", SCHEMA)
    assert len(strict.read(3)) == 3
    with pytest.raises(EventError, match=r"row 3: an event without a time.*\"r3\""):
        strict.read(1)


def test_a_set_aside_file_of_a_run_that_left_no_state_is_begun_anew(tmp_path):
    """Killed before its first checkpoint, a run reads its source again from the start: each row is there once."""
    aside = tmp_path / "aside.jsonl"
    rows = [{"reason": "late", "event": n} for n in range(3)]
    Rejects("set-aside", aside).set_aside(rows)
    again = Rejects("set-aside", aside)
    again.set_aside(rows[:1])
    state = again.state()
    again.set_aside(rows[1:])
    assert [json.loads(line) for line in aside.read_text().splitlines()] == rows
    resumed = Rejects("set-aside", aside)
    resumed.load(state)
    resumed.set_aside(rows[1:])
    assert [json.loads(line) for line in aside.read_text().splitlines()] == rows


def test_a_set_aside_file_is_cut_back_on_resume(tmp_path):
    """What was written after the checkpoint is written again after a restart, so it is cut off first: once each."""
    records = rows(30)
    for one in records[::3]:
        one["clicks"] = None
    write(tmp_path / "a.parquet", records)
    aside = tmp_path / "aside.jsonl"

    def make():
        return ParquetSource(tmp_path / "a.parquet", SCHEMA, rejects=Rejects("set-aside", aside))

    first = make()
    first.read(5)
    point, state = first.position(), first.rejects.state()
    read_all(first)
    once = aside.read_bytes()
    second = make()
    second.seek(point)
    second.rejects.load(state)
    read_all(second)
    assert aside.read_bytes() == once
    assert len(once.splitlines()) == 10


def test_a_growing_folder(tmp_path):
    """A follower gives what is there, nothing while nothing comes, then the new files; it resumes in between."""
    records = rows(30)
    source = ParquetSource(tmp_path, SCHEMA, follow=True, rejects=Rejects("set-aside"))
    assert len(source.read(5)) == 0
    write(tmp_path / "day1.parquet", records[:10])
    write(tmp_path / ".day2.parquet", records[10:20])
    assert len(source.read(7)) == 7
    assert len(source.read(7)) == 3
    assert len(source.read(7)) == 0
    point = source.position()
    # Half a file is a file to come, as long as it is the last one.
    whole = (tmp_path / ".day2.parquet").read_bytes()
    (tmp_path / "day2.parquet").write_bytes(whole[: len(whole) // 2])
    assert len(source.read(7)) == 0
    (tmp_path / "day2.parquet").write_bytes(whole)
    second = source.read(100)
    assert second.time.tolist() == [one["ms"] for one in records[10:20]]
    again = ParquetSource(tmp_path, SCHEMA, follow=True)
    again.seek(json.loads(json.dumps(point)))
    assert_same(second, again.read(100))
    # A damaged file before the last, and one whose name did not rise, are told and not read.
    (tmp_path / "day3.parquet").write_bytes(b"PAR1")
    write(tmp_path / "day0.parquet", records[:10])
    write(tmp_path / "day4.parquet", records[20:])
    assert len(source.read(100)) == 10
    assert source.rejects.counts == {"bad_file": 2}
    assert len(source.read(100)) == 0
    assert source.rejects.counts == {"bad_file": 2}


def test_what_is_refused_at_once(tmp_path):
    """Absent files and columns, and types that cannot be used, are named errors before the first event."""
    path = write(tmp_path / "a.parquet", rows(5))
    with pytest.raises(DataError, match="no file matches"):
        ParquetSource(tmp_path / "*.csv", SCHEMA)
    with pytest.raises(DataError, match="cannot be opened"):
        ParquetSource(tmp_path / "absent.parquet", SCHEMA)
    for change, error, match in (
        ({"dense": ("agee",)}, ColumnError, "did you mean 'age'"),
        ({"dense": ("request",), "key": ()}, ColumnError, "'request' is string; expected numbers"),
        ({"label": "request>0", "key": ()}, ExpressionError, "cannot be evaluated"),
        ({"time": ("clicks>0",)}, ColumnError, "--time 'clicks>0' is bool"),
    ):
        with pytest.raises(error, match=match):
            ParquetSource(path, dataclasses.replace(SCHEMA, **change))
    (tmp_path / "half.parquet").write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ParseError):
        read_all(ParquetSource([path, tmp_path / "half.parquet"], SCHEMA))
    source = ParquetSource(path, SCHEMA)
    for point in (
        {"argument": 0, "file": "gone.parquet", "row": 1},
        {"argument": 0, "file": str(path), "row": 6, "before": []},
    ):
        with pytest.raises(DataError, match="expected"):
            source.seek(point)


def test_times_of_every_kind(tmp_path):
    """Integers, floats, dates, timestamps and ISO strings, with a zone and without, become one ordered number."""
    moments = ["1970-01-01T00:00:01", "1970-01-01T01:00:02+01:00", "1970-01-02", None, "no time"]
    columns = {
        "whole": pa.array([3, -2, 1, None, 2**63], pa.uint64())
        if False
        else pa.array([3, 0, 1, None, 2**63], pa.uint64()),
        "real": pa.array([3.9, -0.5, 1e6, float("nan"), 1e19]),
        "text": pa.array(moments),
        "stamp": pa.array([1000, -1, 5, None, None], pa.timestamp("ms", "Europe/Paris")),
        "day": pa.array([0, 1, -1, None, None], pa.date32()),
        "y": pa.array([0, 1, 0, 1, 0]),
        "id": pa.array([1, 2, 3, 4, 5]),
    }
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    day = 86_400_000_000
    for name, expected in {
        "whole": [3, 0, 1],
        "real": [3, -1, 1_000_000],
        "text": [1_000_000, 2_000_000, day],
        "stamp": [1_000_000, -1000, 5000],
        "day": [0, day, -day],
    }.items():
        schema = EventSchema(("id",), (), "y", (name,))
        source = ParquetSource(tmp_path / "t.parquet", schema, rejects=Rejects("set-aside"))
        assert read_all(source).time.tolist() == expected, name
        assert source.rejects.counts == {"bad_time": 2}, name


@pytest.mark.parametrize("follow", [False, True])
def test_a_file_that_came_too_late_while_nobody_looked(tmp_path, follow):
    """A name that does not rise is told once after a resume, whether followed or not; files known before are not told."""
    records = rows(30)
    for day in (1, 3):
        write(tmp_path / f"day{day}.parquet", records[10 * day - 10 : 10 * day])

    def make():
        rejects = Rejects("set-aside", tmp_path / "aside.jsonl")
        return ParquetSource(tmp_path, SCHEMA, follow=follow, rejects=rejects)

    first = make()
    assert len(first.read(15)) == 15
    point = json.loads(json.dumps(first.position()))
    write(tmp_path / "day0.parquet", records[:10])
    write(tmp_path / "day2.parquet", records[10:20])
    second = make()
    second.seek(point)
    again = json.loads(json.dumps(second.position()))  # of a run that was killed before it read on
    assert again == point
    assert len(second.read(100)) == 5
    assert second.rejects.counts == {"bad_file": 2}
    told = [json.loads(line) for line in (tmp_path / "aside.jsonl").read_text().splitlines()]
    assert [one["file"] for one in told] == [str(tmp_path / f"day{day}.parquet") for day in (0, 2)]
    third = make()
    third.seek(json.loads(json.dumps(second.position())))
    assert not third.read(100)
    assert third.rejects.counts == {}


GLOBO_OTHERS = 12


@pytest.mark.parametrize("split", [1, 300_001, 599_996, 679_996])
def test_globo_is_read_whole_and_resumes(data_dir, split):
    """The 679,996 real events come in their order, backward times included, and any split goes on the same."""
    folder = data_dir / "globo_ltr"
    if not folder.is_dir():
        pytest.skip("globo_ltr is not among the data")
    paths = [folder / f"{part}.parquet" for part in ("train", "valid", "test")]
    dense = tuple(pq.read_schema(paths[0]).names[GLOBO_OTHERS:])
    schema = EventSchema(("article_id", "last_article_id"), dense[:4], "label>0", ("timestamp_ms",))
    first = ParquetSource(paths, schema)
    before = first.read(split)
    second = ParquetSource(paths, schema)
    second.seek(json.loads(json.dumps(first.position())))
    after = second.read(1_000_000)
    table = pa.concat_tables([pq.read_table(path, columns=["timestamp_ms", "article_id", "label"]) for path in paths])
    times = table["timestamp_ms"].to_numpy()
    assert (np.diff(times) < 0).sum() == 697
    rest = 0 if after is None else len(after)
    assert (len(before), rest) == (split, 679_996 - split)
    for part, place in ((before, slice(0, split)), (after, slice(split, None))):
        if part is not None:
            assert np.array_equal(part.time, times[place])
            assert np.array_equal(part.ids[:, 0], hash_integers(table["article_id"].to_numpy()[place]))
            assert np.array_equal(part.label, table["label"].to_numpy()[place] > 0)


def test_flights_are_read_by_three_columns_of_time(data_dir):
    """Flights out of New York: month, day and hhmm as one time, strings as ids, cancelled ones left out by where."""
    path = data_dir / "nycflights13" / "flights.parquet"
    if not path.exists():
        pytest.skip("nycflights13 is not among the data")
    schema = EventSchema(
        ("carrier", "tailnum", "origin", "dest", "flight"),
        ("distance",),
        "label_late",
        ("month", "day", "dep_time"),
        where="label_late>=0",
    )
    source = ParquetSource(path, schema)
    events = source.read(1_000_000)
    assert (len(events), int(events.label.sum()), source.rejects.counts) == (327_346, 77_630, {})
    assert (np.diff(events.time) >= 0).all()
    assert [len(np.unique(column[column > 0])) for column in events.ids.T] == [16, 4037, 3, 104, 3835]


def test_a_source_is_known_by_its_name(tmp_path, monkeypatch):
    """Files of columns, files of lines and standard input open as what they are; what cannot go together is refused."""
    records = rows(8)
    write(tmp_path / "a.parquet", records)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(lines(records)))
    expected = read_all(open_events([tmp_path], SCHEMA))
    assert len(expected) == 8
    assert_same(read_all(open_events(str(tmp_path / "b.jsonl.gz"), SCHEMA)), expected)
    with monkeypatch.context() as patch:
        patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines(records))))
        assert_same(read_all(open_events("-", SCHEMA)), expected)
    for wrong, follow, match in (
        (["-", "a.parquet"], False, "expected it alone"),
        ("-", True, "without --follow"),
        ("kafka://broker:9092", False, "kafka://HOST"),
        ("kafka://broker:9092/clicks?colour=red", False, "kafka://HOST"),
    ):
        with pytest.raises(DataError, match=match):
            open_events(wrong, SCHEMA, follow=follow)


def test_a_full_disk_ends_no_stream(tmp_path, monkeypatch):
    """What a full disk does not take is counted, the file keeps whole lines; a folder that cannot be is an error."""
    records = rows(9)
    for one in records[::3]:
        one["clicks"] = None
    aside = tmp_path / "aside.jsonl"
    source = ParquetSource(write(tmp_path / "a.parquet", records), SCHEMA, rejects=Rejects("set-aside", aside))
    source.read(1)
    whole = aside.read_bytes()

    def full(file, text, at):
        file.write(text[:10])
        file.truncate(at)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("prunus.data.event_rejects._write", full)
        source.read(2)
    assert aside.read_bytes() == whole
    read_all(source)
    assert source.rejects.counts == {"bad_label": 3, "set_aside_lost": 1}
    assert len(aside.read_text().splitlines()) == 2
    below_a_file = Rejects("set-aside", aside / "rows.jsonl")
    with pytest.raises(OutputError, match="cannot be written"):
        read_all(ParquetSource(tmp_path / "a.parquet", SCHEMA, rejects=below_a_file))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_device_that_is_always_full():
    """The kernel's own full device: everything is lost and counted, and the stream goes on."""
    rejects = Rejects("set-aside", "/dev/full")
    rejects.refuse("bad_time", {"row": 1}, {})
    assert rejects.counts == {"bad_time": 1, "set_aside_lost": 1}
