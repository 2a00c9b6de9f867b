"""Training curves: one quantity over epochs, for trainings that follow one another or that each begin anew."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from prunus.report import form
from prunus.report.markup import Markup, element
from prunus.report.svg import Scale, decimals_of, label, line, padded, picture, plain, polyline
from prunus.report.values import number, text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

WIDTH, HEIGHT = 340.0, 210.0
LEFT, RIGHT, TOP, BOTTOM = 50.0, WIDTH - 10.0, 30.0, HEIGHT - 40.0


@dataclass(frozen=True)
class Training:
    """Records of one stage with rising epochs.

    Attributes:
        stage: its name.
        epochs: where each record stands on the axis.
        records: as the result gives them.
        chosen: whether the model that was returned came out of it.
    """

    stage: str
    epochs: tuple[float, ...]
    records: tuple[Mapping[str, Any], ...]
    chosen: bool


@dataclass(frozen=True)
class History:
    """All trainings of a run.

    Attributes:
        trainings: in the order in which they ran.
        anew: whether they each begin at the first epoch, and so lie over one another.
    """

    trainings: tuple[Training, ...]
    anew: bool


def read(history: Sequence[Mapping[str, Any]], chosen: str | None) -> History:
    """Split the records where the stage changes or the epochs start again.

    Args:
        history: records with ``stage`` and ``epoch``.
        chosen: name of the model that was returned; a stage whose name it begins with is its training.

    Returns:
        The trainings. Where the epochs of one do not go on from those before it, all are drawn over one another.
    """
    runs: list[list[tuple[float, Mapping[str, Any]]]] = []
    for record in history:
        before = runs[-1][-1] if runs else None
        epoch = number(record, "epoch")
        if epoch is None:
            epoch = before[0] + 1 if before else 1.0
        if before is None or _stage(before[1]) != _stage(record) or epoch <= before[0]:
            runs.append([])
        runs[-1].append((epoch, record))
    anew = any(later[0][0] <= earlier[-1][0] for earlier, later in pairwise(runs))
    trainings = [
        Training(
            stage,
            tuple(epoch for epoch, _ in run),
            tuple(record for _, record in run),
            bool(chosen and chosen.startswith(stage)),
        )
        for run in runs
        for stage in [_stage(run[0][1])]
    ]
    return History(tuple(trainings), anew)


def curve(history: History, key: str, title: str, *, log: bool = False) -> Markup:
    """Draw one quantity; empty with fewer than two values.

    Args:
        history: the trainings.
        key: of the quantity in each record.
        title: what it is, with its unit.
        log: whether a range above a factor of 20 is drawn on a logarithmic axis.
    """
    lines = [
        (
            training,
            [
                (epoch, value)
                for epoch, record in zip(training.epochs, training.records, strict=True)
                if (value := number(record, key)) is not None
            ],
        )
        for training in history.trainings
    ]
    known = [value for _, points in lines for _, value in points]
    if len(known) < 2:
        return Markup()
    log = log and min(known) > 0 and max(known) / min(known) > 20
    y = Scale(*((min(known) / 1.15, max(known) * 1.15) if log else padded(known, 0.08)), BOTTOM, TOP, log=log)
    epochs = [epoch for training in history.trainings for epoch in training.epochs]
    first, last = min(epochs), max(epochs)
    x = Scale(first, last if last > first else first + 1, LEFT, RIGHT)
    parts = _axes(x, y, "epoch" if history.anew else "epoch, stage after stage")
    parts.append(label(4, 11, title + (", logarithmic" if log else ""), "note strong"))
    if not history.anew:
        parts += _stage_names(history, x)
    # the chosen model's lines last, so that they lie on top
    for training, points in sorted(lines, key=lambda item: item[0].chosen):
        spots = [(x(epoch), y(value)) for epoch, value in points]
        kind = "curve" if training.chosen or not history.anew else "curve faint"
        drawn = (
            [polyline(spots, kind)]
            if len(spots) > 1
            else [element("circle", cx=px, cy=py, r=2.5, class_=f"{kind} dot") for px, py in spots]
        )
        parts.append(element("g", element("title", training.stage + (", chosen" if training.chosen else "")), *drawn))
    described = f"{title} from {known[0]:.4g} to {known[-1]:.4g}; lowest {min(known):.4g}, highest {max(known):.4g}."
    return picture(WIDTH, HEIGHT, parts, title, described)


def _stage(record: Mapping[str, Any]) -> str:
    return text(record, "stage") or "training"


def _axes(x: Scale, y: Scale, unit: str) -> list[object]:
    ticks = y.ticks(4)
    decimals = decimals_of(ticks)
    parts: list[object] = []
    for tick in ticks:
        words = plain(tick) if y.log else f"{tick:.{decimals}f}".replace("-", form.MINUS)
        parts += [line(LEFT, y(tick), RIGHT, y(tick), "grid"), label(LEFT - 6, y(tick) + 4, words, "tick", "end")]
    parts.append(line(LEFT, BOTTOM, RIGHT, BOTTOM, "axis"))
    for tick in x.ticks(5):
        if tick == round(tick):
            parts.append(label(x(tick), BOTTOM + 16, form.whole(tick), "tick", "middle"))
    return [*parts, label((LEFT + RIGHT) / 2, HEIGHT - 7, unit, "note", "middle")]


def _stage_names(history: History, x: Scale) -> list[object]:
    parts: list[object] = []
    named_until = 0.0
    for index, training in enumerate(history.trainings):
        left = x(training.epochs[0])
        if index:
            left = (x(history.trainings[index - 1].epochs[-1]) + left) / 2
            parts.append(line(left, TOP, left, BOTTOM, "stage"))
        room = int((WIDTH - left - 4) / 6.4)
        if left >= named_until and room >= 4:
            words = form.shortened(training.stage, min(room, 16))
            parts.append(label(left + 3, TOP - 6, words, "tick"))
            named_until = left + len(words) * 6.4 + 6
    return parts
