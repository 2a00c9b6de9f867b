"""Choosing how EASE is fitted, on a tenth of the training part."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from prunus import topk
from prunus.data import splits
from prunus.data.interactions import Interactions
from prunus.teacher.linear import EaseSettings, fit_ease, needs_double

if TYPE_CHECKING:
    from collections.abc import Callable

    from prunus.data.splits import Split

MOST_ITEMS = 8_000
"""Settings of a larger catalogue are chosen on its most popular items, so many: a fit takes time as the cube of them."""
MOST_USERS = 20_000
"""Users that settings are judged by; of more, a sample: ranking 8,000 items for all would take longer than the fit."""
L2 = (30.0, 100.0, 300.0, 800.0, 2000.0)
STEPS = (("growth", (0.0, 0.5)), ("long_histories", (0.0, 1.0)), ("popular_items", (0.0, 0.2)))
START = EaseSettings(growth=0.25, long_histories=0.5, popular_items=0.1)
"""Where the search begins: the best settings found on MovieLens-1M (docs/recommenders.md)."""


@dataclass(frozen=True)
class Trial:
    """One setting tried.

    Attributes:
        settings: of EASE.
        value: mean nDCG@k on the held-out tenth.
    """

    settings: EaseSettings
    value: float


def choose_ease(
    train: Interactions, k: int = 20, *, seed: int = 0, tell: Callable[[Trial], None] | None = None
) -> list[Trial]:
    """Try settings of EASE: ``l2`` first, up or down while it helps, then each of the others in turn.

    Of a catalogue larger than :data:`MOST_ITEMS` only settings are tried whose fit to all of it keeps to float32, where
    there are such.

    Args:
        train: the training part; a tenth of each user's items is held out of it.
        k: places of the nDCG.
        seed: of what is held out, and of the users that judge.
        tell: told of each trial.

    Returns:
        The trials, the best first; equal ones in the order tried.
    """
    split = tenth(train, MOST_ITEMS, seed)
    histories, test = split.histories, split.test
    tried: dict[EaseSettings, Trial] = {}

    large = train.n_items > MOST_ITEMS

    def value(settings: EaseSettings) -> float:
        if large and needs_double(train, settings):
            return -math.inf  # its fit would take twice the memory, and the time
        if settings not in tried:
            lists = topk.recommend(fit_ease(split.train, settings).scores, histories, k)
            tried[settings] = Trial(settings, topk.ndcg(lists, test, k).mean)
            if tell is not None:
                tell(tried[settings])
        return tried[settings].value

    at = len(L2) // 2
    while at + 1 < len(L2) and value(replace(START, l2=L2[at])) == -math.inf:
        at += 1
    for step in (1, -1):
        while 0 <= at + step < len(L2) and value(replace(START, l2=L2[at + step])) > value(replace(START, l2=L2[at])):
            at += step
    best = replace(START, l2=L2[at])
    for name, options in STEPS:
        best = max([best] + [replace(best, **{name: option}) for option in options], key=value)
    if not tried:  # there is nothing but float64
        large = False
        value(best)
    return sorted(tried.values(), key=lambda trial: -trial.value)


def tenth(train: Interactions, most_items: int, seed: int) -> Split:
    """Hold out a tenth of the training part, to choose by.

    Args:
        train: the training part.
        most_items: of a larger catalogue the most popular items, so many, stand for all.
        seed: of what is held out, and of the users that judge: all of them, or :data:`MOST_USERS`.
    """
    split = splits.random_by_user(most_popular(train, most_items), 0.1, seed)
    judged = np.sort(np.random.default_rng(seed).permutation(np.flatnonzero(split.test.lengths))[:MOST_USERS])
    return replace(split, histories=split.histories.take_users(judged), test=split.test.take_users(judged))


def most_popular(data: Interactions, n_items: int) -> Interactions:
    """Return the interactions with the most popular items alone, numbered afresh in their old order.

    Args:
        data: the interactions.
        n_items: items to keep; of equal popularity, those with the lower numbers.
    """
    if n_items >= data.n_items:
        return data
    kept = np.sort(np.argsort(-data.popularity, kind="stable")[:n_items])
    part = data.keep(np.isin(data.items, kept))
    return Interactions(
        part.indptr,
        np.searchsorted(kept, part.items).astype(np.int32),
        n_items,
        times=part.times,
        user_ids=data.user_ids,
        item_ids=None if data.item_ids is None else tuple(data.item_ids[item] for item in kept.tolist()),
        source=data.source,
    )
