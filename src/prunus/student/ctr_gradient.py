"""Gradients of a click model's log-loss, written out: in a narrow net autograd costs about as much as the matrix products.

With h_0 .. h_L the inputs of the layers, W_l and b_l their weights, x the logits, o the offsets and y the targets,

    d_L = (1 / (1 + exp(-x - o)) - y) / n,    dW_l = d_l' h_l,    db_l = sum of d_l,    d_(l-1) = (d_l W_l) [h_l > 0],

and where the bottom MLP, embeddings and products are joined, d falls apart into what belongs to each of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from prunus.student.ctr import products_backward

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from prunus.student.ctr import ClickNet


@dataclass(frozen=True)
class Touched:
    """Which rows of its tables a batch reads, each once, and where it reads them; the same for every net that learns it.

    Attributes:
        places: int64 [n * n_ids], places in the flattened batch, those of one row side by side.
        starts: int64 [m], where in ``places`` those of each of the m rows begin.
    """

    places: Tensor
    starts: Tensor

    @classmethod
    def by(cls, rows: Tensor) -> Touched:
        """Find them.

        Args:
            rows: int64 [n, n_ids], row of each id in its field's table.
        """
        # Rows of two fields are two rows; no table has 2^32.
        distinct = rows + (torch.arange(rows.shape[1]) << 32)
        values, places = torch.sort(distinct.flatten(), stable=True)
        return cls(places, torch.diff(values, prepend=values.new_tensor([-1])).nonzero()[:, 0])


@torch.inference_mode()
def backward(
    net: ClickNet,
    z: Tensor,
    embeddings: Tensor,
    target: Tensor,
    offset: Tensor,
    weights: Sequence[Tensor],
    rows: tuple[Tensor, Touched] | None = None,
    x: Tensor | None = None,
) -> None:
    """Put the gradients of a batch's mean log-loss into a net, in place of what stands there.

    Args:
        net: the net.
        z: float32 [n, n_dense].
        embeddings: float32 [n, n_ids, dim].
        target: float32 [n], labels or probabilities.
        offset: float32 [n], added to the logits.
        weights: of the hidden layers, used in place of ``net.hidden``; the gradients are those by them.
        rows: of which the embeddings are, int64 [n, n_ids]; default: the tables get no gradient.
        x: as of :meth:`~prunus.student.ctr.ClickNet.activations`.
    """
    inputs = net.activations(z, embeddings, weights, x)
    error = torch.sigmoid_(net.score(inputs[-1]).add_(offset)).sub_(target).div_(len(target))
    net.table.grad = None
    flow = error[:, None]
    for number in reversed(range(len(net.linears))):
        layer, h = net.linears[number], inputs[number]
        layer.weight.grad, layer.bias.grad = flow.T @ h, flow.sum(0)
        weight = weights[number] if number < len(weights) else layer.weight
        if number == len(net.shape.bottom):
            if not number and rows is None:
                break
            flow, by_embeddings = _apart(net, flow, weight, h, embeddings)
            h = h[:, : flow.shape[1]]
            if rows is not None:
                net.table.grad = _by_rows(net, by_embeddings, *rows)
        elif number:
            flow = flow @ weight
        if number:
            # In place: what a layer passes on is read by nobody else.
            torch.ops.aten.threshold_backward.grad_input(flow, h, 0, grad_input=flow)


def _apart(net: ClickNet, flow: Tensor, weight: Tensor, x: Tensor, embeddings: Tensor) -> tuple[Tensor, Tensor]:
    """Give the gradients by what stands first in x, where it is the bottom's (else nothing of it), and by the embeddings.

    Args:
        net: the net.
        flow: float32 [n, n_outputs], the gradient by what the layer that reads x gives.
        weight: of that layer, float32 [n_outputs, n_inputs].
        x: float32 [n, n_inputs].
        embeddings: float32 [n, n_ids, dim].
    """
    shape = net.shape
    width = shape.bottom[-1] if shape.bottom else 0
    by_x = flow @ weight[:, 0 if width else shape.n_dense :]
    by_h, by_embeddings, by_products = by_x.split([width, shape.n_ids * shape.dim, shape.n_products], 1)
    by_embeddings = by_embeddings.reshape(embeddings.shape)
    if shape.n_products:
        vectors = torch.cat([x[:, None, :width], embeddings], 1) if width else embeddings
        by_vectors = products_backward(by_products, vectors, net.place)
        if width:
            by_h = by_h + by_vectors[:, 0]
        by_embeddings = by_embeddings + by_vectors[:, bool(width) :]
    return by_h, by_embeddings


def _by_rows(net: ClickNet, by_embeddings: Tensor, rows: Tensor, touched: Touched) -> Tensor:
    """Add up the gradients of each row: those by the table, sparse and coalesced."""
    sums = functional.embedding_bag(touched.places, by_embeddings.flatten(0, 1), touched.starts, mode="sum")
    distinct = (rows + net.first_row).flatten()[touched.places[touched.starts]]
    return torch.sparse_coo_tensor(distinct[None], sums, net.table.shape, check_invariants=False, is_coalesced=True)
