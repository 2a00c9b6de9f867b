"""How a stream goes: one line that moves where stderr is a terminal, else a line a window."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from prunus.cli.talk import say
from prunus.data.event_rejects import REASONS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

REFRESH_PER_SECOND = 2
"""Few enough that drawing does not disturb the learning."""


class Lines:
    """A line a window, for logs.

    Args:
        quiet: whether windows are not told, as they are written elsewhere.
    """

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet

    def say(self, text: str) -> None:
        """Tell something."""
        say(text)

    def events(self, n: int) -> None:
        """Say nothing: a log needs no count of each batch."""

    def window(self, line: Mapping[str, Any]) -> None:
        """Tell of a window."""
        if not self._quiet:
            say(f"{line['events']:,} events: {words_of(line)}")


class Live:
    """A line that moves: events so far, how many a second, and the last window."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn

        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            TextColumn("{task.fields[note]}"),
            console=Console(stderr=True),
            refresh_per_second=REFRESH_PER_SECOND,
        )
        self._task = self._bars.add_task("no event yet", total=None, note="")
        self._rate = Rate()

    def say(self, text: str) -> None:
        """Tell something above the line."""
        self._bars.console.print(text, markup=False, highlight=False)

    def events(self, n: int) -> None:
        """Count."""
        per_second = self._rate.of(n)
        rate = "" if per_second is None else f", {per_second:,.0f}/s"
        self._bars.update(self._task, description=f"{n:,} events{rate}")

    def window(self, line: Mapping[str, Any]) -> None:
        """Show a window."""
        self._bars.update(self._task, note=words_of(line))

    def start(self) -> None:
        """Begin to draw."""
        self._bars.start()

    def stop(self) -> None:
        """Draw no more."""
        self._bars.stop()


class Rate:
    """Events a second over the last seconds."""

    SPAN_S = 5.0

    def __init__(self) -> None:
        self._marks: list[tuple[float, int]] = []

    def of(self, n: int) -> float | None:
        """Take a count, and give the rate; None for the first."""
        now = time.monotonic()
        self._marks.append((now, n))
        while len(self._marks) > 2 and now - self._marks[1][0] > self.SPAN_S:
            del self._marks[0]
        then, before = self._marks[0]
        return (n - before) / (now - then) if now > then else None


def words_of(line: Mapping[str, Any]) -> str:
    """Put a window in words, few enough for a line of 80 characters.

    NE of the dense master and the gaps to it, or where none learns the others' own NE; which model serves; rows that were no
    events, so far.
    """
    watched = line["ne"]["dense"] is not None
    parts = [f"NE {line['ne']['dense']:.4f}"] if watched else []
    for name in ("sparse", "served"):
        value = (line["gap_percent"] if watched else line["ne"]).get(name)
        if value is not None:
            parts.append(f"{name} {value:+.2f} %" if watched else f"{name} NE {value:.4f}")
    parts.append("no model yet" if line["serving"] is None else f"model {line['serving']}")
    bad = sum(line["counts"].get(reason, 0) for reason in REASONS)
    return ", ".join([*parts, f"{bad:,} bad"] if bad else parts)


@contextmanager
def display(*, quiet: bool) -> Iterator[Live | Lines]:
    """Give what a stream reports to.

    Args:
        quiet: whether windows are written elsewhere.
    """
    if not sys.stderr.isatty():
        yield Lines(quiet=quiet)
        return
    live = Live()
    live.start()
    try:
        yield live
    finally:
        live.stop()
