"""The charts of a ranker's page: verdict, frontier, bars and intervals for cells."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from prunus.report import form
from prunus.report.markup import Markup, element, joined
from prunus.report.run import USUAL_BATCH
from prunus.report.svg import (
    Box,
    Labels,
    Scale,
    clipped,
    decimals_of,
    label,
    line,
    mark,
    padded,
    picture,
    plain,
    polyline,
)
from prunus.report.values import positive

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prunus.report.run import Model, Run

DEEPEST = 4.0
"""The frontier shows so many margins below the teacher; what is worse is drawn at the lower edge, with its figure."""

WIDE, NARROW = 760.0, 350.0
"""Pixels of the two drawings of a chart; the page shows the one that fits, so that its type stays readable."""


def verdict(run: Run, width: float) -> Markup:
    """Draw the interval of the difference against the line of what is allowed; empty where there is none."""
    test = run.verdict
    ends = [value for value in (test.lower, test.difference, test.upper) if value is not None]
    if not ends:
        return Markup()
    small = width < 500
    height, left, right, axis = 128.0, 10.0, width - 10.0, 92.0
    margin = test.margin
    x = Scale(*padded([*ends, 0.0, *([-margin * 1.25] if margin else [])], 0.12), left, right)
    parts: list[object] = []
    if margin is not None:
        edge = x(-margin)
        parts += [
            element("rect", x=left, y=28.0, width=edge - left, height=axis - 28, class_="refused"),
            line(edge, 22, edge, axis, "margin"),
            label(edge, 16, f"allowed loss {form.signed(-margin)}", "note strong", _anchor(edge, width)),
        ]
        if edge - left > 150:
            parts.append(label(left + 8, axis - 8, "worse than allowed", "note"))
    zero = x(0.0)
    parts.append(line(zero, 28, zero, axis, "zero"))
    if margin is None or zero - x(-margin) > (190 if small else 130):
        parts.append(label(zero, 16, "as the teacher", "note", _anchor(zero, width)))
    parts += [line(left, axis, right, axis, "axis"), *_x_ticks(x, axis, 4 if small else 7)]
    y = 62.0
    low, high = x(test.lower) if test.lower is not None else left, x(test.upper) if test.upper is not None else right
    kind = f"result {test.outcome or 'open'}"
    parts += [line(low, y, high, y, f"{kind} bar"), line(low, y - 8, low, y + 8, f"{kind} cap")]
    parts += [line(high, y - 8, high, y + 8, f"{kind} cap")]
    if test.difference is not None:
        middle = x(test.difference)
        parts += [element("circle", cx=middle, cy=y, r=6.5, class_=f"{kind} dot")]
        parts += [label(middle, y - 14, form.signed(test.difference), "value", "middle")]
    parts.append(
        label(width / 2, height - 2, f"difference in {run.metric}, chosen model minus teacher", "note", "middle")
    )
    described = (
        f"Difference {form.signed(test.difference)}, one-sided 95 % bounds {form.interval(test.lower, test.upper)}"
    )
    if margin is not None:
        described += f"; the loss allowed is {form.quality(margin)}"
    return picture(width, height, parts, "Verdict: difference to the teacher", described + ".", _width_class(width))


def frontier(run: Run, batch: int, width: float) -> Markup:
    """Draw quality against time at one batch size; empty where no model has both."""
    shown = [model for model in run.models if batch in model.us and model.quality is not None]
    if not shown:
        return Markup()
    small = width < 500
    height = 400.0 if small else 430.0
    area = Box(48.0 if small else 62.0, 26.0, width - 12.0, height - 46.0)
    base = run.teacher.quality if run.teacher and run.teacher.quality is not None else None
    margin = run.verdict.margin
    floor = base - DEEPEST * margin if base is not None and margin else None
    y = Scale(*_quality_range(shown, base, margin, floor), area.bottom, area.top)
    times = [model.us[batch] for model in shown]
    x = Scale(min(times) / 1.45, max(times) * (2.2 if small else 1.6), area.left, area.right, log=True)

    parts: list[object] = [*_frame(run, x, y, area, base, margin, small=small)]
    spots = {id(model): (x(model.us[batch]), y(max(model.quality or 0.0, y.low))) for model in shown}
    forests = sorted(
        (x(model.us[batch]), y(model.quality or 0.0)) for model in shown if model.role in {"forest", "teacher"}
    )
    if len(forests) > 1:
        parts.append(clipped(area, polyline(forests, "thread")))
    whiskers: list[Box] = []
    for model in shown:
        whisker = _whisker(model, spots[id(model)][0], y, base)
        if whisker is not None:
            parts.append(whisker[0])
            whiskers.append(whisker[1])
    size = 11.5 if small else 12.0
    taken = [Box(px - 7, py - 7, px + 7, py + 7) for px, py in spots.values()]
    taken += [
        Box(px - 12, py - 12, px + 12, py + 12) for px, py in (spots[id(model)] for model in shown if model.chosen)
    ]
    spared: list[Box] = []
    limit = _budget_at(run, batch, x)
    if limit is not None:
        parts += [
            line(limit, area.top, limit, area.bottom, "limit"),
            label(limit + 5, area.top + 13, "budget", "note strong"),
        ]
        taken.append(Box(limit, area.top, limit + 58, area.top + 18))
        spared.append(Box(limit - 1, area.top, limit + 1, area.bottom))
    if base is not None and margin:
        edge = y(base - margin)
        taken.append(Box(area.right - 95, edge, area.right, edge + 16))
        spared.append(Box(area.left, edge - 1, area.right, edge + 1))
    labels = Labels(area, size, spots.values(), [*taken, *whiskers], spared)
    names = _point_names(shown)
    for model in sorted(shown, key=lambda model: (not model.chosen, model.role != "teacher")):
        px, py = spots[id(model)]
        if model.chosen:
            parts.append(element("circle", cx=px, cy=py, r=11.0, class_="ring"))
        words = form.shortened(names[id(model)], 18 if small else 30)
        if model.quality is not None and model.quality < y.low:
            words += f": {form.quality(model.quality)} \N{DOWNWARDS ARROW}"
        parts.append(element("g", element("title", _spoken(run, model, batch)), mark(model.role, px, py)))
        parts.append(
            labels.place(
                px, py, words, "point strong" if model.chosen else "point", must=model.chosen or model.role == "teacher"
            )
        )
    described = "; ".join(_spoken(run, model, batch) for model in shown)
    return picture(width, height, parts, f"Quality against time at batch {batch}", described, _width_class(width))


def slice_interval(difference: float | None, lower: float | None, upper: float | None, reach: float) -> Markup:
    """Draw one difference with its interval, small enough for a cell; all cells of a table share the reach."""
    if difference is None or reach <= 0:
        return Markup()
    x = Scale(-reach, reach, 4.0, 196.0)
    parts: list[object] = [line(x(0), 1, x(0), 17, "zero")]
    if lower is not None and upper is not None:
        parts.append(line(x(max(lower, -reach)), 9, x(min(upper, reach)), 9, "whisker"))
    parts.append(element("circle", cx=x(difference), cy=9.0, r=3.5, class_="mark other"))
    return element("svg", joined(parts), viewBox="0 0 200 18", class_="cell", aria_hidden="true")


def bar(share: float | None, class_: str = "") -> Markup:
    """Draw a share of one as a bar for a cell."""
    if share is None:
        return Markup()
    filled = min(max(share, 0.0), 1.0) * 100
    return element(
        "svg",
        element("rect", x=0.0, y=0.0, width=100.0, height=10.0, class_="track"),
        element(
            "rect",
            x=0.0,
            y=0.0,
            width=max(filled, 0.6 if share > 0 else 0.0),
            height=10.0,
            class_=f"fill {class_}".strip(),
        ),
        viewBox="0 0 100 10",
        preserveAspectRatio="none",
        class_="bar",
        aria_hidden="true",
    )


def _quality_range(
    shown: Sequence[Model], base: float | None, margin: float | None, floor: float | None
) -> tuple[float, float]:
    seen = [model.quality for model in shown if model.quality is not None]
    if base is not None:
        seen += [base + end for model in shown for end in (model.lower, model.upper) if end is not None]
        seen += [base - margin] if margin else []
    low, high = padded(seen, 0.07)
    chosen = [
        min(model.quality, (base or 0.0) + (model.lower or 0.0))
        for model in shown
        if model.chosen and model.quality is not None
    ]
    if floor is not None and base is not None and chosen:
        floor = min(floor, *(end - 0.1 * (base - end) for end in chosen))
    return (max(low, floor), high) if floor is not None and floor < high else (low, high)


def _frame(
    run: Run, x: Scale, y: Scale, area: Box, base: float | None, margin: float | None, *, small: bool
) -> list[object]:
    parts: list[object] = []
    if base is not None and margin:
        edge = min(max(y(base - margin), area.top), area.bottom)
        parts.append(
            element(
                "rect", x=area.left, y=area.top, width=area.right - area.left, height=edge - area.top, class_="accepted"
            )
        )
    ticks = y.ticks(6)
    decimals = decimals_of(ticks)
    for tick in ticks:
        parts += [
            line(area.left, y(tick), area.right, y(tick), "grid"),
            label(area.left - 6, y(tick) + 4, f"{tick:.{decimals}f}", "tick", "end"),
        ]
    for tick in x.ticks(5 if small else 9):
        parts += [
            line(x(tick), area.top, x(tick), area.bottom, "grid"),
            label(x(tick), area.bottom + 16, plain(tick), "tick", "middle"),
        ]
    if base is not None and margin:
        edge = y(base - margin)
        parts += [
            line(area.left, edge, area.right, edge, "margin"),
            label(area.right - 5, edge + 13, "allowed loss", "note strong", "end"),
        ]
    parts.append(line(area.left, area.bottom, area.right, area.bottom, "axis"))
    words = (
        "\N{MICRO SIGN}s a document, logarithmic"
        if small
        else "microseconds a document (logarithmic), one thread, median"
    )
    parts += [label((area.left + area.right) / 2, area.bottom + 36, words, "note", "middle")]
    parts += [label(area.left, area.top - 10, f"\N{UPWARDS ARROW} {run.metric}, higher is better", "note")]
    if not small:
        parts += [label(area.left, area.bottom + 36, "\N{LEFTWARDS ARROW} faster", "note")]
    return parts


def _budget_at(run: Run, batch: int, x: Scale) -> float | None:
    """Return where the budget's time stands, if it is for this batch and inside the chart."""
    limit = positive(run.result, "budget", "us_per_doc")
    same = (positive(run.result, "budget", "batch") or USUAL_BATCH) == batch
    return x(limit) if limit is not None and same and x.low < limit < x.high else None


def _whisker(model: Model, px: float, y: Scale, base: float | None) -> tuple[Markup, Box] | None:
    if (
        base is None
        or model.lower is None
        or model.upper is None
        or model.role == "teacher"
        or model.lower == model.upper
    ):
        return None
    low, high = y(min(max(base + model.lower, y.low), y.high)), y(max(min(base + model.upper, y.high), y.low))
    if low - high < 1:
        return None
    drawn = [line(px, low, px, high, f"whisker {model.role}")]
    drawn += [line(px - 4, end, px + 4, end, f"whisker {model.role}") for end in (low, high)]
    return joined(drawn), Box(px - 4, high, px + 4, low)


def _x_ticks(x: Scale, axis: float, about: int) -> list[object]:
    ticks = x.ticks(about)
    decimals = decimals_of(ticks)
    parts: list[object] = []
    for tick in ticks:
        parts += [line(x(tick), axis, x(tick), axis + 4, "axis")]
        parts += [label(x(tick), axis + 17, form.signed(tick, decimals), "tick", "middle")]
    return parts


def _point_names(shown: Sequence[Model]) -> dict[int, str]:
    """Name each point in few words; where a name's first part is not its own, the whole name stands."""
    names = {id(model): _point_name(model) for model in shown}
    seen = Counter(names.values())
    return {id(model): names[id(model)] if seen[names[id(model)]] == 1 else model.name for model in shown}


def _point_name(model: Model) -> str:
    if model.role == "teacher":
        return "teacher" if model.trees is None else f"teacher, {form.counted(model.trees, 'tree')}"
    if model.role == "forest" and model.trees is not None:
        return form.counted(model.trees, "tree")
    return model.name.partition(",")[0].strip() or model.name


def _spoken(run: Run, model: Model, batch: int) -> str:
    words = f"{model.name}: {run.metric} {form.quality(model.quality)}, {form.us(model.us[batch])} a document"
    if batch in model.p99:
        words += f" (p99 {form.us(model.p99[batch])})"
    if model.difference is not None and model.role != "teacher":
        words += f", difference to the teacher {form.signed(model.difference)}"
        if model.lower is not None or model.upper is not None:
            words += f" (95 % interval {form.interval(model.lower, model.upper)})"
    engine = model.engines.get(batch) or model.engine
    if engine:
        words += f", in {engine}"
    return words + (", chosen" if model.chosen else "")


def _anchor(at: float, width: float) -> str:
    return "start" if at < 70 else "end" if at > width - 70 else "middle"


def _width_class(width: float) -> str:
    return "narrow" if width < 500 else "wide"
