"""Our network through LIBXSMM's generated kernels, called from a small C++ file that is compiled when it is first wanted."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .shared import address, compile_library

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .shared import Call

# -ffast-math lets the compiler put libmvec's vector logarithm into the input stage.
OPTIONS = ("-std=c++17", "-march=native", "-mprefer-vector-width=512", "-ffast-math")


class Libxsmm:
    """LIBXSMM with one thread: packed CSR kernels for layers of few weights, dense kernels for the others.

    It generates code while it loads, and 1.17 is known to crash there for some layers: the worker's process then dies, and
    the run says so. ``model`` is what ``prepare`` wrote.
    """

    packages = ("numpy",)
    needs = ("libxsmm.cpp",)

    @staticmethod
    def prepare(model: str, folder: Path) -> None:
        """Compile the C++ file, and keep the network's arrays (.npz)."""
        source = Path(__file__).with_name("libxsmm.cpp")
        # Without BLAS: LIBXSMM falls back to one only for shapes that it has no kernel for, and the adapter asks for none.
        libraries = ("-lxsmm", "-lxsmmnoblas", "-lpthread", "-ldl", "-lrt", "-lm")
        compile_library(source, folder / "net.so", *OPTIONS, after=libraries)
        (folder / "net.npz").write_bytes(Path(model).read_bytes())

    def __init__(self, model: str) -> None:
        with np.load(Path(model) / "net.npz") as arrays:
            self.arrays: dict[str, NDArray[Any]] = dict(arrays)
        self.lib = ctypes.CDLL(str(Path(model) / "net.so"))
        self.lib.xsmm_new.restype = ctypes.c_void_p
        stage = self._pointers(["center", "scale", "lower", "upper", "fill"], np.float32)
        n_layers = sum(name.startswith("weight_") for name in self.arrays)
        weights = self._pointers([f"weight_{k}" for k in range(n_layers)], np.float32)
        biases = self._pointers([f"bias_{k}" for k in range(n_layers)], np.float32)
        shape = [(*self.arrays[f"weight_{k}"].shape, int(self.arrays[f"activation_{k}"])) for k in range(n_layers)]
        self.shape = np.array(shape, np.int32)
        feature, kind = self._pointers(["feature", "kind"], np.int64)
        net = self.lib.xsmm_new(
            int(self.arrays["n_features"]), len(self.arrays["feature"]), ctypes.c_void_p(feature), ctypes.c_void_p(kind),
            stage, n_layers, address(self.shape), weights, biases,
        )  # fmt: skip
        if net is None:
            msg = "LIBXSMM made no code for a layer"
            raise RuntimeError(msg)
        self.net = ctypes.c_void_p(net)

    def _pointers(self, names: list[str], dtype: type[np.generic]) -> Any:  # noqa: ANN401 - an array type of ctypes
        """Bring arrays into the type that C reads, keep them alive, and give their addresses."""
        for name in names:
            self.arrays[name] = np.ascontiguousarray(self.arrays[name], dtype)
        return (ctypes.c_void_p * len(names))(*(self.arrays[name].ctypes.data for name in names))

    def call(self, batch: int) -> Call:
        """Give the function to time for batches of this size."""
        out = np.empty(batch, np.float32)
        target, net, run, size = address(out), self.net, self.lib.xsmm_score, ctypes.c_long(batch)

        def score(X: NDArray[np.float32]) -> NDArray[np.float32]:
            run(net, address(X), size, target)
            return out

        return score
