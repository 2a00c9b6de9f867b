"""The page of a recommender: verdict, candidates, quality at equal bytes, the student's training, and lists to look at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prunus.report import charts, curves, form, page
from prunus.report.markup import Markup, element, joined
from prunus.report.sections import both, section
from prunus.report.svg import Scale, decimals_of, label, line, mark, padded, picture, plain, polyline
from prunus.report.tables import Cell, folded, pairs, table
from prunus.report.values import at, count, number, positive, records, text, texts

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_BADGES = {
    "non_inferior": ("good", "\N{CHECK MARK} Non-inferior"),
    "inferior": ("bad", "\N{MULTIPLICATION X} Inferior"),
    "inconclusive": ("open", "? Inconclusive"),
}
_SAID = {
    "non_inferior": "lists as well as its teacher",
    "inferior": "lists worse than its teacher",
    "inconclusive": "may or may not list as well as its teacher: more test users would tell",
}


def write(result: Mapping[str, Any], path: str | Path) -> Path:
    """Write the page of one run: one file that needs no network and no other file.

    Args:
        result: the dict of ``result.json``. A part that is missing leaves a gap in the page.
        path: the file to write; its folder must exist.

    Raises:
        OutputError: the page cannot be written; nothing half-written is left behind.
    """
    return page.save(path, render(result))


def render(result: Mapping[str, Any]) -> str:
    """Return the page of one run as HTML; the same result gives the same bytes.

    Args:
        result: as for :func:`write`.
    """
    sentence = _sentence(result)
    tone, name = _BADGES.get(text(result, "verdict", "outcome") or "", ("open", "Not tested"))
    brand = element("span", "prunus \N{MIDDLE DOT} recommender report", class_="brand")
    head = element(
        "header",
        element("p", brand, " ", element("span", name, class_=f"badge {tone}")),
        element("h1", sentence),
        _lede(result),
    )
    parts = (
        _models(result),
        _candidates(result),
        _bytes(result),
        _training(result),
        _examples(result),
        _method(result),
    )
    return page.document(f"{sentence} prunus report", joined([head, *parts]))


def _metric(result: Mapping[str, Any]) -> tuple[str, str]:
    """Return the key of the metric, and how it is written."""
    key = text(result, "metric") or "ndcg@20"
    return key, key.replace("ndcg", "nDCG")


def _sentence(result: Mapping[str, Any]) -> str:
    size = positive(result, "student", "bytes_per_item")
    said = _SAID.get(text(result, "verdict", "outcome") or "", "was not tested against its teacher")
    return f"A recommender of {'few' if size is None else f'{size:.4g}'} bytes an item {said}."


def _lede(result: Mapping[str, Any]) -> Markup:
    key, name = _metric(result)
    test = at(result, "verdict")
    own, theirs = (form.quality(number(result, who, key)) for who in ("student", "teacher"))
    bounds = form.interval(number(test, "lower"), number(test, "upper"))
    words = (
        f"{name} {own}, the teacher's {theirs}; difference {form.signed(number(test, 'difference'))}, one-sided 95 %"
        f" bounds {bounds}, loss allowed {form.quality(number(test, 'margin'))}; paired by user,"
        f" {form.whole(count(test, 'queries'))} users, split {text(result, 'split') or 'unknown'}."
    )
    cold = count(result, "data", "cold_users")
    if cold:
        words += f" {form.counted(cold, 'user')} had an empty history and got the most popular items."
    return element("p", words, class_="lede")


def _models(result: Mapping[str, Any]) -> Markup:
    key, name = _metric(result)
    keys = [key.replace("ndcg", other) for other in ("recall", "hr", "mrr")]
    rows = records(result, "rows")
    headings = [
        ("Model", ""),
        (name, "test mean"),
        ("Difference", "to teacher, 95 % interval"),
        *((other.capitalize() if "recall" in other else other.upper(), "test mean") for other in keys),
        ("Bytes/item", "without names"),
        ("File", "bytes on disk"),
    ]
    cells = []
    for row in rows:
        role = text(row, "role") or ""
        bounds = form.interval(number(row, "lower"), number(row, "upper"))
        per_item = number(row, "bytes_per_item")
        cells.append(
            [
                Cell(element("bdi", text(row, "name") or role), None, role),
                Cell(form.quality(number(row, key)), number(row, key)),
                Cell("reference", None)
                if role == "teacher"
                else Cell(form.signed(number(row, "difference")), number(row, "difference"), bounds),
                *(Cell(form.quality(number(row, other)), number(row, other)) for other in keys),
                Cell(form.MISSING if per_item is None else f"{per_item:.1f}", per_item),
                Cell(form.size(number(row, "file_bytes")), number(row, "file_bytes")),
            ]
        )
    marked = [index for index, row in enumerate(rows) if row.get("chosen")]
    names = number(result, "student", "id_map_bytes")
    caption = (
        f"All items ranked but those of the history. Differences: paired by user, two-sided 95 % interval. Of the file,"
        f" {form.size(names or 0)} are the items' names."
    )
    return section("models", "Models", table(caption, headings, cells, marked, "models")) if cells else Markup()


def _candidates(result: Mapping[str, Any]) -> Markup:
    """Kinds of students that were tried on a tenth of the training part, the best first: that one was made."""
    key, name = _metric(result)
    found = records(result, "candidates")
    if not found:
        return Markup()
    cells = [
        [
            Cell(text(one, "name") or ""),
            Cell(form.whole(count(one, "epochs")), count(one, "epochs")),
            Cell(form.quality(number(one, key)), number(one, key)),
            Cell(form.MISSING if (size := number(one, "bytes_per_item")) is None else f"{size:.1f}", size),
            Cell(form.MISSING if (spent := number(one, "seconds")) is None else f"{spent:.1f}", spent),
        ]
        for one in found
    ]
    headings = [
        ("Candidate", ""),
        ("Epochs", "0: nothing is trained"),
        (name, "on the tenth"),
        ("Bytes/item", "as tried"),
        ("Seconds", "wall time"),
    ]
    caption = (
        "Tried on nine tenths of the training part and judged by the other tenth. The marked one, the best, was then made"
        " from all of it, and trained in full. Where dense rows are not behind, the two best are trained anew for longer before that"
        " is told, and the others stand last. The test part chose nothing."
    )
    made = [index for index, one in enumerate(found) if at(one, "plan") == at(result, "student", "plan")]
    return section("candidates", "Candidates", table(caption, headings, cells, made, "candidates"))


def _bytes(result: Mapping[str, Any]) -> Markup:
    """Quality against bytes an item: the student, the teacher's own weights cut, the teacher whole."""
    key, name = _metric(result)
    points = sorted(
        (size, value)
        for record in records(result, "curve")
        if (size := positive(record, "bytes_per_item")) and (value := number(record, key)) is not None
    )
    own = positive(result, "student", "bytes_per_item"), number(result, "student", key)
    whole = number(result, "teacher", key)
    if not points or own[0] is None or own[1] is None:
        return Markup()
    student = (own[0], own[1])
    note = "Line: the teacher's weights, the largest of each item kept, at 6 bits. Above it is what training is worth."
    chart = both(lambda width: _bytes_chart(points, student, whole, name, width))
    return section(
        "bytes", "Quality at equal bytes", element("figure", chart, element("figcaption", note, class_="fine"))
    )


def _bytes_chart(
    points: list[tuple[float, float]], student: tuple[float, float], whole: float | None, name: str, width: float
) -> Markup:
    height, left, right, top, bottom = 320.0, 60.0, width - 16.0, 26.0, 276.0
    sizes = [size for size, _ in (*points, student)]
    values = [value for _, value in (*points, student)] + ([] if whole is None else [whole])
    x = Scale(min(sizes) / 1.3, max(sizes) * 1.3, left, right, log=True)
    y = Scale(*padded(values, 0.1), bottom, top)
    ticks = y.ticks(5)
    parts: list[object] = []
    for tick in ticks:
        parts += [
            line(left, y(tick), right, y(tick), "grid"),
            label(left - 6, y(tick) + 4, f"{tick:.{decimals_of(ticks)}f}", "tick", "end"),
        ]
    for tick in x.ticks(5):
        parts.append(label(x(tick), bottom + 17, plain(tick), "tick", "middle"))
    parts += [line(left, bottom, right, bottom, "axis"), label(left, 12, name, "note strong")]
    parts.append(label((left + right) / 2, height - 6, "bytes an item, logarithmic", "note", "middle"))
    if whole is not None:
        parts += [
            line(left, y(whole), right, y(whole), "zero"),
            label(left + 4, y(whole) - 5, "teacher, whole", "tick"),
        ]
    parts.append(polyline([(x(size), y(value)) for size, value in points], "curve"))
    parts += [mark("forest", x(size), y(value), 4.0) for size, value in points]
    parts += [
        mark("sparse", x(student[0]), y(student[1])),
        label(x(student[0]) + 9, y(student[1]) + 4, "student", "tick"),
    ]
    described = f"The student has {student[1]:.4f} at {student[0]:.1f} bytes an item; cut weights have " + ", ".join(
        f"{value:.4f} at {size:.1f}" for size, value in points
    )
    return picture(
        width,
        height,
        parts,
        f"{name} against bytes an item",
        f"{described}.",
        "wide" if width == charts.WIDE else "narrow",
    )


def _training(result: Mapping[str, Any]) -> Markup:
    history = curves.read(records(result, "training", "history"), None)
    if not history.trainings:
        return Markup()
    drawn = [
        curves.curve(history, "loss", "training loss", log=True),
        curves.curve(history, "density", "density: share of the factors kept", log=True),
    ]
    shown = [element("figure", one) for one in drawn if one]
    return section("training", "The student's training", element("div", *shown, class_="small-charts") if shown else "")


def _examples(result: Mapping[str, Any]) -> Markup:
    """A table for each user: what was known, and both lists, with what was to be found marked."""
    drawn = []
    for one in records(result, "examples"):
        lists = {name: records(one, "lists", name) for name in ("teacher", "student")}
        rows = [
            [
                Cell(str(place + 1)),
                *(_listed(found[place]) if place < len(found) else Cell("") for found in lists.values()),
            ]
            for place in range(max((len(found) for found in lists.values()), default=0))
        ]
        known = ", ".join(texts(one, "history")) or "nothing: the most popular items are listed"
        caption = joined(
            [f"User {text(one, 'user')}, who had {count(one, 'items') or 0} items: ", element("bdi", known)]
        )
        drawn.append(table(caption, [("Place", ""), ("Teacher", ""), ("Student", "")], rows))
    note = element("p", "Test users drawn at random. Marked items are among those to be found.", class_="fine")
    return section("examples", "Lists", note, *drawn) if drawn else Markup()


def _listed(item: Mapping[str, Any]) -> Cell:
    name = element("bdi", text(item, "item") or "")
    return Cell(joined([name, element("span", "found", class_="tag")]) if item.get("hit") else name)


def _method(result: Mapping[str, Any]) -> Markup:
    tables = [
        folded(title, shown)
        for title, name in (
            ("Recipe", "recipe"),
            ("Data", "data"),
            ("Machine", "machine"),
            ("Seconds by stage", "seconds"),
        )
        if (shown := pairs(title, at(result, name) or {}))
    ]
    return section("method", "Method", element("p", text(result, "convention") or "", class_="fine"), *tables)
