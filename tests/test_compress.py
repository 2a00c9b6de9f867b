"""The whole job of a ranker on a generated set: it resumes, repeats, refuses what changed, and keeps its budget."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from sklearn.base import clone

from latency_models import round_numbers
from prunus.bench.run import Comparison
from prunus.compress import training
from prunus.compress.estimator import DistilledRanker
from prunus.compress.proposals import kinds_at
from prunus.compress.ranker import compress_ranker
from prunus.compress.recipe import RankerRecipe
from prunus.compress.search import KINDS
from prunus.data.synthetic import generate_ranking
from prunus.design import Budget
from prunus.engine.file import load, read_header
from prunus.errors import (
    BudgetImpossibleError,
    DataError,
    EmptyDataError,
    InfiniteValueError,
    MissingValueError,
    RecipeChangedError,
    SchemaError,
    TeacherError,
)
from prunus.latency import LatencyModel
from prunus.metrics import ndcg
from prunus.teacher.lambdamart import train_lambdamart
from prunus.teacher.scores import CallableTeacher, ScoreTeacher

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prunus.compress.ranker import Result
    from prunus.data.ranking import RankingData
    from prunus.teacher.trees import TreeTeacher

RECIPE = RankerRecipe(budget="20KB", epochs=3, batch_docs=600)


@pytest.fixture(scope="module")
def parts() -> tuple[RankingData, RankingData, RankingData]:
    """Generate training, validation and test queries of one world."""
    data = generate_ranking(420, seed=5, n_features=14, docs_per_query=(8, 14))
    train, rest = data.split_by_query(0.6, 0)
    return train, *rest.split_by_query(0.5, 0)


@pytest.fixture(scope="module")
def teacher(parts: tuple[RankingData, RankingData, RankingData]) -> TreeTeacher:
    """Train a small forest."""
    return train_lambdamart(parts[0], parts[1], params={"num_leaves": 15}, n_trees=30)


@pytest.fixture(autouse=True, scope="module")
def _quickly() -> Iterator[None]:
    """Take a time model in round numbers, and time in one round: nothing here is about this machine's speed.

    Masks are chosen by fewer documents' curvatures than there are to train on; elsewhere that is most of the training.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LatencyModel, "load_or_calibrate", classmethod(lambda _cls, **_: round_numbers()))
        patch.setattr("prunus.bench.run.ROUNDS", 1)
        patch.setattr("prunus.prune.gradual.DOCUMENTS", 256)
        yield


@pytest.fixture(scope="module")
def job(
    _quickly: None, teacher: TreeTeacher, parts: tuple[RankingData, ...], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Result]:
    """Run the whole job once; give its directory and its result."""
    out = tmp_path_factory.mktemp("job")
    return out, compress_ranker(teacher, *parts, recipe=RECIPE, out=out)


@pytest.fixture
def _untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time nothing for the table: seven processes that say nothing of students and budgets."""
    monkeypatch.setattr("prunus.compress.rows.compare_times", lambda *_, **__: Comparison([], {}, {}, {}, {}, {}))


@pytest.mark.long
@pytest.mark.timeout(300)
class TestJob:
    """The whole job, run once."""

    def test_result(self, job: tuple[Path, Result], teacher: TreeTeacher, parts: tuple[RankingData, ...]) -> None:
        """The file on disk gives the quality in the table; verdict, rows and files fit each other."""
        out, result = job
        test = parts[2]
        scorer = load(out / "ranker.prunus")
        quality = ndcg(test.y, scorer.score(test.X), test.offsets).mean
        values = json.loads((out / "result.json").read_text())
        assert values["student"]["ndcg@10"] == pytest.approx(quality, abs=1e-9)
        assert values["student"]["bytes"] == (out / "ranker.prunus").stat().st_size
        assert values["teacher"]["ndcg@10"] == pytest.approx(ndcg(test.y, teacher.score(test.X), test.offsets).mean)
        assert values["verdict"]["outcome"] == result.verdict.outcome
        assert values["student"]["nonzeros"] == scorer.network.nonzeros
        assert [row["chosen"] for row in values["rows"]].count(True) == 1
        assert {row["role"] for row in values["rows"]} == {
            "teacher",
            "forest",
            "exact",
            *kinds_at(Budget.parse("20KB"))[:2],
        }
        for row in (row for row in values["rows"] if row["role"] == "exact"):
            twin = next(r for r in values["rows"] if r["role"] in ("teacher", "forest") and r["trees"] == row["trees"])
            assert row["ndcg@10"] == pytest.approx(twin["ndcg@10"], abs=1e-9)
        assert values["exact_trees"]["trees"] == teacher.n_trees
        assert values["exact_trees"]["meets_budget"] == (values["exact_trees"]["bytes"] <= 20_000)
        assert bool(values["exact_trees"]["sentence"]) == values["exact_trees"]["meets_budget"]
        assert read_header(out / "ranker.prunus")["verdict"]["outcome"] == result.verdict.outcome
        for row in values["rows"]:
            assert set(row["us_per_doc"]) == {"20", "128", "1000"}
        students = [row for row in values["rows"] if row["role"] in KINDS]
        for number, row in enumerate(students):
            header = read_header(out / "work" / f"student-{number}.prunus")
            assert (header["architecture"], header["nonzeros"]) == (row["name"], row["nonzeros"])

    def test_students_speak_on_the_teachers_scale(
        self, job: tuple[Path, Result], teacher: TreeTeacher, parts: tuple[RankingData, ...]
    ) -> None:
        """The least-squares line from student to teacher scores is about the identity."""
        train = parts[0]
        slope, shift = np.polyfit(job[1].scorer.score(train.X), teacher.score(train.X), 1)
        assert slope == pytest.approx(1.0, abs=1e-3)
        assert shift == pytest.approx(0.0, abs=1e-2 * teacher.score(train.X).std())

    @pytest.mark.usefixtures("_untimed")
    def test_run_again_gives_the_same_file(
        self,
        job: tuple[Path, Result],
        teacher: TreeTeacher,
        parts: tuple[RankingData, ...],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """A fresh run gives the same bytes; a second one in its directory trains nothing, and gives them again."""
        first = (job[0] / "ranker.prunus").read_bytes()
        compress_ranker(teacher, *parts, recipe=RECIPE, out=tmp_path)
        assert (tmp_path / "ranker.prunus").read_bytes() == first
        (tmp_path / "ranker.prunus").unlink()
        monkeypatch.setattr(training.Loop, "_run_epoch", lambda _self: pytest.fail("trained again"))
        compress_ranker(teacher, *parts, recipe=RECIPE, out=tmp_path)
        assert (tmp_path / "ranker.prunus").read_bytes() == first

    def test_what_changed_is_refused_by_name(
        self, job: tuple[Path, Result], teacher: TreeTeacher, parts: tuple[RankingData, ...]
    ) -> None:
        """Another recipe, another teacher or other data in a used directory: an error that says which."""
        out = job[0]
        train, valid, test = parts
        other = CallableTeacher(lambda X: 2 * teacher.score(X), train.n_features)
        with pytest.raises(RecipeChangedError, match=r"recipe\.seed"):
            compress_ranker(teacher, train, valid, test, recipe=RECIPE.model_copy(update={"seed": 9}), out=out)
        with pytest.raises(RecipeChangedError, match=r"inputs\.valid"):
            compress_ranker(teacher, train, test, test, recipe=RECIPE, out=out)
        with pytest.raises(RecipeChangedError, match=r"inputs\.teacher"):
            compress_ranker(other, train, valid, test, recipe=RECIPE, out=out)


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("_untimed")
class TestSettings:
    """Runs with other settings; their tables are not timed."""

    def test_a_search_lands_in_the_recipe(
        self,
        teacher: TreeTeacher,
        parts: tuple[RankingData, ...],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """What a search kept stands in the table, and its recipe makes the same students without a search."""
        ticks = itertools.count()  # a second each time it is asked, so that any machine tries as many designs
        clock = SimpleNamespace(monotonic=lambda: next(ticks), perf_counter=lambda: next(ticks))
        for module in ("search", "workspace"):
            monkeypatch.setattr(f"prunus.compress.{module}.time", clock)
        recipe = RECIPE.model_copy(update={"search_minutes": 0.25, "epochs": 2})
        found = compress_ranker(teacher, *parts, recipe=recipe, out=tmp_path / "search")
        values = found.to_json()
        finished = [t for t in values["search"]["trials"] if not t["stopped"]]
        assert finished
        again = RankerRecipe(**values["recipe"])
        assert again.search_minutes == 0
        assert again.architectures
        same = compress_ranker(teacher, *parts, recipe=again, out=tmp_path / "again").to_json()
        students = [[r for r in v["rows"] if r["role"] in KINDS] for v in (values, same)]
        assert [(r["name"], r["valid"], r["ndcg@10"]) for r in students[0]] == [
            (r["name"], r["valid"], r["ndcg@10"]) for r in students[1]
        ]
        resumed = compress_ranker(teacher, *parts, recipe=recipe, out=tmp_path / "search")
        assert [r["name"] for r in resumed.to_json()["rows"]] == [r["name"] for r in values["rows"]]

    def test_byte_budget_is_kept(self, teacher: TreeTeacher, parts: tuple[RankingData, ...], tmp_path: Path) -> None:
        """The model file is no larger than its budget, and uses most of it."""
        for n_bytes in (12_000, 40_000):
            recipe = RECIPE.model_copy(update={"budget": f"{n_bytes}B"})
            result = compress_ranker(teacher, *parts, recipe=recipe, out=tmp_path / str(n_bytes))
            assert result.values["student"]["bytes"] > 0.5 * n_bytes
            assert result.values["student"]["bytes"] <= n_bytes

    def test_time_budget_of_this_machine(
        self, teacher: TreeTeacher, parts: tuple[RankingData, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Designs move until what is measured fits; a resumed run repeats the measurements that it made."""
        speed = {"factor": 1.7}  # this machine is slower than its time model says
        true = round_numbers()

        def measured(network: object, _x: object, batch: int, *_: object, **__: object) -> float:
            return true.predict(network, batch).us_per_doc * speed["factor"]  # type: ignore[arg-type]

        monkeypatch.setattr("prunus.compress.measure.measured_us", measured)
        recipe = RECIPE.model_copy(update={"budget": "0.1us"})
        result = compress_ranker(teacher, *parts, recipe=recipe, out=tmp_path)
        costs = [row["cost"] for row in result.values["rows"] if row["role"] in KINDS]
        assert len(costs) == 2
        assert all(0.06 < cost <= 0.105 for cost in costs)
        before = (tmp_path / "ranker.prunus").read_bytes()
        speed["factor"] = 3.0
        compress_ranker(teacher, *parts, recipe=recipe, out=tmp_path)
        assert (tmp_path / "ranker.prunus").read_bytes() == before

    def test_a_column_of_scores_as_teacher(
        self, teacher: TreeTeacher, parts: tuple[RankingData, ...], tmp_path: Path
    ) -> None:
        """Scores that came with the data teach too; there are no forests then, and nothing synthetic."""
        scored = [replace(part, teacher_scores=teacher.score(part.X)) for part in parts]
        result = compress_ranker(ScoreTeacher("s"), *scored, recipe=RECIPE, out=tmp_path)
        assert [row["role"] for row in result.values["rows"]].count("forest") == 0
        assert result.verdict.queries > 0


def test_bad_data_are_refused_before_anything_is_written(
    teacher: TreeTeacher, parts: tuple[RankingData, ...], tmp_path: Path
) -> None:
    """A NaN or an infinity in the test data, or labels all 0, end the run at once and leave the directory free."""
    train, valid, test = parts
    hole, wild = test.X.copy(), test.X.copy()
    hole[3, 1], wild[3, 1] = np.nan, np.inf
    clean = replace(train, X=np.nan_to_num(train.X)), replace(valid, X=np.nan_to_num(valid.X))
    cases = (
        (replace(test, X=np.where(np.arange(14) == 1, hole, np.nan_to_num(hole))), MissingValueError),
        (replace(test, X=np.nan_to_num(wild, posinf=np.inf)), InfiniteValueError),
        (replace(test, X=np.nan_to_num(test.X), y=np.zeros_like(test.y)), EmptyDataError),
    )
    for bad, error in cases:
        with pytest.raises(error):
            compress_ranker(teacher, *clean, bad, recipe=RECIPE, out=tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_a_teacher_that_says_nothing_is_refused(parts: tuple[RankingData, ...], tmp_path: Path) -> None:
    """Scores that are all the same teach nothing."""
    silent = CallableTeacher(lambda X: np.full(len(X), 7.0), parts[0].n_features)
    with pytest.raises(TeacherError, match="tell documents apart"):
        compress_ranker(silent, *parts, recipe=RECIPE, out=tmp_path)


def test_other_features_are_refused(teacher: TreeTeacher, parts: tuple[RankingData, ...], tmp_path: Path) -> None:
    """Parts with other features are named before anything is written."""
    train, valid, test = parts
    other = replace(valid, feature_names=tuple(f"x{i}" for i in range(valid.n_features)))
    with pytest.raises(SchemaError, match="other features"):
        compress_ranker(teacher, train, other, test, recipe=RECIPE, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_impossible_budget_names_the_nearest(
    teacher: TreeTeacher, parts: tuple[RankingData, ...], tmp_path: Path
) -> None:
    """Nothing is trained for a budget that no network can meet."""
    with pytest.raises(BudgetImpossibleError, match="nearest possible budget is"):
        compress_ranker(teacher, *parts, recipe=RankerRecipe(budget="0.0001us"), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


class TestEstimator:
    """The estimator behaves as scikit-learn's users expect."""

    def test_parameters(self) -> None:
        """Cloning and setting parameters work."""
        ranker = DistilledRanker(teacher="a.txt", budget="1us")
        assert clone(ranker).get_params() == ranker.get_params()
        assert ranker.set_params(budget="2us").budget == "2us"

    def test_needs_queries(self, teacher: TreeTeacher, parts: tuple[RankingData, ...]) -> None:
        """Without qid or group, or with both, the error says what to give."""
        train = parts[0]
        with pytest.raises(DataError, match="qid"):
            DistilledRanker(teacher=teacher).fit(train.X, train.y)
        with pytest.raises(DataError, match="qid"):
            DistilledRanker(teacher=teacher).fit(train.X, train.y, qid=train.query_of_doc, group=np.diff(train.offsets))

    @pytest.mark.long
    def test_fit_and_predict(self, teacher: TreeTeacher, parts: tuple[RankingData, ...], tmp_path: Path) -> None:
        """Qid and group give the same student, better than chance and loadable once saved."""
        train, _, test = parts
        settings = {"budget": "20KB", "recipe": {"epochs": 6, "batch_docs": 600}}
        by_qid = DistilledRanker(teacher=teacher, **settings).fit(train.X, train.y, qid=train.query_of_doc)
        by_group = DistilledRanker(teacher=teacher, **settings).fit(train.X, train.y, group=np.diff(train.offsets))
        np.testing.assert_array_equal(by_qid.predict(test.X), by_group.predict(test.X))
        quality = by_qid.score(test.X, test.y, qid=test.query_of_doc)
        chance = ndcg(test.y, np.random.default_rng(0).random(test.n_docs), test.offsets).mean
        assert quality > chance + 0.05
        by_qid.save(str(tmp_path / "m.prunus"))
        np.testing.assert_array_equal(load(tmp_path / "m.prunus").score(test.X), by_qid.predict(test.X))
