"""A tree scorer in one C++ file that is not ours to ship: its path is given in PRUNUS_TREEPROTO.

The file exports ``tp_load(path)`` and ``tp_score(model, X, n, out)``, and reads this little-endian format: int32 trees and
features; for each feature int32 n and n rising float32 thresholds (at most 255); for each tree int32 nodes and leaves, the nodes
as uint16 feature, left, right, target and uint32 bin (one byte, four times), then a float32 for each leaf. Nodes stand in the
order of their evaluation, from the leaves up: row i below 256 holds leaf i, rows 256 to 287 are scratch, a node writes the row
``target``, and the last one's row says the leaf. x goes right where its bin, the number of thresholds below x, is above the node's.
"""

from __future__ import annotations

import ctypes
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .shared import address, compile_library

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .shared import Call

VARIABLE = "PRUNUS_TREEPROTO"
OPTIONS = ("-std=c++17", "-march=native", "-mprefer-vector-width=512")
MOST_THRESHOLDS = 255
MOST_LEAVES = 256
FIRST_ROW, ROWS = 256, 32
FEWEST_FEATURES = 16
NODE = np.dtype([("feature", "<u2"), ("left", "<u2"), ("right", "<u2"), ("target", "<u2"), ("bin", "<u4")])


def convert(ensemble: Any) -> bytes:  # noqa: ANN401 - prunus' Ensemble, or anything with its arrays
    """Write an ensemble in the format of the module's description.

    Args:
        ensemble: a :class:`prunus.engine.ensemble.Ensemble`.

    Raises:
        ValueError: the format has no room for it: a categorical split, a feature of more than 255 thresholds, a tree of more
            than 256 leaves, fewer than 16 features, a base.
    """
    e = ensemble
    _require((e.category < 0).all(), "it has categorical splits")
    _require(e.n_features >= FEWEST_FEATURES, f"it has {e.n_features} features; at least {FEWEST_FEATURES} are read")
    _require(e.base == 0.0, f"its base is {e.base}, not 0")
    thresholds = [np.unique(e.threshold[e.feature == f]) for f in range(e.n_features)]
    largest = max(len(found) for found in thresholds)
    _require(largest <= MOST_THRESHOLDS, f"a feature has {largest} thresholds; a byte counts {MOST_THRESHOLDS}")
    leaves = np.diff(e.leaf_start)
    _require(leaves.max() <= MOST_LEAVES, f"a tree has {leaves.max()} leaves; a byte names {MOST_LEAVES}")
    _require(leaves.min() > 1, "a tree has one leaf only")
    bins = np.array([np.searchsorted(thresholds[f], t) for f, t in zip(e.feature, e.threshold, strict=True)], np.uint32)
    parts = [struct.pack("<2i", len(e.root), e.n_features)]
    for found in thresholds:
        parts += [struct.pack("<i", len(found)), found.astype("<f4").tobytes()]
    for tree in range(len(e.root)):
        nodes = _order(e, bins, tree)
        values = e.value[e.leaf_start[tree] : e.leaf_start[tree + 1]].astype("<f4")
        parts += [struct.pack("<2i", len(nodes), len(values)), nodes.tobytes(), values.tobytes()]
    return b"".join(parts)


def _require(condition: object, why: str) -> None:
    if not condition:
        msg = f"treeproto cannot run this model: {why}"
        raise ValueError(msg)


def _order(e: Any, bins: NDArray[np.uint32], tree: int) -> NDArray[np.void]:  # noqa: ANN401 - an Ensemble
    """Put a tree's nodes in the order of their evaluation, with as few scratch rows as a tree needs (Sethi and Ullman)."""
    first_leaf = int(e.leaf_start[tree])
    nodes = range(int(e.node_start[tree]), int(e.node_start[tree + 1]))
    need: dict[int, int] = {}
    for node in reversed(nodes):  # children stand after their parents
        a, b = sorted(need.get(int(child), 0) for child in (e.left[node], e.right[node]))
        need[node] = max(b, a + 1, 1)
    _require(need[int(e.root[tree])] <= ROWS, f"a tree needs more than {ROWS} scratch rows")
    found: list[tuple[int, int, int, int, int]] = []

    def place(child: int) -> int:
        return (~child - first_leaf) if child < 0 else rows[child]

    rows: dict[int, int] = {}
    free = list(range(FIRST_ROW + ROWS - 1, FIRST_ROW - 1, -1))
    stack = [(int(e.root[tree]), False)]
    while stack:
        node, children_done = stack.pop()
        left, right = int(e.left[node]), int(e.right[node])
        inner = sorted((c for c in (left, right) if c >= 0), key=lambda c: need[c])
        if not children_done:
            stack.append((node, True))
            stack += [(child, False) for child in inner]  # the one that needs most rows comes off first
            continue
        sides = place(left), place(right)
        free += [rows.pop(child) for child in inner]
        rows[node] = free.pop()
        found.append((int(e.feature[node]), *sides, rows[node], int(bins[node]) * 0x01010101))
    return np.array(found, NODE)


class TreeProto:
    """The scorer of PRUNUS_TREEPROTO with the trees of a teacher; ``model`` is what ``prepare`` wrote.

    It reads missing values as very small numbers, so it is right only where none occur.
    """

    packages = ("numpy",)

    @staticmethod
    def prepare(model: str, folder: Path) -> None:
        """Compile the file, and convert a tree ensemble into its format."""
        from prunus.teacher.trees import load_trees

        (folder / "model.bin").write_bytes(convert(load_trees(model).ensemble()))
        compile_library(Path(os.environ[VARIABLE]), folder / "scorer.so", *OPTIONS)

    def __init__(self, model: str) -> None:
        self.lib = ctypes.CDLL(str(Path(model) / "scorer.so"))
        self.lib.tp_load.restype = ctypes.c_void_p
        self.trees = ctypes.c_void_p(self.lib.tp_load(os.fsencode(Path(model) / "model.bin")))
        if not self.trees.value:
            msg = "it does not read its model"
            raise RuntimeError(msg)

    def call(self, batch: int) -> Call:
        """Give the function to time for batches of this size."""
        out = np.empty(batch, np.float32)
        target, trees, run = address(out), self.trees, self.lib.tp_score

        def score(X: NDArray[np.float32]) -> NDArray[np.float32]:
            run(trees, address(X), batch, target)
            return out

        return score
