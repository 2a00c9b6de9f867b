"""What scores documents in a service: a model on the best instruction set of this CPU, and the schema it is for."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from prunus import _native
from prunus.data.ranking import Schema
from prunus.engine.documents import checked_out, to_matrix
from prunus.engine.ensemble import ARRAYS, Ensemble
from prunus.engine.live import Scorer
from prunus.engine.network import BlockInt8, Dense, DenseInt8, Sparse
from prunus.errors import DataError, EnsembleError, InstructionSetError, NetworkError, SchemaError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

    from prunus.engine.codec import Model
    from prunus.engine.documents import Frame
    from prunus.engine.network import Layer, Network

_array_type, _empty = np.ndarray, np.empty  # looked up once: a call on one document takes 0.3 us in all
_FORCED = os.environ.get("PRUNUS_ISA")  # read once: a process scores with one instruction set from start to end


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


def _native_layer(layer: Layer) -> tuple[object, ...]:
    """The layer as the native module takes it."""
    kind, act = layer.shape.kind, int(layer.activation)
    match layer:
        case Dense():
            return (kind, layer.weight, layer.bias, act)
        case Sparse():
            return (kind, layer.indptr, layer.indices, layer.values, layer.bias, layer.n_inputs, act)
        case DenseInt8():
            return (kind, layer.weight, layer.scale, layer.bias, layer.input_scale, layer.input_zero, act)
        case BlockInt8():
            pattern = (layer.indptr, layer.blocks, layer.weight, layer.scale, layer.bias, layer.n_inputs)
            return (kind, *pattern, layer.input_scale, layer.input_zero, act)


def pack(network: Network, schema: Schema, isa: str) -> _native.Network:
    """Pack a network for an instruction set.

    Args:
        network: what to run.
        schema: which of its features may be missing.
        isa: an instruction set that can be used here.

    Raises:
        NetworkError: the engine cannot run it.
    """
    layers = [_native_layer(layer) for layer in network.layers]
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
            n_outputs=network.n_outputs,
        )
    except ValueError as error:
        msg = f"the engine cannot run this network: {error}"
        raise NetworkError(msg) from error


def _plant(ensemble: Ensemble, schema: Schema, isa: str) -> _native.Forest:
    forbidden = [name for name, allowed in zip(schema.feature_names, schema.allow_missing, strict=True) if not allowed]
    if forbidden:
        msg = (
            f"the schema forbids missing values in {len(forbidden)} features ({forbidden[0]!r}); expected none: trees"
            " take NaN as they were trained to, so let allow_missing be true"
        )
        raise SchemaError(msg)
    try:
        return _native.Forest(
            n_features=ensemble.n_features,
            base=ensemble.base,
            **{name: getattr(ensemble, name) for name in ARRAYS},
            isa=isa,
        )
    except ValueError as error:
        msg = f"the engine cannot run this ensemble: {error}"
        raise EnsembleError(msg) from error


class _Live:
    """One whole model as a call sees it; :meth:`RankScorer.swap` replaces the reference to it, never a part of it."""

    __slots__ = ("asked_isa", "isa", "metadata", "model", "native", "read", "run", "schema")

    def __init__(self, model: Model, schema: Schema, metadata: dict[str, Any], asked_isa: str | None) -> None:
        self.model = model
        self.schema = schema
        self.metadata = metadata
        self.asked_isa = asked_isa
        isa = choose_isa(asked_isa)
        self.native = _plant(model, schema, isa) if isinstance(model, Ensemble) else pack(model, schema, isa)
        self.isa = self.native.isa
        self.run = self.native.score
        self.read = tuple(int(f) for f in model.features_read)


class RankScorer(Scorer[_Live]):
    """Scores documents with a model; thread-safe, picklable, usable after a fork, replaceable while it scores.

    Args:
        model: what to run, a network or an ensemble of trees.
        schema: names and missing-value rules of its features, one for each column of X. Trees take missing values in
            every feature.
        metadata: anything to keep beside the model, as read from its file.
        isa: instruction set to use; default ``PRUNUS_ISA`` if set, else the best of this CPU.

    Raises:
        SchemaError: the schema does not fit the model.
        NetworkError: the engine cannot run the model.
        InstructionSetError: the instruction set is not in this build or not on this CPU.
    """

    def __init__(
        self, model: Model, schema: Schema, *, metadata: Mapping[str, Any] | None = None, isa: str | None = None
    ) -> None:
        if schema.n_features != model.n_features:
            msg = (
                f"got a schema of {schema.n_features} features for a model of {model.n_features};"
                " expected one name for each column"
            )
            raise SchemaError(msg)
        self._live = _Live(model, schema, dict(metadata or {}), isa)

    def __reduce__(self) -> tuple[Any, ...]:
        # The instruction set is chosen anew where the pickle is read, unless one was asked for.
        live = self._live
        return _restore, (live.model, live.schema, live.metadata, live.asked_isa)

    def __repr__(self) -> str:
        live = self._live
        model = live.model
        what = f"{model.n_trees} trees" if isinstance(model, Ensemble) else f"{model.nonzeros} weights"
        return f"RankScorer({len(live.read)} of {live.schema.n_features} features read, {what}, {live.native.isa})"

    @property
    def model(self) -> Model:
        """The network or ensemble that scores now."""
        return self._live.model

    @property
    def network(self) -> Network:
        """The network that scores now.

        Raises:
            NetworkError: it is an ensemble of trees; see :attr:`model`.
        """
        model = self._live.model
        if isinstance(model, Ensemble):
            msg = f"the model is an ensemble of {model.n_trees} trees; expected a network: take scorer.model"
            raise NetworkError(msg)
        return model

    @property
    def schema(self) -> Schema:
        """The schema of the model that scores now."""
        return self._live.schema

    @property
    def _native(self) -> Any:  # noqa: ANN401 - a Network or a Forest; who asks knows which
        return self._live.native

    @property
    def features_used(self) -> tuple[str, ...]:
        """Names of the features that the model reads; no other needs to be computed."""
        live = self._live
        return tuple(live.schema.feature_names[f] for f in live.read)

    def narrow(self) -> RankScorer:
        """Return a scorer of the same scores whose X has only the columns :attr:`features_used`, in that order."""
        live = self._live
        read = live.read or (0,)  # trees of one leaf read nothing, but X has a column
        names = tuple(live.schema.feature_names[f] for f in read)
        schema = Schema(names, tuple(live.schema.allow_missing[f] for f in read))
        return RankScorer(live.model.narrow(), schema, metadata=live.metadata, isa=live.asked_isa)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model file; see :meth:`Scorer.save` and :func:`prunus.engine.file.save`."""
        from prunus.engine.file import save

        live = self._live
        save(path, live.model, live.schema, metadata=live.metadata)

    def _check_new(self, new: _Live) -> None:
        mine, theirs = self._live.schema.feature_names, new.schema.feature_names
        if mine != theirs:
            msg = (
                f"the new model has other features ({_difference(mine, theirs)}); expected the same names in the same"
                " order: nothing was replaced"
            )
            raise SchemaError(msg)

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
            InfiniteValueError: an infinity in a feature that a network reads (trees take infinities as numbers).
        """
        live = self._live
        if type(X) is _array_type:
            try:
                scores = _empty(len(X), np.float32) if out is None else out
                status = live.run(X, scores, n_threads)
            except (TypeError, ValueError):
                return _score_converted(live, X, out, n_threads)
            if status:
                live.schema.explain(X, live.read)
            return scores
        return _score_converted(live, X, out, n_threads)

    def leaves(self, X: ArrayLike | Frame) -> NDArray[np.int32]:
        """Return the leaf that each document reaches in each tree.

        Args:
            X: as in :meth:`score`.

        Returns:
            int32 [n_docs, n_trees]: index of the leaf inside its tree, as the library numbers them that the trees came
            from (see :meth:`prunus.teacher.trees.TreeTeacher.leaves`).

        Raises:
            NetworkError: the model is a network, which has no leaves.
            SchemaError, ColumnError: as in :meth:`score`.
        """
        live = self._live
        if not isinstance(live.model, Ensemble) or not isinstance(live.native, _native.Forest):
            msg = "the model is a network, which has no leaves; expected an ensemble of trees: see scorer.model"
            raise NetworkError(msg)
        matrix = to_matrix(live.schema, live.read, X)
        found = np.empty((len(matrix), live.model.n_trees), np.int32)
        live.native.leaves(matrix, found)
        return found

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


def _score_converted(live: _Live, X: Frame, out: Frame, n_threads: object) -> NDArray[np.float32]:
    """Take the slow way to the same call: convert what can be converted, and name what cannot."""
    if not isinstance(n_threads, int | np.integer) or not 1 <= n_threads < 1 << 16:
        msg = f"got n_threads={n_threads!r}; expected a whole number from 1 to 65535"
        raise DataError(msg)
    matrix = to_matrix(live.schema, live.read, X)
    scores = np.empty(len(matrix), np.float32) if out is None else checked_out(out, len(matrix))
    if live.run(matrix, scores, int(n_threads)):
        live.schema.explain(matrix, live.read)
    return scores


def _difference(mine: tuple[str, ...], theirs: tuple[str, ...]) -> str:
    """Say how two tuples of names differ."""
    if len(mine) != len(theirs):
        return f"{len(theirs)} instead of {len(mine)}"
    column = next(f for f, (a, b) in enumerate(zip(mine, theirs, strict=True)) if a != b)
    return f"column {column} is {theirs[column]!r} instead of {mine[column]!r}"


def _restore(model: Model, schema: Schema, metadata: dict[str, Any], isa: str | None) -> RankScorer:
    return RankScorer(model, schema, metadata=metadata, isa=isa)
