"""Models that come off a stream: each a file of its own, one of them current; published, rolled back, followed.

::

    DIR/models/000001.prunus 000002.prunus ...     models that have served, the newest few
    DIR/models/current -> 000002.prunus            the one that serves, a link that is replaced whole
    DIR/models/rollbacks.jsonl                     one line a rollback

Only the loop publishes and only :func:`rollback` goes back; both hold a lock of the system meanwhile, which a killed
process does not keep. A model that was rolled back is withdrawn: it never serves again.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import json
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from prunus.engine.disk import write_atomically
from prunus.engine.loading import load
from prunus.errors import OutputError, PrunusError, ServingError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

SUFFIX = ".prunus"
CURRENT = "current"
ROLLBACKS = "rollbacks.jsonl"


class Models:
    """The models of one run.

    Args:
        folder: where they are; made when the first is published.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, number: int) -> Path:
        """Say where a model is or would be."""
        return self.folder / f"{number:06d}{SUFFIX}"

    @property
    def current(self) -> int | None:
        """Number of the model that serves; None before the first."""
        try:
            return _number((self.folder / CURRENT).readlink().name)
        except FileNotFoundError:
            return None

    def numbers(self) -> list[int]:
        """Numbers of the models that are there, rising."""
        return sorted(n for file in self.folder.glob(f"*{SUFFIX}") if (n := _number(file.name)) is not None)

    def withdrawn(self) -> frozenset[int]:
        """Numbers of the models that were rolled back."""
        try:
            lines = (self.folder / ROLLBACKS).read_text().splitlines()
        except FileNotFoundError:
            return frozenset()
        return frozenset(int(json.loads(line)["from"]) for line in lines)

    def standing_in(self, number: int | None) -> int | None:
        """Say which model serves in a model's place: itself, or, once it was rolled back, the one before it."""
        gone = self.withdrawn()
        if number is None or number not in gone:
            return number
        return max((n for n in self.numbers() if n < number and n not in gone), default=None)

    def publish(self, number: int, write: Callable[[Path], None]) -> None:
        """Write a model, and let it serve unless it was rolled back, or a later one serves already.

        A loop that goes on from a checkpoint publishes once more what it had published after it; whoever scores keeps
        the later model meanwhile.

        Args:
            number: of the model.
            write: writes it to a path, whole or not at all.

        Raises:
            OutputError: it cannot be written; what served before serves still.
        """
        with _naming(self.folder), contextlib.suppress(FileExistsError):
            self.folder.mkdir(parents=True)
        write(self.path(number))
        with self._alone():
            current = self.current
            if number not in self.withdrawn() and (current is None or number > current):
                self._point_at(number)

    def retract(self, number: int, serving: int | None) -> None:
        """Take back a model that is not to serve, where an earlier life of the run had published one of its number.

        Such a life came to other events: its source has grown since it ended, or does not repeat itself.

        Args:
            number: of the model.
            serving: number of the model that serves in the loop; None for none, then nothing is done.
        """
        if serving is None or not self.path(number).exists():
            return
        with self._alone():
            if self.current == number:
                self._point_at(serving)
            self.path(number).unlink(missing_ok=True)

    def rollback(self) -> tuple[int, int]:
        """Let the model serve that served before the current one, and withdraw the current one.

        Returns:
            Number of the model that served, and of the one that serves now.

        Raises:
            ServingError: there is no model, or none before it.
            OutputError: the folder cannot be written to.
        """
        if not self.folder.is_dir():
            msg = f"got {self.folder.parent}, which has no models; expected the directory of a run, as given to its -o"
            raise ServingError(msg)
        with self._alone():
            current, gone = self.current, self.withdrawn()
            if current is None:
                msg = f"no model of {self.folder} serves yet; expected one: wait for the first"
                raise ServingError(msg)
            before = [number for number in self.numbers() if number < current and number not in gone]
            if not before:
                msg = (
                    f"model {current} is the first that is left in {self.folder}; expected one before it to go back to"
                )
                raise ServingError(msg)
            if current not in gone:  # else a rollback was killed before it moved the link
                file = self.folder / ROLLBACKS
                lines = file.read_bytes() if file.exists() else b""
                line = {"from": current, "to": before[-1], "at": _now()}
                write_atomically(file, lines + json.dumps(line).encode() + b"\n")
            self._point_at(before[-1])
        return current, before[-1]

    def forget(self, before: int, spared: Collection[int | None] = ()) -> None:
        """Delete the models below a number, but those that are spared; never the one that serves."""
        with self._alone():
            for number in self.numbers():
                if number < before and number not in {self.current, *spared}:
                    self.path(number).unlink(missing_ok=True)

    def _point_at(self, number: int) -> None:
        """Replace the link whole; who reads it finds the old model or the new one."""
        temporary = self.folder / f".{CURRENT}.{os.urandom(8).hex()}.tmp"
        with _naming(self.folder):
            temporary.symlink_to(self.path(number).name)
            temporary.replace(self.folder / CURRENT)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        with _naming(self.folder):
            descriptor = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def rollback(directory: Path) -> tuple[int, int]:
    """Go back to the model that served before; see :meth:`Models.rollback`.

    Args:
        directory: of the run.
    """
    return Models(directory / "models").rollback()


class Swappable(Protocol):
    """A scorer whose model can be replaced while it scores."""

    def swap(self, other: Any) -> None:  # noqa: ANN401 - a scorer of its own kind
        """Score with the other's model from now on."""


class Follower:
    """A scorer that has the model that serves, from one swap or rollback to the next.

    A thread looks at the link, loads what it names when that has changed, and swaps it in; scoring threads never wait.
    What cannot be loaded is not swapped in, and tried again at the next look.

    Args:
        directory: of the run; it has a model that serves.
        every_s: seconds between two looks; None for no thread, then :meth:`poll` looks.

    Attributes:
        scorer: as :func:`prunus.load` gives it: hand it to whoever scores.
        error: why the model that serves could not be loaded; None where it was.

    Raises:
        ServingError: there is no model yet.
        ModelFileError: it cannot be loaded.

    Example:
        >>> with follow("out") as follower:  # doctest: +SKIP
        ...     follower.scorer.score(ids, dense)
    """

    def __init__(self, directory: str | os.PathLike[str], every_s: float | None = 0.5) -> None:
        self._link = Path(directory) / "models" / CURRENT
        if not self._link.exists():
            msg = (
                f"no model of {directory} serves yet; expected {self._link}: wait for the first, or check the directory"
            )
            raise ServingError(msg)
        self._mark = self._look()
        self.error: PrunusError | None = None
        self.scorer: Swappable = load(self._link)
        self._end = threading.Event()
        self._thread: threading.Thread | None = None
        if every_s is not None:
            self._thread = threading.Thread(target=self._run, args=(every_s,), name="prunus-follow", daemon=True)
            self._thread.start()

    def poll(self) -> bool:
        """Look once, and say whether another model was swapped in."""
        try:
            mark = self._look()
            if mark == self._mark:
                self.error = None  # what could not be loaded no longer serves
                return False
            self.scorer.swap(load(self._link))
        except FileNotFoundError:  # the link moved on and the file behind it went, between two calls
            return False
        except PrunusError as error:
            self.error = error
            return False
        except OSError as error:  # a file system that is away for a while; the thread must outlive it
            msg = f"cannot look at {self._link}: {error.strerror or error}; expected a folder that can be read"
            self.error = ServingError(msg)
            return False
        self._mark, self.error = mark, None
        return True

    def close(self) -> None:
        """Look no more; the scorer keeps its model."""
        self._end.set()
        if self._thread is not None:
            self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _look(self) -> tuple[int, ...]:
        """Tell one file from another, and from one that was written anew in its place."""
        found = self._link.stat()
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _run(self, every_s: float) -> None:
        while not self._end.wait(every_s):
            self.poll()


follow = Follower
"""Read a run's directory as a service does: ``follow("out").scorer``."""


def _number(name: str) -> int | None:
    stem, dot, suffix = name.partition(".")
    return int(stem) if stem.isdigit() and dot + suffix == SUFFIX else None


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")


@contextlib.contextmanager
def _naming(folder: Path) -> Iterator[None]:
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        msg = f"cannot write to {folder}: {error.strerror or error}; expected a folder that can be written to"
        raise OutputError(msg) from error
