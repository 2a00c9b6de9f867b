"""What every tree ensemble offers, and the cuts that its splits make on each feature.

One convention holds for the three libraries: a threshold t of a feature puts ``x <= t`` below and ``x > t`` above, for
float32 x. Where a library compares otherwise, its threshold is moved to the float32 that makes the same cut (see
:func:`cut_at_or_below` and :func:`cut_below`), so that the cell of a value is
``np.searchsorted(thresholds, x, side="left")`` and scores are constant inside a cell.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from prunus.errors import TeacherError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from prunus.engine.ensemble import Ensemble


@dataclass(frozen=True)
class Splits:
    """Where a forest cuts each feature.

    Attributes:
        thresholds: for each feature, float32 [n_thresholds], finite, sorted, unique; empty where no tree compares it.
        categories: feature -> float32 [n_categories], sorted: the codes that any categorical split names.
        leaves: int64 [n_trees], leaves of each tree.
    """

    thresholds: tuple[NDArray[np.float32], ...]
    leaves: NDArray[np.int64]
    categories: dict[int, NDArray[np.float32]] = field(default_factory=dict)


class Forest(Protocol):
    """A tree ensemble inside its own library."""

    library: str
    feature_names: tuple[str, ...]
    names_are_default: bool
    splits: Splits

    def score(self, X: NDArray[np.float32], n_threads: int) -> NDArray[np.float64]:
        """Return raw scores, float64 [n], of float32 [n, n_features] rows."""

    def leaves(self, X: NDArray[np.float32], n_threads: int) -> NDArray[np.int32]:
        """Return the leaf of each row in each tree, int32 [n, n_trees], as the library's own leaf index says.

        Leaves are numbered from 0 inside each tree, in the library's order.
        """

    def ensemble(self) -> Ensemble:
        """Return the same trees as arrays for the engine, leaves in the order of :meth:`leaves`."""

    def first(self, n_trees: int) -> Forest:
        """Return the forest of the first trees."""

    def to_bytes(self, suffix: str) -> bytes:
        """Return the model file that the library itself would write, in the format of a suffix."""


def cut_at_or_below(thresholds: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the largest float32 at or below each threshold: for float32 x it makes the same cut ``x <= t``."""
    with np.errstate(over="ignore"):
        nearest = thresholds.astype(np.float32)
        return np.where(nearest > thresholds, np.nextafter(nearest, np.float32(-np.inf)), nearest)


def cut_below(thresholds: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the largest float32 below each threshold: ``x < t`` is ``x <=`` that."""
    with np.errstate(over="ignore"):
        return np.nextafter(thresholds, np.float32(-np.inf))


def by_feature(
    features: NDArray[np.int64], values: NDArray[np.float32], n_features: int
) -> tuple[NDArray[np.float32], ...]:
    """Collect values by feature.

    Args:
        features: int64 [n], the feature of each value.
        values: float32 [n]; infinite ones, which cut no finite value, are left out.
        n_features: of the model.

    Returns:
        For each feature, its values, sorted and unique.
    """
    finite = np.isfinite(values)
    features, values = features[finite], values[finite] + np.float32(0)  # + 0 turns -0 into 0
    order = np.lexsort((values, features))
    ends = np.searchsorted(features[order], np.arange(1, n_features))
    return tuple(np.unique(part) for part in np.split(values[order], ends))


def midpoints_of(thresholds: NDArray[np.float32], minimum: np.float32, maximum: np.float32) -> NDArray[np.float32]:
    """Return one value inside each cell that one feature's thresholds cut between its minimum and its maximum.

    With v_1 < ... < v_k the unique values of {minimum, thresholds inside, maximum}, these are (v_i + v_{i+1}) / 2,
    moved up to the next float32 after v_i where rounding fell on v_i (which belongs to the cell below).

    Args:
        thresholds: float32, sorted and unique.
        minimum: smallest value in the data; NaN where there is none.
        maximum: largest value in the data; NaN where there is none.

    Returns:
        float32 [n_midpoints], at least one; NaN alone where nothing finite is known of the feature.
    """
    known = np.isfinite(minimum) and np.isfinite(maximum)
    if known:
        inside = thresholds[(thresholds > minimum) & (thresholds < maximum)]
        points = np.unique(np.concatenate([[minimum], inside, [maximum]]).astype(np.float32))
    else:
        points = thresholds
    if len(points) == 0:
        return np.array([np.nan], dtype=np.float32)
    if len(points) == 1:
        return points.copy()
    wide = points.astype(np.float64)
    middle = ((wide[:-1] + wide[1:]) / 2).astype(np.float32)
    return np.maximum(middle, np.nextafter(points[:-1], np.float32(np.inf)))


def check_children(children: NDArray[np.int64], n_nodes: int, where: str) -> None:
    """Check that links make a tree, so that no library walks out of its arrays or round in a circle.

    Args:
        children: int64, every child link of the tree, as node numbers.
        n_nodes: nodes of the tree, leaves included; node 0 is the root.
        where: file and tree, for the message.

    Raises:
        TeacherError: some node other than the root has not exactly one parent.
    """
    if len(children) != n_nodes - 1 or not np.array_equal(np.sort(children), np.arange(1, n_nodes)):
        msg = (
            f"{where}: the links between its nodes make no tree; expected one parent for every node but the root:"
            " the file is damaged, save the model again"
        )
        raise TeacherError(msg)
