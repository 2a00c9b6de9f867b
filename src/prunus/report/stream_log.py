"""What a stream's directory says, made ready to be drawn: the logs of :mod:`prunus.online.loop`, running or ended."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from prunus.report.timeline import Series
from prunus.report.values import at, count, listed, number, positive, records

MOST_POINTS = 300
"""Points of a line; more windows than that are averaged in groups."""

NEWEST = 10
"""Windows that tell how it stands now."""

ALONE = 4.0
"""What a dense model trained alone costs an event, in times of its scoring: scored once, and a step of three times that."""


@dataclass(frozen=True)
class Log:
    """The plain JSON of a run, as :func:`read` finds it; any part may be missing.

    Attributes:
        run: ``windows``, ``emissions`` and ``rollbacks`` (lists), ``recipe``, ``spent`` and ``result``.
    """

    run: Mapping[str, Any]

    @cached_property
    def windows(self) -> list[Mapping[str, Any]]:
        """Lines of windows.jsonl whose place in the stream is known and rises."""
        found: list[Mapping[str, Any]] = []
        for line in records(self.run, "windows"):
            events = positive(line, "events")
            if events is not None and (not found or events > found[-1]["events"]):
                found.append(line)
        return found

    @cached_property
    def emissions(self) -> list[Mapping[str, Any]]:
        """Lines of emissions.jsonl."""
        return records(self.run, "emissions")

    @property
    def last(self) -> Mapping[str, Any]:
        """The newest window."""
        return self.windows[-1] if self.windows else {}

    @property
    def events(self) -> int:
        """Events of the windows that are closed."""
        return int(number(self.last, "events") or 0)

    @property
    def serving(self) -> int | None:
        """Number of the model that serves: the newest that was swapped in, and not rolled back."""
        back = {count(line, "from") for line in records(self.run, "rollbacks")}
        swapped = [count(line, "number") for line in self.emissions if line.get("swapped") is True]
        return max((one for one in swapped if one is not None and one not in back), default=count(self.last, "serving"))

    @property
    def watched(self) -> bool:
        """Whether a dense master learns in the run."""
        return number(self.last, "ne", "dense") is not None

    @property
    def ended(self) -> bool:
        """Whether the source came to its end with the last window."""
        return bool(self.windows) and number(self.run, "result", "events") == self.events

    @cached_property
    def warm_up(self) -> float:
        """Events that no total counts."""
        return number(self.run, "recipe", "settings", "warm_up") or 0.0

    @cached_property
    def settled(self) -> list[Mapping[str, Any]]:
        """Windows after the warm-up."""
        return [line for line in self.windows if line["events"] > self.warm_up]

    def total(self, figure: str, model: str) -> float | None:
        """NE or gap over all events that count."""
        return number(self.last, "total", figure, model)

    def mean(self, figure: str, model: str) -> float | None:
        """Mean of a figure over the windows after the warm-up, weighted by what makes it that of all their events.

        The calibration of all events is that of the windows weighted by clicks; an AUC has no such weights, and events
        are taken.
        """
        found = [
            (value, size * (rate if figure == "calibration" else 1.0))
            for line in self.settled
            if (value := number(line, figure, model)) is not None
            and (size := positive(line, "size")) is not None
            and (rate := positive(line, "rate")) is not None
        ]
        weight = sum(one for _, one in found)
        return sum(value * one for value, one in found) / weight if weight else None

    @property
    def newest_gap(self) -> float | None:
        """Mean gap of the model that serves over the newest windows, where there are so many after the warm-up."""
        found = [number(line, "gap_percent", "served") for line in self.settled[-NEWEST:]]
        there = [value for value in found if value is not None]
        return sum(there) / NEWEST if len(there) == NEWEST else None

    @cached_property
    def alarms(self) -> dict[str, list[float]]:
        """Where each kind of alarm was raised: the end of its window, once for each."""
        found: dict[str, list[float]] = {"loss": [], "gap": []}
        for kind in found:
            before = 0
            for line in self.windows:
                now = count(line, "alarms", kind) or 0
                found[kind] += [float(line["events"])] * min(max(now - before, 0), 1000)
                before = max(before, now)
        return found

    @cached_property
    def groups(self) -> list[list[Mapping[str, Any]]]:
        """Windows in groups that each make a point of a line."""
        size = -(-len(self.windows) // MOST_POINTS) or 1
        return [self.windows[start : start + size] for start in range(0, len(self.windows), size)]

    def series(self, name: str, role: str, *keys: str, place: int | None = None, scale: float = 1.0) -> Series:
        """Give a figure of the windows as a line of a chart.

        Args:
            name: of the line.
            role: its colour.
            keys: where it stands in a window.
            place: of the figure, where there is a list.
            scale: a factor.
        """
        points: list[tuple[float, float | None]] = []
        for group in self.groups:
            found = [value for line in group if (value := _figure(line, keys, place)) is not None]
            mean = scale * sum(found) / len(found) if found else None
            points.append((float(group[-1]["events"]), mean))
        return Series(name, role, points)

    @property
    def operations(self) -> Series:
        """Operations of the sparse model in percent of the dense one's, as a line of a chart."""
        dense = positive(self.last, "flops", "dense")
        return self.series("operations", "forest", "flops", "serve", scale=100 / dense if dense else 0.0)

    @cached_property
    def counts(self) -> list[tuple[str, int]]:
        """Named counters of the source, the events themselves first."""
        found = at(self.last, "counts")
        named = [
            (str(name), value)
            for name in (found if isinstance(found, Mapping) else {})
            if (value := count(found, name)) is not None
        ]
        return sorted(named, key=lambda one: (one[0] != "events", -one[1], one[0]))

    @cached_property
    def layers(self) -> list[str]:
        """Names of the hidden layers, where the recipe gives as many as the log."""
        n_layers = len(listed(self.last, "density"))
        parts = [
            f"{part} {index}"
            for part in ("bottom", "top")
            for index, _ in enumerate(listed(self.run, "recipe", "settings", part), 1)
        ]
        return parts if len(parts) == n_layers else [f"layer {index + 1}" for index in range(n_layers)]

    @property
    def serve_share(self) -> float | None:
        """Operations of the sparse model over those of the dense one, for an event."""
        sparse, dense = positive(self.last, "flops", "serve"), positive(self.last, "flops", "dense")
        return None if sparse is None or dense is None else sparse / dense

    @property
    def train_share(self) -> float | None:
        """Operations of all learning over those of the dense model scoring as many events."""
        spent, dense = positive(self.last, "train_flops"), positive(self.last, "flops", "dense")
        return None if spent is None or dense is None or not self.events else spent / (dense * self.events)


def read(directory: str | Path) -> dict[str, Any]:
    """Read what a run has written so far.

    Args:
        directory: of the run. A file that is missing, or a line that a kill cut off, is a gap.
    """
    folder = Path(directory)
    return {
        "windows": _lines(folder / "windows.jsonl"),
        "emissions": _lines(folder / "emissions.jsonl"),
        "rollbacks": _lines(folder / "models" / "rollbacks.jsonl"),
        **{name: _plain(_text(folder / f"{name}.json")) for name in ("recipe", "spent", "result")},
    }


def _lines(path: Path) -> list[Any]:
    found = (_plain(line) for line in _text(path).splitlines())
    return [line for line in found if line is not None]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _plain(content: str) -> Any:  # noqa: ANN401 - plain JSON of any shape
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _figure(line: Mapping[str, Any], keys: tuple[str, ...], place: int | None) -> float | None:
    if place is None:
        return number(line, *keys)
    found = listed(line, *keys)
    return number(found[place]) if place < len(found) else None
