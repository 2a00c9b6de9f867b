"""The page of a ranker: what came out, whether to believe it, and everything it was measured by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prunus.report import details, form, method, page, sections
from prunus.report.headline import headline
from prunus.report.markup import Markup, element, joined
from prunus.report.run import Run, read
from prunus.report.sections import tile

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from prunus.report.headline import Headline

_PARTS = (
    ("verdict", "Verdict", sections.verdict),
    ("frontier", "Frontier", sections.frontier),
    ("models", "All models", sections.models),
    ("layers", "Sparsity", details.layers),
    ("features", "Features", details.features),
    ("queries", "Queries", details.queries),
    ("training", "Training", sections.training),
    ("method", "Method", method.method),
)


def write(result: Mapping[str, Any], path: str | Path) -> Path:
    """Write the page of one run: one file that needs no network and no other file.

    Args:
        result: the dict of ``result.json``. A key that is missing, None or not a number leaves a gap in the page.
        path: the file to write; its folder must exist. An older file is replaced only once the new one is complete.

    Returns:
        The path of the page.

    Raises:
        OutputError: the page cannot be written; nothing half-written is left behind.
    """
    return page.save(path, render(result))


def render(result: Mapping[str, Any]) -> str:
    """Return the page of one run as HTML.

    Args:
        result: the dict of ``result.json``, as for `write`.

    Returns:
        The whole document; the same result gives the same bytes.
    """
    run = read(result)
    words = headline(run)
    drawn = [(name, title, draw(run)) for name, title, draw in _PARTS]
    links = [element("a", title, href=f"#{name}") for name, title, content in drawn if content]
    body = joined(
        [
            _head(run, words),
            element("nav", *links, aria_label="Parts of this page"),
            *(content for *_, content in drawn),
        ]
    )
    return page.document(f"{words.sentence} prunus report", body)


def _head(run: Run, words: Headline) -> Markup:
    badges = {
        "non_inferior": ("good", "\N{CHECK MARK} Non-inferior"),
        "inferior": ("bad", "\N{MULTIPLICATION X} Inferior"),
        "inconclusive": ("open", "? Inconclusive"),
    }
    tone, name = badges.get(run.verdict.outcome or "", ("open", "Not tested"))
    top = element(
        "p",
        element("span", "prunus \N{MIDDLE DOT} ranker report", class_="brand"),
        " ",
        element("span", name, class_=f"badge {tone}"),
    )
    lede = element("p", words.lede, class_="lede") if words.lede else ""
    findings = (
        element("ul", *(element("li", item) for item in words.findings), class_="findings") if words.findings else ""
    )
    return element("header", top, element("h1", words.sentence), lede, _figures(run), findings)


def _figures(run: Run) -> Markup:
    tiles = [one for one in (_quality_tile(run), _speed_tile(run), _size_tile(run)) if one]
    return element("div", *tiles, class_="tiles") if tiles else Markup()


def _quality_tile(run: Run) -> Markup:
    test, chosen, teacher = run.verdict, run.chosen, run.teacher
    student_mean = chosen.quality if chosen and chosen.quality is not None else test.student_mean
    teacher_mean = teacher.quality if teacher and teacher.quality is not None else test.teacher_mean
    if student_mean is None:
        return Markup()
    compared = (
        f"{run.metric} on test data; teacher {form.quality(teacher_mean)}"
        if teacher_mean is not None
        else f"{run.metric} on test data"
    )
    change = ""
    if test.difference is not None:
        share = f" ({form.signed_percent(test.difference / teacher_mean)})" if teacher_mean else ""
        change = (
            f"difference {form.signed(test.difference)}{share}, at least {form.signed(test.lower)} with 95 % confidence"
        )
        change = change if test.lower is not None else f"difference {form.signed(test.difference)}{share}"
    return tile("Quality", form.quality(student_mean), compared, change)


def _speed_tile(run: Run) -> Markup:
    chosen, batch = run.chosen, run.batch
    if chosen is None or batch is None or batch not in chosen.us:
        return Markup()
    bar = run.bar
    ratio = run.faster(chosen, bar)
    own = form.us(chosen.us[batch])
    at_batch = f"a document at batch {form.whole(batch)}; one thread, median of interleaved runs"
    if ratio is None or bar is None:
        return tile("Speed", own, at_batch)
    others = [
        f"{form.times(value)}\N{MULTIPLICATION SIGN} at batch {form.whole(size)}"
        for size in run.batches
        if size != batch and (value := run.faster(chosen, bar, size))
    ]
    words = f"{own} instead of {form.us(bar.us[batch])} {at_batch}"
    against = _against(run.faster(chosen, run.rival_forest))
    also = ", ".join(others)
    faster = "faster" if ratio >= 1 else "the teacher's speed"
    return tile(
        "Speed",
        f"{form.times(ratio) if ratio >= 1 else f'{ratio:.2f}'}\N{MULTIPLICATION SIGN} {faster}",
        words,
        also,
        against,
    )


def _against(ratio: float | None) -> str:
    """Compare with the smallest forest that ranks as well."""
    if ratio is None:
        return ""
    if ratio >= 1:
        return f"{form.times(ratio)}\N{MULTIPLICATION SIGN} against the smallest forest that ranks as well"
    return f"the smallest forest that ranks as well is {form.times(1 / ratio)}\N{MULTIPLICATION SIGN} faster still"


def _size_tile(run: Run) -> Markup:
    chosen, teacher = run.chosen, run.teacher
    if chosen is None or (chosen.nbytes is None and chosen.nonzeros is None):
        return Markup()
    big = form.size(chosen.nbytes) if chosen.nbytes is not None else f"{form.whole(chosen.nonzeros)} weights"
    compared = ""
    if chosen.nbytes is not None and teacher is not None and teacher.nbytes is not None:
        compared = f"on disk instead of {form.size(teacher.nbytes)}"
        if teacher.nbytes > chosen.nbytes:
            compared += f", {form.times(teacher.nbytes / chosen.nbytes)} times smaller"
    elif chosen.nbytes is not None:
        compared = "on disk"
    counted = (
        [form.counted(chosen.nonzeros, "nonzero weight")]
        if chosen.nonzeros is not None and chosen.nbytes is not None
        else []
    )
    if chosen.features_used is not None:
        counted.append(f"reads {form.counted(chosen.features_used, 'feature')}")
    return tile("Size", big, compared, ", ".join(counted))
