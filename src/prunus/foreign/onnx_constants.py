"""Constants of an ONNX graph as arrays, and what a graph computes from constants alone."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from prunus.errors import ForeignModelError
from prunus.extras import need

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

Node: TypeAlias = Any
"""A NodeProto: onnx is an optional dependency, so its types are not named here."""
Tensor: TypeAlias = Any
"""A TensorProto or a SparseTensorProto."""
Value: TypeAlias = Any
"""What an attribute holds: a number, a list of them, a tensor."""

LARGEST_MADE = 1 << 26
"""Most entries of a constant that is larger than what it is made from: a small file must not take gigabytes."""

NUMBERS = {1: "FLOAT", 11: "DOUBLE", 6: "INT32", 7: "INT64", 9: "BOOL"}
"""Element types that are read."""


def attribute(node: Node, name: str, default: Value) -> Value:
    """Return an attribute of a node, or the default."""
    for entry in node.attribute:
        if entry.name == name:
            return need("onnx.helper", "onnx").get_attribute_value(entry)
    return default


def tensor_array(tensor: Tensor) -> NDArray[Any]:
    """Return a constant as an array.

    Raises:
        ForeignModelError: its element type is not read (half precision, quantised), its shape and data do not fit, or
            it stands in another file.
    """
    values = tensor.values if hasattr(tensor, "values") else tensor
    kind = int(values.data_type)
    if kind not in NUMBERS:
        names = need("onnx", "onnx").TensorProto.DataType
        known = names.Name(kind) if kind in names.values() else str(kind)
        small = "half precision" if known in {"FLOAT16", "BFLOAT16"} else "quantised, or no numbers"
        msg = f"constant {values.name!r} has element type {known} ({small}); expected float32: give the net before that"
        raise ForeignModelError(msg)
    if values.external_data or values.data_location == 1:
        msg = f"constant {values.name!r} stands in another file; expected one file with all weights"
        raise ForeignModelError(msg)
    to_array = need("onnx.numpy_helper", "onnx").to_array
    try:
        if values is tensor:
            return np.asarray(to_array(tensor))
        return _dense(to_array(values), np.asarray(to_array(tensor.indices)), tuple(tensor.dims))
    except (ValueError, TypeError, IndexError, OverflowError) as error:
        msg = f"constant {values.name!r} is damaged ({error}); expected as many values as its shape says"
        raise ForeignModelError(msg) from error


def _dense(values: NDArray[Any], indices: NDArray[Any], dims: tuple[int, ...]) -> NDArray[Any]:
    size = 1
    for dim in dims:
        size *= max(int(dim), 0)
    if size > LARGEST_MADE:
        msg = f"a sparse constant of {size} entries; expected at most {LARGEST_MADE}"
        raise ValueError(msg)
    places = indices if indices.ndim == 1 else np.ravel_multi_index(tuple(indices.T), dims)
    array = np.zeros(size, values.dtype)
    if len(places) and (places.min() < 0 or places.max() >= size):
        msg = f"index {places.max()} of {size}"
        raise IndexError(msg)
    array[places] = values
    return array.reshape(dims)


def _constant(node: Node) -> NDArray[Any]:
    for name in ("value", "sparse_value"):
        tensor = attribute(node, name, None)
        if tensor is not None:
            return tensor_array(tensor)
    for name in ("value_float", "value_floats", "value_int", "value_ints"):
        value = attribute(node, name, None)
        if value is not None:
            return np.asarray(value, np.float32 if "float" in name else np.int64)
    msg = f"Constant {node.name!r} has no number"
    raise ForeignModelError(msg)


def _axes(node: Node, arrays: list[NDArray[Any]]) -> tuple[int, ...] | None:
    given = attribute(node, "axes", None) if len(arrays) < 2 else arrays[1].reshape(-1).tolist()
    return None if given is None else tuple(int(axis) for axis in given)


def _cast(node: Node, arrays: list[NDArray[Any]]) -> NDArray[Any]:
    to = {1: np.float32, 11: np.float64, 6: np.int32, 7: np.int64, 9: np.bool_}.get(attribute(node, "to", 1))
    if to is None:
        msg = f"Cast {node.name!r} of a constant to element type {attribute(node, 'to', 1)}; expected {NUMBERS}"
        raise ForeignModelError(msg)
    return arrays[0].astype(to)


def _gather(node: Node, arrays: list[NDArray[Any]]) -> NDArray[Any]:
    data, indices = arrays
    if data.ndim != 1 or indices.size > data.size:
        msg = "only few entries of a vector, such as a shape, are taken"
        raise ValueError(msg)
    return np.take(data, indices, attribute(node, "axis", 0))


def _arithmetic(apply: Callable[[Any, Any], Any]) -> Callable[[Node, list[NDArray[Any]]], Any]:
    def compute(node: Node, arrays: list[NDArray[Any]]) -> NDArray[Any]:
        del node
        left, right = arrays
        if math.prod(np.broadcast_shapes(left.shape, right.shape)) > LARGEST_MADE:
            msg = f"it has more than {LARGEST_MADE} entries"
            raise ValueError(msg)
        return np.asarray(apply(left, right))

    return compute


_FOLDED: dict[str, Callable[[Node, list[NDArray[Any]]], Any]] = {
    "Add": _arithmetic(operator.add),
    "Cast": _cast,
    "Concat": lambda n, x: np.concatenate(x, attribute(n, "axis", 0)),
    "Div": _arithmetic(operator.truediv),
    "Dropout": lambda _, x: x[0],
    "Gather": _gather,
    "Identity": lambda _, x: x[0],
    "Mul": _arithmetic(operator.mul),
    "Neg": lambda _, x: -x[0],
    "Reshape": lambda n, x: x[0].reshape(tuple(x[1]) if len(x) > 1 else tuple(attribute(n, "shape", ()))),
    "Sqrt": lambda _, x: np.sqrt(x[0]),
    "Squeeze": lambda n, x: np.squeeze(x[0], _axes(n, x)),
    "Sub": _arithmetic(operator.sub),
    "Transpose": lambda n, x: np.transpose(x[0], attribute(n, "perm", None)),
    "Unsqueeze": lambda n, x: np.expand_dims(x[0], _axes(n, x) or ()),
}

CONSTANT_OPERATORS = frozenset({"Constant", *_FOLDED})
"""Operators that are computed here where nothing but constants goes in."""


def fold(node: Node, kind: str, constants: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Compute a node that reads constants only.

    Args:
        node: the node.
        kind: its operator, one of :data:`CONSTANT_OPERATORS`.
        constants: what is known so far, by name.

    Returns:
        Its first output, by name.

    Raises:
        ForeignModelError: the inputs do not fit the operator.
    """
    arrays = [constants[name] for name in node.input if name]
    try:
        with np.errstate(all="ignore"):
            made = _constant(node) if kind == "Constant" else np.asarray(_FOLDED[kind](node, arrays))
    except (ValueError, TypeError, IndexError, OverflowError, MemoryError) as error:
        msg = f"{kind} {node.name!r} of constants cannot be computed ({error}); expected inputs that fit"
        raise ForeignModelError(msg) from error
    return {node.output[0]: made}
