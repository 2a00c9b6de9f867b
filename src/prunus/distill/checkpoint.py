"""The state of a training on disk: written whole or not at all, taken up again only by the same training."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import torch

from prunus.engine.disk import write_atomically
from prunus.errors import RecipeChangedError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def keep(path: Path | None, fingerprint: str, state: Mapping[str, Any]) -> None:
    """Write a state.

    Args:
        path: where to; None keeps nothing.
        fingerprint: of the settings and data, by which :func:`kept` knows the same training.
        state: tensors, numbers, strings, and lists and dicts of them.

    Raises:
        OutputError: the file cannot be written; one that stood there before is untouched.
    """
    if path is None:
        return
    content = io.BytesIO()
    torch.save({"fingerprint": fingerprint, **state}, content)
    write_atomically(path, content.getvalue())


def kept(path: Path | None, fingerprint: str) -> dict[str, Any] | None:
    """Read what :func:`keep` wrote; None where nothing was kept.

    Raises:
        RecipeChangedError: it is another training's.
    """
    if path is None or not path.exists():
        return None
    state: dict[str, Any] = torch.load(path, weights_only=True)
    if state["fingerprint"] != fingerprint:
        msg = f"{path} was made with other settings or data; expected the same: use another directory, or delete it"
        raise RecipeChangedError(msg)
    return state
