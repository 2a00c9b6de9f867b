"""Fit the time model to measurements: non-negative least squares on relative errors, one fit for each size of tile."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

from prunus import _native
from prunus.engine.scorer import choose_isa
from prunus.errors import CalibrationError
from prunus.extras import need
from prunus.latency.clock import scorer_of, time_against_anchor
from prunus.latency.key import data_caches, machine_key
from prunus.latency.model import FULL, HALF, TURN, LatencyModel, priced, region, tile_of
from prunus.latency.networks import random_network
from prunus.latency.samples import POOL_BYTES, Sample, collect, tile_sizes
from prunus.latency.terms import Terms, fetch_terms, network_terms

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from prunus.latency.key import Caches
    from prunus.latency.terms import Tile

LEAST_NETWORKS: Final = 40
"""Networks that a calibration times however short it is: there are about 30 prices to fit for each size of tile."""

TURN_TERMS: Final = (
    "tiles",
    "runs",
    "sparse layers",
    "dense layers",
    "int8 layers",
    "rows",
    "blocks: runs",
    "bytes of weights",
)
"""Terms that the turn to a smaller tile is fitted to: branches, and code and weights that come back to the first caches."""

LEAST_WIDE: Final = 10
"""Networks of smaller tiles that a calibration must have met to price those tiles."""

HELD_OUT: Final = 4
"""One network in so many is held out to see how large the errors are, before all of them make the model."""

LEAST_IN_REGION: Final = 12
"""Held-out times that a region of the error bars needs for a figure of its own."""

SECONDS: Final = 50.0
"""A calibration by default: over a thousand networks on a quiet core of 2023, a few hundred on a crowded one."""


def calibrate(
    seconds: float = SECONDS, *, seed: int = 0, progress: Callable[[float], None] | None = None
) -> LatencyModel:
    """Measure this CPU's kernels and fit the time model.

    Args:
        seconds: to spend, about; under a minute gives errors of a few per cent.
        seed: of the random networks.
        progress: told the share done, in [0, 1].

    Raises:
        CalibrationError: the machine was too busy for its times to make sense.
    """
    samples = collect(seconds, seed=seed, at_least=LEAST_NETWORKS, progress=progress)
    return fit(samples, call_in_anchors=empty_call_in_anchors())


def empty_call_in_anchors() -> float:
    """Time a call of no documents, as a multiple of a call of the anchor."""
    network = random_network(np.random.default_rng(0), widest=16)
    X, out = np.empty((0, network.n_features), np.float32), np.empty(0, np.float32)
    us, anchor_us = time_against_anchor(partial(scorer_of(network).score, X, out), seconds=0.2)
    return us / anchor_us


def fit(samples: Sequence[Sample], *, call_in_anchors: float) -> LatencyModel:
    """Fit the time model to measurements, and see on a part of them how large its errors are.

    Args:
        samples: of one machine.
        call_in_anchors: see :func:`empty_call_in_anchors`.

    Raises:
        CalibrationError: a call of more documents took less time.
    """
    held = samples[HELD_OUT - 1 :: HELD_OUT]
    rest = [s for number, s in enumerate(samples) if number % HELD_OUT != HELD_OUT - 1]
    trial = _fit(rest, call_in_anchors)
    cells: dict[str, list[float]] = {}
    for sample in held:
        stored = sum(layer.stored for layer in sample.work.shape.layers)
        for batch, us in sample.call_us.items():
            got = trial.call_time_us(sample.work, batch, batch) * sample.anchor_us / trial.anchor_us
            cells.setdefault(region(stored, batch, trial.lanes), []).append(abs(got / us - 1.0))
    errors = {name: float(np.quantile(e, 0.9)) for name, e in sorted(cells.items()) if len(e) >= LEAST_IN_REGION}
    overall = float(np.quantile([e for cell in cells.values() for e in cell], 0.9))
    return replace(_fit(samples, call_in_anchors), error=overall, errors=errors)


def _fit(samples: Sequence[Sample], call_in_anchors: float) -> LatencyModel:
    lanes = _native.lanes(choose_isa())
    caches = data_caches()
    anchor_us = float(np.median([s.anchor_us for s in samples]))
    tiles: dict[str, Terms] = {}
    tiles[FULL], fetch = _fit_full(samples, tile_of(4 * lanes, lanes), caches, anchor_us)
    wide = [s.work.widest_pair for s in samples if s.tile < 4 * lanes]
    halved_from = float("inf")
    if len(wide) >= LEAST_WIDE:
        narrow = [s.work.widest_pair for s in samples if s.tile == 4 * lanes]
        halved_from = (max(narrow) + min(wide)) / 2
        tiles[HALF], _ = _fit_full(samples, tile_of(2 * lanes, lanes), caches, anchor_us)
    for size in tile_sizes(lanes):
        tile = tile_of(size, lanes)
        own = [s for s in samples if size <= s.tile]
        terms = [network_terms(s.work, tile, caches) for s in own]
        near = [priced(fetch, fetch_terms(s.work, size, size, caches)) for s in own]
        us = [s.call_us[size] * anchor_us / s.anchor_us - lines for s, lines in zip(own, near, strict=True)]
        tiles[str(size)] = least_squares(terms, us)
    tiles[TURN] = {}
    call_us = call_in_anchors * anchor_us
    model = LatencyModel(machine_key(), lanes, call_us, halved_from, tiles, fetch, 0.0, anchor_us)
    return replace(model, tiles=tiles | {TURN: _fit_turn(samples, model)})


def _fit_turn(samples: Sequence[Sample], model: LatencyModel) -> Terms:
    """Fit what the smaller tile behind full ones takes beyond a call of its own."""
    caches = data_caches()
    rows, us, size_us = [], [], []
    for s in samples:
        for batch, call in s.call_us.items():
            rest = batch % s.tile
            if batch < s.tile or not rest:
                continue
            taken = call * model.anchor_us / s.anchor_us
            terms = network_terms(s.work, tile_of(rest, model.lanes), caches)
            rows.append({name: terms.get(name, 0.0) for name in TURN_TERMS})
            us.append(taken - model.call_time_us(s.work, batch, batch))
            size_us.append(taken)
    return least_squares(rows, us, size_us) if len(rows) >= LEAST_WIDE else {}


def _fit_full(samples: Sequence[Sample], tile: Tile, caches: Caches, anchor_us: float) -> tuple[Terms, Terms]:
    """Fit what a call of many tiles takes beyond a call of one: prices of a full tile, and of lines from afar."""
    rows: list[Terms] = []
    us: list[float] = []
    lines_of = fetch_terms(samples[0].work, 1, 1, caches)
    for s in samples:
        if s.tile != tile.documents:
            continue
        terms = network_terms(s.work, tile, caches)
        near = fetch_terms(s.work, tile.documents, tile.documents, caches)
        timed = [(batch, call, batch) for batch, call in s.call_us.items() if batch > tile.documents]
        timed += [(batch, call, POOL_BYTES // s.work.row_bytes) for batch, call in s.stream_us.items()]
        for batch, call, cycle in timed:
            if batch % tile.documents:
                continue
            lines = fetch_terms(s.work, batch, cycle, caches)
            more = {name: (batch // tile.documents - 1) * count for name, count in terms.items()}
            rows.append(more | {name: count - near[name] for name, count in lines.items()})
            us.append((call - s.call_us[tile.documents]) * anchor_us / s.anchor_us)
    good = [number for number, x in enumerate(us) if x > 0]
    if len(good) < 0.95 * len(us):
        msg = "the machine was too busy to be measured: calls of more documents took less time; calibrate again"
        raise CalibrationError(msg)
    prices = least_squares([rows[i] for i in good], [us[i] for i in good])
    fetch = {name: price for name, price in prices.items() if name in lines_of}
    return {name: price for name, price in prices.items() if name not in lines_of}, fetch


def _not_negative(terms: NDArray[np.float64], aim: NDArray[np.float64]) -> NDArray[np.float64]:
    """Solve least squares with prices of 0 or more."""
    optimize = need("scipy.optimize", extra="train")
    try:
        found, _ = optimize.nnls(terms, aim, maxiter=100 * terms.shape[1])
    except RuntimeError:  # it went round in circles, as it may where terms are nearly the same: slower, but sure
        found = optimize.lsq_linear(terms, aim, bounds=(0.0, np.inf)).x
    return np.asarray(found)


def least_squares(
    rows: Sequence[Terms], us: Sequence[float], size_us: Sequence[float] | None = None, *, again: int = 2
) -> Terms:
    """Find prices of 0 or more that make the relative errors small; rows far off are weighed down and the rest fitted again.

    Args:
        rows: terms of each measurement.
        us: what it took.
        size_us: what errors are taken relative to, above 0; default ``us``.
        again: fits after the first.
    """
    names = sorted({name for row in rows for name in row})
    unit = np.asarray(us if size_us is None else size_us)
    terms = np.array([[row.get(name, 0.0) for name in names] for row in rows]) / unit[:, None]
    aim = np.asarray(us) / unit
    size = terms.max(axis=0)
    size[size == 0] = 1.0
    weight = np.ones(len(rows))
    prices = np.zeros(len(names))
    for _ in range(again + 1):
        prices = _not_negative(terms / size * weight[:, None], aim * weight) / size
        error = np.abs(terms @ prices - aim)
        weight = np.sqrt(np.minimum(1.0, 3 * max(float(np.median(error)), 1e-3) / np.maximum(error, 1e-9)))
    return {name: float(price) for name, price in zip(names, prices, strict=True) if price > 0}
