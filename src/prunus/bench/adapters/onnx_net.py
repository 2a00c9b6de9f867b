"""A network as arrays, and as an ONNX graph: the same input stage, the same layers with their zeros as numbers.

Only numpy and onnx are needed here, not prunus: adapters import this file in environments of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from prunus.engine.network import Network

    Arrays = Mapping[str, NDArray[Any]]

VALUE, LOG, MISSING, EQUAL = range(4)
"""Slot kinds, numbered as in :class:`prunus.engine.network.SlotKind`."""

ACTIVATIONS = ("Identity", "Relu", "Clip", "Sigmoid")
"""ONNX operators, numbered as in :class:`prunus.engine.network.Activation`; Clip is from 0 to 6."""

STAGE = ("feature", "kind", "center", "scale", "lower", "upper", "fill")

OPSET = 17


def arrays_of(network: Network, allow_missing: NDArray[np.bool_] | None = None) -> dict[str, NDArray[Any]]:
    """Write a network down as plain arrays, every layer dense.

    Args:
        network: what to write down.
        allow_missing: bool [n_features], where NaN may stand; None for everywhere. Where it may not, the peers need no
            test for it, and are not charged for one.

    Returns:
        ``n_features``, ``missing`` (uint8 [n_slots]), the fields of the input stage, and for each layer k
        ``weight_k`` float32 [n_outputs, n_inputs], ``bias_k`` float32 [n_outputs], ``activation_k``.
    """
    stage = network.inputs
    may = np.ones(network.n_features, bool) if allow_missing is None else np.asarray(allow_missing, bool)
    arrays: dict[str, NDArray[Any]] = {name: np.asarray(getattr(stage, name)) for name in STAGE}
    arrays["n_features"] = np.asarray(network.n_features)
    arrays["missing"] = may[stage.feature].astype(np.uint8)
    for number, layer in enumerate(network.layers):
        arrays[f"weight_{number}"] = np.asarray(layer.dense_weight())
        arrays[f"bias_{number}"] = _real_bias(layer)
        arrays[f"activation_{number}"] = np.asarray(int(layer.activation))
    return arrays


def _real_bias(layer: Any) -> NDArray[np.float32]:  # noqa: ANN401 - prunus may not be installed where this file is read
    """Give float32 [n_outputs], the bias of the float32 layer that a layer stands for.

    A layer of int8 has sum_k w q scale + bias with q = h s + z, so its bias holds -z scale sum_k w.
    """
    bias: NDArray[np.float32] = np.asarray(layer.bias, np.float32)
    zero = getattr(layer, "input_zero", 0.0)
    if not zero:
        return bias
    sums = layer.steps().sum(axis=1, dtype=np.int64)
    return np.asarray(bias + zero * layer.scale.astype(np.float64) * sums, np.float32)


def slots_by_kind(arrays: Arrays) -> list[tuple[int, NDArray[np.int64]]]:
    """Group the slots by kind, so that a logarithm is taken only where one is wanted.

    Returns:
        For each kind that occurs, (kind, int64 slots of it); the slots of all of them, one after the other, are the
        order of the columns that :func:`build` feeds the first layer.
    """
    kinds = arrays["kind"]
    return [(kind, np.flatnonzero(kinds == kind)) for kind in range(4) if (kinds == kind).any()]


class _Graph:
    """Collects nodes and constants."""

    def __init__(self) -> None:
        from onnx import helper, numpy_helper

        self._helper, self._numpy_helper = helper, numpy_helper
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, value: object, dtype: type[np.generic] = np.float32) -> str:
        """Add a constant and give its name."""
        name = f"c{len(self.constants)}"
        self.constants.append(self._numpy_helper.from_array(np.ascontiguousarray(value, dtype), name))
        return name

    def add(self, op: str, *inputs: str, output: str = "", **attributes: Any) -> str:  # noqa: ANN401 - as ONNX has them
        """Add a node with one output and give that output's name."""
        name = output or f"t{len(self.nodes)}"
        self.nodes.append(self._helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name


def _bounded(g: _Graph, z: str, lower: NDArray[np.float32], upper: NDArray[np.float32]) -> str:
    """Clip by one pair of numbers where all slots share it, else by vectors."""
    if (lower == lower[0]).all() and (upper == upper[0]).all():
        return g.add("Clip", z, g.constant(lower[0]), g.constant(upper[0]))
    return g.add("Min", g.add("Max", z, g.constant(lower)), g.constant(upper))


def _slots(g: _Graph, arrays: Arrays, kind: int, slots: NDArray[np.int64]) -> str:
    """Add the nodes of all slots of one kind."""
    center, scale, lower, upper, fill = (arrays[name][slots] for name in STAGE[2:])
    may_miss = bool(arrays["missing"][slots].any())
    feature = arrays["feature"][slots]
    whole = len(feature) == int(arrays["n_features"]) and (feature == np.arange(len(feature))).all()
    x = "X" if whole else g.add("Gather", "X", g.constant(feature, np.int64), axis=1)
    if kind == MISSING:
        return g.add("Cast", g.add("IsNaN", x), to=1)
    if kind == EQUAL:
        z = g.add("Cast", g.add("Equal", x, g.constant(center)), to=1)
    else:
        t = x
        if kind == LOG:
            # The engine cuts |x| off at 2^127 first; the copies are not charged for that.
            t = g.add("Mul", g.add("Sign", x), g.add("Log", g.add("Add", g.add("Abs", x), g.constant(1.0))))
        z = g.add("Mul", g.add("Sub", t, g.constant(center)), g.constant(scale))
        z = _bounded(g, z, lower, upper)
    return g.add("Where", g.add("IsNaN", x), g.constant(fill), z) if may_miss else z


def build(arrays: Arrays) -> bytes:
    """Build the ONNX graph of a network.

    Args:
        arrays: as :func:`arrays_of` gives them.

    Returns:
        A serialised ModelProto: input ``X`` float32 [n_docs, n_features], output ``score`` float32 [n_docs, 1].
    """
    from onnx import TensorProto, checker, helper

    g = _Graph()
    groups = slots_by_kind(arrays)
    order = np.concatenate([slots for _, slots in groups])
    parts = [_slots(g, arrays, kind, slots) for kind, slots in groups]
    h = parts[0] if len(parts) == 1 else g.add("Concat", *parts, axis=1)
    n_layers = sum(name.startswith("weight_") for name in arrays)
    for number in range(n_layers):
        weight = arrays[f"weight_{number}"]
        weight = weight[:, order] if number == 0 else weight
        last = number == n_layers - 1
        op = ACTIVATIONS[int(arrays[f"activation_{number}"])]
        direct = "score" if last and op == "Identity" else ""
        h = g.add("Gemm", h, g.constant(weight.T), g.constant(arrays[f"bias_{number}"]), output=direct)
        if op != "Identity":
            bounds = (g.constant(0.0), g.constant(6.0)) if op == "Clip" else ()
            h = g.add(op, h, *bounds, output="score" if last else "")
    graph = helper.make_graph(
        g.nodes,
        "prunus",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["n_docs", int(arrays["n_features"])])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n_docs", 1])],
        g.constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    checker.check_model(model)
    return bytes(model.SerializeToString())
