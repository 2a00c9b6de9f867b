"""Sources of rows with named columns: Parquet, CSV, and frames of pandas, Polars or Arrow, all as Arrow batches."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunus.data.text import GZIP_MAGIC
from prunus.errors import ColumnError, DataError, ParseError
from prunus.extras import need

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BATCH_ROWS = 1 << 16
"""Rows converted at a time."""


@dataclass(frozen=True)
class Table:
    """A source of rows.

    Attributes:
        name: what to call it in a message.
        schema: its pyarrow schema.
        n_rows: number of rows.
        data: an Arrow table, or whatever hands out batches as a Parquet file does (``iter_batches``), from a row on.
    """

    name: str
    schema: Any
    n_rows: int
    data: Any

    @property
    def names(self) -> list[str]:
        """The columns."""
        return list(self.schema.names)

    def batches(self, names: Sequence[str], first_row: int = 0) -> Iterator[dict[str, Any]]:
        """Yield some columns, as pyarrow arrays, batch after batch.

        Args:
            names: the columns.
            first_row: rows to pass over; whole row groups of a Parquet file are not even decoded.

        Raises:
            ParseError: a Parquet file is damaged.
        """
        pa = need("pyarrow", extra="io")
        if isinstance(self.data, pa.Table):
            batches = self.data.select(list(names)).slice(first_row).to_batches(max_chunksize=BATCH_ROWS)
        else:
            batches = self.data.iter_batches(batch_size=BATCH_ROWS, columns=list(names), first_row=first_row)
        try:
            for batch in batches:
                yield dict(zip(batch.schema.names, batch.columns, strict=True))
        except (pa.ArrowException, OSError) as error:
            msg = f"{self.name}: damaged or truncated ({error}); expected a whole file: copy it again"
            raise ParseError(msg) from error


@dataclass(frozen=True)
class _RowGroups:
    """Reads a Parquet file one row group after the other; asked for all at once, pyarrow decodes the whole file ahead."""

    file: Any

    def iter_batches(self, batch_size: int, columns: Sequence[str], first_row: int = 0) -> Iterator[Any]:
        """Yield pyarrow record batches, from a row on."""
        passed_over = first_row
        for group in range(self.file.num_row_groups):
            n_rows = self.file.metadata.row_group(group).num_rows
            if passed_over >= n_rows:
                passed_over -= n_rows
                continue
            for batch in self.file.iter_batches(batch_size, row_groups=[group], columns=columns):
                if passed_over < batch.num_rows:
                    yield batch.slice(passed_over)
                passed_over = max(0, passed_over - batch.num_rows)


def open_table(source: Any) -> Table:  # noqa: ANN401 - frames of three libraries
    """Open a Parquet or CSV/TSV file, or wrap a frame.

    Args:
        source: a path, or a frame of pandas, Polars or Arrow (anything with ``__arrow_c_stream__``).

    Raises:
        DataError: a file cannot be opened, or the object is no frame.
        ParseError: a file is damaged.
        ColumnError: column names repeat, or a column mixes types.
    """
    table = _open_file(Path(source)) if isinstance(source, str | Path) else _wrap_frame(source)
    repeated = sorted({name for name in table.names if table.names.count(name) > 1})
    if repeated:
        msg = f"{table.name}: columns {', '.join(map(repr, repeated))} occur twice; expected different names"
        raise ColumnError(msg)
    return table


def _open_file(path: Path) -> Table:
    pa, pq, csv = need("pyarrow", extra="io"), need("pyarrow.parquet", extra="io"), need("pyarrow.csv", extra="io")
    try:
        with path.open("rb") as file:
            magic = file.read(4)
        if magic == b"PAR1":
            parquet = pq.ParquetFile(path)
            return Table(str(path), parquet.schema_arrow, parquet.metadata.num_rows, _RowGroups(parquet))
        suffixes = [suffix for suffix in path.suffixes if suffix != ".gz"]
        delimiter = "\t" if suffixes[-1:] == [".tsv"] else ","
        compression = "gzip" if magic.startswith(GZIP_MAGIC) else None
        with pa.input_stream(str(path), compression=compression) as stream:
            table = csv.read_csv(stream, parse_options=csv.ParseOptions(delimiter=delimiter))
    except pa.ArrowException as error:
        kind = "Parquet" if path.suffix == ".parquet" else "Parquet or CSV"
        msg = f"{path}: cannot be read ({error}); expected a whole {kind} file"
        raise ParseError(msg) from error
    except OSError as error:
        msg = f"{path}: cannot be opened ({error.strerror or error}); expected a Parquet or CSV file: check the path"
        raise DataError(msg) from error
    return Table(str(path), table.schema, table.num_rows, table)


def _wrap_frame(frame: Any) -> Table:  # noqa: ANN401 - frames of three libraries
    pa = need("pyarrow", extra="io")
    kind = f"{type(frame).__module__.partition('.')[0]} {type(frame).__name__}"
    try:
        if isinstance(frame, pa.RecordBatch):
            table = pa.Table.from_batches([frame])
        elif kind == "pandas DataFrame":
            table = pa.Table.from_pandas(frame, preserve_index=False)
        elif hasattr(frame, "__arrow_c_stream__"):
            table = pa.table(frame)
        else:
            msg = f"got {kind}; expected paths, or a frame of pandas, Polars or Arrow"
            raise DataError(msg)
    except (pa.ArrowException, ValueError) as error:
        if isinstance(error, DataError):
            raise
        msg = f"the {kind}: {error}; expected columns of one type each, with different names"
        raise ColumnError(msg) from error
    return Table(f"the {kind}", table.schema, table.num_rows, table)
