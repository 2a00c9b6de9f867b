"""A log of one JSON object a line that goes on where a checkpoint left it."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from prunus.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


class Lines:
    """A file of JSON lines.

    Lines that a full disk does not take are kept, and written with the next ones.

    Args:
        path: of the file; its folder exists.
        say: is told in a sentence what could not be written.
    """

    def __init__(self, path: Path, say: Callable[[str], None]) -> None:
        self.path = path
        self._say = say
        self._size = 0
        self._waiting = b""
        self._failed = False

    @property
    def size(self) -> int:
        """Bytes of all lines so far, those that wait among them."""
        return self._size + len(self._waiting)

    def begin(self, size: int = 0) -> None:
        """Go on after so many bytes; what stands behind them is cut off.

        Raises:
            CheckpointError: the file is shorter.
        """
        there = self.path.stat().st_size if self.path.exists() else 0
        if there < size:
            msg = (
                f"{self.path} has {there} bytes, and the checkpoint says {size}; expected the log as the run left it:"
                " put it back, or delete the directory to begin anew"
            )
            raise CheckpointError(msg)
        if there > size:
            os.truncate(self.path, size)
        self._size = size

    def append(self, line: Mapping[str, Any]) -> None:
        """Write a line, now or with the next one."""
        self._waiting += json.dumps(line, allow_nan=False).encode() + b"\n"
        self.flush()

    def flush(self, *, to_disk: bool = False) -> None:
        """Write the lines that wait.

        Args:
            to_disk: whether to return only when all lines are on the disk, as a checkpoint that counts on them needs.

        Raises:
            OSError: with ``to_disk``, they cannot be.
        """
        try:
            # A line that was cut off by a full disk is written anew from its beginning.
            with self.path.open("r+b" if self.path.exists() else "wb") as file:
                file.seek(self._size)
                file.truncate()
                file.write(self._waiting)
                if to_disk:
                    file.flush()
                    os.fsync(file.fileno())
        except OSError as error:
            if to_disk:
                raise
            if not self._failed:
                self._say(f"cannot write to {self.path}: {error.strerror or error}; its lines wait for the next try")
            self._failed = True
            return
        self._size += len(self._waiting)
        self._waiting, self._failed = b"", False
