"""Measurements that the time model is fitted to: random networks on every size of tile, each in turn with the anchor."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from typing import TYPE_CHECKING, Final

import numpy as np

from prunus import _native
from prunus.engine.scorer import choose_isa
from prunus.latency.clock import scorer_of, time_against_anchor
from prunus.latency.networks import log_uniform, random_network
from prunus.latency.terms import Work, work_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from prunus.engine.scorer import RankScorer

SECONDS_EACH: Final = 1.6e-3
"""Time spent on each measurement, anchor and all; medians of about ten slices, which repeat within half a per cent."""

HEAVY: Final = 150_000
"""Stored weights of a network above which no call of many documents is timed: it would take milliseconds."""

POOL_BYTES: Final = 96 << 20
"""Bytes of documents that are read in a cycle so that they come from memory: three times a last cache of 32 MiB."""

MOST_DOCUMENTS: Final = 4096
"""Documents of the largest call that is timed."""


@dataclass(frozen=True)
class Sample:
    """What one network took.

    Attributes:
        work: the network.
        tile: documents of its full tiles, as the engine says.
        call_us: documents in a call -> us of the call, the same documents every time.
        stream_us: the same, documents that come from memory.
        anchor_us: us of a call of the anchor meanwhile; the times above are what they were at this speed.
    """

    work: Work
    tile: int
    call_us: dict[int, float]
    stream_us: dict[int, float]
    anchor_us: float


def tile_sizes(lanes: int) -> tuple[int, ...]:
    """Documents of each size of tile that is timed by itself; a call of fewer documents runs in the next one up.

    Args:
        lanes: documents in a vector.
    """
    return tuple(sorted({1, 2, 4, lanes // 2, lanes, 3 * lanes // 2, 2 * lanes, 3 * lanes, 4 * lanes} - {0}))


def full_tile(scorer: RankScorer) -> int:
    """Documents of a full tile of this network: wide ones have smaller tiles."""
    return int(scorer._native.tile)  # noqa: SLF001 - the engine knows its own tiles


def document_pool() -> NDArray[np.float32]:
    """float32, positive values over several orders of magnitude: more of them than the caches hold."""
    block = np.exp(np.random.default_rng(7).standard_normal(1 << 18, np.float32))
    return np.resize(block, POOL_BYTES // 4)


def measure(scorer: RankScorer, batches: list[int], streams: list[int], pool: NDArray[np.float32]) -> Sample:
    """Time a network.

    Args:
        scorer: of the network.
        batches: documents in a call that reads the same documents every time.
        streams: documents in a call that reads documents from memory.
        pool: float32, values to cut documents from.
    """
    network, n_features = scorer.network, scorer.network.n_features
    X = pool[: max(*batches, *streams, 1) * n_features].reshape(-1, n_features)
    out = np.empty(len(X), np.float32)
    call_us, anchors = {}, []
    for batch in batches:
        us, anchor = time_against_anchor(partial(scorer.score, X[:batch], out[:batch]), seconds=SECONDS_EACH)
        call_us[batch] = us / anchor
        anchors.append(anchor)
    stream_us = {}
    for batch in streams:
        far = pool[: len(pool) // (batch * n_features) * batch * n_features].reshape(-1, batch, n_features)
        parts = cycle([far[i] for i in np.random.default_rng(0).permutation(len(far))])
        into = out[:batch]
        us, anchor = time_against_anchor(partial(_score_next, scorer, parts, into), seconds=2 * SECONDS_EACH)
        stream_us[batch] = us / anchor
    speed = float(np.median(anchors))
    return Sample(
        work_of(network),
        full_tile(scorer),
        {batch: us * speed for batch, us in call_us.items()},
        {batch: us * speed for batch, us in stream_us.items()},
        speed,
    )


def _score_next(scorer: RankScorer, batches: Iterator[NDArray[np.float32]], out: NDArray[np.float32]) -> None:
    scorer.score(next(batches), out)


def collect(
    seconds: float, *, seed: int, at_least: int = 1, progress: Callable[[float], None] | None = None
) -> list[Sample]:
    """Draw networks and time them until the time is up.

    Args:
        seconds: to spend, about.
        seed: of the networks.
        at_least: networks to time however long it takes.
        progress: told the share done, in [0, 1].
    """
    rng = np.random.default_rng([seed, 20])
    lanes = _native.lanes(choose_isa())
    full = 4 * lanes
    pool = document_pool()
    samples: list[Sample] = []
    start = time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds or len(samples) < at_least:
        network = random_network(rng)
        stored = sum(layer.stored for layer in network.shape.layers)
        many = full * round(log_uniform(rng, 3, MOST_DOCUMENTS / full))
        heavy = stored > HEAVY
        scorer = scorer_of(network)
        batches = [*(n for n in tile_sizes(lanes) if n <= full_tile(scorer)), full, 2 * full]
        batches += [] if heavy else [4 * full, many]
        batches.append(full_tile(scorer) * int(rng.integers(1, 3)) + int(rng.integers(1, full_tile(scorer))))
        samples.append(measure(scorer, sorted(set(batches)), [] if heavy or len(samples) % 2 else [2 * full], pool))
        if progress is not None:
            progress(min(spent / seconds, 1.0))
    return samples
