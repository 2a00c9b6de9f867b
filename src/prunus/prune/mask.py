"""A mask: which weights of a layer are kept. Only 0 and 1 can stand in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Mask:
    """A 0/1 array of a layer's shape.

    Attributes:
        kept: bool [n_outputs, n_inputs], True where the weight is kept.
    """

    def __init__(self, values: NDArray[np.generic]) -> None:
        """Check and keep ``values``.

        Args:
            values: [n_outputs, n_inputs], every entry 0 or 1.

        Raises:
            ValueError: an entry is neither 0 nor 1, or the array has not two dimensions.
        """
        values = np.asarray(values)
        if values.ndim != 2:
            msg = f"got a mask of {values.ndim} dimensions; expected 2: outputs by inputs"
            raise ValueError(msg)
        wrong = (values != 0) & (values != 1)
        if wrong.any():
            msg = f"got {values[wrong][0]} in a mask; expected only 0 and 1"
            raise ValueError(msg)
        self.kept: NDArray[np.bool_] = values.astype(np.bool_)

    @classmethod
    def ones(cls, shape: tuple[int, int]) -> Mask:
        """Keep every weight of a layer of this shape."""
        return cls(np.ones(shape, np.uint8))

    @property
    def nonzeros(self) -> int:
        """Number of weights kept."""
        return int(self.kept.sum())

    @property
    def density(self) -> float:
        """Share of the weights kept, in [0, 1]."""
        return self.nonzeros / self.kept.size

    @property
    def sparsity(self) -> float:
        """1 - density."""
        return 1.0 - self.density

    def within(self, other: Mask) -> bool:
        """Whether every weight kept here is kept in ``other`` too."""
        return bool((self.kept <= other.kept).all())

    def __eq__(self, other: object) -> bool:
        """Two masks are equal when they keep the same weights."""
        return isinstance(other, Mask) and np.array_equal(self.kept, other.kept)

    def __hash__(self) -> int:
        """Hash of the kept positions."""
        return hash((self.kept.shape, self.kept.tobytes()))

    def __repr__(self) -> str:
        """Shape and density."""
        return f"Mask({self.kept.shape[0]}x{self.kept.shape[1]}, density {self.density:.4f})"
