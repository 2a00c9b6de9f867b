"""Events as lines of JSON, from a file, a file that grows, or a pipe."""

from __future__ import annotations

import json
import sys
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from prunus.data.event_intake import Chunk
from prunus.data.event_sources import ChunkedSource
from prunus.data.events import Events, EventSchema
from prunus.data.text import open_text
from prunus.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from prunus.data.event_rejects import Rejects

MAX_LINE_BYTES = 1 << 20
"""A longer line is no event; it is passed over without being held."""
_BLOCK = 1 << 18
_SHOWN = 1000


class JsonSource(ChunkedSource):
    """Reads chunks of JSON objects; where they come from is said by who derives from it."""

    def _chunk_of(self, texts: Sequence[bytes | None], position: Callable[[int], dict[str, Any]]) -> Chunk:
        """Turn texts into a chunk; None is a text that was too long."""
        records = [_parse(text) for text in texts]
        events, rows, why = self.intake.records(records)
        bad = [
            (row, why[row], records[row] if isinstance(records[row], dict) else {"text": _shown(texts[row])})
            for row in sorted(why)
        ]
        return Chunk(events, rows, bad, len(texts), position)

    def _nothing(self) -> Chunk:
        return Chunk(Events.empty(self.schema), np.zeros(0, np.int64), (), 0, lambda _: self._start())


class JsonLinesSource(JsonSource):
    """Events from lines of JSON objects, one an event; blank lines are passed over.

    A field that is absent or null is missing. From a pipe, events are handed out as soon as as many are there as were
    asked for. The position counts bytes (of what comes out of gzip), so a pipe is to be fed from the beginning again.

    Args:
        source: a file (also gzip), ``"-"`` for standard input, or an open binary stream.
        schema: what each field is.
        follow: whether more lines may still be written to the end; the source then never ends, and a last line without a
            line feed waits for the rest.
        rejects: what becomes of lines that are no events; None refuses them with an error.

    Raises:
        DataError: the file cannot be opened.
    """

    def __init__(
        self,
        source: str | Path | BinaryIO,
        schema: EventSchema,
        *,
        follow: bool = False,
        rejects: Rejects | None = None,
    ) -> None:
        super().__init__(schema, rejects)
        self.follow = follow
        self.name = str(source) if isinstance(source, str | Path) else "the stream"
        self._stream: Any = source
        if str(source) == "-":
            self._stream = sys.stdin.buffer
        elif isinstance(source, str | Path):
            self._stream = open_text(Path(source))
            # A source has no other end than that of its last user.
            weakref.finalize(self, self._stream.close)
        self._stand(0, 0)

    def seek(self, position: Mapping[str, Any]) -> None:
        """Stand where a source of the same file stood; see :meth:`EventSource.seek`."""
        self._forget()
        byte = int(position["byte"])
        if self._stream.seekable():
            self._stream.seek(max(byte - 1, 0))
        else:
            self._discard(byte - 1 - self._byte - len(self._pending))
        last = self._stream.read(1) if byte else b"\n"
        if last != b"\n" and (not last or self._stream.read(1)):
            msg = f"{self.name}: no line ends at byte {byte}; expected the file that was read before, whole or longer"
            raise DataError(msg)
        self._stand(byte, int(position["line"]))

    def _discard(self, n_bytes: int) -> None:
        """Read on over what was read before, in a stream that cannot be put anywhere."""
        if n_bytes < -1 or (n_bytes < 0 and self._byte):
            msg = f"{self.name}: cannot go back in a pipe; expected a new one, fed from the beginning"
            raise DataError(msg)
        while n_bytes > 0:
            passed = len(self._stream.read(min(n_bytes, _BLOCK)))
            if not passed:
                break
            n_bytes -= passed

    def _stand(self, byte: int, line: int) -> None:
        self._byte, self._line = byte, line
        self._pending, self._dropped = b"", 0

    def _start(self) -> dict[str, Any]:
        return {"byte": self._byte, "line": self._line}

    def _next_chunk(self) -> Chunk | None:
        while True:
            block = self._stream.read1(_BLOCK)
            if not block and self.follow:
                return self._nothing()
            if not block and not self._pending and not self._dropped:
                return None
            *whole, rest = (self._pending + (block or b"\n")).split(b"\n")
            chunk = self._lines(whole, at_end=not block)
            self._pending = rest
            if len(rest) > MAX_LINE_BYTES:
                self._dropped, self._pending = self._dropped + len(rest), b""
            if chunk is not None:
                return chunk

    def _lines(self, whole: list[bytes], *, at_end: bool) -> Chunk | None:
        """Make a chunk of lines without their line feeds; None of blank ones."""
        texts: list[bytes | None] = []
        ends = [(self._byte, self._line)]
        for line in whole:
            self._byte += self._dropped + len(line) + (not at_end)
            self._line += 1
            if self._dropped or line.strip():
                texts.append(None if self._dropped or len(line) > MAX_LINE_BYTES else line)
                ends.append((self._byte, self._line))
            self._dropped = 0

        def position(row: int) -> dict[str, Any]:
            return {"byte": ends[row][0], "line": ends[row][1]}

        return self._chunk_of(texts, position) if texts else None


def _parse(text: bytes | None) -> Any:  # noqa: ANN401 - whatever JSON holds
    try:
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError):
        return None


def _shown(text: bytes | None) -> str:
    return f"more than {MAX_LINE_BYTES} bytes" if text is None else text[:_SHOWN].decode("utf-8", errors="replace")
