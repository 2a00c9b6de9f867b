"""How well does the time model predict? Networks that it has never seen, drawn with a seed given here.

    python benchmarks/latency.py --seed 7

Each of the networks is timed in calls of a random number of documents, in turn with the anchor, so that the drift of the
machine is divided out. The calibration is a fresh one of ``--seconds`` unless ``--stored`` is given. Beside it stands the
additive form of arXiv 2202.10728, as far as it is known: rows and stored weights only, fitted to the same calibration.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import spearmanr

from prunus.bench import machine
from prunus.engine.file import write_atomically
from prunus.latency import LatencyModel, random_batch, random_network
from prunus.latency.calibration import LEAST_NETWORKS, empty_call_in_anchors, fit, least_squares
from prunus.latency.clock import scorer_of, time_against_anchor
from prunus.latency.model import FULL, HALF
from prunus.latency.samples import Sample, collect, tile_sizes
from prunus.latency.terms import Terms, Work, work_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from prunus.engine.network import Network

NETWORKS = 200
SECONDS_EACH = 0.25
ROUNDS = 3


def main() -> None:
    """Run the benchmark."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seed", type=int, default=1, help="of the networks that are predicted")
    arguments.add_argument("--networks", type=int, default=NETWORKS)
    arguments.add_argument("--seconds", type=float, default=50.0, help="of the calibration")
    arguments.add_argument("--calibration-seed", type=int, default=0)
    folder = Path(__file__).parent
    arguments.add_argument("--results", type=Path, default=folder / "results" / "latency.json")
    arguments.add_argument("--plot", type=Path, default=folder.parent / "docs" / "latency.svg")
    given = arguments.parse_args()
    start = time.perf_counter()
    samples = collect(given.seconds, seed=given.calibration_seed, at_least=LEAST_NETWORKS)
    model = fit(samples, call_in_anchors=empty_call_in_anchors())
    spent = time.perf_counter() - start
    sys.stderr.write(f"calibrated on {len(samples)} networks in {spent:.0f} s\n")
    baseline = additive(samples, model)
    rows = []
    rng = np.random.default_rng([given.seed, 2026])
    for number in range(given.networks):
        network, batch = random_network(rng), random_batch(rng)
        us = measure(network, batch, model)
        predicted = model.predict(network, batch)
        rows.append(
            {
                "layers": [list(layer) for layer in network.shape.layers],
                "features": network.n_features,
                "slots": network.inputs.n_slots,
                "batch": batch,
                "us_per_doc": us,
                "predicted": predicted.us_per_doc,
                "error_bar": predicted.error,
                "additive": baseline(work_of(network), batch),
            }
        )
        if number % 20 == 19:
            sys.stderr.write(f"{number + 1} networks, {time.perf_counter() - start:.0f} s\n")
    measured = np.array([row["us_per_doc"] for row in rows])
    values = {
        "seed": given.seed,
        "networks": given.networks,
        "calibration": {"seconds": spent, "networks": len(samples), "seed": given.calibration_seed},
        "model": figures(np.array([row["predicted"] for row in rows]), measured),
        "additive": figures(np.array([row["additive"] for row in rows]), measured),
        "inside_error_bar": float(np.mean([abs(r["predicted"] / r["us_per_doc"] - 1) <= r["error_bar"] for r in rows])),
        "errors_of_calibration": model.errors,
        "seconds": time.perf_counter() - start,
        "machine": machine.describe(),
        "rows": rows,
    }
    write_atomically(given.results, (json.dumps(values, indent=1) + "\n").encode())
    plot(rows, values, given.plot)
    shown = {key: value for key, value in values.items() if key not in ("rows", "machine")}
    sys.stdout.write(json.dumps(shown, indent=1) + "\n")


def measure(network: Network, batch: int, model: LatencyModel) -> float:
    """Time a network against the anchor, us for each document: the median of a few rounds."""
    X = np.exp(np.random.default_rng(5).standard_normal((batch, network.n_features), np.float32))
    call = partial(scorer_of(network).score, X, np.empty(batch, np.float32))
    ratios = []
    for _ in range(ROUNDS):
        us, anchor = time_against_anchor(call, seconds=SECONDS_EACH / ROUNDS)
        ratios.append(us / anchor)
    return float(np.median(ratios)) * model.anchor_us / batch


def additive(samples: list[Sample], model: LatencyModel) -> Callable[[Work, int], float]:
    """Fit T = a + b rows + c weights for each size of tile, and for a full tile more."""

    def terms(work: Work) -> Terms:
        layers = work.shape.layers
        return {
            "one": 1.0,
            "rows": float(sum(x.n_outputs for x in layers)),
            "weights": float(sum(x.stored for x in layers)),
        }

    def fitted(own: list[Sample], us: list[float]) -> Terms:
        good = [number for number, x in enumerate(us) if x > 0]
        return least_squares(
            [terms(own[i].work) for i in good], [us[i] * model.anchor_us / own[i].anchor_us for i in good]
        )

    prices = {}
    for size in tile_sizes(model.lanes):
        own = [s for s in samples if s.tile >= size]
        prices[str(size)] = fitted(own, [s.call_us[size] for s in own])
    full = 4 * model.lanes
    for name, tile in ((FULL, full), (HALF, full // 2)):
        own = [s for s in samples if s.tile == tile]
        prices[name] = fitted(own, [(s.call_us[2 * full] - s.call_us[tile]) / (2 * full / tile - 1) for s in own])

    def predict(work: Work, batch: int) -> float:
        total = 0.0
        for name, _, count in model.tiles_of(batch, work.widest_pair):
            total += count * sum(prices[name].get(key, 0.0) * value for key, value in terms(work).items())
        tile = model.full_tile(work.widest_pair)
        if batch > tile and batch % tile:
            total -= model.call_us
        return total / batch

    return predict


def figures(predicted: NDArray[np.float64], measured: NDArray[np.float64]) -> dict[str, float]:
    """Give the three figures of a predictor: absolute relative errors, and the rank correlation."""
    error = np.abs(predicted / measured - 1)
    return {
        "median_error": float(np.median(error)),
        "p95_error": float(np.quantile(error, 0.95)),
        "rank_correlation": float(spearmanr(predicted, measured).statistic),
        "largest_error": float(error.max()),
    }


def plot(rows: list[dict[str, Any]], values: dict[str, Any], path: Path) -> None:
    """Draw predicted over measured times, of the model and of the additive form, into an SVG."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "prunus"
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4.6), sharex=True, sharey=True)
    for axis, name, title in zip(axes, ("predicted", "additive"), ("time model", "rows and weights only"), strict=True):
        found = values["model" if name == "predicted" else "additive"]
        for low, high, colour in ((1, 16, "#c94f00"), (17, 64, "#0072b2"), (65, 1 << 20, "#00805f")):
            own = [row for row in rows if low <= row["batch"] <= high]
            words = f"{low} to {high} documents a call" if high < 1 << 20 else f"{low} or more"
            axis.scatter(
                [r["us_per_doc"] for r in own], [r[name] for r in own], s=12, color=colour, alpha=0.7, label=words
            )
        limits = [min(r["us_per_doc"] for r in rows) * 0.7, max(r["us_per_doc"] for r in rows) * 1.4]
        axis.plot(limits, limits, color="#888888", linewidth=0.8)
        axis.set(xscale="log", yscale="log", xlim=limits, ylim=limits, xlabel="measured, us a document")
        axis.set_title(
            f"{title}: median error {found['median_error']:.1%}, 95th percentile {found['p95_error']:.1%}", fontsize=10
        )
    axes[0].set_ylabel("predicted, us a document")
    axes[0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
