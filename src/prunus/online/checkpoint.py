"""The state of an endless run on disk: one file written whole or not at all, and the one before it kept.

A file is 32 bytes of SHA-256 over all that follows, then what ``torch.save`` made of plain values, arrays and tensors;
reading it runs no code of the file. Two files take turns: a write that fails, or a kill in it, leaves both as they were.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from prunus.engine.disk import write_atomically
from prunus.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

N_KEPT = 2
_DIGEST = hashlib.sha256().digest_size


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: where they are; it exists.
        say: is told in a sentence what could not be read.
    """

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self._files = [folder / f"checkpoint-{turn}.pt" for turn in range(N_KEPT)]
        self._say = say
        self._number = 0

    @property
    def n_written(self) -> int:
        """Checkpoints written in this run so far, those before a resume among them."""
        return self._number

    def write(self, state: Mapping[str, Any]) -> None:
        """Write a state in the place of the older one.

        Args:
            state: None, booleans, numbers, strings, NumPy arrays, tensors, and lists, tuples and dicts of them.

        Raises:
            OutputError: the file cannot be written; both checkpoints are as they were.
        """
        content = io.BytesIO()
        content.seek(_DIGEST)
        torch.save({"number": self._number + 1, "state": _to_tensors(state)}, content)
        whole = content.getbuffer()
        whole[:_DIGEST] = hashlib.sha256(whole[_DIGEST:]).digest()
        write_atomically(self._files[(self._number + 1) % N_KEPT], whole)
        self._number += 1

    def read(self) -> dict[str, Any] | None:
        """Read the newest sound state; None where the run has not written any.

        A damaged file is named to ``say``, and the one before is taken.

        Raises:
            CheckpointError: there are files, and none of them is sound.
        """
        found = [(file, _read(file)) for file in self._files if file.exists()]
        sound = [one for _, one in found if one is not None]
        damaged = [file for file, one in found if one is None]
        if found and not sound:
            names = " and ".join(map(str, damaged))
            msg = f"{names}: damaged; expected a sound checkpoint to go on from: delete the directory to begin anew"
            raise CheckpointError(msg)
        for file in damaged:
            self._say(f"{file} is damaged; going on from the checkpoint before it")
        if not sound:
            return None
        best = max(sound, key=lambda one: int(one["number"]))
        self._number = int(best["number"])
        state: dict[str, Any] = _to_arrays(best["state"])
        return state


def _read(file: Path) -> dict[str, Any] | None:
    """Read a file; None where it is not what was written."""
    try:
        content = file.read_bytes()
    except OSError:
        return None
    if hashlib.sha256(memoryview(content)[_DIGEST:]).digest() != content[:_DIGEST]:
        return None
    try:
        found: dict[str, Any] = torch.load(io.BytesIO(content[_DIGEST:]), weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, KeyError, EOFError):  # a sound sum over something foreign
        return None
    return found


_ARRAY = "__array__"
"""Key by which an array that became a tensor is told from a tensor: a file of torch's that is safe to read has no arrays."""


def _to_tensors(value: Any) -> Any:  # noqa: ANN401 - any plain value
    if isinstance(value, np.ndarray):
        assert not value.dtype.hasobject, "an array of objects has no bytes of its own"
        raw = torch.from_numpy(np.ascontiguousarray(value).view(np.uint8).reshape(-1).copy())
        return {_ARRAY: raw, "dtype": value.dtype.str, "shape": list(value.shape)}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {key: _to_tensors(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_to_tensors(one) for one in value)
    return value


def _to_arrays(value: Any) -> Any:  # noqa: ANN401 - any plain value
    if isinstance(value, dict):
        if _ARRAY in value:
            return value[_ARRAY].numpy().view(np.dtype(value["dtype"])).reshape(value["shape"])
        return {key: _to_arrays(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_to_arrays(one) for one in value)
    return value
