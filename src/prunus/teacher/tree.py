"""One tree of a library, as arrays; and a forest of them joined to what the engine runs.

The three readers translate their formats into :class:`Tree`, which has the conventions of
:class:`~prunus.engine.ensemble.Ensemble` already (x <= cut goes left, missing values by a byte) and the leaf numbers of
the library. From there on no library differs from another.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from prunus.engine.ensemble import NUMERIC, ZERO, ZERO_IS_MISSING, Ensemble
from prunus.errors import TeacherError
from prunus.teacher.forest import Splits, by_feature

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

BELOW_ZERO = np.nextafter(-ZERO, np.float32(-np.inf))
"""Largest float32 below every |x| that LightGBM takes for 0."""


@dataclass(frozen=True)
class Tree:
    """One tree; node 0 is its root, or leaf 0 where it has no nodes.

    Attributes:
        feature: int64 [n_nodes], the feature that each node reads.
        cut: float32 [n_nodes], x <= cut goes left; 0 at categorical nodes.
        left: int64 [n_nodes], the child there: node r where r >= 0, leaf ~r where r < 0.
        right: int64 [n_nodes], likewise.
        missing: uint8 [n_nodes], as in :class:`~prunus.engine.ensemble.Ensemble`.
        value: float64 [n_leaves], by the library's leaf numbers: all that the leaf adds to the score.
        codes: node -> int64, rising: the codes that a categorical node sends to the left.
    """

    feature: NDArray[np.int64]
    cut: NDArray[np.float32]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    missing: NDArray[np.uint8]
    value: NDArray[np.float64]
    codes: dict[int, NDArray[np.int64]] = field(default_factory=dict)

    @property
    def n_nodes(self) -> int:
        """Nodes, leaves not counted."""
        return len(self.feature)


def constant_tree(value: float) -> Tree:
    """Return a tree of one leaf."""
    none = np.zeros(0, np.int64)
    return Tree(none, none.astype(np.float32), none, none, none.astype(np.uint8), np.array([value], np.float64))


def splits_of(trees: Sequence[Tree], n_features: int) -> Splits:
    """Collect where trees cut each feature; a node where zero is missing cuts on both sides of zero too.

    Args:
        trees: at least one.
        n_features: of the model.
    """
    features, cuts = [], []
    categories: dict[int, set[int]] = {}
    for tree in trees:
        numeric = np.ones(tree.n_nodes, bool)
        numeric[list(tree.codes)] = False
        around_zero = tree.feature[numeric & ((tree.missing & 3) == ZERO_IS_MISSING)]
        features += [tree.feature[numeric], around_zero, around_zero]
        n = len(around_zero)
        cuts += [tree.cut[numeric], np.repeat(ZERO, n), np.repeat(BELOW_ZERO, n)]
        for node, codes in tree.codes.items():
            categories.setdefault(int(tree.feature[node]), set()).update(codes.tolist())
    return Splits(
        thresholds=by_feature(np.concatenate(features), np.concatenate(cuts), n_features),
        leaves=np.array([len(tree.value) for tree in trees], dtype=np.int64),
        categories={feature: np.array(sorted(codes), np.float32) for feature, codes in sorted(categories.items())},
    )


def join(trees: Sequence[Tree], n_features: int, base: float, source: str) -> Ensemble:
    """Put trees one behind the other as the engine wants them; leaves keep the numbers that they have in the library.

    Args:
        trees: at least one.
        n_features: columns of X.
        base: added to every score.
        source: what to call the model in messages.

    Raises:
        TeacherError: the links of a tree run in a circle.
        EnsembleError: the model is beyond what the engine runs (65,536 features).
    """
    trees = [_children_last(tree, f"{source}: tree {index}") for index, tree in enumerate(trees)]
    n_nodes = np.array([tree.n_nodes for tree in trees], np.int64)
    node_start = np.concatenate([[0], np.cumsum(n_nodes)])
    leaf_start = np.concatenate([[0], np.cumsum(n_nodes + 1)])
    owner = np.repeat(np.arange(len(trees)), n_nodes)
    category = np.full(node_start[-1], NUMERIC, np.int32)
    sets: list[NDArray[np.int64]] = []
    for start, tree in zip(node_start[:-1].tolist(), trees, strict=True):
        for node, codes in tree.codes.items():
            category[start + node] = len(sets)
            sets.append(codes)
    arrays: dict[str, NDArray[Any]] = {
        name: np.concatenate([getattr(tree, part) for tree in trees])
        for name, part in (("threshold", "cut"), *((x, x) for x in ("feature", "left", "right", "missing", "value")))
    }
    for side in ("left", "right"):
        to_leaf = arrays[side] < 0
        arrays[side] += np.where(to_leaf, -leaf_start[owner], node_start[owner])  # ~(~r + start) is r - start
    return Ensemble(
        n_features=n_features,
        base=base,
        node_start=node_start,
        leaf_start=leaf_start,
        root=np.where(n_nodes > 0, node_start[:-1], ~leaf_start[:-1]),
        category=category,
        set_start=np.cumsum([0, *(len(codes) for codes in sets)]),
        set_code=np.concatenate([*sets, np.zeros(0, np.int64)]),
        **arrays,
    )


def _children_last(tree: Tree, where: str) -> Tree:
    """Return the tree with its nodes in an order in which each stands after its parent."""
    own = np.arange(tree.n_nodes)
    if all(((child < 0) | (child > own)).all() for child in (tree.left, tree.right)):
        return tree
    order, front = [], np.zeros(1, np.int64)
    while len(front):
        order.append(front)
        children = np.stack([tree.left[front], tree.right[front]], axis=1).ravel()
        front = children[children >= 0]
    kept = np.concatenate(order)
    if len(kept) != tree.n_nodes:
        msg = f"{where}: some of its nodes run in a circle; expected a tree: the file is damaged, save the model again"
        raise TeacherError(msg)
    place = np.empty(tree.n_nodes, np.int64)
    place[kept] = own

    def moved(child: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.where(child >= 0, place[child], child)[kept]

    return Tree(
        feature=tree.feature[kept],
        cut=tree.cut[kept],
        left=moved(tree.left),
        right=moved(tree.right),
        missing=tree.missing[kept],
        value=tree.value,
        codes={int(place[node]): codes for node, codes in tree.codes.items()},
    )
