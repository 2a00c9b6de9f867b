"""A generated ranking set, for when no data are given: what makes real ones hard, at any size.

Each document has latent traits z ~ N(0, 1); each trait shows in a group of features, once plainly and then in noisy
copies. How relevant a document is,

    u = sum of steps a [z_i > t], humps a exp(-((z_i - c) / w)^2), pairs a h(z_i - s) h(z_j - t) and switches
        a ([g > 0] z_i - [g <= 0] z_j), g a trait of the query, h a steep sigmoid, - b [the document has no history]
        + noise,

is a function that trees find easily, a line cannot follow and a very small net follows badly. The labels 0 to 4 cut u
at fixed levels. The function depends on ``n_features`` alone: sets of different seeds are samples of one world, so
one can be trained on and another tested on.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from prunus.data.ranking import RankingData
from prunus.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

SHARES_OF_LABELS = (0.60, 0.20, 0.11, 0.06, 0.03)
"""How frequent the labels 0 to 4 are."""
MIN_FEATURES = 12
_WORLD_SEED = 20220210
_GROUP = 3
_DECAY = 0.95
_DOCS_OF_THE_CUTS = 40_000


def generate_ranking(
    n_queries: int,
    seed: int,
    *,
    n_features: int = 40,
    docs_per_query: tuple[int, int] = (10, 40),
    missing: float = 0.05,
    label_noise: float = 0.6,
) -> RankingData:
    """Generate queries with documents, features of mixed kinds and labels 0 to 4.

    Args:
        n_queries: number of queries.
        seed: of the sample; the same arguments give the same bits.
        n_features: number of features, at least 12: counts with heavy tails, shares in [0, 1], scores, and traits
            of the query (the same for all its documents), all named after their kind.
        docs_per_query: smallest and largest number of documents a query; all between are equally likely.
        missing: share of the documents without a history, in [0, 1): a third of their features is NaN, and they are
            less often relevant.
        label_noise: standard deviation of the noise in u, in standard deviations of u without it.

    Returns:
        The data, with a user for each query (three queries a user on average, few users with many).

    Raises:
        DataError: an argument is out of its range.
    """
    low, high = docs_per_query
    if n_queries < 1 or n_features < MIN_FEATURES or not 1 <= low <= high or not 0 <= missing < 1 or label_noise < 0:
        msg = (
            f"got n_queries={n_queries}, n_features={n_features}, docs_per_query={docs_per_query}, missing={missing},"
            f" label_noise={label_noise}; expected at least 1 query, at least {MIN_FEATURES} features, 1 <= low <= high,"
            " 0 <= missing < 1 and noise of 0 or more"
        )
        raise DataError(msg)
    rng = np.random.default_rng([seed, n_queries])
    world = _world(n_features)
    sizes = rng.integers(low, high + 1, size=n_queries)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    traits = world.draw(rng, sizes, missing)
    utility = world.utility(traits) - world.centre
    utility += label_noise * world.spread * rng.standard_normal(len(utility))
    users = np.minimum(rng.zipf(1.6, size=n_queries), max(n_queries // 3, 1))
    return RankingData(
        X=world.features(rng, traits),
        y=np.searchsorted(world.cuts * np.hypot(1, label_noise), utility).astype(np.float32),
        offsets=offsets,
        feature_names=world.names,
        query_ids=np.arange(1, n_queries + 1),
        users=rng.permutation(max(n_queries // 3, 1))[users - 1],
        source="the generated set",
    )


@dataclass(frozen=True)
class _Traits:
    """What documents are, before it shows in features.

    Attributes:
        z: float32 [n_traits, n_docs].
        g: float32 [n_query_traits, n_docs], one value for all documents of a query.
        fresh: bool [n_docs]: documents without a history.
    """

    z: NDArray[np.float32]
    g: NDArray[np.float32]
    fresh: NDArray[np.bool_]


@dataclass(frozen=True)
class _World:
    """The fixed part: which feature shows which trait, and what makes a document relevant."""

    n_features: int
    n_traits: int
    n_query_traits: int
    cuts: NDArray[np.float64]
    centre: float
    spread: float

    def draw(self, rng: np.random.Generator, sizes: NDArray[np.int64], missing: float) -> _Traits:
        """Draw documents for queries of the given sizes."""
        n_docs = int(sizes.sum())
        z = rng.standard_normal((self.n_traits, n_docs), dtype=np.float32)
        # The traits of a query's documents share a part: some queries have better candidates than others.
        z *= np.float32(0.9)
        z += np.repeat(np.float32(0.436) * rng.standard_normal((self.n_traits, len(sizes)), np.float32), sizes, axis=1)
        g = np.repeat(rng.standard_normal((self.n_query_traits, len(sizes)), dtype=np.float32), sizes, axis=1)
        return _Traits(z, g, rng.random(n_docs, dtype=np.float32) < missing)

    def utility(self, traits: _Traits) -> NDArray[np.float64]:
        """Say how relevant each document is, without noise."""
        rng = np.random.default_rng([_WORLD_SEED, self.n_features, 1])
        z, g = traits.z, traits.g
        u = np.zeros(z.shape[1])
        for i in range(self.n_traits):
            j, k, size = (i + 1) % self.n_traits, i % self.n_query_traits, _DECAY**i
            if i % 3 == 0:
                u += size * rng.choice([-0.7, 0.7]) * (z[i] > rng.uniform(-0.8, 0.8))
            centre, width = rng.uniform(-0.7, 0.7), rng.uniform(0.4, 0.65)
            u += size * rng.uniform(0.9, 1.4) * np.exp(-(((z[i] - centre) / width) ** 2))
            u += (
                size
                * rng.uniform(1.0, 1.6)
                * _above(z[i], rng.uniform(-0.5, 0.5))
                * _above(z[j], rng.uniform(-0.5, 0.5))
            )
            u += size * rng.uniform(0.6, 0.9) * np.where(g[k] > 0, z[i], -z[j])
        u -= 1.5 * traits.fresh
        return u

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the features, after their kind."""
        return tuple(f"{kind}_{trait + 1}{suffix}" for kind, trait, suffix in self.layout())

    def layout(self) -> Iterator[tuple[str, int, str]]:
        """Yield kind, trait and suffix of each feature: groups of a plain feature and noisy copies, then the query's."""
        kinds = ("count", "share", "score")
        copies = ("", "_week", "_month", "_year")
        for j in range(self.n_features - self.n_query_traits):
            copy, trait = divmod(j, self.n_traits)
            yield kinds[trait % 3], trait, copies[copy]
        for k in range(self.n_query_traits):
            yield "query", k, ""

    def features(self, rng: np.random.Generator, traits: _Traits) -> NDArray[np.float32]:
        """Show the traits as features, float32 [n_docs, n_features]."""
        n_docs = traits.z.shape[1]
        X = np.empty((n_docs, self.n_features), dtype=np.float32)
        for j, (kind, trait, suffix) in enumerate(self.layout()):
            value = traits.g[trait] if kind == "query" else traits.z[trait]
            if suffix:
                value = np.float32(0.8) * value + np.float32(0.6) * rng.standard_normal(n_docs, dtype=np.float32)
            if kind == "count":
                X[:, j] = np.floor(np.exp(np.float32(1.6) * value + np.float32(3)))
            elif kind == "share":
                X[:, j] = 1 / (1 + np.exp(np.float32(-1.5) * value - np.float32(1)))
            else:
                X[:, j] = value
            if trait % 3 == 0 and kind != "query":
                X[traits.fresh, j] = np.nan
        return X


def _above(z: NDArray[np.float32], threshold: float) -> NDArray[np.float32]:
    odds: NDArray[np.float32] = np.exp(np.float32(-4) * (z - np.float32(threshold)))
    return np.float32(1) / (np.float32(1) + odds)


@lru_cache(maxsize=8)
def _world(n_features: int) -> _World:
    n_query_traits = max(2, n_features // 10)
    n_traits = -(-(n_features - n_query_traits) // _GROUP)
    rng = np.random.default_rng([_WORLD_SEED, n_features, 0])
    world = _World(n_features, n_traits, n_query_traits, np.zeros(4), 0.0, 1.0)
    u = world.utility(world.draw(rng, np.full(_DOCS_OF_THE_CUTS // 25, 25), 0.05))
    cuts = np.quantile(u - u.mean(), np.cumsum(SHARES_OF_LABELS[:-1]))
    return _World(n_features, n_traits, n_query_traits, cuts, float(u.mean()), float(u.std()))
