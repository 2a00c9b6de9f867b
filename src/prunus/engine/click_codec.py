"""How a :class:`~prunus.engine.click.ClickModel` stands in a model file: its networks as a ranker's, beside its tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from prunus.engine import click_reference, reference
from prunus.engine.click import MAX_FIELDS, ClickModel, IdEmbeddings
from prunus.engine.codec import CHECK_ROWS
from prunus.engine.header import require
from prunus.engine.layers import Dense, Sparse
from prunus.engine.network_codec import DRAWS, NetworkCodec, draw_rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from prunus.engine.network import InputStage

FIELDS = frozenset({"n_dense", "n_features", "tables", "interactions", "bottom", "top"})
"""Entries of the description."""

_NETWORK = NetworkCodec()


def describe(model: ClickModel) -> dict[str, Any]:
    """Return the header's description, in plain JSON values."""
    networks = {name: _NETWORK.describe(network) for name, network in model.networks.items()}
    return {
        "n_dense": model.n_dense,
        "n_features": model.top.n_features,
        "tables": [len(table.keys) for table in model.tables],
        "interactions": model.interactions,
        "bottom": None,
        **networks,
    }


def tensors(model: ClickModel) -> dict[str, NDArray[Any]]:
    """Return the arrays to be written, in the types that :func:`types` states."""
    found: dict[str, NDArray[Any]] = {}
    for field, table in enumerate(model.tables):
        found |= {f"table.{field}.keys": table.keys, f"table.{field}.rows": table.rows}
    for name, network in model.networks.items():
        found |= {f"{name}.{part}": array for part, array in _NETWORK.tensors(network).items()}
    return found


def types(entry: object, version: int, name: str) -> dict[str, str]:
    """Check a description, and return safetensors' name of the type of each array that it calls for.

    Raises:
        ModelFileError: the description is not one that :func:`describe` could have written.
    """
    what = f"the description of its click model, {entry!r:.200}, is unknown"
    require(isinstance(entry, dict) and set(entry) == FIELDS, name, what)
    assert isinstance(entry, dict)
    counts, sizes = [entry["n_dense"], entry["n_features"]], entry["tables"]
    require(isinstance(sizes, list) and len(sizes) <= MAX_FIELDS, name, what)
    require(all(type(count) is int and count >= 0 for count in counts + sizes), name, what)
    require(isinstance(entry["interactions"], bool), name, what)
    found = {f"table.{field}.{part}": dtype for field in range(len(sizes)) for part, dtype in _TABLE.items()}
    for part in ("top",) if entry["bottom"] is None else ("bottom", "top"):
        found |= {f"{part}.{array}": dtype for array, dtype in _NETWORK.types(entry[part], version, name).items()}
    return found


def build(entry: Any, arrays: Mapping[str, NDArray[Any]]) -> ClickModel:  # noqa: ANN401 - JSON
    """Build the model.

    Args:
        entry: a description that has passed :func:`types`.
        arrays: with the types that it states.

    Raises:
        NetworkError: the arrays do not describe a click model that the engine can run.
    """
    tables = [
        IdEmbeddings(arrays[f"table.{field}.keys"], arrays[f"table.{field}.rows"])
        for field in range(len(entry["tables"]))
    ]
    bottom = None
    if entry["bottom"] is not None:
        n_outputs = entry["bottom"][-1]["n_outputs"]
        bottom = _NETWORK.build(entry["bottom"], _part("bottom", arrays), entry["n_dense"], n_outputs=n_outputs)
    top = _NETWORK.build(entry["top"], _part("top", arrays), entry["n_features"])
    return ClickModel(entry["n_dense"], tuple(tables), bottom, entry["interactions"], top)


def check_ids(model: ClickModel) -> NDArray[np.uint64]:
    """Return the ids that a model is checked with: known ones of every table, and unknown ones.

    Returns:
        uint64 [CHECK_ROWS, n_ids].
    """
    rows = np.arange(CHECK_ROWS)
    ids = np.zeros((CHECK_ROWS, model.n_ids), np.uint64)
    for field, table in enumerate(model.tables):
        place = (rows * 104_729 + field * 7_919) % (len(table.keys) + 1)
        ids[:, field] = np.append(table.keys, np.uint64(0))[place]
    return ids


def check_dense(model: ClickModel) -> NDArray[np.float32]:
    """Generate dense features to check a model with; see :meth:`~prunus.engine.network_codec.NetworkCodec.check_rows`.

    Returns:
        float32 [CHECK_ROWS, n_dense]; features that are not read are 0.
    """
    rng = np.random.Generator(np.random.PCG64(20101016))
    first = _draw(model, rng, 1.0)
    if all(isinstance(layer, Dense | Sparse) for network in model.networks.values() for layer in network.layers):
        return first
    draws = np.stack([first, *(_draw(model, rng, rng.random()) for _ in range(DRAWS - 1))])
    distance = np.stack([_distance_from_half(model, dense) for dense in draws])
    return np.ascontiguousarray(draws[distance.argmax(axis=0), np.arange(CHECK_ROWS)])


_TABLE = {"keys": "U64", "rows": "F32"}
"""Arrays of a table and their types."""


def _part(name: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    prefix = f"{name}."
    return {key.removeprefix(prefix): array for key, array in arrays.items() if key.startswith(prefix)}


def _dense_stage(model: ClickModel) -> InputStage | None:
    """The input slots that read dense features, or None where there are none."""
    stage = model.top.inputs if model.bottom is None else model.bottom.inputs
    slots = np.flatnonzero(stage.feature < model.n_dense)
    return stage.take(slots) if len(slots) else None


def _draw(model: ClickModel, rng: np.random.Generator, missing: float) -> NDArray[np.float32]:
    dense = np.zeros((CHECK_ROWS, model.n_dense), np.float32)
    stage = _dense_stage(model)
    if stage is not None:
        dense[:, np.unique(stage.feature)] = draw_rows(stage, np.ones(model.n_dense, bool), rng, missing)
    return dense


def _distance_from_half(model: ClickModel, dense: NDArray[np.float32]) -> NDArray[np.float64]:
    """As :func:`prunus.engine.reference.distance_from_half`, over both networks: float64 [CHECK_ROWS]."""
    with np.errstate(over="ignore", invalid="ignore"):
        least = reference.distance_from_half(model.top, click_reference.inputs(model, check_ids(model), dense))
        if model.bottom is not None:
            least = np.minimum(least, reference.distance_from_half(model.bottom, dense))
    return least
