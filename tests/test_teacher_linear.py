"""Teachers of recommenders: EASE against ridge regressions one by one, memory as predicted, any source of scores."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from interactions_world import make_interactions
from prunus import topk
from prunus.data import splits
from prunus.data.interactions_reading import read_given
from prunus.engine import recommender_reference as reference
from prunus.engine.recommend_scorer import RecommendScorer
from prunus.engine.recommender import DenseFactors, SparseFactors, SparseRows
from prunus.errors import NotEnoughMemoryError, TeacherError
from prunus.teacher import choose, linear
from prunus.teacher.choose import Trial, choose_ease, most_popular
from prunus.teacher.item_scores import Ensemble, ItemScorer, Popularity, as_item_scorer, from_model
from prunus.teacher.linear import EaseSettings, ItemItem, ease_bytes, fit_ease, needs_double

TRAIN = make_interactions(200, 50)
X = TRAIN.users_x_items()
B = np.random.default_rng(0).normal(size=(50, 50)).astype(np.float32)
SCORES = np.asarray(X @ B)
USERS = np.arange(TRAIN.n_users)


def regressions(settings: EaseSettings) -> np.ndarray:
    """EASE column by column: item j by weighted ridge regression on the others, float64."""
    dense = X.toarray().astype(np.float64)
    counts, sizes = dense.sum(axis=0), dense.sum(axis=1)
    common = np.maximum(counts, 1) / counts.mean()
    ridge = settings.l2 * common**settings.growth
    by_user = np.diag((sizes / sizes.mean()) ** -settings.long_histories)
    weights = np.zeros((50, 50))
    for item in range(50):
        others = np.delete(np.arange(50), item)
        left = dense[:, others].T @ by_user @ dense[:, others] + np.diag(ridge[others])
        weights[others, item] = np.linalg.solve(left, dense[:, others].T @ by_user @ dense[:, item])
    return weights * common**-settings.popular_items


@pytest.mark.parametrize("extra", [(0, 0, 0), (0.5, 0, 0), (0, 0.5, 0), (0, 0, 0.1), (1, 1, 1)])
@pytest.mark.parametrize("l2", [20.0, 1e-3])
@pytest.mark.parametrize("block_bytes", [1, 1 << 20])
def test_ease_is_a_regression_an_item(
    monkeypatch: pytest.MonkeyPatch, l2: float, extra: tuple[float, float, float], block_bytes: int
) -> None:
    """In float32 and, for a small l2, in float64; whatever the blocks."""
    monkeypatch.setattr(linear, "BLOCK_BYTES", block_bytes)
    settings = EaseSettings(l2, *extra)
    found = fit_ease(TRAIN, settings).weights
    assert found.dtype == np.float32
    assert (found.diagonal() == 0).all()
    expected = regressions(settings)
    np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())


def test_memory_is_as_predicted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The peak is near the prediction, so what the prediction forbids would not have fitted."""
    data = make_interactions(300, 1200)
    fit_ease(make_interactions(), EaseSettings(50))
    monkeypatch.setattr(linear, "BLOCK_BYTES", 1 << 18)
    predicted = ease_bytes(1200)
    tracemalloc.start()
    fit_ease(data, EaseSettings(50), memory_bytes=predicted)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 1200 * 1200 * 4 < peak < 1.1 * predicted
    with pytest.raises(NotEnoughMemoryError, match=r"1,200 items needs 0\.0 GB \(float32"):
        fit_ease(data, EaseSettings(50), memory_bytes=predicted - 1)
    with pytest.raises(NotEnoughMemoryError, match=r"float64, since"):
        fit_ease(data, EaseSettings(1e-6), memory_bytes=predicted)
    with pytest.raises(TeacherError, match="above 0"):
        EaseSettings(0)


def torch_module() -> Any:
    """Give a linear layer that computes x B."""
    torch = pytest.importorskip("torch")
    layer = torch.nn.Linear(50, 50, bias=False)
    layer.weight.data[:] = torch.from_numpy(B.T.copy())
    return torch.nn.Sequential(layer, torch.nn.Dropout(0.5))


SOURCES = {
    "matrix": lambda: SCORES,
    "sparse matrix": lambda: pytest.importorskip("scipy.sparse").csc_matrix(SCORES),
    "weights": lambda: ItemItem(B),
    "callable": lambda: lambda histories: histories @ B,
    "compressed": lambda: RecommendScorer(SparseFactors(SparseRows.from_dense(B.T.copy()), item_item=True)),
    "torch": torch_module,
}


@pytest.mark.parametrize("kind", SOURCES)
def test_any_source_scores(kind: str) -> None:
    """Each source gives the scores that it was made of; what answers from histories needs no user."""
    scorer = as_item_scorer(SOURCES[kind](), TRAIN)
    np.testing.assert_allclose(scorer.scores(X[5:9], USERS[5:9]), SCORES[5:9], atol=1e-4)
    if "matrix" in kind:
        with pytest.raises(TeacherError, match="not in the training data"):
            scorer.scores(X[5:9])
    else:
        np.testing.assert_allclose(scorer.scores(X[5:9]), SCORES[5:9], atol=1e-4)
    assert scorer.name


def test_users_reach_the_source_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lists of a matrix are those of the scores it holds, though made user by user."""
    monkeypatch.setattr(topk, "BLOCK_SCORES", 1)
    by_user = topk.recommend(as_item_scorer(SCORES, TRAIN).scores, TRAIN, 10, users=USERS)
    assert (by_user == topk.recommend(ItemItem(B).scores, TRAIN, 10)).all()


@pytest.mark.filterwarnings("ignore:Method expects CSR input")  # of its own neighbours' fit
def test_implicit_models() -> None:
    """Neighbours and ALS of implicit answer from histories as they do themselves, ALS also of users it never saw."""
    implicit = pytest.importorskip("implicit", reason="implicit is not installed: no oracle for its models")
    matrix = pytest.importorskip("scipy.sparse").csr_matrix(X)
    for model in (
        implicit.nearest_neighbours.CosineRecommender(K=50),
        implicit.cpu.als.AlternatingLeastSquares(factors=8, random_state=0, num_threads=1),
    ):
        model.fit(matrix[20:], show_progress=False)
        ids, scores = model.recommend(
            USERS[:5], matrix[:5], N=5, recalculate_user=True, filter_already_liked_items=False
        )
        found = as_item_scorer(model, TRAIN).scores(X[:5])
        np.testing.assert_allclose(np.take_along_axis(found, ids, axis=1), scores, rtol=1e-4)


@pytest.mark.parametrize("kind", ["tied", "apart", "item-item", "dense"])
def test_a_compressed_model_scores_as_its_twin(kind: str) -> None:
    """Matrix products give what the slow twin does."""
    rng = np.random.default_rng(0)
    rows = [(rng.normal(size=(50, n)) * (rng.random((50, n)) < 0.3)).astype(np.float32) for n in (8, 8, 50)]
    extra: dict[str, Any] = {
        "bias": rng.random(50).astype(np.float32),
        "encode_scale": rng.random(50).astype(np.float32),
    }
    model = {
        "tied": lambda: SparseFactors(SparseRows.from_dense(rows[0])),
        "apart": lambda: SparseFactors(SparseRows.from_dense(rows[0]), SparseRows.from_dense(rows[1]), **extra),
        "item-item": lambda: SparseFactors(SparseRows.from_dense(rows[2]), item_item=True),
        "dense": lambda: DenseFactors(rows[0], rows[1], **extra),
    }[kind]()
    some = TRAIN.take_users(np.arange(9))
    expected = reference.score(model, some.indptr, some.items)
    np.testing.assert_allclose(from_model(model).scores(some.users_x_items()), expected, rtol=1e-4, atol=1e-4)


def test_ensemble_standardises() -> None:
    """A member's own scale and offset do not matter; weights do; one scorer alone keeps its order."""
    shifted = ItemItem(B)
    other = as_item_scorer(lambda histories: 7 * (histories @ B) + 3, TRAIN)
    noise: ItemScorer = ItemItem(np.random.default_rng(1).normal(size=B.shape).astype(np.float32))
    left = Ensemble([shifted, noise], [1, 0.5]).scores(X)
    np.testing.assert_allclose(left, Ensemble([other, noise], [1, 0.5]).scores(X), atol=1e-4)
    assert not np.allclose(left, Ensemble([shifted, noise]).scores(X), atol=1e-2)
    assert (topk.top_k(Ensemble([shifted]).scores(X), 9) == topk.top_k(SCORES, 9)).all()
    assert np.isfinite(Ensemble([shifted, Popularity(TRAIN.popularity * 0)]).scores(X)).all()
    with pytest.raises(TeacherError, match="2 weights for 1"):
        Ensemble([shifted], [1, 2])


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (SCORES[:, 1:], "users x items"),
        (SimpleNamespace(), "expected a matrix"),
        (lambda histories: np.full(histories.shape, np.nan), "not finite"),
        (lambda histories: np.zeros(len(histories.indptr)), "one for each item"),
    ],
)
def test_bad_sources(source: Any, said: str) -> None:
    """What gives no usable scores is refused by name."""
    with pytest.raises(TeacherError, match=said):
        as_item_scorer(source, TRAIN).scores(X)


def test_ease_beats_popularity() -> None:
    """On users with tastes, a fitted teacher finds what popularity cannot."""
    split = splits.strong(make_interactions(400, 60, n_each=12), 0.2)
    lists = [
        topk.recommend(teacher.scores, split.histories, 5)
        for teacher in (fit_ease(split.train, EaseSettings(20)), Popularity(split.train.popularity))
    ]
    ease, popular = (topk.ndcg(one, split.test, 5).mean for one in lists)
    assert ease > 2 * popular


@pytest.mark.long
@pytest.mark.timeout(120)
def test_known_figures_of_ml_1m(data_dir: Path) -> None:
    """EASE with l2 = 800 on UltraGCN's split of MovieLens-1M: Recall@20 .2761, NDCG@20 .2677."""
    folder = data_dir / "ml_1m_ultragcn"
    split = splits.given(*read_given(folder / "train.parquet", folder / "test.parquet"))
    lists = topk.recommend(fit_ease(split.train, EaseSettings(800)).scores, split.histories, 20)
    assert topk.recall(lists, split.test, 20).mean == pytest.approx(0.2761, abs=5e-5)
    assert topk.ndcg(lists, split.test, 20).mean == pytest.approx(0.2677, abs=5e-5)


def test_settings_are_chosen_on_a_tenth(monkeypatch: pytest.MonkeyPatch) -> None:
    """The best trial is first, each is tried once, l2 goes on while it helps, and a catalogue too large is cut."""
    monkeypatch.setattr(choose, "MOST_ITEMS", 40)
    data = make_interactions(300, 60, n_each=15)
    told: list[Trial] = []
    trials = choose_ease(data, 5, tell=told.append)
    assert sorted(told, key=lambda one: -one.value) == trials
    assert len({trial.settings for trial in trials}) == len(trials) >= 8
    cut = most_popular(data, 40)
    assert cut.popularity.sum() == np.sort(data.popularity)[::-1][:40].sum()
    split = splits.random_by_user(cut, 0.1, 0)
    lists = topk.recommend(fit_ease(split.train, trials[0].settings).scores, split.histories, 5)
    assert topk.ndcg(lists, split.test, 5).mean == trials[0].value
    kept = {trial.settings.l2: trial.value for trial in told if replace(trial.settings, l2=500.0) == choose.START}
    assert trials[0].settings.l2 == max(kept, key=lambda one: kept[one])


def test_settings_of_a_large_catalogue_keep_to_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """What would take float64 is not tried, while anything else is there."""
    monkeypatch.setattr(choose, "MOST_ITEMS", 40)
    data = make_interactions(300, 60, n_each=15)
    free = {trial.settings for trial in choose_ease(data, 5)}
    monkeypatch.setattr(linear, "LARGEST_CONDITION", 2.5)
    narrow = {trial.settings for trial in choose_ease(data, 5)}
    assert any(needs_double(data, settings) for settings in free)
    assert not any(needs_double(data, settings) for settings in narrow)
    monkeypatch.setattr(linear, "LARGEST_CONDITION", 1.0)
    assert len(choose_ease(data, 5)) == 1
