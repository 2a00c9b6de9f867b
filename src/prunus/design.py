"""A budget in, architectures worth training out. Nothing is trained here: the time model rules out the rest."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from prunus.engine.network import NetworkShape, SlotKind, count_groups
from prunus.errors import BudgetError, BudgetImpossibleError
from prunus.latency import Prices

if TYPE_CHECKING:
    from prunus.engine.network import InputStage
    from prunus.latency import LatencyModel

DEFAULT_BATCH = 128
"""Documents in a call that a budget means when it does not say."""

HEADROOM = 0.94
"""Share of a time budget that designs aim at: predicted and measured times differ by a few per cent."""

START_DENSITY = 0.25
"""Density that a sparse student should end at: widths start where the budget leaves about this share of the weights.
On globo_ltr 64x32 pruned to 30 % ranks better than 128x64x32 pruned to 9 % at the same time and trains in half of it;
see docs/distillation.md."""

WIDEST = {"quick": 128, "normal": 256, "thorough": 512}
"""First hidden layer at most: a large budget need not be spent, and wide students take long to train."""

BYTES_PER_WEIGHT = 8
BYTES_PER_UNIT = 8
BYTES_PER_SLOT = 25
BYTES_FIXED = 4096
"""Bytes in a model file: a float32 and an int32 a weight, a bias and a row pointer a unit, the arrays of a slot, and the
header with the reference rows (about)."""


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
        time = re.fullmatch(r"\s*([0-9.]+(?:e-?\d+)?)\s*(us|µs|ns|ms)\s*(?:@\s*(\d+))?\s*", text)
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

    def __str__(self) -> str:
        """Return the budget as it would be typed."""
        return f"{self.n_bytes}B" if self.n_bytes is not None else f"{self.us_per_doc:.4g}us@{self.batch}"


@dataclass(frozen=True)
class Architecture:
    """One student worth training.

    Attributes:
        kind: ``sparse`` starts wide and is pruned down to the budget; ``dense`` is as small as the budget.
        widths: units of the hidden layers.
        target: what it is to cost, in the budget's unit (us for each document, or bytes).
    """

    kind: Literal["sparse", "dense"]
    widths: tuple[int, ...]
    target: float

    @property
    def key(self) -> str:
        """Name and target, for file names."""
        return f"{self.name.replace(' ', '-')}-{self.target:.5g}"

    @property
    def name(self) -> str:
        """Kind and widths, as in ``sparse 128x64x32``."""
        return f"{self.kind} {'x'.join(map(str, self.widths))}"


def prices(inputs: InputStage, budget: Budget, latency: LatencyModel) -> Prices:
    """Price the parts of a sparse network in the budget's unit."""
    if budget.n_bytes is not None:
        return Prices(BYTES_FIXED, BYTES_PER_WEIGHT, BYTES_PER_UNIT, np.full(inputs.n_slots, float(BYTES_PER_SLOT)))
    return latency.prices(inputs, budget.batch)


def cheapest(price: Prices) -> float:
    """Cost of the smallest network there is: one input, one unit, one weight a layer."""
    return price.fixed + float(price.slot.min()) + 2 * price.weight + 2 * price.unit


def _dense_cost(
    inputs: InputStage, n_features: int, widths: tuple[int, ...], budget: Budget, latency: LatencyModel
) -> float:
    sizes = [inputs.n_slots, *widths, 1]
    layers = tuple((a, b, a * b, False) for a, b in itertools.pairwise(sizes))
    if budget.n_bytes is not None:
        return BYTES_FIXED + BYTES_PER_SLOT * inputs.n_slots + sum(4 * w + 4 * b for _, b, w, _ in layers)
    read = np.unique(inputs.feature)
    n_log = int((inputs.kind == SlotKind.LOG).sum())
    shape = NetworkShape(n_features, len(read), count_groups(read), inputs.n_slots, n_log, layers)
    return latency.predict(shape, budget.batch).us_per_doc


def largest_dense(
    inputs: InputStage,
    n_features: int,
    budget: Budget,
    latency: LatencyModel,
    *,
    n_layers: int,
    target: float,
    widest: int = 512,
) -> tuple[int, ...] | None:
    """Return the widest dense network of ``n_layers`` hidden layers, each half the one before, that costs at most ``target``.

    Returns:
        Its widths, or None where even the narrowest costs more.
    """
    best = None
    for first in range(4, widest + 1, 2):
        widths = tuple(max(first >> k, 2) for k in range(n_layers))
        if _dense_cost(inputs, n_features, widths, budget, latency) > target:
            break
        best = widths
    return best


def propose(
    inputs: InputStage,
    n_features: int,
    budget: Budget,
    latency: LatencyModel,
    *,
    effort: Literal["quick", "normal", "thorough"] = "normal",
) -> list[Architecture]:
    """Propose students that meet the budget, cheapest to train first.

    Args:
        inputs: the input stage, all slots.
        n_features: columns of the raw features.
        budget: to meet.
        latency: time model of this CPU.
        effort: ``quick`` proposes one student of each kind, ``normal`` and ``thorough`` more depths.

    Raises:
        BudgetImpossibleError: no network is that cheap.
    """
    price = prices(inputs, budget, latency)
    total = budget.us_per_doc if budget.us_per_doc is not None else float(budget.n_bytes or 0)
    target = total * HEADROOM
    least = cheapest(price) / HEADROOM
    if total < least:
        nearest = (
            Budget(n_bytes=int(least) + 1)
            if budget.n_bytes is not None
            else Budget(float(f"{least * 1.02:.3g}"), budget.batch)
        )
        msg = f"got a budget of {budget}; the smallest network costs more on this CPU: the nearest possible budget is {nearest}"
        raise BudgetImpossibleError(msg, str(nearest))
    depths = {"quick": (2,), "normal": (2,), "thorough": (1, 2, 3)}[effort]
    widest = WIDEST[effort]
    found = []
    for n_layers in depths:
        widths = largest_dense(inputs, n_features, budget, latency, n_layers=n_layers, target=target, widest=widest)
        if widths is not None:
            found.append(Architecture("dense", widths, target))
    weights = max((target - price.fixed - 0.5 * float(price.slot.sum())) / price.weight, 16.0)
    for n_layers in {"quick": (2,), "normal": (2,), "thorough": (2, 3)}[effort]:
        first = 16
        while first < widest and _n_weights(inputs.n_slots, first * 2, n_layers) * START_DENSITY <= weights * 1.5:
            first *= 2
        found.append(Architecture("sparse", tuple(first >> k for k in range(n_layers)), target))
    return found


def _n_weights(n_slots: int, first: int, n_layers: int) -> int:
    sizes = [n_slots, *(first >> k for k in range(n_layers)), 1]
    return sum(a * b for a, b in itertools.pairwise(sizes))
