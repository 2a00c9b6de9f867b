"""A CatBoost model as a teacher's forest."""

from __future__ import annotations

import json
import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from prunus.engine.ensemble import MISSING_RIGHT, NAN_IS_MISSING
from prunus.errors import TeacherError
from prunus.extras import need
from prunus.teacher.tree import Tree, constant_tree, join, splits_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from prunus.engine.ensemble import Ensemble

MAGIC = b"CBM1"

NAN_TREATMENTS = {"AsIs": 0, "AsFalse": 0, "AsTrue": MISSING_RIGHT}
"""Where a feature's NaN goes at ``x > border``; as it is, it compares as false."""


@dataclass(frozen=True)
class _Model:
    """What is read of CatBoost's JSON.

    Attributes:
        trees: its trees, the scale multiplied in.
        n_features: of the model.
        bias: added to every score.
    """

    trees: tuple[Tree, ...]
    n_features: int
    bias: float


class CatBoostForest:
    """Trees in CatBoost, symmetric or not; see :class:`prunus.teacher.forest.Forest`.

    Args:
        data: the whole model, CBM or JSON.
        source: what to call it in messages.

    Raises:
        TeacherError: the model cannot be used; the message says why.
        MissingExtraError: CatBoost is not installed.
    """

    library = "CatBoost"

    def __init__(self, data: bytes, source: str) -> None:
        form = "json" if data.lstrip()[:1] == b"{" else "cbm"
        if form == "cbm":
            _check_length(data, source)
        else:
            _read_model(data, source)  # before CatBoost sees it
        self._set(_load(data, form, source), source)

    def _set(self, model: Any, source: str) -> None:  # noqa: ANN401 - CatBoost has no annotations
        others = {
            "categorical": model.get_cat_feature_indices(),
            "text": model.get_text_feature_indices(),
            "embedding": model.get_embedding_feature_indices(),
        }
        for kind, indices in others.items():
            if len(indices):
                raise _not_numeric(source, len(indices), kind)
        self._model = model
        self._numbered: Any = None
        self._source = source
        self._read = _read_model(self.to_bytes(".json"), source)
        n_features = self._read.n_features
        self.splits = splits_of(self._read.trees, n_features)
        names = tuple(str(name) for name in model.feature_names_)
        self.feature_names = names if len(names) == n_features else tuple(str(index) for index in range(n_features))
        self.names_are_default = self.feature_names == tuple(str(index) for index in range(n_features))

    def score(self, X: NDArray[np.float32], n_threads: int) -> NDArray[np.float64]:
        """Return raw scores, float64 [n], of float32 [n, n_features] rows."""
        scores = self._model.predict(X, prediction_type="RawFormulaVal", thread_count=n_threads)
        return np.asarray(scores, dtype=np.float64)

    def leaves(self, X: NDArray[np.float32], n_threads: int) -> NDArray[np.int32]:
        """Return the leaf of each row in each tree, int32 [n, n_trees], as CatBoost's ``calc_leaf_indexes`` says.

        The leaves of nested trees have numbers that depend on the model's past: as CatBoost trained them, or from left
        to right once they were in JSON. So the model that is asked is one that CatBoost read from its own JSON.
        """
        if self._numbered is None:
            self._numbered = _load(self.to_bytes(".json"), "json", self._source)
        found = self._numbered.calc_leaf_indexes(X, thread_count=n_threads)
        return np.asarray(found, dtype=np.int32).reshape(len(X), len(self._read.trees))

    def ensemble(self) -> Ensemble:
        """Return the same trees as arrays for the engine."""
        return join(self._read.trees, self._read.n_features, self._read.bias, self._source)

    def first(self, n_trees: int) -> CatBoostForest:
        """Return the forest of the first trees."""
        source = f"the first {n_trees} trees of {self._source}"
        whole = json.loads(self.to_bytes(".json"))
        if "trees" in whole:  # CatBoost shrinks symmetric trees only
            whole["trees"] = whole["trees"][:n_trees]
            return CatBoostForest(json.dumps(whole).encode(), source)
        part = object.__new__(CatBoostForest)
        model = self._model.copy()
        model.shrink(ntree_end=n_trees)
        part._set(model, source)
        return part

    def to_bytes(self, suffix: str) -> bytes:
        """Return the model as CBM (.cbm) or JSON (.json)."""
        if suffix not in {".cbm", ".json"}:
            msg = f"cannot save a CatBoost model as {suffix or 'a file without suffix'}; expected .cbm or .json"
            raise TeacherError(msg)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"model{suffix}"
            try:
                self._model.save_model(str(path), format=suffix[1:])
            except need("catboost", extra="catboost").CatBoostError as error:
                raise _damaged(self._source, f"CatBoost cannot write it again ({error})") from error
            return path.read_bytes()


def _load(data: bytes, form: str, source: str) -> Any:  # noqa: ANN401 - CatBoost has no annotations
    catboost = need("catboost", extra="catboost")
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model"
            path.write_bytes(data)
            model = catboost.CatBoost()
            model.load_model(str(path), format=form)
            return model
    except (catboost.CatBoostError, ValueError, TypeError) as error:
        raise _damaged(source, f"CatBoost cannot read it ({error})") from error


def _damaged(source: str, what: str) -> TeacherError:
    return TeacherError(
        f"{source}: {what}; expected a whole CatBoost model: the file is truncated or damaged, save it again with"
        " model.save_model('model.cbm')"
    )


def _not_numeric(source: str, count: int, kind: str) -> TeacherError:
    return TeacherError(
        f"{source}: the model uses {count} {kind} features; expected numbers only, since rows are scored as float32:"
        " turn those features into numbers before training"
    )


def _check_length(data: bytes, source: str) -> None:
    """Check the length that the head announces: CatBoost itself forgives a few missing bytes."""
    if len(data) < 8 or len(data) < 8 + struct.unpack_from("<I", data, 4)[0]:
        raise _damaged(source, f"it stops after {len(data)} bytes")


def _read_model(data: bytes, source: str) -> _Model:
    """Read a model in CatBoost's JSON."""
    try:
        model = json.loads(data)
        info = model["features_info"]
        for kind in ("categorical", "text", "embedding"):
            if info.get(f"{kind}_features"):
                raise _not_numeric(source, len(info[f"{kind}_features"]), kind)
        floats = info["float_features"]
        flat = np.array([feature["flat_feature_index"] for feature in floats], dtype=np.int64)
        if not np.array_equal(np.sort(flat), np.arange(len(flat))):
            raise _damaged(source, "its features are not numbered one after the other")
        sides = np.array([NAN_TREATMENTS[feature["nan_value_treatment"]] for feature in floats], dtype=np.uint8)
        scale, bias = model["scale_and_bias"]
        if np.size(bias) > 1:
            raise _many_outputs(source, np.size(bias))
        if "oblivious_trees" in model:
            drawn = [_draw_symmetric(tree, source) for tree in model["oblivious_trees"] or []]
        else:
            drawn = [_draw_nested(tree, source) for tree in model["trees"] or []]
        trees = tuple(_tree(nodes, values, flat, sides, float(scale)) for nodes, values in drawn)
        found = _Model(trees=trees, n_features=len(flat), bias=float(np.sum(bias)))
    except TeacherError:
        raise
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError) as error:
        raise _damaged(source, f"part of it is missing or misshapen ({error!r})") from error
    if not trees:
        msg = f"{source}: the model holds no trees; expected at least one: train it again"
        raise TeacherError(msg)
    return found


def _many_outputs(source: str, outputs: int) -> TeacherError:
    return TeacherError(
        f"{source}: the model has {outputs} outputs; expected one score a document: train with a ranking objective"
    )


def _split(split: dict[str, Any]) -> tuple[int, float]:
    if split["split_type"] != "FloatFeature":
        msg = f"split of type {split['split_type']!r}"
        raise ValueError(msg)
    return int(split["float_feature_index"]), float(split["border"])


_Node = tuple[int, float, int, int]
"""A split: its place among the float features, its border, and its children as references (left where x <= border)."""


def _draw_symmetric(tree: dict[str, Any], source: str) -> tuple[list[_Node], list[float]]:
    """Return the nodes and leaf values of a symmetric tree: one split a level, split k giving bit k of the leaf."""
    splits = [_split(split) for split in tree.get("splits") or []]
    leaves = 1 << len(splits)
    outputs, rest = divmod(len(tree["leaf_values"]), leaves)
    if rest or outputs == 0:
        msg = f"{len(tree['leaf_values'])} leaf values for {leaves} leaves"
        raise ValueError(msg)
    if outputs > 1:
        raise _many_outputs(source, outputs)
    # The root asks for the highest bit, so that leaves stand in order below a complete tree: node n has the children
    # 2 n + 1 and 2 n + 2, and number leaves - 1 is leaf 0.
    nodes = []
    for level, (feature, border) in enumerate(reversed(splits)):
        for node in range((1 << level) - 1, (2 << level) - 1):
            last = level == len(splits) - 1
            left, right = (~(2 * node + k - (leaves - 1)) if last else 2 * node + k for k in (1, 2))
            nodes.append((feature, border, left, right))
    return nodes, [float(value) for value in tree["leaf_values"]]


def _draw_nested(tree: dict[str, Any], source: str) -> tuple[list[_Node], list[float]]:
    """Return the nodes of a tree of nested nodes, and its leaf values from left to right."""
    nodes: list[list[Any]] = []
    values: list[float] = []
    todo: list[tuple[dict[str, Any], int, int]] = [(tree, -1, 0)]
    while todo:
        node, parent, side = todo.pop()
        if "split" in node:
            reference = len(nodes)
            nodes.append([*_split(node["split"]), 0, 0])
            todo += [(node["right"], reference, 3), (node["left"], reference, 2)]  # the last is next
        else:
            if np.size(node["value"]) > 1:
                raise _many_outputs(source, np.size(node["value"]))
            reference = ~len(values)
            values.append(float(node["value"]))
        if parent >= 0:
            nodes[parent][side] = reference
    return [(feature, border, left, right) for feature, border, left, right in nodes], values


def _tree(
    nodes: list[_Node], values: list[float], flat: NDArray[np.int64], sides: NDArray[np.uint8], scale: float
) -> Tree:
    """Turn nodes into arrays.

    Args:
        nodes: the splits.
        values: of the leaves.
        flat: int64, the column of each float feature.
        sides: uint8, the side that each float feature's NaN takes.
        scale: of the model.
    """
    leaves = np.array(values, np.float64) * scale
    if not np.isfinite(leaves).all():
        msg = "a leaf's value is not finite"
        raise ValueError(msg)
    if not nodes:
        return constant_tree(float(leaves[0]))
    features, borders, left, right = zip(*nodes, strict=True)
    feature = np.array(features, np.int64)
    if feature.min() < 0:
        msg = f"a split uses feature {feature.min()}"
        raise ValueError(msg)
    return Tree(
        feature=flat[feature],
        cut=np.array(borders, np.float32),
        left=np.array(left, np.int64),
        right=np.array(right, np.int64),
        missing=sides[feature] | np.uint8(NAN_IS_MISSING),
        value=leaves,
    )
