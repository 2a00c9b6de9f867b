"""Lines of JSON: the same events as from a file of columns, any split, and whatever comes is named and passed over."""

from __future__ import annotations

import gzip
import io
import json
import os
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from event_streams import SCHEMA, assert_resumes, assert_same, lines, read_all, rows
from prunus.data import event_lines
from prunus.data.event_lines import JsonLinesSource
from prunus.data.event_order import Ordered
from prunus.data.event_rejects import REASONS, Rejects
from prunus.data.event_sources import ParquetSource
from prunus.data.events import EventSchema
from prunus.errors import DataError, EventError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def from_bytes(text, schema=SCHEMA, **options):
    """Make a source of bytes that sets bad lines aside."""
    return JsonLinesSource(io.BytesIO(text), schema, rejects=Rejects("set-aside"), **options)


def test_lines_are_the_events_of_a_table(tmp_path):
    """The same rows as lines of JSON, also gzipped, and as Parquet give the same bits; blank lines say nothing."""
    records = rows(60)
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "t.parquet")
    expected = read_all(ParquetSource(tmp_path / "t.parquet", SCHEMA))
    (tmp_path / "t.jsonl").write_bytes(b"\n  \n" + lines(records).replace(b"}\n", b"}\r\n\n", 5))
    (tmp_path / "t.jsonl.gz").write_bytes(gzip.compress(lines(records)[:-1]))
    for name in ("t.jsonl", "t.jsonl.gz"):
        assert_same(read_all(JsonLinesSource(tmp_path / name, SCHEMA)), expected)


MESS = [
    ("{", "bad_json"),
    ("[1]", "bad_json"),
    ("null", "bad_json"),
    ('"text"', "bad_json"),
    ("1" * 5000, "bad_json"),
    ("[" * 100_000, "bad_json"),
    ("\ufffd\ufffd", "bad_json"),
    ("x" * (1 << 20) + "y" * 99, "bad_json"),
    ({"age": "old"}, "bad_type"),
    ({"age": [1]}, "bad_type"),
    ({"user": {"id": 1}}, "bad_type"),
    ({"user": [1, 2]}, "bad_type"),
    ({"clicks": "2"}, "bad_type"),
    ({"ms": {}}, "bad_type"),
    ({"ms": True}, "bad_type"),
    ({"user": "\ud800"}, "bad_type"),
    ({"ms": 10**30}, "bad_type"),
    ({"age": 10**400}, "bad_type"),
    ({"ms": None}, "bad_time"),
    ({"ms": float("nan")}, "bad_time"),
    ({"ms": 1e300}, "bad_time"),
    ({"ms": 2**63}, "bad_time"),
    ({"ms": "yesterday"}, "bad_time"),
    ({"clicks": None}, "bad_label"),
    ({"clicks": float("nan")}, None),
    ({"age": float("inf")}, "bad_dense"),
    ({"price": -1e39}, "bad_dense"),
    ({"user": "u" * 1025}, "bad_id"),
    ({"request": "u" * 1025}, "bad_id"),
    ({"user": "u" * 1024}, None),
    ({"user": 2**64 - 1}, None),
    ({"user": -(2**63)}, None),
    ({"user": 2**64}, "bad_type"),
    ({"user": 1.5}, None),
    ({"user": float("nan")}, None),
    ({"user": True}, None),
    ({"user": ""}, None),
    ({"age": None, "price": None, "user": None, "item": None}, None),
    ({"age": float("nan")}, None),
    ({"age": True}, None),
    ({"age": 7}, None),
    ({"other": [{"deep": 1}]}, None),
]


def mixed(mess, n_good=40):
    """Put good records around and between records with something changed; give text, and what is bad."""
    records, reasons = rows(n_good), []
    text = []
    for place, (change, reason) in enumerate(mess):
        text.append(records[place % n_good])
        text.append({**records[0], **change} if isinstance(change, dict) else change)
        if reason:
            reasons.append(reason)
    return lines(text + records), reasons


def test_each_kind_of_mess_is_named():
    """Every line that is no event is counted under its own name, alone and among others, and the rest is learned."""
    for change, reason in MESS:
        source = from_bytes(mixed([(change, reason)])[0])
        assert len(read_all(source)) == 42 - bool(reason), change
        assert source.rejects.counts == ({reason: 1} if reason else {}), str(change)[:50]
    text, reasons = mixed(MESS)
    source = from_bytes(text)
    assert len(read_all(source)) == 40 + 2 * len(MESS) - len(reasons)
    assert source.rejects.counts == {
        reason: reasons.count(reason) for reason in sorted(set(reasons), key=reasons.index)
    }
    assert set(source.rejects.counts) <= set(REASONS)


@pytest.mark.parametrize(("block", "n"), [(50, 9), (300, 1000), (1 << 18, 4)])
def test_any_split_goes_on_the_same(monkeypatch, tmp_path, block, n):
    """Amid every kind of mess, in small blocks and large, a new source goes on with the same batches and counts."""
    monkeypatch.setattr(event_lines, "_BLOCK", block)
    monkeypatch.setattr(event_lines, "MAX_LINE_BYTES", 2000)
    short = [one for one in MESS if len(str(one[0])) < 4000]
    text, _ = mixed([*short[::2], ("z" * 3000, "bad_json"), ("{", "bad_json")], n_good=9)
    path = tmp_path / "t.jsonl"
    path.write_bytes(text.replace(b"}\n", b"}\n\n", 7) + json.dumps(rows(1)[0]).encode())

    def make():
        return JsonLinesSource(path, SCHEMA, rejects=Rejects("set-aside"))

    batches = assert_resumes(make, n)
    assert all(len(batch) == n for batch in batches[:-1])


def test_how_lines_are_read_changes_nothing(monkeypatch):
    """Small blocks or large, the same events come out: neither types nor errors reach over lines."""
    text, _ = mixed(MESS)
    expected = read_all(from_bytes(text))
    for block in (1000, 10_000):
        monkeypatch.setattr(event_lines, "_BLOCK", block)
        assert_same(read_all(from_bytes(text)), expected)


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=4,
)
fuzzed = st.one_of(
    st.dictionaries(st.sampled_from(SCHEMA.columns), json_values, max_size=7),
    st.binary(max_size=30).map(lambda one: one.decode("latin-1").replace("\n", "").replace("\r", "")),
    st.just("good"),
)


@settings(max_examples=60)
@given(st.lists(fuzzed, max_size=12), st.integers(1, 5))
def test_fuzzed_events_are_counted_and_the_loop_goes_on(tmp_path_factory, messages, n):
    """Whatever comes, every line becomes an event or is counted and set aside; good ones come through untouched."""
    aside = tmp_path_factory.mktemp("fuzz") / "aside.jsonl"
    good = rows(len(messages))
    text = lines([{**good[i], "user": 77} if one == "good" else one for i, one in enumerate(messages)])
    source = Ordered(JsonLinesSource(io.BytesIO(text), SCHEMA), set_aside=aside)
    events = read_all(source, n)
    bad = sum(count for name, count in source.counts.items() if name.startswith("bad_"))
    assert len(events) + bad == sum(bool(line.strip()) for line in text.split(b"\n"))
    assert source.counts.get("events", 0) == len(events)
    told = [json.loads(line) for line in aside.read_text().splitlines()] if aside.exists() else []
    assert len(told) == bad
    seen = set(events.time.tolist())
    assert all(1000 + 10 * i in seen for i, one in enumerate(messages) if one == "good")


def test_the_order_of_bad_and_good_lines_is_kept(tmp_path):
    """A bad line is refused exactly when the events before it were handed out, with its place and content."""
    records = rows(6)
    records[3]["clicks"] = None
    path = tmp_path / "t.jsonl"
    path.write_bytes(lines(records))
    source = JsonLinesSource(path, SCHEMA)
    assert len(source.read(3)) == 3
    with pytest.raises(EventError, match=r"line 3: an event without a label.*\"r3\""):
        source.read(3)


def test_times_of_lines_may_be_strings():
    """ISO 8601 strings with a zone and without, numbers of both kinds, in one stream."""
    records = rows(4)
    for record, value in zip(records, ["1970-01-01T00:00:01Z", "1970-01-01T00:00:02", 3, 4.7], strict=True):
        record["ms"] = value
    assert read_all(from_bytes(lines(records))).time.tolist() == [1_000_000, 2_000_000, 3, 4]


def test_a_file_that_grows(tmp_path):
    """A follower waits for the rest of a line, then for more lines, and resumes in between."""
    path = tmp_path / "t.jsonl"
    text = lines(rows(9))
    path.write_bytes(text[:40])
    source = JsonLinesSource(path, SCHEMA, follow=True)
    assert len(source.read(5)) == 0
    point = source.position()
    path.write_bytes(text)
    first = source.read(5)
    rest = source.read(5)
    assert (len(first), len(rest), len(source.read(5))) == (5, 4, 0)
    again = JsonLinesSource(path, SCHEMA, follow=True)
    again.seek(point)
    assert_same(again.read(5), first)


def test_a_pipe():
    """From a pipe events come as they are written, and a new pipe fed from the beginning is read on from the position."""
    text = lines(rows(9))

    def pipe(parts):
        read_end, write_end = os.pipe()

        def feed():
            with os.fdopen(write_end, "wb", buffering=0) as file:
                for part in parts:
                    file.write(part)

        thread = threading.Thread(target=feed)
        thread.start()
        return os.fdopen(read_end, "rb"), thread

    stream, thread = pipe([text[:100], text[100:101], text[101:]])
    with stream:
        source = JsonLinesSource(stream, SCHEMA)
        source.read(4)
        point = source.position()
        rest = read_all(source)
        with pytest.raises(DataError, match="fed from the beginning"):
            source.seek(point)
    thread.join()
    stream, thread = pipe([text])
    with stream:
        again = JsonLinesSource(stream, SCHEMA)
        again.seek(point)
        assert_same(read_all(again), rest)
    thread.join()
    assert len(rest) == 5


def test_positions_of_another_file_are_refused(tmp_path):
    """A position that is no end of a line of this file is a named error, not a line cut in half."""
    path = tmp_path / "t.jsonl"
    path.write_bytes(lines(rows(3)))
    source = JsonLinesSource(path, SCHEMA)
    for byte in (10, path.stat().st_size + 1):
        with pytest.raises(DataError, match="no line ends at byte"):
            source.seek({"byte": byte, "line": 1})
    source.seek({"byte": path.stat().st_size, "line": 3})
    assert source.read(1) is None
    with pytest.raises(DataError, match="cannot be opened"):
        JsonLinesSource(tmp_path / "absent", SCHEMA)


def test_an_expression_that_overflows_is_one_bad_event():
    """Arithmetic that overflows in one line spoils that line alone."""
    records = rows(30)
    records[7]["clicks"] = 2**62
    schema = EventSchema(("user",), ("age",), "clicks*4>0", ("ms",))
    source = from_bytes(lines(records), schema)
    assert len(read_all(source)) == 29
    assert source.rejects.counts == {"bad_type": 1}
    assert not np.isnan(read_all(from_bytes(lines(records[:7]), schema)).label).any()
