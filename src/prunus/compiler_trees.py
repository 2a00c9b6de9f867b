"""Trees as they are: an ensemble of another library to a scorer of ours, proved leaf for leaf before anybody gets it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prunus.data.ranking import Schema
from prunus.engine.scorer import RankScorer
from prunus.errors import SchemaError
from prunus.teacher.exact import TOLERANCE, prove_leaves

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prunus.teacher.trees import TreeTeacher


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
