"""Values on evenly spaced levels: what a recommender's file keeps as small whole numbers.

A value v becomes q s, with a step s > 0 and q = clamp(round(v / s), -m, m), m = 2^(bits - 1) - 1. A file keeps q in an
entropy code, so levels that are seldom used cost little.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from prunus.engine.recommender import SparseFactors, SparseRows
from prunus.errors import RecommenderError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from prunus.engine.recommender import Recommender

FEWEST_BITS, MOST_BITS = 2, 8
"""Bits of a level: from -1, 0, 1 to -127 ... 127."""

_TRIED = np.linspace(0.3, 1.0, 36)  # of the largest magnitude; clipping more never paid for 2 bits or more


def largest_level(bits: int) -> int:
    """Return m, the largest whole number of a width.

    Raises:
        RecommenderError: bits below 2 or above 8.
    """
    if not FEWEST_BITS <= bits <= MOST_BITS:
        msg = f"got {bits} bits; expected {FEWEST_BITS} to {MOST_BITS}"
        raise RecommenderError(msg)
    return (1 << (bits - 1)) - 1


def choose_step(values: NDArray[np.float32], bits: int) -> np.float32:
    """Return the step of least squared error of 36 that clip at 30 to 100 % of the largest magnitude.

    Args:
        values: float32, any shape; zeros do not count.
        bits: 2 to 8.

    Returns:
        A float16 number above 0, as float32, so that a file can keep it in two bytes.
    """
    most = largest_level(bits)
    kept = np.asarray(values, np.float64)
    kept = kept[kept != 0]
    if not kept.size:
        return np.float32(1)
    steps = (np.abs(kept).max() * _TRIED / most).astype(np.float16).astype(np.float32)
    steps = steps[steps > 0]
    if not len(steps):
        return np.float32(np.finfo(np.float16).smallest_subnormal)
    errors = [np.square(np.clip(np.rint(kept / step), -most, most) * step - kept).sum() for step in steps]
    return np.float32(steps[int(np.argmin(errors))])


def quantise(
    values: NDArray[np.float32], bits: int, step: np.float32 | float | NDArray[np.float32] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Move values to the nearest level.

    Args:
        values: float32, any shape.
        bits: 2 to 8.
        step: distance of two levels, one number or what broadcasts with the values; default :func:`choose_step`.

    Returns:
        float32 values q s of the same shape, and the step, float32 [1] where one was chosen.
    """
    most = largest_level(bits)
    used = np.asarray(choose_step(values, bits) if step is None else step, np.float32)
    used = used.reshape(1) if used.ndim == 0 else used
    levels = np.clip(np.rint(np.asarray(values, np.float32) / used), -most, most)
    return (levels * used).astype(np.float32), used


def quantise_rows(rows: SparseRows, bits: int, *, per_row: bool = False) -> SparseRows:
    """Move the values of sparse rows to the nearest level, and drop those that become 0.

    Args:
        rows: what to quantise.
        bits: 2 to 8.
        per_row: whether each row has a step of its own (two bytes an item in the file), instead of one for all.

    Returns:
        Rows with :attr:`~prunus.engine.recommender.SparseRows.step`.
    """
    if per_row:
        bounds = zip(rows.indptr[:-1], rows.indptr[1:], strict=True)
        step = np.array([choose_step(rows.value[start:end], bits) for start, end in bounds], np.float32)
        value, _ = quantise(rows.value, bits, np.repeat(step, rows.lengths))
    else:
        value, step = quantise(rows.value, bits)
    kept = value != 0
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows.row[kept], minlength=rows.n_rows))]).astype(np.int32)
    return SparseRows(rows.n_factors, indptr, rows.factor[kept], value[kept], step)


def quantise_model(model: Recommender, bits: int, *, per_row: bool = False) -> Recommender:
    """Move the values of a recommender's rows to the nearest level; encoder scale and bias become float16 numbers.

    Args:
        model: what to quantise.
        bits: 2 to 8.
        per_row: whether each item has a step of its own.
    """
    rest: dict[str, Any] = {name: _half(getattr(model, name)) for name in ("encode_scale", "bias")}
    if isinstance(model, SparseFactors):
        decode = quantise_rows(model.decode, bits, per_row=per_row)
        encode = None if model.tied or model.encode is None else quantise_rows(model.encode, bits, per_row=per_row)
        return replace(model, decode=decode, encode=encode, **rest)
    parts = [model.decode] if model.tied or model.encode is None else [model.decode, model.encode]
    both = np.concatenate(parts, axis=1)
    step = np.array([choose_step(row, bits) for row in (both if per_row else [both])], np.float32)
    moved = [quantise(part, bits, step[:, None])[0] for part in parts]
    return replace(model, decode=moved[0], encode=moved[1] if len(moved) > 1 else None, step=step, **rest)


def _half(array: NDArray[np.float32] | None) -> NDArray[np.float32] | None:
    return None if array is None else array.astype(np.float16).astype(np.float32)
