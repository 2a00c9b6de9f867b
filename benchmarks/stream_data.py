"""The streams of benchmarks/stream.py: batches as a learner reads them, prepared once and kept on disk."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from prunus.data.events import Events, hash_column
from prunus.data.id_table import IdTable
from prunus.data.synthetic_stream import drifting_events
from prunus.online.inputs import Inputs
from prunus.online.learner import Prepared
from prunus.student.normalise import RunningNormaliser

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

REAL = ("globo_ltr", "nycflights13")
DRIFTS = ("none", "abrupt", "gradual", "recurring", "new-ids")
GENERATED = 200_000
BATCH = 512
CAPACITY = 40_000
"""Ids of a field that can have an embedding; none of the streams has more that were seen twice."""


@dataclass(frozen=True)
class Stream:
    """A stream in batches.

    Attributes:
        batches: all of it, a last short batch left out.
        rows: rows of each id field's embedding table.
    """

    batches: list[Prepared]
    rows: tuple[int, ...]

    @property
    def n_dense(self) -> int:
        """Dense features."""
        return self.batches[0].z.shape[1]


def load(name: str, seed: int, data: Path, work: Path) -> Stream:
    """Read a prepared stream, or prepare it.

    Args:
        name: one of REAL or DRIFTS.
        seed: of a generated stream; a real one has none.
        data: folder of the real sets.
        work: where prepared streams are kept.
    """
    file = work / f"stream-{name}-{seed if name in DRIFTS else 0}.pt"
    if not file.exists():
        events = drifting_events(name, GENERATED, seed).events if name in DRIFTS else _real(name, data)
        part = file.with_suffix(f".{os.getpid()}.part")  # other processes may want the same stream
        torch.save(_prepare(events), part)
        part.rename(file)
    kept = torch.load(file, weights_only=True)
    batches = []
    for number, fresh in enumerate(kept["fresh"]):
        here = slice(number * BATCH, (number + 1) * BATCH)
        z, rows, label = kept["z"][here], kept["rows"][here].long(), kept["label"][here]
        batches.append(Prepared(z, rows, label, torch.zeros(BATCH), tuple(fresh)))
    return Stream(batches, tuple(kept["n_rows"]))


def _prepare(events: Events) -> dict[str, object]:
    """Test-then-train order: a batch is prepared by what came before it, then observed."""
    inputs = Inputs([IdTable(CAPACITY) for _ in range(events.ids.shape[1])], RunningNormaliser(events.dense.shape[1]))
    parts = []
    for start in range(0, len(events) - BATCH + 1, BATCH):
        batch = events.take(slice(start, start + BATCH))
        parts.append(inputs.prepare(batch))
        inputs.observe(batch, start + BATCH)
    rows = torch.cat([part.rows for part in parts])
    return {
        "z": torch.cat([part.z for part in parts]),
        "rows": rows.to(torch.int32),
        "label": torch.cat([part.label for part in parts]),
        "fresh": [list(part.fresh) for part in parts],
        "n_rows": [
            1 + int(max(column.max(), *(p.fresh[i].max() if len(p.fresh[i]) else 0 for p in parts)))
            for i, column in enumerate(rows.T)
        ],
    }


def _real(name: str, data: Path) -> Events:
    return _globo(data / name) if name == "globo_ltr" else _flights(data / name)


def _globo(folder: Path) -> Events:
    """Rows of consecutive days as they stand: a click on a candidate, 44 features, the candidate and the last article."""
    table = pa.concat_tables([pq.read_table(folder / f"{part}.parquet") for part in ("train", "valid", "test")])
    floats = [field.name for field in table.schema if field.type == pa.float32()]
    ids = [hash_column(table[name].combine_chunks()) for name in ("article_id", "last_article_id")]
    time = table["timestamp_ms"].to_numpy()
    return _events(ids, [table[name].to_numpy() for name in floats], table["label"].to_numpy() > 0, time)


def _flights(folder: Path) -> Events:
    """Flights that landed, by day: late or not, from what is known when the doors close but for the delay."""
    table = pq.read_table(folder / "flights.parquet")
    table = table.filter(pa.compute.greater_equal(table["label_late"], 0))
    clock = table["dep_time"].to_numpy().astype(np.float64)
    hour = clock // 100 + clock % 100 / 60
    weekday = table["day_of_week"].to_numpy()
    dense = [hour, np.sin(hour * np.pi / 12), np.cos(hour * np.pi / 12)]
    dense += [table[name].to_numpy().astype(np.float64) for name in ("distance", "month", "day", "day_of_week")]
    dense += [(weekday == day).astype(np.float64) for day in range(7)]
    names = ("carrier", "tailnum", "flight", "origin", "dest")
    ids = [hash_column(table[name].combine_chunks()) for name in names]
    time = table["month"].to_numpy().astype(np.int64) * 100 + table["day"].to_numpy()
    return _events(ids, dense, table["label_late"].to_numpy() == 1, time)


def _events(
    ids: list[NDArray[np.uint64]], dense: list[NDArray[np.generic]], label: NDArray[np.bool_], time: NDArray[np.int64]
) -> Events:
    columns = np.column_stack(dense).astype(np.float32)
    return Events(np.column_stack(ids), columns, label.astype(np.float32), time)
