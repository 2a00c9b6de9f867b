"""The parts of a ranker's page below its head, each from one part of the result, each empty where that is missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from prunus.report import charts, form
from prunus.report.markup import Markup, element, joined
from prunus.report.svg import mark
from prunus.report.tables import LONGEST, Cell, folded, pairs, table
from prunus.report.values import at, count, listed, number, records, text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from prunus.report.run import Model, Run

ROLE_NAMES = {
    "teacher": "teacher",
    "forest": "forest: the teacher's first trees",
    "sparse": "sparse student",
    "dense": "dense student",
    "other": "student",
}


def section(name: str, title: str, *content: object) -> Markup:
    """Return a section with its heading, or nothing where all content is empty."""
    if not any(content):
        return Markup()
    return element("section", element("h2", title, id=f"{name}-title"), *content, id=name, aria_labelledby=f"{name}-title")


def both(draw: Callable[[float], Markup]) -> Markup:
    """Return a chart drawn for wide and for narrow pages."""
    return joined([draw(charts.WIDE), draw(charts.NARROW)])


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
        facts.append(f"Mean difference in {run.metric}: {form.signed(test.difference)}; one-sided 95 % bounds {form.interval(test.lower, test.upper)}.")
    if test.margin is not None:
        share = "" if test.relative_margin is None else f", {form.percent(test.relative_margin)} of the teacher's mean"
        facts.append(f"Loss allowed: {form.quality(test.margin)}{share}.")
    if test.queries is not None:
        groups = f" of {form.counted(test.clusters, 'user or group', 'users or groups')}" if test.clusters not in {None, test.queries} and test.clusters else ""
        facts.append(f"Paired by query: {form.counted(test.queries, 'test query', 'test queries')}{groups}, opened once, for this model.")
    if test.queries_for_80_power is not None:
        facts.append(f"Queries that show it of an equally good model with a probability of 80 %: {form.whole(test.queries_for_80_power)}.")
    words = element("p", element("strong", said[test.outcome]), class_="said") if test.outcome else ""
    return section("verdict", "Does it rank as well?", words, picture and element("figure", picture), facts and element("p", " ".join(facts), class_="fine"))


def frontier(run: Run) -> Markup:
    """Quality against time at each batch size, chosen by tabs that need no script."""
    drawn = [(batch, both(lambda width, batch=batch: charts.frontier(run, batch, width))) for batch in run.batches]  # type: ignore[misc]
    drawn = [(batch, picture) for batch, picture in drawn if picture][:6]
    if not drawn:
        return Markup()
    tabs: list[Markup] = []
    if len(drawn) > 1:
        tabs = [element("span", "Documents a call", class_="tabs-name", id="tabs-name")]
        for index, (batch, _) in enumerate(drawn):
            open_ = batch == run.batch or (run.batch is None and index == 0)
            tabs.append(element("input", type="radio", name="batch", id=f"tab{index}", checked=open_))
            tabs.append(element("label", form.whole(batch), for_=f"tab{index}"))
    panels = [element("div", picture, class_=f"panel panel{index}") for index, (_, picture) in enumerate(drawn)]
    figure = element(
        "figure",
        element("div", *tabs, element("div", *panels, class_="panels"), class_="tabs" if len(drawn) > 1 else "tabs one"),
        element("figcaption", _legend(run), element("p", _frontier_note(run), class_="fine")),
    )
    return section("frontier", "Quality against time", figure)


def models(run: Run) -> Markup:
    """All rows: quality, difference, times with their 99th percentile, size."""
    if not run.models:
        return Markup()
    batches = run.batches
    headings = [
        ("Model", "role, engine"),
        (run.metric, "test mean"),
        ("Difference", "to the teacher, 95 % interval"),
        *((f"\N{MICRO SIGN}s/doc at {form.whole(batch)}", "median, then p99") for batch in batches),
        *([("Faster", f"than the teacher, at {form.whole(run.batch)}")] if run.batch and run.teacher else []),
        ("File", "bytes on disk"),
        ("Nonzeros", "weights"),
        ("Features", "read"),
    ]
    rows = [_model_row(run, model, batches) for model in run.models]
    caption = (
        f"All models of this run on the same test queries. Times: one thread, median of interleaved runs, raw features in, scores out,"
        f" by documents a call. Differences: paired by query, two-sided 95 % interval. 1 KB is 1,000 bytes."
    )
    marked = [index for index, model in enumerate(run.models) if model.chosen]
    return section("models", "All models", table(caption, headings, rows, marked))


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
        shape = Cell(f"{form.whole(inputs)} \N{MULTIPLICATION SIGN} {form.whole(outputs)}")
        sparsity = None if density is None else 1 - density
        rows.append([
            Cell(text(layer, "name") or f"layer {index + 1}"), shape, Cell(form.whole(nonzeros), nonzeros),
            Cell(form.percent(density), density), Cell(form.percent(sparsity), sparsity), Cell(charts.bar(density, "sparse")), Cell(text(layer, "kernel") or form.MISSING),
        ])  # fmt: skip
    headings = [("Layer", ""), ("Shape", "inputs \N{MULTIPLICATION SIGN} outputs"), ("Nonzeros", "weights"), ("Density", "kept"), ("Sparsity", "pruned"), ("Kept", "of all weights"), ("Kernel", "")]
    caption = "Weights that are left in each layer of the chosen model, after whole inputs and neurons were taken out."
    if total:
        caption += f" In all {form.whole(kept)} of {form.whole(total)} ({form.percent(kept / total)}); biases not counted."
    return section("layers", "Sparsity by layer", table(caption, headings, rows))


def features(run: Run) -> Markup:
    """Features that the model reads, with their share, and those it never reads."""
    kept, dropped = records(run.result, "features", "kept"), [str(name) for name in listed(run.result, "features", "dropped")]
    parts: list[object] = []
    if kept or dropped:
        parts.append(element("p", f"The model reads {form.whole(len(kept))} of {form.counted(len(kept) + len(dropped), 'feature')}. The others need not be computed."))
    if kept:
        kept = sorted(kept, key=lambda item: -(number(item, "share") or 0.0))
        largest = max((number(item, "share") or 0.0 for item in kept), default=0.0) or 1.0
        rows = [_feature_row(item, largest) for item in kept]
        headings = [("Feature", ""), ("Share", "of all kept"), ("Share", "longest bar is the largest")]
        caption = "Features read, by their share of the model's input weight."
        parts.append(table(caption, headings, rows[:LONGEST]))
        if len(rows) > LONGEST:
            more = table("The other features read.", headings, rows[LONGEST:])
            parts.append(folded(f"{form.counted(len(rows) - LONGEST, 'more feature')} that the model reads", more))
    if dropped:
        names = element("ul", *(element("li", element("bdi", name)) for name in dropped), class_="names")
        head = element("h3", f"Never read ({form.whole(len(dropped))})")
        parts.append(joined([head, names]) if len(dropped) <= 60 else folded(f"Never read: {form.counted(len(dropped), 'feature')}", names))
    return section("features", "Features", *parts)


def queries(run: Run) -> Markup:
    """Slices by query length, and the queries that lost the most."""
    slices, worst = records(run.result, "queries", "by_length"), records(run.result, "queries", "worst")
    parts: list[object] = []
    if slices:
        ends = [abs(value) for item in slices for key in ("difference", "lower", "upper") if (value := number(item, key)) is not None]
        reach = max(ends, default=0.0) * 1.05
        rows = [_slice_row(run, item, reach) for item in slices]
        headings = [("Documents", "in the query"), ("Queries", "counted"), ("Teacher", run.metric), ("Chosen", run.metric), ("Difference", "95 % interval"), ("Interval", f"\N{PLUS-MINUS SIGN}{form.quality(reach)}")]
        parts.append(table("By query length: is the quality the same for short and long lists?", headings, rows))
    if worst:
        headings = [("Query", "id"), ("Documents", ""), ("Teacher", run.metric), ("Chosen", run.metric), ("Difference", "chosen minus teacher")]
        rows = [_query_row(item) for item in worst]
        parts.append(table("The queries that lost the most. Single queries are noisy; look for what they have in common.", headings, rows[:LONGEST]))
        if len(rows) > LONGEST:
            parts.append(folded(f"{form.counted(len(rows) - LONGEST, 'more query', 'more queries')}", table("The next ones.", headings, rows[LONGEST:])))
    return section("queries", "Where it differs", *parts)


def training(run: Run) -> Markup:
    """Loss, validation quality and density over all epochs."""
    history = records(run.result, "training", "history")
    if not history:
        return Markup()
    stages = [text(item, "stage") or "training" for item in history]
    quality = f"valid_{run.metric_key}"
    drawn = [
        charts.curve("Training loss", "loss", stages, [number(item, "loss") for item in history], log=True),
        charts.curve(f"Validation {run.metric}", f"validation {run.metric}", stages, [number(item, quality) for item in history]),
        charts.curve("Density", "share of weights that are not zero", stages, [number(item, "density") for item in history]),
    ]
    drawn = [picture for picture in drawn if picture]
    return section("training", "Training", drawn and element("div", *(element("figure", picture) for picture in drawn), class_="small-charts"))


def method(run: Run) -> Markup:
    """Conventions, data, machine, seeds, recipe and time spent: what a reader needs to repeat or to doubt the run."""
    parts: list[object] = [element("h3", "Conventions"), element("dl", *_conventions(run), class_="conventions")]
    tables = [_data(run), _seconds(run), pairs("Machine", _mapping(run, "machine"))]
    seeds = listed(run.result, "seeds") or ([at(run.result, "seeds")] if number(run.result, "seeds") is not None else [])
    recipe = {**({"seeds": seeds} if seeds else {}), **(_mapping(run, "seeds")), **_mapping(run, "recipe")}
    tables.append(pairs("Recipe and seeds", recipe))
    tables.append(pairs("Files", _mapping(run, "files")))
    parts.append(element("div", *(item for item in tables if item), class_="columns"))
    return section("method", "How it was measured", *parts)


def _mapping(run: Run, key: str) -> Mapping[str, Any]:
    found = at(run.result, key)
    return found if isinstance(found, Mapping) else {}


def _model_row(run: Run, model: Model, batches: Sequence[int]) -> list[Cell]:
    role = ROLE_NAMES[model.role] + (f", in {model.engine}" if model.engine else "")
    symbol = element("svg", mark(model.role, 8, 8), viewBox="0 0 16 16", class_="symbol", aria_hidden="true")
    name = joined([symbol, " ", element("bdi", model.name), element("span", "chosen", class_="tag") if model.chosen else ""])
    size = f"{form.counted(model.trees, 'tree')}; " if model.trees is not None else ""
    is_teacher = model.role == "teacher"
    shown = "reference" if is_teacher else form.signed(model.difference)
    bounds = "" if is_teacher or (model.lower is None and model.upper is None) else form.interval(model.lower, model.upper)
    ratio = run.faster(model, run.teacher)
    cells = [
        Cell(name, None, size + role),
        Cell(form.quality(model.quality), model.quality),
        Cell(shown, None if is_teacher else model.difference, bounds),
    ]
    for batch in batches:
        tail = model.p99.get(batch)
        cells.append(Cell(form.us(model.us.get(batch), ""), model.us.get(batch), "" if tail is None else f"p99 {form.us(tail, '')}"))
    if run.batch and run.teacher:
        cells.append(Cell(form.MISSING if ratio is None else f"{ratio:,.1f}\N{MULTIPLICATION SIGN}", ratio))
    cells.append(Cell(form.size(model.nbytes), model.nbytes))
    cells.append(Cell(form.whole(model.nonzeros), model.nonzeros))
    return [*cells, Cell(form.whole(model.features_used), model.features_used)]


def _feature_row(item: Mapping[str, Any], largest: float) -> list[Cell]:
    share = number(item, "share")
    return [Cell(element("bdi", text(item, "name") or "unnamed")), Cell(form.percent(share), share), Cell(charts.bar(None if share is None else share / largest, "share"))]


def _slice_row(run: Run, item: Mapping[str, Any], reach: float) -> list[Cell]:  # noqa: ARG001 - rows are made alike
    teacher, student, queries_ = number(item, "teacher"), number(item, "student"), count(item, "queries")
    difference, lower, upper = number(item, "difference"), number(item, "lower"), number(item, "upper")
    return [
        Cell((text(item, "documents") or form.MISSING).replace("-", form.MISSING)),
        Cell(form.whole(queries_), queries_),
        Cell(form.quality(teacher), teacher),
        Cell(form.quality(student), student),
        Cell(form.signed(difference), difference, "" if lower is None and upper is None else form.interval(lower, upper)),
        Cell(charts.slice_interval(difference, lower, upper, reach)),
    ]


def _query_row(item: Mapping[str, Any]) -> list[Cell]:
    documents, teacher, student, difference = count(item, "documents"), number(item, "teacher"), number(item, "student"), number(item, "difference")
    return [
        Cell(element("bdi", text(item, "qid") or form.MISSING)),
        Cell(form.whole(documents), documents),
        Cell(form.quality(teacher), teacher),
        Cell(form.quality(student), student),
        Cell(form.signed(difference), difference),
    ]


def _legend(run: Run) -> Markup:
    roles = [role for role in ROLE_NAMES if run.of_role(role)]
    items = [
        element("li", element("svg", mark(role, 8, 8), viewBox="0 0 16 16", class_="symbol", aria_hidden="true"), " ", ROLE_NAMES[role])
        for role in roles
    ]
    if run.chosen is not None:
        ring = element("circle", cx=8.0, cy=8.0, r=6.5, class_="ring")
        items.append(element("li", element("svg", ring, viewBox="0 0 16 16", class_="symbol", aria_hidden="true"), " chosen by this run"))
    return element("ul", *items, class_="legend")


def _frontier_note(run: Run) -> str:
    engines = sorted({model.engine for model in run.models if model.role in {"teacher", "forest"} and model.engine})
    words = "Whiskers: two-sided 95 % interval of the difference to the teacher, paired by query."
    if run.verdict.margin is not None:
        words += " Shaded: within the loss allowed."
    if engines:
        words += f" Trees run in {' or '.join(engines)}, the fastest tree engine measured for each."
    return words + " Every point stands in the table below."


def _conventions(run: Run) -> list[Markup]:
    empty = count(run.result, "data", "test_empty_queries")
    left_out = "" if empty is None else f" ({form.whole(empty)} in the test data)"
    known = []
    if run.metric_key.startswith("ndcg"):
        known.append((run.metric, f"gain 2^label \N{MINUS SIGN} 1, discount log2(1 + rank), ties broken by input order, queries without a relevant document left out and counted{left_out}."))
    elif run.verdict.metric:
        known.append((run.metric, f"queries without a relevant document are left out and counted{left_out}."))
    if run.verdict.metric:
        known.append(("In full", f"{run.verdict.metric}."))
    known += [
        ("Ranks as well", "paired by query (clustered by user where the data name one), the one-sided 95 % lower bound of the mean difference lies above the loss allowed."),
        ("Microseconds a document", "one thread, raw features in, scores out, median of interleaved runs; p99 is the 99th percentile of the same runs."),
        ("Faster", "time of the other divided by the time of this model, at the same number of documents a call."),
        ("Bytes", "of the file on disk; 1 KB is 1,000 bytes."),
        ("Density, sparsity", "share of weights that are not zero, and 1 minus it."),
    ]
    return [joined([element("dt", name), element("dd", words)]) for name, words in known]


def _data(run: Run) -> Markup:
    rows = []
    for part in ("train", "valid", "test"):
        n_queries, documents = count(run.result, "data", part, "queries"), count(run.result, "data", part, "documents")
        if n_queries is not None or documents is not None:
            rows.append([Cell(part), Cell(form.whole(n_queries), n_queries), Cell(form.whole(documents), documents)])
    return table("Data", [("Part", ""), ("Queries", ""), ("Documents", "")], rows) if rows else Markup()


def _seconds(run: Run) -> Markup:
    spent = [(str(name), seconds) for name, value in _mapping(run, "seconds").items() if (seconds := number(value)) is not None]
    if not spent:
        return Markup()
    rows = [[Cell(name.replace("_", " ")), Cell(form.duration(seconds), seconds)] for name, seconds in spent]
    total = "" if any(name == "total" for name, _ in spent) else f" ({form.duration(sum(seconds for _, seconds in spent))} in all)"
    return table(f"Time spent{total}", [("Stage", ""), ("Wall clock", "")], rows)
