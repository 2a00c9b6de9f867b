"""Whole inputs and whole neurons: what no weight reads goes, and the network shrinks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True)
class Shrunk:
    """A stack of layers without dead parts.

    Attributes:
        weights: float32 [n_outputs, n_inputs] each.
        biases: float32 [n_outputs] each.
        slots: int64, the inputs of the first layer that are still read, rising.
        units: for each hidden layer, int64, the units that are left, rising.
    """

    weights: list[NDArray[np.float32]]
    biases: list[NDArray[np.float32]]
    slots: NDArray[np.int64]
    units: list[NDArray[np.int64]]


def shrink(
    weights: Sequence[NDArray[np.float32]],
    biases: Sequence[NDArray[np.float32]],
    activations: Sequence[Callable[[NDArray[np.float64]], NDArray[np.float64]]],
) -> Shrunk:
    """Remove units that nothing reads, fold units that read nothing into the next bias, and drop unread inputs.

    A unit without inputs gives the constant c = act(b), so b' = b' + w c in the layer after it, and the unit goes. The
    function that the network computes stays the same, up to rounding.

    Args:
        weights: float32 [n_outputs, n_inputs] each, first layer to last.
        biases: float32 [n_outputs] each.
        activations: one for each layer.

    Returns:
        The smaller stack. A layer keeps at least one unit and the first layer at least one input, so shapes stay legal.
    """
    w = [np.array(weight, np.float64) for weight in weights]
    b = [np.array(bias, np.float64) for bias in biases]
    units = [np.arange(len(bias)) for bias in b[:-1]]
    changed = True
    while changed:
        changed = False
        for k in range(len(w) - 1):
            constant = np.asarray(~w[k].any(axis=1))
            if constant.any():
                b[k + 1] += w[k + 1][:, constant] @ activations[k](b[k][constant])
                w[k + 1][:, constant] = 0.0
            unread = np.asarray(~w[k + 1].any(axis=0))
            if unread.all():
                unread[0] = False
            if unread.any():
                keep = ~unread
                w[k], b[k], w[k + 1], units[k] = w[k][keep], b[k][keep], w[k + 1][:, keep], units[k][keep]
                changed = True
    read = np.asarray(w[0].any(axis=0))
    read[0] |= not read.any()
    w[0] = w[0][:, read]
    return Shrunk(
        [x.astype(np.float32) for x in w],
        [x.astype(np.float32) for x in b],
        np.flatnonzero(read),
        [u.astype(np.int64) for u in units],
    )


def alive(kept: Sequence[NDArray[np.bool_]]) -> list[NDArray[np.bool_]]:
    """Drop the kept weights that cannot reach the score: those of units that nothing reads, layer after layer.

    Args:
        kept: bool [n_outputs, n_inputs] each, first layer to last.

    Returns:
        The same masks, with the dead weights cleared. (A unit that reads nothing is a constant; the weights that read
        it are cleared too, and what the constant gave is learned again by the biases while training goes on.)
    """
    masks = [mask.copy() for mask in kept]
    while True:
        before = sum(int(mask.sum()) for mask in masks)
        for k in range(len(masks) - 1):
            masks[k][~masks[k + 1].any(axis=0)] = False
            masks[k + 1][:, ~masks[k].any(axis=1)] = False
        if sum(int(mask.sum()) for mask in masks) == before:
            return masks
