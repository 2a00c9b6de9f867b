"""The headline's own parts: its goals, the contestants of a set, and the bounds that stand beside a student."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from prunus.bench.run import Contestant, compare
from prunus.data.ranking import Schema
from prunus.data.synthetic import generate_ranking
from prunus.engine.file import save
from prunus.engine.network import Activation, SlotKind
from prunus.teacher.lambdamart import train_lambdamart
from prunus.teacher.trees import load_trees
from test_bench_nets import documents, network_of

if TYPE_CHECKING:
    from collections.abc import Iterator

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the scripts of the benchmarks be imported, and forget them afterwards."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield
    for name in [name for name in sys.modules if name.startswith("headline")]:
        del sys.modules[name]


def quiet(_: str) -> None:
    """Say nothing."""


def medians(**times: float) -> dict[str, dict[str, list[float]]]:
    """Give each contestant one time at all batches, in three rounds of which the second is twice as slow."""
    batches = ("1", "20", "64", "128", "1000")
    return {label.replace("_", " "): {b: [t, 2 * t, t] for b in batches} for label, t in times.items()}


def rows_of(found: dict[str, Any], **marks: dict[str, Any]) -> list[dict[str, Any]]:
    """Make rows that say which model a contestant runs."""
    models = {label: "smallest forest" if label.startswith("smallest") else "teacher" for label in found}
    return [{"engine": label, "model": models[label], **marks.get(label.replace(" ", "_"), {})} for label in found]


def test_goals_are_ratios_paired_by_round() -> None:
    """Each goal divides the right sides; a slower round changes none; what was not timed is not judged."""
    from headline_goals import goals_of

    times = medians(
        student_s=0.1, teacher_in_lleaves=4.1, smallest_forest_in_lleaves=1.4, smallest_forest_in_treeproto=0.5
    )
    times |= {"bound: arithmetic": {"1000": [0.03, 0.06, 0.03]}, "bound: input stage": {"1000": [0.03, 0.06, 0.03]}}
    by = {goal["what"]: goal for goal in goals_of(times, rows_of(times), "student s")}
    assert by["student: teacher in lleaves"]["measured"] == pytest.approx({"128": 41.0, "1000": 41.0})
    assert by["student: teacher in lleaves"]["reached"] is True
    assert by["student: smallest forest in lleaves"]["reached"] is False
    assert by["student: smallest forest in treeproto"]["measured"]["128"] == pytest.approx(5.0)
    assert by["student / (arithmetic bound + input stage)"]["measured"] == pytest.approx({"1000": 0.1 / 0.06})
    assert by["student / (arithmetic bound + input stage)"]["reached"] is True
    assert by["student: same net in onnxruntime"] | {"what": ""} == {
        "what": "", "goal": 6, "sign": ">=", "measured": {}, "reached": None,
    }  # fmt: skip


def test_exact_trees_have_goals_without_a_student() -> None:
    """Against lleaves at one document they must not be slower, and no goal speaks of a student."""
    from headline_goals import goals_of

    times = medians(teacher_in_lleaves=4.0, teacher_in_lightgbm=40.0, **{"teacher_in_prunus-trees": 5.0})
    found = goals_of(times, rows_of(times), None)
    by = {goal["what"]: goal["reached"] for goal in found}
    assert by["exact trees: teacher in lleaves, one document"] is False
    assert by["exact trees: teacher in lightgbm"] is False
    assert not any(name.startswith("student") for name in by)


def test_wrong_int8_rival_is_no_rival() -> None:
    """The best int8 rival is the fastest of those that score what they claim to."""
    from headline_goals import goals_of

    times = medians(student_s=0.1, **{"student_in_openvino-int8": 0.11, "student_in_onnxruntime-int8-static": 0.3})
    rows = rows_of(times)
    best = "student: same net in the best int8 rival"
    assert next(g for g in goals_of(times, rows, "student s") if g["what"] == best)["reached"] is False
    rows[1]["wrong"] = True
    assert next(g for g in goals_of(times, rows, "student s") if g["what"] == best)["reached"] is True


def test_student_that_ranks_worse_reaches_nothing() -> None:
    """However fast it is; what is not about it is judged as before."""
    from headline_goals import goals_of

    times = medians(student_s=0.01, teacher_in_lleaves=4.0, **{"teacher_in_prunus-trees": 0.5})
    for verdict, expected in (("non_inferior", True), ("inconclusive", False), ("inferior", False)):
        found = goals_of(times, rows_of(times, student_s={"verdict": verdict}), "student s")
        by = {goal["what"].removesuffix(" (it ranks worse)"): goal["reached"] for goal in found}
        assert by["student: teacher in lleaves"] is expected
        assert by["student: same net in onnxruntime"] is None
        assert by["exact trees: teacher in lleaves"] is True


@pytest.fixture
def student(tmp_path: Path) -> Path:
    """Save a small network."""
    network = network_of([SlotKind.LOG, SlotKind.VALUE], Activation.RELU6, seed=8)
    schema = Schema(tuple(f"f{i}" for i in range(5)), (True,) * 5)
    save(tmp_path / "student.prunus", network, schema, metadata={})
    return tmp_path / "student.prunus"


@pytest.mark.skipif(shutil.which("c++") is None, reason="no c++")
def test_bounds_run_beside_the_student(student: Path, tmp_path: Path) -> None:
    """Both parts load, are timed, and are compared with nothing: they have no scores of a model."""
    limits = tmp_path / "limits.json"
    limits.write_text(json.dumps({"student": str(student)}))
    script = BENCHMARKS / "headline_limits.py"
    contestants = [Contestant("prunus", student)]
    contestants += [Contestant(f"{script}:{part}", limits, part) for part in ("Arithmetic", "InputStage")]
    found = compare(contestants, documents(1, 200), (64,), rounds=3, slice_seconds=0.0, tell=quiet)
    if any("no loop of kind" in why for why in found.unavailable.values()):
        pytest.skip("this CPU has none of the loops")
    assert found.unavailable == {}
    assert [row["engine"] for row in found.rows] == ["prunus", "Arithmetic", "InputStage"]
    assert not any(row.get("wrong") for row in found.rows)


def test_a_set_lists_every_model_with_its_quality(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Teacher, smallest forest, frontier and other libraries' trees stand in their engines, with a verdict each."""
    import headline
    import headline_models as models

    monkeypatch.setenv("PRUNUS_CACHE", str(tmp_path))
    data = generate_ranking(80, 1, n_features=16, missing=0.0)
    asked: list[int] = []

    def train() -> Any:
        asked.append(1)
        return train_lambdamart(data, data, n_trees=12, patience=12, params={"min_data_in_leaf": 5, "num_leaves": 8})

    def make() -> models.RankingSet:
        return models._with_models("small", data, train, lambda: (data, data), (1, 2), {})

    found = make()
    assert make().teacher == found.teacher
    assert asked == [1]  # the second time it is found
    listed = list(headline.contestants_of(found, [], tmp_path))
    labels = [contestant.label for contestant in listed]
    assert len(set(labels)) == len(labels)
    assert {f"teacher in {engine}" for engine in headline.FOREST_ENGINES} <= set(labels)
    assert {"xgboost's trees in xgboost", "catboost's trees in prunus-trees"} <= set(labels)
    assert all({"ndcg@10", "verdict", "lower", "upper", "trees"} <= contestant.extra.keys() for contestant in listed)
    teacher = next(c for c in listed if c.label == "teacher in lleaves")
    assert teacher.extra["minus_teacher"] == 0.0
    smallest = load_trees(found.smallest)
    assert found.quality(smallest.score(data.X))["verdict"] == "non_inferior"
    assert all(load_trees(path).n_trees < smallest.n_trees for path in found.frontier)


def test_scores_that_are_kept_are_of_this_model_and_these_rows(tmp_path: Path) -> None:
    """Other trees under the same name are scored anew."""
    import headline_models as models

    data = generate_ranking(30, 1, n_features=16, missing=0.0)
    teacher = train_lambdamart(data, data, n_trees=6, patience=6, params={"min_data_in_leaf": 5})
    path = tmp_path / "teacher.txt"
    found = models.RankingSet("x", tmp_path, data, path, path, (), {}, {})
    teacher.save(path)
    first = found.scores_of(path)
    assert np.array_equal(first, teacher.score(data.X))
    teacher.smaller(1).save(path)
    assert not np.array_equal(found.scores_of(path), first)


def test_students_are_named_found_or_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Those named are taken; else the set's own, made once; one that cannot be made is left out, with its command."""
    import headline
    import headline_models as models

    made, broken = tmp_path / "made.prunus", tmp_path / "broken.prunus"
    write = "import sys; open(sys.argv[1], 'a').write('x')"
    commands = {made: ("-c", write, str(made)), broken: ("-c", "raise SystemExit(3)")}
    data = generate_ranking(3, 1, n_features=16)
    found = models.RankingSet("x", tmp_path, data, made, made, (), {}, commands)
    assert headline.students_of(found, ["y=a.prunus", "x=b.prunus"]) == [Path("b.prunus")]
    assert not made.exists()
    assert headline.students_of(found, []) == [made]
    assert "exit 3 of: python -c 'raise SystemExit(3)'" in capsys.readouterr().err
    assert headline.students_of(found, ["y=a.prunus"]) == [made]
    assert made.read_text() == "x"
