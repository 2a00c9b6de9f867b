"""The study of kinds: students of one budget are trained again until they take the same time."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from prunus.bench import quick

if TYPE_CHECKING:
    from collections.abc import Iterator

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the scripts of the benchmarks be imported, and forget them afterwards."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield
    for name in [name for name in sys.modules if name.startswith("kinds")]:
        del sys.modules[name]


def row(kind: str, seed: int, **lever: float) -> dict[str, Any]:
    """Make a student as far as levelling looks at it."""
    return {"kind": kind, "seed": seed, "target": lever.get("target", 0.0), "shape": f"44x{lever.get('width', 8):g}x4"}


def timed_by(us: Any) -> Any:
    """Time students by a function instead of a clock."""

    def timed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        times = np.array([us(one) for one in rows])
        return [{"ratio_to_median": float(ratio)} for ratio in times / np.median(times)]

    return timed


def again(one: dict[str, Any], lever: float) -> dict[str, Any]:
    """Move a student's lever, as far as it goes."""
    if one["kind"] == "dense":
        width = round(lever)
        return one if one["shape"] == f"44x{width}x4" else {**one, "shape": f"44x{width}x4"}
    target = min(lever, 2.0)
    return one if one["target"] == target else {**one, "target": target}


def us_of(one: dict[str, Any]) -> float:
    """Give a time that is no multiple of the lever: inputs take time whatever is pruned."""
    from kinds_level import lever

    return 0.4 + 0.01 * lever(one) if one["kind"] == "dense" else 0.3 + 0.7 * float(one["target"])


def test_students_come_to_the_same_time() -> None:
    """Students up to a third off end within 5 %, seeds of a dense kind in one shape; those that were near stay as they were."""
    from kinds_level import NEAR, level

    near = [row("sparse", seed, target=1.0) for seed in range(5)]
    dense = [row("dense", seed, width=70 + seed) for seed in (0, 0, 0)]
    blocks = [row("block", 0, target=0.6), row("block", 1, target=1.4)]
    rows, timed = level([*near, *dense, *blocks], timed_by(us_of), again)
    assert all(abs(one["ratio_to_median"] - 1) <= NEAR for one in timed)
    assert all(new is old for new, old in zip(rows, near, strict=False))
    assert len({one["shape"] for one in rows if one["kind"] == "dense"}) == 1
    assert all(one["tried"][0][0] == old["target"] for one, old in zip(rows[-2:], blocks, strict=True))


def test_a_student_at_its_end_stops_the_corrections() -> None:
    """One whose lever cannot move on is given back as it is, off as it is, without being timed for ever."""
    from kinds_level import CORRECTIONS, level

    calls = []

    def timed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        calls.append(len(rows))
        return timed_by(lambda one: 0.5 if one["kind"] == "block" else 1.0)(rows)

    whole = row("block", 0, target=2.0)
    rows, found = level([row("sparse", 0), row("sparse", 1), whole], timed, again)
    assert rows[2] is whole
    assert found[2]["ratio_to_median"] == 0.5
    assert len(calls) == 1

    moving = row("block", 0, target=1e-6)  # moves, and its time does not
    level([row("sparse", 0), row("sparse", 1), moving], timed, again)
    assert len(calls) == 1 + 1 + CORRECTIONS


def test_ratios_are_to_the_median_of_each_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that slows down for some rounds moves no ratio; the interval holds the median and not all rounds."""
    import kinds_level

    drift = np.array([1, 1, 5, 1, 3, 1, 1, 2, 1, 1, 1])
    noise = np.array([0, 1, -2, 3, -4, 5, -5, 4, -3, 2, -1]) * 1e-3
    us = [time * drift * (1 + (noise if index == 2 else 0)) for index, time in enumerate((1.0, 1.0, 1.1))]
    slices = [[[int(1e6 * round_us)] * 3 for round_us in own] for own in us]
    monkeypatch.setattr(kinds_level, "slices_in_turn", lambda *_: slices)
    found = kinds_level.in_turn([None] * 3, np.zeros((1, 1), np.float32), 1000, len(drift))
    assert [one["ratio_to_median"] for one in found] == pytest.approx([1.0, 1.0, 1.1], rel=1e-6)
    assert found[0]["us_in_turn"] == pytest.approx(1.0)
    low, high = found[2]["ratio_interval"]
    assert 1.1 * (1 - 5e-3) < low < 1.1 < high < 1.1 * (1 + 5e-3)


def test_every_scorer_is_timed_in_every_round() -> None:
    """Slices of all scorers come back, each round's own, with the documents cut into calls of the size asked for."""
    seen: list[tuple[int, int]] = []
    scorers = [lambda X, i=i: seen.append((i, len(X))) for i in range(3)]
    slices = quick.slices_in_turn(scorers, np.zeros((10, 2), np.float32), 4, rounds=5, slice_seconds=1e-5)
    assert [len(own) for own in slices] == [5, 5, 5]
    assert all(len(calls) >= 3 for own in slices for calls in own)
    assert {size for _, size in seen} == {4}
