"""Interactions for tests: users with tastes, so that what they took says what they will take."""

from __future__ import annotations

import numpy as np

from prunus.data.interactions import Interactions


def make_interactions(n_users: int = 60, n_items: int = 40, seed: int = 0, *, n_each: int = 8) -> Interactions:
    """Draw, for each user, up to ``n_each`` items near the user's place on a line; times are a shuffle of all places."""
    rng = np.random.default_rng(seed)
    centre = rng.random(n_users) * n_items
    drawn = np.rint(centre[:, None] + rng.normal(0, n_items / 10, (n_users, n_each))).astype(int) % n_items
    rows = [np.unique(items) for items in drawn]
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    return Interactions(indptr, np.concatenate(rows), n_items, times=rng.permutation(indptr[-1]))
