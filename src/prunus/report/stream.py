"""The page of a stream: how far the model that serves is from the dense master, what it saves, and all that happened.

The master is the dense model that learns in the same run, beside the sparse one or sharing its weights, as the method has
it. Where they share, the one shapes the other: it is then no dense net trained alone.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunus.errors import OutputError
from prunus.report import form, page, stream_sections
from prunus.report.markup import Markup, element, joined
from prunus.report.sections import tile
from prunus.report.stream_log import ALONE, NEWEST, Log, read
from prunus.report.values import number, positive, records, text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

EVERY_S = 30.0
"""Seconds from one page of a run that goes on to the next, at least."""

_PARTS = (
    ("quality", "Gap and quality", stream_sections.quality),
    ("pattern", "Sparsity", stream_sections.pattern),
    ("emissions", "Models", stream_sections.emissions),
    ("drift", "Drift", stream_sections.drift),
    ("events", "Events", stream_sections.events),
    ("compute", "Compute", stream_sections.compute),
    ("windows", "Windows", stream_sections.windows),
    ("method", "Method", stream_sections.method),
)


def write(directory: str | Path, path: str | Path | None = None) -> Path:
    """Write the page of a run that goes on or has ended: one file that needs no network and no other file.

    Args:
        directory: of the run, as :class:`prunus.online.loop.Loop` writes it.
        path: the file to write; default ``report.html`` in the directory.

    Returns:
        The path of the page.

    Raises:
        OutputError: the page cannot be written; nothing half-written is left behind.
    """
    return page.save(Path(directory) / "report.html" if path is None else path, render(read(directory)))


@contextmanager
def kept(directory: str | Path, say: Callable[[str], None]) -> Iterator[Callable[[], None]]:
    """Keep the page of a run up to date: while it goes on, at its end, and where it is told to stop.

    Args:
        directory: of the run.
        say: is told in a sentence why the page cannot be written; the run goes on without it.

    Yields:
        Draws the page again, unless that was done a moment ago: it never takes more than a hundredth of the time.
    """
    due = time.monotonic() + EVERY_S

    def draw() -> None:
        nonlocal due
        begun = time.monotonic()
        try:
            write(directory)
        except OutputError as error:
            say(str(error))
        now = time.monotonic()
        due = now + max(EVERY_S, 100 * (now - begun))

    def again() -> None:
        if time.monotonic() >= due:
            draw()

    try:
        yield again
    except KeyboardInterrupt:
        draw()
        raise
    draw()


def render(run: Mapping[str, Any]) -> str:
    """Return the page of a run as HTML; the same logs give the same bytes.

    Args:
        run: as :func:`prunus.report.stream_log.read` gives it. What is missing or of a wrong kind leaves a gap.
    """
    log = Log(run)
    sentence = headline(log)
    drawn = [(name, title, draw(log)) for name, title, draw in _PARTS]
    links = [element("a", title, href=f"#{name}") for name, title, content in drawn if content]
    nav = element("nav", *links, aria_label="Parts of this page")
    return page.document(
        f"{sentence} prunus report", joined([_head(log, sentence), nav, *(content for *_, content in drawn)])
    )


def headline(log: Log) -> str:
    """Say in one sentence what the run has come to."""
    gap, share = log.total("gap_percent", "served"), log.serve_share
    saved = "" if share is None else f", for {_operations(share)}"
    if gap is not None:
        return f"The sparse model predicts clicks {_distance(gap)} the dense model beside it{saved}."
    if number(log.last, "serving") is not None:
        why = "no figure compares it with the dense model yet" if log.watched else "no dense model learns beside it"
        return f"A sparse model serves{saved}; {why}."
    if log.windows:
        return f"No sparse model serves yet, after {form.counted(log.events, 'event')}."
    return "No window of the stream is complete yet."


def findings(log: Log) -> list[str]:
    """Say what qualifies the headline."""
    said: list[str] = []
    n_models = form.counted(len(log.emissions), "model")
    failed = [words for line in log.emissions if (words := text(line, "error"))]
    refused = sum(line.get("swapped") is False and not text(line, "error") for line in log.emissions)
    if refused:
        said.append(
            f"{form.whole(refused)} of {n_models} did not get to serve: on the last window they were worse than the model that served."
        )
    if failed:
        words = form.shortened(failed[-1], 120)
        said.append(f"{form.whole(len(failed))} of {n_models} could not be made or written, the last: {words}")
    back = [line for line in records(log.run, "rollbacks") if number(line, "from") is not None]
    if back:
        numbers = ", ".join(form.whole(number(line, "from")) for line in back[-5:])
        said.append(f"Rolled back by hand: model {numbers}.")
    calibration = log.mean("calibration", "served")
    if calibration is not None and abs(calibration - 1) >= 0.03:
        more = "more" if calibration > 1 else "fewer"
        said.append(
            f"The model that serves predicted {form.percent(abs(calibration - 1))} {more} clicks than there were."
        )
    entropy = log.total("ne", "served")
    if entropy is not None and entropy >= 1:
        said.append("It knows no more than the share of clicks: its normalised entropy is not below 1.")
    names = {"loss": "of the master's loss", "gap": "of the gap"}
    alarms = [f"{form.counted(len(places), 'alarm')} {names[kind]}" for kind, places in log.alarms.items() if places]
    if alarms:
        said.append(f"The stream changed: {', '.join(alarms)}.")
    aside = [(name, n) for name, n in log.counts if name != "events" and n]
    if aside:
        most = sorted(aside, key=lambda one: -one[1])[:3]
        words = ", ".join(f"{form.whole(n)} {name.replace('_', ' ')}" for name, n in most)
        said.append(f"The source counted besides: {words}.")
    return said


def _operations(share: float) -> str:
    if share <= 0.995:
        return f"{form.percent(1 - share)} fewer operations an event"
    return "as many operations an event" if share < 1.005 else f"{form.times(share)} times the operations an event"


def _distance(gap: float) -> str:
    """Say a gap in percent in words that claim no more than two decimals can."""
    if abs(gap) < 0.005:
        return "within 0.01 % as well as"
    decimals = 2 if abs(gap) < 1 else 1
    return f"{abs(gap):.{decimals}f} % {'worse' if gap > 0 else 'better'} than"


def _head(log: Log, sentence: str) -> Markup:
    tone, name = (
        ("good", f"\N{CHECK MARK} Model {log.serving} serves")
        if log.serving is not None
        else ("open", "No model serves")
    )
    brand = element("span", "prunus \N{MIDDLE DOT} stream report", class_="brand")
    items = [element("li", one) for one in findings(log)]
    tiles = [one for one in (_gap_tile(log), _serving_tile(log), _learning_tile(log), _stream_tile(log)) if one]
    return element(
        "header",
        element("p", brand, " ", element("span", name, class_=f"badge {tone}")),
        element("h1", sentence),
        element("p", _lede(log), class_="lede"),
        element("div", *tiles, class_="tiles") if tiles else "",
        element("ul", *items, class_="findings") if items else "",
    )


def _lede(log: Log) -> str:
    if not log.windows:
        return "The page is drawn again as the run goes on."
    words = (
        f"{form.counted(log.events, 'event')} seen, {'to the end of the stream' if log.ended else 'and it goes on'}."
    )
    counted = number(log.last, "total", "counted", "served")
    if counted:
        words += f" Each of {form.whole(counted)} was predicted by the model that served then, before any model learned from it."
    return words


def _gap_tile(log: Log) -> Markup:
    gap = log.total("gap_percent", "served")
    alone = log.total("ne", "served")
    if gap is None:
        return Markup() if alone is None else tile("Quality", form.quality(alone), "normalised entropy, as served")
    both = f"normalised entropy {form.quality(log.total('ne', 'served'))} served, {form.quality(log.total('ne', 'dense'))} dense"
    found = sorted(value for line in log.settled if (value := number(line, "gap_percent", "served")) is not None)
    reach = ""
    if len(found) >= 10:
        low, high = found[len(found) // 10], found[-1 - len(found) // 10]
        reach = f"eight windows in ten: {form.signed(low, 2)} to {form.signed(high, 2)}\N{NO-BREAK SPACE}%"
    newest = log.newest_gap
    now = "" if newest is None else f"newest {NEWEST} windows: {form.signed(newest, 2)}\N{NO-BREAK SPACE}%"
    return tile("Gap to dense", f"{form.signed(gap, 2)} %", both, reach, now)


def _serving_tile(log: Log) -> Markup:
    share, sparse, dense = log.serve_share, positive(log.last, "flops", "serve"), positive(log.last, "flops", "dense")
    if share is None or sparse is None or dense is None:
        return Markup()
    fewer = share <= 0.995
    big = f"{form.times(1 / share) if fewer else f'{share:.2f}'}\N{MULTIPLICATION SIGN}"
    words = f"{'fewer' if fewer else 'the'} operations an event: {stream_sections.flops(sparse)}"
    words += f" instead of {stream_sections.flops(dense)} in the layers"
    return tile("Serving", big, words, "operations are counted; time is not measured here")


def _learning_tile(log: Log) -> Markup:
    share = log.train_share
    if share is None:
        return Markup()
    words = "the operations of a dense model trained alone"
    words += ", for master and sparse model together" if log.watched else ", for the sparse model"
    seconds, events = positive(log.run, "spent", "seconds"), positive(log.run, "spent", "events")
    spent = "" if seconds is None or events is None else f"{form.whole(events / seconds)} events a CPU-second, in all"
    return tile("Learning", f"{share / ALONE:.2f}\N{MULTIPLICATION SIGN}", words, spent)


def _stream_tile(log: Log) -> Markup:
    if not log.windows:
        return Markup()
    swapped = sum(line.get("swapped") is True for line in log.emissions)
    rate = number(log.last, "rate")
    clicks = "" if rate is None else f"{form.percent(rate)} of the last window are clicks"
    named = text(log.run, "result", "method")
    method = "" if named is None else f"method: {named}"
    return tile(
        "Stream", form.whole(log.events), f"events; {form.counted(swapped, 'model')} served so far", clicks, method
    )
