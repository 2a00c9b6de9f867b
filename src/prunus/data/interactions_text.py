"""Interactions as text: ``user item [rating] [timestamp]`` lines, with or without a header, and one list a user.

Told apart by content. The delimiter is the first of ``::``, tab, comma and blanks that the first line holds. The first
line is a header where it names the column of users or of items. Lines of two to four fields are a table; lines of other
or of different lengths are lists, ``user item item ...``, provided that no user has two lines.
"""

from __future__ import annotations

import gzip
import re
import zlib
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from prunus.data.frames import Table
from prunus.data.text import BOM, open_text
from prunus.errors import EmptyDataError, ParseError
from prunus.extras import need

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

Form = Literal["auto", "table", "lists"]
TEXT_FORM = "user item [rating] [timestamp]"
HEADLESS = ("user", "item", "rating", "timestamp")
_TYPES = ("string", "string", "double", "int64")
LEAST_TIME = 10_000_000
"""A third column whose values are all whole and at least this is a time: ratings are smaller, seconds since 1970 larger."""


def open_interaction_text(path: Path, form: Form, ids_of: Callable[[Sequence[str]], tuple[str, ...]]) -> Table:
    """Read a text file whole.

    Args:
        path: the file, plain or gzip.
        form: ``"table"`` or ``"lists"``; ``"auto"`` tells by content.
        ids_of: given the fields of the first line, those that name users or items; empty where it is no
            header.

    Returns:
        A table: ids as strings; without a header its columns are those of :data:`HEADLESS`.

    Raises:
        DataError: the file cannot be opened.
        EmptyDataError: it has no line.
        ParseError: a line breaks the form; the message names it.
    """
    with open_text(path) as file:
        try:
            text = file.read().removeprefix(BOM)
        except (EOFError, OSError, zlib.error, gzip.BadGzipFile) as error:
            msg = f"{path}: cannot be read ({error}); expected a whole file: copy it again"
            raise ParseError(msg) from error
    text, mark = _one_delimiter(text)
    lines = text.splitlines()
    if not any(lines):
        msg = f"{path}: is empty; expected lines of the form  {TEXT_FORM}"
        raise EmptyDataError(msg)
    first = [field.strip(' "') for field in lines[0].decode("utf-8", errors="replace").split(mark.decode())]
    ids = ids_of(first) if form != "lists" else ()
    if ids:
        return _parse(path, lines, mark, tuple(first), dict.fromkeys(ids, "string"), header=True)
    counts = np.array([line.count(mark) + 1 for line in lines if line])
    if form == "lists" or (form == "auto" and mark != b"," and _are_lists(lines, counts, mark)):
        return _lists(path, lines, mark)
    names = HEADLESS[: max(2, min(int(counts[0]), 4))]
    return _parse(path, lines, mark, names, dict(zip(names, _TYPES, strict=False)), header=False)


def _one_delimiter(text: bytes) -> tuple[bytes, bytes]:
    """Return the text with one-byte delimiters, and the delimiter."""
    first = text.lstrip().partition(b"\n")[0]
    if b"::" in first:
        return text.replace(b"::", b"\t"), b"\t"
    mark = next((one for one in (b"\t", b",") if one in first), None)
    if mark is not None:
        return text, mark
    return re.sub(rb" *(\r?\n) *", rb"\1", re.sub(rb"[ \t]+", b" ", text.strip(b" "))), b" "


def _are_lists(lines: list[bytes], counts: np.ndarray[Any, Any], mark: bytes) -> bool:
    if counts.min() == counts.max() and 2 <= counts[0] <= 4:
        return False
    users = [line.partition(mark)[0] for line in lines if line]
    return len(set(users)) == len(users)


def _lists(path: Path, lines: list[bytes], mark: bytes) -> Table:
    """One row for each item of each line; a line with a user alone is a user without items, and gives none."""
    pa = need("pyarrow", extra="io")
    fields = [line.decode("utf-8", errors="replace").split(mark.decode()) for line in lines if line]
    sizes = [len(one) - 1 for one in fields]
    users = pa.array([one[0] for one in fields]).take(pa.array(np.repeat(np.arange(len(fields)), sizes)))
    items = pa.array([item for one in fields for item in one[1:]], pa.string())
    table = pa.table({"user": users, "item": items})
    return Table(str(path), table.schema, table.num_rows, table)


def _parse(
    path: Path, lines: list[bytes], mark: bytes, names: tuple[str, ...], types: dict[str, str], *, header: bool
) -> Table:
    """Let pyarrow parse the lines; what it refuses is explained. Ids stay as they are written: ``007`` is not ``7``."""
    pa, csv = need("pyarrow", extra="io"), need("pyarrow.csv", extra="io")
    try:
        table = csv.read_csv(
            pa.py_buffer(b"\n".join(lines)),
            read_options=csv.ReadOptions(column_names=list(names), skip_rows=int(header)),
            parse_options=csv.ParseOptions(delimiter=mark.decode(), quote_char='"' if mark == b"," else False),
            convert_options=csv.ConvertOptions(
                column_types={name: pa.type_for_alias(kind) for name, kind in types.items()}
            ),
        )
    except pa.ArrowException as error:
        raise ParseError(_explain(path, lines, mark, names, header=header, reason=str(error))) from error
    if names == HEADLESS[:3]:
        third = table["rating"].to_numpy()
        if len(third) and third.min() >= LEAST_TIME and (third == np.floor(third)).all():
            table = pa.table(
                {"user": table["user"], "item": table["item"], "timestamp": table["rating"].cast(pa.int64())}
            )
    return Table(str(path), table.schema, table.num_rows, table)


def _explain(path: Path, lines: list[bytes], mark: bytes, names: tuple[str, ...], *, header: bool, reason: str) -> str:
    """Name the first line that is wrong."""
    for number, line in enumerate(lines, start=1):
        fields = line.decode("utf-8", errors="replace").split(mark.decode())
        if not line or (header and number == 1):
            continue
        what = None
        if len(fields) != len(names):
            what = f"{len(fields)} fields where the first line has {len(names)}"
        elif not header and not all(_is_number(field) for field in fields[2:]):
            what = f"{' '.join(fields)[:60]!r}, whose rating or timestamp is no number"
        if what is not None:
            return f"{path}, line {number}: got {what}; expected the form  {TEXT_FORM}"
    return f"{path}: cannot be read ({reason.splitlines()[0]}); expected lines of the form  {TEXT_FORM}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
