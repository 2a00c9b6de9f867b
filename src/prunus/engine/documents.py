"""Documents as a caller has them, to the float32 matrix that the engine reads: the slow way into a call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from prunus.errors import ColumnError, SchemaError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from prunus.data.ranking import Schema

Frame: TypeAlias = Any
"""A frame of pandas, Polars or Arrow: anything with ``columns`` or ``column_names``; none of them is imported here."""


def to_matrix(schema: Schema, read: Sequence[int], X: Frame) -> NDArray[np.float32]:
    """Convert documents.

    Args:
        schema: names of the columns.
        read: features that the model reads; only these columns of a frame are looked at.
        X: an array of real numbers [n_docs, n_features] or [n_features], or a frame.

    Returns:
        float32 [n_docs, n_features], C-contiguous and aligned; what is masked or null is NaN.

    Raises:
        SchemaError: other columns than the model was made for.
        ColumnError: what cannot be read as real numbers.
    """
    return _from_frame(schema, read, X) if _is_frame(X) else _from_array(schema, X)


def checked_out(out: object, n_docs: int) -> NDArray[np.float32]:
    """Return ``out`` if scores can be written into it.

    Args:
        out: what the caller gave.
        n_docs: scores to be written.

    Raises:
        SchemaError: it is no writable, aligned, C-contiguous float32 array of that length.
    """
    if not isinstance(out, np.ndarray) or not (
        out.dtype == np.float32
        and out.shape == (n_docs,)
        and out.flags.c_contiguous
        and out.flags.aligned
        and out.flags.writeable
    ):
        got = f"{out.dtype} {list(out.shape)}" if isinstance(out, np.ndarray) else type(out).__name__
        msg = f"got out of {got}; expected a writable, aligned, C-contiguous float32 array of shape [{n_docs}]"
        raise SchemaError(msg)
    return out


def _from_array(schema: Schema, X: Frame) -> NDArray[np.float32]:
    try:
        array = np.ma.filled(X.astype(np.float32), np.nan) if np.ma.isMaskedArray(X) else np.asarray(X)
    except (TypeError, ValueError) as error:
        msg = f"X cannot be read as an array ({error}); expected real numbers of shape [n_docs, n_features]"
        raise ColumnError(msg) from error
    if array.dtype.kind not in "fiub":
        msg = f"got X of dtype {array.dtype}; expected real numbers: convert it to float32"
        raise ColumnError(msg)
    matrix = array.reshape(1, -1) if array.ndim == 1 else array
    if matrix.ndim != 2 or matrix.shape[1] != schema.n_features:
        msg = (
            f"got X of shape {list(array.shape)}; expected [n_docs, {schema.n_features}]: one column for each"
            " feature of the model, in its order (or a frame, whose columns are matched by name)"
        )
        raise SchemaError(msg)
    return _float32(matrix)


def _from_frame(schema: Schema, read: Sequence[int], frame: Frame) -> NDArray[np.float32]:
    names = list(frame.column_names if hasattr(frame, "column_names") else frame.columns)
    schema.columns(names, needed=read)
    used = [schema.feature_names[f] for f in read]
    repeated = [name for name in used if names.count(name) > 1]
    if repeated:
        msg = f"column {repeated[0]!r} stands {names.count(repeated[0])} times in the frame; expected it once"
        raise ColumnError(msg)
    columns = [(f, _column(frame, schema.feature_names[f])) for f in read]
    n_docs = len(columns[0][1]) if columns else len(frame)  # trees of one leaf read nothing
    matrix = np.zeros((n_docs, schema.n_features), np.float32)
    for feature, column in columns:
        matrix[:, feature] = column
    return matrix


def _is_frame(X: Frame) -> bool:
    return hasattr(X, "column_names") or hasattr(X, "columns")


def _float32(array: NDArray[Any]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes an infinity, which is then refused by name
        return np.require(array, np.float32, ["C", "A"])


def _column(frame: Frame, name: str) -> NDArray[np.float32]:
    """Return a column as float32, what is missing as NaN."""
    column = frame.column(name) if hasattr(frame, "column_names") else frame[name]
    try:
        try:
            values = column.to_numpy(dtype=np.float64, na_value=np.nan)  # pandas
        except TypeError:
            values = column.to_numpy()  # Polars, Arrow
        if values.dtype == object:
            values = np.array([np.nan if value is None else float(value) for value in values])
    except (TypeError, ValueError) as error:
        msg = f"column {name!r} does not hold numbers ({error}); expected real numbers"
        raise ColumnError(msg) from error
    if values.dtype.kind not in "fiub":
        msg = f"column {name!r} has type {values.dtype}; expected real numbers"
        raise ColumnError(msg)
    return _float32(values)
