"""A net as a chain of simple steps, folded into an input stage and layers while it is read.

The chain holds one value h, a function of the raw features x, always in the form

    h = p * g(u) + q,       u = (x - c) * a  or  u = W h' + b,       g = clamp to [l, u] or the sigmoid,

with p, q, l and u for each unit. Each step changes as little of this as possible: a scaling or shift changes W and b
where nothing stands between, else p and q, which the next linear step takes into its own W and b. So standardisation
and batch normalisation cost nothing in the engine, and zeros of W stay zeros. Everything is float64 until the end.

Subtraction comes first in the input stage, as there it loses least: (x - 1e6) * w is not x * w - 1e6 * w.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from prunus.engine.network import MAX_WIDTH, Activation, Dense, InputStage, SlotKind
from prunus.errors import ForeignModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

LARGEST = float(np.finfo(np.float32).max)

HUGE = 1e30
"""Factors and shifts beyond this, or below its inverse, stay out of the input stage."""

WIDEST_REPEATED = 4096
"""Widest level that may get a layer of its own for a step that does not fold."""


class _Level:
    """The last u of a chain and what was applied to it since: h = p g(u) + q; vectors are float64 [width]."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.lower = np.full(width, -np.inf)
        self.upper = np.full(width, np.inf)
        self.sigmoid = False
        self.p = np.ones(width)
        self.q = np.zeros(width)

    @property
    def bounded(self) -> bool:
        """Whether anything but p and q was applied to u."""
        return self.sigmoid or bool(np.isfinite(self.lower).any() or np.isfinite(self.upper).any())

    @property
    def plain(self) -> bool:
        """Whether p and q change nothing."""
        return bool((self.p == 1).all() and (self.q == 0).all())

    def clamp(self, lower: float, upper: float) -> None:
        """Clamp h, which is to clamp u between other bounds; a unit with p = 0 is its q."""
        flat = self.p == 0
        p = np.where(flat, 1.0, self.p)
        ends = (lower - self.q) / p, (upper - self.q) / p
        low, high = np.minimum(*ends), np.maximum(*ends)
        low[flat], high[flat] = -np.inf, np.inf
        self.q = np.where(flat, np.clip(self.q, lower, upper), self.q)
        self.lower, self.upper = np.clip(self.lower, low, high), np.clip(self.upper, low, high)


class _Inputs(_Level):
    """u = (x - center) * scale."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.center = np.zeros(width)
        self.scale = np.ones(width)

    def affine(self, a: Array, b: Array) -> None:
        """Scale and shift h; the first shift becomes the centre."""
        p = self.p * a
        center = -b / np.where(p == 0, 1.0, p)
        free = not self.bounded and not self.center.any() and not self.q.any()
        if free and (np.abs(center) < HUGE).all():
            self.center, self.p, self.q = np.where(p == 0, 0.0, center), p, np.where(p == 0, b, 0.0)
        else:
            self.p, self.q = p, self.q * a + b

    def settle(self) -> None:
        """Move p into the scale, where float32 takes it: u is then in the units that the net was made for."""
        own = (np.abs(self.p) < HUGE) & (np.abs(self.p) > 1 / HUGE)
        p = np.where(own, self.p, 1.0)
        with np.errstate(over="ignore"):
            ends = self.lower * p, self.upper * p
        self.lower, self.upper = np.minimum(*ends), np.maximum(*ends)
        self.scale, self.p = self.scale * p, np.where(own, 1.0, self.p)

    def stage(self) -> InputStage:
        """Return one slot for each feature."""
        return InputStage(
            feature=np.arange(self.width, dtype=np.int32),
            kind=np.full(self.width, SlotKind.VALUE, np.uint8),
            center=_float32(self.center, "shifts of the inputs"),
            scale=_float32(self.scale, "scales of the inputs"),
            lower=np.clip(self.lower, -LARGEST, LARGEST).astype(np.float32),
            upper=np.clip(self.upper, -LARGEST, LARGEST).astype(np.float32),
            fill=np.zeros(self.width, np.float32),
        )


class _Linear(_Level):
    """u = weight h' + bias, h' being the h of the level before. While nothing is applied to u, p is 1 and q is 0."""

    def __init__(self, weight: Array, bias: Array) -> None:
        super().__init__(len(bias))
        self.weight = weight
        self.bias = bias

    def affine(self, a: Array, b: Array) -> None:
        """Scale and shift h."""
        if self.bounded:
            self.p, self.q = self.p * a, self.q * a + b
        else:
            self.weight, self.bias = self.weight * a[:, None], self.bias * a + b

    def settle(self) -> None:
        """Turn any clamp into relu or relu6; its bounds are the same for all units."""
        lower, upper = float(self.lower[0]), float(self.upper[0])
        if self.sigmoid or not self.bounded or (lower == 0 and upper in {6, np.inf}):
            return
        if lower > -np.inf and upper < np.inf:
            # clamp(u, l, u') = relu6((u - l) k) / k + l with k = 6 / (u' - l); bounds that meet leave the constant l.
            k, start, top = (6 / (upper - lower) if lower < upper else 0.0), lower, 6.0
        else:
            # clamp(u, l, inf) = relu(u - l) + l; clamp(u, -inf, u') = u' - relu(u' - u)
            k, start, top = (1.0, lower, np.inf) if lower > -np.inf else (-1.0, upper, np.inf)
        self.weight, self.bias = self.weight * k, (self.bias - start) * k
        self.p, self.q = self.p * (1 / k if k else 0.0), self.q + self.p * start
        self.lower, self.upper = np.zeros(self.width), np.full(self.width, top)

    def layer(self) -> Dense:
        """Return the layer of a settled level."""
        if self.sigmoid:
            activation = Activation.SIGMOID
        elif not self.bounded:
            activation = Activation.IDENTITY
        else:
            activation = Activation.RELU if self.upper[0] == np.inf else Activation.RELU6
        return Dense(_float32(self.weight, "weights"), _float32(self.bias, "biases"), activation)


class Chain:
    """Collects the steps of a net, first to last.

    Args:
        n_features: columns of the raw features, if known; else the first step with a width says.
    """

    def __init__(self, n_features: int | None = None) -> None:
        self._inputs: _Inputs | None = None
        self._linears: list[_Linear] = []
        if n_features is not None:
            self._begin(n_features)

    @property
    def width(self) -> int | None:
        """Units of h; None while the number of features is unknown."""
        return None if self._inputs is None else self._last(self._inputs).width

    @property
    def n_features(self) -> int | None:
        """Columns of the raw features; None while unknown."""
        return None if self._inputs is None else self._inputs.width

    def affine(self, scale: object, shift: object, what: str) -> None:
        """Replace h by h * scale + shift.

        Args:
            scale: one number, or one a unit.
            shift: one number, or one a unit.
            what: the step's name, for messages.

        Raises:
            ForeignModelError: another number of values than units, or one that is not finite.
        """
        given = [np.asarray(value, np.float64) for value in (scale, shift)]
        level = self._level(max(array.size for array in given), what)
        a, b = (_per_unit(array, level.width, what) for array in given)
        level.affine(a, b)

    def linear(self, weight: object, bias: object | None, what: str) -> None:
        """Replace h by W h + b.

        Args:
            weight: [n_outputs, n_inputs].
            bias: one number, one an output, or None.
            what: the step's name, for messages.

        Raises:
            ForeignModelError: the shapes do not fit, or a value is not finite.
        """
        w = np.asarray(weight, np.float64)
        if w.ndim != 2 or not (1 <= w.shape[0] <= MAX_WIDTH and 1 <= w.shape[1] <= MAX_WIDTH):
            msg = f"{what} has weights of shape {list(w.shape)}; expected [outputs, inputs], 1 to {MAX_WIDTH} each"
            raise ForeignModelError(msg)
        _finite(w, what)
        b = _per_unit(np.zeros(1) if bias is None else np.asarray(bias, np.float64), len(w), what)
        level = self._level(w.shape[1], what)
        if w.shape[1] != level.width:
            msg = f"{what} takes {w.shape[1]} inputs, and {level.width} stand before it; expected as many"
            raise ForeignModelError(msg)
        self._push(w, b)

    def clamp(self, lower: float, upper: float, what: str) -> None:
        """Replace h by min(max(h, lower), upper); bounds may be infinite.

        Raises:
            ForeignModelError: the bounds are crossed or not numbers.
        """
        if not lower <= upper or lower == np.inf or upper == -np.inf:
            msg = f"{what} clips to [{lower}, {upper}]; expected a lower bound that is not above the upper"
            raise ForeignModelError(msg)
        level = self._level(1, what)
        if isinstance(level, _Linear) and level.bounded and (level.sigmoid or not level.plain):
            level = self._repeat(what)
        level.clamp(float(lower), float(upper))

    def sigmoid(self, what: str) -> None:
        """Replace h by 1 / (1 + exp(-h))."""
        level = self._level(1, what)
        if level.bounded or isinstance(level, _Inputs):
            level = self._repeat(what)
        level.sigmoid = True

    def tanh(self, what: str) -> None:
        """Replace h by its hyperbolic tangent, 2 sigmoid(2 h) - 1."""
        self.affine(2.0, 0.0, what)
        self.sigmoid(what)
        self.affine(2.0, -1.0, what)

    def finish(self) -> tuple[InputStage, tuple[Dense, ...]]:
        """Return the input stage, one slot for each feature in order, and the layers; the last has one output.

        Raises:
            ForeignModelError: the chain has no width or not one output, or a number leaves float32.
        """
        level = self._level(1, "the output")
        if level.width != 1:
            msg = f"the net gives {level.width} outputs; expected 1, the score"
            raise ForeignModelError(msg)
        level.settle()
        if isinstance(level, _Inputs) or not level.plain:
            self._repeat("the output")
        assert self._inputs is not None
        return self._inputs.stage(), tuple(linear.layer() for linear in self._linears)

    def _begin(self, n_features: int) -> _Inputs:
        if not 1 <= n_features <= MAX_WIDTH:
            msg = f"the net reads {n_features} features; expected 1 to {MAX_WIDTH}"
            raise ForeignModelError(msg)
        self._inputs = _Inputs(n_features)
        return self._inputs

    def _last(self, inputs: _Inputs) -> _Inputs | _Linear:
        return self._linears[-1] if self._linears else inputs

    def _level(self, size: int, what: str) -> _Inputs | _Linear:
        """Return the last level; where there is none, begin with ``size`` features."""
        if self._inputs is not None:
            return self._last(self._inputs)
        if size == 1:
            msg = (
                f"{what} comes before anything says how many features there are; expected an input with a fixed number"
                " of columns, or a layer with weights"
            )
            raise ForeignModelError(msg)
        return self._begin(size)

    def _push(self, weight: Array, bias: Array) -> _Linear:
        """Begin a level: the one before it settles, and its p and q move into the new weights."""
        assert self._inputs is not None
        level = self._last(self._inputs)
        level.settle()
        self._linears.append(_Linear(weight * level.p, bias + weight @ level.q))
        level.p, level.q = np.ones(level.width), np.zeros(level.width)
        return self._linears[-1]

    def _repeat(self, what: str) -> _Linear:
        """Begin a level with the same h, for a step that does not fold into the last one."""
        assert self.width is not None
        if self.width > WIDEST_REPEATED:
            msg = f"{what} needs a layer of its own for {self.width} units; expected at most {WIDEST_REPEATED}"
            raise ForeignModelError(msg)
        return self._push(np.eye(self.width), np.zeros(self.width))


def _finite(values: Array, what: str) -> None:
    if not np.isfinite(values).all():
        msg = f"{what} holds NaN or infinity; expected finite numbers"
        raise ForeignModelError(msg)


def _per_unit(array: Array, width: int, what: str) -> Array:
    """Return a value as float64 [width]."""
    _finite(array, what)
    if array.size not in {1, width} or array.ndim > 2 or (array.ndim == 2 and array.shape[0] != 1):
        msg = f"{what} has values of shape {list(array.shape)} for {width} units; expected one, or one a unit"
        raise ForeignModelError(msg)
    return np.broadcast_to(array.reshape(-1), (width,)).astype(np.float64)


def _float32(values: Array, what: str) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        cast = values.astype(np.float32)
    if not np.isfinite(cast).all():
        msg = f"the {what} leave float32 once constants are folded in; expected numbers below 3.4e38"
        raise ForeignModelError(msg)
    return cast
