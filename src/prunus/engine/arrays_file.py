"""What a model file's kinds share: written where it would load, its arrays taken out where its header calls for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.numpy import load as tensors_from_bytes

from prunus.engine.disk import write_atomically
from prunus.engine.header import outer_header, refuse, require
from prunus.errors import ModelFileError, NetworkError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray


def write_loadable(path: str | os.PathLike[str], content: bytes, read: Callable[[bytes, str], object]) -> None:
    """Write a model file, whole or not at all, once it has been read back from memory.

    Args:
        path: where to; an existing file is replaced.
        content: all bytes of the file.
        read: makes a scorer of bytes and a name for messages, as :func:`load` of its kind does.

    Raises:
        NetworkError: it would not load: its scores are not finite or cannot be repeated.
        OutputError: the file cannot be written; one that stood there before is untouched.
    """
    try:
        read(content, "the model to be saved")
    except ModelFileError as error:
        msg = f"{error}; the model cannot be saved: expected one whose scores can be repeated, so check its weights"
        raise NetworkError(msg) from error
    write_atomically(path, content)


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
