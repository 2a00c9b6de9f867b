"""Tree ensembles as teachers: LightGBM, XGBoost and CatBoost models, scored by their own libraries."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from prunus.data.ranking import Schema
from prunus.engine.disk import write_atomically
from prunus.errors import SchemaError, TeacherError
from prunus.teacher.catboost_model import MAGIC, CatBoostForest
from prunus.teacher.forest import Forest, midpoints_of
from prunus.teacher.lightgbm_model import LightGBMForest
from prunus.teacher.xgboost_model import XGBoostForest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from prunus.data.ranking import RankingData
    from prunus.engine.ensemble import Ensemble

CHUNK = 65_536
"""Rows scored at a time: the libraries make copies of their input, so this bounds the memory."""

EXPECTED = "a LightGBM .txt, an XGBoost .json or .ubj, or a CatBoost .cbm or .json model"


class TreeTeacher:
    """A tree ensemble whose scores are to be learned.

    A threshold t of a feature puts ``x <= t`` below and ``x > t`` above, whatever the library: the cell of a value is
    ``np.searchsorted(thresholds[f], x, side="left")``, and moving a finite value inside its cell never changes the
    score (except where LightGBM's leaves hold linear models; see ``piecewise_constant``).

    Args:
        forest: the ensemble.
        path: its file; None for a model that is in memory only.
        nbytes: bytes of its model file.

    Attributes:
        path: as given.
        nbytes: bytes of its model file.
    """

    def __init__(self, forest: Forest, path: Path | None, nbytes: int) -> None:
        self._forest = forest
        self.path = path
        self.nbytes = nbytes

    def __repr__(self) -> str:
        return f"TreeTeacher({self.name})"

    @property
    def library(self) -> str:
        """``"LightGBM"``, ``"XGBoost"`` or ``"CatBoost"``."""
        return self._forest.library

    @property
    def name(self) -> str:
        """What to call the teacher in a table, such as ``"LightGBM, 161 trees of up to 64 leaves"``."""
        return f"{self.library}, {self.n_trees} trees of up to {self.n_leaves} leaves"

    @property
    def n_trees(self) -> int:
        """Number of trees that score."""
        return len(self._forest.splits.leaves)

    @property
    def n_leaves(self) -> int:
        """Leaves of the largest tree."""
        return int(self._forest.splits.leaves.max())

    @property
    def n_features(self) -> int:
        """Number of features."""
        return len(self._forest.splits.thresholds)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names as in the model, in the order of its columns."""
        return self._forest.feature_names

    @property
    def names_are_default(self) -> bool:
        """Whether the library made the names up (``Column_0``, ``f0``, ``0``), so that columns go by position."""
        return self._forest.names_are_default

    def columns(self, names: Sequence[str]) -> list[int]:
        """Find, for each feature of the teacher, its column among ``names``.

        By name; by position where the library made the teacher's names up, they are not among ``names``, and the counts
        agree. (XGBoost counts from ``f0`` and LETOR data from ``f1``: those go by position, not shifted by one.)

        Args:
            names: column names of the data.

        Returns:
            n_features column indices.

        Raises:
            SchemaError: a feature of the teacher is absent.
        """
        known = set(names)
        if self.names_are_default and len(names) == self.n_features and not known.issuperset(self.feature_names):
            return list(range(self.n_features))
        return Schema(self.feature_names).columns(names)

    def score_data(self, data: RankingData) -> NDArray[np.float64]:
        """Return the raw scores of the documents of ``data``, float64 [n_docs]; see :meth:`columns`."""
        columns = self.columns(data.feature_names)
        in_order = columns == list(range(data.n_features))
        return self.score(data.X if in_order else data.X[:, columns])

    @property
    def thresholds(self) -> tuple[NDArray[np.float32], ...]:
        """For each feature, float32 [n_thresholds], finite, sorted, unique; empty where no tree compares the feature.

        Some may lie outside the data (CatBoost marks missing values by the smallest float32).
        """
        return self._forest.splits.thresholds

    @property
    def categories(self) -> dict[int, NDArray[np.float32]]:
        """Feature -> float32 [n_categories], the codes that any split names; features with categorical splits only."""
        return self._forest.splits.categories

    @property
    def features_used(self) -> tuple[int, ...]:
        """The features that some tree reads, rising."""
        return tuple(f for f in range(self.n_features) if len(self.thresholds[f]) or f in self.categories)

    @property
    def piecewise_constant(self) -> bool:
        """Whether scores are constant inside a cell; False for LightGBM's linear_tree."""
        return not getattr(self._forest, "linear", False)

    def score(self, X: ArrayLike, *, n_threads: int | None = None) -> NDArray[np.float64]:
        """Return the raw scores of documents, as the library itself gives them.

        Args:
            X: [n, n_features], any real dtype (read as float32), columns in the teacher's order; NaN means missing and
                is treated as the library does.
            n_threads: threads to use; None for one a core.

        Returns:
            float64 [n], raw (before any sigmoid).

        Raises:
            SchemaError: X has not n_features columns.
            InfiniteValueError: an infinity, which XGBoost refuses.
        """
        rows = self._rows(X)
        scores = np.empty(len(rows), dtype=np.float64)
        threads = n_threads or os.cpu_count() or 1
        for start in range(0, len(rows), CHUNK):
            scores[start : start + CHUNK] = self._forest.score(rows[start : start + CHUNK], threads)
        return scores

    def _rows(self, X: ArrayLike) -> NDArray[np.float32]:
        rows = np.ascontiguousarray(X, dtype=np.float32)
        if rows.ndim != 2 or rows.shape[1] != self.n_features:
            msg = (
                f"got rows of shape {rows.shape}; expected [n, {self.n_features}], the features of the teacher"
                f" ({self.name}) in its order: take the columns named in feature_names"
            )
            raise SchemaError(msg)
        return rows

    def leaves(self, X: ArrayLike, *, n_threads: int | None = None) -> NDArray[np.int32]:
        """Return the leaf that each document reaches in each tree, by the library's own leaf index.

        Leaves are numbered from 0 inside each tree, in the library's order (XGBoost numbers nodes: its leaves are
        counted in the order of those).

        Args:
            X: as in :meth:`score`.
            n_threads: threads to use; None for one a core.

        Returns:
            int32 [n, n_trees].

        Raises:
            SchemaError: X has not n_features columns.
            InfiniteValueError: an infinity, which XGBoost refuses.
        """
        rows = self._rows(X)
        threads = n_threads or os.cpu_count() or 1
        found = np.empty((len(rows), self.n_trees), np.int32)
        for start in range(0, len(rows), CHUNK):
            found[start : start + CHUNK] = self._forest.leaves(rows[start : start + CHUNK], threads)
        return found

    def ensemble(self) -> Ensemble:
        """Return the same trees as arrays that the engine runs, leaf for leaf; see ``docs/trees.md``.

        Raises:
            TeacherError: leaves hold linear models, or the objective is one whose base score cannot be placed.
            EnsembleError: the model is beyond what the engine runs.
        """
        return self._forest.ensemble()

    def midpoints(self, minimum: ArrayLike, maximum: ArrayLike) -> tuple[NDArray[np.float32], ...]:
        """Return one value inside each cell of each feature, for drawing synthetic documents.

        With v_1 < ... < v_k the unique values of {minimum, thresholds between, maximum}, these are the
        (v_i + v_{i+1}) / 2; so a feature that no tree reads has (minimum + maximum) / 2 alone. A categorical feature has
        its categories and, last, a code that no split names. (Cohen et al., SIGIR 2018; arXiv 2202.10728.)

        Args:
            minimum: float32 [n_features], smallest value of each feature in the data; NaN where there is none.
            maximum: float32 [n_features], largest value.

        Returns:
            For each feature, float32 [at least one], rising; NaN alone where nothing finite is known of the feature.

        Raises:
            SchemaError: the bounds are not n_features long.
        """
        low, high = (np.asarray(bound, dtype=np.float32) for bound in (minimum, maximum))
        if low.shape != (self.n_features,) or high.shape != (self.n_features,):
            msg = f"got bounds of shape {low.shape} and {high.shape}; expected ({self.n_features},), one a feature"
            raise SchemaError(msg)
        found = []
        for f in range(self.n_features):
            if f in self.categories:
                codes = self.categories[f]
                unseen = codes[-1] + np.float32(1) if len(codes) else np.float32(0)
                found.append(np.append(codes, unseen).astype(np.float32))
            else:
                found.append(midpoints_of(self.thresholds[f], low[f], high[f]))
        return tuple(found)

    def smaller(self, n_trees: int) -> TreeTeacher:
        """Return the ensemble of the first trees, in memory.

        Args:
            n_trees: 1 to n_trees; XGBoost rounds it down to the end of a boosting round.

        Raises:
            TeacherError: fewer than one tree, or more than there are.
        """
        if not 1 <= n_trees <= self.n_trees:
            msg = f"got {n_trees} trees; expected 1 to {self.n_trees}, the trees of the teacher"
            raise TeacherError(msg)
        return teacher_in_memory(self._forest.first(n_trees))

    def save(self, path: str | Path) -> None:
        """Write the model in its library's own format, whole or not at all.

        Args:
            path: .txt for LightGBM, .json or .ubj for XGBoost, .cbm or .json for CatBoost.

        Raises:
            TeacherError: the library has no such format.
            OutputError: the file cannot be written.
        """
        path = Path(path)
        data = self._forest.to_bytes(path.suffix.lower())
        write_atomically(path, data)
        if self.path is None:
            self.path, self.nbytes = path, len(data)


def teacher_in_memory(forest: Forest) -> TreeTeacher:
    """Wrap a forest that has no file; its bytes are those of the library's usual format."""
    suffix = {"LightGBM": ".txt", "XGBoost": ".ubj", "CatBoost": ".cbm"}[forest.library]
    return TreeTeacher(forest, None, len(forest.to_bytes(suffix)))


def load_trees(path: str | Path) -> TreeTeacher:
    """Read a tree ensemble; its kind is told by its content.

    Args:
        path: a LightGBM text model, an XGBoost JSON or UBJSON model, or a CatBoost CBM or JSON model.

    Returns:
        The teacher, scored by the library that made it.

    Raises:
        TeacherError: the file is absent, truncated, damaged or foreign, or the model has several outputs, or features
            that are not numbers.
        MissingExtraError: the library is not installed.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror}); expected {EXPECTED}: check the path"
        raise TeacherError(msg) from error
    return TreeTeacher(_open(data, path), path, len(data))


FOREIGN = {
    b"\x80": "a pickle: save the model itself with booster.save_model(path)",
    b"binf": "XGBoost's old binary format: load it with XGBoost before 3.1 and save it as .json or .ubj",
    b"PAR1": "Parquet data",
    b"PK\x03\x04": "a zip archive: unpack it first",
    b"\x1f\x8b": "gzip: unpack it first",
}
"""First bytes of files that are often given by mistake."""


def _open(data: bytes, path: Path) -> Forest:
    source = str(path)
    if data.startswith(MAGIC) or (path.suffix.lower() == ".cbm" and MAGIC.startswith(data[:4])):
        return CatBoostForest(data, source)
    if data.startswith(b"tree\n"):
        return LightGBMForest(data, source)
    if data.startswith(b"{L"):
        return XGBoostForest(data, source)
    if data.lstrip()[:1] == b"{":
        return _open_json(data, source)
    found = next((what for head, what in FOREIGN.items() if data.startswith(head)), None)
    if data[8:].startswith(b'{"__metadata__":{"prunus"'):
        found = "a model that prunus wrote: name the one that it was made from"
    got = found or ("an empty file" if not data else f"a file that begins with {data[:12]!r}")
    msg = f"{source}: got {got}; expected {EXPECTED}"
    raise TeacherError(msg)


def _open_json(data: bytes, source: str) -> Forest:
    try:
        model = json.loads(data)
    except (ValueError, RecursionError) as error:
        msg = f"{source}: its JSON is truncated or damaged ({error}); expected {EXPECTED}: save the model again"
        raise TeacherError(msg) from None
    if "learner" in model:
        return XGBoostForest(data, source)
    if "features_info" in model:
        return CatBoostForest(data, source)
    what = "LightGBM's JSON dump, which LightGBM cannot read back" if "tree_info" in model else "JSON of another kind"
    msg = f"{source}: got {what}; expected {EXPECTED}: save the model with booster.save_model(path)"
    raise TeacherError(msg)
