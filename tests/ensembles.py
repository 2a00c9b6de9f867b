"""Ensembles for the tests of the tree kernels: random trees of every shape, and documents that sit on their edges."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from prunus import _native
from prunus.engine.ensemble import (
    MISSING_RIGHT,
    NAN_IS_MISSING,
    NAN_IS_ZERO,
    NEGATIVE_IS_NO_CODE,
    NUMERIC,
    ZERO_IS_MISSING,
    Ensemble,
)

SHAPES = ("balanced", "leafwise", "left chain", "right chain", "zigzag", "oblivious", "random")
DENORMAL = np.float32(1e-44)
LIMITS = np.array(
    [0.0, -0.0, DENORMAL, -DENORMAL, 1e-35, -1e-35, 1.1e-35, np.inf, -np.inf, 3.4e38, -3.4e38], np.float32
)
ALL_MISSING = tuple(kind | way for kind in (NAN_IS_ZERO, NAN_IS_MISSING, ZERO_IS_MISSING) for way in (0, MISSING_RIGHT))


def grow(rng, n_leaves, shape):
    """Return the children of one tree, lists of references inside it (>= 0 a node, < 0 leaf ~r), nodes before children.

    Leaves are numbered in a random order.
    """
    left, right, depth = [], [], []
    open_ends = []  # (parent, side)
    names = list(rng.permutation(n_leaves))
    if n_leaves == 1:
        return left, right, depth

    def add(parent, side, level):
        node = len(left)
        left.append(None)
        right.append(None)
        depth.append(level)
        if parent is not None:
            (left, right)[side][parent] = node
        open_ends.extend([(node, 0), (node, 1)])

    add(None, None, 0)
    while len(left) < n_leaves - 1:
        last = len(left) - 1
        if shape in ("balanced", "oblivious"):
            at = 0
        elif shape == "left chain":
            at = open_ends.index((last, 0))
        elif shape == "right chain":
            at = open_ends.index((last, 1))
        elif shape == "zigzag":
            at = open_ends.index((last, last % 2))
        elif shape == "leafwise":  # deep here, shallow there
            at = int(len(open_ends) * rng.random() ** 3)
        else:
            at = int(rng.integers(len(open_ends)))
        parent, side = open_ends.pop(at)
        add(parent, side, depth[parent] + 1)
    for parent, side in open_ends:
        (left, right)[side][parent] = ~int(names.pop())
    return left, right, depth


def make_ensemble(
    rng,
    sizes,
    n_features,
    *,
    shape="random",
    missing=(NAN_IS_ZERO,),
    thresholds=None,
    categorical=0.0,
    scale=1.0,
    base=0.0,
    largest_code=40,
):
    """Draw an ensemble with a tree for each number of leaves in ``sizes``.

    Args:
        rng: a NumPy generator.
        sizes: leaves of each tree.
        n_features: features; a tree reads any of them.
        shape: one of :data:`SHAPES`.
        missing: missing bytes of numeric nodes to draw from.
        thresholds: numbers to draw thresholds from; random ones, and the limits, unless given.
        categorical: share of categorical nodes.
        scale: of the values.
        base: added to every score.
        largest_code: largest code in a set.
    """
    pool = np.float32(rng.normal(size=30)) if thresholds is None else np.asarray(thresholds, np.float32)
    if thresholds is None:
        pool = np.concatenate([pool, LIMITS, np.float32(rng.integers(-3, 4, 7))])
    node_start, leaf_start, root = [0], [0], []
    columns = {name: [] for name in ("feature", "threshold", "left", "right", "missing", "category")}
    n_sets = 6 if categorical else 0
    sets = [
        np.sort(rng.choice(largest_code + 1, int(rng.integers(1, 1 + min(12, largest_code + 1))), replace=False))
        for _ in range(n_sets)
    ]
    for n_leaves in sizes:
        first, first_leaf = node_start[-1], leaf_start[-1]
        left, right, depth = grow(rng, n_leaves, shape)
        n = len(left)
        root.append(first if n else ~first_leaf)
        feature = rng.integers(0, n_features, n)
        cut = rng.choice(pool, n)
        byte = rng.choice(np.array(missing, np.uint8), n)
        category = np.where(rng.random(n) < categorical, rng.integers(0, max(n_sets, 1), n), NUMERIC)
        if shape == "oblivious" and n:  # one split a level
            level = np.array(depth)
            feature, cut, byte, category = feature[level], cut[level], byte[level], category[level]
        of_category = rng.choice(np.array([0, MISSING_RIGHT]), n) | rng.choice(np.array([0, NEGATIVE_IS_NO_CODE]), n)
        columns["feature"].extend(feature)
        columns["threshold"].extend(cut)
        columns["missing"].extend(np.where(category == NUMERIC, byte, NAN_IS_MISSING | of_category))
        columns["category"].extend(category)
        columns["left"].extend(r + first if r >= 0 else r - first_leaf for r in left)
        columns["right"].extend(r + first if r >= 0 else r - first_leaf for r in right)
        node_start.append(first + n)
        leaf_start.append(first_leaf + n_leaves)
    set_start = np.concatenate([[0], np.cumsum([len(codes) for codes in sets])])
    return Ensemble(
        n_features=n_features,
        base=base,
        node_start=np.array(node_start),
        leaf_start=np.array(leaf_start),
        root=np.array(root),
        set_start=set_start,
        set_code=np.concatenate(sets) if sets else np.zeros(0, np.int32),
        value=rng.normal(size=leaf_start[-1]) * scale,
        **{name: np.array(values) for name, values in columns.items()},
    )


def edge_rows(rng, ensemble, n):
    """Draw documents whose values are the ensemble's thresholds, their neighbours, codes, limits, NaN and others."""
    own = ensemble.threshold if len(ensemble.threshold) else np.zeros(1, np.float32)
    with np.errstate(over="ignore"):
        near = np.concatenate([own, np.nextafter(own, np.float32(np.inf)), np.nextafter(own, np.float32(-np.inf))])
    codes = np.concatenate([ensemble.set_code[:50], [-1, 2**31, 3e9, -0.5, 0.5, 7.9]]).astype(np.float32)
    pools = (near, LIMITS, codes, np.array([np.nan], np.float32), np.float32(rng.normal(size=20) * 2))
    kind = rng.choice(len(pools), (n, ensemble.n_features), p=(0.45, 0.1, 0.15, 0.1, 0.2))
    X = np.empty((n, ensemble.n_features), np.float32)
    for number, pool in enumerate(pools):
        X[kind == number] = rng.choice(pool, int((kind == number).sum()))
    return X


@st.composite
def ensembles(draw):
    """Draw ensembles of a few trees, of all shapes, kinds of missing values and splits."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return make_ensemble(
        rng,
        draw(st.lists(st.integers(1, 40), min_size=1, max_size=20)),
        draw(st.integers(1, 9)),
        shape=draw(st.sampled_from(SHAPES)),
        missing=draw(st.lists(st.sampled_from(ALL_MISSING), min_size=1, max_size=6)),
        categorical=draw(st.sampled_from([0.0, 0.0, 0.3, 1.0])),
        scale=10.0 ** draw(st.integers(-12, 6)),
        base=draw(st.floats(-10, 10)),
        largest_code=draw(st.sampled_from([0, 3, 40, 70_000])),
    )


def native(ensemble, isa):
    """Pack an ensemble for an instruction set."""
    return _native.Forest(*description(ensemble).values(), isa=isa)


def description(ensemble):
    """Return what the native class takes, by name, in its order."""
    names = (
        "n_features", "base", "node_start", "leaf_start", "root", "feature", "threshold", "left", "right", "missing",
        "category", "set_start", "set_code", "value",
    )  # fmt: skip
    return {name: getattr(ensemble, name) for name in names}


def native_leaves(forest, X):
    """Return int32 [n, n_trees], the leaves by the native kernel."""
    out = np.full((len(X), forest.trees), -7, np.int32)
    forest.leaves(X, out)
    return out


def native_scores(forest, X, **options):
    """Return float32 [n], the scores by the native kernel."""
    out = np.full(len(X), np.nan, np.float32)
    assert forest.score(X, out, **options) == 0
    return out
