"""The stream's student: a click model of dense features and ids, in the shape of DLRM (Naumov et al. 2019, arXiv 1906.00091).

With z the normalised dense features, e_1 .. e_F the embeddings of the event's ids and v_0 = bottom(z),

    x = [v_0, e_1 .. e_F, <v_i, v_j> for i < j],    logit = top(x),

both MLPs rectified, the last layer of the top linear with one output. Without a bottom MLP z itself stands first in x and
the products are those of the embeddings alone; without interactions there are none, and the model is a plain MLP.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from prunus.engine.arrays import require

if TYPE_CHECKING:
    from collections.abc import Sequence

SPREAD = 0.05
"""Standard deviation of a new embedding. Small against the dense inputs: an id counts once it was learned, not before."""


@dataclass(frozen=True)
class ClickShape:
    """Sizes of a click model.

    Attributes:
        n_dense: dense inputs, the columns of z.
        rows: rows of the embedding table of each id field; row 0 is that of every unknown id.
        dim: width of an embedding.
        bottom: units of the bottom MLP, none for no such MLP; with interactions its last layer is ``dim`` wide.
        interactions: whether the pairwise products are inputs of the top MLP.
        top: units of the hidden layers of the top MLP.
    """

    n_dense: int
    rows: tuple[int, ...]
    dim: int = 16
    bottom: tuple[int, ...] = ()
    interactions: bool = True
    top: tuple[int, ...] = (512, 256, 128)

    def __post_init__(self) -> None:
        sizes = (*self.rows, self.dim, *self.bottom, *self.top)
        require(min(sizes) > 0, f"got sizes {sizes}; expected each at least 1")
        require(self.n_dense > 0 or self.rows, "got neither dense inputs nor id fields; expected one of them at least")
        require(self.n_dense > 0 or not self.bottom, "got a bottom MLP without dense inputs; expected bottom=()")
        fits = not (self.bottom and self.interactions) or self.bottom[-1] == self.dim
        require(
            fits,
            f"the bottom MLP ends {self.bottom[-1:]} wide; expected {self.dim}, as it is multiplied with embeddings",
        )

    @property
    def n_ids(self) -> int:
        """Id fields."""
        return len(self.rows)

    @property
    def n_vectors(self) -> int:
        """Vectors that are multiplied with each other: the embeddings, and v_0 where there is a bottom MLP."""
        return self.n_ids + bool(self.bottom)

    @property
    def n_products(self) -> int:
        """Pairwise products among the inputs of the top MLP."""
        return self.n_vectors * (self.n_vectors - 1) // 2 if self.interactions else 0

    @property
    def n_inputs(self) -> int:
        """Inputs of the top MLP, the length of x."""
        return (self.bottom[-1] if self.bottom else self.n_dense) + self.n_ids * self.dim + self.n_products

    @property
    def matrices(self) -> list[tuple[int, int]]:
        """(outputs, inputs) of each hidden matrix, bottom to top, as :attr:`ClickNet.hidden` has them."""
        bottom = itertools.pairwise((self.n_dense, *self.bottom))
        top = itertools.pairwise((self.n_inputs, *self.top))
        return [(after, before) for before, after in (*bottom, *top)]

    def flops(self, density: Sequence[float] | None = None) -> float:
        """Operations of both MLPs for one event, a multiply-add counted as two.

        Args:
            density: share of the weights kept in each hidden matrix; default all of each.
        """
        shares = [1.0] * len(self.matrices) if density is None else density
        hidden = sum(share * after * before for share, (after, before) in zip(shares, self.matrices, strict=True))
        return 2.0 * (hidden + (self.top[-1] if self.top else self.n_inputs))


class ClickNet(nn.Module):
    """The click model in torch.

    Attributes:
        shape: its sizes.
        table: float32 [sum(shape.rows), dim], the embeddings of all fields, field after field; :attr:`tables` are its
            parts. Its gradient is sparse: an event touches one row a field.
        bottom: linear layers of the bottom MLP.
        top: those of the top MLP, the last one with one output.
        linears: all layers, bottom to top.
    """

    first_row: Tensor
    pairs: Tensor
    place: Tensor

    def __init__(self, shape: ClickShape, *, seed: int) -> None:
        """Draw a new model.

        Args:
            shape: its sizes.
            seed: of the first weights.
        """
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.shape = shape
        self.table = nn.Parameter(SPREAD * torch.randn(sum(shape.rows), shape.dim, generator=generator))
        sizes = (shape.n_dense, *shape.bottom)
        self.bottom = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))
        self.top = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise((shape.n_inputs, *shape.top, 1)))
        self.linears = [cast("nn.Linear", layer) for layer in (*self.bottom, *self.top)]
        for layer in self.linears:
            # He et al. 2015 (arXiv 1502.01852), the rule for rectified units.
            nn.init.normal_(layer.weight, std=(2.0 / layer.in_features) ** 0.5, generator=generator)
            nn.init.zeros_(layer.bias)
        nn.init.normal_(self.linears[-1].weight, std=(1.0 / self.linears[-1].in_features) ** 0.5, generator=generator)
        starts = torch.tensor([0, *shape.rows], dtype=torch.int64).cumsum(0)[:-1]
        self.register_buffer("first_row", starts, persistent=False)
        n = shape.n_vectors
        left, right = torch.triu_indices(n, n, offset=1)
        place = torch.full((n, n), len(left))  # the diagonal's place is past all products
        place[left, right] = place[right, left] = torch.arange(len(left))
        self.register_buffer("pairs", left * n + right, persistent=False)
        self.register_buffer("place", place.flatten(), persistent=False)

    @property
    def hidden(self) -> list[Tensor]:
        """The weights that may be pruned: every matrix but the last, which is one wide; [n_outputs, n_inputs] each."""
        return [layer.weight for layer in self.linears[:-1]]

    def move_weights(self, flat: Tensor) -> None:
        """Let a vector hold all weights and biases, so that one operation changes them all.

        Args:
            flat: float32 [n_weights], overwritten; :attr:`hidden` come first.
        """
        rest = [*(layer.bias for layer in self.linears), self.linears[-1].weight]
        start = 0
        for parameter in (*self.hidden, *rest):
            part = flat[start : start + parameter.numel()].view_as(parameter)
            part.copy_(parameter.detach())
            parameter.data = part
            start += parameter.numel()

    @property
    def n_weights(self) -> int:
        """Weights and biases of all layers."""
        return sum(layer.weight.numel() + layer.bias.numel() for layer in self.linears)

    @property
    def tables(self) -> list[Tensor]:
        """The embeddings of each field: views of :attr:`table`, [rows, dim]; row 0 is that of unknown ids."""
        return list(self.table.detach().split(list(self.shape.rows)))

    def forward(self, z: Tensor, rows: Tensor, weights: Sequence[Tensor] | None = None) -> Tensor:
        """Predict events.

        Args:
            z: float32 [n, n_dense], from :class:`~prunus.student.normalise.RunningNormaliser`.
            rows: int64 [n, n_ids], row of each id in its field's table.
            weights: what to use in place of :attr:`hidden`, such as masked ones; default these themselves.

        Returns:
            float32 [n], log-odds of a click.
        """
        return self.predict(z, self.embed(rows), weights)

    def embed(self, rows: Tensor) -> Tensor:
        """Look up embeddings, which several calls of :meth:`predict` may share.

        Args:
            rows: int64 [n, n_ids].

        Returns:
            float32 [n, n_ids, dim].
        """
        return functional.embedding(rows + self.first_row, self.table, sparse=True)

    def predict(
        self, z: Tensor, embeddings: Tensor, weights: Sequence[Tensor] | None = None, inputs: list[Tensor] | None = None
    ) -> Tensor:
        """Predict events of embeddings that were looked up.

        Args:
            z: float32 [n, n_dense].
            embeddings: float32 [n, n_ids, dim], from :meth:`embed`.
            weights: as in :meth:`forward`.
            inputs: where to append the inputs of each hidden matrix, float32 [n, n_inputs] each; default nowhere.

        Returns:
            float32 [n], log-odds of a click.
        """
        *found, last = self.activations(z, embeddings, weights)
        if inputs is not None:
            inputs += found
        return self.score(last)

    def activations(
        self, z: Tensor, embeddings: Tensor, weights: Sequence[Tensor] | None = None, x: Tensor | None = None
    ) -> list[Tensor]:
        """Compute all but the last layer.

        Args:
            z: as of :meth:`predict`.
            embeddings: as of :meth:`predict`.
            weights: as of :meth:`predict`.
            x: inputs of the top MLP, where a net without a bottom MLP has joined these events already.

        Returns:
            What each of :attr:`linears` reads, float32 [n, n_inputs] each.
        """
        matrices = self.hidden if weights is None else weights
        h, found = z, []
        for number, layer in enumerate(self.linears):
            if number == len(self.shape.bottom):
                h = self._join(h, embeddings) if x is None else x
            found.append(h)
            if number < len(matrices):
                h = functional.relu_(functional.linear(h, matrices[number], layer.bias))
        return found

    def score(self, last: Tensor) -> Tensor:
        """Compute the last layer: log-odds, float32 [n], from the last of the :meth:`activations`."""
        layer = self.linears[-1]
        return functional.linear(last, layer.weight, layer.bias).squeeze(1)

    def _join(self, h: Tensor, embeddings: Tensor) -> Tensor:
        """The inputs x of the top MLP: float32 [n, n_inputs]."""
        parts = [h, embeddings.flatten(1)]
        if self.shape.n_products:
            vectors = torch.cat([h[:, None], embeddings], 1) if self.shape.bottom else embeddings
            if torch.is_grad_enabled():
                parts.append(_Products.apply(vectors, self.pairs, self.place))  # type: ignore[no-untyped-call]
            else:
                parts.append(products(vectors, self.pairs))
        return torch.cat(parts, 1)

    @torch.no_grad()
    def reset_rows(self, fresh: Sequence[Tensor]) -> Tensor:
        """Give rows to ids that were just admitted: they begin as the unknown id's row, which stood for them so far.

        Args:
            fresh: for each id field int64 [m], rows of its table.

        Returns:
            int64 [m of all fields together], the same rows in :attr:`table`.
        """
        unknown = self.first_row.repeat_interleave(torch.tensor([len(rows) for rows in fresh]))
        rows = torch.cat(list(fresh)) + unknown
        self.table.index_copy_(0, rows, self.table.index_select(0, unknown))
        return rows


def products(vectors: Tensor, pairs: Tensor) -> Tensor:
    """Products <v_i, v_j>, i < j: float32 [n, n_products], of vectors [n, n_vectors, dim]."""
    return torch.bmm(vectors, vectors.transpose(1, 2)).flatten(1).index_select(1, pairs)


def products_backward(gradient: Tensor, vectors: Tensor, place: Tensor) -> Tensor:
    """The gradient by V is that of the products, float32 [n, n_products], as a symmetric matrix, times V."""
    n, m, _ = vectors.shape
    padded = torch.cat([gradient, gradient.new_zeros(n, 1)], 1)
    return torch.bmm(padded.index_select(1, place).view(n, m, m), vectors)


class _Products(torch.autograd.Function):
    """Both of them for autograd."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, pairs: Tensor, place: Tensor) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(vectors, place)
        return products(vectors, pairs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        return products_backward(gradients[0], *ctx.saved_tensors), None, None
