"""``prunus bench``: our model beside other engines, timed in turn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prunus.cli import options, table, talk
from prunus.cli.parts import Files, read
from prunus.cli.progress import progress

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from prunus.data.ranking import RankingData
    from prunus.engine.ensemble import Ensemble
    from prunus.engine.network import Network
    from prunus.engine.scorer import RankScorer
    from prunus.teacher.trees import TreeTeacher

GENERATED_ROWS = 20_000


@talk.verb()
def bench(
    model: options.Model,
    *,
    against: options.Against = None,
    teacher: Annotated[
        Path | None, typer.Option("--teacher", metavar="FILE", help="The teacher's file, for engines that run trees.")
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            "--data",
            metavar="FILE",
            help="Documents to time on, with labels for the quality beside the times; default: generated rows.",
        ),
    ] = None,
    batches: Annotated[str, typer.Option(metavar="NUMBERS", help="Documents of a call.")] = "1,20,128,1000",
    seconds: Annotated[float | None, typer.Option(min=0.1, help="Time to spend on timing; default: 9 rounds.")] = None,
    qid: options.Qid = "qid",
    label: options.Label = "label",
    where: options.Where = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="FILE", help="Write everything measured as JSON.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Time the model beside other engines: one thread, interleaved, median and 99th percentile, quality beside them.

    Engines that run the teacher's trees: lightgbm, xgboost, catboost, lleaves, tl2cgen, tl2cgen-c, treeproto, daal4py,
    onnxruntime-trees, and prunus-trees, our own. Engines that run our network with its zeros as numbers: onnxruntime,
    openvino, litert, torch, libxsmm; and in int8 onnxruntime-int8-dynamic, onnxruntime-int8-static, openvino-int8. One that is
    not installed gets an environment of its own, once.

    Example:
      prunus bench out/ranker.prunus --against lightgbm,torch --teacher ranker.txt --data test.parquet -o bench.json
    """
    from prunus.bench.run import against as contestants_of
    from prunus.bench.run import compare
    from prunus.cli.evaluate import check_same_columns
    from prunus.engine.file import load

    engines = options.engines_of(against)
    sizes = parse_batches(batches)
    scorer = load(model)
    trees = None
    if teacher is not None:
        from prunus.teacher.trees import load_trees

        trees = load_trees(teacher)
        check_same_columns(trees, scorer)
    contestants_of(engines, model, teacher)
    if data:
        columns = options.columns_of(qid=qid, label=label, where=where)
        rows = read(Files(tuple(data)), columns, scorer.schema.feature_names)
        X, judge = rows.X, judge_of(rows)
        qualities = (judge(scorer.score(X)), {} if trees is None else quality_of_trees(rows, trees))
    else:
        talk.say("no --data: the rows are generated, and no quality can stand beside the times")
        X, judge, qualities = generated_rows(scorer), None, ({}, {})
    contestants = contestants_of(engines, model, teacher, student=qualities[0], teacher_extra=qualities[1])
    with progress() as bars:
        bars.stage("timing", 1.0)
        found = compare(
            contestants,
            X,
            sizes,
            seconds=seconds,
            tell=talk.say,
            judge=judge,
            progress=lambda done, rounds: bars.advance(done / rounds),
        )
    if out is not None:
        found.save(out)
    for name, why in found.unavailable.items():
        talk.say(f"not timed: {name}: {why}")
    if json:
        talk.put_json(found.to_json() | {"files": {"model": str(model), "raw": None if out is None else str(out)}})
        return
    table.put_table(
        ["engine", "batch", "us/doc", "p99 us/doc", "prunus is faster", "nDCG@10"],
        [
            [
                str(row["engine"]) + (" (wrong scores)" if row.get("wrong") else ""),
                str(row["batch"]),
                table.us(row["us_per_doc"]),
                table.us(row["p99_us_per_doc"]),
                "-" if row.get("ratio") is None else f"{row['ratio']:.3g}x",
                table.number(row.get("ndcg@10"), ".4f"),
            ]
            for row in found.rows
        ],
        strong=[index for index, row in enumerate(found.rows) if row["engine"] == "prunus"],
    )
    talk.put(f"{found.machine['cpu']}; one thread; median of {found.settings['rounds']} interleaved rounds")
    if out is not None:
        talk.put(f"raw: {out}")


def parse_batches(text: str) -> list[int]:
    """Read batch sizes.

    Raises:
        DataError: one is no positive whole number.
    """
    from prunus.errors import DataError

    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(part.isdecimal() and 1 <= int(part) <= 1_000_000 for part in parts):
        msg = f"got --batches {text!r}; expected whole numbers from 1 to 1000000, separated by commas: such as 1,20,128,1000"
        raise DataError(msg)
    return [int(part) for part in parts]


def judge_of(rows: RankingData) -> Callable[[NDArray[Any]], dict[str, Any]]:
    """Give what maps scores of these documents to their quality."""
    from prunus.metrics import ndcg

    return lambda scores: {"ndcg@10": ndcg(rows.y, scores, rows.offsets, k=10).mean}


def quality_of_trees(rows: RankingData, trees: TreeTeacher) -> dict[str, Any]:
    """Rank the documents with the teacher."""
    return judge_of(rows)(trees.score_data(rows)) | {"trees": trees.n_trees}


def generated_rows(scorer: RankScorer) -> NDArray[np.float32]:
    """Generate rows that take every way through the model: float32 [n, n_features]; 0 where nothing reads."""
    from prunus.engine.ensemble import Ensemble

    model = scorer.model
    return rows_for_trees(model) if isinstance(model, Ensemble) else rows_for_network(model)


def rows_for_trees(ensemble: Ensemble) -> NDArray[np.float32]:
    """Draw each feature from its own thresholds, a little moved, or from its codes."""
    import numpy as np

    rng = np.random.default_rng(0)
    X = np.zeros((GENERATED_ROWS, ensemble.n_features), np.float32)
    for feature in np.unique(ensemble.feature):
        nodes = ensemble.feature == feature
        if (ensemble.category[nodes] >= 0).any():
            X[:, feature] = rng.choice(ensemble.set_code, GENERATED_ROWS)
        else:
            cuts = ensemble.threshold[nodes]
            cuts = cuts[np.isfinite(cuts)]
            width = float(cuts.std()) or 1.0
            X[:, feature] = rng.choice(cuts, GENERATED_ROWS) + rng.standard_normal(GENERATED_ROWS) * 0.1 * width
    return X


def rows_for_network(network: Network) -> NDArray[np.float32]:
    """Draw near the centre of each input, about one scale away."""
    import numpy as np

    from prunus.engine.network import SlotKind

    stage = network.inputs
    rng = np.random.default_rng(0)
    X = np.zeros((GENERATED_ROWS, network.n_features), np.float32)
    for slot in range(stage.n_slots):
        kind = int(stage.kind[slot])
        if kind not in {SlotKind.VALUE, SlotKind.LOG}:
            continue
        scale = float(stage.scale[slot]) or 1.0
        x = rng.standard_normal(GENERATED_ROWS) / scale + float(stage.center[slot])
        if kind == SlotKind.LOG:
            x = np.sign(x) * np.expm1(np.minimum(np.abs(x), 80.0))
        X[:, int(stage.feature[slot])] = x
    return X
