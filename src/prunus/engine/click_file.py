"""The model file of a click model: the same container, header and checksum as a ranker's (:mod:`prunus.engine.file`).

Its check events are generated dense features, which stand in the file, with ids that follow from its tables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from prunus.data.events import EventSchema
from prunus.engine import click_codec as codec
from prunus.engine import click_reference as reference
from prunus.engine.arrays_file import file_bytes, hold_scores, take_tensors, write_loadable
from prunus.engine.codec import CHECK_ROWS
from prunus.engine.event_scorer import EventScorer
from prunus.engine.header import KEYS, checked_header, read_bytes, refuse, require
from prunus.errors import DataError, NetworkError

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from prunus.engine.click import ClickModel

KIND = "click"
"""The header's ``kind``, and its key for the description of the model."""

TOLERANCE = 1e-4
"""A loaded model's check scores agree within this times max(1, abs(score))."""


def to_bytes(model: ClickModel, schema: EventSchema, *, metadata: Mapping[str, object] | None = None) -> bytes:
    """Return the bytes of a model file; equal input gives equal bytes.

    Args:
        model: the click model.
        schema: columns of its events.
        metadata: provenance in plain JSON values, under any keys but the file's own.

    Raises:
        NetworkError: the model's scores are not finite.
        ModelFileError: the metadata cannot be written.
    """
    dense = codec.check_dense(model)
    with np.errstate(over="ignore", invalid="ignore"):
        scores = reference.score(model, codec.check_ids(model), dense)
    if not np.isfinite(scores).all():
        msg = "the model's scores overflow float32 on ordinary events; expected finite scores: check its weights"
        raise NetworkError(msg)
    fields = {"kind": KIND, "schema": schema.to_json(), KIND: codec.describe(model)}
    arrays = codec.tensors(model) | {"check.dense": dense, "check.scores": scores}
    return file_bytes(fields, arrays, metadata or {})


def save(
    path: str | os.PathLike[str],
    model: ClickModel,
    schema: EventSchema,
    *,
    metadata: Mapping[str, object] | None = None,
) -> None:
    """Write a model file, whole or not at all; what was written would load here.

    Args:
        path: where to; an existing file is replaced.
        model: as in :func:`to_bytes`, which says what else is raised.
        schema: likewise.
        metadata: likewise.

    Raises:
        SchemaError: the schema does not fit the model.
        OutputError: the file cannot be written; one that stood there before is untouched.
    """
    content = to_bytes(model, schema, metadata=metadata)
    write_loadable(path, content, scorer_from_bytes)


def load(path: str | os.PathLike[str]) -> EventScorer:
    """Read a model file and check all of it before anything is returned.

    Args:
        path: a file that :func:`save` wrote.

    Returns:
        A scorer on the best instruction set of this CPU, with the schema and the metadata that were saved.

    Raises:
        ModelFileError: the file is absent, truncated, damaged, foreign, or holds what cannot run.
        ModelVersionError: it was written in a format that this version does not know.
    """
    return scorer_from_bytes(read_bytes(path), str(path))


def scorer_from_bytes(content: bytes, name: str) -> EventScorer:
    """Check the bytes of a model file as :func:`load` does; ``name`` is what to call it in messages."""
    header = checked_header(content, name, KIND)
    schema = _schema(header.get("schema"), name)
    wanted = codec.types(header.get(KIND), header["format_version"], name)
    arrays = take_tensors(content, wanted | {"check.dense": "F32", "check.scores": "F32"}, name)
    try:
        model = codec.build(header[KIND], arrays)
        dense, expected = arrays["check.dense"], arrays["check.scores"]
        shape = (CHECK_ROWS, model.n_dense)
        require(dense.shape == shape, name, f"check.dense has shape {dense.shape}, not {shape}")
        require(expected.shape == (CHECK_ROWS,), name, f"check.scores has shape {expected.shape}")
        require(np.isfinite(expected).all(), name, "check.scores holds NaN or infinity")
        metadata = {key: value for key, value in header.items() if key not in KEYS | {KIND}}
        scorer = EventScorer(model, schema, metadata=metadata)
        found = scorer.score(codec.check_ids(model), dense)
    except (NetworkError, DataError, MemoryError) as error:
        refuse(name, error)
    hold_scores(found, expected, TOLERANCE, name, scorer.isa)
    return scorer


def _schema(entry: object, name: str) -> EventSchema:
    what = f"its schema, {entry!r:.200}, is unknown"
    require(isinstance(entry, dict) and all(isinstance(key, str) for key in entry), name, what)
    assert isinstance(entry, dict)
    for key, value in entry.items():
        if key in {"label", "where"}:
            good = isinstance(value, str) or (key == "where" and value is None)
        else:
            good = isinstance(value, list) and all(isinstance(one, str) for one in value)
        require(good, name, what)
    try:
        return EventSchema.from_json(entry)
    except DataError as error:
        refuse(name, error)
