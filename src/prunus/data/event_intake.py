"""Columns and records become events, row by row; what cannot is named with its reason."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from prunus.data.event_rejects import BAD_DENSE, BAD_ID, BAD_JSON, BAD_LABEL, BAD_TIME, BAD_TYPE
from prunus.data.events import Events, EventSchema, combine_hashes, hash_column, pack_times
from prunus.data.tables import to_float
from prunus.errors import ColumnError, DataError
from prunus.extras import need

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

MAX_ID_BYTES = 1024


@dataclass(frozen=True, eq=False)
class Chunk:
    """Rows in the order of their arrival, taken apart into events and rows that are none.

    Attributes:
        events: the events.
        rows: int64 [n_events], the row of each, rising.
        bad: (row, reason, what it held) of rows that are no events, rising; rows that ``where`` leaves out are in neither.
        n_rows: rows in all.
        position: the position of the source after so many rows of the chunk.
    """

    events: Events
    rows: NDArray[np.int64]
    bad: Sequence[tuple[int, str, Mapping[str, Any]]]
    n_rows: int
    position: Callable[[int], dict[str, Any]] = field(repr=False)


@dataclass(frozen=True)
class Intake:
    """Turns rows into events.

    Attributes:
        schema: what each column is.
        labels_later: whether a missing label is one that comes later, in a row of its own.
    """

    schema: EventSchema
    labels_later: bool = False

    @cached_property
    def _parsed(self) -> tuple[Any, Any, Any]:
        where = None if self.schema.where is None else self.schema.expression("where")
        return self.schema.expression("label"), self.schema.times(), where

    def columns(self, columns: Mapping[str, Any], n_rows: int) -> tuple[Events, NDArray[np.int64], dict[int, str]]:
        """Turn columns into events.

        Args:
            columns: pyarrow arrays of one length, at least those that the schema names.
            n_rows: that length.

        Returns:
            The events, the row of each (int64, rising), and the reason of each row that is none.

        Raises:
            ColumnError: a column is of a type that cannot be used.
            ExpressionError: an expression does not fit the types of its columns.
        """
        schema = self.schema
        label_of, times_of, where = self._parsed
        reasons = np.zeros(n_rows, np.int8)
        times = [_whole_numbers(one.evaluate(columns), one.text) for one in times_of]
        time, fits = pack_times([values for values, _ in times])
        _note(reasons, BAD_TIME, ~fits)
        for _, there in times:
            _note(reasons, BAD_TIME, ~there)
        label = to_float(label_of.evaluate(columns), np.float64, label_of)
        usable: NDArray[np.bool_] = np.isin(label, (0, 1))
        if self.labels_later:
            usable |= np.isnan(label)
        _note(reasons, BAD_LABEL, ~usable)
        dense = np.empty((n_rows, len(schema.dense)), np.float32)
        for j, name in enumerate(schema.dense):
            dense[:, j] = to_float(columns[name], np.float32, name)
        infinite: NDArray[np.bool_] = np.isinf(dense)
        if infinite.any():
            _note(reasons, BAD_DENSE, np.asarray(infinite.any(axis=1)))
        ids = np.empty((n_rows, len(schema.id_fields)), np.uint64)
        for j, name in enumerate(schema.id_fields):
            ids[:, j] = self._hashes(columns, name, reasons)
        key = np.zeros(n_rows, np.uint64)
        if schema.key:
            key = combine_hashes(np.column_stack([self._hashes(columns, name, reasons) for name in schema.key]))
        chosen = np.ones(n_rows, np.bool_)
        if where is not None:
            chosen = where.mask(columns).to_numpy(zero_copy_only=False)
        rows = np.flatnonzero(chosen & (reasons == 0))
        bad = {int(row): _REASONS[reasons[row]] for row in np.flatnonzero(chosen & (reasons != 0))}
        if infinite.any():
            dense[infinite] = np.nan
        events = Events(ids, dense, np.where(usable, label, 0).astype(np.float32), time, key=key)
        return events if len(rows) == n_rows else events.take(rows), rows, bad

    def records(self, records: Sequence[Any]) -> tuple[Events, NDArray[np.int64], dict[int, str]]:
        """Turn records into events; types may differ from record to record, and what does not fit is named.

        Args:
            records: what JSON gave; anything but a dict is :data:`BAD_JSON`.

        Returns:
            As :meth:`columns`.
        """
        bad = {row: BAD_JSON for row, record in enumerate(records) if not isinstance(record, dict)}
        rows = [row for row in range(len(records)) if row not in bad]
        values = {name: [records[row].get(name) for row in rows] for name in self.schema.columns}
        wrong = {place for name in values for place in _wrong_types(values[name], name in self.schema.dense)}
        bad.update((rows[place], BAD_TYPE) for place in wrong)
        dense = self.schema.dense
        whole = np.array(rows, np.int64)

        def make(places: Sequence[int]) -> dict[str, Any]:
            return {
                name: _floats(column, places) if name in dense else _array([column[i] for i in places])
                for name, column in values.items()
            }

        parts: list[tuple[Events, NDArray[np.int64]]] = []
        for group in _groups([values[name] for name in values if name not in dense], len(rows), wrong):
            for events, at, why in self._halves(make, group):
                parts.append((events, whole[at]))
                bad.update((rows[place], reason) for place, reason in why.items())
        return *self._join(parts), bad

    def rows(self, columns: Mapping[str, Any], n_rows: int) -> tuple[Events, NDArray[np.int64], dict[int, str]]:
        """Turn columns of types that were checked into events: a value on which an expression fails spoils its row alone.

        Args:
            columns: as :meth:`columns`.
            n_rows: as :meth:`columns`.

        Returns:
            As :meth:`columns`.
        """
        try:
            return self.columns(columns, n_rows)
        except DataError:
            found = list(self._halves(lambda part: _sliced(columns, part), range(n_rows)))
        return *self._join([part[:2] for part in found]), {row: why for _, _, bad in found for row, why in bad.items()}

    def _halves(
        self, make: Callable[[Sequence[int]], Mapping[str, Any]], places: Sequence[int]
    ) -> Iterator[tuple[Events, NDArray[np.int64], dict[int, str]]]:
        """Turn places into events together; where that fails, each half on its own, down to the one that is to blame."""
        pa = need("pyarrow", extra="io")
        try:
            events, rows, bad = self.columns(make(places), len(places))
        except (DataError, pa.ArrowException, ValueError, OverflowError):
            if len(places) == 1:
                yield Events.empty(self.schema), np.zeros(0, np.int64), {places[0]: BAD_TYPE}
                return
            middle = len(places) // 2
            yield from self._halves(make, places[:middle])
            yield from self._halves(make, places[middle:])
            return
        yield events, np.array(places, np.int64)[rows], {places[row]: reason for row, reason in bad.items()}

    def _join(self, parts: Sequence[tuple[Events, NDArray[np.int64]]]) -> tuple[Events, NDArray[np.int64]]:
        """Put parts together in the order of their rows."""
        if not parts:
            return Events.empty(self.schema), np.zeros(0, np.int64)
        joined, at = Events.concat([one for one, _ in parts]), np.concatenate([one for _, one in parts])
        order = np.argsort(at)
        return joined.take(order), at[order]

    def _hashes(self, columns: Mapping[str, Any], name: str, reasons: NDArray[np.int8]) -> NDArray[np.uint64]:
        try:
            hashes = hash_column(columns[name])
        except ColumnError as error:
            msg = f"column {name!r}: {error}"
            raise ColumnError(msg) from error
        _note(reasons, BAD_ID, _too_long(columns[name]))
        return hashes


_REASONS = ("", BAD_TYPE, BAD_TIME, BAD_LABEL, BAD_DENSE, BAD_ID)


def _note(reasons: NDArray[np.int8], reason: str, rows: NDArray[np.bool_]) -> None:
    """Give rows a reason, unless they have one."""
    reasons[rows & (reasons == 0)] = _REASONS.index(reason)


def _whole_numbers(column: Any, text: str) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:  # noqa: ANN401 - pyarrow
    """Turn a column of time into int64 [n], and tell where there is one."""
    pa, pc = need("pyarrow", extra="io"), need("pyarrow.compute", extra="io")
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        column = pa.array(_moments(column), pa.int64())
    if pa.types.is_date(column.type) or pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("us", getattr(column.type, "tz", None)), safe=False).cast(pa.int64())
    if pa.types.is_integer(column.type):
        there = column.is_valid().to_numpy(zero_copy_only=False)
        values = pc.fill_null(column, 0).to_numpy(zero_copy_only=False)
        there &= values <= np.iinfo(np.int64).max
        return values.astype(np.int64), there
    if pa.types.is_floating(column.type) or pa.types.is_null(column.type):
        numbers = np.floor(to_float(column, np.float64, text))
        there = np.abs(numbers) < 2.0**63
        return np.where(there, numbers, 0).astype(np.int64), there
    msg = f"--time {text!r} is {kind}; expected numbers, timestamps, dates or ISO 8601 strings"
    raise ColumnError(msg)


def _moments(column: Any) -> list[int | None]:  # noqa: ANN401 - pyarrow
    """Read ISO 8601 strings, with a zone or (then of UTC) without: microseconds since 1970, None for what is no time."""
    pa = need("pyarrow", extra="io")
    for zone in ("UTC", None):
        try:
            found: list[int | None] = column.cast(pa.timestamp("us", zone)).cast(pa.int64()).to_pylist()
        except pa.ArrowException:
            continue
        return found
    return [None] if len(column) == 1 else [one for i in range(len(column)) for one in _moments(column.slice(i, 1))]


def _too_long(column: Any) -> NDArray[np.bool_]:  # noqa: ANN401 - pyarrow
    pa, pc = need("pyarrow", extra="io"), need("pyarrow.compute", extra="io")
    if pa.types.is_dictionary(column.type):
        long = np.append(_too_long(column.dictionary), False)
        found: NDArray[np.bool_] = long[pc.fill_null(column.indices.cast("int64"), -1).to_numpy(zero_copy_only=False)]
        return found
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return np.zeros(len(column), np.bool_)
    length = pc.fill_null(pc.binary_length(column), 0).to_numpy(zero_copy_only=False)
    return np.asarray(length > MAX_ID_BYTES)


_PLAIN = (int, float, str, bool, type(None))
_NUMBERS = (int, float, bool, type(None))


def _wrong_types(values: list[Any], is_dense: bool) -> list[int]:
    allowed = _NUMBERS if is_dense else _PLAIN
    if set(map(type, values)).issubset(allowed):
        return []
    return [place for place, value in enumerate(values) if type(value) not in allowed]


def _groups(columns: list[list[Any]], n_rows: int, wrong: set[int]) -> list[list[int]]:
    """Part the rows so that in each part every column is of one type; a missing value goes with any."""
    mixed = [(column, kinds) for column in columns if len(kinds := set(map(type, column)) - {type(None)}) > 1]
    parts: dict[tuple[type, ...], list[int]] = {}
    for row in range(n_rows):
        if row not in wrong:
            # A missing value joins the first type by name, whatever came first: parts depend on nothing but values.
            found = tuple(
                min(kinds, key=lambda kind: kind.__name__) if column[row] is None else type(column[row])
                for column, kinds in mixed
            )
            parts.setdefault(found, []).append(row)
    return list(parts.values())


def _sliced(columns: Mapping[str, Any], rows: Sequence[int]) -> dict[str, Any]:
    """Cut a stretch of rows out of columns."""
    return {name: column.slice(rows[0], len(rows)) for name, column in columns.items()}


def _array(values: list[Any]) -> Any:  # noqa: ANN401 - pyarrow
    """Make an array of values of one type; integers too large for int64 may be uint64."""
    pa = need("pyarrow", extra="io")
    try:
        return pa.array(values)
    except OverflowError:
        return pa.array(values, pa.uint64())


def _floats(values: list[Any], places: Sequence[int]) -> Any:  # noqa: ANN401 - pyarrow
    pa = need("pyarrow", extra="io")
    return pa.array(np.array([np.nan if values[i] is None else values[i] for i in places], np.float64))
