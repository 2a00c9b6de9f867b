"""The header of a model file: read, checked against the file's length and checksum, signed.

A model file is a safetensors file whose metadata hold one text, ``prunus``: a JSON object that ends with
``"sha256"``, the SHA-256 of all bytes of the file with zeros in place of those 64 digits.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from prunus.errors import ModelFileError, ModelVersionError

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMAT_VERSION = 2
"""Written into each file."""

OLDEST_VERSION = 1
"""This build reads this version and all later ones up to :data:`FORMAT_VERSION`."""

MAX_HEADER_BYTES = 1 << 24
"""Longest header read: far above that of the widest network, far below what a foreign file may claim."""

KINDS = ("ranker", "recommender", "click")
"""Kinds of model that a file can hold."""

KEYS = frozenset({"format_version", "kind", "schema", "layers", "trees", "sha256"})
"""Keys of the header that are not metadata."""

_BLANK = b"0" * 64

# The checksum ends the JSON text, whose quotes safetensors escapes once. Quotes inside its strings are escaped twice,
# and a checksum nested deeper is followed by more than one brace: nothing else in that text can look like this.
_CHECKSUM = re.compile(rb'\\"sha256\\":\\"([0-9a-f]{64})\\"}"')


def reserved(version: int) -> frozenset[str]:
    """Return the keys of the header that are not metadata in a format version (a file of version 1 has no trees)."""
    return KEYS if version > 1 else KEYS - {"trees"}


def require(condition: object, name: str, what: str) -> None:
    """Raise :class:`ModelFileError` unless the condition holds; ``what`` says what the file ``name`` holds instead."""
    if not condition:
        refuse(name, what)


def refuse(name: str, what: object) -> NoReturn:
    """Raise :class:`ModelFileError` for a file whose bytes are as written and whose contents cannot run."""
    msg = f"{name} holds what cannot run: {what}; expected a model file as prunus writes it: make it again"
    raise ModelFileError(msg)


def header_text(fields: Mapping[str, object]) -> str:
    """Return the JSON text of a header: keys sorted, no spaces, the checksum last and blank until :func:`sign`.

    Args:
        fields: everything but the checksum; NumPy numbers and arrays and paths are converted.

    Raises:
        ModelFileError: a value or key is no JSON.
    """
    try:
        text = json.dumps(
            fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=_plain
        )
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        msg = f"the metadata cannot be written as JSON ({error}); expected plain values under text keys, and no NaN"
        raise ModelFileError(msg) from error
    return f'{text[:-1]},"sha256":"{_BLANK.decode()}"}}'


def sign(content: bytes) -> bytes:
    """Put the checksum into a model file's bytes, whatever digits stand there now."""
    start, end = _find_checksum(content, "the file to be signed")
    return content[:start] + _checksum(content, start, end) + content[end:]


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Read a file once, going on only where its first bytes show that it may be a model file.

    Raises:
        ModelFileError: the file is absent, empty, foreign, or no regular file.
    """
    try:
        content, problem = _read_likely(Path(path))
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL in it
        problem, content = f"cannot be read ({getattr(error, 'strerror', None) or error})", b""
    if problem:
        advice = ": prunus compile makes one of trees, or of a net in ONNX" if problem.startswith("is not") else ""
        msg = f"{path} {problem}; expected a model file that prunus wrote (*.prunus){advice}"
        raise ModelFileError(msg)
    return content


def outer_header(content: bytes, name: str) -> dict[str, Any]:
    """Return safetensors' own header: an entry for each tensor, and ``__metadata__``.

    Raises:
        ModelFileError: it cannot be read, or the file is shorter or longer than it says.
    """
    end = _header_end(content)
    if len(content) < end:
        msg = f"{name} is truncated: got {len(content)} bytes, its header alone takes {end}; copy or make it again"
        raise ModelFileError(msg)
    if end > MAX_HEADER_BYTES:
        msg = f"{name} has a header of {end} bytes; expected at most {MAX_HEADER_BYTES}: give it less metadata"
        raise ModelFileError(msg)
    outer = _parse(content[8:end], name)
    stated = 0
    for tensor, entry in outer.items():
        if tensor != "__metadata__":
            place = entry.get("data_offsets") if isinstance(entry, dict) else None
            if not (isinstance(place, list) and len(place) == 2 and type(place[1]) is int):
                refuse(name, f"tensor {tensor!r:.80} has no place in the file")
            stated = max(stated, place[1])
    if len(content) != end + stated:
        what = "truncated" if len(content) < end + stated else "longer than it should be"
        msg = f"{name} is {what}: got {len(content)} bytes, its header states {end + stated}; copy or make it again"
        raise ModelFileError(msg)
    return outer


def checked_header(content: bytes, name: str, wanted: str | None = None) -> dict[str, Any]:
    """Check length, checksum, version and kind, in this order; return the header.

    Args:
        content: all bytes of the file.
        name: what to call the file in messages.
        wanted: the kind of model that it must hold; None for any of :data:`KINDS`.

    Raises:
        ModelFileError: the file is truncated, damaged or foreign, or of an unknown kind or another.
        ModelVersionError: it was written in a format that this version does not know.
    """
    outer = outer_header(content, name)
    start, end = _find_checksum(content, name)
    if _checksum(content, start, end) != content[start:end]:
        msg = f"{name} is damaged: its checksum does not fit its bytes; expected the file as written: copy it again"
        raise ModelFileError(msg)
    texts = outer.get("__metadata__")
    if not (isinstance(texts, dict) and isinstance(texts.get("prunus"), str)):
        refuse(name, "its metadata have no text 'prunus'")
    header = _parse(texts["prunus"], name)
    version, kind = header.get("format_version"), header.get("kind")
    if type(version) is not int or version < OLDEST_VERSION:
        refuse(name, f"format_version is {version!r:.80}")
    if version > FORMAT_VERSION:
        msg = (
            f"{name} has format version {version}; this build of prunus reads versions {OLDEST_VERSION} to"
            f" {FORMAT_VERSION}: upgrade prunus (pip install -U prunus)"
        )
        raise ModelVersionError(msg)
    if kind not in KINDS:
        msg = (
            f"{name} is a model of kind {kind!r:.80}; this build of prunus loads {', '.join(KINDS)}:"
            " upgrade prunus (pip install -U prunus)"
        )
        raise ModelFileError(msg)
    if wanted is not None and kind != wanted:
        msg = f"{name} is a {kind} model; expected a {wanted} model: prunus.load() takes any kind"
        raise ModelFileError(msg)
    return header


def _read_likely(path: Path) -> tuple[bytes, str]:
    """Return the bytes of a file, and what is wrong with it where something is."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):  # opening a pipe would wait for ever
        return b"", "is a folder" if stat.S_ISDIR(mode) else "is no regular file"
    with path.open("rb") as file:
        start = file.read(8)
        if not start:
            return b"", "is empty"
        if len(start) < 8 or _header_end(start) > MAX_HEADER_BYTES:
            return b"", "is not a model file, or is cut off in its first bytes"
        header = file.read(_header_end(start) - 8)
        # A foreign file of many gigabytes is not read to its end.
        if len(header) == _header_end(start) - 8 and _CHECKSUM.search(header) is None:
            return b"", "is not a model file, or its header is damaged"
        return start + header + file.read(), ""


def _header_end(content: bytes) -> int:
    return 8 + int.from_bytes(content[:8], "little")


def _find_checksum(content: bytes, name: str) -> tuple[int, int]:
    """Find the 64 digits of the checksum inside the header: (start, end)."""
    found = list(_CHECKSUM.finditer(content, 8, min(_header_end(content), len(content))))
    if len(found) != 1:
        msg = (
            f"{name} is not a model file, or its header is damaged; expected a model file that prunus wrote (*.prunus)"
        )
        raise ModelFileError(msg)
    return found[0].span(1)


def _checksum(content: bytes, start: int, end: int) -> bytes:
    digest = hashlib.sha256(memoryview(content)[:start])
    digest.update(_BLANK)
    digest.update(memoryview(content)[end:])
    return digest.hexdigest().encode()


def _parse(text: str | bytes, name: str) -> dict[str, Any]:
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        msg = f"{name} is not a model file, or its header is damaged ({error}); expected one that prunus wrote"
        raise ModelFileError(msg) from error
    require(isinstance(value, dict), name, "its header is no JSON object")
    return dict(value)


def _no_constant(constant: str) -> NoReturn:
    msg = f"{constant} is no JSON"
    raise ValueError(msg)


def _plain(value: object) -> object:
    """Turn what JSON does not know into what it does: NumPy numbers and arrays, paths."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    msg = f"a value of type {type(value).__name__}"
    raise TypeError(msg)
