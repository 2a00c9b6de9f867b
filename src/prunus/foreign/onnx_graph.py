"""ONNX graphs: one path of simple operators from the features to the score.

The path is followed node by node (operators: onnx.ai/onnx/operators); what is computed from constants alone is computed
here. Nothing depends on the opset: where a parameter moved from an attribute to an input, both are looked at.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from prunus.errors import ForeignModelError
from prunus.extras import need
from prunus.foreign.chain import Chain
from prunus.foreign.net import ForeignNet
from prunus.foreign.onnx_constants import CONSTANT_OPERATORS, Node, Tensor, attribute, fold, tensor_array
from prunus.foreign.onnx_runtime import runner

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

Model: TypeAlias = Any
"""A ModelProto: onnx is an optional dependency, so its types are not named here."""
Graph: TypeAlias = Any
"""A GraphProto."""

QUANTISED = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "ConvInteger", "QLinearMatMul", "QGemm", "QLinearConv", "MatMulNBits", "DynamicQuantizeMatMul", "MatMulIntegerToFloat")  # fmt: skip
"""Operators that show that a net's weights are quantised."""

FLOAT, DOUBLE = 1, 11
"""Element types of ONNX that data on the path may have."""


def read_onnx(source: str | os.PathLike[str] | bytes | Model) -> ForeignNet:
    """Read a net from an ONNX file.

    Args:
        source: path or bytes of a model, or a ``ModelProto``.

    Raises:
        ForeignModelError: the file cannot be read, or the graph holds what the engine has no kernel for.
        MissingExtraError: onnx or onnxruntime is not installed.
    """
    onnx = need("onnx", "onnx")
    name = "the ONNX model"
    if isinstance(source, str | os.PathLike):
        name = os.fspath(source)
        try:
            source = Path(source).read_bytes()
        except (OSError, ValueError) as error:
            msg = f"{name} cannot be read ({getattr(error, 'strerror', None) or error}); expected an ONNX model"
            raise ForeignModelError(msg) from error
    content = source if isinstance(source, bytes) else source.SerializeToString()
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # what protobuf raises is no class that it exports
        msg = f"{name} is no ONNX model, or is damaged ({error}); expected one as onnx.save writes it"
        raise ForeignModelError(msg) from error
    _refuse_external(model.graph, name)
    path = _Path(model.graph)
    path.follow()
    inputs, layers = path.chain.finish()
    run = runner(content, path.input_name, path.input_type, path.batch)
    producer = f"{model.producer_name} {model.producer_version}".strip()
    return ForeignNet(inputs, layers, run, {"format": "onnx", "producer": producer})


def _refuse_external(graph: Graph, name: str) -> None:
    outside = [tensor.name for tensor in graph.initializer if tensor.data_location == 1 or tensor.external_data]
    if outside:
        msg = (
            f"{name} keeps weights in another file ({', '.join(map(str, outside))[:200]}); expected one file with all of them:"
            " load it with onnx.load and save it with onnx.save"
        )
        raise ForeignModelError(msg)


class _Path:
    """Follows the one path through a graph; ``chain`` holds what was met."""

    def __init__(self, graph: Graph) -> None:
        self.constants: dict[str, NDArray[Any]] = {}
        self.stored: dict[str, Tensor] = {tensor.name: tensor for tensor in graph.initializer}
        self.stored |= {tensor.values.name: tensor for tensor in graph.sparse_initializer}
        inputs = [one for one in graph.input if one.name not in self.stored]
        if len(inputs) != 1 or len(graph.output) != 1:
            msg = (
                f"the graph has inputs {[x.name for x in inputs]} and outputs {[x.name for x in graph.output]};"
                " expected one of each: the features and the score"
            )
            raise ForeignModelError(msg)
        self.input_name = self.tip = inputs[0].name
        self.output_name = graph.output[0].name
        tensor_type = inputs[0].type.tensor_type
        self.input_type = int(tensor_type.elem_type)
        if self.input_type not in {FLOAT, DOUBLE}:
            msg = f"the input {self.tip!r} has element type {self.input_type}; expected float32 (1): cast it in the service"
            raise ForeignModelError(msg)
        dims = [int(dim.dim_value) for dim in tensor_type.shape.dim] if tensor_type.HasField("shape") else [0, 0]
        if len(dims) != 2:
            msg = f"the input {self.tip!r} has {len(dims)} dimensions; expected 2: documents and features"
            raise ForeignModelError(msg)
        self.batch = max(dims[0], 0)
        self.flat = False  # whether the data have one dimension, the documents
        self.chain = Chain(dims[1] if dims[1] > 0 else None)
        self.nodes = _needed(graph, self.output_name)

    def follow(self) -> None:
        """Walk from the input to the output."""
        self._refuse_unknown()
        used = {name for node in self.nodes for name in node.input}
        self.constants |= {name: tensor_array(tensor) for name, tensor in self.stored.items() if name in used}
        for node in self.nodes:
            operator = _operator(node)
            if operator == "Shape" and list(node.input) == [self.tip]:
                # Documents count as -1, which means "as many as there are" wherever a shape is asked for.
                shape = [-1] if self.flat else [-1, self.chain.width or 0]
                self.constants[node.output[0]] = np.asarray(shape[: attribute(node, "end", None)], np.int64)
                continue
            if not self._reads_data(node):
                self.constants |= fold(node, operator, self.constants)
                continue
            place = [i for i, name in enumerate(node.input) if name and name not in self.constants]
            if len(place) != 1 or node.input[place[0]] != self.tip:
                msg = (
                    f"{_name(node)} reads {[node.input[i] for i in place]}, and the path stands at {self.tip!r}:"
                    " the graph branches; expected one path from the features to the score"
                )
                raise ForeignModelError(msg)
            _OPERATORS[operator](self, node, place[0])
            self.tip = node.output[0]
        if self.tip != self.output_name:
            msg = f"the output {self.output_name!r} does not depend on the features; expected a score"
            raise ForeignModelError(msg)

    def _refuse_unknown(self) -> None:
        """Name every operator that has no kernel, before anything is done."""
        data = {self.input_name}
        unknown = []
        for node in self.nodes:
            on_path = any(name in data for name in node.input)
            if on_path and _operator(node) == "Shape":
                continue
            if on_path:
                data |= set(node.output)
            if _operator(node) not in (_OPERATORS if on_path else CONSTANT_OPERATORS):
                unknown.append(_operator(node))
        if not unknown:
            return
        quantised = sorted(set(unknown) & set(QUANTISED))
        hint = (
            f": its weights are quantised ({', '.join(quantised)}); give the net of float32 weights that it was made from"
            if quantised
            else ""
        )
        msg = f"the graph uses {', '.join(sorted(set(unknown)))}; expected only {', '.join(sorted(_OPERATORS))}{hint}"
        raise ForeignModelError(msg)

    def _reads_data(self, node: Node) -> bool:
        return any(name and name not in self.constants for name in node.input)

    def constant(self, node: Node, index: int) -> NDArray[Any] | None:
        """Return an input of a node that is a constant; None where it was left out.

        Raises:
            ForeignModelError: it depends on the features.
        """
        if index >= len(node.input) or not node.input[index]:
            return None
        return self.constants[node.input[index]]

    def weights(self, node: Node, index: int) -> NDArray[np.float64]:
        """Return an input of a node that must be a constant of real numbers."""
        array = self.constant(node, index)
        if array is None or array.dtype.kind not in "fiu":
            got = "nothing" if array is None else str(array.dtype)
            msg = f"{_name(node)} has {got} as input {index}; expected numbers"
            raise ForeignModelError(msg)
        return array.astype(np.float64)


def _needed(graph: Graph, output: str) -> list[Node]:
    """Return the nodes that the output depends on, in their order."""
    wanted, nodes = {output}, []
    for node in reversed(graph.node):
        if wanted & set(node.output):
            wanted |= set(node.input)
            nodes.append(node)
    return nodes[::-1]


def _operator(node: Node) -> str:
    # A text that is no UTF-8 comes out of protobuf as bytes.
    return str(node.op_type) if node.domain in {"", "ai.onnx", "ai.onnx.ml"} else f"{node.domain}.{node.op_type}"


def _name(node: Node) -> str:
    return f"{node.op_type} {node.name or (node.output[0] if node.output else '')!r}"


def _refuse(node: Node, what: str) -> ForeignModelError:
    return ForeignModelError(f"{_name(node)} {what}")


def _matrix_form(path: _Path, node: Node) -> None:
    if path.flat:
        raise _refuse(node, "reads scores without columns; expected the layers to stand before the last squeeze")


def _gemm(path: _Path, node: Node, place: int) -> None:
    _matrix_form(path, node)
    if place != 0 or attribute(node, "transA", 0):
        raise _refuse(node, "multiplies from the left; expected documents in rows: Gemm(X, W)")
    w = path.weights(node, 1) * attribute(node, "alpha", 1.0)
    bias = None if path.constant(node, 2) is None else path.weights(node, 2) * attribute(node, "beta", 1.0)
    path.chain.linear(w if attribute(node, "transB", 0) else w.T, bias, _name(node))


def _matmul(path: _Path, node: Node, place: int) -> None:
    _matrix_form(path, node)
    if place != 0:
        raise _refuse(node, "multiplies from the left; expected documents in rows: MatMul(X, W)")
    w = path.weights(node, 1)
    path.flat = w.ndim == 1
    path.chain.linear(np.atleast_2d(w) if w.ndim == 1 else w.T, None, _name(node))


def _add(path: _Path, node: Node, place: int) -> None:
    path.chain.affine(1.0, path.weights(node, 1 - place), _name(node))


def _sub(path: _Path, node: Node, place: int) -> None:
    value = path.weights(node, 1 - place)
    path.chain.affine(*((1.0, -value) if place == 0 else (-1.0, value)), _name(node))


def _mul(path: _Path, node: Node, place: int) -> None:
    path.chain.affine(path.weights(node, 1 - place), 0.0, _name(node))


def _div(path: _Path, node: Node, place: int) -> None:
    value = path.weights(node, 1 - place)
    if place != 0 or (value == 0).any():
        raise _refuse(node, "divides by the data or by zero; expected X divided by constants")
    path.chain.affine(1.0 / value, 0.0, _name(node))


def _clip(path: _Path, node: Node, place: int) -> None:
    if place != 0:
        raise _refuse(node, "has bounds that depend on the features; expected constants")
    bounds = []
    for index, (key, default) in enumerate((("min", -np.inf), ("max", np.inf)), 1):
        array = path.constant(node, index)
        value = attribute(node, key, default) if array is None else array
        if np.size(value) != 1:
            raise _refuse(node, f"has {np.size(value)} values for {key}; expected one")
        bounds.append(float(np.asarray(value).reshape(-1)[0]))
    path.chain.clamp(bounds[0], bounds[1], _name(node))


def _extreme(side: int) -> Callable[[_Path, Node, int], None]:
    def apply(path: _Path, node: Node, place: int) -> None:
        if len(node.input) != 2 or path.weights(node, 1 - place).size != 1:
            raise _refuse(node, "compares with more than one number; expected one")
        value = float(path.weights(node, 1 - place).reshape(-1)[0])
        path.chain.clamp(value if side else -np.inf, np.inf if side else value, _name(node))

    return apply


def _hard_sigmoid(path: _Path, node: Node, place: int) -> None:
    del place
    path.chain.affine(attribute(node, "alpha", 0.2), attribute(node, "beta", 0.5), _name(node))
    path.chain.clamp(0.0, 1.0, _name(node))


def _batch_normalization(path: _Path, node: Node, place: int) -> None:
    _matrix_form(path, node)
    if place != 0 or attribute(node, "training_mode", 0) or sum(map(bool, node.output)) > 1:
        raise _refuse(node, "is in training mode; expected a model exported for inference")
    scale, shift, mean, variance = (path.weights(node, i) for i in range(1, 5))
    spread = np.sqrt(variance + attribute(node, "epsilon", 1e-5))
    path.chain.affine(1.0, -mean, _name(node))
    path.chain.affine(scale / spread, 0.0, _name(node))
    path.chain.affine(1.0, shift, _name(node))


def _scaler(path: _Path, node: Node, place: int) -> None:
    del place
    path.chain.affine(1.0, -np.asarray(attribute(node, "offset", [0.0])), _name(node))
    path.chain.affine(np.asarray(attribute(node, "scale", [1.0])), 0.0, _name(node))


def _same(path: _Path, node: Node, place: int) -> None:
    training = path.constant(node, 2) if node.op_type == "Dropout" else None
    if place != 0 or (training is not None and bool(training.any())):
        raise _refuse(node, "is in training mode; expected a model exported for inference")
    if node.op_type == "Cast" and attribute(node, "to", FLOAT) not in {FLOAT, DOUBLE}:
        raise _refuse(node, f"casts to element type {attribute(node, 'to', FLOAT)}; expected float32 (1)")


def _shape(path: _Path, node: Node, place: int) -> None:
    """Follow a change of shape that leaves the numbers where they are."""
    if place != 0:
        raise _refuse(node, "takes a shape from the data; expected a constant")
    target = path.constant(node, 1)
    width = path.chain.width
    if node.op_type == "Flatten":
        columns = attribute(node, "axis", 1) in ({1} if path.flat else {1, -1})
        allowed, flat = columns, False
    elif node.op_type == "Reshape":
        size = [int(x) for x in np.asarray(attribute(node, "shape", []) if target is None else target).reshape(-1)]
        documents = {-1, path.batch or -1} | (set() if attribute(node, "allowzero", 0) else {0})
        flat = len(size) == 1
        same = flat and width == 1 and size[0] in documents
        allowed = same or (len(size) == 2 and size[0] in documents and size[1] == width)
        allowed |= len(size) == 2 and size[1] == -1 and size[0] in documents and not path.flat
    else:
        axes = attribute(node, "axes", None) if target is None else target.reshape(-1).tolist()
        flat = node.op_type == "Squeeze"
        allowed = width == 1 and path.flat != flat and (axes in ([1], [-1]) or (flat and axes is None))
    if not allowed:
        raise _refuse(
            node, f"changes the shape of {width} columns; expected one that keeps each document's numbers together"
        )
    path.flat = flat


_OPERATORS: dict[str, Callable[[_Path, Node, int], None]] = {
    "Add": _add,
    "BatchNormalization": _batch_normalization,
    "Cast": _same,
    "Clip": _clip,
    "Div": _div,
    "Dropout": _same,
    "Flatten": _shape,
    "Gemm": _gemm,
    "HardSigmoid": _hard_sigmoid,
    "Identity": _same,
    "MatMul": _matmul,
    "Max": _extreme(1),
    "Min": _extreme(0),
    "Mul": _mul,
    "Neg": lambda path, node, _: path.chain.affine(-1.0, 0.0, _name(node)),
    "Relu": lambda path, node, _: path.chain.clamp(0.0, np.inf, _name(node)),
    "Reshape": _shape,
    "Scaler": _scaler,
    "Sigmoid": lambda path, node, _: path.chain.sigmoid(_name(node)),
    "Squeeze": _shape,
    "Sub": _sub,
    "Tanh": lambda path, node, _: path.chain.tanh(_name(node)),
    "Unsqueeze": _shape,
}
"""What may stand on the path, each with what it does to the chain."""
