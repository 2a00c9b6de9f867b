"""One step of learning for a click model: every dense weight, and of the embeddings the rows that the batch touched."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from prunus.student.soap import Soap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prunus.student.ctr import ClickNet

Rule = Literal["adam", "adagrad", "soap"]
"""How a step follows from gradients: Kingma and Ba 2015 (arXiv 1412.6980), Duchi et al. 2011, or :mod:`prunus.student.soap`
(of the dense weights; the rows of embeddings then go by Adam)."""

BETAS = (0.9, 0.999)
EPSILON = {"adam": 1e-8, "adagrad": 1e-10}
"""Added to the root of the second moment; torch's defaults."""


SETTLED_AFTER, SETTLED = 50.0, 0.25
"""Of a row that settles: steps after which its rate has fallen to 1 / sqrt(2), and the share that stays at last."""


class _RowUpdate:
    """Adam or Adagrad of the rows that have a gradient; all others, and their moments, stay as they are.

    A row's bias correction goes by its own number of steps, so that an id seen for the first time late in the stream
    moves as one seen early did.
    """

    def __init__(self, table: Tensor, rule: Rule, rate: float) -> None:
        self.table, self.rule, self.rate = table, rule, rate
        self.settling = 0.0
        names = ("mean", "square") if rule == "adam" else ("square",)
        self.moments = {name: torch.zeros_like(table) for name in names}
        self.steps = torch.zeros(len(table), 1) if rule == "adam" else None

    @torch.no_grad()
    def step(self) -> None:
        if self.table.grad is None:
            return
        gradient = self.table.grad
        rows, g = gradient.indices()[0], gradient.values()
        square = self.moments["square"].index_select(0, rows)
        if self.steps is None:
            square.addcmul_(g, g)
            change = g / square.sqrt().add_(EPSILON["adagrad"])
        else:
            steps = self.steps.index_select(0, rows).add_(1)
            self.steps.index_copy_(0, rows, steps)
            mean = self.moments["mean"].index_select(0, rows).lerp_(g, 1 - BETAS[0])
            self.moments["mean"].index_copy_(0, rows, mean)
            square.lerp_(g * g, 1 - BETAS[1])
            unbiased = square / (1 - BETAS[1] ** steps)
            change = (mean / (1 - BETAS[0] ** steps)).div_(unbiased.sqrt_().add_(EPSILON["adam"]))
            if self.settling:
                settled = (1 + steps / SETTLED_AFTER).rsqrt_().clamp_(min=SETTLED)
                change.mul_(1 + self.settling * (settled - 1))
        self.moments["square"].index_copy_(0, rows, square)
        # index_add_ takes three times as long: it adds row by row.
        self.table.index_copy_(0, rows, self.table.index_select(0, rows).add_(change, alpha=-self.rate))

    def state(self) -> dict[str, Tensor]:
        return self.moments if self.steps is None else {**self.moments, "steps": self.steps}

    def kept(self) -> dict[str, Tensor]:
        """Copies of all that is not zero: ``rows``, int64 [m], rising, and what the moments are there."""
        state = self.state()
        learned = torch.stack([moment.any(1) for moment in state.values()]).any(0).nonzero()[:, 0]
        return {"rows": learned, **{name: moment[learned] for name, moment in state.items()}}

    def load(self, kept: dict[str, Tensor]) -> None:
        for name, moment in self.state().items():
            moment.zero_().index_copy_(0, kept["rows"], kept[name])


class ClickOptimiser:
    """Learns a click model by the gradients that stand in it.

    Attributes:
        learning_rate: of the dense weights; may be set between steps.
        row_rate: of the embeddings; may be set between steps.
        settling: c in [0, 1], may be set between steps: a row of the embeddings that has learned s times moves at
            ``1 + c (max((1 + s / 50)^(-1/2), 1/4) - 1)`` of their rate; by Adam only.
    """

    def __init__(
        self,
        net: ClickNet,
        *,
        rule: Rule = "adam",
        learning_rate: float = 1e-3,
        row_rate: float | None = None,
        row_rule: Rule | None = None,
        beside: Sequence[Tensor] = (),
    ) -> None:
        """Set up.

        Args:
            net: what to learn.
            rule: of the dense weights.
            learning_rate: of the dense weights.
            row_rate: of the embeddings; default the same.
            row_rule: of the embeddings; default the same, Adam beside "soap".
            beside: further dense parameters, such as those that choose a mask.
        """
        self.net = net
        dense = [parameter for layer in net.linears for parameter in layer.parameters()] + list(beside)
        if rule == "adam":
            self._dense: torch.optim.Optimizer = torch.optim.Adam(dense, lr=learning_rate, betas=BETAS, fused=True)
        elif rule == "soap":
            self._dense = Soap(dense, lr=learning_rate)
        else:
            self._dense = torch.optim.Adagrad(dense, lr=learning_rate, fused=True)
        row_rule = row_rule or ("adam" if rule == "soap" else rule)
        self._rows = _RowUpdate(net.table, row_rule, learning_rate if row_rate is None else row_rate)

    @property
    def learning_rate(self) -> float:
        """Of the dense weights."""
        return float(self._dense.param_groups[0]["lr"])

    @learning_rate.setter
    def learning_rate(self, rate: float) -> None:
        self._dense.param_groups[0]["lr"] = rate

    @property
    def row_rate(self) -> float:
        """Of the embeddings."""
        return self._rows.rate

    @row_rate.setter
    def row_rate(self, rate: float) -> None:
        self._rows.rate = rate

    @property
    def settling(self) -> float:
        """Of the embeddings."""
        return self._rows.settling

    @settling.setter
    def settling(self, settling: float) -> None:
        self._rows.settling = settling

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in (*self._dense.param_groups[0]["params"], self.net.table):
            parameter.grad = None

    def step(self) -> bool:
        """Take one step, unless a gradient is no number, or its square is none: that would stay in moments and bases for ever.

        Returns:
            Whether it was taken; if not, nothing has changed.
        """
        table = self.net.table
        gradients = [one.grad for one in self._dense.param_groups[0]["params"] if one.grad is not None]
        if table.grad is not None:
            table.grad = table.grad.coalesce()
            gradients.append(table.grad.values())
        if not gradients:
            return True
        # Norms in float32, so that squares count.
        norms = torch._foreach_norm(gradients)  # noqa: SLF001 - of all in one call, as torch's optimisers do it
        if not math.isfinite(torch.stack(norms).sum()):
            return False
        self._dense.step()
        self._rows.step()
        return True

    def reset_rows(self, rows: Tensor) -> None:
        """Forget the moments of rows that were given to new ids.

        Args:
            rows: int64 [m], rows of ``net.table``, from :meth:`ClickNet.reset_rows`.
        """
        for moment in self._rows.state().values():
            moment.index_fill_(0, rows, 0.0)

    def state_dict(self) -> dict[str, Any]:
        """A copy of all that a later step depends on, beside the net itself."""
        dense = copy.deepcopy(self._dense.state_dict())
        return {"dense": dense, "rows": self._rows.kept(), "row_rate": self._rows.rate}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state_dict` returned."""
        self._dense.load_state_dict(copy.deepcopy(state["dense"]))  # torch would share its tensors
        self._rows.load(state["rows"])
        self._rows.rate = state["row_rate"]
