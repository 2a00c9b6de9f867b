"""A network's arrays as a LiteRT model: the same input stage, the same layers with their zeros as numbers.

LiteRT is a runtime; its converters are packages of gigabytes. The format is a flatbuffer whose schema stands in the runtime, and
an MLP needs a dozen of its operators, so the file is written here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .onnx_net import STAGE, slots_by_kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

LOG, MISSING, EQUAL = 1, 2, 3
"""Slot kinds, numbered as in :class:`prunus.engine.network.SlotKind`; 0 is the plain value."""

FUSED = (0, 1, 3, 0)
"""LiteRT's fused activation for each of ours: none, ReLU, ReLU6; a sigmoid is an operator of its own."""

SIGMOID = 3
FORMAT = 3
"""Version of the file format."""


class _Graph:
    """Collects tensors, constants and operators of one subgraph."""

    def __init__(self) -> None:
        from ai_edge_litert import schema_py_generated as schema  # type: ignore[import-not-found]

        self.schema = schema
        self.tensors: list[Any] = []
        self.buffers: list[Any] = [schema.BufferT()]  # buffer 0 is the empty one, by convention
        self.operators: list[Any] = []
        self.codes: list[int] = []
        self.types = {
            np.dtype(np.float32): schema.TensorType.FLOAT32,
            np.dtype(np.int32): schema.TensorType.INT32,
            np.dtype(bool): schema.TensorType.BOOL,
        }

    def tensor(self, shape: tuple[int, ...], dtype: Any = np.float32, data: bytes | None = None) -> int:  # noqa: ANN401
        """Add a tensor and give its index; one without data has as many rows as there are documents."""
        made = self.schema.TensorT()
        made.name, made.type = f"t{len(self.tensors)}", self.types[np.dtype(dtype)]
        made.shape, made.buffer = np.array(shape, np.int32), 0
        if data is None:
            made.shapeSignature = np.array((-1, *shape[1:]), np.int32)
        else:
            made.buffer = len(self.buffers)
            buffer = self.schema.BufferT()
            buffer.data = np.frombuffer(data, np.uint8)
            self.buffers.append(buffer)
        self.tensors.append(made)
        return len(self.tensors) - 1

    def constant(self, value: object, dtype: Any = np.float32) -> int:  # noqa: ANN401 - any dtype of the table
        """Add a constant and give its index."""
        array = np.ascontiguousarray(value, dtype)
        return self.tensor(array.shape, dtype, array.tobytes())

    def add(self, op: str, *inputs: int, width: int, dtype: Any = np.float32, **options: Any) -> int:  # noqa: ANN401
        """Add an operator with one output [n_docs, width] and give that output's index.

        Args:
            op: name as in the schema.
            inputs: indices of tensors.
            width: of the output.
            dtype: of the output.
            options: of the operator; ``kind`` is the name of their class.
        """
        code = getattr(self.schema.BuiltinOperator, op)
        if code not in self.codes:
            self.codes.append(code)
        made = self.schema.OperatorT()
        made.opcodeIndex, made.inputs = self.codes.index(code), np.array(inputs, np.int32)
        out = self.tensor((1, width), dtype)
        made.outputs = np.array([out], np.int32)
        kind = options.pop("kind", "")
        if kind:
            made.builtinOptionsType = getattr(self.schema.BuiltinOptions, kind)
            made.builtinOptions = getattr(self.schema, f"{kind}T")()
            for name, value in options.items():
                setattr(made.builtinOptions, name, value)
        self.operators.append(made)
        return out

    def finish(self, first: int, last: int) -> bytes:
        """Pack it all."""
        import flatbuffers  # type: ignore[import-untyped]

        schema = self.schema
        graph = schema.SubGraphT()
        graph.tensors, graph.operators = self.tensors, self.operators
        graph.inputs, graph.outputs = np.array([first], np.int32), np.array([last], np.int32)
        model = schema.ModelT()
        model.version, model.subgraphs, model.buffers, model.operatorCodes = FORMAT, [graph], self.buffers, []
        for code in self.codes:
            made = schema.OperatorCodeT()
            made.builtinCode, made.version = code, 1
            made.deprecatedBuiltinCode = min(code, 127)  # what readers of the first format look at
            model.operatorCodes.append(made)
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def _slots(g: _Graph, x: int, arrays: Mapping[str, NDArray[Any]], kind: int, slots: NDArray[np.int64]) -> int:
    """Add the operators of all slots of one kind, and give their output."""
    center, scale, lower, upper, fill = (arrays[name][slots] for name in STAGE[2:])
    feature, n = arrays["feature"][slots], len(slots)
    whole = n == int(arrays["n_features"]) and (feature == np.arange(n)).all()
    if not whole:
        x = g.add("GATHER", x, g.constant(feature, np.int32), width=n, kind="GatherOptions", axis=1)

    def absent() -> int:
        return g.add("NOT_EQUAL", x, x, width=n, dtype=bool, kind="NotEqualOptions")

    def number(truth: int) -> int:
        return g.add("CAST", truth, width=n, kind="CastOptions", inDataType=6, outDataType=0)

    if kind == MISSING:
        return number(absent())
    if kind == EQUAL:
        z = number(g.add("EQUAL", x, g.constant(center[None]), width=n, dtype=bool, kind="EqualOptions"))
    else:
        t = x
        if kind == LOG:
            size = g.add("ABS", x, width=n, kind="AbsOptions")
            more = g.add("ADD", size, g.constant([[1.0]]), width=n, kind="AddOptions")
            logarithm, sign = g.add("LOG", more, width=n), g.add("SIGN", x, width=n)
            t = g.add("MUL", logarithm, sign, width=n, kind="MulOptions")
        z = g.add("SUB", t, g.constant(center[None]), width=n, kind="SubOptions")
        z = g.add("MUL", z, g.constant(scale[None]), width=n, kind="MulOptions")
        z = g.add("MAXIMUM", z, g.constant(lower[None]), width=n, kind="MaximumMinimumOptions")
        z = g.add("MINIMUM", z, g.constant(upper[None]), width=n, kind="MaximumMinimumOptions")
    if not arrays["missing"][slots].any():
        return z
    return g.add("SELECT_V2", absent(), g.constant(fill[None]), z, width=n, kind="SelectV2Options")


def build(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Build the model of a network.

    Args:
        arrays: as :func:`.onnx_net.arrays_of` gives them.

    Returns:
        A LiteRT file: input float32 [n_docs, n_features], output float32 [n_docs, 1].
    """
    g = _Graph()
    x = g.tensor((1, int(arrays["n_features"])))
    groups = slots_by_kind(arrays)
    order = np.concatenate([slots for _, slots in groups])
    parts = [_slots(g, x, arrays, kind, slots) for kind, slots in groups]
    h = parts[0]
    if len(parts) > 1:
        h = g.add("CONCATENATION", *parts, width=len(order), kind="ConcatenationOptions", axis=1)
    for number in range(sum(name.startswith("weight_") for name in arrays)):
        weight, activation = arrays[f"weight_{number}"], int(arrays[f"activation_{number}"])
        weight = weight[:, order] if number == 0 else weight
        h = g.add(
            "FULLY_CONNECTED", h, g.constant(weight), g.constant(arrays[f"bias_{number}"]), width=len(weight),
            kind="FullyConnectedOptions", fusedActivationFunction=FUSED[activation], keepNumDims=False,
        )  # fmt: skip
        if activation == SIGMOID:
            h = g.add("LOGISTIC", h, width=len(weight))
    return g.finish(x, h)
