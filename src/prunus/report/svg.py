"""The few pieces that charts are made of: scales, ticks, marks by role, labels that keep out of each other's way."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING
from zlib import crc32

from prunus.report.markup import Markup, coordinate, element, joined

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

LETTER = 0.56
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


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """Return a straight line."""
    return element("line", x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2), class_=class_)


def label(x: float, y: float, words: str, class_: str = "", anchor: str = "start") -> Markup:
    """Return one line of text; y is its base line."""
    return element("text", words, x=float(x), y=float(y), class_=class_ or None, text_anchor=anchor if anchor != "start" else None)


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
    }
    shape = shapes.get(role, [(-0.4, -1.1), (0.4, -1.1), (1.1, 0), (0.4, 1.1), (-0.4, 1.1), (-1.1, 0)])
    points = " ".join(f"{coordinate(x + dx * radius)},{coordinate(y + dy * radius)}" for dx, dy in shape)
    return element("polygon", points=points, class_=f"mark {role}")


def picture(width: float, height: float, parts: Iterable[object], title: str, description: str, class_: str = "") -> Markup:
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
        return self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom

    def inside(self, other: Box) -> bool:
        """Whether this one lies wholly in the other."""
        return self.left >= other.left and self.right <= other.right and self.top >= other.top and self.bottom <= other.bottom


class Labels:
    """Places labels one after the other, each in the first free place near its point.

    Args:
        area: labels stay inside.
        size: height of the type in pixels.
        taken: boxes that no label may cover.
    """

    def __init__(self, area: Box, size: float, taken: Iterable[Box] = ()) -> None:
        self._area = area
        self._size = size
        self._taken = list(taken)

    def place(self, x: float, y: float, words: str, class_: str = "") -> Markup:
        """Return the label, or nothing where every place near the point is taken."""
        width = len(words) * self._size * LETTER
        for left, middle in _places(x, y, width, self._size):
            box = Box(left - 1, middle - self._size * 0.6, left + width + 1, middle + self._size * 0.6)
            if box.inside(self._area) and not any(box.overlaps(other) for other in self._taken):
                self._taken.append(box)
                far = math.hypot(max(left - x, x - left - width, 0), middle - y) > self._size * 1.9
                near_x = min(max(x, left), left + width)
                edge = middle + math.copysign(self._size * 0.5, y - middle)
                leader = line(x, y, near_x, edge, "leader") if far and abs(middle - y) > self._size else Markup()
                return joined([leader, label(left, middle + self._size * 0.35, words, class_)])
        return Markup()


def _places(x: float, y: float, width: float, size: float) -> Iterator[tuple[float, float]]:
    """Yield (left edge, middle height) of a label, the best place first."""
    for step in (0.0, 1.0, 2.0):
        gap, drop = 10 + step * 4, step * size * 1.1
        yield x + gap, y - drop
        yield x - gap - width, y - drop
        yield x + gap * 0.7, y - size * 0.95 - drop
        yield x + gap * 0.7, y + size * 0.95 + drop
        yield x - gap * 0.7 - width, y - size * 0.95 - drop
        yield x - gap * 0.7 - width, y + size * 0.95 + drop
        yield x - width / 2, y - size * 1.25 - drop
        yield x - width / 2, y + size * 1.25 + drop
