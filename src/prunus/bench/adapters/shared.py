"""What several adapters do alike: a foreign function's view of an array, a file compiled to a library, a file imported."""

from __future__ import annotations

import ctypes
import importlib.util
import subprocess
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    Call = Callable[[NDArray[np.float32]], Any]


LARGEST_BOUND = 256
"""Documents up to which ONNX Runtime is faster with a copy into bound memory (2 us less a call) than without."""


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


def compile_library(source: Path, library: Path, *options: str, after: Sequence[str] = ()) -> None:
    """Compile one C or C++ file into a shared library for this machine.

    Args:
        source: the file.
        library: what to make.
        options: of the compiler, before the file.
        after: after the file, where libraries to link stand.

    Raises:
        RuntimeError: the compiler's first complaint.
    """
    compiler = "gcc" if source.suffix == ".c" else "g++"
    command = [compiler, "-O3", "-shared", "-fPIC", *options, str(source), "-o", str(library), *after]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        complaints = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()
        msg = f"{compiler} could not compile {source.name}: {complaints[0] if complaints else 'it said nothing'}"
        raise RuntimeError(msg)


def onnx_session(model: str) -> Any:  # noqa: ANN401 - onnxruntime is not installed everywhere that this file is read
    """Open ``model.onnx`` of a folder in ONNX Runtime, on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(f"{model}/model.onnx", options, providers=["CPUExecutionProvider"])


def onnx_call(session: Any, batch: int) -> Call:  # noqa: ANN401 - as above
    """Give the fastest way to run a session on batches of one size: input and output bound beforehand, where copying is cheap.

    Args:
        session: of :func:`onnx_session`, with one input float32 [n, n_features] and one output float32 [n, 1] that counts.
        batch: documents of a call.
    """
    import numpy as np

    source, target = session.get_inputs()[0], session.get_outputs()[0]
    if batch > LARGEST_BOUND:
        run, wanted, name = session.run, [target.name], source.name
        return lambda X: run(wanted, {name: X})[0]
    X_bound, out = np.empty((batch, source.shape[1]), np.float32), np.empty((batch, 1), np.float32)
    binding, run_bound = session.io_binding(), session.run_with_iobinding
    binding.bind_input(source.name, "cpu", 0, np.float32, X_bound.shape, X_bound.ctypes.data)
    binding.bind_output(target.name, "cpu", 0, np.float32, out.shape, out.ctypes.data)

    def score(X: NDArray[np.float32]) -> NDArray[np.float32]:
        X_bound[:] = X
        run_bound(binding)
        return out

    return score
