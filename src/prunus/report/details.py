"""The parts of a ranker's page that look inside: layers, features, queries; each empty where the result lacks it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prunus.report import charts, form
from prunus.report.markup import Markup, element, joined
from prunus.report.sections import section
from prunus.report.tables import LONGEST, Cell, folded, table
from prunus.report.values import count, number, records, text, texts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prunus.report.run import Run


def layers(run: Run) -> Markup:
    """Sparsity of each layer."""
    found = records(run.result, "layers")
    if not found:
        return Markup()
    rows, total, kept = [], 0, 0
    for index, layer in enumerate(found):
        inputs, outputs, nonzeros = count(layer, "inputs"), count(layer, "outputs"), count(layer, "nonzeros")
        density = number(layer, "density")
        if density is None and nonzeros is not None and inputs and outputs:
            density = nonzeros / (inputs * outputs)
        if inputs and outputs and nonzeros is not None:
            total, kept = total + inputs * outputs, kept + nonzeros
        shape = Cell(
            f"{form.whole(inputs)}\N{NO-BREAK SPACE}\N{MULTIPLICATION SIGN}\N{NO-BREAK SPACE}{form.whole(outputs)}"
        )
        sparsity = None if density is None else 1 - density
        rows.append([
            Cell(text(layer, "name") or f"layer {index + 1}"), shape, Cell(form.whole(nonzeros), nonzeros),
            Cell(form.percent(density), density), Cell(form.percent(sparsity), sparsity), Cell(charts.bar(density, "sparse")), Cell(text(layer, "kernel") or form.MISSING),
        ])  # fmt: skip
    headings = [
        ("Layer", ""),
        ("Shape", "inputs \N{MULTIPLICATION SIGN} outputs"),
        ("Nonzeros", "weights"),
        ("Density", "kept"),
        ("Sparsity", "pruned"),
        ("Kept", "of all weights"),
        ("Kernel", ""),
    ]
    caption = "Weights that are left in each layer of the chosen model, after whole inputs and neurons were taken out."
    if total:
        caption += (
            f" In all {form.whole(kept)} of {form.whole(total)} ({form.percent(kept / total)}); biases not counted."
        )
    return section("layers", "Sparsity by layer", table(caption, headings, rows))


def features(run: Run) -> Markup:
    """Features that the model reads, with their share, and those it never reads."""
    kept, dropped = (
        records(run.result, "features", "kept"),
        texts(run.result, "features", "dropped"),
    )
    parts: list[object] = []
    if kept or dropped:
        total = form.counted(len(kept) + len(dropped), "feature")
        words = f"The model reads {form.whole(len(kept))} of {total}. The others need not be computed."
        parts.append(element("p", words if dropped else f"The model reads all of its {total}."))
    if kept:
        kept = sorted(kept, key=lambda item: -(number(item, "share") or 0.0))
        largest = max((number(item, "share") or 0.0 for item in kept), default=0.0) or 1.0
        rows = [_feature_row(item, largest) for item in kept]
        headings = [("Feature", ""), ("Share", "of first-layer weight"), ("Share", "against the largest")]
        caption = "Features read, by their share of the absolute weights of the first layer."
        parts.append(table(caption, headings, rows[:LONGEST]))
        if len(rows) > LONGEST:
            more = table("The other features read.", headings, rows[LONGEST:])
            parts.append(folded(f"{form.counted(len(rows) - LONGEST, 'more feature')} that the model reads", more))
    if dropped:
        names = element("ul", *(element("li", element("bdi", name)) for name in dropped), class_="names")
        head = element("h3", f"Never read ({form.whole(len(dropped))})")
        parts.append(
            joined([head, names])
            if len(dropped) <= 60
            else folded(f"Never read: {form.counted(len(dropped), 'feature')}", names)
        )
    return section("features", "Features", *parts)


def queries(run: Run) -> Markup:
    """Slices by query length, and the queries that lost the most."""
    slices, worst = records(run.result, "queries", "by_length"), records(run.result, "queries", "worst")
    parts: list[object] = []
    if slices:
        ends = [
            abs(value)
            for item in slices
            for key in ("difference", "lower", "upper")
            if (value := number(item, key)) is not None
        ]
        reach = max(ends, default=0.0) * 1.05
        rows = [_slice_row(run, item, reach) for item in slices]
        headings = [
            ("Documents", "in the query"),
            ("Queries", "counted"),
            ("Teacher", run.metric),
            ("Chosen", run.metric),
            ("Difference", "95 % interval"),
            ("Interval", f"\N{PLUS-MINUS SIGN}{form.quality(reach)}"),
        ]
        parts.append(table("By query length: is the quality the same for short and long lists?", headings, rows))
    if worst:
        headings = [
            ("Query", "id"),
            ("Documents", ""),
            ("Teacher", run.metric),
            ("Chosen", run.metric),
            ("Difference", "chosen minus teacher"),
        ]
        rows = [_query_row(item) for item in worst]
        parts.append(
            table(
                "The queries that lost the most. Single queries are noisy; look for what they have in common.",
                headings,
                rows[:LONGEST],
            )
        )
        if len(rows) > LONGEST:
            parts.append(
                folded(
                    f"{form.counted(len(rows) - LONGEST, 'more query', 'more queries')}",
                    table("The next ones.", headings, rows[LONGEST:]),
                )
            )
    return section("queries", "Where it differs", *parts)


def _feature_row(item: Mapping[str, Any], largest: float) -> list[Cell]:
    share = number(item, "share")
    return [
        Cell(element("bdi", text(item, "name") or "unnamed")),
        Cell(form.percent(share), share),
        Cell(charts.bar(None if share is None else share / largest, "share")),
    ]


def _slice_row(run: Run, item: Mapping[str, Any], reach: float) -> list[Cell]:  # noqa: ARG001 - rows are made alike
    teacher, student, queries_ = number(item, "teacher"), number(item, "student"), count(item, "queries")
    difference, lower, upper = number(item, "difference"), number(item, "lower"), number(item, "upper")
    return [
        Cell((text(item, "documents") or form.MISSING).replace("-", form.MISSING)),
        Cell(form.whole(queries_), queries_),
        Cell(form.quality(teacher), teacher),
        Cell(form.quality(student), student),
        Cell(
            form.signed(difference), difference, "" if lower is None and upper is None else form.interval(lower, upper)
        ),
        Cell(charts.slice_interval(difference, lower, upper, reach)),
    ]


def _query_row(item: Mapping[str, Any]) -> list[Cell]:
    documents, teacher, student, difference = (
        count(item, "documents"),
        number(item, "teacher"),
        number(item, "student"),
        number(item, "difference"),
    )
    return [
        Cell(element("bdi", text(item, "qid") or form.MISSING)),
        Cell(form.whole(documents), documents),
        Cell(form.quality(teacher), teacher),
        Cell(form.quality(student), student),
        Cell(form.signed(difference), difference),
    ]
