"""Whole numbers in few bytes: what the arrays of a recommender's file are made of.

Each array is packed on its own, in whichever of these takes fewest bytes; the first byte tells which:

===  ======================================================================================================
 0   all are the same number: it follows in four bytes
 1   plain: a byte w, then each number in w bits (8, 16 and 32 among them), the lowest bit first
 2   entropy-coded: a byte r, a byte t, a table of t + 1 bytes, the number of symbols in four bytes, the
     stream's length in four bytes, a stream, and the r lowest bits of each number as in 1. The rest of a
     number, x >> r, is written as symbols: t means "t more, go on", any smaller one ends the number
===  ======================================================================================================

Rice's code is the case of 2 whose table is geometric; what the true frequencies cost less than that pays for the table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from prunus.engine import range_code
from prunus.errors import RecommenderError

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAME, PLAIN, CODED = range(3)
"""First byte of a packed array."""

LAST_SYMBOLS = (1, 3, 7, 15, 31, 63, 127, 255)
"""Values of t that are tried."""

_MOST_SYMBOLS = 8  # for each number, all in all: a forged table could make them free, and endless


def pack(numbers: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Pack whole numbers into bytes.

    Args:
        numbers: [n], 0 to 2^31 - 1.

    Returns:
        uint8; see the module.
    """
    x = np.asarray(numbers, np.int64)
    assert not len(x) or (x.min() >= 0 and x.max() < 1 << 31)
    if not len(x) or x.min() == x.max():
        return np.concatenate([_bytes(SAME), _four(int(x[0]) if len(x) else 0)])
    width = int(x.max()).bit_length()
    coded = _pack_coded(x, *_cheapest(x, width)[:2])
    if len(coded) < 2 + (len(x) * width + 7) // 8:
        return coded
    return np.concatenate([_bytes(PLAIN, width), _pack_bits(x, width)])


def about_bytes(numbers: NDArray[np.integer]) -> float:
    """Tell by entropy how many bytes :func:`pack` would take, to a hundredth for a thousand numbers and more.

    Args:
        numbers: as for :func:`pack`.
    """
    x = np.asarray(numbers, np.int64)
    if not len(x) or x.min() == x.max():
        return 5.0
    width = int(x.max()).bit_length()
    return min(_cheapest(x, width)[2], float(len(x) * width)) / 8


def unpack(packed: NDArray[np.uint8], n: int, name: str) -> NDArray[np.int64]:
    """Return the numbers that :func:`pack` packed.

    Args:
        packed: uint8.
        n: how many there are; the caller has seen to it that memory can hold them.
        name: what to call the array in messages.

    Raises:
        RecommenderError: the bytes are not those of n numbers.
    """
    try:
        found = _unpack(packed, n)
    except RecommenderError as error:
        msg = f"{name} cannot be unpacked: {error}"
        raise RecommenderError(msg) from error
    if found is None:
        msg = f"{name} cannot be unpacked: its {len(packed)} bytes are not those of {n} numbers"
        raise RecommenderError(msg)
    return found


def _unpack(packed: NDArray[np.uint8], n: int) -> NDArray[np.int64] | None:
    if len(packed) < 5:
        return _unpack_bits(packed[2:], n, int(packed[1])) if len(packed) > 1 and packed[0] == PLAIN else None
    match int(packed[0]):
        case 0 if len(packed) == 5:
            return np.full(n, _number(packed[1:5]), np.int64)
        case 1:
            return _unpack_bits(packed[2:], n, int(packed[1]))
        case 2:
            return _unpack_coded(packed[1:], n)
    return None


def _bytes(*values: int) -> NDArray[np.uint8]:
    return np.array(values, np.uint8)


def _four(value: int) -> NDArray[np.uint8]:
    return np.array([value], "<u4").view(np.uint8)


def _number(four: NDArray[np.uint8]) -> int:
    return int.from_bytes(four.tobytes(), "little")


def _pack_bits(x: NDArray[np.int64], width: int) -> NDArray[np.uint8]:
    bits = (x[:, None] >> np.arange(width)) & 1
    return np.packbits(bits.astype(np.uint8).ravel(), bitorder="little")


def _unpack_bits(packed: NDArray[np.uint8], n: int, width: int) -> NDArray[np.int64] | None:
    if width > 31 or len(packed) != (n * width + 7) // 8:
        return None
    bits = np.unpackbits(packed, count=n * width, bitorder="little").reshape(n, width)
    found = np.zeros(n, np.int64)
    for place in range(width):  # column by column: an int64 for each bit would take 64 times the file
        found |= bits[:, place].astype(np.int64) << place
    return found


def _cheapest(x: NDArray[np.int64], width: int) -> tuple[int, int, float]:
    """Return the low bits r and the last symbol t of least cost, and that cost in bits, by entropy."""
    costs: dict[tuple[int, int], float] = {}
    found, times = _histogram(x)
    for shift in range(max(width - 8, 0), width):
        rest = found >> shift
        for last in LAST_SYMBOLS:
            if last > 2 * (int(rest[-1]) + 1):
                break
            counts = np.zeros(last + 1, np.int64)
            np.add.at(counts, rest % last, times)
            counts[last] = times @ (rest // last)
            if counts.sum() > _MOST_SYMBOLS * len(x):
                continue
            share = counts[counts > 0] / counts.sum()
            costs[shift, last] = -(np.log2(share) * counts[counts > 0]).sum() + len(x) * shift + 8 * (last + 1)
    best = min(costs, key=lambda key: costs[key])
    return (*best, costs[best])


def _histogram(x: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the numbers that occur, rising, and how often each does."""
    if x.max() > max(len(x), 1 << 16):
        return np.unique(x, return_counts=True)
    times = np.bincount(x)
    found = np.flatnonzero(times)
    return found, times[found]


def _pack_coded(x: NDArray[np.int64], shift: int, last: int) -> NDArray[np.uint8]:
    more, final = np.divmod(x >> shift, last)
    symbols = np.full(int(more.sum()) + len(x), last, np.uint8)
    symbols[np.cumsum(more + 1) - 1] = final
    table = range_code.write_table(np.bincount(symbols, minlength=last + 1))
    stream = range_code.encode(symbols, range_code.read_table(table))
    sizes = np.concatenate([_four(len(symbols)), _four(len(stream))])
    return np.concatenate([_bytes(CODED, shift, last), table, sizes, stream, _pack_bits(x & ((1 << shift) - 1), shift)])


def _unpack_coded(packed: NDArray[np.uint8], n: int) -> NDArray[np.int64] | None:
    shift, last = int(packed[0]), int(packed[1])
    start = 2 + last + 1 + 8
    if len(packed) < start or not last:
        return None
    table, symbols_written, stream_bytes = packed[2 : 3 + last], *map(_number, np.split(packed[start - 8 : start], 2))
    if symbols_written > _MOST_SYMBOLS * n or stream_bytes > len(packed) - start:
        return None
    low = _unpack_bits(packed[start + stream_bytes :], n, shift)
    if low is None:
        return None
    stream = packed[start : start + stream_bytes]
    symbols = range_code.decode(stream, range_code.read_table(table), symbols_written)
    ends = np.flatnonzero(symbols != last)
    if len(ends) != n or (n and ends[-1] != symbols_written - 1):
        return None
    more = np.diff(ends, prepend=-1) - 1
    found = (more * last + symbols[ends] << shift) | low
    return None if found.max(initial=0) >= 1 << 31 else found
