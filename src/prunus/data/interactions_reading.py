"""Reading interactions of any kind, and numbering their users and items: :func:`read_interactions`."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from prunus.data.frames import Table, open_table
from prunus.data.interactions import Interactions
from prunus.data.interactions_text import Form, open_interaction_text
from prunus.data.reading import expand_paths
from prunus.data.select import Expression, require, suggestion
from prunus.data.tables import to_float
from prunus.errors import ColumnError, DataError, EmptyDataError, UnknownItemError
from prunus.extras import need

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Unknown = Literal["skip", "error"]
Catalogue: TypeAlias = "int | Sequence[str]"
"""Items of a model: their names in its order, or how many there are where they are numbers from 0."""

_NAMES = {
    "user": ("user", "user_id", "userid", "uid", "customer_id", "customer"),
    "item": ("item", "item_id", "itemid", "iid", "movie_id", "movieid", "product_id", "article_id"),
    "rating": ("rating", "ratings"),
    "time": ("timestamp", "time", "timestamp_ms", "ts"),
}
_WHOLE = re.compile(r"0|-?[1-9][0-9]*")


@dataclass(frozen=True)
class InteractionColumns:
    """What each column of a table of interactions is, and which rows count.

    Attributes:
        user: the column of users; None takes the first of ``user``, ``user_id`` and the like (case does not matter).
        item: the column of items; None as above.
        rating: the column of ratings; None takes ``rating`` where there is one.
        time: columns that say when, the most significant first; empty takes ``timestamp`` or the like where there is
            one.
        min_rating: rows with a lower rating are left out; None takes all rows, whatever their rating.
        where: an expression (``"quantity>0"``); the rows for which it is true are kept.
        form: of text files, see :mod:`prunus.data.interactions_text`.
    """

    user: str | None = None
    item: str | None = None
    rating: str | None = None
    time: tuple[str, ...] = ()
    min_rating: float | None = None
    where: str | None = None
    form: Form = "auto"


@dataclass
class _Rows:
    """Rows as read: pyarrow columns of ids as strings, and times int64 or None."""

    users: Any
    items: Any
    times: NDArray[np.int64] | None
    source: str
    left_out: Counter[str] = field(default_factory=Counter)


def read_interactions(
    paths: Any,  # noqa: ANN401 - paths, or frames of three libraries
    columns: InteractionColumns | None = None,
    *,
    catalogue: Catalogue | None = None,
    unknown: Unknown = "skip",
) -> Interactions:
    """Read interactions, whatever their kind.

    A user's repeats of an item become one interaction, at the time of the first: what one has taken already is no
    recommendation. Rows may stand in any order.

    Args:
        paths: a path, a glob, several of them (one data set), or a frame of pandas, Polars or Arrow. Parquet; text of
            any form in :mod:`prunus.data.interactions_text`.
        columns: the role of each column, and which rows count.
        catalogue: the items of a model: they are numbered as there.
        unknown: what an item outside the catalogue is: left out (and counted), or an error.

    Returns:
        The interactions. ``left_out`` counts the rows that are none, by reason. Users, and without a catalogue items,
        are numbered in the order of their names (as numbers, where all names are whole numbers).

    Raises:
        UnknownItemError: an item is not in the catalogue.
        DataError: or one of its other subclasses, saying what was got, what was expected and what to do.
    """
    rows = _read(paths, columns or InteractionColumns())
    user, user_ids = _number([rows.users])
    items, item_ids = _number_items([rows], catalogue, unknown)
    return _assemble(rows, user[0], items[0], user_ids, item_ids)


def read_given(
    train: Any,  # noqa: ANN401 - paths, or frames of three libraries
    test: Any,  # noqa: ANN401 - paths, or frames of three libraries
    columns: InteractionColumns | None = None,
    *,
    catalogue: Catalogue | None = None,
) -> tuple[Interactions, Interactions]:
    """Read a split that is given as two sources; both get the same numbers for users and for items.

    An item of the test part alone is part of the catalogue: no model can rank it well, and it counts as missed.

    Args:
        train: as the paths of :func:`read_interactions`.
        test: the same.
        columns: of both.
        catalogue: the items of a model; others are left out, and counted.

    Returns:
        (train, test), with the users and the items of both.
    """
    columns = columns or InteractionColumns()
    parts = (_read(train, columns), _read(test, columns))
    users, user_ids = _number([part.users for part in parts])
    items, item_ids = _number_items(parts, catalogue, "skip")
    first, second = (
        _assemble(part, user, item, user_ids, item_ids) for part, user, item in zip(parts, users, items, strict=True)
    )
    return first, second


def _read(paths: Any, columns: InteractionColumns) -> _Rows:  # noqa: ANN401 - paths or frames
    """Read all rows that count, as one block."""
    pa = need("pyarrow", extra="io")
    tables = [_open(one, columns) for one in expand_paths(paths)]
    where = None if columns.where is None else Expression(columns.where)
    users, items, times, left_out = [], [], [], Counter[str]()
    for table in tables:
        user, item, rating, time = _roles(table, columns)
        if where is not None:
            where.check_columns(table.names, table.name)
        wanted = [user, item, *([rating] if rating else []), *time, *(where.names if where is not None else ())]
        for batch in table.batches(list(dict.fromkeys(wanted))):
            kept = _keep(batch, where, rating, columns.min_rating, left_out)
            users.append(_ids(kept[user], user, table.name))
            items.append(_ids(kept[item], item, table.name))
            times.append([_time(kept[name], name, table.name) for name in time])
    source = tables[0].name if len(tables) == 1 else f"{tables[0].name} and {len(tables) - 1} more"
    if not sum(len(part) for part in users):
        why = "".join(f"; {n} rows {reason}" for reason, n in left_out.items())
        msg = f"{source}: no interactions{why}; expected at least one row that counts"
        raise EmptyDataError(msg)
    if len({len(part) for part in times}) > 1:
        msg = f"{source}: some files have times and some have none; expected the same columns in every file"
        raise ColumnError(msg)
    when = [np.concatenate(column) for column in zip(*times, strict=True)]
    joined = [pa.chunked_array(parts, pa.string()).combine_chunks() for parts in (users, items)]
    return _Rows(joined[0], joined[1], times=_order(when), source=source, left_out=left_out)


def _open(source: Any, columns: InteractionColumns) -> Table:  # noqa: ANN401 - a path or a frame
    if not isinstance(source, Path):
        return open_table(source)
    try:
        with source.open("rb") as file:
            is_parquet = file.read(4) == b"PAR1"
    except OSError as error:
        msg = f"{source}: cannot be opened ({error.strerror}); expected a file of interactions"
        raise DataError(msg) from error
    if is_parquet:
        return open_table(source)

    def ids_of(names: Sequence[str]) -> tuple[str, ...]:
        asked = [_find(role, getattr(columns, role), names) for role in ("user", "item")]
        usual = [_find(role, None, names) for role in ("user", "item")]
        return tuple(dict.fromkeys(name for name in asked + usual if name is not None))

    return open_interaction_text(source, columns.form, ids_of)


def _find(role: str, asked: str | None, names: Sequence[str]) -> str | None:
    """Find the column of a role: the one asked for, else the first with a usual name."""
    if asked is not None:
        return asked if asked in names else None
    lower = {name.lower(): name for name in reversed(names)}
    return next((lower[name] for name in _NAMES[role] if name in lower), None)


def find_column(role: str, asked: str | None, table: Table) -> str:
    """Find the column of a role.

    Args:
        role: ``"user"``, ``"item"`` or ``"rating"``.
        asked: its name; None for the first with a usual name.
        table: the table.

    Raises:
        ColumnError: there is none.
    """
    if asked is not None:
        return require(asked, table.names, role, f"--{role}", table.name)
    found = _find(role, None, table.names)
    if found is None:
        msg = f"{table.name}: no column of {role}s; {suggestion(role, table.names)} (choose it with --{role})"
        raise ColumnError(msg)
    return found


def _roles(table: Table, columns: InteractionColumns) -> tuple[str, str, str | None, tuple[str, ...]]:
    """Name the columns of user, item, rating (only where it is needed) and time.

    Raises:
        ColumnError: a column is absent.
    """
    names, rating = table.names, None
    if columns.min_rating is not None:
        rating = find_column("rating", columns.rating, table)
    elif columns.rating is not None:
        require(columns.rating, names, "rating", "--rating", table.name)
    time = _find("time", None, names)
    times = tuple(require(name, names, "time", "--time", table.name) for name in columns.time)
    user, item = find_column("user", columns.user, table), find_column("item", columns.item, table)
    return user, item, rating, times or (() if time is None else (time,))


def _keep(
    batch: dict[str, Any], where: Expression | None, rating: str | None, least: float | None, left_out: Counter[str]
) -> dict[str, Any]:
    """Return the rows that count, and count the others."""
    pa = need("pyarrow", extra="io")
    for reason, mask in (
        ("for which the condition is not true", None if where is None else where.mask),
        ("below the least rating", None if rating is None else lambda rows: _at_least(rows[rating], rating, least)),
    ):
        if mask is None:
            continue
        n = len(next(iter(batch.values())))
        kept = pa.array(mask(batch), pa.bool_())
        batch = {name: column.filter(kept) for name, column in batch.items()}
        dropped = n - len(next(iter(batch.values())))
        if dropped:
            left_out[reason] += dropped
    return batch


def _at_least(column: Any, name: str, least: float | None) -> NDArray[np.bool_]:  # noqa: ANN401 - pyarrow
    return np.asarray(to_float(column, np.float64, name) >= least)


def _ids(column: Any, name: str, source: str) -> Any:  # noqa: ANN401 - pyarrow
    """Turn a column of ids into strings."""
    pa, pc = need("pyarrow", extra="io"), need("pyarrow.compute", extra="io")
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if column.null_count or (pa.types.is_string(column.type) and pc.any(pc.equal(column, "")).as_py()):
        msg = f"{source}: column {name!r} has rows without an id; expected one in every row: leave them out (--where)"
        raise ColumnError(msg)
    try:
        if pa.types.is_floating(column.type):
            column = column.cast(pa.int64())
        return column.cast(pa.string())
    except pa.ArrowException as error:
        msg = f"{source}: column {name!r} is {column.type}; expected ids that are whole numbers or strings"
        raise ColumnError(msg) from error


def _time(column: Any, name: str, source: str) -> NDArray[np.int64]:  # noqa: ANN401 - pyarrow
    pa = need("pyarrow", extra="io")
    try:
        if pa.types.is_date(column.type):
            column = column.cast(pa.timestamp("ms"))
        if column.null_count or pa.types.is_string(column.type):
            raise pa.ArrowInvalid
        return np.asarray(column.cast(pa.int64()).to_numpy(zero_copy_only=False))
    except pa.ArrowException as error:
        msg = (
            f"{source}: column {name!r} ({column.type}, {column.null_count} missing) is no time; expected a whole number"
            " or a time stamp in every row"
        )
        raise ColumnError(msg) from error


def _order(columns: list[NDArray[np.int64]]) -> NDArray[np.int64] | None:
    """Return one column of times: the only one as it is, of several the places in their joint order."""
    if len(columns) < 2:
        return columns[0] if columns else None
    order = np.lexsort(columns[::-1])
    changes = np.any([np.diff(column[order]) != 0 for column in columns], axis=0)
    times = np.empty(len(order), np.int64)
    times[order] = np.concatenate([[0], np.cumsum(changes)])
    return times


def _number(parts: list[Any]) -> tuple[list[NDArray[np.int64]], tuple[str, ...]]:
    """Number names, in the order of the names; columns that belong together share their numbers."""
    pa = need("pyarrow", extra="io")
    coded = pa.chunked_array(parts, pa.string()).combine_chunks().dictionary_encode()
    names: list[str] = coded.dictionary.to_pylist()
    whole = all(_WHOLE.fullmatch(name) for name in names)
    order = sorted(range(len(names)), key=(lambda at: int(names[at])) if whole else names.__getitem__)
    rank = np.empty(len(names), np.int64)
    rank[order] = np.arange(len(names))
    numbers = rank[coded.indices.to_numpy()]
    cuts = np.cumsum([len(part) for part in parts])[:-1]
    return list(np.split(numbers, cuts)), tuple(names[at] for at in order)


def _number_items(
    parts: Sequence[_Rows], catalogue: Catalogue | None, unknown: Unknown
) -> tuple[list[NDArray[np.int64]], tuple[str, ...]]:
    if catalogue is None:
        return _number([part.items for part in parts])
    known = tuple(map(str, range(catalogue))) if isinstance(catalogue, int) else tuple(catalogue)
    return [_look_up(part, known, unknown) for part in parts], known


def _look_up(rows: _Rows, known: tuple[str, ...], unknown: Unknown) -> NDArray[np.int64]:
    """Number the items as ``known`` does, -1 for others."""
    coded = rows.items.dictionary_encode()
    names: list[str] = coded.dictionary.to_pylist()
    place = {name: number for number, name in enumerate(known)}
    codes: NDArray[np.int32] = coded.indices.to_numpy()
    found = np.array([place.get(name, -1) for name in names], np.int64)[codes]
    n = int(np.count_nonzero(found < 0))
    if n and unknown == "error":
        absent = [name for name in names if name not in place]
        shown = ", ".join(map(repr, absent[:5])) + (" ..." if len(absent) > 5 else "")
        msg = (
            f"{rows.source}: {n} rows name {len(absent)} items that the model does not know ({shown}); expected items of"
            " its catalogue: leave them out (--unknown skip)"
        )
        raise UnknownItemError(msg)
    if n:
        rows.left_out["with an item that the model does not know"] += n
    return found


def _assemble(
    rows: _Rows, user: NDArray[np.int64], item: NDArray[np.int64], user_ids: tuple[str, ...], item_ids: tuple[str, ...]
) -> Interactions:
    """Sort rows by user and item, and keep the first of each pair; rows whose item is -1 are left out."""
    times = rows.times
    known = item >= 0
    if not known.all():
        user, item = user[known], item[known]
        times = None if times is None else times[known]
    order = np.lexsort((item, user) if times is None else (times, item, user))
    user, item = user[order], item[order]
    fresh = np.ones(len(user), np.bool_)
    fresh[1:] = (user[1:] != user[:-1]) | (item[1:] != item[:-1])
    if not fresh.all():
        rows.left_out["that repeat an item of the user"] += int(np.count_nonzero(~fresh))
    counts = np.bincount(user[fresh], minlength=len(user_ids))
    return Interactions(
        indptr=np.concatenate([[0], np.cumsum(counts)]),
        items=item[fresh].astype(np.int32),
        n_items=len(item_ids),
        times=None if times is None else times[order][fresh],
        user_ids=_or_numbers(user_ids),
        item_ids=_or_numbers(item_ids),
        source=rows.source,
        left_out=dict(rows.left_out),
    )


def _or_numbers(names: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return None where the names are the numbers themselves."""
    return None if names == tuple(map(str, range(len(names)))) else names
