"""Order, duplicates and labels that come later follow the stated rules: against a slow twin, at any split."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from event_streams import SCHEMA, assert_resumes, assert_same, read_all
from prunus.data.event_order import Ordered
from prunus.data.event_sources import StoredEvents
from prunus.data.events import Events, EventSchema
from prunus.errors import DataError

NAN = float("nan")


def stored(times, labels, keys):
    """Make a source; the dense value of each event is its place among the arrivals."""
    n = len(times)
    dense = np.column_stack([np.arange(n), np.zeros(n)])
    events = Events(np.ones((n, 2)), dense, np.array(labels, float), np.array(times, np.int64), key=np.array(keys))
    return StoredEvents(events, SCHEMA)


def twin(arrivals, tolerance, late, duplicates, join):
    """Follow the rules by the letter, one arrival at a time; give (place, label) in order, and the counts."""
    counts = dict.fromkeys(("late", "duplicate", "labels_joined", "labels_unmatched"), 0)
    learned, waiting, clicks, seen = [], [], [], []
    newest = -(10**30)

    def release(upto):
        for due, place, key, arrived, label in sorted(one for one in waiting if one[0] <= upto):
            waiting.remove((due, place, key, arrived, label))
            given = label
            if join is not None:
                given = 0
                for click in clicks:
                    if click[0] == key and click[2] - join < due and click[1] + join >= arrived:
                        given = 1
                        clicks.remove(click)
                        counts["labels_joined"] += 1
                        break
            learned.append((place, given))

    for place, (time, label, key) in enumerate(arrivals):
        mark = newest - tolerance
        newest = max(newest, time)
        is_answer = join is not None and label == label  # noqa: PLR0124 - not NaN
        repeats = (
            duplicates and key and (key, is_answer) in seen[len(seen) - duplicates if len(seen) > duplicates else 0 :]
        )
        seen.append((key, is_answer))
        is_late = time < mark and not repeats and not is_answer
        counts["duplicate"] += bool(repeats)
        counts["late"] += is_late
        if is_answer and label and not repeats:
            if key:
                clicks.append((key, max(time, mark), mark))
            else:
                counts["labels_unmatched"] += 1
        elif not repeats and not is_answer and not (is_late and late == "set-aside"):
            waiting.append((max(time, mark), place, key, mark, label))
        release(newest - tolerance - (join or 0))
    release(10**30)
    counts["labels_unmatched"] += len(clicks)
    return learned, {name: n for name, n in counts.items() if n}


@st.composite
def streams(draw):
    """Draw arrivals that are roughly in order, with repeated keys, and settings."""
    join = draw(st.one_of(st.none(), st.integers(0, 12)))
    labels = st.sampled_from([0.0, 1.0] if join is None else [NAN, NAN, 0.0, 1.0])
    steps = draw(st.lists(st.tuples(st.integers(-6, 8), labels, st.sampled_from([0, 8, 10, 12, 14, 16])), max_size=40))
    time, arrivals = 0, []
    for step, label, key in steps:
        time += step
        arrivals.append((time, label, key))
    return arrivals, {
        "tolerance": draw(st.integers(0, 9)),
        "late": draw(st.sampled_from(["use", "set-aside"])),
        "duplicates": draw(st.integers(0, 6)),
        "join": join,
    }


def at_the_edge(click):
    """Let a click come just when the watermark has passed its event by the join, or just before."""
    rules = {"tolerance": 0, "late": "use", "duplicates": 0, "join": 5}
    return [(0, NAN, 8), (click, NAN, 10), (click, 1.0, 8)], rules


@settings(max_examples=150)
@given(streams(), st.integers(1, 9))
@example(at_the_edge(5), 9)
@example(at_the_edge(4), 9)
def test_the_rules_are_followed(stream, n):
    """What is learned, in which order and with which label, and the counts are those of the slow twin, however read."""
    arrivals, rules = stream
    source = Ordered(
        stored(*(list(part) for part in zip(*arrivals, strict=True)) if arrivals else ([], [], [])), **rules
    )
    events = read_all(source, n)
    learned, counts = twin(arrivals, **rules)
    assert list(zip(events.dense[:, 0].tolist(), events.label.tolist(), strict=True)) == learned
    assert events.time.tolist() == [arrivals[place][0] for place, _ in learned]
    assert source.counts == counts | ({"events": len(learned)} if learned else {})
    assert not np.isnan(events.label).any()


@settings(max_examples=40)
@given(streams(), st.integers(1, 9))
def test_any_split_goes_on_the_same(stream, n):
    """From position and state at any moment, a new source gives the same batches and counts."""
    arrivals, rules = stream
    columns = [list(part) for part in zip(*arrivals, strict=True)] if arrivals else [[], [], []]

    def give(source, point):
        source.seek(json.loads(json.dumps(point[0])))
        source.load(point[1])

    batches = assert_resumes(
        lambda: Ordered(stored(*columns), **rules), n, lambda source: (source.position(), source.state()), give
    )
    assert all(len(batch) == n for batch in batches[:-1])


def test_backward_times_of_a_real_log_are_not_lost(data_dir):
    """The 101 backward steps of a day of the real click log: all used as they come, or put in order within a second."""
    pq = pytest.importorskip("pyarrow.parquet")
    path = data_dir / "globo_ltr" / "valid.parquet"
    if not path.exists():
        pytest.skip("globo_ltr is not among the data")
    times = pq.read_table(path, columns=["timestamp_ms"])["timestamp_ms"].to_numpy()
    n, late = len(times), int((times < np.maximum.accumulate(times)).sum())
    assert (n, (np.diff(times) < 0).sum()) == (99_999, 101)
    assert late > 101
    schema = EventSchema(("a",), (), "y", ("t",))
    events = Events(np.zeros((n, 1)), np.zeros((n, 0)), np.zeros(n), times, key=np.arange(1, n + 1))
    as_they_came = Ordered(StoredEvents(events, schema))
    assert_same(read_all(as_they_came, 100_000), events)
    assert as_they_came.counts == {"late": late, "events": n}
    in_order = Ordered(StoredEvents(events, schema), tolerance=1000)
    assert_same(read_all(in_order, 50_000), events.take(np.argsort(times, kind="stable")))
    assert in_order.counts == {"events": n}
    strict = Ordered(StoredEvents(events, schema), late="set-aside")
    assert len(read_all(strict, 100_000)) == n - late
    assert strict.counts == {"late": late, "events": n - late}


def test_sampled_negatives_shift_the_odds():
    """With a share r of the negatives kept, a model whose logit is that of all data is right on the sample with -log r."""
    rng = np.random.default_rng(3)
    p, r = 0.02, 0.1
    y = rng.random(400_000) < p
    kept = y | (rng.random(len(y)) < r)
    n = int(kept.sum())
    source = Ordered(stored(np.arange(n), y[kept], np.zeros(n, int)), negatives=r)
    events = read_all(source, n)
    sampled = 1 / (1 + np.exp(-(np.log(p / (1 - p)) + events.offset.astype(float))))
    assert events.label.mean() == pytest.approx(sampled.mean(), rel=0.03)
    assert not read_all(Ordered(stored([1], [0], [0]))).offset.any()


def test_late_events_are_set_aside_whole(tmp_path):
    """The file of what is set aside holds all that a late event held, in strict JSON."""
    aside = tmp_path / "aside.jsonl"
    source = stored([5, 1], [0, 1], [8, 10])
    source._events.dense[1, 1] = NAN
    assert len(read_all(Ordered(source, late="set-aside", set_aside=aside))) == 1
    (line,) = aside.read_text().splitlines()
    event = {"time": 1, "ids": [1, 1], "dense": [1.0, "nan"], "label": 1.0, "key": 10}
    assert json.loads(line) == {"reason": "late", "event": event}


def test_clicks_without_an_event_are_forgotten():
    """What clicks on nothing take up stays bounded, and each is counted in the end."""
    n = 20_000
    labels = np.where(np.arange(n) % 2, 1.0, NAN)
    source = Ordered(stored(np.arange(n), labels, np.arange(8, n + 8)), join=50)
    most = 0
    while source.read(100) is not None:
        most = max(most, len(source._clicks._of_key))
    assert source.counts == {"labels_unmatched": n // 2, "events": n // 2}
    assert most < 1200


def test_times_at_the_ends_of_the_range():
    """The lowest and the highest time that there is do not wrap round."""
    ends = [-(2**63), 2**63 - 1, 0, -(2**63), 2**63 - 1]
    for rules in ({}, {"tolerance": 10}, {"tolerance": 2**62, "join": 5}, {"tolerance": 1, "join": 2**62}):
        labels = [NAN if "join" in rules else 0] * 5
        events = read_all(Ordered(stored(ends, labels, [8, 9, 10, 11, 12]), **rules))
        learned, _ = twin(
            [(time, NAN, 1) for time in ends],
            **({"late": "use", "tolerance": 0, "duplicates": 0, "join": None} | rules),
        )
        assert events.dense[:, 0].tolist() == [place for place, _ in learned], rules


def test_what_is_refused():
    """Rules out of range, and rules that need a key where there is none, are named errors."""
    for wrong in (
        {"tolerance": -1},
        {"tolerance": 2**63},
        {"late": "drop"},
        {"duplicates": -1},
        {"join": -1},
        {"negatives": 0.0},
        {"negatives": 1.5},
        {"bad": "ignore"},
    ):
        with pytest.raises(DataError, match="expected"):
            Ordered(stored([1], [0], [8]), **wrong)
    source = stored([1], [0], [8])
    source.schema = EventSchema(("a",), (), "y", ("t",))
    for wrong in ({"duplicates": 5}, {"join": 5}):
        with pytest.raises(DataError, match="--key"):
            Ordered(source, **wrong)
