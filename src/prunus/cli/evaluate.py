"""``prunus evaluate``: how well a model ranks, how fast, and whether it ranks as well as its teacher."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prunus.cli import options, table, talk
from prunus.cli.parts import Files, read
from prunus.cli.progress import progress
from prunus.errors import SchemaError

if TYPE_CHECKING:
    from prunus.data.ranking import RankingData
    from prunus.engine.scorer import RankScorer
    from prunus.metrics import PerQuery
    from prunus.teacher.trees import TreeTeacher

TIMED_ROWS = 20_000
"""Documents that the timing cycles through: enough to leave the caches of a core."""


@talk.verb()
def evaluate(
    model: options.Model,
    data: options.Data,
    *,
    against: Annotated[
        Path | None, typer.Option("--against", metavar="TEACHER", help="The teacher's file, for the paired test.")
    ] = None,
    engines: Annotated[
        str, typer.Option("--engines", metavar="ENGINES", help="Engines that time the teacher, separated by commas.")
    ] = "lightgbm",
    margin: Annotated[
        float, typer.Option(min=1e-6, max=1.0, help="What the model may lose, as a share of the teacher's mean nDCG.")
    ] = 0.01,
    qid: options.Qid = "qid",
    label: options.Label = "label",
    where: options.Where = None,
    user: options.User = None,
    json: options.Json = False,
) -> None:
    """Measure nDCG@10 and microseconds a document; with --against, test whether the model ranks as well as its teacher.

    Examples:
      prunus evaluate out/ranker.prunus test.parquet
      prunus evaluate out/ranker.prunus test.parquet --against ranker.txt --engines lightgbm
    """
    from prunus.engine.file import load
    from prunus.metrics import ndcg

    names = options.engines_of(engines)
    scorer = load(model)
    teacher = None
    if against is not None:
        from prunus.teacher.trees import load_trees

        teacher = load_trees(against)
    columns = options.columns_of(qid=qid, label=label, where=where, user=user)
    rows = read(Files(tuple(data)), columns, scorer.schema.feature_names)
    own = ndcg(rows.y, scorer.score(rows.X), rows.offsets, k=10)
    if teacher is None:
        values = alone(model, scorer, own, rows)
    else:
        check_same_columns(teacher, scorer)
        values = compared(model, scorer, own, teacher, rows, margin=margin, engines=names)
    values["data"] = {"queries": rows.n_queries, "documents": rows.n_docs, "empty_queries": own.n_empty}
    if json:
        talk.put_json({key: value for key, value in values.items() if key != "sentence"})
        return
    talk.put(values["convention"])
    table.comparison(values)
    if teacher is not None:
        talk.put("")
        talk.put(values["sentence"])
        talk.put(table.speed_sentence(values))
        for name, why in values["timing"]["unavailable"].items():
            talk.say(f"not timed: {name}: {why}")


def check_same_columns(teacher: TreeTeacher, scorer: RankScorer) -> None:
    """Check that teacher and model take the same columns in the same order, as the timing of both on one array needs.

    Raises:
        SchemaError: they do not.
    """
    if teacher.columns(scorer.schema.feature_names) != list(range(teacher.n_features)):
        msg = (
            f"the teacher ({teacher.name}) takes its columns in another order than the model; expected the teacher that the"
            " model was made from"
        )
        raise SchemaError(msg)
    if teacher.n_features != scorer.schema.n_features:
        msg = (
            f"the teacher reads {teacher.n_features} features, the model was made for {scorer.schema.n_features}; expected the"
            " teacher that the model was made from"
        )
        raise SchemaError(msg)


def student_figures(model: Path, scorer: RankScorer, own: PerQuery) -> dict[str, Any]:
    """Give what is known of a model without timing it; trees have no weights to count."""
    from prunus.engine.ensemble import Ensemble

    kept = scorer.model
    return {
        "name": ("exact trees: " if isinstance(kept, Ensemble) else "")
        + str(scorer.metadata.get("architecture", "model")),
        "ndcg@10": own.mean,
        "bytes": model.stat().st_size,
        "nonzeros": None if isinstance(kept, Ensemble) else kept.nonzeros,
        "features_used": len(scorer.features_used),
    }


def role_of(scorer: RankScorer) -> str:
    """Give the role of a model in a table of results."""
    from prunus.engine.ensemble import Ensemble

    return "trees" if isinstance(scorer.model, Ensemble) else "sparse"


def alone(model: Path, scorer: RankScorer, own: PerQuery, data: RankingData) -> dict[str, Any]:
    """Time the model by itself."""
    from prunus.bench.quick import measure

    talk.say("timing")
    times = measure(model, data.X[:TIMED_ROWS], [int(batch) for batch in table.BATCHES])
    student = student_figures(model, scorer, own) | times
    row = {**student, "role": role_of(scorer), "engine": f"prunus {scorer.isa}", "chosen": True, "difference": None}
    return {
        "metric": "ndcg@10",
        "convention": str(own),
        "student": student,
        "files": {"model": str(model)},
        "rows": [row],
    }


def compared(
    model: Path,
    scorer: RankScorer,
    own: PerQuery,
    teacher: TreeTeacher,
    data: RankingData,
    *,
    margin: float,
    engines: tuple[str, ...],
) -> dict[str, Any]:
    """Test the model against its teacher, and time both in one interleaved run."""
    from prunus.bench.run import against as contestants_of
    from prunus.bench.run import compare as time_all
    from prunus.metrics import ndcg
    from prunus.verdict import compare, paired_interval

    theirs = ndcg(data.y, teacher.score_data(data), data.offsets, k=10)
    verdict = compare(theirs, own, margin=margin, clusters=data.users)
    assert teacher.path is not None
    contestants = contestants_of(engines, model, teacher.path)
    with progress() as bars:
        bars.stage("timing", 1.0)
        timing = time_all(
            contestants,
            data.X[:TIMED_ROWS],
            [int(batch) for batch in table.BATCHES],
            tell=talk.say,
            progress=lambda done, rounds: bars.advance(done / rounds),
        )
    student = student_figures(model, scorer, own) | fastest(timing.rows, ("prunus",))
    master = {
        "name": teacher.name,
        "ndcg@10": theirs.mean,
        "bytes": teacher.nbytes,
        "trees": teacher.n_trees,
    } | fastest(timing.rows, engines)
    difference, lower, upper = paired_interval(theirs, own)
    rows = [
        {**master, "role": "teacher", "features_used": len(teacher.features_used)},
        {**student, "role": role_of(scorer), "chosen": True, "difference": difference, "lower": lower, "upper": upper},
    ]
    return {
        "metric": "ndcg@10",
        "convention": str(own),
        "teacher": master,
        "student": student,
        "verdict": verdict.to_json(),
        "files": {"model": str(model), "report": None},
        "rows": rows,
        "timing": {"unavailable": timing.unavailable},
        "machine": timing.machine,
        "sentence": verdict.sentence(),
    }


def fastest(rows: list[dict[str, Any]], engines: tuple[str, ...]) -> dict[str, Any]:
    """Take, at each batch size, the fastest of some engines."""
    times, p99, names = {}, {}, []
    for batch in table.BATCHES:
        here = [row for row in rows if row["engine"] in engines and row["batch"] == int(batch) and not row.get("wrong")]
        if here:
            best = min(here, key=lambda row: float(row["us_per_doc"]))
            times[batch], p99[batch] = best["us_per_doc"], best["p99_us_per_doc"]
            names.append(best["engine"])
    return {"us_per_doc": times, "p99_us_per_doc": p99, "engine": ", ".join(dict.fromkeys(names)) or None}
