"""Blocks of four neighbouring inputs: what an int8 kernel multiplies and sums at once, so what it pays to prune at once.

A layer's grain is the number of neighbouring inputs that are kept or removed together, 1 or 4. Everything here folds
arrays of weights [n_outputs, n_inputs] to arrays of blocks [n_outputs, ceil(n_inputs / grain)] and back; a last block
may be short.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from prunus.engine.int8 import BLOCK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def _grouped(values: NDArray[np.generic], grain: int) -> NDArray[np.generic]:
    """Reshape the last axis to [..., n_blocks, grain], zeros past its end."""
    short = -values.shape[-1] % grain
    if short:
        values = np.concatenate([values, np.zeros((*values.shape[:-1], short), values.dtype)], axis=-1)
    return values.reshape(*values.shape[:-1], -1, grain)


def fold_sum(values: NDArray[np.float64], grain: int) -> NDArray[np.float64]:
    """Sum over each block, float64 [..., n_blocks]; the saliency of a block is that of its weights."""
    return values if grain == 1 else np.asarray(_grouped(values, grain).sum(axis=-1))


def fold_any(kept: NDArray[np.bool_], grain: int) -> NDArray[np.bool_]:
    """Blocks in which something is kept, bool [..., n_blocks]."""
    return kept if grain == 1 else np.asarray(_grouped(kept, grain).any(axis=-1))


def unfold(blocks: NDArray[np.bool_], grain: int, n_inputs: int) -> NDArray[np.bool_]:
    """Say of each of ``n_inputs`` inputs whether its block is kept, bool [..., n_inputs]."""
    return blocks if grain == 1 else np.repeat(blocks, grain, axis=-1)[..., :n_inputs]


def standing(kept: Sequence[NDArray[np.bool_]], grains: Sequence[int]) -> list[NDArray[np.bool_]]:
    """Inputs of each layer that stand because something of their block is read, bool [n_inputs] each.

    A unit that reads nothing still takes its place where its neighbours in the block are read: places cannot close up.
    """
    return [
        unfold(fold_any(np.asarray(mask.any(axis=0)), grain), grain, mask.shape[1])
        for mask, grain in zip(kept, grains, strict=True)
    ]


def order_by_likeness(columns: NDArray[np.float64]) -> NDArray[np.int64]:
    """Order units so that neighbours matter to the same outputs: then the blocks that are kept lose less.

    Greedy: the unit of the most importance that is left opens a block, and the three whose importances are the most
    like its own (largest cosine) join it.

    Args:
        columns: float64 [n_outputs, n_units], importance of each unit to each output of the layer that reads it.

    Returns:
        int64 [n_units], a permutation.
    """
    n_units = columns.shape[1]
    norm = np.linalg.norm(columns, axis=0)
    likeness = columns.T @ columns / np.maximum(np.outer(norm, norm), 1e-300)
    left = list(np.argsort(-norm, kind="stable"))
    order: list[int] = []
    while left:
        first = left.pop(0)
        near = sorted(left, key=lambda unit: -likeness[first, unit])[: BLOCK - 1]
        order.extend([first, *near])
        left = [unit for unit in left if unit not in near]
    return np.array(order[:n_units], np.int64)
