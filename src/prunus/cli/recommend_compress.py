"""``prunus recommend compress``: interactions and a budget in; model file, verdict and figures out."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prunus.cli import interactions, options, table, talk
from prunus.cli.progress import progress

if TYPE_CHECKING:
    from collections.abc import Mapping


class Kind(StrEnum):
    """Students of a recommender."""

    AUTO = "auto"
    TICKETS = "tickets"
    DENSE = "dense"
    ITEM_ITEM = "item-item"


@talk.verb(goes_on=True)
def compress(
    data: interactions.Data,
    *,
    budget: Annotated[
        str,
        typer.Option(
            "--budget",
            help="Bytes an item (128B), or of the file (400KB); items' names not counted.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Folder of the results.", show_default=False)],
    test: interactions.Test = None,
    split: interactions.Split_ = None,
    user: interactions.User = None,
    item: interactions.Item = None,
    rating: interactions.Rating = None,
    time: interactions.Time = None,
    min_rating: interactions.MinRating = None,
    where: options.Where = None,
    l2: Annotated[
        float | None,
        typer.Option(
            "--l2",
            help="Teacher: Steck's EASE with this regularisation; default: settings chosen on a tenth of the training part.",
        ),
    ] = None,
    kind: Annotated[
        Kind,
        typer.Option(
            "--kind",
            help="Wide rows of which few values are kept, short ones of which all are, or the teacher's weights that matter most, fitted anew;"
            " auto: the better of the last two on a tenth of the training part.",
        ),
    ] = Kind.AUTO,
    factors: Annotated[int, typer.Option(min=2, help="Width of a ticket's row before pruning.")] = 512,
    bits: Annotated[int, typer.Option(min=2, max=8, help="Of a value in the file.")] = 4,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training users.")] = 60,
    teacher_weight: Annotated[
        float, typer.Option(min=0, help="Of the loss to the teacher's lists; that of the histories has 1.")
    ] = 0.5,
    k: Annotated[int, typer.Option("-k", min=1, help="Length of the lists that are judged.")] = 20,
    margin: Annotated[
        float, typer.Option(min=1e-6, max=1.0, help="What the student may lose, as a share of the teacher's mean nDCG.")
    ] = 0.01,
    teachers: Annotated[
        Path | None,
        typer.Option("--teachers", metavar="DIR", help="Keep fitted teachers here, for runs with other budgets."),
    ] = None,
    titles: Annotated[
        Path | None,
        typer.Option("--titles", metavar="FILE", help="Table of the items' names (Parquet or CSV), for the report."),
    ] = None,
    title: Annotated[str, typer.Option("--title", metavar="COLUMN", help="Column of names in --titles.")] = "title",
    seed: Annotated[int, typer.Option(min=0, help="Of everything random.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Threads of training.")] = 1,
    json: options.Json = False,
) -> None:
    r"""Make a recommender of a few bytes an item that lists as well as its teacher, and say so with a paired test.

    Writes recommender.prunus, result.json and report.html. All items are ranked, for users whom the model never saw, too. A run that
    was stopped goes on where it was; one with other inputs or options in the same folder is refused.

    Examples:
      prunus recommend compress train.parquet --test test.parquet --budget 128B -o out
      prunus recommend compress ratings.dat --min-rating 4 --split leave-last-out --budget 400KB -o out
      prunus recommend compress sales.parquet --user customer_id --where 'quantity>0' --split strong:0.1 \
        --budget 64B -o out
    """
    from prunus.extras import need

    need("pydantic", extra="train")
    need("torch", extra="train")
    from prunus.compress.recommender import compress_recommender
    from prunus.compress.recommender_recipe import RecommenderRecipe
    from prunus.compress.row_budget import RowBudget
    from prunus.report import recommender as report
    from prunus.teacher.linear import EaseSettings

    RowBudget.parse(budget, 1)
    recipe = RecommenderRecipe(
        budget=budget,
        teacher=None if l2 is None else EaseSettings(l2),
        kind=kind.value,
        factors=factors,
        bits=bits,
        epochs=epochs,
        teacher_weight=teacher_weight,
        k=k,
        margin=margin,
        seed=seed,
        threads=threads,
    )
    columns = interactions.columns_of(
        user=user, item=item, rating=rating, time=time, min_rating=min_rating, where=where
    )
    parts = interactions.read_split(data, test, split, columns, seed=seed)
    names = None if titles is None else interactions.read_titles(titles, parts.train, title, item)
    with progress() as bars:
        result = compress_recommender(parts, recipe=recipe, out=out, titles=names, progress=bars, teachers=teachers)
    report.write(result.to_json(), out / "report.html")
    if json:
        talk.put_json(result.to_json())
        return
    show(result.to_json())
    talk.put("")
    talk.put(result.sentence())
    talk.put("")
    for name, path in result.to_json()["files"].items():
        talk.put(f"{name}: {path}")


def show(values: Mapping[str, Any]) -> None:
    """Write the table of a run: one row a model, and the bytes of the items' names beside."""
    metric = str(values["metric"])
    names = (metric, metric.replace("ndcg", "recall"))
    rows = [
        [
            "*" if row.get("chosen") else "",
            f"{row['role']}: {row['name']}" if row["role"] != row["name"] else row["name"],
            table.number(row.get(names[0]), ".4f"),
            difference_of(row),
            table.number(row.get(names[1]), ".4f"),
            table.number(row.get("bytes_per_item"), ".1f"),
            table.number(row.get("file_bytes")),
        ]
        for row in values["rows"]
    ]
    heads = ["", "model", names[0].replace("ndcg", "nDCG"), "difference, 95 % interval", names[1].capitalize()]
    talk.put(str(values["convention"]).replace(" queries", " users"))
    table.put_table(
        [*heads, "bytes/item", "file"],
        rows,
        left=2,
        strong=[number for number, row in enumerate(values["rows"]) if row.get("chosen")],
    )
    tried = values.get("candidates") or ()
    if tried:
        beside = ", ".join(f"{one['name']} {one[metric]:.4f}" for one in tried)
        talk.put(f"The kind was chosen on a tenth of the training part, {heads[2]}: {beside}.")
    for point in values.get("curve", ()):
        if point["times"] == 1:
            talk.put(
                f"The teacher's own weights, cut to {point['bytes_per_item']:.1f} bytes an item, have {point[metric]:.4f}."
            )
    names_bytes = values["student"].get("id_map_bytes")
    if names_bytes:
        talk.put(f"{names_bytes:,} bytes of the file are the items' names, which bytes/item does not count.")


def difference_of(row: Mapping[str, Any]) -> str:
    """Write a row's difference to the first one, with its interval."""
    if row.get("difference") is None:
        return "-"
    return f"{row['difference']:+.4f} [{table.number(row['lower'], '+.4f')}, {table.number(row['upper'], '+.4f')}]"
