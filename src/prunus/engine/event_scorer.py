"""What scores events in a service: a click model on the best instruction set of this CPU, and the columns it is for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from prunus import _native
from prunus.data.ranking import Schema
from prunus.engine.live import Scorer
from prunus.engine.scorer import choose_isa, pack
from prunus.errors import DataError, InfiniteValueError, NetworkError, SchemaError

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

    from prunus.data.events import EventSchema
    from prunus.engine.click import ClickModel
    from prunus.engine.network import Network


def _pack(model: ClickModel, isa: str) -> _native.Click:
    def network(part: Network, n_optional: int) -> _native.Network:
        # Only dense features of the outside may be missing.
        names = tuple(map(str, range(part.n_features)))
        return pack(part, Schema(names, tuple(f < n_optional for f in range(part.n_features))), isa)

    bottom = None if model.bottom is None else network(model.bottom, model.n_dense)
    top = network(model.top, model.n_dense if bottom is None else 0)
    try:
        return _native.Click(
            n_dense=model.n_dense,
            keys=[table.keys for table in model.tables],
            rows=[table.rows for table in model.tables],
            interactions=model.interactions,
            bottom=bottom,
            top=top,
        )
    except ValueError as error:
        msg = f"the engine cannot run this click model: {error}"
        raise NetworkError(msg) from error


class _Live:
    """One whole model as a call sees it; :meth:`EventScorer.swap` replaces the reference to it, never a part of it."""

    __slots__ = ("asked_isa", "isa", "metadata", "model", "run", "schema")

    def __init__(self, model: ClickModel, schema: EventSchema, metadata: dict[str, Any], asked_isa: str | None) -> None:
        self.model = model
        self.schema = schema
        self.metadata = metadata
        self.asked_isa = asked_isa
        self.isa = choose_isa(asked_isa)
        self.run = _pack(model, self.isa).score


class EventScorer(Scorer[_Live]):
    """Scores events with a click model; thread-safe, picklable, usable after a fork, replaceable while it scores.

    Args:
        model: what to run.
        schema: its columns: id fields and dense features in their order.
        metadata: anything to keep beside the model, as read from its file.
        isa: instruction set to use; default ``PRUNUS_ISA`` if set, else the best of this CPU.

    Raises:
        SchemaError: the schema does not fit the model.
        NetworkError: the engine cannot run the model.
        InstructionSetError: the instruction set is not in this build or not on this CPU.
    """

    def __init__(
        self,
        model: ClickModel,
        schema: EventSchema,
        *,
        metadata: Mapping[str, Any] | None = None,
        isa: str | None = None,
    ) -> None:
        if (len(schema.id_fields), len(schema.dense)) != (model.n_ids, model.n_dense):
            msg = (
                f"got a schema of {len(schema.id_fields)} id fields and {len(schema.dense)} dense features for a model"
                f" of {model.n_ids} and {model.n_dense}; expected a name for each"
            )
            raise SchemaError(msg)
        self._live = _Live(model, schema, dict(metadata or {}), isa)

    def __reduce__(self) -> tuple[Any, ...]:
        # The instruction set is chosen anew where the pickle is read, unless one was asked for.
        live = self._live
        return _restore, (live.model, live.schema, live.metadata, live.asked_isa)

    def __repr__(self) -> str:
        live = self._live
        return f"EventScorer({live.model.n_ids} ids, {live.model.n_dense} dense, {live.model.nonzeros} weights, {live.isa})"

    @property
    def model(self) -> ClickModel:
        """The click model that scores now."""
        return self._live.model

    @property
    def schema(self) -> EventSchema:
        """The columns of the model that scores now."""
        return self._live.schema

    def score(
        self, ids: ArrayLike, dense: ArrayLike, *, out: NDArray[np.float32] | None = None, n_threads: int = 1
    ) -> NDArray[np.float32]:
        """Give the log-odds of a click of each event.

        Args:
            ids: uint64 [n, n_ids], as :func:`prunus.data.events.hash_integers` and ``hash_strings`` make them; 0 is a
                missing id. One that the model does not know is the unknown one.
            dense: [n, n_dense], NaN where missing. A C-contiguous float32 array is used as it is.
            out: float32 [n], C-contiguous: where to write the scores. With it (and one thread, and arrays that need no
                conversion) a call allocates nothing.
            n_threads: threads to share the events between; the scores do not depend on it.

        Returns:
            float32 [n]; ``out`` if that was given.

        Raises:
            SchemaError: shapes do not fit the model or each other.
            DataError: ids are no whole numbers, or dense features no real ones; or n_threads is out of range.
            InfiniteValueError: an infinity in a dense feature that the model reads.
        """
        live = self._live
        try:
            scores = np.empty(len(ids), np.float32) if out is None else out  # type: ignore[arg-type]
            status = live.run(ids, dense, scores, n_threads)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            ids, dense = _converted(live, ids, dense)
            scores = np.empty(len(ids), np.float32) if out is None else out
            try:
                status = live.run(ids, dense, scores, n_threads)
            except (TypeError, ValueError) as error:
                msg = f"{error}; expected out of float32 [{len(ids)}], and n_threads from 1 to 65535"
                raise DataError(msg) from error
        if status:
            _explain(live, np.asarray(dense))
        return scores

    def probability(
        self, ids: ArrayLike, dense: ArrayLike, *, out: NDArray[np.float32] | None = None, n_threads: int = 1
    ) -> NDArray[np.float32]:
        """Give the probability of a click of each event: 1 / (1 + exp(-score)); arguments as in :meth:`score`."""
        p = self.score(ids, dense, out=out, n_threads=n_threads)
        with np.errstate(over="ignore"):  # exp of a score below -88 is infinity, and the probability 0
            np.exp(np.negative(p, out=p), out=p)
        return np.reciprocal(np.add(p, 1.0, out=p), out=p)

    def _check_new(self, new: _Live) -> None:
        mine, theirs = self._live.schema, new.schema
        if (mine.id_fields, mine.dense) != (theirs.id_fields, theirs.dense):
            msg = (
                f"the new model has other columns ({theirs.id_fields}, {theirs.dense}); expected the same names in the"
                " same order: nothing was replaced"
            )
            raise SchemaError(msg)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model file, with schema and metadata; see :func:`prunus.engine.click_file.save`."""
        from prunus.engine.click_file import save

        live = self._live
        save(path, live.model, live.schema, metadata=live.metadata)


def _converted(live: _Live, ids: ArrayLike, dense: ArrayLike) -> tuple[NDArray[np.uint64], NDArray[np.float32]]:
    """Convert what can be converted, and name what cannot."""
    wide_ids, wide_dense = np.asarray(ids), np.asarray(dense)
    if wide_ids.dtype.kind not in "iu" and wide_ids.size:
        msg = f"got ids of {wide_ids.dtype}; expected uint64: hash them (prunus.data.events.hash_strings)"
        raise DataError(msg)
    if wide_dense.dtype.kind not in "fiub" and wide_dense.size:
        msg = f"got dense features of {wide_dense.dtype}; expected real numbers"
        raise DataError(msg)
    n = wide_ids.shape[0] if wide_ids.ndim == 2 else wide_dense.shape[0] if wide_dense.ndim == 2 else 0
    expected = (n, live.model.n_ids), (n, live.model.n_dense)
    if (wide_ids.shape, wide_dense.shape) != expected:
        msg = f"got ids of shape {wide_ids.shape} and dense features of {wide_dense.shape}; expected {expected[0]} and {expected[1]}"  # fmt: skip
        raise SchemaError(msg)
    with np.errstate(over="ignore"):  # what float32 cannot hold is an infinity, which is named where it is read
        return np.ascontiguousarray(wide_ids, np.uint64), np.ascontiguousarray(wide_dense, np.float32)


def _explain(live: _Live, dense: NDArray[Any]) -> None:
    """Name what the engine met."""
    for feature, name in enumerate(live.schema.dense):
        wrong = np.flatnonzero(np.isinf(dense[:, feature]))
        if len(wrong):
            row = int(wrong[0])
            msg = (
                f"dense feature {name!r} is {dense[row, feature]} at event {row}; expected finite values: clip it, or"
                " pass NaN if the value is missing"
            )
            raise InfiniteValueError(msg)
    msg = "products of embeddings are beyond float32; expected smaller ones: the model cannot be used"
    raise NetworkError(msg)


def _restore(model: ClickModel, schema: EventSchema, metadata: dict[str, Any], isa: str | None) -> EventScorer:
    return EventScorer(model, schema, metadata=metadata, isa=isa)
