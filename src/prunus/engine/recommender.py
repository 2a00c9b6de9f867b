"""The recommenders that the engine can run: item factors, sparse or dense, as plain arrays.

With d_j the decoder's row of item j, e_i the encoder's row of item i, c_i its scale and b_j a bias, a user with the
history H (a set of items) has the profile p and the scores s:

    p = sum over i in H of c_i e_i,        s_j = <p, d_j> + b_j

so a user who was never seen needs no training, only a history. Nothing here masks the items of H: that is done where
lists are made (:class:`~prunus.engine.recommend_scorer.RecommendScorer`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from prunus.errors import NetworkError, RecommenderError

if TYPE_CHECKING:
    from numpy.typing import NDArray

from prunus.engine.arrays import Scalar, checked_array

MAX_ITEMS = 1 << 24
"""Largest number of items: float32 holds every item number, and an item number times 64 fits int32."""

MAX_STORED = (1 << 31) - 1
"""Largest number of stored values: row starts are int32."""


def _require(condition: object, message: str) -> None:
    if not condition:
        raise RecommenderError(message)


def _array(value: NDArray[np.generic], dtype: type[Scalar], name: str, ndim: int = 1) -> NDArray[Scalar]:
    try:
        return checked_array(value, dtype, name, ndim)
    except NetworkError as error:
        raise RecommenderError(str(error)) from error


def _check_step(value: NDArray[np.float32], step: NDArray[np.float32], name: str) -> None:
    """Check that float32 values are whole multiples, of at most 127 either way, of their steps."""
    _require((step > 0).all(), f"{name}.step holds zero or less; expected the distance of two levels")
    codes = np.rint(value / step)
    _require(
        np.array_equal(codes * step, value) and np.abs(codes, out=codes).max(initial=0) <= 127,
        f"{name} has values that are no whole multiples, -127 to 127, of their step: quantise them, or give no step",
    )


@dataclass(frozen=True, eq=False)
class SparseRows:
    """Rows of few values in CSR form: row j has ``value[indptr[j]:indptr[j + 1]]`` at the same places of ``factor``.

    Attributes:
        n_factors: width of a row.
        indptr: int32 [n_rows + 1], rising from 0 to the number of stored values.
        factor: int32 [stored], 0 to n_factors - 1, rising inside a row.
        value: float32 [stored], finite.
        step: float32 [n_rows] or [1], or None. Where it is given, each value is its row's step times a whole number of
            -127 to 127, which is what a file then keeps; see :func:`prunus.engine.levels.quantise`.

    Raises:
        RecommenderError: the arrays do not describe such rows.
    """

    n_factors: int
    indptr: NDArray[np.int32]
    factor: NDArray[np.int32]
    value: NDArray[np.float32]
    step: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "n_factors", int(self.n_factors))
        for name, dtype in (("indptr", np.int32), ("factor", np.int32), ("value", np.float32)):
            object.__setattr__(self, name, _array(getattr(self, name), dtype, name))
        indptr, factor = self.indptr, self.factor
        _require(1 <= self.n_factors <= MAX_ITEMS, f"{self.n_factors} factors; expected 1 to {MAX_ITEMS}")
        _require(2 <= len(indptr) <= MAX_ITEMS + 1, f"{len(indptr) - 1} rows; expected 1 to {MAX_ITEMS}")
        _require(
            indptr[0] == 0 and indptr[-1] == len(factor) and (indptr[1:] >= indptr[:-1]).all(),
            f"indptr must rise from 0 to {len(factor)}, the number of stored factors",
        )
        _require(
            len(self.value) == len(factor), f"{len(self.value)} values for {len(factor)} factors; expected one each"
        )
        _require(
            not len(factor) or (factor.min() >= 0 and factor.max() < self.n_factors),
            f"a factor lies outside 0..{self.n_factors - 1}",
        )
        rising = factor[1:] > factor[:-1]
        starts = indptr[1:-1]
        rising[starts[(starts > 0) & (starts < len(factor))] - 1] = True
        _require(rising.all(), "factors must rise inside a row, without repeats")
        if self.step is not None:
            step = _array(self.step, np.float32, "step")
            object.__setattr__(self, "step", step)
            _require(
                len(step) in {1, self.n_rows}, f"{len(step)} steps; expected 1, or one for each of {self.n_rows} rows"
            )
            _check_step(self.value, np.repeat(step, self.lengths) if len(step) > 1 else step, "rows")

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.indptr) - 1

    @property
    def lengths(self) -> NDArray[np.int32]:
        """int32 [n_rows]: stored values of each row."""
        return self.indptr[1:] - self.indptr[:-1]

    @property
    def row(self) -> NDArray[np.int64]:
        """int64 [stored]: the row that each stored value stands in."""
        return np.repeat(np.arange(self.n_rows), self.lengths)

    @classmethod
    def from_dense(cls, matrix: NDArray[np.float32], step: NDArray[np.float32] | None = None) -> SparseRows:
        """Return the rows of a matrix without its zeros.

        Args:
            matrix: float32 [n_rows, n_factors].
            step: see the class.
        """
        row, factor = np.nonzero(matrix)
        indptr = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=len(matrix)))]).astype(np.int32)
        return cls(matrix.shape[1], indptr, factor.astype(np.int32), matrix[row, factor], step)

    def to_dense(self) -> NDArray[np.float32]:
        """Return float32 [n_rows, n_factors]."""
        matrix = np.zeros((self.n_rows, self.n_factors), np.float32)
        matrix[self.row, self.factor] = self.value
        return matrix


class _Items:
    """What both classes of recommender share: one entry for each item."""

    encode_scale: NDArray[np.float32] | None
    bias: NDArray[np.float32] | None
    popular: NDArray[np.int32]

    def _check_items(self, n_items: int) -> None:
        for name in ("encode_scale", "bias"):
            given = getattr(self, name)
            if given is not None:
                object.__setattr__(self, name, _array(given, np.float32, name))
                _require(len(getattr(self, name)) == n_items, f"{name} has {len(given)} entries for {n_items} items")
        popular = _array(self.popular, np.int32, "popular")
        object.__setattr__(self, "popular", popular)
        _require(
            not len(popular) or (popular.min() >= 0 and popular.max() < n_items),
            f"a popular item lies outside 0..{n_items - 1}",
        )
        _require(len(np.unique(popular)) == len(popular), "an item is twice in popular; expected each once at most")

    def popular_order(self, n_items: int) -> NDArray[np.int32]:
        """Return int32 [n_items]: the popular items, most popular first, then all others by number."""
        rest = np.ones(n_items, np.bool_)
        rest[self.popular] = False
        return np.concatenate([self.popular, np.flatnonzero(rest)]).astype(np.int32)


@dataclass(frozen=True, eq=False)
class SparseFactors(_Items):
    """Sparse item factors, or a sparse matrix of weights between items; see the module's formula.

    Attributes:
        decode: [n_items, n_factors]. Of item-item weights, row j holds what each item of a history adds to s_j.
        encode: likewise; None, or the same object as ``decode``: the two are tied. Item-item weights have none, as
            their encoder is the identity.
        encode_scale: float32 [n_items], c of the formula, or None for ones.
        bias: float32 [n_items], or None for zeros.
        popular: int32, the most popular items, the most popular first: the answer to an empty history. Not all need to
            be listed; the others follow by number.
        item_item: whether the factors are the items themselves.

    Raises:
        RecommenderError: the parts do not fit each other.
    """

    decode: SparseRows
    encode: SparseRows | None = None
    encode_scale: NDArray[np.float32] | None = None
    bias: NDArray[np.float32] | None = None
    popular: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    item_item: bool = False

    def __post_init__(self) -> None:
        if self.item_item:
            _require(self.encode is None, "item-item weights have an encoder; expected none, as theirs is the identity")
            _require(
                self.decode.n_factors == self.n_items,
                f"item-item weights of {self.n_items} rows and {self.decode.n_factors} columns; expected a square",
            )
        elif self.encode is None:
            object.__setattr__(self, "encode", self.decode)
        if self.encode is not None:
            found, wanted = (self.encode.n_rows, self.encode.n_factors), (self.n_items, self.n_factors)
            _require(found == wanted, f"encoder of {found} rows and factors, decoder of {wanted}; expected the same")
        self._check_items(self.n_items)

    @property
    def n_items(self) -> int:
        """Number of items."""
        return self.decode.n_rows

    @property
    def n_factors(self) -> int:
        """Width of a profile."""
        return self.decode.n_factors

    @property
    def tied(self) -> bool:
        """Whether encoder and decoder are the same rows."""
        return self.encode is self.decode

    @property
    def nonzeros(self) -> int:
        """Stored values of decoder and, where it is another, encoder."""
        return len(self.decode.value) + (0 if self.tied or self.encode is None else len(self.encode.value))


@dataclass(frozen=True, eq=False)
class DenseFactors(_Items):
    """Dense item factors; see the module's formula.

    Attributes:
        decode: float32 [n_items, n_factors], finite.
        encode: likewise; None, or the same object as ``decode``: the two are tied.
        encode_scale: float32 [n_items], or None for ones.
        bias: float32 [n_items], or None for zeros.
        popular: as in :class:`SparseFactors`.
        step: float32 [n_items] or [1], or None: where it is given, each value of both is a whole multiple, -127 to 127,
            of its item's step.

    Raises:
        RecommenderError: the parts do not fit each other.
    """

    decode: NDArray[np.float32]
    encode: NDArray[np.float32] | None = None
    encode_scale: NDArray[np.float32] | None = None
    bias: NDArray[np.float32] | None = None
    popular: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    step: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        tied = self.encode is None or self.encode is self.decode
        object.__setattr__(self, "decode", _array(self.decode, np.float32, "decode", 2))
        shape = self.decode.shape
        _require(
            1 <= shape[0] <= MAX_ITEMS and 1 <= shape[1] <= MAX_ITEMS,
            f"{shape[0]} items of {shape[1]} factors; expected 1 to {MAX_ITEMS} of each",
        )
        encode = self.decode if tied else _array(self.encode, np.float32, "encode", 2)  # type: ignore[arg-type]
        object.__setattr__(self, "encode", encode)
        _require(encode.shape == shape, f"encoder of shape {encode.shape}, decoder of {shape}; expected the same")
        self._check_items(self.n_items)
        if self.step is not None:
            step = _array(self.step, np.float32, "step")
            object.__setattr__(self, "step", step)
            _require(
                len(step) in {1, self.n_items}, f"{len(step)} steps; expected 1, or one for each of {self.n_items}"
            )
            _check_step(self.decode, step[:, None], "decode")
            _check_step(encode, step[:, None], "encode")

    @property
    def n_items(self) -> int:
        """Number of items."""
        return len(self.decode)

    @property
    def n_factors(self) -> int:
        """Width of a profile."""
        return int(self.decode.shape[1])

    @property
    def tied(self) -> bool:
        """Whether encoder and decoder are the same matrix."""
        return self.encode is self.decode

    @property
    def nonzeros(self) -> int:
        """Values of decoder and, where it is another, encoder."""
        return int(self.decode.size) * (1 if self.tied else 2)


Recommender = SparseFactors | DenseFactors
"""Whatever makes lists of items."""
