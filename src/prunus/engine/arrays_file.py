"""What a model file's kinds share: how it is put together and written, read apart, and held to the scores in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as tensors_from_bytes
from safetensors.numpy import save as tensors_to_bytes

from prunus.engine.disk import write_atomically
from prunus.engine.header import FORMAT_VERSION, KEYS, header_text, outer_header, refuse, require, sign
from prunus.errors import ModelFileError, NetworkError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray


def file_bytes(
    fields: Mapping[str, object], arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, object]
) -> bytes:
    """Put a model file together; equal input gives equal bytes.

    Args:
        fields: the header's own entries, but for format version and checksum.
        arrays: by name; they are made C-contiguous.
        metadata: provenance in plain JSON values, under any keys but the file's own.

    Raises:
        ModelFileError: the metadata cannot be written, or use a key that belongs to the file.
    """
    taken = (KEYS | set(fields)) & set(metadata)
    if taken:
        msg = f"metadata may not use the keys {sorted(taken)}: they belong to the file; expected other names"
        raise ModelFileError(msg)
    text = header_text({**metadata, **fields, "format_version": FORMAT_VERSION})
    plain = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    return sign(tensors_to_bytes(plain, {"prunus": text}))


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


def hold_scores(
    found: NDArray[np.float32], expected: NDArray[np.float32], tolerance: float, name: str, isa: str
) -> None:
    """Hold scores made here against those that a file carries.

    Args:
        found: float32, any shape, made here.
        expected: float32 of that shape, from the file; finite.
        tolerance: they agree within this times max(1, abs(expected)).
        name: what to call the file in messages.
        isa: the instruction set that made ``found``.

    Raises:
        ModelFileError: a score differs.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # NaN found compares as different
        same = np.abs(found - expected) <= tolerance * np.maximum(1, np.abs(expected))
    if not same.all():
        place = tuple(int(index[0]) for index in np.nonzero(~same))
        msg = (
            f"{name} does not score here as where it was written (check row {place[0]}: {found[place]}, expected"
            f" {expected[place]}, instruction set {isa}): make the model again, or report this as a bug"
        )
        raise ModelFileError(msg)
