"""The validated type of the recommender: which user took which items, and when."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from prunus.errors import DataError, EmptyDataError, SchemaError
from prunus.extras import need

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Interactions:
    """Users x items, as the list of items of each user; validated when built and trusted afterwards.

    Attributes:
        indptr: int64 [n_users + 1], from 0 to nnz, never falling; user u owns places indptr[u]:indptr[u + 1].
        items: int32 [nnz], item numbers from 0 to n_items - 1, rising inside a user (so each item once).
        n_items: items of the catalogue, those without an interaction included.
        times: int64 [nnz], when (any unit, also a place in an order); None where the source had none.
        user_ids: [n_users] names, all different; None where users are numbers from 0.
        item_ids: [n_items] names, all different; None where items are numbers from 0.
        source: what to call the data in messages.
        left_out: rows of the source that are no interaction here, by reason ("that repeat an item of the user").

    Raises:
        EmptyDataError: no users or no items.
        SchemaError: shapes do not fit each other, or names repeat.
        DataError: an item number is out of range, or items of a user do not rise.
    """

    indptr: NDArray[np.int64]
    items: NDArray[np.int32]
    n_items: int
    times: NDArray[np.int64] | None = None
    user_ids: tuple[str, ...] | None = None
    item_ids: tuple[str, ...] | None = None
    source: str = "the data"
    left_out: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, kind in (("indptr", np.int64), ("items", np.int32), ("times", np.int64)):
            column = getattr(self, name)
            if column is not None and not (isinstance(column, np.ndarray) and column.dtype == kind):
                object.__setattr__(self, name, np.ascontiguousarray(column, dtype=kind))
        if len(self.indptr) < 2 or self.n_items < 1:
            msg = f"{self.source}: got {len(self.indptr) - 1} users and {self.n_items} items; expected at least one of each"
            raise EmptyDataError(msg)
        if self.indptr[0] != 0 or self.indptr[-1] != len(self.items) or (np.diff(self.indptr) < 0).any():
            msg = (
                f"{self.source}: indptr must go from 0 to {len(self.items)} (the number of interactions), never falling"
            )
            raise SchemaError(msg)
        self._check_lengths()
        self._check_items()

    def _check_lengths(self) -> None:
        for name, length in (("times", self.nnz), ("user_ids", self.n_users), ("item_ids", self.n_items)):
            column = getattr(self, name)
            if column is not None and len(column) != length:
                msg = f"{self.source}: {name} has {len(column)} entries; expected {length}"
                raise SchemaError(msg)
            if name != "times" and column is not None and len(set(column)) != length:
                msg = f"{self.source}: {name} repeat; expected {length} different names"
                raise SchemaError(msg)

    def _check_items(self) -> None:
        bad = (self.items < 0) | (self.items >= self.n_items)
        if bad.any():
            msg = f"{self.source}: item {self.items[bad][0]}; expected numbers from 0 to {self.n_items - 1}"
            raise DataError(msg)
        falls = np.flatnonzero(np.diff(self.items) <= 0) + 1
        falls = falls[~np.isin(falls, self.indptr)]
        if len(falls):
            user = int(np.searchsorted(self.indptr, falls[0], side="right")) - 1
            msg = f"{self.source}: items of user {user} do not rise; expected each item once, in rising order"
            raise DataError(msg)

    @property
    def n_users(self) -> int:
        """Number of users, those without an interaction included."""
        return len(self.indptr) - 1

    @property
    def nnz(self) -> int:
        """Number of interactions."""
        return len(self.items)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """int64 [n_users]: items of each user."""
        return np.diff(self.indptr)

    @property
    def user_of(self) -> NDArray[np.int64]:
        """int64 [nnz]: the user of each interaction."""
        return np.repeat(np.arange(self.n_users, dtype=np.int64), np.diff(self.indptr))

    @property
    def popularity(self) -> NDArray[np.int64]:
        """int64 [n_items]: users of each item."""
        return np.bincount(self.items, minlength=self.n_items)

    def history(self, user: int) -> NDArray[np.int32]:
        """Return the items of a user, rising: int32 [n].

        Args:
            user: its number.
        """
        return self.items[self.indptr[user] : self.indptr[user + 1]]

    def users_x_items(self) -> Any:  # noqa: ANN401 - scipy has no annotations
        """Return the binary matrix X, a scipy CSR array of float32 [n_users, n_items]; its rows are sorted."""
        sparse = need("scipy.sparse", extra="io")
        ones = np.ones(self.nnz, dtype=np.float32)
        return sparse.csr_array((ones, self.items, self.indptr), shape=(self.n_users, self.n_items))

    def keep(self, mask: NDArray[np.bool_]) -> Interactions:
        """Return the interactions that a mask marks; users and items keep their numbers.

        Args:
            mask: bool [nnz].
        """
        indptr = np.concatenate([[0], np.cumsum(mask)])[self.indptr]
        times = None if self.times is None else self.times[mask]
        return replace(self, indptr=indptr, items=self.items[mask], times=times)

    def take_users(self, users: NDArray[np.int64]) -> Interactions:
        """Return some users, in the order given; items keep their numbers.

        Args:
            users: int64 [m], numbers of users.
        """
        sizes = np.diff(self.indptr)[users]
        indptr = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        places = np.arange(indptr[-1]) - np.repeat(indptr[:-1] - self.indptr[users], sizes)
        return replace(
            self,
            indptr=indptr,
            items=self.items[places],
            times=None if self.times is None else self.times[places],
            user_ids=None if self.user_ids is None else tuple(self.user_ids[user] for user in users.tolist()),
        )
