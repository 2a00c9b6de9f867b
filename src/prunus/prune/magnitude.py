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

from prunus.prune.blocks import fold_any, fold_sum, standing, unfold
from prunus.prune.structured import alive

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from prunus.latency import Prices

LEAST_PRICE = 1e-12
"""Price of a part that the list prices at nothing, so that it goes last."""


def cost(prices: Prices, kept: Sequence[NDArray[np.bool_]], grains: Sequence[int] | None = None) -> float:
    """What the network that keeps these weights costs, dead parts removed.

    Args:
        prices: of the parts of a network.
        kept: bool [n_outputs, n_inputs] each, first layer to last.
        grains: for each layer, 1 where weights are stored one by one, 4 where they are stored by blocks of four
            inputs, which cost ``prices.block`` each; None for 1 everywhere.
    """
    masks = alive(kept)
    grains = grains or [1] * len(masks)
    read = standing(masks, grains)
    stored = sum(
        _price(prices, grain) * int(fold_any(mask, grain).sum()) for mask, grain in zip(masks, grains, strict=True)
    )
    units = sum(int((mask.any(axis=1) | after).sum()) for mask, after in zip(masks[:-1], read[1:], strict=True)) + 1
    return prices.fixed + stored + prices.unit * units + float(prices.slot[read[0]].sum())


def _price(prices: Prices, grain: int) -> float:
    return float(prices.weight if grain == 1 else prices.block)


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
    grains: Sequence[int] | None = None,
) -> list[NDArray[np.bool_]]:
    """Remove the weights whose loss is the cheapest for the time that they save, until the target is met.

    A weight's time is its own, plus an equal share of its unit's and (in the first layer) its slot's among the
    weights that still stand there; so the last weights of an input or a unit fall together. Where the grain is 4, read
    "block of four neighbouring inputs" for "weight" and their sums for its loss and its shares.

    Args:
        scores: saliency, float64 [n_outputs, n_inputs] each.
        kept: bool, weights that stand now; removed ones do not come back.
        prices: of the network's parts.
        target: what it may cost, in the unit of the prices.
        grains: for each layer, 1 or 4; None for 1 everywhere.

    Returns:
        New masks, a subset of ``kept``; at least one path from an input to the score stays.
    """
    grains = grains or [1] * len(kept)
    if cost(prices, kept, grains) <= target:
        return alive(kept)
    ratio = [
        _loss_for_price(score, mask, prices, grain, prices.slot if number == 0 else prices.unit)
        for number, (score, mask, grain) in enumerate(zip(scores, kept, grains, strict=True))
    ]
    _keep_a_path(ratio, grains)
    flat = np.concatenate([r.ravel() for r in ratio])
    order = np.argsort(flat, kind="stable")
    n_standing = int((flat >= 0).sum())
    first = len(flat) - n_standing
    bounds = np.cumsum([0] + [r.size for r in ratio])

    def after(removed: int) -> list[NDArray[np.bool_]]:
        keep = np.zeros(len(flat), np.bool_)
        keep[order[first + removed :]] = True
        parts = zip(bounds[:-1], bounds[1:], ratio, grains, kept, strict=True)
        return [unfold(keep[a:b].reshape(r.shape), grain, mask.shape[1]) & mask for a, b, r, grain, mask in parts]

    low, high = 0, n_standing - len(ratio)
    while low < high:
        middle = (low + high) // 2
        if cost(prices, after(middle), grains) <= target:
            high = middle
        else:
            low = middle + 1
    return alive(after(low))


def _loss_for_price(
    score: NDArray[np.float64],
    mask: NDArray[np.bool_],
    prices: Prices,
    grain: int,
    input_price: float | NDArray[np.float64],
) -> NDArray[np.float64]:
    """Loss for each unit of price of a layer's blocks, -1 where nothing stands."""
    blocks = fold_any(mask, grain)
    of_input = fold_sum(np.broadcast_to(np.asarray(input_price, np.float64), mask.shape[1:]), grain)
    price = _price(prices, grain) + prices.unit / np.maximum(blocks.sum(axis=1, keepdims=True), 1)
    price = np.maximum(price + of_input / np.maximum(blocks.sum(axis=0), 1), LEAST_PRICE)
    return np.where(blocks, fold_sum(np.where(mask, score, 0.0), grain) / price, -1.0)


def _keep_a_path(ratio: Sequence[NDArray[np.float64]], grains: Sequence[int]) -> None:
    """Put one path from an input to the score out of reach: the best block of each layer, from the last to the first."""
    units = np.array([0])
    for number in range(len(ratio) - 1, -1, -1):
        best = ratio[number][units]
        row, block = divmod(int(best.argmax()), best.shape[1])
        ratio[number][units[row], block] = np.inf
        if number > 0:
            units = np.arange(block * grains[number], min((block + 1) * grains[number], len(ratio[number - 1])))
