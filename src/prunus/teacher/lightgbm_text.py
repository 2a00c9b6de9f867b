"""Read LightGBM's text format: check all that LightGBM itself would abort on, and collect where the trees cut.

LightGBM parses trees inside an OpenMP region, where an exception ends the whole process. So a text is checked here,
field by field, before the library sees it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from prunus.engine.ensemble import MISSING_RIGHT, NAN_IS_MISSING, NAN_IS_ZERO, ZERO, ZERO_IS_MISSING
from prunus.errors import TeacherError
from prunus.teacher.forest import check_children, cut_at_or_below
from prunus.teacher.tree import BELOW_ZERO, Tree, constant_tree

if TYPE_CHECKING:
    from numpy.typing import NDArray

CATEGORICAL = 1  # bits of decision_type
DEFAULT_LEFT = 2
MISSING_SHIFT = 2

MISSING = np.array([NAN_IS_ZERO, ZERO_IS_MISSING, NAN_IS_MISSING, NAN_IS_ZERO], np.uint8)
"""The engine's word for each missing type in LightGBM's decision_type: none, zero, NaN, and one that means none."""

NEEDED = ("num_class", "label_index", "max_feature_idx", "feature_names", "feature_infos")
OF_NODES = ("split_gain", "decision_type", "internal_value", "internal_weight", "internal_count")
OF_LEAVES = ("leaf_value", "leaf_weight", "leaf_count")

_TREE = re.compile(r"^Tree=(\d+)$", re.MULTILINE)


@dataclass(frozen=True)
class ModelText:
    """A checked LightGBM model.

    Attributes:
        text: the file.
        feature_names: as in the file.
        trees: its trees; what linear leaves add to their value is left out.
        linear: whether leaves hold linear models, so that scores are not constant inside a cell.
    """

    text: str
    feature_names: tuple[str, ...]
    trees: tuple[Tree, ...]
    linear: bool


def read_model_text(data: bytes, source: str) -> ModelText:
    """Check a LightGBM text model and collect its splits.

    Args:
        data: the whole file.
        source: what to call it in messages.

    Raises:
        TeacherError: the text is truncated or damaged, has several outputs, or was trained on pandas categories.
    """
    text = data.decode("utf-8", errors="replace")
    _check_whole(text, source)
    starts = [*(match.start() for match in _TREE.finditer(text)), text.index("\nend of trees") + 1]
    header = _fields(text[: starts[0]])
    n_features = _check_header(header, source)
    _check_sizes(header, text, starts, source)
    blocks = [_fields(text[start:stop]) for start, stop in pairwise(starts)]
    trees = tuple(_read_tree(block, n_features, f"{source}: tree {index}") for index, block in enumerate(blocks))
    if not trees:
        msg = f"{source}: the model holds no trees; expected at least one: train it again"
        raise TeacherError(msg)
    return ModelText(
        text=text,
        feature_names=tuple(header["feature_names"].split()),
        trees=trees,
        linear=any(block.get("is_linear") == "1" for block in blocks),
    )


def _damaged(source: str, what: str) -> TeacherError:
    return TeacherError(
        f"{source}: {what}; expected a whole LightGBM text model: the file is truncated or damaged, save it again with"
        " booster.save_model(path)"
    )


def _check_whole(text: str, source: str) -> None:
    if "\nend of trees" not in text:
        raise _damaged(source, "its 'end of trees' line is missing")
    tail = text[text.index("\nend of trees") :]
    old = re.search(r"^version=v2$", text, re.MULTILINE) or not re.search(r"^version=", text, re.MULTILINE)
    ends = "\nend of parameters" in tail if "\nparameters:" in tail else "\npandas_categorical:" in tail
    if not ends and not old:
        raise _damaged(source, "it stops after its trees, before the end of its parameters")
    categories = re.search(r"^pandas_categorical:(.*)$", tail, re.MULTILINE)
    if categories is None:
        return
    try:
        found = json.loads(categories[1])
    except ValueError:
        raise _damaged(source, "its pandas_categorical line cannot be read") from None
    if found:
        msg = (
            f"{source}: the model was trained on {len(found)} pandas categorical columns; expected numbers only, since"
            " rows are scored as float32: replace each category by a code (df[c].cat.codes), pass those columns as"
            " categorical_feature, and train again"
        )
        raise TeacherError(msg)


def _fields(block: str) -> dict[str, str]:
    pairs = (line.partition("=") for line in block.split("\n"))
    return {key: value for key, equals, value in pairs if equals}


def _integer(fields: dict[str, str], key: str, source: str, default: str | None = None) -> int:
    value = fields.get(key, default)
    try:
        return int(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise _damaged(source, f"{key} is {value!r}") from None


def _numbers(fields: dict[str, str], key: str, count: int, source: str) -> NDArray[np.float64]:
    if key not in fields:
        raise _damaged(source, f"{key} is missing")
    try:
        found = np.array([float(part) for part in fields[key].split()], dtype=np.float64)
    except ValueError:
        raise _damaged(source, f"{key} holds something that is no number") from None
    if len(found) != count:
        raise _damaged(source, f"{key} holds {len(found)} numbers where {count} belong")
    return found


def _check_header(header: dict[str, str], source: str) -> int:
    absent = [key for key in NEEDED if key not in header]
    if absent:
        raise _damaged(source, f"{', '.join(absent)} is missing from its head")
    n_features = _integer(header, "max_feature_idx", source) + 1
    for key in ("feature_names", "feature_infos"):
        count = len(header[key].split())
        if count != n_features:
            raise _damaged(source, f"{key} has {count} entries for {n_features} features")
    outputs = max(_integer(header, key, source, "1") for key in ("num_class", "num_tree_per_iteration"))
    if outputs != 1:
        msg = (
            f"{source}: the model has {outputs} outputs; expected one score a document: train with a ranking objective"
        )
        raise TeacherError(msg)
    return n_features


def _check_sizes(header: dict[str, str], text: str, starts: list[int], source: str) -> None:
    """Check tree_sizes, by which LightGBM finds its trees (old files have none)."""
    if "tree_sizes" not in header:
        return
    n_trees = len(starts) - 1
    sizes = _numbers(header, "tree_sizes", n_trees, source)
    cuts = np.array([0, *(len(text[a:b].encode()) for a, b in pairwise(starts))])
    if not np.array_equal(sizes, cuts[1:]):
        raise _damaged(source, "its trees are not as long as tree_sizes says (were line endings converted?)")


def _read_tree(fields: dict[str, str], n_features: int, where: str) -> Tree:
    leaves = _integer(fields, "num_leaves", where)
    n_categorical = _integer(fields, "num_cat", where)
    if leaves < 1 or n_categorical < 0:
        raise _damaged(where, f"num_leaves is {leaves} and num_cat {n_categorical}")
    nodes = leaves - 1
    values = _numbers(fields, "leaf_value", leaves, where)
    if not np.isfinite(values).all():
        raise _damaged(where, "a leaf_value is not finite")
    _integer(fields, "is_linear", where, "0")
    if nodes == 0:
        return constant_tree(float(values[0]))
    for key in OF_NODES:
        if key in fields:
            _numbers(fields, key, nodes, where)
    for key in OF_LEAVES:
        if fields.get(key):
            _numbers(fields, key, leaves, where)
    features = _numbers(fields, "split_feature", nodes, where).astype(np.int64)
    if ((features < 0) | (features >= n_features)).any():
        raise _damaged(where, f"a split uses feature {features.max()} of {n_features}")
    left, right = (_numbers(fields, f"{side}_child", nodes, where).astype(np.int64) for side in ("left", "right"))
    children = np.concatenate([left, right])
    # Leaf i is written ~i: number leaves after the inner nodes.
    check_children(np.where(children < 0, nodes + ~children, children), nodes + leaves, where)
    thresholds = _numbers(fields, "threshold", nodes, where)
    if np.isnan(thresholds).any():
        raise _damaged(where, "a threshold is NaN")
    decision = _numbers(fields, "decision_type", nodes, where).astype(np.int64)
    categorical = (decision & CATEGORICAL) != 0
    kind = MISSING[(decision >> MISSING_SHIFT) & 3]
    default_right = (kind != NAN_IS_ZERO) & ((decision & DEFAULT_LEFT) == 0)
    missing = np.where(default_right, kind | np.uint8(MISSING_RIGHT), kind)
    return Tree(
        feature=features,
        cut=np.where(categorical, np.float32(0), _cuts(thresholds)),
        left=left,
        right=right,
        # At a categorical split LightGBM sends NaN to the right, whatever the bits say.
        missing=np.where(categorical, np.uint8(NAN_IS_MISSING | MISSING_RIGHT), missing).astype(np.uint8),
        value=values,
        codes=_codes(fields, np.flatnonzero(categorical), thresholds[categorical], n_categorical, where),
    )


def _cuts(thresholds: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return float32 cuts ``x <= t``, minding that LightGBM reads tiny values as 0."""
    cuts = cut_at_or_below(thresholds)
    cuts = np.where((thresholds >= 0) & (thresholds <= ZERO), ZERO, cuts)
    return np.where((thresholds < 0) & (thresholds >= -ZERO), BELOW_ZERO, cuts)


def _codes(
    fields: dict[str, str], nodes: NDArray[np.int64], thresholds: NDArray[np.float64], n_sets: int, where: str
) -> dict[int, NDArray[np.int64]]:
    """Read the bitsets of the categorical splits: split s with threshold i sends the codes of set i to the left."""
    if n_sets == 0 and len(nodes) == 0:
        return {}
    ends = _numbers(fields, "cat_boundaries", n_sets + 1, where).astype(np.int64)
    words = _numbers(fields, "cat_threshold", int(max(ends[-1], 0)), where).astype(np.uint32)
    which = thresholds.astype(np.int64)
    if ends[0] != 0 or (np.diff(ends) < 0).any() or ((which < 0) | (which >= n_sets)).any():
        raise _damaged(where, "its sets of categories do not fit its splits")
    found = {}
    for node, index in zip(nodes.tolist(), which.tolist(), strict=True):
        bits = np.unpackbits(words[ends[index] : ends[index + 1]].astype("<u4").view(np.uint8), bitorder="little")
        found[node] = np.flatnonzero(bits)
    return found
