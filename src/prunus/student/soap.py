"""Adam in the eigenbasis of a matrix's gradients: more learned from each event, at a price that small nets can pay.

For a weight matrix with gradient G keep running means L of G G' and R of G' G, and orthonormal bases U, V of their
eigenvectors. Adam's moments are kept of the rotated gradient,

    M <- b1 M + (1 - b1) U' G V,    S <- b2 S + (1 - b2) (U' G V)^2,    W <- W - rate * U (M / sqrt(S)) V',

both moments corrected for their zero start, and no entry of M / sqrt(S) beyond 1 (where a direction is new, S knows nothing
of it yet; without that bound nets blew up now and then). Every few steps the bases take one step of orthogonal iteration,
U <- Q of the QR decomposition of L U, and M is turned with them. A step costs about 6 (m + n) m n operations for a matrix
of m by n, beside 6 k m n of forward and backward for a batch of k: little for layers much narrower than the batch, more
than the rest for wide ones.

References:
    Vyas et al. 2024, "SOAP: improving and stabilizing Shampoo using Adam", arXiv 2409.11321; Gupta, Koren, Singer 2018,
    arXiv 1802.09568 (Shampoo).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from torch import Tensor

EPSILON = 1e-8
"""Added to the root of the second moment."""


class Soap(torch.optim.Optimizer):
    """The optimiser; parameters that are not matrices are learned by Adam.

    Deterministic, and all that a later step depends on is in ``state_dict()``.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 8e-3,
        betas: tuple[float, float] = (0.9, 0.99),
        memory: float = 0.95,
        every: int = 10,
    ) -> None:
        """Set up.

        Args:
            parameters: to learn.
            lr: rate, as of Adam; tune it anew, the best one is larger.
            betas: b1 and b2.
            memory: share of L and R that a step keeps.
            every: steps between two corrections of the bases.
        """
        super().__init__(parameters, {"lr": lr, "betas": betas, "memory": memory, "every": every})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take one step by the gradients that stand in the parameters, all finite.

        Args:
            closure: not supported, the loss is never evaluated again; there because torch's optimisers have it.
        """
        assert closure is None
        for group in self.param_groups:
            weights = [parameter for parameter in group["params"] if parameter.grad is not None]
            if weights:
                _step(weights, [self.state[weight] for weight in weights], group)


def step_flops(matrices: Sequence[tuple[int, int]], every: int = 10) -> float:
    """Operations of a step on matrices of these (outputs, inputs), beside the gradient itself; a multiply-add is two."""
    turns = sum(6.0 * m * n * (m + n) for m, n in matrices)
    # L U and its QR decomposition (4/3 n^3 with Q), every so many steps.
    return turns + sum((2.0 + 8.0 / 3.0) * (m**3 + n**3) for m, n in matrices) / every


def _step(weights: Sequence[Tensor], states: Sequence[dict[str, Any]], group: dict[str, Any]) -> None:
    gradients = [_turned(weight, state, group) for weight, state in zip(weights, states, strict=True)]
    # Adam from zero is the change itself, corrected and all; one call does it for every parameter.
    sizes = [gradient.numel() for gradient in gradients]
    flat = torch.zeros(sum(sizes), dtype=weights[0].dtype)
    changes = [part.view_as(weight) for part, weight in zip(flat.split(sizes), weights, strict=True)]
    first, second = group["betas"]
    steps = {step: torch.tensor(float(step)) for step in {state["step"] for state in states}}
    torch._fused_adam_(
        changes,
        gradients,
        [state["mean"] for state in states],
        [state["square"] for state in states],
        [],
        [steps[state["step"]] for state in states],
        lr=1.0,
        beta1=first,
        beta2=second,
        weight_decay=0.0,
        eps=EPSILON,
        amsgrad=False,
        maximize=False,
    )
    flat.clamp_(-1.0, 1.0)
    for weight, change, state in zip(weights, changes, states, strict=True):
        if weight.ndim == 2:
            weight.addmm_(state["u"] @ change, state["v"].T, alpha=group["lr"])
        else:
            weight.add_(change, alpha=group["lr"])


def _turned(weight: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
    """Give a gradient in the bases of its matrix, U' G V; that of a vector as it is."""
    gradient = weight.grad
    assert gradient is not None
    if not state:
        state.update(step=0, mean=torch.zeros_like(weight), square=torch.zeros_like(weight))
        if weight.ndim == 2:
            state.update(left=weight.new_zeros(weight.shape[0], weight.shape[0]))
            state.update(right=weight.new_zeros(weight.shape[1], weight.shape[1]))
    state["step"] += 1
    if weight.ndim != 2:
        return gradient
    memory = group["memory"]
    state["left"].addmm_(gradient, gradient.T, beta=memory, alpha=1 - memory)
    state["right"].addmm_(gradient.T, gradient, beta=memory, alpha=1 - memory)
    if state["step"] == 1:
        # In float32 LAPACK's eigh gives NaN for some matrices of low rank and tiny entries.
        for moment, basis in (("left", "u"), ("right", "v")):
            state[basis] = torch.linalg.eigh(state[moment].double())[1].to(weight.dtype)
    elif state["step"] % group["every"] == 0:
        mean = state["u"] @ state["mean"] @ state["v"].T
        for moment, basis in (("left", "u"), ("right", "v")):
            state[basis] = torch.linalg.qr(state[moment] @ state[basis])[0]
        state["mean"] = state["u"].T @ mean @ state["v"]
    turned: Tensor = state["u"].T @ gradient @ state["v"]
    return turned


# Torch would tell its profiler of each step and look for hooks (there are none), for as much as a product of two of these matrices.
Soap.step.hooked = True  # type: ignore[attr-defined]
