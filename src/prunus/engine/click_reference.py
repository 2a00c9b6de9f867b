"""The slow twin of the click kernels, in NumPy: the meaning of a :class:`~prunus.engine.click.ClickModel`."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from prunus.engine import reference

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from prunus.engine.click import ClickModel


def inputs(model: ClickModel, ids: NDArray[np.uint64], dense: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return x, what the top network reads.

    Args:
        model: the click model.
        ids: uint64 [n, n_ids].
        dense: float32 [n, n_dense]; NaN means missing.

    Returns:
        float32 [n, n_inputs]; the products are rounded once.
    """
    first = dense if model.bottom is None else reference.run(model.bottom, dense).astype(np.float32)
    vectors = [table.rows[table.find(ids[:, field])] for field, table in enumerate(model.tables)]
    parts = [first, *vectors]
    if model.n_products:
        multiplied = vectors if model.bottom is None else parts
        with np.errstate(over="ignore", invalid="ignore"):
            parts += [
                (a.astype(np.float64) * b).sum(axis=1, keepdims=True).astype(np.float32)
                for a, b in itertools.combinations(multiplied, 2)
            ]
    return np.concatenate(parts, axis=1, dtype=np.float32)


def score(model: ClickModel, ids: NDArray[np.uint64], dense: NDArray[np.float32]) -> NDArray[np.float32]:
    """Score events, slowly and obviously.

    Args:
        model: the click model.
        ids: uint64 [n, n_ids].
        dense: float32 [n, n_dense]; NaN means missing.

    Returns:
        float32 [n], log-odds.
    """
    return reference.score(model.top, inputs(model, ids, dense))
