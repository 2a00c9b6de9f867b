"""Fitted teachers in a folder, each under the name of what it was fitted on: one fit for runs with other budgets and kinds."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from prunus.compress.workspace import digest
from prunus.errors import OutputError
from prunus.teacher.linear import EaseSettings, ItemItem, fit_ease

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from prunus.data.interactions import Interactions

FORMAT = 1
"""Of what is kept, part of its name: to be raised where the fit itself changes."""


def fingerprint(data: Interactions) -> str:
    """Hash of users, items and their names."""
    return digest(data.indptr, data.items, data.n_items, list(data.item_ids or ()))


def kept_ease(folder: Path | None, train: Interactions, settings: EaseSettings | None) -> ItemItem:
    """Fit EASE, or take the fit of an earlier run.

    The weights of an earlier run are mapped, not read: what is not looked at takes no memory.

    Args:
        folder: where fits are kept, 4 n_items^2 bytes each; made if it is not there. None keeps nothing.
        train: the interactions.
        settings: of EASE.

    Raises:
        OutputError: the folder cannot be written.
        NotEnoughMemoryError: see :func:`~prunus.teacher.linear.fit_ease`.
    """
    if folder is None:
        return fit_ease(train, settings)
    settings = settings or EaseSettings()
    numbers = {name: float(value) for name, value in asdict(settings).items()}
    path = folder / f"ease-{digest(FORMAT, fingerprint(train), numbers)}.npy"
    weights = _read(path, train.n_items)
    if weights is not None:
        return ItemItem(weights, str(settings))
    n_bytes = 4 * train.n_items**2
    refusal = f"cannot keep the teacher in {folder}: {{}}; expected a folder with {n_bytes:,} bytes free"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(refusal.format(error.strerror or error)) from error
    fitted = fit_ease(train, settings)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            np.save(file, fitted.weights)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise OutputError(refusal.format(error.strerror or error)) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return fitted


def _read(path: Path, n_items: int) -> NDArray[np.float32] | None:
    """Map the weights of an earlier run; None where there are none, or no whole ones."""
    try:
        # Copied where it is written to, which is nowhere: torch warns of what is read-only.
        weights: NDArray[np.float32] = np.load(path, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return weights if weights.shape == (n_items, n_items) and weights.dtype == np.float32 else None
