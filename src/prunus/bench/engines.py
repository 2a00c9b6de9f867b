"""One adapter for each engine: it loads a model, and gives the function to time for a batch size.

Each lives in its engine's own environment: the standard library, numpy and that engine are all that it may need. What
it does in ``prepare``, ``__init__`` and ``call`` is not timed; what the function that ``call`` gives does, is.
:mod:`prunus.bench.worker` runs this file by its path.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Call = Callable[[NDArray[np.float32]], Any]


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


class XGBoost:
    """XGBoost's in-place predict, one thread."""

    packages = ("xgboost", "xgboost-cpu", "numpy")

    def __init__(self, model: str) -> None:
        import xgboost

        self.library = xgboost
        self.booster = xgboost.Booster({"nthread": 1}, model_file=model)

    def call(self, batch: int) -> Call:
        """Give the function to time for batches of this size."""
        del batch
        predict = self.booster.inplace_predict
        return lambda X: predict(X, predict_type="margin")

    def reference(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        """Score with XGBoost's predict on a DMatrix."""
        scores = self.booster.predict(self.library.DMatrix(X), output_margin=True, validate_features=False)
        return np.asarray(scores, dtype=np.float64)


class CatBoost:
    """CatBoost's predict, one thread."""

    packages = ("catboost", "numpy")

    def __init__(self, model: str) -> None:
        import catboost

        file_format = "json" if model.endswith(".json") else "cbm"
        self.model = catboost.CatBoost().load_model(model, format=file_format)

    def call(self, batch: int) -> Call:
        """Give the function to time for batches of this size."""
        del batch
        predict = self.model.predict
        return lambda X: predict(X, prediction_type="RawFormulaVal", thread_count=1)

    def reference(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        """Score all rows at once."""
        return np.asarray(self.call(len(X))(X), dtype=np.float64)


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
    "xgboost": XGBoost,
    "catboost": CatBoost,
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
