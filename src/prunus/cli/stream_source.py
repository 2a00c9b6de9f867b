"""The columns of a stream, as the options ask for them."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import TYPE_CHECKING

from prunus.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence


def features_of(
    ids: Sequence[str], dense: Sequence[str], paths: Sequence[str], others: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Resolve globs of columns by the first file.

    A glob of ids takes columns that have no other role, a glob of dense columns only numeric ones of these.

    Args:
        ids: names and globs, as typed.
        dense: names and globs, as typed.
        paths: files, globs and folders.
        others: expressions of the label and of time, and columns of the key: none of theirs is a feature by a glob.

    Returns:
        Columns of ids, and dense ones.

    Raises:
        DataError: there are globs of columns, and no file yet to resolve them by.
        ColumnError: a glob matches nothing.
    """
    if not any(glob.has_magic(one) for one in (*ids, *dense)):
        return tuple(ids), tuple(dense)
    from prunus.data.event_opening import LINE_SUFFIXES
    from prunus.data.frames import open_table
    from prunus.data.select import Expression, match
    from prunus.extras import need

    pa = need("pyarrow", extra="io")
    file = next(
        (file for path in paths for file in _files(path) if not file.removesuffix(".gz").endswith(LINE_SUFFIXES)), None
    )
    if file is None:
        msg = f"got globs of columns, and no Parquet file in {', '.join(paths)} to find them in; expected names of columns"
        raise DataError(msg)
    table = open_table(file)
    taken = {name for one in others for name in ((one,) if one in table.names else Expression(one, "--label").names)}
    # What is named is taken at its word: that it gives the label, say, is told by the schema.
    free = [name for name in table.names if name not in taken or name in {*ids, *dense}]
    # Nor is a dense column that is named an id by a glob.
    found = match(ids, [name for name in free if name not in dense or name in ids], "--ids", table.name)
    kinds = {field.name: field.type for field in table.schema}
    numeric = [name for name in free if pa.types.is_integer(kinds[name]) or pa.types.is_floating(kinds[name])]
    # A column that is named is taken as it is: what is wrong with it is told where events are read.
    open_ones = [name for name in free if name not in found and (name in numeric or name in dense)]
    return tuple(found), tuple(match(dense, open_ones, "--dense", table.name))


def _files(path: str) -> list[str]:
    if Path(path).is_dir():
        return sorted(str(file) for file in Path(path).glob("*.parquet"))
    return sorted(glob.glob(path, recursive=True))  # noqa: PTH207 - absolute globs
