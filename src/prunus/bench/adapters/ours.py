"""Our own engine: the model file as a user has it, and a teacher's trees scored by it as they stand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .shared import Call


class Prunus:
    """Our own model file, as a user has it: ``prunus.load(path).score(X)``."""

    packages = ("prunus", "numpy")

    def __init__(self, model: str) -> None:
        import prunus

        scorer = prunus.load(model)
        assert isinstance(scorer, prunus.RankScorer)
        self.scorer = scorer

    def call(self, batch: int) -> Call:
        """Give the function to time for batches of this size."""
        del batch
        score: Call = self.scorer.score
        return score


class PrunusTrees(Prunus):
    """The teacher's own trees in our engine, exact; ``model`` is what ``prepare`` wrote."""

    @staticmethod
    def prepare(model: str, folder: Path) -> None:
        """Convert a tree ensemble into our model file."""
        from prunus.data.ranking import Schema
        from prunus.engine.file import save
        from prunus.teacher.trees import load_trees

        trees = load_trees(model)
        schema = Schema(trees.feature_names, (True,) * trees.n_features)
        save(folder / "model.prunus", trees.ensemble(), schema, metadata={})

    def __init__(self, model: str) -> None:
        super().__init__(str(Path(model) / "model.prunus"))
