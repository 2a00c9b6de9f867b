"""Trees as they are: an ensemble of another library to a scorer of ours, proved leaf for leaf before anybody gets it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from prunus.data.ranking import Schema
from prunus.engine.ensemble import Ensemble
from prunus.engine.ensemble_rows import hard_rows
from prunus.engine.scorer import RankScorer
from prunus.errors import NetworkError, ParityError, SchemaError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from prunus.teacher.trees import TreeTeacher

TOLERANCE = 2e-5
"""Scores agree within this times max(1, |score|)."""

HALF_ULP = 2.0**-24
"""Relative rounding error of one float32 addition."""

CHUNK = 1000
"""Rows compared at a time, so that the memory for leaves stays small."""


@dataclass(frozen=True)
class LeafParity:
    """What was compared.

    Attributes:
        rows: rows that both sides scored.
        leaves: pairs of a row and a tree whose leaves were compared; all were the same.
        largest: largest difference of two scores over max(1, abs(score)).
    """

    rows: int
    leaves: int
    largest: float


def compile_trees(
    teacher: TreeTeacher, *, n_trees: int | None = None, feature_names: Sequence[str] | None = None
) -> RankScorer:
    """Compile an ensemble as it is, and prove that each row reaches the same leaf of each tree.

    Args:
        teacher: the ensemble in its library.
        n_trees: keep the first trees only (XGBoost: rounded down to the end of a boosting round); default all.
        feature_names: names of its features, in its order; default those in the model.

    Returns:
        A scorer whose metadata say where the trees came from and on how many rows they were compared.

    Raises:
        TeacherError: it holds what cannot be compiled exactly, or has fewer trees.
        SchemaError: another number of names than features.
        NetworkError: the engine cannot run the trees.
        ParityError: some row reaches another leaf here than in the library; never seen, but never assumed either.
    """
    if n_trees is not None:
        teacher = teacher.smaller(n_trees)
    names = tuple(feature_names) if feature_names is not None else teacher.feature_names
    if len(names) != teacher.n_features:
        msg = (
            f"got {len(names)} feature names for trees over {teacher.n_features} features; expected one each, in order"
        )
        raise SchemaError(msg)
    scorer = RankScorer(teacher.ensemble(), Schema(names, (True,) * len(names)))
    parity = prove_leaves(scorer, teacher)
    origin = {"format": teacher.library, "trees": teacher.n_trees, "leaves": teacher.n_leaves}
    proof = {
        "rows": parity.rows,
        "leaves": parity.leaves,
        "largest_difference": parity.largest,
        "tolerance": TOLERANCE,
    }
    scorer.metadata.update(architecture=teacher.name, origin=origin, parity=proof)
    return scorer


def prove_leaves(scorer: RankScorer, teacher: TreeTeacher, seed: int = 0) -> LeafParity:
    """Compare compiled trees with the library's own leaf indices and scores, on generated rows that straddle every cut.

    A score is held against the library's within 2e-5 max(1, abs(score)); where the library itself adds up float32
    numbers (XGBoost), by what n such additions may lose more.

    Args:
        scorer: the compiled trees.
        teacher: what they were compiled from.
        seed: of the rows.

    Raises:
        ParityError: a leaf or a score differs; nothing may be written.
        NetworkError: the scorer holds a network.
    """
    ensemble = _ensemble_of(scorer)
    float32_sums = teacher.library == "XGBoost"
    X = hard_rows(ensemble, seed, infinities=not float32_sums)  # XGBoost takes no infinities
    largest = 0.0
    for start in range(0, len(X), CHUNK):
        rows = X[start : start + CHUNK]
        theirs, ours = teacher.leaves(rows), scorer.leaves(rows)
        if not np.array_equal(theirs, ours):
            row, tree = (int(place) for place in np.argwhere(theirs != ours)[0])
            msg = (
                f"generated row {start + row} reaches leaf {ours[row, tree]} of tree {tree}, in {teacher.library} leaf"
                f" {theirs[row, tree]}; expected the same leaf of every tree: report this as a bug, with the model"
            )
            raise ParityError(msg)
        wanted, found = teacher.score(rows), scorer.score(rows).astype(np.float64)
        size = np.maximum(1.0, np.abs(wanted))
        allowed = TOLERANCE * size
        if float32_sums:
            allowed += (
                HALF_ULP * (ensemble.n_trees + 1) * (np.abs(_values(ensemble, ours)).sum(axis=1) + abs(ensemble.base))
            )
        difference = np.abs(found - wanted)
        bad = np.flatnonzero(~(difference <= allowed))
        if len(bad):
            row = int(bad[0])
            msg = (
                f"generated row {start + row} scores {found[row]:.8g}, in {teacher.library} {wanted[row]:.8g}, from the"
                f" same leaves; expected agreement within {TOLERANCE:g}: report this as a bug, with the model"
            )
            raise ParityError(msg)
        largest = max(largest, float((difference / size).max()))
    return LeafParity(len(X), len(X) * ensemble.n_trees, largest)


def _values(ensemble: Ensemble, leaves: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return the value of each row's leaf in each tree."""
    return np.asarray(ensemble.value[leaves + ensemble.leaf_start[:-1]])


def _ensemble_of(scorer: RankScorer) -> Ensemble:
    model = scorer.model
    if not isinstance(model, Ensemble):
        msg = "got a scorer of a network; expected one of an ensemble of trees"
        raise NetworkError(msg)
    return model
