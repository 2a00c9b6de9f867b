"""Rival engines: what each runs, on which model files, and what it needs to be installed."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from prunus.engine.disk import cache_dir


@dataclass(frozen=True)
class Peer:
    """A rival engine.

    Attributes:
        name: as in the table, and in :data:`prunus.bench.adapters.ENGINES`.
        runs: "trees", the teacher's own model file, or "network", our network with its zeros as numbers.
        about: one line for a help text.
        requirements: pins for an environment of its own.
        reads: kinds of model file, as :func:`kind_of` names them.
        installed: modules; where all of them are installed beside prunus, that environment is used as it stands, with
            the versions that the user has. Empty: always an environment of its own.
        environment: name of the environment, where engines share one; empty for the peer's own name.
        tools: programs that must be on the PATH.
        headers: C headers that the compiler must find, with the Debian package that has them.
        source: name of the environment variable that holds the path of the engine's source, which prunus does not ship.
        calibrates: whether it is quantised, which takes rows, and changes scores: they are judged, not compared.
    """

    name: str
    runs: Literal["trees", "network"]
    about: str
    requirements: tuple[str, ...] = ()
    reads: tuple[str, ...] = ("prunus",)
    installed: tuple[str, ...] = ()
    environment: str = ""
    tools: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    source: str = ""
    calibrates: bool = False

    @property
    def lives_here(self) -> bool:
        """Whether the environment that prunus runs in has all that the engine needs."""
        return bool(self.installed) and all(find_spec(module) is not None for module in self.installed)

    @property
    def folder(self) -> Path:
        """The environment of its own, whether or not it was made yet."""
        return peers_dir() / f"{self.environment or self.name}-{digest(*self.requirements, sys.version.split()[0])}"


_NUMPY = "numpy==2.4.6"
_LIGHTGBM = ("lightgbm==4.7.0", _NUMPY)
_TL2CGEN = ("tl2cgen==1.0.0", "treelite==4.8.1", _NUMPY)
_ONNX = ("onnxruntime==1.31.1", "onnx==1.23.2", _NUMPY)
_OPENVINO = ("openvino==2026.4.1", "nncf==3.4.0", "onnx==1.23.2", _NUMPY)

PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer(
            "lightgbm",
            "trees",
            "LightGBM's own C API, one thread, its fast path for a single row",
            _LIGHTGBM,
            reads=("lightgbm",),
            installed=("lightgbm",),
        ),
        Peer(
            "xgboost",
            "trees",
            "XGBoost's in-place predict, one thread",
            ("xgboost-cpu==3.2.0", _NUMPY),
            reads=("xgboost",),
            installed=("xgboost",),
        ),
        Peer(
            "catboost",
            "trees",
            "CatBoost's predict, one thread",
            ("catboost==1.2.10", _NUMPY),
            reads=("catboost",),
            installed=("catboost",),
        ),
        Peer(
            "lleaves",
            "trees",
            "LightGBM trees compiled by LLVM (minutes for a large forest, once)",
            ("lleaves==1.3.0", "llvmlite==0.43.0", _NUMPY),
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
            "treeproto",
            "trees",
            "exact trees by byte compares and blends, from the C++ file that PRUNUS_TREEPROTO names",
            reads=("lightgbm", "xgboost"),
            installed=("numpy",),
            tools=("g++",),
            source="PRUNUS_TREEPROTO",
        ),
        Peer(
            "daal4py",
            "trees",
            "LightGBM trees in oneDAL, one thread",
            ("scikit-learn-intelex==2026.2.0", *_LIGHTGBM),
            reads=("lightgbm",),
        ),
        Peer(
            "onnxruntime-trees",
            "trees",
            "LightGBM trees in ONNX Runtime, converted by onnxmltools, one thread",
            ("onnxmltools==1.16.0", "skl2onnx==1.20.0", "lightgbm==4.7.0", *_ONNX),
            reads=("lightgbm",),
        ),
        Peer(
            "prunus-trees",
            "trees",
            "the teacher's own trees in our engine, exact",
            reads=("lightgbm", "xgboost", "catboost"),
            installed=("numpy",),
        ),
        Peer(
            "onnxruntime",
            "network",
            "our network, dense, in ONNX Runtime with one thread",
            _ONNX,
            installed=("onnxruntime", "onnx"),
        ),
        Peer(
            "onnxruntime-int8-dynamic",
            "network",
            "the same, its layers quantised to int8, activations in each call",
            _ONNX,
            installed=("onnxruntime", "onnx"),
            calibrates=True,
        ),
        Peer(
            "onnxruntime-int8-static",
            "network",
            "the same, its layers quantised to int8, activations calibrated",
            _ONNX,
            installed=("onnxruntime", "onnx"),
            calibrates=True,
        ),
        Peer(
            "openvino",
            "network",
            "our network, dense, in OpenVINO: one stream, one thread, compiled for each batch size",
            _OPENVINO,
            environment="openvino",
        ),
        Peer(
            "openvino-int8",
            "network",
            "the same, quantised to int8 by NNCF",
            _OPENVINO,
            environment="openvino",
            calibrates=True,
        ),
        Peer(
            "litert",
            "network",
            "our network, dense, in LiteRT with XNNPACK, one thread",
            ("ai-edge-litert==2.3.0", _NUMPY),
        ),
        Peer(
            "libxsmm",
            "network",
            "our network in LIBXSMM's generated kernels, sparse where few weights are left",
            installed=("numpy",),
            tools=("g++",),
            headers=(("libxsmm.h", "libxsmm-dev"),),
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


def peers_dir() -> Path:
    """Where environments and compiled models of peers are kept."""
    return cache_dir() / "peers"


def digest(*parts: str | bytes) -> str:
    """Give twelve hexadecimal digits that stand for the parts."""
    whole = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        whole.update(len(data).to_bytes(8, "little") + data)
    return whole.hexdigest()[:12]
