"""LETOR/SVMlight text: ``label qid:Q 1:v 2:v ... # comment``, plain or gzip.

Rules, where the format leaves a choice:

- Feature id ``k`` is named ``fk``. Ids count from 1; a file in which an id 0 occurs has the features f0, f1, ...
- A feature that a line does not list is 0, as in SVMlight; a missing value is written ``nan``.
- Ids rise inside a line. Query ids are integers; the lines of a query stand together.
- The text after ``#`` is kept as the document id: X of ``docid = X`` where it has that form, else all of it.

The parsing is done by pyarrow where every line of a chunk lists the same ids (dense files, the usual case), and by
scikit-learn elsewhere. Only a chunk that both refuse is read line by line, to name the line that is wrong.
"""

from __future__ import annotations

import gzip
import re
import zlib
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from prunus.data.ranking import MAX_LABEL, SPLIT_ADVICE, RankingData, offsets_from_qid, split_row
from prunus.data.text import BOM, FORM, MAX_FEATURE_ID, explain, line_in, line_of_row, open_text
from prunus.errors import (
    EmptyDataError,
    InfiniteValueError,
    LabelError,
    ParseError,
    SchemaError,
    SplitQueryError,
)
from prunus.extras import need

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

CHUNK_BYTES = 4 << 20
"""Text parsed at a time. pyarrow needs several times this beside the result; 16 MiB was no faster, 64 MiB slower."""
SPARSE_CHUNK_BYTES = 1 << 20
"""Text given to scikit-learn at a time: it appends to its column of query ids by copying it, line after line."""

_COLON_TO_SPACE = bytes.maketrans(b":", b" ")
_DOCID = re.compile(rb"docid\s*=\s*(\S+)")


def read_letor(path: str | Path, *, n_features: int | None = None) -> RankingData:
    """Read one LETOR/SVMlight file.

    Args:
        path: the file; gzip is recognised by its content.
        n_features: number of features, where the file may lack the last ones; default: the largest id that occurs.

    Returns:
        The documents in the order of the file. Beside the result itself, reading needs a few times
        :data:`CHUNK_BYTES` of memory.

    Raises:
        EmptyDataError: the file holds no line with a document.
        ParseError: a line breaks the form; the message names file and line.
        LabelError: a label is negative, not finite or above 31.
        InfiniteValueError: a value is infinite.
        SplitQueryError: the lines of a query do not stand together.
        SchemaError: there are more features than ``n_features``.
        DataError: the file cannot be opened.
    """
    return read_letor_text([path]).ranking_data(n_features)


def read_letor_text(paths: Sequence[str | Path]) -> LetorRows:
    """Read LETOR/SVMlight files, one after the other, into one block.

    Args:
        paths: the files.

    Returns:
        The rows; raises as :func:`read_letor` does, except for what concerns whole queries.
    """
    rows = LetorRows(sources=[str(path) for path in paths])
    for path in paths:
        before = rows.n_docs
        line = 1
        for chunk in _chunks(Path(path)):
            _parse_chunk(rows, chunk, f"{path}", line)
            line += chunk.count(b"\n")
        if rows.n_docs == before:
            msg = f"{path}: no documents; expected lines of the form  {FORM}"
            raise EmptyDataError(msg)
        rows.file_ends.append(rows.n_docs)
    return rows


@dataclass
class LetorRows:
    """Rows of LETOR text; grows in place while files are read, so memory peaks near the size of the result.

    Attributes:
        sources: the files.
        X: float32 [n_docs, n_columns]; column j is feature id ``first_id + j``.
        first_id: 1, or 0 once an id 0 occurred.
        labels: float64 chunks of the labels.
        qids: int64 chunks of the query ids.
        doc_ids: one for each document, empty where a line had no comment.
        n_values: number of values that the lines list.
        file_ends: for each file read, the number of documents up to its end.
    """

    sources: list[str]
    X: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), dtype=np.float32))
    first_id: int = 1
    labels: list[NDArray[np.float64]] = field(default_factory=list)
    qids: list[NDArray[np.int64]] = field(default_factory=list)
    doc_ids: list[str] = field(default_factory=list)
    n_values: int = 0
    file_ends: list[int] = field(default_factory=list)

    @property
    def n_docs(self) -> int:
        """Number of documents read so far."""
        return int(self.X.shape[0])

    @property
    def feature_names(self) -> tuple[str, ...]:
        """``fk`` for feature id k."""
        return tuple(f"f{self.first_id + j}" for j in range(self.X.shape[1]))

    @property
    def is_dense(self) -> bool:
        """Whether every line lists every feature, so that none is absent by being 0."""
        return self.n_values == self.X.size

    @property
    def source(self) -> str:
        """What to call the files in a message."""
        return self.sources[0] if len(self.sources) == 1 else f"{self.sources[0]} and {len(self.sources) - 1} more"

    def room(self, n_docs: int, low: int, high: int) -> NDArray[np.float32]:
        """Add rows of zeros, widening the block where ids need it.

        Args:
            n_docs: rows to add.
            low: smallest feature id of these rows.
            high: largest feature id of these rows.

        Returns:
            float32 [n_docs, n_columns], a view of the new rows.
        """
        first = min(self.first_id, low)
        width = max(self.first_id + self.X.shape[1], high + 1) - first
        n = self.n_docs
        if n and (first, width) != (self.first_id, self.X.shape[1]):
            wide = np.zeros((n, width), dtype=np.float32)
            wide[:, self.first_id - first : self.first_id - first + self.X.shape[1]] = self.X
            self.X = wide
        self.first_id = first
        # realloc moves pages, not bytes, for blocks of this size; the new rows come zeroed.
        self.X.resize((n + n_docs, width), refcheck=False)
        return self.X[n:]

    def qid(self) -> NDArray[np.int64]:
        """int64 [n_docs]: the query of each document.

        Raises:
            SplitQueryError: the lines of a query do not stand together; the message names file and line.
        """
        qid = np.concatenate(self.qids)
        row = split_row(qid)
        if row is not None:
            file = int(np.searchsorted(self.file_ends, row, side="right"))
            path = self.sources[file]
            line = line_of_row(Path(path), row - ([0, *self.file_ends][file]))
            msg = f"{path}, line {line}: query {qid[row]} comes back {SPLIT_ADVICE}"
            raise SplitQueryError(msg)
        return qid

    def documents(self) -> NDArray[np.object_] | None:
        """Object [n_docs] of str: the document ids; None where no line had a comment."""
        return np.array(self.doc_ids, dtype=object) if any(self.doc_ids) else None

    def ranking_data(self, n_features: int | None = None) -> RankingData:
        """Return the validated data.

        Args:
            n_features: number of features; default: as many as occur.
        """
        qid = self.qid()
        offsets = offsets_from_qid(qid, source=self.source)
        if n_features is not None:
            self.widen(n_features)
        if self.X.shape[1] == 0:
            msg = f"{self.source}: no line lists a feature; expected lines of the form  {FORM}"
            raise ParseError(msg)
        return RankingData(
            X=self.X,
            y=np.concatenate(self.labels).astype(np.float32),
            offsets=offsets,
            feature_names=self.feature_names,
            query_ids=qid[offsets[:-1]],
            doc_ids=self.documents(),
            source=self.source,
        )

    def widen(self, n_features: int) -> None:
        """Append columns of zeros up to ``n_features``.

        Args:
            n_features: number of features wanted.

        Raises:
            SchemaError: there are more already.
        """
        if self.X.shape[1] > n_features:
            msg = (
                f"{self.source}: got feature ids up to {self.first_id + self.X.shape[1] - 1}, so {self.X.shape[1]}"
                f" features; expected at most {n_features}"
            )
            raise SchemaError(msg)
        if self.X.shape[1] < n_features:
            self.room(0, self.first_id, self.first_id + n_features - 1)


def _chunks(path: Path) -> Iterator[bytes]:
    """Yield the text in pieces of whole lines."""
    with open_text(path) as file:
        try:
            chunk = file.read(CHUNK_BYTES).removeprefix(BOM)
            while chunk:
                yield chunk if chunk.endswith(b"\n") else chunk + file.readline()
                chunk = file.read(CHUNK_BYTES)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            msg = f"{path}: the gzip data are truncated or damaged ({error}); expected a whole file: copy it again"
            raise ParseError(msg) from error


def _parse_chunk(rows: LetorRows, chunk: bytes, path: str, first_line: int) -> None:
    """Append one chunk of whole lines; what no parser reads is explained line by line."""
    text = chunk
    if b"#" in chunk:
        text, doc_ids = _split_comments(chunk)
    else:
        doc_ids = None
    before = rows.n_docs
    if not _parse_dense(rows, text):
        start = 0
        while start < len(text):
            end = text.find(b"\n", min(start + SPARSE_CHUNK_BYTES, len(text)))
            end = len(text) if end < 0 else end + 1
            if not _parse_sparse(rows, text[start:end]):
                explain(text[start:end], path, first_line + text.count(b"\n", 0, start))
            start = end
    n = rows.n_docs - before
    rows.doc_ids.extend(doc_ids if doc_ids is not None else [""] * n)
    _check_values(rows, before, chunk, path, first_line)


def _split_comments(chunk: bytes) -> tuple[bytes, list[str]]:
    """Return the text without comments (lines kept), and the document id of each line that is a document."""
    lines, doc_ids = [], []
    for line in chunk.split(b"\n"):
        content, _, comment = line.partition(b"#")
        content = content.rstrip()
        lines.append(content)
        if content:
            found = _DOCID.search(comment)
            doc_ids.append((found.group(1) if found else comment.strip()).decode("utf-8", errors="replace"))
    return b"\n".join(lines), doc_ids


def _parse_dense(rows: LetorRows, text: bytes) -> bool:
    """Append the rows if every line lists the same ids, all of them from 0 or 1 on; else leave them be.

    With colons replaced by spaces such a line is ``label qid Q 1 v 2 v ...``: a table whose columns have one type
    each, which is what pyarrow's CSV reader is fastest at.
    """
    pa, csv = need("pyarrow", extra="io"), need("pyarrow.csv", extra="io")
    pc = need("pyarrow.compute", extra="io")
    head = text[: text.find(b"\n") + 1 or len(text)].rstrip(b"\r\n")
    n_colons = head.count(b":")
    n_fields = head.count(b" ") + n_colons + 1
    n = n_colons - 1
    if n < 1 or n_fields not in (3 + 2 * n, 4 + 2 * n):
        return False
    values = [f"f{4 + 2 * j}" for j in range(n)]
    ids = [f"f{3 + 2 * j}" for j in range(n)]
    types = {"f0": pa.float64(), "f1": pa.string(), "f2": pa.int64()}
    types |= dict.fromkeys(ids, pa.int32()) | dict.fromkeys(values, pa.float64())
    try:
        table = csv.read_csv(
            pa.py_buffer(text.translate(_COLON_TO_SPACE)),
            read_options=csv.ReadOptions(autogenerate_column_names=True),
            parse_options=csv.ParseOptions(delimiter=" ", quote_char=False),
            convert_options=csv.ConvertOptions(column_types=types, null_values=[], include_columns=list(types)),
        )
    except pa.ArrowException:
        return False
    first = pc.min(table["f3"]).as_py()
    if (
        first not in (0, 1)
        or text.count(b":") != table.num_rows * n_colons
        or not pc.all(pc.equal(table["f1"], "qid")).as_py()
        or not all(_constant(table[name], first + j) for j, name in enumerate(ids))
    ):
        return False
    view = rows.room(table.num_rows, first, first + n - 1)
    offset = first - rows.first_id
    with np.errstate(over="ignore"):  # an infinity is refused later, with its line
        for j, name in enumerate(values):
            view[:, offset + j] = table[name].to_numpy()
    rows.n_values += table.num_rows * n
    rows.labels.append(table["f0"].to_numpy())
    rows.qids.append(table["f2"].to_numpy())
    return True


def _constant(column: Any, value: int) -> bool:  # noqa: ANN401 - pyarrow has no annotations
    limits = need("pyarrow.compute", extra="io").min_max(column).as_py()
    return bool(limits == {"min": value, "max": value})


def _parse_sparse(rows: LetorRows, text: bytes) -> bool:
    """Append the rows of text of any shape; False if a line is wrong."""
    datasets, sparse = need("sklearn.datasets", extra="io"), need("scipy.sparse", extra="io")
    if not text.strip():
        return True
    try:
        X, y, qid = datasets.load_svmlight_file(BytesIO(text), dtype=np.float32, zero_based=True, query_id=True)
    except (ValueError, OverflowError, IndexError):
        return False
    if len(qid) != len(y) or (X.nnz and X.indices.max() > MAX_FEATURE_ID):
        return False
    low = int(X.indices.min()) if X.nnz else rows.first_id
    high = int(X.indices.max()) if X.nnz else rows.first_id - 1
    view = rows.room(len(y), min(low, 1), high)
    if X.nnz:
        sparse.csr_matrix((X.data, X.indices - rows.first_id, X.indptr), shape=view.shape).toarray(out=view)
    rows.n_values += int(X.nnz)
    rows.labels.append(y)
    rows.qids.append(qid)
    return True


def _check_values(rows: LetorRows, start: int, chunk: bytes, path: str, first_line: int) -> None:
    """Raise for the first label or value of the new rows that cannot be used."""
    n = rows.n_docs - start
    labels = np.concatenate(_tail(rows.labels, n)) if n else np.zeros(0)
    bad = np.flatnonzero(~((labels >= 0) & (labels <= MAX_LABEL)))
    if len(bad):
        line = first_line + line_in(chunk, int(bad[0]))
        msg = f"{path}, line {line}: got label {labels[bad[0]]:g}; expected a grade from 0 to {MAX_LABEL}"
        raise LabelError(msg)
    block = rows.X[start:]
    if np.isfinite(block).all():
        return
    infinite = np.argwhere(np.isinf(block))
    if len(infinite):
        row, column = (int(one) for one in infinite[0])
        line = first_line + line_in(chunk, row)
        msg = (
            f"{path}, line {line}: feature {rows.first_id + column} is {block[row, column]}; expected a finite value of"
            " a float32: clip it, or write nan if it is missing"
        )
        raise InfiniteValueError(msg)


def _tail(parts: list[NDArray[np.float64]], n: int) -> list[NDArray[np.float64]]:
    """The last chunks, which hold ``n`` entries together."""
    count = 0
    for k in range(len(parts) - 1, -1, -1):
        count += len(parts[k])
        if count == n:
            return parts[k:]
    raise AssertionError(n, count)
