"""Lottery tickets: masks by magnitude, made smaller round after round, and what the survivors start from again.

Everything here works on any dict of named tensors: item factors, or the weights of any module (:func:`weights_of`,
:meth:`Lottery.of_module`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor, nn

from prunus.engine.disk import write_atomically
from prunus.errors import ModelFileError, TrainingError

if TYPE_CHECKING:
    from pathlib import Path

    from prunus.prune.schedule import Schedule

Scope: TypeAlias = Literal["row", "tensor", "global"]
"""Among which weights the smallest go: those of each row (first axis), of each tensor, or all of them."""

Reset: TypeAlias = Literal["none", "rate", "first", "late"]
"""What survivors start from after a pruning: their values as they are; the same with the learning rate's schedule begun
anew; their first values; their values a few steps after the first."""

Importance: TypeAlias = Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], Mapping[str, Tensor]]
"""Weights and their masks in; a score for each weight out, negative where it is gone."""

_KEPT, _VALUE, _BESIDE = "kept.", "value.", "beside."


@dataclass(frozen=True)
class Ticket:
    """A mask for each tensor and the values that training starts from under it.

    Attributes:
        masks: bool, of the shapes of ``values``.
        values: float, the values that survivors start from; zero where the mask is.
        beside: the values that tensors without a mask start from with them: biases, norms, running statistics.
    """

    masks: dict[str, Tensor]
    values: dict[str, Tensor]
    beside: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        wrong = [name for name in {*self.masks, *self.values} if not self._fits(name)]
        if wrong:
            msg = f"got a ticket without a bool mask and values of one shape for {sorted(wrong)}; expected both for each tensor"
            raise ValueError(msg)

    def _fits(self, name: str) -> bool:
        mask, value = self.masks.get(name), self.values.get(name)
        return mask is not None and value is not None and mask.dtype == torch.bool and mask.shape == value.shape

    @property
    def density(self) -> float:
        """Share of the weights kept, in [0, 1]."""
        return density(self.masks)

    @torch.no_grad()
    def apply(
        self,
        weights: Mapping[str, Tensor],
        masks: Mapping[str, Tensor] | None = None,
        beside: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Put the ticket into tensors, in place.

        Args:
            weights: to be set to the ticket's values.
            masks: to be set to its masks.
            beside: to be set to its values of tensors without a mask.

        Raises:
            ValueError: names or shapes differ from the ticket's.
        """
        for given, own in ((weights, self.values), (masks, self.masks), (beside, self.beside)):
            if given is None:
                continue
            got, expected = ({name: tuple(t.shape) for name, t in some.items()} for some in (given, own))
            if got != expected:
                msg = f"got tensors {got} for a ticket of {expected}; expected the same: build the model it was drawn from"
                raise ValueError(msg)
            for name, tensor in given.items():
                tensor.copy_(own[name])

    def save(self, path: Path) -> None:
        """Write the ticket as a safetensors file.

        Raises:
            OutputError: it cannot be written.
        """
        parts = {_KEPT + name: mask.contiguous() for name, mask in self.masks.items()}
        parts |= {_VALUE + name: value.contiguous() for name, value in self.values.items()}
        parts |= {_BESIDE + name: value.contiguous() for name, value in self.beside.items()}
        write_atomically(path, tensors_to_bytes(parts))

    @classmethod
    def load(cls, path: Path) -> Ticket:
        """Read a ticket.

        Raises:
            ModelFileError: the file is no ticket.
        """
        try:
            parts = tensors_from_bytes(path.read_bytes())
            masks, values, beside = (
                {name.removeprefix(prefix): t for name, t in parts.items() if name.startswith(prefix)}
                for prefix in (_KEPT, _VALUE, _BESIDE)
            )
            return cls(masks, values, beside)
        except (SafetensorError, ValueError) as error:
            msg = f"{path} is no ticket: {error}; expected a file that Ticket.save wrote"
            raise ModelFileError(msg) from error


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    """Give what is pruned of a module: its parameters of two axes and more, by name."""
    return {name: parameter for name, parameter in module.named_parameters() if parameter.ndim > 1}


def rest_of(module: nn.Module) -> dict[str, Tensor]:
    """Give what is not: its other parameters (biases, norms) and its buffers (running statistics), by name."""
    small = {name: parameter for name, parameter in module.named_parameters() if parameter.ndim <= 1}
    return small | dict(module.named_buffers())


def density(masks: Mapping[str, Tensor]) -> float:
    """Share of the weights kept, in [0, 1], over all masks."""
    return sum(int(mask.sum()) for mask in masks.values()) / sum(mask.numel() for mask in masks.values())


def choose(scores: Mapping[str, Tensor], share: float, scope: Scope) -> dict[str, Tensor]:
    """Keep the weights with the largest scores.

    The number kept is round(share x weights), at least 1, of each row, each tensor, or all together; in the global
    scope the best weight of every row stays too, so that no item and no unit is left without one. Ties go to the
    weight that comes first.

    Args:
        scores: float, any shapes; where it is negative the weight is gone already and stays so.
        share: of all weights to keep, in (0, 1].
        scope: among which weights.

    Returns:
        bool masks of the shapes of ``scores``.

    Raises:
        ValueError: ``share`` is none.
        TrainingError: a score is NaN.
    """
    if not 0 < share <= 1:
        msg = f"got a share of {share} to keep; expected one in (0, 1]"
        raise ValueError(msg)
    lost = sorted(name for name, score in scores.items() if bool(score.isnan().any()))
    if lost:
        msg = (
            f"got NaN among the scores of {', '.join(lost)}; expected numbers to choose by: the training ran away before"
            " the pruning: lower the learning rate, or look for NaN in what it learns from"
        )
        raise TrainingError(msg)
    rows = {name: score.reshape(score.shape[0], -1) for name, score in scores.items()}
    if scope == "row":
        kept = {name: _best(row, share) for name, row in rows.items()}
    elif scope == "tensor":
        kept = {name: _best(row.reshape(1, -1), share) for name, row in rows.items()}
    else:
        flat = _best(torch.cat([row.flatten() for row in rows.values()])[None], share)[0]
        parts = flat.split([row.numel() for row in rows.values()])
        kept = {
            name: part.view_as(row) | _best(row, 0.0) for part, (name, row) in zip(parts, rows.items(), strict=True)
        }
    return {name: mask.reshape(scores[name].shape) for name, mask in kept.items()}


def _best(rows: Tensor, share: float) -> Tensor:
    """Mark round(share n), at least 1, largest scores of each row of float [m, n] that are not negative; bool [m, n]."""
    n_kept = max(round(share * rows.shape[1]), 1)
    order = torch.sort(rows, dim=1, descending=True, stable=True).indices[:, :n_kept]
    return torch.zeros_like(rows, dtype=torch.bool).scatter_(1, order, value=True) & (rows >= 0)


def by_magnitude(weights: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Score each weight by |w|; -1 where it is gone."""
    return {name: torch.where(masks[name], w.detach().abs(), -1.0) for name, w in weights.items()}


def at_random(seed: int) -> Importance:
    """Score each weight by a number drawn for it once: the control that a ticket must beat."""

    def score(weights: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        return {
            name: torch.where(masks[name], torch.rand(w.shape, generator=generator).to(w.device), -1.0)
            for name, w in weights.items()
        }

    return score


class Lottery:
    """Finds a ticket while some loop trains: call :meth:`after_step` after each step of its optimiser.

    Weights that are gone are set to zero after every step, so the loop and the module need not know of masks.

    Attributes:
        masks: bool, of the shapes of the weights; changed in place.
        rewound_at: step of the last pruning; 0 before the first.
    """

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        schedule: Schedule,
        density: float,
        *,
        scope: Scope = "row",
        reset: Reset = "none",
        late: int = 0,
        masks: Mapping[str, Tensor] | None = None,
        beside: Mapping[str, Tensor] | None = None,
        importance: Importance = by_magnitude,
    ) -> None:
        """Set up; the values that the weights have now are their first ones.

        Args:
            weights: tensors that are trained, changed in place.
            schedule: when to prune, and how far.
            density: share of the weights that is left in the end, in (0, 1].
            scope: among which weights the smallest go.
            reset: what survivors start from after each pruning.
            late: for the reset "late", the number of steps done at the values that survivors go back to; before the
                first pruning.
            masks: of a module that keeps masks of its own; None to make them.
            beside: tensors that are never pruned and go back together with the weights; see :func:`rest_of`.
            importance: scores weights; the larger stay. See :func:`by_magnitude`.

        Raises:
            ValueError: ``density`` is no share, or ``late`` does not lie before the first pruning.
        """
        if not 0 < density <= 1:
            msg = f"got a density of {density}; expected one in (0, 1]"
            raise ValueError(msg)
        first_pruning = min(schedule.start + schedule.every, schedule.end)
        if reset == "late" and not 0 < late < first_pruning:
            msg = f"got {late} steps to the values to go back to; expected 1 to {first_pruning - 1}: before the first pruning"
            raise ValueError(msg)
        self.weights, self.schedule, self.density = dict(weights), schedule, density
        self.scope: Final = scope
        self.reset: Final = reset
        self.late, self.importance = late if reset == "late" else 0, importance
        given = masks or {name: torch.ones_like(w, dtype=torch.bool) for name, w in weights.items()}
        self.masks = dict(given)
        self.beside = dict(beside or {})
        self._remember()
        self.rewound_at = 0

    @classmethod
    def of_module(cls, module: nn.Module, schedule: Schedule, density: float, **options: Any) -> Lottery:  # noqa: ANN401 - those of __init__
        """Draw tickets from a module: its matrices and kernels are pruned, and all else goes back with them.

        Args:
            module: any module, changed in place.
            schedule: when to prune, and how far.
            density: share of its weights that is left in the end, in (0, 1].
            options: ``scope``, ``reset``, ``late``, ``importance``, as for the class.
        """
        return cls(weights_of(module), schedule, density, beside=rest_of(module), **options)

    def _remember(self) -> None:
        """Take the values that the tensors have now as those to go back to."""
        self.values = {name: w.detach().clone() for name, w in self.weights.items()}
        self.beside_values = {name: t.detach().clone() for name, t in self.beside.items()}

    @torch.no_grad()
    def after_step(self, step: int, optimizer: torch.optim.Optimizer | None = None) -> bool:
        """Prune where the schedule says so, reset the survivors, and clear what is gone.

        Args:
            step: number of the step just done, from 0.
            optimizer: whose moments of the weights are forgotten where the weights are reset.

        Returns:
            Whether weights were removed.
        """
        if self.reset == "late" and step + 1 == self.late:
            self._remember()
        removed = self.schedule.due(step) and self._prune(step)
        if removed and self.reset != "none":
            self.rewound_at = step + 1
            if self.reset in ("first", "late"):
                pairs = [(tensor, self.values[name]) for name, tensor in self.weights.items()]
                pairs += [(tensor, self.beside_values[name]) for name, tensor in self.beside.items()]
                for tensor, value in pairs:
                    tensor.copy_(value)
                    if optimizer is not None:
                        optimizer.state.pop(tensor, None)
        for name, weight in self.weights.items():
            weight.mul_(self.masks[name])
        return removed

    def _prune(self, step: int) -> bool:
        share = self.schedule.level(step, 1.0, self.density)
        chosen = choose(self.importance(self.weights, self.masks), share, self.scope)
        removed = False
        for name, mask in self.masks.items():
            removed |= bool((mask & ~chosen[name]).any())
            mask.copy_(chosen[name])
        return removed

    def rate_step(self, step: int) -> int:
        """Step at which the learning rate's schedule stands: it goes back with the weights, or alone (reset "rate")."""
        return step if self.rewound_at == 0 else step - self.rewound_at + self.late

    def ticket(self) -> Ticket:
        """Give the masks as they are, with the values that a training under them starts from.

        These are the first or late values where the lottery resets to them, and the values as they are elsewhere.
        """
        rewinds = self.reset in ("first", "late")
        values, beside = (self.values, self.beside_values) if rewinds else (self.weights, self.beside)
        return Ticket(
            {name: mask.clone() for name, mask in self.masks.items()},
            {name: value.detach() * self.masks[name] for name, value in values.items()},
            {name: value.detach().clone() for name, value in beside.items()},
        )

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resume needs besides the weights."""
        return {
            "masks": self.masks,
            "values": self.values,
            "beside": self.beside_values,
            "rewound_at": self.rewound_at,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from where :meth:`state_dict` was taken."""
        for name, mask in self.masks.items():
            mask.copy_(state["masks"][name])
        self.values, self.beside_values = dict(state["values"]), dict(state["beside"])
        self.rewound_at = int(state["rewound_at"])
