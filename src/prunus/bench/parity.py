"""What each contestant's scores are held against, before anything is timed.

Trees: the predict of the library that grew them, or the teacher as prunus reads it. Networks: the slow NumPy twin of our engine.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from prunus.bench.peers import PEERS
from prunus.errors import PeerError, PrunusError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from prunus.bench.client import Client
    from prunus.bench.run import Contestant

    Known = tuple[NDArray[np.float64] | None, str]

OWN_PREDICT = ("lightgbm", "xgboost", "catboost")
"""Engines whose library trained the trees: its predict is right by definition."""

SAMPLE = 256
"""Documents compared, and at least one batch of the largest size."""


def sample_rows(batches: Sequence[int]) -> int:
    """How many documents are compared: SAMPLE, in whole batches of the largest size."""
    return max(SAMPLE, *batches)


def write_arrays(model: Path, folder: Path) -> Path:
    """Write the network of one of our model files down as arrays, for the engines that run it dense.

    Args:
        model: our model file.
        folder: for the file.

    Returns:
        The .npz file; the same model gives the same bytes.
    """
    from prunus.bench.onnx_net import arrays_of
    from prunus.engine.file import load

    scorer = load(model)
    path = folder / f"{len(list(folder.iterdir()))}-{model.stem}.npz"
    arrays: dict[str, Any] = {**arrays_of(scorer.network, np.array(scorer.schema.allow_missing))}
    np.savez(path, **arrays)
    return path


class Reference:
    """Reference scores of each model, computed once."""

    def __init__(self, X: NDArray[np.float32], folder: Path) -> None:
        """Keep the rows that are compared.

        Args:
            X: float32 [n_docs, n_features].
            folder: for what is written on the way.
        """
        self.X, self.folder = X, folder
        self._known: dict[Path, Known] = {}

    def scores(self, contestant: Contestant, clients: Mapping[str, Client], running: Sequence[Contestant]) -> Known:
        """Give the scores that a contestant should give.

        Args:
            contestant: whose.
            clients: of all contestants that run.
            running: those contestants.

        Returns:
            float64 [n_docs] and what they come from; None where there is nothing to compare with (an engine of your
            own that is alone with its model).
        """
        model = Path(contestant.model)
        if model not in self._known:
            self._known[model] = self._compute(model, clients, running)
        return self._known[model]

    def _compute(self, model: Path, clients: Mapping[str, Client], running: Sequence[Contestant]) -> Known:
        same = [c for c in running if Path(c.model) == model]
        rows = len(self.X)
        if any(c.engine == "prunus" or (c.engine in PEERS and PEERS[c.engine].runs == "network") for c in same):
            from prunus.engine.file import load
            from prunus.engine.reference import score

            return np.asarray(score(load(model).network, self.X), np.float64), "the NumPy twin"
        own = next((c for c in same if c.engine in OWN_PREDICT), None)
        if own is not None:
            return clients[own.label].reference(rows), f"{own.engine}'s own predict"
        if any(c.engine in PEERS for c in same):
            from prunus.teacher.trees import load_trees

            try:
                return np.asarray(load_trees(model).score(self.X), np.float64), "the teacher as prunus reads it"
            except PrunusError as error:
                msg = f"{model.name}: no reference scores to compare with ({error})"
                raise PeerError(msg) from error
        return None, "none"
