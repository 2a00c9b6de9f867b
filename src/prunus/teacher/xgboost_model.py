"""An XGBoost model as a teacher's forest."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from prunus.engine.ensemble import MISSING_RIGHT, NAN_IS_MISSING, NEGATIVE_IS_NO_CODE
from prunus.errors import InfiniteValueError, TeacherError
from prunus.extras import need
from prunus.teacher.forest import cut_below
from prunus.teacher.tree import Tree, constant_tree, join, splits_of
from prunus.teacher.ubjson import UbjsonError, read_ubjson

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from prunus.engine.ensemble import Ensemble

PER_NODE = ("left_children", "right_children", "split_indices", "split_conditions", "default_left")


LOGISTIC = frozenset({"reg:logistic", "binary:logistic", "binary:logitraw"})
EXPONENTIAL = frozenset({"count:poisson", "reg:gamma", "reg:tweedie", "survival:cox", "survival:aft"})
IDENTITY = frozenset(
    {
        "rank:ndcg",
        "rank:pairwise",
        "rank:map",
        "reg:squarederror",
        "reg:linear",
        "reg:squaredlogerror",
        "reg:pseudohubererror",
        "reg:absoluteerror",
        "reg:quantileerror",
        "reg:expectileerror",
        "binary:hinge",
    }
)
"""Objectives by their link: a model keeps base_score as a prediction, and its margin is the link's inverse of that."""


@dataclass(frozen=True)
class _Learner:
    """What is read of XGBoost's learner.

    Attributes:
        trees: its trees, dart's weights multiplied in.
        leaf_nodes: for each tree, int64 [n_leaves], rising: the node that each leaf is in XGBoost.
        n_features: of the model.
        rounds: int64 [n_rounds + 1], trees before each boosting round.
        base_score: as it stands in the file, a prediction.
        objective: its name.
    """

    trees: tuple[Tree, ...]
    leaf_nodes: tuple[NDArray[np.int64], ...]
    n_features: int
    rounds: NDArray[np.int64]
    base_score: float
    objective: str


class XGBoostForest:
    """Trees in XGBoost; see :class:`prunus.teacher.forest.Forest`.

    A model that names its best iteration (early stopping) is cut to it, as XGBoost's own ranker does when it predicts.

    Args:
        data: the whole model, JSON or UBJSON.
        source: what to call it in messages.

    Raises:
        TeacherError: the model cannot be used; the message says why.
        MissingExtraError: XGBoost is not installed.
    """

    library = "XGBoost"

    def __init__(self, data: bytes, source: str) -> None:
        xgboost = need("xgboost", extra="xgboost")
        model = _decode(data, source)
        try:
            learner = model["learner"]
            self._learner = _read_learner(learner, source)
            n_features = self._learner.n_features
            names = tuple(str(name) for name in learner["feature_names"])
            self._types = [str(kind) for kind in learner.get("feature_types", [])] or None
            rounds = self._learner.rounds
            best = learner["attributes"].get("best_iteration")
            used = len(rounds) - 1 if best is None else min(int(best) + 1, len(rounds) - 1)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
            if isinstance(error, TeacherError):
                raise
            raise _damaged(source, f"part of it is missing or misshapen ({error!r})") from error
        self._source = source
        self.splits = splits_of(self._learner.trees, n_features)
        self.feature_names = names or tuple(f"f{index}" for index in range(n_features))
        self.names_are_default = not names
        try:
            with xgboost.config_context(verbosity=0):
                self._booster: Any = xgboost.Booster()
                self._booster.load_model(bytearray(data))
        except (xgboost.core.XGBoostError, ValueError, MemoryError) as error:
            raise _damaged(source, f"XGBoost cannot read it ({str(error).splitlines()[0]})") from error
        if used < len(rounds) - 1:
            self._cut(used)

    def _cut(self, n_rounds: int) -> None:
        """Keep the first rounds only."""
        with need("xgboost", extra="xgboost").config_context(verbosity=0):
            booster = self._booster[:n_rounds]
            booster.set_attr(best_iteration=None, best_score=None)
            self._booster = booster
            learner = json.loads(booster.save_raw("json"))["learner"]
        self._learner = _read_learner(learner, self._source)
        self.splits = splits_of(self._learner.trees, self._learner.n_features)

    def score(self, X: NDArray[np.float32], n_threads: int) -> NDArray[np.float64]:
        """Return raw scores (margins), float64 [n], of float32 [n, n_features] rows."""
        return np.asarray(self._predict(X, n_threads, output_margin=True), dtype=np.float64)

    def leaves(self, X: NDArray[np.float32], n_threads: int) -> NDArray[np.int32]:
        """Return the leaf of each row in each tree, int32 [n, n_trees]: XGBoost's ``pred_leaf``, its nodes counted."""
        nodes = np.asarray(self._predict(X, n_threads, pred_leaf=True)).reshape(len(X), len(self._learner.trees))
        found = np.empty(nodes.shape, np.int32)
        for tree, leaf_nodes in enumerate(self._learner.leaf_nodes):
            found[:, tree] = np.searchsorted(leaf_nodes, nodes[:, tree].astype(np.int64))
        return found

    def _predict(self, X: NDArray[np.float32], n_threads: int, **what: bool) -> NDArray[np.float32]:
        if np.isinf(X).any():
            row, column = (int(index[0]) for index in np.nonzero(np.isinf(X)))
            msg = (
                f"feature {self.feature_names[column]!r} is {X[row, column]} at row {row}; XGBoost expects finite"
                " values: clip it, or pass NaN if the value is missing"
            )
            raise InfiniteValueError(msg)
        xgboost = need("xgboost", extra="xgboost")
        with xgboost.config_context(verbosity=0):
            self._booster.set_param({"nthread": n_threads})
            rows = xgboost.DMatrix(
                X,
                missing=np.nan,
                nthread=n_threads,
                feature_names=self._booster.feature_names,
                feature_types=self._types,
                enable_categorical=True,
            )
            found: NDArray[np.float32] = self._booster.predict(rows, **what)
            return found

    def ensemble(self) -> Ensemble:
        """Return the same trees as arrays for the engine.

        Raises:
            TeacherError: the objective is one whose base score this version cannot place.
        """
        learner = self._learner
        return join(learner.trees, learner.n_features, _base_margin(learner, self._source), self._source)

    def first(self, n_trees: int) -> XGBoostForest:
        """Return the forest of the first trees, cut at the end of a boosting round."""
        n_rounds = int(np.searchsorted(self._learner.rounds, n_trees, side="right")) - 1
        if n_rounds < 1:
            msg = f"got {n_trees} trees; one boosting round of {self._source} has {self._learner.rounds[1]}: ask for that many"
            raise TeacherError(msg)
        part = XGBoostForest(self.to_bytes(".ubj"), f"the first {n_trees} trees of {self._source}")
        if n_rounds < len(self._learner.rounds) - 1:
            part._cut(n_rounds)
        return part

    def to_bytes(self, suffix: str) -> bytes:
        """Return the model as JSON (.json) or UBJSON (.ubj)."""
        if suffix not in {".json", ".ubj"}:
            msg = f"cannot save an XGBoost model as {suffix or 'a file without suffix'}; expected .json or .ubj"
            raise TeacherError(msg)
        with need("xgboost", extra="xgboost").config_context(verbosity=0):
            return bytes(self._booster.save_raw(raw_format=suffix[1:]))


def _damaged(source: str, what: str) -> TeacherError:
    return TeacherError(
        f"{source}: {what}; expected a whole XGBoost model: the file is truncated or damaged, save it again with"
        " booster.save_model('model.json') or 'model.ubj'"
    )


def _decode(data: bytes, source: str) -> dict[str, Any]:
    try:
        model = read_ubjson(data) if data[:2] == b"{L" else json.loads(data)
    except (UbjsonError, ValueError, RecursionError) as error:
        raise _damaged(source, f"it cannot be decoded ({error})") from None
    if not isinstance(model, dict) or "learner" not in model:
        raise _damaged(source, "it has no 'learner'")
    return model


def _booster_model(learner: dict[str, Any]) -> dict[str, Any]:
    booster = learner["gradient_booster"]
    model: dict[str, Any] = booster["gbtree"]["model"] if booster["name"] == "dart" else booster["model"]
    return model


def _rounds(learner: dict[str, Any]) -> NDArray[np.int64]:
    """Return int64 [n_rounds + 1]: trees before each boosting round."""
    model = _booster_model(learner)
    if "iteration_indptr" in model:
        return np.array(model["iteration_indptr"], dtype=np.int64)
    step = max(int(model["gbtree_model_param"].get("num_parallel_tree", 1)), 1)
    return np.arange(0, len(model["trees"]) + 1, step, dtype=np.int64)


def _base_margin(learner: _Learner, source: str) -> float:
    """Return what XGBoost adds to the sum of the leaves: base_score before the objective's link."""
    base = np.float32(learner.base_score)
    if learner.objective in IDENTITY:
        return float(base)
    if learner.objective in LOGISTIC:
        return float(-np.log(np.float32(1) / base - np.float32(1)))
    if learner.objective in EXPONENTIAL:
        return float(np.log(base))
    msg = (
        f"{source}: the objective is {learner.objective!r}, whose base_score cannot be placed; expected a ranking,"
        " regression or binary objective: train with one, or distil it with prunus rank compress"
    )
    raise TeacherError(msg)


def _base_score(learner: dict[str, Any]) -> float:
    """Read base_score: a number, from XGBoost 3.1 on a list of one number for each output."""
    found = json.loads(str(learner["learner_model_param"]["base_score"]))
    (base,) = found if isinstance(found, list) else [found]
    return float(base)


def _read_learner(learner: dict[str, Any], source: str) -> _Learner:
    name = learner["gradient_booster"]["name"]
    if name not in {"gbtree", "dart"}:
        msg = f"{source}: the booster is {name!r}; expected trees (gbtree or dart): train with booster='gbtree'"
        raise TeacherError(msg)
    shape = learner["learner_model_param"]
    outputs = max(int(shape.get("num_class", 0)), int(shape.get("num_target", 1)))
    if outputs > 1:
        msg = (
            f"{source}: the model has {outputs} outputs; expected one score a document: train with a ranking objective"
        )
        raise TeacherError(msg)
    model = _booster_model(learner)
    recoded = sum(len(part["values"]) > 0 for part in model.get("cats", {}).get("enc", []))
    if recoded:
        msg = (
            f"{source}: the model was trained on {recoded} categorical columns of a data frame; expected numbers only,"
            " since rows are scored as float32: replace each category by a code (df[c].cat.codes), pass"
            " feature_types with 'c' for those columns, and train again"
        )
        raise TeacherError(msg)
    n_features = int(shape["num_feature"])
    names = learner["feature_names"]
    if n_features < 1 or len(names) not in {0, n_features}:
        raise _damaged(source, f"{len(names)} feature names for {n_features} features")
    read = [_read_tree(tree, n_features, f"{source}: tree {i}") for i, tree in enumerate(model["trees"])]
    if not read:
        msg = f"{source}: the model holds no trees; expected at least one: train it again"
        raise TeacherError(msg)
    rounds = _rounds(learner)
    if rounds[0] != 0 or rounds[-1] != len(read) or (np.diff(rounds) <= 0).any():
        raise _damaged(source, f"its boosting rounds do not fit its {len(read)} trees")
    trees = [tree for tree, _ in read]
    if name == "dart":
        weights = np.asarray(learner["gradient_booster"]["weight_drop"], dtype=np.float32)
        if weights.shape != (len(trees),) or not np.isfinite(weights).all():
            raise _damaged(source, f"its weight_drop does not fit its {len(trees)} trees")
        trees = [replace(tree, value=tree.value * float(weight)) for tree, weight in zip(trees, weights, strict=True)]
    return _Learner(
        trees=tuple(trees),
        leaf_nodes=tuple(nodes for _, nodes in read),
        n_features=n_features,
        rounds=rounds,
        base_score=_base_score(learner),
        objective=str(learner["objective"]["name"]),
    )


def _read_tree(tree: dict[str, Any], n_features: int, where: str) -> tuple[Tree, NDArray[np.int64]]:
    """Return a tree, and the node that each of its leaves is in XGBoost (rising)."""
    n_nodes = int(tree["tree_param"]["num_nodes"])
    if int(tree["tree_param"].get("size_leaf_vector", 1)) > 1:
        msg = f"{where}: its leaves hold vectors; expected one score a document: train with multi_strategy='one_output_per_tree'"
        raise TeacherError(msg)
    nodes = {key: np.asarray(tree[key]) for key in PER_NODE}
    if n_nodes < 1 or any(values.shape != (n_nodes,) for values in nodes.values()):
        raise _damaged(where, f"its arrays do not have {n_nodes} nodes")
    left, right, feature = (nodes[key].astype(np.int64) for key in PER_NODE[:3])
    inner = left != -1
    if not np.array_equal(inner, right != -1):
        raise _damaged(where, "a node has one child")
    reached = _reach(left, right, where)
    at, leaf_nodes = reached[inner[reached]], reached[~inner[reached]]
    if "parents" in tree:  # XGBoost climbs these when it loads
        parents = np.asarray(tree["parents"])
        if parents.shape != (n_nodes,) or (parents[left[at]] != at).any() or (parents[right[at]] != at).any():
            raise _damaged(where, "its nodes do not agree on who is whose parent")
    if ((feature[at] < 0) | (feature[at] >= n_features)).any():
        raise _damaged(where, f"a split uses a feature beyond the {n_features} of the model")
    conditions = np.asarray(nodes["split_conditions"], dtype=np.float32)
    value = conditions[leaf_nodes].astype(np.float64)
    if not np.isfinite(value).all():
        raise _damaged(where, "a leaf's value is not finite")
    if len(at) == 0:
        return constant_tree(float(value[0])), leaf_nodes
    categorical = np.asarray(tree.get("split_type", np.zeros(n_nodes)))[at] == 1
    if np.isnan(conditions[at][~categorical]).any():
        raise _damaged(where, "a threshold is NaN")
    place = np.empty(n_nodes, np.int64)
    place[at], place[leaf_nodes] = np.arange(len(at)), ~np.arange(len(leaf_nodes))
    default_left = nodes["default_left"][at].astype(bool)
    # A categorical split sends the codes of its set to the right, all else to the left: here the sides are exchanged.
    missing_right = default_left == categorical
    missing = NAN_IS_MISSING | MISSING_RIGHT * missing_right | NEGATIVE_IS_NO_CODE * categorical
    found = Tree(
        feature=feature[at],
        cut=np.where(categorical, np.float32(0), cut_below(conditions[at])),
        left=np.where(categorical, place[right[at]], place[left[at]]),
        right=np.where(categorical, place[left[at]], place[right[at]]),
        missing=missing.astype(np.uint8),
        value=value,
        codes=_codes(tree, np.flatnonzero(categorical), at, where),
    )
    return found, leaf_nodes


def _reach(left: NDArray[np.int64], right: NDArray[np.int64], where: str) -> NDArray[np.int64]:
    """Return the nodes that can be reached from the root, sorted (nodes pruned while training keep their place)."""
    seen = np.zeros(len(left), dtype=bool)
    front = np.zeros(1, dtype=np.int64)
    while len(front):
        if front.min() < 0 or front.max() >= len(left) or seen[front].any() or len(np.unique(front)) < len(front):
            raise _damaged(where, "the links between its nodes make no tree")
        seen[front] = True
        inner = front[left[front] != -1]
        front = np.concatenate([left[inner], right[inner]])
    return np.flatnonzero(seen)


def _codes(
    tree: dict[str, Any], categorical: NDArray[np.int64], at: NDArray[np.int64], where: str
) -> dict[int, NDArray[np.int64]]:
    """Return the codes that each categorical split names.

    Args:
        tree: as in the file.
        categorical: positions among ``at`` of the categorical splits.
        at: nodes of the tree that are splits.
        where: file and tree, for messages.
    """
    if not len(categorical):
        return {}
    codes = np.asarray(tree["categories"], dtype=np.int64)
    nodes, starts, sizes = (
        np.asarray(tree[f"categories_{part}"], dtype=np.int64) for part in ("nodes", "segments", "sizes")
    )
    if set(at[categorical].tolist()) - set(nodes.tolist()) or (starts < 0).any() or (sizes < 0).any():
        raise _damaged(where, "its sets of categories do not fit its splits")
    if len(nodes) and (starts + sizes).max() > len(codes):
        raise _damaged(where, "its sets of categories are cut short")
    if len(codes) and not 0 <= codes.min() <= codes.max() < 1 << 31:
        raise _damaged(where, "a category is no code of 0 or more")
    sets = {
        node: np.unique(codes[start : start + size])
        for node, start, size in zip(nodes.tolist(), starts.tolist(), sizes.tolist(), strict=True)
    }
    return {position: sets[int(at[position])] for position in categorical.tolist()}
