"""Modules of torch: one path of simple layers from the features to the score.

``torch.fx`` writes the module's calls down; the path is followed call by call. Weights are taken as the module computes
them, so masks of ``torch.nn.utils.prune`` and parametrisations count. The module is only read: it comes back as it was.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np
import torch
from torch import fx, nn

from prunus.errors import ForeignModelError
from prunus.foreign.chain import Chain
from prunus.foreign.net import ForeignNet
from prunus.foreign.torch_steps import CALLS, MODULES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

Arguments: TypeAlias = dict[str, Any]
"""Arguments of a call by name; constants are tensors or numbers."""


def read_module(module: nn.Module) -> ForeignNet:
    """Read a net from a module, as it scores in eval mode.

    Args:
        module: a module that torch.fx can trace and whose ``forward`` takes float32 [n_docs, n_features].

    Raises:
        ForeignModelError: it cannot be traced, or holds what the engine has no kernel for.
    """
    name = type(module).__name__
    if isinstance(module, torch.jit.ScriptModule):
        msg = f"{name} is TorchScript, which cannot be traced; expected the module it was made from, or its ONNX export"
        raise ForeignModelError(msg)
    _refuse_other_weights(module)
    try:
        with torch.no_grad(), evaluating(module):
            # A layer alone is wrapped, so that it is a layer here too and not the function that it calls.
            root = nn.Sequential(module) if _Tracer().is_leaf_module(module, "") else module
            graph = _Tracer().trace(root)
    except Exception as error:  # the module's own code runs here
        msg = f"torch.fx cannot trace {name} ({str(error)[:300]}); expected a forward without branches on data: export it to ONNX"
        raise ForeignModelError(msg) from error
    path = TorchPath(root, graph)
    with torch.no_grad(), evaluating(module):
        path.follow()
    inputs, layers = path.chain.finish()

    def run(X: NDArray[np.float32]) -> NDArray[np.floating[Any]]:
        device = next((x.device for x in (*module.parameters(), *module.buffers())), torch.device("cpu"))
        try:
            with torch.no_grad(), evaluating(module):
                scores = module(torch.from_numpy(np.ascontiguousarray(X, np.float32)).to(device))
        except Exception as error:
            msg = (
                f"{name} fails on generated rows ({str(error)[:300]}); expected one that scores them, to check against"
            )
            raise ForeignModelError(msg) from error
        if not isinstance(scores, torch.Tensor) or scores.numel() != len(X):
            got = list(scores.shape) if isinstance(scores, torch.Tensor) else type(scores).__name__
            msg = f"{name} gives {got} for {len(X)} documents; expected one number each, the score"
            raise ForeignModelError(msg)
        return np.asarray(scores.detach().cpu().numpy()).reshape(-1)

    return ForeignNet(inputs, layers, run, {"format": "torch", "module": name, "torch": torch.__version__})


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put a module into eval mode for a while (a copy would fail: pruned weights are no leaves).

    Each of its parts comes back in the mode that it had.
    """
    modes = [(part, part.training) for part in module.modules()]
    try:
        module.eval()
        yield
    finally:
        for part, training in modes:
            part.training = training


def _refuse_other_weights(module: nn.Module) -> None:
    for name, part in module.named_modules():
        home = type(part).__module__
        if ".quantized" in home or "torchao" in home:
            msg = f"module {name or type(part).__name__!r} is quantised ({home}); expected float32 weights: give the net it was made from"
            raise ForeignModelError(msg)
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if nn.parameter.is_lazy(tensor) or tensor.is_meta:
            msg = f"{name!r} has no values yet; expected a module with weights: run it once, or load them"
            raise ForeignModelError(msg)
        if tensor.is_quantized or (tensor.is_floating_point() and tensor.dtype != torch.float32):
            msg = f"{name!r} has type {tensor.dtype}; expected float32: convert the module with .float()"
            raise ForeignModelError(msg)


class _Tracer(fx.Tracer):
    """Stops at modules whose ``forward`` is that of a known layer, pruned and parametrised ones among them."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        del module_qualified_name
        return _layer_of(m) is not None or (type(m).__module__.startswith("torch.nn.") and type(m) is not nn.Sequential)


def _layer_of(module: nn.Module) -> type[nn.Module] | None:
    """Return the known layer whose ``forward`` a module has."""
    for known in MODULES:
        if isinstance(module, known) and type(module).forward is known.forward:
            return known
    return None


class TorchPath:
    """Follows the one path through a graph; ``chain`` holds what was met."""

    def __init__(self, module: nn.Module, graph: fx.Graph) -> None:
        self.module = module
        self.graph = graph
        self.constants: dict[fx.Node, Any] = {}
        self.tip: fx.Node | None = None
        self.flat = False  # whether the data have one dimension, the documents
        self.chain = Chain(_width(module))

    def follow(self) -> None:
        """Walk from the input to the output."""
        self._refuse_unknown()
        for node in self.graph.nodes:
            if node.op == "placeholder":
                if self.tip is not None:
                    msg = f"the module takes more than one input ({node.target!r}); expected the features alone"
                    raise ForeignModelError(msg)
                self.tip = node
            elif node.op == "get_attr":
                self.constants[node] = _attribute(self.module, str(node.target))
            elif node.op == "output":
                if node.args[0] is not self.tip:
                    msg = "the module returns something else than the last step's result; expected the score alone"
                    raise ForeignModelError(msg)
            else:
                self._step(node)

    def _step(self, node: fx.Node) -> None:
        if _asks_shape(node):
            # Documents count as -1, which means "as many as there are" wherever a shape is asked for.
            shape = (-1,) if self.flat else (-1, self.chain.width)
            given = self.arguments(node, "dim").get("dim") if node.op == "call_method" else None
            self.constants[node] = shape if given is None else shape[int(given)]
            return
        data = [x for x in node.all_input_nodes if x not in self.constants]
        if not data:
            self.constants[node] = self._compute(node)
            return
        if data != [self.tip]:
            msg = f"{node} reads {data}, and the path stands at {self.tip}: the module branches; expected one path from the features to the score"
            raise ForeignModelError(msg)
        step = self._known(node)
        assert step is not None
        step(self, node)
        self.tip = node

    def _known(self, node: fx.Node) -> Callable[[TorchPath, fx.Node], None] | None:
        if node.op == "call_module":
            layer = _layer_of(self.module.get_submodule(str(node.target)))
            return None if layer is None else MODULES[layer]
        return CALLS.get(node.target)

    def _refuse_unknown(self) -> None:
        """Name every call on the path that has no kernel, before anything is done."""
        data: set[fx.Node] = set()
        unknown = set()
        for node in self.graph.nodes:
            if node.op == "placeholder":
                data.add(node)
            elif node.op.startswith("call_") and data & set(node.all_input_nodes) and not _asks_shape(node):
                data.add(node)
                if self._known(node) is None:
                    unknown.add(self._label(node))
        if unknown:
            known = sorted({layer.__name__ for layer in MODULES})
            msg = f"the module uses {', '.join(sorted(unknown))}; expected only {', '.join(known)}, and arithmetic with constants"
            raise ForeignModelError(msg)

    def _label(self, node: fx.Node) -> str:
        if node.op == "call_module":
            return type(self.module.get_submodule(str(node.target))).__name__
        return str(getattr(node.target, "__name__", node.target))

    def _compute(self, node: fx.Node) -> object:
        """Run a call whose arguments are all constants."""
        args = fx.map_arg(node.args, lambda x: self.constants[x])
        kwargs = fx.map_arg(node.kwargs, lambda x: self.constants[x])
        try:
            if node.op == "call_method":
                return getattr(args[0], str(node.target))(*args[1:], **kwargs)
            if node.op == "call_function":
                return cast("Callable[..., object]", node.target)(*args, **kwargs)
        except Exception as error:  # torch has many
            msg = f"{node} of constants cannot be computed ({str(error)[:200]}); expected inputs that fit"
            raise ForeignModelError(msg) from error
        msg = f"{node} calls a module on constants; expected modules on the path from the features only"
        raise ForeignModelError(msg)

    def arguments(self, node: fx.Node, *names: str) -> Arguments:
        """Return a call's arguments by name, the first (the data) left out, nodes of constants replaced."""
        values = self.values(node.args)
        named = dict(zip(("input", *names), values, strict=False)) | dict(
            zip(node.kwargs, self.values(tuple(node.kwargs.values())), strict=True)
        )
        extra = [x for key, x in named.items() if key != "input" and isinstance(x, fx.Node)]
        if len(values) > 1 + len(names) or extra:
            msg = f"{node} has arguments {node.args[1:]} {dict(node.kwargs)}; expected constants, such as {names}"
            raise ForeignModelError(msg)
        return named

    def values(self, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return arguments of a call, nodes of constants replaced by what they are."""
        return tuple(fx.map_arg(arguments, lambda x: self.constants.get(x, x)))

    def of_module(self, node: fx.Node) -> Any:  # noqa: ANN401 - each layer has attributes of its own
        """Return the module that a node calls."""
        return self.module.get_submodule(str(node.target))

    def matrix_form(self, node: fx.Node) -> None:
        """Refuse a layer after the documents lost their columns."""
        if self.flat:
            msg = f"{node} reads scores without columns; expected the layers to stand before the last squeeze"
            raise ForeignModelError(msg)


def _asks_shape(node: fx.Node) -> bool:
    """Say whether a call gives the shape of the data, or the length of one dimension."""
    if node.op == "call_method":
        return node.target == "size"
    return node.op == "call_function" and node.target is getattr and node.args[1:] == ("shape",)


def _attribute(module: nn.Module, target: str) -> object:
    value: object = module
    for name in target.split("."):
        value = getattr(value, name)
    return value


def _width(module: nn.Module) -> int | None:
    """Return the number of features, as the first layer that has one says; others are held to it."""
    for part in module.modules():
        if isinstance(part, nn.Linear) and _layer_of(part) is nn.Linear:
            return int(part.in_features)
        if isinstance(part, nn.BatchNorm1d):
            return int(part.num_features)
    return None
