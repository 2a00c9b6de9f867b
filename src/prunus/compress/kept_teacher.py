"""Fitted teachers in a folder, each under the name of what it was fitted on: one fit for runs with other budgets and kinds."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from prunus.compress.workspace import digest
from prunus.errors import OutputError
from prunus.teacher.linear import EaseSettings, ItemItem, fit_ease

if TYPE_CHECKING:
    from pathlib import Path

    from prunus.data.interactions import Interactions


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
    path = folder / f"ease-{digest(fingerprint(train), numbers)}.npy"
    if not path.exists():
        fitted = fit_ease(train, settings)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                np.save(file, fitted.weights)
            temporary.replace(path)
        except OSError as error:
            msg = f"cannot keep the teacher in {folder}: {error.strerror or error}; expected a folder with {fitted.weights.nbytes:,} bytes free"
            raise OutputError(msg) from error
        finally:
            temporary.unlink(missing_ok=True)
        return fitted
    return ItemItem(np.load(path, mmap_mode="r", allow_pickle=False), str(settings))
