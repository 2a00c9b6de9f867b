"""New items get rows from who took them."""

from __future__ import annotations

import numpy as np
import pytest

from prunus.engine.levels import quantise_model
from prunus.engine.recommend_scorer import RecommendScorer
from prunus.engine.recommender import DenseFactors, SparseFactors, SparseRows
from prunus.errors import DataError, RecommenderError
from recommenders import make_sparse

N_ITEMS, N_NEW, N_TOPICS = 60, 6, 5


def world(rng, n_users):
    """Make users who each take items of one topic mostly: item i is of topic i mod 5, new items included."""
    topic = rng.integers(0, N_TOPICS, n_users)
    fits = topic[:, None] == np.arange(N_ITEMS + N_NEW) % N_TOPICS
    taken = rng.random(fits.shape) < np.where(fits, 0.5, 0.05)
    return topic, [np.flatnonzero(row).tolist() for row in taken]


def topic_model(kind):
    """Make factors that tell the topics of the old items apart, with some noise."""
    rng = np.random.default_rng(1)
    matrix = np.zeros((N_ITEMS, 12), np.float32)
    matrix[np.arange(N_ITEMS), np.arange(N_ITEMS) % N_TOPICS] = 1
    matrix += rng.normal(scale=0.05, size=matrix.shape).astype(np.float32)
    popular = rng.permutation(N_ITEMS)[:10]
    bias = rng.normal(scale=0.01, size=N_ITEMS).astype(np.float32)
    if kind.startswith("dense"):
        model = DenseFactors(matrix, matrix.copy() if kind == "dense untied" else None, bias=bias, popular=popular)
    else:
        rows = SparseRows.from_dense(np.where(np.abs(matrix) > 0.06, matrix, 0))
        other = SparseRows(12, rows.indptr, rows.factor, rows.value) if kind == "sparse untied" else None
        model = SparseFactors(rows, other, bias=bias, popular=popular)
    return quantise_model(model, 6) if kind.endswith("levels") else model


@pytest.mark.parametrize("kind", ["sparse", "sparse untied", "sparse levels", "dense", "dense untied", "dense levels"])
def test_new_items_reach_whom_they_are_for(kind):
    """Users of an item's topic rank it above others do, and old rows and scores are what they were."""
    scorer = RecommendScorer(topic_model(kind), [f"old {i}" for i in range(N_ITEMS)])
    rng = np.random.default_rng(0)
    _, histories = world(rng, 400)
    new = scorer.add_items(histories, [f"new {i}" for i in range(N_NEW)])
    assert new.item_ids[N_ITEMS:] == tuple(f"new {i}" for i in range(N_NEW))
    topic, others = world(rng, 200)
    known = [[item for item in row if item < N_ITEMS] for row in others]
    before, after = scorer.scores(known), new.scores(known)
    np.testing.assert_allclose(after[:, :N_ITEMS], before, rtol=1e-5, atol=1e-5)
    fits = topic[:, None] == np.arange(N_ITEMS, N_ITEMS + N_NEW) % N_TOPICS
    found = after[:, N_ITEMS:]
    # The share of pairs (user of the topic, another user) that are in the right order.
    for column in range(N_NEW):
        inside, outside = found[fits[:, column], column], found[~fits[:, column], column]
        assert (inside[:, None] > outside).mean() > 0.97
    # Histories that hold a new item count it: its topic's items gain.
    with_new = new.scores([[N_ITEMS]])[0]
    same = np.arange(N_ITEMS) % N_TOPICS == N_ITEMS % N_TOPICS
    assert with_new[:N_ITEMS][same].mean() > with_new[:N_ITEMS][~same].mean() + 0.2


def test_a_scorer_takes_what_was_added(tmp_path):
    """The result saves, loads and swaps in; numbers without names do too."""
    scorer = RecommendScorer(topic_model("sparse levels"))
    new = scorer.add_items(world(np.random.default_rng(0), 300)[1])
    assert new.model.n_items == N_ITEMS + N_NEW
    new.save(tmp_path / "m.prunus")
    scorer.swap(new)
    assert scorer.recommend([[1, 2]], 5).ids.shape == (1, 5)


def test_what_cannot_be_added():
    """Item-item weights, items that nobody took, and names that do not fit are refused by name."""
    scorer = RecommendScorer(topic_model("sparse"))
    for histories in ([[0, 1]], [[N_ITEMS]], [[0, N_ITEMS + 1]]):
        with pytest.raises(DataError):
            scorer.add_items(histories)
    with pytest.raises(RecommenderError, match="names"):
        scorer.add_items([[0, N_ITEMS]], ["a"])
    named = RecommendScorer(scorer.model, [str(i) for i in range(N_ITEMS)])
    with pytest.raises(RecommenderError, match="repeat"):
        named.add_items([[0, N_ITEMS]], ["3"])
    with pytest.raises(DataError):
        named.add_items([[0, N_ITEMS + 1]], ["a"])
    weights = RecommendScorer(make_sparse(np.random.default_rng(0), 9, stored=3, item_item=True))
    with pytest.raises(RecommenderError, match="train again"):
        weights.add_items([[0, 9]])
