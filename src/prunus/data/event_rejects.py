"""What is no event, or no longer one: counted by name, and set aside in a file or refused."""

from __future__ import annotations

import errno
import json
import math
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from prunus.errors import DataError, EventError, OutputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from io import RawIOBase

Bad = Literal["set-aside", "refuse"]
"""What becomes of a row that is no event: it is counted and set aside, or it ends the run with an error."""

BAD_JSON = "bad_json"
BAD_TYPE = "bad_type"
BAD_TIME = "bad_time"
BAD_LABEL = "bad_label"
BAD_DENSE = "bad_dense"
BAD_ID = "bad_id"
BAD_FILE = "bad_file"
REASONS: dict[str, str] = {
    BAD_JSON: "not a JSON object; expected one a line",
    BAD_TYPE: "of a type that cannot be used; expected numbers, and integers or strings as ids",
    BAD_TIME: "without a time, or one that does not fit 64 bits; expected one in every event",
    BAD_LABEL: "without a label, or one that is neither 0 nor 1; expected an expression such as clicks>0",
    BAD_DENSE: "with an infinite dense value; expected finite float32 values, or none where missing",
    BAD_ID: "with an id of more than 1,024 bytes; expected a name, not a document",
    BAD_FILE: "a file that cannot be read, or that appeared before those already read; expected rising names",
}
"""Why a row is no event, for messages and docs."""


class Rejects:
    """Counts what is set aside, and keeps it in a file of one JSON object a line.

    Args:
        bad: whether a row that is no event is set aside, or refused with an error.
        path: the file; None counts only. One that is there is begun anew with the first row, unless :meth:`load` goes on
            with it.

    Attributes:
        counts: how many, by name, in the order of their first appearance.

    Raises:
        DataError: ``bad`` is unknown.
    """

    def __init__(self, bad: Bad = "refuse", path: Path | str | None = None) -> None:
        if bad not in get_args(Bad):
            msg = f"got bad={bad!r}; expected one of {', '.join(map(repr, get_args(Bad)))}"
            raise DataError(msg)
        self.bad = bad
        self.path = None if path is None else Path(path)
        self.counts: dict[str, int] = {}
        self._length = 0

    def count(self, name: str, n: int = 1) -> None:
        """Count without keeping."""
        if n:
            self.counts[name] = self.counts.get(name, 0) + n

    def refuse(self, reason: str, where: Mapping[str, Any], row: Mapping[str, Any]) -> None:
        """Take a row that is no event.

        Args:
            reason: one of :data:`REASONS`.
            where: its place in the source.
            row: what it held.

        Raises:
            EventError: rows that are no events are refused.
            OutputError: the file cannot be written.
        """
        if self.bad == "refuse":
            place = ", ".join(f"{name} {value}" for name, value in where.items())
            shown = _text(row)
            shown = shown if len(shown) <= 300 else shown[:300] + " ..."
            msg = f"{place}: an event {REASONS[reason]}; got {shown}; set such events aside, or mend the source"
            raise EventError(msg)
        self.set_aside([{"reason": reason, **where, "held": row}])

    def set_aside(self, records: list[dict[str, Any]]) -> None:
        """Count records by their ``reason``, and write them to the file.

        A disk that is full ends no stream: what it does not take is counted as ``set_aside_lost``.

        Raises:
            OutputError: the file cannot be written for another reason.
        """
        for record in records:
            self.count(record["reason"])
        if self.path is None or not records:
            return
        text = "".join(_text(record) + "\n" for record in records).encode("utf-8")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab", buffering=0) as file:
                if file.tell() > self._length:  # of a run that died before its first checkpoint
                    file.truncate(self._length)
                _write(file, text, self._length)
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                self.count("set_aside_lost", len(records))
                return
            msg = f"{self.path}: cannot be written ({error.strerror}); expected room for events that are set aside"
            raise OutputError(msg) from error
        self._length += len(text)

    def state(self) -> dict[str, Any]:
        """Give what :meth:`load` reads."""
        return {"counts": dict(self.counts), "length": self._length}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a state: what was written to the file after it is cut off, as it will be written again.

        Args:
            state: what :meth:`state` gave.
        """
        self.counts = dict(state["counts"])
        if self.path is not None and self.path.exists():
            os.truncate(self.path, min(self.path.stat().st_size, state["length"]))
            self._length = self.path.stat().st_size


def _write(file: RawIOBase, text: bytes, at: int) -> None:
    """Append all of a text, or nothing."""
    left = memoryview(text)
    try:
        while left:
            left = left[file.write(left) or 0 :]
    except OSError:
        with suppress(OSError):
            file.truncate(at)
        raise


def _text(record: Any) -> str:  # noqa: ANN401 - whatever a row held
    """Write strict JSON of whatever a row held."""
    try:
        return json.dumps(_finite(record), default=str, allow_nan=False)
    except RecursionError:
        rest = {name: value for name, value in record.items() if isinstance(value, int | str)}
        return json.dumps(rest | {"held": "is nested too deeply to be shown"})


def _finite(value: Any) -> Any:  # noqa: ANN401 - whatever a row held
    """Replace the numbers that JSON cannot write by their names."""
    if isinstance(value, dict):
        return {str(name): _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
