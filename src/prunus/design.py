"""A budget in, architectures worth training out. Nothing is trained here: the time model rules out the rest."""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from prunus.engine.file import to_bytes
from prunus.engine.int8 import BLOCK
from prunus.engine.network import Activation, Dense, LayerShape, Network, NetworkShape
from prunus.errors import BudgetError
from prunus.latency import Prices
from prunus.latency.prices import shape_of

if TYPE_CHECKING:
    from prunus.data.ranking import Schema
    from prunus.engine.network import InputStage
    from prunus.latency import LatencyModel

DEFAULT_BATCH = 128
"""Documents in a call that a budget means when it does not say."""

CYCLE = 100_000
"""Documents that a measurement goes through before it reads the same again. On globo_ltr (176 bytes a document) 20,000 of
them stay in the last cache and a document takes 0.056 us; 100,000 do not, and it takes 0.072. The slower figure is the one
that a budget means."""

HEADROOM = 0.94
"""Share of a time budget that designs aim at: predicted and measured times differ by a few per cent."""

WIDEST = {"quick": 128, "normal": 256, "thorough": 512}
"""First hidden layer at most: a large budget need not be spent, and wide students take long to train."""

BYTES_PER_WEIGHT = 6
BYTES_PER_BLOCK = 6
BYTES_PER_UNIT = 8
BYTES_PER_SLOT = 57
"""Bytes in a model file: a float32 and an index of 16 bits for a weight, four int8 and an index for a block, a bias and a row
pointer for a unit, and for a slot its seven arrays and its feature's column in the eight reference rows."""

METADATA_BYTES = 1200
"""Bytes of provenance and verdict in the header of a model file, about."""


@dataclass(frozen=True)
class Budget:
    """What a student may cost: time or bytes, never both.

    Attributes:
        us_per_doc: microseconds for each document at ``batch`` documents a call, one thread; None for a byte budget.
        batch: documents in a call.
        n_bytes: bytes of the model file; None for a time budget.
    """

    us_per_doc: float | None = None
    batch: int = DEFAULT_BATCH
    n_bytes: int | None = None

    def __post_init__(self) -> None:
        given = [x for x in (self.us_per_doc, self.n_bytes) if x is not None]
        if len(given) != 1 or not 0 < given[0] < float("inf") or self.batch < 1:
            msg = f"got a budget of {self.us_per_doc} us at batch {self.batch} and {self.n_bytes} bytes; expected one of them, above 0"
            raise BudgetError(msg)

    @classmethod
    def parse(cls, text: str | float | Budget) -> Budget:
        """Read a budget as it is typed: ``0.5us`` (at batch 128), ``0.5us@20``, ``20KB``, ``20000B``; a number is us.

        Raises:
            BudgetError: the text has another form.
        """
        if isinstance(text, Budget):
            return text
        if isinstance(text, int | float):
            return cls(us_per_doc=float(text))
        time = re.fullmatch(r"\s*([0-9.]+(?:e[+-]?\d+)?)\s*(us|µs|ns|ms)\s*(?:@\s*(\d+))?\s*", text)
        size = re.fullmatch(r"\s*([0-9.]+)\s*(B|KB|kB|MB)\s*", text)
        try:
            if time:
                unit = {"us": 1.0, "µs": 1.0, "ns": 1e-3, "ms": 1e3}[time[2]]
                return cls(us_per_doc=float(time[1]) * unit, batch=int(time[3] or DEFAULT_BATCH))
            if size:
                return cls(n_bytes=int(float(size[1]) * {"B": 1, "KB": 1000, "kB": 1000, "MB": 1_000_000}[size[2]]))
        except ValueError:
            pass
        msg = f"got the budget {text!r}; expected microseconds a document such as 0.5us or 0.5us@20 (at 20 documents a call), or bytes such as 20KB"
        raise BudgetError(msg)

    @property
    def total(self) -> float:
        """The number that a student may cost, in the budget's own unit."""
        return self.us_per_doc if self.us_per_doc is not None else float(self.n_bytes or 0)

    def of(self, cost: float) -> Budget:
        """Return a budget of the same unit that allows ``cost``, rounded up to three digits."""
        if self.n_bytes is not None:
            return Budget(n_bytes=math.ceil(cost))
        step = 10.0 ** (math.floor(math.log10(cost)) - 2)
        return Budget(float(f"{math.ceil(cost / step) * step:.3g}"), self.batch)

    def __str__(self) -> str:
        """Return the budget as it would be typed."""
        return f"{self.n_bytes}B" if self.n_bytes is not None else f"{self.us_per_doc:.6g}us@{self.batch}"


Kind = Literal["sparse", "dense", "int8", "block"]
"""Kinds of student."""

PRUNED = ("sparse", "block")
"""Kinds that start wide and are pruned down to the budget."""

KERNELS: dict[Kind, str] = {"sparse": "sparse", "dense": "dense", "int8": "dense_int8", "block": "block_int8"}
"""What runs the hidden layers of each kind."""

LEAST_DENSITY = 0.01
"""Share of its weights that a pruned student must be left with: below it nothing is learned that a narrower one does not."""


@dataclass(frozen=True)
class Architecture:
    """One student worth training.

    Attributes:
        kind: ``sparse`` and ``block`` start wide and are pruned down to the budget, weight by weight in float32 or by
            blocks of four neighbouring inputs in int8; ``dense`` and ``int8`` are as small as the budget.
        widths: units of the hidden layers.
        target: what it is to cost, in the budget's unit (us for each document, or bytes).
        first: kernel family of the first layer of an ``int8`` or ``block`` student; ``f32`` leaves it in float32 (pruned
            weight by weight in a ``block`` student). The last layer is always float32.
        n_inputs: slots that a ``dense`` or ``int8`` student reads, the most important ones; None for all. The pruned kinds
            choose theirs while they are pruned.
    """

    kind: Kind
    widths: tuple[int, ...]
    target: float
    first: Literal["int8", "f32"] = "int8"
    n_inputs: int | None = None

    @property
    def key(self) -> str:
        """Name and target, for file names."""
        return f"{self.name.replace(' ', '-')}-{self.target:.5g}"

    @property
    def name(self) -> str:
        """Kind and widths, as in ``sparse 128x64x32``; a float32 first layer is named, and inputs that are not all."""
        mixed = "-f32first" if self.kind in ("int8", "block") and self.first == "f32" else ""
        some = "" if self.n_inputs is None else f"-{self.n_inputs}in"
        return f"{self.kind}{mixed}{some} {'x'.join(map(str, self.widths))}"

    @property
    def spelled(self) -> str:
        """Name and target, as :meth:`parse` reads them: ``sparse 128x64@0.0376``."""
        return f"{self.name}@{self.target!r}"

    @classmethod
    def parse(cls, text: str) -> Architecture:
        """Read what :attr:`spelled` wrote.

        Raises:
            BudgetError: the text has another form.
        """
        form = re.fullmatch(r"(sparse|dense|int8|block)(-f32first)?(?:-(\d+)in)? (\d+(?:x\d+)*)@([0-9.e+-]+)", text)
        try:
            if form:
                widths = tuple(int(width) for width in form[4].split("x"))
                n_inputs = int(form[3]) if form[3] else None
                return cls(cast("Kind", form[1]), widths, float(form[5]), "f32" if form[2] else "int8", n_inputs)
        except ValueError:
            pass
        msg = f"got the student {text!r}; expected a kind, widths and a target, as in 'sparse 128x64@0.0376'"
        raise BudgetError(msg)


def prices(
    inputs: InputStage,
    budget: Budget,
    latency: LatencyModel,
    schema: Schema,
    target: float | None = None,
    kind: Kind = "sparse",
) -> Prices:
    """Price the parts of a sparse network in the budget's unit.

    Args:
        inputs: the input stage, all slots.
        budget: says which unit.
        latency: time model of this CPU.
        schema: of the model file, whose names cost bytes.
        target: what the student is to cost, where that is not what the budget allows.
        kind: of the student; ``block`` has prices of its own.
    """
    if budget.n_bytes is not None:
        slot = np.full(inputs.n_slots, float(BYTES_PER_SLOT))
        fixed = _fixed_bytes(inputs, schema)
        return Prices(fixed, float(BYTES_PER_WEIGHT), float(BYTES_PER_UNIT), slot, float(BYTES_PER_BLOCK))
    target_us = target or budget.total * HEADROOM
    kernel: Literal["sparse", "block_int8"] = "block_int8" if kind == "block" else "sparse"
    return latency.prices(inputs, budget.batch, target_us=target_us, cycle=CYCLE, kind=kernel)


def _fixed_bytes(inputs: InputStage, schema: Schema) -> float:
    """Bytes of a model file less its slots, weights and units."""
    one = Dense(np.ones((1, 1), np.float32), np.zeros(1, np.float32), Activation.IDENTITY)
    smallest = Network(schema.n_features, inputs.take(np.zeros(1, np.int64)), (one,))
    return float(len(to_bytes(smallest, schema, metadata={})) + METADATA_BYTES - BYTES_PER_SLOT)


def _shape(inputs: InputStage, n_features: int, widths: tuple[int, ...], kind: Kind = "dense") -> NetworkShape:
    """Return the shape of a network that keeps all its weights: of a dense kind, or of a pruned one before it is pruned."""
    sizes = [inputs.n_slots, *widths]
    layers = tuple(LayerShape(a, b, a * b, KERNELS[kind]) for a, b in itertools.pairwise(sizes))
    last = LayerShape(sizes[-1], 1, sizes[-1], "dense")
    return replace(shape_of(inputs, (*layers, last)), n_features=n_features)


def cheapest(price: Prices) -> float:
    """Cost of the smallest student there is: one input, then one unit and one weight in each of three layers."""
    return price.fixed + float(price.slot.min()) + 3 * price.weight + 3 * price.unit


def dense_cost(
    inputs: InputStage,
    widths: tuple[int, ...],
    budget: Budget,
    latency: LatencyModel,
    schema: Schema,
    kind: Kind = "dense",
) -> float:
    """Predict what a network that keeps all its weights costs, in the budget's unit."""
    shape = _shape(inputs, schema.n_features, widths, kind)
    if budget.n_bytes is not None:
        of_weight = {"sparse": BYTES_PER_WEIGHT, "dense": 4, "int8": 1, "block": BYTES_PER_BLOCK / BLOCK}[kind]
        of_unit = {"sparse": BYTES_PER_UNIT, "dense": 4, "int8": 8, "block": 12}[kind]
        weights = sum(of_weight * layer.stored + of_unit * layer.n_outputs for layer in shape.layers)
        return _fixed_bytes(inputs, schema) + BYTES_PER_SLOT * inputs.n_slots + weights
    return latency.predict(shape, budget.batch, cycle=CYCLE).us_per_doc


def halving(first: int, n_layers: int, ratio: float = 0.5) -> tuple[int, ...]:
    """Widths of hidden layers, each half the one before (or another ratio of it), at least 2."""
    return tuple(max(int(first * ratio**k), 2) for k in range(n_layers))


def largest_dense(
    inputs: InputStage,
    budget: Budget,
    latency: LatencyModel,
    schema: Schema,
    *,
    n_layers: int,
    target: float,
    widest: int = 512,
    kind: Kind = "dense",
    ratio: float = 0.5,
) -> tuple[int, ...] | None:
    """Return the widest network of ``n_layers`` hidden layers that keeps its weights and costs at most ``target``.

    Returns:
        Its widths, each half the one before (or ``ratio`` of it), or None where even the narrowest costs more.
    """

    def fits(first: int) -> bool:
        widths = halving(first, n_layers, ratio)
        return dense_cost(inputs, widths, budget, latency, schema, kind) <= target

    low, high = 3, widest + 1  # the narrowest is 4; a cost that rises with the width is what bisection needs
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return halving(low, n_layers, ratio) if low > 3 else None


def ruled_out(
    architecture: Architecture, inputs: InputStage, budget: Budget, latency: LatencyModel, schema: Schema, price: Prices
) -> str:
    """Say why a student is not worth training, by its predicted cost alone; nothing where it is.

    Args:
        architecture: of the student.
        inputs: the input stage, all slots.
        budget: says which unit.
        latency: time model of this CPU.
        schema: of the model file.
        price: of the parts of a sparse network.
    """
    whole = dense_cost(inputs, architecture.widths, budget, latency, schema, architecture.kind)
    if architecture.kind not in PRUNED:
        return f"is predicted to cost {whole:.4g}" if whole > architecture.target * 1.001 else ""
    if whole <= architecture.target:
        return "would not be pruned: it is a dense one"
    of_weight = price.weight if architecture.kind == "sparse" else price.block / BLOCK
    left = (architecture.target - price.fixed - float(price.slot.min())) / max(of_weight, 1e-12)
    if left < LEAST_DENSITY * n_weights(inputs.n_slots, architecture.widths):
        return f"would keep less than {LEAST_DENSITY:.0%} of its weights"
    return ""


def n_weights(n_slots: int, widths: tuple[int, ...]) -> int:
    """Weights of a network of these hidden layers and one output."""
    return sum(a * b for a, b in itertools.pairwise([n_slots, *widths, 1]))
