"""An XGBoost model as a teacher's forest."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from prunus.errors import InfiniteValueError, TeacherError
from prunus.extras import need
from prunus.teacher.forest import Splits, by_feature, cut_below
from prunus.teacher.ubjson import UbjsonError, read_ubjson

if TYPE_CHECKING:
    from numpy.typing import NDArray

PER_NODE = ("left_children", "right_children", "split_indices", "split_conditions", "default_left")


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
            self.splits = _read_learner(learner, source)
            n_features = len(self.splits.thresholds)
            names = tuple(str(name) for name in learner["feature_names"])
            self._types = [str(kind) for kind in learner.get("feature_types", [])] or None
            rounds = _rounds(learner)
            best = learner["attributes"].get("best_iteration")
            used = len(rounds) - 1 if best is None else min(int(best) + 1, len(rounds) - 1)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
            if isinstance(error, TeacherError):
                raise
            raise _damaged(source, f"part of it is missing or misshapen ({error!r})") from error
        self._source = source
        self._rounds = rounds
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
        self.splits = _read_learner(learner, self._source)
        self._rounds = _rounds(learner)

    def score(self, X: NDArray[np.float32], n_threads: int) -> NDArray[np.float64]:
        """Return raw scores (margins), float64 [n], of float32 [n, n_features] rows."""
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
            return np.asarray(self._booster.predict(rows, output_margin=True), dtype=np.float64)

    def first(self, n_trees: int) -> XGBoostForest:
        """Return the forest of the first trees, cut at the end of a boosting round."""
        n_rounds = int(np.searchsorted(self._rounds, n_trees, side="right")) - 1
        if n_rounds < 1:
            msg = f"got {n_trees} trees; one boosting round of {self._source} has {self._rounds[1]}: ask for that many"
            raise TeacherError(msg)
        part = XGBoostForest(self.to_bytes(".ubj"), f"the first {n_trees} trees of {self._source}")
        if n_rounds < len(self._rounds) - 1:
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


def _read_learner(learner: dict[str, Any], source: str) -> Splits:
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
    trees = [_read_tree(tree, n_features, f"{source}: tree {i}") for i, tree in enumerate(model["trees"])]
    if not trees:
        msg = f"{source}: the model holds no trees; expected at least one: train it again"
        raise TeacherError(msg)
    rounds = _rounds(learner)
    if rounds[0] != 0 or rounds[-1] != len(trees) or (np.diff(rounds) <= 0).any():
        raise _damaged(source, f"its boosting rounds do not fit its {len(trees)} trees")
    categories: dict[int, set[int]] = {}
    for *_, sets in trees:
        for feature, codes in sets.items():
            categories.setdefault(feature, set()).update(codes)
    return Splits(
        thresholds=by_feature(
            np.concatenate([features for features, *_ in trees]),
            np.concatenate([cuts for _, cuts, *_ in trees]),
            n_features,
        ),
        leaves=np.array([leaves for _, _, leaves, _ in trees], dtype=np.int64),
        categories={feature: np.array(sorted(codes), np.float32) for feature, codes in sorted(categories.items())},
    )


def _read_tree(
    tree: dict[str, Any], n_features: int, where: str
) -> tuple[NDArray[np.int64], NDArray[np.float32], int, dict[int, set[int]]]:
    """Return features and cuts of the numeric splits, the number of leaves, and the codes of categorical splits."""
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
    live = np.zeros(n_nodes, dtype=bool)
    live[reached] = True
    live &= inner
    if "parents" in tree:  # XGBoost climbs these when it loads
        at = np.flatnonzero(live)
        parents = np.asarray(tree["parents"])
        if parents.shape != (n_nodes,) or (parents[left[at]] != at).any() or (parents[right[at]] != at).any():
            raise _damaged(where, "its nodes do not agree on who is whose parent")
    if ((feature[live] < 0) | (feature[live] >= n_features)).any():
        raise _damaged(where, f"a split uses a feature beyond the {n_features} of the model")
    kinds = np.asarray(tree.get("split_type", np.zeros(n_nodes)))
    categorical = live & (kinds == 1)
    conditions = np.asarray(nodes["split_conditions"], dtype=np.float32)
    numeric = live & ~categorical
    return (
        feature[numeric],
        cut_below(conditions[numeric]),
        int((~inner[reached]).sum()),
        _categories(tree, feature, categorical, where),
    )


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


def _categories(
    tree: dict[str, Any], feature: NDArray[np.int64], categorical: NDArray[np.bool_], where: str
) -> dict[int, set[int]]:
    found: dict[int, set[int]] = {}
    if not categorical.any():
        return found
    codes = np.asarray(tree["categories"], dtype=np.int64)
    nodes, starts, sizes = (
        np.asarray(tree[f"categories_{part}"], dtype=np.int64) for part in ("nodes", "segments", "sizes")
    )
    if set(np.flatnonzero(categorical).tolist()) - set(nodes.tolist()) or (starts < 0).any() or (sizes < 0).any():
        raise _damaged(where, "its sets of categories do not fit its splits")
    if len(nodes) and (starts + sizes).max() > len(codes):
        raise _damaged(where, "its sets of categories are cut short")
    for node, start, size in zip(nodes.tolist(), starts.tolist(), sizes.tolist(), strict=True):
        if categorical[node]:
            found.setdefault(int(feature[node]), set()).update(codes[start : start + size].tolist())
    return found
