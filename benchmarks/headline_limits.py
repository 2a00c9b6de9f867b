"""What a student cannot go below on this core, as contestants of the same run: its arithmetic alone, its input stage alone.

    arithmetic    the vector multiply-adds of all weights and nothing else (benchmarks/native/limits.cpp): weights x documents
                  / lanes of them for float32, / (4 x lanes) of vpdpbusd for int8, where a block of int8 counts as four weights
    input stage   a network with the student's input stage, no weights and one output, in our engine: it reads the features,
                  and includes the call and the scores that are written

A model is a JSON file, ``{"student": path}``.
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

MULTIPLY_ADD, MULTIPLY_ADD_BYTES = 1, 5
"""Loops of limits.cpp: float32 with an operand from L1, and bytes by four."""


def _student(model: str) -> Any:  # noqa: ANN401 - a RankScorer
    import prunus

    return prunus.load(json.loads(Path(model).read_text())["student"])


class InputStage:
    """The student's input stage in our engine."""

    packages = ("prunus", "numpy")

    def __init__(self, model: str) -> None:
        from prunus.engine.network import Activation, Network, Sparse
        from prunus.engine.scorer import RankScorer

        student = _student(model)
        stage = student.network.inputs
        nothing = np.zeros((1, stage.n_slots), np.float32)
        layer = Sparse.from_dense(nothing, np.zeros(1, np.float32), Activation.IDENTITY)
        self.scorer = RankScorer(Network(student.network.n_features, stage, (layer,)), student.schema)

    def call(self, batch: int) -> Callable[[NDArray[np.float32]], Any]:
        """Give the function to time for batches of this size."""
        del batch
        score: Callable[[NDArray[np.float32]], Any] = self.scorer.score
        return score


class Arithmetic:
    """The student's multiply-adds."""

    packages = ("prunus", "numpy")

    def __init__(self, model: str) -> None:
        from prunus import _native

        folder = tempfile.TemporaryDirectory()
        library = Path(folder.name) / "limits.so"
        source = Path(__file__).parent / "native" / "limits.cpp"
        subprocess.run(["c++", "-O2", "-shared", "-fPIC", str(source), "-o", str(library)], check=True)
        self.lib, self.folder = ctypes.CDLL(str(library)), folder
        student = _student(model)
        self.lanes = _native.lanes(student.isa)
        self.bits = 32 * self.lanes
        self.floats, self.bytes = 0, 0
        for layer in student.network.layers:
            if hasattr(layer, "input_scale"):
                self.bytes += layer.shape.stored
            else:
                self.floats += layer.shape.stored

    def call(self, batch: int) -> Callable[[NDArray[np.float32]], Any]:
        """Give the function to time for batches of this size."""
        run, bits = self.lib.limits_run, self.bits
        work = []
        for kind, weights in (
            (MULTIPLY_ADD, self.floats / self.lanes),
            (MULTIPLY_ADD_BYTES, self.bytes / self.lanes / 4),
        ):
            if not weights:
                continue
            each = run(bits, kind, ctypes.c_long(1))
            if not each:
                msg = f"no loop of kind {kind} for {bits} bits on this CPU"
                raise RuntimeError(msg)
            work.append((kind, ctypes.c_long(max(1, round(weights * batch / each)))))
        nothing = np.zeros(batch, np.float32)

        def score(_: NDArray[np.float32]) -> NDArray[np.float32]:
            for kind, turns in work:
                run(bits, kind, turns)
            return nothing

        return score
