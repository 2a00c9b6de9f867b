"""The few pieces that charts are made of: scales, ticks, marks by role, labels that keep out of each other's way."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING
from zlib import crc32

from prunus.report.markup import Markup, coordinate, element, joined

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

LETTER = 0.6
"""Mean width of a letter in the page's type, as a share of its size; labels keep this much room."""


@dataclass(frozen=True)
class Scale:
    """Maps values to pixels, on a straight or a logarithmic axis.

    Attributes:
        low: the value at ``start``.
        high: the value at ``end``; above ``low``.
        start: pixels.
        end: pixels.
        log: whether equal ratios are equal distances.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return the pixel of a value."""
        low, high = (math.log10(self.low), math.log10(self.high)) if self.log else (self.low, self.high)
        share = ((math.log10(value) if self.log else value) - low) / (high - low)
        return self.start + share * (self.end - self.start)

    def ticks(self, about: int = 5) -> list[float]:
        """Return round values inside the axis."""
        return log_ticks(self.low, self.high, about) if self.log else linear_ticks(self.low, self.high, about)


def linear_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Return multiples of 1, 2 or 5 times a power of ten, about so many, inside the range."""
    raw = (high - low) / max(about, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def log_ticks(low: float, high: float, about: int = 6) -> list[float]:
    """Return 1, 2, 5 of each power of ten, or fewer where that would be too many, inside the range."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks: list[float] = []
    for factors in ((1, 2, 5), (1, 3), (1,)):
        ticks = [factor * 10.0**power for power in powers for factor in factors]
        ticks = [tick for tick in ticks if low * 0.999 <= tick <= high * 1.001]
        if len(ticks) <= about + 1:
            break
    return ticks


def padded(values: Iterable[float], share: float = 0.08, least: float = 0.0) -> tuple[float, float]:
    """Return the range of the values with room at both ends; never empty."""
    values = list(values)
    low, high = min(values), max(values)
    room = max((high - low) * share, least, abs(high) * 1e-6, 1e-12)
    return low - room, high + room


def decimals_of(ticks: Sequence[float]) -> int:
    """Return the decimals that tell the ticks apart."""
    if len(ticks) < 2:
        return 4
    return max(0, min(6, -math.floor(math.log10(abs(ticks[1] - ticks[0])) + 1e-9)))


def plain(value: float) -> str:
    """Write a tick of a logarithmic axis."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.12g}" if value >= 1e-4 else f"{value:.0e}"


def coarse(value: float) -> str:
    """Write a large count in few letters: ``250 k``, ``1.5 M``."""
    for name, scale in ((" G", 1e9), (" M", 1e6), (" k", 1e3)):
        if abs(value) >= scale:
            return f"{value / scale:.4g}{name}"
    return f"{value:.4g}"


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """Return a straight line."""
    return element("line", x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2), class_=class_)


def label(x: float, y: float, words: str, class_: str = "", anchor: str = "start") -> Markup:
    """Return one line of text; y is its base line."""
    return element(
        "text", words, x=float(x), y=float(y), class_=class_ or None, text_anchor=anchor if anchor != "start" else None
    )


def polyline(points: Iterable[tuple[float, float]], class_: str) -> Markup:
    """Return a line through points."""
    return element("polyline", points=" ".join(f"{coordinate(x)},{coordinate(y)}" for x, y in points), class_=class_)


def mark(role: str, x: float, y: float, radius: float = 5.5) -> Markup:
    """Return the mark of a role: shape and colour both tell it, so that either is enough."""
    if role == "forest":
        return element("circle", cx=float(x), cy=float(y), r=float(radius * 0.95), class_="mark forest")
    shapes = {
        "teacher": [(0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)],
        "sparse": [(-0.95, -0.95), (0.95, -0.95), (0.95, 0.95), (-0.95, 0.95)],
        "dense": [(0, -1.2), (1.15, 0.85), (-1.15, 0.85)],
        "exact": [(-0.5, -1.3), (0.5, -1.3), (0.5, 1.3), (-0.5, 1.3)],
        "int8": [(0, 1.2), (1.15, -0.85), (-1.15, -0.85)],
        "block": [(-1.3, -0.5), (1.3, -0.5), (1.3, 0.5), (-1.3, 0.5)],
    }
    shape = shapes.get(role, [(-0.4, -1.1), (0.4, -1.1), (1.1, 0), (0.4, 1.1), (-0.4, 1.1), (-1.1, 0)])
    points = " ".join(f"{coordinate(x + dx * radius)},{coordinate(y + dy * radius)}" for dx, dy in shape)
    return element("polygon", points=points, class_=f"mark {role}")


def picture(
    width: float, height: float, parts: Iterable[object], title: str, description: str, class_: str = ""
) -> Markup:
    """Return a whole chart, with a title and a description for those who do not see it."""
    name = f"c{crc32(f'{title} {width} {description}'.encode('utf-8', 'replace')):08x}"
    return element(
        "svg",
        element("title", title, id=f"{name}t"),
        element("desc", description, id=f"{name}d"),
        joined(parts),
        viewBox=f"0 0 {coordinate(width)} {coordinate(height)}",
        role="img",
        aria_labelledby=f"{name}t {name}d",
        class_=f"chart {class_}".strip(),
    )


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels."""

    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: Box) -> bool:
        """Whether the two share any area."""
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )

    def distance(self, point: tuple[float, float]) -> float:
        """Pixels from a point to the nearest edge; 0 inside."""
        x, y = point
        return math.hypot(max(self.left - x, x - self.right, 0.0), max(self.top - y, y - self.bottom, 0.0))

    def inside(self, other: Box) -> bool:
        """Whether this one lies wholly in the other."""
        return (
            self.left >= other.left
            and self.right <= other.right
            and self.top >= other.top
            and self.bottom <= other.bottom
        )


def clipped(area: Box, drawing: Markup) -> Markup:
    """Cut off what lies outside the area."""
    width, height = area.right - area.left, area.bottom - area.top
    view = " ".join(coordinate(value) for value in (area.left, area.top, width, height))
    return element("svg", drawing, x=area.left, y=area.top, width=width, height=height, viewBox=view)


class Labels:
    """Places labels one after the other, each in the first free place near its point.

    A place is free where the label covers nothing, is nearer to its own point than to any other, and its leader, if
    it needs one, crosses no other point.

    Args:
        area: labels stay inside.
        size: height of the type in pixels.
        points: every point of the chart.
        taken: boxes that no label may cover.
        spared: boxes that a label covers only where it finds no other place.
    """

    def __init__(
        self,
        area: Box,
        size: float,
        points: Iterable[tuple[float, float]],
        taken: Iterable[Box] = (),
        spared: Iterable[Box] = (),
    ) -> None:
        self._area = area
        self._size = size
        self._points = list(points)
        self._taken = list(taken)
        self._spared = list(spared)

    def place(self, x: float, y: float, words: str, class_: str = "", *, must: bool = False) -> Markup:
        """Return the label of the point (x, y), or nothing where every place near it is taken and it need not be."""
        width = len(words) * self._size * LETTER * (1.12 if "strong" in class_ else 1.0)
        others = [other for other in self._points if math.dist(other, (x, y)) > 0.5]
        # (boxes kept free, points that must be further away, points that the leader may not cross), strictest first
        rules = [(self._taken + self._spared, others, others), (self._taken, others, others)]
        if must:
            rules += [(self._taken, [], others), (self._taken, [], [])]
        for avoid, further, uncrossed in rules:
            for left, middle in _places(x, y, width, self._size):
                box = Box(left - 1, middle - self._size * 0.6, left + width + 1, middle + self._size * 0.6)
                end = (min(max(x, left), left + width), min(max(y, box.top), box.bottom))
                if (
                    box.inside(self._area)
                    and not any(box.overlaps(other) for other in avoid)
                    and not any(box.distance(other) < math.dist((x, y), end) for other in further)
                    and not any(_near(other, (x, y), end) for other in uncrossed)
                ):
                    return self._drawn(box, (x, y), end, words, class_)
        return Markup()

    def _drawn(self, box: Box, point: tuple[float, float], end: tuple[float, float], words: str, class_: str) -> Markup:
        self._taken.append(box)
        leader = Markup()
        if math.dist(point, end) > self._size * 1.25:
            away = 7 / math.dist(point, end)
            start = (point[0] + away * (end[0] - point[0]), point[1] + away * (end[1] - point[1]))
            leader = line(*start, *end, "leader")
            for share in (0.35, 0.6, 0.85):  # other labels keep off it
                px, py = (from_ + share * (to - from_) for from_, to in zip(point, end, strict=True))
                self._taken.append(Box(px - 3, py - 3, px + 3, py + 3))
        left, right, base = box.left + 1, box.right - 1, (box.top + box.bottom) / 2 + self._size * 0.35
        # anchored on the side of its point, so that an error in the width does no harm there
        if right <= point[0]:
            return joined([leader, label(right, base, words, class_, "end")])
        if left >= point[0]:
            return joined([leader, label(left, base, words, class_)])
        return joined([leader, label((left + right) / 2, base, words, class_, "middle")])


def _near(point: tuple[float, float], start: tuple[float, float], end: tuple[float, float], room: float = 6.0) -> bool:
    """Whether the straight line from start to end passes a point closer than ``room`` pixels, past the first few."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = math.hypot(dx, dy)
    if length < room * 2:
        return False
    share = min(max(((point[0] - start[0]) * dx + (point[1] - start[1]) * dy) / length**2, 0.0), 1.0)
    return math.hypot(start[0] + share * dx - point[0], start[1] + share * dy - point[1]) < room


def _places(x: float, y: float, width: float, size: float) -> Iterator[tuple[float, float]]:
    """Yield (left edge, middle height) of a label, the best place first: beside its point, then ever further away."""
    for step in range(6):
        aside, drop = 10.0 + step * 5, step * size * 1.0
        for left in (x + aside, x - aside - width):
            yield left, y - drop
            yield left, y + drop
        for left in (x + aside * 0.7, x - aside * 0.7 - width, x - width / 2):
            yield left, y - size * 1.1 - drop
            yield left, y + size * 1.1 + drop
