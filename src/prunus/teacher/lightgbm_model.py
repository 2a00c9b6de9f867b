"""A LightGBM model as a teacher's forest."""

from __future__ import annotations

import contextlib
import io
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from prunus.errors import TeacherError
from prunus.extras import need
from prunus.teacher.lightgbm_text import ModelText, read_model_text
from prunus.teacher.tree import join, splits_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from prunus.engine.ensemble import Ensemble

_DEFAULT_NAME = re.compile(r"Column_\d+")


class LightGBMForest:
    """Trees in LightGBM; see :class:`prunus.teacher.forest.Forest`.

    Args:
        data: the whole text model.
        source: what to call it in messages.

    Raises:
        TeacherError: the text cannot be used; the message says why.
        MissingExtraError: LightGBM is not installed.
    """

    library = "LightGBM"

    def __init__(self, data: bytes, source: str) -> None:
        lightgbm = need("lightgbm", extra="train")
        model: ModelText = read_model_text(data, source)
        self._text = model.text
        self._source = source
        self.linear = model.linear
        self.feature_names = model.feature_names
        self.names_are_default = all(_DEFAULT_NAME.fullmatch(name) for name in model.feature_names)
        self.splits = splits_of(model.trees, len(model.feature_names))
        self._trees = model.trees
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                self._booster: Any = lightgbm.Booster(model_str=_trees_only(model.text))
        except (lightgbm.basic.LightGBMError, ValueError) as error:
            msg = f"{source}: LightGBM cannot read it ({error}); expected a model of booster.save_model: save it again"
            raise TeacherError(msg) from error

    def score(self, X: NDArray[np.float32], n_threads: int) -> NDArray[np.float64]:
        """Return raw scores, float64 [n], of float32 [n, n_features] rows."""
        scores = self._booster.predict(X, raw_score=True, num_iteration=-1, num_threads=n_threads)
        return np.asarray(scores, dtype=np.float64)

    def leaves(self, X: NDArray[np.float32], n_threads: int) -> NDArray[np.int32]:
        """Return the leaf of each row in each tree, int32 [n, n_trees], as LightGBM's ``pred_leaf`` says."""
        found = self._booster.predict(X, pred_leaf=True, num_iteration=-1, num_threads=n_threads)
        return np.asarray(found, dtype=np.int32).reshape(len(X), len(self._trees))

    def ensemble(self) -> Ensemble:
        """Return the same trees as arrays for the engine.

        Raises:
            TeacherError: leaves hold linear models.
        """
        if self.linear:
            msg = (
                f"{self._source}: its leaves hold linear models (linear_tree); expected one value a leaf: train with"
                " linear_tree=false, or distil it with prunus rank compress"
            )
            raise TeacherError(msg)
        # A random forest's raw score is the sum over its trees, as LightGBM gives it: only predictions are averaged.
        return join(self._trees, len(self.feature_names), 0.0, self._source)

    def first(self, n_trees: int) -> LightGBMForest:
        """Return the forest of the first trees."""
        text = self._booster.model_to_string(num_iteration=n_trees)
        return LightGBMForest(text.encode(), f"the first {n_trees} trees of {self._source}")

    def to_bytes(self, suffix: str) -> bytes:
        """Return the text model; any suffix but another library's will do."""
        if suffix in {".json", ".ubj", ".cbm"}:
            msg = f"cannot save a LightGBM model as {suffix}; expected .txt: LightGBM reads its text format only"
            raise TeacherError(msg)
        return self._text.encode()


def _trees_only(text: str) -> str:
    """Leave out importances and parameters: scoring needs neither, and LightGBM crashes on a damaged parameter line."""
    return text[: text.index("\nend of trees")] + "\nend of trees\n\npandas_categorical:null\n"
