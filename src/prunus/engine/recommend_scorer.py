"""What makes lists of items in a service: a recommender on the best instruction set of this CPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from prunus import _native
from prunus.engine.histories import allowed_items, numbers_of, quick_csr, to_csr
from prunus.engine.item_ids import check_ids
from prunus.engine.live import Scorer
from prunus.engine.recommender import DenseFactors, SparseRows
from prunus.engine.scorer import choose_isa
from prunus.errors import DataError, RecommenderError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from prunus.engine.histories import Histories
    from prunus.engine.recommender import Recommender

# Looked up once: a call on one user takes a microsecond beside the engine.
_empty, _int32, _float32 = np.empty, np.dtype(np.int32), np.dtype(np.float32)


class Lists:  # no dataclass: a frozen one takes a microsecond to make, as long as the lists of a small model do
    """What :meth:`RecommendScorer.recommend` found; unpacks into ``ids, scores``.

    Attributes:
        ids: int32 [n_users, k], item numbers, best first; -1 where no item is left.
        scores: float32 [n_users, k]; -inf where no item is left.
    """

    __slots__ = ("_cold", "ids", "scores")

    def __init__(
        self, ids: NDArray[np.int32], scores: NDArray[np.float32], cold: NDArray[np.bool_] | None = None
    ) -> None:
        self.ids = ids
        self.scores = scores
        self._cold = cold

    @property
    def cold(self) -> NDArray[np.bool_]:
        """Bool [n_users]: the history was empty, so the list is the most popular items, in that order."""
        # Made when asked for: most calls have no such user, and few ask.
        if self._cold is None:
            self._cold = np.zeros(len(self.ids), np.bool_)
        return self._cold

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return iter((self.ids, self.scores))


@dataclass(frozen=True, eq=False)
class NamedLists:
    """What :meth:`RecommendScorer.recommend_ids` found.

    Attributes:
        names: for each user the items' names, best first.
        scores: for each user their scores.
        cold: bool [n_users]: nothing of the history was known, so the list is the most popular items.
        unknown: int64 [n_users]: items of the history that the model does not know.
    """

    names: list[list[str]]
    scores: list[list[float]]
    cold: NDArray[np.bool_]
    unknown: NDArray[np.int64]


def _for_each(step: NDArray[np.float32] | None, n_items: int) -> NDArray[np.float32] | None:
    return None if step is None else np.ascontiguousarray(np.broadcast_to(step, n_items))


def _pack(model: Recommender, isa: str) -> _native.Recommender:
    n_items = model.n_items
    if isinstance(model, DenseFactors):
        assert model.encode is not None
        decode = SparseRows.from_dense(model.decode)
        encode: SparseRows | None = decode if model.tied else SparseRows.from_dense(model.encode)
        step = encode_step = model.step
    else:
        decode, encode, step = model.decode, model.encode, model.decode.step
        encode_step = None if encode is None else encode.step
    try:
        return _native.Recommender(
            n_items=n_items,
            n_factors=model.n_factors,
            indptr=decode.indptr,
            factor=decode.factor,
            value=decode.value,
            encode_indptr=None if encode is None else encode.indptr,
            encode_factor=None if encode is None else encode.factor,
            encode_value=None if encode is None else encode.value,
            scale=np.ones(n_items, np.float32) if model.encode_scale is None else model.encode_scale,
            bias=np.zeros(n_items, np.float32) if model.bias is None else model.bias,
            order=model.popular_order(n_items),
            step=_for_each(step, n_items),
            encode_step=_for_each(encode_step, n_items),
            isa=isa,
        )
    except ValueError as error:
        msg = f"the engine cannot run this recommender: {error}"
        raise RecommenderError(msg) from error


class _Live:
    """One whole model as a call sees it; :meth:`RecommendScorer.swap` replaces the reference to it; items may be others."""

    __slots__ = ("asked_isa", "isa", "item_ids", "metadata", "model", "native", "number_of", "popular", "recommend")

    def __init__(
        self, model: Recommender, item_ids: tuple[str, ...] | None, metadata: dict[str, Any], asked_isa: str | None
    ) -> None:
        self.model = model
        self.item_ids = item_ids
        self.metadata = metadata
        self.asked_isa = asked_isa
        self.native = _pack(model, choose_isa(asked_isa))
        self.recommend = self.native.recommend  # bound once
        self.isa = self.native.isa
        self.popular = model.popular_order(model.n_items)
        self.number_of: dict[str, int] | None = None  # built when names are first asked for

    def numbers(self) -> dict[str, int]:
        if self.number_of is None:
            names = self.item_ids or tuple(map(str, range(self.model.n_items)))
            self.number_of = {name: number for number, name in enumerate(names)}
        return self.number_of


class RecommendScorer(Scorer[_Live]):
    """Makes lists of items from histories; thread-safe, picklable, usable after a fork, replaceable while it runs.

    A user need not have been seen in training: the history is all there is to a user.

    Args:
        model: the item factors.
        item_ids: the items' names; None where items are numbers from 0.
        metadata: anything to keep beside the model, as read from its file.
        isa: instruction set to use; default ``PRUNUS_ISA`` if set, else the best of this CPU.

    Raises:
        RecommenderError: the engine cannot run the model, or names do not fit its items.
        InstructionSetError: the instruction set is not in this build or not on this CPU.
    """

    def __init__(
        self,
        model: Recommender,
        item_ids: Sequence[str] | None = None,
        *,
        metadata: Mapping[str, Any] | None = None,
        isa: str | None = None,
    ) -> None:
        ids = None if item_ids is None else check_ids(item_ids, model.n_items)
        self._live = _Live(model, ids, dict(metadata or {}), isa)

    def __reduce__(self) -> tuple[Any, ...]:
        live = self._live
        return _restore, (live.model, live.item_ids, live.metadata, live.asked_isa)

    def __repr__(self) -> str:
        live = self._live
        return f"RecommendScorer({live.model.n_items} items, {live.model.nonzeros} values, {live.native.isa})"

    @property
    def model(self) -> Recommender:
        """The factors that make lists now."""
        return self._live.model

    @property
    def item_ids(self) -> tuple[str, ...] | None:
        """The items' names, or None where items are numbers."""
        return self._live.item_ids

    def recommend(
        self,
        histories: Histories,
        k: int = 20,
        *,
        candidates: ArrayLike | None = None,
        block: ArrayLike | None = None,
        mask_seen: bool = True,
        n_threads: int = 1,
        out: tuple[NDArray[np.int32], NDArray[np.float32]] | None = None,
    ) -> Lists:
        """Return each user's k best items, best first; among equal scores the lower item number comes first.

        Args:
            histories: item numbers of each user: ``(indptr, items)``, Interactions, a SciPy CSR matrix, or a list of
                lists. Two int32 arrays with items rising inside a user are used as they are.
            k: length of the lists, 1 or more.
            candidates: item numbers; no others stand in the lists. Default: all.
            block: item numbers that do not stand in the lists.
            mask_seen: whether items of a user's own history are left out.
            n_threads: threads to share the users between.
            out: int32 [n_users, k] and float32 [n_users, k], C-contiguous: where to write items and scores.

        Returns:
            Items, scores, and who had an empty history. Where fewer than k items are left, -1 and -inf stand.

        Raises:
            DataError: histories have another form, an item is unknown, k is below 1, or ``out`` does not fit.
        """
        live = self._live
        allowed = None
        if candidates is not None or block is not None:
            allowed = allowed_items(live.model.n_items, candidates, block)
        elif type(histories) is tuple and out is None and k > 0:
            # What a service asks: as few steps as it can be, each of which takes memory that the last call pushed out
            # of the caches. What the engine refuses has its error, or its other form, below.
            try:
                indptr, items = histories
                shape = (len(indptr) - 1, k)
                ids, scores = _empty(shape, _int32), _empty(shape, _float32)
                if not live.recommend(indptr, items, ids, scores, None, mask_seen, n_threads):
                    return Lists(ids, scores)
            except (TypeError, ValueError):
                pass
        return _recommend(live, histories, k, allowed, mask_seen, n_threads, out)

    def recommend_ids(
        self,
        histories: Sequence[Iterable[str]],
        k: int = 20,
        *,
        candidates: Iterable[str] | None = None,
        block: Iterable[str] | None = None,
        unknown: str = "skip",
        n_threads: int = 1,
    ) -> NamedLists:
        """Return each user's k best items by name.

        Args:
            histories: for each user the items' names.
            k: length of the lists, 1 or more.
            candidates: names; no others stand in the lists. Unknown ones are left out.
            block: names that do not stand in the lists.
            unknown: what to do with names in a history that the model does not know: ``"skip"`` (they are counted in
                the result) or ``"error"``.
            n_threads: as in :meth:`recommend`.

        Raises:
            DataError: a name is unknown and that is an error; or as in :meth:`recommend`.
        """
        live = self._live
        number_of = live.numbers()
        numbers, missed = numbers_of(histories, number_of, unknown=unknown)
        only, never = (
            None if given is None else [number_of[name] for name in given if name in number_of]
            for given in (candidates, block)
        )
        allowed = allowed_items(live.model.n_items, only, never)
        found = _recommend(live, numbers, k, allowed, True, n_threads, None)  # noqa: FBT003
        names = list(number_of)
        kept = [[item for item in row if item >= 0] for row in found.ids.tolist()]
        scores = [row[: len(items)] for row, items in zip(found.scores.tolist(), kept, strict=True)]
        return NamedLists([[names[item] for item in row] for row in kept], scores, found.cold, missed)

    def scores(
        self, histories: Histories, out: NDArray[np.float32] | None = None, *, n_threads: int = 1
    ) -> NDArray[np.float32]:
        """Return the scores of all items, those of the histories not masked.

        Args:
            histories: as in :meth:`recommend`.
            out: float32 [n_users, n_items], C-contiguous: where to write them.
            n_threads: threads to share the users between.

        Returns:
            float32 [n_users, n_items].

        Raises:
            DataError: as in :meth:`recommend`.
        """
        live = self._live
        indptr, items = to_csr(histories, live.model.n_items)
        scores = _empty((len(indptr) - 1, live.model.n_items), np.float32) if out is None else out
        try:
            live.native.score(indptr, items, scores, n_threads)
        except (TypeError, ValueError) as error:
            msg = f"{error}; expected out of float32 [n_users, n_items], and n_threads from 1 to 65535"
            raise DataError(msg) from error
        return scores

    def add_items(self, histories: Histories, item_ids: Sequence[str] | None = None) -> RecommendScorer:
        """Return a scorer that knows new items too, from who took them; nothing is trained again.

        All rows that there are stay as they are; ``swap`` puts the result into service. See
        :mod:`prunus.engine.new_items` for what a new row is.

        Args:
            histories: as in :meth:`recommend`, of users who took old and new items. New items have the numbers after
                the old ones; each must be in a history beside an old item.
            item_ids: names of the new items, where the old ones have names.

        Raises:
            DataError: histories have another form, or nobody took one of the new items.
            RecommenderError: the model is of item-item weights, or names are missing, repeat, or are too many.
        """
        from prunus.engine.histories import highest_item
        from prunus.engine.new_items import add_rows

        live = self._live
        if (item_ids is None) != (live.item_ids is None):
            msg = f"got {'no ' if item_ids is None else ''}names of new items; the old ones have {'none' if live.item_ids is None else 'names'}: expected the same"  # fmt: skip
            raise RecommenderError(msg)
        n_new = len(item_ids) if item_ids is not None else highest_item(histories) + 1 - live.model.n_items
        model = add_rows(live.model, histories, n_new)
        ids = None if live.item_ids is None else (*live.item_ids, *(item_ids or ()))
        return RecommendScorer(model, ids, metadata=live.metadata, isa=live.asked_isa)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model file, with names and metadata; see :func:`prunus.engine.recommender_file.save`."""
        from prunus.engine.recommender_file import save

        live = self._live
        save(path, live.model, live.item_ids, metadata=live.metadata)


def _recommend(
    live: _Live,
    histories: Histories,
    k: int,
    allowed: NDArray[np.uint8] | None,
    mask_seen: bool,
    n_threads: int,
    out: tuple[NDArray[np.int32], NDArray[np.float32]] | None,
) -> Lists:
    if k < 1 or not 1 <= n_threads < 1 << 16:
        msg = f"got k={k} and n_threads={n_threads}; expected 1 or more, and 1 to 65535"
        raise DataError(msg)
    indptr, items = quick_csr(histories) or to_csr(histories, live.model.n_items)
    n_users = len(indptr) - 1
    if out is None:
        ids, scores = _empty((n_users, k), _int32), _empty((n_users, k), _float32)
    else:
        ids, scores = out
        if ids.shape != (n_users, k):
            msg = f"got out of shape {ids.shape}; expected {(n_users, k)}"
            raise DataError(msg)
    try:
        n_cold = live.recommend(indptr, items, ids, scores, allowed, mask_seen, n_threads)
    except (TypeError, ValueError) as error:
        indptr, items = to_csr(histories, live.model.n_items)
        try:
            n_cold = live.recommend(indptr, items, ids, scores, allowed, mask_seen, n_threads)
        except (TypeError, ValueError):
            msg = f"{error}; expected histories of item numbers, and out of int32 and float32 [n_users, k]"
            raise DataError(msg) from error
    if not n_cold:
        return Lists(ids, scores)
    cold = indptr[1:] == indptr[:-1]
    _fill_cold(live, ids, scores, cold, allowed)
    return Lists(ids, scores, cold)


def _fill_cold(
    live: _Live,
    ids: NDArray[np.int32],
    scores: NDArray[np.float32],
    cold: NDArray[np.bool_],
    allowed: NDArray[np.uint8] | None,
) -> None:
    """Give users without a history the most popular items that are allowed; scores are the items' own for them."""
    k = ids.shape[1]
    popular = live.popular if allowed is None else live.popular[allowed[live.popular] != 0]
    best = popular[:k]
    row_ids, row_scores = np.full(k, -1, np.int32), np.full(k, -np.inf, np.float32)
    row_ids[: len(best)] = best
    row_scores[: len(best)] = 0 if live.model.bias is None else live.model.bias[best]
    ids[cold], scores[cold] = row_ids, row_scores


def _restore(
    model: Recommender, item_ids: tuple[str, ...] | None, metadata: dict[str, Any], isa: str | None
) -> RecommendScorer:
    return RecommendScorer(model, item_ids, metadata=metadata, isa=isa)
