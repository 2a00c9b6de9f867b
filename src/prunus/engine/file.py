"""The model file: one safetensors file with a readable header, a checksum over every byte, and scores to check at load.

A file is trusted only after all of these hold, in this order: its length is the one its header states; its checksum is
right; its format version and kind are known; its tensors are those that the layers call for, of the right type, and
pass the validation of :class:`~prunus.engine.network.Network`; and the rows that it carries score here as they did
where it was written. ``docs/model-file.md`` describes the format.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as tensors_from_bytes
from safetensors.numpy import save as tensors_to_bytes

from prunus.data.ranking import Schema
from prunus.engine.disk import write_atomically
from prunus.engine.header import (
    FORMAT_VERSION,
    RESERVED,
    checked_header,
    header_text,
    outer_header,
    read_bytes,
    refuse,
    require,
    sign,
)
from prunus.engine.network import Activation, Dense, InputStage, Network, SlotKind, Sparse
from prunus.engine.reference import score as reference_score
from prunus.engine.scorer import RankScorer
from prunus.errors import DataError, ModelFileError, NetworkError, SchemaError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from prunus.engine.network import Layer

__all__ = ["CHECK_ROWS", "CHECK_TOLERANCE", "check_rows", "load", "read_header", "save", "to_bytes", "write_atomically"]

CHECK_ROWS = 8
"""Rows of generated features that a file carries with their scores."""

CHECK_TOLERANCE = 1e-4
"""Scores agree within this times max(1, |score|)."""

_INPUTS = ("feature", "kind", "center", "scale", "lower", "upper", "fill")
_DTYPES = {"feature": "I32", "kind": "U8", "indptr": "I32", "indices": "I32"}
"""safetensors' name of each tensor's type, by the last part of its name; all others are F32."""

_TENSORS_OF_LAYER = {"dense": ("weight", "bias"), "sparse": ("indptr", "indices", "values", "bias")}


def save(
    path: str | os.PathLike[str],
    network: Network,
    schema: Schema,
    *,
    metadata: Mapping[str, object],
    kind: str = "ranker",
) -> None:
    """Write a model file, whole or not at all: into a temporary file beside it, which then takes its name.

    Equal input gives equal bytes. What was written would load here: the file is read back from memory first.

    Args:
        path: where to; an existing file is replaced.
        network: what the engine runs.
        schema: its features' names and missing-value rules, one for each column.
        metadata: provenance in plain JSON values (NumPy numbers and arrays are converted), under any keys but those of
            :data:`RESERVED`.
        kind: ``"ranker"``, the only kind so far.

    Raises:
        SchemaError: the schema does not fit the network.
        NetworkError: the network's scores are not finite or not repeatable within 1e-4.
        ModelFileError: the metadata cannot be written, or the kind is unknown.
        OutputError: the file cannot be written; one that stood there before is untouched.
    """
    content = to_bytes(network, schema, metadata=metadata, kind=kind)
    try:
        _from_bytes(content, "the network to be saved")
    except ModelFileError as error:
        msg = f"{error}; the network cannot be saved: expected one whose scores can be repeated, so check its weights"
        raise NetworkError(msg) from error
    write_atomically(path, content)


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
    return _from_bytes(read_bytes(path), str(path))


def read_header(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return a model file's header (format version, kind, schema, layers, metadata, checksum) without building a model.

    Args:
        path: a file that :func:`save` wrote.

    Raises:
        ModelFileError: the file is absent, truncated, damaged or foreign.
        ModelVersionError: it was written in a format that this version does not know.
    """
    return checked_header(read_bytes(path), str(path), _LOADERS)


def to_bytes(network: Network, schema: Schema, *, metadata: Mapping[str, object], kind: str = "ranker") -> bytes:
    """Return the bytes of a model file; arguments and errors as in :func:`save`."""
    if kind not in _LOADERS:
        msg = f"got kind {kind!r}; expected one of {', '.join(_LOADERS)}"
        raise ModelFileError(msg)
    if schema.n_features != network.n_features:
        msg = f"got a schema of {schema.n_features} features for a network of {network.n_features}; expected the same"
        raise SchemaError(msg)
    taken = RESERVED & set(metadata)
    if taken:
        msg = f"metadata may not use the keys {sorted(taken)}: they belong to the file; expected other names"
        raise ModelFileError(msg)
    header = {
        **metadata,
        "format_version": FORMAT_VERSION,
        "kind": kind,
        "schema": {
            "feature_names": list(schema.feature_names),
            "allow_missing": [bool(x) for x in schema.allow_missing],
        },
        "layers": [_describe(layer) for layer in network.layers],
    }
    tensors = {f"inputs.{name}": getattr(network.inputs, name) for name in _INPUTS}
    for number, layer in enumerate(network.layers):
        for name in _TENSORS_OF_LAYER[_layer_kind(layer)]:
            tensors[f"layer.{number}.{name}"] = getattr(layer, name)
    rows = check_rows(network, schema)
    with np.errstate(over="ignore", invalid="ignore"):
        scores = reference_score(network, _widen(rows, network))
    if not np.isfinite(scores).all():
        msg = "the network's scores overflow float32 on ordinary rows; expected finite scores: check its weights"
        raise NetworkError(msg)
    tensors |= {"check.rows": rows, "check.scores": np.asarray(scores, np.float32)}
    arrays = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    return sign(tensors_to_bytes(arrays, {"prunus": header_text(header)}))


def check_rows(network: Network, schema: Schema) -> NDArray[np.float32]:
    """Generate rows to check a network with: each input slot near its own centre, about one scale away.

    For a slot with t(x) = x or a signed logarithm, z is drawn from a normal distribution (always the same draws) and
    x is t^-1(z / scale + center); for an equality, x is the centre in every other row. A feature with several slots
    takes them in turn, row by row. The last row is missing wherever the schema allows it. No row of any user is in it.

    Args:
        network: the network.
        schema: its features.

    Returns:
        float32 [CHECK_ROWS, number of features that the network reads], in the order of ``network.features_read``.
    """
    stage = network.inputs
    largest = 1e38  # so that the difference of two stays inside float32
    z = np.random.Generator(np.random.PCG64(20220210)).standard_normal((CHECK_ROWS, stage.n_slots))
    scale = np.where(stage.scale == 0, 1.0, stage.scale.astype(np.float64))
    value = np.clip(z / scale + stage.center, -largest, largest)
    # 88 keeps expm1 inside float32.
    logarithm = np.sign(value) * np.expm1(np.minimum(np.abs(value), 88.0))
    equal = np.where(
        np.arange(CHECK_ROWS)[:, None] % 2 == 0, stage.center, np.clip(stage.center + z, -largest, largest)
    )
    by_slot = np.select([stage.kind == SlotKind.VALUE, stage.kind == SlotKind.LOG, stage.kind == SlotKind.EQUAL],
                        [value, logarithm, equal], z)  # fmt: skip
    features, first, count = np.unique(stage.feature, return_index=True, return_counts=True)
    slot = first + np.arange(CHECK_ROWS)[:, None] % count
    rows = np.take_along_axis(by_slot, slot, axis=1).astype(np.float32)
    rows[-1, np.asarray(schema.allow_missing)[features]] = np.nan
    return rows


def _layer_kind(layer: Layer) -> str:
    kind = layer.shape.kind
    if kind not in _TENSORS_OF_LAYER:
        msg = f"got a layer of kind {kind}; expected one that a model file holds: {', '.join(_TENSORS_OF_LAYER)}"
        raise NetworkError(msg)
    return kind


def _describe(layer: Layer) -> dict[str, object]:
    return {
        "kind": _layer_kind(layer),
        "activation": Activation(layer.activation).name.lower(),
        "n_inputs": layer.n_inputs,
        "n_outputs": layer.n_outputs,
    }


def _widen(rows: NDArray[np.float32], network: Network) -> NDArray[np.float32]:
    """Put the columns of the features that are read into rows of all features; 0 elsewhere."""
    wide = np.zeros((len(rows), network.n_features), np.float32)
    wide[:, network.features_read] = rows
    return wide


def _from_bytes(content: bytes, name: str) -> RankScorer:
    header = checked_header(content, name, _LOADERS)
    return _LOADERS[header["kind"]](content, header, name)


def _load_ranker(content: bytes, header: dict[str, Any], name: str) -> RankScorer:
    schema = _schema(header.get("schema"), name)
    layers = header.get("layers")
    require(isinstance(layers, list) and layers, name, "its list of layers is empty or missing")
    tensors = _tensors(content, [_layer_entry(entry, name) for entry in header["layers"]], name)
    try:
        network = _network(schema, header["layers"], tensors)
        rows, expected = tensors["check.rows"], tensors["check.scores"]
        shape = (CHECK_ROWS, len(network.features_read))
        require(rows.shape == shape, name, f"check.rows has shape {rows.shape}, not {shape}")
        require(expected.shape == (CHECK_ROWS,), name, f"check.scores has shape {expected.shape}")
        require(np.isfinite(expected).all(), name, "check.scores holds NaN or infinity")
        metadata = {key: value for key, value in header.items() if key not in RESERVED}
        scorer = RankScorer(network, schema, metadata=metadata)
        found = scorer.score(_widen(rows, network))
    except (NetworkError, DataError, MemoryError) as error:
        refuse(name, error)
    with np.errstate(over="ignore", invalid="ignore"):  # NaN found compares as different
        same = np.abs(found - expected) <= CHECK_TOLERANCE * np.maximum(1, np.abs(expected))
    if not same.all():
        row = int(np.flatnonzero(~same)[0])
        msg = (
            f"{name} does not score here as where it was written (reference row {row}: {found[row]}, expected"
            f" {expected[row]}, instruction set {scorer.isa}): make the model again, or report this as a bug"
        )
        raise ModelFileError(msg)
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


def _layer_entry(entry: object, name: str) -> tuple[str, ...]:
    """Check the description of a layer; return the names of its tensors."""
    known = isinstance(entry, dict) and set(entry) == {"kind", "activation", "n_inputs", "n_outputs"}
    require(known, name, f"layer {entry!r:.200} is unknown")
    assert isinstance(entry, dict)
    kinds = isinstance(entry["kind"], str) and entry["kind"] in _TENSORS_OF_LAYER
    activation = isinstance(entry["activation"], str) and entry["activation"].upper() in Activation.__members__
    sizes = type(entry["n_inputs"]) is int and type(entry["n_outputs"]) is int
    require(kinds and activation and sizes, name, f"layer {entry!r:.200} is unknown")
    return _TENSORS_OF_LAYER[entry["kind"]]


def _tensors(content: bytes, layers: list[tuple[str, ...]], name: str) -> dict[str, NDArray[Any]]:
    """Take the tensors out of the file: exactly those that the layers call for, each of its type."""
    wanted = {*(f"inputs.{part}" for part in _INPUTS), "check.rows", "check.scores"}
    wanted |= {f"layer.{number}.{part}" for number, parts in enumerate(layers) for part in parts}
    entries = outer_header(content, name)
    present = set(entries) - {"__metadata__"}
    missing, extra = sorted(wanted - present), sorted(present - wanted)
    require(not missing, name, f"tensors are missing ({', '.join(missing)[:200]})")
    require(not extra, name, f"tensors are unknown ({', '.join(extra)[:200]})")
    for tensor in wanted:
        expected, found = _DTYPES.get(tensor.rpartition(".")[2], "F32"), entries[tensor].get("dtype")
        require(found == expected, name, f"tensor {tensor} has type {found!r:.50}, not {expected}")
    try:
        return dict(tensors_from_bytes(content))
    except (SafetensorError, ValueError, OverflowError, TypeError) as error:
        refuse(name, error)


def _network(schema: Schema, layers: list[dict[str, Any]], tensors: Mapping[str, NDArray[Any]]) -> Network:
    """Build the network from tensors of the right names and types; raises NetworkError for all else."""
    built: list[Dense | Sparse] = []
    for number, entry in enumerate(layers):
        activation = Activation[entry["activation"].upper()]
        part = {name: tensors[f"layer.{number}.{name}"] for name in _TENSORS_OF_LAYER[entry["kind"]]}
        if entry["kind"] == "sparse":
            built.append(Sparse(**part, n_inputs=entry["n_inputs"], activation=activation))
        else:
            built.append(Dense(**part, activation=activation))
        if (built[-1].n_inputs, built[-1].n_outputs) != (entry["n_inputs"], entry["n_outputs"]):
            msg = f"layer {number} is {built[-1].n_inputs} -> {built[-1].n_outputs}, not as the header says"
            raise NetworkError(msg)
    inputs = InputStage(**{name: tensors[f"inputs.{name}"] for name in _INPUTS})
    return Network(schema.n_features, inputs, tuple(built))


_LOADERS: dict[str, Callable[[bytes, dict[str, Any], str], RankScorer]] = {"ranker": _load_ranker}
