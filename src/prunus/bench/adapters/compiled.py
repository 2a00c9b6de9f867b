"""Trees compiled to machine code, minutes before they are timed."""

from __future__ import annotations

import ctypes
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .shared import address, compile_library

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .shared import Call


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

    needs = ("row_loop.c",)

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
        flags = [f"-D{name}={value}" for name, value in types.items()]
        compile_library(Path(__file__).with_name("row_loop.c"), folder / "loop.so", *flags)

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
    needs = TL2cgen.needs
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
