"""Models that are in memory already, as their libraries hand them out, as teachers."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunus.errors import TeacherError
from prunus.teacher.catboost_model import CatBoostForest
from prunus.teacher.lightgbm_model import LightGBMForest
from prunus.teacher.trees import TreeTeacher
from prunus.teacher.xgboost_model import XGBoostForest

if TYPE_CHECKING:
    from prunus.teacher.forest import Forest

LIBRARIES = ("lightgbm", "xgboost", "catboost")


def library_of(model: object) -> str | None:
    """Return which of the three libraries an object's class, or one it derives from, comes from; None for none.

    No library is imported for it.
    """
    packages = [cls.__module__.partition(".")[0] for cls in type(model).__mro__]
    return next((package for package in packages if package in LIBRARIES), None)


def trees_of(model: Any) -> TreeTeacher:  # noqa: ANN401 - a class of any of three libraries without annotations
    """Wrap a trained model.

    Args:
        model: a ``lightgbm.Booster``, ``xgboost.Booster`` or ``catboost.CatBoost``, or what their scikit-learn classes
            (``LGBMRanker``, ``XGBRanker``, ``CatBoostRanker``...) are after ``fit``. A model that was stopped early is
            cut to its best iteration.

    Raises:
        TeacherError: it is none of these, or not trained, or does something that prunus does not support.
    """
    library = library_of(model)
    source = f"the {type(model).__name__}"
    try:
        forest, data = _READERS[library](model, source) if library else (None, b"")
    except TeacherError:
        raise
    except Exception as error:  # each library has its own class for "not fitted"
        msg = f"{source} gives no model ({error}); expected one that is trained: call fit first"
        raise TeacherError(msg) from error
    if forest is None:
        msg = (
            f"got {source} of {type(model).__module__}; expected a trained model of LightGBM, XGBoost or CatBoost, or the"
            " path of its file"
        )
        raise TeacherError(msg)
    return TreeTeacher(forest, None, len(data))


def _lightgbm(model: Any, source: str) -> tuple[Forest, bytes]:  # noqa: ANN401
    booster = getattr(model, "booster_", model)
    data = booster.model_to_string().encode()  # up to the best iteration
    return LightGBMForest(data, source), data


def _xgboost(model: Any, source: str) -> tuple[Forest, bytes]:  # noqa: ANN401
    booster = model.get_booster() if hasattr(model, "get_booster") else model
    data = bytes(booster.save_raw("ubj"))
    return XGBoostForest(data, source), data


def _catboost(model: Any, source: str) -> tuple[Forest, bytes]:  # noqa: ANN401
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.cbm"
        model.save_model(str(path))
        data = path.read_bytes()
    return CatBoostForest(data, source), data


_READERS = {"lightgbm": _lightgbm, "xgboost": _xgboost, "catboost": _catboost}
