"""The parts of a ranker's page that compare models, each empty where its part of the result is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prunus.report import charts, curves, form
from prunus.report.markup import Markup, element, joined
from prunus.report.svg import mark
from prunus.report.tables import Cell, table
from prunus.report.values import records

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from prunus.report.run import Model, Run

ROLE_NAMES = {
    "teacher": "teacher",
    "forest": "forest: the teacher's first trees",
    "exact": "the same trees, exact, in prunus",
    "sparse": "sparse student",
    "dense": "dense student",
    "int8": "dense int8 student",
    "block": "block-sparse int8 student",
    "other": "student",
}


def section(name: str, title: str, *content: object) -> Markup:
    """Return a section with its heading, or nothing where all content is empty."""
    if not any(content):
        return Markup()
    return element(
        "section", element("h2", title, id=f"{name}-title"), *content, id=name, aria_labelledby=f"{name}-title"
    )


def both(draw: Callable[[float], Markup]) -> Markup:
    """Return a chart drawn for wide and for narrow pages."""
    return joined([draw(charts.WIDE), draw(charts.NARROW)])


def tile(name: str, big: str, *lines: str) -> Markup:
    """Return a figure in large type under its name, with lines of words."""
    return element(
        "div",
        element("h2", name),
        element("p", big, class_="big"),
        *(element("p", line) for line in lines if line),
        class_="tile",
    )


def verdict(run: Run) -> Markup:
    """The paired test in words and as an interval against the margin line."""
    test = run.verdict
    picture = both(lambda width: charts.verdict(run, width))
    said = {
        "non_inferior": "Non-inferior: the whole interval lies above the loss allowed.",
        "inferior": "Inferior: the whole interval lies below the loss allowed.",
        "inconclusive": "Inconclusive: the interval reaches across the loss allowed.",
    }
    facts = []
    if test.difference is not None:
        facts.append(
            f"Mean difference in {run.metric}: {form.signed(test.difference)}; one-sided 95 % bounds {form.interval(test.lower, test.upper)}."
        )
    if test.margin is not None:
        share = "" if test.relative_margin is None else f", {form.percent(test.relative_margin)} of the teacher's mean"
        facts.append(f"Loss allowed: {form.quality(test.margin)}{share}.")
    if test.queries is not None:
        groups = (
            f" of {form.counted(test.clusters, 'user or group', 'users or groups')}"
            if test.clusters not in {None, test.queries} and test.clusters
            else ""
        )
        facts.append(
            f"Paired by query: {form.counted(test.queries, 'test query', 'test queries')}{groups}; students were chosen on validation data."
        )
    if test.queries_for_80_power is not None and test.outcome == "inconclusive":
        facts.append(
            f"Queries that show it of an equally good model with a probability of 80 %: {form.whole(test.queries_for_80_power)}."
        )
    words = element("p", element("strong", said[test.outcome]), class_="said") if test.outcome else ""
    return section(
        "verdict",
        "Does it rank as well?",
        words,
        element("figure", picture) if picture else "",
        element("p", " ".join(facts), class_="fine") if facts else "",
    )


def frontier(run: Run) -> Markup:
    """Quality against time at each batch size, chosen by tabs that need no script."""
    drawn = [(batch, both(lambda width, batch=batch: charts.frontier(run, batch, width))) for batch in run.batches]  # type: ignore[misc]
    drawn = [(batch, picture) for batch, picture in drawn if picture][:6]
    if not drawn:
        return Markup()
    tabs: list[Markup] = []
    if len(drawn) > 1:
        tabs = [element("span", "Batch (documents a call)", class_="tabs-name", id="tabs-name")]
        for index, (batch, _) in enumerate(drawn):
            open_ = batch == run.batch or (run.batch is None and index == 0)
            tabs.append(element("input", type="radio", name="batch", id=f"tab{index}", checked=open_))
            tabs.append(element("label", form.whole(batch), for_=f"tab{index}"))
    panels = [element("div", picture, class_=f"panel panel{index}") for index, (_, picture) in enumerate(drawn)]
    figure = element(
        "figure",
        element(
            "div", *tabs, element("div", *panels, class_="panels"), class_="tabs" if len(drawn) > 1 else "tabs one"
        ),
        element("figcaption", _legend(run), element("p", _frontier_note(run), class_="fine")),
    )
    return section("frontier", "Quality against time", figure)


def models(run: Run) -> Markup:
    """All rows: quality, difference, times with their 99th percentile, size."""
    if not run.models:
        return Markup()
    batches = run.batches
    headings = [
        ("Model", "role and engine"),
        (run.metric, "test mean"),
        ("Difference", "to teacher, 95 % interval"),
        *(("\N{MICRO SIGN}s/doc", f"batch {form.whole(batch)}") for batch in batches),
        *(
            [("Faster", f"than the teacher in its fastest engine, batch {form.whole(run.batch)}")]
            if run.batch and run.teacher
            else []
        ),
        ("File", "bytes on disk"),
        ("Nonzeros", "weights"),
        ("Features", "read"),
    ]
    rows = [_model_row(run, model, batches) for model in run.models]
    caption = (
        "All models of this run on the same test queries. Times in microseconds a document: one thread, median of interleaved runs"
        " with p99 below, raw features in, scores out; the batch is the number of documents a call. Differences: paired by query, two-sided 95 % interval. 1 KB is 1,000 bytes."
    )
    marked = [index for index, model in enumerate(run.models) if model.chosen]
    return section("models", "All models", table(caption, headings, rows, marked, "models"))


def training(run: Run) -> Markup:
    """Loss, validation quality and density over the epochs."""
    history = curves.read(records(run.result, "training", "history"), run.chosen.name if run.chosen else None)
    if not history.trainings:
        return Markup()
    drawn = [
        curves.curve(history, "loss", "training loss", log=True),
        curves.curve(history, f"valid_{run.metric_key}", f"validation {run.metric}"),
        curves.curve(history, "density", "density: share of weights not zero"),
    ]
    drawn = [picture for picture in drawn if picture]
    note = "" if not history.anew else "One line for each model trained; the strong one is the chosen model."
    if not drawn:
        return Markup()
    return section(
        "training",
        "Training",
        element("p", note, class_="fine") if note else "",
        element("div", *(element("figure", picture) for picture in drawn), class_="small-charts"),
    )


def _model_row(run: Run, model: Model, batches: Sequence[int]) -> list[Cell]:
    role = ROLE_NAMES[model.role].partition(":")[0] + (f", in {model.engine}" if model.engine else "")
    symbol = element("svg", mark(model.role, 8, 8), viewBox="0 0 16 16", class_="symbol", aria_hidden="true")
    name = joined(
        [symbol, " ", element("bdi", model.name), element("span", "chosen", class_="tag") if model.chosen else ""]
    )
    trees = "" if model.trees is None else form.counted(model.trees, "tree")
    size = "" if not trees or trees in model.name else f"{trees}; "
    is_teacher = model.role == "teacher"
    shown = "reference" if is_teacher else form.signed(model.difference)
    bounds = (
        "" if is_teacher or (model.lower is None and model.upper is None) else form.interval(model.lower, model.upper)
    )
    ratio = run.faster(model, run.bar)
    cells = [
        Cell(name, None, size + role),
        Cell(form.quality(model.quality), model.quality),
        Cell(shown, None if is_teacher else model.difference, bounds),
    ]
    for batch in batches:
        tail = model.p99.get(batch)
        cells.append(
            Cell(
                form.us(model.us.get(batch), ""),
                model.us.get(batch),
                "" if tail is None else f"p99 {form.us(tail, '')}",
            )
        )
    if run.batch and run.teacher:
        cells.append(Cell(form.MISSING if ratio is None else f"{ratio:,.1f}\N{MULTIPLICATION SIGN}", ratio))
    cells.append(Cell(form.size(model.nbytes), model.nbytes))
    cells.append(Cell(form.whole(model.nonzeros), model.nonzeros))
    return [*cells, Cell(form.whole(model.features_used), model.features_used)]


def _legend(run: Run) -> Markup:
    roles = [role for role in ROLE_NAMES if run.of_role(role)]
    items = [
        element(
            "li",
            element("svg", mark(role, 8, 8), viewBox="0 0 16 16", class_="symbol", aria_hidden="true"),
            " ",
            ROLE_NAMES[role],
        )
        for role in roles
    ]
    if run.chosen is not None:
        ring = element("circle", cx=8.0, cy=8.0, r=6.5, class_="ring")
        items.append(
            element(
                "li",
                element("svg", ring, viewBox="0 0 16 16", class_="symbol", aria_hidden="true"),
                " chosen by this run",
            )
        )
    return element("ul", *items, class_="legend")


def _frontier_note(run: Run) -> str:
    engines = run.tree_engines
    words = "Whiskers: two-sided 95 % interval of the difference to the teacher, paired by query."
    if run.verdict.margin is not None:
        words += " Shaded: within the loss allowed."
    if len(engines) == 1:
        words += f" Trees run in {engines[0]}, the fastest tree engine measured here."
    elif engines:
        words += (
            f" Each forest runs in the engine that was the fastest for it: {', '.join(engines[:-1])} or {engines[-1]}."
        )
    return words + " Every point stands in the table below."
