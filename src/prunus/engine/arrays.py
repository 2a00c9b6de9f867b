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
    cast = array.astype(dtype, copy=False)
    require(
        np.array_equal(cast, array, equal_nan=cast.dtype.kind == "f") or cast.dtype.kind == "f",
        f"{name} does not fit {dtype.__name__}",
    )
    if cast.dtype.kind == "f":
        require(np.isfinite(cast).all(), f"{name} holds NaN or infinity; expected finite numbers")
    return cast
