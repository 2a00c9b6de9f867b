"""Opening text files, and finding the line of LETOR text that is wrong."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

import numpy as np

from prunus.errors import DataError, ParseError

if TYPE_CHECKING:
    from pathlib import Path

MAX_FEATURE_ID = 100_000
"""Largest feature id accepted: the result is dense, so a hashed id of 2^31 would ask for terabytes."""
GZIP_MAGIC = b"\x1f\x8b"
BOM = b"\xef\xbb\xbf"
FORM = "label qid:Q 1:v 2:v ... # comment"


def open_text(path: Path) -> BinaryIO:
    """Open a file for reading bytes, through gzip where its content is gzip.

    Args:
        path: the file.

    Raises:
        DataError: it cannot be opened.
    """
    try:
        with path.open("rb") as file:
            is_gzip = file.read(2) == GZIP_MAGIC
        return gzip.open(path, "rb") if is_gzip else path.open("rb")  # type: ignore[return-value]
    except OSError as error:
        msg = f"{path}: cannot be opened ({error.strerror}); expected a file that can be read: check the path"
        raise DataError(msg) from error


def line_in(chunk: bytes, row: int) -> int:
    """Count the lines before a document.

    Args:
        chunk: whole lines; blank ones and those with a comment alone are no documents.
        row: the document, from 0.
    """
    seen = -1
    for number, line in enumerate(chunk.split(b"\n")):
        seen += bool(line.partition(b"#")[0].strip())
        if seen == row:
            return number
    raise AssertionError(row)


def line_of_row(path: Path, row: int) -> int:
    """Find the line of a document by reading the file again: only an error needs it.

    Args:
        path: the file.
        row: the document, from 0.

    Returns:
        The number of its line, from 1.
    """
    seen = -1
    with open_text(path) as file:
        for number, line in enumerate(file, start=1):
            seen += bool(line.removeprefix(BOM).partition(b"#")[0].strip())
            if seen == row:
                return number
    raise AssertionError(row)


def explain(text: bytes, path: str, first_line: int) -> NoReturn:
    """Raise for the first line that breaks the form.

    Args:
        text: whole lines.
        path: the file, for the message.
        first_line: number of the first of them.

    Raises:
        ParseError: always; it names the line.
    """
    for number, line in enumerate(text.split(b"\n"), start=first_line):
        reason = _what_is_wrong(line.split())
        if reason:
            msg = f"{path}, line {number}: {reason}; expected the form  {FORM}"
            raise ParseError(msg)
    msg = f"{path}, from line {first_line}: cannot be read; expected the form  {FORM}"
    raise ParseError(msg)


def _what_is_wrong(parts: list[bytes]) -> str | None:
    if not parts:
        return None
    if not reads_as(float, parts[0]):
        return f"got {_shown(parts[0])} as the label"
    if len(parts) < 2 or not parts[1].startswith(b"qid:"):
        return f"got {_shown(parts[1]) if len(parts) > 1 else 'nothing'} after the label, not qid:Q"
    if not reads_as(np.int64, parts[1][4:]):
        return f"got {_shown(parts[1])}: the query id must be an integer"
    last = -1
    for part in parts[2:]:
        key, colon, value = part.partition(b":")
        if not colon or not reads_as(int, key) or not reads_as(float, value):
            return f"got {_shown(part)} as a feature"
        if not last < int(key) <= MAX_FEATURE_ID:
            return f"got feature id {int(key)} after {last}: ids must rise, up to {MAX_FEATURE_ID}"
        last = int(key)
    return None


def reads_as(kind: Any, text: bytes) -> bool:  # noqa: ANN401 - int, float and np.int64 share no narrower type
    """Tell whether a number can be read.

    Args:
        kind: ``int``, ``float`` or ``np.int64``.
        text: as it stands in the file.
    """
    try:
        kind(text.decode("ascii"))
    except (ValueError, OverflowError):
        return False
    return True


def _shown(text: bytes) -> str:
    return repr(text[:40].decode("utf-8", errors="replace"))
