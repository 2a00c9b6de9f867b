"""Teachers that are no files: a column of scores that came with the data, or a Python callable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from prunus.errors import TeacherError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    from prunus.data.ranking import RankingData


class Teacher(Protocol):
    """Whatever gives the scores that a student learns; :class:`prunus.teacher.trees.TreeTeacher` is one.

    You need not subclass this.
    """

    @property
    def name(self) -> str:
        """What to call it in a table."""

    def score(self, X: NDArray[np.float32], /) -> NDArray[np.float64]:
        """Return scores, float64 [n], of float32 [n, n_features] rows."""

    def score_data(self, data: RankingData, /) -> NDArray[np.float64]:
        """Return the scores of the documents of ``data``, float64 [n_docs]."""

    def midpoints(self, minimum: ArrayLike, maximum: ArrayLike, /) -> tuple[NDArray[np.float32], ...] | None:
        """Return one value inside each cell of each feature; None where the teacher has no cells."""


class ScoreTeacher:
    """A column of scores that came with the data (``--teacher-scores``): it knows these documents and no others.

    Args:
        column: name of the column, for messages.
    """

    def __init__(self, column: str = "teacher_scores") -> None:
        self.column = column

    @property
    def name(self) -> str:
        """What to call it in a table."""
        return f"scores in column {self.column!r}"

    def score(self, X: ArrayLike) -> NDArray[np.float64]:
        """Refuse: there is no model to score rows with.

        Raises:
            TeacherError: always.
        """
        msg = (
            f"a teacher that is a column of scores ({self.column!r}) cannot score {len(np.asarray(X))} new documents;"
            " augmentation is off with it: use score_data(data), or give the model itself as teacher"
        )
        raise TeacherError(msg)

    def score_data(self, data: RankingData) -> NDArray[np.float64]:
        """Return the scores that came with the data.

        Args:
            data: read with this column as its teacher scores.

        Returns:
            float64 [n_docs].

        Raises:
            TeacherError: the data have no such column, or a score in it is not finite.
        """
        scores = data.teacher_scores
        if scores is None:
            msg = f"{data.source}: no teacher scores; expected a column {self.column!r}: name it with --teacher-scores"
            raise TeacherError(msg)
        return _finite(np.asarray(scores, dtype=np.float64), self.name)

    def midpoints(self, minimum: ArrayLike, maximum: ArrayLike) -> None:
        """Return None: a column of scores has no cells."""
        del minimum, maximum


class CallableTeacher:
    """A Python function as teacher.

    Args:
        fn: gets float32 [n, n_features], C-contiguous, and returns n scores.
        n_features: columns that it takes.
        name: what to call it in a table.
    """

    def __init__(self, fn: Callable[[NDArray[np.float32]], ArrayLike], n_features: int, name: str = "callable") -> None:
        self._fn = fn
        self.n_features = n_features
        self.name = name

    def score(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the function's scores.

        Args:
            X: [n, n_features], any real dtype (read as float32).

        Returns:
            float64 [n].

        Raises:
            TeacherError: X has not n_features columns, or the function did not return n finite scores.
        """
        rows = np.ascontiguousarray(X, dtype=np.float32)
        if rows.ndim != 2 or rows.shape[1] != self.n_features:
            msg = f"got rows of shape {rows.shape}; the teacher {self.name!r} expects [n, {self.n_features}]"
            raise TeacherError(msg)
        try:
            scores = np.asarray(self._fn(rows), dtype=np.float64)
        except (TypeError, ValueError) as error:
            msg = f"the teacher {self.name!r} failed ({error}); expected one number for each of {len(rows)} rows"
            raise TeacherError(msg) from error
        if scores.shape == (len(rows), 1):
            scores = scores[:, 0]
        if scores.shape != (len(rows),):
            msg = f"the teacher {self.name!r} returned shape {scores.shape}; expected ({len(rows)},), one score a row"
            raise TeacherError(msg)
        return _finite(scores, self.name)

    def score_data(self, data: RankingData) -> NDArray[np.float64]:
        """Return the function's scores of the documents of ``data``, float64 [n_docs]."""
        return self.score(data.X)

    def midpoints(self, minimum: ArrayLike, maximum: ArrayLike) -> None:
        """Return None: nothing is known of a function's cells."""
        del minimum, maximum


def _finite(scores: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    bad = np.flatnonzero(~np.isfinite(scores))
    if len(bad):
        msg = (
            f"the teacher {name} gives {scores[bad[0]]} at row {bad[0]} ({len(bad)} rows in all); expected finite"
            " scores: leave such rows out, or clip the scores"
        )
        raise TeacherError(msg)
    return scores
