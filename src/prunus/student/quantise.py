"""A student that runs as int8: bytes in, int8 weights, exact integer sums, learned with the rounding in place.

Of an int8 layer with inputs h, weights W and bias b,

    q_k = rint(255 clamp((h_k - lo_k) / span_k, 0, 1))                         a byte for each input
    v_ok = rint(W_ok span_k / s_o) in -127..127,  s_o = max_k |W_ok| span_k / 127
    act((s_o / 255) sum_k v_ok q_k + b_o + sum_k v_ok s_o lo_k / span_k)

so ranges are by input and scales by output. That costs the engine nothing: the span of an input slot goes into the
input stage, which then gives numbers in [0, 1], and the span of a hidden unit goes into the row that makes it, which
then ends at 6 where ReLU6 cuts it. In training both roundings are there and the gradient passes through them as if
they were not (straight-through; Bengio et al. 2013, arXiv 1308.3432; Jacob et al. 2018, arXiv 1712.05877).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import torch
from torch import Tensor

from prunus.engine.network import Activation, InputStage, SlotKind
from prunus.student.mlp import MLP, LayerArrays

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

STEPS: Final = 255
"""Largest byte."""

LARGEST: Final = 127
"""Largest weight."""

TOP: Final = 6.0
"""Where ReLU6 cuts: a hidden unit that an int8 layer reads is scaled so that its range ends here."""

EXACT_ROWS: Final = 4096
"""Documents whose exact scores are computed at a time: their float64 sums stay in the cache."""

NARROWEST: Final = 1e-3
"""A range is at least this wide, in units of the input: below it the numbers seen say too little of those to come."""


@dataclass(frozen=True)
class Int8Arrays:
    """An int8 layer of a student as it crosses the border to the engine.

    Attributes:
        weight: int8 [n_outputs, n_inputs].
        scale: float32 [n_outputs], of a sum.
        bias: float32 [n_outputs].
        input_scale: bytes in one unit of the input; an input of 0 is the byte 0.
        activation: applied to each output.
        blocks: whether its zeros stand in blocks of four inputs.
    """

    weight: NDArray[np.int8]
    scale: NDArray[np.float32]
    bias: NDArray[np.float32]
    input_scale: float
    activation: Activation
    blocks: bool


class _Bytes(torch.autograd.Function):
    """Round to the nearest of 256 levels between lo and lo + span; the gradient stops outside of them."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, lo: Tensor, span: Tensor) -> Tensor:  # noqa: ANN401
        steps = (h - lo) * (STEPS / span)
        bounded = steps.clamp(0, STEPS)
        ctx.save_for_backward(bounded == steps)
        return torch.addcmul(lo, bounded.round_(), span / STEPS)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        (inside,) = ctx.saved_tensors
        return gradients[0] * inside, None, None


class QuantisedMLP(MLP):
    """A student whose layers run as int8 once :meth:`calibrate` was called; until then it is a plain one.

    In training mode weights and activations are rounded in float32; in evaluation mode the scores are those of the
    arrays that :meth:`layers` gives, integer by integer.

    Attributes:
        int8: for each layer, whether it runs as int8; the last one never does.
        blocks: whether zeros stand in blocks of four inputs in the int8 layers.
    """

    active: Tensor
    lower: Tensor
    upper: Tensor
    indicator: Tensor

    def __init__(
        self,
        stage: InputStage,
        widths: Sequence[int],
        *,
        seed: int,
        first: Literal["int8", "f32"] = "int8",
        blocks: bool = False,
    ) -> None:
        """Draw a new student.

        Args:
            stage: input stage, whose bounds are the first ranges of the inputs.
            widths: units of the hidden layers, first to last.
            seed: of the first weights.
            first: whether the first layer runs as int8 too.
            blocks: whether the int8 layers are stored by blocks of four inputs.

        Raises:
            ValueError: no layer would run as int8.
        """
        super().__init__(stage.n_slots, widths, seed=seed)
        self.int8: Final = tuple(k < len(widths) and (k > 0 or first == "int8") for k in range(len(widths) + 1))
        self.blocks: Final = blocks
        if not any(self.int8):
            msg = f"got hidden widths {tuple(widths)} with a first layer in {first}; expected some layer but the last in int8"
            raise ValueError(msg)
        of_slot = torch.from_numpy(np.isin(stage.kind, [SlotKind.MISSING, SlotKind.EQUAL]))
        self.register_buffer("indicator", of_slot, persistent=False)
        self.register_buffer("lower", torch.where(of_slot, 0.0, torch.from_numpy(stage.lower.copy())))
        self.register_buffer("upper", torch.where(of_slot, 1.0, torch.from_numpy(stage.upper.copy())))
        for number, width in enumerate(widths):
            self.register_buffer(f"clip_{number}", torch.full((width,), TOP))
        self.register_buffer("active", torch.tensor(False))  # noqa: FBT003

    @torch.no_grad()
    def calibrate(self, z: Tensor) -> None:
        """Take the ranges of inputs and hidden units from documents, and run as int8 from now on.

        The range of a slot is that of the values seen, that of a hidden unit goes from 0 to the largest value seen;
        both stay inside the bounds that they had. Slots that are 0 or 1 keep these two.

        Args:
            z: float32 [n, n_slots], staged documents, the more the better.
        """
        self.active.fill_(False)  # noqa: FBT003
        low = torch.maximum(z.amin(0), self.lower)
        high = torch.minimum(z.amax(0), self.upper)
        keep = self.indicator | (high - low < NARROWEST)
        self.lower.copy_(torch.where(keep, self.lower, low))
        self.upper.copy_(torch.where(keep, self.upper, high))
        h = z
        for number, (layer, mask) in enumerate(zip(self.linears[:-1], self.masks, strict=False)):
            h = torch.nn.functional.relu6(torch.nn.functional.linear(h, layer.weight * mask, layer.bias))
            top = h.amax(0)
            self.clip(number).copy_(torch.where(top < NARROWEST, TOP, top))
        self.active.fill_(True)  # noqa: FBT003

    def clip(self, number: int) -> Tensor:
        """float32 [n_units]: where the units of a hidden layer are cut when an int8 layer reads them, at most 6."""
        return getattr(self, f"clip_{number}")  # type: ignore[no-any-return]

    def _range(self, number: int) -> tuple[Tensor, Tensor]:
        """Lower bound and span of the inputs of an int8 layer."""
        if number == 0:
            return self.lower, self.upper - self.lower
        clip = self.clip(number - 1)
        return torch.zeros_like(clip), clip

    def _steps(self, number: int) -> tuple[Tensor, Tensor]:
        """Integers v, float32 [n_outputs, n_inputs], and scales s, float32 [n_outputs, 1], of a layer."""
        _, span = self._range(number)
        weight = self.linears[number].weight.detach() * self.masks[number] * span
        scale = weight.abs().amax(1, keepdim=True) / LARGEST
        scale = torch.where(scale > 0, scale, 1.0)
        return (weight / scale).round_().clamp_(-LARGEST, LARGEST), scale

    def forward(self, z: Tensor) -> Tensor:
        """Score documents.

        Args:
            z: float32 [n, n_slots], staged.

        Returns:
            float32 [n].
        """
        if not bool(self.active):
            return super().forward(z)
        if not self.training:
            layers = self.layers()
            return torch.cat([run(layers, self.shares(part)) for part in z.split(EXACT_ROWS)])
        h = z
        for number, (layer, mask) in enumerate(zip(self.linears, self.masks, strict=True)):
            weight = layer.weight * mask
            if self.int8[number]:
                lo, span = self._range(number)
                steps, scale = self._steps(number)
                weight = weight + (steps * scale / span - weight).detach()
                h = _Bytes.apply(h, lo, span)  # type: ignore[no-untyped-call]
            h = torch.nn.functional.linear(h, weight, layer.bias)
            if number < len(self.linears) - 1:
                h = torch.nn.functional.relu6(h)
        return h.squeeze(1)

    def shares(self, z: Tensor) -> Tensor:
        """Inputs as the arrays of :meth:`layers` take them: shares of their ranges where the first layer is int8."""
        if not (bool(self.active) and self.int8[0]):
            return z
        return ((z - self.lower) / (self.upper - self.lower)).clamp(0.0, 1.0)

    def stage(self, inputs: InputStage) -> InputStage:
        """Return the input stage that gives what the arrays of :meth:`layers` take.

        Args:
            inputs: the stage that the student was made for.
        """
        if not (bool(self.active) and self.int8[0]):
            return inputs
        lo = self.lower.numpy().astype(np.float64)
        span = self.upper.numpy().astype(np.float64) - lo
        indicator = self.indicator.numpy()
        center, scale = inputs.center.astype(np.float64), inputs.scale.astype(np.float64)
        columns = {
            "center": (center + lo / scale, inputs.center),
            "scale": (scale / span, inputs.scale),
            "lower": (np.zeros_like(lo), inputs.lower),
            "upper": (np.ones_like(lo), inputs.upper),
            "fill": (np.clip((inputs.fill - lo) / span, 0.0, 1.0), np.clip(inputs.fill, 0.0, 1.0)),
        }
        changed = [np.where(indicator, old, new).astype(np.float32) for new, old in columns.values()]
        return InputStage(inputs.feature, inputs.kind, *changed)

    def layers(self, *, scale: float = 1.0, shift: float = 0.0) -> list[LayerArrays | Int8Arrays]:  # type: ignore[override]
        """Return the layers as arrays, the score mapped to ``scale * score + shift``; see :meth:`stage`."""
        plain = super().layers(scale=scale, shift=shift)
        if not bool(self.active):
            return list(plain)
        arrays: list[LayerArrays | Int8Arrays] = []
        for number, layer in enumerate(plain):
            row = np.ones(len(layer.bias))
            if number < len(plain) - 1 and self.int8[number + 1]:
                row = TOP / self.clip(number).numpy().astype(np.float64)
            if not self.int8[number]:
                weight = (layer.weight * row[:, None]).astype(np.float32)
                arrays.append(LayerArrays(weight, (layer.bias * row).astype(np.float32), layer.activation))
                continue
            steps, steps_scale = (x.numpy().astype(np.float64) for x in self._steps(number))
            lo, span = (x.numpy().astype(np.float64) for x in self._range(number))
            bias = layer.bias + (steps * steps_scale) @ (lo / span)
            arrays.append(
                Int8Arrays(
                    steps.astype(np.int8),
                    (steps_scale[:, 0] / STEPS * row).astype(np.float32),
                    (bias * row).astype(np.float32),
                    float(STEPS) if number == 0 else STEPS / TOP,
                    layer.activation,
                    self.blocks,
                )
            )
        return arrays


def bytes_of(h: Tensor, input_scale: float) -> Tensor:
    """Position of inputs between bytes, before they are rounded: float32 fma(h, input_scale, 0), with one rounding."""
    return (h.double() * input_scale).float()


def run(layers: Sequence[LayerArrays | Int8Arrays], h: Tensor, *, doubt: list[Tensor] | None = None) -> Tensor:
    """Run layers as the engine does: the same bytes, the same integer sums, one rounding for each multiply-add.

    Args:
        layers: first to last.
        h: float32 [n, n_inputs], inputs of the first.
        doubt: takes, for each int8 layer, float32 [n, n_inputs]: how far each input was from the middle between two
            bytes, where it could be rounded to either, in bytes.

    Returns:
        float32 [n].
    """
    for layer in layers:
        bias = torch.from_numpy(layer.bias)
        if isinstance(layer, Int8Arrays):
            position = bytes_of(h, layer.input_scale)
            if doubt is not None:
                doubt.append((position - position.floor() - 0.5).abs())
            # A float32 holds integers up to 2^24: products of more than 518 inputs could pass that, so take float64.
            exact = torch.float32 if h.shape[1] * STEPS * LARGEST < 2**24 else torch.float64
            sums = position.round().clamp(0, STEPS).to(exact) @ torch.from_numpy(layer.weight).to(exact).T
            h = (sums.double() * torch.from_numpy(layer.scale).double() + bias.double()).float()
        else:
            h = torch.nn.functional.linear(h, torch.from_numpy(layer.weight), bias)
        if layer.activation is Activation.RELU6:
            h = h.clamp(0.0, TOP)
    return h.squeeze(1)
