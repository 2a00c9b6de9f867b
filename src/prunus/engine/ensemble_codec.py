"""How an :class:`~prunus.engine.ensemble.Ensemble` stands in a model file."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from prunus.engine import ensemble_reference
from prunus.engine.codec import CHECK_ROWS
from prunus.engine.ensemble import NUMERIC, Ensemble
from prunus.engine.header import require
from prunus.errors import EnsembleError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from prunus.data.ranking import Schema

REFERENCES = {"I16": np.int16, "I32": np.int32}
"""Types of the references to children, which count from the tree's first node or leaf: 16 bits where they fit."""

VALUES = {"F32": np.float32, "F64": np.float64}
"""Types of the leaves' values: 32 bits where that loses nothing."""

PLAIN = {"node_start": "I32", "feature": "U16", "threshold": "F32", "missing": "U8"}
"""Arrays that are always there; a feature's index fits 16 bits, as MAX_WIDTH is 65,536."""

CATEGORICAL = {"category": "I32", "set_start": "I32", "set_code": "I32"}
"""Arrays that are there where some split is categorical."""

MOST_LEAVES_16 = 1 << 15
"""Leaves of the largest tree whose references fit 16 bits: nodes count to 32,767 and leaves to ~-32,768."""

COUNTS = ("n_trees", "n_nodes", "n_leaves", "n_sets")


class EnsembleCodec:
    """See :class:`~prunus.engine.codec.Codec`.

    What follows from other arrays is not stored: where each tree's leaves start, and the roots.
    """

    key = "trees"
    model = Ensemble
    since = 2
    tolerance = 2e-5

    def describe(self, model: Ensemble, /) -> object:
        """Return the counts, the base, and the types of references and values."""
        narrow = int(np.diff(model.leaf_start).max()) <= MOST_LEAVES_16
        exact = np.array_equal(_as_float32(model.value), model.value)
        counts = {name: getattr(model, name) for name in COUNTS}
        return {
            **counts,
            "base": model.base,
            "references": "I16" if narrow else "I32",
            "values": "F32" if exact else "F64",
        }

    def tensors(self, model: Ensemble, /) -> dict[str, NDArray[Any]]:
        """Return the arrays, references counted from the tree's first node or leaf."""
        entry: Any = self.describe(model)
        tree = np.repeat(np.arange(model.n_trees), np.diff(model.node_start))
        nodes, leaves = model.node_start[tree], model.leaf_start[tree]
        arrays: dict[str, NDArray[Any]] = {
            "node_start": model.node_start,
            "feature": model.feature.astype(np.uint16),
            "threshold": model.threshold,
            "missing": model.missing,
            "value": model.value.astype(VALUES[entry["values"]]),
        }
        for side in ("left", "right"):
            child = getattr(model, side)
            # Leaf r of all is ~r; r - start of its tree is written ~(r - start), which is ~r + start.
            arrays[side] = np.where(child >= 0, child - nodes, child + leaves).astype(REFERENCES[entry["references"]])
        if model.n_sets:
            arrays |= {name: getattr(model, name) for name in CATEGORICAL}
        return {f"trees.{name}": array for name, array in arrays.items()}

    def types(self, entry: object, version: int, name: str, /) -> dict[str, str]:
        """Check the description; return the type of each array that it calls for."""
        del version  # the same in each version that has trees
        what = f"the description of its trees, {entry!r:.200}, is unknown"
        require(isinstance(entry, dict) and set(entry) == {*COUNTS, "base", "references", "values"}, name, what)
        assert isinstance(entry, dict)
        require(all(type(entry[count]) is int and entry[count] >= 0 for count in COUNTS), name, what)
        require(type(entry["base"]) is float and math.isfinite(entry["base"]), name, what)
        for part, known in (("references", REFERENCES), ("values", VALUES)):
            require(isinstance(entry[part], str) and entry[part] in known, name, what)
        types = {
            **PLAIN,
            "left": entry["references"],
            "right": entry["references"],
            "value": entry["values"],
            **(CATEGORICAL if entry["n_sets"] else {}),
        }
        return {f"trees.{part}": dtype for part, dtype in types.items()}

    def build(self, entry: Any, tensors: Mapping[str, NDArray[Any]], n_features: int, /) -> Ensemble:  # noqa: ANN401 - JSON
        """Build the ensemble from arrays of the right names and types."""
        parts = {part.removeprefix("trees."): array for part, array in tensors.items() if part.startswith("trees.")}
        if any(array.ndim != 1 for array in parts.values()):
            msg = "an array of the trees has not one dimension"
            raise EnsembleError(msg)
        node_start = parts["node_start"].astype(np.int64)
        sizes = np.diff(node_start)
        n_nodes = len(parts["feature"])
        if not len(node_start) or node_start[0] != 0 or node_start[-1] != n_nodes or (sizes < 0).any():
            msg = f"node_start must rise from 0 to {n_nodes}, the number of nodes"
            raise EnsembleError(msg)
        leaf_start = node_start + np.arange(len(node_start))
        tree = np.repeat(np.arange(len(sizes)), sizes)
        for side in ("left", "right"):
            child = parts[side].astype(np.int64)
            if len(child) != n_nodes:
                msg = f"{side} has {len(child)} entries; expected {n_nodes}, one for each node"
                raise EnsembleError(msg)
            parts[side] = np.where(child >= 0, child + node_start[tree], child - leaf_start[tree])
        none = np.zeros(0, np.int32)
        plain = {"category": np.full(n_nodes, NUMERIC, np.int32), "set_start": np.zeros(1, np.int32), "set_code": none}
        arrays: dict[str, Any] = plain | parts | {"node_start": node_start, "leaf_start": leaf_start}
        root = np.where(sizes > 0, node_start[:-1], ~leaf_start[:-1])
        ensemble = Ensemble(n_features=n_features, base=entry["base"], root=root, **arrays)
        for count in COUNTS:
            if getattr(ensemble, count) != entry[count]:
                msg = f"{count} is {getattr(ensemble, count)}, not {entry[count]} as the header says"
                raise EnsembleError(msg)
        return ensemble

    def check_rows(self, model: Ensemble, schema: Schema, /) -> NDArray[np.float32]:
        """Generate rows to check trees with, from the numbers that they compare with.

        In even rows a feature has one of its thresholds or codes, in odd rows the next float32 above one, or the code
        after one. The row before the last is 0 and the last one is missing, everywhere.
        """
        del schema  # trees take missing values in every feature
        rng = np.random.Generator(np.random.PCG64(20220210))
        features = model.features_read
        rows = np.zeros((CHECK_ROWS, len(features)), np.float32)
        if not len(features):  # trees of one leaf
            return rows
        draw = rng.random((CHECK_ROWS, len(features)))
        odd = np.arange(CHECK_ROWS) % 2 == 1
        order = np.argsort(model.feature, kind="stable")
        for column, nodes in enumerate(np.split(order, np.searchsorted(model.feature[order], features[1:]))):
            numeric = model.category[nodes] == NUMERIC
            largest = np.finfo(np.float32).max
            cuts = np.unique(np.clip(model.threshold[nodes][numeric], -largest, largest))
            codes = _codes(model, model.category[nodes][~numeric])
            candidates = np.concatenate([cuts, codes])
            with np.errstate(over="ignore"):
                above = np.minimum(np.nextafter(cuts, np.float32(np.inf)), largest)
            after = np.concatenate([above, codes + np.float32(1)])
            which = (draw[:, column] * len(candidates)).astype(np.int64)
            rows[:, column] = np.where(odd, after[which], candidates[which]) if len(candidates) else 0
        rows[-2], rows[-1] = 0, np.nan
        return rows

    def score(self, model: Ensemble, X: NDArray[np.float32], /) -> NDArray[np.float32]:
        """Return the scores by the slow twin of the tree kernels."""
        return ensemble_reference.score(model, X)


def _as_float32(values: NDArray[np.float64]) -> NDArray[np.float32]:
    with np.errstate(over="ignore", under="ignore"):
        return values.astype(np.float32)


def _codes(model: Ensemble, sets: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return the codes of some sets, float32, rising."""
    found = [model.set_code[model.set_start[s] : model.set_start[s + 1]] for s in np.unique(sets).tolist()]
    return np.unique(np.concatenate([*found, np.zeros(0, np.int32)])).astype(np.float32)
