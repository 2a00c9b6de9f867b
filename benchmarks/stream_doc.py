"""The tables of docs/dense-to-sparse.md, written anew from benchmarks/results/stream-goals.json.

python benchmarks/stream_doc.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stream import FOR_ALL_DENSITIES, MAIN
from stream_data import DRIFTS, REAL
from stream_methods import OURS, REFERENCE

HERE = Path(__file__).parent
RESULTS, PAGE = HERE / "results" / "stream-goals.json", HERE.parent / "docs" / "dense-to-sparse.md"
NAMES = {"none": "no drift", "new-ids": "new ids"}
ORDER = (*REAL, *DRIFTS)
COMPARED = (
    "stream, fewer operations",
    "gap of the default",
    "best of the others",
    "default less that, % (95 %)",
    "best small dense net with our recipe",
    "default less that, % (95 %)",
)
ALL = (
    "stream, fewer operations",
    "method",
    "rate",
    "gap, % (95 %)",
    "seeds",
    "training CPU, dense = 1",
    "operations in training",
)


def signed(value: float) -> str:
    """A figure with its sign; zero has none that is worth telling."""
    shown = f"{value:+.2f}"
    return "0.00" if shown in ("+0.00", "-0.00") else shown


def within(value: float, interval: list[float]) -> str:
    """A figure and its interval."""
    return f"{signed(value)} ({signed(interval[0])} to {signed(interval[1])})"


def named(one: dict[str, Any]) -> str:
    """Stream and density."""
    stream = one["stream"]
    shown = stream if stream in REAL else f"generated, {NAMES.get(stream, stream)}"
    return f"{shown}, {100 * one['fewer_operations']:.0f} %"


def compared(tables: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Rows of the default against the best of two groups."""
    rows = []
    for one in sorted(tables, key=lambda one: (ORDER.index(one["stream"]), one["fewer_operations"])):
        ours = next(row for row in one["rows"] if row["method"] == OURS)
        cells = [named(one), within(ours["gap"], ours["interval"])]
        for other in (one["compared"], one["compared_with_recipe"]):
            cells += [f"{other['best']}, {len(other['seeds'])} seeds", within(other["difference"], other["interval"])]
        rows.append(tuple(cells))
    return rows


def every(tables: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Rows of all methods, the best of each stream first."""
    rows = []
    tables = sorted(tables, key=lambda one: (ORDER.index(one["stream"]), abs(1 - MAIN - one["fewer_operations"])))
    for one in tables:
        left_out = FOR_ALL_DENSITIES if round(1 - MAIN, 3) != one["fewer_operations"] else (REFERENCE,)
        for row in sorted(one["rows"], key=lambda row: row["gap"]):
            if row["method"] in left_out:
                continue
            method = f"**{OURS}**" if row["method"] == OURS else row["method"]
            gap, cpu, flops = within(row["gap"], row["interval"]), f"{row['cpu']:.2f}", f"{row['train_flops']:.2f}"
            rows.append((named(one), method, f"{row['rate']:g}", gap, str(row["seeds"]), cpu, flops))
    return rows


def lines(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    """A table of Markdown."""
    return ["| " + " | ".join(cells) + " |" for cells in (head, *rows)]


def put(page: str, head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Put rows in the place of those that stand under a head."""
    first, *rest = lines(head, rows)
    before, after = page.split(first + "\n")
    rule, *below = after.split("\n")
    kept = next(number for number, line in enumerate(below) if not line.startswith("|"))
    return before + "\n".join([first, rule, *rest, *below[kept:]])


def written(page: str, tables: list[dict[str, Any]]) -> str:
    """The page with both tables as they should be."""
    return put(put(page, COMPARED, compared(tables)), ALL, every(tables))


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(), json.loads(RESULTS.read_text())["tables"]))
