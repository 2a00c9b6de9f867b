"""What the scorers of every kind share: one whole model at a time, which another may replace while it scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar

from prunus.errors import NetworkError

if TYPE_CHECKING:
    import os


class Live(Protocol):
    """One whole model, packed for an instruction set, with all that belongs to it; nothing in it ever changes."""

    @property
    def isa(self) -> str:
        """Instruction set that it runs on."""

    @property
    def metadata(self) -> dict[str, Any]:
        """What stood beside it in its file."""


L = TypeVar("L", bound=Live)


class Scorer(ABC, Generic[L]):
    """What :func:`prunus.load` gives: thread-safe, picklable, usable after a fork, replaceable while it scores."""

    # The one mutable attribute. Each method reads it once, so that a swap cannot come in between two halves of it.
    _live: L

    @property
    def metadata(self) -> dict[str, Any]:
        """What stood beside the model in its file."""
        return self._live.metadata

    @property
    def isa(self) -> str:
        """Instruction set that this scorer runs on."""
        return self._live.isa

    def swap(self, other: Self) -> None:
        """Replace the model by that of another scorer, at once and whole, while other threads score.

        A call that runs already ends with the model it began with, each later one has the new one; no call waits and
        none sees a mixture. The two scorers share the new model from then on, as it never changes; the old one's memory
        goes when the last call that uses it ends. Whatever belongs to the model comes with it: its columns' rules,
        pattern, id tables, names, metadata and instruction set.

        Args:
            other: what to score with from now on, such as ``prunus.load(path)`` of a model that was trained anew.

        Raises:
            SchemaError: its columns differ from this scorer's in name, number or order; nothing was replaced.
            NetworkError: ``other`` is no scorer of this kind.
        """
        if not isinstance(other, type(self)):
            msg = (
                f"got a {type(other).__name__}; expected another {type(self).__name__}, such as prunus.load(path) gives"
            )
            raise NetworkError(msg)
        new = other._live  # read once: the other scorer may be swapped too
        self._check_new(new)
        self._live = new

    def _check_new(self, new: L) -> None:
        """Check that a model may take the place of the one that scores now; the base takes any of its kind."""

    @abstractmethod
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model file, with all that belongs to the model; what was written would load here.

        Args:
            path: where to; an existing file is replaced.

        Raises:
            NetworkError: the model's scores are not finite or cannot be repeated.
            ModelFileError: the metadata cannot be written.
            OutputError: the file cannot be written; one that stood there before is untouched.
        """
