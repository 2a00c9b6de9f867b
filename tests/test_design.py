"""Budgets as they are typed, and the architectures that they allow."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import pytest

from latency_models import round_numbers
from prunus.compress.proposals import inputs_worth, kinds_at, propose
from prunus.compress.typical import typical_network
from prunus.data.ranking import Schema
from prunus.design import (
    KERNELS,
    PRUNED,
    Architecture,
    Budget,
    cheapest,
    largest_dense,
    prices,
    ruled_out,
)
from prunus.engine.network import InputStage, LayerShape, NetworkShape, SlotKind
from prunus.errors import BudgetError, BudgetImpossibleError
from prunus.latency import Prices

if TYPE_CHECKING:
    from prunus.design import Kind

SCHEMA = Schema(tuple(f"f{i}" for i in range(30)))


def stage(n: int = 30) -> InputStage:
    """Make an input stage of n slots, half of them logarithms."""
    one = np.ones(n, np.float32)
    kind = np.where(np.arange(n) % 2, SlotKind.LOG, SlotKind.VALUE)
    return InputStage(np.arange(n), kind, 0 * one, one, -5 * one, 5 * one, 0 * one)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.5us", Budget(0.5)),
        ("0.5us@20", Budget(0.5, 20)),
        (" .25 us @ 1000 ", Budget(0.25, 1000)),
        ("500ns", Budget(0.5)),
        ("2µs", Budget(2.0)),
        ("1e-1us", Budget(0.1)),
        ("1.5e+1us", Budget(15.0)),
        (0.3, Budget(0.3)),
        ("20KB", Budget(n_bytes=20_000)),
        ("128B", Budget(n_bytes=128)),
    ],
)
def test_parse(text: str | float, expected: Budget) -> None:
    """Every documented form is read."""
    assert Budget.parse(text) == expected


@pytest.mark.parametrize("text", ["", "fast", "0.5", "-1us", "0us", "1us@0", "1.2.3us", "5 apples", "0B"])
def test_other_forms_are_refused(text: str) -> None:
    """Anything else is a named error that shows the forms."""
    with pytest.raises(BudgetError, match="expected"):
        Budget.parse(text)


@pytest.mark.parametrize(
    "budget", [Budget(0.5), Budget(0.08, 20), Budget(12345.6), Budget(0.123456), Budget(n_bytes=20_000)]
)
def test_prints_as_typed(budget: Budget) -> None:
    """What a budget prints is read back as the same budget."""
    assert Budget.parse(str(budget)) == budget


@pytest.mark.parametrize("text", ["0.02us", "0.05us", "0.2us", "1us", "0.1us@20", "9KB", "30KB"])
@pytest.mark.parametrize("effort", ["quick", "normal", "thorough"])
def test_proposals_keep_the_budget(text: str, effort: str) -> None:
    """Designs that keep their weights are predicted inside the budget, the others aim below it; kinds stand in order."""
    model, budget = round_numbers(), Budget.parse(text)
    found = propose(stage(), budget, model, SCHEMA, effort=effort)  # type: ignore[arg-type]
    kinds = list(dict.fromkeys(a.kind for a in found))
    assert kinds == [kind for kind in kinds_at(budget) if kind in kinds]
    assert 1 <= len(kinds) <= (4 if effort == "thorough" else 2)
    assert all(a.target <= budget.total for a in found)
    for a in found:
        if a.kind not in PRUNED and budget.us_per_doc is not None:
            pairs = list(itertools.pairwise([30, *a.widths, 1]))
            layers = [LayerShape(x, y, x * y, KERNELS[a.kind] if y > 1 else "dense") for x, y in pairs]
            shape = NetworkShape(30, 30, 8, 30, 15, tuple(layers))
            assert model.predict(shape, budget.batch).us_per_doc <= budget.us_per_doc


@pytest.mark.parametrize("effort", ["normal", "thorough"])
def test_int8_is_proposed_where_it_is_faster(effort: str) -> None:
    """A CPU that multiplies bytes no faster than float32 gets float32 students only; another one gets both."""
    fast = round_numbers()
    slow = replace(fast, tiles={tile: slowed(terms) for tile, terms in fast.tiles.items()})
    kinds = [{a.kind for a in propose(stage(), Budget(0.05), m, SCHEMA, effort=effort)} for m in (fast, slow)]  # type: ignore[arg-type]
    assert kinds[0] & {"int8", "block"}
    assert kinds[1]
    assert not kinds[1] & {"int8", "block"}


@pytest.mark.parametrize(("total", "expected"), [(2.0, None), (1.5, 16), (0.3, 8), (0.01, 8)])
def test_inputs_take_half_of_the_budget_at_most(total: float, expected: int | None) -> None:
    """All of 30 inputs that cost a unit together, half of them (by fours), or a quarter, whatever leaves room for weights."""
    price = Prices(0.0, 1e-3, 1e-3, np.full(30, 1 / 30))
    assert inputs_worth(stage(), price, total) == expected


def test_where_inputs_take_most_of_the_budget_some_are_left_out() -> None:
    """A student that keeps its weights reads fewer inputs, so it can be wider; one that is pruned chooses its own."""
    model = round_numbers()
    dear = replace(model, tiles={tile: dear_inputs(terms) for tile, terms in model.tiles.items()})
    cheap, few = (propose(stage(), Budget(0.05), m, SCHEMA, effort="thorough") for m in (model, dear))
    assert all(a.n_inputs is None for a in cheap)
    assert {a.n_inputs is None for a in few if a.kind not in PRUNED} == {False}
    assert {a.n_inputs is None for a in few if a.kind in PRUNED} <= {True}
    for a in few:
        if a.kind not in PRUNED:
            network = typical_network(a, stage(), 30, prices(stage(), Budget(0.05), dear, SCHEMA))
            assert network.inputs.n_slots == a.n_inputs
            assert dear.predict(network, 128).us_per_doc <= 0.05


def dear_inputs(terms: dict[str, float]) -> dict[str, float]:
    """Give a tile's prices on a CPU whose input stage takes ten times as long."""
    return {name: us * (10 if "slots" in name else 1) for name, us in terms.items()}


def slowed(terms: dict[str, float]) -> dict[str, float]:
    """Give a tile's prices on a CPU whose int8 kernels take ten times as long."""
    return {name: us * (10 if name.startswith(("int8", "blocks")) else 1) for name, us in terms.items()}


def test_a_larger_budget_allows_a_wider_dense_network() -> None:
    """Widths never shrink as the budget grows."""
    widths = [
        largest_dense(stage(), Budget(us), round_numbers(), SCHEMA, n_layers=2, target=us) or (0,)
        for us in (0.01, 0.05, 0.1, 0.3, 1.0)
    ]
    assert widths == sorted(widths)
    assert widths[-1] > widths[0]


@pytest.mark.parametrize("text", ["0.001us", "0.01us@1", "100B"])
def test_the_impossible_names_the_nearest_possible(text: str) -> None:
    """The error carries a budget that then works."""
    with pytest.raises(BudgetImpossibleError, match="nearest possible") as caught:
        propose(stage(), Budget.parse(text), round_numbers(), SCHEMA)
    assert propose(stage(), Budget.parse(caught.value.nearest), round_numbers(), SCHEMA)


def test_the_cheapest_network_has_one_of_each() -> None:
    """One input, two units and the output, a weight before each: what prices say."""
    price = prices(stage(), Budget(1.0), round_numbers(), SCHEMA)
    expected = price.fixed + price.slot.min() + 3 * price.weight + 3 * price.unit
    assert cheapest(price) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("kind", "widths", "target"),
    [
        ("sparse", (64, 32), 0.05),
        ("sparse", (64, 32), 0.07),
        ("block", (64, 32), 0.014),
        ("block", (128, 64), 0.03),
        ("block", (256, 128), 0.05),
    ],
)
def test_a_typical_network_costs_its_target(kind: Kind, widths: tuple[int, ...], target: float) -> None:
    """The stand-in for a student that will be pruned is predicted to cost what the student aims at."""
    budget, model = Budget(target), round_numbers()
    price = prices(stage(), budget, model, SCHEMA, kind=kind)
    network = typical_network(Architecture(kind, widths, target), stage(), 30, price)
    assert model.predict(network, budget.batch).us_per_doc == pytest.approx(target, rel=0.06)


@pytest.mark.parametrize("first", ["int8", "f32"])
@pytest.mark.parametrize("kind", ["dense", "int8", "block", "sparse"])
def test_a_typical_network_has_its_kinds_kernels(kind: Kind, first: Literal["int8", "f32"]) -> None:
    """Hidden layers run in the kernel of the kind, the last one in float32, the first where it is told so."""
    price = prices(stage(), Budget(0.1), round_numbers(), SCHEMA)
    kernels = [
        layer.kind
        for layer in typical_network(Architecture(kind, (64, 32), 0.1, first), stage(), 30, price).shape.layers
    ]
    plain = "sparse" if kind in PRUNED else "dense"
    assert kernels == [KERNELS[kind] if first == "int8" or kind in ("dense", "sparse") else plain, KERNELS[kind], plain]


@pytest.mark.parametrize(
    "one",
    [
        Architecture("sparse", (128, 64), 0.0376),
        Architecture("dense", (33,), 0.1 + 0.2),
        Architecture("int8", (40, 20, 10), 1e-3, "f32"),
        Architecture("block", (64, 32), 18_740.0),
        Architecture("int8", (34, 17), 0.047, "f32", 68),
        Architecture("dense", (34, 17), 0.047, n_inputs=12),
    ],
)
def test_an_architecture_is_read_as_it_is_spelled(one: Architecture) -> None:
    """Kind, widths, target to the last bit, kernel of the first layer and number of inputs survive."""
    assert Architecture.parse(one.spelled) == one


@pytest.mark.parametrize("text", ["", "sparse", "sparse 12", "tree 12@1", "dense 12x@1", "dense 12@x", "dense 1.5@2"])
def test_other_spellings_are_refused(text: str) -> None:
    """A recipe that was edited by hand says what is wrong."""
    with pytest.raises(BudgetError, match="expected a kind"):
        Architecture.parse(text)


@pytest.mark.parametrize(
    ("one", "why"),
    [
        (Architecture("dense", (8, 4), 0.2), ""),
        (Architecture("dense", (400, 200), 0.05), "predicted to cost"),
        (Architecture("sparse", (128, 64), 0.06), ""),
        (Architecture("sparse", (8, 4), 0.5), "would not be pruned"),
        (Architecture("sparse", (4000, 4000), 0.06), "would keep less than"),
        (Architecture("block", (8, 4), 0.5), "would not be pruned"),
        (Architecture("int8", (400, 200), 0.02), "predicted to cost"),
    ],
)
def test_students_are_ruled_out_by_predicted_time(one: Architecture, why: str) -> None:
    """A student that misses its target, or has nothing to prune, or nothing left, is not trained."""
    budget, model = Budget(0.1), round_numbers()
    price = prices(stage(), budget, model, SCHEMA)
    said = ruled_out(one, stage(), budget, model, SCHEMA, price)
    assert why in said
    assert bool(why) == bool(said)
