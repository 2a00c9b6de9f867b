"""A generated stream of clicks whose drift is known: where it is, what it is, and how well a perfect model would do.

An event has eight ids, drawn by Zipf's law, and sixteen dense features that show latent traits g ~ N(0, 1). A concept k
gives the log-odds of a click

    x = -2.8 + 1.5 f_k,   f_k = (.5 sum of w_k[id] + .5 sum over pairs in P_k of <u[id_a], u[id_b]>
                                + .7 v_k . relu(W_k [g, u] + b_k)) brought to mean 0 and variance 1:

effects of single ids, products of pairs of fields, of which each concept has others, and a net. Drift moves from one
concept to the next; the features themselves do not drift, but for new ids.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from prunus.click_metrics import normalized_entropy
from prunus.data.events import Events, EventSchema, hash_integers
from prunus.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Drift = Literal["none", "abrupt", "gradual", "recurring", "new-ids"]
"""What changes: nothing; the concept at once, three times; the concept all the time; two concepts in turn; the ids."""

IDS_OF_FIELDS = (20_000, 10_000, 5_000, 2_000, 500, 100, 50, 20)
"""How many ids each field has at a time."""
N_DENSE = 16
SWAPS = (0.2, 0.5, 0.8)
"""Where the concept changes at once, as shares of the stream."""
TURNS = 10
"""How often two concepts take turns."""
WINDOWS = 40
"""In how many windows ids are replaced."""
CHURN = 0.05
"""Share of the ids of each field that a window replaces."""
_WORLD_SEED = 20201016
_EFFECTS = 1 << 16
_RANK = 4
_HIDDEN = 64
_BLOCK = 1 << 14


@dataclass(frozen=True, eq=False)
class DriftingEvents:
    """A stream with its truth.

    Attributes:
        kind: what drifts.
        schema: what each column is.
        events: the events, in time order.
        columns: the same as raw columns (integers as ids), as a file of events holds them.
        logit: float64 [n], the true log-odds of each click.
        concept: float64 [n], the concept at work; 1.25 is three quarters of concept 1 and one of concept 2, as angles.
        points: the events at which something changes at once (``"gradual"``: at which a concept has been left behind).
    """

    kind: Drift
    schema: EventSchema
    events: Events
    columns: dict[str, NDArray[np.generic]]
    logit: NDArray[np.float64]
    concept: NDArray[np.float64]
    points: tuple[int, ...]

    @property
    def optimal_ne(self) -> float:
        """NE of the true probabilities: what no model can beat but by luck."""
        return normalized_entropy(self.events.label, self.logit)


def drifting_events(kind: Drift, n: int, seed: int) -> DriftingEvents:
    """Generate a stream of clicks, about one in nine of which is one.

    Args:
        kind: what drifts.
        n: events, at least 100.
        seed: of the sample; the same arguments give the same bits. Streams of different seeds are samples of one world.

    Raises:
        DataError: an argument is out of its range.
    """
    if kind not in get_args(Drift) or n < 100:
        msg = f"got kind={kind!r}, n={n}; expected one of {', '.join(get_args(Drift))} and at least 100 events"
        raise DataError(msg)
    rng = np.random.default_rng([seed, n, get_args(Drift).index(kind)])
    ids = _draw_ids(rng, n)
    traits = rng.standard_normal((n, N_DENSE), dtype=np.float32)
    windows = np.arange(n) * WINDOWS // n
    concept, points = _concepts(kind, n)
    if kind == "new-ids":
        points = tuple(np.flatnonzero(np.diff(windows)) + 1)
        ids = _replace(rng, ids, windows)
    raw = ids + 10_000_000 * np.arange(1, len(IDS_OF_FIELDS) + 1)
    hashes = hash_integers(raw)
    logit = _logits(hashes, traits, concept)
    names = tuple(f"id_{j + 1}" for j in range(ids.shape[1]))
    dense = _show(rng, traits)
    time = np.cumsum(rng.exponential(50, n)).astype(np.int64)
    label = (rng.random(n) * (1 + np.exp(-logit)) < 1).astype(np.float32)
    schema = EventSchema(names, tuple(dense), "click", ("ms",), ("event",))
    columns: dict[str, NDArray[np.generic]] = {name: raw[:, j] for j, name in enumerate(names)}
    columns |= dense | {"click": label.astype(np.int8), "ms": time, "event": np.arange(n)}
    events = Events(
        hashes, np.column_stack([*dense.values()]), label, time, key=hash_integers(hash_integers(np.arange(n)))
    )
    return DriftingEvents(kind, schema, events, columns, logit, concept, tuple(int(point) for point in points))


def _concepts(kind: Drift, n: int) -> tuple[NDArray[np.float64], tuple[int, ...]]:
    """Give the concept of each event, and where it changes."""
    share = np.arange(n) / n
    if kind == "gradual":
        concept = len(SWAPS) * share
    elif kind == "abrupt":
        concept = np.searchsorted(SWAPS, share, side="right").astype(np.float64)
    elif kind == "recurring":
        concept = np.floor(share * TURNS) % 2
    else:
        concept = np.zeros(n)
    return concept, tuple(np.flatnonzero(np.diff(np.floor(concept))) + 1)


def _draw_ids(rng: np.random.Generator, n: int) -> NDArray[np.int64]:
    """Draw the rank of each id, int64 [n, n_fields], by Zipf's law with exponent 1.1."""
    ids = np.empty((n, len(IDS_OF_FIELDS)), np.int64)
    for j, size in enumerate(IDS_OF_FIELDS):
        shares = np.cumsum(np.arange(1, size + 1) ** -1.1)
        ids[:, j] = np.searchsorted(shares, rng.random(n) * shares[-1])
    found: NDArray[np.int64] = np.minimum(ids, np.array(IDS_OF_FIELDS) - 1)
    return found


def _replace(rng: np.random.Generator, ids: NDArray[np.int64], windows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Let new ids take the place, and the popularity, of old ones, window by window."""
    found = ids.copy()
    for j, size in enumerate(IDS_OF_FIELDS):
        replaced = rng.random((WINDOWS, size)) < CHURN
        replaced[0] = False
        # The name of an id is its rank and how many have had the rank before it.
        found[:, j] += 100_000 * np.cumsum(replaced, axis=0)[windows, ids[:, j]]
    return found


def _show(rng: np.random.Generator, traits: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Show the traits as counts with heavy tails, shares and scores; of the first four, one value in twenty is missing."""
    shown: dict[str, NDArray[np.float32]] = {}
    for j in range(N_DENSE):
        kind = ("count", "share", "score")[j % 3]
        value: NDArray[np.floating] = traits[:, j]
        if kind == "count":
            value = np.floor(np.exp(np.float32(1.5) * value + np.float32(3)))
        elif kind == "share":
            value = 1 / (1 + np.exp(-value))
        if j < 4:
            value = np.where(rng.random(len(value)) < 0.05, np.float32(np.nan), value)
        shown[f"{kind}_{j + 1}"] = value.astype(np.float32)
    return shown


def _logits(
    hashes: NDArray[np.uint64], traits: NDArray[np.float32], concept: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Give the true log-odds: between two concepts f turns from one to the next, so that its variance stays."""
    whole = np.floor(concept).astype(int)
    f = np.empty(len(concept))
    for k in range(whole.max() + 1):
        rows = np.flatnonzero(whole == k)
        angle = np.pi / 2 * (concept[rows] - k)
        f[rows] = np.cos(angle) * _concept(k).value(hashes[rows], traits[rows])
        if angle.any():
            f[rows] += np.sin(angle) * _concept(k + 1).value(hashes[rows], traits[rows])
    return -2.8 + 1.5 * f


@dataclass(frozen=True)
class _Concept:
    """What makes a click likely."""

    effects: NDArray[np.float32]
    latent: NDArray[np.float32]
    pairs: NDArray[np.int64]
    W: NDArray[np.float32]
    b: NDArray[np.float32]
    v: NDArray[np.float32]
    mean: float = 0.0
    spread: float = 1.0

    def value(self, hashes: NDArray[np.uint64], traits: NDArray[np.float32]) -> NDArray[np.float64]:
        """Give f, float64 [n]."""
        f = np.empty(len(hashes))
        for start in range(0, len(hashes), _BLOCK):
            rows = slice(start, start + _BLOCK)
            places = (hashes[rows] % np.uint64(_EFFECTS)).astype(np.int64)
            u = self.latent[places]
            single = self.effects[places, np.arange(places.shape[1])].sum(axis=1)
            products = (u[:, self.pairs[:, 0]] * u[:, self.pairs[:, 1]]).sum(axis=(1, 2))
            inputs = np.column_stack([traits[rows], u[:, :, 0]])
            net = np.maximum(inputs @ self.W + self.b, 0) @ self.v
            f[rows] = 0.5 * single / np.sqrt(8) + 0.5 * products / np.sqrt(len(self.pairs) * _RANK) + 0.7 * net
        found: NDArray[np.float64] = (f - self.mean) / self.spread
        return found


@lru_cache(maxsize=8)
def _concept(k: int) -> _Concept:
    """Make concept k, of mean 0 and variance 1 on a reference sample. The ids' latent vectors are those of the world."""
    world, own = np.random.default_rng(_WORLD_SEED), np.random.default_rng([_WORLD_SEED, k])
    n_fields = len(IDS_OF_FIELDS)
    latent = world.standard_normal((_EFFECTS, _RANK), dtype=np.float32)
    every = np.array([(a, b) for a in range(n_fields) for b in range(a)])
    W = own.standard_normal((N_DENSE + n_fields, _HIDDEN), dtype=np.float32) / np.float32(np.sqrt(6))
    b = own.standard_normal(_HIDDEN, dtype=np.float32)
    v = own.standard_normal(_HIDDEN, dtype=np.float32) / np.float32(np.sqrt(_HIDDEN))
    effects = own.standard_normal((_EFFECTS, n_fields), dtype=np.float32)
    raw = _Concept(effects, latent, every[own.permutation(len(every))[:8]], W, b, v)
    sample = np.random.default_rng([_WORLD_SEED, 1])
    ids = _draw_ids(sample, 2 * _BLOCK) + 10_000_000 * np.arange(1, n_fields + 1)
    f = raw.value(hash_integers(ids), sample.standard_normal((2 * _BLOCK, N_DENSE), dtype=np.float32))
    return _Concept(effects, latent, raw.pairs, W, b, v, float(f.mean()), float(f.std()))
