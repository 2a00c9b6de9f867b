"""What the headline aims at, from the medians of the rounds; pure functions.

A ratio is taken inside a round, where both sides met the same machine, and is the median over the rounds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    Medians = dict[str, dict[str, list[float]]]

QUERY_AND_BULK = ("128", "1000")
FROM_64 = ("64", "128", "1000")


def paired(medians: Medians, slow: Sequence[str], fast: Sequence[str], batch: str) -> float | None:
    """How many times longer one side takes than the other; sides are sums of contestants.

    Args:
        medians: label -> batch -> for each round microseconds a document.
        slow: labels of the numerator.
        fast: labels of the denominator.
        batch: documents of a call.

    Returns:
        The median over the rounds; None where a contestant was not timed.
    """
    if any(batch not in medians.get(label, {}) for label in (*slow, *fast)):
        return None
    over, under = (np.sum([medians[label][batch] for label in side], axis=0) for side in (slow, fast))
    return float(np.median(over / under))


def _goal(what: str, measured: dict[str, float | None], goal: float | None, sign: str = ">=") -> dict[str, Any]:
    values = {batch: ratio for batch, ratio in measured.items() if ratio is not None}
    reached = None
    if goal is not None and values:
        reached = all(ratio >= goal if sign == ">=" else ratio <= goal for ratio in values.values())
    return {"what": what, "goal": goal, "sign": sign, "measured": values, "reached": reached}


def goals_of(medians: Medians, rows: Sequence[dict[str, Any]], student: str | None) -> list[dict[str, Any]]:
    """Compare what was measured with what was aimed at.

    Args:
        medians: label -> batch -> for each round microseconds a document.
        rows: of the comparison, to leave out engines whose scores are wrong.
        student: label of the first student; None where there is none.

    Returns:
        For each goal ``what``, ``goal`` (None: published without one), ``sign``, ``measured`` by batch, and ``reached``; no
        goal is reached by a student that is not non-inferior to the teacher.
    """

    def ratios(slow: str, fast: str, batches: Sequence[str]) -> dict[str, float | None]:
        return {batch: paired(medians, [slow], [fast], batch) for batch in batches}

    smallest = "smallest forest" if any(row.get("model") == "smallest forest" for row in rows) else "teacher"
    found = []
    if student is not None:
        wrong = {row["engine"] for row in rows if row.get("wrong")}
        int8 = [
            label for label in medians if "int8" in label and label.startswith("student in ") and label not in wrong
        ]
        best = {b: [r for r in (paired(medians, [label], [student], b) for label in int8) if r] for b in QUERY_AND_BULK}
        bound = {"1000": paired(medians, [student], ["bound: arithmetic", "bound: input stage"], "1000")}
        found += [
            _goal("student: teacher in lleaves", ratios("teacher in lleaves", student, QUERY_AND_BULK), 40),
            _goal(f"student: {smallest} in lleaves", ratios(f"{smallest} in lleaves", student, QUERY_AND_BULK), 15),
            _goal(f"student: {smallest} in treeproto", ratios(f"{smallest} in treeproto", student, QUERY_AND_BULK), 4),
            _goal(f"student: {smallest} in prunus-trees", ratios(f"{smallest} in prunus-trees", student, QUERY_AND_BULK), None),
            _goal("student: same net in onnxruntime", ratios("student in onnxruntime", student, QUERY_AND_BULK), 6),
            _goal("student: same net in the best int8 rival", {b: min(r, default=None) for b, r in best.items()}, 2),
            _goal("student / (arithmetic bound + input stage)", bound, 2, "<="),
        ]  # fmt: skip
    ranks_as_well = all(
        row.get("verdict", "non_inferior") == "non_inferior" for row in rows if row["engine"] == student
    )
    if not ranks_as_well:
        found = [
            {**goal, "what": f"{goal['what']} (it ranks worse)", "reached": None if goal["reached"] is None else False}
            for goal in found
        ]
    exact = "teacher in prunus-trees"
    found += [
        _goal("exact trees: teacher in lleaves", ratios("teacher in lleaves", exact, FROM_64), 4),
        _goal("exact trees: teacher in lleaves, one document", ratios("teacher in lleaves", exact, ("1",)), 1),
        _goal("exact trees: teacher in lightgbm", ratios("teacher in lightgbm", exact, FROM_64), 40),
        _goal("exact trees: teacher in treeproto", ratios("teacher in treeproto", exact, FROM_64), None),
    ]
    return found
