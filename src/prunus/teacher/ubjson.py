"""Read the UBJSON that XGBoost writes (draft 12 of the format, with typed arrays), to look into a model before loading it."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

NUMBERS = {"i": ">i1", "U": ">u1", "I": ">i2", "l": ">i4", "L": ">i8", "d": ">f4", "D": ">f8"}
"""Marker of a number -> NumPy type, big-endian."""

CONSTANTS: dict[str, bool | None] = {"Z": None, "T": True, "F": False}

MAX_DEPTH = 64


class UbjsonError(ValueError):
    """The bytes are no whole UBJSON value."""


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.depth = 0

    def fail(self, what: str) -> NoReturn:
        msg = f"{what} at byte {self.at}"
        raise UbjsonError(msg)

    def take(self, size: int) -> bytes:
        if size < 0 or self.at + size > len(self.data):
            self.fail(f"{size} bytes are announced, {len(self.data) - self.at} are left")
        part = self.data[self.at : self.at + size]
        self.at += size
        return part

    def marker(self) -> str:
        return self.take(1).decode("latin-1")

    def peek(self) -> str:
        return self.data[self.at : self.at + 1].decode("latin-1")

    def numbers(self, kind: str, count: int) -> Any:  # noqa: ANN401 - an array of the type that its marker says
        form = np.dtype(NUMBERS[kind])
        return np.frombuffer(self.take(count * form.itemsize), dtype=form)

    def length(self) -> int:
        kind = self.marker()
        if kind not in "iUIlL":
            self.fail(f"{kind!r} stands where a length is expected")
        size = int(self.numbers(kind, 1)[0])
        if not 0 <= size <= len(self.data):
            self.fail(f"length {size}")
        return size

    def text(self) -> str:
        return self.take(self.length()).decode("utf-8", errors="replace")

    def value(self, kind: str) -> Any:  # noqa: ANN401 - any JSON value
        if kind in NUMBERS:
            return self.numbers(kind, 1)[0].item()
        if kind in CONSTANTS:
            return CONSTANTS[kind]
        if kind == "S":
            return self.text()
        if kind not in "[{":
            self.fail(f"unknown marker {kind!r}")
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.fail("values nested too deep")
        found = self.array() if kind == "[" else self.object()
        self.depth -= 1
        return found

    def array(self) -> Any:  # noqa: ANN401 - a list, or a NumPy array where the items share a type
        kind = ""
        if self.peek() == "$":
            self.at += 1
            kind = self.marker()
            if kind not in NUMBERS or self.peek() != "#":
                self.fail(f"typed array of {kind!r}")
        if self.peek() == "#":
            self.at += 1
            count = self.length()
            return self.numbers(kind, count) if kind else [self.value(self.marker()) for _ in range(count)]
        items = []
        while (kind := self.marker()) != "]":
            items.append(self.value(kind))
        return items

    def object(self) -> dict[str, Any]:
        found = {}
        while self.peek() != "}":
            key = self.text()
            found[key] = self.value(self.marker())
        self.at += 1
        return found


def read_ubjson(data: bytes) -> Any:  # noqa: ANN401 - any JSON value
    """Decode one UBJSON value.

    Args:
        data: the whole file.

    Returns:
        What ``json.loads`` would give, with NumPy arrays for typed arrays.

    Raises:
        UbjsonError: the bytes are truncated, or something follows the value, or a marker is unknown.
    """
    reader = _Reader(data)
    found = reader.value(reader.marker())
    if reader.at != len(data):
        reader.fail(f"{len(data) - reader.at} bytes too many")
    return found
