"""Which weights of a net are kept: one budget over all layers, the largest weights first."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prunus.student.ctr import ClickNet, ClickShape


def budget(net: ClickNet, density: float) -> int:
    """Weights that make this share of the floating point operations of the hidden layers, at least one a layer."""
    return max(round(density * sum(weight.numel() for weight in net.hidden)), len(net.hidden))


def largest(scores: Sequence[Tensor], n_kept: int) -> list[Tensor]:
    """Keep the ``n_kept`` largest scores of all layers together, and the largest of each layer in any case.

    Ties go to the first layer, row and column: the same scores give the same masks on every machine.

    Args:
        scores: float32 [n_outputs, n_inputs] of each layer, not negative.
        n_kept: at least one for each layer.

    Returns:
        float32 of the same shapes, 0 and 1.
    """
    best = [int(score.argmax()) for score in scores]
    flat = torch.cat([score.detach().flatten() for score in scores])
    starts = [0]
    for score in scores[:-1]:
        starts.append(starts[-1] + score.numel())
    flat[[start + place for start, place in zip(starts, best, strict=True)]] = torch.inf
    least = flat.kthvalue(len(flat) - n_kept + 1).values
    kept = flat > least
    tied = torch.nonzero(flat == least)[:, 0]
    kept[tied[: n_kept - int(kept.sum())]] = True
    sizes = [score.numel() for score in scores]
    return [part.float().view_as(score) for part, score in zip(kept.split(sizes), scores, strict=True)]


def by_layer(weights: Sequence[Tensor]) -> list[Tensor]:
    """Magnitudes over their layer's root mean square: layers of different scale compete on equal terms."""
    with torch.no_grad():
        return [weight.abs() / weight.square().mean().sqrt().clamp_min(1e-12) for weight in weights]


def evenly(shapes: Sequence[tuple[int, int]], n_kept: int) -> list[int]:
    """Divide weights among layers by the sum of their sides, no layer above its size (Erdos-Renyi kernel).

    Args:
        shapes: (outputs, inputs) of each layer.
        n_kept: weights in all.

    Returns:
        Weights of each layer; together ``n_kept`` but for rounding down.

    References:
        Mocanu et al. 2018 (SET); Evci et al. 2020, arXiv 1911.11134 (RigL), section 3.
    """
    left, open_ = n_kept, set(range(len(shapes)))
    counts = [0] * len(shapes)
    while open_:
        share = left / sum(sum(shapes[i]) for i in open_)
        full = {i for i in open_ if share * sum(shapes[i]) >= shapes[i][0] * shapes[i][1]}
        for i in full or open_:
            a, b = shapes[i]
            counts[i] = a * b if full else max(int(share * (a + b)), 1)
        if not full:
            break
        left -= sum(counts[i] for i in full)
        open_ -= full
    return counts


def narrow(shape: ClickShape, density: float) -> ClickShape:
    """Make all hidden layers of the top narrower by one factor, for this share of the operations at most.

    Args:
        shape: of the wide net.
        density: share of its operations, in (0, 1]; at least one unit stays in each layer.
    """
    shrunk = shape
    for thousandth in range(1, 1001):
        widths = tuple(max(round(width * thousandth / 1000), 1) for width in shape.top)
        wider = dataclasses.replace(shape, top=widths)
        if wider.flops() > density * shape.flops() and thousandth > 1:
            break
        shrunk = wider
    return shrunk
