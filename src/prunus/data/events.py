"""Events of a stream, as arrays: ids hashed to 64 bits, dense features, a label, and a time to order them by."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, fields
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np

from prunus.data.select import Expression
from prunus.errors import ColumnError, DataError, SchemaError
from prunus.extras import need

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

MISSING = np.uint64(0)
"""The hash of what is not there: an absent or null id, a NaN, an empty string."""

_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]{0,19})")
_OPTIONS = {"label": "--label", "where": "--where"}


@dataclass(frozen=True)
class EventSchema:
    """What each column of a stream is.

    Attributes:
        id_fields: columns of ids (integers or strings, any cardinality), one embedding table each.
        dense: numeric columns.
        label: a column or an expression (``"label>0"``, see :class:`prunus.data.select.Expression`) that gives 0 or 1.
        time: columns or expressions, compared in lexicographic order: the first counts most.
        key: columns that together say which two rows are one event; empty where no such thing is known.
        where: an expression; the rows for which it is true are events, the others are left out.

    Raises:
        ColumnError: no time, no feature at all, or a feature is named twice or is the label too.
        ExpressionError: label, time or where cannot be read.
    """

    id_fields: tuple[str, ...]
    dense: tuple[str, ...]
    label: str
    time: tuple[str, ...]
    key: tuple[str, ...] = ()
    where: str | None = None

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if isinstance(value, list):
                object.__setattr__(self, one.name, tuple(value))
        features = [*self.id_fields, *self.dense]
        if not features or not self.time:
            msg = f"got {len(features)} features and {len(self.time)} columns of time; expected at least one of each (--ids or --dense, and --time)"
            raise ColumnError(msg)
        twice = sorted({name for name in features if features.count(name) > 1})
        if twice:
            msg = f"{twice[0]!r} is named twice among ids and dense features; expected each column once"
            raise ColumnError(msg)
        leaks = [name for name in features if name in self.expression("label").names]
        if leaks:
            msg = f"{leaks[0]!r} is a feature and gives the label; drop it from the features"
            raise ColumnError(msg)
        self.times()
        if self.where is not None:
            self.expression("where")

    def expression(self, role: str) -> Expression:
        """Parse the expression of ``"label"`` or ``"where"``."""
        return Expression(getattr(self, role), _OPTIONS[role])

    def times(self) -> tuple[Expression, ...]:
        """Parse the expressions of time."""
        return tuple(Expression(one, "--time") for one in self.time)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns to read, each once."""
        read = [self.expression("label"), *self.times()]
        if self.where is not None:
            read.append(self.expression("where"))
        named = [*self.id_fields, *self.dense, *self.key, *(name for one in read for name in one.names)]
        return tuple(dict.fromkeys(named))

    def to_json(self) -> dict[str, Any]:
        """Give what :meth:`from_json` reads."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> EventSchema:
        """Build a schema again.

        Args:
            content: what :meth:`to_json` gave.

        Raises:
            SchemaError: an entry is unknown or absent.
        """
        try:
            return cls(**content)
        except TypeError as error:
            msg = f"a schema of events: {error}; expected {', '.join(one.name for one in fields(cls))}"
            raise SchemaError(msg) from error


@dataclass(frozen=True, eq=False)
class Events:
    """Some events, in the order in which they are to be learned; validated when built and trusted afterwards.

    Attributes:
        ids: uint64 [n, n_ids], hashes of the ids (:func:`hash_integers`, :func:`hash_strings`), 0 where missing.
        dense: float32 [n, n_dense], finite, NaN where missing.
        label: float32 [n], 0 or 1; NaN only before a label that comes later has been joined.
        time: int64 [n], when. One integer column stands as it is, in its own unit; numbers with a fraction are
            rounded down; timestamps, dates and ISO 8601 strings are microseconds since 1970 (UTC). Several columns
            are packed (:func:`pack_times`).
        offset: float32 [n], what is added to the model's logit in the loss (not when it serves): -log r where only a
            share r of the negatives was kept, as these make the odds 1/r times too large. Default 0.
        key: uint64 [n], equal for rows that are one event; 0 where unknown. Default 0.

    Raises:
        SchemaError: shapes do not fit each other.
        DataError: a dense value is infinite, or a label is neither 0, 1 nor NaN.
    """

    ids: NDArray[np.uint64]
    dense: NDArray[np.float32]
    label: NDArray[np.float32]
    time: NDArray[np.int64]
    offset: NDArray[np.float32] = None  # type: ignore[assignment]  # zeros of the right length
    key: NDArray[np.uint64] = None  # type: ignore[assignment]  # same

    def __post_init__(self) -> None:
        n = len(self.time)
        for name, kind in _KINDS.items():
            column = getattr(self, name)
            column = np.zeros(n, kind) if column is None else np.ascontiguousarray(column, dtype=kind)
            object.__setattr__(self, name, column)
            if column.ndim != (2 if name in {"ids", "dense"} else 1) or len(column) != n:
                msg = f"{name} has shape {column.shape}; expected {n} events, as many as there are times"
                raise SchemaError(msg)
        if np.isinf(self.dense).any():
            row, column = (int(one) for one in np.argwhere(np.isinf(self.dense))[0])
            msg = (
                f"dense feature {column} of event {row} is infinite; expected a finite float32, or NaN if it is missing"
            )
            raise DataError(msg)
        wrong = ~((self.label == 0) | (self.label == 1) | np.isnan(self.label))
        if wrong.any():
            msg = f"the label of event {int(np.argmax(wrong))} is {self.label[wrong][0]}; expected 0 or 1"
            raise DataError(msg)

    def __len__(self) -> int:
        return len(self.time)

    def take(self, rows: slice | NDArray[Any]) -> Events:
        """Choose events by a slice (without copying), by places or by a mask."""
        return Events(**{name: getattr(self, name)[rows] for name in _KINDS})

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Give the arrays by name, as the constructor takes them."""
        return {name: getattr(self, name) for name in _KINDS}

    @classmethod
    def concat(cls, parts: Sequence[Events]) -> Events:
        """Join parts, of which there is at least one, in their order."""
        if len(parts) == 1:
            return parts[0]
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in _KINDS})

    @classmethod
    def empty(cls, schema: EventSchema) -> Events:
        """Give no events, of the right widths."""
        n_ids, n_dense = len(schema.id_fields), len(schema.dense)
        return cls(np.zeros((0, n_ids)), np.zeros((0, n_dense)), np.zeros(0), np.zeros(0))  # type: ignore[arg-type]


_KINDS: dict[str, type[np.generic]] = {
    "ids": np.uint64,
    "dense": np.float32,
    "label": np.float32,
    "time": np.int64,
    "offset": np.float32,
    "key": np.uint64,
}


def hash_integers(values: NDArray[Any]) -> NDArray[np.uint64]:
    """Hash integers to 64 bits: the finaliser of splitmix64 on v + the golden ratio, modulo 2^64.

    It is a bijection of the 64-bit integers (so two integers never collide), except that the one value whose hash would
    be 0 gets 1: 0 stands for a missing id.

    Args:
        values: integers of any type, any shape; a negative one counts modulo 2^64.

    Returns:
        uint64, the same shape.

    References:
        Steele, Lea and Flood, Fast splittable pseudorandom number generators, OOPSLA 2014.
    """
    z = values.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    z ^= z >> np.uint64(30)
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    z[z == MISSING] = 1
    return z


def hash_strings(values: Sequence[str]) -> NDArray[np.uint64]:
    """Hash strings to 64 bits: a decimal integer as :func:`hash_integers` hashes the number, others by BLAKE2b.

    So ``7`` in one source and ``"7"`` in the next are one id, ``"07"`` is another. The empty string is missing.

    Args:
        values: strings; each costs about a microsecond, so callers pass each distinct one once.

    Returns:
        uint64 [n].
    """
    found = np.zeros(len(values), np.uint64)
    whole = []
    for place, value in enumerate(values):
        if _DECIMAL.fullmatch(value) and -(1 << 63) <= int(value) < 1 << 64 and value != "-0":
            whole.append(place)
            found[place] = int(value) % (1 << 64)
        elif value:
            digest = blake2b(value.encode("utf-8", "surrogatepass"), digest_size=8).digest()
            found[place] = int.from_bytes(digest, "little") or 1
    found[whole] = hash_integers(found[whole])
    return found


def hash_column(column: Any) -> NDArray[np.uint64]:  # noqa: ANN401 - pyarrow has no annotations
    """Hash a column of ids; an integer, its float and its decimal string hash alike, missing gives 0.

    Args:
        column: a pyarrow array of integers, booleans, floats, strings or categories of them.

    Raises:
        ColumnError: it is of another type.
    """
    pa, pc = need("pyarrow", extra="io"), need("pyarrow.compute", extra="io")
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _by_value(hash_column(column.dictionary), column.indices)
    if pa.types.is_null(kind):
        return np.zeros(len(column), np.uint64)
    if pa.types.is_boolean(kind):
        return hash_column(column.cast(pa.int8()))
    if pa.types.is_integer(kind):
        hashes = hash_integers(pc.fill_null(column, 0).to_numpy(zero_copy_only=False))
        return np.where(column.is_null(), MISSING, hashes) if column.null_count else hashes
    if pa.types.is_floating(kind):
        return _hash_floats(column.cast(pa.float64()).to_numpy(zero_copy_only=False))
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        codes = column.dictionary_encode()
        return _by_value(hash_strings(codes.dictionary.to_pylist()), codes.indices)
    msg = f"a column of ids is {kind}; expected integers or strings"
    raise ColumnError(msg)


def combine_hashes(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Hash rows of hashes to one; a row with a missing part is missing.

    Args:
        hashes: uint64 [n, k], k at least 1.

    Returns:
        uint64 [n].
    """
    whole = (hashes != MISSING).all(axis=1)
    found = hashes[:, 0].copy()
    for j in range(1, hashes.shape[1]):
        found = hash_integers(found) ^ hashes[:, j]
    found = hash_integers(found)
    found[~whole] = MISSING
    return found


def pack_times(columns: Sequence[NDArray[np.int64]]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Pack k columns of time into one number that orders as they do, lexicographically.

    Each gets b = 64 // k bits (the first also what is left over),

        t = v_0 2^(b (k - 1)) + sum over i > 0 of (v_i + 2^(b-1)) 2^(b (k - 1 - i)).

    So the difference of two times is in units of the last column while the others are equal.

    Args:
        columns: int64 [n] each, at least one.

    Returns:
        t, int64 [n], and bool [n], whether every column of the row fits its bits: from -2^(b-1) up to 2^(b-1) - 1.
    """
    k = len(columns)
    bits = 64 // k
    packed = np.zeros(len(columns[0]), np.int64)
    fits = np.ones(len(packed), np.bool_)
    for i, column in enumerate(columns):
        width = bits if i else 64 - bits * (k - 1)
        if width < 64:
            fits &= (column >= -(1 << (width - 1))) & (column < 1 << (width - 1))
        # All but the first are counted from their lowest value, or the sum of the lowest would fall below -2^63.
        from_lowest = np.where(fits, column, 0) + (1 << (bits - 1) if i else 0)
        packed += from_lowest << (bits * (k - 1 - i))
    return packed, fits


def _by_value(hashes: NDArray[np.uint64], indices: Any) -> NDArray[np.uint64]:  # noqa: ANN401 - pyarrow
    """Spread the hashes of distinct values over the rows; a null index is missing."""
    pc = need("pyarrow.compute", extra="io")
    places = pc.fill_null(indices.cast("int64"), len(hashes)).to_numpy(zero_copy_only=False)
    found: NDArray[np.uint64] = np.append(hashes, MISSING)[places]
    return found


def _hash_floats(values: NDArray[np.float64]) -> NDArray[np.uint64]:
    whole = np.isfinite(values) & (values == np.floor(values)) & (np.abs(values) < 2.0**53)
    hashes = hash_integers(np.where(whole, values, 0).astype(np.int64))
    other = np.flatnonzero(~whole & ~np.isnan(values))
    hashes[other] = hash_strings([repr(float(value)) for value in values[other]])
    hashes[np.isnan(values)] = MISSING
    return hashes
