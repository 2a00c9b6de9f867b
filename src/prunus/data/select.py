"""Which columns are what, and the small expression language of ``--where`` and ``--label``."""

from __future__ import annotations

import ast
import difflib
import fnmatch
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from prunus.errors import ColumnError, ExpressionError
from prunus.extras import need

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DOC_ID_NAMES = ("docid", "doc_id")
"""Columns that are taken as document ids when none is named."""

_COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Eq: "equal",
    ast.NotEq: "not_equal",
    ast.Lt: "less",
    ast.LtE: "less_equal",
    ast.Gt: "greater",
    ast.GtE: "greater_equal",
}
_ARITHMETIC = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod)


@dataclass(frozen=True)
class Columns:
    """What each column of a source is.

    Attributes:
        label: a column, or an expression over columns (``"label>0"``, ``"clicks + 2*orders"``); true counts as 1.
        qid: the column of query ids; the rows of one query stand together.
        features: names and globs (``"f*"``) of the features, in order; None takes every numeric column that has no
            other role.
        ignore: names and globs of columns that are no features.
        where: an expression (``"part<=3"``, ``"part==4 and qid%2==0"``); the rows for which it is true are kept.
        user: a column that is constant inside a query; queries of one user form a cluster in the paired test.
        teacher_scores: a column of scores of a teacher, one for each document.
        doc_id: the column of document ids; None takes ``docid`` or ``doc_id`` where there is one.
    """

    label: str = "label"
    qid: str = "qid"
    features: tuple[str, ...] | None = None
    ignore: tuple[str, ...] = ()
    where: str | None = None
    user: str | None = None
    teacher_scores: str | None = None
    doc_id: str | None = None


def suggestion(name: str, names: Sequence[str]) -> str:
    """Say which columns there are, the nearest to ``name`` first.

    Args:
        name: what was asked for.
        names: what there is.

    Returns:
        A clause for the end of a message.
    """
    near = difflib.get_close_matches(name, names, n=3)
    if near:
        return "did you mean " + " or ".join(repr(one) for one in near) + "?"
    shown = ", ".join(names[:12]) + (f", ... ({len(names)} columns)" if len(names) > 12 else "")
    return f"the columns are: {shown}"


def require(name: str, names: Sequence[str], role: str, option: str, source: str) -> str:
    """Return ``name`` if it is a column.

    Args:
        name: the column asked for.
        names: the columns that are there.
        role: what it is to be, for the message.
        option: the option that names it, for the message.
        source: what to call the data in the message.

    Raises:
        ColumnError: there is no such column.
    """
    if name in names:
        return name
    msg = f"{source}: no column {name!r} for the {role}; {suggestion(name, names)} (choose it with {option})"
    raise ColumnError(msg)


def match(patterns: Sequence[str], names: Sequence[str], option: str, source: str) -> list[str]:
    """Resolve names and globs to columns.

    Args:
        patterns: exact names or globs (``*``, ``?``, ``[...]``); an exact name wins over a glob.
        names: the columns that are there.
        option: the option they came from, for the message.
        source: what to call the data in the message.

    Returns:
        Columns in the order of the patterns, those of one glob in the order of ``names``, each once.

    Raises:
        ColumnError: a pattern matches nothing.
    """
    present = set(names)
    found: dict[str, None] = {}
    for pattern in patterns:
        hits = [pattern] if pattern in present else [name for name in names if fnmatch.fnmatchcase(name, pattern)]
        if not hits:
            msg = f"{source}: {option} {pattern!r} matches no column; {suggestion(pattern, names)}"
            raise ColumnError(msg)
        found.update(dict.fromkeys(hits))
    return list(found)


class Expression:
    """An expression over columns, parsed once and evaluated on Arrow columns (never with ``eval``).

    The syntax is Python's: column names (in backticks where they are no identifiers), numbers, strings, ``True``,
    ``False``, ``None``; ``== != < <= > >=`` (chains too), ``in`` and ``not in`` a list, ``is None``; ``and or not``;
    ``+ - * / // %``; parentheses. A comparison with a missing value is neither true nor false, as in SQL.

    Attributes:
        text: as it was typed.
        names: the columns that it reads, in the order of their first use.
    """

    def __init__(self, text: str, option: str = "--where") -> None:
        """Parse ``text``.

        Args:
            text: the expression.
            option: the option it came from, for messages.

        Raises:
            ExpressionError: it is not of the syntax above; the message names the part that is wrong.
        """
        self.text = text
        self._option = option
        self._aliases: dict[str, str] = {}
        self._code = re.sub(r"`([^`]+)`", self._alias, text.strip())
        self._tree = self._parse()
        found: dict[str, None] = {}
        self._check(self._tree, found)
        self.names: tuple[str, ...] = tuple(found)

    def evaluate(self, columns: Mapping[str, Any]) -> Any:  # noqa: ANN401 - pyarrow has no annotations
        """Evaluate on columns.

        Args:
            columns: pyarrow arrays of one length, at least those in ``names``.

        Returns:
            A pyarrow array of that length.

        Raises:
            ExpressionError: a column is absent, or the types of a part do not fit its operator.
        """
        pa = need("pyarrow", extra="io")
        for name in self.names:
            if name not in columns:
                self._fail(f"there is no column {name!r}; {suggestion(name, list(columns))}")
        result = self._value(self._tree, columns)
        if isinstance(result, pa.Scalar):
            self._fail("reads no column; expected one such as part<=3")
        return result

    def check_columns(self, names: Sequence[str], source: str) -> None:
        """Raise if a column is absent.

        Args:
            names: the columns that are there.
            source: what to call the data in the message.

        Raises:
            ExpressionError: the expression reads a column that is not there.
        """
        for name in self.names:
            if name not in names:
                self._fail(f"{source} has no column {name!r}; {suggestion(name, names)}")

    def mask(self, columns: Mapping[str, Any]) -> Any:  # noqa: ANN401 - pyarrow has no annotations
        """Evaluate as a condition.

        Args:
            columns: pyarrow arrays of one length.

        Returns:
            A boolean pyarrow array without missing values; what is neither true nor false is false.

        Raises:
            ExpressionError: as :meth:`evaluate`, or the result is not true or false.
        """
        pa, pc = need("pyarrow", extra="io"), need("pyarrow.compute", extra="io")
        result = self.evaluate(columns)
        if not pa.types.is_boolean(result.type):
            self._fail(f"gives {result.type}; expected true or false, such as {self.text.strip()}>0")
        return pc.fill_null(result, False)  # noqa: FBT003 - the value to fill in

    def _parse(self) -> ast.expr:
        try:
            return ast.parse(self._code, mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            offset = getattr(error, "offset", None) or len(self._code) + 1
            at = self._code[offset - 1 :].strip()
            near = f" near {self._plain(at)!r}" if at else " (it ends too early)"
            hint = "; for equality write ==" if re.search(r"(?<![<>=!])=(?!=)", self._code) else ""
            self._fail(f"cannot be read{near}{hint}")

    def _alias(self, found: re.Match[str]) -> str:
        alias = f"_column_{len(self._aliases)}_"
        self._aliases[alias] = found.group(1)
        return alias

    def _plain(self, code: str) -> str:
        for alias, name in self._aliases.items():
            code = code.replace(alias, f"`{name}`")
        return code

    def _segment(self, node: ast.AST) -> str:
        return self._plain(ast.get_source_segment(self._code, node) or ast.unparse(node))

    def _fail(self, what: str) -> NoReturn:
        msg = f"{self._option} {self.text!r}: {what}"
        raise ExpressionError(msg)

    def _check(self, node: ast.expr, found: dict[str, None]) -> None:
        """Walk the tree, note the columns, and refuse what is outside the language."""
        match node:
            case ast.Name(id=name):
                found[self._aliases.get(name, name)] = None
                return
            case ast.Constant(value=value) if value is None or isinstance(value, (bool, int, float, str)):
                return
            case ast.BoolOp() | ast.UnaryOp(op=ast.Not() | ast.USub() | ast.UAdd()):
                pass
            case ast.Compare(ops=ops, comparators=comparators):
                for op, right in zip(ops, comparators, strict=True):
                    self._check_operator(node, op, right)
            case ast.BinOp(op=op) if isinstance(op, _ARITHMETIC):
                pass
            case ast.BinOp(op=ast.BitAnd() | ast.BitOr()):
                self._fail(f"{self._segment(node)!r} uses & or |; expected 'and' or 'or'")
            case ast.List(elts=elements) | ast.Tuple(elts=elements) | ast.Set(elts=elements):
                if not elements or not all(isinstance(_literal(one), ast.Constant) for one in elements):
                    self._fail(f"{self._segment(node)!r} must list numbers or strings, at least one")
                return
            case _:
                self._fail(
                    f"{self._segment(node)!r} is not supported; expected columns, numbers, strings, comparisons,"
                    " in, and, or, not, + - * / // %"
                )
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self._check(child, found)

    def _check_operator(self, node: ast.Compare, op: ast.cmpop, right: ast.expr) -> None:
        is_list = isinstance(right, ast.List | ast.Tuple | ast.Set)
        if isinstance(op, ast.In | ast.NotIn) and (not is_list or len(node.ops) > 1):
            self._fail(f"{self._segment(node)!r}: expected a list after 'in', such as part in [1, 2]")
        if not isinstance(op, ast.In | ast.NotIn) and is_list:
            self._fail(f"{self._segment(node)!r} compares with a list; expected 'in' or 'not in'")
        if isinstance(op, ast.Is | ast.IsNot) and not (isinstance(right, ast.Constant) and right.value is None):
            self._fail(f"{self._segment(node)!r}: 'is' goes with None only; expected ==")

    def _value(self, node: ast.expr, columns: Mapping[str, Any]) -> Any:  # noqa: ANN401 - pyarrow has no annotations
        """Evaluate one node; whatever Arrow refuses becomes an error that names the node."""
        pa = need("pyarrow", extra="io")
        try:
            match node:
                case ast.Name(id=name):
                    column = columns[self._aliases.get(name, name)]
                    is_category = pa.types.is_dictionary(column.type)
                    return column.dictionary_decode() if is_category else column
                case ast.Constant(value=value):
                    return pa.scalar(value)
                case ast.BoolOp(op=op, values=values):
                    parts = [self._boolean(one, columns) for one in values]
                    return _fold("and_kleene" if isinstance(op, ast.And) else "or_kleene", parts)
                case ast.UnaryOp(op=ast.Not(), operand=operand):
                    return _call("invert", self._boolean(operand, columns))
                case ast.UnaryOp(op=op, operand=operand):
                    value = _number(self._value(operand, columns))
                    return _call("negate", value) if isinstance(op, ast.USub) else value
                case ast.Compare():
                    return self._comparison(node, columns)
                case ast.BinOp(left=left, op=op, right=right):
                    return _arithmetic(op, self._value(left, columns), self._value(right, columns))
        except pa.ArrowException as error:
            reason = str(error).splitlines()[0]
            self._fail(f"{self._segment(node)!r} cannot be evaluated: {reason}")
        raise AssertionError(ast.dump(node))

    def _boolean(self, node: ast.expr, columns: Mapping[str, Any]) -> Any:  # noqa: ANN401 - pyarrow has no annotations
        pa = need("pyarrow", extra="io")
        value = self._value(node, columns)
        if not pa.types.is_boolean(value.type):
            self._fail(
                f"{self._segment(node)!r} is {value.type}, not a condition; expected a comparison beside and, or, not"
            )
        return value

    def _comparison(self, node: ast.Compare, columns: Mapping[str, Any]) -> Any:  # noqa: ANN401 - pyarrow
        pa = need("pyarrow", extra="io")
        left, parts = self._value(node.left, columns), []
        for op, right in zip(node.ops, node.comparators, strict=True):
            if isinstance(op, ast.Is | ast.IsNot):
                part = _call("is_null", left)
                parts.append(part if isinstance(op, ast.Is) else _call("invert", part))
            elif isinstance(op, ast.In | ast.NotIn):
                values = pa.array(list(ast.literal_eval(right)))
                part = _fold("or_kleene", [_call("equal", left, value) for value in values])
                parts.append(part if isinstance(op, ast.In) else _call("invert", part))
                continue
            else:
                value = self._value(right, columns)
                parts.append(_call(_COMPARISONS[type(op)], left, value))
                left = value
        return _fold("and_kleene", parts)


def _literal(node: ast.expr) -> ast.expr:
    """Look through the sign of a negative number."""
    return node.operand if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) else node


def _call(name: str, *arguments: Any) -> Any:  # noqa: ANN401 - pyarrow has no annotations
    return need("pyarrow.compute", extra="io").call_function(name, list(arguments))


def _fold(name: str, parts: Sequence[Any]) -> Any:  # noqa: ANN401 - pyarrow has no annotations
    result = parts[0]
    for part in parts[1:]:
        result = _call(name, result, part)
    return result


def _number(value: Any) -> Any:  # noqa: ANN401 - pyarrow has no annotations
    """Widen integers and booleans to int64, decimals to float64, so that arithmetic does not wrap round."""
    pa = need("pyarrow", extra="io")
    if pa.types.is_boolean(value.type) or (pa.types.is_integer(value.type) and not pa.types.is_uint64(value.type)):
        return value.cast(pa.int64())
    return value.cast(pa.float64()) if pa.types.is_decimal(value.type) else value


def _arithmetic(op: ast.operator, left: Any, right: Any) -> Any:  # noqa: ANN401 - pyarrow has no annotations
    pa = need("pyarrow", extra="io")
    left, right = _number(left), _number(right)
    names: dict[type[ast.operator], str] = {
        ast.Add: "add_checked",
        ast.Sub: "subtract_checked",
        ast.Mult: "multiply_checked",
    }
    if type(op) in names:
        return _call(names[type(op)], left, right)
    quotient = _call("divide", left.cast(pa.float64()), right.cast(pa.float64()))
    if isinstance(op, ast.Div):
        return quotient
    floor = _call("floor", quotient)
    return floor if isinstance(op, ast.FloorDiv) else _call("subtract", left, _call("multiply", floor, right))
