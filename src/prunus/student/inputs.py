"""Learn the ranker's input stage from data: which transform, scale and missing-value rule each feature gets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from prunus.data.ranking import Schema
from prunus.engine.network import InputStage, SlotKind
from prunus.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from prunus.data.ranking import RankingData

CLIP = 5.0
"""Bound of a scaled input, in standard deviations: one wild document must not saturate the first layer."""

SAMPLE = 200_000
"""Documents that the statistics are taken from at most; enough for a mean to a quarter of a percent."""

MAX_CATEGORIES = 64
"""Most frequent categories of a categorical feature that get an input of their own."""

HEAVY_TAIL = 4.0
"""A feature is read through log1p where its excess of the largest over the 75 % quantile, in units of the spread
between the 25 % and 75 % quantiles, is above this and log1p makes it smaller. log1p costs the engine about four plain
inputs, so features that do not need it do without."""


def signed_log1p(x: NDArray[np.floating]) -> NDArray[np.floating]:
    """sign(x) log1p(|x|)."""
    return np.asarray(np.sign(x) * np.log1p(np.abs(x)))


def _tail(x: NDArray[np.floating]) -> float:
    low, high, far = np.quantile(x, [0.25, 0.75, 0.999])
    return float((far - high) / max(high - low, 1e-3 * max(float(x.std()), 1e-30)))


def learn_inputs(
    train: RankingData,
    *,
    missing: Literal["auto", "allow"] = "auto",
    categories: Mapping[int, NDArray[np.float32]] | None = None,
    seed: int = 0,
) -> tuple[InputStage, Schema]:
    """Learn the input stage and the schema from training documents.

    A numeric feature gets one slot: (t(x) - mean) / standard deviation, clamped to +-5, with t either x or signed
    log1p, whichever has the lighter tail. A feature that is missing somewhere also gets a slot that is 1 where it is
    missing, and reads as its mean (0) there. A categorical feature gets one slot for each of its 64 most frequent
    categories. A constant feature gets none.

    Args:
        train: training documents.
        missing: ``auto`` forbids NaN in features that were never missing in training; ``allow`` reads it as the mean.
        categories: for each categorical feature of the teacher, its codes.
        seed: of the sample that the statistics are taken from, where there are more than 200,000 documents.

    Raises:
        DataError: every feature is constant, or one holds an infinity.
    """
    X = train.X
    if len(X) > SAMPLE:
        X = X[np.sort(np.random.default_rng(seed).choice(len(X), SAMPLE, replace=False))]
    infinite = np.isinf(train.X).any(axis=0)
    if infinite.any():
        name = train.feature_names[int(np.flatnonzero(infinite)[0])]
        msg = f"{train.source}: feature {name!r} holds an infinity; expected finite values or NaN: clip it"
        raise DataError(msg)
    lacking = np.asarray(np.isnan(train.X).any(axis=0))
    slots: list[tuple[int, SlotKind, float, float, float, float, float]] = []
    for f in range(train.n_features):
        x = X[:, f].astype(np.float64)
        x = x[~np.isnan(x)]
        if categories is not None and f in categories:
            codes, counts = np.unique(x, return_counts=True)
            frequent = np.sort(codes[np.argsort(-counts, kind="stable")[:MAX_CATEGORIES]])
            slots.extend((f, SlotKind.EQUAL, float(np.float32(code)), 1.0, 0.0, 1.0, 0.0) for code in frequent)
        elif len(x) and x.min() < x.max():
            log = signed_log1p(x)
            tail = _tail(x)
            kind, t = (SlotKind.LOG, log) if tail > HEAVY_TAIL and _tail(log) < tail else (SlotKind.VALUE, x)
            scale = 1.0 / max(float(t.std()), 1e-30)
            slots.append((f, kind, float(t.mean()), scale, -CLIP, CLIP, 0.0))
        if lacking[f] and len(x):
            slots.append((f, SlotKind.MISSING, 0.0, 1.0, 0.0, 1.0, 0.0))
    if not slots:
        msg = f"{train.source}: every feature is constant; expected at least one that varies"
        raise DataError(msg)
    columns = [np.array(column) for column in zip(*slots, strict=True)]
    allow = tuple(bool(b) for b in (lacking if missing == "auto" else np.ones_like(lacking)))
    return InputStage(*columns), Schema(train.feature_names, allow)
