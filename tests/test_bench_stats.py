"""From times of calls to rows: laws of the pure functions, and the interleaving."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunus.bench import stats

TIMES = st.lists(st.lists(st.integers(1, 10**9), min_size=1, max_size=6), min_size=1, max_size=8)


def test_summary_is_the_median_of_slice_medians() -> None:
    """One slow slice and one slow call move neither median."""
    slices = [[1000, 2000, 90_000], [3000, 3000, 3000], [4000, 5000, 500_000], [9_000_000] * 3]
    row = stats.summary(slices, 2)
    assert row["us_per_doc"] == pytest.approx(np.median([2000, 3000, 5000, 9_000_000]) / 2000)
    assert row["fastest_us_per_doc"] == pytest.approx(1.0)
    assert row["calls"] == 12


def test_p99_is_over_calls_not_over_slices() -> None:
    """One call in a thousand does not reach the 99th percentile, twenty do."""
    rare = [[1000] * 999 + [10**6]]
    common = [[1000] * 980 + [10**6] * 20]
    assert stats.summary(rare, 1)["p99_us_per_doc"] == pytest.approx(1.0)
    assert stats.summary(common, 1)["p99_us_per_doc"] == pytest.approx(1000.0)


def test_ratio_is_paired_by_round() -> None:
    """A host that slows down by ten in half of the rounds does not change a ratio that is 3 in each of them."""
    ours = [[1000], [10_000], [1000], [10_000], [1000]]
    theirs = [[3 * x for x in calls] for calls in ours]
    assert stats.paired_ratio(theirs, ours) == {"ratio": 3.0, "ratio_quartiles": [3.0, 3.0]}


@given(TIMES, st.integers(1, 1000))
def test_time_for_each_document_falls_with_the_batch(slices: list[list[int]], batch: int) -> None:
    """The same calls with a batch of b give 1/b of the time a document, in every statistic."""
    one, many = stats.summary(slices, 1), stats.summary(slices, batch)
    for name in ("us_per_doc", "p99_us_per_doc", "fastest_us_per_doc"):
        assert many[name] * batch == pytest.approx(one[name])


@given(TIMES)
def test_an_engine_is_as_fast_as_itself(slices: list[list[int]]) -> None:
    """The ratio of an engine to itself is 1, and its median lies between fastest and slowest."""
    assert stats.paired_ratio(slices, slices)["ratio"] == pytest.approx(1.0)
    medians = stats.slice_medians(slices, 1)
    assert medians.min() <= stats.summary(slices, 1)["us_per_doc"] <= medians.max()


@given(st.integers(1, 12), st.integers(0, 20))
def test_order_is_reversed_every_other_round(n: int, number: int) -> None:
    """Each round times every engine once, in the order of the round before, backwards."""
    order = stats.order_of_round(number, n)
    assert sorted(order) == list(range(n))
    assert stats.order_of_round(number + 1, n) == order[::-1]


def test_rounds_fill_the_time() -> None:
    """As many rounds as fit, and never fewer than three."""
    assert stats.rounds_for(6.0, 4, 0.03) == 50
    assert stats.rounds_for(0.0, 4, 0.03) == 3


@pytest.mark.parametrize(
    ("score", "reference", "wrong"),
    [(1.0, 1.0, False), (1.0005, 1.0, False), (1.002, 1.0, True), (5005.0, 5000.0, False), (5006.0, 5000.0, True)],
)
def test_difference_is_relative_above_one(score: float, reference: float, *, wrong: bool) -> None:
    """The tolerance is absolute for small scores and relative for large ones."""
    worst, is_wrong = stats.difference(np.array([0.0, score]), np.array([0.0, reference]), 1e-3)
    assert worst == pytest.approx(abs(score - reference))
    assert is_wrong is wrong


def test_nan_is_wrong() -> None:
    """A score that is no number is infinitely far off."""
    assert stats.difference(np.array([np.nan]), np.array([0.0]), 1e-3) == (np.inf, True)
