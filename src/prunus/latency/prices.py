"""Prices of a network's parts: the time model's tangent at a network of the size that a student will have."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

from prunus.engine.int8 import BLOCK
from prunus.engine.network import GROUP, InputStage, LayerShape, NetworkShape, SlotKind, count_groups
from prunus.latency.key import data_caches
from prunus.latency.terms import Work, fetch_terms

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from prunus.latency.model import LatencyModel

REFERENCE_UNITS: Final = (64, 32)
"""Hidden units of the network at which prices are taken; what pruning leaves of 128x64 is about this."""

REFERENCE_WEIGHTS: Final = 1600
"""Weights of that network; of larger ones the units grow with the square root of the weights."""

WEIGHTS_RANGE: Final = (64.0, 1e6)
"""Weights of the network at which prices are taken, least and most."""

STEP: Final = 0.2
"""Share by which weights and units are moved, up and down, to see what they cost: rows get longer by whole weights, and
kernels have steps, so a smaller one would price the step it happens to stand on."""

LEAST_SHARE: Final = 0.01
"""Least price of a weight, as a share of the time of the whole network over its weights: a calibration that was short or
disturbed may see none at all, and what costs nothing cannot be pruned for its cost."""


@dataclass(frozen=True)
class Prices:
    """What the parts of a sparse network cost, in one unit: microseconds for each document, or bytes.

    Attributes:
        fixed: call, output and everything that pruning cannot save.
        weight: one stored weight.
        unit: one unit (its bias, activation and store).
        slot: float64 [n_slots], each input slot.
        block: one stored block of four neighbouring int8 weights.
    """

    fixed: float
    weight: float
    unit: float
    slot: NDArray[np.float64]
    block: float = 0.0


def group_sizes(feature: NDArray[np.int32]) -> NDArray[np.int64]:
    """For each slot, how many of the features read stand in the group that is loaded for it."""
    read = np.unique(feature)
    group, end = [], -1
    for f in read.tolist():
        if f >= end:
            end = f + GROUP
        group.append(end)
    _, of_feature, count = np.unique(group, return_inverse=True, return_counts=True)
    return np.asarray(count[of_feature][np.searchsorted(read, feature)])


def shape_of(inputs: InputStage, layers: tuple[LayerShape, ...]) -> NetworkShape:
    """Return the shape of a network of these inputs and layers; it has the columns that the inputs need."""
    read = np.unique(inputs.feature)
    n_log = int((inputs.kind == SlotKind.LOG).sum())
    return NetworkShape(int(read[-1]) + 1, len(read), count_groups(read), inputs.n_slots, n_log, layers)


def reference(inputs: InputStage, weights: float, units: float, kind: str) -> NetworkShape:
    """Return the shape of a pruned network of so many hidden units, in two layers, its weights spread by their size.

    Args:
        inputs: the input stage.
        weights: stored, all layers.
        units: hidden units.
        kind: kernel of the hidden layers.
    """
    first, second = (max(round(units * u / sum(REFERENCE_UNITS)), 1) for u in REFERENCE_UNITS)
    sizes = (inputs.n_slots, first, second)
    places = [inputs.n_slots * first, first * second]
    density = min(max(weights - second, 1.0) / sum(places), 1.0)
    unit = BLOCK if kind == "block_int8" else 1
    hidden = tuple(
        LayerShape(a, b, max(round(density * n / unit), 1) * unit, kind)
        for a, b, n in zip(sizes[:-1], sizes[1:], places, strict=True)
    )
    return shape_of(inputs, (*hidden, LayerShape(second, 1, second, "sparse")))


def linearised(
    model: LatencyModel, inputs: InputStage, batch: int, *, target_us: float | None, cycle: int | None, kind: str
) -> Prices:
    """Price parts at a network that takes the target; see :meth:`prunus.latency.LatencyModel.prices`."""

    def us(weights: float, units: float, kernel: str = kind) -> float:
        return model.predict(reference(inputs, weights, units, kernel), batch, cycle=cycle).us_per_doc

    def units_of(weights: float) -> float:
        return sum(REFERENCE_UNITS) * max(math.sqrt(weights / REFERENCE_WEIGHTS), 1.0)

    weights = float(REFERENCE_WEIGHTS)
    if target_us is not None:
        low, high = WEIGHTS_RANGE
        while high / low > 1.01:
            weights = math.sqrt(low * high)
            low, high = (weights, high) if us(weights, units_of(weights)) < target_us else (low, weights)
    units = units_of(weights)
    total = us(weights, units)
    least = LEAST_SHARE * total / weights
    weight, quarter = (
        max(_slope(partial(us, units=units, kernel=k), weights), least) for k in ("sparse", "block_int8")
    )
    unit = _slope(lambda x: us(weights, x), units)
    slot = _slot_prices(model, inputs, batch, cycle)
    stored = weights * (weight if kind == "sparse" else quarter)
    fixed = total - stored - unit * (units + 1) - float(slot.sum())
    return Prices(max(fixed, 0.0), weight, unit, slot, BLOCK * quarter)


def _slope(f: Callable[[float], float], at: float) -> float:
    """Rise of f for each unit of its argument, over a step around ``at``; 0 where it falls."""
    low, high = at * (1 - STEP), at * (1 + STEP)
    return max((f(high) - f(low)) / (high - low), 0.0)


def _slot_prices(model: LatencyModel, inputs: InputStage, batch: int, cycle: int | None) -> NDArray[np.float64]:
    """Price each slot, us for each document: its own work, and its share of its feature's load and fetch."""
    cut = model.tiles_of(batch)

    def per_doc(term: str) -> float:
        return sum(n * model.tiles[name].get(term, 0.0) for name, _, n in cut) / batch

    shape = shape_of(inputs, (LayerShape(inputs.n_slots, 1, inputs.n_slots, "sparse"),))
    fetched = fetch_terms(Work(shape, ()), batch, max(cycle or batch, batch), data_caches())
    fetch = sum(model.fetch.get(name, 0.0) * lines for name, lines in fetched.items()) / batch / shape.n_groups
    of_feature = (per_doc("groups") + fetch) / group_sizes(inputs.feature)
    log = inputs.kind == SlotKind.LOG
    own = np.where(log, per_doc("log slots"), per_doc("slots"))
    return np.asarray(of_feature / np.bincount(inputs.feature)[inputs.feature] + own)
