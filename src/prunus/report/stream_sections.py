"""The parts of a stream's page, each empty where the logs have nothing to show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from prunus.report import charts, form
from prunus.report.curves import HEIGHT, WIDTH
from prunus.report.markup import Markup, element, joined
from prunus.report.sections import both, section
from prunus.report.stream_log import ALONE
from prunus.report.tables import LONGEST, Cell, folded, pairs, table
from prunus.report.timeline import LAYERS, Happened, Series, chart, legend
from prunus.report.values import at, count, listed, number, records, text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from prunus.report.stream_log import Log

MOST_ROWS = 200
"""Rows of a folded table; older ones stand in the logs only."""

MODELS = {"dense": "dense master", "sparse": "sparse, as it learns", "served": "the model that serves"}
EARLY = "warm-up: no total counts it"
_ROLES = {"dense": "dense", "sparse": "sparse", "served": "forest"}

_WHY = {
    "first": "first",
    "every": "time came: new values",
    "gap": "gap grew: new pattern",
    "new_pattern_after": "old pattern: new one",
}


def quality(log: Log) -> Markup:
    """Gap by window, then entropy, AUC and calibration of all models."""
    gaps = [log.series(MODELS[one], _ROLES[one], "gap_percent", one) for one in ("sparse", "served")]
    marks = _alarms(log)
    gap = both(
        lambda width: chart(
            "gap to the dense master, by window",
            gaps, width, 330.0, class_=_size(width), settled=log.warm_up, level=(0.0, "curve dense"), happened=marks, unit=" %",
        )
    )  # fmt: skip
    small = [
        _small(log, title, [log.series(MODELS[one], _ROLES[one], key, one) for one in MODELS], level)
        for key, title, level in (
            ("ne", "normalised entropy", None),
            ("auc", "AUC", None),
            ("calibration", "calibration: clicks predicted over clicks", (1.0, "zero")),
        )
    ]
    rows = [
        [
            Cell(MODELS[one]),
            Cell(form.quality(log.total("ne", one)), log.total("ne", one)),
            Cell(_percent(log.total("gap_percent", one)), log.total("gap_percent", one))
            if one != "dense"
            else Cell("reference"),
            *(Cell(form.quality(value), value) for key in ("auc", "calibration") for value in [log.mean(key, one)]),
            Cell(form.whole(count(log.last, "total", "counted", one)), count(log.last, "total", "counted", one)),
        ]
        for one in MODELS
        if log.total("ne", one) is not None
    ]
    headings = [
        ("Model", ""),
        ("Entropy", "normalised"),
        ("Gap", "to the dense master"),
        ("AUC", "mean of the windows"),
        ("Calibration", "1 is right"),
        ("Events", "counted"),
    ]
    shown = table("All events after the warm-up.", headings, rows) if rows else ""
    named = legend(
        [*gaps, *([log.series(MODELS["dense"], "dense", "ne", "dense")] if any(small) else [])],
        marks,
        early=EARLY if log.warm_up else "",
    )
    figure = element("figure", gap, element("figcaption", named)) if gap else ""
    return section("quality", "How far from the dense master?", figure, _row(small), shown)


def pattern(log: Log) -> Markup:
    """Density of each layer over time, and how much of the mask changed."""
    layers = [
        log.series(name, LAYERS[index % len(LAYERS)], "density", place=index, scale=100.0)
        for index, name in enumerate(log.layers)
    ]
    density = both(
        lambda width: chart(
            "weights kept in each layer", layers, width, 280.0, class_=_size(width), settled=log.warm_up, unit=" %"
        )
    )
    churn = log.series("mask churn", "forest", "churn", scale=100.0)
    patterns = log.series("new patterns", "forest", "patterns")
    small = [
        _small(log, "mask churn from window to window", [churn], None, " %"),
        _small(log, "new patterns chosen so far", [patterns], None),
        _small(log, "operations against the dense master", [log.operations], None, " %"),
    ]
    note = element(
        "p",
        "Weights kept: of the net that leads, which may be narrower than the dense model; a small dense net keeps 100 %. Mask churn: of the weights kept in one of two neighbouring windows' masks or in both, the share not kept in both."
        " A method whose mask moves all the time has churn without a new pattern; where another of its nets has come to lead, densities jump"
        " and no churn is shown.",
        class_="fine",
    )
    figure = element("figure", density, element("figcaption", legend(layers))) if density else ""
    charts_ = _row(small)
    return section("pattern", "Sparsity by layer over time", figure, charts_, note if charts_ else "")


def emissions(log: Log) -> Markup:
    """Why models came, how many got to serve, and the last of them one by one."""
    if not log.emissions:
        return Markup()
    rows = []
    for why in sorted({text(line, "why") or "" for line in log.emissions}, key=lambda one: [*_WHY, one].index(one)):
        of_why = [line for line in log.emissions if (text(line, "why") or "") == why]
        good = sum(line.get("swapped") is True for line in of_why)
        rows.append(
            [
                Cell(_why(why)),
                *(Cell(form.whole(n), float(n)) for n in (len(of_why), good, len(of_why) - good)),
            ]
        )
    by_why = table(
        "Models by what they were made for: the first after the warm-up, one every so many windows, one with a new pattern after the change test found that the gap had grown, or after the pattern had grown old.",
        [("Why", ""), ("Came", "models"), ("Served", "swapped in"), ("Refused", "not swapped in")],
        rows,
    )
    back = {count(line, "from") for line in records(log.run, "rollbacks")}
    churn = {line["events"]: number(line, "churn") for line in log.windows}
    listed_ = [_emission(line, back, churn) for line in reversed(log.emissions)]
    headings = [
        ("Model", ""),
        ("Events", "seen then"),
        ("Why", ""),
        ("Outcome", ""),
        ("Loss", "last window, nats"),
        ("Loss", "of what served"),
        ("Churn", "of the mask"),
    ]
    parts = [table("The newest models.", headings, listed_[:LONGEST], class_="events")]
    older = listed_[LONGEST:MOST_ROWS]
    if older:
        parts.append(
            folded(
                f"{form.counted(len(older), 'older model')}", table("Older models.", headings, older, class_="events")
            )
        )
    note = element(
        "p",
        "A model serves only where its loss on the last window is not above that of the model that serves by more than"
        " chance makes it (the worse of the learner's, before it learned from the window, and of the file's, scored once"
        " more), nor above that of the best model that has served.",
        class_="fine",
    )
    return section("emissions", "Models that came, and why", by_why, *parts, note)


def drift(log: Log) -> Markup:
    """Alarms, window by window."""
    if not log.windows:
        return Markup()
    places = sorted({events for found in log.alarms.values() for events in found}, reverse=True)
    if not places:
        return section("drift", "Drift", element("p", "No alarm was raised so far."))
    rows = [
        [
            Cell(form.whole(events), events),
            *(Cell(form.whole(n), float(n)) for kind in ("loss", "gap") for n in [log.alarms[kind].count(events)]),
        ]
        for events in places
    ]
    headings = [("Events", "end of the window"), ("Loss", "of the master rose"), ("Gap", "to the master grew")]
    caption = "Alarms. Both are watched for a rise (Page-Hinkley); a gap that has grown brings a new pattern."
    parts = [table(caption, headings, rows[:LONGEST])]
    if rows[LONGEST:]:
        parts.append(folded("Older alarms", table("Older alarms.", headings, rows[LONGEST:MOST_ROWS])))
    return section("drift", "Drift", *parts)


def events(log: Log) -> Markup:
    """The source's counters, and how many ids have a row."""
    total = dict(log.counts).get("events") or log.events
    rows = [
        [
            Cell(element("bdi", name.replace("_", " "))),
            Cell(form.whole(n), float(n)),
            Cell(form.percent(n / total if total else None), n / total if total else None),
        ]
        for name, n in log.counts
    ]
    parts = (
        [table("What the source counted.", [("Counter", ""), ("Events", ""), ("Share", "of the events")], rows)]
        if rows
        else []
    )
    held = sorted(
        range(len(listed(log.last, "ids"))), key=lambda field: -(number(listed(log.last, "ids")[field]) or 0.0)
    )
    ids = [log.series(_field(log, field), role, "ids", place=field) for field, role in zip(held, LAYERS, strict=False)]
    title = "ids with an embedding" + (", the fullest fields" if len(held) > len(LAYERS) else "")
    besides = [
        log.series(name.replace("_", " "), LAYERS[index % len(LAYERS)], "counts", name)
        for index, (name, n) in enumerate([one for one in log.counts if one[0] != "events" and one[1]][: len(LAYERS)])
    ]
    drawn = [
        _small(log, "clicks: share of the events", [log.series("clicks", "forest", "rate", scale=100.0)], None, " %"),
        _small(log, title, ids, None),
        _small(log, "counted besides, so far", besides, None),
    ]
    named = [legend(one) for one, picture in ((ids, drawn[1]), (besides, drawn[2])) if picture]
    return section("events", "Events", _row(drawn), *named, *parts)


def compute(log: Log) -> Markup:
    """Operations for an event, and what the run has cost."""
    dense, serve = number(log.last, "flops", "dense"), number(log.last, "flops", "serve")
    spent = number(log.last, "train_flops")
    learned = None if spent is None or not log.events else spent / log.events
    costs = [
        ("score, dense master", dense),
        ("score, sparse model", serve),
        ("learn, this run", learned),
        ("learn, dense model alone", None if dense is None else ALONE * dense),
    ]
    rows = [
        [
            Cell(name),
            Cell(flops(value), value),
            Cell(
                form.MISSING if not dense else f"{value / dense:.3g}\N{MULTIPLICATION SIGN}",
                value / dense if dense else None,
            ),
        ]
        for name, value in costs
        if value is not None
    ]
    caption = (
        "Floating point operations of the layers for an event, two to a multiply-add; embeddings and their products left"
        f" out. Alone, a dense model would score an event once and take a step of three times that: {ALONE:g} times."
    )
    shown = (
        table(caption, [("What", ""), ("Operations", "an event"), ("Against", "scoring with the dense master")], rows)
        if rows
        else ""
    )
    seconds, events_ = number(log.run, "spent", "seconds"), number(log.run, "spent", "events")
    words = "" if spent is None else f"Learning took {flops(spent)} operations in all."
    if seconds and events_:
        words += (
            f" After {form.whole(events_)} events the whole loop (reading, both models, windows, emission) had spent"
            f" {form.duration(seconds)} of CPU: {form.whole(events_ / seconds)} events a CPU-second."
        )
    return section("compute", "Compute spent", shown, element("p", words.strip()) if words else "")


def windows(log: Log) -> Markup:
    """The newest windows in figures."""
    keys = [("ne", one) for one in MODELS] + [("gap_percent", one) for one in ("sparse", "served")]
    keys += [("calibration", "served"), ("auc", "served")]
    rows = [
        [
            Cell(form.whole(line["events"]), line["events"]),
            *(Cell(form.quality(value), value) for key in keys for value in [number(line, *key)]),
            Cell(form.percent(number(line, "churn")), number(line, "churn")),
            Cell(form.whole(number(line, "serving")), number(line, "serving")),
        ]
        for line in reversed(log.windows[-MOST_ROWS:])
    ]
    if not rows:
        return Markup()
    headings = [
        ("Events", "at its end"),
        *(("Entropy", name) for name in ("dense", "sparse", "served")),
        *(("Gap", f"{name}, %") for name in ("sparse", "served")),
        ("Calibration", "served"),
        ("AUC", "served"),
        ("Churn", "of the mask"),
        ("Model", "that serves"),
    ]
    shown = table("Windows, the newest first.", headings, rows)
    return section("windows", "Windows", folded(f"The newest {form.counted(len(rows), 'window')} in figures", shown))


def method(log: Log) -> Markup:
    """What the figures mean, and what the run was started with."""
    terms = {
        "Test, then train": "each batch is predicted by all models before any of them learns from it; every figure is of such predictions.",
        "Normalised entropy": "mean log-loss over the entropy of the window's own share of clicks, the same for all models; 1 is to know that share only.",
        "Gap": "100 (entropy / entropy of the dense master \N{MINUS SIGN} 1), in %; below 0 is better than the master.",
        "Dense master": "the dense model that learns in this run, beside the sparse one or sharing its weights, as the method has it. Where they share, it is not what a dense model trained alone would be.",
        "Calibration": "sum of predicted probabilities over the number of clicks.",
        "Warm-up": f"the first {form.whole(log.warm_up)} events, while masks grow; no total counts them.",
        "Lines": "where there are many windows, a point of a chart is the mean of its neighbours.",
    }
    shown = [joined([element("dt", name), element("dd", words)]) for name, words in terms.items()]
    recipe = at(log.run, "recipe")
    tables = [
        pairs(name, at(recipe, name))
        for name in (recipe if isinstance(recipe, Mapping) else ())
        if isinstance(at(recipe, name), Mapping)
    ]
    return section(
        "method",
        "How it was measured",
        element("dl", *shown, class_="conventions"),
        element("div", *(one for one in tables if one), class_="columns"),
    )


def judged(line: Mapping[str, Any]) -> str:
    """Say what became of a model."""
    if line.get("swapped") is True:
        return "served"
    error = text(line, "error")
    if error:
        return f"failed: {form.shortened(error, 120)}"
    if number(line, "loss") is None:
        return "refused: no number"
    return "refused: worse"


def flops(value: float) -> str:
    """Write operations: ``392 k``."""
    for name, scale in ((" T", 1e12), (" G", 1e9), (" M", 1e6), (" k", 1e3)):
        if value >= scale:
            return f"{value / scale:,.3g}{name}" if value < 1000 * scale else f"{value / scale:,.0f}{name}"
    return f"{value:.0f}"


def _emission(line: Mapping[str, Any], back: set[int | None], churn: Mapping[float, float | None]) -> list[Cell]:
    model, seen = count(line, "number"), number(line, "events")
    loss, served, moved = number(line, "loss"), number(line, "served_loss"), churn.get(seen or -1.0)
    outcome = judged(line) + (", rolled back" if model is not None and model in back else "")
    return [
        Cell(form.whole(model), model),
        Cell(form.whole(seen), seen),
        Cell(_why(text(line, "why") or "")),
        Cell(element("bdi", outcome)),
        Cell(form.quality(loss), loss),
        Cell(form.quality(served), served),
        Cell(form.percent(moved), moved),
    ]


def _why(why: str) -> Markup:
    return element("bdi", _WHY.get(why, why or "not said"))


def _alarms(log: Log) -> list[Happened]:
    names = {"loss": "alarm: the master's loss rose", "gap": "alarm: the gap grew"}
    return [Happened(names[kind], f"alarm {kind}", places) for kind, places in log.alarms.items()]


def _field(log: Log, index: int) -> str:
    names = listed(log.run, "recipe", "inputs", "schema", "id_fields")
    return (text(names[index]) if index < len(names) else None) or f"id field {index + 1}"


def _small(log: Log, title: str, series: Sequence[Series], level: tuple[float, str] | None, unit: str = "") -> Markup:
    return chart(title, series, WIDTH, HEIGHT, settled=log.warm_up, level=level, unit=unit)


def _row(drawn: Sequence[Markup]) -> Markup:
    shown = [element("figure", one) for one in drawn if one]
    return element("div", *shown, class_="small-charts") if shown else Markup()


def _percent(value: float | None) -> str:
    return form.MISSING if value is None else f"{form.signed(value, 2)} %"


def _size(width: float) -> str:
    return "narrow" if width == charts.NARROW else "wide"
