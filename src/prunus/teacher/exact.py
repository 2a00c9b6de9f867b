"""A teacher's trees in our engine: the proof that they are the same trees, and labels made with them in bulk."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from prunus.data.ranking import Schema
from prunus.engine.ensemble import Ensemble
from prunus.engine.ensemble_rows import hard_rows
from prunus.engine.scorer import RankScorer
from prunus.errors import EnsembleError, NetworkError, ParityError, TeacherError
from prunus.teacher.trees import TreeTeacher

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

TOLERANCE = 2e-5
"""Scores agree within this times max(1, |score|)."""

HALF_ULP = 2.0**-24
"""Relative rounding error of one float32 addition."""

LEAST_ROWS, MOST_ROWS = 1000, 10_000
"""Rows of a proof: more than the fewest where some feature has more thresholds to try."""

MOST_NUMBERS = 1 << 26
"""Numbers in the rows of a proof, beyond the fewest rows: 256 MB."""

REPAID = 100_000
"""Documents from which labels in bulk repay the proof, which the library scores up to MOST_ROWS rows for, and leaves."""

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


class ExactTeacher(TreeTeacher):
    """A tree ensemble that is scored by our engine, many times faster than by its library, and that is proved to be it.

    Everything else, :meth:`leaves` among it, stays the library's.

    Args:
        teacher: the ensemble in its library.

    Raises:
        TeacherError: it holds what cannot be exact here (linear leaves, an unknown objective).
        NetworkError: the engine cannot run the trees.
        ParityError: a generated row reaches another leaf here than in the library.
    """

    def __init__(self, teacher: TreeTeacher) -> None:
        super().__init__(teacher._forest, teacher.path, teacher.nbytes)  # noqa: SLF001 - of its own class
        names = tuple(f"f{index}" for index in range(teacher.n_features))
        self._scorer = RankScorer(teacher.ensemble(), Schema(names, (True,) * len(names)))
        self.parity = prove_leaves(self._scorer, teacher)

    def score(self, X: ArrayLike, *, n_threads: int | None = None) -> NDArray[np.float64]:
        """Return the raw scores of documents, within 2e-5 max(1, abs(score)) of the library's.

        Args:
            X: [n, n_features], any real dtype (read as float32), columns in the teacher's order; NaN means missing and
                is treated as the library does.
            n_threads: threads to use; None for one a core.

        Returns:
            float64 [n], raw (before any sigmoid); each is a float32 number.

        Raises:
            SchemaError: X has not n_features columns.
            InfiniteValueError: an infinity, which XGBoost refuses.
        """
        rows = self._rows(X)
        if self.library == "XGBoost" and np.isinf(rows).any():
            return super().score(rows, n_threads=n_threads)  # which says what is wrong
        return self._scorer.score(rows, n_threads=n_threads or os.cpu_count() or 1).astype(np.float64)


def fastest(teacher: TreeTeacher, n_docs: int) -> TreeTeacher:
    """Choose who scores many documents: our engine where it runs these trees and there is enough to score, else the library.

    Args:
        teacher: the ensemble in its library.
        n_docs: documents that will be scored; up to :data:`REPAID` the library is as soon done as the proof.

    Raises:
        ParityError: a generated row reaches another leaf in our engine than in the library.
    """
    if n_docs < REPAID:
        return teacher
    try:
        return ExactTeacher(teacher)
    except (TeacherError, EnsembleError, NetworkError):
        return teacher


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
    most = min(MOST_ROWS, max(LEAST_ROWS, MOST_NUMBERS // ensemble.n_features))
    X = hard_rows(ensemble, seed, least=LEAST_ROWS, most=most, infinities=not float32_sums)  # XGBoost takes none
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
