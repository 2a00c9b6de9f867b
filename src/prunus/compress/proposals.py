"""What to train for a budget: kinds in the order that was measured, shapes that the time model allows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from prunus.compress.typical import some_inputs
from prunus.design import (
    HEADROOM,
    KERNELS,
    PRUNED,
    WIDEST,
    Architecture,
    cheapest,
    halving,
    largest_dense,
    n_weights,
    prices,
    ruled_out,
)
from prunus.engine.int8 import BLOCK
from prunus.errors import BudgetImpossibleError

if TYPE_CHECKING:
    from prunus.data.ranking import Schema
    from prunus.design import Budget, Kind
    from prunus.engine.network import InputStage
    from prunus.latency import LatencyModel, Prices

START_DENSITY = 0.25
"""Density that a sparse student should end at: widths start where the budget leaves about this share of the weights.
On globo_ltr 64x32 pruned to 30 % ranks better than 128x64x32 pruned to 9 % at the same time and trains in half of it;
see docs/distillation.md."""

FIRST = 16
"""First hidden layer of a student that will be pruned, at least."""

SHARES = (1.0, 0.5, 0.25)
"""Shares of the inputs that a student that keeps its weights may read."""

SLOTS_AT_MOST = 0.5
"""Share of its target that its inputs may cost such a student."""

BY_TIME: tuple[tuple[float, tuple[Kind, ...]], ...] = (
    (0.07, ("int8", "block", "sparse", "dense")),
    (math.inf, ("block", "int8", "sparse", "dense")),
)
"""Up to so many us for each document: kinds by their validation quality at the same measured time. The table is in
docs/distillation.md, made by benchmarks/kinds.py on two sets at 0.05, 0.1, 0.2 and 0.5 us."""

BY_BYTES: tuple[Kind, ...] = ("int8", "block", "sparse", "dense")
"""For a budget of bytes: kinds by what a weight takes in a file, 1, 1.5, 6 and 4 bytes; the pruned ones need fewer."""


def propose(
    inputs: InputStage,
    budget: Budget,
    latency: LatencyModel,
    schema: Schema,
    *,
    effort: Literal["quick", "normal", "thorough"] = "normal",
) -> list[Architecture]:
    """Propose students that meet the budget: kinds in the order of :func:`kinds_at`, the likely best first.

    What the time model rules out is left out: a student of int8 where this CPU runs no more int8 weights than float32
    ones in the same time, and one that the budget would not prune, which is the one of its kind that keeps its weights.

    Args:
        inputs: the input stage, all slots.
        budget: to meet.
        latency: time model of this CPU.
        schema: of the model file.
        effort: ``quick`` and ``normal`` propose one student of each of the first two kinds, ``thorough`` all kinds in
            several depths.

    Raises:
        BudgetImpossibleError: no network is that cheap.
    """
    price = prices(inputs, budget, latency, schema)
    total = budget.total
    target = total * HEADROOM
    least = cheapest(price) / HEADROOM
    if total < least:
        nearest = budget.of(least * 1.02)
        msg = f"got a budget of {budget}; the smallest network costs more on this CPU: the nearest possible budget is {nearest}"
        raise BudgetImpossibleError(msg, str(nearest))
    n_kinds, depths = (len(KERNELS), (1, 2, 3)) if effort == "thorough" else (2, (2,))
    widest = WIDEST[effort]
    n_inputs = inputs_worth(inputs, price, target)
    few = some_inputs(inputs, n_inputs)

    def whole(kind: Kind, n_layers: int) -> tuple[int, ...] | None:
        return largest_dense(few, budget, latency, schema, n_layers=n_layers, target=target, widest=widest, kind=kind)

    int8_pays = any((whole("int8", n) or (0,)) > (whole("dense", n) or (0,)) for n in depths)
    found: dict[Kind, list[Architecture]] = {}
    for kind in kinds_at(budget):
        if len(found) == n_kinds or (kind in ("int8", "block") and not int8_pays):
            continue
        for n_layers in depths:
            pruned = kind in PRUNED
            own = prices(inputs, budget, latency, schema, kind=kind)
            widths = _start(kind, inputs, own, target, n_layers, widest) if pruned else whole(kind, n_layers)
            if widths is None:
                continue
            one = Architecture(kind, widths, target, n_inputs=None if pruned else n_inputs)
            if not ruled_out(one, inputs if pruned else few, budget, latency, schema, own):
                found.setdefault(kind, []).append(one)
    # A budget that is next to nothing leaves no kind its weights, and less than a hundredth to those that are pruned.
    return [one for kind in found.values() for one in kind] or [Architecture("sparse", halving(FIRST, 2), target)]


def inputs_worth(inputs: InputStage, price: Prices, target: float) -> int | None:
    """How many inputs a student that keeps its weights should read: all (None), or the most that leave it some weights.

    Args:
        inputs: the input stage, all slots.
        price: of its slots.
        target: what the student is to cost.
    """
    shares = [share for share in SHARES if float(price.slot.sum()) * share <= SLOTS_AT_MOST * target] or [SHARES[-1]]
    return None if shares[0] == 1 else max(round(inputs.n_slots * shares[0] / BLOCK), 1) * BLOCK


def kinds_at(budget: Budget) -> tuple[Kind, ...]:
    """Return all kinds, the one that ranked best at such a budget first."""
    if budget.us_per_doc is None:
        return BY_BYTES
    return next(kinds for us, kinds in BY_TIME if budget.us_per_doc <= us)


def _start(kind: Kind, inputs: InputStage, price: Prices, target: float, n_layers: int, widest: int) -> tuple[int, ...]:
    """Double the width while the budget leaves about ``START_DENSITY`` of the weights."""
    of_weight = price.weight if kind == "sparse" else price.block / BLOCK
    weights = max((target - price.fixed - 0.5 * float(price.slot.sum())) / max(of_weight, 1e-12), 16.0)
    first = FIRST
    while first < widest and n_weights(inputs.n_slots, halving(first * 2, n_layers)) * START_DENSITY <= weights * 1.5:
        first *= 2
    return halving(first, n_layers)
