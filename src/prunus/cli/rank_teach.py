"""``prunus rank teach``: train the teacher, LightGBM LambdaMART."""

from __future__ import annotations

import json as json_lib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prunus.cli import options, talk
from prunus.cli.parts import Files, read
from prunus.cli.progress import progress
from prunus.errors import RecipeChangedError, TeacherError

if TYPE_CHECKING:
    from prunus.data.ranking import RankingData
    from prunus.teacher.trees import TreeTeacher


@talk.verb()
def teach(
    *,
    train: options.Train,
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="FILE", help="The model, LightGBM .txt.", show_default=False)
    ],
    valid: Annotated[
        list[str] | None,
        typer.Option(
            "--valid", metavar="FILE", help="Documents that decide when to stop; default: rows of the training files."
        ),
    ] = None,
    test: Annotated[
        list[str] | None, typer.Option("--test", metavar="FILE", help="Documents to report nDCG@10 of, if any.")
    ] = None,
    features: options.Features = None,
    ignore: options.Ignore = None,
    qid: options.Qid = "qid",
    label: options.Label = "label",
    where: options.Where = None,
    train_where: Annotated[
        str | None, typer.Option("--train-where", metavar="EXPRESSION", help="Rows to learn on.")
    ] = None,
    valid_where: Annotated[
        str | None, typer.Option("--valid-where", metavar="EXPRESSION", help="Rows that decide when to stop.")
    ] = None,
    trees: Annotated[int, typer.Option(min=1, help="Most trees to train.")] = 1000,
    patience: Annotated[int, typer.Option(min=1, help="Stop after this many trees without a better nDCG@10.")] = 50,
    seed: Annotated[int, typer.Option(min=0, help="Of feature and row sampling.")] = 1,
    param: Annotated[
        list[str] | None,
        typer.Option("--param", metavar="NAME=VALUE", help="A LightGBM parameter, such as num_leaves=64; repeats."),
    ] = None,
    json: options.Json = False,
) -> None:
    """Train a LightGBM LambdaMART teacher, stopped early by nDCG@10 on validation data.

    Run again with the same data and options, it keeps the model that is there.

    Example:
      prunus rank teach --train train.parquet --valid valid.parquet --param num_leaves=64 -o ranker.txt
    """
    from prunus.errors import DataError

    columns = options.columns_of(features=features, ignore=ignore, qid=qid, label=label, where=where)
    params = parse_params(param)
    if not valid and valid_where is None:
        msg = (
            "got no validation data; expected --valid FILE, or --valid-where EXPRESSION for rows of the training files"
        )
        raise DataError(msg)
    if out.suffix != ".txt":
        msg = f"got -o {out}; expected a name that ends in .txt, LightGBM's own format"
        raise TeacherError(msg)
    learn = read(Files(tuple(train), train_where), columns)
    choose = read(Files(tuple(valid or train), valid_where), columns, learn.feature_names)
    recipe = {"params": params, "trees": trees, "patience": patience, "seed": seed}
    teacher, kept = train_or_keep(learn, choose, recipe, out)
    if kept:
        talk.say(f"{out} was trained so before: it is kept")
    values: dict[str, Any] = {
        "trees": teacher.n_trees,
        "leaves": teacher.n_leaves,
        "bytes": teacher.nbytes,
        "valid": quality(teacher, choose),
        "files": {"teacher": str(out)},
    }
    if test:
        values["test"] = quality(teacher, read(Files(tuple(test)), columns, learn.feature_names))
    if json:
        talk.put_json(values)
        return
    talk.put(f"{teacher.name}, {teacher.nbytes:,} bytes")
    for part in ("valid", "test"):
        if part in values:
            talk.put(f"{part}: {values[part]['convention']}")
    talk.put(f"teacher: {out}")


def parse_params(given: list[str] | None) -> dict[str, Any]:
    """Read ``name=value`` pairs; a value is a JSON value where it can be read as one, else text.

    Raises:
        TeacherError: a pair has no ``=``.
    """
    params: dict[str, Any] = {}
    for pair in given or ():
        name, sign, value = pair.partition("=")
        if not sign or not name:
            msg = f"got --param {pair!r}; expected NAME=VALUE, such as num_leaves=64"
            raise TeacherError(msg)
        try:
            params[name] = json_lib.loads(value)
        except ValueError:
            params[name] = value
    return params


def quality(teacher: TreeTeacher, data: RankingData) -> dict[str, Any]:
    """Return the teacher's nDCG@10 with its convention."""
    from prunus.metrics import ndcg

    found = ndcg(data.y, teacher.score_data(data), data.offsets, k=10)
    return {"ndcg@10": found.mean, "queries": found.n_counted, "empty_queries": found.n_empty, "convention": str(found)}


def train_or_keep(
    train: RankingData, valid: RankingData, recipe: dict[str, Any], out: Path
) -> tuple[TreeTeacher, bool]:
    """Train a teacher, or keep the one that the same recipe made of the same data.

    Beside the model stands a file of the same name and ``.json`` that says how it was made.

    Raises:
        RecipeChangedError: the file is there and was made otherwise.
    """
    from prunus.compress.workspace import digest, fingerprint
    from prunus.engine.disk import write_atomically
    from prunus.teacher.lambdamart import train_lambdamart
    from prunus.teacher.trees import load_trees

    note = out.with_name(f"{out.name}.json")
    wanted = {"recipe": recipe, "train": fingerprint(train), "valid": fingerprint(valid)}
    if out.exists():
        try:
            made = json_lib.loads(note.read_text(encoding="utf-8"))
            same = {key: made.get(key) for key in wanted} == wanted and made.get("model") == digest(out.read_bytes())
        except (OSError, ValueError, AttributeError):
            same = False
        if same:
            return load_trees(out), True
        msg = f"{out} is there and was not made by these data and options; expected a name that is free: choose another -o, or delete it"
        raise RecipeChangedError(msg)
    with progress() as bars:
        bars.stage("train the teacher", 1.0)
        teacher = train_lambdamart(
            train,
            valid,
            params=recipe["params"],
            n_trees=recipe["trees"],
            patience=recipe["patience"],
            seed=recipe["seed"],
            progress=lambda n, value: bars.advance(n / recipe["trees"], f"{n} trees, valid {value:.4f}"),
        )
    teacher.save(out)
    write_atomically(note, (json_lib.dumps({**wanted, "model": digest(out.read_bytes())}, indent=1) + "\n").encode())
    return load_trees(out), False
