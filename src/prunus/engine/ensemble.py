"""The other model that the engine can run: an ensemble of decision trees, as plain arrays.

A document x walks each tree t from its root to one leaf, and

    score = base + sum over trees t of value[leaf_t(x)]

At a numeric node with threshold c and feature f, a number x[f] goes left where x[f] <= c, else right; infinities compare
like numbers. What is missing goes where the node's ``missing`` byte says. At a categorical node the number is cut
towards zero, and goes left where that code is in the node's set. All trees stand one behind the other in flat arrays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from prunus.engine.network import MAX_WIDTH
from prunus.errors import EnsembleError

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAN_IS_ZERO = 0
"""``missing & 3``: nothing is missing at this node; NaN is read as 0."""

NAN_IS_MISSING = 1
"""``missing & 3``: NaN is missing."""

ZERO_IS_MISSING = 2
"""``missing & 3``: NaN is missing, and so is every |x| <= :data:`ZERO`."""

MISSING_RIGHT = 4
"""Bit of ``missing``: what is missing goes right; without it, left."""

NEGATIVE_IS_NO_CODE = 8
"""Bit of ``missing``, at categorical nodes only: -1 < x < 0 is no code; without it, it is code 0 (cut towards zero)."""

ZERO = np.float32(1e-35)
"""Largest |x| that counts as 0 where zero is missing (LightGBM's kZeroThreshold)."""

NUMERIC = -1
"""``category`` of a numeric node."""

MAX_NODES = 1 << 30
"""Largest number of nodes, of leaves, or of codes in sets."""

ARRAYS: dict[str, type[np.generic]] = {
    "node_start": np.int32,
    "leaf_start": np.int32,
    "root": np.int32,
    "feature": np.int32,
    "threshold": np.float32,
    "left": np.int32,
    "right": np.int32,
    "missing": np.uint8,
    "category": np.int32,
    "set_start": np.int32,
    "set_code": np.int32,
    "value": np.float64,
}
"""Type of each array of an :class:`Ensemble`, in the order of its fields."""


def _require(condition: object, message: str) -> None:
    if not condition:
        raise EnsembleError(message)


def _array(value: NDArray[np.generic], dtype: type[np.generic], name: str) -> NDArray[np.generic]:
    array = np.ascontiguousarray(value)
    _require(array.ndim == 1, f"{name} has {array.ndim} dimensions; expected 1")
    if array.dtype == dtype:
        return array
    with np.errstate(invalid="ignore", over="ignore"):
        cast = array.astype(dtype)
    _require(cast.dtype.kind == "f" or np.array_equal(cast, array), f"{name} does not fit {dtype.__name__}")
    return cast


def _rises(start: NDArray[np.int32], count: int, least: int) -> bool:
    """Say whether starts rise from 0 to ``count``, by ``least`` or more at each step."""
    return bool(len(start) and start[0] == 0 and start[-1] == count and (np.diff(start) >= least).all())


@dataclass(frozen=True)
class Ensemble:
    """Decision trees with one output; see the module's formula.

    Tree t owns the nodes ``node_start[t]:node_start[t + 1]`` and the leaves ``leaf_start[t]:leaf_start[t + 1]``, one
    leaf more than nodes. A reference r to a child is absolute: node r where r >= 0, leaf ~r where r < 0.

    Attributes:
        n_features: columns that X must have.
        base: float, added to every score.
        node_start: int32 [n_trees + 1], rising from 0 to n_nodes.
        leaf_start: int32 [n_trees + 1], rising from 0 to n_leaves.
        root: int32 [n_trees], a reference: the first node of each tree, or its only leaf.
        feature: int32 [n_nodes], the feature that each node reads.
        threshold: float32 [n_nodes], not NaN; x <= threshold goes left. Not read at a categorical node.
        left: int32 [n_nodes], a reference inside the tree; a node's children stand after it.
        right: int32 [n_nodes], likewise.
        missing: uint8 [n_nodes]: :data:`NAN_IS_ZERO`, :data:`NAN_IS_MISSING` or :data:`ZERO_IS_MISSING`, plus
            :data:`MISSING_RIGHT` or nothing. A categorical node has NAN_IS_MISSING, plus :data:`NEGATIVE_IS_NO_CODE` or
            nothing.
        category: int32 [n_nodes]: :data:`NUMERIC`, or the index of a set of codes. x goes left where its code, x cut
            towards zero, is in the set; every other number (negative, beyond int32, infinite) goes right.
        set_start: int32 [n_sets + 1], rising from 0 to the number of codes; set s is
            ``set_code[set_start[s]:set_start[s + 1]]``.
        set_code: int32, codes of 0 or more, rising inside a set.
        value: float64 [n_leaves], finite: what each leaf adds to the score.

    Raises:
        EnsembleError: the arrays do not describe trees.
    """

    n_features: int
    base: float
    node_start: NDArray[np.int32]
    leaf_start: NDArray[np.int32]
    root: NDArray[np.int32]
    feature: NDArray[np.int32]
    threshold: NDArray[np.float32]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    missing: NDArray[np.uint8]
    category: NDArray[np.int32]
    set_start: NDArray[np.int32]
    set_code: NDArray[np.int32]
    value: NDArray[np.float64]

    def __post_init__(self) -> None:
        for name, dtype in ARRAYS.items():
            object.__setattr__(self, name, _array(getattr(self, name), dtype, name))
        object.__setattr__(self, "n_features", int(self.n_features))
        object.__setattr__(self, "base", float(self.base))
        _require(1 <= self.n_features <= MAX_WIDTH, f"{self.n_features} features; expected 1 to {MAX_WIDTH}")
        _require(math.isfinite(self.base), f"base is {self.base}; expected a finite number")
        self._check_sizes()
        self._check_sets()
        self._check_nodes()
        self._check_links()

    def _check_sizes(self) -> None:
        n_nodes, n_leaves = len(self.feature), len(self.value)
        for name in ("threshold", "left", "right", "missing", "category"):
            found = len(getattr(self, name))
            _require(found == n_nodes, f"{name} has {found} entries; expected {n_nodes}, one for each node")
        _require(
            max(n_nodes, n_leaves, len(self.set_code)) <= MAX_NODES,
            f"{n_nodes} nodes, {n_leaves} leaves, {len(self.set_code)} codes; expected at most {MAX_NODES} of each",
        )
        _require(len(self.leaf_start) > 1, "no trees; expected at least one")
        _require(
            len(self.node_start) == len(self.leaf_start) == len(self.root) + 1,
            f"node_start, leaf_start and root have {len(self.node_start)}, {len(self.leaf_start)} and {len(self.root)}"
            " entries; expected one more in the first two than trees",
        )
        _require(_rises(self.node_start, n_nodes, 0), f"node_start must rise from 0 to {n_nodes}, the number of nodes")
        _require(_rises(self.leaf_start, n_leaves, 1), f"leaf_start must rise from 0 to {n_leaves}, each tree with one")
        _require(
            np.array_equal(np.diff(self.leaf_start), np.diff(self.node_start) + 1),
            "a tree has not one leaf more than nodes; expected a binary tree",
        )
        _require(np.isfinite(self.value).all(), "value holds NaN or infinity; expected finite numbers")

    def _check_sets(self) -> None:
        codes = self.set_code
        _require(
            _rises(self.set_start, len(codes), 0), f"set_start must rise from 0 to {len(codes)}, the number of codes"
        )
        _require(not len(codes) or codes.min() >= 0, "set_code holds a negative code; expected 0 or more")
        owner = np.repeat(np.arange(self.n_sets), np.diff(self.set_start))
        inside = owner[1:] == owner[:-1]
        _require((codes[1:] > codes[:-1])[inside].all(), "set_code must rise inside a set, without repeats")

    def _check_nodes(self) -> None:
        if not self.n_nodes:
            return
        _require(
            self.feature.min() >= 0 and self.feature.max() < self.n_features,
            f"a node reads a feature outside 0..{self.n_features - 1}",
        )
        _require(not np.isnan(self.threshold).any(), "threshold holds NaN; expected numbers or infinities")
        _require(
            self.category.min() >= NUMERIC and self.category.max() < self.n_sets,
            f"a node names a set outside 0..{self.n_sets - 1}",
        )
        numeric = self.category == NUMERIC
        unknown = numeric & ((self.missing > (MISSING_RIGHT | 3)) | ((self.missing & 3) == 3))
        _require(not unknown.any(), "a numeric node's missing byte is unknown; expected 0 to 2, or 4 to 6")
        bits = MISSING_RIGHT | NEGATIVE_IS_NO_CODE
        _require(
            (numeric | ((self.missing & ~np.uint8(bits)) == NAN_IS_MISSING)).all(),
            "a categorical node's missing byte is unknown; expected 1, 5, 9 or 13",
        )

    def _check_links(self) -> None:
        sizes = np.diff(self.node_start)
        _require(
            np.array_equal(self.root, np.where(sizes > 0, self.node_start[:-1], ~self.leaf_start[:-1])),
            "root must be the first node of each tree, or the only leaf of a tree without nodes",
        )
        tree = np.repeat(np.arange(self.n_trees), sizes)
        own = np.arange(self.n_nodes)
        children = np.concatenate([self.left, self.right]).astype(np.int64)
        tree, own = np.concatenate([tree, tree]), np.concatenate([own, own])
        is_node = children >= 0
        _require(
            ((children > own) & (children < self.node_start[tree + 1]))[is_node].all(),
            "a node's child stands before it or outside its tree; expected each child after its parent",
        )
        leaf = ~children
        _require(
            ((leaf >= self.leaf_start[tree]) & (leaf < self.leaf_start[tree + 1]))[~is_node].all(),
            "a node's leaf lies outside its tree",
        )
        # Every reference is in range now. Together with the counts (one leaf more than nodes), no repeat means that
        # each node but the root, and each leaf, has exactly one parent.
        once = (
            np.bincount(children[is_node], minlength=1).max() <= 1
            and np.bincount(leaf[~is_node], minlength=1).max() <= 1
        )
        _require(once, "a node or leaf has two parents; expected one")

    @property
    def n_trees(self) -> int:
        """Number of trees."""
        return len(self.root)

    @property
    def n_nodes(self) -> int:
        """Nodes of all trees, leaves not counted."""
        return len(self.feature)

    @property
    def n_leaves(self) -> int:
        """Leaves of all trees."""
        return len(self.value)

    @property
    def n_sets(self) -> int:
        """Number of sets of codes."""
        return len(self.set_start) - 1

    @property
    def features_read(self) -> NDArray[np.int32]:
        """int32, rising: the features that some node reads."""
        return np.flatnonzero(np.bincount(self.feature, minlength=self.n_features)).astype(np.int32)

    def narrow(self) -> Ensemble:
        """Return the same trees over the features they read, in their order, and no others (one, if they read none)."""
        kept = self.features_read
        feature = np.searchsorted(kept, self.feature).astype(np.int32)
        arrays = {name: getattr(self, name) for name in ARRAYS}
        return Ensemble(**arrays | {"n_features": max(len(kept), 1), "base": self.base, "feature": feature})

    def first(self, n_trees: int) -> Ensemble:
        """Return the ensemble of the first trees.

        Args:
            n_trees: 1 to the number of trees.

        Raises:
            EnsembleError: fewer than one tree, or more than there are.
        """
        _require(1 <= n_trees <= self.n_trees, f"got {n_trees} trees; expected 1 to {self.n_trees}")
        nodes, leaves = int(self.node_start[n_trees]), int(self.leaf_start[n_trees])
        per_node = ("feature", "threshold", "left", "right", "missing", "category")
        starts = {name: getattr(self, name)[: n_trees + 1] for name in ("node_start", "leaf_start")}
        return Ensemble(
            self.n_features,
            self.base,
            **starts,
            root=self.root[:n_trees],
            **{name: getattr(self, name)[:nodes] for name in per_node},
            set_start=self.set_start,
            set_code=self.set_code,
            value=self.value[:leaves],
        )
