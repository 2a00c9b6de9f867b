"""One adapter for each engine: it loads a model, and gives the function to time for a batch size.

Each lives in its engine's own environment: the standard library, numpy and that engine are all that it may need (ours need
prunus). What it does in ``prepare``, ``__init__`` and ``call`` is not timed; what the function that ``call`` gives does, is.
:mod:`prunus.bench.worker` imports this folder by its path, as a package of another name.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from .shared import load_file

ENGINES: dict[str, str] = {
    "prunus": "ours:Prunus",
    "prunus-trees": "ours:PrunusTrees",
    "lightgbm": "trees:LightGBM",
    "xgboost": "trees:XGBoost",
    "catboost": "trees:CatBoost",
    "daal4py": "trees:Daal4py",
    "onnxruntime-trees": "trees:OnnxRuntimeTrees",
    "lleaves": "compiled:Lleaves",
    "tl2cgen": "compiled:TL2cgen",
    "tl2cgen-c": "compiled:TL2cgenC",
    "treeproto": "treeproto:TreeProto",
    "onnxruntime": "nets:OnnxRuntime",
    "onnxruntime-int8-dynamic": "nets:OnnxRuntimeInt8Dynamic",
    "onnxruntime-int8-static": "nets:OnnxRuntimeInt8Static",
    "openvino": "nets:OpenVINO",
    "openvino-int8": "nets:OpenVINOInt8",
    "litert": "nets:LiteRT",
    "libxsmm": "libxsmm:Libxsmm",
    "torch": "nets:Torch",
}
"""Engine name -> file of this folder and class in it."""


def find_engine(name: str) -> Any:  # noqa: ANN401 - adapters share two methods and no base class
    """Give the adapter of an engine: one of ours, or ``file.py:Class``."""
    if name in ENGINES:
        module, _, attribute = ENGINES[name].partition(":")
        return getattr(import_module(f"{__name__}.{module}"), attribute)
    path, _, attribute = name.rpartition(":")
    if not path:
        msg = f"unknown engine {name!r}; expected one of {', '.join(ENGINES)}, or file.py:Class"
        raise ValueError(msg)
    return getattr(load_file(Path(path)), attribute)
