"""The ranker's student: an input stage, hidden layers with a bounded activation, and one linear output."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

import numpy as np
import torch
from torch import Tensor, nn

from prunus.engine.network import Activation, InputStage, SlotKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

LARGEST: Final = 2.0**127
"""log1p reads magnitudes above this as this, as the engine does."""


@dataclass(frozen=True)
class LayerArrays:
    """One layer of a student as it crosses the border to the engine.

    Attributes:
        weight: float32 [n_outputs, n_inputs], zeros where the mask is 0.
        bias: float32 [n_outputs].
        activation: applied to each output.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    activation: Activation


class StagedInputs(nn.Module):
    """The input stage in torch: raw features to the first layer's inputs, as the engine computes them."""

    feature: Tensor
    kind: Tensor
    center: Tensor
    scale: Tensor
    lower: Tensor
    upper: Tensor
    fill: Tensor

    def __init__(self, stage: InputStage) -> None:
        super().__init__()
        self.stage: Final = stage
        self.register_buffer("feature", torch.from_numpy(stage.feature.astype(np.int64)), persistent=False)
        self.register_buffer("kind", torch.from_numpy(stage.kind.astype(np.int64)), persistent=False)
        for name in ("center", "scale", "lower", "upper", "fill"):
            self.register_buffer(name, torch.from_numpy(getattr(stage, name).copy()), persistent=False)

    def forward(self, X: Tensor) -> Tensor:
        """Map raw features to inputs.

        Args:
            X: float32 [n, n_features]; NaN means missing.

        Returns:
            float32 [n, n_slots].
        """
        x = X.index_select(1, self.feature)
        missing = torch.isnan(x)
        log = torch.sign(x) * torch.log1p(torch.clamp(torch.abs(x), max=LARGEST))
        t = torch.where(torch.eq(self.kind, SlotKind.LOG), log, x)
        z = torch.clamp((t - self.center) * self.scale, self.lower, self.upper)
        z = torch.where(torch.eq(self.kind, SlotKind.EQUAL), torch.eq(x, self.center).to(z.dtype), z)
        z = torch.where(missing, self.fill, z)
        return torch.where(torch.eq(self.kind, SlotKind.MISSING), missing.to(z.dtype), z)


class MLP(nn.Module):
    """h_0 = inputs, h_k = relu6((M_k * W_k) h_{k-1} + b_k), score = w h_K + b, with 0/1 masks M_k.

    The masks are float32 buffers of 0 and 1, one for each layer, of its weight's shape.
    """

    def __init__(self, n_inputs: int, widths: Sequence[int], *, seed: int) -> None:
        """Draw a new student.

        Args:
            n_inputs: slots of its input stage.
            widths: units of the hidden layers, first to last.
            seed: of the first weights.
        """
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        sizes = [n_inputs, *widths, 1]
        self.stack = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))
        for layer in self.linears:
            # He et al. 2015 (arXiv 1502.01852), the rule for rectified units; biases a little above 0 keep units alive.
            nn.init.normal_(layer.weight, std=(2.0 / layer.in_features) ** 0.5, generator=generator)
            nn.init.constant_(layer.bias, 0.1)
        nn.init.normal_(self.linears[-1].weight, std=(1.0 / sizes[-2]) ** 0.5, generator=generator)
        nn.init.zeros_(self.linears[-1].bias)
        for number, layer in enumerate(self.linears):
            self.register_buffer(f"mask_{number}", torch.ones_like(layer.weight))

    @property
    def linears(self) -> list[nn.Linear]:
        """The layers, first to last."""
        return [cast("nn.Linear", layer) for layer in self.stack]

    @property
    def masks(self) -> list[Tensor]:
        """The masks, first layer to last."""
        return [getattr(self, f"mask_{number}") for number in range(len(self.linears))]

    @property
    def widths(self) -> tuple[int, ...]:
        """Units of the hidden layers."""
        return tuple(layer.out_features for layer in self.linears[:-1])

    @property
    def nonzeros(self) -> int:
        """Weights that the masks keep, biases not counted."""
        return int(sum(int(mask.sum()) for mask in self.masks))

    @property
    def density(self) -> float:
        """Share of the weights that the masks keep."""
        return self.nonzeros / sum(mask.numel() for mask in self.masks)

    def forward(self, z: Tensor) -> Tensor:
        """Score documents.

        Args:
            z: float32 [n, n_inputs], from :class:`StagedInputs`.

        Returns:
            float32 [n].
        """
        h = z
        last = len(self.linears) - 1
        for number, (layer, mask) in enumerate(zip(self.linears, self.masks, strict=True)):
            h = nn.functional.linear(h, layer.weight * mask, layer.bias)
            if number < last:
                h = nn.functional.relu6(h)
        return h.squeeze(1)

    def layers(self, *, scale: float = 1.0, shift: float = 0.0) -> list[LayerArrays]:
        """Return the layers as arrays, the score mapped to ``scale * score + shift`` (the teacher's scale)."""
        arrays = []
        last = len(self.linears) - 1
        for number, (layer, mask) in enumerate(zip(self.linears, self.masks, strict=True)):
            weight = (layer.weight * mask).detach().cpu().numpy().astype(np.float32)
            bias = layer.bias.detach().cpu().numpy().astype(np.float32)
            if number == last:
                weight, bias = weight * np.float32(scale), bias * np.float32(scale) + np.float32(shift)
            arrays.append(LayerArrays(weight, bias, Activation.IDENTITY if number == last else Activation.RELU6))
        return arrays
