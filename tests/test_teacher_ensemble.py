"""The law of exact trees: as arrays, an ensemble puts every row into the leaf that its own library says."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import pytest

from prunus.data.ranking import Schema
from prunus.engine import ensemble_reference
from prunus.engine.scorer import RankScorer
from random_forests import LIBRARIES, hard_rows, random_teacher

if TYPE_CHECKING:
    from pathlib import Path

    from prunus.teacher.trees import TreeTeacher


def check(teacher: TreeTeacher, seed: int, n_rows: int) -> None:
    """Hold a model to the law, on hard rows."""
    ensemble = teacher.ensemble()
    X = hard_rows(teacher, n_rows, np.random.default_rng(seed))
    scorer = RankScorer(ensemble, Schema(teacher.feature_names, (True,) * teacher.n_features))
    expected, expected_scores = teacher.leaves(X), teacher.score(X)
    for engine, leaves, scores in (
        ("twin", ensemble_reference.leaves(ensemble, X), ensemble_reference.score(ensemble, X)),
        (scorer.isa, scorer.leaves(X), scorer.score(X)),
    ):
        wrong = np.argwhere(expected != leaves)
        assert not len(wrong), f"{teacher.path} ({engine}): {len(wrong)} leaves differ, first at {wrong[0]}"
        error = np.abs(scores - expected_scores) / np.maximum(1, np.abs(expected_scores))
        assert error.max() <= 2e-5, f"{teacher.path} ({engine}): a score is off by {error.max()}"


@pytest.mark.parametrize("part", range(10))
@pytest.mark.parametrize("library", LIBRARIES)
def test_every_leaf_is_the_librarys(library: str, part: int, tmp_path: Path) -> None:
    """Random models, of every kind of training that changes how trees look or missing values go."""
    for seed in range(12 * part, 12 * (part + 1)):
        check(random_teacher(library, seed, tmp_path), seed, 100)


@pytest.mark.parametrize(
    ("library", "wanted"),
    [
        ("lightgbm", {"numeric 0", "numeric 1", "numeric 2", "numeric 5", "numeric 6", "categorical 5", "one leaf"}),
        ("xgboost", {"numeric 1", "numeric 5", "categorical 9", "categorical 13", "one leaf", "base"}),
        ("catboost", {"numeric 1", "numeric 5", "base"}),
    ],
)
def test_the_material_is_not_tame(library: str, wanted: set[str], tmp_path: Path) -> None:
    """The random models between them have every way to treat a missing value, categories, and trees of one leaf."""
    found: set[str] = set()
    for seed in range(40):
        ensemble = random_teacher(library, seed, tmp_path).ensemble()
        for kind, chosen in (("numeric", ensemble.category == -1), ("categorical", ensemble.category != -1)):
            found |= {f"{kind} {byte}" for byte in set(ensemble.missing[chosen].tolist())}
        found |= {"one leaf"} if (np.diff(ensemble.leaf_start) == 1).any() else set()
        found |= {"base"} if ensemble.base else set()
    assert found >= wanted


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("library", LIBRARIES)
def test_every_leaf_of_many_models(library: str, tmp_path: Path) -> None:
    """The same law on more models and rows: 500 of each library, or ``PRUNUS_LAW_MODELS``, such as 1500."""
    for seed in range(1000, 1000 + int(os.environ.get("PRUNUS_LAW_MODELS", "500"))):
        teacher = random_teacher(library, seed, tmp_path)
        check(teacher, seed, 300)
        assert teacher.path is not None
        teacher.path.unlink()
