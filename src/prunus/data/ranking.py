"""The two validated types of the ranker: documents grouped by query, and the schema that a model was made for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from prunus.errors import (
    EmptyDataError,
    InfiniteValueError,
    LabelError,
    MissingValueError,
    SchemaError,
    SplitQueryError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MAX_LABEL = 31
"""Largest label accepted: its gain, 2^31 - 1, is the largest that an int32 holds."""

SPLIT_ADVICE = (
    "after another query began; expected the rows of a query to stand together: sort the rows by query id, keeping"
    " their order inside a query"
)


def offsets_from_qid(qid: NDArray[np.generic], *, source: str = "the data") -> NDArray[np.int64]:
    """Turn a column of query ids into offsets.

    Args:
        qid: [n_docs], any type with equality; the rows of one query must stand together.
        source: what to call the data in an error.

    Returns:
        int64 [n_queries + 1], rising from 0 to n_docs.

    Raises:
        EmptyDataError: there is no row.
        SplitQueryError: a query id comes back after another one began.
    """
    if len(qid) == 0:
        msg = f"{source}: no rows; expected at least one document"
        raise EmptyDataError(msg)
    row = split_row(qid)
    if row is not None:
        msg = f"{source}: query {qid[row : row + 1].tolist()[0]!r} comes back at row {row} {SPLIT_ADVICE}"
        raise SplitQueryError(msg)
    return np.concatenate([_starts(qid), [len(qid)]]).astype(np.int64)


def split_row(qid: NDArray[np.generic]) -> int | None:
    """Find the first row whose query began earlier and was left since; None where every query stands together.

    Args:
        qid: [n_docs], any type with equality and order.
    """
    starts = _starts(qid)
    heads = qid[starts]
    if len(np.unique(heads)) == len(heads):
        return None
    seen: set[object] = set()
    for head, start in zip(heads.tolist(), starts.tolist(), strict=True):
        if head in seen:
            return int(start)
        seen.add(head)
    return None


def _starts(qid: NDArray[np.generic]) -> NDArray[np.intp]:
    return np.flatnonzero(np.concatenate([[True], qid[1:] != qid[:-1]]))


@dataclass(frozen=True)
class RankingData:
    """Documents with features, grouped by query; validated when built and trusted afterwards.

    Attributes:
        X: float32 [n_docs, n_features], C-contiguous; NaN means missing.
        y: float32 [n_docs], labels in [0, 31] (31 keeps the gain 2^y - 1 inside int32).
        offsets: int64 [n_queries + 1], rising from 0 to n_docs; query q owns rows offsets[q]:offsets[q + 1].
        feature_names: one name for each column of X, all different.
        query_ids: [n_queries], as in the source; None where the source had none.
        doc_ids: [n_docs], ids or comments kept from the source; None where there were none.
        users: [n_queries], cluster of each query for the paired test; None for one cluster a query.
        teacher_scores: float64 [n_docs], a teacher's scores that came with the data; None where there were none.
        source: what to call the data in messages.

    Raises:
        EmptyDataError: no documents.
        LabelError: a label is negative, not finite or above 31.
        SchemaError: shapes do not fit each other, or names repeat.
        SplitQueryError: offsets do not rise from 0 to n_docs.
    """

    X: NDArray[np.float32]
    y: NDArray[np.float32]
    offsets: NDArray[np.int64]
    feature_names: tuple[str, ...]
    query_ids: NDArray[np.generic] | None = None
    doc_ids: NDArray[np.generic] | None = None
    users: NDArray[np.generic] | None = None
    teacher_scores: NDArray[np.float64] | None = None
    source: str = "the data"

    def __post_init__(self) -> None:
        if self.X.ndim != 2 or self.X.shape[0] == 0:
            msg = f"{self.source}: got X of shape {self.X.shape}; expected at least one row of [n_docs, n_features]"
            raise EmptyDataError(msg)
        n_docs, n_features = self.X.shape
        if self.X.dtype != np.float32 or not self.X.flags.c_contiguous:
            object.__setattr__(self, "X", np.ascontiguousarray(self.X, dtype=np.float32))
        if self.y.dtype != np.float32:
            object.__setattr__(self, "y", self.y.astype(np.float32))
        if len(self.y) != n_docs:
            msg = f"{self.source}: got {len(self.y)} labels for {n_docs} documents; expected one label a document"
            raise SchemaError(msg)
        if len(self.feature_names) != n_features or len(set(self.feature_names)) != n_features:
            msg = (
                f"{self.source}: got {len(self.feature_names)} feature names ({len(set(self.feature_names))} different)"
                f" for {n_features} columns; expected one name a column, all different"
            )
            raise SchemaError(msg)
        bad = ~((self.y >= 0) & (self.y <= MAX_LABEL))
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            msg = (
                f"{self.source}: label {self.y[row]} at row {row}; expected labels from 0 to {MAX_LABEL}: map them to"
                " grades first (for instance --label 'label>0')"
            )
            raise LabelError(msg)
        if (
            len(self.offsets) < 2
            or self.offsets[0] != 0
            or self.offsets[-1] != n_docs
            or (np.diff(self.offsets) <= 0).any()
        ):
            msg = f"{self.source}: offsets must rise from 0 to {n_docs} (the number of documents)"
            raise SplitQueryError(msg)
        self._check_lengths()

    def _check_lengths(self) -> None:
        expected = {
            "query_ids": self.n_queries,
            "users": self.n_queries,
            "doc_ids": self.n_docs,
            "teacher_scores": self.n_docs,
        }
        for name, length in expected.items():
            column = getattr(self, name)
            if column is not None and len(column) != length:
                msg = f"{self.source}: {name} has {len(column)} entries; expected {length}"
                raise SchemaError(msg)

    @property
    def n_docs(self) -> int:
        """Number of documents."""
        return int(self.X.shape[0])

    @property
    def n_features(self) -> int:
        """Number of features."""
        return int(self.X.shape[1])

    @property
    def n_queries(self) -> int:
        """Number of queries."""
        return len(self.offsets) - 1

    @property
    def query_of_doc(self) -> NDArray[np.int64]:
        """int64 [n_docs]: index of each document's query."""
        return np.repeat(np.arange(self.n_queries, dtype=np.int64), np.diff(self.offsets))

    def take_queries(self, queries: NDArray[np.int64]) -> RankingData:
        """Return the data of some queries, in the order given.

        Args:
            queries: int64 [m], indices into the queries.
        """
        sizes = np.diff(self.offsets)[queries]
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        rows = np.arange(offsets[-1]) - np.repeat(offsets[:-1] - self.offsets[queries], sizes)

        def pick(column: NDArray[np.generic] | None, index: NDArray[np.int64]) -> NDArray[np.generic] | None:
            return None if column is None else column[index]

        return RankingData(
            X=self.X[rows],
            y=self.y[rows],
            offsets=offsets,
            feature_names=self.feature_names,
            query_ids=pick(self.query_ids, queries),
            doc_ids=pick(self.doc_ids, rows),
            users=pick(self.users, queries),
            teacher_scores=None if self.teacher_scores is None else self.teacher_scores[rows],
            source=self.source,
        )

    def split_by_query(self, fraction: float, seed: int) -> tuple[RankingData, RankingData]:
        """Split into two parts at random, whole queries only.

        Args:
            fraction: share of the queries in the first part, in (0, 1).
            seed: of the split.
        """
        order = np.random.default_rng(seed).permutation(self.n_queries)
        cut = min(max(round(fraction * self.n_queries), 1), self.n_queries - 1)
        return self.take_queries(np.sort(order[:cut])), self.take_queries(np.sort(order[cut:]))


@dataclass(frozen=True)
class Schema:
    """What a model expects of its input; saved in the model file and checked at every call.

    Attributes:
        feature_names: names in the order of the columns.
        allow_missing: for each feature, whether NaN may stand in it (else it is a :class:`MissingValueError`).
    """

    feature_names: tuple[str, ...]
    allow_missing: tuple[bool, ...] = field(default=())

    def __post_init__(self) -> None:
        if not self.allow_missing:
            object.__setattr__(self, "allow_missing", (False,) * len(self.feature_names))
        if len(self.allow_missing) != len(self.feature_names):
            msg = (
                f"got {len(self.allow_missing)} missing-value rules for {len(self.feature_names)} features;"
                " expected one a feature"
            )
            raise SchemaError(msg)
        if len(set(self.feature_names)) != len(self.feature_names):
            msg = "feature names repeat; expected all different"
            raise SchemaError(msg)

    @property
    def n_features(self) -> int:
        """Number of features."""
        return len(self.feature_names)

    def columns(self, names: Sequence[str], *, needed: Sequence[int] | None = None) -> list[int]:
        """Find, for each feature of the schema, its column among ``names``.

        Args:
            names: column names of a frame.
            needed: features that must be there (default: all); others may be absent and give -1.

        Returns:
            One column index for each feature, -1 where it is absent and not needed.

        Raises:
            SchemaError: a needed feature is absent.
        """
        where = {name: index for index, name in enumerate(names)}
        must = range(self.n_features) if needed is None else needed
        absent = [self.feature_names[f] for f in must if self.feature_names[f] not in where]
        if absent:
            shown = ", ".join(absent[:5]) + (" ..." if len(absent) > 5 else "")
            msg = f"{len(absent)} needed features are absent ({shown}); expected columns named as in training"
            raise SchemaError(msg)
        return [where.get(name, -1) for name in self.feature_names]

    def explain(self, X: NDArray[np.float32], features: Sequence[int]) -> None:
        """Raise the named error for the first NaN or infinity that the engine refused.

        Args:
            X: float32 [n_docs, n_features].
            features: the features that the model reads.

        Raises:
            MissingValueError: a NaN where the schema forbids it.
            InfiniteValueError: an infinity.
        """
        for f in features:
            column = X[:, f]
            if np.isinf(column).any():
                row = int(np.flatnonzero(np.isinf(column))[0])
                msg = (
                    f"feature {self.feature_names[f]!r} is {column[row]} at row {row}; expected finite values: clip it,"
                    " or pass NaN if the value is missing"
                )
                raise InfiniteValueError(msg)
            if not self.allow_missing[f] and np.isnan(column).any():
                row = int(np.flatnonzero(np.isnan(column))[0])
                msg = (
                    f"feature {self.feature_names[f]!r} is NaN at row {row}, and no training document lacked it;"
                    " expected a number: fill it, or train with --missing allow"
                )
                raise MissingValueError(msg)
