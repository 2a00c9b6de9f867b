"""What a stream holds back: events that wait for their turn, keys seen of late, clicks that wait for their event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from prunus.data.events import Events, EventSchema

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


class Waiting:
    """Events sorted by the time at which they are due, equals by arrival.

    Events stay in the runs in which they came until they are due, as copying them with each arrival would cost more than
    all the rest.

    Args:
        schema: what each column is.
    """

    def __init__(self, schema: EventSchema) -> None:
        self._schema = schema
        self._runs: dict[int, Events] = {}
        self._left: dict[int, int] = {}
        self._next_run = 0
        self._due = np.zeros(0, np.int64)
        self._arrived = np.zeros(0, np.int64)
        # The run of each in the upper half, its row in the lower.
        self._place = np.zeros(0, np.int64)

    def add(self, events: Events, due: NDArray[np.int64], arrived: NDArray[np.int64]) -> None:
        """Let events wait.

        Args:
            events: the events, in the order of their arrival.
            due: int64 [n], when.
            arrived: int64 [n], the watermark when they came.
        """
        if not len(events):
            return
        run, self._next_run = self._next_run, self._next_run + 1
        self._runs[run], self._left[run] = events, len(events)
        due, arrived = np.concatenate([self._due, due]), np.concatenate([self._arrived, arrived])
        place = np.concatenate([self._place, (run << 32) + np.arange(len(events))])
        order = np.argsort(due, kind="stable")
        self._due, self._arrived, self._place = due[order], arrived[order], place[order]

    def until(self, time: int) -> tuple[Events, NDArray[np.int64], NDArray[np.int64]]:
        """Take out the events that are due up to a time, in order; give when each was due, and when it arrived."""
        k = int(np.searchsorted(self._due, max(time, np.iinfo(np.int64).min), side="right"))
        due, arrived, place = self._due[:k], self._arrived[:k], self._place[:k]
        self._due, self._arrived, self._place = self._due[k:], self._arrived[k:], self._place[k:]
        events = self._gather(place)
        runs, taken = np.unique(place >> 32, return_counts=True)
        for run, n in zip(runs.tolist(), taken.tolist(), strict=True):
            self._left[run] -= n
            if not self._left[run]:
                del self._left[run], self._runs[run]
        return events, due, arrived

    def earliest(self, otherwise: int) -> int:
        """Give the lowest watermark at which one of those who wait arrived, or another number if that is lower."""
        return min(int(self._arrived.min()), otherwise) if len(self._arrived) else otherwise

    def _gather(self, place: NDArray[np.int64]) -> Events:
        if not len(place):
            return Events.empty(self._schema)
        order = np.argsort(place, kind="stable")
        parts, (runs, heads) = [], np.unique(place[order] >> 32, return_index=True)
        for run, rows in zip(runs.tolist(), np.split(order, heads[1:]), strict=True):
            parts.append(self._runs[run].take(place[rows] & 0xFFFFFFFF))
        together = Events.concat(parts)
        return together if (np.diff(order) == 1).all() else together.take(np.argsort(order, kind="stable"))

    def state(self) -> dict[str, Any]:
        """Give what :meth:`load` reads."""
        return {"due": self._due, "arrived": self._arrived, "events": self._gather(self._place).arrays()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Let wait who waited."""
        self.__init__(self._schema)  # type: ignore[misc]  # begin anew
        self.add(Events(**state["events"]), state["due"], state["arrived"])


class Recent:
    """Keys of the last arrivals.

    Args:
        window: how many arrivals are remembered.
    """

    def __init__(self, window: int) -> None:
        self._window = window
        self._arrivals = self._begun = 0
        # When each key came last; all that can matter are in the last two stretches of so many arrivals.
        self._young: dict[int, int] = {}
        self._old: dict[int, int] = {}

    def first_seen(self, keys: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Tell which arrivals do not repeat a key of the window before them; 0 and 1 are keys of nobody."""
        found = np.ones(len(keys), np.bool_)
        for place, key in enumerate(keys.tolist()):
            if self._arrivals - self._begun >= self._window:
                self._young, self._old, self._begun = {}, self._young, self._arrivals
            if key > 1:
                last = self._young.get(key, self._old.get(key, -1 - self._window))
                found[place] = self._arrivals - last > self._window
                self._young[key] = self._arrivals
            self._arrivals += 1
        return found

    def state(self) -> dict[str, Any]:
        """Give what :meth:`load` reads."""
        tables = {
            name: np.array([list(table), list(table.values())], np.uint64)
            for name, table in (("young", self._young), ("old", self._old))
        }
        return {"arrivals": self._arrivals, "begun": self._begun, **tables}

    def load(self, state: Mapping[str, Any]) -> None:
        """Remember what was remembered."""
        self._arrivals, self._begun = state["arrivals"], state["begun"]
        self._young, self._old = (dict(zip(*state[name].tolist(), strict=True)) for name in ("young", "old"))


class Clicks:
    """Clicks that wait for their event, or their event for them.

    Args:
        join: how long a click counts, before and after its event.
    """

    def __init__(self, join: int) -> None:
        self._join = join
        # (when, watermark at its arrival) of the clicks of each key.
        self._of_key: dict[int, list[tuple[int, int]]] = {}
        self._many = 1024

    def add(self, keys: NDArray[np.uint64], times: NDArray[np.int64], arrived: NDArray[np.int64]) -> None:
        """Note clicks: their keys, when they were, and the watermark when they came."""
        for key, when, mark in zip(keys.tolist(), times.tolist(), arrived.tolist(), strict=True):
            self._of_key.setdefault(key, []).append((when, mark))

    def answer(
        self, keys: NDArray[np.uint64], due: NDArray[np.int64], arrived: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], int]:
        """Give events their labels; a click answers one event.

        Args:
            keys: uint64 [n], of events that are learned now, in order.
            due: int64 [n], the time up to which each was early.
            arrived: int64 [n], the watermark when it came.

        Returns:
            float32 [n], 0 or 1, and how many clicks were used.
        """
        label = np.zeros(len(keys), np.float32)
        waiting = self._of_key
        for place in [place for place, key in enumerate(keys.tolist()) if key in waiting]:
            key = int(keys[place])
            clicks = waiting.get(key, [])
            for click in clicks:
                # It came before its event was let go, and its event before it was forgotten.
                if click[1] - self._join < due[place] and click[0] + self._join >= arrived[place]:
                    label[place] = 1
                    clicks.remove(click)
                    break
            if not clicks:
                waiting.pop(key, None)
        return label, int(label.sum())

    def forget(self, watermark: int | None) -> int:
        """Drop clicks that no event can claim that arrives, or arrived, from a watermark on; now and then, as it is slow.

        Args:
            watermark: None drops all.

        Returns:
            How many were dropped.
        """
        if watermark is not None and len(self._of_key) < self._many:
            return 0
        kept: dict[int, list[tuple[int, int]]] = {}
        dropped = 0
        for key, clicks in self._of_key.items():
            alive = [click for click in clicks if watermark is not None and click[0] + self._join >= watermark]
            dropped += len(clicks) - len(alive)
            if alive:
                kept[key] = alive
        self._of_key, self._many = kept, max(1024, 2 * len(kept))
        return dropped

    def state(self) -> dict[str, Any]:
        """Give what :meth:`load` reads."""
        rows = [(key, *click) for key, clicks in self._of_key.items() for click in clicks]
        return {
            "many": self._many,
            "keys": np.array([row[0] for row in rows], np.uint64),
            "clicks": np.array([row[1:] for row in rows], np.int64).reshape(-1, 2),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Remember the clicks that were remembered."""
        self._of_key, self._many = {}, int(state["many"])
        self.add(state["keys"], state["clicks"][:, 0], state["clicks"][:, 1])
