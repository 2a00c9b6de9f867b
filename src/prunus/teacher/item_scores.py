"""Teachers of recommenders: whatever gives a score to each item, from a history or for a user it knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from prunus.engine.recommend_scorer import RecommendScorer
from prunus.engine.recommender import SparseRows
from prunus.errors import TeacherError
from prunus.extras import need
from prunus.topk import recommend

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike, NDArray

    from prunus.data.interactions import Interactions
    from prunus.data.splits import Split
    from prunus.engine.recommender import Recommender


class ItemScorer(Protocol):
    """Scores of all items; :class:`prunus.teacher.linear.ItemItem` is one. You need not subclass this."""

    @property
    def name(self) -> str:
        """What to call it in a table."""

    def scores(self, histories: Any, users: NDArray[np.int64] | None = None, /) -> NDArray[np.float32]:  # noqa: ANN401
        """Return float32 [n, n_items]; seen items are not masked.

        Args:
            histories: scipy CSR [n, n_items], binary.
            users: int64 [n], the users' numbers in the training data; None for users who are not in it. A source that
                answers from histories does not look at them.
        """


@dataclass(frozen=True, eq=False)
class Popularity:
    """Every user gets the items' numbers of users: what any recommender must beat.

    Attributes:
        counts: [n_items].
    """

    counts: NDArray[np.int64]
    name: str = "popularity"

    def scores(self, histories: Any, users: NDArray[np.int64] | None = None) -> NDArray[np.float32]:  # noqa: ANN401
        """Return the same scores for each history, as :class:`ItemScorer` does."""
        del users
        return np.broadcast_to(self.counts.astype(np.float32), histories.shape)


@dataclass(frozen=True, eq=False)
class ByHistory:
    """A function of histories.

    Attributes:
        function: scipy CSR [n, n_items] -> [n, n_items].
        name: what to call it in a table.
    """

    function: Callable[[Any], ArrayLike]
    name: str

    def scores(self, histories: Any, users: NDArray[np.int64] | None = None) -> NDArray[np.float32]:  # noqa: ANN401
        """Call the function, as :class:`ItemScorer` does.

        Raises:
            TeacherError: its result has another shape, or is not finite.
        """
        del users
        return _checked(self.function(histories), histories.shape, self.name)


@dataclass(frozen=True, eq=False)
class ByUser:
    """A table of scores: it knows the users of the training data, and no others.

    Attributes:
        rows: int64 [m] -> [m, n_items], the scores of some users.
        n_users: how many it knows.
        name: what to call it in a table.
    """

    rows: Callable[[NDArray[np.int64]], ArrayLike]
    n_users: int
    name: str

    def scores(self, histories: Any, users: NDArray[np.int64] | None = None) -> NDArray[np.float32]:  # noqa: ANN401
        """Look the users up, as :class:`ItemScorer` does.

        Raises:
            TeacherError: the users are not said or not known, or the table has another shape.
        """
        if users is None or (len(users) and users.max() >= self.n_users):
            who = "users who are not in the training data" if users is None else f"user {users.max()}"
            msg = (
                f"the teacher {self.name!r} was asked about {who}, and knows users 0 to {self.n_users - 1} only; expected"
                " a split that keeps its users, or a teacher that answers from histories"
            )
            raise TeacherError(msg)
        return _checked(self.rows(users), histories.shape, self.name)


class Ensemble:
    """Weighted sum of scores, each standardised for each user first: mean 0, standard deviation 1 over the items.

    Args:
        members: the scorers.
        weights: one for each; default: all 1.

    Raises:
        TeacherError: there is no member, or not one weight for each.
    """

    def __init__(self, members: Sequence[ItemScorer], weights: Sequence[float] | None = None) -> None:
        self.members = tuple(members)
        self.weights = tuple(weights) if weights is not None else (1.0,) * len(self.members)
        if not self.members or len(self.weights) != len(self.members):
            msg = f"got {len(self.weights)} weights for {len(self.members)} teachers; expected one each, of one or more"
            raise TeacherError(msg)

    @property
    def name(self) -> str:
        """What to call it in a table."""
        return " + ".join(f"{w:g} x {one.name}" for w, one in zip(self.weights, self.members, strict=True))

    def scores(self, histories: Any, users: NDArray[np.int64] | None = None) -> NDArray[np.float32]:  # noqa: ANN401
        """Return the weighted sum, as :class:`ItemScorer` does."""
        total = np.zeros(histories.shape, np.float32)
        for weight, member in zip(self.weights, self.members, strict=True):
            scores = member.scores(histories, users)
            spread = scores.std(axis=1, keepdims=True)
            total += weight * (scores - scores.mean(axis=1, keepdims=True)) / np.where(spread > 0, spread, 1)
        return total


def from_model(model: Recommender) -> ByHistory:
    """Score with a compressed recommender by matrix products; the lists of the engine are made elsewhere.

    Args:
        model: what a model file holds.
    """
    sparse = need("scipy.sparse", extra="io")

    def matrix(rows: SparseRows | NDArray[np.float32]) -> Any:  # noqa: ANN401 - scipy or NumPy
        if not isinstance(rows, SparseRows):
            return rows
        return sparse.csr_array((rows.value, rows.factor, rows.indptr), shape=(rows.n_rows, rows.n_factors))

    decode, encode = matrix(model.decode), None if model.encode is None else matrix(model.encode)

    def score(histories: Any) -> NDArray[np.float32]:  # noqa: ANN401 - scipy
        scaled = histories if model.encode_scale is None else histories.multiply(model.encode_scale[None, :]).tocsr()
        profiles = scaled if encode is None else scaled @ encode
        scores = _dense(profiles @ decode.T)
        return scores if model.bias is None else scores + model.bias

    return ByHistory(score, "a compressed recommender")


def lists_of(scorer: ItemScorer, split: Split, k: int, *, users: int | None = None) -> NDArray[np.int32]:
    """Make a scorer's lists for test users: those with an empty history get the training part's most popular items.

    Args:
        scorer: gives the scores; where test users are training users it is told who they are.
        split: histories to answer.
        k: length of the lists.
        users: for the first so many alone; default: for all.

    Returns:
        int32 [n_users, k], as :func:`prunus.topk.recommend`.
    """
    numbers = np.arange(split.histories.n_users if users is None else min(users, split.histories.n_users))
    histories = split.histories.take_users(numbers)
    known = numbers if split.histories is split.train else None
    popular = np.argsort(-split.train.popularity, kind="stable")
    return recommend(scorer.scores, histories, k, users=known, popular=popular)


def as_item_scorer(source: Any, train: Interactions) -> ItemScorer:  # noqa: ANN401 - anything that gives scores
    """Make a teacher of any source of user-item scores.

    Args:
        source: one of

            - an :class:`ItemScorer`;
            - a compressed recommender, such as ``prunus.load`` gives;
            - a matrix of scores, NumPy or scipy, [n_users, n_items], row u for user u of the training data;
            - a torch module from multi-hot histories, float32 [n, n_items], to scores of that shape;
            - a model of ``implicit``, fitted on the training data (``train.users_x_items()``);
            - a callable, scipy CSR [n, n_items] -> [n, n_items].
        train: the training data, for shapes.

    Raises:
        TeacherError: it is none of these, or of another shape.
    """
    name = type(source).__name__
    if isinstance(source, RecommendScorer):
        return ByHistory(source.scores, "a compressed recommender")
    if hasattr(source, "scores"):
        scorer: ItemScorer = source
        return scorer
    if hasattr(source, "shape") and hasattr(source, "dtype"):
        if tuple(source.shape) != (train.n_users, train.n_items):
            msg = (
                f"got scores of shape {tuple(source.shape)}; expected [{train.n_users}, {train.n_items}], users x items"
            )
            raise TeacherError(msg)
        table = source.tocsr() if hasattr(source, "tocsr") else source
        return ByUser(lambda users: _dense(table[users]), train.n_users, "a matrix of scores")
    if type(source).__module__.partition(".")[0] == "implicit":
        return _of_implicit(source, train)
    if any(base.__module__.partition(".")[0] == "torch" for base in type(source).__mro__):
        return ByHistory(lambda histories: _run_module(source, histories), name)
    if callable(source):
        return ByHistory(source, getattr(source, "__name__", name))
    msg = f"got {name}; expected a matrix, a torch module, an implicit model or a callable that scores histories"
    raise TeacherError(msg)


def _of_implicit(model: Any, train: Interactions) -> ItemScorer:  # noqa: ANN401 - no annotations
    """Nearest-neighbour models and ALS answer from histories; other factorisations know their users only."""
    name = f"implicit {type(model).__name__}"
    if hasattr(model, "similarity"):
        return ByHistory(lambda histories: _dense(histories @ model.similarity), name)
    if not hasattr(model, "item_factors"):
        msg = f"got {name} without item factors; expected a fitted matrix factorisation or nearest-neighbour model"
        raise TeacherError(msg)
    items = _array(model.item_factors)
    if len(items) != train.n_items:
        msg = f"{name} knows {len(items)} items; expected {train.n_items}: fit it on train.users_x_items()"
        raise TeacherError(msg)
    if type(model).__name__ == "AlternatingLeastSquares":

        def fold_in(histories: Any) -> NDArray[np.float32]:  # noqa: ANN401 - scipy
            sparse = need("scipy.sparse", extra="io")
            factors = model.recalculate_user(np.arange(histories.shape[0]), sparse.csr_matrix(histories))
            return np.asarray(_array(factors) @ items.T)

        return ByHistory(fold_in, name)
    people = _array(model.user_factors)
    return ByUser(lambda users: people[users] @ items.T, len(people), name)


def _run_module(module: Any, histories: Any) -> NDArray[np.float32]:  # noqa: ANN401 - torch is not imported here
    torch = need("torch", extra="train")
    was_training = module.training
    module.eval()
    with torch.no_grad():
        found = module(torch.from_numpy(histories.toarray())).numpy(force=True)
    module.train(was_training)
    return np.asarray(found)


def _dense(rows: Any) -> NDArray[np.float32]:  # noqa: ANN401 - NumPy or scipy
    return np.asarray(rows.toarray() if hasattr(rows, "toarray") else rows, dtype=np.float32)


def _array(factors: Any) -> NDArray[np.float32]:  # noqa: ANN401 - NumPy, or a matrix on a GPU
    return np.asarray(factors.to_numpy() if hasattr(factors, "to_numpy") else factors, dtype=np.float32)


def _checked(scores: ArrayLike, shape: tuple[int, int], name: str) -> NDArray[np.float32]:
    found = np.asarray(scores, dtype=np.float32)
    if found.shape != tuple(shape):
        msg = f"the teacher {name!r} gives scores of shape {found.shape}; expected one for each item, {tuple(shape)}"
        raise TeacherError(msg)
    if not np.isfinite(found).all():
        msg = f"the teacher {name!r} gives scores that are not finite; expected a number for every item"
        raise TeacherError(msg)
    return found
