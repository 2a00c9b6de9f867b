"""Students to a budget of bytes: what is written fits, is near the budget, and is what was trained."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from prunus.compress.factors import TicketPlan, train_dense, train_factors  # noqa: E402
from prunus.compress.row_budget import RowBudget, coarsen  # noqa: E402
from prunus.data.interactions import Interactions  # noqa: E402
from prunus.distill.factors import FactorSettings, teacher_lists  # noqa: E402
from prunus.engine.levels import quantise  # noqa: E402
from prunus.engine.recommender import DenseFactors  # noqa: E402
from prunus.engine.recommender_file import packed_bytes  # noqa: E402
from prunus.errors import BudgetImpossibleError  # noqa: E402
from prunus.teacher.item_scores import Popularity  # noqa: E402

N_USERS, N_ITEMS = 100, 600
SETTINGS = FactorSettings(epochs=3, batch_users=64)


def histories() -> Interactions:
    """Draw users who take about ten items each."""
    rng = np.random.default_rng(0)
    taken = rng.random((N_USERS, N_ITEMS)) < 10 / N_ITEMS
    taken[:, 0] = True
    return Interactions(np.r_[0, np.cumsum(taken.sum(axis=1))], np.nonzero(taken)[1].astype(np.int32), N_ITEMS)


@pytest.mark.parametrize(("budget", "reset", "bits"), [(14, "none", 3), (20, "first", 8), (17, "late", 4)])
def test_fits_the_budget_and_uses_it(budget: int, reset: str, bits: int) -> None:
    """The packed student takes no more than its bytes, and nearly all of them."""
    data = histories()
    plan = TicketPlan(reset=reset, late=1, every=2, prune_until=0.7)  # type: ignore[arg-type]
    student = train_factors(
        data,
        teacher_lists(Popularity(data.popularity), data, 20),
        RowBudget(budget * N_ITEMS, N_ITEMS),
        n_factors=64,
        bits=bits,
        settings=dataclasses.replace(SETTINGS, epochs=4, batch_users=50),
        plan=plan,
        metadata={"note": "x" * 50},
    )
    spent = packed_bytes(student.model, metadata={"note": "x" * 50}) / N_ITEMS
    assert 0.9 * budget <= spent <= budget


def test_a_tiny_budget_names_the_least() -> None:
    """One value an item and the file around it set the least budget."""
    with pytest.raises(BudgetImpossibleError, match="one value an item takes") as caught:
        train_factors(histories(), None, RowBudget(N_ITEMS, N_ITEMS), n_factors=64, settings=SETTINGS)
    assert float(caught.value.nearest.removesuffix("B")) > 1


@pytest.mark.parametrize(("budget", "bits"), [(12, 2), (12, 4), (30, 8)])
def test_dense_factors_fit_and_are_as_many_as_do(budget: int, bits: int) -> None:
    """Small dense factors take the whole of the same budget and no more, however many bits a value has."""
    note = {"note": "x" * 50}
    student = train_dense(
        histories(), None, RowBudget(budget * N_ITEMS, N_ITEMS), bits=bits, settings=SETTINGS, metadata=note
    )
    assert isinstance(student.model, DenseFactors)
    assert 0.85 * budget <= packed_bytes(student.model, metadata=note) / N_ITEMS <= budget


@pytest.mark.parametrize("share", [0.99, 0.8, 0.5])
def test_levels_further_apart_take_fewer_bytes(share: float) -> None:
    """Dense factors that came out too large fit, and stand on whole multiples of a step that a file keeps."""
    rows = np.random.default_rng(0).normal(size=(N_ITEMS, 16)).astype(np.float32)
    values, step = quantise(rows, 4)
    model = DenseFactors(values, popular=np.arange(3, dtype=np.int32), step=step)
    budget = RowBudget(share * packed_bytes(model), N_ITEMS)
    found = coarsen(model, budget, {})
    assert 0.7 * budget.n_bytes <= packed_bytes(found) <= budget.n_bytes
    assert found.step is not None
    assert found.step == found.step.astype(np.float16)
    np.testing.assert_allclose(found.decode, np.rint(found.decode / found.step) * found.step, rtol=1e-6)
    assert np.corrcoef(found.decode.ravel(), rows.ravel())[0, 1] > 0.75
    assert coarsen(found, budget, {}) is found


def test_dense_factors_refuse_a_tiny_budget() -> None:
    """Not even one factor is an error with the nearest budget."""
    with pytest.raises(BudgetImpossibleError, match="one factor of 4 bits takes more") as caught:
        train_dense(histories(), None, RowBudget(N_ITEMS, N_ITEMS), bits=4, settings=SETTINGS)
    assert float(caught.value.nearest.removesuffix("B")) > 1
