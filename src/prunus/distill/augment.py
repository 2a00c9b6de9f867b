"""Synthetic documents for the teacher to score, drawn from the cells that its split thresholds cut.

Between two consecutive thresholds of a feature the teacher's score does not change, so one point of each cell, its
midpoint, tells all there is to know of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Augmentation = Literal["none", "independent", "replace", "neighbour"]
"""How synthetic documents are drawn; see :func:`draw`."""


def draw(
    how: Augmentation,
    X: NDArray[np.float32],
    midpoints: Sequence[NDArray[np.float32]],
    n: int,
    rng: np.random.Generator,
    *,
    share: float = 0.3,
) -> NDArray[np.float32]:
    """Draw synthetic documents.

    ``independent``: each feature uniform over its midpoints, whatever the others are (Cohen et al. 2018, arXiv
    2202.10728). ``replace``: a real document in which each feature is, with probability ``share``, redrawn uniformly
    from its midpoints. ``neighbour``: a real document in which each feature moves, with probability ``share``, to the
    midpoint of a cell at most 2 away from its own; so rows stay near the data. A missing value stays missing in
    ``neighbour``.

    Args:
        how: the rule.
        X: float32 [m, n_features], real documents.
        midpoints: float32, one rising array for each feature, not empty.
        n: documents to draw.
        rng: source of randomness.
        share: share of the features that change, in (0, 1].

    Returns:
        float32 [n, n_features].
    """
    if how == "none" or n == 0:
        return np.empty((0, X.shape[1]), np.float32)
    rows = X[rng.integers(0, len(X), n)]
    for f, points in enumerate(midpoints):
        if how == "independent":
            rows[:, f] = points[rng.integers(0, len(points), n)]
            continue
        changed = np.flatnonzero(rng.random(n) < share)
        if how == "replace":
            rows[changed, f] = points[rng.integers(0, len(points), len(changed))]
        else:
            own = rows[changed, f]
            changed, own = changed[~np.isnan(own)], own[~np.isnan(own)]
            cell = np.searchsorted((points[1:] + points[:-1]) / 2, own)
            step = rng.integers(-2, 3, len(own))
            rows[changed, f] = np.where(step == 0, own, points[np.clip(cell + step, 0, len(points) - 1)])
    return rows
