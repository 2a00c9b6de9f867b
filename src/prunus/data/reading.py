"""One verb for every kind of ranking data: :func:`read_ranking`, and :func:`read_features` where no labels are needed."""

from __future__ import annotations

import glob
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from prunus.data.frames import open_table
from prunus.data.letor import LetorRows, read_letor_text
from prunus.data.letor_columns import as_table, fit_names
from prunus.data.select import Columns, Expression, suggestion
from prunus.data.tables import Plan, assemble, check_numeric, make_plan, read_rows, read_table, require_features
from prunus.data.text import BOM, FORM, open_text, reads_as
from prunus.errors import DataError, EmptyDataError, ParseError, SchemaError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from prunus.data.ranking import RankingData

__all__ = ["Columns", "kind_of", "read_features", "read_ranking"]

Kind = Literal["letor", "parquet", "csv"]
_SNIFFED_BYTES = 1 << 16


def read_ranking(
    paths: Any,  # noqa: ANN401 - paths, or frames of three libraries
    columns: Columns | None = None,
    *,
    feature_names: Sequence[str] | None = None,
) -> RankingData:
    """Read ranking data, whatever their kind.

    Args:
        paths: a path, a glob, several of them (read one after the other), or one frame of pandas, Polars or Arrow.
        columns: the role of each column, and the rows to keep; default: columns ``label`` and ``qid``.
        feature_names: the features of a model: they are matched by name, and other columns are left out.

    Returns:
        The documents, in the order of the files.

    Raises:
        DataError: or one of its subclasses, saying what was got, what was expected and what to do.
    """
    columns = columns or Columns()
    if not _is_paths(paths):
        return read_table([paths], columns, feature_names=feature_names)
    files, kind = _files(paths)
    if kind != "letor":
        return read_table(files, columns, feature_names=feature_names)
    return _select_letor(read_letor_text(files), columns, feature_names)


def read_features(
    paths: Any,  # noqa: ANN401 - paths, or frames of three libraries
    feature_names: Sequence[str],
    *,
    needed: Sequence[int] | None = None,
    columns: Columns | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.generic] | None]:
    """Read the features of a model, for scoring: no labels are needed.

    Args:
        paths: as :func:`read_ranking`.
        feature_names: the features of the model, in its order.
        needed: indices of the features that it reads; others may be absent and are then NaN. Default: all.
        columns: ``qid`` and ``where`` are used, the rest is not.

    Returns:
        X, float32 [n_docs, n_features], and the query id of each document, None where there is no such column.
        Infinities are left to the scorer, which refuses them in the features that it reads.

    Raises:
        SchemaError: a needed feature is absent.
        DataError: or one of its other subclasses.
    """
    columns = columns or Columns()
    must = set(range(len(feature_names)) if needed is None else needed)
    if _is_paths(paths):
        files, kind = _files(paths)
        if kind == "letor":
            return _letor_features(read_letor_text(files), feature_names, must, columns)
        tables = [open_table(file) for file in files]
    else:
        tables = [open_table(paths)]
    names = tables[0].names
    found = tuple(name if name in names else None for name in feature_names)
    require_features(feature_names, must, names, tables[0].name)
    check_numeric(tables[0], [name for name in found if name is not None])
    where = None if columns.where is None else Expression(columns.where)
    if where is not None:
        where.check_columns(names, tables[0].name)
    plan = Plan(features=found, label=None, where=where, qid=columns.qid if columns.qid in names else None)
    if not plan.names:
        msg = f"{tables[0].name}: none of the model's features is there; {suggestion(feature_names[0], names)}"
        raise SchemaError(msg)
    rows = read_rows(tables, plan)
    return rows.X, rows.parts["qid"]


def kind_of(path: Path) -> Kind:
    """Tell the kind of a file by its content, and CSV from LETOR text by its suffix.

    Args:
        path: the file.

    Raises:
        DataError: it cannot be opened.
        EmptyDataError: it is empty.
        ParseError: it is of no kind that prunus reads.
    """
    if path.is_dir():
        msg = f"{path}: is a folder; expected files: name them by a glob such as '{path}/*.parquet'"
        raise DataError(msg)
    with open_text(path) as file:
        try:
            head = file.read(_SNIFFED_BYTES)
        except (EOFError, OSError) as error:
            msg = f"{path}: cannot be read ({error}); expected a whole file: copy it again"
            raise ParseError(msg) from error
    if not head:
        msg = f"{path}: is empty; expected LETOR text, Parquet or CSV"
        raise EmptyDataError(msg)
    if head.startswith(b"PAR1"):
        return "parquet"
    if [suffix for suffix in path.suffixes if suffix != ".gz"][-1:] in ([".csv"], [".tsv"]):
        return "csv"
    lines = [line.partition(b"#")[0].split() for line in head.removeprefix(BOM).splitlines()]
    first = next((parts for parts in lines if parts), [])
    if not first or b"\0" in head or not (reads_as(float, first[0]) if len(first) == 1 else b":" in first[1]):
        got = (b" ".join(first)[:40] or head[:40]).decode("utf-8", errors="replace")
        msg = f"{path}: begins with {got!r}; expected Parquet, LETOR text ({FORM}), or CSV in a file named .csv or .tsv"
        raise ParseError(msg)
    return "letor"


def _is_paths(paths: object) -> bool:
    return isinstance(paths, str | Path) or (
        isinstance(paths, list | tuple) and all(isinstance(path, str | Path) for path in paths)
    )


def expand_paths(paths: Any) -> list[Any]:  # noqa: ANN401 - paths, or a frame
    """Expand globs.

    Args:
        paths: a path or a glob, several of them, or one frame.

    Returns:
        The files in the order given, those of one glob by name; of a frame, the frame alone.

    Raises:
        DataError: no file is named, or none matches a glob.
    """
    if not _is_paths(paths):
        return [paths]
    files: list[Path] = []
    for path in [paths] if isinstance(paths, str | Path) else paths:
        if glob.has_magic(str(path)) and not Path(path).exists():
            hits = [Path(hit) for hit in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207 - absolute globs
            if not hits:
                msg = f"{path}: no file matches; expected at least one"
                raise DataError(msg)
            files += hits
        else:
            files.append(Path(path))
    if not files:
        msg = "got no files; expected at least one"
        raise DataError(msg)
    return files


def _files(paths: Any) -> tuple[list[Path], Kind]:  # noqa: ANN401 - one path or several
    """Expand globs, and tell the one kind of all the files."""
    files: list[Path] = expand_paths(paths)
    kinds = {path: kind_of(path) for path in files}
    for path, kind in kinds.items():
        if kind != kinds[files[0]]:
            msg = f"{path} is {kind} and {files[0]} is {kinds[files[0]]}; expected files of one kind: read them apart"
            raise DataError(msg)
    return files, kinds[files[0]]


def _select_letor(rows: LetorRows, columns: Columns, feature_names: Sequence[str] | None) -> RankingData:
    """Apply the options to LETOR rows, whose columns are label, qid, docid and the features."""
    names = rows.feature_names if feature_names is None else fit_names(rows, feature_names)
    if columns == Columns() and (feature_names is None or names == tuple(feature_names)):
        return replace(rows.ranking_data(), feature_names=names)
    table = as_table(rows, names, rows.qid())
    plan = make_plan(table, columns, feature_names)
    return assemble(read_rows([table], plan), plan.feature_names)


def _letor_features(
    rows: LetorRows, feature_names: Sequence[str], needed: set[int], columns: Columns
) -> tuple[NDArray[np.float32], NDArray[np.generic] | None]:
    names, qid = fit_names(rows, feature_names, needed), np.concatenate(rows.qids)
    if columns.where is None and names == tuple(feature_names):
        return rows.X, qid
    where = None if columns.where is None else Expression(columns.where)
    found = read_rows([as_table(rows, names, qid)], Plan(tuple(feature_names), label=None, where=where, qid="qid"))
    return found.X, found.parts["qid"]
