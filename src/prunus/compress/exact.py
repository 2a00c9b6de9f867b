"""The teacher's own trees in our engine: exact, nothing distilled, and what they cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prunus.compress.measure import measured_scorer_us
from prunus.data.ranking import Schema
from prunus.engine import file as model_file
from prunus.engine.scorer import RankScorer
from prunus.errors import EnsembleError, ParityError, TeacherError
from prunus.teacher.exact import prove_leaves

if TYPE_CHECKING:
    from pathlib import Path

    from prunus.compress.workspace import Workspace
    from prunus.data.ranking import RankingData
    from prunus.design import Budget
    from prunus.latency import LatencyModel
    from prunus.teacher.trees import TreeTeacher


def exact_file(trees: TreeTeacher, space: Workspace) -> tuple[Path | None, str]:
    """Write the same trees for our engine, once they are proved to be the same.

    Returns:
        The model file and nothing; or None, and why our engine does not run these trees.
    """
    path = space.file(f"exact-{trees.n_trees}.prunus")
    if path.exists():
        return path, ""
    schema = Schema(trees.feature_names, (True,) * trees.n_features)
    try:
        scorer = RankScorer(trees.ensemble(), schema, metadata={"teacher": trees.name})
        prove_leaves(scorer, trees)
    except (TeacherError, EnsembleError, ParityError) as error:
        return None, str(error)
    scorer.save(path)
    return path, ""


def exact_cost(
    teacher: TreeTeacher, valid: RankingData, budget: Budget, latency: LatencyModel, space: Workspace
) -> dict[str, Any]:
    """Measure what the teacher's own trees cost in our engine, in the way that students are measured.

    Returns:
        ``trees``, ``us_per_doc`` at the budget's ``batch``, ``bytes``, ``meets_budget`` and a ``sentence`` that says it;
        ``unavailable``, why, where our engine does not run the trees.
    """
    path, why = exact_file(teacher, space)
    if path is None:
        return {"trees": teacher.n_trees, "unavailable": why, "meets_budget": False, "sentence": ""}
    scorer = model_file.load(path)
    us = float(
        space.json(
            f"measured-exact-{teacher.n_trees}-{budget.batch}",
            lambda: measured_scorer_us(scorer, valid.X, budget.batch, latency),
        )
    )
    n_bytes = path.stat().st_size
    met = us <= budget.us_per_doc if budget.us_per_doc is not None else n_bytes <= budget.total
    cost = f"{us:.3g} us a document at {budget.batch} a call" if budget.us_per_doc is not None else f"{n_bytes:,} bytes"
    sentence = ""
    if met:
        sentence = (
            f"The exact trees already meet the budget: the same {teacher.n_trees} trees take {cost} in prunus, with the"
            " teacher's own scores and nothing to learn (prunus compile makes the file)."
        )
    return {
        "trees": teacher.n_trees,
        "us_per_doc": us,
        "batch": budget.batch,
        "bytes": n_bytes,
        "meets_budget": met,
        "sentence": sentence,
    }
