"""How a :class:`~prunus.engine.recommender.Recommender` stands in a model file.

Rows are packed: how many values each has, the gaps between their factors, and the values as whole steps, float16 or
float32, whichever holds them exactly. What is the same for all (no bias, scales of one) is not there at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from prunus.engine.header import require
from prunus.engine.item_ids import pack_ids, unpack_ids
from prunus.engine.packing import about_bytes, pack, unpack
from prunus.engine.recommender import MAX_ITEMS, MAX_STORED, DenseFactors, SparseFactors, SparseRows
from prunus.errors import RecommenderError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from prunus.engine.recommender import Recommender

FLOATS = {"F16": np.float16, "F32": np.float32}
"""Types of an array of floats: 16 bits where that loses nothing."""

FORMS = ("tied", "untied", "item_item", "dense", "dense_untied")
"""What the rows are."""

FIELDS = frozenset({"items", "width", "form", "stored", "values", "steps", "scale", "bias", "popular", "ids"})
"""Entries of the description."""

LARGEST_LEVEL = 127
"""Added to a level, so that it is no negative number."""

MOST_PER_BYTE = 16
"""Items, or stored values, for each byte of a file: an honest one never has as many, a forged one could have any."""


def describe(model: Recommender, item_ids: tuple[str, ...] | None) -> dict[str, Any]:
    """Return the header's description, in plain JSON values."""
    dense = isinstance(model, DenseFactors)
    form = ("dense" if model.tied else "dense_untied") if dense else "tied" if model.tied else "untied"
    entry: dict[str, Any] = {"items": model.n_items, "width": model.n_factors, "form": form}
    if isinstance(model, SparseFactors):
        entry["form"] = "item_item" if model.item_item else form
        entry["stored"] = [len(rows.value) for rows in _parts(model)]
    values = np.concatenate([_values(part).ravel() for part in _parts(model)])
    steps = [step for step in _steps(model) if step is not None]
    entry["values"] = "levels" if len(steps) == len(_steps(model)) else _float_type(values)
    if entry["values"] == "levels":
        entry["steps"] = _float_type(np.concatenate(steps))
    entry |= {name: _float_type(array) for name, array in _floats(model).items()}
    entry["popular"] = len(model.popular)
    return entry if item_ids is None else entry | {"ids": True}


def tensors(model: Recommender, item_ids: tuple[str, ...] | None) -> dict[str, NDArray[Any]]:
    """Return the arrays to be written, in the types that :func:`types` states."""
    entry = describe(model, item_ids)
    found = {name: pack(numbers) for name, numbers in _whole_numbers(model, entry).items()}
    found |= {name: array.astype(FLOATS[entry[name]]) for name, array in _floats(model).items()}
    for side, part, step in zip(_sides(entry), _parts(model), _steps(model), strict=False):
        if entry["values"] != "levels":
            found[f"{side}.value"] = _values(part).astype(FLOATS[entry["values"]])
        elif not (isinstance(model, DenseFactors) and side == "encode"):
            assert step is not None
            found[f"{side}.step"] = step.astype(FLOATS[entry["steps"]])
    return found if item_ids is None else found | {"ids": pack_ids(item_ids)}


def about_row_bytes(model: Recommender) -> float:
    """Tell by entropy how many bytes a model's rows take, to a hundredth of what packing them says, in a fraction of its time.

    Args:
        model: on levels.
    """
    return sum(about_bytes(numbers) for numbers in _whole_numbers(model, describe(model, None)).values())


def _whole_numbers(model: Recommender, entry: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Return the arrays that are packed as whole numbers."""
    found: dict[str, NDArray[Any]] = {"popular": model.popular}
    for side, part, step in zip(_sides(entry), _parts(model), _steps(model), strict=False):
        if isinstance(part, SparseRows):
            gaps = np.diff(part.factor, prepend=-1)
            starts = part.indptr[:-1][part.lengths > 0]
            gaps[starts] = part.factor[starts] + 1
            found |= {f"{side}.length": part.lengths, f"{side}.gap": gaps - 1}
        if entry["values"] == "levels":
            assert step is not None
            values = _values(part)
            wide = step if len(step) == 1 else step[:, None] if values.ndim == 2 else step[part.row]
            found[f"{side}.level"] = np.rint(values / wide).astype(np.int64).ravel() + LARGEST_LEVEL
    return found


def types(entry: object, name: str) -> dict[str, str]:
    """Check a description, and return safetensors' name of the type of each array that it calls for.

    Raises:
        ModelFileError: the description is not one that :func:`describe` could have written.
    """
    what = f"the description of its factors, {entry!r:.200}, is unknown"
    require(isinstance(entry, dict) and entry.keys() <= FIELDS, name, what)
    assert isinstance(entry, dict)
    require(entry.get("form") in FORMS and isinstance(entry["form"], str), name, what)
    for count, least, most in (("items", 1, MAX_ITEMS), ("width", 1, MAX_ITEMS), ("popular", 0, MAX_ITEMS)):
        require(type(entry.get(count)) is int and least <= entry[count] <= most, name, what)
    sides, dense = _sides(entry), entry["form"].startswith("dense")
    require(("stored" in entry) != dense, name, what)
    if not dense:
        stored = entry["stored"]
        require(isinstance(stored, list) and len(stored) == len(sides), name, what)
        require(all(type(count) is int and 0 <= count <= MAX_STORED for count in stored), name, what)
    values = entry.get("values")
    require(isinstance(values, str) and values in {"levels", *FLOATS}, name, what)
    require(("steps" in entry) == (values == "levels") and entry.get("ids", True) is True, name, what)
    for part in ("steps", "scale", "bias"):
        require(part not in entry or (isinstance(entry[part], str) and entry[part] in FLOATS), name, what)
    found = {"popular": "U8"} | {part: entry[part] for part in ("scale", "bias") if part in entry}
    for side in sides:
        found |= {} if dense else {f"{side}.length": "U8", f"{side}.gap": "U8"}
        found |= {f"{side}.level": "U8"} if values == "levels" else {f"{side}.value": str(values)}
        if values == "levels" and not (dense and side == "encode"):
            found[f"{side}.step"] = entry["steps"]
    return found | ({"ids": "U8"} if "ids" in entry else {})


def build(entry: Any, arrays: Mapping[str, NDArray[Any]]) -> tuple[Recommender, tuple[str, ...] | None]:  # noqa: ANN401 - JSON
    """Build the model, and its items' names where the file has them.

    Args:
        entry: a description that has passed :func:`types`.
        arrays: with the types that it states.

    Raises:
        RecommenderError: the arrays do not describe a recommender that the engine can run.
    """
    dense = entry["form"].startswith("dense")
    n_items, width, sides = entry["items"], entry["width"], _sides(entry)
    file_bytes = sum(array.nbytes for array in arrays.values())
    for count in [n_items, entry["popular"], *([n_items * width] if dense else entry["stored"])]:
        if count > MOST_PER_BYTE * file_bytes:
            msg = f"{count} items or values in {file_bytes} bytes; expected at most {MOST_PER_BYTE} a byte"
            raise RecommenderError(msg)
    if any(array.ndim != 1 for name, array in arrays.items() if name != "check" and not (dense and "value" in name)):
        msg = "an array of the factors has not one dimension"
        raise RecommenderError(msg)
    rest: dict[str, Any] = {
        "encode_scale": arrays.get("scale"),
        "bias": arrays.get("bias"),
        "popular": unpack(arrays["popular"], entry["popular"], "popular"),
    }
    ids = unpack_ids(arrays["ids"], n_items) if "ids" in entry else None
    if dense:
        step = arrays["decode.step"].astype(np.float32) if "steps" in entry else None
        if step is not None and len(step) not in {1, n_items}:
            msg = f"decode.step has {len(step)} entries; expected 1 or {n_items}"
            raise RecommenderError(msg)
        wide = None if step is None else step[:, None]
        matrices = [_build_values(side, arrays, (n_items, width), wide) for side in sides]
        return DenseFactors(matrices[0], matrices[1] if len(matrices) > 1 else None, **rest, step=step), ids
    rows = [_build_rows(side, arrays, entry, stored) for side, stored in zip(sides, entry["stored"], strict=True)]
    encode = rows[1] if len(rows) > 1 else None
    return SparseFactors(rows[0], encode, **rest, item_item=entry["form"] == "item_item"), ids


def _build_rows(side: str, arrays: Mapping[str, NDArray[Any]], entry: dict[str, Any], stored: int) -> SparseRows:
    n_items = entry["items"]
    lengths = unpack(arrays[f"{side}.length"], n_items, f"{side}.length")
    if lengths.sum() != stored:
        msg = f"rows of {side} have {lengths.sum()} values in all; expected {stored}, as the header says"
        raise RecommenderError(msg)
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    total = np.cumsum(unpack(arrays[f"{side}.gap"], stored, f"{side}.gap") + 1)
    factor = total - np.repeat(np.concatenate([[0], total])[indptr[:-1]], lengths) - 1
    step = arrays[f"{side}.step"].astype(np.float32) if "steps" in entry else None
    if step is not None and len(step) not in {1, n_items}:
        msg = f"{side}.step has {len(step)} entries; expected 1 or {n_items}"
        raise RecommenderError(msg)
    wide = step if step is None or len(step) == 1 else np.repeat(step, lengths)
    return SparseRows(entry["width"], indptr, factor, _build_values(side, arrays, (stored,), wide), step)


def _build_values(
    side: str, arrays: Mapping[str, NDArray[Any]], shape: tuple[int, ...], step: NDArray[np.float32] | None
) -> NDArray[np.float32]:
    if step is None:
        values = arrays[f"{side}.value"]
        if values.shape != shape:
            msg = f"{side}.value has shape {values.shape}; expected {shape}"
            raise RecommenderError(msg)
        return values.astype(np.float32)
    levels = unpack(arrays[f"{side}.level"], int(np.prod(shape)), f"{side}.level") - LARGEST_LEVEL
    with np.errstate(over="ignore", invalid="ignore"):  # infinities are refused by the type
        return (levels.reshape(shape).astype(np.float32) * step).astype(np.float32)


def _sides(entry: Mapping[str, Any]) -> tuple[str, ...]:
    return ("decode", "encode") if entry["form"] in {"untied", "dense_untied"} else ("decode",)


def _parts(model: Recommender) -> list[Any]:
    return [model.decode] if model.tied or model.encode is None else [model.decode, model.encode]


def _values(part: SparseRows | NDArray[np.float32]) -> NDArray[np.float32]:
    return part.value if isinstance(part, SparseRows) else part


def _steps(model: Recommender) -> list[NDArray[np.float32] | None]:
    parts = _parts(model)
    return [model.step] * len(parts) if isinstance(model, DenseFactors) else [rows.step for rows in parts]


def _floats(model: Recommender) -> dict[str, NDArray[np.float32]]:
    """Return the arrays of one float for each item that say anything."""
    given = {"scale": (model.encode_scale, 1.0), "bias": (model.bias, 0.0)}
    return {name: array for name, (array, plain) in given.items() if array is not None and (array != plain).any()}


def _float_type(array: NDArray[np.float32]) -> str:
    with np.errstate(over="ignore"):
        return "F16" if np.array_equal(array.astype(np.float16).astype(np.float32), array) else "F32"
