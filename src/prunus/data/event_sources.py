"""Sources of events: files of columns that are there or still come, and lines of JSON."""

from __future__ import annotations

import glob
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from prunus.data.event_intake import Chunk, Intake
from prunus.data.event_rejects import BAD_FILE, Rejects
from prunus.data.events import Events, EventSchema
from prunus.data.frames import Table, open_table
from prunus.data.select import require
from prunus.errors import DataError, ParseError
from prunus.extras import need

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


class EventSource(Protocol):
    """What a stream is read from. Nothing needs to be derived from this.

    Attributes:
        schema: what each column is.
        rejects: what becomes of rows that are no events.
        labels_later: whether a missing label is one that comes later, in a row of its own, and is NaN.
    """

    schema: EventSchema
    rejects: Rejects
    labels_later: bool

    def read(self, n: int) -> Events | None:
        """Give the next events, in the order of their arrival.

        Args:
            n: how many, 1 or more.

        Returns:
            n events; fewer only at the end, or where no more have come yet (none at all where nothing has come: ask
            again later); None when the stream has ended for ever.
        """

    def position(self) -> dict[str, Any]:
        """Say in JSON where the source stands: after the last event that :meth:`read` returned."""

    def seek(self, position: Mapping[str, Any]) -> None:
        """Stand where a source of the same settings stood: what is read next is what it would have read next, bit by bit.

        Args:
            position: what :meth:`position` gave.

        Raises:
            DataError: there is no such place.
        """

    def commit(self, position: Mapping[str, Any]) -> None:
        """Tell whoever keeps account of readers elsewhere that a checkpoint holds this position."""


class ChunkedSource(ABC):
    """Reads chunk by chunk, and hands out as many events as are asked for; rows that are none are told as they are passed.

    Args:
        schema: what each column is.
        rejects: what becomes of rows that are no events; None refuses them with an error.
    """

    def __init__(self, schema: EventSchema, rejects: Rejects | None = None) -> None:
        self.schema = schema
        self.rejects = rejects or Rejects()
        self.intake = Intake(schema)
        self._forget()

    @property
    def labels_later(self) -> bool:
        """Whether a missing label is one that comes later."""
        return self.intake.labels_later

    @labels_later.setter
    def labels_later(self, later: bool) -> None:
        self.intake = Intake(self.schema, later)

    @abstractmethod
    def _next_chunk(self) -> Chunk | None:
        """Give the next rows, at least one; a chunk of none where nothing has come yet, None at the end."""

    @abstractmethod
    def _start(self) -> dict[str, Any]:
        """Give the position before the next chunk."""

    @abstractmethod
    def seek(self, position: Mapping[str, Any]) -> None:
        """Stand where a source of the same settings stood; see :meth:`EventSource.seek`."""

    def commit(self, position: Mapping[str, Any]) -> None:  # noqa: B027 - nothing to do for most
        """Do nothing: nobody keeps account; see :meth:`EventSource.commit`."""

    def _forget(self) -> None:
        self._chunk: Chunk | None = None
        self._given = self._row = self._told = 0

    def read(self, n: int) -> Events | None:
        """Give the next events; see :meth:`EventSource.read`."""
        parts: list[Events] = []
        missing = n
        while missing:
            chunk = self._chunk
            if chunk is None or self._given == len(chunk.events):
                if chunk is not None:
                    self._pass(chunk, chunk.n_rows)
                following = self._next_chunk()
                if following is None and not parts:
                    return None
                if following is None or not following.n_rows:
                    break
                self._forget()
                self._chunk = following
                continue
            last = min(self._given + missing, len(chunk.events))
            parts.append(chunk.events.take(slice(self._given, last)))
            missing -= last - self._given
            self._given = last
            self._pass(chunk, int(chunk.rows[last - 1]) + 1)
        return Events.concat(parts) if parts else Events.empty(self.schema)

    def position(self) -> dict[str, Any]:
        """Say where the source stands; see :meth:`EventSource.position`."""
        return self._start() if self._chunk is None else self._chunk.position(self._row)

    def _pass(self, chunk: Chunk, row: int) -> None:
        """Tell of the rows up to ``row`` that are no events."""
        self._row = row
        while self._told < len(chunk.bad) and chunk.bad[self._told][0] < row:
            at, reason, content = chunk.bad[self._told]
            self._told += 1
            self.rejects.refuse(reason, chunk.position(at), content)


class StoredEvents:
    """Events that are there already, as a source.

    Args:
        events: the events, in the order of their arrival.
        schema: what each column is.
    """

    def __init__(self, events: Events, schema: EventSchema) -> None:
        self.schema, self.rejects, self.labels_later = schema, Rejects(), False
        self._events, self._next = events, 0

    def read(self, n: int) -> Events | None:
        """Give the next events; see :meth:`EventSource.read`."""
        first, self._next = self._next, min(self._next + n, len(self._events))
        return None if first == len(self._events) else self._events.take(slice(first, self._next))

    def position(self) -> dict[str, Any]:
        """Say where the source stands; see :meth:`EventSource.position`."""
        return {"event": self._next}

    def seek(self, position: Mapping[str, Any]) -> None:
        """Stand where a source of the same events stood; see :meth:`EventSource.seek`."""
        if not 0 <= position["event"] <= len(self._events):
            msg = f"got event {position['event']} of {len(self._events)}; expected one of these events"
            raise DataError(msg)
        self._next = int(position["event"])

    def commit(self, position: Mapping[str, Any]) -> None:
        """Do nothing: nobody keeps account; see :meth:`EventSource.commit`."""


class ParquetSource(ChunkedSource):
    """Events from Parquet files (or CSV), one after the other, their rows as they stand.

    Files are read in the order of the arguments, those of one glob or folder in the order of their names. A folder
    stands for the files ``*.parquet`` in it.

    A follower looks for more files whenever it has read all there are. Their names must rise, as dates and numbers of
    fixed width do: one that appears before a file that was already begun is never read, and told as ``bad_file``, also
    where it came while nobody was looking: a position names the files before its own. The last
    file may still be half written and is tried again; a damaged one before it is told as ``bad_file`` too.

    Args:
        paths: files, globs and folders.
        schema: what each column is.
        follow: whether files are still to come; the source then never ends.
        rejects: what becomes of rows that are no events; None refuses them with an error.

    Raises:
        DataError: no file is there.
        ColumnError: a file lacks a column, or has it in a type that cannot be used.
        ExpressionError: an expression does not fit the columns.
        ParseError: a file is damaged.
    """

    def __init__(
        self,
        paths: Sequence[str | Path] | str | Path,
        schema: EventSchema,
        *,
        follow: bool = False,
        rejects: Rejects | None = None,
    ) -> None:
        super().__init__(schema, rejects)
        self.paths = [str(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
        self.follow = follow
        self._file: tuple[int, str] | None = None
        self._first_row = 0
        self._batches: Iterator[dict[str, Any]] = iter(())
        self._late: list[tuple[int, str]] = []
        self._known = set(self._listing())
        if not self._known and not follow:
            msg = f"{', '.join(self.paths) or 'no path'}: no file matches; expected at least one"
            raise DataError(msg)
        if self._known:
            # A column that is not there is told now, not after hours.
            self._open(min(self._known)[1])

    def seek(self, position: Mapping[str, Any]) -> None:
        """Stand where a source of the same paths stood; see :meth:`EventSource.seek`."""
        self._forget()
        self._known = set(self._listing())
        self._batches, self._first_row, self._file, self._late = iter(()), int(position["row"]), None, []
        if position["file"] is None:
            return
        self._file = (int(position["argument"]), str(position["file"]))
        if self._file not in self._known:
            msg = (
                f"{position['file']}: is not there; expected the file in which the stream stopped, under the same name"
            )
            raise DataError(msg)
        before = {(int(place), str(file)) for place, file in position["before"]}
        self._late = sorted(file for file in self._known - before if file < self._file)
        table = self._open(self._file[1])
        if table.n_rows < self._first_row:
            msg = f"{table.name}: has {table.n_rows} rows; expected {self._first_row}, which were read before"
            raise DataError(msg)
        self._batches = table.batches(self.schema.columns, self._first_row)

    def position(self) -> dict[str, Any]:
        """Say where the source stands, and which files came before; see :meth:`EventSource.position`."""
        before = self._known.difference(self._late)
        return super().position() | {"before": sorted(list(one) for one in before if self._file and one < self._file)}

    def _start(self) -> dict[str, Any]:
        argument, file = self._file or (0, None)
        return {"argument": argument, "file": file, "row": self._first_row}

    def _next_chunk(self) -> Chunk | None:
        self._tell_late()
        while True:
            for columns in self._batches:
                if len(next(iter(columns.values()))):
                    return self._chunk_of(columns)
            table = self._following()
            if table is not None:
                self._first_row, self._batches = 0, table.batches(self.schema.columns)
            elif self.follow:
                return Chunk(Events.empty(self.schema), np.zeros(0, np.int64), (), 0, lambda _: self._start())
            else:
                return None

    def _chunk_of(self, columns: dict[str, Any]) -> Chunk:
        n_rows = len(next(iter(columns.values())))
        argument, file = self._file or (0, None)
        first = self._first_row
        self._first_row += n_rows

        def place(row: int) -> dict[str, Any]:
            return {"argument": argument, "file": file, "row": first + row}

        events, rows, why = self.intake.rows(columns, n_rows)
        bad = [(row, why[row], {name: one[row].as_py() for name, one in columns.items()}) for row in sorted(why)]
        return Chunk(events, rows, bad, n_rows, place)

    def _following(self) -> Table | None:
        """Open the next file; None where there is none yet."""
        if self.follow:
            listing = set(self._listing())
            self._late = sorted(file for file in listing - self._known if self._file is not None and file < self._file)
            self._known |= listing
            self._tell_late()
        ahead = sorted(file for file in self._known if self._file is None or file > self._file)
        for file in ahead:
            try:
                table = self._open(file[1])
            except ParseError:
                if not self.follow:
                    raise
                if file == ahead[-1]:
                    return None
                self.rejects.refuse(BAD_FILE, {"file": file[1]}, {})
                self._file = file
            else:
                self._file = file
                return table
        return None

    def _tell_late(self) -> None:
        """Tell of files that came before one that was already begun."""
        while self._late:
            self.rejects.refuse(BAD_FILE, {"file": self._late[0][1]}, {})
            del self._late[0]

    def _open(self, file: str) -> Table:
        """Open a file whose columns have the types that the schema needs."""
        pa = need("pyarrow", extra="io")
        table = open_table(file)
        for name, (role, option) in _roles(self.schema).items():
            require(name, table.names, role, option, table.name)
        self.intake.columns({name: pa.array([], table.schema.field(name).type) for name in self.schema.columns}, 0)
        return table

    def _listing(self) -> Iterator[tuple[int, str]]:
        """Yield (place of the argument, file)."""
        for place, path in enumerate(self.paths):
            if Path(path).is_dir():
                hits = [str(hit) for hit in Path(path).glob("*.parquet") if not hit.name.startswith((".", "_"))]
            elif glob.has_magic(path) and not Path(path).exists():
                hits = glob.glob(path, recursive=True)  # noqa: PTH207 - absolute globs
            else:
                hits = [path] if Path(path).exists() or not self.follow else []
            yield from ((place, hit) for hit in hits)


def _roles(schema: EventSchema) -> dict[str, tuple[str, str]]:
    """Say of each column what it is for, and by which option it was named."""
    roles = {
        ("label", "--label"): schema.expression("label").names,
        ("time", "--time"): [name for one in schema.times() for name in one.names],
        ("ids", "--ids"): schema.id_fields,
        ("dense features", "--dense"): schema.dense,
        ("key", "--key"): schema.key,
        ("selection", "--where"): () if schema.where is None else schema.expression("where").names,
    }
    return {name: role for role, names in reversed(roles.items()) for name in names}
