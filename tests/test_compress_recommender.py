"""The whole job of a recommender on generated interactions: it keeps its budget, resumes, repeats, refuses what changed."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from interactions_world import make_interactions
from prunus import topk
from prunus.compress import kept_teacher
from prunus.compress import recommender_student as job
from prunus.compress.beside import TIMES
from prunus.compress.recommender import compress_recommender
from prunus.compress.recommender_recipe import RecommenderRecipe
from prunus.compress.row_budget import SLACK, RowBudget, fit, row_length
from prunus.data import splits
from prunus.engine import recommender_file
from prunus.engine import recommender_reference as reference
from prunus.engine.levels import quantise_model
from prunus.engine.recommender import DenseFactors, SparseFactors, SparseRows
from prunus.errors import BudgetError, BudgetImpossibleError, OutputError, RecipeChangedError, TeacherError
from prunus.report import recommender as recommender_report
from prunus.teacher.item_scores import Popularity, as_item_scorer
from prunus.teacher.linear import EaseSettings, fit_ease

if TYPE_CHECKING:
    from pathlib import Path

DATA = make_interactions(400, 150, n_each=14)
SPLIT = splits.strong(DATA, 0.2)
RECIPE = RecommenderRecipe(
    budget="40B", teacher=EaseSettings(20), kind="tickets", factors=48, epochs=8, lists=20, k=5, threads=1, margin=0.5
)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Compress once."""
    out = tmp_path_factory.mktemp("recommender")
    return out, compress_recommender(SPLIT, recipe=RECIPE, out=out).to_json()


def test_result(done: tuple[Path, dict[str, Any]]) -> None:
    """The file keeps the budget and makes the lists of the table, by the slow twin; the promised keys are there."""
    out, values = done
    path, split_ids = out / "recommender.prunus", SPLIT.histories.user_ids
    assert values == json.loads((out / "result.json").read_text())
    student = values["student"]
    assert {"ndcg@5", "recall@5"} <= values["teacher"].keys() & student.keys()
    assert student["file_bytes"] == path.stat().st_size
    assert student["bytes_per_item"] == (student["file_bytes"] - student["id_map_bytes"]) / DATA.n_items <= 40
    model, ids, metadata = recommender_file.from_bytes(path.read_bytes(), "it")
    assert ids == DATA.item_ids
    assert metadata["teacher"] == "EASE(l2=20)"
    seen = SPLIT.histories.users_x_items().toarray() > 0
    lists = reference.top_k(reference.score(model, SPLIT.histories.indptr, SPLIT.histories.items), ~seen, 5)[0]
    assert student["ndcg@5"] == pytest.approx(topk.ndcg(lists, SPLIT.test, 5).mean, abs=1e-3)
    assert values["verdict"]["queries"] == SPLIT.n_test_users
    by_role = {row["role"]: row["ndcg@5"] for row in values["rows"]}
    assert list(by_role) == ["teacher", "student", "popularity"]
    curve = values["curve"]
    assert [one["times"] for one in curve] == [times for times in TIMES if times * 40 >= curve[0]["bytes_per_item"]]
    assert all(one["bytes_per_item"] <= 40 * one["times"] for one in curve)
    assert curve[-1]["ndcg@5"] > 0.8 * by_role["teacher"]
    for one in values["examples"]:
        user = int(one["user"]) if split_ids is None else split_ids.index(one["user"])
        wanted = {str(item) for item in SPLIT.test.history(user)}
        assert [place["hit"] for place in one["lists"]["student"]] == [
            place["item"] in wanted for place in one["lists"]["student"]
        ]
    assert by_role["student"] > 1.5 * by_role["popularity"]


def test_done_is_kept_and_changes_are_refused(
    done: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second run fits no teacher and trains no epoch, and says the same; other data or settings are refused."""
    out, values = done
    monkeypatch.setattr(kept_teacher, "fit_ease", lambda *_: pytest.fail("the teacher was fitted again"))
    monkeypatch.setattr(job.FactorLoop, "_run_epoch", lambda *_: pytest.fail("an epoch was trained again"))
    again = compress_recommender(SPLIT, recipe=RECIPE, out=out).to_json()
    assert {**again, "seconds": 0, "machine": 0} == {**values, "seconds": 0, "machine": 0}
    with pytest.raises(RecipeChangedError, match=r"recipe\.budget"):
        compress_recommender(SPLIT, recipe=RECIPE.model_copy(update={"budget": "30B"}), out=out)
    with pytest.raises(RecipeChangedError, match=r"inputs\.train"):
        compress_recommender(splits.strong(DATA, 0.2, seed=1), recipe=RECIPE, out=out)


def test_dense_students(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Short rows of which nothing is pruned keep the same budget and use it; a second run trains nothing, no pilot either."""
    recipe = RECIPE.model_copy(update={"kind": "dense", "epochs": 6})
    values = compress_recommender(SPLIT, recipe=recipe, out=tmp_path).to_json()
    model, _, _ = recommender_file.from_bytes((tmp_path / "recommender.prunus").read_bytes(), "it")
    assert isinstance(model, DenseFactors)
    assert 34 <= values["student"]["bytes_per_item"] <= 40
    assert values["rows"][1]["ndcg@5"] > 1.5 * values["rows"][2]["ndcg@5"]
    monkeypatch.setattr(job.FactorLoop, "_run_epoch", lambda *_: pytest.fail("an epoch was trained again"))
    again = compress_recommender(SPLIT, recipe=recipe, out=tmp_path).to_json()
    assert again["student"] == values["student"]


def test_cut_weights_as_student(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The teacher's own weights need no training: the run's student is the curve's at the budget, also when run again."""
    recipe = RECIPE.model_copy(update={"kind": "item-item"})
    values = compress_recommender(SPLIT, recipe=recipe, out=tmp_path).to_json()
    same = next(one for one in values["curve"] if one["times"] == 1.0)
    assert values["student"]["ndcg@5"] == pytest.approx(same["ndcg@5"], abs=1e-3)
    assert values["student"]["bytes_per_item"] == pytest.approx(same["bytes_per_item"], abs=0.1)
    assert values["training"]["history"] == []
    assert "<svg" in recommender_report.render(values)
    monkeypatch.setattr(kept_teacher, "fit_ease", lambda *_: pytest.fail("the teacher was fitted again"))
    assert compress_recommender(SPLIT, recipe=recipe, out=tmp_path).to_json()["student"] == values["student"]
    with pytest.raises(TeacherError, match="no weights between items"):
        compress_recommender(SPLIT, recipe=recipe, out=tmp_path / "other", teacher=Popularity(SPLIT.train.popularity))


def test_a_kept_teacher_is_fitted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run with another budget takes the fit of the first; it makes what it would have made with its own."""
    first = RECIPE.model_copy(update={"kind": "item-item"})
    small = first.model_copy(update={"budget": "12B"})
    compress_recommender(SPLIT, recipe=first, out=tmp_path / "first", teachers=tmp_path / "kept")
    compress_recommender(SPLIT, recipe=small, out=tmp_path / "own")
    fitted = []
    monkeypatch.setattr(kept_teacher, "fit_ease", lambda *given: fitted.append(given) or fit_ease(*given))
    compress_recommender(SPLIT, recipe=small, out=tmp_path / "small", teachers=tmp_path / "kept")
    kept_teacher.kept_ease(tmp_path / "kept", SPLIT.train, EaseSettings(20.0))  # as well as 20
    assert not fitted
    assert (tmp_path / "small/recommender.prunus").read_bytes() == (tmp_path / "own/recommender.prunus").read_bytes()
    other = small.model_copy(update={"teacher": EaseSettings(31)})
    compress_recommender(SPLIT, recipe=other, out=tmp_path / "other", teachers=tmp_path / "kept")
    assert len(fitted) == 1
    assert len(list((tmp_path / "kept").iterdir())) == 2


def test_a_kept_teacher_that_is_damaged_or_cannot_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is cut short, or of another shape, is fitted anew; a folder that is a file is refused before the fit."""
    settings = EaseSettings(20.0)
    whole = kept_teacher.kept_ease(tmp_path, SPLIT.train, settings).weights
    (file,) = tmp_path.iterdir()
    kept = file.read_bytes()
    np.save(tmp_path / "square.npy", np.zeros((3, 3), np.float32))
    for damaged in (b"", kept[:40], kept[:-1], (tmp_path / "square.npy").read_bytes()):
        file.write_bytes(damaged)
        np.testing.assert_array_equal(kept_teacher.kept_ease(tmp_path, SPLIT.train, settings).weights, whole)
        assert file.read_bytes() == kept
    monkeypatch.setattr(kept_teacher, "fit_ease", lambda *_: pytest.fail("the teacher was fitted"))
    with pytest.raises(OutputError, match="cannot keep the teacher"):
        kept_teacher.kept_ease(file, SPLIT.train, settings)


@pytest.mark.long
def test_interrupted_run_ends_the_same(
    done: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after some epochs and run again, it writes the same bytes."""
    with monkeypatch.context() as patch:
        ran = job.FactorLoop._run_epoch

        def killed(loop: Any) -> float:
            if loop.epoch == 5:
                raise KeyboardInterrupt
            return ran(loop)

        patch.setattr(job.FactorLoop, "_run_epoch", killed)
        with pytest.raises(KeyboardInterrupt):
            compress_recommender(SPLIT, recipe=RECIPE, out=tmp_path)
    compress_recommender(SPLIT, recipe=RECIPE, out=tmp_path)
    name = "recommender.prunus"
    assert (tmp_path / name).read_bytes() == (done[0] / name).read_bytes()


@pytest.mark.long
def test_a_given_teacher_by_user(tmp_path: Path) -> None:
    """A matrix of scores teaches on a split that keeps its users; who has no history gets the popular items."""
    assert DATA.times is not None
    late = replace(DATA, times=np.where(DATA.user_of < 20, 10_000, DATA.times))
    split = splits.by_time(late, 0.2)
    assert (np.diff(split.histories.indptr) == 0).any()
    weights = np.random.default_rng(0).normal(size=(150, 150)).astype(np.float32)
    scores = split.train.users_x_items() @ (weights + weights.T)
    teacher = as_item_scorer(scores, split.train)
    values = compress_recommender(
        split, recipe=RECIPE.model_copy(update={"epochs": 2, "teacher": None}), out=tmp_path, teacher=teacher
    ).to_json()
    assert values["data"]["cold_users"] > 0
    assert values["teacher"]["name"] == "a matrix of scores"
    assert values["teacher"]["trials"] == []


@pytest.mark.parametrize("budget", ["12B", "3KB"])
def test_cut_to_budget(budget: str) -> None:
    """What is too large is cut to just under its budget, the smallest values first, one an item at least."""
    rng = np.random.default_rng(1)
    drawn = np.sort(rng.normal(size=(150, 48)).astype(np.float32), axis=1)
    model = quantise_model(SparseFactors(SparseRows.from_dense(drawn)), 4)
    assert isinstance(model, SparseFactors)
    bound = RowBudget.parse(budget, 150)
    small = fit(model, bound, {"by": "test"})
    assert (1 - SLACK) * bound.n_bytes <= recommender_file.packed_bytes(small, metadata={"by": "test"}) <= bound.n_bytes
    assert small.decode.lengths.min() >= 1
    assert np.abs(small.decode.value).mean() > np.abs(model.decode.value).mean()
    length = row_length(bound, 48, 4)
    assert 1 <= length < 48
    assert fit(small, RowBudget.parse("1MB", 150), {}) is small


@pytest.mark.parametrize("text", ["128", "-3B", "0B", "0.5us", "3GB"])
def test_budgets_that_cannot_be_read(text: str) -> None:
    """A budget has one form."""
    with pytest.raises(BudgetError, match="expected bytes an item"):
        RowBudget.parse(text, 10)


def test_a_budget_below_one_value() -> None:
    """Less than one value an item is refused with the nearest budget that works."""
    with pytest.raises(BudgetImpossibleError, match="one value an item takes") as caught:
        row_length(RowBudget.parse("1B", 150), 48, 4)
    assert row_length(RowBudget.parse(caught.value.nearest, 150), 48, 4) >= 1
