"""One engine in one process, timed on request: a script of its own, run by the Python of that engine's environment.

It needs the standard library, numpy and the engine's own library, never prunus (but for our own models). It speaks JSON
lines: one request a line on stdin, one reply a line on stdout; whatever a library prints goes to stderr.

    {"op": "load", "engine": E, "model": M, "x": X.npy}   ->  {"ok": true, "versions": {...}}
    {"op": "score", "batch": B, "rows": N, "out": F.npy}  ->  {"ok": true}                  float64 [N] in F.npy
    {"op": "reference", "rows": N, "out": F.npy}          ->  {"ok": true}                  the library's own predict
    {"op": "slice", "batch": B, "seconds": S}             ->  {"ok": true, "ns": [...]}     one entry a call

E is a name of :data:`prunus.bench.adapters.ENGINES`, or ``file.py:Class`` for an engine that prunus does not know. A failure of the engine is
a reply ``{"ok": false, "error": "..."}``, not the end of the process.

``worker.py prepare E MODEL FOLDER`` compiles a model into a folder instead (engines that need it have ``prepare``).
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Call = Callable[[NDArray[np.float32]], Any]

PACKAGE = "prunus_bench_adapters"
"""What the folder of adapters is called in this process."""

MIN_CALLS = 3
"""Calls that a slice makes at least, so that a slow engine too has a median."""

MAX_VIEWS = 4096
"""Batches that a slice cycles through at most."""


def batches_of(X: NDArray[np.float32], batch: int) -> list[NDArray[np.float32]]:
    """Cut X into batches of one size; what is left over is not used.

    Args:
        X: float32 [n_docs, n_features], C-contiguous, with at least ``batch`` rows.
        batch: rows of each.

    Returns:
        At most MAX_VIEWS views, each C-contiguous.
    """
    return [X[start : start + batch] for start in range(0, len(X) - batch + 1, batch)][:MAX_VIEWS]


def timed_slice(
    call: Call,
    batches: Sequence[NDArray[np.float32]],
    seconds: float,
    first: int = 0,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> tuple[list[int], int]:
    """Call an engine over and over, each time with the next batch, and time every call.

    One call that is not timed comes first: it brings code and weights back into the cache after another engine ran.

    Args:
        call: what to time.
        batches: what to call it with, in turn.
        seconds: length of the slice; it ends with the first call after that, and not before MIN_CALLS calls.
        first: batch to begin with.
        clock: nanoseconds.

    Returns:
        The nanoseconds of each call, and the batch to begin with next time.
    """
    n = len(batches)
    call(batches[first % n])
    index, times = first + 1, list[int]()
    end = clock() + int(seconds * 1e9)
    while True:
        X = batches[index % n]
        start = clock()
        call(X)
        stop = clock()
        times.append(stop - start)
        index += 1
        if stop >= end and len(times) >= MIN_CALLS:
            return times, index % n


def find_engine(name: str) -> Any:  # noqa: ANN401 - adapters share two methods and no base class
    """Give the adapter of an engine, from the folder beside this file: prunus may not be installed here."""
    if PACKAGE not in sys.modules:
        folder = Path(__file__).with_name("adapters")
        spec = spec_from_file_location(PACKAGE, folder / "__init__.py", submodule_search_locations=[str(folder)])
        assert spec is not None
        assert spec.loader is not None
        sys.modules[PACKAGE] = module_from_spec(spec)
        spec.loader.exec_module(sys.modules[PACKAGE])
    return sys.modules[PACKAGE].find_engine(name)


class Worker:
    """What the requests act on: one engine, its rows, and a call for each batch size."""

    def __init__(self) -> None:
        self.engine: Any = None
        self.X: NDArray[np.float32] = np.empty((0, 0), np.float32)
        self.calls: dict[int, Call] = {}
        self.views: dict[int, list[NDArray[np.float32]]] = {}
        self.next: dict[int, int] = {}

    def load(self, engine: str, model: str, x: str) -> dict[str, Any]:
        """Set the engine up; nothing of this is timed."""
        # Copy-on-write: some libraries refuse an array that they could not write to.
        self.X = np.asarray(np.load(x, mmap_mode="c"))
        adapter = find_engine(engine)
        self.engine = adapter(model)
        versions = {"python": sys.version.split()[0]}
        for package in getattr(adapter, "packages", ()):
            with contextlib.suppress(PackageNotFoundError):
                versions[package] = version(package)
        return {"versions": versions}

    def call_for(self, batch: int) -> Call:
        """Give the engine's call for one batch size, made once."""
        if batch not in self.calls:
            self.calls[batch] = self.engine.call(batch)
            self.views[batch] = batches_of(self.X, batch)
            self.next[batch] = 0
        return self.calls[batch]

    def score(self, batch: int, rows: int, out: str) -> dict[str, Any]:
        """Score the first rows in batches of the size that will be timed; the last one reaches back where rows end."""
        call, scores = self.call_for(batch), np.empty(rows, np.float64)
        for start in range(0, rows, batch):
            first = min(start, len(self.X) - batch)
            found = np.asarray(call(self.X[first : first + batch]), np.float64).reshape(batch)[start - first :]
            scores[start : start + batch] = found[: rows - start]
        np.save(out, scores)
        return {}

    def reference(self, rows: int, out: str) -> dict[str, Any]:
        """Score the first rows with the library's own predict."""
        np.save(out, np.asarray(self.engine.reference(self.X[:rows]), np.float64).reshape(rows))
        return {}

    def slice(self, batch: int, seconds: float) -> dict[str, Any]:
        """Time one slice."""
        call = self.call_for(batch)
        times, self.next[batch] = timed_slice(call, self.views[batch], seconds, self.next[batch])
        return {"ns": times}


def serve() -> None:
    """Answer requests until stdin ends."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints must not come between two replies
    worker = Worker()
    for line in sys.stdin:
        request = json.loads(line)
        op = request.pop("op")
        try:
            reply = {"ok": True, **getattr(worker, op)(**request)}
        except Exception as error:  # noqa: BLE001 - an engine may raise anything; the driver reports it by name
            reply = {"ok": False, "error": f"{type(error).__name__}: {error}"}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def main(arguments: Sequence[str]) -> None:
    """Run ``worker.py serve [CORE]`` or ``worker.py prepare ENGINE MODEL FOLDER``."""
    if arguments[0] == "prepare":
        engine, model, folder = arguments[1:]
        find_engine(engine).prepare(model, Path(folder))
        return
    if len(arguments) > 1:
        # Before any library is loaded: several size their thread pools by the cores that they see.
        os.sched_setaffinity(0, {int(arguments[1])})
    serve()


if __name__ == "__main__":
    main(sys.argv[1:])
