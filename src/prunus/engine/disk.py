"""Files on disk: written whole or not at all; and the folder of those that can be made again."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from prunus.errors import OutputError

_ADVICE = {
    errno.ENOSPC: "free some space or choose another disk",
    errno.EDQUOT: "the quota is used up: free some space or choose another disk",
    errno.ENOENT: "make the folder first",
    errno.ENAMETOOLONG: "choose a shorter name",
}


def cache_dir() -> Path:
    """Where prunus keeps what it can make again: ``PRUNUS_CACHE``, else ``prunus`` in ``XDG_CACHE_HOME`` or ~/.cache."""
    named = os.environ.get("PRUNUS_CACHE")
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "prunus"


def write_atomically(path: str | os.PathLike[str], content: bytes | memoryview) -> None:
    """Write a file whole or not at all: temporary file beside it, flushed to disk, then renamed.

    Args:
        path: where to; an existing regular file is replaced, a link to one keeps its place.
        content: all of the file.

    Raises:
        OutputError: it cannot be written (disk full, no permission, no such folder, a folder or device of that name);
            what stood there before is untouched and nothing else is left behind.
    """
    try:
        target = Path(os.path.realpath(path))
        if not target.exists() or target.is_file():
            _write_and_rename(target, content)
            return
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL in it
        number, reason = getattr(error, "errno", None), getattr(error, "strerror", None) or error
        advice = _ADVICE.get(number or 0, "choose a folder that can be written to")
        msg = f"cannot write {path}: {reason}; expected a path that can be written: {advice}. Nothing was written"
        raise OutputError(msg) from error
    msg = f"cannot write {path}: it is a folder or a device; expected a path that is free or a file to replace"
    raise OutputError(msg)


def _write_and_rename(target: Path, content: bytes | memoryview) -> None:
    temporary = target.with_name(f".{target.name[:60]}.{os.urandom(8).hex()}.tmp")
    try:
        with temporary.open("xb", buffering=0) as file:
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(file.fileno(), rest) :]
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:  # after an interrupt too
        temporary.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # a folder that cannot be flushed still holds the file
        descriptor = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
