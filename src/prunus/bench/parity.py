"""What each contestant's scores are held against, before anything is timed.

Trees: the predict of the library that grew them, or the teacher as prunus reads it. Networks: the slow NumPy twin of our engine.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from prunus.bench import stats
from prunus.bench.peers import PEERS
from prunus.errors import PeerError, PrunusError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from prunus.bench.client import Client
    from prunus.bench.run import Contestant

    Known = tuple[NDArray[np.float64] | None, str]

OWN_PREDICT = ("lightgbm", "xgboost", "catboost")
"""Engines whose library trained the trees: its predict is right by definition."""

TOLERANCE = 1e-3
"""Of a contestant's scores, times max(1, |score|): beyond it the row is marked wrong."""

CALIBRATION_ROWS = 1024
"""Documents that an engine's quantisation is calibrated on, evenly spaced: the rows that are timed, in its favour."""

SAMPLE = 256
"""Documents compared, and at least one batch of the largest size."""


def sample_rows(batches: Sequence[int]) -> int:
    """How many documents are compared: SAMPLE, in whole batches of the largest size."""
    return max(SAMPLE, *batches)


def write_arrays(model: Path, folder: Path, rows: NDArray[np.float32] | None = None) -> Path:
    """Write the network of one of our model files down as arrays, for the engines that run it dense.

    Args:
        model: our model file.
        folder: for the file.
        rows: float32 [n_docs, n_features], to calibrate a quantisation with; None where there is none.

    Returns:
        The .npz file; the same model and rows give the same bytes.

    Raises:
        PeerError: the model is an ensemble of trees.
    """
    from prunus.bench.adapters.onnx_net import arrays_of
    from prunus.engine.file import load
    from prunus.engine.network import Network

    scorer = load(model)
    if not isinstance(scorer.model, Network):
        msg = f"{model.name} holds an ensemble of trees; expected a network: name engines that run trees, and --teacher"
        raise PeerError(msg)
    path = folder / f"{len(list(folder.iterdir()))}-{model.stem}.npz"
    arrays: dict[str, Any] = {**arrays_of(scorer.network, np.array(scorer.schema.allow_missing))}
    if rows is not None:
        arrays["rows"] = rows[:: max(1, len(rows) // CALIBRATION_ROWS)][:CALIBRATION_ROWS]
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
            return _twin(model, self.X), "the NumPy twin"
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


def _twin(model: Path, X: NDArray[np.float32]) -> NDArray[np.float64]:
    """Score with the slow twin of the engine that runs a model file of ours."""
    from prunus.engine import ensemble_reference, reference
    from prunus.engine.ensemble import Ensemble
    from prunus.engine.file import load

    scorer = load(model)
    loaded = scorer.model
    twin: Any = ensemble_reference.score if isinstance(loaded, Ensemble) else reference.score
    return np.asarray(twin(loaded, X), np.float64)


def approximates(contestant: Contestant) -> bool:
    """Say whether an engine changes the model that it runs, so that its scores are judged and not compared.

    Quantising engines do; and where our own network has layers of int8, so does every engine that runs it in float32.
    """
    peer = PEERS.get(contestant.engine)
    if peer is None or peer.runs != "network":
        return False
    return peer.calibrates or _has_int8(Path(contestant.model))


@lru_cache(maxsize=64)
def _has_int8(model: Path) -> bool:
    from prunus.engine.file import load

    return any(hasattr(layer, "input_scale") for layer in load(model).network.layers)


def check(
    running: Sequence[Contestant],
    clients: Mapping[str, Client],
    reference: Reference,
    batches: Sequence[int],
    unavailable: dict[str, str],
) -> dict[tuple[str, int], dict[str, Any]]:
    """Compare each contestant's scores with the reference, at every batch size, before anything is timed."""
    checks: dict[tuple[str, int], dict[str, Any]] = {}
    for contestant in running:
        client = clients[contestant.label]
        try:
            expected, name = reference.scores(contestant, clients, running)
            for batch in batches:
                if expected is None:
                    checks[contestant.label, batch] = {"max_difference": None, "reference": name}
                    continue
                scores = client.score(batch, len(expected))
                worst, wrong = stats.difference(scores, expected[: len(scores)], TOLERANCE)
                found = {"max_difference": worst if np.isfinite(worst) else None, "reference": name}
                mark = {"approximate": True} if approximates(contestant) else {"wrong": True} if wrong else {}
                checks[contestant.label, batch] = found | mark
        except PrunusError as error:
            unavailable[contestant.label] = str(error)
    return checks


def judge_own(
    running: Sequence[Contestant],
    clients: Mapping[str, Client],
    checks: Mapping[tuple[str, int], Mapping[str, Any]],
    batch: int,
    n_docs: int,
    judge: Callable[[NDArray[np.float64]], Mapping[str, Any]],
    unavailable: dict[str, str],
) -> dict[str, Mapping[str, Any]]:
    """Judge the scores of each engine whose scores are its own."""
    judged: dict[str, Mapping[str, Any]] = {}
    for label in (contestant.label for contestant in running):
        found = checks[label, batch]
        if not (found.get("approximate") or found.get("wrong")):
            continue
        try:
            judged[label] = judge(clients[label].score(batch, n_docs))
        except PrunusError as error:
            unavailable[label] = str(error)
    return judged
