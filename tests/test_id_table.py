"""Ids get rows, keep them and lose them by the rules alone: against a slow twin, over random batches."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunus.data.id_table import IdTable
from prunus.errors import DataError, SchemaError

batches = st.lists(st.lists(st.integers(0, 25), max_size=12), max_size=25)


def keys_of(batch):
    """Give a batch as uint64."""
    return np.array(batch, np.uint64)


def run(table, steps, first=0):
    """Feed batches; return rows and fresh rows of each."""
    return [tuple(part.tolist() for part in table.observe(keys_of(batch), first + i)) for i, batch in enumerate(steps)]


@given(batches, st.integers(1, 30), st.integers(1, 4), st.one_of(st.none(), st.integers(1, 20)))
def test_rows_are_consistent(steps, capacity, admit_after, expire_after):
    """Every id in the table has one row of its own in range, batch after batch, and lookup tells what observe told."""
    table = IdTable(capacity, admit_after, expire_after)
    owner = {}
    for i, batch in enumerate(steps):
        keys = keys_of(batch)
        rows, fresh = table.observe(keys, i)
        assert rows.dtype == fresh.dtype == np.int32
        assert np.array_equal(table.lookup(keys), rows)
        assert (rows[keys == 0] == 0).all()
        assert len(set(fresh.tolist())) == len(fresh)
        for key, row in zip(batch, rows.tolist(), strict=True):
            if row:
                # A row changes hands only when it is announced, and an id keeps its row.
                assert row in fresh or owner.get(row) == key
        owner |= {row: key for key, row in zip(batch, rows.tolist(), strict=True) if row}
        held, places = table.snapshot()
        assert (np.diff(held.astype(object)) > 0).all()
        assert len(set(places.tolist())) == len(places) == len(table) <= capacity
        assert not len(places) or (places.min() >= 1 and places.max() < table.n_rows)
        assert np.array_equal(table.lookup(held), places)


@given(batches, st.integers(1, 4))
def test_admitted_when_seen_often_enough(steps, admit_after):
    """In a table with room for all, an id has a row exactly from the batch on in which its count gets there."""
    table, counts = IdTable(100, admit_after), {}
    for i, batch in enumerate(steps):
        had = {key for key, count in counts.items() if count >= admit_after}
        for key in batch:
            counts[key] = counts.get(key, 0) + 1
        rows, fresh = table.observe(keys_of(batch), i)
        assert [row > 0 for row in rows] == [key > 0 and counts[key] >= admit_after for key in batch]
        assert len(fresh) == len({key for key in batch if key and counts[key] >= admit_after} - had)


@given(batches, st.integers(1, 12))
def test_the_longest_unseen_goes_first(steps, capacity):
    """With every id admitted at once, the table holds the ids seen last, whole batches at a time."""
    table, last = IdTable(capacity, admit_after=1), {}
    for i, batch in enumerate(steps):
        before = set(table.snapshot()[0].tolist())
        table.observe(keys_of(batch), i)
        last |= dict.fromkeys(set(batch) - {0}, i)
        held = set(table.snapshot()[0].tolist())
        gone = before - held
        assert len(held) == min(capacity, len(before | (set(batch) - {0})))
        assert all(last[key] < i for key in gone)
        stayed = [last[key] for key in before & held]
        assert not gone or not stayed or max(last[key] for key in gone) <= min(stayed)


def test_expiry():
    """An id that was not seen for longer than expire_after loses its row within an eighth more, and starts anew."""
    table = IdTable(10, admit_after=2, expire_after=80)
    table.observe(keys_of([7, 7, 8, 8]), 0)
    for step in range(1, 80):
        table.observe(keys_of([8]), step)
    assert table.lookup(keys_of([7, 8])).tolist() == [1, 2]
    for step in range(80, 92):
        table.observe(keys_of([8]), step)
    assert table.lookup(keys_of([7, 8])).tolist() == [0, 2]
    assert table.observe(keys_of([7]), 92)[0].tolist() == [0]
    rows, fresh = table.observe(keys_of([7]), 93)
    assert rows.tolist() == fresh.tolist() == [1]


def test_rare_ids_are_forgotten_in_generations():
    """Memory for ids that wait is bounded by two generations, and the last capacity of them are never forgotten."""
    capacity = 50
    table = IdTable(capacity, admit_after=2)
    for key in range(1, 1021):
        table.observe(keys_of([key]), key)
        assert len(table._counts) + len(table._older) <= 2 * capacity
    rows, _ = table.observe(keys_of(range(1020 - capacity + 1, 1021)), 2000)
    assert (rows > 0).all()
    assert (table.observe(keys_of([1, 2, 3]), 2001)[0] == 0).all()


@given(batches, st.data())
def test_a_state_goes_on_as_if_nothing_had_been(steps, data):
    """Split anywhere: a new table with the state of the old gives the same rows for ever."""
    capacity, expire = data.draw(st.integers(1, 20)), data.draw(st.one_of(st.none(), st.integers(1, 9)))
    split = data.draw(st.integers(0, len(steps)))
    whole, first, second = (IdTable(capacity, 2, expire) for _ in range(3))
    expected = run(whole, steps)
    assert run(first, steps[:split]) == expected[:split]
    second.load(first.state())
    assert run(second, steps[split:], split) == expected[split:]
    for one, other in zip(second.snapshot(), whole.snapshot(), strict=True):
        assert np.array_equal(one, other)
    second.observe(keys_of([1] * 5), 1000)
    assert run(first, steps[split:], split) == expected[split:]


def test_what_is_refused():
    """Arguments out of range, falling steps, and a state of another table are named errors."""
    for wrong in ({"capacity": 0}, {"capacity": 5, "admit_after": 0}, {"capacity": 5, "expire_after": 0}):
        with pytest.raises(DataError, match="expected 1 or more"):
            IdTable(**wrong)
    table = IdTable(5)
    table.observe(keys_of([1]), 3)
    with pytest.raises(DataError, match="step 2 after 3"):
        table.observe(keys_of([1]), 2)
    with pytest.raises(SchemaError, match="expected \\[6, 2, None\\]"):
        IdTable(6).load(table.state())
