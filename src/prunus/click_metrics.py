"""Metrics of clicks: events with labels in {0, 1} and log-odds; conventions in ``docs/metrics.md``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from prunus.errors import DataError, LabelError
from prunus.metrics import real_column

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def log_loss(y: ArrayLike, logits: ArrayLike) -> float:
    """Mean negative log-likelihood of clicks, in nats.

        LL = 1/n sum over i of log(1 + exp(x_i)) - y_i x_i

    Args:
        y: [n], 0 or 1.
        logits: [n], x = log(p / (1 - p)); finite.

    Returns:
        The mean, float64; NaN of no events.

    Raises:
        DataError: a logit is not finite, or lengths differ.
        LabelError: a label is neither 0 nor 1.
    """
    labels, x = _clicks(y, logits)
    return float(np.mean(log_losses(labels, x))) if len(x) else float("nan")


def log_losses(y: NDArray[np.floating], logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Log-loss of each event, in nats, unchecked: that of a logit that is no number is no number.

    Args:
        y: float [n], 0 or 1.
        logits: float [n], log-odds of a click.

    Returns:
        float64 [n]; exact where a logit is large, as log(1 + exp(x)) is taken as max(x, 0) + log(1 + exp(-|x|)).
    """
    wide = logits.astype(np.float64)
    with np.errstate(invalid="ignore"):
        out: NDArray[np.float64] = np.logaddexp(0.0, wide) - y * wide
    return out


def entropy(rate: float) -> float:
    """Entropy of a click of this probability, in nats; 0 where the rate is 0 or 1."""
    if not 0 < rate < 1:
        return 0.0
    return float(-rate * np.log(rate) - (1 - rate) * np.log1p(-rate))


def normalized_entropy(y: ArrayLike, logits: ArrayLike, base_rate: float | None = None) -> float:
    """Log loss over that of always predicting the background click rate; below 1 is better than that.

        NE = LL / H(c),    H(c) = -c log c - (1 - c) log(1 - c)

    Models are compared on the same events at the same c only: where the click rate drifts, NE moves with c too.

    Args:
        y: [n], 0 or 1.
        logits: [n], log-odds of a click; finite.
        base_rate: c; None takes the mean of ``y``.

    Returns:
        NE; NaN of no events, or where c is 0 or 1.

    Raises:
        DataError: a logit is not finite, lengths differ, or the base rate is outside [0, 1].
        LabelError: a label is neither 0 nor 1.

    References:
        He et al., Practical lessons from predicting clicks on ads at Facebook, ADKDD 2014.

    Example:
        >>> normalized_entropy(y=[1, 0, 0, 0], logits=[0.0, -2.0, -2.0, -2.0]).__round__(4)
        0.4776
    """
    labels, x = _clicks(y, logits)
    rate = (float(labels.mean()) if len(labels) else float("nan")) if base_rate is None else base_rate
    if base_rate is not None and not 0 <= base_rate <= 1:
        msg = f"got base_rate={base_rate}; expected a share of clicks in [0, 1]"
        raise DataError(msg)
    if not 0 < rate < 1 or not len(x):
        return float("nan")
    return log_loss(labels, x) / entropy(rate)


def calibration(y: ArrayLike, logits: ArrayLike) -> float:
    """Clicks predicted over clicks seen: sum of p_i / sum of y_i; 1 is right, above 1 too optimistic.

    Args:
        y: [n], 0 or 1.
        logits: [n], log-odds of a click; finite.

    Returns:
        The ratio; NaN where there was no click.

    Raises:
        DataError: a logit is not finite, or lengths differ.
        LabelError: a label is neither 0 nor 1.
    """
    labels, x = _clicks(y, logits)
    clicks = float(labels.sum())
    # exp(-log(1 + exp(-x))) is the sigmoid of x, and no x overflows it.
    return float(np.exp(-np.logaddexp(0.0, -x)).sum()) / clicks if clicks else float("nan")


def auc(y: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve: the chance that a click has a higher score than no click, a tie counting one half.

    Args:
        y: [n], 0 or 1.
        scores: [n], finite; only their order matters.

    Returns:
        The area in [0, 1]; NaN where there are not both clicks and others.

    Raises:
        DataError: a score is not finite, or lengths differ.
        LabelError: a label is neither 0 nor 1.
    """
    labels, x = _clicks(y, scores)
    clicks = float(labels.sum())
    others = len(labels) - clicks
    if not clicks or not others:
        return float("nan")
    _, place, counts = np.unique(x, return_inverse=True, return_counts=True)
    rank = np.cumsum(counts) - (counts - 1) / 2
    # Not a dot product: BLAS takes several threads for a long one, and they go on spinning when it is done.
    return float((rank[place[labels == 1]].sum() - clicks * (clicks + 1) / 2) / (clicks * others))


def _clicks(y: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Check clicks and scores; return both as float64 [n]."""
    labels, x = real_column(y, "labels").astype(np.float64), real_column(scores, "scores").astype(np.float64)
    if len(labels) != len(x):
        msg = f"got {len(x)} scores for {len(labels)} labels; expected one of each an event"
        raise DataError(msg)
    if not np.isfinite(x).all():
        msg = f"the score of event {int(np.argmin(np.isfinite(x)))} is not finite; expected a number for each event"
        raise DataError(msg)
    if not np.isin(labels, (0, 1)).all():
        row = int(np.argmin(np.isin(labels, (0, 1))))
        msg = f"got label {labels[row]} of event {row}; expected 0 or 1: give a condition such as label>0"
        raise LabelError(msg)
    return labels, x
