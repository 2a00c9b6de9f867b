"""One engine in one process, timed on request: a script of its own, run by the Python of that engine's environment.

It needs the standard library, numpy and the engine's own library, never prunus (but for our own models). It speaks JSON
lines: one request a line on stdin, one reply a line on stdout; whatever a library prints goes to stderr.

    {"op": "load", "engine": E, "model": M, "x": X.npy}   ->  {"ok": true, "versions": {...}}
    {"op": "score", "batch": B, "rows": N, "out": F.npy}  ->  {"ok": true}                  float64 [N] in F.npy
    {"op": "reference", "rows": N, "out": F.npy}          ->  {"ok": true}                  the library's own predict
    {"op": "slice", "batch": B, "seconds": S}             ->  {"ok": true, "ns": [...]}     one entry a call
    {"op": "exit"}

E is a name of :data:`ENGINES`, or ``file.py:Class`` for an engine that prunus does not know. A failure of the engine is
a reply ``{"ok": false, "error": "..."}``, not the end of the process.

``worker.py prepare E MODEL FOLDER`` compiles a model into a folder instead (engines that need it have ``prepare``).
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Call = Callable[[NDArray[np.float32]], Any]

MIN_CALLS = 3
"""Calls that a slice makes at least, so that a slow engine too has a median."""

MAX_VIEWS = 4096
"""Batches that a slice cycles through at most."""


def address(X: NDArray[Any]) -> ctypes.c_void_p:
    """Where the values of an array start; ``X.ctypes.data`` says the same and takes a microsecond longer."""
    return ctypes.c_void_p(X.__array_interface__["data"][0])


def load_file(path: Path) -> Any:  # noqa: ANN401 - a module has no narrower type that helps its caller
    """Import one Python file, without its folder coming into the search path."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        msg = f"{path} cannot be imported; expected a Python file"
        raise ImportError(msg)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


class Prunus:
    """Our own model file, as a user has it: ``prunus.load(path).score(X)``."""

    packages = ("prunus", "numpy")

    def __init__(self, model: str) -> None:
        import prunus

        self.scorer = prunus.load(model)

    def call(self, batch: int) -> Call:
        """Give the function to time for batches of this size."""
        del batch
        score: Call = self.scorer.score
        return score


class LightGBM:
    """LightGBM's C API, one thread: PredictForMat, and its fast path for a single row."""

    packages = ("lightgbm", "numpy")
    FLOAT32, RAW_SCORE, ROW_MAJOR = 0, 1, 1
    PARAMETERS = b"num_threads=1"

    def __init__(self, model: str) -> None:
        spec = importlib.util.find_spec("lightgbm")
        if spec is None or spec.origin is None:
            msg = "lightgbm is not installed"
            raise ImportError(msg)
        found = sorted(Path(spec.origin).parent.rglob("lib_lightgbm.*"))
        if not found:
            msg = "this lightgbm has no lib_lightgbm beside it"
            raise ImportError(msg)
        self.model = model
        self.lib = ctypes.CDLL(str(found[0]))
        self.lib.LGBM_GetLastError.restype = ctypes.c_char_p
        self.handle, iterations = ctypes.c_void_p(), ctypes.c_int()
        self.check(
            self.lib.LGBM_BoosterCreateFromModelfile(
                model.encode(), ctypes.byref(iterations), ctypes.byref(self.handle)
            )
        )
        features = ctypes.c_int()
        self.check(self.lib.LGBM_BoosterGetNumFeature(self.handle, ctypes.byref(features)))
        self.features = features.value

    def check(self, code: int) -> None:
        """Raise the library's own message where a call failed."""
        if code != 0:
            raise RuntimeError(self.lib.LGBM_GetLastError().decode(errors="replace"))

    def call(self, batch: int) -> Call:
        """Give the function to time for batches of this size."""
        out, length = np.empty(batch, np.float64), ctypes.c_int64()
        target, size = address(out), ctypes.byref(length)
        if batch == 1:
            fast = ctypes.c_void_p()
            self.check(
                self.lib.LGBM_BoosterPredictForMatSingleRowFastInit(
                    self.handle, self.RAW_SCORE, 0, -1, self.FLOAT32, self.features, self.PARAMETERS, ctypes.byref(fast)
                )
            )
            single = self.lib.LGBM_BoosterPredictForMatSingleRowFast

            def score_row(X: NDArray[np.float32]) -> NDArray[np.float64]:
                self.check(single(fast, address(X), size, target))
                return out

            return score_row
        many = self.lib.LGBM_BoosterPredictForMat

        def score(X: NDArray[np.float32]) -> NDArray[np.float64]:
            rows, columns = X.shape
            self.check(
                many(
                    self.handle, address(X), self.FLOAT32, rows, columns, self.ROW_MAJOR, self.RAW_SCORE, 0, -1,
                    self.PARAMETERS, size, target,
                )
            )  # fmt: skip
            return out

        return score

    def reference(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        """Score with LightGBM's Python package."""
        import lightgbm

        booster = lightgbm.Booster(model_file=self.model)
        return np.asarray(booster.predict(X, raw_score=True, num_threads=1), dtype=np.float64)


class Lleaves:
    """LightGBM trees compiled by LLVM; ``model`` is the folder that ``prepare`` wrote."""

    packages = ("lleaves", "llvmlite", "numpy")

    @staticmethod
    def prepare(model: str, folder: Path) -> None:
        """Compile a LightGBM text model."""
        import lleaves  # type: ignore[import-not-found]

        (folder / "model.txt").write_bytes(Path(model).read_bytes())
        lleaves.Model(model_file=str(folder / "model.txt")).compile(cache=str(folder / "model.o"), raw_score=True)

    def __init__(self, model: str) -> None:
        import lleaves

        self.model = lleaves.Model(model_file=str(Path(model) / "model.txt"))
        self.model.compile(cache=str(Path(model) / "model.o"), raw_score=True)

    def call(self, batch: int) -> Call:
        """Give the function to time for batches of this size."""
        del batch
        predict = self.model.predict
        return lambda X: predict(X, n_jobs=1)


class TL2cgen:
    """Trees as C code compiled by gcc, called through TL2cgen's own predictor; ``model`` is what ``prepare`` wrote."""

    packages = ("tl2cgen", "treelite", "numpy")

    ROW_LOOP = r"""
#include <math.h>
union Entry { int missing; VALUE fvalue; int qvalue; };
void score(void (*predict)(union Entry*, int, RESULT*), const float* x, long rows, int columns, RESULT* out) {
  union Entry row[columns];
  for (long r = 0; r < rows; ++r, x += columns) {
    for (int c = 0; c < columns; ++c) {
      if (isnan(x[c])) row[c].missing = -1; else row[c].fvalue = x[c];
    }
    out[r] = 0;
    predict(row, 1, out + r);
  }
}
"""

    @staticmethod
    def prepare(model: str, folder: Path) -> None:
        """Compile a model of LightGBM (.txt) or XGBoost (.json, .ubj), and a loop in C over its rows."""
        import tl2cgen  # type: ignore[import-not-found]
        from treelite import frontend  # type: ignore[import-not-found]

        reader = {".json": "load_xgboost_model", ".ubj": "load_xgboost_model"}.get(
            Path(model).suffix, "load_lightgbm_model"
        )
        trees = getattr(frontend, reader)(model)
        tl2cgen.export_lib(trees, toolchain="gcc", libpath=str(folder / "model.so"), params={"parallel_comp": 0})
        predictor = tl2cgen.Predictor(str(folder / "model.so"), nthread=1)
        ctype = {"float32": "float", "float64": "double"}
        types = {"VALUE": ctype[predictor.threshold_type], "RESULT": ctype[predictor.leaf_output_type]}
        (folder / "types.json").write_text(json.dumps(types))
        (folder / "loop.c").write_text(TL2cgen.ROW_LOOP)
        flags = [f"-D{name}={value}" for name, value in types.items()]
        command = ["gcc", "-O3", "-shared", "-fPIC", *flags, "loop.c", "-o", "loop.so"]
        subprocess.run(command, check=True, cwd=folder)

    def __init__(self, model: str) -> None:
        import tl2cgen

        self.dmatrix = tl2cgen.DMatrix
        self.predictor = tl2cgen.Predictor(str(Path(model) / "model.so"), nthread=1)

    def call(self, batch: int) -> Call:
        """Give the function to time for batches of this size."""
        del batch
        predict, wrap, dtype = self.predictor.predict, self.dmatrix, np.dtype(self.predictor.threshold_type)
        # tl2cgen 1.0 cannot convert an array under numpy 2, so the conversion is made here; it is part of the call.
        return lambda X: predict(wrap(np.asarray(X, dtype)), pred_margin=True)


class TL2cgenC:
    """The same C code, looped over the rows in C: no predictor, no matrix object; ``model`` is what ``prepare`` wrote."""

    packages = TL2cgen.packages
    prepare = TL2cgen.prepare

    def __init__(self, model: str) -> None:
        folder = Path(model)
        types = json.loads((folder / "types.json").read_text())
        self.dtype = np.float32 if types["RESULT"] == "float" else np.float64
        self.trees, self.loop = ctypes.CDLL(str(folder / "model.so")), ctypes.CDLL(str(folder / "loop.so"))

    def call(self, batch: int) -> Call:
        """Give the function to time for batches of this size."""
        out = np.empty(batch, self.dtype)
        target, run = address(out), self.loop.score
        predict = ctypes.cast(self.trees.predict, ctypes.c_void_p)

        def score(X: NDArray[np.float32]) -> NDArray[Any]:
            rows, columns = X.shape
            run(predict, address(X), ctypes.c_long(rows), columns, target)
            return out

        return score


class OnnxRuntime:
    """The same network, dense, in ONNX Runtime with one thread; ``model`` is what ``prepare`` wrote."""

    packages = ("onnxruntime", "numpy")

    @staticmethod
    def prepare(model: str, folder: Path) -> None:
        """Build the graph from the arrays of a network (.npz)."""
        onnx_net = load_file(Path(__file__).with_name("onnx_net.py"))
        with np.load(model) as arrays:
            (folder / "model.onnx").write_bytes(onnx_net.build(dict(arrays)))

    def __init__(self, model: str) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        path = str(Path(model) / "model.onnx")
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def call(self, batch: int) -> Call:
        """Give the function to time for batches of this size."""
        del batch
        run, wanted = self.session.run, ["score"]
        return lambda X: run(wanted, {"X": X})[0]


class Torch:
    """The same network, dense, as an eager PyTorch module with one thread; ``model`` is a network's arrays (.npz)."""

    packages = ("torch", "numpy")

    def __init__(self, model: str) -> None:
        import torch

        torch.set_num_threads(1)
        torch_net = load_file(Path(__file__).with_name("torch_net.py"))
        with np.load(model) as arrays:
            self.module = torch_net.build(dict(arrays))
        self.torch = torch

    def call(self, batch: int) -> Call:
        """Give the function to time for batches of this size."""
        del batch
        module, wrap, guard = self.module, self.torch.from_numpy, self.torch.inference_mode

        def score(X: NDArray[np.float32]) -> NDArray[np.float32]:
            with guard():
                return module(wrap(X)).numpy()  # type: ignore[no-any-return]

        return score


ENGINES: dict[str, Any] = {
    "prunus": Prunus,
    "lightgbm": LightGBM,
    "lleaves": Lleaves,
    "tl2cgen": TL2cgen,
    "tl2cgen-c": TL2cgenC,
    "onnxruntime": OnnxRuntime,
    "torch": Torch,
}
"""Engine name -> its adapter."""


def find_engine(name: str) -> Any:  # noqa: ANN401 - adapters share two methods and no base class
    """Give the adapter of an engine: one of ours, or ``file.py:Class``."""
    if name in ENGINES:
        return ENGINES[name]
    path, _, attribute = name.rpartition(":")
    if not path:
        msg = f"unknown engine {name!r}; expected one of {', '.join(ENGINES)}, or file.py:Class"
        raise ValueError(msg)
    return getattr(load_file(Path(path)), attribute)


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
            try:
                versions[package] = version(package)
            except PackageNotFoundError:
                versions[package] = "not installed as a package"
        return {"versions": versions}

    def call_for(self, batch: int) -> Call:
        """Give the engine's call for one batch size, made once."""
        if batch not in self.calls:
            self.calls[batch] = self.engine.call(batch)
            self.views[batch] = batches_of(self.X, batch)
            self.next[batch] = 0
        return self.calls[batch]

    def score(self, batch: int, rows: int, out: str) -> dict[str, Any]:
        """Score the first rows in batches of the size that will be timed."""
        call = self.call_for(batch)
        parts = [np.array(call(view), np.float64).reshape(batch) for view in self.views[batch][: -(-rows // batch)]]
        np.save(out, np.concatenate(parts)[:rows])
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
    """Answer requests until stdin ends or one asks to exit."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints must not come between two replies
    worker = Worker()
    for line in sys.stdin:
        request = json.loads(line)
        op = request.pop("op")
        if op == "exit":
            return
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
