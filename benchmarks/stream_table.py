"""The table of benchmarks/stream.py: gaps to the dense net, intervals, and what it took."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
from stream import FOR_ALL_DENSITIES, MAIN, RESAMPLES, TUNED, WINDOW, Cell
from stream_methods import BASELINES, METHODS, OURS, RECIPE, REFERENCE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

Results = dict[int, dict[str, Any]]
"""What was measured of one method, by seed."""


def table(cells: Sequence[Cell], work: Path) -> dict[str, Any]:
    """Make the table of the cells that were run.

    Args:
        cells: which to look for.
        work: folder of their results.
    """
    found: dict[tuple[str, float], dict[str, Results]] = {}
    for cell in cells:
        file = cell.file(work)
        if file.exists():
            result = json.loads(file.read_text())
            found.setdefault((cell.stream, cell.density), {}).setdefault(cell.method, {})[cell.seed] = result
    for (stream, density), methods in found.items():
        for name in FOR_ALL_DENSITIES:
            if density != MAIN and name in found[stream, MAIN]:
                methods[name] = found[stream, MAIN][name]
    ready = {key: methods for key, methods in found.items() if REFERENCE in methods}
    return {"tables": [_one(stream, density, methods) for (stream, density), methods in sorted(ready.items())]}


def _one(stream: str, density: float, methods: dict[str, Results]) -> dict[str, Any]:
    dense = methods[REFERENCE]
    rows = []
    for name in METHODS:
        seeds = sorted(set(methods.get(name, {})) & set(dense))
        if seeds:
            rows.append(_row(name, {s: methods[name][s] for s in seeds}, {s: dense[s] for s in seeds}))
    return {
        "stream": stream,
        "fewer_operations": round(1 - density, 3),
        "rows": rows,
        "compared": _best_of(BASELINES, rows, methods, dense),
        "compared_with_recipe": _best_of(RECIPE, rows, methods, dense),
    }


def _best_of(
    names: Sequence[str], rows: list[dict[str, Any]], methods: dict[str, Results], dense: Results
) -> dict[str, Any]:
    """Hold ours against the one with the smallest gap of some methods; nothing where ours, or all of them, were not run."""
    best = min((row for row in rows if row["method"] in names), key=lambda row: row["gap"], default=None)
    if OURS not in methods or best is None:
        return {}
    other = methods[best["method"]]
    seeds = sorted(set(methods[OURS]) & set(other) & set(dense))
    if not seeds:
        return {}
    runs = ([learner[seed] for seed in seeds] for learner in (methods[OURS], other, dense))
    return {"ours": OURS, "best": best["method"], "seeds": seeds, **_compared(*runs)}


def _row(name: str, ours: Results, dense: Results) -> dict[str, Any]:
    gaps = [_gap(_settled(ours[s]).sum(), _settled(dense[s]).sum()) for s in ours]
    one = next(iter(ours.values()))
    return {
        "method": name,
        "rate": one["rate"],
        "seeds": len(ours),
        "gap": float(np.mean(gaps)),
        "interval": _interval([ours[s] for s in ours], [dense[s] for s in ours]),
        "gaps": [round(gap, 3) for gap in gaps],
        "ne": float(np.mean([_ne(result) for result in ours.values()])),
        "cpu": float(np.mean([ours[s]["cpu_s"] / dense[s]["cpu_s"] for s in ours])),
        "events_per_cpu_s": float(np.mean([result["events"] / result["cpu_s"] for result in ours.values()])),
        "train_flops": one["flops"]["train"] / next(iter(dense.values()))["flops"]["train"],
        "serve_flops": one["flops"]["serve"] / next(iter(dense.values()))["flops"]["serve"],
        "density_by_layer": [round(one, 4) for one in one["density_by_layer"]],
        "widths": one["widths"],
    }


def _gap(loss: float, reference: float) -> float:
    """By how much a loss is above another, in %; NE is the loss over one background entropy, which falls out."""
    return float(100 * (loss / reference - 1))


def _settled(result: dict[str, Any]) -> NDArray[np.float64]:
    """Loss of each window of the part that is reported; batches left over at the end are a window of their own."""
    loss = np.asarray(result["loss"])[int(TUNED * len(result["loss"])) :]
    return np.add.reduceat(loss, np.arange(0, len(loss), WINDOW))


def _ne(result: dict[str, Any]) -> float:
    """NE of the part that is reported, over the entropy of its own share of clicks."""
    first = int(TUNED * len(result["loss"]))
    batch = result["events"] / len(result["loss"])
    p = np.mean(result["clicks"][first:]) / batch
    return float(np.mean(result["loss"][first:]) / batch / -(p * np.log(p) + (1 - p) * np.log1p(-p)))


def _resampled(*methods: list[dict[str, Any]]) -> list[NDArray[np.float64]]:
    """Losses of each method, over seeds and windows drawn anew, the same for all methods: [RESAMPLES] each."""
    rng = np.random.default_rng(0)
    losses = [np.array([_settled(result) for result in results]) for results in methods]
    n_seeds, n_windows = losses[0].shape
    seeds = rng.integers(0, n_seeds, (RESAMPLES, n_seeds))
    windows = rng.integers(0, n_windows, (RESAMPLES, n_windows))
    return [loss[seeds[:, :, None], windows[:, None, :]].sum(axis=(1, 2)) for loss in losses]


def _interval(ours: list[dict[str, Any]], dense: list[dict[str, Any]]) -> list[float]:
    """95 % of the gap."""
    a, b = _resampled(ours, dense)
    return [float(x) for x in np.percentile(100 * (a / b - 1), (2.5, 97.5))]


def _compared(ours: list[dict[str, Any]], other: list[dict[str, Any]], dense: list[dict[str, Any]]) -> dict[str, Any]:
    """Difference of two gaps, ours less the other's, and 95 % of it."""
    a, b, d = _resampled(ours, other, dense)
    totals = [sum(_settled(result).sum() for result in results) for results in (ours, other, dense)]
    drawn = np.percentile(100 * (a - b) / d, (2.5, 97.5))
    return {"difference": float(100 * (totals[0] - totals[1]) / totals[2]), "interval": [float(x) for x in drawn]}
