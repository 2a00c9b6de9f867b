"""Timing inside this process: quick, for choices that ``compress`` makes; a published figure comes from ``run``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from prunus.bench import stats
from prunus.bench.worker import batches_of, timed_slice

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from prunus.engine.network import Network

    Scorer = Callable[[NDArray[np.float32]], Any]

BATCHES = (1, 20, 128, 1000)
"""Documents of a call: one, a page, a query, a bulk job."""


def _callable(scorer: Any) -> Scorer:  # noqa: ANN401 - anything with .score, or a function
    call: Scorer = getattr(scorer, "score", scorer)
    return call


def enough_rows(X: NDArray[np.float32], batch: int) -> NDArray[np.float32]:
    """Repeat the rows of X until there are two different batches; X itself where there are.

    Args:
        X: float32 [n_docs, n_features].
        batch: rows of the largest batch.
    """
    X = np.ascontiguousarray(X, np.float32)
    return X if len(X) >= 2 * batch else np.ascontiguousarray(np.resize(X, (2 * batch, X.shape[1])))


def time_scorer(scorer: object, X: NDArray[np.float32], batch: int, seconds: float = 0.2) -> tuple[float, float]:
    """Time one scorer.

    Args:
        scorer: anything with ``.score(X)``, or a function of X.
        X: float32 [n_docs, n_features]; batches are cut from it in turn.
        batch: documents of a call.
        seconds: to spend, in slices of about 30 ms.

    Returns:
        Median over slices of the slices' median, and 99th percentile over calls; microseconds a document.
    """
    row = compare_in_process([scorer], X, batch, rounds=stats.rounds_for(seconds, 1, 0.03))[0]
    return row["us_per_doc"], row["p99_us_per_doc"]


def slices_in_turn(
    scorers: Sequence[object], X: NDArray[np.float32], batch: int, rounds: int, slice_seconds: float = 0.03
) -> list[list[list[int]]]:
    """Time several scorers in turn, inside this process; the order is reversed every other round.

    Args:
        scorers: each with ``.score(X)``, or a function of X.
        X: float32 [n_docs, n_features]; batches are cut from it in turn.
        batch: documents of a call.
        rounds: slices of each scorer.
        slice_seconds: length of a slice.

    Returns:
        For each scorer and round the nanoseconds of its calls.
    """
    calls = [_callable(scorer) for scorer in scorers]
    batches = batches_of(enough_rows(X, batch), batch)
    slices: list[list[list[int]]] = [[] for _ in calls]
    first = [0] * len(calls)
    for number in range(rounds):
        for index in stats.order_of_round(number, len(calls)):
            times, first[index] = timed_slice(calls[index], batches, slice_seconds, first[index])
            slices[index].append(times)
    return slices


def compare_in_process(
    scorers: Sequence[object],
    X: NDArray[np.float32],
    batch: int,
    rounds: int = 9,
    slice_seconds: float = 0.03,
) -> list[dict[str, Any]]:
    """Time several scorers in turn, inside this process; the order is reversed every other round.

    Args:
        scorers: each with ``.score(X)``, or a function of X.
        X: float32 [n_docs, n_features]; batches are cut from it in turn.
        batch: documents of a call.
        rounds: slices of each scorer.
        slice_seconds: length of a slice.

    Returns:
        For each scorer, in the order given, ``us_per_doc``, ``p99_us_per_doc``, ``fastest_us_per_doc``, ``calls``,
        ``ratio`` (its time over the first scorer's, paired by round) and ``ratio_quartiles``.
    """
    slices = slices_in_turn(scorers, X, batch, rounds, slice_seconds)
    return [{**stats.summary(own, batch), **stats.paired_ratio(own, slices[0])} for own in slices]


def measure(
    model: str | Path | Network,
    X: NDArray[np.float32],
    batches: Sequence[int] = BATCHES,
    seconds: float = 0.2,
) -> dict[str, dict[str, float]]:
    """Time one of our models at several batch sizes.

    Args:
        model: a model file, or a network.
        X: float32 [n_docs, n_features].
        batches: documents of a call.
        seconds: to spend on each batch size.

    Returns:
        ``{"us_per_doc": {"20": ...}, "p99_us_per_doc": {"20": ...}}``.
    """
    from prunus.data.ranking import Schema
    from prunus.engine.file import load
    from prunus.engine.scorer import RankScorer

    if isinstance(model, (str, Path)):
        scorer = load(model)
    else:
        names = tuple(f"f{index}" for index in range(model.n_features))
        scorer = RankScorer(model, Schema(names, (True,) * model.n_features))
    timed = {str(batch): time_scorer(scorer, X, batch, seconds) for batch in batches}
    return {
        "us_per_doc": {batch: median for batch, (median, _) in timed.items()},
        "p99_us_per_doc": {batch: p99 for batch, (_, p99) in timed.items()},
    }
