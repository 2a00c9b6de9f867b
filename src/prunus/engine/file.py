"""The model file: one safetensors file with a readable header, a checksum over every byte, and scores to check at load.

A file is trusted only after all of these hold, in this order: its length is the one its header states; its checksum is
right; its format version and kind are known; its tensors are those that its header calls for, of the right type, and
pass the validation of :class:`~prunus.engine.network.Network` or :class:`~prunus.engine.ensemble.Ensemble`; and the
rows that it carries score here as they did where it was written. ``docs/model-file.md`` describes the format.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from prunus.data.ranking import Schema
from prunus.engine.arrays_file import file_bytes, hold_scores, take_tensors, write_loadable
from prunus.engine.codec import CHECK_ROWS, widen
from prunus.engine.disk import write_atomically
from prunus.engine.ensemble_codec import EnsembleCodec
from prunus.engine.header import checked_header, read_bytes, refuse, require, reserved
from prunus.engine.network_codec import NetworkCodec
from prunus.engine.scorer import RankScorer
from prunus.errors import DataError, NetworkError, SchemaError

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from prunus.engine.codec import Codec, Model

__all__ = ["CHECK_ROWS", "check_rows", "codec_of", "load", "read_header", "save", "to_bytes", "write_atomically"]

KIND = "ranker"
"""The header's ``kind``."""

CODECS: tuple[Codec[Any], ...] = (NetworkCodec(), EnsembleCodec())
"""One for each class of model that a ranker can be."""


def codec_of(model: Model) -> Codec[Any]:
    """Return the codec of a model's class."""
    return next(codec for codec in CODECS if isinstance(model, codec.model))


def save(path: str | os.PathLike[str], model: Model, schema: Schema, *, metadata: Mapping[str, object]) -> None:
    """Write a model file, whole or not at all: into a temporary file beside it, which then takes its name.

    Equal input gives equal bytes. What was written would load here: the file is read back from memory first.

    Args:
        path: where to; an existing file is replaced.
        model: what the engine runs, a network or an ensemble of trees.
        schema: its features' names and missing-value rules, one for each column.
        metadata: provenance in plain JSON values (NumPy numbers and arrays are converted), under any keys but the
            file's own (:data:`~prunus.engine.header.KEYS`).

    Raises:
        SchemaError: the schema does not fit the model.
        NetworkError: the model's scores are not finite or not repeatable within the tolerance of its codec.
        ModelFileError: the metadata cannot be written.
        OutputError: the file cannot be written; one that stood there before is untouched.
    """
    write_loadable(path, to_bytes(model, schema, metadata=metadata), scorer_from_bytes)


def load(path: str | os.PathLike[str]) -> RankScorer:
    """Read a model file and check all of it before anything is returned.

    Args:
        path: a file that :func:`save` wrote.

    Returns:
        A scorer on the best instruction set of this CPU; its ``metadata`` are those that were saved.

    Raises:
        ModelFileError: the file is absent, truncated, damaged, foreign, or holds what cannot run.
        ModelVersionError: it was written in a format that this version does not know.
    """
    return scorer_from_bytes(read_bytes(path), str(path))


def read_header(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return a model file's header (format version, kind, schema, layers or trees, metadata, checksum) without a model.

    Args:
        path: a model file of any kind.

    Raises:
        ModelFileError: the file is absent, truncated, damaged or foreign.
        ModelVersionError: it was written in a format that this version does not know.
    """
    return checked_header(read_bytes(path), str(path))


def to_bytes(model: Model, schema: Schema, *, metadata: Mapping[str, object]) -> bytes:
    """Return the bytes of a model file; arguments and errors as in :func:`save`."""
    if schema.n_features != model.n_features:
        msg = f"got a schema of {schema.n_features} features for a model of {model.n_features}; expected the same"
        raise SchemaError(msg)
    codec = codec_of(model)
    fields = {
        "kind": KIND,
        "schema": {
            "feature_names": list(schema.feature_names),
            "allow_missing": [bool(x) for x in schema.allow_missing],
        },
        codec.key: codec.describe(model),
    }
    rows = codec.check_rows(model, schema)
    with np.errstate(over="ignore", invalid="ignore"):
        scores = codec.score(model, widen(rows, model))
    if not np.isfinite(scores).all():
        msg = "the model's scores overflow float32 on ordinary rows; expected finite scores: check its weights"
        raise NetworkError(msg)
    checks = {"check.rows": rows, "check.scores": np.asarray(scores, np.float32)}
    return file_bytes(fields, codec.tensors(model) | checks, metadata)


def check_rows(model: Model, schema: Schema) -> NDArray[np.float32]:
    """Generate the rows that a model is checked with; see :meth:`~prunus.engine.codec.Codec.check_rows`."""
    return codec_of(model).check_rows(model, schema)


def scorer_from_bytes(content: bytes, name: str) -> RankScorer:
    """Check the bytes of a model file as :func:`load` does; ``name`` is what to call it in messages."""
    header = checked_header(content, name, KIND)
    version = header["format_version"]
    codecs = [codec for codec in CODECS if codec.since <= version and codec.key in header]
    require(len(codecs) == 1, name, f"it describes {len(codecs)} models, not one")
    codec = codecs[0]
    schema = _schema(header.get("schema"), name)
    tensors = take_tensors(
        content, codec.types(header[codec.key], version, name) | {"check.rows": "F32", "check.scores": "F32"}, name
    )
    try:
        model = codec.build(header[codec.key], tensors, schema.n_features)
        rows, expected = tensors["check.rows"], tensors["check.scores"]
        shape = (CHECK_ROWS, len(model.features_read))
        require(rows.shape == shape, name, f"check.rows has shape {rows.shape}, not {shape}")
        require(expected.shape == (CHECK_ROWS,), name, f"check.scores has shape {expected.shape}")
        require(np.isfinite(expected).all(), name, "check.scores holds NaN or infinity")
        metadata = {key: value for key, value in header.items() if key not in reserved(version)}
        scorer = RankScorer(model, schema, metadata=metadata)
        found = scorer.score(widen(rows, model))
    except (NetworkError, DataError, MemoryError) as error:
        refuse(name, error)
    hold_scores(found, expected, codec.tolerance, name, scorer.isa)
    return scorer


def _schema(entry: object, name: str) -> Schema:
    require(
        isinstance(entry, dict) and set(entry) == {"feature_names", "allow_missing"},
        name,
        "its schema has unknown fields",
    )
    assert isinstance(entry, dict)
    names, allowed = entry["feature_names"], entry["allow_missing"]
    require(isinstance(names, list) and all(isinstance(x, str) for x in names), name, "feature_names are no texts")
    require(isinstance(allowed, list) and all(isinstance(x, bool) for x in allowed), name, "allow_missing is no truths")
    require(0 < len(names) == len(allowed), name, "its schema has no features or a rule too many or too few")
    try:
        return Schema(tuple(names), tuple(allowed))
    except SchemaError as error:
        refuse(name, error)
