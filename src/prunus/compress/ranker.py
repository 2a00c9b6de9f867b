"""The whole job of a ranker: teacher, data and budget in; model file, verdict, table and report data out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from prunus import __version__
from prunus.bench import machine
from prunus.compress.distil import Distilled, distil, plan, teacher_scores
from prunus.compress.exact import exact_cost
from prunus.compress.recipe import Silent
from prunus.compress.rows import fastest_engines, table_rows
from prunus.compress.search import frontier
from prunus.compress.table import feature_rows, layer_rows, query_slices
from prunus.compress.workspace import Workspace, digest, fingerprint
from prunus.design import Budget
from prunus.engine import file as model_file
from prunus.errors import CalibrationError, RecipeChangedError
from prunus.latency import LatencyModel
from prunus.metrics import PerQuery, ndcg
from prunus.teacher.trees import TreeTeacher
from prunus.verdict import Verdict, compare

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from prunus.bench.run import Comparison
    from prunus.compress.recipe import RankerRecipe
    from prunus.compress.training import Progress, Trained
    from prunus.data.ranking import RankingData
    from prunus.engine.scorer import RankScorer
    from prunus.teacher.scores import Teacher

IDENTITY_QUERIES = 50
"""Training queries whose teacher scores tell one teacher from another."""


@dataclass(frozen=True)
class Result:
    """What a run gave.

    Attributes:
        scorer: the student, loaded from its file.
        verdict: of the paired test on the test data.
        values: the run's figures, as written to result.json.
    """

    scorer: RankScorer
    verdict: Verdict
    values: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return the figures as plain values."""
        return self.values


def compress_ranker(
    teacher: Teacher,
    train: RankingData,
    valid: RankingData,
    test: RankingData,
    *,
    recipe: RankerRecipe,
    out: Path,
    peers: Sequence[str] = ("lightgbm",),
    progress: Progress | None = None,
) -> Result:
    """Compress a ranker, stage after stage; what an earlier run finished is kept.

    Students are chosen on validation data. The test data give the verdict on the chosen one; the test figures of the
    other rows are for the table and choose nothing.

    Args:
        teacher: the model to learn from.
        train: documents to learn on.
        valid: documents to choose by.
        test: documents of the verdict.
        recipe: settings.
        out: directory of the results; made if it is not there.
        peers: engines that the teacher is timed in; the fastest at each batch stands in the table.
        progress: told how far it is.

    Raises:
        BudgetImpossibleError: no network meets the budget.
        RecipeChangedError: the directory holds a run with other inputs or settings.
        DataError: the data cannot be used; see :func:`prunus.compress.distil.plan`.
        OutputError: a result cannot be written.
    """
    progress = progress or Silent()
    space = Workspace(out)
    latency = _latency(space, progress)
    planned = plan(teacher, [train, valid, test], recipe, latency)
    space.claim(
        {
            "recipe": recipe.model_dump(),
            "inputs": {
                "teacher": _identity(teacher, train),
                "train": fingerprint(train),
                "valid": fingerprint(valid),
                "test": fingerprint(test),
            },
            "versions": {"prunus": __version__},
        }
    )
    latency.save(space.file("latency.json"))
    exact = None
    if isinstance(teacher, TreeTeacher):
        exact = exact_cost(teacher, valid, Budget.parse(recipe.budget), latency, space)
        if exact["meets_budget"]:
            progress.stage(exact["sentence"], 1.0)
    with space.seconds("distil"):
        found = distil(teacher, train, valid, recipe, latency=latency, space=space, progress=progress, planned=planned)
    chosen = found.chosen.trained
    progress.stage("verdict", 1.0)
    scores = space.array("teacher-test", lambda: teacher_scores(teacher, test))
    of_teacher = ndcg(test.y, scores, test.offsets, k=recipe.k)
    metadata = {
        "made_by": f"prunus {__version__}",
        "teacher": teacher.name,
        "budget": str(Budget.parse(recipe.budget)),
    }
    files = _write_models(found, space, metadata)
    of_student = _quality(files["chosen"], test, recipe.k)
    verdict = compare(of_teacher, of_student, margin=recipe.margin, clusters=test.users)
    path = out / "ranker.prunus"
    metadata |= _describe(chosen) | {"verdict": verdict.to_json()}
    model_file.save(path, chosen.network, found.schema, metadata=metadata)
    scorer = model_file.load(path)
    with space.seconds("table"):
        rows, timing = table_rows(teacher, of_teacher, found, files, test, recipe, space, peers, progress)
    values = _values(
        teacher,
        train,
        valid,
        test,
        recipe,
        found,
        scorer,
        verdict,
        of_teacher,
        of_student,
        rows,
        timing,
        space,
        out,
        exact,
    )
    model_file.write_atomically(out / "result.json", (json.dumps(values, indent=1) + "\n").encode())
    return Result(scorer, verdict, values)


def _identity(teacher: Teacher, train: RankingData) -> str:
    """Tell teachers apart by what they say, wherever they come from."""
    rows = train.take_queries(np.arange(min(train.n_queries, IDENTITY_QUERIES)))
    return digest(teacher.name, np.round(teacher_scores(teacher, rows), 9))


def _latency(space: Workspace, progress: Progress) -> LatencyModel:
    stored = space.file("latency.json")
    if stored.exists():
        try:
            return LatencyModel.load(stored)
        except CalibrationError as error:
            msg = (
                f"{space.path} holds a run of another CPU, instruction set or engine build ({error});"
                " expected this one: choose another -o, or delete the directory"
            )
            raise RecipeChangedError(msg) from error
    progress.stage("calibrate this CPU", 1.0)
    return LatencyModel.load_or_calibrate(progress=progress.advance)


def _quality(path: Path, test: RankingData, k: int) -> PerQuery:
    return ndcg(test.y, model_file.load(path).score(test.X), test.offsets, k=k)


def _describe(trained: Trained) -> dict[str, Any]:
    return {"architecture": trained.architecture.name, "nonzeros": trained.network.nonzeros}


def _write_models(found: Distilled, space: Workspace, metadata: dict[str, Any]) -> dict[str, Path]:
    files = {}
    for number, candidate in enumerate(found.candidates):
        path = space.file(f"student-{number}.prunus")
        model_file.save(path, candidate.trained.network, found.schema, metadata=metadata | _describe(candidate.trained))
        files[str(number)] = path
        if candidate is found.chosen:
            files["chosen"] = path
    return files


def finished(recipe: RankerRecipe, found: Distilled) -> RankerRecipe:
    """Return the recipe with the designs that a search kept in it: without a search it makes the same students."""
    kept = tuple(trial.architecture.spelled for trial in frontier(found.trials))
    return recipe.model_copy(update={"search_minutes": 0.0, "architectures": recipe.architectures + kept})


def _values(
    teacher: Teacher,
    train: RankingData,
    valid: RankingData,
    test: RankingData,
    recipe: RankerRecipe,
    found: Distilled,
    scorer: RankScorer,
    verdict: Verdict,
    of_teacher: PerQuery,
    of_student: PerQuery,
    rows: list[dict[str, Any]],
    timing: Comparison,
    space: Workspace,
    out: Path,
    exact: dict[str, Any] | None,
) -> dict[str, Any]:
    budget = Budget.parse(recipe.budget)
    metric = f"ndcg@{recipe.k}"
    teacher_row = next(row for row in rows if row["role"] == "teacher")
    bar = fastest_engines(rows, teacher_row)
    student_row = next(row for row in rows if row["chosen"])
    network = found.chosen.trained.network
    path = out / "ranker.prunus"
    history = [
        {
            "stage": c.name,
            "epoch": h["epoch"],
            "loss": h["loss"],
            f"valid_{metric}": h["valid"],
            "density": h["density"],
        }
        for c in found.candidates
        for h in c.trained.history
    ]
    return {
        "kind": "ranker",
        "metric": metric,
        "convention": str(of_teacher),
        "data": {
            **{name: {"queries": d.n_queries, "documents": d.n_docs} for name, d in (("train", train), ("valid", valid), ("test", test))},
            "test_empty_queries": of_teacher.n_empty,
        },
        "teacher": {
            "name": teacher.name, metric: of_teacher.mean, "us_per_doc": bar["us_per_doc"], "bytes": teacher_row["bytes"],
            "trees": teacher_row.get("trees"), "leaves": teacher_row.get("leaves"), "engine": bar["engine"], "engines": bar["engines"],
        },
        "exact_trees": exact,
        "student": {
            "name": found.chosen.name, metric: of_student.mean, "us_per_doc": student_row["us_per_doc"], "bytes": path.stat().st_size,
            "nonzeros": network.nonzeros, "features_used": len(network.features_read),
        },
        "verdict": verdict.to_json(),
        "files": {"model": str(path), "report": str(out / "report.html")},
        "budget": {"bytes": budget.n_bytes} if budget.n_bytes is not None else {"us_per_doc": budget.us_per_doc, "batch": budget.batch},
        "rows": rows,
        "timing": {"unavailable": timing.unavailable, "settings": timing.settings},
        "layers": layer_rows(network),
        "features": feature_rows(network, scorer.schema.feature_names),
        "parity": found.chosen.trained.parity,
        "queries": query_slices(test, of_teacher, of_student),
        "training": {"history": history},
        "machine": machine.describe(),
        "seeds": list(range(recipe.seed, recipe.seed + recipe.seeds)),
        "recipe": finished(recipe, found).model_dump(mode="json"),
        "search": {"minutes": recipe.search_minutes, "trials": [trial.to_json() for trial in found.trials]} if found.trials else None,
        "seconds": space.spent(),
    }  # fmt: skip
