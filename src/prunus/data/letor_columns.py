"""LETOR rows seen as a table with named columns, so that the column and row options work on them too."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from prunus.data.frames import Table
from prunus.errors import SchemaError
from prunus.extras import need

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from prunus.data.letor import LetorRows

_NUMBERED = re.compile(r"f(\d+)")


def fit_names(rows: LetorRows, feature_names: Sequence[str], needed: set[int] | None = None) -> tuple[str, ...]:
    """Name the columns as a model does, widening the rows where features are absent because they are 0.

    LETOR text has ids, no names. If the model's features are all called ``f`` and a number, that number is the id;
    else the columns are the model's features in their order, as for a bare array.

    Args:
        rows: as read; widened in place.
        feature_names: the features of the model.
        needed: indices of those that must be there; default: all.

    Returns:
        One name for each column of ``rows.X``; all of ``feature_names`` are among them.

    Raises:
        SchemaError: a needed feature is absent although every line lists every feature of the file, or columns cannot
            be told apart since there are more of them than features.
    """
    numbers = [_NUMBERED.fullmatch(name) for name in feature_names]
    if all(numbers):
        ids = [int(found.group(1)) for found in numbers if found]
    else:
        ids = list(range(rows.first_id, rows.first_id + len(feature_names)))
        if rows.X.shape[1] > len(feature_names):
            msg = (
                f"{rows.source}: got {rows.X.shape[1]} features without names for a model of {len(feature_names)}"
                f" ({', '.join(feature_names[:3])}, ...); expected the same count: convert the file to a table with"
                " those column names"
            )
            raise SchemaError(msg)
    high = rows.first_id + rows.X.shape[1] - 1
    absent = [feature for feature, number in enumerate(ids) if not rows.first_id <= number <= high]
    missing = [feature for feature in absent if needed is None or feature in needed]
    if missing and rows.is_dense:
        msg = (
            f"{rows.source}: every line lists the features {rows.first_id} to {high}, and {len(missing)} of those that"
            f" the model needs are not among them ({', '.join(feature_names[f] for f in missing[:5])}); expected the"
            f" model's {len(feature_names)} features"
        )
        raise SchemaError(msg)
    if absent:
        rows.room(0, min(rows.first_id, *ids), max(high, *ids))
    names = list(rows.feature_names)
    for number, name in zip(ids, feature_names, strict=True):
        names[number - rows.first_id] = name
    return tuple(names)


def as_table(rows: LetorRows, names: Sequence[str], qid: NDArray[np.int64]) -> Table:
    """Wrap rows as a table with the columns label, qid, docid (where there are comments) and the features.

    Args:
        rows: as read.
        names: one for each column of ``rows.X``.
        qid: int64 [n_docs], the query ids.
    """
    pa = need("pyarrow", extra="io")
    others: dict[str, NDArray[Any]] = {"label": np.concatenate(rows.labels), "qid": qid}
    documents = rows.documents()
    if documents is not None:
        others["docid"] = documents
    fields = [(name, pa.from_numpy_dtype(column.dtype)) for name, column in others.items() if name != "docid"]
    fields += [("docid", pa.string())] if documents is not None else []
    schema = pa.schema(fields + [(name, pa.float32()) for name in names])
    columns = {name: j for j, name in enumerate(names)}
    return Table(rows.source, schema, rows.n_docs, _Batches(rows.X, columns, others))


@dataclass(frozen=True)
class _Batches:
    """Hands out columns of rows batch by batch, under the name that a Parquet file has for it."""

    X: NDArray[np.float32]
    features: dict[str, int]
    others: dict[str, NDArray[Any]]

    def iter_batches(self, batch_size: int, columns: Sequence[str], first_row: int = 0) -> Iterator[Any]:
        """Yield pyarrow record batches, from a row on."""
        pa = need("pyarrow", extra="io")
        for start in range(first_row, len(self.X), batch_size):
            rows = slice(start, start + batch_size)
            arrays = [
                pa.array(self.others[name][rows] if name in self.others else self.X[rows, self.features[name]].copy())
                for name in columns
            ]
            yield pa.RecordBatch.from_arrays(arrays, names=list(columns))
