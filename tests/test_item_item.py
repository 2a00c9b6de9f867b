"""Item-item weights cut down: what stays, what it scores, and what a refit makes of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from prunus.data.interactions import Interactions
from prunus.engine import recommender_reference as twin
from prunus.student import item_item
from prunus.student.item_item import largest, refit, saliency
from prunus.teacher.linear import EaseSettings, ease_problem, fit_ease

N_USERS, N_ITEMS, L2 = 60, 12, 5.0
ALL = N_ITEMS * (N_ITEMS - 1)
SETTINGS = EaseSettings(L2, growth=0.5, long_histories=0.5, popular_items=0.2)
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
    found = twin.score(largest(teacher.weights, ALL, POPULAR), data.indptr, data.items)
    np.testing.assert_allclose(found, teacher.scores(data.users_x_items()), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("weighed", [False, True])
@pytest.mark.parametrize("n_kept", [N_ITEMS, 17, 50, ALL - 1])
def test_the_largest_stay(n_kept: int, weighed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each item's largest stays, and of the others those of largest size; never the diagonal, in any block."""
    monkeypatch.setattr(item_item, "BLOCK", 5)
    rng = np.random.default_rng(n_kept)
    weights = rng.normal(size=(N_ITEMS, N_ITEMS)).astype(np.float32)
    importance = rng.uniform(0.1, 10, N_ITEMS).astype(np.float32) if weighed else None
    found = largest(weights, n_kept, POPULAR, importance).decode.to_dense()
    size = np.abs(weights.T) * (1 if importance is None else importance)
    np.fill_diagonal(size, -1)
    firsts = {(item, int(size[item].argmax())) for item in range(N_ITEMS)}
    by_size = sorted(((i, j) for i in range(N_ITEMS) for j in range(N_ITEMS)), key=lambda at: -size[at])
    expected = firsts | set([at for at in by_size if at not in firsts][: n_kept - N_ITEMS])
    assert {(int(i), int(j)) for i, j in zip(*np.nonzero(found), strict=True)} == expected
    np.testing.assert_array_equal(found[found != 0], weights.T[found != 0])


@pytest.mark.parametrize("most_dense", [3, N_ITEMS])
def test_refit_of_everything_is_least_squares(most_dense: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the whole pattern each item's weights are the weighted ridge regression of its column on all others."""
    monkeypatch.setattr(item_item, "MOST_DENSE", most_dense)
    data = histories()
    model = refit(largest(fit_ease(data, SETTINGS).weights, ALL, POPULAR), ease_problem(data, SETTINGS))
    taken = data.users_x_items().toarray().astype(np.float64)
    x = taken * (taken.sum(axis=1) / taken.sum(axis=1).mean())[:, None] ** (-SETTINGS.long_histories / 2)
    common = taken.sum(axis=0) / taken.sum(axis=0).mean()
    for item in range(N_ITEMS):
        rest = np.delete(np.arange(N_ITEMS), item)
        stacked = np.vstack([x[:, rest], np.diag(np.sqrt(L2 * common[rest] ** SETTINGS.growth))])
        expected = np.linalg.lstsq(stacked, np.r_[x[:, item], np.zeros(N_ITEMS - 1)], rcond=None)[0]
        expected *= common[item] ** -SETTINGS.popular_items
        np.testing.assert_allclose(model.decode.to_dense()[item, rest], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("most_dense", [3, N_ITEMS])
def test_refit_lowers_the_error(most_dense: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a small pattern the refitted weights explain the histories better than the cut ones, and no others explain them better."""
    monkeypatch.setattr(item_item, "MOST_DENSE", most_dense)
    data = histories()
    problem = ease_problem(data, EaseSettings(L2))
    model = largest(fit_ease(data, EaseSettings(L2)).weights, 2 * N_ITEMS, POPULAR)
    refitted = refit(model, problem)
    best = objective(refitted.decode.to_dense())
    assert best < objective(model.decode.to_dense()) - 1e-3
    value = refitted.decode.value
    for place in range(len(value)):
        moved = value.copy()
        moved[place] += 0.01
        assert objective(replace(refitted.decode, value=moved).to_dense()) > best


def test_saliency_is_what_leaving_a_weight_out_costs() -> None:
    """With all others as they are, setting one weight of the best to 0 raises the objective by its size squared."""
    data = histories()
    problem = ease_problem(data, EaseSettings(L2))
    best = (
        refit(largest(fit_ease(data, EaseSettings(L2)).weights, ALL, POPULAR), problem).decode.to_dense().astype(float)
    )
    for target, source in ((0, 1), (3, 9), (11, 10)):
        without = best.copy()
        without[target, source] = 0
        expected = (best[target, source] * saliency(problem)[source]) ** 2
        assert objective(without) - objective(best) == pytest.approx(expected, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("n_kept", [N_ITEMS - 1, ALL + 1])
def test_refuses(n_kept: int) -> None:
    """An item has at least one weight, and none for itself."""
    with pytest.raises(ValueError, match="expected 12 to 132"):
        largest(np.zeros((N_ITEMS, N_ITEMS), np.float32), n_kept, POPULAR)


def objective(weights: np.ndarray) -> float:
    """Squared error of the histories and the penalty of the weights, float64 [n_items, n_items], those into an item in its row."""
    x = histories().users_x_items().toarray().astype(np.float64)
    return float(((x - x @ weights.T) ** 2).sum() + L2 * (weights.astype(np.float64) ** 2).sum())
