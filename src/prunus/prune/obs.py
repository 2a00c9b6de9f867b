"""Optimal brain surgeon, layer by layer: what goes and how the rest makes up for it, from a layer's inputs alone.

A layer computes y = W x. With H = E[x x'] the mean squared error of its output i when row w_i becomes v is
(v - w_i)' H (v - w_i). For a support S that is smallest at v_S = H_SS^-1 H_S: w_i (least squares), and removing one more
weight j from there costs v_j^2 / [H_SS^-1]_jj. So weights go by that cost in a few rounds, each from the least squares of
the round before. The rows of all layers compete for one budget: an error of output i counts g_i times, g_i being the mean
squared derivative of the loss by that output (the diagonal of the Gauss-Newton matrix, one factor for inputs and one for
outputs), so the division among layers and rows comes out of the errors and is set by nobody.

H and g are running means over the stream (:class:`Moments`), so a model is emitted without a second look at any event.

References:
    Hassibi and Stork 1993, "Second order derivatives for network pruning: optimal brain surgeon"; Frantar and Alistarh
    2022, arXiv 2208.11580 (layer-wise); Martens and Grosse 2015, arXiv 1503.05671 (the two factors).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor
from torch.nn import functional

from prunus.prune.blocks import fold_sum, unfold

if TYPE_CHECKING:
    from collections.abc import Sequence

DAMPING: Final = 1e-4
"""Added to the diagonal of H, as a share of its mean: inputs that were always alike or never seen leave H singular."""

ROUNDS: Final = (3.0, 1.7, 1.0)
"""Weights that are left after each round, in multiples of the number in the end."""


@dataclass
class Moments:
    """Running second moments at one layer, old events forgotten.

    Attributes:
        inputs: float32 [n_inputs + 1, n_inputs + 1], mean of x x' with a 1 appended to x for the bias.
        outputs: float32 [n_outputs], mean of the squared derivative of an event's loss by each output before activation.
        weight: how much of the mean is there yet, in [0, 1].
    """

    inputs: Tensor
    outputs: Tensor
    weight: float = 0.0

    @classmethod
    def zeros(cls, n_outputs: int, n_inputs: int) -> Moments:
        """Moments of a layer of which nothing was seen."""
        return cls(torch.zeros(n_inputs + 1, n_inputs + 1), torch.zeros(n_outputs))

    def observe(self, x: Tensor, derivative: Tensor, forget: float) -> None:
        """Take a batch.

        Args:
            x: float32 [n, n_inputs].
            derivative: float32 [n, n_outputs], of each event's own loss.
            forget: share of the mean that the batch replaces, in (0, 1].
        """
        with_one = functional.pad(x, (0, 1), value=1.0)
        self.inputs.addmm_(with_one.T, with_one, beta=1.0 - forget, alpha=forget / len(x))
        self.outputs.mul_(1.0 - forget).add_(derivative.square().mean(dim=0), alpha=forget)
        self.weight = self.weight * (1.0 - forget) + forget


def error(change: Tensor, second_moment: Tensor) -> Tensor:
    """Mean squared error of each output when the weights change by this.

    Args:
        change: float64 [n_outputs, n], new weights minus old.
        second_moment: float64 [n, n], H.

    Returns:
        float64 [n_outputs], the quadratic form of each row.
    """
    return ((change @ second_moment) * change).sum(dim=1)


def least_squares(weight: Tensor, kept: Tensor, second_moment: Tensor, *, priced: bool = True) -> tuple[Tensor, Tensor]:
    """Fit each row anew on its support, and price every weight that is left.

    Args:
        weight: float64 [n_outputs, n], rows to approximate.
        kept: bool [n_outputs, n]; a row may keep nothing.
        second_moment: float64 [n, n], H, positive definite.
        priced: whether prices are wanted: they take an inverse of each row's block.

    Returns:
        Weights float64 [n_outputs, n], zero off the support, with the smallest error that the support allows; and what it
        costs to remove each weight alone next, v_j^2 / [H_SS^-1]_jj, zero off the support (and where they are not wanted).
    """
    if bool(kept.all()):
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(second_moment))
        return weight.clone(), weight.square() / torch.diagonal(inverse)
    fitted, price = torch.zeros_like(weight), torch.zeros_like(weight)
    target = weight @ second_moment
    sizes = kept.sum(dim=1)
    for rows in _alike(sizes):
        size = int(sizes[rows].max())
        if size == 0:
            continue
        # The support of each row, padded at its end: the padding is an identity block with a target of 0.
        order = torch.argsort(kept[rows].to(torch.uint8), dim=1, descending=True, stable=True)[:, :size]
        real = torch.arange(size) < sizes[rows, None]
        block = second_moment[order[:, :, None], order[:, None, :]]
        block = torch.where(real[:, :, None] & real[:, None, :], block, torch.eye(size, dtype=block.dtype))
        factor = torch.linalg.cholesky(block)
        wanted = torch.where(real, target[rows].gather(1, order), 0.0)
        if not priced:
            solution = torch.cholesky_solve(wanted[:, :, None], factor)[:, :, 0]
            fitted[rows] = fitted[rows].scatter(1, order, torch.where(real, solution, 0.0))
            continue
        half = torch.linalg.solve_triangular(factor, torch.eye(size, dtype=block.dtype).expand_as(block), upper=False)
        solution = (half.mT @ (half @ wanted[:, :, None]))[:, :, 0]
        cost = solution.square() / half.square().sum(dim=1)
        fitted[rows] = fitted[rows].scatter(1, order, torch.where(real, solution, 0.0))
        price[rows] = price[rows].scatter(1, order, torch.where(real, cost, 0.0))
    return fitted, price


def _alike(sizes: Tensor, most: int = 2**20) -> list[Tensor]:
    """Group rows of about equal support, so that little is padded and no group has more than ``most`` numbers: they stay in cache."""
    groups: list[list[int]] = []
    for row in torch.argsort(sizes, descending=True, stable=True).tolist():
        size = int(sizes[row])
        if groups:
            largest = int(sizes[groups[-1][0]])
            if size >= 0.8 * largest and (len(groups[-1]) + 1) * largest**2 <= most:
                groups[-1].append(row)
                continue
        groups.append([row])
    return [torch.tensor(group) for group in groups]


@dataclass(frozen=True)
class Emitted:
    """A layer of the sparse model.

    Attributes:
        weight: float32 [n_outputs, n_inputs], zero where not kept.
        bias: float32 [n_outputs].
        kept: bool [n_outputs, n_inputs].
    """

    weight: Tensor
    bias: Tensor
    kept: Tensor


def emit(
    layers: Sequence[tuple[Tensor, Tensor]], moments: Sequence[Moments], n_kept: int, grain: int = 1
) -> list[Emitted]:
    """Prune all layers to ``n_kept`` weights in one shot; what is left makes up for what went.

    Args:
        layers: weight float32 [n_outputs, n_inputs] and bias float32 [n_outputs] of each, first to last.
        moments: of each layer, of some events at least.
        n_kept: weights that stay in all layers together, at most; enough for one block of each layer.
        grain: weights that stay or go together: 1, or 4 of neighbouring inputs. A block's price is the sum of its weights'.

    Returns:
        The layers, in their order. No row's error is above that of as many of its largest weights (or blocks) kept as they
        are.
    """
    rows = [torch.cat([weight, bias[:, None]], dim=1).double() for weight, bias in layers]
    second = [damped(moment) for moment in moments]
    kept = [torch.ones_like(row, dtype=torch.bool) for row in rows]
    for factor in ROUNDS:
        scores = []
        for row, keep, h, moment in zip(rows, kept, second, moments, strict=True):
            price = least_squares(row, keep, h)[1][:, :-1] * (moment.outputs.double() / moment.weight)[:, None]
            scores.append(torch.where(_folded(keep[:, :-1].double(), grain) > 0, _folded(price, grain), -1.0))
        for score in scores:
            score.view(-1)[score.argmax()] = torch.inf  # no layer goes altogether
        left = min(int(factor * n_kept) // grain, sum(score.numel() for score in scores))
        least = torch.cat([score.flatten() for score in scores]).topk(left).values[-1]
        kept = [_unfolded((score >= least) & (score >= 0), grain, row) for score, row in zip(scores, rows, strict=True)]
    return [_fit(row, keep, h, grain) for row, keep, h in zip(rows, kept, second, strict=True)]


def damped(moment: Moments) -> Tensor:
    """H, float64 [n_inputs + 1, n_inputs + 1], positive definite."""
    h = moment.inputs.double() / moment.weight
    return h + DAMPING * h.diagonal().mean() * torch.eye(len(h), dtype=h.dtype)


def _fit(row: Tensor, kept: Tensor, second_moment: Tensor, grain: int) -> Emitted:
    """Least squares of each row on its support, or on as many of its largest weights where that is better."""
    by_size = _folded(row[:, :-1].square(), grain)
    ranks = by_size.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    blocks = _folded(kept[:, :-1].double(), grain) > 0
    largest = _unfolded(ranks < blocks.sum(dim=1, keepdim=True), grain, row)
    fits = [least_squares(row, support, second_moment, priced=False)[0] for support in (kept, largest)]
    ours, theirs = (error(fit - row, second_moment) for fit in fits)
    better = (ours <= theirs)[:, None]
    fitted, support = torch.where(better, fits[0], fits[1]), torch.where(better, kept, largest)
    return Emitted(fitted[:, :-1].float(), fitted[:, -1].float(), support[:, :-1])


def _folded(values: Tensor, grain: int) -> Tensor:
    """Sums over the blocks of each row, [n_outputs, n_blocks]."""
    return torch.from_numpy(fold_sum(values.numpy(), grain))


def _unfolded(blocks: Tensor, grain: int, row: Tensor) -> Tensor:
    """Support of rows with a bias at their end, bool [n_outputs, n_inputs + 1], of the blocks that are kept."""
    n_inputs = row.shape[1] - 1
    return functional.pad(torch.from_numpy(unfold(blocks.numpy(), grain, n_inputs)), (0, 1), value=True)


def emit_units(layers: Sequence[tuple[Tensor, Tensor]], moments: Sequence[Moments], n_kept: int) -> list[Emitted]:
    """Prune whole hidden units, until ``n_kept`` weights stay: a unit goes with its row and with its column above.

    A unit's price is what it costs the layer above to do without it, sum_i g_i w_ij^2 / [H^-1]_jj, for each weight that
    goes with it. The layers' first inputs and the last layer's outputs stay.

    Args:
        layers: as in :func:`emit`; the inputs of each are the outputs of the one before.
        moments: of each layer.
        n_kept: weights that stay in all layers together, at most.

    Returns:
        The layers, of their old shapes, zero where units went.
    """
    rows = [torch.cat([weight, bias[:, None]], dim=1).double() for weight, bias in layers]
    second = [damped(moment) for moment in moments]
    prices = []
    for row, h, moment in zip(rows[1:], second[1:], moments[1:], strict=True):
        price = least_squares(row, torch.ones_like(row, dtype=torch.bool), h)[1][:, :-1]
        prices.append((price * (moment.outputs.double() / moment.weight)[:, None]).sum(dim=0))
    widths = [rows[0].shape[1] - 1, *(row.shape[0] for row in rows)]
    alive = [torch.ones(width, dtype=torch.bool) for width in widths]
    while sum(a * b for a, b in itertools.pairwise(widths)) > n_kept and max(widths[1:-1], default=1) > 1:
        cheapest = []
        for layer, price in enumerate(prices, start=1):
            saved = widths[layer - 1] + widths[layer + 1]
            left = torch.where(alive[layer], price / saved, torch.inf)
            unit = int(left.argmin())
            cheapest.append((float(left[unit]) if widths[layer] > 1 else torch.inf, layer, unit))
        _, layer, unit = min(cheapest)
        alive[layer][unit] = False
        widths[layer] -= 1
    emitted = []
    for number, (row, h) in enumerate(zip(rows, second, strict=True)):
        support = functional.pad(alive[number], (0, 1), value=True)
        fitted = torch.zeros_like(row)
        here = torch.linalg.cholesky(h[support][:, support])
        fitted[:, support] = torch.cholesky_solve((row @ h)[:, support].T, here).T
        fitted *= alive[number + 1][:, None]
        kept = alive[number + 1][:, None] & alive[number]
        emitted.append(Emitted(fitted[:, :-1].float(), fitted[:, -1].float(), kept))
    return emitted
