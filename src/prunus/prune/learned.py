"""Masks that are learned: parameters beside the weights say which of these stand, under one price for all layers.

Each weight w has a score s, and the net is evaluated at w h(s), h the unit step. With G the loss's gradient by w h(s), a
score descends

    (sign(w) G + p) f'(s),      f' = the surrogate's slope in place of the step's, which is 0,

so a weight whose presence lowers the loss (w G < 0) gains, and every weight pays the same price p whatever its layer. The
price follows the budget by dual ascent on an augmented Lagrangian: with e the excess of standing weights as a share of the
budget, it is q + r e, and q rises by a step of e, to zero at the least; r e keeps the two from swinging about each other. So the density of each layer is learned, and weights that went learn on and may come back. This is a
stand-in, after what is known of auxiliary-parameter pruning (Xiao, Wang, Rajasekaran 2019, AutoPrune); it is no
reproduction of any paper's rule.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

Surrogate = Literal["softplus", "leaky"]
"""The slope that stands in for the step's: the logistic function of the score, or 1 above zero and 0.1 below."""

LEAK = 0.1
DAMPING = 2.0
"""r of the augmented Lagrangian."""


class LearnedMasks:
    """Scores of all hidden weights of a net, and their price.

    Attributes:
        scores: s of each layer, in units of a first score's spread.
        price: p, in units of the mean |G|, so that it does not depend on the loss's scale.
    """

    def __init__(
        self,
        weights: Sequence[Tensor],
        n_kept: int,
        *,
        rate: float = 0.02,
        price_rate: float = 0.02,
        surrogate: Surrogate = "softplus",
    ) -> None:
        """Begin with every weight standing: its score is its magnitude over the mean of its layer.

        Args:
            weights: float32 [n_outputs, n_inputs] of each layer.
            n_kept: the budget, weights that should stand.
            rate: of the scores, a share of their unit each step (Adam).
            price_rate: of the price, for each step with twice the weights that should stand.
            surrogate: which slope stands in for the step's.
        """
        self.scores = [weight.detach().abs() / weight.detach().abs().mean().clamp_min(1e-12) for weight in weights]
        self.price = self._dual = 0.0
        self._n_kept, self._price_rate, self._surrogate = n_kept, price_rate, surrogate
        self._adam = torch.optim.Adam(self.scores, lr=rate, fused=True)
        self._scale = 0.0

    def masks(self) -> list[Tensor]:
        """Give h(s), float32: 1 where the score is above 0."""
        return [(score > 0).float() for score in self.scores]

    @property
    def n_standing(self) -> int:
        """Weights whose score is above 0."""
        return sum(int((score > 0).sum()) for score in self.scores)

    @torch.no_grad()
    def learn(self, weights: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
        """Take one step of the scores, then one of the price.

        Args:
            weights: w of each layer.
            gradients: G of each layer.
        """
        size = sum(gradient.numel() for gradient in gradients)
        mean = float(torch.stack([gradient.abs().sum() for gradient in gradients]).sum()) / size
        self._scale = mean if self._scale == 0 else 0.99 * self._scale + 0.01 * mean
        for score, weight, gradient in zip(self.scores, weights, gradients, strict=True):
            slope = torch.sigmoid(score) if self._surrogate == "softplus" else torch.where(score > 0, 1.0, LEAK)
            score.grad = (weight.sign() * gradient / max(self._scale, 1e-30) + self.price) * slope
        self._adam.step()
        excess = min(self.n_standing / self._n_kept - 1.0, 1.0)
        self._dual = max(self._dual + self._price_rate * excess, 0.0)
        self.price = max(self._dual + DAMPING * excess, 0.0)

    def state(self) -> dict[str, Any]:
        """Give all that a later step depends on; what it holds is copied."""
        adam = [
            {name: value.clone() for name, value in one.items()} for one in self._adam.state_dict()["state"].values()
        ]
        own = {"price": self.price, "dual": self._dual, "scale": self._scale, "adam": adam}
        return {**own, "scores": [score.clone() for score in self.scores]}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        for score, value in zip(self.scores, state["scores"], strict=True):
            score.copy_(value)
        self.price, self._dual, self._scale = state["price"], state["dual"], state["scale"]
        whole = self._adam.state_dict()
        whole["state"] = {
            number: {name: value.clone() for name, value in one.items()} for number, one in enumerate(state["adam"])
        }
        self._adam.load_state_dict(whole)
