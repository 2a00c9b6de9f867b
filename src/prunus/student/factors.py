"""The recommender's student: item factors under a mask, which serve as encoder of histories and decoder of scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from prunus.engine.levels import choose_step, largest_level, quantise
from prunus.engine.recommender import DenseFactors, SparseFactors, SparseRows

if TYPE_CHECKING:
    from numpy.typing import NDArray

SPREAD: Final = 0.1
"""Standard deviation of the first weights. Rows are normalised: it only sets how far a step of the optimiser turns one."""

_ROUNDS: Final = 3
"""Power iterations of the leading factors: they are a start, and need no more digits."""


class _Levels(torch.autograd.Function):
    """Round to whole multiples of a step, -most to most; the gradient passes as if there were no rounding."""

    @staticmethod
    def forward(_ctx: object, values: Tensor, step: Tensor, most: int) -> Tensor:
        return torch.round(values / step).clamp_(-most, most).mul_(step)

    @staticmethod
    def backward(_ctx: object, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0], None, None


class _Rows(torch.autograd.Function):
    """d_j = c_j (m_j * a_j) / |m_j * a_j| in as few passes over the factors as it takes.

    With g the gradient by d: by log c it is g . d, and by a it is m * (c / |m * a|) (g - d (g . d) / c^2).
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, mask: Tensor, log_length: Tensor) -> Tensor:  # noqa: ANN401
        rows = weight * mask
        length = log_length.exp()[:, None]
        scale = length / torch.linalg.vector_norm(rows, dim=1, keepdim=True).clamp_(min=1e-12)
        rows.mul_(scale)
        ctx.save_for_backward(rows, mask, length, scale)
        return rows

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, Tensor]:  # noqa: ANN401
        rows, mask, length, scale = ctx.saved_tensors
        along = torch.einsum("ij,ij->i", gradients[0], rows)
        turned = torch.addcmul(gradients[0], rows, (along[:, None] / length.square()), value=-1.0)
        return turned.mul_(scale).mul_(mask), None, along


class Factors(nn.Module):
    """Item factors d_j = c_j (m_j * a_j) / |m_j * a_j| with 0/1 masks m_j, and scores s_j = <sum_{i in H} d_i, d_j>.

    Encoder and decoder are tied. Direction and length are learned apart: the optimiser then turns long and short rows
    alike. Once :meth:`calibrate` was called the factors stand on the levels that a file keeps, and training goes on with
    the rounding in place (straight-through; Bengio et al. 2013, arXiv 1308.3432).

    Attributes:
        weight: float32 [n_items, n_factors], a.
        log_length: float32 [n_items], log of c.
        mask: bool [n_items, n_factors], m.
        log_sharpness: float32 [], log of what scores are multiplied by where a softmax is taken of them.
        step: float32 [], distance of two levels; 0 before :meth:`calibrate`.
    """

    mask: Tensor
    step: Tensor

    def __init__(self, n_items: int, n_factors: int, *, seed: int, bits: int = 8) -> None:
        """Draw new factors.

        Args:
            n_items: items of the catalogue.
            n_factors: width of a row.
            seed: of the first weights.
            bits: of a value in the file, once calibrated.

        Raises:
            RecommenderError: bits below 2 or above 8.
        """
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(SPREAD * torch.randn(n_items, n_factors, generator=generator))
        self.log_length = nn.Parameter(torch.zeros(n_items))
        self.log_sharpness = nn.Parameter(torch.tensor(2.0))
        self.register_buffer("mask", torch.ones(n_items, n_factors, dtype=torch.bool))
        self.register_buffer("step", torch.tensor(0.0))
        self.bits, self.most = bits, largest_level(bits)

    @property
    def n_items(self) -> int:
        """Items of the catalogue."""
        return self.weight.shape[0]

    @property
    def n_factors(self) -> int:
        """Width of a row."""
        return self.weight.shape[1]

    def rows(self, items: Tensor | None = None) -> Tensor:
        """The factors d as they score now: float32 [n_items, n_factors].

        Args:
            items: int64, items whose rows are wanted, in this order; None for the whole catalogue.
        """
        rows = self._smooth(items)
        return _Levels.apply(rows, self.step, self.most) if self.step > 0 else rows  # type: ignore[no-untyped-call]

    def _smooth(self, items: Tensor | None = None) -> Tensor:
        parts = (self.weight, self.mask, self.log_length)
        if items is not None:
            parts = tuple(part.index_select(0, items) for part in parts)  # type: ignore[assignment]
        return _Rows.apply(*parts)  # type: ignore[no-untyped-call, no-any-return]

    @torch.no_grad()
    def start_from(self, rows: NDArray[np.float32]) -> None:
        """Take the directions of rows as first weights; those of length 0 stay as they were drawn.

        Args:
            rows: float32 [n_items, n_factors].
        """
        given = torch.from_numpy(rows)
        length = given.norm(dim=1, keepdim=True)
        drawn = self.weight.norm(dim=1, keepdim=True)
        self.weight.copy_(torch.where(length > 0, given / length.clamp(min=1e-30) * drawn, self.weight))

    @torch.no_grad()
    def calibrate(self) -> None:
        """Choose the levels that lose the least of the factors as they are, and stand on them from now on."""
        self.step.fill_(float(choose_step(self._smooth().numpy(), self.bits)))

    def profiles(self, rows: Tensor, indptr: Tensor, items: Tensor) -> Tensor:
        """Sum the factors of each history.

        Args:
            rows: float32 [n_items, n_factors], of :meth:`rows`.
            indptr: int64 [n_users + 1], where each history starts.
            items: int64, item numbers of all histories.

        Returns:
            float32 [n_users, n_factors].
        """
        return functional.embedding_bag(items, rows, indptr[:-1], mode="sum")

    def forward(self, indptr: Tensor, items: Tensor) -> Tensor:
        """Score the catalogue for each history: float32 [n_users, n_items]; seen items are scored too."""
        rows = self.rows()
        return self.profiles(rows, indptr, items) @ rows.T

    @torch.no_grad()
    def factors(self, popular: NDArray[np.int32]) -> SparseFactors | DenseFactors:
        """Give the factors to the engine: dense where the mask keeps everything, else sparse.

        Args:
            popular: int32, items by falling popularity, the answer to an empty history.
        """
        calibrated = float(self.step) > 0
        rows = self._smooth().numpy()
        step = np.array([float(self.step)], np.float32) if calibrated else None
        values = quantise(rows, self.bits, step)[0] if calibrated else rows
        if bool(self.mask.all()):
            return DenseFactors(values, popular=popular, step=step)
        return SparseFactors(SparseRows.from_dense(values, step), popular=popular)


def leading_factors(weights: NDArray[np.float32], n_factors: int, *, seed: int = 0) -> NDArray[np.float32]:
    """Factorise item-item weights B: the rows V sqrt(L) of the leading eigenvectors of their symmetric part.

    The symmetric part is sign(B_ij) sqrt(B_ij B_ji) where both directions agree in sign, else 0. Of EASE, whose
    B_ij = -P_ij / P_jj, it is the matrix of partial correlations -P_ij / sqrt(P_ii P_jj). Factors of eigenvalues that are
    not positive are 0.

    Args:
        weights: float32 [n_items, n_items].
        n_factors: at most n_items.
        seed: of the randomised decomposition.

    Returns:
        float32 [n_items, n_factors].

    References:
        Halko, Martinsson, Tropp 2011, arXiv 0909.4061, for the decomposition.
    """
    b = torch.from_numpy(weights)
    both = torch.sqrt((b * b.T).clamp_(min=0.0)).mul_(torch.sign(b))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        left, values, right = torch.svd_lowrank(both, q=min(n_factors + n_factors // 8, len(b)), niter=_ROUNDS)
    positive = (left * right).sum(0) > 0
    return (left * torch.sqrt(values) * positive)[:, :n_factors].contiguous().numpy()
