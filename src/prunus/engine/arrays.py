"""Checks that every part of a network runs on its arrays when it is built."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

from prunus.errors import NetworkError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Scalar = TypeVar("Scalar", bound=np.generic)

MAX_WIDTH = 1 << 16
"""Largest number of features, slots or units that a network may have."""

MAX_LAYERS = 64
"""Largest number of layers that a network may have."""


def require(condition: object, message: str) -> None:
    """Raise :class:`~prunus.errors.NetworkError` with a message unless a condition holds."""
    if not condition:
        raise NetworkError(message)


def checked_array(value: NDArray[np.generic], dtype: type[Scalar], name: str, ndim: int = 1) -> NDArray[Scalar]:
    """Return an array as C-contiguous of a type.

    Args:
        value: what to check.
        dtype: the type that is wanted.
        name: of the array, for the message.
        ndim: dimensions that are wanted.

    Raises:
        NetworkError: it has other dimensions, values that the type cannot hold, or NaN or infinity.
    """
    array = np.ascontiguousarray(value)
    require(array.ndim == ndim, f"{name} has {array.ndim} dimensions; expected {ndim}")
    with np.errstate(invalid="ignore", over="ignore"):  # what the type cannot hold is refused below, not warned of
        cast = array.astype(dtype, copy=False)
    require(
        np.array_equal(cast, array, equal_nan=cast.dtype.kind == "f") or cast.dtype.kind == "f",
        f"{name} does not fit {dtype.__name__}",
    )
    if cast.dtype.kind == "f":
        require(np.isfinite(cast).all(), f"{name} holds NaN or infinity; expected finite numbers")
    return cast


def check_sides(n_inputs: int, n_outputs: int) -> None:
    """Check the sides of a layer.

    Raises:
        NetworkError: one is 0, or larger than :data:`MAX_WIDTH`.
    """
    inside = 1 <= n_outputs <= MAX_WIDTH and 1 <= n_inputs <= MAX_WIDTH
    require(inside, f"layer {n_inputs} -> {n_outputs}; expected sides of 1 to {MAX_WIDTH}")


def check_rows(indptr: NDArray[np.int32], columns: NDArray[np.int32], n_rows: int, n_columns: int, name: str) -> None:
    """Check a pattern in CSR form, where row o owns ``columns[indptr[o]:indptr[o + 1]]``.

    Args:
        indptr: int32 [n_rows + 1].
        columns: int32, rising inside a row.
        n_rows: rows that are wanted.
        n_columns: columns that there are.
        name: of the columns, for the message.

    Raises:
        NetworkError: a row runs backwards or past the end, or its columns do not rise within 0 to n_columns - 1.
    """
    require(len(indptr) == n_rows + 1, f"indptr has {len(indptr)} entries; expected {n_rows + 1}")
    whole = indptr[0] == 0 and (np.diff(indptr) >= 0).all() and indptr[-1] == len(columns)
    require(whole, f"indptr must rise from 0 to {len(columns)}, the number of {name}")
    inside = not len(columns) or (columns.min() >= 0 and columns.max() < n_columns)
    require(inside, f"{name} lie outside 0..{n_columns - 1}")
    key = np.repeat(np.arange(n_rows), np.diff(indptr)).astype(np.int64) * n_columns + columns
    require((np.diff(key) > 0).all(), f"{name} must rise inside a row, without repeats")


def rows_of(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int32]]:
    """Give the pattern of a mask in CSR form.

    Args:
        mask: bool [n_rows, n_columns].

    Returns:
        indptr int32 [n_rows + 1]; row int64 and column int32 of each place that is kept, row after row.
    """
    row, column = np.nonzero(mask)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=len(mask)))]).astype(np.int32)
    return indptr, row, column.astype(np.int32)
