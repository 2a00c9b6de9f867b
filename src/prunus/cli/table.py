"""Tables on stdout: drawn by Rich on a terminal, plain text elsewhere."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from prunus.cli.talk import put

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BATCHES = ("20", "128", "1000")
"""Documents in a call at which a model is timed."""


def put_table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1, strong: Sequence[int] = ()
) -> None:
    """Write a table.

    Args:
        heads: of the columns.
        rows: cells.
        left: number of first columns that are aligned to the left; the others hold numbers.
        strong: rows to set off on a terminal.
    """
    if sys.stdout.isatty():
        _put_rich(heads, rows, left, strong)
        return
    widths = [max(len(row[column]) for row in (heads, *rows)) for column in range(len(heads))]
    for row in (heads, ["-" * width for width in widths], *rows):
        cells = [
            cell.ljust(w) if column < left else cell.rjust(w)
            for column, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        put("  ".join(cells).rstrip())


def _put_rich(heads: Sequence[str], rows: Sequence[Sequence[str]], left: int, strong: Sequence[int]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column, head in enumerate(heads):
        table.add_column(Text(head), justify="left" if column < left else "right", overflow="fold")
    for number, row in enumerate(rows):
        table.add_row(*map(Text, row), style="bold" if number in strong else None)
    Console().print(table)


def number(value: object, form: str = ",", missing: str = "-") -> str:
    """Write a number, or ``-`` where there is none."""
    return format(value, form) if isinstance(value, (int, float)) and value == value else missing  # noqa: PLR0124 - NaN


def us(value: object) -> str:
    """Write microseconds with three significant digits: ``0.0412``, ``12.3``, ``105``."""
    if not isinstance(value, (int, float)) or value != value or value <= 0:  # noqa: PLR0124 - NaN
        return "-"
    decimals = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3 if value >= 0.1 else 4
    return f"{value:.{decimals}f}"


def comparison(result: Mapping[str, Any]) -> None:
    """Write the table of a finished run: the teacher, the smallest forest that ranks as well, the students.

    Args:
        result: the dict of result.json.
    """
    metric = str(result.get("metric", "ndcg@10"))
    rows = list(shown_rows(result))
    put_table(
        ["", "model", "engine", metric.replace("ndcg", "nDCG"), "difference, 95 % interval"]
        + [f"us/doc @{batch}" for batch in BATCHES]
        + ["bytes", "nonzeros", "features"],
        [_cells(row, metric) for row in rows],
        left=3,
        strong=[index for index, row in enumerate(rows) if row.get("chosen")],
    )


def shown_rows(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Choose the rows that a terminal shows; the report has all of them."""
    rows = list(result.get("rows", ()))
    shown = []
    for row in (*(row for row in rows if row["role"] == "teacher"), smallest_forest(result)):
        if row is not None:
            shown += [row, *(r for r in rows if r["role"] == "exact" and r["trees"] == row["trees"])]
    students = [row for row in rows if row["role"] not in {"teacher", "forest", "exact"}]
    students.sort(key=lambda row: not row.get("chosen"))
    return [*shown, *students]


def smallest_forest(result: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Find the smallest forest that is itself non-inferior to the teacher; None where only the teacher is."""
    able = [row for row in result.get("rows", ()) if row["role"] == "forest" and row.get("outcome") == "non_inferior"]
    return min(able, key=lambda row: row["trees"], default=None)


def _cells(row: Mapping[str, Any], metric: str) -> list[str]:
    role = {"teacher": "teacher: ", "forest": "forest: ", "exact": ""}.get(row["role"], "student: ")
    if row["role"] == "teacher" or row.get("difference") is None:
        difference = "-"
    else:
        difference = (
            f"{row['difference']:+.4f} [{number(row.get('lower'), '+.4f')}, {number(row.get('upper'), '+.4f')}]"
        )
    times = row.get("us_per_doc") or {}
    return [
        "*" if row.get("chosen") else "",
        role + str(row["name"]),
        str(row.get("engine") or "-"),
        number(row.get(metric), ".4f"),
        difference,
        *(us(times.get(batch)) for batch in BATCHES),
        *(number(row.get(key)) for key in ("bytes", "nonzeros", "features_used")),
    ]


def speed_sentence(result: Mapping[str, Any]) -> str:
    """Say how many times as fast the student is, against the teacher and the smallest forest that ranks as well.

    Each in the fastest engine that it was timed in, which is named: ours runs the exact trees too.
    """
    student = (result.get("student") or {}).get("us_per_doc") or {}
    teacher = result.get("teacher") or {}
    rivals = [(f"the teacher in {teacher.get('engine')}", teacher.get("us_per_doc") or {})]
    forest = smallest_forest(result)
    if forest is not None:
        same = [forest] + [r for r in result["rows"] if r["role"] == "exact" and r["trees"] == forest["trees"]]
        times = {b: min((r["us_per_doc"][b] for r in same if r["us_per_doc"].get(b)), default=None) for b in BATCHES}
        engines = ", ".join(dict.fromkeys(str(r["engine"]) for r in same if r["us_per_doc"].get("128") == times["128"]))
        rivals.append((f"the smallest forest that ranks as well ({forest['trees']} trees) in {engines}", times))
    said = []
    for name, times in rivals:
        ratios = [f"{times[b] / student[b]:.3g} at {b}" for b in BATCHES if times.get(b) and student.get(b)]
        if ratios:
            said.append(f"as {name}: {', '.join(ratios)}")
    return f"Times as fast {'; '.join(said)} documents a call (one thread)." if said else ""
