"""ONNX Runtime as the judge of a net that was read from ONNX."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from prunus.errors import ForeignModelError
from prunus.extras import need

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

QUIET = 4
"""Severity below which ONNX Runtime writes nothing: what goes wrong comes as an exception."""


def runner(
    content: bytes, name: str, element_type: int, batch: int
) -> Callable[[NDArray[np.float32]], NDArray[np.floating[Any]]]:
    """Return a function that scores with ONNX Runtime, one thread.

    Args:
        content: the model file's bytes.
        name: of the input.
        element_type: of the input; 1 float32, 11 float64.
        batch: documents that the graph takes at once; 0 for any number.
    """
    session: list[Any] = []

    def run(X: NDArray[np.float32]) -> NDArray[np.floating[Any]]:
        runtime = need("onnxruntime", "onnx")
        rows = X.astype(np.float64 if element_type == 11 else np.float32)
        try:
            if not session:
                options = runtime.SessionOptions()
                options.intra_op_num_threads = options.inter_op_num_threads = 1
                options.log_severity_level = QUIET
                session.append(runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"]))
            step = batch or len(rows)
            short = -len(rows) % step
            padded = np.concatenate([rows, np.zeros((short, rows.shape[1]), rows.dtype)])
            parts = [
                session[0].run(None, {name: padded[begin : begin + step]})[0] for begin in range(0, len(padded), step)
            ]
        except Exception as error:  # ONNX Runtime has an exception of its own for each of its codes
            msg = f"ONNX Runtime cannot run the model ({str(error)[:800]}); expected one that it runs, to check against"
            raise ForeignModelError(msg) from error
        scores = np.concatenate([np.asarray(part).reshape(-1) for part in parts])
        if scores.shape != (len(padded),):
            msg = f"ONNX Runtime gives {scores.size} numbers for {len(padded)} documents; expected one each, the score"
            raise ForeignModelError(msg)
        return np.asarray(scores[: len(rows)])

    return run
