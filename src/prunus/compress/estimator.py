"""The ranker's whole job as a scikit-learn style estimator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np

from prunus.compress.distil import distil
from prunus.compress.recipe import Effort, RankerRecipe, Silent
from prunus.data.ranking import RankingData, offsets_from_qid
from prunus.design import Budget
from prunus.errors import DataError, SchemaError
from prunus.extras import need
from prunus.latency import LatencyModel
from prunus.metrics import ndcg
from prunus.teacher.scores import CallableTeacher
from prunus.teacher.trees import TreeTeacher, load_trees

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from prunus.engine.scorer import RankScorer
    from prunus.teacher.scores import Teacher

_BaseEstimator: Any = need("sklearn.base", extra="train").BaseEstimator


class DistilledRanker(_BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Distil a teacher into a small sparse ranker that meets a budget.

    >>> ranker = DistilledRanker(teacher="ranker.txt", budget="0.5us")  # doctest: +SKIP
    >>> ranker.fit(X, y, qid=qid).predict(X_new)  # doctest: +SKIP

    Args:
        teacher: a model file (LightGBM, XGBoost, CatBoost), an object with ``score(X)`` and ``midpoints``, or a
            callable from float32 [n, n_features] to [n] scores.
        budget: ``"0.5us"``, ``"0.5us@20"`` or ``"20KB"``.
        valid_fraction: share of the queries that choose between students, where ``fit`` gets no ``eval_set``.
        effort: ``quick``, ``normal`` or ``thorough``.
        random_state: seed.
        recipe: further fields of the recipe, by name.

    Attributes:
        scorer_: the compiled student, a :class:`prunus.engine.scorer.RankScorer`.
        valid_ndcg_: its validation nDCG@10.
        n_features_in_: columns of X.
    """

    def __init__(
        self,
        teacher: Any = None,  # noqa: ANN401 - a path, a teacher or a callable
        budget: str = "0.5us",
        *,
        valid_fraction: float = 0.2,
        effort: Effort = "normal",
        random_state: int = 0,
        recipe: dict[str, Any] | None = None,
    ) -> None:
        self.teacher = teacher
        self.budget = budget
        self.valid_fraction = valid_fraction
        self.effort = effort
        self.random_state = random_state
        self.recipe = recipe

    def fit(
        self,
        X: Any,  # noqa: ANN401 - scikit-learn's names
        y: ArrayLike,
        *,
        qid: ArrayLike | None = None,
        group: ArrayLike | None = None,
        eval_set: tuple[Any, ArrayLike] | None = None,
        eval_qid: ArrayLike | None = None,
        eval_group: ArrayLike | None = None,
    ) -> DistilledRanker:
        """Distil the teacher.

        Args:
            X: [n_docs, n_features] array, or a frame with a column for each feature (a ``qid`` column is taken as qid).
            y: [n_docs], labels 0 to 31.
            qid: [n_docs], query of each document; the rows of a query stand together.
            group: [n_queries], documents of each query, as LightGBM's and XGBoost's rankers take it; instead of qid.
            eval_set: (X, y) that chooses between students; else ``valid_fraction`` of the queries does.
            eval_qid: as qid, of eval_set.
            eval_group: as group, of eval_set.

        Raises:
            DataError: neither qid nor group was given, or they do not fit.
            BudgetImpossibleError: no network meets the budget.
        """
        teacher = _as_teacher(self.teacher)
        data = _ranking_data(X, y, qid, group, teacher)
        if isinstance(teacher, CallableTeacher):
            teacher.n_features = data.n_features
        if eval_set is None:
            valid, train = data.split_by_query(self.valid_fraction, self.random_state)
        else:
            train, valid = data, _ranking_data(eval_set[0], eval_set[1], eval_qid, eval_group, teacher)
        recipe = RankerRecipe(
            budget=str(Budget.parse(self.budget)), effort=self.effort, seed=self.random_state, **(self.recipe or {})
        )
        latency = LatencyModel.load_or_calibrate()
        found = distil(teacher, train, valid, recipe, latency=latency, space=None, progress=Silent())
        from prunus.engine.scorer import RankScorer

        self.scorer_: RankScorer = RankScorer(found.chosen.trained.network, found.schema)
        self.valid_ndcg_ = found.chosen.trained.valid
        self.n_features_in_ = data.n_features
        return self

    def predict(self, X: Any) -> NDArray[np.float32]:  # noqa: ANN401
        """Score documents: float32 [n_docs], on the teacher's scale.

        Args:
            X: [n_docs, n_features] array, or a frame with the feature columns.
        """
        need("sklearn.utils.validation", extra="train").check_is_fitted(self, "scorer_")
        return self.scorer_.score(_without_qid(X)[0])

    def score(self, X: Any, y: ArrayLike, *, qid: ArrayLike | None = None, group: ArrayLike | None = None) -> float:  # noqa: ANN401
        """Mean nDCG@10 (gain 2^y - 1, queries without a relevant document left out).

        Args:
            X: as for ``predict``.
            y: [n_docs], labels.
            qid: [n_docs], query of each document.
            group: [n_queries], instead of qid.
        """
        offsets = _offsets(_without_qid(X)[1], qid, group)
        return ndcg(np.asarray(y, np.float32), self.predict(X), offsets).mean

    def save(self, path: str) -> None:
        """Write the student as a model file that :func:`prunus.load` reads."""
        from prunus.engine.file import save

        save(path, self.scorer_.network, self.scorer_.schema, metadata={"budget": str(self.budget)})


def _without_qid(X: Any) -> tuple[Any, Any]:  # noqa: ANN401
    columns = getattr(X, "columns", None)
    names = [] if columns is None else list(columns)
    if "qid" not in names:
        return X, None
    return X[[name for name in names if name != "qid"]], np.asarray(X["qid"])


def _offsets(own: Any, qid: ArrayLike | None, group: ArrayLike | None) -> NDArray[np.int64]:  # noqa: ANN401
    qid = own if qid is None else qid
    if (qid is None) == (group is None):
        msg = "expected either qid (one a document) or group (documents of each query): a ranker must know the queries"
        raise DataError(msg)
    if group is not None:
        return np.concatenate([[0], np.cumsum(np.asarray(group))]).astype(np.int64)
    return offsets_from_qid(np.asarray(qid))


def _ranking_data(
    X: Any,  # noqa: ANN401
    y: ArrayLike,
    qid: ArrayLike | None,
    group: ArrayLike | None,
    teacher: Teacher,
) -> RankingData:
    """Take the columns in the teacher's order: a frame's by name, an array's as they stand."""
    X, own = _without_qid(X)
    wanted = teacher.feature_names if isinstance(teacher, TreeTeacher) else None
    if hasattr(X, "columns"):
        names = tuple(str(name) for name in X.columns)
        if isinstance(teacher, TreeTeacher) and not teacher.names_are_default:
            X = X[[X.columns[column] for column in teacher.columns(names)]]
            names = teacher.feature_names
    else:
        n_columns = np.shape(X)[1] if np.ndim(X) == 2 else 0
        names = (
            wanted if wanted is not None and len(wanted) == n_columns else tuple(f"f{i + 1}" for i in range(n_columns))
        )
    rows = np.ascontiguousarray(np.asarray(X), dtype=np.float32)
    if rows.ndim != 2:
        msg = f"got X of shape {rows.shape}; expected [n_docs, n_features]"
        raise SchemaError(msg)
    return RankingData(rows, np.asarray(y, np.float32), _offsets(own, qid, group), names, source="X")


def _as_teacher(teacher: Any) -> Teacher:  # noqa: ANN401
    if teacher is None:
        msg = "got no teacher; expected a model file, an object with score(X), or a callable"
        raise DataError(msg)
    if hasattr(teacher, "score") and hasattr(teacher, "midpoints"):
        return cast("Teacher", teacher)
    if callable(teacher):
        return CallableTeacher(teacher, 0, getattr(teacher, "__name__", "callable"))
    return load_trees(teacher)
