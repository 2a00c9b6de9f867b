"""Histories as the engine takes them: users x items in CSR form, item numbers rising inside a user."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from prunus.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import ArrayLike, NDArray

_array, _int32 = np.ndarray, np.dtype(np.int32)

Histories = Any
"""``(indptr, items)``; an object with ``indptr`` and ``items`` (:class:`~prunus.data.interactions.Interactions`) or
``indptr`` and ``indices`` (a SciPy CSR matrix); or a list of lists of item numbers."""


def to_csr(histories: Histories, n_items: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return histories in CSR form, sorted, each item of a user once.

    Args:
        histories: see :data:`Histories`.
        n_items: items that the model knows.

    Returns:
        int32 [n_users + 1] and int32.

    Raises:
        DataError: they have another form, or an item is unknown.
    """
    indptr, items = _parts(histories)
    lengths = indptr[1:] - indptr[:-1]
    if len(indptr) < 1 or indptr[0] != 0 or indptr[-1] != len(items) or (lengths < 0).any():
        msg = f"got an indptr that does not rise from 0 to {len(items)}, the number of items in the histories"
        raise DataError(msg)
    bad = (items < 0) | (items >= n_items)
    if bad.any():
        user = int(np.searchsorted(indptr, np.flatnonzero(bad)[0], side="right")) - 1
        msg = (
            f"got item {items[bad][0]} in the history of user {user}; expected 0 to {n_items - 1}: leave out what the"
            " model does not know, or give names to recommend_ids(unknown='skip')"
        )
        raise DataError(msg)
    owner = np.repeat(np.arange(len(lengths), dtype=np.int64), lengths)
    pairs = np.unique(owner * n_items + items)
    counts = np.bincount(pairs // n_items, minlength=len(lengths))
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int32), (pairs % n_items).astype(np.int32)


def quick_csr(histories: Histories) -> tuple[NDArray[np.int32], NDArray[np.int32]] | None:
    """Return two int32 arrays where that takes no look at what is in them, else None."""
    if type(histories) is tuple and len(histories) == 2:
        indptr, items = histories
    else:
        indptr, items = getattr(histories, "indptr", None), getattr(histories, "items", None)
    if type(indptr) is not _array or type(items) is not _array or not len(indptr):
        return None
    if indptr.dtype is _int32 and items.dtype is _int32:
        return indptr, items
    if indptr.dtype.kind == items.dtype.kind == "i":
        return indptr.astype(_int32, copy=False), items.astype(_int32, copy=False)
    return None


def highest_item(histories: Histories) -> int:
    """Return the highest item number in some histories, -1 where there is none."""
    return int(_parts(histories)[1].max(initial=-1))


def numbers_of(
    names: Sequence[Iterable[str]], number_of: dict[str, int], *, unknown: str
) -> tuple[list[list[int]], NDArray[np.int64]]:
    """Return item numbers of names, and how many names of each user are unknown: int64 [n_users].

    Args:
        names: for each user the items' names.
        number_of: number of each name.
        unknown: ``"skip"`` leaves unknown names out; ``"error"`` refuses them.

    Raises:
        DataError: a name is unknown and that is an error, or ``unknown`` is neither word.
    """
    if unknown not in {"skip", "error"}:
        msg = f"got unknown={unknown!r}; expected 'skip' or 'error'"
        raise DataError(msg)
    found: list[list[int]] = []
    missed = np.zeros(len(names), np.int64)
    for user, history in enumerate(names):
        texts = list(history)
        known = [number_of[name] for name in texts if name in number_of]
        missed[user] = len(texts) - len(known)
        if missed[user] and unknown == "error":
            first = next(name for name in texts if name not in number_of)
            msg = f"got item {first!r} in the history of user {user}; expected one of the {len(number_of)} items that the model knows, or unknown='skip'"  # fmt: skip
            raise DataError(msg)
        found.append(known)
    return found, missed


def allowed_items(n_items: int, candidates: ArrayLike | None, block: ArrayLike | None) -> NDArray[np.uint8] | None:
    """Return uint8 [n_items], 1 where an item may stand in a list, or None where every one may.

    Raises:
        DataError: an item is out of range, or no whole number.
    """
    if candidates is None and block is None:
        return None
    allowed = np.full(n_items, candidates is None, np.uint8)
    for given, value in ((candidates, 1), (block, 0)):
        if given is not None:
            numbers = _whole(given, "candidates" if value else "block")
            if ((numbers < 0) | (numbers >= n_items)).any():
                msg = (
                    f"got {'candidates' if value else 'blocked items'} outside 0..{n_items - 1}; expected item numbers"
                )
                raise DataError(msg)
            allowed[numbers] = value
    return allowed


def _whole(values: ArrayLike, name: str) -> NDArray[np.int64]:
    array: NDArray[Any] = np.asarray(values)
    if array.size == 0:
        return np.zeros(0, np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        msg = f"got {name} of type {array.dtype} and {array.ndim} dimensions; expected whole numbers in one dimension"
        raise DataError(msg)
    return array.astype(np.int64)


def _parts(histories: Histories) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    if hasattr(histories, "indptr"):
        items = histories.indices if hasattr(histories, "indices") else histories.items
        return _whole(histories.indptr, "indptr"), _whole(items, "items")
    if isinstance(histories, tuple) and len(histories) == 2 and isinstance(histories[0], np.ndarray):
        return _whole(histories[0], "indptr"), _whole(histories[1], "items")
    try:
        rows = [_whole(row, "a history") for row in histories]
    except TypeError as error:
        msg = f"got histories of type {type(histories).__name__}; expected (indptr, items) or a list of lists"
        raise DataError(msg) from error
    return np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64), np.concatenate(
        [np.zeros(0, np.int64), *rows]
    )
