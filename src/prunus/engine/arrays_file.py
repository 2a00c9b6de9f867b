"""The arrays of a model file, taken out only where they are those that its header calls for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.numpy import load as tensors_from_bytes

from prunus.engine.header import outer_header, refuse, require

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


def take_tensors(content: bytes, wanted: Mapping[str, str], name: str) -> dict[str, NDArray[Any]]:
    """Take the tensors out of a file: exactly those that its header calls for, each of its type.

    Args:
        content: all bytes of the file.
        wanted: safetensors' name of the type of each array.
        name: what to call the file in messages.

    Raises:
        ModelFileError: one is missing, unknown, of another type, or cannot be read.
    """
    entries = outer_header(content, name)
    present = set(entries) - {"__metadata__"}
    missing, extra = sorted(set(wanted) - present), sorted(present - set(wanted))
    require(not missing, name, f"tensors are missing ({', '.join(missing)[:200]})")
    require(not extra, name, f"tensors are unknown ({', '.join(extra)[:200]})")
    for tensor, expected in wanted.items():
        found = entries[tensor].get("dtype")
        require(found == expected, name, f"tensor {tensor} has type {found!r:.50}, not {expected}")
    try:
        return dict(tensors_from_bytes(content))
    except (SafetensorError, ValueError, OverflowError, TypeError) as error:
        refuse(name, error)
