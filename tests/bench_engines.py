"""Engines for the tests of the benchmark: given as ``bench_engines.py:Class``, each told by its model file what to do."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


class Linear:
    """Score = factor times the first feature; the model file is JSON with ``factor`` and, optionally, ``log``."""

    packages = ("numpy", "no-such-package")

    def __init__(self, model: str) -> None:
        self.settings = json.loads(Path(model).read_text())
        sys.stdout.write("an engine may print\n")
        sys.stdout.flush()
        os.write(1, b"and so may its C library\n")

    def call(self, batch: int) -> Callable[[NDArray], NDArray]:
        """Log the batch size of every call where a log is wanted, so that a test can see the order."""
        factor, log = self.settings.get("factor", 1.0), self.settings.get("log")

        def score(X: NDArray) -> NDArray:
            if log:
                with Path(log).open("a") as file:
                    file.write(f"{self.settings['name']} {batch}\n")
                time.sleep(0.001)
            return factor * X[:, 0]

        return score

    def reference(self, X: NDArray) -> NDArray:
        """Score without the factor."""
        return X[:, 0]


class Broken(Linear):
    """Fails in every call."""

    def call(self, batch: int) -> Callable[[NDArray], NDArray]:
        """Refuse."""
        msg = f"no kernel for batches of {batch}"
        raise RuntimeError(msg)


class Crashing(Linear):
    """Takes its process down once it has answered a few calls."""

    def call(self, batch: int) -> Callable[[NDArray], NDArray]:
        """Score a few times."""
        left = [self.settings["calls"]]

        def score(X: NDArray) -> NDArray:
            left[0] -= 1
            if left[0] < 0:
                sys.stderr.write("segmentation fault, more or less\n")
                os._exit(7)
            return X[:, 0]

        del batch
        return score


class Hanging(Linear):
    """Never answers."""

    def call(self, batch: int) -> Callable[[NDArray], NDArray]:
        """Sleep for ever."""
        del batch
        return lambda _: time.sleep(3600)
