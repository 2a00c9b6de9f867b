"""A CatBoost model as a teacher's forest."""

from __future__ import annotations

import json
import struct
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from prunus.errors import TeacherError
from prunus.extras import need
from prunus.teacher.forest import Splits, by_feature

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

MAGIC = b"CBM1"


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
        self._source = source
        self.splits = _read_model(self.to_bytes(".json"), source)
        n_features = len(self.splits.thresholds)
        names = tuple(str(name) for name in model.feature_names_)
        self.feature_names = names if len(names) == n_features else tuple(str(index) for index in range(n_features))
        self.names_are_default = self.feature_names == tuple(str(index) for index in range(n_features))

    def score(self, X: NDArray[np.float32], n_threads: int) -> NDArray[np.float64]:
        """Return raw scores, float64 [n], of float32 [n, n_features] rows."""
        scores = self._model.predict(X, prediction_type="RawFormulaVal", thread_count=n_threads)
        return np.asarray(scores, dtype=np.float64)

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


def _read_model(data: bytes, source: str) -> Splits:
    """Collect the splits of a model in CatBoost's JSON."""
    try:
        model = json.loads(data)
        info = model["features_info"]
        for kind in ("categorical", "text", "embedding"):
            if info.get(f"{kind}_features"):
                raise _not_numeric(source, len(info[f"{kind}_features"]), kind)
        flat = np.array([feature["flat_feature_index"] for feature in info["float_features"]], dtype=np.int64)
        _scale, bias = model["scale_and_bias"]
        if np.size(bias) > 1:
            raise _many_outputs(source, np.size(bias))
        if "oblivious_trees" in model:
            trees = [_read_symmetric(tree, source) for tree in model["oblivious_trees"] or []]
        else:
            trees = [_read_nested(tree, source) for tree in model["trees"] or []]
        features = flat[np.array([feature for splits, _ in trees for feature, _ in splits], dtype=np.int64)]
        borders = np.array([border for splits, _ in trees for _, border in splits], dtype=np.float32)
        thresholds = by_feature(features, borders, len(flat))
    except TeacherError:
        raise
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError) as error:
        raise _damaged(source, f"part of it is missing or misshapen ({error!r})") from error
    if not trees:
        msg = f"{source}: the model holds no trees; expected at least one: train it again"
        raise TeacherError(msg)
    return Splits(thresholds=thresholds, leaves=np.array([leaves for _, leaves in trees], dtype=np.int64))


def _many_outputs(source: str, outputs: int) -> TeacherError:
    return TeacherError(
        f"{source}: the model has {outputs} outputs; expected one score a document: train with a ranking objective"
    )


def _split(split: dict[str, Any]) -> tuple[int, float]:
    if split["split_type"] != "FloatFeature":
        msg = f"split of type {split['split_type']!r}"
        raise ValueError(msg)
    return int(split["float_feature_index"]), float(split["border"])


def _read_symmetric(tree: dict[str, Any], source: str) -> tuple[list[tuple[int, float]], int]:
    """Return the splits of a symmetric tree (one a level) and its number of leaves."""
    splits = [_split(split) for split in tree.get("splits") or []]
    leaves = 2 ** len(splits)
    outputs, rest = divmod(len(tree["leaf_values"]), leaves)
    if rest or outputs == 0:
        msg = f"{len(tree['leaf_values'])} leaf values for {leaves} leaves"
        raise ValueError(msg)
    if outputs > 1:
        raise _many_outputs(source, outputs)
    return splits, leaves


def _nodes(tree: dict[str, Any]) -> Iterator[dict[str, Any]]:
    todo = [tree]
    while todo:
        node = todo.pop()
        yield node
        if "split" in node:
            todo += [node["left"], node["right"]]


def _read_nested(tree: dict[str, Any], source: str) -> tuple[list[tuple[int, float]], int]:
    """Return the splits of a tree of nested nodes and its number of leaves."""
    splits, leaves = [], 0
    for node in _nodes(tree):
        if "split" in node:
            splits.append(_split(node["split"]))
        else:
            leaves += 1
            if np.size(node["value"]) > 1:
                raise _many_outputs(source, np.size(node["value"]))
    return splits, leaves
