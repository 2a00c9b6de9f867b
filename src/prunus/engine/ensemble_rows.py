"""Generated rows that are hard on trees: what a compiled ensemble is proved on, and timed on where there are no data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from prunus.engine.ensemble import NUMERIC, ZERO

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from prunus.engine.ensemble import Ensemble

INF = np.float32(np.inf)

NUMBERS = np.array([0.0, -0.0, ZERO, -ZERO, 1.1e-35, -1.1e-35, 1e-40, -1e-40, 1.0, -1.0, 3e38, -3e38], np.float32)
"""Numbers that some library treats in a way of its own, or that rounding spoils."""

NO_CODES = np.array([-1.0, -7.0, -0.5, 0.5, 1e9, 3e9, 16777216.0, -3e38, 3e38], np.float32)
"""Numbers that are no codes, or far ones."""


def pools(ensemble: Ensemble, *, infinities: bool = True) -> list[NDArray[np.float32]]:
    """Return for each feature the values at which something could go wrong.

    Args:
        ensemble: the trees.
        infinities: whether infinities are among them (XGBoost takes none).

    Returns:
        For each feature: every threshold and its two neighbours in float32, every code of a set, the next one and a
        number between, and after them, to make up a fifth of all or more, special numbers and NaN.
    """
    special = np.concatenate([NUMBERS, [INF, -INF] if infinities else [], np.full(4, np.nan)]).astype(np.float32)
    order = np.argsort(ensemble.feature, kind="stable")
    starts = np.searchsorted(ensemble.feature[order], np.arange(1, ensemble.n_features))
    found = []
    for nodes in np.split(order, starts):
        numeric = ensemble.category[nodes] == NUMERIC
        cuts = np.unique(ensemble.threshold[nodes][numeric])
        with np.errstate(over="ignore"):
            beside = [np.nextafter(cuts, -INF), cuts, np.nextafter(cuts, INF)]
        values = np.unique(np.concatenate(beside))
        values = values if infinities else values[np.isfinite(values)]
        sets = np.unique(ensemble.category[nodes][~numeric]).tolist()
        if sets:
            codes = np.concatenate([ensemble.set_code[ensemble.set_start[s] : ensemble.set_start[s + 1]] for s in sets])
            codes = np.unique(codes).astype(np.float32)
            values = np.concatenate([values, codes, codes + np.float32(1), codes + np.float32(0.5), NO_CODES])
        again = 1 + len(values) // (4 * len(special))
        found.append(np.concatenate([values, np.tile(special, again)]))
    return found


def hard_rows(
    ensemble: Ensemble, seed: int = 0, *, least: int = 1000, most: int = 10_000, infinities: bool = True
) -> NDArray[np.float32]:
    """Generate rows in which each feature takes all values of its pool, in an order of its own.

    Args:
        ensemble: the trees.
        seed: of the orders.
        least: rows at least; pools are repeated.
        most: rows at most; the largest pools are not used up then.
        infinities: whether infinities are among the values.

    Returns:
        float32 [n, n_features].
    """
    rng = np.random.default_rng(seed)
    values = pools(ensemble, infinities=infinities)
    n = min(max(least, *(len(pool) for pool in values)), most)
    X = np.empty((n, ensemble.n_features), np.float32)
    for feature, pool in enumerate(values):
        X[:, feature] = rng.permutation(np.resize(rng.permutation(pool), n))
    return X
