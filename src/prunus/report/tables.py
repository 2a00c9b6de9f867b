"""Tables: a caption, headings with their units, numbers that carry their exact value, so that a reader can sort them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prunus.report import form
from prunus.report.markup import Markup, element, joined
from prunus.report.values import number

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LONGEST = 15
"""Tables and lists longer than this fold the rest away."""


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Attributes:
        shown: what stands in it.
        exact: the value behind it; numbers are aligned right.
        note: a second, smaller line.
    """

    shown: object
    exact: float | None = None
    note: object = ""


def table(
    caption: object,
    headings: Sequence[tuple[str, str]],
    rows: Sequence[Sequence[Cell]],
    marked: Iterable[int] = (),
    class_: str = "",
) -> Markup:
    """Return a table that scrolls sideways where the page is too narrow.

    Args:
        caption: what the table holds, and its conventions.
        headings: (name, unit or convention) of each column; the first column names the row.
        rows: one cell for each heading.
        marked: rows to set off.
        class_: further class of the table.

    Returns:
        The table; the part beyond `LONGEST` rows is not folded: a caller that wants that uses `folded`.
    """
    numeric = [any(row[column].exact is not None for row in rows) for column in range(len(headings))]
    head = [
        element("th", name, element("small", unit) if unit else "", scope="col", class_="n" if is_number else None)
        for (name, unit), is_number in zip(headings, [False, *numeric[1:]], strict=True)
    ]
    marked = set(marked)
    body = [
        element(
            "tr",
            *(_cell(cell, first=not column, right=numeric[column]) for column, cell in enumerate(row)),
            class_="chosen" if index in marked else None,
        )
        for index, row in enumerate(rows)
    ]
    inner = element(
        "table",
        element("caption", caption),
        element("thead", element("tr", *head)),
        element("tbody", *body),
        class_=f"sortable {class_}".strip(),
    )
    return element("div", inner, class_="scroll", tabindex="0", role="group", aria_label="table")


def folded(summary: str, content: Markup) -> Markup:
    """Fold content away behind a line that opens it; it is printed open."""
    return element("details", element("summary", summary), content)


def pairs(caption: str, values: Mapping[str, Any]) -> Markup:
    """Return a table of names and values of any shape, nested names joined by dots; empty where nothing is there."""
    rows = [element("tr", element("th", name, scope="row"), element("td", shown)) for name, shown in _flat(values)]
    if not rows:
        return Markup()
    return element(
        "div", element("table", element("caption", caption), element("tbody", *rows), class_="pairs"), class_="scroll"
    )


def written(value: object) -> str:
    """Write a plain value of a recipe or a machine; what is not set is said in words."""
    if value is None or (isinstance(value, float) and number(value) is None):
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}".replace("e-0", "e-")
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {written(item)}" for key, item in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(written(item) for item in value) or "none"
    return str(value) or "empty"


def _flat(values: Mapping[str, Any], prefix: str = "", depth: int = 0) -> Iterable[tuple[str, str]]:
    for key, value in values.items():
        name = f"{prefix}{key}".replace("_", " ") if not prefix else f"{prefix}{key}"
        if isinstance(value, Mapping) and value and depth < 4:
            yield from _flat(value, f"{name}.", depth + 1)
        else:
            yield name, form.shortened(written(value), 600)


def _cell(cell: Cell, *, first: bool, right: bool) -> Markup:
    exact = None if cell.exact is None else repr(cell.exact)
    content = joined([cell.shown, element("small", cell.note) if cell.note else ""])
    if first:
        return element("th", content, scope="row", data_sort=exact)
    return element("td", content, class_="n" if right else None, data_sort=exact)
