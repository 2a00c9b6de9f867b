"""Budgets as they are typed, and the architectures that they allow."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from latency_models import round_numbers
from prunus.compress.typical import typical_network
from prunus.data.ranking import Schema
from prunus.design import Architecture, Budget, cheapest, largest_dense, prices, propose, ruled_out
from prunus.engine.network import InputStage, LayerShape, NetworkShape, SlotKind
from prunus.errors import BudgetError, BudgetImpossibleError

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
    """Dense designs are predicted inside the budget, sparse ones aim below it, and both kinds are there."""
    model, budget = round_numbers(), Budget.parse(text)
    found = propose(stage(), budget, model, SCHEMA, effort=effort)  # type: ignore[arg-type]
    total = budget.us_per_doc or budget.n_bytes
    assert total is not None
    assert any(a.kind == "sparse" for a in found) or total >= 0.2
    assert all(a.target <= total for a in found)
    for a in found:
        if a.kind == "dense" and budget.us_per_doc is not None:
            sizes = [30, *a.widths, 1]
            layers = tuple(LayerShape(x, y, x * y, "dense") for x, y in itertools.pairwise(sizes))
            shape = NetworkShape(30, 30, 8, 30, 15, layers)
            assert model.predict(shape, budget.batch).us_per_doc <= total


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


@pytest.mark.parametrize("target", [0.05, 0.07])
def test_a_typical_network_costs_its_target(target: float) -> None:
    """The stand-in for a sparse student is predicted to cost what the student aims at."""
    budget, model = Budget(target), round_numbers()
    price = prices(stage(), budget, model, SCHEMA)
    network = typical_network(Architecture("sparse", (64, 32), target), stage(), 30, price)
    assert model.predict(network, budget.batch).us_per_doc == pytest.approx(target, rel=0.06)


@pytest.mark.parametrize(
    "one",
    [
        Architecture("sparse", (128, 64), 0.0376),
        Architecture("dense", (33,), 0.1 + 0.2),
        Architecture("int8", (40, 20, 10), 1e-3, "f32"),
        Architecture("block", (64, 32), 18_740.0),
    ],
)
def test_an_architecture_is_read_as_it_is_spelled(one: Architecture) -> None:
    """Kind, widths, target to the last bit and kernel of the first layer survive."""
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
