"""``prunus demo``: the main job, end to end, with nothing given."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prunus.cli import options, talk
from prunus.cli.parts import Files, Parts, read_parts
from prunus.cli.rank_compress import make_recipe, run, show
from prunus.cli.rank_teach import train_or_keep

if TYPE_CHECKING:
    from prunus.teacher.trees import TreeTeacher

QUERIES = 3000
"""Generated for training; half as many validate, as many and a half test: enough to settle a difference of half a percent."""

FEATURES = 12
LABEL_NOISE = 1.0
"""Standard deviation of the noise in the labels, in that of what the features say: about that of clicks."""

TREES = 400
EPOCHS = 50
"""Passes over generated data, which the schedule of ``quick`` is too short for: they are few documents."""


@talk.verb(goes_on=True)
def demo(
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Folder of the results.")] = Path(
        "prunus-demo"
    ),
    train: Annotated[
        list[str] | None,
        typer.Option(
            "--train", metavar="FILE", help="Your documents instead of generated ones; with --valid and --test."
        ),
    ] = None,
    valid: Annotated[list[str] | None, typer.Option("--valid", metavar="FILE", help="Documents to choose by.")] = None,
    test: Annotated[list[str] | None, typer.Option("--test", metavar="FILE", help="Documents of the verdict.")] = None,
    teacher: Annotated[
        Path | None, typer.Option("--teacher", metavar="FILE", help="Your teacher instead of one trained here.")
    ] = None,
    budget: Annotated[str, typer.Option("--budget", help="As for `rank compress`.")] = "0.15us",
    queries: Annotated[
        int,
        typer.Option(
            min=20, help="Queries to generate for training; half as many validate, and half as many more test."
        ),
    ] = QUERIES,
    trees: Annotated[int, typer.Option(min=1, help="Most trees of the teacher trained here.")] = TREES,
    effort: Annotated[
        options.Effort, typer.Option(help="How long to train and how many students to try.")
    ] = options.Effort.quick,
    epochs: Annotated[
        int | None,
        typer.Option(
            min=1, help="Passes over the training documents; default: 50 over generated ones, else the effort's."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of everything random.")] = 0,
    features: options.Features = None,
    ignore: options.Ignore = None,
    qid: options.Qid = "qid",
    label: options.Label = "label",
    json: options.Json = False,
) -> None:
    """Do the whole job: data (generated if none are given), a teacher, a student within a budget, table and report.

    Takes a few minutes on two cores; run again, it keeps what is done.

    Examples:
      prunus demo
      prunus demo --train train.parquet --valid valid.parquet --test test.parquet -o demo
    """
    from prunus.design import Budget

    Budget.parse(budget)
    passes = epochs if train or epochs is not None else EPOCHS
    recipe = make_recipe(budget=budget, effort=effort.value, epochs=passes, seed=seed)
    master: TreeTeacher | None = None
    if teacher is not None:
        from prunus.teacher.trees import load_trees

        master = load_trees(teacher)
    if train:
        columns = options.columns_of(features=features, ignore=ignore, qid=qid, label=label)
        given = (Files(tuple(train)), Files(tuple(valid or ())), Files(tuple(test or ())))
        parts = read_parts(*given, columns, teacher=master, split_valid=None if test else 0.5, seed=seed)
    else:
        parts = generated(queries, seed)
    if master is None:
        make_folder(out)
        settings = {"params": {}, "trees": trees, "patience": 50, "seed": 1}
        master, _ = train_or_keep(parts.train, parts.valid, settings, out / "teacher.txt")
    result = run(master, parts, recipe, out, ("lightgbm",))
    show(result.to_json(), result.verdict.sentence(), json=json)


def make_folder(out: Path) -> None:
    """Make the folder of the results.

    Raises:
        OutputError: it cannot be made.
    """
    from prunus.errors import OutputError

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"cannot make the folder {out}: {error.strerror or error}; expected one that can be written to: choose another -o"
        raise OutputError(msg) from error


def generated(queries: int, seed: int) -> Parts:
    """Generate the three parts: samples of one world, so that what is learned on one holds on the others."""
    from prunus.data.synthetic import generate_ranking

    sizes = {"train": queries, "valid": queries // 2, "test": queries + queries // 2}
    talk.say("no data given: generating queries: " + ", ".join(f"{n} to {part}" for part, n in sizes.items()))
    return Parts(
        **{
            part: generate_ranking(n, 3 * seed + index, n_features=FEATURES, label_noise=LABEL_NOISE)
            for index, (part, n) in enumerate(sizes.items())
        }
    )
