"""How a :class:`~prunus.engine.network.Network` stands in a model file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from prunus.engine import reference
from prunus.engine.arrays import MAX_LAYERS
from prunus.engine.codec import CHECK_ROWS
from prunus.engine.header import require
from prunus.engine.network import Activation, BlockInt8, Dense, DenseInt8, InputStage, Network, SlotKind, Sparse
from prunus.errors import NetworkError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from prunus.data.ranking import Schema
    from prunus.engine.network import Layer

INPUTS = {
    "feature": "I32",
    "kind": "U8",
    "center": "F32",
    "scale": "F32",
    "lower": "F32",
    "upper": "F32",
    "fill": "F32",
}
"""Arrays of the input stage and their types."""

NUMPY = {"U8": np.uint8, "I8": np.int8, "U16": np.uint16, "I16": np.int16, "I32": np.int32, "F32": np.float32}
"""NumPy's type for safetensors' names."""

LARGEST = float(np.finfo(np.float32).max)

DRAWS = 64
"""Candidates for each row that a network with int8 layers is checked with."""


@dataclass(frozen=True)
class LayerForm:
    """How one class of layer stands in a file.

    Attributes:
        layer: the class.
        arrays: its array fields and their types, in the newest format version.
        numbers: its other fields beside ``n_inputs`` and the activation: finite float32 numbers, in the header.
        takes_inputs: whether the class must be told ``n_inputs`` (else its weight says it).
        since: first format version that has it.
        older: types of array fields that were others in earlier versions: version -> field -> type.
    """

    layer: type[Layer]
    arrays: Mapping[str, str]
    numbers: tuple[str, ...] = ()
    takes_inputs: bool = False
    since: int = 1
    older: Mapping[int, Mapping[str, str]] = field(default_factory=dict)

    def types(self, version: int) -> dict[str, str]:
        """Return the type of each array in a format version."""
        return {**self.arrays, **self.older.get(version, {})}


# An input's index fits 16 bits: MAX_WIDTH is 65,536. Version 1 used 32.
FORMS: dict[str, LayerForm] = {
    "dense": LayerForm(Dense, {"weight": "F32", "bias": "F32"}),
    "sparse": LayerForm(
        Sparse,
        {"indptr": "I32", "indices": "U16", "values": "F32", "bias": "F32"},
        takes_inputs=True,
        older={1: {"indices": "I32"}},
    ),
    "dense_int8": LayerForm(
        DenseInt8,
        {"weight": "I8", "scale": "F32", "bias": "F32"},
        numbers=("input_scale", "input_zero"),
        since=2,
    ),
    "block_int8": LayerForm(
        BlockInt8,
        {"indptr": "I32", "blocks": "U16", "weight": "I8", "scale": "F32", "bias": "F32"},
        numbers=("input_scale", "input_zero"),
        takes_inputs=True,
        since=2,
    ),
}
"""Kind of layer in the header (that of its ``shape``) -> its form."""


class NetworkCodec:
    """See :class:`~prunus.engine.codec.Codec`."""

    key = "layers"
    model = Network
    since = 1
    tolerance = 1e-4

    def describe(self, model: Network, /) -> object:
        """Return an object for each layer: kind, activation, inputs, outputs, and its form's numbers."""
        return [
            {
                "kind": layer.shape.kind,
                "activation": Activation(layer.activation).name.lower(),
                "n_inputs": layer.n_inputs,
                "n_outputs": layer.n_outputs,
                **{number: float(getattr(layer, number)) for number in FORMS[layer.shape.kind].numbers},
            }
            for layer in model.layers
        ]

    def tensors(self, model: Network, /) -> dict[str, NDArray[Any]]:
        """Return the input stage's arrays and each layer's."""
        found = {f"inputs.{part}": getattr(model.inputs, part) for part in INPUTS}
        for number, layer in enumerate(model.layers):
            for part, dtype in FORMS[layer.shape.kind].arrays.items():
                found[f"layer.{number}.{part}"] = getattr(layer, part).astype(NUMPY[dtype], copy=False)
        return found

    def types(self, entry: object, version: int, name: str, /) -> dict[str, str]:
        """Check the list of layers; return the type of each array that it calls for."""
        require(isinstance(entry, list) and entry, name, "its list of layers is empty or missing")
        assert isinstance(entry, list)
        require(len(entry) <= MAX_LAYERS, name, f"it has {len(entry)} layers, more than {MAX_LAYERS}")
        found = {f"inputs.{part}": dtype for part, dtype in INPUTS.items()}
        for number, layer in enumerate(entry):
            form = _checked_form(layer, version, name)
            found |= {f"layer.{number}.{part}": dtype for part, dtype in form.types(version).items()}
        return found

    def build(
        self,
        entry: Any,  # noqa: ANN401 - JSON
        tensors: Mapping[str, NDArray[Any]],
        n_features: int,
        /,
        *,
        n_outputs: int = 1,
    ) -> Network:
        """Build the network from arrays of the right names and types."""
        built: list[Layer] = []
        for number, described in enumerate(entry):
            form = FORMS[described["kind"]]
            parts: dict[str, Any] = {part: tensors[f"layer.{number}.{part}"] for part in form.arrays}
            parts |= {part: described[part] for part in form.numbers}
            if form.takes_inputs:
                parts["n_inputs"] = described["n_inputs"]
            layer = form.layer(**parts, activation=Activation[described["activation"].upper()])
            if (layer.n_inputs, layer.n_outputs) != (described["n_inputs"], described["n_outputs"]):
                msg = f"layer {number} is {layer.n_inputs} -> {layer.n_outputs}, not as the header says"
                raise NetworkError(msg)
            built.append(layer)
        inputs = InputStage(**{part: tensors[f"inputs.{part}"] for part in INPUTS})
        return Network(n_features, inputs, tuple(built), n_outputs)

    def check_rows(self, model: Network, schema: Schema, /) -> NDArray[np.float32]:
        """Generate rows to check a network with: each input slot near its own centre, about one scale away.

        For a slot with t(x) = x or a signed logarithm, z is drawn from a normal distribution (always the same draws)
        and x is t^-1(z / scale + center); for an equality, x is the centre in every other row. A feature with several
        slots takes them in turn, row by row. The last row is missing wherever the schema allows it.

        Where an int8 layer rounds what float32 arithmetic made, two machines may differ by a step near a half integer.
        So each row of such a network is the best of :data:`DRAWS`: the one whose steps stay farthest from halves (and
        its last row is missing in some of the allowed places only).
        """
        rng = np.random.Generator(np.random.PCG64(20220210))
        allowed = np.asarray(schema.allow_missing)
        first = draw_rows(model.inputs, allowed, rng, 1.0)
        if not any(isinstance(layer, DenseInt8 | BlockInt8) for layer in model.layers):
            return first
        draws = np.stack([first, *(draw_rows(model.inputs, allowed, rng, rng.random()) for _ in range(DRAWS - 1))])
        wide = np.zeros((DRAWS * CHECK_ROWS, model.n_features), np.float32)
        wide[:, model.features_read] = draws.reshape(DRAWS * CHECK_ROWS, -1)
        with np.errstate(over="ignore", invalid="ignore"):
            distance = reference.distance_from_half(model, wide).reshape(DRAWS, CHECK_ROWS)
        return np.ascontiguousarray(draws[distance.argmax(axis=0), np.arange(CHECK_ROWS)])

    def score(self, model: Network, X: NDArray[np.float32], /) -> NDArray[np.float32]:
        """Return the scores by the slow twin of the network kernels."""
        return reference.score(model, X)


def draw_rows(
    stage: InputStage, allow_missing: NDArray[np.bool_], rng: np.random.Generator, missing: float
) -> NDArray[np.float32]:
    """Draw rows to check with; in the last, that share of the features that may be missing are.

    Args:
        stage: an input stage.
        allow_missing: bool, for each feature, whether it may be missing.
        rng: source of the draws.
        missing: share in 0 to 1.

    Returns:
        float32 [CHECK_ROWS, features that some slot reads].
    """
    largest = 1e38  # so that the difference of two stays inside float32
    z = rng.standard_normal((CHECK_ROWS, stage.n_slots))
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
    allowed = allow_missing[features]
    rows[-1, allowed if missing == 1 else allowed & (rng.random(len(features)) < missing)] = np.nan
    return rows


def _checked_form(entry: object, version: int, name: str) -> LayerForm:
    """Check the description of a layer and return the form of its kind."""
    what = f"layer {entry!r:.200} is unknown"
    require(isinstance(entry, dict) and isinstance(entry.get("kind"), str) and entry["kind"] in FORMS, name, what)
    assert isinstance(entry, dict)
    form = FORMS[entry["kind"]]
    require(version >= form.since, name, f"{what} to format version {version}")
    require(set(entry) == {"kind", "activation", "n_inputs", "n_outputs", *form.numbers}, name, what)
    activation = isinstance(entry["activation"], str) and entry["activation"].upper() in Activation.__members__
    sizes = type(entry["n_inputs"]) is int and type(entry["n_outputs"]) is int
    numbers = all(type(entry[number]) is float and abs(entry[number]) <= LARGEST for number in form.numbers)
    require(activation and sizes and numbers, name, what)
    return form
