"""EASE, the linear item-item autoencoder: a closed form, seconds of one core, and hard to beat.

With X the users x items matrix, w_u the weight of a user and G = X' diag(w) X, EASE is the matrix B of zero diagonal
that minimises

    sum over users u of w_u |x_u - x_u B|^2 + sum over items j of r_j * |B_j.|^2,

which is B_ij = -P_ij / P_jj with P = (G + diag(r))^-1.

All of it happens in one n x n array: G is put there block by block, its inverse overwrites one triangle, the other one is
copied from it, and the columns are scaled. So the memory is that array and a few blocks of rows, and is told before anything is
computed.

References:
    Steck, Embarrassingly shallow autoencoders for sparse data, WWW 2019 (r_j = l2 for all items).
    Steck, Autoencoders that don't overfit towards the identity, NeurIPS 2020 (r_j that grows with the item's users).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from prunus.errors import NotEnoughMemoryError, TeacherError
from prunus.extras import need

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from prunus.data.interactions import Interactions

BLOCK_BYTES = 256 << 20
"""Dense rows of G made at a time, beside the array itself."""
PIVOT_ROWS = 512
"""Rows of a pivot block at most: of those tried (512, 1024, 2048) the fastest."""
LARGEST_CONDITION = 1e4
"""Up to this bound of the condition number float32 keeps three digits of every weight; beyond it float64 is used."""


@dataclass(frozen=True, eq=False)
class ItemItem:
    """Scores of a history are the sums of its items' rows: s = x B.

    Attributes:
        weights: float32 [n_items, n_items]; row i is what item i says for each item.
        name: what to call it in a table.
    """

    weights: NDArray[np.float32]
    name: str = "item-item weights"

    @property
    def n_items(self) -> int:
        """Items of the catalogue."""
        return int(self.weights.shape[1])

    def scores(self, histories: Any, users: NDArray[np.int64] | None = None) -> NDArray[np.float32]:  # noqa: ANN401
        """Return scores, float32 [n, n_items]; seen items are not masked.

        Args:
            histories: scipy CSR [n, n_items].
            users: not needed: a history says all.
        """
        del users
        return np.asarray(histories @ self.weights, dtype=np.float32)


@dataclass(frozen=True)
class EaseSettings:
    """What EASE is fitted with. The defaults but ``l2`` are Steck's EASE; each of the others is worth a try.

    Attributes:
        l2: regularisation of an item of average popularity, above 0.
        growth: r_j = l2 * (users of item j / mean)^growth: 0 for all alike; 1 is what dropout of the input tends to.
        long_histories: w_u = (items of user u / mean)^-long_histories: 0 for all alike; at 1 each user has about the
            same say, however long the history.
        popular_items: scores of item j are multiplied by (users of item j / mean)^-popular_items: above 0 it
            recommends popular items less.

    Raises:
        TeacherError: ``l2`` is not above 0.
    """

    l2: float = 500.0
    growth: float = 0.0
    long_histories: float = 0.0
    popular_items: float = 0.0

    def __post_init__(self) -> None:
        if not self.l2 > 0:
            msg = f"got l2 = {self.l2}; expected a number above 0, such as 500"
            raise TeacherError(msg)

    def __str__(self) -> str:
        """Name the settings that differ from the defaults, and ``l2``."""
        extra = "".join(f", {one.name}={value:g}" for one in fields(self)[1:] if (value := getattr(self, one.name)))
        return f"EASE(l2={self.l2:g}{extra})"


@dataclass(frozen=True, eq=False)
class EaseProblem:
    """The least squares that EASE solves, so that others can be solved beside it: see the module.

    Attributes:
        matrix: scipy CSR [n_users, n_items], float32: diag(w)^(1/2) X, so that G = matrix' matrix.
        ridge: float64 [n_items], r.
        scale: float64 [n_items], what the columns of B are multiplied by at last: less for popular items.
    """

    matrix: Any
    ridge: NDArray[np.float64]
    scale: NDArray[np.float64]


def ease_problem(train: Interactions, settings: EaseSettings) -> EaseProblem:
    """Give the least squares of EASE.

    Args:
        train: the interactions.
        settings: how they are weighed.
    """
    sizes, matrix = np.diff(train.indptr).astype(np.float64), train.users_x_items()
    matrix.data *= np.repeat(
        (np.maximum(sizes, 1) / sizes.mean()) ** (-settings.long_histories / 2), np.diff(train.indptr)
    )
    common = _common(train)
    return EaseProblem(matrix, settings.l2 * common**settings.growth, common**-settings.popular_items)


def ease_bytes(n_items: int, *, double: bool = False) -> int:
    """Tell the bytes that :func:`fit_ease` needs beside the interactions.

    Args:
        n_items: items of the catalogue.
        double: whether float64 is used.
    """
    width = 8 if double else 4
    return n_items * n_items * width + 2 * min(BLOCK_BYTES, n_items * n_items * width)


def fit_ease(train: Interactions, settings: EaseSettings | None = None, *, memory_bytes: int | None = None) -> ItemItem:
    """Fit EASE.

    float32 is used where it keeps three digits: where (greatest row sum of G + r) / least r, a bound of the condition
    number of G + diag(r), is at most :data:`LARGEST_CONDITION`. Elsewhere it is float64, and twice the memory.

    Args:
        train: the interactions.
        settings: how; default: Steck's EASE with l2 = 500.
        memory_bytes: what may be used; default: what the machine has available.

    Returns:
        The teacher.

    Raises:
        NotEnoughMemoryError: the fit would need more; the message says how much.
        TeacherError: G + diag(r) is not positive definite as rounded.
    """
    settings = settings or EaseSettings()
    problem = ease_problem(train, settings)
    double = _is_ill_conditioned(problem.matrix, problem.ridge)
    _check_memory(train.n_items, memory_bytes, double=double)
    weights = _gram(problem.matrix, np.float64 if double else np.float32)
    weights[np.diag_indices_from(weights)] += problem.ridge.astype(weights.dtype)
    _invert(weights)
    scale = (-problem.scale / weights.diagonal()).astype(weights.dtype)
    for rows in _blocks(weights):
        weights[rows] *= scale
    np.fill_diagonal(weights, 0.0)
    return ItemItem(weights.astype(np.float32, copy=False), str(settings))


def needs_double(train: Interactions, settings: EaseSettings) -> bool:
    """Tell whether :func:`fit_ease` would use float64, and twice the memory."""
    problem = ease_problem(train, settings)
    return _is_ill_conditioned(problem.matrix, problem.ridge)


def _common(train: Interactions) -> NDArray[np.float64]:
    """Users of each item over their mean; items without count as having one."""
    counts = train.popularity.astype(np.float64)
    common: NDArray[np.float64] = np.maximum(counts, 1) / max(counts.mean(), 1)
    return common


def _is_ill_conditioned(matrix: Any, ridge: NDArray[np.float64]) -> bool:  # noqa: ANN401 - scipy
    """Tell whether a bound of the condition number of X'X + diag(r) is above :data:`LARGEST_CONDITION`."""
    # Bounds the row sums of G: over the users of an item, the sums of their weights x items.
    row_sums = matrix.T @ (matrix @ np.ones(matrix.shape[1]))
    return bool((row_sums + ridge).max() / ridge.min() > LARGEST_CONDITION)


def _check_memory(n_items: int, memory_bytes: int | None, *, double: bool) -> None:
    needed = ease_bytes(n_items, double=double)
    if memory_bytes is None:
        memory_bytes = int(need("psutil", extra="train").virtual_memory().available)
    if needed > memory_bytes:
        kind = "float64, since the regularisation is small" if double else "float32"
        msg = (
            f"EASE of {n_items:,} items needs {needed / 1e9:.1f} GB ({kind}), and {memory_bytes / 1e9:.1f} GB are there;"
            " expected a smaller catalogue (leave rare items out), more memory, or another teacher"
        )
        raise NotEnoughMemoryError(msg)


def _blocks(matrix: NDArray[Any], at_most: int | None = None) -> list[slice]:
    """Rows of a square matrix in blocks of :data:`BLOCK_BYTES`; of half of them where no more than ``at_most`` rows are wanted."""
    n = len(matrix)
    step = max(1, BLOCK_BYTES // (n * matrix.itemsize))
    if at_most is not None:
        step = min(max(1, step // 2), at_most)
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]


def _gram(matrix: Any, dtype: type[np.floating[Any]]) -> NDArray[Any]:  # noqa: ANN401 - scipy
    """Return G = X'X, dense; beside it one block of rows."""
    gram = np.zeros((matrix.shape[1], matrix.shape[1]), dtype)
    columns = matrix.astype(dtype).T.tocsr()
    for rows in _blocks(gram):
        (columns[rows] @ matrix).toarray(out=gram[rows])
    return gram


def _invert(matrix: NDArray[Any]) -> None:
    """Overwrite a symmetric positive definite matrix, C-ordered, with its inverse, block by block.

    The symmetric sweep (Goodnight 1979): with D the inverse of a pivot block K, and I, J any blocks but K,

        A_IJ <- A_IJ - A_IK D A_KJ,    A_KJ <- D A_KJ,    A_KK <- -D.

    Swept on all its blocks A is minus its inverse; it stays symmetric, so its lower triangle does: n^3 operations. LAPACK's potrf
    and potri take as many, and .8 of the time, but with two threads and 35,568 items one fit of two ended in a segmentation fault
    (OpenBLAS 0.3.30 of SciPy 1.17, packing blocks for the parallel potrf, as in its issue 1413). Here LAPACK sees single blocks.
    """
    lapack = need("scipy.linalg.lapack", extra="io")
    factorise, invert = (lapack.spotrf, lapack.spotri) if matrix.dtype == np.float32 else (lapack.dpotrf, lapack.dpotri)
    blocks = _blocks(matrix, at_most=PIVOT_ROWS)
    for pivot in blocks:
        square, info = factorise(matrix[pivot, pivot], lower=1, clean=0)
        if info != 0:
            msg = f"the matrix of EASE is singular in {matrix.dtype} (LAPACK says {info}); expected a larger l2"
            raise TeacherError(msg)
        inverse = _mirrored(invert(square, lower=1)[0])
        across = np.hstack([matrix[pivot, : pivot.stop], matrix[pivot.stop :, pivot].T])
        across[:, pivot] = _mirrored(matrix[pivot, pivot])
        swept = inverse @ across
        for rows in blocks:
            if rows != pivot:
                matrix[rows, : rows.stop] -= across[:, rows].T @ swept[:, : rows.stop]
        matrix[pivot, : pivot.start] = swept[:, : pivot.start]
        matrix[pivot.stop :, pivot] = swept[:, pivot.stop :].T
        matrix[pivot, pivot] = -inverse
    for rows in blocks:
        np.negative(matrix[rows, : rows.stop], out=matrix[rows, : rows.stop])
        matrix[: rows.start, rows] = matrix[rows, : rows.start].T
        matrix[rows, rows] = _mirrored(matrix[rows, rows])


def _mirrored(square: NDArray[Any]) -> NDArray[Any]:
    """Return a square matrix whose upper triangle is its lower one."""
    mirrored: NDArray[Any] = np.tril(square) + np.tril(square, -1).T
    return mirrored
