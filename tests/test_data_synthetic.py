"""The generated set: repeatable, of mixed kinds, and hard for what is no forest."""

from __future__ import annotations

import numpy as np
import pytest

from prunus.data.synthetic import SHARES_OF_LABELS, generate_ranking
from prunus.errors import DataError
from prunus.metrics import ndcg


def test_a_seed_repeats():
    """The same arguments give the same bits, and another seed gives another sample."""
    first, again, other = generate_ranking(50, 1), generate_ranking(50, 1), generate_ranking(50, 2)
    for name in ("X", "y", "offsets", "query_ids", "users"):
        assert np.array_equal(getattr(first, name), getattr(again, name), equal_nan=name == "X"), name
    assert first.n_docs != other.n_docs or not np.array_equal(first.y, other.y)


@pytest.mark.parametrize("n_features", [12, 13, 24, 40, 136, 300])
def test_any_number_of_features(n_features):
    """Every number of features from 12 on has distinct names, no constant column and no infinity."""
    data = generate_ranking(40, 3, n_features=n_features)
    assert data.n_features == len(set(data.feature_names)) == n_features
    assert (np.nanstd(data.X, axis=0) > 0).all()
    assert not np.isinf(data.X).any()


def test_shape_of_the_data():
    """Queries have the sizes asked for, labels the shares promised, and features the kinds their names say."""
    data = generate_ranking(2000, 4, docs_per_query=(5, 9))
    sizes = np.diff(data.offsets)
    assert (sizes.min(), sizes.max()) == (5, 9)
    shares = np.bincount(data.y.astype(int), minlength=5) / data.n_docs
    assert np.abs(shares - SHARES_OF_LABELS).max() < 0.04
    by_kind = {
        kind: [j for j, name in enumerate(data.feature_names) if name.startswith(kind)]
        for kind in ("count", "share", "query")
    }
    counts = data.X[:, by_kind["count"]]
    counts = counts[~np.isnan(counts)]
    assert (counts == np.floor(counts)).all()
    assert counts.max() > 100 * np.median(counts)
    shares_seen = data.X[:, by_kind["share"]]
    assert 0 <= shares_seen.min() <= shares_seen.max() <= 1
    of_queries = data.X[:, by_kind["query"]]
    assert np.array_equal(of_queries, np.repeat(of_queries[data.offsets[:-1]], sizes, axis=0))
    clusters = np.bincount(data.users)
    assert len(clusters) < data.n_queries / 2
    assert clusters.max() > 10


def test_copies_of_a_feature_are_correlated():
    """The noisy copies of a score follow it, and other scores do not."""
    data = generate_ranking(400, 5)
    column = {name: data.X[:, j] for j, name in enumerate(data.feature_names)}
    assert np.corrcoef(column["score_3"], column["score_3_week"])[0, 1] > 0.7
    assert abs(np.corrcoef(column["score_3"], column["score_6_week"])[0, 1]) < 0.1


def test_missing_values_say_something():
    """Documents without a history miss a third of their features together, and are less often relevant."""
    data = generate_ranking(1500, 6, missing=0.1)
    missing = np.isnan(data.X)
    fresh = missing.any(axis=1)
    assert 0.08 < fresh.mean() < 0.12
    assert np.array_equal(missing[fresh].all(axis=0), missing.any(axis=0))
    assert data.y[fresh].mean() < 0.6 * data.y[~fresh].mean()
    assert not np.isnan(generate_ranking(50, 6, missing=0).X).any()


def test_noise_blurs_the_labels_and_nothing_else():
    """The noise changes labels; the features of the same seed stay, and without noise they explain more."""
    clean, noisy = (generate_ranking(300, 7, label_noise=noise, missing=0) for noise in (0, 1.5))
    names = clean.feature_names
    assert np.array_equal(clean.X[:, names.index("score_3")], noisy.X[:, names.index("score_3")])
    agree = (clean.y == noisy.y).mean()
    assert 0.3 < agree < 0.8


@pytest.mark.parametrize(
    "wrong",
    [
        {"n_queries": 0},
        {"n_features": 11},
        {"docs_per_query": (0, 4)},
        {"docs_per_query": (5, 4)},
        {"missing": 1.0},
        {"missing": -0.1},
        {"label_noise": -1},
    ],
)
def test_arguments_out_of_range(wrong):
    """An argument out of its range is a named error that gives the range."""
    with pytest.raises(DataError, match="expected at least 1 query"):
        generate_ranking(**({"n_queries": 5, "seed": 1} | wrong))


def prepared(X, like):
    """Put features as a net wants them: signed logarithm, standard scale, missing as the mean beside a flag."""
    logs, reference = (np.sign(part) * np.log1p(np.abs(part)) for part in (X, like))
    scaled = (logs - np.nanmean(reference, axis=0)) / np.nanstd(reference, axis=0)
    return np.column_stack([np.nan_to_num(scaled), np.isnan(X).any(axis=1)])


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore")
def test_a_forest_beats_a_line_and_a_small_net():
    """On unseen queries of the same world a forest clearly beats a linear model and a 16x8 net, even one that it teaches."""
    lightgbm = pytest.importorskip("lightgbm")
    linear_model = pytest.importorskip("sklearn.linear_model")
    neural_network = pytest.importorskip("sklearn.neural_network")
    train, test = generate_ranking(1200, 1), generate_ranking(800, 2)
    params = {
        "objective": "lambdarank",
        "num_leaves": 31,
        "learning_rate": 0.08,
        "seed": 1,
        "num_threads": 2,
        "verbose": -1,
    }
    forest = lightgbm.train(params, lightgbm.Dataset(train.X, train.y, group=np.diff(train.offsets)), 150)
    inputs, outputs = prepared(train.X, train.X), prepared(test.X, train.X)

    def quality(scores):
        return ndcg(test.y, scores, test.offsets).mean

    best = quality(forest.predict(test.X))
    line = quality(linear_model.Ridge().fit(inputs, train.y).predict(outputs))
    nets = [
        neural_network.MLPRegressor(hidden_layer_sizes=(16, 8), random_state=seed, max_iter=40, learning_rate_init=2e-3)
        .fit(inputs, target)
        .predict(outputs)
        for target in (train.y, forest.predict(train.X))
        for seed in (1, 2)
    ]
    assert best > quality(np.random.default_rng(0).random(test.n_docs)) + 0.3
    assert line < best - 0.08
    assert max(map(quality, nets)) < best - 0.03
