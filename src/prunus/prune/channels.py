"""Whole channels of any torch module: units, filters and what hangs on them go, and the module really shrinks.

Which tensors must lose a channel together (a filter, its batch norm, the input of each layer that reads it, both arms
of a skip connection) is worked out by the dependency graph of Torch-Pruning. For stacks of layers as arrays, see
:mod:`prunus.prune.structured`.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from prunus.distill.attention import layers_of
from prunus.errors import ModuleError
from prunus.extras import need
from prunus.foreign.torch_module import evaluating
from prunus.prune.lottery import weights_of

if TYPE_CHECKING:
    from collections.abc import Sequence

Among: TypeAlias = Literal["tensor", "global"]
"""Among which channels the smallest go: those of each layer, or all of them."""

STEPS = 200
"""In how many parts the channels are removed at most: importance is measured anew after each, and the last one stops
within about half a per cent of the channels of what was asked for."""


def count_weights(module: nn.Module) -> int:
    """Count the entries of the module's weight matrices and kernels that are not zero."""
    return sum(int(torch.count_nonzero(weight)) for weight in weights_of(module).values())


def remove_channels(
    module: nn.Module,
    example: Tensor,
    target: int,
    *,
    scope: Among = "global",
    whole: Sequence[str] | None = None,
) -> nn.Module:
    """Return a smaller copy of a module, without the channels whose weights are the smallest.

    The importance of a channel is the sum of its squared weights, averaged over the tensors of its group and divided by
    the mean of that over the layer's channels, so that layers of other scales can be compared (Torch-Pruning's group
    magnitude).

    Args:
        module: any module that Torch-Pruning's tracer can follow; it stays as it is.
        example: an input, float [n, ...], n at least 2 where the module holds batch norms.
        target: weights (entries of matrices and kernels) that may be left, at most.
        scope: among which channels the smallest go.
        whole: names of layers that keep all of their outputs; None for the last Linear or convolution that is called, which
            gives the module's own output.

    Raises:
        ModuleError: it cannot be that small, a layer that was named is not there, or the output's shape would change.
        MissingExtraError: Torch-Pruning is not installed.

    References:
        Fang et al., CVPR 2023, "DepGraph: Towards Any Structural Pruning", arXiv 2301.12900.
    """
    small = copy.deepcopy(module)
    before = _shape(small, example)
    kept = layers_of(small, whole) if whole is not None else [_last_layer(small, example)]
    if _size(small) > target:
        _shrink(small, example, target, scope, kept)
    if _shape(small, example) != before:
        msg = (
            f"{type(module).__name__} would give {_shape(small, example)} instead of {before}; "
            "expected the same output: name the layers that make it in `whole`"
        )
        raise ModuleError(msg)
    for parameter in small.parameters():
        parameter.grad = None
    return small


def _shrink(small: nn.Module, example: Tensor, target: int, scope: Among, kept: list[nn.Module]) -> None:
    pruning = need("torch_pruning", "train")
    importance = pruning.importance.GroupMagnitudeImportance(p=2, group_reduction="mean", normalizer="mean")
    with evaluating(small):
        pruner = pruning.pruner.BasePruner(
            small,
            example,
            importance=importance,
            pruning_ratio=1.0,
            max_pruning_ratio=1.0,
            iterative_steps=STEPS,
            global_pruning=scope == "global",
            ignored_layers=kept,
        )
        for _ in range(STEPS):
            pruner.step()
            if _size(small) <= target:
                return
    msg = f"got a target of {target} weights; expected at least {_size(small)}: each layer keeps a channel"
    raise ModuleError(msg)


def _size(module: nn.Module) -> int:
    return sum(weight.numel() for weight in weights_of(module).values())


def _shape(module: nn.Module, example: Tensor) -> Any:  # noqa: ANN401 - whatever the module gives
    with torch.no_grad(), evaluating(module):
        output = module(example)
    return tuple(output.shape) if isinstance(output, Tensor) else [tuple(part.shape) for part in output]


def _last_layer(module: nn.Module, example: Tensor) -> nn.Module:
    """Find the Linear or convolution that is called last."""
    called: list[nn.Module] = []
    hooks = [
        part.register_forward_hook(lambda layer, _inputs, _output: called.append(layer))
        for part in module.modules()
        if isinstance(part, nn.Linear | nn.modules.conv._ConvNd)  # noqa: SLF001 - torch has no public name for them
    ]
    try:
        _shape(module, example)
    finally:
        for hook in hooks:
            hook.remove()
    if not called:
        msg = f"{type(module).__name__} calls no Linear or convolution; expected layers whose channels can go"
        raise ModuleError(msg)
    return called[-1]
