"""What the run means, in sentences: one headline for a manager, then what qualifies it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from prunus.report import form
from prunus.report.values import at, positive, text

if TYPE_CHECKING:
    from prunus.report.run import Model, Run

STUDENTS = ("dense", "sparse", "int8", "block")
"""Roles of students."""

SAME_TIME = 1.05
"""Two times whose ratio is below this are called the same (the repository's rule for a dense student of equal time)."""


@dataclass(frozen=True)
class Headline:
    """The words at the top of a page.

    Attributes:
        sentence: the headline.
        lede: what stands right below it, in larger type; may be empty.
        findings: further sentences, each of which qualifies the headline.
    """

    sentence: str
    lede: str
    findings: tuple[str, ...]


def headline(run: Run) -> Headline:
    """Say what came out.

    A forest that ranks as well and is faster than the chosen model is named in the headline itself, since then the
    small model has not earned its place.
    """
    sentence = _sentence(run)
    better = _better_forest(run)
    if better is not None:
        sentence += f"; a forest of {_size(better)} ranks as well and is faster still"
    found = [
        _forests(run),
        _open(run),
        _pruning(run),
        "" if better else _better(run, "forest"),
        _better(run, *STUDENTS),
        _budget(run),
        text(at(run.result, "exact_trees"), "sentence") or "",
        _bar(run),
        _engines(run),
    ]
    return Headline(sentence + ".", _lede(run), tuple(words for words in found if words))


def subject(run: Run) -> str:
    """Name the chosen model as the subject of a sentence."""
    role = run.chosen.role if run.chosen else "other"
    names = {"dense": "The small dense model", "forest": "The smaller forest", "teacher": "The teacher itself"}
    return names.get(role, "The small model")


def _sentence(run: Run) -> str:
    who, outcome = subject(run), run.verdict.outcome
    ratio = run.faster(run.chosen, run.bar)
    speed = "" if ratio is None else _speed(ratio)
    if run.chosen is not None and run.chosen.role == "teacher":
        return "Nothing smaller was good enough: the teacher itself is returned"
    if outcome == "non_inferior":
        surely = (run.verdict.lower or 0) > 0
        ranks = f"{who} ranks better than the teacher" if surely else f"{who} ranks as well as the teacher"
        if ratio is None:
            return ranks
        return f"{ranks} {'but' if ratio < 1 / SAME_TIME else 'and'} {speed}"
    if outcome == "inferior":
        if ratio is None:
            return f"{who} ranks worse than the teacher"
        if ratio < SAME_TIME:
            return f"{who} ranks worse than the teacher and {speed}"
        return f"{who} {speed} but ranks worse than the teacher"
    open_ = (
        "it is not settled whether it ranks as well as the teacher"
        if outcome
        else "whether it ranks as well was not tested"
    )
    return f"{who} {speed}; {open_}" if speed else f"{who} is ready; {open_}"


def _speed(ratio: float) -> str:
    if ratio >= SAME_TIME:
        return f"scores {form.times(ratio)} times faster"
    if ratio > 1 / SAME_TIME:
        return "scores in the same time"
    return f"scores {form.times(1 / ratio)} times slower"


def _lede(run: Run) -> str:
    rival = run.rival_forest
    ratio = run.faster(run.chosen, rival)
    if rival is None or ratio is None or ratio < SAME_TIME or run.verdict.outcome != "non_inferior":
        return ""
    return (
        f"Against the smallest forest that itself ranks as well ({_size(rival)}), it is still {form.times(ratio)} times"
        " faster."
    )


def _better_forest(run: Run) -> Model | None:
    """Return the smallest forest that ranks as well, if it is faster than the chosen model."""
    rival, ratio = run.rival_forest, run.faster(run.chosen, run.rival_forest)
    if run.chosen is None or run.chosen.role == "forest" or rival is None or ratio is None:
        return None
    return rival if ratio < 1 / SAME_TIME else None


def _forests(run: Run) -> str:
    forests = run.of_role("forest")
    if (
        not forests
        or run.verdict.margin is None
        or not any(model.lower is not None or model.outcome for model in forests)
    ):
        return ""
    if run.rival_forest is None:
        none = "None of the smaller forests is shown to rank as well as the teacher"
        return (
            f"{none}, so there is no simpler way to its quality."
            if run.verdict.outcome == "non_inferior"
            else f"{none} either."
        )
    better = _better_forest(run)
    if better is None:
        return ""
    ratio = run.faster(better, run.chosen) or 1.0
    return (
        f"Cutting the forest to {_size(better)} is the simpler way here: it ranks as well as the teacher and takes"
        f" {form.times(ratio)} times less time than the chosen model."
    )


def _open(run: Run) -> str:
    verdict = run.verdict
    if verdict.outcome != "inconclusive":
        return ""
    tested = f"These {form.counted(verdict.queries, 'query', 'queries')}" if verdict.queries else "These data"
    allow = ""
    if verdict.lower is not None and verdict.upper is not None and verdict.teacher_mean:
        low, high = verdict.lower / verdict.teacher_mean, verdict.upper / verdict.teacher_mean
        allow = f" ({form.signed_percent(low)} to {form.signed_percent(high)} are all possible)"
    words = f"{tested} cannot tell whether the model ranks as well as the teacher{allow}."
    wanted = verdict.queries_for_80_power
    if wanted is None:
        return words
    if verdict.queries is not None and wanted <= verdict.queries:
        return f"{words} About {form.whole(wanted)} queries show it of a model that is truly as good, so this one is probably a little worse."
    return (
        f"{words} If it is truly as good, about {form.whole(wanted)} queries would show it with a probability of 80 %."
    )


def _pruning(run: Run) -> str:
    """Say whether pruning won, or which kind, by the models of most equal time."""
    chosen, batch = run.chosen, run.batch
    if chosen is None or chosen.role not in STUDENTS or batch not in chosen.us or chosen.quality is None:
        return ""
    roles = [role for role in STUDENTS if role != chosen.role]
    others = [m for role in roles for m in run.of_role(role) if batch in m.us and m.quality is not None]
    if not others:
        return ""
    other = min(others, key=lambda model: max(model.us[batch] / chosen.us[batch], chosen.us[batch] / model.us[batch]))
    gap = chosen.quality - (other.quality or 0)
    figures = f"{form.quality(other.quality)} in {form.us(other.us[batch])} a document, the chosen model {form.quality(chosen.quality)} in {form.us(chosen.us[batch])}"
    if chosen.role == "dense":
        return f"A dense student won, so that is what was kept: the {other.role} student nearest in time reaches {run.metric} {figures}."
    side = f"{form.quality(abs(gap))} {'above' if gap > 0 else 'below'} it" if round(gap, 4) else "level with it"
    return f"The {other.role} student nearest in time reaches {run.metric} {figures}: {side}."


def _better(run: Run, *roles: str) -> str:
    """Name a model of these roles that is at once better on test data and no slower than the chosen one."""
    chosen, batch = run.chosen, run.batch
    if chosen is None or batch not in chosen.us or chosen.quality is None:
        return ""
    for model in (model for role in roles for model in run.of_role(role)):
        if model is chosen or model.quality is None or batch not in model.us:
            continue
        if model.quality > chosen.quality and model.us[batch] <= chosen.us[batch]:
            figures = f"{form.quality(model.quality)} in {form.us(model.us[batch])}"
            if model.role == "forest":
                return f"A forest of {_size(model)} is both better on these test data and no slower ({figures})."
            return (
                f"On these test data {model.name} is both better and no slower ({figures}); the choice was made on"
                " validation data, before the test data were opened."
            )
    return ""


def _budget(run: Run) -> str:
    budget = at(run.result, "budget")
    limit, batch, limit_bytes = positive(budget, "us_per_doc"), positive(budget, "batch"), positive(budget, "bytes")
    if limit is not None:
        batch_size = int(batch or 128)
        asked = f"The budget was {limit:.6g} \N{MICRO SIGN}s a document at batch {form.whole(batch_size)}"
        spent = run.chosen.us.get(batch_size) if run.chosen else None
        if spent is None:
            return asked + "."
        kept = "kept" if spent <= limit else "kept within 10 %" if spent <= 1.1 * limit else "exceeded"
        return f"{asked}: {kept}, with {form.us(spent)} measured."
    if limit_bytes is not None:
        asked = f"The budget was {form.size(limit_bytes)}"
        spent = run.chosen.nbytes if run.chosen else None
        return (
            f"{asked}."
            if spent is None
            else f"{asked}: {'kept' if spent <= limit_bytes else 'exceeded'}, with {form.size(spent)}."
        )
    return ""


def _bar(run: Run) -> str:
    """Name the engine of the headline, and what the ratio is in each of the slower ones."""
    bar, batch = run.bar, run.batch
    ratio = run.faster(run.chosen, bar)
    if bar is None or batch is None or ratio is None or not run.of_role("exact"):
        return ""
    engine = bar.engines.get(batch) or "the fastest engine"
    words = f"{form.times(ratio)} times is against the teacher's trees in {engine}, the fastest of all engines timed"
    slower = run.faster(run.chosen, run.teacher)
    if slower is not None and slower > ratio and run.teacher is not None:
        words += (
            f"; in {run.teacher.engines.get(batch) or run.teacher.engine} they take {form.times(slower)} times its time"
        )
    return words + "."


def _engines(run: Run) -> str:
    engines = run.tree_engines
    if not engines:
        return ""
    if len(engines) == 1:
        return f"Trees are timed in {engines[0]}, the fastest tree engine measured here."
    return (
        f"Each forest is timed in the fastest tree engine measured for it ({', '.join(engines[:-1])} or {engines[-1]})."
    )


def _size(model: Model) -> str:
    return form.counted(model.trees, "tree") if model.trees is not None else model.name
