"""Rows of an embedding table for ids that come and go: admitted by frequency, expired when unseen for long."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from prunus.errors import DataError, SchemaError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

UNKNOWN = 0
"""The row of every id that has none of its own: unknown, not yet admitted, expired, missing."""


class IdTable:
    """Gives the ids of one field rows of an embedding table.

    An id gets a row of its own once it was seen ``admit_after`` times. What was seen less often is counted exactly, in
    two generations of at most ``capacity`` ids each: when the younger is full the older is forgotten, so an id may be
    forgotten only when at least ``capacity`` others were counted since it was last seen. When all rows are taken, a new
    id gets the row of the id that has been unseen for longest, but never that of an id seen in the same step; where there
    is no such row, it goes on waiting. All of it depends on the batches alone.

    Args:
        capacity: rows for ids of their own; row 0 comes on top.
        admit_after: times that an id must be seen, 1 or more.
        expire_after: an id that was last seen more than so many steps ago loses its row, at the latest an eighth of that
            later; None keeps it until the row is needed. The unit is that of ``step`` in :meth:`observe` (events,
            batches, seconds).

    Raises:
        DataError: an argument is out of range.
    """

    def __init__(self, capacity: int, admit_after: int = 2, expire_after: int | None = None) -> None:
        if not (1 <= capacity < 1 << 31 and admit_after >= 1 and (expire_after is None or expire_after >= 1)):
            msg = (
                f"got capacity={capacity}, admit_after={admit_after}, expire_after={expire_after}; expected 1 or more of"
                " each, and a capacity below 2^31"
            )
            raise DataError(msg)
        self.capacity, self.admit_after, self.expire_after = capacity, admit_after, expire_after
        self._clear()

    def _clear(self) -> None:
        self._row_of: dict[int, int] = {}
        self._keys = np.zeros(self.n_rows, np.uint64)
        self._last_seen = np.zeros(self.n_rows, np.int64)
        self._used = np.zeros(self.n_rows, np.bool_)
        # Rows that were given back, the next to be used last; after them the rows from _next up, never used yet.
        self._free: list[int] = []
        self._next = 1
        self._counts: dict[int, int] = {}
        self._older: dict[int, int] = {}
        # (row, when last seen) of candidates for the next victim, the oldest last.
        self._oldest: list[tuple[int, int]] = []
        self._step = self._next_sweep = -(1 << 63)

    @property
    def n_rows(self) -> int:
        """Rows of the embedding table, the unknown row among them."""
        return self.capacity + 1

    def __len__(self) -> int:
        return len(self._row_of)

    def lookup(self, keys: NDArray[np.uint64]) -> NDArray[np.int32]:
        """Give the row of each id, without counting it.

        Args:
            keys: uint64 [n], hashes of ids; 0 is a missing id.

        Returns:
            int32 [n], 0 where the id has no row.
        """
        row_of = self._row_of
        return np.fromiter([row_of.get(key, UNKNOWN) for key in keys.tolist()], np.int32, len(keys))

    def observe(self, keys: NDArray[np.uint64], step: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Count the ids of a batch, admit those seen often enough, and expire those unseen for long.

        Args:
            keys: uint64 [n], hashes of ids; 0 is a missing id.
            step: when; does not fall from call to call.

        Returns:
            The row of each id, int32 [n], as it is now; and the rows that were given to a new id now, int32 [m], rising:
            what the embedding table holds there belongs to nobody and must be reset.

        Raises:
            DataError: ``step`` fell.
        """
        if step < self._step:
            msg = f"got step {step} after {self._step}; expected steps that do not fall"
            raise DataError(msg)
        self._step = step
        rows = self.lookup(keys)
        # Before anything expires: an id of this batch is alive.
        self._last_seen[rows] = step
        if self.expire_after is not None and step >= self._next_sweep:
            self._release(np.flatnonzero(self._used & (self._last_seen < step - self.expire_after)).tolist())
            self._next_sweep = step + max(1, self.expire_after // 8)
        unseen = np.flatnonzero((rows == UNKNOWN) & (keys != 0))
        if not len(unseen):
            return rows, np.zeros(0, np.int32)
        # In the order of first appearance, so that of ids that compete for the last rows the first wins.
        distinct, first, place, times = np.unique(
            keys[unseen], return_index=True, return_inverse=True, return_counts=True
        )
        given = np.zeros(len(distinct), np.int32)
        order = np.argsort(first)
        for i, key, count in zip(order.tolist(), distinct[order].tolist(), times[order].tolist(), strict=True):
            if self._count(key, count) >= self.admit_after:
                given[i] = self._admit(key, step)
        rows[unseen] = given[place]
        return rows, np.sort(given[given != UNKNOWN])

    def snapshot(self) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
        """Give all ids that have a row, for a model that is to serve.

        Returns:
            keys, uint64 [m], rising, and the row of each, int32 [m].
        """
        rows = np.flatnonzero(self._used)
        order = rows[np.argsort(self._keys[rows])]
        return self._keys[order], order.astype(np.int32)

    def state(self) -> dict[str, Any]:
        """Give all that :meth:`load` needs to go on as if nothing had been: numbers, and arrays by name."""
        return {
            "settings": [self.capacity, self.admit_after, self.expire_after],
            "step": self._step,
            "next_sweep": self._next_sweep,
            "keys": self._keys[: self._next].copy(),
            "last_seen": self._last_seen[: self._next].copy(),
            "used": self._used[: self._next].copy(),
            "free": np.array(self._free, np.int64),
            "oldest": np.array(self._oldest, np.int64).reshape(-1, 2),
            **{
                name: np.array([list(counts), list(counts.values())], np.uint64)
                for name, counts in (("counts", self._counts), ("older", self._older))
            },
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a state.

        Args:
            state: what :meth:`state` gave, of a table of the same settings.

        Raises:
            SchemaError: the settings differ.
        """
        own = [self.capacity, self.admit_after, self.expire_after]
        if list(state["settings"]) != own:
            msg = f"a table of (capacity, admit_after, expire_after) = {state['settings']}; expected {own}"
            raise SchemaError(msg)
        self._clear()
        self._step, self._next_sweep = int(state["step"]), int(state["next_sweep"])
        self._next = len(state["keys"])
        for name in ("keys", "last_seen", "used"):
            getattr(self, f"_{name}")[: self._next] = state[name]
        rows = np.flatnonzero(self._used)
        self._row_of = dict(zip(self._keys[rows].tolist(), rows.tolist(), strict=True))
        self._free = state["free"].tolist()
        self._oldest = [(row, seen) for row, seen in state["oldest"].tolist()]
        self._counts, self._older = (dict(zip(*state[name].tolist(), strict=True)) for name in ("counts", "older"))

    def _count(self, key: int, count: int) -> int:
        """Add to the count of an id without a row; return what it is now."""
        count += self._counts.get(key, 0) or self._older.pop(key, 0)
        if self.admit_after > 1:
            if len(self._counts) >= self.capacity and key not in self._counts:
                self._counts, self._older = {}, self._counts
            self._counts[key] = count
        return count

    def _admit(self, key: int, step: int) -> int:
        if not self._free and self._next > self.capacity:
            self._evict()
        if self._free:
            row = self._free.pop()
        elif self._next <= self.capacity:
            row = self._next
            self._next += 1
        else:
            return UNKNOWN
        self._counts.pop(key, None)
        self._row_of[key] = row
        self._keys[row], self._last_seen[row], self._used[row] = key, step, True
        return row

    def _release(self, rows: list[int]) -> None:
        for row in rows:
            del self._row_of[int(self._keys[row])]
            self._used[row] = False
        self._free += rows

    def _evict(self) -> None:
        """Free the row that was unseen for longest, unless all were seen in this step."""
        for again in (False, True):
            if again:
                # Sorting all rows for each victim would be slow. Whatever is not among these was seen no earlier, so
                # the first one that is still as old as it was is as old as any.
                order = 1 + np.argsort(self._last_seen[1:], kind="stable")[: self.capacity // 8 + 1]
                self._oldest = [*zip(order.tolist(), self._last_seen[order].tolist(), strict=True)][::-1]
            while self._oldest:
                row, seen = self._oldest.pop()
                if self._last_seen[row] == seen < self._step:
                    self._release([row])
                    return
