"""The driver's side of one worker process: requests as JSON lines, a time limit on every reply, a reason when it dies."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from prunus.bench.environments import WORKER, clean_environment
from prunus.errors import PeerError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

LOAD_SECONDS = 600.0
REPLY_SECONDS = 120.0


class Client:
    """One worker process, from its start to its end; a context manager."""

    def __init__(self, name: str, python: Path | None, *, core: int | None, log: Path) -> None:
        """Start the process; nothing is loaded yet.

        Args:
            name: of the contestant, for messages.
            python: the Python to run it with; None for this process's own, with its own import paths.
            core: to pin it to; None for no pinning.
            log: file for all that the engine prints.
        """
        self.name, self.versions, self._log = name, dict[str, str](), log
        # -P and -I keep this folder off the search path: its modules have names that a library might want.
        start = [sys.executable, "-P"] if python is None else [str(python), "-I"]
        variables = clean_environment()
        if python is None:
            variables |= {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                [*start, str(WORKER), "serve", *([] if core is None else [str(core)])],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=variables,
            )
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process, politely and then not."""
        process = self._process
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _died(self, when: str) -> PeerError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)
        lines = [line for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        last = lines[-1] if lines else "it said nothing"
        return PeerError(f"{self.name}: its process ended {when} (exit {self._process.poll()}): {last}")

    def _line(self, seconds: float, op: str) -> bytes:
        stream = self._process.stdout
        assert stream is not None
        end = time.monotonic() + seconds
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([stream], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                self._process.kill()
                msg = f"{self.name}: no answer to {op!r} within {seconds:.0f} s; it was stopped"
                raise PeerError(msg)
            part = os.read(stream.fileno(), 1 << 16)
            if not part:
                raise self._died("during " + op)
            self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def ask(self, op: str, limit: float = REPLY_SECONDS, **values: object) -> dict[str, Any]:
        """Send one request and wait for its reply.

        Args:
            op: see :mod:`prunus.bench.worker`.
            limit: seconds to wait.
            values: of the request.

        Raises:
            PeerError: the engine failed, died, or did not answer in time.
        """
        stream = self._process.stdin
        assert stream is not None
        try:
            stream.write(json.dumps({"op": op, **values}).encode() + b"\n")
            stream.flush()
        except OSError:
            raise self._died("before " + op) from None
        reply: dict[str, Any] = json.loads(self._line(limit, op))
        if not reply.pop("ok"):
            msg = f"{self.name}: {op} failed: {reply['error']}"
            raise PeerError(msg)
        return reply

    def load(self, engine: str, model: Path, x: Path) -> None:
        """Load an engine, its model and the rows."""
        reply = self.ask("load", LOAD_SECONDS, engine=engine, model=str(model.resolve()), x=str(x))
        self.versions = reply["versions"]

    def score(self, batch: int, rows: int) -> NDArray[np.float64]:
        """Score the first rows in batches of one size: float64 [rows]."""
        return self._array("score", batch=batch, rows=rows)

    def reference(self, rows: int) -> NDArray[np.float64]:
        """Score the first rows with the library's own predict: float64 [rows]."""
        return self._array("reference", rows=rows)

    def _array(self, op: str, **values: int) -> NDArray[np.float64]:
        path = self._log.with_suffix(".npy")
        self.ask(op, LOAD_SECONDS, out=str(path), **values)
        scores: NDArray[np.float64] = np.load(path)
        return scores

    def slice(self, batch: int, seconds: float) -> list[int]:
        """Time one slice: the nanoseconds of each call."""
        times: list[int] = self.ask("slice", batch=batch, seconds=seconds)["ns"]
        return times
