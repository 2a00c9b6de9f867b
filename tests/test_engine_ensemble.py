"""Ensembles of trees as arrays: what they mean, by their slow twin and by hand; and that no bad one can be built."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from prunus.engine.ensemble import ARRAYS, MISSING_RIGHT, NEGATIVE_IS_NO_CODE, Ensemble
from prunus.engine.ensemble_reference import leaves, score
from prunus.errors import EnsembleError, NetworkError

F32 = np.float32
INF = F32(np.inf)
NAN = F32(np.nan)
ABOVE, BELOW = F32(np.inf), F32(-np.inf)


def trees(**changes: object) -> Ensemble:
    """Build three trees over 4 features: two numeric nodes, a single leaf, and a categorical stump over {0, 3}."""
    arrays: dict[str, object] = {
        "n_features": 4,
        "base": 0.5,
        "node_start": [0, 2, 2, 3],
        "leaf_start": [0, 3, 4, 6],
        "root": [0, ~3, 2],
        "feature": [1, 3, 0],
        "threshold": [2.5, -1.0, 0.0],
        "left": [1, ~2, ~4],
        "right": [~0, ~1, ~5],
        "missing": [1, 0, 5],
        "category": [-1, -1, 0],
        "set_start": [0, 2],
        "set_code": [0, 3],
        "value": [1.0, 2.0, 4.0, 8.0, 16.0, 32.0],
    }
    arrays |= changes
    return Ensemble(**{k: np.asarray(v) if k in ARRAYS else v for k, v in arrays.items()})  # type: ignore[arg-type]


def stump(missing: int, threshold: float = 0.0, codes: tuple[int, ...] | None = None) -> Ensemble:
    """Build one node over one feature: leaf 0 on its left, leaf 1 on its right."""
    return Ensemble(
        1,
        0.0,
        np.array([0, 1]),
        np.array([0, 2]),
        np.array([0]),
        np.array([0]),
        np.array([threshold], F32),
        np.array([~0]),
        np.array([~1]),
        np.array([missing], np.uint8),
        np.array([-1 if codes is None else 0]),
        np.array([0] if codes is None else [0, len(codes)]),
        np.array(codes or (), np.int32),
        np.array([-1.0, 1.0]),
    )


def sides(ensemble: Ensemble, *x: float) -> list[int]:
    """Return the leaf of each value of the only feature: 0 is left, 1 is right."""
    return leaves(ensemble, np.array(x, F32)[:, None])[:, 0].tolist()


def test_leaves_and_scores_by_hand() -> None:
    """Each document reaches the leaf that walking by hand gives; the score is base plus the leaves' values."""
    X = np.array([[3, 2.5, 0, -1], [1, 2.5, 0, 0], [0.9, 2.6, 0, 0], [-0.5, NAN, 0, NAN]], F32)
    found = leaves(trees(), X)
    assert found.tolist() == [[2, 0, 0], [1, 0, 1], [0, 0, 0], [1, 0, 0]]
    assert found.dtype == np.int32
    assert score(trees(), X).tolist() == [0.5 + 4 + 8 + 16, 0.5 + 2 + 8 + 32, 0.5 + 1 + 8 + 16, 0.5 + 2 + 8 + 16]
    assert score(trees(), X).dtype == F32


def test_a_number_on_the_threshold_goes_left() -> None:
    """A number x <= t goes left, one ulp more goes right; infinities compare like numbers."""
    t = F32(0.1)
    x = [np.nextafter(t, BELOW), t, np.nextafter(t, ABOVE), -INF, INF]
    assert sides(stump(0, float(t)), *x) == [0, 0, 1, 0, 1]
    assert sides(stump(0, np.inf), INF) == [0]
    assert sides(stump(0, -np.inf), -INF, F32(-3e38)) == [0, 1]


@pytest.mark.parametrize(
    ("missing", "threshold", "expected"),
    [  # of NaN, 0, -0, 1e-35, -1e-35, 2e-35
        (0, -1.0, [1, 1, 1, 1, 1, 1]),
        (0, 1.0, [0, 0, 0, 0, 0, 0]),
        (0 | MISSING_RIGHT, 1.0, [0, 0, 0, 0, 0, 0]),
        (1, -1.0, [0, 1, 1, 1, 1, 1]),
        (1 | MISSING_RIGHT, 1.0, [1, 0, 0, 0, 0, 0]),
        (2, -1.0, [0, 0, 0, 0, 0, 1]),
        (2 | MISSING_RIGHT, 1.0, [1, 1, 1, 1, 1, 0]),
    ],
)
def test_missing_values_take_their_side(missing: int, threshold: float, expected: list[int]) -> None:
    """NaN and zeros go where the node's byte says, whatever its threshold."""
    assert sides(stump(missing, threshold), NAN, 0.0, -0.0, F32(1e-35), F32(-1e-35), F32(2e-35)) == expected


def test_codes_are_cut_towards_zero() -> None:
    """A categorical node sends the codes of its set to the left, everything that is no such code to the right."""
    x = [0.0, -0.0, 0.9, 3.0, 3.99, 4.0, 2.0, -1.0, -3.0, 3e9, INF, -INF, 1.0]
    expected = [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1]
    assert sides(stump(1, codes=(0, 3)), *x) == expected
    assert sides(stump(5, codes=(0, 3)), *x) == expected
    assert sides(stump(1, codes=(0, 3)), NAN) == [0]
    assert sides(stump(5, codes=(0, 3)), NAN) == [1]
    assert sides(stump(1, codes=(0,)), -0.5, -0.99) == [0, 0]
    assert sides(stump(1 | NEGATIVE_IS_NO_CODE, codes=(0,)), -0.5, -1e-40, -0.0, 0.0, 0.5) == [1, 1, 0, 0, 0]
    assert sides(stump(1, codes=(2**31 - 128,)), 2.0**31 - 128, 2.0**31) == [0, 1]
    assert sides(stump(1, codes=()), 0.0, -1.0, NAN) == [1, 1, 0]


def test_counts_and_views() -> None:
    """The counts are those of the arrays; narrowing keeps the leaves, and the first trees are the first trees."""
    whole = trees()
    assert (whole.n_trees, whole.n_nodes, whole.n_leaves, whole.n_sets) == (3, 3, 6, 1)
    assert whole.features_read.tolist() == [0, 1, 3]
    X = np.random.default_rng(0).normal(0, 3, (50, 4)).astype(F32)
    assert np.array_equal(leaves(whole.narrow(), X[:, [0, 1, 3]]), leaves(whole, X))
    assert whole.narrow().n_features == 3
    for n in (1, 2, 3):
        assert np.array_equal(leaves(whole.first(n), X), leaves(whole, X)[:, :n])
    alone = trees(node_start=[0, 0], leaf_start=[0, 1], root=[~0], value=[2.0], **dict.fromkeys(
        ("feature", "threshold", "left", "right", "missing", "category"), ()))  # fmt: skip
    assert alone.features_read.tolist() == []
    assert alone.narrow().n_features == 1
    assert score(alone, X[:2]).tolist() == [2.5, 2.5]
    with pytest.raises(EnsembleError, match="got 4 trees"):
        whole.first(4)


def test_arrays_are_cast_only_without_loss() -> None:
    """Every array has the type that is stated; integers that do not fit are refused."""
    assert {f.name for f in fields(Ensemble)} == {"n_features", "base", *ARRAYS}
    assert all(getattr(trees(), name).dtype == dtype for name, dtype in ARRAYS.items())
    with pytest.raises(EnsembleError, match="feature does not fit"):
        trees(feature=[1.5, 0, 0])
    with pytest.raises(EnsembleError, match="missing does not fit"):
        trees(missing=[256, 0, 5])
    with pytest.raises(EnsembleError, match="left has 2 dimensions"):
        trees(left=[[1, ~2, ~4]])


@pytest.mark.parametrize(
    ("message", "changes"),
    [
        ("0 features", {"n_features": 0}),
        ("70000 features", {"n_features": 70000}),
        ("base is nan", {"base": float("nan")}),
        ("no trees", {"node_start": [0], "leaf_start": [0], "root": []}),
        ("expected one more in the first two", {"root": [0, ~3]}),
        ("threshold has 2 entries; expected 3", {"threshold": [0, 0]}),
        ("node_start must rise", {"node_start": [0, 2, 1, 3]}),
        ("node_start must rise", {"node_start": [0, 2, 2, 4]}),
        ("node_start must rise", {"node_start": [1, 2, 2, 3]}),
        ("leaf_start must rise", {"leaf_start": [0, 3, 3, 6]}),
        ("not one leaf more", {"leaf_start": [0, 2, 4, 6]}),
        ("value holds NaN", {"value": [1, 2, np.inf, 8, 16, 32]}),
        ("set_start must rise", {"set_start": [0, 3]}),
        ("set_start must rise", {"set_start": []}),
        ("negative code", {"set_code": [-1, 3]}),
        ("must rise inside a set", {"set_code": [3, 3]}),
        ("outside 0..3", {"feature": [1, 4, 0]}),
        ("outside 0..3", {"feature": [1, -1, 0]}),
        ("threshold holds NaN", {"threshold": [np.nan, 0, 0]}),
        ("names a set", {"category": [-1, -1, 1]}),
        ("names a set", {"category": [-1, -2, 0]}),
        ("numeric node's missing byte", {"missing": [3, 0, 5]}),
        ("numeric node's missing byte", {"missing": [9, 0, 5]}),
        ("categorical node's missing byte", {"missing": [1, 0, 4]}),
        ("categorical node's missing byte", {"missing": [1, 0, 17]}),
        ("root must be", {"root": [1, ~3, 2]}),
        ("root must be", {"root": [0, ~2, 2]}),
        ("stands before it or outside", {"left": [0, ~2, ~4]}),
        ("stands before it or outside", {"left": [2, ~2, ~4]}),
        ("leaf lies outside its tree", {"right": [~3, ~1, ~5]}),
        ("leaf lies outside its tree", {"right": [~0, ~1, ~6]}),
        ("two parents", {"right": [~2, ~1, ~5]}),
        ("two parents", {"right": [1, ~1, ~5]}),
    ],
)
def test_what_is_no_tree_is_refused(message: str, changes: dict[str, object]) -> None:
    """Each rule of the class has its own message, and they are errors of one named class."""
    with pytest.raises(EnsembleError, match=message) as caught:
        trees(**changes)
    assert isinstance(caught.value, NetworkError)


def test_an_ensemble_is_frozen() -> None:
    """A valid ensemble stays valid: its fields cannot be set, and replacing one validates again."""
    with pytest.raises(AttributeError):
        trees().base = 1.0  # type: ignore[misc]
    with pytest.raises(EnsembleError):
        replace(trees(), base=np.nan)
