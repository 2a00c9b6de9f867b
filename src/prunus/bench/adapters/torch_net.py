"""A network's arrays as an eager PyTorch module: the same input stage, the same layers with their zeros as numbers.

Its adapter imports this file in the process that times PyTorch; nothing else in prunus.bench does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import torch
    from numpy.typing import NDArray

LOG, MISSING, EQUAL = 1, 2, 3
"""Slot kinds, numbered as in :class:`prunus.engine.network.SlotKind`; 0 is the plain value."""

ACTIVATIONS = ("Identity", "ReLU", "ReLU6", "Sigmoid")
"""Classes of torch.nn, numbered as in :class:`prunus.engine.network.Activation`."""


def input_stage(arrays: Mapping[str, NDArray[Any]]) -> Callable[[torch.Tensor], torch.Tensor]:
    """Make the input stage; see :mod:`prunus.engine.network` for its formula.

    Args:
        arrays: as :func:`prunus.bench.adapters.onnx_net.arrays_of` gives them.

    Returns:
        Maps raw features float32 [n_docs, n_features] to the inputs of the first layer float32 [n_docs, n_slots].
    """
    import torch

    kind = torch.tensor(arrays["kind"])
    feature = torch.tensor(arrays["feature"], dtype=torch.long)
    names = ("center", "scale", "lower", "upper", "fill")
    center, scale, lower, upper, fill = (torch.tensor(arrays[name]) for name in names)
    masks = {k: kind == k for k in (LOG, MISSING, EQUAL) if bool((kind == k).any())}
    only_log = bool((kind == LOG).all())
    whole = np.array_equal(arrays["feature"], np.arange(int(arrays["n_features"])))
    may_miss = bool(np.any(arrays["missing"]))

    def stage(X: torch.Tensor) -> torch.Tensor:
        x = X if whole else X[:, feature]
        t = x
        if LOG in masks:
            t = torch.sign(x) * torch.log1p(torch.abs(x))
            t = t if only_log else torch.where(masks[LOG], t, x)
        z = torch.minimum(torch.maximum((t - center) * scale, lower), upper)
        if EQUAL in masks:
            z = torch.where(masks[EQUAL], (x == center).to(z.dtype), z)
        if may_miss or MISSING in masks:
            absent = torch.isnan(x)
            z = torch.where(absent, fill, z)
            if MISSING in masks:
                z = torch.where(masks[MISSING], absent.to(z.dtype), z)
        return z

    return stage


def build(arrays: Mapping[str, NDArray[Any]]) -> Callable[[torch.Tensor], torch.Tensor]:
    """Build the network.

    Args:
        arrays: as :func:`prunus.bench.adapters.onnx_net.arrays_of` gives them.

    Returns:
        Maps X float32 [n_docs, n_features] to scores float32 [n_docs, 1].
    """
    import torch

    layers: list[torch.nn.Module] = []
    for number in range(sum(name.startswith("weight_") for name in arrays)):
        weight = torch.tensor(arrays[f"weight_{number}"])
        layer = torch.nn.Linear(weight.shape[1], weight.shape[0])
        with torch.no_grad():
            layer.weight.copy_(weight)
            layer.bias.copy_(torch.tensor(arrays[f"bias_{number}"]))
        activation = getattr(torch.nn, ACTIVATIONS[int(arrays[f"activation_{number}"])])
        layers += [layer] if activation is torch.nn.Identity else [layer, activation()]
    stage, net = input_stage(arrays), torch.nn.Sequential(*layers).eval()
    return lambda X: net(stage(X))
