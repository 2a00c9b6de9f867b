"""The paired verdict: its interval is right, its outcome errs as rarely as it says, and its words fit its numbers."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from prunus.errors import DataError, EmptyDataError
from prunus.metrics import PerQuery, ndcg
from prunus.verdict import compare, paired_interval

NAME = "nDCG(dcg='exp-log2', empty='skip')@10"


def per_query(values, name=NAME):
    """Make a PerQuery from a list."""
    return PerQuery(np.asarray(values, np.float64), name)


def pairs(seed, n=200, difference=0.0, spread=0.1):
    """Draw a teacher and a student whose differences are normal: (teacher, student)."""
    rng = np.random.default_rng(seed)
    teacher = rng.uniform(0.2, 0.8, n)
    return per_query(teacher), per_query(teacher + rng.normal(difference, spread, n))


# ---- the interval


@given(st.integers(0, 2**32 - 1), st.integers(2, 60), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_without_clusters_it_is_the_t_test(seed, n, confidence):
    """The interval is scipy's of a one-sample t-test of the differences, one-sided and two-sided."""
    teacher, student = pairs(seed, n)
    test = scipy.stats.ttest_1samp(student.values - teacher.values, 0)
    expected = test.confidence_interval(confidence)
    difference, lower, upper = paired_interval(teacher, student, confidence)
    assert difference == pytest.approx((student.values - teacher.values).mean())
    assert (lower, upper) == pytest.approx((expected.low, expected.high))

    verdict = compare(teacher, student)
    greater = scipy.stats.ttest_1samp(student.values - teacher.values, 0, alternative="greater")
    less = scipy.stats.ttest_1samp(student.values - teacher.values, 0, alternative="less")
    assert verdict.lower == pytest.approx(greater.confidence_interval(0.95).low)
    assert verdict.upper == pytest.approx(less.confidence_interval(0.95).high)
    # The p-value of the shifted test says the same as the bound.
    p = scipy.stats.ttest_1samp(student.values - teacher.values, -verdict.margin, alternative="greater").pvalue
    assert verdict.non_inferior == (p < 0.05)


@given(st.integers(0, 2**32 - 1))
def test_one_cluster_a_query_is_no_cluster(seed):
    """Clusters of one query each change nothing, whatever their ids are."""
    teacher, student = pairs(seed, 40)
    plain = compare(teacher, student)
    for ids in (np.arange(40), [f"u{i}" for i in range(40)], np.array([("x", i)[1] for i in range(40)], object)):
        assert compare(teacher, student, clusters=ids) == plain


def test_clusters_of_equal_size_are_a_t_test_of_their_means():
    """With m queries in each cluster the interval is that of the t-test of the clusters' mean differences."""
    teacher, student = pairs(5, 60)
    clusters = np.random.default_rng(0).permutation(np.repeat(np.arange(15), 4))
    d = student.values - teacher.values
    means = [d[clusters == c].mean() for c in range(15)]
    expected = scipy.stats.ttest_1samp(means, 0).confidence_interval(0.95)
    assert paired_interval(teacher, student, clusters=clusters)[1:] == pytest.approx((expected.low, expected.high))


def test_clusters_of_unequal_size_follow_the_formula():
    """A small case by hand: the difference is the mean over queries, not over clusters."""
    teacher = per_query([0.5] * 5)
    student = per_query([0.6, 0.6, 0.6, 0.4, 0.5])
    residual_sums = np.array([3 * (0.1 - 0.04), -0.1 - 0.04, 0 - 0.04])
    error = math.sqrt(3 / 2 * (residual_sums**2).sum()) / 5
    difference, lower, _ = paired_interval(teacher, student, 0.9, clusters=["a", "a", "a", "b", "c"])
    assert difference == pytest.approx(0.04)
    assert lower == pytest.approx(0.04 - scipy.stats.t.ppf(0.95, 2) * error)


def test_correlated_clusters_widen_the_interval():
    """Where the queries of a user share their difference, saying so widens the interval; the mean stays."""
    rng = np.random.default_rng(1)
    clusters = np.repeat(np.arange(40), 10)
    teacher = per_query(rng.uniform(0.3, 0.7, 400))
    student = per_query(teacher.values + rng.normal(0, 0.1, 40)[clusters] + rng.normal(0, 0.02, 400))
    blind, aware = paired_interval(teacher, student), paired_interval(teacher, student, clusters=clusters)
    assert aware[0] == blind[0]
    assert aware[2] - aware[1] > 2.5 * (blind[2] - blind[1])  # sqrt(10) in the limit
    # Needing more users means needing more queries.
    needed = compare(teacher, student, clusters=clusters).queries_for_80_power
    assert needed > 6 * compare(teacher, student).queries_for_80_power


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 50))
def test_the_scale_and_the_direction_of_the_metric(seed, factor):
    """Twice the metric is twice the interval, and changing sides turns it round."""
    teacher, student = pairs(seed, 20)
    difference, lower, upper = paired_interval(teacher, student)
    assert paired_interval(student, teacher) == pytest.approx((-difference, -upper, -lower))
    scaled = paired_interval(per_query(teacher.values * factor), per_query(student.values * factor))
    assert scaled == pytest.approx((difference * factor, lower * factor, upper * factor))


# ---- how often it errs


def rate(outcome, n_draws, n, make, **options):
    """Count how often an outcome comes, over seeded draws of (teacher, student)."""
    rng = np.random.default_rng(20220210)
    return sum(compare(*make(rng, n), **options).outcome == outcome for _ in range(n_draws)) / n_draws


def draw_at(true_difference, spread=0.1):
    """Make a function that draws pairs with a true mean difference and a teacher whose mean is 0.5 each time."""

    def make(rng, n):
        teacher = np.tile([0.3, 0.7], (n + 1) // 2)[:n]
        return per_query(teacher), per_query(teacher + rng.normal(true_difference, spread, n))

    return make


def test_a_student_at_the_margin_passes_in_at_most_5_percent():
    """With the true difference exactly at -margin, 5 % of draws say non_inferior, up to the error of counting."""
    found = rate("non_inferior", 4000, 50, draw_at(-0.005))
    assert abs(found - 0.05) < 3.5 * math.sqrt(0.05 * 0.95 / 4000)


def test_a_student_at_the_margin_fails_in_at_most_5_percent():
    """The same holds of the outcome inferior."""
    found = rate("inferior", 4000, 50, draw_at(-0.005))
    assert abs(found - 0.05) < 3.5 * math.sqrt(0.05 * 0.95 / 4000)


def test_differences_like_those_of_real_queries_keep_the_level():
    """Differences that are mostly 0 and skewed, as nDCG gives them, still err in about 5 %: less than 7 %."""

    def make(rng, n):
        teacher = np.tile([0.3, 0.7], n // 2)
        change = np.where(rng.random(n) < 0.4, rng.exponential(0.1, n) - 0.1, 0.0)
        return per_query(teacher), per_query(teacher + change - 0.005)

    assert rate("non_inferior", 3000, 300, make) < 0.07


def test_correlated_users_keep_the_level_with_clusters_and_break_it_without():
    """With users whose queries go together, the clustered test errs in about 5 %, and the blind one far more often."""
    clusters = np.repeat(np.arange(40), 5)

    def make(rng, n):
        teacher = np.tile([0.3, 0.7], n // 2)
        return per_query(teacher), per_query(teacher - 0.005 + rng.normal(0, 0.1, 40)[clusters])

    assert rate("non_inferior", 3000, 200, make, clusters=clusters) == pytest.approx(0.05, abs=0.016)
    assert rate("non_inferior", 1000, 200, make) > 0.15


def test_queries_for_80_power_give_80_percent():
    """As many queries as the verdict asks for show non-inferiority in 80 % of draws if the true difference is 0."""
    wanted = scipy.stats.norm.ppf([0.95, 0.8]).sum()
    n = compare(*draw_at(0.0)(np.random.default_rng(3), 20_000)).queries_for_80_power
    assert n == pytest.approx((wanted * 0.1 / 0.005) ** 2, rel=0.03)
    found = rate("non_inferior", 1000, n, draw_at(0.0))
    assert found == pytest.approx(0.8, abs=0.045)


def test_few_queries_need_the_t_distribution():
    """Where a handful of queries is enough, more are asked for than the normal distribution would say."""
    teacher, student = draw_at(0.0, spread=0.004)(np.random.default_rng(2), 400)
    n = compare(teacher, student).queries_for_80_power
    assert n > (scipy.stats.norm.ppf([0.95, 0.8]).sum() * 0.004 / 0.005) ** 2
    assert rate("non_inferior", 2000, n, draw_at(0.0, spread=0.004)) == pytest.approx(0.8, abs=0.06)


# ---- outcomes, words and edges


CASES = [
    (0.0, 0.001, "non_inferior", "ranks as well as the teacher"),
    (0.1, 0.001, "non_inferior", "at least"),
    (-0.004, 0.0001, "non_inferior", "at most"),
    (-0.1, 0.001, "inferior", "ranks worse than the teacher"),
    (0.0, 0.5, "inconclusive", "cannot tell"),
    (-0.004, 0.05, "inconclusive", "cannot tell"),
]


@pytest.mark.parametrize(("difference", "spread", "outcome", "words"), CASES)
def test_outcome_and_words(difference, spread, outcome, words):
    """The outcome follows from the bounds, and the sentence says it in words, with both means and the count."""
    verdict = compare(*draw_at(difference, spread)(np.random.default_rng(0), 100))
    assert verdict.outcome == outcome
    assert verdict.non_inferior == (outcome == "non_inferior") == (verdict.lower > -verdict.margin)
    assert (outcome == "inferior") == (verdict.upper < -verdict.margin)
    assert verdict.margin == pytest.approx(0.005)
    assert verdict.relative_margin == 0.01
    sentence = verdict.sentence()
    assert words in sentence
    for part in ("nDCG@10", f"{verdict.student_mean:.4f}", "0.5000", "100 queries"):
        assert part in sentence


def test_inconclusive_says_how_many_queries():
    """An inconclusive sentence names the number of queries, and under which assumption."""
    verdict = compare(*draw_at(0.0, 0.5)(np.random.default_rng(0), 100))
    assert verdict.queries_for_80_power > 10_000
    assert f"If it is truly as good, about {verdict.queries_for_80_power:,} queries" in verdict.sentence()


def test_enough_queries_and_still_inconclusive():
    """With more queries than the number says, the student is probably a little worse, and the sentence says so."""
    verdict = compare(*draw_at(-0.0045, 0.05)(np.random.default_rng(0), 5000))
    assert verdict.outcome == "inconclusive"
    assert verdict.queries_for_80_power < 5000
    assert "probably a little worse" in verdict.sentence()


def test_users_are_counted_in_the_sentence():
    """With clusters, the sentence counts them."""
    teacher, student = pairs(0, 100)
    assert "100 queries of 20 users" in compare(teacher, student, clusters=np.arange(100) // 5).sentence()


def test_json_holds_the_promised_keys():
    """to_json gives plain values under the keys that the command line promises."""
    verdict = compare(*pairs(0))
    plain = json.loads(json.dumps(verdict.to_json(), allow_nan=False))
    promised = "outcome non_inferior difference lower upper margin queries clusters queries_for_80_power"
    assert {*promised.split(), "teacher_mean", "student_mean", "relative_margin", "metric"} == set(plain)
    assert (plain["queries"], plain["clusters"], plain["metric"]) == (200, 200, NAME)
    assert plain["non_inferior"] is verdict.non_inferior


def test_queries_left_out_on_either_side_are_left_out_of_both():
    """A NaN on one side removes the query and its cluster from all figures."""
    teacher = per_query([0.5, np.nan, 0.7, 0.2, 0.9])
    student = per_query([0.6, 0.1, np.nan, 0.2, 0.8])
    verdict = compare(teacher, student, clusters=["a", "b", "b", "c", "a"])
    alone = compare(per_query([0.5, 0.2, 0.9]), per_query([0.6, 0.2, 0.8]), clusters=["a", "c", "a"])
    assert verdict == alone
    assert (verdict.queries, verdict.clusters) == (3, 2)
    assert verdict.teacher_mean == pytest.approx((0.5 + 0.2 + 0.9) / 3)


@pytest.mark.parametrize("clusters", [None, ["a"]])
def test_one_query_is_inconclusive(clusters):
    """One query gives no interval: bounds are infinite, None in JSON, and the sentence says why."""
    verdict = compare(per_query([0.5]), per_query([0.9]), clusters=clusters)
    assert verdict.outcome == "inconclusive"
    assert (verdict.lower, verdict.upper) == (-math.inf, math.inf)
    assert verdict.queries_for_80_power is None
    assert verdict.to_json()["lower"] is None
    assert "no interval" in verdict.sentence()
    assert "1 query" in verdict.sentence()


def test_one_cluster_is_inconclusive():
    """Many queries of one user are one observation of a user."""
    teacher, student = pairs(0, 50)
    assert compare(teacher, student, clusters=["u"] * 50).outcome == "inconclusive"


@pytest.mark.parametrize(
    ("difference", "outcome"),
    [(0.0, "non_inferior"), (0.1, "non_inferior"), (-0.001, "non_inferior"), (-0.1, "inferior")],
)
def test_no_spread_at_all(difference, outcome):
    """Where all differences are the same number the interval is that number."""
    teacher = per_query(np.linspace(0.25, 0.75, 5))
    student = per_query(teacher.values + difference)
    verdict = compare(teacher, student)
    assert verdict.outcome == outcome
    assert verdict.lower == pytest.approx(difference, abs=1e-12)
    assert verdict.upper == pytest.approx(difference, abs=1e-12)
    assert verdict.queries_for_80_power == 2


def test_a_margin_of_zero_asks_for_better():
    """Without a margin the student must be shown to be better, and no number of queries shows equality."""
    teacher, student = pairs(0, 100, difference=0.1)
    verdict = compare(teacher, student, margin=0)
    assert verdict.non_inferior
    assert verdict.queries_for_80_power is None
    same = compare(teacher, teacher, margin=0)
    assert same.outcome == "inconclusive"
    assert "No number of queries" in same.sentence()


def test_a_teacher_that_ranks_nothing():
    """With a teacher's mean of 0 there is no margin; means and bounds are printed as they are."""
    verdict = compare(per_query([0.0, 0.0, 0.0]), per_query([0.0, 0.1, 0.2]))
    assert verdict.margin == 0
    assert verdict.outcome == "inconclusive"
    assert "%)" not in verdict.sentence().split("allowed")[0]


def test_a_margin_too_small_for_any_count():
    """A margin that would need more than 10^12 queries gives None, and ends."""
    assert compare(*pairs(0), margin=1e-300).queries_for_80_power is None
    assert compare(*pairs(0), margin=1e-6).queries_for_80_power > 10**9


def test_it_works_on_metrics():
    """A student that ranks as its teacher is non-inferior, from scores to sentence."""
    rng = np.random.default_rng(0)
    offsets = np.arange(0, 1001, 10)
    y, scores = rng.integers(0, 4, 1000), rng.normal(size=1000)
    teacher, student = ndcg(y, scores, offsets), ndcg(y, 2 * scores + 1, offsets)
    verdict = compare(teacher, student)
    assert verdict.non_inferior
    assert verdict.difference == 0
    assert verdict.metric == NAME


@pytest.mark.parametrize("function", [compare, paired_interval])
@pytest.mark.parametrize(
    ("student", "options", "error", "message"),
    [
        (per_query([1, 2], "nDCG@5"), {}, DataError, "same metric"),
        (per_query([1, 2, 3]), {}, DataError, "3 on the other"),
        (per_query([np.nan, np.nan]), {}, EmptyDataError, "check the labels"),
        (per_query([np.nan, 1]), {}, EmptyDataError, "check the labels"),
        (per_query([1, 2]), {"clusters": [1]}, DataError, "one a query"),
        (per_query([1, 2]), {"clusters": [[1, 2]]}, DataError, "one a query"),
        (per_query([1, 2]), {"clusters": [1.0, np.nan]}, DataError, "query 1 has no user"),
        (per_query([1, 2]), {"clusters": np.array(["a", None], object)}, DataError, "query 1 has no user"),
    ],
)
def test_bad_input_is_a_named_error(function, student, options, error, message):
    """Metrics, lengths and clusters that do not fit are refused by name."""
    teacher = per_query([1, np.nan] if error is EmptyDataError else [1, 2])
    with pytest.raises(error, match=message):
        function(teacher, student, **options)


@pytest.mark.parametrize("margin", [-0.01, 1.5, math.nan, math.inf])
def test_margins_out_of_range(margin):
    """A margin is a share from 0 to 1."""
    with pytest.raises(DataError, match="share"):
        compare(*pairs(0), margin=margin)


@pytest.mark.parametrize("confidence", [0, 1, 95, math.nan])
def test_confidence_out_of_range(confidence):
    """A confidence is a probability, not a percentage."""
    with pytest.raises(DataError, match=r"0\.95"):
        paired_interval(*pairs(0), confidence)
