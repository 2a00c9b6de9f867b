"""What the container of a model file asks of each kind of model: one codec a kind.

A codec says what stands in the header and in the arrays for a model, which arrays of which types a header calls for
(before any of them is read), and how a model is checked where it is loaded. ``engine/file.py`` does the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from prunus.engine.ensemble import Ensemble
from prunus.engine.network import Network

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from prunus.data.ranking import Schema

Model = Network | Ensemble
"""Whatever the engine runs."""

CHECK_ROWS = 8
"""Rows of generated features that a file carries with their scores."""

M = TypeVar("M", Network, Ensemble)


class Codec(Protocol[M]):
    """How models of one kind stand in a file.

    You need not subclass this.

    Attributes:
        key: the header's key for what :meth:`describe` returns; which of these keys is there tells the kind of model.
        model: the class of its models.
        since: first format version that has it.
        tolerance: a loaded model's check scores agree within this times max(1, abs(score)).
    """

    key: str
    model: type[M]
    since: int
    tolerance: float

    def describe(self, model: M, /) -> object:
        """Return the header's description, in plain JSON values."""

    def tensors(self, model: M, /) -> dict[str, NDArray[Any]]:
        """Return the arrays to be written, in the types that :meth:`types` states for the newest format version."""

    def types(self, entry: object, version: int, name: str, /) -> dict[str, str]:
        """Check a description as far as it goes without the arrays, and return what it calls for.

        Args:
            entry: what stands in the header under ``key``.
            version: the file's format version.
            name: what to call the file in messages.

        Returns:
            safetensors' name of the type ("F32", "I32" ...) of each array.

        Raises:
            ModelFileError: the description is not one that :meth:`describe` could have written.
        """

    def build(self, entry: Any, tensors: Mapping[str, NDArray[Any]], n_features: int, /) -> M:  # noqa: ANN401 - JSON
        """Build the model; ``entry`` has passed :meth:`types`, ``tensors`` have the types it states.

        Raises:
            NetworkError: the arrays do not describe a model that the engine can run.
        """

    def check_rows(self, model: M, schema: Schema, /) -> NDArray[np.float32]:
        """Generate rows to check a model with, always the same; no row of any user is in them.

        Returns:
            float32 [CHECK_ROWS, number of features that the model reads], in the order of ``model.features_read``.
        """

    def score(self, model: M, X: NDArray[np.float32], /) -> NDArray[np.float32]:
        """Return the scores, float32 [n_docs], by the slow twin."""


def widen(rows: NDArray[np.float32], model: Model) -> NDArray[np.float32]:
    """Put the columns of the features that a model reads into rows of all features; 0 elsewhere."""
    wide = np.zeros((len(rows), model.n_features), np.float32)
    wide[:, model.features_read] = rows
    return wide
