"""What each layer, function and method of torch does to a chain."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np
import torch
from torch import fx, nn
from torch.nn import functional

from prunus.errors import ForeignModelError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from prunus.foreign.torch_module import TorchPath

Array: TypeAlias = "NDArray[np.float64]"


def _array(value: object, what: str) -> Array:
    """Return a constant as float64."""
    if isinstance(value, torch.Tensor):
        tensor = value.detach()
        if tensor.layout is not torch.strided:
            tensor = tensor.to_dense()
        return np.asarray(tensor.cpu().numpy(), np.float64)
    if isinstance(value, int | float):
        return np.asarray(value, np.float64)
    got = "what depends on the features" if isinstance(value, fx.Node) else f"a {type(value).__name__}"
    msg = f"{what} takes {got} where a number or a tensor of constants was expected"
    raise ForeignModelError(msg)


def _weight(module: nn.Module, name: str) -> torch.Tensor | None:
    """Return a weight as the module's next forward computes it."""
    mask = getattr(module, f"{name}_mask", None)
    if mask is not None:  # torch.nn.utils.prune writes `name` anew in a hook before each forward
        return cast("torch.Tensor", getattr(module, f"{name}_orig") * mask)
    return cast("torch.Tensor | None", getattr(module, name))


# ---- layers


def _linear(path: TorchPath, node: fx.Node) -> None:
    path.matrix_form(node)
    module = path.of_module(node)
    weight, bias = _weight(module, "weight"), _weight(module, "bias")
    path.chain.linear(_array(weight, str(node)), None if bias is None else _array(bias, str(node)), str(node))


def _batch_norm(path: TorchPath, node: fx.Node) -> None:
    path.matrix_form(node)
    module = path.of_module(node)
    if module.running_mean is None or module.running_var is None:
        msg = f"{node} normalises by the batch it gets; expected running statistics (track_running_stats=True)"
        raise ForeignModelError(msg)
    spread = np.sqrt(_array(module.running_var, str(node)) + module.eps)
    path.chain.affine(1.0, -_array(module.running_mean, str(node)), str(node))
    weight, bias = _weight(module, "weight"), _weight(module, "bias")
    path.chain.affine((1.0 if weight is None else _array(weight, str(node))) / spread, 0.0, str(node))
    path.chain.affine(1.0, 0.0 if bias is None else _array(bias, str(node)), str(node))


def _same(path: TorchPath, node: fx.Node) -> None:
    del path, node


def _clamp_of(lower: float, upper: float) -> Callable[[TorchPath, fx.Node], None]:
    def apply(path: TorchPath, node: fx.Node) -> None:
        path.chain.clamp(lower, upper, str(node))

    return apply


def _hardtanh_module(path: TorchPath, node: fx.Node) -> None:
    module = path.of_module(node)
    path.chain.clamp(float(module.min_val), float(module.max_val), str(node))


def _hardsigmoid(path: TorchPath, node: fx.Node) -> None:
    path.chain.affine(1 / 6, 0.5, str(node))
    path.chain.clamp(0.0, 1.0, str(node))


def _sigmoid(path: TorchPath, node: fx.Node) -> None:
    path.chain.sigmoid(str(node))


def _tanh(path: TorchPath, node: fx.Node) -> None:
    path.chain.tanh(str(node))


def _flatten_module(path: TorchPath, node: fx.Node) -> None:
    module = path.of_module(node)
    _flatten(path, node, module.start_dim, module.end_dim)


MODULES: dict[type[nn.Module], Callable[[TorchPath, fx.Node], None]] = {
    nn.Linear: _linear,
    nn.BatchNorm1d: _batch_norm,
    nn.ReLU: _clamp_of(0.0, math.inf),
    nn.ReLU6: _clamp_of(0.0, 6.0),
    nn.Hardtanh: _hardtanh_module,
    nn.Hardsigmoid: _hardsigmoid,
    nn.Sigmoid: _sigmoid,
    nn.Tanh: _tanh,
    nn.Identity: _same,
    nn.Dropout: _same,
    nn.AlphaDropout: _same,
    nn.Flatten: _flatten_module,
}
"""Layers by the class whose ``forward`` they run, each with what it does to the chain."""


# ---- functions and methods


def _flatten(path: TorchPath, node: fx.Node, start: object, end: object) -> None:
    if start == 0 and path.chain.width == 1:  # one column: the scores as a vector
        path.flat = True
    elif path.flat or start not in {1, -1} or end not in {1, -1}:
        msg = f"{node} flattens dimensions {start} to {end}; expected 1 to -1, which leaves documents and columns apart"
        raise ForeignModelError(msg)


def _flatten_call(path: TorchPath, node: fx.Node) -> None:
    given = path.arguments(node, "start_dim", "end_dim")
    _flatten(path, node, given.get("start_dim", 0), given.get("end_dim", -1))


def _squeeze(path: TorchPath, node: fx.Node) -> None:
    given = path.arguments(node, "dim")
    if path.flat or path.chain.width != 1 or given.get("dim", 1) not in {1, -1}:
        msg = f"{node} squeezes {path.chain.width} columns; expected one, the score"
        raise ForeignModelError(msg)
    path.flat = True


def _view(path: TorchPath, node: fx.Node) -> None:
    size = path.values(node.args[1:])
    if len(size) == 1 and isinstance(size[0], list | tuple):
        size = tuple(size[0])
    width = path.chain.width
    if size == (-1,) and width == 1:
        path.flat = True
    elif len(size) == 2 and size[0] == -1 and (size[1] == width or (size[1] == -1 and not path.flat)):
        path.flat = False
    else:
        msg = f"{node} changes the shape of {width} columns to {list(size)}; expected [-1, {width}], or [-1] of one column"
        raise ForeignModelError(msg)


def _column(path: TorchPath, node: fx.Node) -> None:
    """Follow h[:, 0] of one column."""
    index = node.args[1]
    if path.flat or path.chain.width != 1 or index not in ((slice(None), 0), (slice(None), -1)):
        msg = f"{node} takes {index} of {path.chain.width} columns; expected [:, 0] of one column, the score"
        raise ForeignModelError(msg)
    path.flat = True


def _clamp(path: TorchPath, node: fx.Node) -> None:
    given = path.arguments(node, "min", "max")
    bounds = [math.inf * (-1) ** (key == "min") if given.get(key) is None else given[key] for key in ("min", "max")]
    if any(isinstance(x, torch.Tensor) and x.numel() != 1 for x in bounds):
        msg = f"{node} clamps each unit to bounds of its own; expected one pair of numbers"
        raise ForeignModelError(msg)
    path.chain.clamp(float(bounds[0]), float(bounds[1]), str(node))


def _hardtanh(path: TorchPath, node: fx.Node) -> None:
    given = path.arguments(node, "min_val", "max_val", "inplace")
    path.chain.clamp(float(given.get("min_val", -1.0)), float(given.get("max_val", 1.0)), str(node))


def _functional_linear(path: TorchPath, node: fx.Node) -> None:
    path.matrix_form(node)
    given = path.arguments(node, "weight", "bias")
    bias = given.get("bias")
    path.chain.linear(_array(given["weight"], str(node)), None if bias is None else _array(bias, str(node)), str(node))


def _matmul(path: TorchPath, node: fx.Node) -> None:
    path.matrix_form(node)
    if node.args[0] is not path.tip:
        msg = f"{node} multiplies from the left; expected documents in rows: x @ W"
        raise ForeignModelError(msg)
    weight = _array(path.arguments(node, "other")["other"], str(node))
    path.flat = weight.ndim == 1
    path.chain.linear(np.atleast_2d(weight) if weight.ndim == 1 else weight.T, None, str(node))


def _arithmetic(kind: str) -> Callable[[TorchPath, fx.Node], None]:
    def apply(path: TorchPath, node: fx.Node) -> None:
        first = node.args[0] is path.tip
        if len(node.args) != 2 or node.kwargs:
            msg = f"{node} has arguments {node.args} {dict(node.kwargs)}; expected two"
            raise ForeignModelError(msg)
        other = node.args[1] if first else node.args[0]
        value = _array(path.values((other,))[0], str(node))
        if kind == "div" and (not first or (value == 0).any()):
            msg = f"{node} divides by the data or by zero; expected the data divided by constants"
            raise ForeignModelError(msg)
        if kind == "add":
            path.chain.affine(1.0, value, str(node))
        elif kind == "sub":
            path.chain.affine(1.0 if first else -1.0, -value if first else value, str(node))
        else:
            path.chain.affine(value if kind == "mul" else 1.0 / value, 0.0, str(node))

    return apply


def _negate(path: TorchPath, node: fx.Node) -> None:
    path.chain.affine(-1.0, 0.0, str(node))


def _dropout(path: TorchPath, node: fx.Node) -> None:
    if path.arguments(node, "p", "training", "inplace").get("training", True):
        msg = f"{node} drops units at random in eval mode too; expected training=self.training"
        raise ForeignModelError(msg)


def _to(path: TorchPath, node: fx.Node) -> None:
    """Follow a cast that changes nothing."""
    del path
    given = [*node.args[1:], *node.kwargs.values()]
    kinds = [x for x in given if isinstance(x, torch.dtype)]
    if any(kind != torch.float32 for kind in kinds):
        msg = f"{node} casts to {kinds[0]}; expected float32"
        raise ForeignModelError(msg)


def _calls() -> dict[Any, Callable[[TorchPath, fx.Node], None]]:
    """Make the table of functions, by themselves, and of methods, by their names."""
    table: dict[Any, Callable[[TorchPath, fx.Node], None]] = {
        functional.linear: _functional_linear,
        functional.relu: _clamp_of(0.0, math.inf),
        functional.relu6: _clamp_of(0.0, 6.0),
        functional.hardtanh: _hardtanh,
        functional.hardsigmoid: _hardsigmoid,
        functional.sigmoid: _sigmoid,
        functional.tanh: _tanh,
        functional.dropout: _dropout,
        operator.getitem: _column,
        operator.neg: _negate,
        operator.matmul: _matmul,
        "float": _same,
        "contiguous": _same,
        "to": _to,
        "view": _view,
        "reshape": _view,
    }
    for name, step in (
        ("relu", _clamp_of(0.0, math.inf)), ("sigmoid", _sigmoid), ("tanh", _tanh), ("clamp", _clamp), ("clip", _clamp),
        ("squeeze", _squeeze), ("flatten", _flatten_call), ("matmul", _matmul), ("mm", _matmul), ("neg", _negate),
    ):  # fmt: skip
        table[name] = table[getattr(torch, name)] = step
    table[torch.reshape] = _view
    for kind, names in (("add", ("add", "iadd")), ("sub", ("sub", "isub")), ("mul", ("mul", "imul")), ("div", ("truediv", "itruediv"))):  # fmt: skip
        step = _arithmetic(kind)
        table[kind] = table[getattr(torch, kind)] = step
        table |= {getattr(operator, name): step for name in names}
    return table


CALLS = _calls()
