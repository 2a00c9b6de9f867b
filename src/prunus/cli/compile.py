"""``prunus compile``: a model that another tool trained, as it is, in our engine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prunus.cli import options, table, talk
from prunus.errors import DataError, OutputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from prunus.engine.network import Network
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
            metavar="SOURCE",
            help="Trees: LightGBM .txt, XGBoost .json or .ubj, CatBoost .cbm or .json. A net: ONNX.",
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
    features: Annotated[
        Path | None,
        typer.Option(
            "--features",
            metavar="FILE",
            help="Names of the features, one a line, in the model's order; default: its own, or f0, f1, ...",
            show_default=False,
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Compile a trained model as it is: no data, no training, the same scores.

    Trees are scored exactly: before the model is written, generated rows that sit on and beside every threshold, with
    missing values and infinities among them, are run through the library that trained it, and each must reach the same
    leaf of every tree here. What cannot be kept exactly is refused by name.

    A net of dense layers, pruned with any tool, becomes a network of sparse and dense layers; its scores agree with
    ONNX Runtime's on generated rows over a wide range before the model is written.

    Examples:
      prunus compile ranker.txt -o exact.prunus
      prunus compile ranker.txt -o first.prunus --trees 100
      prunus compile net.onnx -o net.prunus --features names.txt
    """
    from prunus.compiler import compile as compile_model

    check_other_file(source, out)
    names = None if features is None else read_names(features)
    scorer = compile_model(source, n_trees=trees, feature_names=names)
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


def read_names(path: Path) -> list[str]:
    """Read names, one a line.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, ValueError) as error:
        msg = f"{path} cannot be read ({getattr(error, 'strerror', None) or error}); expected names, one a line"
        raise DataError(msg) from error


def figures(scorer: RankScorer, source: Path, out: Path) -> dict[str, Any]:
    """Give all that the verb says, timed on generated rows."""
    from prunus.bench.quick import time_scorer
    from prunus.engine.ensemble import Ensemble

    model = scorer.model
    if isinstance(model, Ensemble):
        from prunus.engine.ensemble_rows import hard_rows

        rows = hard_rows(model, 1, least=4000)
        sizes = {"trees": model.n_trees, "leaves": model.n_leaves}
    else:
        rows = ordinary_rows(model)
        kinds = [layer.shape.kind for layer in model.layers]
        sizes = {"nonzeros": model.nonzeros, "layers": len(kinds), "sparse_layers": kinds.count("sparse")}
    timed = {str(batch): time_scorer(scorer, rows, batch, SECONDS) for batch in BATCHES}
    return {
        "name": scorer.metadata["architecture"],
        "origin": scorer.metadata["origin"],
        **sizes,
        "bytes": out.stat().st_size,
        "features": scorer.schema.n_features,
        "features_used": len(scorer.features_used),
        "parity": scorer.metadata["parity"],
        "us_per_doc": {batch: us for batch, (us, _) in timed.items()},
        "p99_us_per_doc": {batch: p99 for batch, (_, p99) in timed.items()},
        "isa": scorer.isa,
        "files": {"model": str(out), "source": str(source)},
    }


def ordinary_rows(network: Network) -> NDArray[np.float32]:
    """Generate rows to time a network on: each feature where its input stage expects it."""
    import numpy as np

    stage = network.inputs
    rows = np.zeros((4000, network.n_features), np.float32)
    z = np.random.default_rng(1).standard_normal((len(rows), stage.n_slots), np.float32)
    rows[:, stage.feature] = z / np.where(stage.scale == 0, 1, stage.scale) + stage.center
    return rows


def show(values: dict[str, Any]) -> None:
    """Print what was compiled, how it was proved, and what to do next."""
    parity, files = values["parity"], values["files"]
    talk.put(f"{files['source']}: {values['name']}")
    largest = f"{parity['largest_difference']:.1g}"
    if "trees" in values:
        talk.put(
            f"proved: {parity['rows']:,} generated rows reach the same leaf of every tree as in"
            f" {values['origin']['format']}; scores differ by {largest} at most"
        )
        size = f"{values['trees']:,} trees, {values['leaves']:,} leaves"
    else:
        talk.put(
            f"proved: {parity['rows']:,} generated rows score as in ONNX Runtime; they differ by {largest} at most"
        )
        size = f"{values['nonzeros']:,} weights, {values['sparse_layers']} of {values['layers']} layers sparse"
    talk.put(
        f"model: {files['model']} ({size}, {values['bytes']:,} bytes; reads {values['features_used']} of"
        f" {values['features']} features)"
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
    if "trees" not in values:
        return
    talk.put(
        f"      prunus rank compress {files['source']} ... --budget 0.5us  (a network: smaller and faster, not exact)"
    )
