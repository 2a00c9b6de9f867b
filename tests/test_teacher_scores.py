"""Teachers that are no files: a column of scores, and a callable."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from prunus.data.ranking import RankingData
from prunus.errors import TeacherError
from prunus.teacher.scores import CallableTeacher, ScoreTeacher

SCORES = np.array([0.5, -1.0, 2.0])
DATA = RankingData(
    X=np.arange(6, dtype=np.float32).reshape(3, 2),
    y=np.array([0, 1, 2], np.float32),
    offsets=np.array([0, 2, 3]),
    feature_names=("a", "b"),
    teacher_scores=SCORES,
    source="clicks.parquet",
)


def test_a_column_gives_its_scores():
    """The scores that came with the data are handed out in the order of its documents, and of its queries."""
    teacher = ScoreTeacher("old_model")
    np.testing.assert_array_equal(teacher.score_data(DATA), SCORES)
    np.testing.assert_array_equal(teacher.score_data(DATA.take_queries(np.array([1, 0]))), SCORES[[2, 0, 1]])
    assert "old_model" in teacher.name
    assert teacher.midpoints(np.zeros(2), np.ones(2)) is None


def test_a_column_cannot_score_new_rows():
    """New rows are refused, and the error says that augmentation is off."""
    with pytest.raises(TeacherError, match=r"'old_model'.*cannot score 3 new documents.*augmentation is off"):
        ScoreTeacher("old_model").score(DATA.X)


def test_data_without_the_column():
    """Data that were read without teacher scores are refused by name."""
    with pytest.raises(TeacherError, match=r"clicks.parquet: no teacher scores.*'s'.*--teacher-scores"):
        ScoreTeacher("s").score_data(dataclasses.replace(DATA, teacher_scores=None))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite(bad):
    """A score that is not finite cannot be learned: row and count are named, for a column and for a callable."""
    scores = np.array([0.0, bad, bad])
    with pytest.raises(TeacherError, match=r"at row 1 \(2 rows"):
        ScoreTeacher().score_data(dataclasses.replace(DATA, teacher_scores=scores))
    with pytest.raises(TeacherError, match=r"at row 1 \(2 rows"):
        CallableTeacher(lambda _: scores, 2).score(DATA.X)


@pytest.mark.parametrize(
    "returned",
    [SCORES, SCORES.astype(np.float32), SCORES.tolist(), SCORES[:, None]],
    ids=["float64", "float32", "list", "column"],
)
def test_a_callable_gives_its_scores(returned):
    """Whatever array-like a function returns becomes float64, one score a row; it sees C-contiguous float32."""
    seen = []

    def fn(X):
        seen.append(X)
        return returned

    teacher = CallableTeacher(fn, 2, name="mine")
    for scores in (teacher.score(np.asfortranarray(DATA.X, dtype=np.float64)), teacher.score_data(DATA)):
        np.testing.assert_array_equal(scores, SCORES)
        assert scores.dtype == np.float64
    for X in seen:
        assert X.dtype == np.float32
        assert X.flags.c_contiguous
        np.testing.assert_array_equal(X, DATA.X)
    assert teacher.name == "mine"
    assert teacher.midpoints(np.zeros(2), np.ones(2)) is None


@pytest.mark.parametrize(
    ("fn", "message"),
    [
        (lambda X: X, r"returned shape \(3, 2\)"),
        (lambda X: X[:2, 0], r"returned shape \(2,\)"),
        (lambda _: 1.0, r"returned shape \(\)"),
        (lambda _: ["a", "b", "c"], "failed"),
        (lambda _: None, "gives nan|returned shape|failed"),
        (lambda X: X @ X, "failed"),
    ],
)
def test_callables_that_return_something_else(fn, message):
    """A function that does not give one number a row is refused, and the error says what came back."""
    with pytest.raises(TeacherError, match=message):
        CallableTeacher(fn, 2, name="mine").score(DATA.X)


@pytest.mark.parametrize("shape", [(3, 1), (3, 3), (2,)])
def test_a_callable_takes_its_features(shape):
    """Rows of another width are refused before the function sees them."""
    with pytest.raises(TeacherError, match=r"expects \[n, 2\]"):
        CallableTeacher(lambda X: X[:, 0], 2).score(np.zeros(shape, np.float32))
