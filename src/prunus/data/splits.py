"""Splits of interactions: what a model learns from, what it is told of the users it is tested on, and what it must find.

Each split gives the same three parts, so that one evaluation serves them all. Where test users are also users of the
training part ("weak generalisation") their histories *are* their training items; where they are unseen ("strong
generalisation") a part of their items is their history.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from prunus.errors import DataError, EmptyDataError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from prunus.data.interactions import Interactions

_NAMES = re.compile(r"(leave-last-out|random|strong|time)(?::(0?\.[0-9]+))?")


@dataclass(frozen=True, eq=False)
class Split:
    """Three parts over one catalogue.

    Attributes:
        train: what teachers and students learn from.
        histories: what a model is told of each test user; it never recommends these items to that user.
        test: what it must find; row u belongs to row u of ``histories``. A user without test items counts for nothing.
        how: as the command line writes it, such as ``strong:0.1``.

    Raises:
        EmptyDataError: nothing to learn from, or nothing to find.
        DataError: the parts do not fit each other, or an item to find stands in the history.
    """

    train: Interactions
    histories: Interactions
    test: Interactions
    how: str

    def __post_init__(self) -> None:
        if self.train.nnz == 0 or self.test.nnz == 0:
            msg = (
                f"{self.test.source}, split {self.how!r}: {self.train.nnz} interactions to learn from and {self.test.nnz}"
                " to find; expected some of both: choose another split"
            )
            raise EmptyDataError(msg)
        items = {self.train.n_items, self.histories.n_items, self.test.n_items}
        if len(items) > 1 or self.histories.n_users != self.test.n_users:
            msg = (
                f"got catalogues of {sorted(items)} items, histories of {self.histories.n_users} and tests of"
                f" {self.test.n_users} users; expected one catalogue and the same users: read the parts together"
            )
            raise DataError(msg)
        both = np.intersect1d(pair_keys(self.histories), pair_keys(self.test), assume_unique=True)
        if len(both):
            msg = (
                f"{self.test.source}: {len(both)} interactions stand in the history and in the test part of a user;"
                " expected each in one of them: remove them from the test part"
            )
            raise DataError(msg)

    @property
    def n_test_users(self) -> int:
        """Users with something to find."""
        return int(np.count_nonzero(np.diff(self.test.indptr)))


def pair_keys(data: Interactions) -> NDArray[np.int64]:
    """Return one number for each interaction, user * n_items + item: int64 [nnz], rising.

    Args:
        data: the interactions.
    """
    return data.user_of * data.n_items + data.items


def given(train: Interactions, test: Interactions) -> Split:
    """Take a split as it is given; an interaction of both parts stays in the training part alone.

    Args:
        train: users x items.
        test: the same users and items.
    """
    if (train.n_users, train.n_items) != (test.n_users, test.n_items):
        msg = (
            f"got {train.n_users} users x {train.n_items} items to learn from and {test.n_users} x {test.n_items} to"
            " find; expected the same of both: read them together (read_given)"
        )
        raise DataError(msg)
    fresh = ~np.isin(pair_keys(test), pair_keys(train), assume_unique=True)
    return Split(train, train, test.keep(fresh), "given")


def leave_last_out(data: Interactions) -> Split:
    """Hold out the last item of each user who has two or more; of equal times, the one with the highest number.

    Args:
        data: with times.

    Raises:
        DataError: there are no times.
    """
    times = _times(data, "leave-last-out")
    order = np.lexsort((data.items, times, data.user_of))
    sizes = np.diff(data.indptr)
    mask = np.zeros(data.nnz, np.bool_)
    mask[order[data.indptr[1:][sizes >= 2] - 1]] = True
    return _weak(data, mask, "leave-last-out")


def random_by_user(data: Interactions, fraction: float = 0.1, seed: int = 0) -> Split:
    """Hold out a random share of the items of each user, never all of them.

    The share of a user's items is rounded at random, so that it is right on average for short histories, too. This is also how the training part is split again for choices: settings are chosen on a tenth of it.

    Args:
        data: the interactions.
        fraction: share held out, above 0 and below 1.
        seed: of the split.
    """
    _check_fraction(fraction)
    places = _random_places(data, seed)
    sizes = np.diff(data.indptr)
    n_held = np.minimum(np.floor(fraction * sizes + np.random.default_rng(seed + 1).random(data.n_users)), sizes - 1)
    return _weak(data, places < np.repeat(n_held, sizes), f"random:{fraction:g}")


def strong(data: Interactions, fraction: float = 0.1, seed: int = 0, *, told: float = 0.8) -> Split:
    """Hold out whole users: a model never saw them, and is told a part of their items as their history.

    Args:
        data: the interactions.
        fraction: share of the users held out, among those with two items or more.
        seed: of the split.
        told: share of a held-out user's items that is their history, rounded; at least one item is, and one is not.

    References:
        Liang et al., Variational autoencoders for collaborative filtering, WWW 2018 (80 % told).
    """
    _check_fraction(fraction)
    _check_fraction(told)
    sizes = np.diff(data.indptr)
    eligible = np.flatnonzero(sizes >= 2)
    if len(eligible) < 2:
        msg = f"{data.source}: {len(eligible)} users have two items or more; expected at least two users to split"
        raise EmptyDataError(msg)
    n = min(max(round(fraction * len(eligible)), 1), len(eligible) - 1)
    users = np.sort(np.random.default_rng(seed).permutation(eligible)[:n])
    rest = np.setdiff1d(np.arange(data.n_users), users)
    tested = data.take_users(users)
    n_items = np.repeat(sizes[users], sizes[users])
    is_told = _random_places(tested, seed + 1) < np.clip(np.rint(told * n_items), 1, n_items - 1)
    return Split(data.take_users(rest), tested.keep(is_told), tested.keep(~is_told), f"strong:{fraction:g}")


def by_time(data: Interactions, fraction: float = 0.1) -> Split:
    """Hold out the latest interactions of all; users who came after the cut have an empty history.

    Args:
        data: with times.
        fraction: share held out. Interactions at the very time of the cut all go to the test part.

    Raises:
        DataError: there are no times.
    """
    _check_fraction(fraction)
    times = _times(data, "time")
    cut = np.partition(times, int((1 - fraction) * data.nnz))[int((1 - fraction) * data.nnz)]
    return _weak(data, times >= cut, f"time:{fraction:g}")


def by_name(how: str, seed: int = 0) -> Callable[[Interactions], Split]:
    """Find a split by the name that the command line uses.

    Args:
        how: ``leave-last-out``, ``random``, ``strong`` or ``time``; the last three with a share, as in ``strong:0.2``
            (default 0.1).
        seed: of the random ones.

    Raises:
        DataError: the name is unknown.
    """
    match = _NAMES.fullmatch(how.strip())
    if match is None or (match[1] == "leave-last-out" and match[2]):
        msg = f"got split {how!r}; expected leave-last-out, random, strong or time, such as strong:0.1"
        raise DataError(msg)
    share = float(match[2] or 0.1)
    table: dict[str, Callable[[Interactions], Split]] = {
        "leave-last-out": leave_last_out,
        "random": lambda data: random_by_user(data, share, seed),
        "strong": lambda data: strong(data, share, seed),
        "time": lambda data: by_time(data, share),
    }
    return table[match[1]]


def _weak(data: Interactions, held_out: NDArray[np.bool_], how: str) -> Split:
    train = data.keep(~held_out)
    return Split(train, train, data.keep(held_out), how)


def _random_places(data: Interactions, seed: int) -> NDArray[np.int64]:
    """Shuffle each user's items: int64 [nnz], the place of each interaction among its user's, from 0."""
    order = np.lexsort((np.random.default_rng(seed).random(data.nnz), data.user_of))
    places = np.empty(data.nnz, np.int64)
    places[order] = np.arange(data.nnz) - np.repeat(data.indptr[:-1], np.diff(data.indptr))
    return places


def _times(data: Interactions, how: str) -> NDArray[np.int64]:
    if data.times is None:
        msg = f"{data.source}: has no times, and the split {how!r} needs them: name their column (--time), or split random"
        raise DataError(msg)
    return data.times


def _check_fraction(fraction: float) -> None:
    if not 0 < fraction < 1:
        msg = f"got a share of {fraction}; expected a number above 0 and below 1, such as 0.1"
        raise DataError(msg)
