"""Rivals made ready: an environment of its own for each that needs one, and each model as it wants it; all of it cached.

An engine that would fight with the user's packages (lleaves wants an old llvmlite) gets an environment of its own, made
on demand. What is kept, under :func:`~prunus.engine.disk.cache_dir`:

    peers/<name>-<hash of the pins>/                an environment
    peers/models/<name>-<hash of model, pins, CPU>/  a compiled model
"""

from __future__ import annotations

import inspect
import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunus import __version__
from prunus.bench.adapters import find_engine
from prunus.bench.machine import cpu_model, package_version
from prunus.bench.peers import Peer, digest, peers_dir
from prunus.engine.header import FORMAT_VERSION
from prunus.errors import PeerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

INSTALL_SECONDS = 1800
PREPARE_SECONDS = 7200
"""lleaves needs eleven minutes for 878 trees of 64 leaves."""

WORKER = Path(__file__).with_name("worker.py")
ADAPTERS = Path(__file__).with_name("adapters")


def say(message: str) -> None:
    """Tell the user something on stderr."""
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Let one process at a time make ``folder``."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{folder.name}.lock").open("w") as handle:
        try:
            import fcntl
        except ImportError:  # no such lock on this system; two runs at once may then do the work twice
            pass
        else:
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _run(name: str, what: str, command: list[str], seconds: float) -> None:
    """Run one step of making a peer ready; its last line of output is the reason where it fails."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds,
            env=clean_environment(),
            check=False,
        )
    except subprocess.TimeoutExpired:
        msg = f"{name}: {what} took over {seconds:.0f} s and was stopped"
        raise PeerError(msg) from None
    except OSError as error:
        msg = f"{name}: {what} could not be started: {error}"
        raise PeerError(msg) from error
    if done.returncode != 0:
        lines = [line.strip() for line in done.stdout.decode(errors="replace").splitlines() if line.strip(" ^~")]
        errors = [line for line in lines if line.startswith("ERROR")] or lines
        msg = f"{name}: {what} failed (exit {done.returncode}): {' | '.join(errors[-2:]) or 'it said nothing'}"
        raise PeerError(msg)


def clean_environment() -> dict[str, str]:
    """Environment variables for another Python: one thread everywhere, none of this process's import paths."""
    kept = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTHONHOME"}}
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    return {**kept, **dict.fromkeys(threads, "1"), "PYTHONNOUSERSITE": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def ensure(peer: Peer, *, tell: Callable[[str], None] = say, build: bool = True) -> Path:
    """Make sure that an engine can be run, installing it into an environment of its own where it must be.

    Args:
        peer: the engine.
        tell: gets a line before each long step.
        build: whether to install it where it is not; else that is refused.

    Returns:
        The Python to run it with.

    Raises:
        PeerError: it cannot be installed; the message says why.
    """
    _check_parts(peer)
    if peer.lives_here:
        return Path(sys.executable)
    if not peer.requirements:
        msg = f"{peer.name}: not installed beside prunus, and not installed by it: run  pip install {peer.name}"
        raise PeerError(msg)
    folder = peer.folder
    python, marker = folder / "bin" / "python", folder / "ready.json"
    if not (build or marker.is_file()):
        msg = f"{peer.name}: it is not installed yet; expected its environment: run  make bench-peers"
        raise PeerError(msg)
    with _lock(folder):
        if marker.is_file():
            return python
        shutil.rmtree(folder, ignore_errors=True)  # half made by a run that was killed
        tell(f"installing {peer.name} into an environment of its own ({', '.join(peer.requirements)})")
        _run(peer.name, "making its environment", [sys.executable, "-m", "venv", str(folder)], INSTALL_SECONDS)
        install = [str(python), "-I", "-m", "pip", "install", "--quiet", "--only-binary=:all:", *peer.requirements]
        _run(peer.name, "installing it", install, INSTALL_SECONDS)
        marker.write_text(json.dumps({"requirements": peer.requirements}))
    return python


def prepared(peer: Peer, model: Path, *, tell: Callable[[str], None] = say, build: bool = True) -> Path:
    """Make the model ready for an engine: compile it, or convert it; done once for each model, engine and CPU.

    Args:
        peer: the engine.
        model: the teacher's file, or a network's arrays (.npz).
        tell: gets a line before each long step.
        build: whether to prepare it where that was not done; else it is refused.

    Returns:
        What the engine's adapter takes: a folder, or ``model`` itself where nothing had to be done.

    Raises:
        PeerError: it failed; the message says why.
    """
    python = ensure(peer, tell=tell, build=build)
    adapter = find_engine(peer.name)
    if not hasattr(adapter, "prepare"):
        return model
    maker = adapter.prepare.__qualname__.partition(".")[0].lower()  # engines with one way to prepare share what it made
    folder = peers_dir() / "models" / f"{maker}-{_key(peer, adapter, model)}"
    if not (build or folder.is_dir()):
        msg = f"{peer.name}: {model.name} is not compiled for it yet; expected that: run  make bench-peers"
        raise PeerError(msg)
    with _lock(folder):
        if folder.is_dir():
            return folder
        half = folder.with_name(f"{folder.name}.half")
        shutil.rmtree(half, ignore_errors=True)
        half.mkdir()
        tell(f"preparing {model.name} for {peer.name}{', once (minutes for a large forest)' * (peer.runs == 'trees')}")
        isolated = "-P" if peer.lives_here else "-I"
        command = [str(python), isolated, str(WORKER), "prepare", peer.name, str(model.resolve()), str(half)]
        _run(peer.name, f"preparing {model.name}", command, PREPARE_SECONDS)
        half.rename(folder)
    return folder


def _key(peer: Peer, adapter: Any, model: Path) -> str:  # noqa: ANN401 - adapters share no base class
    """Say what a prepared model depends on: the model, the engine, the CPU, and how it is prepared.

    So a changed adapter does not meet a model made by the old one.
    """
    packages = [f"{name} {package_version(name)}" for name in peer.installed] if peer.lives_here else peer.requirements
    how = [inspect.getsource(adapter.prepare)]
    how += [(ADAPTERS / name).read_text(encoding="utf-8") for name in getattr(adapter, "needs", ())]
    if peer.source:
        how.append(Path(os.environ[peer.source]).read_text(encoding="utf-8"))
    if peer.name.startswith("prunus"):
        how.append(f"{__version__}, format {FORMAT_VERSION}")
    return digest(model.read_bytes(), model.suffix, *packages, cpu_model(), *how)


def _check_parts(peer: Peer) -> None:
    """Check what no Python package brings.

    Raises:
        PeerError: a program, a header or the engine's own source is not there.
    """
    lacking = [tool for tool in peer.tools if shutil.which(tool) is None]
    if lacking:
        msg = f"{peer.name}: the program {lacking[0]} is not on the PATH; expected it, to compile the model: install it"
        raise PeerError(msg)
    for header, package in peer.headers:
        test = subprocess.run(
            ["g++", "-E", "-x", "c++", "-", "-o", os.devnull],  # noqa: S607 - whichever g++ is on the PATH will compile
            input=f"#include <{header}>\n".encode(),
            capture_output=True,
            check=False,
        )
        if test.returncode != 0:
            msg = f"{peer.name}: g++ does not find {header}; expected it, to compile the adapter: apt-get install {package}"
            raise PeerError(msg)
    if peer.source and not Path(os.environ.get(peer.source, "")).is_file():
        named = os.environ.get(peer.source)
        got = f"{peer.source} names {named}, which is no file" if named else f"{peer.source} is not set"
        msg = f"{peer.name}: {got}; expected the path of the C++ file to compile: set it"
        raise PeerError(msg)
