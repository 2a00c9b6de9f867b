"""Several scorers timed in one interleaved run: one process each on core 1, the driver on core 0, in turn every round."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from prunus.bench import stats
from prunus.bench.adapters import ENGINES
from prunus.bench.client import Client
from prunus.bench.environments import ensure, prepared, say
from prunus.bench.machine import cores, describe
from prunus.bench.parity import Reference, check, judge_own, sample_rows, write_arrays
from prunus.bench.peers import PEERS, kind_of
from prunus.bench.quick import BATCHES, enough_rows
from prunus.engine.disk import write_atomically
from prunus.errors import PeerError, PrunusError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

ROUNDS = 9


@dataclass(frozen=True)
class Contestant:
    """One model in one engine.

    Attributes:
        engine: "prunus", a name of :data:`prunus.bench.peers.PEERS`, or ``file.py:Class`` (see docs/benchmarking.md).
        model: our model file (for "prunus" and the engines that run a network), the teacher's file (for engines that
            run trees), or whatever an engine of your own takes.
        name: in the table; the engine's by default.
        ours: whether ratios are taken against this one; the first contestant where none says so.
        extra: put into each of its rows as it stands: ``{"ndcg@10": 0.57, "trees": 300}``.
    """

    engine: str
    model: Path | str
    name: str = ""
    ours: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Its name in the table."""
        return self.name or self.engine


@dataclass(frozen=True)
class Comparison:
    """What a run found.

    Attributes:
        rows: for each batch size and engine ``{"engine", "batch", "us_per_doc", "p99_us_per_doc", "ratio", ...}``;
            ``ratio`` says how many times our model is faster, and is None where our own model did not run.
        unavailable: name -> why it could not be installed or run.
        versions: name -> package -> version.
        machine: see :func:`prunus.bench.machine.describe`.
        settings: batch sizes, rounds, slice length, rows, cores.
        raw: name -> batch size -> for each round the nanoseconds of its calls.
    """

    rows: list[dict[str, Any]]
    unavailable: dict[str, str]
    versions: dict[str, dict[str, str]]
    machine: dict[str, Any]
    settings: dict[str, Any]
    raw: dict[str, dict[str, list[list[int]]]] = field(repr=False)

    def to_json(self, *, raw: bool = False) -> dict[str, Any]:
        """Give all of it as plain JSON values.

        Args:
            raw: with the time of every single call.
        """
        names = ("rows", "unavailable", "versions", "machine", "settings", *(("raw",) if raw else ()))
        return {name: getattr(self, name) for name in names}

    def save(self, path: Path | str) -> None:
        """Write everything, raw times too, as JSON; nothing half-written is left behind.

        Args:
            path: of the file.

        Raises:
            OutputError: it cannot be written.
        """
        write_atomically(path, (json.dumps(self.to_json(raw=True)) + "\n").encode())


def against(
    names: Sequence[str],
    model: Path | str,
    teacher: Path | str | None = None,
    *,
    student: Mapping[str, Any] | None = None,
    teacher_extra: Mapping[str, Any] | None = None,
) -> list[Contestant]:
    """List our model and the rivals named, ready for :func:`compare`.

    Args:
        names: of :data:`prunus.bench.peers.PEERS`.
        model: our model file.
        teacher: the teacher's file, for engines that run trees.
        student: put into the rows of our model and of the engines that run the same network, such as its nDCG.
        teacher_extra: put into the rows of engines that run the teacher.

    Raises:
        PeerError: a name is unknown, or an engine runs trees and no teacher was given.
    """
    found = [Contestant("prunus", model, ours=True, extra=student or {})]
    for name in names:
        if name not in PEERS:
            msg = f"unknown engine {name!r}; expected one of {', '.join(PEERS)}"
            raise PeerError(msg)
        if PEERS[name].runs == "network":
            found.append(Contestant(name, model, extra=student or {}))
        elif teacher is None:
            msg = f"{name} runs trees, and no teacher was given; expected its model file: name it with --teacher"
            raise PeerError(msg)
        else:
            found.append(Contestant(name, teacher, extra=teacher_extra or {}))
    return found


@contextmanager
def _on_core(core: int | None) -> Iterator[None]:
    """Keep this process on one core for a while."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def ready(
    contestant: Contestant,
    X: NDArray[np.float32],
    folder: Path,
    *,
    tell: Callable[[str], None] = say,
    build: bool = True,
) -> tuple[Path | None, Path]:
    """Make a contestant ready to be loaded: its engine installed, its model compiled; cached, so that a second call is short.

    Args:
        contestant: what to make ready.
        X: float32 [n_docs, n_features]; quantisations are calibrated on some of it.
        folder: for what is written on the way.
        tell: gets a line before each long step.
        build: whether to install and compile what is not there; else that is refused.

    Returns:
        The Python to run it with, None for this one; and the model that the adapter takes.

    Raises:
        PeerError: it cannot be; the message says why.
    """
    engine, model = contestant.engine, Path(contestant.model)
    if not model.exists():
        msg = f"{contestant.label}: no file {model}; expected the model that it is to run"
        raise PeerError(msg)
    python = None
    if engine in PEERS:
        peer = PEERS[engine]
        if kind_of(model) not in peer.reads:
            known = " or ".join(peer.reads)
            msg = f"{contestant.label}: cannot run {model.name} ({kind_of(model)}); expected a model file of {known}"
            raise PeerError(msg)
        if peer.runs == "network":
            model = write_arrays(model, folder, X if peer.calibrates else None)
        python = None if peer.lives_here else ensure(peer, tell=tell, build=build)
        model = prepared(peer, model, tell=tell, build=build)
    elif engine not in ENGINES and ":" not in engine:
        msg = f"unknown engine {engine!r}; expected prunus, {', '.join(PEERS)}, or file.py:Class"
        raise PeerError(msg)
    return python, model


def _start(
    contestant: Contestant,
    X: NDArray[np.float32],
    folder: Path,
    core: int | None,
    *,
    tell: Callable[[str], None],
    build: bool,
) -> Client:
    """Bring one engine up: installed, its model prepared, its process loaded."""
    python, model = ready(contestant, X, folder, tell=tell, build=build)
    client = Client(contestant.label, python, core=core, log=folder / f"{len(list(folder.iterdir()))}.log")
    try:
        client.load(contestant.engine, model, folder / "X.npy")
    except PeerError:
        client.close()
        raise
    return client


def compare(
    contestants: Sequence[Contestant],
    X: NDArray[np.float32],
    batches: Sequence[int] = BATCHES,
    *,
    seconds: float | None = None,
    rounds: int | None = None,
    slice_seconds: float = 0.03,
    tell: Callable[[str], None] = say,
    progress: Callable[[int, int], None] | None = None,
    judge: Callable[[NDArray[np.float64]], Mapping[str, Any]] | None = None,
    build: bool = True,
) -> Comparison:
    """Time several models side by side.

    Args:
        contestants: at least one; names must differ.
        X: float32 [n_docs, n_features], raw features; batches are cut from it in turn.
        batches: documents of a call.
        seconds: for all timing; sets the rounds where ``rounds`` does not.
        rounds: slices of each engine at each batch size; 9 unless said.
        slice_seconds: length of a slice (a slow engine makes three calls and takes longer).
        tell: gets a line before each long step (installing, compiling).
        progress: gets (rounds done, rounds) after each round.
        judge: maps scores float64 [n_docs] of X to the quality that stands in a row, such as ``{"ndcg@10": 0.57}``. It is
            asked where an engine's own scores count: it quantises the model, or gives others than the reference. Such
            rows replace what ``extra`` says of the model.
        build: whether to install engines and compile models that are not there yet, which takes minutes; else they stand
            among what is unavailable.

    Returns:
        Rows, and by name what could not be run; one engine that fails never stops the others.

    Raises:
        PeerError: two contestants have one name, or there is none.
    """
    labels = [contestant.label for contestant in contestants]
    if not labels or len(set(labels)) != len(labels):
        msg = f"got contestants {labels}; expected at least one, each with a name of its own"
        raise PeerError(msg)
    batches = sorted(set(batches))
    n_docs, X = len(X), enough_rows(X, max(batches))
    usable = cores()
    driver, core = (usable[0], usable[1]) if len(usable) > 1 else (None, None)
    machine = describe()
    unavailable: dict[str, str] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="prunus-bench-")))
        np.save(folder / "X.npy", X)
        clients: dict[str, Client] = {}
        for contestant in contestants:
            try:
                clients[contestant.label] = stack.enter_context(
                    _start(contestant, X[:n_docs], folder, core, tell=tell, build=build)
                )
            except (PrunusError, OSError) as error:
                unavailable[contestant.label] = str(error)
        running = [contestant for contestant in contestants if contestant.label in clients]
        stack.enter_context(_on_core(driver))
        checks = check(running, clients, Reference(X[: sample_rows(batches)], folder), batches, unavailable)
        running = [contestant for contestant in running if contestant.label not in unavailable]
        judged = {} if judge is None else judge_own(running, clients, checks, max(batches), n_docs, judge, unavailable)
        if rounds is None:
            cells = len(running) * len(batches)
            rounds = ROUNDS if seconds is None else stats.rounds_for(seconds, cells, slice_seconds)
        raw = _time(
            running,
            clients,
            batches,
            rounds=rounds,
            slice_seconds=slice_seconds,
            unavailable=unavailable,
            progress=progress,
        )
    return Comparison(
        rows=_rows(contestants, raw, checks, judged, batches),
        unavailable=unavailable,
        versions={label: client.versions for label, client in clients.items()},
        machine=machine,
        settings={
            "batches": list(batches),
            "rounds": rounds,
            "slice_seconds": slice_seconds,
            "rows": len(X),
            "features": X.shape[1],
            "driver_core": driver,
            "engine_core": core,
        },
        raw={label: {str(batch): slices for batch, slices in cell.items()} for label, cell in raw.items()},
    )


def _time(
    running: Sequence[Contestant],
    clients: Mapping[str, Client],
    batches: Sequence[int],
    *,
    rounds: int,
    slice_seconds: float,
    unavailable: dict[str, str],
    progress: Callable[[int, int], None] | None,
) -> dict[str, dict[int, list[list[int]]]]:
    """Run the rounds; an engine that fails on the way is dropped from all of them."""
    raw: dict[str, dict[int, list[list[int]]]] = {c.label: {batch: [] for batch in batches} for c in running}
    for number in range(rounds):
        for batch in batches:
            for index in stats.order_of_round(number, len(running)):
                label = running[index].label
                if label in unavailable:
                    continue
                try:
                    raw[label][batch].append(clients[label].slice(batch, slice_seconds))
                except PeerError as error:
                    unavailable[label] = str(error)
                    del raw[label]
        if progress is not None:
            progress(number + 1, rounds)
    return raw


def _rows(
    contestants: Sequence[Contestant],
    raw: Mapping[str, Mapping[int, list[list[int]]]],
    checks: Mapping[tuple[str, int], Mapping[str, Any]],
    judged: Mapping[str, Mapping[str, Any]],
    batches: Sequence[int],
) -> list[dict[str, Any]]:
    """Make the table's rows, by batch size, in the order of the contestants."""
    ours = next((c.label for c in contestants if c.ours), contestants[0].label)
    rows = []
    for batch in batches:
        for contestant in contestants:
            if contestant.label not in raw:
                continue
            slices = raw[contestant.label][batch]
            paired = stats.paired_ratio(slices, raw[ours][batch]) if ours in raw else {"ratio": None}
            row = {"engine": contestant.label, "batch": batch, **stats.summary(slices, batch), **paired}
            quality = {**contestant.extra, **judged.get(contestant.label, {})}
            rows.append({**row, **checks.get((contestant.label, batch), {}), **quality})
    return rows
