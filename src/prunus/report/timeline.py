"""Charts of a stream: quantities over the events seen, one line each, with what happened on the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from prunus.report import form
from prunus.report.markup import Markup, element, joined
from prunus.report.svg import (
    Box,
    Scale,
    clipped,
    coarse,
    decimals_of,
    label,
    line,
    padded,
    picture,
    polyline,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

LAYERS = ("forest", "sparse", "dense", "int8", "block", "exact")
"""Colours of lines that have no role of their own, in turn."""

MOST_LINES = 24
"""Marks of one kind above which they are drawn short, so that the curves stay in sight."""


@dataclass(frozen=True)
class Series:
    """One line of a chart.

    Attributes:
        name: for the legend.
        role: its colour, and how it is drawn.
        points: (events, value), events rising; a value that is None breaks the line.
    """

    name: str
    role: str
    points: Sequence[tuple[float, float | None]]

    @property
    def pieces(self) -> list[list[tuple[float, float]]]:
        """The line, cut where a value is missing."""
        found: list[list[tuple[float, float]]] = [[]]
        for events, value in self.points:
            if value is not None:
                found[-1].append((events, value))
            elif found[-1]:
                found.append([])
        return [piece for piece in found if piece]


@dataclass(frozen=True)
class Happened:
    """Things of one kind that happened.

    Attributes:
        name: for the legend.
        role: how their lines are drawn.
        events: when.
    """

    name: str
    role: str
    events: Sequence[float]


def chart(
    title: str,
    series: Sequence[Series],
    width: float,
    height: float,
    *,
    class_: str = "",
    settled: float = 0.0,
    level: tuple[float, str] | None = None,
    happened: Sequence[Happened] = (),
    unit: str = "",
) -> Markup:
    """Draw quantities over the events; empty with fewer than two values.

    Args:
        title: what they are.
        series: the lines, what matters most last, so that it lies on top.
        width: pixels.
        height: pixels.
        class_: further class of the drawing.
        settled: events before which the models were not yet what they should be: shaded, and drawn only as far as it
            lies in the range of what came after.
        level: (value, role) of a line across.
        happened: drawn as vertical lines.
        unit: of the values, written after those of the axis.
    """
    known = [point for one in series for piece in one.pieces for point in piece]
    if len(known) < 2:
        return Markup()
    last = max(events for events, _ in known)
    shown = [value for events, value in known if events > settled] or [value for _, value in known]
    # A line that hardly moves is drawn as one: its axis spans a hundredth of its height at least.
    y_range = padded([*shown, *([level[0]] if level else [])], 0.1, max(map(abs, shown)) / 200 or 0.4)
    area = Box(58.0 if unit else 50.0, 28.0, width - 14.0, height - 40.0)
    y = Scale(*y_range, area.bottom, area.top)
    x = Scale(0.0, last, area.left, area.right)
    parts: list[object] = [label(4, 12, title, "note strong")]
    if settled > 0:
        edge = x(min(settled, last))
        size = {"width": edge - area.left, "height": area.bottom - area.top}
        parts.append(element("rect", x=area.left, y=area.top, class_="early", **size))
    ticks = y.ticks(4 if height < 250 else 6)
    if not unit and all(value == round(value) for _, value in known):  # counts
        ticks = [tick for tick in ticks if abs(tick - round(tick)) < 1e-9]
    decimals = 0 if all(tick == round(tick) for tick in ticks) else decimals_of(ticks)
    for tick in ticks:
        words = f"{tick:,.{decimals}f}".replace("-", form.MINUS) + unit
        parts += [
            line(area.left, y(tick), area.right, y(tick), "grid"),
            label(area.left - 6, y(tick) + 4, words, "tick", "end"),
        ]
    parts.append(line(area.left, area.bottom, area.right, area.bottom, "axis"))
    for tick in x.ticks(4 if width < 500 else 8):
        parts.append(label(min(x(tick), width - 18), area.bottom + 16, coarse(tick), "tick", "middle"))
    parts.append(label((area.left + area.right) / 2, height - 7, "events", "note", "middle"))
    for kind in happened:
        top = area.top if len(kind.events) <= MOST_LINES else area.bottom - 12
        parts += [line(x(at), top, x(at), area.bottom, kind.role) for at in kind.events if x.low <= at <= x.high]
    if level:
        parts.append(line(area.left, y(level[0]), area.right, y(level[0]), level[1]))
    parts.append(clipped(area, joined(_drawn(one, x, y) for one in series)))
    spoken = "; ".join(_spoken(one) for one in series if one.pieces)
    return picture(width, height, parts, title, f"{spoken}.", class_)


def legend(series: Sequence[Series], happened: Sequence[Happened] = (), *, early: str = "") -> Markup:
    """Name the lines of charts, those that have something to show, and what is shaded."""
    drawn = [(one.name, line(0, 8, 16, 8, f"curve {one.role}")) for one in series if one.pieces]
    drawn += [(one.name, line(8, 1, 8, 15, one.role)) for one in happened if one.events]
    if early:
        drawn.append((early, element("rect", x=0, y=0, width=16, height=16, class_="early")))
    items = [
        element("li", element("svg", sample, viewBox="0 0 16 16", class_="symbol", aria_hidden="true"), " ", name)
        for name, sample in drawn
    ]
    return element("ul", *items, class_="legend") if items else Markup()


def _drawn(one: Series, x: Scale, y: Scale) -> Markup:
    kind = f"curve {one.role}"
    drawn = [
        polyline([(x(events), y(value)) for events, value in piece], kind)
        if len(piece) > 1
        else element("circle", cx=x(piece[0][0]), cy=y(piece[0][1]), r=2.5, class_=f"{kind} dot")
        for piece in one.pieces
    ]
    return element("g", element("title", one.name), *drawn)


def _spoken(one: Series) -> str:
    values = [value for piece in one.pieces for _, value in piece]
    low, high = min(values), max(values)
    return f"{one.name}: last {values[-1]:.4g}, lowest {low:.4g}, highest {high:.4g}".replace("-", form.MINUS)
