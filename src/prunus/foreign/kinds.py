"""Which reader takes a model: told by a file's content or an object's class, before any library is imported."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prunus.foreign.net import ForeignNet

ONNX_START = 0x08
"""First byte of an ONNX file: the tag of ``ir_version``, field 1 of a ModelProto. No kind of tree file begins with it."""


def net_of(model: Any) -> ForeignNet | None:  # noqa: ANN401 - a path or a model of any of several libraries
    """Read a net, if this is one.

    Args:
        model: a path of an ONNX file, a ``torch.nn.Module``, an ``onnx.ModelProto``, or anything else.

    Returns:
        What was read; None where it is of another kind.

    Raises:
        ForeignModelError: it is a net that cannot be read.
        MissingExtraError: the library that reads it is not installed.
    """
    classes = {f"{cls.__module__}.{cls.__name__}" for cls in type(model).__mro__}
    if "torch.nn.modules.module.Module" in classes:
        from prunus.foreign.torch_module import read_module

        return read_module(model)
    if _is_onnx_file(model) if isinstance(model, str | os.PathLike) else type(model).__name__ == "ModelProto":
        from prunus.foreign.onnx_graph import read_onnx

        return read_onnx(model)
    return None


def _is_onnx_file(path: str | os.PathLike[str]) -> bool:
    where = Path(path)
    if where.suffix.lower() == ".onnx":
        return True
    try:
        with where.open("rb") as file:
            return file.read(1) == bytes([ONNX_START])
    except (OSError, ValueError):  # whoever reads it next says what is wrong
        return False
