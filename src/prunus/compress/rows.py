"""The rows of the table: the teacher, smaller forests, the same trees exact in our engine, every student; timed together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from prunus.bench.run import Comparison, Contestant
from prunus.bench.run import compare as compare_times
from prunus.compress.exact import exact_file
from prunus.compress.measure import TIMED_ROWS
from prunus.compress.table import forest_sizes, quality_row
from prunus.engine import file as model_file
from prunus.metrics import PerQuery, ndcg
from prunus.teacher.trees import TreeTeacher
from prunus.verdict import compare

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from prunus.compress.distil import Candidate, Distilled
    from prunus.compress.recipe import RankerRecipe
    from prunus.compress.training import Progress
    from prunus.compress.workspace import Workspace
    from prunus.data.ranking import RankingData
    from prunus.teacher.scores import Teacher

BATCHES = (20, 128, 1000)
"""Documents in a call that the table is timed at."""

SUFFIX = {"LightGBM": ".txt", "XGBoost": ".json", "CatBoost": ".cbm"}
"""Of the forests that are written to be timed."""


@dataclass(frozen=True)
class Forest:
    """A forest of the table.

    Attributes:
        name: in the timing.
        trees: the forest.
        path: its own library's file.
        quality: on the test data.
        exact: our file of the same trees; None where our engine does not run them.
    """

    name: str
    trees: TreeTeacher
    path: Path
    quality: PerQuery
    exact: Path | None


def table_rows(
    teacher: Teacher,
    of_teacher: PerQuery,
    found: Distilled,
    files: dict[str, Path],
    test: RankingData,
    recipe: RankerRecipe,
    space: Workspace,
    peers: Sequence[str],
    progress: Progress,
) -> tuple[list[dict[str, Any]], Comparison]:
    """Make the rows of the table, timed in one interleaved run.

    Args:
        teacher: what was learned from.
        of_teacher: its quality by query on the test data.
        found: the students.
        files: of the students, by number.
        test: documents of the verdict.
        recipe: settings.
        space: where forests are kept.
        peers: engines that forests are timed in.
        progress: told how far it is.
    """
    forests, unavailable = (
        _forests(teacher, test, recipe, space, progress) if isinstance(teacher, TreeTeacher) else ([], {})
    )
    contestants = [
        Contestant(
            "prunus",
            files[str(number)],
            f"student-{number}",
            ours=candidate is found.chosen,
            extra={"model": f"student-{number}", "in": "prunus"},
        )
        for number, candidate in enumerate(found.candidates)
    ]
    for forest in forests:
        contestants.extend(
            Contestant(peer, forest.path, f"{forest.name} in {peer}", extra={"model": forest.name, "in": peer})
            for peer in peers
        )
        if forest.exact is not None:
            name = f"exact-{forest.name}"
            contestants.append(Contestant("prunus", forest.exact, name, extra={"model": name, "in": "prunus"}))
    X = np.ascontiguousarray(test.X[:TIMED_ROWS])
    progress.stage("timing", 1.0)
    timing = compare_times(contestants, X, batches=BATCHES, progress=lambda done, total: progress.advance(done / total))
    timing = replace(timing, unavailable=timing.unavailable | unavailable)
    rows: list[dict[str, Any]] = []
    for forest in forests:
        rows.extend(_forest_rows(forest, forests[-1].trees.n_trees, of_teacher, test, recipe, timing.rows))
    if not forests:
        rows.append(
            {
                "name": teacher.name, "role": "teacher", "engine": None, "trees": None, "nonzeros": None, "features_used": None,
                "bytes": None, "chosen": False, f"ndcg@{recipe.k}": of_teacher.mean, "difference": 0.0, "lower": 0.0, "upper": 0.0,
                "us_per_doc": {}, "p99_us_per_doc": {},
            }
        )  # fmt: skip
    for number, candidate in enumerate(found.candidates):
        path = files[str(number)]
        rows.append(_student_row(candidate, f"student-{number}", path, found, of_teacher, test, recipe, timing.rows))
    return rows, timing


def _forests(
    teacher: TreeTeacher, test: RankingData, recipe: RankerRecipe, space: Workspace, progress: Progress
) -> tuple[list[Forest], dict[str, str]]:
    """Cut the teacher to several sizes, write each for its own library and for our engine, and rank the test data."""
    progress.stage("smaller forests", 1.0)
    found, unavailable = [], {}
    sizes = [*forest_sizes(teacher.n_trees), teacher.n_trees]
    for done, size in enumerate(sizes, start=1):
        trees = teacher if size == teacher.n_trees else teacher.smaller(size)
        path = space.file(f"forest-{size}{SUFFIX[teacher.library]}")
        if not path.exists():
            trees.save(path)
        scores = space.array(f"forest-{size}", partial(trees.score, test.X))
        exact, why = exact_file(trees, space)
        if why:
            unavailable["the same trees, exact, in prunus"] = why
        found.append(Forest(f"forest-{size}", trees, path, ndcg(test.y, scores, test.offsets, k=recipe.k), exact))
        progress.advance(done / len(sizes))
    return found, unavailable


def _forest_rows(
    forest: Forest,
    n_trees: int,
    of_teacher: PerQuery,
    test: RankingData,
    recipe: RankerRecipe,
    timed: list[dict[str, Any]],
) -> list[dict[str, Any]]:
    """Give a forest in the fastest of the other engines, and the same trees, exact, in ours."""
    trees = forest.trees
    whole = trees.n_trees == n_trees
    common = {
        "trees": trees.n_trees,
        "leaves": trees.n_leaves,
        "nonzeros": None,
        "features_used": len(trees.features_used),
        "chosen": False,
    }
    quality = _judged(forest.quality, of_teacher, test, recipe)
    rows = [
        {
            "name": f"{trees.n_trees} trees",
            "role": "teacher" if whole else "forest",
            **common,
            "bytes": forest.path.stat().st_size,
            **quality,
            **fastest(timed, forest.name),
        }
    ]
    if forest.exact is not None:
        scores = model_file.load(forest.exact).score(test.X)
        rows.append(
            {
                "name": f"the same {trees.n_trees} trees, exact, in prunus",
                "role": "exact",
                **common,
                "bytes": forest.exact.stat().st_size,
                **_judged(ndcg(test.y, scores, test.offsets, k=recipe.k), of_teacher, test, recipe),
                **fastest(timed, f"exact-{forest.name}"),
            }
        )
    return rows


def _judged(quality: PerQuery, of_teacher: PerQuery, test: RankingData, recipe: RankerRecipe) -> dict[str, Any]:
    """Mean, test against the teacher, and paired difference."""
    return {
        f"ndcg@{recipe.k}": quality.mean,
        "outcome": compare(of_teacher, quality, margin=recipe.margin, clusters=test.users).outcome,
        **quality_row(of_teacher, quality, test.users),
    }


def _student_row(
    candidate: Candidate,
    name: str,
    path: Path,
    found: Distilled,
    of_teacher: PerQuery,
    test: RankingData,
    recipe: RankerRecipe,
    timed: list[dict[str, Any]],
) -> dict[str, Any]:
    quality = ndcg(test.y, model_file.load(path).score(test.X), test.offsets, k=recipe.k)
    return {
        "name": candidate.name + (f", seed {candidate.trained.seed}" if recipe.seeds > 1 else ""),
        "role": candidate.trained.architecture.kind,
        "trees": None,
        "nonzeros": candidate.trained.network.nonzeros,
        "features_used": len(candidate.trained.network.features_read),
        "bytes": path.stat().st_size,
        "chosen": candidate is found.chosen,
        "seed": candidate.trained.seed,
        "valid": candidate.trained.valid,
        "cost": candidate.cost,
        "predicted_us": candidate.predicted_us,
        **_judged(quality, of_teacher, test, recipe),
        **fastest(timed, name),
    }


def fastest(timed: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """Take, at each batch, the engine that was the fastest for this row."""
    own = [row for row in timed if row["model"] == name and not row.get("wrong") and row.get("us_per_doc") is not None]
    us, p99, engines = {}, {}, {}
    for batch in BATCHES:
        here = [row for row in own if row["batch"] == batch]
        if here:
            best = min(here, key=lambda row: float(row["us_per_doc"]))
            us[str(batch)], p99[str(batch)], engines[str(batch)] = (
                best["us_per_doc"],
                best["p99_us_per_doc"],
                best["in"],
            )
    return {
        "us_per_doc": us,
        "p99_us_per_doc": p99,
        "engine": ", ".join(dict.fromkeys(engines.values())) or None,
        "engines": engines,
    }


def fastest_engines(rows: Sequence[dict[str, Any]], row: dict[str, Any]) -> dict[str, Any]:
    """Give a forest's times in the fastest of all engines that were timed, ours with its exact trees among them.

    Args:
        rows: of the table.
        row: of the forest.

    Returns:
        ``us_per_doc`` and ``engines`` by batch, and ``engine``, all their names.
    """
    same = [r for r in rows if r is row or (r["role"] == "exact" and row["trees"] and r["trees"] == row["trees"])]
    us: dict[str, float] = {}
    engines: dict[str, str] = {}
    for own in same:
        for batch, value in own["us_per_doc"].items():
            if batch not in us or value < us[batch]:
                us[batch], engines[batch] = value, own["engines"][batch]
    return {"us_per_doc": us, "engines": engines, "engine": ", ".join(dict.fromkeys(engines.values())) or None}
