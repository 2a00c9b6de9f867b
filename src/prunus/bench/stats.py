"""From the times of single calls to a row of the table; pure functions.

With t[r] the median time of a call in round r's slice of an engine, b the batch size and o our own model,

    us_per_doc = median_r t[r] / b        p99_us_per_doc = 99th percentile over all calls / b
    ratio = median_r (t[r] / t_o[r])      how many times our model is faster

A ratio is taken inside a round, where both engines met the same machine, and only then over the rounds: a noisy host
moves both sides of it alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Slices = Sequence[Sequence[int]]


def order_of_round(round_number: int, n: int) -> list[int]:
    """Give the order of a round: as listed, and backwards every other time, so that no engine always follows another.

    Args:
        round_number: from 0.
        n: number of engines.
    """
    return list(range(n)) if round_number % 2 == 0 else list(range(n))[::-1]


def slice_medians(slices: Slices, batch: int) -> NDArray[np.float64]:
    """Median time of each slice.

    Args:
        slices: for each round, the nanoseconds of its calls.
        batch: documents of a call.

    Returns:
        float64 [n_rounds], microseconds a document.
    """
    return np.array([np.median(calls) for calls in slices], np.float64) / (1000.0 * batch)


def summary(slices: Slices, batch: int) -> dict[str, Any]:
    """Summarise one engine at one batch size.

    Args:
        slices: for each round, the nanoseconds of its calls.
        batch: documents of a call.

    Returns:
        ``us_per_doc``, ``p99_us_per_doc``, ``fastest_us_per_doc`` (of the slice medians: the quiet value) and ``calls``.
    """
    medians = slice_medians(slices, batch)
    calls = np.concatenate([np.asarray(x, np.float64) for x in slices])
    return {
        "us_per_doc": float(np.median(medians)),
        "p99_us_per_doc": float(np.percentile(calls, 99)) / (1000.0 * batch),
        "fastest_us_per_doc": float(medians.min()),
        "calls": len(calls),
    }


def paired_ratio(slices: Slices, ours: Slices) -> dict[str, Any]:
    """Compare one engine with ours, round by round.

    Args:
        slices: the engine's, for each round the nanoseconds of its calls.
        ours: our model's, of the same rounds.

    Returns:
        ``ratio``, the median over the rounds, and ``ratio_quartiles``, the 25th and 75th percentile.
    """
    ratios = slice_medians(slices, 1) / slice_medians(ours, 1)
    low, middle, high = np.percentile(ratios, [25, 50, 75])
    return {"ratio": float(middle), "ratio_quartiles": [float(low), float(high)]}


def rounds_for(seconds: float, cells: int, slice_seconds: float) -> int:
    """How many rounds fit into a time, at least 3 (a median of two is no median).

    Args:
        seconds: for all timing.
        cells: slices of a round, engines x batch sizes.
        slice_seconds: length of each.
    """
    return max(3, int(seconds / max(cells * slice_seconds, 1e-9)))


def difference(scores: NDArray[np.float64], reference: NDArray[np.float64], tolerance: float) -> tuple[float, bool]:
    """Compare scores with a reference.

    Args:
        scores: float64 [n_docs].
        reference: float64 [n_docs].
        tolerance: of |scores - reference|, times max(1, |reference|).

    Returns:
        The largest absolute difference (infinite where a score is NaN), and whether any score is beyond the tolerance.
    """
    gap = np.abs(scores - reference)
    gap = np.where(np.isnan(gap), np.inf, gap)
    return float(gap.max()), bool((gap > tolerance * np.maximum(1.0, np.abs(reference))).any())
