"""Item-item weights cut down: what stays, what it scores, and what a refit makes of it."""

from __future__ import annotations

import numpy as np
import pytest

from prunus.data.interactions import Interactions
from prunus.engine import recommender_reference as twin
from prunus.student import item_item
from prunus.student.item_item import cut, refit
from prunus.teacher.linear import EaseSettings, fit_ease

N_USERS, N_ITEMS, L2 = 60, 12, 5.0
POPULAR = np.arange(N_ITEMS, dtype=np.int32)


def histories() -> Interactions:
    """Draw users who take items near each other."""
    rng = np.random.default_rng(0)
    centre = rng.integers(0, N_ITEMS, N_USERS)
    taken = rng.random((N_USERS, N_ITEMS)) < np.exp(-np.abs(np.arange(N_ITEMS) - centre[:, None]) / 2)
    taken[:, 0] |= ~taken.any(axis=1)
    return Interactions(np.r_[0, np.cumsum(taken.sum(axis=1))], np.nonzero(taken)[1].astype(np.int32), N_ITEMS)


def test_all_but_the_diagonal_scores_as_the_teacher() -> None:
    """Cut to nothing less than everything, the model gives the teacher's scores."""
    data = histories()
    teacher = fit_ease(data, EaseSettings(L2))
    found = twin.score(cut(teacher.weights, N_ITEMS - 1, POPULAR), data.indptr, data.items)
    np.testing.assert_allclose(found, teacher.scores(data.users_x_items()), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("k", [1, 3, 7])
def test_the_largest_stay(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what goes into each item the k largest magnitudes stay, with their values; never the diagonal, in any block."""
    monkeypatch.setattr(item_item, "BLOCK", 5)
    weights = np.random.default_rng(k).normal(size=(N_ITEMS, N_ITEMS)).astype(np.float32)
    found = cut(weights, k, POPULAR).decode.to_dense()
    for item in range(N_ITEMS):
        column = np.where(np.arange(N_ITEMS) == item, 0, weights[:, item])
        kept = np.flatnonzero(found[item])
        assert set(kept) == set(np.argsort(-np.abs(column))[:k])
        np.testing.assert_array_equal(found[item, kept], column[kept])


def test_refit_of_everything_is_least_squares() -> None:
    """On the whole pattern each item's weights are the ridge regression of its column on all others."""
    data = histories()
    model = refit(cut(fit_ease(data, EaseSettings(L2)).weights, N_ITEMS - 1, POPULAR), data, L2)
    x = data.users_x_items().toarray().astype(np.float64)
    for item in range(N_ITEMS):
        rest = np.delete(np.arange(N_ITEMS), item)
        stacked = np.vstack([x[:, rest], np.sqrt(L2) * np.eye(N_ITEMS - 1)])
        expected = np.linalg.lstsq(stacked, np.r_[x[:, item], np.zeros(N_ITEMS - 1)], rcond=None)[0]
        np.testing.assert_allclose(model.decode.to_dense()[item, rest], expected, rtol=1e-4, atol=1e-6)


def test_refit_lowers_the_error() -> None:
    """On a small pattern the refitted weights explain the histories better than the cut ones."""
    data = histories()
    model = cut(fit_ease(data, EaseSettings(L2)).weights, 2, POPULAR)
    x = data.users_x_items().toarray()

    def objective(weights: np.ndarray) -> float:
        return float(((x - x @ weights.T) ** 2).sum() + L2 * (weights**2).sum())

    assert objective(refit(model, data, L2).decode.to_dense()) < objective(model.decode.to_dense()) - 1e-3


@pytest.mark.parametrize("k", [0, N_ITEMS])
def test_refuses(k: int) -> None:
    """An item has at least one weight, and none for itself."""
    with pytest.raises(ValueError, match="expected 1 to 11"):
        cut(np.zeros((N_ITEMS, N_ITEMS), np.float32), k, POPULAR)
