"""Tables with named columns: Parquet, CSV, and frames of pandas, Polars or Arrow.

A table is read in batches of rows, and each batch goes straight into its place in the result, so beside the result
itself only one batch is held (a CSV file and a frame are whole in memory anyway).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from prunus.data.frames import BATCH_ROWS, Table, open_table
from prunus.data.ranking import RankingData, offsets_from_qid
from prunus.data.select import DOC_ID_NAMES, Columns, Expression, match, require, suggestion
from prunus.errors import (
    ColumnError,
    DataError,
    EmptyDataError,
    InfiniteValueError,
    LabelError,
    SchemaError,
)
from prunus.extras import need

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True)
class Plan:
    """The role of each column; the same for all the files of one reading.

    Attributes:
        features: columns of X, in order; None where a feature is absent and not needed (NaN then).
        label: gives the labels; None where none are wanted.
        where: the rows to keep; None for all.
        qid: column of query ids; None where there is none and none is needed.
        user: column of users, or None.
        teacher_scores: column of scores, or None.
        doc_id: column of document ids, or None.
    """

    features: tuple[str | None, ...]
    label: Expression | str | None
    where: Expression | None
    qid: str | None
    user: str | None = None
    teacher_scores: str | None = None
    doc_id: str | None = None

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the columns of X, where none is absent."""
        return tuple(str(name) for name in self.features)

    @property
    def names(self) -> list[str]:
        """The columns to read, each once."""
        wanted = [name for name in self.features if name is not None]
        for one in (self.label, self.where):
            wanted += one.names if isinstance(one, Expression) else [one] if one else []
        wanted += [one for one in (self.qid, self.user, self.teacher_scores, self.doc_id) if one is not None]
        return list(dict.fromkeys(wanted))


def make_plan(table: Table, columns: Columns, feature_names: Sequence[str] | None = None) -> Plan:
    """Decide the role of each column.

    Args:
        table: the (first) table.
        columns: what was asked for.
        feature_names: the features of a model, all of which must be there; ``columns.features`` and
            ``columns.ignore`` then have no say.

    Raises:
        ColumnError: a column that was named is absent or of a type that cannot be used, or it is not clear which
            columns are features.
        ExpressionError: an expression cannot be read, or reads a column that is absent.
        SchemaError: a feature of the model is absent.
    """
    names, source = table.names, table.name
    label: Expression | str = columns.label
    if columns.label not in names:
        label = Expression(columns.label, "--label")
        if label.names == (columns.label,):
            require(columns.label, names, "label", "--label", source)
        label.check_columns(names, source)
    where = None if columns.where is None else Expression(columns.where)
    if where is not None:
        where.check_columns(names, source)
    qid = require(columns.qid, names, "query ids", "--qid", source)
    optional = {"user": columns.user, "teacher_scores": columns.teacher_scores, "doc_id": columns.doc_id}
    roles = {
        role: None
        if name is None
        else require(name, names, role.replace("_", " "), f"--{role.replace('_', '-')}", source)
        for role, name in optional.items()
    }
    if roles["doc_id"] is None:
        roles["doc_id"] = next((name for name in DOC_ID_NAMES if name in names), None)
    plan = Plan(features=(), label=label, where=where, qid=qid, **roles)
    if feature_names is None:
        features = _choose_features(table, columns, plan)
    else:
        features = list(feature_names)
        require_features(features, range(len(features)), names, source)
    check_numeric(table, features)
    return Plan(features=tuple(features), label=label, where=where, qid=qid, **roles)


def require_features(feature_names: Sequence[str], needed: Collection[int], names: Sequence[str], source: str) -> None:
    """Raise if a feature that a model needs is no column.

    Args:
        feature_names: the features of the model.
        needed: indices of those that it needs.
        names: the columns that are there.
        source: what to call the data in the message.

    Raises:
        SchemaError: one is absent.
    """
    absent = [feature_names[feature] for feature in sorted(needed) if feature_names[feature] not in names]
    if absent:
        shown = ", ".join(map(repr, absent[:5])) + (" ..." if len(absent) > 5 else "")
        msg = (
            f"{source}: lacks {len(absent)} of the {len(needed)} features that the model needs ({shown});"
            f" {suggestion(absent[0], names)}"
        )
        raise SchemaError(msg)


def _choose_features(table: Table, columns: Columns, plan: Plan) -> list[str]:
    """Name the features: those asked for, or every numeric column without another role."""
    names, source = table.names, table.name
    taken = set(plan.names)
    answers = set(plan.label.names if isinstance(plan.label, Expression) else [plan.label])
    answers.add(plan.teacher_scores)
    ignored = set(match(columns.ignore, names, "--ignore", source))
    if columns.features is not None:
        leaks = [name for name in columns.features if name in answers]
        if leaks:
            msg = f"{source}: --features names {leaks[0]!r}, which is the label or the teacher's score; drop it"
            raise ColumnError(msg)
        # A glob leaves out the columns that have a role; a name says that the column is meant.
        free = [name for name in names if name not in taken or name in columns.features]
        chosen = [name for name in match(columns.features, free, "--features", source) if name not in ignored]
    else:
        taken |= {"label", "qid", *DOC_ID_NAMES} | ignored
        chosen = [name for name in names if name not in taken]
    if not chosen:
        msg = f"{source}: no feature is left of the columns {', '.join(names[:12])}; expected at least one"
        raise ColumnError(msg)
    return chosen


def check_numeric(table: Table, features: Sequence[str]) -> None:
    """Raise if a feature is no number.

    Args:
        table: the table.
        features: columns of it.

    Raises:
        ColumnError: a column is a string, a category, a time or nested; the message gives the ``--ignore`` to add.
    """
    types = need("pyarrow", extra="io").types
    kinds = (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal, types.is_null)
    wrong = {
        name: table.schema.field(name).type
        for name in features
        if not any(is_kind(table.schema.field(name).type) for is_kind in kinds)
    }
    if wrong:
        shown = ", ".join(f"{name!r} ({kind})" for name, kind in list(wrong.items())[:8])
        msg = (
            f"{table.name}: {len(wrong)} columns are not numeric: {shown}; expected numbers: encode them, or leave them"
            f" out with --ignore '{','.join(wrong)}'"
        )
        raise ColumnError(msg)


@dataclass
class Rows:
    """Rows as they were read; what a plan has no column for is None.

    Attributes:
        X: float32 [n_docs, n_features].
        parts: for each role (label, qid, user, teacher_scores, doc_id), its column.
        source: what to call them in a message.
    """

    X: NDArray[np.float32]
    parts: dict[str, NDArray[Any] | None]
    source: str


def read_rows(tables: Sequence[Table], plan: Plan) -> Rows:
    """Read tables, one after the other, into one block.

    Args:
        tables: the tables.
        plan: the role of each column.

    Raises:
        ColumnError: a later table lacks a column that the first one has, or has it with another type.
        EmptyDataError: no row is left.
    """
    X = np.empty((sum(table.n_rows for table in tables), len(plan.features)), dtype=np.float32)
    parts: dict[str, list[NDArray[Any]]] = {}
    n = 0
    for table in tables:
        for name in plan.names:
            require(name, table.names, "same role as in the first file", "the same columns in every file", table.name)
        check_numeric(table, [name for name in plan.features if name is not None])
        for batch in table.batches(plan.names):
            n += _take_batch(batch, plan, X, n, parts)
    source = tables[0].name if len(tables) == 1 else f"{tables[0].name} and {len(tables) - 1} more"
    if n == 0:
        kept = f" for which {plan.where.text!r} is true" if plan.where is not None else ""
        msg = f"{source}: no rows{kept}; expected at least one document"
        raise EmptyDataError(msg)
    X.resize((n, len(plan.features)), refcheck=False)  # gives the pages of rows left out back
    joined = {role: np.concatenate(chunks) for role, chunks in parts.items()}
    return Rows(X, {role: joined.get(role) for role in ("label", "qid", "user", "teacher_scores", "doc_id")}, source)


def _take_batch(
    batch: dict[str, Any], plan: Plan, X: NDArray[np.float32], n: int, parts: dict[str, list[NDArray[Any]]]
) -> int:
    """Put the rows of one batch that are kept at row ``n``; return how many."""
    pc = need("pyarrow.compute", extra="io")
    n_rows = len(next(iter(batch.values())))
    if plan.where is not None:
        mask = plan.where.mask(batch)
        n_rows = pc.sum(mask).as_py() or 0
        batch = {name: column.filter(mask) for name, column in batch.items()}
    if n_rows == 0:
        return 0
    for j, name in enumerate(plan.features):
        X[n : n + n_rows, j] = np.nan if name is None else to_float(batch[name], np.float32)
    if plan.label is not None:
        label = plan.label.evaluate(batch) if isinstance(plan.label, Expression) else batch[plan.label]
        parts.setdefault("label", []).append(to_float(label, np.float64, plan.label))
    if plan.teacher_scores is not None:
        scores = to_float(batch[plan.teacher_scores], np.float64, plan.teacher_scores)
        parts.setdefault("teacher_scores", []).append(scores)
    for role, name in (("qid", plan.qid), ("user", plan.user), ("doc_id", plan.doc_id)):
        if name is not None:
            parts.setdefault(role, []).append(identifiers(batch[name], name, needed=role != "doc_id"))
    return int(n_rows)


def to_float(column: Any, dtype: type[np.floating[Any]], name: object = "") -> NDArray[Any]:  # noqa: ANN401 - pyarrow
    """Turn a pyarrow array of numbers or booleans into NumPy; missing becomes NaN.

    Args:
        column: the array.
        dtype: float32 or float64.
        name: what to call it in a message.

    Raises:
        ColumnError: it holds no numbers.
    """
    pa = need("pyarrow", extra="io")
    kind = pa.float32() if dtype is np.float32 else pa.float64()
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        try:
            return np.asarray(column.cast(kind, safe=False).to_numpy(zero_copy_only=False))
        except pa.ArrowException:
            pass
    text = getattr(name, "text", name)
    msg = f"column {text!r} is {column.type}; expected numbers: encode it first"
    raise ColumnError(msg)


def identifiers(column: Any, name: str, *, needed: bool) -> NDArray[Any]:  # noqa: ANN401 - pyarrow
    """Turn a pyarrow array of ids into NumPy (integers stay integers).

    Args:
        column: the array.
        name: what to call it in a message.
        needed: whether a missing id is an error.

    Raises:
        ColumnError: an id is missing, or the column is nested.
    """
    types = need("pyarrow", extra="io").types
    if types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if needed and column.null_count:
        msg = f"column {name!r} has {column.null_count} missing values; expected an id in every row"
        raise ColumnError(msg)
    if types.is_nested(column.type):
        msg = f"column {name!r} is {column.type}; expected integers or strings"
        raise ColumnError(msg)
    return np.asarray(column.to_numpy(zero_copy_only=False))


def read_table(
    sources: Sequence[Any], columns: Columns | None = None, *, feature_names: Sequence[str] | None = None
) -> RankingData:
    """Read tables of the same columns, one after the other.

    Args:
        sources: paths of Parquet or CSV files, or frames.
        columns: the role of each column; default: ``label``, ``qid``, and every other numeric column a feature.
        feature_names: the features of a model, matched by name; other columns are left out.

    Raises:
        DataError: or one of its subclasses, see :func:`make_plan` and :func:`read_rows`.
        LabelError: a label is missing, negative or above 31.
        InfiniteValueError: a feature is infinite.
        SplitQueryError: the rows of a query do not stand together.
    """
    tables = [open_table(source) for source in sources]
    plan = make_plan(tables[0], columns or Columns(), feature_names)
    rows = read_rows(tables, plan)
    return assemble(rows, plan.feature_names)


def assemble(rows: Rows, feature_names: tuple[str, ...]) -> RankingData:
    """Check the rows as a whole, and group them by query.

    Args:
        rows: as read.
        feature_names: one for each column of X.

    Raises:
        LabelError: a label is missing, negative or above 31.
        DataError: a teacher's score is missing, or a query has several users.
        InfiniteValueError: a feature is infinite.
        SplitQueryError: the rows of a query do not stand together.
    """
    qid, label, users, scores = (rows.parts[role] for role in ("qid", "label", "user", "teacher_scores"))
    if qid is None or label is None:
        msg = f"{rows.source}: no query ids or no labels; expected both"
        raise ColumnError(msg)
    if np.isnan(label).any():
        row = int(np.flatnonzero(np.isnan(label))[0])
        msg = f"{rows.source}: the label of row {row} is missing; expected one in every row: leave such rows out (--where)"
        raise LabelError(msg)
    if scores is not None and not np.isfinite(scores).all():
        row = int(np.flatnonzero(~np.isfinite(scores))[0])
        msg = f"{rows.source}: the teacher's score of row {row} is {scores[row]}; expected a finite score in every row"
        raise DataError(msg)
    check_finite(rows.X, feature_names, rows.source)
    offsets = offsets_from_qid(qid, source=rows.source)
    heads = offsets[:-1]
    if users is not None:
        changes = users != np.repeat(users[heads], np.diff(offsets))
        if changes.any():
            row = int(np.flatnonzero(changes)[0])
            msg = f"{rows.source}: query {qid[row]!r} has several users (row {row}); expected one user a query"
            raise DataError(msg)
    return RankingData(
        X=rows.X,
        y=label.astype(np.float32),
        offsets=offsets,
        feature_names=feature_names,
        query_ids=qid[heads],
        doc_ids=rows.parts["doc_id"],
        users=None if users is None else users[heads],
        teacher_scores=scores,
        source=rows.source,
    )


def check_finite(X: NDArray[np.float32], feature_names: Sequence[str], source: str) -> None:
    """Raise for the first infinity.

    Args:
        X: float32 [n_docs, n_features]; NaN is allowed.
        feature_names: one for each column.
        source: what to call the data in the message.

    Raises:
        InfiniteValueError: a value is infinite.
    """
    for start in range(0, len(X), BATCH_ROWS):
        infinite = np.isinf(X[start : start + BATCH_ROWS])
        if infinite.any():
            row, column = (int(one) for one in np.argwhere(infinite)[0])
            msg = (
                f"{source}: feature {feature_names[column]!r} is {X[start + row, column]} at row {start + row}; expected"
                " a finite value of a float32: clip it, or leave it empty if it is missing"
            )
            raise InfiniteValueError(msg)
