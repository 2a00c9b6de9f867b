"""Events to what a learner reads: rows of ids and normalised dense features, both by what came before the batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from prunus.online.learner import Prepared

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from prunus.data.events import Events
    from prunus.data.id_table import IdTable
    from prunus.student.normalise import RunningNormaliser


class Inputs:
    """Id tables and normaliser of a stream.

    A batch is first prepared by what the batches before it left, then, when it was predicted and learned from, observed.
    A row that a new id got is told with the next batch: until then no batch is looked up in it.

    Args:
        tables: one for each id field.
        normaliser: of the dense features.

    Attributes:
        tables: the id tables.
        normaliser: the normaliser.
    """

    def __init__(self, tables: Sequence[IdTable], normaliser: RunningNormaliser) -> None:
        self.tables = tuple(tables)
        self.normaliser = normaliser
        self._fresh = [np.empty(0, np.int32) for _ in self.tables]

    def prepare(self, events: Events) -> Prepared:
        """Give a batch as a learner reads it.

        Args:
            events: of as many ids as there are tables.
        """
        rows = np.empty((len(events), len(self.tables)), np.int64)
        for field, table in enumerate(self.tables):
            rows[:, field] = table.lookup(events.ids[:, field])
        return Prepared(
            z=torch.from_numpy(self.normaliser.transform(events.dense)),
            rows=torch.from_numpy(rows),
            label=torch.from_numpy(events.label.copy()),
            offset=torch.from_numpy(events.offset.copy()),
            fresh=tuple(torch.from_numpy(rows.astype(np.int64)) for rows in self._fresh),
        )

    def observe(self, events: Events, seen: int) -> None:
        """Count ids and learn the features' spread from a batch that was predicted and learned from.

        Args:
            events: the batch.
            seen: events of the stream up to its end, the clock by which ids expire.
        """
        self._fresh = [table.observe(events.ids[:, field], seen)[1] for field, table in enumerate(self.tables)]
        self.normaliser.observe(events.dense)

    def state(self) -> dict[str, Any]:
        """Give what a checkpoint needs."""
        return {
            "tables": [table.state() for table in self.tables],
            "normaliser": self.normaliser.state(),
            "fresh": list(self._fresh),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        for table, one in zip(self.tables, state["tables"], strict=True):
            table.load(one)
        self.normaliser.load(state["normaliser"])
        self._fresh = list(state["fresh"])
