"""`auto` makes the candidate that is the best on a tenth of the training part, knows nothing of the test part, and resumes."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from interactions_world import make_interactions
from prunus import topk
from prunus.compress import recommender_student as job
from prunus.compress.beside import cut_weights
from prunus.compress.factors import popular_items
from prunus.compress.recommender import compress_recommender
from prunus.compress.recommender_recipe import RecommenderRecipe
from prunus.compress.row_budget import RowBudget
from prunus.data import splits
from prunus.engine import recommender_file
from prunus.engine import recommender_reference as reference
from prunus.errors import BudgetImpossibleError
from prunus.report import form
from prunus.report import recommender as report
from prunus.teacher.linear import EaseSettings, ease_problem, fit_ease

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

N_ITEMS = 120
SPLIT = splits.strong(make_interactions(300, N_ITEMS, n_each=14), 0.2)
SHORT_ROWS = RecommenderRecipe(budget="12B", teacher=EaseSettings(20), epochs=60, lists=20, k=5, margin=0.5)
CUT_WEIGHTS = SHORT_ROWS.model_copy(update={"budget": "30B", "epochs": 12, "margin": 0.02})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[RecommenderRecipe], tuple[Path, dict[str, Any]]]:
    """Make a recommender once for each recipe: its folder and its result."""
    found: dict[str, tuple[Path, dict[str, Any]]] = {}

    def make(recipe: RecommenderRecipe) -> tuple[Path, dict[str, Any]]:
        if recipe.budget not in found:
            out = tmp_path_factory.mktemp("auto")
            found[recipe.budget] = out, compress_recommender(SPLIT, recipe=recipe, out=out).to_json()
        return found[recipe.budget]

    return make


@pytest.mark.parametrize(("recipe", "kind"), [(SHORT_ROWS, "dense"), (CUT_WEIGHTS, "item-item")])
def test_the_best_is_made(made: Any, recipe: RecommenderRecipe, kind: str) -> None:
    """Trained rows win where they are much trained and bytes are few, cut weights elsewhere; result and page tell all."""
    out, values = made(recipe)
    tried = values["candidates"]
    figures = [one["ndcg@5"] for one in tried if not one["dropped"]]
    assert figures == sorted(figures, reverse=True)
    assert figures[0] > figures[-1]
    assert {one["plan"]["kind"] for one in tried} == {"dense", "item-item"}
    assert values["student"]["plan"] == tried[0]["plan"]
    assert tried[0]["plan"]["kind"] == kind
    bound = RowBudget.parse(recipe.budget, N_ITEMS).bytes_per_item
    assert all(one["bytes_per_item"] <= bound for one in tried)
    assert values["student"]["bytes_per_item"] <= bound
    assert values == json.loads((out / "result.json").read_text())
    page = report.render(values)
    assert all(form.quality(one["ndcg@5"]) in page and escape(one["name"]) in page for one in tried)


def test_the_two_best_dense_rows_train_on(made: Any) -> None:
    """Where dense rows are not behind, two of them are judged after more epochs and the third is dropped; far behind, one is enough."""
    for recipe, expected in ((SHORT_ROWS, {(10, True): 1, (30, False): 2}), (CUT_WEIGHTS, {(2, False): 1})):
        dense = [one for one in made(recipe)[1]["candidates"] if one["plan"]["kind"] == "dense"]
        assert Counter((one["epochs"], one["dropped"]) for one in dense) == expected
        assert dense == sorted(dense, key=lambda one: one["dropped"])


def test_figures_are_of_the_tenth(made: Any) -> None:
    """What stands beside cut weights is what the slow twin finds of them, fitted on nine tenths, for the other one."""
    out, values = made(CUT_WEIGHTS)
    tried = {one["name"]: one for one in values["candidates"]}
    metadata = recommender_file.from_bytes((out / "recommender.prunus").read_bytes(), "it")[2]
    part = splits.random_by_user(SPLIT.train, 0.1, CUT_WEIGHTS.seed)
    assert CUT_WEIGHTS.teacher is not None
    weights, problem = fit_ease(part.train, CUT_WEIGHTS.teacher).weights, ease_problem(part.train, CUT_WEIGHTS.teacher)
    seen = part.train.users_x_items().toarray() > 0
    for name, share in (("item-item", 1.0), ("item-item, 1/2 of the budget", 0.5)):
        limit = RowBudget(RowBudget.parse(CUT_WEIGHTS.budget, N_ITEMS).n_bytes * share, N_ITEMS)
        model = cut_weights(weights, popular_items(part.train), limit, metadata, problem)
        lists = reference.top_k(reference.score(model, part.train.indptr, part.train.items), ~seen, 5)[0]
        assert tried[name]["ndcg@5"] == pytest.approx(topk.ndcg(lists, part.test, 5).mean, abs=1e-6)


def test_the_test_part_chooses_nothing(made: Any, tmp_path: Path) -> None:
    """With other test users the same candidates have the same figures, and the model has the same bytes."""
    out, values = made(SHORT_ROWS)
    few = np.arange(0, SPLIT.test.n_users, 2)
    other = replace(SPLIT, histories=SPLIT.histories.take_users(few), test=SPLIT.test.take_users(few))
    again = compress_recommender(other, recipe=SHORT_ROWS, out=tmp_path).to_json()
    assert again["student"]["ndcg@5"] != values["student"]["ndcg@5"]
    assert timeless(again) == timeless(values)
    assert (tmp_path / "recommender.prunus").read_bytes() == (out / "recommender.prunus").read_bytes()


def test_killed_among_the_candidates_it_goes_on(made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in the middle of a candidate and run again, it tries none of the others twice and ends with the same bytes."""
    out, values = made(SHORT_ROWS)
    ran, done = job.FactorLoop._run_epoch, []

    def killed(loop: Any) -> float:
        done.append(loop.settings.teacher)
        if len(done) == 14:
            raise KeyboardInterrupt
        return ran(loop)

    with monkeypatch.context() as patch:
        patch.setattr(job.FactorLoop, "_run_epoch", killed)
        with pytest.raises(KeyboardInterrupt):
            compress_recommender(SPLIT, recipe=SHORT_ROWS, out=tmp_path)
        assert len(set(done)) == 2
        compress_recommender(SPLIT, recipe=SHORT_ROWS, out=tmp_path)
    assert len(done) == 1 + 3 * 10 + 2 * 30 + SHORT_ROWS.epochs
    again = json.loads((tmp_path / "result.json").read_text())
    assert timeless(again) == timeless(values)
    assert (tmp_path / "recommender.prunus").read_bytes() == (out / "recommender.prunus").read_bytes()


def test_a_budget_for_no_candidate(tmp_path: Path) -> None:
    """It is refused at once, with the nearest that does, and nothing is written."""
    recipe = SHORT_ROWS.model_copy(update={"budget": "1B"})
    with pytest.raises(BudgetImpossibleError, match="one factor of 4 bits takes more") as caught:
        compress_recommender(SPLIT, recipe=recipe, out=tmp_path / "out")
    assert RowBudget.parse(caught.value.nearest, N_ITEMS).bytes_per_item > 1
    assert not (tmp_path / "out").exists()


def timeless(values: dict[str, Any]) -> list[dict[str, Any]]:
    """Give the candidates of a result without what is timed."""
    return [{key: value for key, value in one.items() if key != "seconds"} for one in values["candidates"]]
