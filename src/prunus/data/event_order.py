"""The order in which events are learned: late ones, repeated ones, and labels that come after their event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from prunus.data.event_rejects import Bad, Rejects
from prunus.data.event_waiting import Clicks, Recent, Waiting
from prunus.data.events import Events, EventSchema
from prunus.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from prunus.data.event_sources import EventSource

Late = Literal["use", "set-aside"]
"""What becomes of an event that comes later than the tolerance allows."""

_LONGEST = 1 << 62
_FIRST, _LAST = np.iinfo(np.int64).min, np.iinfo(np.int64).max


class Ordered:
    """Puts the events of a source in order; is itself a source.

    With t_i the time of the i-th arrival, the watermark before it is m_i = max over j < i of t_j - tolerance.

    - An event waits until the watermark reaches its time, so events that are late by at most the tolerance are learned in
      the order of their times (equal times as they came). With a tolerance of 0 nobody waits.
    - An event with t_i < m_i is late. It is counted, and learned next, or set aside.
    - A row is a duplicate where one of the ``duplicates`` arrivals before it had its key. It is counted and left out.
    - With ``join``, a row without a label is an event and a row with one is the answer to the event of its key. The event
      waits until the watermark has reached its time + join, and is then learned as a click if a row of its key said so
      until then (or came up to ``join`` before it), else as none. Answers of 0 say nothing new; answers to no event that
      waits are counted.
    - Where only a share r of the negatives was kept in the stream, each event gets the offset -log r.

    All of it depends on the order of arrival alone, not on how many events are asked for at a time.

    Args:
        source: where events come from. Its rejects and whether its labels come later are set here.
        tolerance: in units of :attr:`Events.time`, 0 or more.
        late: what becomes of late events.
        duplicates: arrivals that are remembered; 0 for none. Needs a key.
        join: how long a label may take, in units of time; None where events carry theirs. Needs a key.
        negatives: r, the share of negatives that was kept, above 0 and up to 1.
        bad: whether rows that are no events are set aside or refused.
        set_aside: a file for what is set aside, one JSON object a line; None counts only.

    Attributes:
        schema: what each column is.
        rejects: what was set aside.

    Raises:
        DataError: an argument is out of range, or a key is needed.
    """

    def __init__(
        self,
        source: EventSource,
        *,
        tolerance: int = 0,
        late: Late = "use",
        duplicates: int = 0,
        join: int | None = None,
        negatives: float = 1.0,
        bad: Bad = "set-aside",
        set_aside: Path | str | None = None,
    ) -> None:
        waits = 0 <= tolerance <= _LONGEST and 0 <= (join or 0) <= _LONGEST
        if not (waits and late in get_args(Late) and duplicates >= 0 and 0 < negatives <= 1):
            msg = (
                f"got tolerance={tolerance}, late={late!r}, duplicates={duplicates}, join={join}, negatives={negatives};"
                f" expected 0 or more (times up to 2^62), late one of {', '.join(get_args(Late))}, negatives in (0, 1]"
            )
            raise DataError(msg)
        if (duplicates or join is not None) and not source.schema.key:
            msg = "duplicates and labels that come later are known by a key; expected columns that make one (--key)"
            raise DataError(msg)
        self._source = source
        self.schema: EventSchema = source.schema
        self.rejects = source.rejects = Rejects(bad, set_aside)
        self.labels_later = False
        source.labels_later = join is not None
        self._tolerance, self._late, self._duplicates, self._join = tolerance, late, duplicates, join
        self._offset = np.float32(-np.log(negatives))
        self._clear()

    @property
    def counts(self) -> dict[str, int]:
        """How many events, late events, duplicates, labels and rows of each bad kind there were, by name."""
        return self.rejects.counts

    def _clear(self) -> None:
        self._newest: int | None = None
        self._recent = Recent(self._duplicates)
        self._waiting = Waiting(self.schema)
        self._clicks = Clicks(self._join or 0)
        self._ready = Events.empty(self.schema)

    def read(self, n: int) -> Events | None:
        """Give the next events in order; see :meth:`prunus.data.event_sources.EventSource.read`."""
        ended = False
        while len(self._ready) < n and not ended:
            arrived = self._source.read(n - len(self._ready))
            ended = arrived is None
            if arrived is not None and not len(arrived):
                break
            if arrived is not None:
                self._arrive(arrived)
            self._release(ended=ended)
        if ended and not len(self._ready):
            return None
        given, self._ready = self._ready.take(slice(0, n)), self._ready.take(slice(n, None))
        self.rejects.count("events", len(given))
        return given

    def position(self) -> dict[str, Any]:
        """Say where the source stands; events that were read and wait are in :meth:`state`."""
        return self._source.position()

    def seek(self, position: Mapping[str, Any]) -> None:
        """Put the source somewhere, with nothing waiting; :meth:`load` brings back what was."""
        self._source.seek(position)
        self._clear()

    def commit(self, position: Mapping[str, Any]) -> None:
        """Pass on what a checkpoint holds; see :meth:`prunus.data.event_sources.EventSource.commit`."""
        self._source.commit(position)

    def set_aside(self, events: Events, reason: str, *, kept: bool = True) -> None:
        """Count events that are not learned from, and write them to the file.

        Args:
            events: as read, ids hashed.
            reason: under which they are counted.
            kept: whether they are written.
        """
        if not kept:
            self.rejects.count(reason, len(events))
            return
        names = ("time", "ids", "dense", "label", "key")
        columns = [getattr(events, name).tolist() for name in names]
        self.rejects.set_aside(
            [{"reason": reason, "event": dict(zip(names, row, strict=True))} for row in zip(*columns, strict=True)]
        )

    def state(self) -> dict[str, Any]:
        """Give what :meth:`load` needs beside the position: numbers, and arrays by name."""
        return {
            "newest": self._newest,
            "recent": self._recent.state(),
            "waiting": self._waiting.state(),
            "clicks": self._clicks.state(),
            "ready": self._ready.arrays(),
            "rejects": self.rejects.state(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a state, after :meth:`seek` to the position of the same moment.

        Args:
            state: what :meth:`state` gave, of the same settings.
        """
        self._newest = state["newest"]
        self._recent.load(state["recent"])
        self._waiting.load(state["waiting"])
        self._clicks.load(state["clicks"])
        self._ready = Events(**state["ready"])
        self.rejects.load(state["rejects"])

    def _arrive(self, events: Events) -> None:
        """Take arrivals in; what is to be learned waits."""
        before = np.maximum.accumulate(np.append(_FIRST if self._newest is None else self._newest, events.time))
        self._newest = int(before[-1])
        # Times near the lowest would wrap round.
        watermark = np.maximum(before[:-1], _FIRST + self._tolerance) - self._tolerance
        answers = np.zeros(len(events), np.bool_) if self._join is None else ~np.isnan(events.label)
        stays = np.ones(len(events), np.bool_)
        if self._duplicates:
            stays = self._recent.first_seen(events.key ^ answers.astype(np.uint64))
            self.rejects.count("duplicate", int(len(stays) - stays.sum()))
        late = (events.time < watermark) & stays & ~answers
        if self._late == "set-aside":
            self.set_aside(events.take(late), "late")
            stays &= ~late
        else:
            self.rejects.count("late", int(late.sum()))
        due = np.maximum(events.time, watermark)
        if self._join is not None:
            told = answers & stays & (events.label == 1)
            self.rejects.count("labels_unmatched", int((told & (events.key == 0)).sum()))
            told &= events.key != 0
            self._clicks.add(events.key[told], due[told], watermark[told])
            stays &= ~answers
        if not stays.all():
            events, due, watermark = events.take(stays), due[stays], watermark[stays]
        self._waiting.add(events, due, watermark)

    def _release(self, *, ended: bool) -> None:
        """Let go whom the watermark has reached, or everybody."""
        watermark = _FIRST if self._newest is None else max(self._newest - self._tolerance, _FIRST)
        events, due, arrived = self._waiting.until(_LAST if ended else watermark - (self._join or 0))
        if self._join is not None:
            label, joined = self._clicks.answer(events.key, due, arrived)
            events = Events(**(events.arrays() | {"label": label}))
            self.rejects.count("labels_joined", joined)
            unclaimed = self._clicks.forget(None if ended else self._waiting.earliest(watermark))
            self.rejects.count("labels_unmatched", unclaimed)
        if self._offset:
            events = Events(**(events.arrays() | {"offset": events.offset + self._offset}))
        self._ready = Events.concat([self._ready, events]) if len(self._ready) else events
