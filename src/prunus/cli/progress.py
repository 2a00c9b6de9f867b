"""How far a long stage is: a bar where stderr is a terminal, else a plain line for each stage."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from prunus.cli.talk import say

if TYPE_CHECKING:
    from collections.abc import Iterator


class Progress(Protocol):
    """Who is told how far a run is."""

    def stage(self, name: str, total: float) -> None:
        """Begin a stage of ``total`` units."""

    def advance(self, done: float, note: str = "") -> None:
        """Say how much of the stage is done, and what there is to say of it."""


class Lines:
    """A line when a stage begins; for logs."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._name = ""

    def stage(self, name: str, total: float) -> None:
        """Say which stage begins, and how long the run has taken so far."""
        del total
        if name != self._name:
            self._name = name
            say(f"[{time.monotonic() - self._begun:5.0f} s] {name}")

    def advance(self, done: float, note: str = "") -> None:
        """Say nothing: a log needs no bar."""


class Bars:
    """A bar for each stage, drawn by Rich on stderr."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=Console(stderr=True),
            refresh_per_second=2,  # students are timed in this process: drawing must not disturb them
        )
        self._task = self._bars.add_task("", visible=False, note="")
        self._begun = False

    def stage(self, name: str, total: float) -> None:
        """Finish the bar before, and begin the next."""
        self._finish()
        self._task = self._bars.add_task(name, total=total, note="")
        self._begun = True

    def advance(self, done: float, note: str = "") -> None:
        """Move the bar."""
        self._bars.update(self._task, completed=done, note=note)

    def _finish(self) -> None:
        if self._begun:
            total = self._bars.tasks[self._bars.task_ids.index(self._task)].total
            self._bars.update(self._task, completed=total)

    def start(self) -> None:
        """Begin to draw."""
        self._bars.start()

    def stop(self, *, done: bool) -> None:
        """Draw no more; the last bar is full where all is done."""
        if done:
            self._finish()
        self._bars.stop()


@contextmanager
def progress() -> Iterator[Progress]:
    """Give what a long stage reports to."""
    if not sys.stderr.isatty():
        yield Lines()
        return
    bars = Bars()
    bars.start()
    done = False
    try:
        yield bars
        done = True
    finally:
        bars.stop(done=done)
