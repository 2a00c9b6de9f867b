"""Students of one budget brought to the same time, as timed in turn in one run: who is off is trained again.

Each student was aimed at the budget by a measurement of its own, minutes apart from the others'. Timed side by side they
are up to a tenth off, for caches and memory are then as fast for one as for the other. What counts is the ratio

    r_i = median_t ( us_i[t] / median_j us_j[t] )

over rounds t, and it is aimed at 1. A student's lever is the target that it is pruned to, or its first width where it
keeps its weights; seeds of such a kind share their shape, so they move together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import binom

from prunus.bench import stats
from prunus.bench.quick import slices_in_turn
from prunus.design import PRUNED

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Row = dict[str, Any]

NEAR = 0.05
"""A student is at the budget when it measures within this share of it."""
AIM = 0.9
"""A student is trained again when it misses by more than this share of that: the run that counts measures once more."""
CORRECTIONS = 3
"""Times that students are trained again at most."""


def in_turn(scorers: Sequence[object], X: NDArray[np.float32], batch: int, rounds: int) -> list[Row]:
    """Time students in turn.

    Args:
        scorers: the students.
        X: float32 [n_docs, n_features].
        batch: documents of a call.
        rounds: slices of each.

    Returns:
        For each ``us_in_turn``, ``ratio_to_median`` (r_i above) and ``ratio_interval``: 95 % of that median over the rounds, from
        its order statistics, so of this run's noise only.
    """
    us = np.array([stats.slice_medians(own, batch) for own in slices_in_turn(scorers, X, batch, rounds)])
    ratios = np.sort(us / np.median(us, axis=0), axis=1)
    low = max(int(binom.ppf(0.025, rounds, 0.5)) - 1, 0)
    return [
        {
            "us_in_turn": float(np.median(times)),
            "ratio_to_median": float(np.median(own)),
            "ratio_interval": [float(own[low]), float(own[-1 - low])],
        }
        for times, own in zip(us, ratios, strict=True)
    ]


def lever(row: Row) -> float:
    """What a student's time is moved by: the target it was pruned to, or its first width."""
    return float(row["target"] if row["kind"] in PRUNED else row["shape"].split("x")[1])


def level(
    rows: list[Row], timed_in_turn: Callable[[list[Row]], list[Row]], again: Callable[[Row, float], Row]
) -> tuple[list[Row], list[Row]]:
    """Train students again until all of them take the same time, at most :data:`CORRECTIONS` times.

    Args:
        rows: students of one budget.
        timed_in_turn: gives ``ratio_to_median`` of each.
        again: trains a student with another lever; gives the row itself back where nothing can be moved.

    Returns:
        The students and their last times, which no selection followed: those of the students returned.
    """
    timed = timed_in_turn(rows)
    for _ in range(CORRECTIONS):
        ratios: dict[tuple[str, int], list[float]] = {}
        for row, time in zip(rows, timed, strict=True):
            ratios.setdefault(_together(row), []).append(time["ratio_to_median"])
        before = rows
        rows = [_corrected(row, ratios[_together(row)], again) for row in rows]
        if all(new is old for new, old in zip(rows, before, strict=True)):
            break
        timed = timed_in_turn(rows)
    return rows, timed


def _together(row: Row) -> tuple[str, int]:
    return row["kind"], row["seed"] if row["kind"] in PRUNED else -1


def _corrected(row: Row, ratios: list[float], again: Callable[[Row, float], Row]) -> Row:
    if all(abs(ratio - 1) <= NEAR * AIM for ratio in ratios):
        return row
    tried = [*row.get("tried", []), [lever(row), float(np.median(ratios))]]
    new = again(row, next_lever(tried, 1.0))
    return row if new is row else {**new, "tried": tried}


def next_lever(tried: Sequence[Sequence[float]], wanted: float) -> float:
    """Aim anew: on the line through the two nearest measurements on either side, or in proportion to the last.

    Args:
        tried: (lever, time) of each attempt, the last one last.
        wanted: time.
    """
    under = max((pair for pair in tried if pair[1] <= wanted), default=None)
    over = min((pair for pair in tried if pair[1] > wanted), default=None)
    if under is None or over is None or under[0] >= over[0]:
        last, time = tried[-1]
        return last * wanted / time
    share = (wanted - under[1]) / (over[1] - under[1])
    return under[0] + share * (over[0] - under[0])
