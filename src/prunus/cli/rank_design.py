"""``prunus rank design``: which students a budget allows, before any is trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prunus.cli import options, table, talk
from prunus.cli.parts import Files, read, read_for
from prunus.cli.progress import progress

if TYPE_CHECKING:
    from prunus.design import Architecture
    from prunus.engine.network import InputStage
    from prunus.latency import LatencyModel, Prices


@talk.verb()
def design(
    *,
    train: options.Train,
    budget: Annotated[
        str, typer.Option("--budget", help="As for `rank compress`: 0.5us, 0.5us@20, 20KB.", show_default=False)
    ],
    teacher: Annotated[
        Path | None, typer.Option("--teacher", metavar="FILE", help="Take the columns that this teacher reads.")
    ] = None,
    effort: Annotated[options.Effort, typer.Option(help="How many students to propose.")] = options.Effort.normal,
    features: options.Features = None,
    ignore: options.Ignore = None,
    qid: options.Qid = "qid",
    label: options.Label = "label",
    where: options.Where = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the sample that the inputs are learned from.")] = 0,
    json: options.Json = False,
) -> None:
    """Propose students that meet a budget on this CPU, with predicted times.

    Example:
      prunus rank design --train train.parquet --budget 0.3us
    """
    from prunus.compress.proposals import propose
    from prunus.design import Budget, prices
    from prunus.latency import LatencyModel
    from prunus.student.inputs import learn_inputs

    wanted = Budget.parse(budget)
    columns = options.columns_of(features=features, ignore=ignore, qid=qid, label=label, where=where)
    files = Files(tuple(train))
    categories = None
    if teacher is None:
        data = read(files, columns)
    else:
        from prunus.teacher.trees import load_trees

        trees = load_trees(teacher)
        categories = trees.categories
        data = read_for(trees, files, columns)
    inputs, schema = learn_inputs(data, categories=categories, seed=seed)
    with progress() as bars:
        bars.stage("time model of this CPU", 1.0)
        latency = LatencyModel.load_or_calibrate(progress=bars.advance)
    found = propose(inputs, wanted, latency, schema, effort=effort.value)
    rows = [
        describe(one, inputs, data.n_features, prices(inputs, wanted, latency, schema, kind=one.kind), latency)
        for one in found
    ]
    if json:
        talk.put_json(
            {"budget": str(wanted), "inputs": inputs.n_slots, "time_error": latency.error, "architectures": rows}
        )
        return
    table.put_table(
        ["student", "weights", *(f"predicted us/doc @{batch}" for batch in table.BATCHES)],
        [
            [row["name"], f"{row['nonzeros']:,}", *(table.us(row["us_per_doc"][batch]) for batch in table.BATCHES)]
            for row in rows
        ],
    )
    talk.put(
        f"budget {wanted}; {inputs.n_slots} inputs; predictions are within {latency.error * 100:.0f} % for 9 networks of 10"
    )


def describe(
    one: Architecture, inputs: InputStage, n_features: int, price: Prices, latency: LatencyModel
) -> dict[str, Any]:
    """Give a student's name, weights and predicted times; a pruned one as it will be at its target."""
    from prunus.compress.typical import typical_network

    network = typical_network(one, inputs, n_features, price)
    return {
        "name": one.name,
        "kind": one.kind,
        "widths": list(one.widths),
        "nonzeros": network.nonzeros,
        "us_per_doc": {batch: latency.predict(network, int(batch)).us_per_doc for batch in table.BATCHES},
    }
