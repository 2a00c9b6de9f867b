"""Rival engines: what each runs, where it lives, and how its model is made ready; all of it cached.

An engine that would fight with the user's packages (lleaves wants an old llvmlite) gets an environment of its own, made
on demand. What is kept, under the cache folder (``PRUNUS_CACHE``, or ~/.cache/prunus):

    peers/<name>-<hash of the pins>/                an environment
    peers/models/<name>-<hash of model, pins, CPU>/  a compiled model
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from prunus.bench.engines import ENGINES
from prunus.bench.machine import cpu_model, package_version
from prunus.errors import PeerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

INSTALL_SECONDS = 1800
PREPARE_SECONDS = 7200
"""lleaves needs eleven minutes for 878 trees of 64 leaves."""

WORKER = Path(__file__).with_name("worker.py")


@dataclass(frozen=True)
class Peer:
    """A rival engine.

    Attributes:
        name: as in the table, and in :data:`prunus.bench.worker.ENGINES`.
        runs: "trees", the teacher's own model file, or "network", our network with its zeros as numbers.
        about: one line for a help text.
        requirements: pins for an environment of its own.
        reads: kinds of model file, as :func:`kind_of` names them.
        installed: modules; where all of them are installed beside prunus, that environment is used as it stands, with
            the versions that the user has. Empty: always an environment of its own.
        environment: name of the environment, where engines share one; empty for the peer's own name.
        tools: programs that must be on the PATH.
    """

    name: str
    runs: Literal["trees", "network"]
    about: str
    requirements: tuple[str, ...] = ()
    reads: tuple[str, ...] = ("prunus",)
    installed: tuple[str, ...] = ()
    environment: str = ""
    tools: tuple[str, ...] = ()

    @property
    def lives_here(self) -> bool:
        """Whether the environment that prunus runs in has all that the engine needs."""
        return bool(self.installed) and all(find_spec(module) is not None for module in self.installed)

    @property
    def folder(self) -> Path:
        """The environment of its own, whether or not it was made yet."""
        return peers_dir() / f"{self.environment or self.name}-{_digest(*self.requirements, sys.version.split()[0])}"


_TL2CGEN = ("tl2cgen==1.0.0", "treelite==4.8.1", "numpy==2.4.6")

PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer(
            "lightgbm",
            "trees",
            "LightGBM's own C API, one thread, its fast path for a single row",
            ("lightgbm==4.7.0", "numpy==2.4.6"),
            reads=("lightgbm",),
            installed=("lightgbm",),
        ),
        Peer(
            "xgboost",
            "trees",
            "XGBoost's in-place predict, one thread",
            ("xgboost-cpu==3.2.0", "numpy==2.4.6"),
            reads=("xgboost",),
            installed=("xgboost",),
        ),
        Peer(
            "catboost",
            "trees",
            "CatBoost's predict, one thread",
            ("catboost==1.2.10", "numpy==2.4.6"),
            reads=("catboost",),
            installed=("catboost",),
        ),
        Peer(
            "lleaves",
            "trees",
            "LightGBM trees compiled by LLVM (minutes for a large forest, once)",
            ("lleaves==1.3.0", "llvmlite==0.43.0", "numpy==2.4.6"),
            reads=("lightgbm",),
        ),
        Peer(
            "tl2cgen",
            "trees",
            "trees as C code compiled by gcc (minutes for a large forest, once), through its Python predictor",
            _TL2CGEN,
            reads=("lightgbm", "xgboost"),
            tools=("gcc",),
        ),
        Peer(
            "tl2cgen-c",
            "trees",
            "the same C code, looped over the documents in C",
            _TL2CGEN,
            reads=("lightgbm", "xgboost"),
            environment="tl2cgen",
            tools=("gcc",),
        ),
        Peer(
            "onnxruntime",
            "network",
            "our network, dense, in ONNX Runtime with one thread",
            ("onnxruntime==1.31.1", "onnx==1.23.2", "numpy==2.4.6"),
            installed=("onnxruntime", "onnx"),
        ),
        Peer(
            "torch", "network", "our network, dense, as an eager PyTorch module with one thread", installed=("torch",)
        ),
    )
}
"""Name -> peer."""


def kind_of(model: Path | str) -> str:
    """Tell what a model file is, by its suffix, and for .json by its content.

    Args:
        model: a file that exists.

    Returns:
        "lightgbm", "xgboost", "catboost", "prunus" or "unknown".
    """
    path = Path(model)
    if path.suffix == ".json":
        return "xgboost" if b'"learner"' in path.read_bytes() else "catboost"
    kinds = {".txt": "lightgbm", ".ubj": "xgboost", ".cbm": "catboost", ".prunus": "prunus"}
    return kinds.get(path.suffix, "unknown")


def peers_for(model: Path | str) -> tuple[str, ...]:
    """Name the engines that read a model file.

    Args:
        model: a teacher's file, or one of ours.
    """
    kind = kind_of(model)
    return tuple(name for name, peer in PEERS.items() if kind in peer.reads)


def cache_dir() -> Path:
    """Where prunus keeps what can be made again."""
    named = os.environ.get("PRUNUS_CACHE")
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "prunus"


def peers_dir() -> Path:
    """Where environments and compiled models of peers are kept."""
    return cache_dir() / "peers"


def say(message: str) -> None:
    """Tell the user something on stderr."""
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()


def _digest(*parts: str | bytes) -> str:
    whole = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        whole.update(len(data).to_bytes(8, "little") + data)
    return whole.hexdigest()[:12]


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
        lines = [line for line in done.stdout.decode(errors="replace").splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR")] or lines
        msg = f"{name}: {what} failed (exit {done.returncode}): {' | '.join(errors[-2:]) or 'it said nothing'}"
        raise PeerError(msg)


def clean_environment() -> dict[str, str]:
    """Environment variables for another Python: one thread everywhere, none of this process's import paths."""
    kept = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTHONHOME"}}
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    return {**kept, **dict.fromkeys(threads, "1"), "PYTHONNOUSERSITE": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def ensure(peer: Peer, *, tell: Callable[[str], None] = say) -> Path:
    """Make sure that an engine can be run, installing it into an environment of its own where it must be.

    Args:
        peer: the engine.
        tell: gets a line before each long step.

    Returns:
        The Python to run it with.

    Raises:
        PeerError: it cannot be installed; the message says why.
    """
    lacking = [tool for tool in peer.tools if shutil.which(tool) is None]
    if lacking:
        msg = f"{peer.name}: the program {lacking[0]} is not on the PATH; expected it, to compile the model: install it"
        raise PeerError(msg)
    if peer.lives_here:
        return Path(sys.executable)
    if not peer.requirements:
        msg = f"{peer.name}: not installed beside prunus, and not installed by it: run  pip install {peer.name}"
        raise PeerError(msg)
    folder = peer.folder
    python, marker = folder / "bin" / "python", folder / "ready.json"
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


def prepared(peer: Peer, model: Path, *, tell: Callable[[str], None] = say) -> Path:
    """Make the model ready for an engine: compile it, or convert it; done once for each model, engine and CPU.

    Args:
        peer: the engine.
        model: the teacher's file, or a network's arrays (.npz).
        tell: gets a line before each long step.

    Returns:
        What the engine's adapter takes: a folder, or ``model`` itself where nothing had to be done.

    Raises:
        PeerError: it failed; the message says why.
    """
    python = ensure(peer, tell=tell)
    if not hasattr(ENGINES[peer.name], "prepare"):
        return model
    packages = [f"{name} {package_version(name)}" for name in peer.installed] if peer.lives_here else peer.requirements
    # How it is prepared is part of the key too: a changed adapter does not meet a model made by the old one.
    how = [inspect.getsource(ENGINES[peer.environment or peer.name])]
    how += [] if peer.runs == "trees" else [WORKER.with_name("onnx_net.py").read_text(encoding="utf-8")]
    key = _digest(model.read_bytes(), model.suffix, *packages, cpu_model(), *how)
    folder = peers_dir() / "models" / f"{peer.environment or peer.name}-{key}"
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
