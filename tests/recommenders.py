"""Random recommenders and histories for the tests of the engine."""

from __future__ import annotations

import numpy as np

from prunus.engine.levels import quantise, quantise_rows
from prunus.engine.recommender import DenseFactors, SparseFactors, SparseRows


def make_rows(rng, n_rows, n_factors, stored, *, spread=0):
    """Make rows of about ``stored`` normal values each, ``spread`` more or fewer, at random places."""
    lengths = np.clip(stored + rng.integers(-spread, spread + 1, n_rows), 0, n_factors)
    factor = [np.sort(rng.choice(n_factors, length, replace=False)) for length in lengths]
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    value = rng.normal(size=indptr[-1]).astype(np.float32)
    value[value == 0] = 1
    return SparseRows(n_factors, indptr, np.concatenate(factor) if factor else [], value)


def make_sparse(rng, n_items=50, n_factors=32, stored=6, *, bits=None, tied=True, scale=False, bias=False, item_item=False, spread=2, per_row=False):  # fmt: skip
    """Make sparse factors; ``bits`` quantises them."""
    width = n_items if item_item else n_factors

    def rows():
        made = make_rows(rng, n_items, width, stored, spread=spread)
        return made if bits is None else quantise_rows(made, bits, per_row=per_row)

    decode = rows()
    encode = None if tied or item_item else rows()
    return SparseFactors(decode, encode, **_per_item(rng, n_items, scale, bias), item_item=item_item)


def make_dense(rng, n_items=50, n_factors=8, *, bits=None, tied=True, scale=False, bias=False, per_row=False):
    """Make dense factors; ``bits`` quantises them."""
    step = None
    decode = rng.normal(size=(n_items, n_factors)).astype(np.float32)
    encode = None if tied else rng.normal(size=(n_items, n_factors)).astype(np.float32)
    if bits is not None:
        used = np.full((n_items, 1), 0.05, np.float32) if per_row else np.float32([0.05])
        decode, encode = (None if part is None else quantise(part, bits, used)[0] for part in (decode, encode))
        step = used.ravel()
    return DenseFactors(decode, encode, **_per_item(rng, n_items, scale, bias), step=step)


def _per_item(rng, n_items, scale, bias):
    return {
        "encode_scale": rng.uniform(0.5, 2, n_items).astype(np.float32) if scale else None,
        "bias": rng.normal(size=n_items).astype(np.float32) if bias else None,
        "popular": rng.permutation(n_items)[: n_items // 2],
    }


def make_histories(rng, n_users, n_items, longest=12):
    """Make histories of 0 to ``longest`` items, the second of them empty: (indptr, items)."""
    lengths = rng.integers(0, min(longest, n_items) + 1, n_users)
    lengths[1:2] = 0
    items = [np.sort(rng.choice(n_items, length, replace=False)) for length in lengths]
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), np.concatenate(items).astype(np.int32)
