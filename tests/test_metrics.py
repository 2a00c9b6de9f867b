"""Laws of the metrics, and the same figures from three outside tools."""

from __future__ import annotations

import shutil
import warnings
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunus.click_metrics import auc, calibration, log_loss, normalized_entropy
from prunus.errors import DataError, EmptyDataError, LabelError, SplitQueryError
from prunus.metrics import (
    PerQuery,
    by_name,
    mrr,
    ndcg,
    rank_order,
)


@st.composite
def rankings(draw, *, ties=True, max_queries=6):
    """Draw (labels, scores, offsets); without ties all scores of a query differ."""
    sizes = draw(st.lists(st.integers(1, 25), min_size=1, max_size=max_queries))
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    y = rng.integers(0, draw(st.integers(1, 5)), offsets[-1]).astype(np.float32)
    scores = rng.integers(0, 4, offsets[-1]) if ties else rng.permutation(offsets[-1])
    return y, scores * 0.37 - 3.0, offsets


def slow_ndcg(y, scores, k):
    """Give the nDCG of one query by the textbook, one document after the other."""
    order = sorted(range(len(y)), key=lambda row: (-scores[row], row))
    best = sorted(y, reverse=True)

    def dcg(labels):
        return sum((2.0**label - 1) / np.log2(1 + rank) for rank, label in enumerate(labels[:k], 1))

    return dcg([y[row] for row in order]) / dcg(best) if dcg(best) else np.nan


def random_ranking(seed, n_queries=60, grades=5):
    """Make a ranking without ties in which some queries are empty: (labels, scores, offsets)."""
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(1, 40, n_queries))])
    y = rng.integers(0, grades, offsets[-1]) * (rng.random(offsets[-1]) < 0.15)
    return y.astype(np.float32), rng.permutation(offsets[-1]) / offsets[-1] + y / np.pi, offsets


# ---- against the textbook and three outside tools


@given(rankings(), st.sampled_from([1, 2, 5, 10, 1000, None]))
def test_ndcg_is_the_textbook_formula(ranking, k):
    """The vectorised nDCG equals a loop over documents, ties and empty queries included."""
    y, scores, offsets = ranking
    expected = [slow_ndcg(y[a:b], scores[a:b], k) for a, b in pairwise(offsets)]
    np.testing.assert_allclose(ndcg(y, scores, offsets, k).values, expected, rtol=1e-12)


@given(rankings(), st.sampled_from([1, 3, None]), st.sampled_from([1, 2]))
def test_mrr_is_the_textbook_formula(ranking, k, relevant):
    """The vectorised reciprocal rank equals a search from the top."""
    y, scores, offsets = ranking
    expected = []
    for a, b in pairwise(offsets):
        order = sorted(range(a, b), key=lambda row: (-scores[row], row))
        ranks = [rank for rank, row in enumerate(order, 1) if y[row] >= relevant]
        within = [1 / rank for rank in ranks if k is None or rank <= k]
        expected.append(np.nan if not ranks else max(within, default=0.0))
    np.testing.assert_allclose(mrr(y, scores, offsets, k, relevant=relevant).values, expected, rtol=1e-12)


def compare_with_ir_measures(measure, k, atol, provider=None):
    """Compare each query's value with ir_measures', which gives 0 to those without a relevant document."""
    ir_measures = pytest.importorskip("ir_measures")
    tool = ir_measures if provider is None else getattr(ir_measures, provider)
    theirs = ir_measures.nDCG(dcg="exp-log2") @ k if measure == "ndcg" else ir_measures.RR @ k
    y, scores, offsets = random_ranking(seed=k)
    qrels, run = [], []
    for query, (a, b) in enumerate(pairwise(offsets)):
        qrels += [ir_measures.Qrel(str(query), str(row), int(y[row])) for row in range(a, b)]
        run += [ir_measures.ScoredDoc(str(query), str(row), float(scores[row])) for row in range(a, b)]
    by_query = {int(m.query_id): m.value for m in tool.iter_calc([theirs], qrels, run)}
    expected = np.array([by_query[query] for query in range(len(offsets) - 1)])

    skipped = by_name(f"{measure}@{k}")(y, scores, offsets)
    zero = by_name(f"{measure}@{k}", empty="zero")(y, scores, offsets)
    assert skipped.n_empty > 0
    assert (expected[skipped.empty] == 0).all()
    np.testing.assert_array_equal(np.isnan(skipped.values), skipped.empty)
    np.testing.assert_allclose(zero.values, expected, rtol=0, atol=atol)
    assert skipped.mean == pytest.approx(expected[~skipped.empty].mean(), abs=atol)


@pytest.mark.parametrize("k", [1, 5, 10])
@pytest.mark.parametrize(("measure", "atol"), [("ndcg", 5.001e-6), ("mrr", 1e-12)])
def test_same_as_ir_measures(measure, atol, k):
    """ir_measures gives the same value for each query; its nDCG comes from gdeval, which rounds to five digits."""
    if shutil.which("perl") is None:
        pytest.skip("ir_measures runs gdeval, which needs perl")
    compare_with_ir_measures(measure, k, atol)


@pytest.mark.long
def test_same_as_ranx(monkeypatch):
    """ir_measures with ranx gives the same nDCG to the last digits."""
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")  # ranx would compile itself for half a minute first
    pytest.importorskip("ranx")
    pandas = pytest.importorskip("pandas")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tool's own dependencies
        # ranx takes no frame whose strings have the type of their own that pandas 3 gives them.
        with pandas.option_context("future.infer_string", False):
            for k in (1, 5, 10):
                compare_with_ir_measures("ndcg", k, 1e-12, provider="ranx")


@pytest.mark.parametrize("k", [1, 5, 10])
def test_same_as_lightgbm(k):
    """LightGBM's own nDCG of given scores is our mean with empty='one', which is what it gives an empty query."""
    lightgbm = pytest.importorskip("lightgbm")
    y, scores, offsets = random_ranking(seed=k)
    # A booster that cannot split adds nothing, so the scores it evaluates are the init_score alone.
    data = lightgbm.Dataset(
        np.zeros((len(y), 1)), label=y, group=np.diff(offsets), init_score=scores, params={"verbose": -1}
    )
    params = {"objective": "lambdarank", "metric": "ndcg", "eval_at": [k], "verbose": -1, "num_threads": 1}
    booster = lightgbm.Booster(params, data)
    [(_, name, theirs, _)] = booster.eval_train()
    assert name == f"ndcg@{k}"
    assert ndcg(y, scores, offsets, k).n_empty > 0
    assert ndcg(y, scores, offsets, k, empty="one").mean == pytest.approx(theirs, abs=1e-9)
    assert ndcg(y, scores, offsets, k).mean < theirs


@pytest.mark.parametrize("k", [1, 5, 10, None])
def test_same_as_scikit_learn(k):
    """scikit-learn's ndcg_score, given gains for labels, agrees query by query; one document is not allowed there."""
    metrics = pytest.importorskip("sklearn.metrics")
    y, scores, offsets = random_ranking(seed=3)
    ours = ndcg(y, scores, offsets, k, empty="zero").values
    for query, (a, b) in enumerate(pairwise(offsets)):
        if b - a > 1:
            theirs = metrics.ndcg_score([2.0 ** y[a:b] - 1], [scores[a:b]], k=k)
            assert ours[query] == pytest.approx(theirs, abs=1e-12)


# ---- laws


@given(rankings(ties=False), st.integers(0, 2**32 - 1), st.sampled_from(["ndcg@10", "ndcg@3", "mrr"]))
def test_order_of_the_documents_does_not_matter_without_ties(ranking, seed, name):
    """Permuting the documents of each query leaves the metric as it was."""
    y, scores, offsets = ranking
    rng = np.random.default_rng(seed)
    order = np.concatenate([rng.permutation(np.arange(a, b)) for a, b in pairwise(offsets)])
    metric = by_name(name)
    np.testing.assert_array_equal(metric(y[order], scores[order], offsets).values, metric(y, scores, offsets).values)


@given(rankings(), st.sampled_from([1, 5, 10, None]))
def test_the_labels_as_scores_are_perfect(ranking, k):
    """Scoring each document by its label gives exactly 1, and no order gives more."""
    y, scores, offsets = ranking
    perfect = ndcg(y, y, offsets, k)
    assert (perfect.values[~perfect.empty] == 1.0).all()
    found = ndcg(y, scores, offsets, k)
    assert (found.values[~found.empty] <= 1.0).all()
    assert (found.values[~found.empty] >= 0.0).all()


@given(rankings(), st.sampled_from(["ndcg@10", "mrr@5"]))
def test_only_the_order_of_the_scores_matters(ranking, name):
    """A rising function of the scores, another type or another scale leaves the metric as it was."""
    y, scores, offsets = ranking
    metric = by_name(name)
    expected = metric(y, scores, offsets).values
    for same in (np.exp(scores / 10), 3 * scores - 7, scores**3, scores.astype(np.float32)):
        np.testing.assert_array_equal(metric(y, same, offsets).values, expected)


@given(rankings(), st.sampled_from(["ndcg@10", "ndcg", "mrr@5"]))
def test_a_batch_is_its_queries(ranking, name):
    """The value of a query does not depend, in any bit, on the queries beside it."""
    y, scores, offsets = ranking
    metric = by_name(name)
    one_by_one = [metric(y[a:b], scores[a:b], [0, b - a]).values[0] for a, b in pairwise(offsets)]
    np.testing.assert_array_equal(metric(y, scores, offsets).values, one_by_one)


@given(rankings())
def test_ties_keep_the_order_of_the_input(ranking):
    """Equal scores rank in input order, so constant scores rank every query as it stands."""
    y, scores, offsets = ranking
    np.testing.assert_array_equal(rank_order(np.zeros(len(y)), offsets), np.arange(len(y)))
    order = rank_order(scores, offsets)
    for a, b in pairwise(offsets):
        inside = order[a:b]
        assert sorted(inside) == list(range(a, b))
        steps = list(zip(scores[inside][:-1], scores[inside][1:], inside[:-1], inside[1:], strict=True))
        assert all(left > right or (left == right and row < below) for left, right, row, below in steps)


def test_both_zeros_tie_and_infinities_are_ranked():
    """-0.0 equals 0.0, and infinities stand at the ends."""
    np.testing.assert_array_equal(rank_order([-0.0, 0.0, -0.0], [0, 3]), [0, 1, 2])
    np.testing.assert_array_equal(rank_order([-np.inf, 1.0, np.inf], [0, 3]), [2, 1, 0])


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int64, np.float16, np.float32, bool])
def test_any_real_type_ranks(dtype):
    """Unsigned integers and booleans rank as their values, where a plain minus would wrap around."""
    np.testing.assert_array_equal(rank_order(np.array([0, 1, 0, 1], dtype), [0, 4]), [1, 3, 0, 2])


# ---- conventions


@pytest.mark.parametrize(("empty", "values"), [("skip", [1, np.nan]), ("zero", [1, 0]), ("one", [1, 1])])
@pytest.mark.parametrize("name", ["ndcg@10", "mrr"])
def test_queries_without_a_relevant_document(name, empty, values):
    """They are left out, 0 or 1 as asked; they are counted in any case, and the name says which it is."""
    result = by_name(name, empty=empty)([1, 0, 0], [2, 1, 0], [0, 2, 3])
    np.testing.assert_array_equal(result.values, values)
    assert result.n_empty == 1
    assert result.n_counted == (1 if empty == "skip" else 2)
    assert result.mean == np.nanmean(values)
    assert f"empty={empty!r}" in result.name


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("ndcg@10", "nDCG(dcg='exp-log2', empty='skip')@10"),
        ("NDCG", "nDCG(dcg='exp-log2', empty='skip')"),
        ("mrr@5", "RR(rel=1, empty='skip')@5"),
        ("mrr", "RR(rel=1, empty='skip')"),
    ],
)
def test_the_name_prints_the_convention(name, printed):
    """A metric asked for by its short name says in full what it is."""
    result = by_name(name)([1.0], [1.0], [0, 1])
    assert result.name == printed
    assert str(result) == f"{printed} = 1.0000 over 1 queries (0 without a relevant document)"


def test_no_query_counts():
    """Where no query has a relevant document there is no mean, and the error says to check the labels."""
    result = ndcg([0, 0], [1, 2], [0, 2])
    assert result.n_counted == 0
    assert "undefined" in str(result)
    with pytest.raises(EmptyDataError, match="check the labels"):
        _ = result.mean


def test_empty_defaults_to_the_queries_left_out():
    """A PerQuery made from values alone counts its NaN as empty."""
    assert PerQuery(np.array([0.5, np.nan]), "nDCG@10").n_empty == 1


def test_gains_of_large_labels_are_exact():
    """A label of 31 has a gain of 2^31 - 1, and halves are no error."""
    y = np.array([31, 30], np.float32)
    expected = ((2.0**30 - 1) + (2.0**31 - 1) / np.log2(3)) / ((2.0**31 - 1) + (2.0**30 - 1) / np.log2(3))
    assert ndcg(y, [0, 1], [0, 2]).values[0] == pytest.approx(expected, rel=1e-15)
    assert ndcg([0.5, 1.5], [1, 0], [0, 2]).values[0] < 1


# ---- bad input


@pytest.mark.parametrize(
    ("arrays", "error", "message"),
    [
        (([0, 1], [np.nan, 1], [0, 2]), DataError, "first at row 0"),
        (([0, 1], [1, 2, 3], [0, 2]), DataError, "3 scores for 2 labels"),
        (([0, 1], [[1, 2]], [0, 2]), DataError, "shape"),
        (([0, 1], ["a", "b"], [0, 2]), DataError, "real number"),
        (([0, 1], [1j, 2j], [0, 2]), DataError, "real number"),
        (([0, -1], [1, 2], [0, 2]), LabelError, "label -1.0 at row 1"),
        (([0, np.nan], [1, 2], [0, 2]), LabelError, "label nan at row 1"),
        (([0, np.inf], [1, 2], [0, 2]), LabelError, "label inf at row 1"),
        (([0, 1], [1, 2], [0, 3]), SplitQueryError, "rise from 0 to 2"),
        (([0, 1], [1, 2], [1, 2]), SplitQueryError, "rise from 0 to 2"),
        (([0, 1], [1, 2], [0, 2, 2]), SplitQueryError, "rise from 0 to 2"),
        (([0, 1], [1, 2], [0]), SplitQueryError, "rise from 0 to 2"),
        (([0, 1], [1, 2], [0.0, 2.0]), SplitQueryError, "integers"),
        (([], [], [0]), SplitQueryError, "rise"),
    ],
)
@pytest.mark.parametrize("name", ["ndcg@10", "mrr"])
def test_bad_input_is_a_named_error(name, arrays, error, message):
    """Each kind of bad input raises its own error, which says what was got."""
    with pytest.raises(error, match=message):
        by_name(name)(*map(np.array, arrays))


@pytest.mark.parametrize("name", ["map", "ndcg@", "ndcg@0", "ndcg@-1", "ndcg@1.5", "ndcg 10", "", "mrr@0"])
def test_unknown_metrics_are_refused(name):
    """A name that is no metric, or a cutoff that is no rank, is refused before any data are read."""
    with pytest.raises(DataError, match="expected"):
        by_name(name)


@pytest.mark.parametrize("options", [{"k": 0}, {"empty": "drop"}, {"relevant": 0}])
def test_unknown_options_are_refused(options):
    """Options out of range are refused."""
    with pytest.raises(DataError, match="expected"):
        mrr([1], [1], [0, 1], **options)


clicks = st.lists(st.tuples(st.integers(0, 1), st.integers(-40, 40)), min_size=1, max_size=60)


@given(clicks)
def test_metrics_of_clicks_agree_with_scikit_learn(pairs):
    """Log loss and AUC are scikit-learn's, ties included; NE is the ratio of two log losses, calibration that of sums."""
    sk = pytest.importorskip("sklearn.metrics")
    y, x = (np.array(part) for part in zip(*pairs, strict=True))
    p = 1 / (1 + np.exp(-x / 4))
    expected = sk.log_loss(y, p, labels=[0, 1])
    assert log_loss(y, x / 4) == pytest.approx(expected, abs=1e-12)
    if 0 < y.mean() < 1:
        assert auc(y, x) == pytest.approx(sk.roc_auc_score(y, x), abs=1e-12)
        background = sk.log_loss(y, np.full(len(y), y.mean()), labels=[0, 1])
        assert normalized_entropy(y, x / 4) == pytest.approx(expected / background)
        assert normalized_entropy(y, np.full(len(y), np.log(y.mean() / (1 - y.mean())))) == pytest.approx(1)
    else:
        assert np.isnan(auc(y, x))
        assert np.isnan(normalized_entropy(y, x))
    half = np.full(len(y), np.log(0.5))
    assert normalized_entropy(y, x / 4, 0.5) == pytest.approx(expected / -half.mean())
    if y.any():
        assert calibration(y, x / 4) == pytest.approx(p.sum() / y.sum())
    else:
        assert np.isnan(calibration(y, x))


def test_metrics_of_clicks_far_out():
    """Logits that overflow an exponential still give the exact loss, and certain errors cost what they should."""
    assert log_loss([1, 0], [800.0, -800.0]) == 0
    assert log_loss([1, 0], [-800.0, 800.0]) == 800
    assert calibration([1, 0], [800.0, -800.0]) == 1
    assert auc([1, 0], [1e300, -1e300]) == 1


def test_metrics_of_clicks_refuse():
    """Labels that are no clicks, scores that are no numbers and lengths that differ are named errors."""
    for metric in (log_loss, normalized_entropy, calibration, auc):
        with pytest.raises(LabelError, match="expected 0 or 1"):
            metric([0, 2], [0.0, 0.0])
        for wrong in (np.nan, np.inf):
            with pytest.raises(DataError, match="event 1 is not finite"):
                metric([0, 1], [0.0, wrong])
        with pytest.raises(DataError, match="got 3 scores for 2 labels"):
            metric([0, 1], [0.0, 0.0, 0.0])
        assert np.isnan(metric([], []))
    with pytest.raises(DataError, match="base_rate"):
        normalized_entropy([0, 1], [0.0, 0.0], 1.5)
