"""Train a teacher: LightGBM LambdaMART, stopped early by prunus's own nDCG@10 on validation queries."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from prunus.errors import SchemaError, TeacherError
from prunus.extras import need
from prunus.metrics import ndcg
from prunus.teacher.lightgbm_model import LightGBMForest
from prunus.teacher.trees import TreeTeacher, teacher_in_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from prunus.data.ranking import RankingData

DEFAULTS: dict[str, Any] = {
    "objective": "lambdarank",
    "num_leaves": 64,  # one 64-bit word a tree in the fast tree engines, which are the rivals
    "learning_rate": 0.05,
    "min_data_in_leaf": 50,
    "feature_fraction": 0.8,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "deterministic": True,  # the same trees for any number of threads
    "force_row_wise": True,  # else LightGBM times two layouts and takes the faster
}
"""What LightGBM is told unless ``params`` says otherwise."""

OWN = {
    "metric": "nDCG@10 of prunus decides when to stop",
    "num_iterations": "use n_trees",
    "early_stopping_round": "use patience",
    "seed": "use seed",
    "label_gain": "gains are 2^label - 1",
    "num_class": "a ranker has one score",
}
"""Parameters that are set here, with what to do instead."""

MAX_DOCUMENTS = 10_000
"""LightGBM's limit on the documents of one query."""

_PLAIN_NAME = re.compile(r"[^\s\"',:{}\[\]]+")
"""Names that LightGBM keeps as they are (it refuses JSON's signs and writes _ for a blank)."""


def train_lambdamart(
    train: RankingData,
    valid: RankingData,
    *,
    params: Mapping[str, Any] | None = None,
    n_trees: int = 1000,
    patience: int = 50,
    seed: int = 1,
    progress: Callable[[int, float], None] | None = None,
) -> TreeTeacher:
    """Train LambdaMART and keep the trees up to the best validation nDCG@10.

    nDCG@10 follows :func:`prunus.metrics.ndcg` (ties by input order, queries without a relevant document left out), not
    LightGBM's own, which counts such queries as 1. The same seed gives the same trees.

    Args:
        train: documents to learn from; labels are whole numbers.
        valid: documents that decide when to stop; the same features.
        params: LightGBM parameters, under any of their names, that replace :data:`DEFAULTS`.
        n_trees: most trees to train.
        patience: stop after this many trees without a better validation nDCG@10.
        seed: of feature and row sampling.
        progress: called after each tree with (trees so far, validation nDCG@10).

    Returns:
        The teacher, in memory; ``save`` writes it. Where a feature name holds blanks, quotes or brackets, which LightGBM
        cannot keep, its features are called Column_0 ... and go by position.

    Raises:
        TeacherError: a parameter is unknown or set elsewhere, a label is no whole number, or a query is too long.
        SchemaError: train and valid have different features.
        EmptyDataError: no validation query has a relevant document.
        MissingExtraError: LightGBM is not installed.

    References:
        Burges, From RankNet to LambdaRank to LambdaMART: an overview, MSR-TR-2010-82.
    """
    lightgbm = need("lightgbm", extra="train")
    if n_trees < 1 or patience < 1:
        msg = f"got {n_trees} trees and a patience of {patience}; expected both 1 or more"
        raise TeacherError(msg)
    settings = _settings(lightgbm, params or {}, seed, max(_largest_label(train), _largest_label(valid)))
    _check(train, valid)
    # An empty validation set has no mean: find out before training.
    _ = ndcg(valid.y, np.zeros(valid.n_docs), valid.offsets, k=10).mean

    learn = _dataset(lightgbm, train, settings, None)
    values: list[float] = []

    def evaluate(scores: NDArray[np.float64], _rows: object) -> tuple[str, float, bool]:
        values.append(ndcg(valid.y, scores, valid.offsets, k=10).mean)
        return "ndcg@10", values[-1], True

    def report(_environment: object) -> None:
        if progress is not None:
            progress(len(values), values[-1])

    try:
        booster = lightgbm.train(
            settings,
            learn,
            num_boost_round=n_trees,
            valid_sets=[_dataset(lightgbm, valid, settings, learn)],
            feval=evaluate,
            callbacks=[report, lightgbm.early_stopping(patience, verbose=False)],
        )
    except (lightgbm.basic.LightGBMError, ValueError, TypeError) as error:
        msg = f"LightGBM cannot train on {train.source}: {error}; expected parameters and labels that lambdarank takes"
        raise TeacherError(msg) from error
    best = int(np.argmax(values)) + 1
    text = booster.model_to_string(num_iteration=best)
    return teacher_in_memory(LightGBMForest(text.encode(), f"LambdaMART on {train.source}"))


def _settings(lightgbm: Any, params: Mapping[str, Any], seed: int, largest: int) -> dict[str, Any]:  # noqa: ANN401
    """Merge the parameters under their main names (LightGBM prefers a main name to its alias, whoever gave it)."""
    # LightGBM has no public list of its parameters; its own scikit-learn and Dask layers read this one.
    aliases: dict[str, list[str]] = lightgbm.basic._ConfigAliases._get_all_param_aliases()  # noqa: SLF001
    main = {alias: name for name, others in aliases.items() for alias in [name, *others]}
    unknown = [name for name in params if name not in main]
    if unknown:
        msg = f"got {unknown[0]!r}, which is no LightGBM parameter; expected one of LightGBM's: check the spelling"
        raise TeacherError(msg)
    given = {main[name]: value for name, value in params.items()}
    taken = [name for name in given if name in OWN]
    if taken:
        msg = (
            f"got parameter {taken[0]!r}, which is set here ({OWN[taken[0]]}); expected other parameters: leave it out"
        )
        raise TeacherError(msg)
    if given.get("boosting") == "dart":
        msg = "got boosting 'dart', which rescales earlier trees, so that the best first trees are no model; expected gbdt"
        raise TeacherError(msg)
    return {
        "num_threads": os.cpu_count() or 1,
        **DEFAULTS,
        **given,
        "seed": seed,
        "metric": "None",
        "verbosity": -1,
        "label_gain": [2**label - 1 for label in range(largest + 1)],
    }


def _largest_label(data: RankingData) -> int:
    uneven = np.flatnonzero(data.y != np.round(data.y))
    if len(uneven):
        msg = (
            f"{data.source}: label {data.y[uneven[0]]} at row {uneven[0]}; LambdaMART expects whole numbers: round the"
            " labels to grades first"
        )
        raise TeacherError(msg)
    return int(data.y.max())


def _check(train: RankingData, valid: RankingData) -> None:
    if train.feature_names != valid.feature_names:
        msg = (
            f"{valid.source} has {valid.n_features} features, {train.source} has {train.n_features}; expected the same"
            " names in the same order: read both with the same columns"
        )
        raise SchemaError(msg)
    for data in (train, valid):
        longest = int(np.diff(data.offsets).max())
        if longest > MAX_DOCUMENTS:
            msg = (
                f"{data.source}: a query has {longest} documents; LightGBM's lambdarank expects at most {MAX_DOCUMENTS}:"
                " keep its best candidates"
            )
            raise TeacherError(msg)


def _dataset(lightgbm: Any, data: RankingData, settings: dict[str, Any], reference: Any) -> Any:  # noqa: ANN401
    plain = all(_PLAIN_NAME.fullmatch(name) for name in data.feature_names)
    return lightgbm.Dataset(
        data.X,
        data.y,
        group=np.diff(data.offsets),
        feature_name=list(data.feature_names) if plain else "auto",
        params=settings,
        reference=reference,
    )
