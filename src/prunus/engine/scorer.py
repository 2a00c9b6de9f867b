"""What scores documents in a service: a network on the best instruction set of this CPU, and the schema it is for."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from prunus import _native
from prunus.data.ranking import Schema
from prunus.engine.network import Sparse
from prunus.errors import ColumnError, DataError, InstructionSetError, NetworkError, SchemaError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

    from prunus.engine.network import Network

_array_type, _empty = np.ndarray, np.empty  # looked up once: a call on one document takes 0.3 us in all
_FORCED = os.environ.get("PRUNUS_ISA")  # read once: a process scores with one instruction set from start to end
Frame: TypeAlias = Any
"""A frame of pandas, Polars or Arrow: anything with ``columns`` or ``column_names``; none of them is imported here."""


def isas() -> list[str]:
    """Instruction sets that this build has and this CPU runs, the best first."""
    return list(_native.isas())


def choose_isa(name: str | None = None) -> str:
    """Return the instruction set to score with: the one asked for, else ``PRUNUS_ISA``, else the best of this CPU.

    Args:
        name: an instruction set, or None.

    Raises:
        InstructionSetError: this build or this CPU does not have it.
    """
    usable = _native.isas()
    wanted = name if name is not None else _FORCED
    if not wanted:
        return usable[0]
    if wanted not in usable:
        source = "isa" if name is not None else "PRUNUS_ISA"
        msg = f"got {source}={wanted!r}; expected one of {', '.join(usable)} (what this build and this CPU have)"
        raise InstructionSetError(msg)
    return wanted


def _pack(network: Network, schema: Schema, isa: str) -> _native.Network:
    layers: list[tuple[object, ...]] = [
        ("sparse", x.indptr, x.indices, x.values, x.bias, x.n_inputs, int(x.activation))
        if isinstance(x, Sparse)
        else ("dense", x.weight, x.bias, int(x.activation))
        for x in network.layers
    ]
    inputs = network.inputs
    try:
        return _native.Network(
            n_features=network.n_features,
            allow_missing=np.asarray(schema.allow_missing, np.uint8),
            feature=inputs.feature,
            kind=inputs.kind,
            center=inputs.center,
            scale=inputs.scale,
            lower=inputs.lower,
            upper=inputs.upper,
            fill=inputs.fill,
            layers=layers,
            isa=isa,
        )
    except ValueError as error:
        msg = f"the engine cannot run this network: {error}"
        raise NetworkError(msg) from error


class RankScorer:
    """Scores documents with a network; thread-safe, picklable, usable after a fork.

    Args:
        network: what to run.
        schema: names and missing-value rules of its features, one for each column of X.
        metadata: anything to keep beside the model, as read from its file.
        isa: instruction set to use; default ``PRUNUS_ISA`` if set, else the best of this CPU.

    Raises:
        SchemaError: the schema does not fit the network.
        NetworkError: the engine cannot run the network.
        InstructionSetError: the instruction set is not in this build or not on this CPU.

    Attributes:
        network: the network.
        schema: the schema.
        metadata: the metadata.
    """

    def __init__(
        self, network: Network, schema: Schema, *, metadata: Mapping[str, Any] | None = None, isa: str | None = None
    ) -> None:
        if schema.n_features != network.n_features:
            msg = (
                f"got a schema of {schema.n_features} features for a network of {network.n_features};"
                " expected one name for each column"
            )
            raise SchemaError(msg)
        self.network = network
        self.schema = schema
        self.metadata: dict[str, Any] = dict(metadata or {})
        self._asked_isa = isa
        self._native = _pack(network, schema, choose_isa(isa))
        self._run = self._native.score
        self._read = tuple(int(f) for f in network.features_read)

    def __reduce__(self) -> tuple[Any, ...]:
        # The instruction set is chosen anew where the pickle is read, unless one was asked for.
        return _restore, (self.network, self.schema, self.metadata, self._asked_isa)

    def __repr__(self) -> str:
        return (
            f"RankScorer({len(self._read)} of {self.schema.n_features} features read,"
            f" {self.network.nonzeros} weights, {self.isa})"
        )

    @property
    def isa(self) -> str:
        """Instruction set that this scorer runs on."""
        return self._native.isa

    @property
    def features_used(self) -> tuple[str, ...]:
        """Names of the features that the model reads; no other needs to be computed."""
        return tuple(self.schema.feature_names[f] for f in self._read)

    def narrow(self) -> RankScorer:
        """Return a scorer of the same scores whose X has only the columns :attr:`features_used`, in that order."""
        schema = Schema(self.features_used, tuple(self.schema.allow_missing[f] for f in self._read))
        return RankScorer(self.network.narrow(), schema, metadata=self.metadata, isa=self._asked_isa)

    def score(
        self, X: ArrayLike | Frame, out: NDArray[np.float32] | None = None, *, n_threads: int = 1
    ) -> NDArray[np.float32]:
        """Score documents.

        Args:
            X: [n_docs, n_features]. A C-contiguous float32 array is used as it is. Any other array of real numbers is
                converted to that; one dimension means one document. A frame of pandas, Polars or Arrow is matched by
                column name, and columns that the model does not read may be absent.
            out: float32 [n_docs], C-contiguous: where to write the scores. With it (and one thread, and an X that needs
                no conversion) a call allocates nothing.
            n_threads: threads to share the documents between; the scores do not depend on it.

        Returns:
            float32 [n_docs], higher is better; ``out`` if that was given.

        Raises:
            SchemaError: X has other columns than the model was made for, or ``out`` cannot take the scores.
            ColumnError: X, or a column of the frame, does not hold real numbers.
            MissingValueError: a NaN in a feature that may not be missing.
            InfiniteValueError: an infinity in a feature that the model reads.
        """
        if type(X) is _array_type:
            try:
                scores = _empty(len(X), np.float32) if out is None else out
                status = self._run(X, scores, n_threads)
            except (TypeError, ValueError):
                return self._score_converted(X, out, n_threads)
            if status:
                self.schema.explain(X, self._read)
            return scores
        return self._score_converted(X, out, n_threads)

    def rank(
        self, X: ArrayLike | Frame, offsets: NDArray[np.integer[Any]] | None = None, k: int | None = None
    ) -> NDArray[np.int64]:
        """Rank documents by score, those of each query for themselves; ties keep the input order.

        Args:
            X: as in :meth:`score`.
            offsets: int [n_queries + 1], rising from 0 to n_docs: query q owns rows offsets[q]:offsets[q + 1]. Default:
                all rows are one query.
            k: keep the best k documents of each query; default all.

        Returns:
            int64: rows of X, best first, query after query.

        Raises:
            DataError: as in :meth:`score`; or offsets do not fit, or k is below 1.
        """
        if k is not None and k < 1:
            msg = f"got k={k}; expected 1 or more, or None for all documents"
            raise DataError(msg)
        scores = self.score(X)
        if offsets is None:
            return np.argsort(-scores, kind="stable")[:k].astype(np.int64, copy=False)
        bounds: NDArray[np.integer[Any]] = np.asarray(offsets)
        if (
            bounds.ndim != 1
            or bounds.dtype.kind not in "iu"
            or len(bounds) == 0
            or bounds[0] != 0
            or bounds[-1] != len(scores)
            or (bounds[1:] < bounds[:-1]).any()
        ):
            msg = f"got offsets that do not rise from 0 to {len(scores)}; expected integers, one more than queries"
            raise DataError(msg)
        bounds = bounds.astype(np.int64)
        sizes: NDArray[np.int64] = bounds[1:] - bounds[:-1]
        query = np.repeat(np.arange(len(sizes)), sizes)
        order = np.lexsort((-scores, query)).astype(np.int64, copy=False)
        if k is None:
            return order
        place = np.arange(len(scores)) - np.repeat(bounds[:-1], sizes)
        return order[place < k]

    def _score_converted(self, X: Frame, out: Frame, n_threads: object) -> NDArray[np.float32]:
        """Take the slow way to the same call: convert what can be converted, and name what cannot."""
        if not isinstance(n_threads, int | np.integer) or not 1 <= n_threads < 1 << 16:
            msg = f"got n_threads={n_threads!r}; expected a whole number from 1 to 65535"
            raise DataError(msg)
        matrix = self._from_frame(X) if _is_frame(X) else self._from_array(X)
        scores = np.empty(len(matrix), np.float32) if out is None else _checked_out(out, len(matrix))
        if self._run(matrix, scores, int(n_threads)):
            self.schema.explain(matrix, self._read)
        return scores

    def _from_array(self, X: Frame) -> NDArray[np.float32]:
        try:
            array = np.ma.filled(X.astype(np.float32), np.nan) if np.ma.isMaskedArray(X) else np.asarray(X)
        except (TypeError, ValueError) as error:
            msg = f"X cannot be read as an array ({error}); expected real numbers of shape [n_docs, n_features]"
            raise ColumnError(msg) from error
        if array.dtype.kind not in "fiub":
            msg = f"got X of dtype {array.dtype}; expected real numbers: convert it to float32"
            raise ColumnError(msg)
        matrix = array.reshape(1, -1) if array.ndim == 1 else array
        if matrix.ndim != 2 or matrix.shape[1] != self.schema.n_features:
            msg = (
                f"got X of shape {list(array.shape)}; expected [n_docs, {self.schema.n_features}]: one column for each"
                " feature of the model, in its order (or a frame, whose columns are matched by name)"
            )
            raise SchemaError(msg)
        return _float32(matrix)

    def _from_frame(self, frame: Frame) -> NDArray[np.float32]:
        names = list(frame.column_names if hasattr(frame, "column_names") else frame.columns)
        self.schema.columns(names, needed=self._read)
        repeated = [name for name in self.features_used if names.count(name) > 1]
        if repeated:
            msg = f"column {repeated[0]!r} stands {names.count(repeated[0])} times in the frame; expected it once"
            raise ColumnError(msg)
        columns = [(f, _column(frame, self.schema.feature_names[f])) for f in self._read]
        matrix = np.zeros((len(columns[0][1]), self.schema.n_features), np.float32)
        for feature, column in columns:
            matrix[:, feature] = column
        return matrix


def _restore(network: Network, schema: Schema, metadata: dict[str, Any], isa: str | None) -> RankScorer:
    return RankScorer(network, schema, metadata=metadata, isa=isa)


def _is_frame(X: Frame) -> bool:
    return hasattr(X, "column_names") or hasattr(X, "columns")


def _checked_out(out: object, n_docs: int) -> NDArray[np.float32]:
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
