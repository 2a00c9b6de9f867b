"""The id map of a recommender: names of items, as they stand in a file.

The first byte is 0 where all names are whole numbers, which are kept as differences, each byte of them in a plane of
its own; and 1 for any texts, kept as lengths and UTF-8. The rest is compressed with zlib.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np

from prunus.errors import RecommenderError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

NUMBERS, TEXTS = range(2)
"""First byte of an id map."""

_LARGEST = 1 << 62
_LONGEST = 1 << 12
"""Bytes of an item's name, on average, beyond which a map is refused."""


def check_ids(ids: Sequence[str], n_items: int) -> tuple[str, ...]:
    """Return the names as a tuple.

    Raises:
        RecommenderError: not one for each item, no texts, or one is there twice.
    """
    names = tuple(ids)
    if len(names) != n_items or not all(isinstance(name, str) for name in names):
        msg = f"got {len(names)} item ids; expected {n_items} texts, one for each item"
        raise RecommenderError(msg)
    if len(set(names)) != n_items:
        msg = f"item ids repeat: {n_items} items have {len(set(names))} names; expected a name of its own for each"
        raise RecommenderError(msg)
    return names


def pack_ids(ids: Sequence[str]) -> NDArray[np.uint8]:
    """Return names as uint8; see the module."""
    if all(_is_number(name) for name in ids):
        numbers = np.array([int(name) for name in ids], np.int64)
        kind, raw = NUMBERS, _planes(np.diff(numbers, prepend=0))
    else:
        texts = [name.encode("utf-8", "surrogatepass") for name in ids]
        kind, raw = TEXTS, _planes(np.array([len(text) for text in texts], np.int64)) + b"".join(texts)
    return np.frombuffer(bytes([kind]) + zlib.compress(raw, 9), np.uint8)


def unpack_ids(packed: NDArray[np.uint8], n_items: int) -> tuple[str, ...]:
    """Return the names that :func:`pack_ids` packed.

    Raises:
        RecommenderError: the bytes are not an id map of so many items.
    """
    try:
        names = _unpack(packed.tobytes(), n_items)
    except (zlib.error, ValueError):
        names = None
    if names is None:
        msg = f"the id map's {len(packed)} bytes are not those of {n_items} item ids"
        raise RecommenderError(msg)
    return check_ids(names, n_items)


def _unpack(content: bytes, n_items: int) -> list[str] | None:
    unpacker = zlib.decompressobj()
    raw = unpacker.decompress(content[1:], n_items * (8 + _LONGEST))
    if not unpacker.eof or unpacker.unused_data or len(raw) < 8 * n_items:
        return None
    numbers, texts = _from_planes(raw, n_items), raw[8 * n_items :]
    if content[0] == NUMBERS:
        return None if texts else [str(x) for x in np.cumsum(numbers).tolist()]
    if content[0] != TEXTS or numbers.min() < 0 or numbers.max() > len(texts) or numbers.sum() != len(texts):
        return None
    ends = np.cumsum(numbers).tolist()
    starts = [0, *ends[:-1]]
    return [texts[start:end].decode("utf-8", "surrogatepass") for start, end in zip(starts, ends, strict=True)]


def _is_number(name: str) -> bool:
    return name.isascii() and len(name) < 20 and name.removeprefix("-").isdigit() and str(int(name)) == name and abs(int(name)) < _LARGEST  # fmt: skip


def _planes(x: NDArray[np.int64]) -> bytes:
    return x.astype("<i8").view(np.uint8).reshape(-1, 8).T.tobytes()


def _from_planes(raw: bytes, n: int) -> NDArray[np.int64]:
    planes = np.frombuffer(raw, np.uint8, 8 * n).reshape(8, n)
    return np.ascontiguousarray(planes.T).view("<i8").ravel().astype(np.int64)
