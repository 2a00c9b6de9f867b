"""``prunus score`` of a recommender: histories in, lists of items out."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from prunus.cli import interactions, talk

if TYPE_CHECKING:
    from pathlib import Path

    from prunus.data.interactions import Interactions
    from prunus.engine.recommend_scorer import Lists, RecommendScorer


def score_lists(
    scorer: RecommendScorer,
    data: list[str],
    *,
    model: Path,
    k: int,
    out: Path | None,
    user: str | None,
    item: str | None,
    where: str | None,
    unknown: str,
    threads: int,
    json: bool,
) -> None:
    """Make a list for each user of the data, and write it.

    Args:
        scorer: the loaded model.
        data: files of histories.
        model: the model's file, for the JSON object.
        k: length of the lists.
        out: .txt (user and items), .csv or .parquet (one row an item: user, rank, item, score); None for stdout.
        user: column of users, or None.
        item: column of items, or None.
        where: rows of the histories to keep, or None.
        unknown: ``skip`` or ``error``, for items that the model does not know.
        threads: to make lists with.
        json: whether to print one JSON object.

    Raises:
        DataError: histories cannot be read, or an item is unknown and that is an error.
        OutputError: the file cannot be written.
    """
    from prunus.data.interactions_reading import read_interactions
    from prunus.engine.disk import write_atomically

    columns = interactions.columns_of(user=user, item=item, where=where)
    histories = read_interactions(
        data, columns, catalogue=interactions.catalogue_of(scorer), unknown="error" if unknown == "error" else "skip"
    )
    for reason, rows in histories.left_out.items():
        talk.say(f"left out: {rows:,} rows {reason}")
    found = scorer.recommend(histories, k, n_threads=threads)
    n_cold = int(np.count_nonzero(found.cold))
    if n_cold:
        talk.say(f"{n_cold:,} users have an empty history: they get the most popular items")
    users, names = names_of(histories, scorer)
    text = "".join(
        "\t".join([user, *(names[item] for item in row if item >= 0)]) + "\n"
        for user, row in zip(users, found.ids.tolist(), strict=True)
    )
    if out is not None:
        write_atomically(out, text.encode() if out.suffix.lower() == ".txt" else table_of(out, users, names, found))
    if json:
        values: dict[str, Any] = {
            "users": histories.n_users,
            "cold_users": n_cold,
            "left_out": histories.left_out,
            "files": {"model": str(model)},
        }
        if out is None:
            values["lists"] = [
                {
                    "user": user,
                    "cold": bool(cold),
                    "items": [names[one] for one in row if one >= 0],
                    "scores": [s for one, s in zip(row, scores, strict=True) if one >= 0],
                }
                for user, cold, row, scores in zip(
                    users, found.cold, found.ids.tolist(), found.scores.tolist(), strict=True
                )
            ]
        else:
            values["files"]["lists"] = str(out)
        talk.put_json(values)
    elif out is None:
        talk.put(text.rstrip("\n"))
    else:
        talk.put(f"{histories.n_users:,} lists: {out}")


def names_of(histories: Interactions, scorer: RecommendScorer) -> tuple[list[str], list[str]]:
    """Give the names of users and of items; numbers are their own names."""
    users = histories.user_ids or tuple(map(str, range(histories.n_users)))
    items = scorer.item_ids or tuple(map(str, range(scorer.model.n_items)))
    return list(users), list(items)


def table_of(out: Path, users: list[str], names: list[str], found: Lists) -> bytes:
    """Make the bytes of a .csv or .parquet file: one row an item, columns user, rank (from 1), item and score."""
    from prunus.extras import need

    pa = need("pyarrow", extra="io")
    user, place = np.nonzero(found.ids >= 0)
    frame = pa.table(
        {
            "user": pa.array(users).take(pa.array(user)),
            "rank": (place + 1).astype(np.int32),
            "item": pa.array(names).take(pa.array(found.ids[user, place])),
            "score": found.scores[user, place],
        }
    )
    buffer = io.BytesIO()
    if out.suffix.lower() == ".csv":
        need("pyarrow.csv", extra="io").write_csv(frame, buffer)
    else:
        need("pyarrow.parquet", extra="io").write_table(frame, buffer)
    return buffer.getvalue()
