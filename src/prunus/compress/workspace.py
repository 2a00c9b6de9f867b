"""A run's directory: artefacts written whole or not at all, kept from run to run, and refused when inputs changed."""

from __future__ import annotations

import hashlib
import io
import json
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from prunus.engine.disk import write_atomically
from prunus.errors import OutputError, RecipeChangedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from prunus.data.ranking import RankingData


def digest(*parts: object) -> str:
    """Hash of arrays and plain values, each told apart from the next."""
    h = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            h.update(str((part.dtype.str, part.shape)).encode())
            h.update(
                np.ascontiguousarray(part).view(np.uint8).data if part.dtype != object else str(part.tolist()).encode()
            )
        else:
            h.update(json.dumps(part, sort_keys=True, default=str).encode() + b"\0")
    return h.hexdigest()[:16]


def fingerprint(data: RankingData) -> str:
    """Hash of documents, labels, queries, feature names, users and scores that came with them."""
    absent = np.empty(0)
    return digest(
        data.X,
        data.y,
        data.offsets,
        list(data.feature_names),
        absent if data.teacher_scores is None else data.teacher_scores,
        absent if data.users is None else np.asarray(data.users).astype(str),
    )


class Workspace:
    """The directory of one run.

    Attributes:
        path: the directory.
    """

    def __init__(self, path: Path) -> None:
        """Open a directory, or make it when the first artefact is written."""
        self.path = path

    def claim(self, recipe: dict[str, Any]) -> None:
        """Write the recipe, or check that it is the one that the directory was started with.

        Args:
            recipe: plain values: settings, hashes of inputs, versions.

        Raises:
            RecipeChangedError: something differs; the message names it.
        """
        try:
            (self.path / "work").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            msg = f"cannot make the directory {self.path}: {error.strerror or error}; choose another -o"
            raise OutputError(msg) from error
        file = self.path / "recipe.json"
        recipe = json.loads(json.dumps(recipe))
        if file.exists():
            try:
                before = json.loads(file.read_text())
            except ValueError as error:
                msg = f"{file} is no JSON ({error}); expected this run's recipe: choose another directory, or delete this one"
                raise RecipeChangedError(msg) from error
            changed = sorted(
                f"{part}.{key}: {before.get(part, {}).get(key)!r} then, {recipe.get(part, {}).get(key)!r} now"
                for part in set(before) | set(recipe)
                for key in set(before.get(part, {})) | set(recipe.get(part, {}))
                if before.get(part, {}).get(key) != recipe.get(part, {}).get(key)
            )
            if changed:
                msg = (
                    f"{self.path} holds a run that was started differently ({'; '.join(changed[:4])}); expected the same"
                    " inputs and settings to go on: choose another -o, or delete the directory"
                )
                raise RecipeChangedError(msg)
            return
        write_atomically(file, (json.dumps(recipe, indent=1, sort_keys=True) + "\n").encode())

    def array(self, name: str, make: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """Return an array made earlier, or make it and keep it."""
        file = self.path / "work" / f"{name}.npy"
        if file.exists():
            return np.asarray(np.load(file, allow_pickle=False))
        value = np.asarray(make())
        buffer = io.BytesIO()
        np.save(buffer, value, allow_pickle=False)
        write_atomically(file, buffer.getvalue())
        return value

    def json(self, name: str, make: Callable[[], Any]) -> Any:  # noqa: ANN401 - any JSON value
        """Return a JSON value made earlier, or make it and keep it."""
        file = self.path / "work" / f"{name}.json"
        if file.exists():
            return json.loads(file.read_text())
        value = json.loads(json.dumps(make()))
        write_atomically(file, json.dumps(value).encode())
        return value

    def file(self, name: str) -> Path:
        """Return the path of a file inside the work folder."""
        return self.path / "work" / name

    def part(self, name: str) -> Workspace:
        """Open, or make, a directory inside the work folder for artefacts that go by names of their own."""
        inner = Workspace(self.file(name))
        (inner.path / "work").mkdir(parents=True, exist_ok=True)
        return inner

    @contextmanager
    def seconds(self, name: str) -> Iterator[None]:
        """Add the wall time of a block to the run's record, over resumes."""
        file = self.path / "work" / "seconds.json"
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = json.loads(file.read_text()) if file.exists() else {}
            spent[name] = round(spent.get(name, 0.0) + time.perf_counter() - start, 2)
            write_atomically(file, json.dumps(spent).encode())

    def spent(self) -> dict[str, float]:
        """Seconds by stage so far."""
        file = self.path / "work" / "seconds.json"
        return json.loads(file.read_text()) if file.exists() else {}
