"""Times of calls, and how fast the machine is while they are taken."""

from __future__ import annotations

import time
from functools import cache, partial
from typing import TYPE_CHECKING

import numpy as np

from prunus.data.ranking import Schema
from prunus.engine.network import Activation, Dense, InputStage, Network, SlotKind, Sparse
from prunus.engine.scorer import RankScorer

if TYPE_CHECKING:
    from collections.abc import Callable

    Call = Callable[[], object]

SLICE_US = 80.0
"""Length of a slice of calls, about: long against the clock's step, short against the machine's drift."""

ANCHOR_CALLS = 6
"""Calls of the anchor in a slice; it takes 2 to 4 us a call."""

LONG_WARM_CALLS = 24
"""Calls of the anchor after a call as long as a slice, before it is timed."""

QUIET = 0.25
"""Quantile of the slices that is taken for the time: what disturbs a slice only ever adds to it, and on a busy machine half
of them are disturbed (other programs are not counted, but they empty the caches)."""

LEAST_SLICES = 5
"""Slices of a measurement at least, however long a call takes."""


def scorer_of(network: Network) -> RankScorer:
    """Return a scorer of a network whose features have no names."""
    names = tuple(f"f{i}" for i in range(network.n_features))
    return RankScorer(network, Schema(names, (True,) * network.n_features))


def slice_us(call: Call, repeats: int) -> float:
    """Mean time of a call over some repeats, us of this thread's own time: what other programs take meanwhile is left out."""
    clock = time.thread_time
    start = clock()
    for _ in range(repeats):
        call()
    return (clock() - start) / repeats * 1e6


def repeats_for(call: Call) -> int:
    """How many calls fill a slice; the call runs twice to see."""
    call()
    return max(round(SLICE_US / max(slice_us(call, 1), 0.1)), 1)


def time_call(call: Call, *, seconds: float) -> float:
    """Time a call, us: a low quantile over slices of the mean of a slice.

    Args:
        call: what to time.
        seconds: to spend, about.
    """
    repeats = repeats_for(call)
    slices: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(slices) < LEAST_SLICES:
        slices.append(slice_us(call, repeats))
    return float(np.quantile(slices, QUIET))


@cache
def anchor() -> Call:
    """Make a call of one fixed network on one fixed batch: what the machine's speed is measured by."""
    rng = np.random.default_rng(12345)
    n_features, width = 24, 16
    ones = np.ones(n_features, np.float32)
    kind = np.where(np.arange(n_features) % 2, SlotKind.LOG, SlotKind.VALUE).astype(np.uint8)
    inputs = InputStage(np.arange(n_features, dtype=np.int32), kind, 0 * ones, ones, -5 * ones, 5 * ones, 0 * ones)
    weight = rng.standard_normal((width, n_features), np.float32)
    second = np.where(rng.random((width, width)) < 0.3, rng.standard_normal((width, width)), 0).astype(np.float32)
    zeros = np.zeros(width, np.float32)
    layers = (
        Dense(weight, zeros, Activation.RELU6),
        Sparse.from_dense(second, zeros, Activation.RELU6),
        Dense(weight[:1, :width], zeros[:1], Activation.IDENTITY),
    )
    X = np.exp(rng.standard_normal((128, n_features), np.float32))
    return partial(scorer_of(Network(n_features, inputs, layers)).score, X, np.empty(128, np.float32))


def anchor_slice_us(warm_calls: int = 2) -> float:
    """Time of a call of the anchor over one slice, us.

    Args:
        warm_calls: calls before it, which bring the anchor back into the caches.
    """
    call = anchor()
    for _ in range(warm_calls):
        call()
    return slice_us(call, ANCHOR_CALLS)


def time_against_anchor(call: Call, *, seconds: float) -> tuple[float, float]:
    """Time a call in turn with the anchor.

    Args:
        call: what to time.
        seconds: to spend on both, about.

    Returns:
        Times of a call and of the anchor, us: a low quantile over slices. Their ratio does not move with the machine's drift.
    """
    repeats = repeats_for(call)
    slices: list[float] = []
    anchors: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(slices) < LEAST_SLICES:
        # During a long call other programs have run, and left nothing of the anchor or of Python in the caches.
        anchors.append(anchor_slice_us(2 if repeats > 1 else LONG_WARM_CALLS))
        if repeats > 1:
            call()  # untimed: the anchor pushed some of its weights out of the first cache
        slices.append(slice_us(call, repeats))
    return float(np.quantile(slices, QUIET)), float(np.quantile(anchors, QUIET))
