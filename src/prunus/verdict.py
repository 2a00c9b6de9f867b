"""Does the student rank as well as the teacher? A paired test of non-inferiority, by how much, with an interval.

For each query q that counts for both, d_q = metric of the student - metric of the teacher. The difference reported is
the mean of d_q over queries. Queries of one cluster (one user, say) are not independent, so its standard error is the
cluster-robust one: with G clusters, n queries and u_g the sum of d_q - mean over the queries of cluster g,

    se^2 = G / (G - 1) * (sum over g of u_g^2) / n^2,        interval = mean +- t(G - 1) * se

where t(G - 1) is Student's quantile. Where each query is a cluster of its own this is the paired t-test.
"""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from prunus.errors import DataError, EmptyDataError
from prunus.extras import need

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from prunus.metrics import PerQuery

Outcome = Literal["non_inferior", "inferior", "inconclusive"]

CONFIDENCE = 0.95
"""Of each one-sided bound of a verdict."""

POWER = 0.80
"""Probability of the outcome ``non_inferior`` that ``queries_for_80_power`` aims at."""


_OF_USERS = {"queries": "users", "query": "user", "One query or one user": "One user"}
_PLAIN = re.compile("One query or one user|queries|query")


@dataclass(frozen=True)
class Verdict:
    """Outcome of a paired test of non-inferiority, student against teacher.

    The outcome is

    - ``non_inferior`` where lower > -margin: the student is worse by less than the margin, if at all;
    - ``inferior`` where upper < -margin: the student is worse by more than the margin;
    - ``inconclusive`` otherwise: the data allow both.

    Each of the first two is wrong in at most 5 % of repetitions, the margin being taken as known.

    Attributes:
        outcome: see above.
        difference: mean over queries of student - teacher, in units of the metric.
        lower: one-sided 95 % lower bound of the difference (-inf where there are fewer than two clusters).
        upper: one-sided 95 % upper bound of the difference (+inf where there are fewer than two clusters).
        margin: what the student may lose, in units of the metric: relative_margin * teacher_mean.
        relative_margin: what the student may lose, as a share of the teacher's mean.
        teacher_mean: over the queries counted.
        student_mean: over the queries counted.
        queries: number of queries counted: those that neither side leaves out.
        clusters: number of clusters among them.
        queries_for_80_power: queries that would give the outcome ``non_inferior`` with probability 0.80 *if the true
            difference is 0*, given the spread seen here and clusters of the sizes seen here; None where that cannot be
            said (fewer than two clusters, no margin) or exceeds 10^12.
        metric: the metric with its convention.
    """

    outcome: Outcome
    difference: float
    lower: float
    upper: float
    margin: float
    relative_margin: float
    teacher_mean: float
    student_mean: float
    queries: int
    clusters: int
    queries_for_80_power: int | None
    metric: str

    @property
    def non_inferior(self) -> bool:
        """Whether the student is shown to rank as well as the teacher, within the margin."""
        return self.outcome == "non_inferior"

    def to_json(self) -> dict[str, object]:
        """Return plain values for JSON; bounds that are not finite become None."""
        plain = {name: _finite_or_none(value) for name, value in asdict(self).items()}
        return plain | {"non_inferior": self.non_inferior}

    def sentence(self, of: Literal["query", "user"] = "query") -> str:
        """Say the outcome in plain English, for a reader who knows no statistics.

        Args:
            of: what a query is called: each is a user where lists are recommended.
        """
        said = self._sentence()
        return said if of == "query" else _PLAIN.sub(lambda found: _OF_USERS[found[0]], said)

    def _sentence(self) -> str:
        short = _short_name(self.metric)
        means = (
            f"mean {short} {self.student_mean:.4f}, against {self.teacher_mean:.4f} ({self._share(self.difference)})"
        )
        count = f"{self.queries:,} {'query' if self.queries == 1 else 'queries'}"
        if self.clusters != self.queries:
            count += f" of {self.clusters:,} users or groups"
        allowed = f"{self.relative_margin * 100:.3g} %"
        if self.outcome == "non_inferior":
            how = f"at least {self._worst(self.lower)}" if self.lower > 0 else f"at most {self._worst(self.lower)}"
            return (
                f"The student ranks as well as the teacher: {means}. With 95 % confidence it is {how}"
                f" (allowed: {allowed} worse). Tested on {count}."
            )
        if self.outcome == "inferior":
            return (
                f"The student ranks worse than the teacher: {means}. With 95 % confidence it is at least"
                f" {self._worst(self.upper)} (allowed: {allowed}). Tested on {count}."
            )
        return (
            f"These data cannot tell whether the student ranks as well as the teacher: {means}, on {count}."
            f" {self._why_open(allowed)}"
        )

    def _why_open(self, allowed: str) -> str:
        if not math.isfinite(self.lower):
            return "One query or one user alone shows no spread, so no interval can be given: test on more."
        spread = f"It could be {self._worst(self.lower)} (allowed: {allowed})."
        if self.queries_for_80_power is None:
            return f"{spread} No number of queries is known to settle it."
        if self.queries_for_80_power > self.queries:
            return (
                f"{spread} If it is truly as good, about {self.queries_for_80_power:,} queries would show it with a"
                " probability of 80 %."
            )
        return (
            f"{spread} About {self.queries_for_80_power:,} queries are enough to show it of a student that is truly as"
            " good, so this one is probably a little worse; more queries would say by how much."
        )

    def _share(self, difference: float) -> str:
        if self.teacher_mean == 0:
            return f"{difference:+.4f}"
        return f"{difference / self.teacher_mean * 100:+.2f} %"

    def _worst(self, bound: float) -> str:
        side = "better" if bound > 0 else "worse"
        if self.teacher_mean == 0:
            return f"{abs(bound):.4f} {side}"
        return f"{abs(bound) / self.teacher_mean * 100:.2f} % {side}"


def compare(
    teacher: PerQuery, student: PerQuery, *, margin: float = 0.01, clusters: ArrayLike | None = None
) -> Verdict:
    """Test whether the student is non-inferior to the teacher, paired by query.

    Queries that either side leaves out are left out of both. With all differences equal (a student that ranks exactly
    as its teacher) the interval is a point and the outcome follows from it; with one query or one cluster there is
    no interval and the outcome is ``inconclusive``.

    Args:
        teacher: the metric of the teacher's scores.
        student: the same metric of the student's, over the same queries.
        margin: what the student may lose, as a share of the teacher's mean (0.01 is 1 %), from 0 to 1.
        clusters: [n_queries], the user of each query or any other id; None where each query stands for itself.

    Returns:
        The verdict.

    Raises:
        DataError: metrics or lengths differ, a query has no cluster, or the margin is out of range.
        EmptyDataError: no query counts for both.
        MissingExtraError: scipy is not installed.
    """
    if not 0 <= margin <= 1:
        msg = f"got margin {margin}; expected a share of the teacher's mean from 0 to 1, such as 0.01"
        raise DataError(msg)
    pairs = _paired(teacher, student, clusters)
    teacher_mean, student_mean = float(pairs.baseline.mean()), float(pairs.other.mean())
    allowed = margin * teacher_mean
    quantile = _t_quantile(CONFIDENCE, pairs.n_clusters - 1)
    lower, upper = pairs.mean - quantile * pairs.error, pairs.mean + quantile * pairs.error
    outcome: Outcome = "inconclusive"
    if lower > -allowed:
        outcome = "non_inferior"
    elif upper < -allowed:
        outcome = "inferior"
    return Verdict(
        outcome=outcome,
        difference=pairs.mean,
        lower=lower,
        upper=upper,
        margin=allowed,
        relative_margin=float(margin),
        teacher_mean=teacher_mean,
        student_mean=student_mean,
        queries=len(pairs.other),
        clusters=pairs.n_clusters,
        queries_for_80_power=_queries_for_power(pairs, allowed),
        metric=teacher.name,
    )


def paired_interval(
    baseline: PerQuery, other: PerQuery, confidence: float = 0.95, *, clusters: ArrayLike | None = None
) -> tuple[float, float, float]:
    """Return the mean of other - baseline over queries, with a two-sided interval, for tables.

    Args:
        baseline: the metric of what is compared with (the teacher, say); **its values are subtracted**.
        other: the same metric of a row of the table.
        confidence: of the interval, above 0 and below 1.
        clusters: [n_queries], as in :func:`compare`.

    Returns:
        (difference, lower, upper), in units of the metric; the bounds are infinite where there are fewer than two
        clusters.

    Raises:
        DataError: metrics or lengths differ, or the confidence is out of range.
        EmptyDataError: no query counts for both.
        MissingExtraError: scipy is not installed.
    """
    if not 0 < confidence < 1:
        msg = f"got confidence {confidence}; expected a number above 0 and below 1, such as 0.95"
        raise DataError(msg)
    pairs = _paired(baseline, other, clusters)
    quantile = _t_quantile((1 + confidence) / 2, pairs.n_clusters - 1)
    return pairs.mean, pairs.mean - quantile * pairs.error, pairs.mean + quantile * pairs.error


@dataclass(frozen=True, eq=False)
class _Pairs:
    """The queries that count for both sides.

    Attributes:
        baseline: float64 [n], values of the one.
        other: float64 [n], values of the other.
        mean: of other - baseline.
        error: cluster-robust standard error of that mean; infinite with fewer than two clusters.
        n_clusters: number of clusters.
    """

    baseline: NDArray[np.float64]
    other: NDArray[np.float64]
    mean: float
    error: float
    n_clusters: int


def _paired(baseline: PerQuery, other: PerQuery, clusters: ArrayLike | None) -> _Pairs:
    if baseline.name != other.name:
        msg = f"got {baseline.name} on one side and {other.name} on the other; expected the same metric and convention"
        raise DataError(msg)
    if len(baseline.values) != len(other.values):
        msg = (
            f"got {len(baseline.values)} queries on one side and {len(other.values)} on the other; expected the same"
            " queries in the same order"
        )
        raise DataError(msg)
    counted = ~(np.isnan(baseline.values) | np.isnan(other.values))
    n = int(np.count_nonzero(counted))
    if n == 0:
        msg = (
            f"{baseline.name}: none of the {len(counted)} queries has a relevant document, so nothing can be compared;"
            " expected at least one label above 0: check the labels"
        )
        raise EmptyDataError(msg)
    left, right = baseline.values[counted], other.values[counted]
    residual = right - left
    mean = float(residual.mean())
    # Subtracting a rounded mean would leave noise where all differences are the same number.
    residual = np.zeros(n) if (residual == residual[0]).all() else residual - mean
    member = np.arange(n) if clusters is None else _cluster_of_query(clusters, len(counted))[counted]
    sizes = np.bincount(member)
    n_clusters = int(np.count_nonzero(sizes))
    error = math.inf
    if n_clusters > 1:
        sums = np.bincount(member, weights=residual)
        error = math.sqrt(n_clusters / (n_clusters - 1) * float(sums @ sums)) / n
    return _Pairs(left, right, mean, error, n_clusters)


def _cluster_of_query(clusters: ArrayLike, n_queries: int) -> NDArray[np.int64]:
    """Number the clusters: int64 [n_queries]. Works for ids of any kind that a dict can hold."""
    ids = np.asarray(clusters)
    if ids.ndim != 1 or len(ids) != n_queries:
        msg = f"got clusters of shape {ids.shape} for {n_queries} queries; expected one a query"
        raise DataError(msg)
    numbers: dict[object, int] = {}
    member = np.empty(n_queries, np.int64)
    for query, identity in enumerate(ids.tolist()):
        if identity is None or identity != identity:  # noqa: PLR0124 - NaN differs from itself
            msg = f"query {query} has no user or cluster (got {identity}); expected an id for each query"
            raise DataError(msg)
        member[query] = numbers.setdefault(identity, len(numbers))
    return member


def _t_quantile(probability: float, freedom: int) -> float:
    """Return Student's quantile; 1 with no degree of freedom, where the standard error is infinite anyway."""
    return float(need("scipy.special", extra="io").stdtrit(freedom, probability)) if freedom > 0 else 1.0


def _queries_for_power(pairs: _Pairs, margin: float) -> int | None:
    """Return the queries that show non-inferiority with probability POWER if the true difference is 0.

    The standard error falls as 1 / sqrt(n) when clusters keep their sizes, so the number is the least with
    n >= ((t_0.95 + t_0.80) * se_now * sqrt(n_now) / margin)^2, with the degrees of freedom that n queries would have.
    """
    if not math.isfinite(pairs.error) or margin <= 0:
        return None
    n_now = len(pairs.other)
    spread = pairs.error * math.sqrt(n_now) / margin
    if spread > 4e5:  # beyond 10^12 queries
        return None

    def enough(n: int) -> bool:
        freedom = n * pairs.n_clusters // n_now - 1
        if freedom < 1:
            return False
        return n >= ((_t_quantile(CONFIDENCE, freedom) + _t_quantile(POWER, freedom)) * spread) ** 2

    too_few, high = 1, 2
    while not enough(high):
        too_few, high = high, 2 * high
    while high - too_few > 1:
        middle = (too_few + high) // 2
        too_few, high = (too_few, middle) if enough(middle) else (middle, high)
    return high


def _finite_or_none(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _short_name(metric: str) -> str:
    """Drop the convention in brackets: ``nDCG(dcg='exp-log2', empty='skip')@10`` to ``nDCG@10``."""
    head, bracket, tail = metric.partition("(")
    return head + tail.rpartition(")")[2] if bracket else metric
