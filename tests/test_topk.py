"""Top-k lists and metrics: naive sorting and ir_measures are the oracles."""

from __future__ import annotations

import ir_measures
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from interactions_world import make_interactions
from prunus import topk
from prunus.data import splits
from prunus.data.interactions import Interactions
from prunus.errors import DataError
from prunus.topk import recommend, sampled_leave_one_out, top_k
from prunus.verdict import compare

K = 5
SPLIT = splits.random_by_user(make_interactions(), 0.4)
SCORES = np.random.default_rng(3).random(SPLIT.test.users_x_items().shape).astype(np.float32)


def noise(histories: object) -> np.ndarray:
    """Score by chance; the whole matrix is one block."""
    del histories
    return SCORES


@given(
    arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 9)), elements=st.sampled_from([-np.inf, 0, 1, 2])),
    st.integers(1, 11),
)
def test_lists_are_a_stable_sort(scores: np.ndarray, k: int) -> None:
    """Best first, ties by item number, -1 where nothing is left."""
    expected = []
    for row in scores.tolist():
        best = [item for item in sorted(range(len(row)), key=lambda item: -row[item]) if row[item] > -np.inf]
        expected.append((best + [-1] * k)[:k])
    assert top_k(scores, k).tolist() == expected


@pytest.mark.parametrize(
    ("name", "oracle"),
    [("recall@5", "R@5"), ("ndcg@5", "nDCG@5"), ("hr@5", "Success@5"), ("mrr@5", "RR@5")],
)
def test_metrics_agree_with_ir_measures(name: str, oracle: str) -> None:
    """User by user, over the users with something to find."""
    lists = recommend(noise, SPLIT.histories, K)
    seen = SPLIT.histories.users_x_items().toarray() > 0
    run = [
        ir_measures.ScoredDoc(str(u), str(i), float(SCORES[u, i]))
        for u in range(len(seen))
        for i in np.flatnonzero(~seen[u])
    ]
    test = SPLIT.test
    qrels = [ir_measures.Qrel(str(u), str(i), 1) for u, i in zip(test.user_of, test.items, strict=True)]
    expected = np.full(test.n_users, np.nan)
    for one in ir_measures.iter_calc([ir_measures.parse_measure(oracle)], qrels, run):
        expected[int(one.query_id)] = one.value
    assert np.isnan(expected).sum() > 0 or (np.diff(test.indptr) > 0).all()
    np.testing.assert_allclose(topk.by_name(name)(lists, test).values, expected, rtol=1e-12)


def test_conventions() -> None:
    """Three to find, one found at rank 2 of 2: by hand."""
    test = Interactions([0, 3, 3], [1, 2, 3], 5)
    lists = np.array([[0, 2], [0, 1]], np.int32)
    assert topk.recall(lists, test, 2).mean == pytest.approx(1 / 3)
    assert topk.recall(lists, test, 2, divide="min").mean == pytest.approx(1 / 2)
    assert topk.ndcg(lists, test, 2).mean == pytest.approx((1 / np.log2(3)) / (1 + 1 / np.log2(3)))
    assert topk.hit_rate(lists, test, 1).mean == 0
    assert topk.mrr(lists, test, 2).mean == 0.5
    assert topk.mrr(lists, test, 2).n_counted == 1
    assert "min(k, relevant)" in topk.ndcg(lists, test, 2).name


def test_history_is_never_recommended_and_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """No list holds a seen item, and blocks of one user give the lists of one block."""
    matrix = SPLIT.histories.users_x_items()
    weights = np.random.default_rng(0).normal(size=(40, 40)).astype(np.float32)
    whole = recommend(lambda rows: rows @ weights, SPLIT.histories, 40)
    monkeypatch.setattr(topk, "BLOCK_SCORES", 1)
    assert (recommend(lambda rows: rows @ weights, SPLIT.histories, 40) == whole).all()
    for user in range(len(whole)):
        assert set(whole[user].tolist()) - {-1} == set(range(40)) - set(matrix[[user]].indices.tolist())


def test_sampling_all_is_the_full_ranking() -> None:
    """With every other item as a negative, the sampled figures are those of the full ranking; the name says what it is."""
    data = make_interactions(n_each=6)
    split = splits.leave_last_out(data)
    sizes = np.diff(split.histories.indptr)
    same = split.histories.take_users(np.flatnonzero(sizes == sizes.max()))
    test = split.test.take_users(np.flatnonzero(sizes == sizes.max()))
    scores = SCORES[:1]

    def score(histories: object) -> np.ndarray:
        return np.repeat(scores, histories.shape[0], axis=0)  # type: ignore[attr-defined]

    hr, gain = sampled_leave_one_out(score, same, test, K, negatives=data.n_items - int(sizes.max()) - 1)
    lists = recommend(score, same, K)
    np.testing.assert_array_equal(hr.values, topk.hit_rate(lists, test, K).values)
    np.testing.assert_allclose(gain.values, topk.ndcg(lists, test, K).values)
    assert "comparison only" in hr.name


def test_verdict_pairs_users() -> None:
    """The paired test takes the per-user values as they are."""
    lists = recommend(noise, SPLIT.histories, K)
    verdict = compare(topk.ndcg(lists, SPLIT.test, K), topk.ndcg(lists, SPLIT.test, K))
    assert verdict.outcome == "non_inferior"
    assert verdict.queries == SPLIT.n_test_users
    assert f"Tested on {verdict.queries} users." in verdict.sentence(of="user")
    alone = compare(
        topk.hit_rate(lists[:1], one := SPLIT.test.take_users(np.array([0])), K), topk.hit_rate(lists[:1], one, K)
    )
    assert "One user alone shows no spread" in alone.sentence(of="user")
    assert "One query or one user" in alone.sentence()


def test_refusals() -> None:
    """Scores that cannot be ranked, and options that are unknown, are refused."""
    with pytest.raises(DataError, match="item 1 for user 0 is NaN"):
        top_k(np.array([[0, np.nan]], np.float32), 1)
    with pytest.raises(DataError, match="shape"):
        recommend(lambda rows: rows.toarray()[:, 1:], SPLIT.histories, K)
    with pytest.raises(DataError, match="expected ndcg"):
        topk.by_name("map@5")
    with pytest.raises(DataError, match="at least k"):
        topk.ndcg(np.zeros((SPLIT.test.n_users, 2), np.int32), SPLIT.test, 3)
    with pytest.raises(DataError, match="expected one a user"):
        topk.ndcg(np.zeros((1, 3), np.int32), SPLIT.test, 3)
    with pytest.raises(DataError, match="divide"):
        topk.recall(np.zeros((SPLIT.test.n_users, 3), np.int32), SPLIT.test, 3, divide="k")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="items to find; expected one"):
        sampled_leave_one_out(noise, SPLIT.histories, SPLIT.test)
