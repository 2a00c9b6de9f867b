"""What a page of a ranker shows, read once from the result: the models compared, the verdict, the names of things."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from prunus.report.values import at, by_batch, count, number, positive, records, text

ROLES = ("teacher", "exact", "forest", "sparse", "dense", "int8", "block")
"""Roles in the order of legends and tables; any other role is shown as ``other``."""

USUAL_BATCH = 128
"""Documents a call at which times are compared unless said otherwise."""

_METRICS = {"ndcg": "nDCG", "mrr": "MRR", "map": "MAP", "recall": "recall", "precision": "precision"}


@dataclass(frozen=True)
class Model:
    """One row of the comparison; a field is None, or a batch absent, where nothing was measured.

    Attributes:
        name: as the run calls it.
        role: one of `ROLES`, or ``other``.
        engine: what it was timed in.
        trees: number of trees of an ensemble.
        nonzeros: weights that are not zero.
        features_used: features that are read.
        quality: the metric on test data.
        difference: mean difference to the teacher, paired by query.
        lower: lower end of the two-sided 95 % interval of the difference.
        upper: upper end of it.
        us: batch size -> microseconds a document, median.
        p99: batch size -> microseconds a document, 99th percentile.
        nbytes: bytes of the file on disk.
        chosen: whether the run returned this model.
        engines: batch size -> the engine that was the fastest there.
        outcome: of the same test as the verdict's, against the teacher.
    """

    name: str
    role: str
    engine: str | None = None
    trees: int | None = None
    nonzeros: int | None = None
    features_used: int | None = None
    quality: float | None = None
    difference: float | None = None
    lower: float | None = None
    upper: float | None = None
    us: dict[int, float] = field(default_factory=dict)
    p99: dict[int, float] = field(default_factory=dict)
    nbytes: float | None = None
    chosen: bool = False
    engines: dict[int, str] = field(default_factory=dict)
    outcome: str | None = None


@dataclass(frozen=True)
class Verdict:
    """The paired test of the chosen model against the teacher; None where the result does not say.

    Attributes:
        outcome: ``non_inferior``, ``inferior``, ``inconclusive`` or None.
        difference: mean over queries of student - teacher.
        lower: one-sided 95 % lower bound.
        upper: one-sided 95 % upper bound.
        margin: what the student may lose, in units of the metric.
        relative_margin: what it may lose, as a share of the teacher's mean.
        teacher_mean: metric of the teacher over the queries counted.
        student_mean: metric of the student over them.
        queries: queries counted.
        clusters: clusters among them.
        queries_for_80_power: queries that would settle an open outcome.
        metric: the metric with its convention.
    """

    outcome: str | None
    difference: float | None
    lower: float | None
    upper: float | None
    margin: float | None
    relative_margin: float | None
    teacher_mean: float | None
    student_mean: float | None
    queries: int | None
    clusters: int | None
    queries_for_80_power: int | None
    metric: str | None


@dataclass(frozen=True)
class Run:
    """Everything that the parts of a page share.

    Attributes:
        result: the result itself, for what only one part shows.
        metric: short name of the metric, ``nDCG@10``.
        metric_key: its key in the result, ``ndcg@10``.
        models: teacher first, then forests by size, then students by time.
        teacher: the teacher's row, if there is one.
        chosen: the model that the run returned, if there is one.
        verdict: the paired test.
        batch: documents a call at which the page compares times; None where no time is known.
    """

    result: Mapping[str, Any]
    metric: str
    metric_key: str
    models: tuple[Model, ...]
    teacher: Model | None
    chosen: Model | None
    verdict: Verdict
    batch: int | None

    @property
    def batches(self) -> list[int]:
        """Batch sizes at which at least one model was timed."""
        return sorted({batch for model in self.models for batch in model.us})

    def faster(self, model: Model | None, than: Model | None, batch: int | None = None) -> float | None:
        """Return how many times less time the model takes than the other, or None where that is not known."""
        batch = batch or self.batch
        if model is None or than is None or batch not in model.us or batch not in than.us:
            return None
        return than.us[batch] / model.us[batch]

    def of_role(self, role: str) -> list[Model]:
        """Return the models of one role."""
        return [model for model in self.models if model.role == role]

    def ranks_as_well(self, model: Model) -> bool:
        """Whether the model passes the verdict's own test or, where that is not told, its interval lies above the margin."""
        if model.outcome is not None:
            return model.outcome == "non_inferior"
        return model.lower is not None and self.verdict.margin is not None and model.lower > -self.verdict.margin

    @property
    def bar(self) -> Model | None:
        """The teacher, at each batch in the fastest of all engines that its trees were timed in, ours among them."""
        if self.teacher is None:
            return None
        same = [self.teacher, *(m for m in self.of_role("exact") if m.trees == self.teacher.trees)]
        us: dict[int, float] = {}
        engines: dict[int, str] = {}
        for model in same:
            for batch, value in model.us.items():
                if batch not in us or value < us[batch]:
                    us[batch], engines[batch] = value, model.engines.get(batch) or model.engine or ""
        return replace(self.teacher, us=us, engines=engines)

    @property
    def tree_engines(self) -> list[str]:
        """Engines in which the teacher and the forests were timed."""
        timed = [model for model in self.models if model.role in {"teacher", "forest", "exact"}]
        return sorted({name.strip() for model in timed for name in (model.engine or "").split(",") if name.strip()})

    @property
    def rival_forest(self) -> Model | None:
        """The smallest forest that itself ranks as well as the teacher, within the same margin."""
        forests = [model for model in self.models if model.role in {"forest", "exact"}]
        whole = self.teacher.trees if self.teacher else None
        able = [
            model for model in forests if self.ranks_as_well(model) and (model.role == "forest" or model.trees != whole)
        ]
        return min(able, key=lambda model: (model.trees or 1 << 30, model.us.get(self.batch or 0, 0.0)), default=None)


def read(result: Mapping[str, Any]) -> Run:
    """Read a result.

    Args:
        result: the dict of ``result.json``; any key may be missing.

    Returns:
        What the page shows.
    """
    key = (text(result, "metric") or "ndcg@10").lower()
    models = [_model(row, key) for row in records(result, "rows")]
    teacher = next((model for model in models if model.role == "teacher"), None)
    if teacher is None and isinstance(at(result, "teacher"), Mapping):
        teacher = _model({"name": "teacher", **at(result, "teacher"), "role": "teacher"}, key)
        models.append(teacher)
    chosen = next((model for model in models if model.chosen), None)
    if chosen is None and isinstance(at(result, "student"), Mapping):
        chosen = _model({"name": "student", "role": "other", **at(result, "student"), "chosen": True}, key)
        models.append(chosen)
    models.sort(key=_order)
    verdict = _verdict(result)
    batches = [set(model.us) for model in (teacher, chosen) if model is not None and model.us]
    common = set.intersection(*batches) if batches else {batch for model in models for batch in model.us}
    return Run(
        result=result,
        metric=metric_name(key),
        metric_key=key,
        models=tuple(models),
        teacher=teacher,
        chosen=chosen,
        verdict=verdict,
        batch=min(common, key=lambda batch: abs(batch - USUAL_BATCH), default=None),
    )


def metric_name(key: str) -> str:
    """Write a metric as the field does: ``ndcg@10`` is ``nDCG@10``."""
    head, sign, depth = key.partition("@")
    return _METRICS.get(head, head) + sign + depth


def _order(model: Model) -> tuple[int, float, float, str]:
    rank = ROLES.index(model.role) if model.role in ROLES else len(ROLES)
    # forests from the largest down, as the teacher above them is the largest; students from the fastest
    trees = -float(model.trees or 0) if model.role in {"forest", "exact"} else 0.0
    return rank, trees, min(model.us.values(), default=float("inf")), model.name


def _model(row: Mapping[str, Any], key: str) -> Model:
    role = text(row, "role") or "other"
    return Model(
        name=text(row, "name") or role,
        role=role if role in ROLES else "other",
        engine=text(row, "engine"),
        trees=count(row, "trees"),
        nonzeros=count(row, "nonzeros"),
        features_used=count(row, "features_used"),
        quality=number(row, key),
        difference=number(row, "difference"),
        lower=number(row, "lower"),
        upper=number(row, "upper"),
        us=by_batch(row, "us_per_doc"),
        p99=by_batch(row, "p99_us_per_doc"),
        nbytes=positive(row, "bytes"),
        chosen=at(row, "chosen") is True,
        engines={
            int(batch): name for batch in by_batch(row, "us_per_doc") if (name := text(row, "engines", str(batch)))
        },
        outcome=text(row, "outcome"),
    )


def _verdict(result: Mapping[str, Any]) -> Verdict:
    found = at(result, "verdict")
    margin, teacher = positive(found, "margin"), number(found, "teacher_mean")
    relative = positive(found, "relative_margin")
    if relative is None and margin is not None and teacher is not None and teacher > 0:
        relative = margin / teacher
    outcome = text(found, "outcome")
    return Verdict(
        outcome=outcome if outcome in {"non_inferior", "inferior", "inconclusive"} else None,
        difference=number(found, "difference"),
        lower=number(found, "lower"),
        upper=number(found, "upper"),
        margin=margin,
        relative_margin=relative,
        teacher_mean=teacher,
        student_mean=number(found, "student_mean"),
        queries=count(found, "queries"),
        clusters=count(found, "clusters"),
        queries_for_80_power=count(found, "queries_for_80_power"),
        metric=text(found, "metric") or text(result, "convention"),
    )
