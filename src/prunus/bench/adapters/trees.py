"""Trees in the libraries that trained them, and in runtimes that convert their models."""

from __future__ import annotations

import ctypes
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .regression import as_regression
from .shared import address, onnx_call, onnx_session

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .shared import Call


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
    """XGBoost's in-place prediction through its C API, one thread; its Python wrapper takes ten times as long for a row."""

    packages = ("xgboost", "xgboost-cpu", "numpy")
    # Raw scores (type 1 is the margin), all trees.
    SETTINGS = b'{"type":1,"training":false,"iteration_begin":0,"iteration_end":0,"missing":NaN,"strict_shape":false,"cache_id":0}'

    def __init__(self, model: str) -> None:
        import xgboost

        self.library = xgboost
        self.booster = xgboost.Booster({"nthread": 1}, model_file=model)
        self.booster.set_param({"nthread": 1})  # the file may have another number
        origin = Path(xgboost.__file__).parent
        self.lib = ctypes.CDLL(str(next(iter(sorted(origin.rglob("libxgboost.*"))))))
        self.lib.XGBGetLastError.restype = ctypes.c_char_p

    def call(self, batch: int) -> Call:
        """Give the function to time for batches of this size."""
        predict, handle, failure = self.lib.XGBoosterPredictFromDense, self.booster.handle, self.lib.XGBGetLastError
        shape, dimensions, values = ctypes.c_void_p(), ctypes.c_uint64(), ctypes.POINTER(ctypes.c_float)()
        results = ctypes.byref(shape), ctypes.byref(dimensions), ctypes.byref(values)

        def score(X: NDArray[np.float32]) -> NDArray[np.float32]:
            rows, columns = X.shape
            place = X.__array_interface__["data"][0]
            array = f'{{"data":[{place},true],"shape":[{rows},{columns}],"typestr":"<f4","version":3}}'
            if predict(handle, array.encode(), self.SETTINGS, None, *results) != 0:
                raise RuntimeError(failure().decode(errors="replace"))
            return np.ctypeslib.as_array(values, (batch,))

        return score

    def reference(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        """Score with XGBoost's predict on a DMatrix."""
        scores = self.booster.predict(self.library.DMatrix(X), output_margin=True, validate_features=False)
        return np.asarray(scores, dtype=np.float64)


class CatBoost:
    """CatBoost's predict, one thread; its wheel has no C API."""

    packages = ("catboost", "numpy")

    def __init__(self, model: str) -> None:
        import catboost

        self.library = catboost
        file_format = "json" if model.endswith(".json") else "cbm"
        self.model = catboost.CatBoost().load_model(model, format=file_format)

    def call(self, batch: int) -> Call:
        """Give the function to time for batches of this size."""
        predict, pool = self.model.predict, self.library.Pool
        if batch == 1:
            return lambda X: predict(pool(X, thread_count=1), prediction_type="RawFormulaVal", thread_count=1)
        # CatBoost keeps columns: it takes an array by columns in three quarters of the time, the turning included.
        turned = np.asfortranarray
        return lambda X: predict(pool(turned(X), thread_count=1), prediction_type="RawFormulaVal", thread_count=1)

    def reference(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        """Score all rows at once."""
        return np.asarray(self.model.predict(X, prediction_type="RawFormulaVal"), dtype=np.float64)


class Daal4py:
    """LightGBM trees in oneDAL, converted and scored by daal4py, one thread; ``model`` is what ``prepare`` wrote."""

    packages = ("scikit-learn-intelex", "daal", "numpy")
    needs = ("regression.py",)

    @staticmethod
    def prepare(model: str, folder: Path) -> None:
        """Make the model one that the converter takes."""
        (folder / "model.txt").write_text(as_regression(model))

    def __init__(self, model: str) -> None:
        import daal4py  # type: ignore[import-not-found]
        import lightgbm
        from daal4py.mb import convert_model  # type: ignore[import-not-found]

        daal4py.daalinit(1)
        booster = lightgbm.Booster(model_file=str(Path(model) / "model.txt"))
        self.trees = convert_model(booster).daal_model_
        self.algorithm = daal4py.gbt_regression_prediction

    def call(self, batch: int) -> Call:
        """Give the function to time for batches of this size."""
        del batch
        compute, trees = self.algorithm(fptype="float").compute, self.trees
        return lambda X: compute(X, trees).prediction


class OnnxRuntimeTrees:
    """LightGBM trees converted by onnxmltools, in ONNX Runtime with one thread; ``model`` is what ``prepare`` wrote."""

    packages = ("onnxruntime", "onnxmltools", "numpy")
    needs = ("regression.py",)

    @staticmethod
    def prepare(model: str, folder: Path) -> None:
        """Convert a LightGBM text model."""
        import lightgbm
        import onnxmltools  # type: ignore[import-not-found]
        from onnxmltools.convert.common.data_types import FloatTensorType  # type: ignore[import-not-found]

        booster = lightgbm.Booster(model_str=as_regression(model))
        inputs = [("X", FloatTensorType([None, booster.num_feature()]))]
        (folder / "model.onnx").write_bytes(
            onnxmltools.convert_lightgbm(booster, initial_types=inputs).SerializeToString()
        )

    def __init__(self, model: str) -> None:
        self.session = onnx_session(model)

    def call(self, batch: int) -> Call:
        """Give the function to time for batches of this size."""
        return onnx_call(self.session, batch)
