"""Options of the verbs that read interactions, and how they become a split."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from prunus.cli import talk

if TYPE_CHECKING:
    from pathlib import Path

    from prunus.data.interactions import Interactions
    from prunus.data.interactions_reading import Catalogue, InteractionColumns
    from prunus.data.splits import Split
    from prunus.engine.recommend_scorer import RecommendScorer

Data = Annotated[
    list[str],
    typer.Argument(
        metavar="DATA...",
        help="Files, or globs in quotes: Parquet, or text of 'user item [rating] [timestamp]' lines or of one list a user (also .gz).",
        show_default=False,
    ),
]
User = Annotated[
    str | None, typer.Option("--user", metavar="COLUMN", help="Column of users; default: user, user_id and the like.")
]
Item = Annotated[
    str | None, typer.Option("--item", metavar="COLUMN", help="Column of items; default: item, item_id and the like.")
]
Rating = Annotated[
    str | None,
    typer.Option("--rating", metavar="COLUMN", help="Column of ratings; default: rating, where there is one."),
]
Time = Annotated[
    list[str] | None,
    typer.Option(
        "--time", metavar="COLUMN", help="Column of times; repeats, the most significant first; default: timestamp."
    ),
]
MinRating = Annotated[
    float | None,
    typer.Option("--min-rating", metavar="RATING", help="Leave lower ratings out; default: all rows count."),
]
Test = Annotated[
    list[str] | None,
    typer.Option("--test", metavar="FILE", help="What test users took later; DATA is then all to learn from."),
]
Split_ = Annotated[
    str | None,
    typer.Option(
        "--split",
        metavar="HOW",
        help="No --test: leave-last-out, random:SHARE, strong:SHARE (unseen users) or time:SHARE.  [default: strong:0.1]",
        show_default=False,
    ),
]


def columns_of(
    *,
    user: str | None,
    item: str | None,
    rating: str | None = None,
    time: list[str] | None = None,
    min_rating: float | None = None,
    where: str | None = None,
) -> InteractionColumns:
    """Bring the column options into the form that the readers take."""
    from prunus.data.interactions_reading import InteractionColumns

    return InteractionColumns(
        user=user, item=item, rating=rating, time=tuple(time or ()), min_rating=min_rating, where=where
    )


def read_split(
    data: list[str],
    test: list[str] | None,
    how: str | None,
    columns: InteractionColumns,
    *,
    seed: int = 0,
    catalogue: Catalogue | None = None,
) -> Split:
    """Read interactions and split them.

    Args:
        data: files to learn from, or to split.
        test: files of what test users took later; None to split ``data``.
        how: as ``--split``; not with ``test``.
        columns: what the columns are.
        seed: of random splits.
        catalogue: the items of a model; others are left out.

    Raises:
        DataError: both ``test`` and ``how`` are given, or the data cannot be read or split.
    """
    from prunus.data import splits
    from prunus.data.interactions_reading import read_given, read_interactions
    from prunus.errors import DataError

    if test and how:
        msg = f"got --test and --split {how}; expected one of them: drop the other"
        raise DataError(msg)
    if test:
        split = splits.given(*read_given(data, test, columns, catalogue=catalogue))
    else:
        make = splits.by_name(how or "strong:0.1", seed)
        split = make(read_interactions(data, columns, catalogue=catalogue))
    for reason, rows in split.train.left_out.items():
        talk.say(f"left out: {rows:,} rows {reason}")
    return split


def read_titles(path: Path, data: Interactions, column: str, item: str | None) -> list[str]:
    """Read the items' names as people know them; an item that the table lacks keeps its id.

    Args:
        path: a table of the kinds that hold interactions, with a column of items.
        data: the interactions, for the items' ids.
        column: of the names.
        item: column of items, or None for the usual names.

    Raises:
        ColumnError: a column is absent.
    """
    from prunus.data.frames import open_table
    from prunus.data.interactions_reading import find_column
    from prunus.data.select import require

    table = open_table(path)
    of_items = find_column("item", item, table)
    require(column, table.names, "names", "--title", table.name)
    known: dict[str, str] = {}
    for batch in table.batches([of_items, column]):
        known |= zip(map(str, batch[of_items].to_pylist()), map(str, batch[column].to_pylist()), strict=True)
    ids = data.item_ids or tuple(map(str, range(data.n_items)))
    return [known.get(one, one) for one in ids]


def load_recommender(path: Path) -> RecommendScorer:
    """Load a model file that must be a recommender's.

    Raises:
        ModelFileError: it is a ranker's, or cannot be trusted.
    """
    from prunus.engine.recommender_file import load

    return load(path)


def catalogue_of(scorer: RecommendScorer) -> Catalogue:
    """Give the items that a model knows, as the readers take them."""
    return scorer.model.n_items if scorer.item_ids is None else scorer.item_ids
