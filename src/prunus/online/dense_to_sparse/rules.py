"""How the mask of a net that learns on its own is chosen, and what its weights learn where they are masked.

The net is evaluated at m w, and G is the loss's gradient by m w: it is there for every weight, kept or not, at the price of
a dense step. The rules differ in what they do with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch

from prunus.online.dense_to_sparse.patterns import budget, by_layer, evenly, largest
from prunus.prune.schedule import CubicSchedule

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from prunus.student.ctr import ClickNet


class Rule(Protocol):
    """A rule; the learner keeps the masks, and what else the rule remembers."""

    @property
    def every(self) -> int:
        """Steps between two choices of the mask."""

    @property
    def forgets(self) -> bool:
        """Whether a weight is zero while it is masked."""

    @property
    def prunes(self) -> bool:
        """Whether it ever masks anything."""

    def begin(self, net: ClickNet, seed: int) -> list[Tensor]:
        """Give the first masks, float32 of ``net.hidden``'s shapes; may scale the net's weights."""

    def choose(self, net: ClickNet, masks: list[Tensor], gradients: Sequence[Tensor], step: int) -> list[Tensor]:
        """Give the masks of the next steps.

        Args:
            net: may be changed where a weight begins anew.
            masks: of now.
            gradients: G of each layer at the last step.
            step: steps taken; it also seeds what is drawn.
        """

    def gradient(self, weight: Tensor, mask: Tensor, gradient: Tensor) -> Tensor:
        """Give what the optimiser takes as the gradient of a weight matrix."""

    def state(self) -> dict[str, Any]:
        """Give what it remembers beside the masks."""

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""


@dataclass(frozen=True)
class Whole:
    """No pruning: the net is small by its shape, or dense."""

    every: int = 2**62

    @property
    def forgets(self) -> bool:
        """Nothing is masked."""
        return False

    @property
    def prunes(self) -> bool:
        """Nothing is masked."""
        return False

    def begin(self, net: ClickNet, seed: int) -> list[Tensor]:
        """Keep all."""
        del seed
        return [torch.ones_like(weight) for weight in net.hidden]

    def choose(self, net: ClickNet, masks: list[Tensor], gradients: Sequence[Tensor], step: int) -> list[Tensor]:
        """Keep all."""
        del net, gradients, step
        return masks

    def gradient(self, weight: Tensor, mask: Tensor, gradient: Tensor) -> Tensor:
        """Learn all."""
        del weight, mask
        return gradient

    def state(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load(self, state: Mapping[str, Any]) -> None:
        """Nothing."""


@dataclass(frozen=True)
class StraightThrough(Whole):
    """Weights that are masked go on learning from G, as if they were there, and decay; the largest of all are kept.

    A masked weight whose gradient keeps its sign grows back against the decay, and the mask, chosen anew every few steps,
    takes it in; noise does not. Without the decay the masked weights of Adam grow by noise alone, as each step divides by
    the size of the noise.

    Attributes:
        n_kept: weights that are kept in all layers.
        ramp: steps in which their number falls to that, along a cubic.
        every: steps between two choices.
        decay: added to the gradient of a masked weight, times the weight.

    References:
        Lin et al. 2020, arXiv 2006.07253 (gradients at the masked weights, applied to all); Zhou et al. 2021, arXiv
        2102.04010 (the decay).
    """

    every: int = 10
    n_kept: int = 0
    ramp: int = 60
    decay: float = 1e-3

    @property
    def prunes(self) -> bool:
        """All but the largest are masked."""
        return True

    def choose(self, net: ClickNet, masks: list[Tensor], gradients: Sequence[Tensor], step: int) -> list[Tensor]:
        """Keep the largest weights, each over the root mean square of its layer."""
        del masks, gradients
        schedule = CubicSchedule(0, max(self.ramp, 1), self.every)
        n_kept = max(int(schedule.level(step, budget(net, 1.0), self.n_kept)), self.n_kept)
        return largest(by_layer(net.hidden), n_kept)

    def gradient(self, weight: Tensor, mask: Tensor, gradient: Tensor) -> Tensor:
        """G, and the decay of what is masked."""
        return gradient.addcmul(weight, 1.0 - mask, value=self.decay)


@dataclass(frozen=True)
class Fixed(StraightThrough):
    """Gradual magnitude pruning, then a mask that stands for ever; masked weights are gone.

    References:
        Zhu and Gupta 2017, arXiv 1710.01878.
    """

    @property
    def forgets(self) -> bool:
        """What is masked is gone."""
        return True

    def choose(self, net: ClickNet, masks: list[Tensor], gradients: Sequence[Tensor], step: int) -> list[Tensor]:
        """Keep the largest of what is left, until the ramp ends."""
        if step > self.ramp + self.every:
            return masks
        chosen = super().choose(net, masks, gradients, step)
        return [new * old for new, old in zip(chosen, masks, strict=True)]

    def gradient(self, weight: Tensor, mask: Tensor, gradient: Tensor) -> Tensor:
        """Learn what is kept."""
        del weight
        return gradient * mask


@dataclass(frozen=True)
class Kept(Whole):
    """Masks as they were given, for ever."""

    @property
    def forgets(self) -> bool:
        """What is masked is gone."""
        return True

    @property
    def prunes(self) -> bool:
        """What is not kept is masked."""
        return True

    def gradient(self, weight: Tensor, mask: Tensor, gradient: Tensor) -> Tensor:
        """Learn what is kept."""
        del weight
        return gradient * mask


@dataclass(frozen=True)
class Regrowth(Whole):
    """Sparse from the start: the smallest kept weights of each layer go, as many others begin from zero; for ever.

    Attributes:
        n_kept: weights that are kept in all layers, divided among them by the sum of their sides.
        every: steps between two changes.
        share: of the kept weights that change.
        by_gradient: whether those with the largest G begin (RigL), or random ones (SET).

    References:
        Evci et al. 2020, arXiv 1911.11134 (RigL; there the share falls to zero, on a stream it must not); Mocanu et al.
        2018 (SET).
    """

    every: int = 20
    n_kept: int = 0
    share: float = 0.1
    by_gradient: bool = True

    @property
    def forgets(self) -> bool:
        """What is masked is gone."""
        return True

    @property
    def prunes(self) -> bool:
        """What is not kept is masked."""
        return True

    def begin(self, net: ClickNet, seed: int) -> list[Tensor]:
        """Draw masks, and scale what is left to the number of inputs that a unit really has."""
        generator = torch.Generator().manual_seed(seed)
        shapes = [(weight.shape[0], weight.shape[1]) for weight in net.hidden]
        masks = []
        with torch.no_grad():
            for weight, count in zip(net.hidden, evenly(shapes, self.n_kept), strict=True):
                mask = largest([torch.rand(weight.shape, generator=generator)], count)[0]
                weight.mul_(mask).mul_((weight.numel() / count) ** 0.5)
                masks.append(mask)
        return masks

    @torch.no_grad()
    def choose(self, net: ClickNet, masks: list[Tensor], gradients: Sequence[Tensor], step: int) -> list[Tensor]:
        """Let the smallest go and others begin, layer by layer."""
        if not gradients:
            return masks
        generator = torch.Generator().manual_seed(step)
        chosen = []
        for weight, mask, gradient in zip(net.hidden, masks, gradients, strict=True):
            n_kept = int(mask.sum())
            n_new = min(int(self.share * n_kept), mask.numel() - n_kept)
            stays = largest([(weight.abs() + 1e-12) * mask], n_kept - n_new)[0] if n_new else mask
            wish = gradient.abs() if self.by_gradient else torch.rand(mask.shape, generator=generator)
            begins = largest([(wish + 1e-30) * (1.0 - mask)], n_new)[0] if n_new else torch.zeros_like(mask)
            weight.mul_(stays)
            chosen.append(stays + begins)
        return chosen

    def gradient(self, weight: Tensor, mask: Tensor, gradient: Tensor) -> Tensor:
        """Learn what is kept."""
        del weight
        return gradient * mask
