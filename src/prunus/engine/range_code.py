"""An entropy code for symbols of one byte: range asymmetric numeral systems (rANS), many lanes at once.

A symbol s of frequency f_s (of M = 4096) and cumulative frequency c_s takes a lane's state x to

    x' = floor(x / f_s) M + c_s + x mod f_s,

so it costs log2(M / f_s) bits; reading undoes that from the last symbol to the first. Symbol i is lane i mod n's, and
a step of all lanes is a few array operations, so NumPy alone reads millions of symbols a second. States stay in
[2^16, 2^32): where one would leave that, 16 bits of it go to, or come from, one stream that all lanes share.

References:
    Duda, Asymmetric numeral systems, arXiv 1311.2540; Giesen, Interleaved entropy coders, arXiv 1402.3392.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from prunus.errors import RecommenderError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BITS = 12
TOTAL = 1 << _BITS
"""M, to which frequencies sum."""

_LOWEST = np.uint64(1 << 16)
_STEPS = 4096  # symbols of a lane, about: its state then adds less than 0.5 % to a stream of two bits a symbol
_MOST_LANES = 1024  # a step of so many costs little more than one of a hundred
_PER_OCTAVE = 16  # levels a frequency is written in: 4 % apart, which costs under 0.1 % of the stream


def _lanes(n: int) -> int:
    return min(max(n // _STEPS, 1), _MOST_LANES)


def write_table(counts: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the frequencies of symbols as one byte each: 0 where it is never used, else 1 + 16 log2 of the share.

    Args:
        counts: int64 [n_symbols], how often each symbol is used, one of them at least.
    """
    used = counts > 0
    share = np.where(used, counts, 1) / counts.sum() * TOTAL
    level = 1 + np.clip(np.rint(_PER_OCTAVE * np.log2(np.maximum(share, 1))), 0, _PER_OCTAVE * _BITS)
    return np.where(used, level, 0).astype(np.uint8)


def read_table(levels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return frequencies that sum to 4096 from what :func:`write_table` wrote.

    Raises:
        RecommenderError: no symbol is used, or there is no such level.
    """
    # Integers alone: a power that rounds otherwise on another machine would change every symbol after it.
    octave, step = np.divmod(levels.astype(np.int64) - 1, _PER_OCTAVE)
    if not (levels > 0).any() or octave.max() > _BITS:
        msg = "a table of frequencies is empty or has an unknown level"
        raise RecommenderError(msg)
    weight = np.where(levels > 0, _MANTISSA[step] << np.maximum(octave, 0), 0)
    used = np.flatnonzero(levels)
    frequency = np.where(levels > 0, np.maximum(weight * TOTAL // weight.sum(), 1), 0)
    # What rounding left over or took too much is settled with the most frequent symbols, which feel it least.
    order = used[np.argsort(-frequency[used], kind="stable")]
    rest = TOTAL - int(frequency.sum())
    frequency[order[0]] += max(rest, 0)
    for symbol in order:
        taken = min(max(-rest, 0), int(frequency[symbol]) - 1)
        frequency[symbol] -= taken
        rest += taken
    return frequency


_MANTISSA = np.array(
    [1024, 1069, 1117, 1166, 1218, 1272, 1328, 1387, 1448, 1512, 1579, 1649, 1722, 1798, 1878, 1961], np.int64
)  # round(1024 * 2^(i / 16)), written out for the reason above


def encode(symbols: NDArray[np.uint8], frequency: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the stream: the lanes' states in four bytes each, then words of two bytes in the order they are read.

    Args:
        symbols: uint8 [n].
        frequency: int64, as :func:`read_table` gives it; above 0 for each symbol that is used.
    """
    lanes = _lanes(len(symbols))
    f = frequency.astype(np.uint64)
    c = np.cumsum(f) - f
    state = np.full(lanes, _LOWEST, np.uint64)
    words: list[NDArray[np.uint64]] = []
    for start in range((max(len(symbols) - 1, 0)) // lanes * lanes, -1, -lanes):
        taken = symbols[start : start + lanes]
        x, own, base = state[: len(taken)], f[taken], c[taken]
        full = x >= own << np.uint64(32 - _BITS)
        words.append(x[full] & np.uint64(0xFFFF))
        x = np.where(full, x >> np.uint64(16), x)
        state[: len(taken)] = (x // own << np.uint64(_BITS)) + x % own + base
    stream = np.concatenate(words[::-1]).astype("<u2")
    return np.concatenate([state.astype("<u4").view(np.uint8), stream.view(np.uint8)])


def decode(stream: NDArray[np.uint8], frequency: NDArray[np.int64], n: int) -> NDArray[np.uint8]:
    """Return the n symbols of a stream.

    Args:
        stream: uint8, as :func:`encode` gives it.
        frequency: int64 [at most 256], summing to 4096.
        n: how many symbols there are; the caller has seen to it that memory can hold them.

    Raises:
        RecommenderError: the stream ends before the last symbol, goes on after it, or is damaged.
    """
    lanes = _lanes(n)
    rest = len(stream) - 4 * lanes
    if rest < 0 or rest % 2:
        msg = f"a stream of {n} symbols has {len(stream)} bytes; expected {lanes} states and words of two bytes"
        raise RecommenderError(msg)
    state = stream[: 4 * lanes].copy().view("<u4").astype(np.uint32)
    words = np.concatenate([stream[4 * lanes :].copy().view("<u2"), np.zeros(lanes, "<u2")]).astype(np.uint32)
    symbol_of = np.repeat(np.arange(len(frequency), dtype=np.uint8), frequency)
    own = np.repeat(frequency, frequency).astype(np.uint32)
    # Where a slot stands inside its symbol: x' = f (x >> 12) + inside.
    inside = (np.arange(TOTAL) - np.repeat(np.cumsum(frequency) - frequency, frequency)).astype(np.uint32)
    found = np.empty(n, np.uint8)
    at, end = 0, rest // 2
    low, bits, half = np.uint32(TOTAL - 1), np.uint32(_BITS), np.uint32(16)
    for start in range(0, n, lanes):
        x = state[: n - start]
        slot = x & low
        found[start : start + lanes] = symbol_of[slot]
        x = own[slot] * (x >> bits) + inside[slot]
        short = np.flatnonzero(x < _LOWEST)
        x[short] = (x[short] << half) | words[at : at + len(short)]
        at += len(short)
        if at > end:
            break
        state[: len(x)] = x
    if at != end or (state != _LOWEST).any():
        msg = "a stream of symbols is damaged: it does not end with its last symbol"
        raise RecommenderError(msg)
    return found
