"""Gradual magnitude pruning of every layer under one budget of time.

Small weights go first, each measured by what it does: removing w costs, to second order, 1/2 G w^2 of squared error to
the teacher (G the mean squared derivative of the score by that weight), and saves the time of that weight and its share
of the unit and the input that it keeps alive. The cheapest error for each microsecond goes first, so densities by layer
come out of the trade and are set by nobody. docs/distillation.md compares this with plain magnitude, with one curvature
for each layer, and with squared gradients of the loss.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from prunus.prune.structured import alive

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from prunus.latency import Prices


def cost(prices: Prices, kept: Sequence[NDArray[np.bool_]]) -> float:
    """What the network that keeps these weights costs, dead parts removed.

    Args:
        prices: of the parts of a network.
        kept: bool [n_outputs, n_inputs] each, first layer to last.
    """
    masks = alive(kept)
    weights = sum(int(mask.sum()) for mask in masks)
    units = sum(int(mask.any(axis=1).sum()) for mask in masks)
    return prices.fixed + prices.weight * weights + prices.unit * units + float(prices.slot[masks[0].any(axis=0)].sum())


def saliency(
    weights: Sequence[NDArray[np.float32]], curvatures: Sequence[NDArray[np.float32]]
) -> list[NDArray[np.float64]]:
    """Estimated rise of the squared error to the teacher when a weight is removed: 1/2 G_ij w_ij^2.

    Args:
        weights: float32 [n_outputs, n_inputs] each.
        curvatures: of the same shapes: G_ij = mean over documents of (d score / d w_ij)^2, see
            :func:`prunus.prune.gradual.gauss_newton`.

    References:
        LeCun, Denker, Solla 1990, "Optimal Brain Damage", equation 5, with the Gauss-Newton diagonal for the Hessian's.
    """
    return [0.5 * np.square(w.astype(np.float64)) * g for w, g in zip(weights, curvatures, strict=True)]


def select(
    scores: Sequence[NDArray[np.float64]],
    kept: Sequence[NDArray[np.bool_]],
    prices: Prices,
    target: float,
) -> list[NDArray[np.bool_]]:
    """Remove the weights whose loss is the cheapest for the time that they save, until the target is met.

    A weight's time is its own, plus an equal share of its unit's and (in the first layer) its slot's among the
    weights that still stand there; so the last weights of an input or a unit fall together.

    Args:
        scores: saliency, float64 [n_outputs, n_inputs] each.
        kept: bool, weights that stand now; removed ones do not come back.
        prices: of the network's parts.
        target: what it may cost, in the unit of the prices.

    Returns:
        New masks, a subset of ``kept``; at least one path from an input to the score stays.
    """
    if cost(prices, kept) <= target:
        return alive(kept)
    ratio = []
    for number, (score, mask) in enumerate(zip(scores, kept, strict=True)):
        price = np.full(mask.shape, float(prices.weight))
        price += prices.unit / np.maximum(mask.sum(axis=1, keepdims=True), 1)
        if number == 0:
            price += prices.slot / np.maximum(mask.sum(axis=0), 1)
        else:
            price += prices.unit / np.maximum(mask.sum(axis=0), 1)
        ratio.append(np.where(mask, score / price, -1.0))
    unit = 0
    for value in reversed(ratio):  # one path from an input to the score always stays
        best = int(value[unit].argmax())
        value[unit, best] = np.inf
        unit = best
    flat = np.concatenate([r.ravel() for r in ratio])
    order = np.argsort(flat, kind="stable")
    standing = int((flat >= 0).sum())
    first = len(flat) - standing
    bounds = np.cumsum([0] + [r.size for r in ratio])

    def after(removed: int) -> list[NDArray[np.bool_]]:
        keep = np.zeros(len(flat), np.bool_)
        keep[order[first + removed :]] = True
        return [keep[a:b].reshape(r.shape) for a, b, r in zip(bounds[:-1], bounds[1:], ratio, strict=True)]

    low, high = 0, standing - len(ratio)
    while low < high:
        middle = (low + high) // 2
        if cost(prices, after(middle)) <= target:
            high = middle
        else:
            low = middle + 1
    return alive(after(low))
