"""The same network, dense, in runtimes for networks: float32, and quantised to int8 by each runtime's own tools.

``prepare`` is given the network's arrays (.npz, see :func:`.onnx_net.arrays_of`); where an engine is quantised, rows to calibrate
with stand among them as ``rows``, float32 [n, n_features].
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .shared import onnx_call, onnx_session

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from .shared import Call

CALIBRATION_BATCH = 64

STAGE_OPERATORS = ["Abs", "Log", "Sign", "Subtract", "Multiply", "Gather", "Equal", "Select", "Convert"]
"""OpenVINO's names of what only the input stage holds."""


def _arrays(model: str) -> dict[str, NDArray[Any]]:
    with np.load(model) as arrays:
        return dict(arrays)


def _batches(arrays: dict[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
    rows = arrays["rows"]
    return [np.ascontiguousarray(rows[i : i + CALIBRATION_BATCH]) for i in range(0, len(rows), CALIBRATION_BATCH)]


class OnnxRuntime:
    """ONNX Runtime with one thread; ``model`` is what ``prepare`` wrote."""

    packages = ("onnxruntime", "numpy")
    needs = ("onnx_net.py",)

    @staticmethod
    def prepare(model: str, folder: Path) -> None:
        """Build the graph from the arrays of a network (.npz)."""
        from .onnx_net import build

        (folder / "model.onnx").write_bytes(build(_arrays(model)))

    def __init__(self, model: str) -> None:
        self.session = onnx_session(model)

    def call(self, batch: int) -> Call:
        """Give the function to time for batches of this size."""
        return onnx_call(self.session, batch)


class OnnxRuntimeInt8Dynamic(OnnxRuntime):
    """ONNX Runtime's dynamic quantisation: int8 weights by output, the scale of the activations found in each call."""

    @staticmethod
    def prepare(model: str, folder: Path) -> None:
        """Build the graph and quantise its layers."""
        from onnxruntime.quantization import QuantType, quantize_dynamic

        from .onnx_net import build

        (folder / "float.onnx").write_bytes(build(_arrays(model)))
        quantize_dynamic(
            folder / "float.onnx", folder / "model.onnx", per_channel=True, weight_type=QuantType.QInt8,
            op_types_to_quantize=["MatMul"],
        )  # fmt: skip


class OnnxRuntimeInt8Static(OnnxRuntime):
    """ONNX Runtime's static quantisation: int8 weights by output, uint8 activations whose scales are calibrated on rows.

    The last layer, one output, stays float32: its quantisation would cost more than it saves.
    """

    @staticmethod
    def prepare(model: str, folder: Path) -> None:
        """Build the graph, and quantise its layers as they act on the calibration rows."""
        import onnx
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

        from .onnx_net import build

        arrays = _arrays(model)
        (folder / "float.onnx").write_bytes(build(arrays))

        class Rows(CalibrationDataReader):  # type: ignore[misc]
            def __init__(self) -> None:
                self.left: Iterator[NDArray[np.float32]] = iter(_batches(arrays))

            def get_next(self) -> dict[str, NDArray[np.float32]] | None:
                X = next(self.left, None)
                return None if X is None else {"X": X}

        layers = [node.name for node in onnx.load(folder / "float.onnx").graph.node if node.op_type == "Gemm"]
        quantize_static(
            folder / "float.onnx", folder / "model.onnx", Rows(), quant_format=QuantFormat.QDQ, per_channel=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, op_types_to_quantize=["Gemm"],
            nodes_to_exclude=layers[-1:],
        )  # fmt: skip


class OpenVINO:
    """OpenVINO with one stream and one thread, compiled for each batch size; ``model`` is what ``prepare`` wrote."""

    packages: tuple[str, ...] = ("openvino", "numpy")
    needs = ("onnx_net.py",)

    @staticmethod
    def prepare(model: str, folder: Path) -> None:
        """Convert the network."""
        import openvino  # type: ignore[import-not-found]

        from .onnx_net import build

        converted = openvino.Core().read_model(build(_arrays(model)))
        openvino.save_model(converted, folder / "model.xml", compress_to_fp16=False)

    def __init__(self, model: str) -> None:
        import openvino

        self.core = openvino.Core()
        self.model = self.core.read_model(Path(model) / "model.xml")

    def call(self, batch: int) -> Call:
        """Give the function to time for batches of this size."""
        settings = {
            "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1", "INFERENCE_NUM_THREADS": "1",
            "ENABLE_CPU_PINNING": False,
            "INFERENCE_PRECISION_HINT": "f32",  # what is float32 in the model stays so: no bfloat16 behind its back
        }  # fmt: skip
        model = self.model.clone()
        model.reshape([batch, model.input(0).partial_shape[1]])
        request = self.core.compile_model(model, "CPU", settings).create_infer_request()
        # Copying into its own, aligned input is faster than handing rows over, at every batch size.
        rows, out, run = request.get_input_tensor(0).data, request.get_output_tensor(0).data, request.infer

        def score(X: NDArray[np.float32]) -> NDArray[np.float32]:
            rows[:] = X
            run()
            return out  # type: ignore[no-any-return]

        return score


class OpenVINOInt8(OpenVINO):
    """The same, quantised by NNCF: int8 weights by output, activations calibrated on rows."""

    packages = ("openvino", "nncf", "numpy")

    @staticmethod
    def prepare(model: str, folder: Path) -> None:
        """Convert the network and quantise it."""
        import nncf  # type: ignore[import-not-found]
        import openvino

        from .onnx_net import build

        arrays = _arrays(model)
        batches = _batches(arrays)
        # Raw features and what is computed from them before the clip span orders of magnitude: bytes cannot hold them.
        stage = nncf.IgnoredScope(types=STAGE_OPERATORS, validate=False)
        quantised = nncf.quantize(
            openvino.Core().read_model(build(arrays)),
            nncf.Dataset(batches),
            subset_size=len(batches),
            ignored_scope=stage,
        )
        openvino.save_model(quantised, folder / "model.xml", compress_to_fp16=False)


class LiteRT:
    """LiteRT with its XNNPACK delegate and one thread; ``model`` is what ``prepare`` wrote."""

    packages = ("ai-edge-litert", "numpy")
    needs = ("onnx_net.py", "tflite_net.py")

    @staticmethod
    def prepare(model: str, folder: Path) -> None:
        """Write the network as a LiteRT model."""
        from .tflite_net import build

        (folder / "model.tflite").write_bytes(build(_arrays(model)))

    def __init__(self, model: str) -> None:
        self.path = str(Path(model) / "model.tflite")

    def call(self, batch: int) -> Call:
        """Give the function to time for batches of this size."""
        from ai_edge_litert.interpreter import Interpreter  # type: ignore[import-not-found]

        net = Interpreter(self.path, num_threads=1)
        first, last = net.get_input_details()[0], net.get_output_details()[0]["index"]
        net.resize_tensor_input(first["index"], [batch, int(first["shape"][1])])
        net.allocate_tensors()
        index, put, run, get = first["index"], net.set_tensor, net.invoke, net.get_tensor

        def score(X: NDArray[np.float32]) -> NDArray[np.float32]:
            put(index, X)
            run()
            return get(last)  # type: ignore[no-any-return]

        return score


class Torch:
    """An eager PyTorch module with one thread; ``model`` is a network's arrays (.npz)."""

    packages = ("torch", "numpy")

    def __init__(self, model: str) -> None:
        import torch

        from .torch_net import build

        torch.set_num_threads(1)
        self.module = build(_arrays(model))
        self.torch = torch

    def call(self, batch: int) -> Call:
        """Give the function to time for batches of this size."""
        del batch
        module, wrap, guard = self.module, self.torch.from_numpy, self.torch.inference_mode

        def score(X: NDArray[np.float32]) -> NDArray[np.float32]:
            with guard():
                return module(wrap(X)).numpy()

        return score
