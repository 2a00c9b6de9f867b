"""``prunus compile``: a model that another tool trained, as it is, in our engine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prunus.cli import options, table, talk
from prunus.errors import OutputError

if TYPE_CHECKING:
    from prunus.engine.scorer import RankScorer

BATCHES = (1, 20, 128, 1000)
"""Documents in a call at which the result is timed."""

SECONDS = 0.25
"""Time spent on each batch size: enough for one significant digit."""


@talk.verb()
def compile(  # noqa: A001 - the verb, as the user types it
    source: Annotated[
        Path,
        typer.Argument(
            metavar="TREES",
            help="A LightGBM .txt, an XGBoost .json or .ubj, or a CatBoost .cbm or .json model.",
            show_default=False,
        ),
    ],
    *,
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="MODEL", help="The model file to write.", show_default=False)
    ],
    trees: Annotated[
        int | None, typer.Option("--trees", metavar="N", min=1, help="Keep the first N trees; default: all.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Compile a trained model as it is: no data, no training, the same scores.

    Trees are scored exactly: before the model is written, generated rows that sit on and beside every threshold, with
    missing values and infinities among them, are run through the library that trained it, and each must reach the same
    leaf of every tree here. What cannot be kept exactly is refused by name.

    Examples:
      prunus compile ranker.txt -o exact.prunus
      prunus compile ranker.txt -o first.prunus --trees 100
    """
    from prunus.compiler import compile as compile_model

    scorer = compile_model(source, n_trees=trees)
    check_other_file(source, out)
    scorer.save(out)
    talk.say("timing")
    values = figures(scorer, source, out)
    if json:
        talk.put_json(values)
        return
    show(values)


def check_other_file(source: Path, out: Path) -> None:
    """Check that the model is not written over what it is made from.

    Raises:
        OutputError: both are the same file.
    """
    if out.exists() and source.exists() and out.samefile(source):
        msg = f"got -o {out}, which is the model to be compiled; expected another name, such as {out.stem}.prunus"
        raise OutputError(msg)


def figures(scorer: RankScorer, source: Path, out: Path) -> dict[str, Any]:
    """Give all that the verb says, timed on generated rows."""
    from prunus.bench.quick import time_scorer
    from prunus.engine.ensemble import Ensemble
    from prunus.engine.ensemble_rows import hard_rows

    model = scorer.model
    assert isinstance(model, Ensemble)
    rows = hard_rows(model, 1, least=4000)
    timed = {str(batch): time_scorer(scorer, rows, batch, SECONDS) for batch in BATCHES}
    return {
        "name": scorer.metadata["architecture"],
        "origin": scorer.metadata["origin"],
        "trees": model.n_trees,
        "leaves": model.n_leaves,
        "bytes": out.stat().st_size,
        "features": scorer.schema.n_features,
        "features_used": len(scorer.features_used),
        "parity": scorer.metadata["parity"],
        "us_per_doc": {batch: us for batch, (us, _) in timed.items()},
        "p99_us_per_doc": {batch: p99 for batch, (_, p99) in timed.items()},
        "isa": scorer.isa,
        "files": {"model": str(out), "source": str(source)},
    }


def show(values: dict[str, Any]) -> None:
    """Print what was compiled, how it was proved, and what to do next."""
    parity, files = values["parity"], values["files"]
    talk.put(f"{files['source']}: {values['name']}")
    talk.put(
        f"proved: {parity['rows']:,} generated rows reach the same leaf of every tree as in {values['origin']['format']};"
        f" scores differ by {parity['largest_difference']:.1g} at most"
    )
    talk.put(
        f"model: {files['model']} ({values['trees']:,} trees, {values['leaves']:,} leaves, {values['bytes']:,} bytes; reads"
        f" {values['features_used']} of {values['features']} features)"
    )
    table.put_table(
        ["documents a call", *values["us_per_doc"]],
        [
            ["us/doc", *map(table.us, values["us_per_doc"].values())],
            ["p99 us/doc", *map(table.us, values["p99_us_per_doc"].values())],
        ],
    )
    talk.put(f"one thread, {values['isa']}, generated rows; a short measurement: `prunus bench` compares engines")
    talk.put(f"next: prunus score {files['model']} DATA")
    talk.put(
        f"      prunus bench {files['model']} --against lightgbm --teacher {files['source']} --data DATA"
        if values["origin"]["format"] == "LightGBM"
        else f"      prunus evaluate {files['model']} DATA"
    )
    talk.put(
        f"      prunus rank compress {files['source']} ... --budget 0.5us  (a network: smaller and faster, not exact)"
    )
