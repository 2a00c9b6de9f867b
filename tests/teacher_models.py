"""Small ensembles of the three libraries, trained here, with the library's own prediction as the oracle."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

N_FEATURES = 5
CATEGORICAL = 2
"""The feature that holds codes 0 to 9, in every data set; some models treat it as categorical."""


def rows(n: int, seed: int) -> NDArray[np.float32]:
    """Make documents with ties at 0, codes, heavy tails and, in three features, missing values."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, N_FEATURES)).astype(np.float32)
    X[:, 1] = np.exp(2 * X[:, 1])
    X[rng.random(n) < 0.4, 1] = 0
    X[:, CATEGORICAL] = rng.integers(0, 10, n)
    X[:, 4] = np.round(X[:, 4])
    for f in (0, 1, 4):
        X[rng.random(n) < 0.08, f] = np.nan
    return X


def target(X: NDArray[np.float32]) -> NDArray[np.float64]:
    """Make a target that needs every feature, the codes out of order."""
    clean = np.nan_to_num(X, nan=-1.5).astype(np.float64)
    return (
        clean[:, 0] * (clean[:, 1] > 0)
        + np.log1p(np.abs(clean[:, 1]))
        + (clean[:, CATEGORICAL] * 7 % 10 > 4)
        + np.sin(3 * clean[:, 3])
        + (clean[:, 4] > 0)
    )


X_TRAIN = rows(400, seed=0)
Y_TRAIN = target(X_TRAIN)


@dataclass(frozen=True)
class Model:
    """A trained model.

    Attributes:
        data: its file.
        suffix: of the file.
        predict: (X, n_trees or None for all) -> the library's own raw scores.
        n_trees: that score.
        n_leaves: of its largest tree, as the library says.
        cuts: number of different (feature, threshold) pairs in the library's own listing of its trees; None where it
            lists none.
    """

    data: bytes
    suffix: str
    predict: Callable[..., NDArray[np.float64]]
    n_trees: int
    n_leaves: int
    cuts: int | None


def lightgbm_model(n_trees: int = 8, *, categorical: bool = False, **params: Any) -> Model:
    """Train LightGBM."""
    import lightgbm

    settings = {"num_leaves": 7, "min_data_in_leaf": 5, "verbosity": -1, "num_threads": 1, "seed": 3, **params}
    data = lightgbm.Dataset(X_TRAIN, Y_TRAIN, categorical_feature=[CATEGORICAL] if categorical else [], params=settings)
    booster = lightgbm.train(settings, data, n_trees)
    listing = booster.dump_model()["tree_info"]
    splits = [node for tree in listing for node in lightgbm_splits(tree["tree_structure"])]
    return Model(
        data=booster.model_to_string().encode(),
        suffix=".txt",
        predict=lambda X, n=None: booster.predict(X, raw_score=True, num_iteration=-1 if n is None else n),
        n_trees=booster.num_trees(),
        n_leaves=max(tree["num_leaves"] for tree in listing),
        cuts=len({(s["split_feature"], s["threshold"]) for s in splits if s["decision_type"] == "<="}),
    )


def lightgbm_splits(node: dict[str, Any]) -> list[dict[str, Any]]:
    """List the inner nodes of LightGBM's JSON dump."""
    if "split_feature" not in node:
        return []
    return [node, *lightgbm_splits(node["left_child"]), *lightgbm_splits(node["right_child"])]


def xgboost_model(
    n_trees: int = 8, *, suffix: str = ".json", categorical: bool = False, best: int | None = None, **params: Any
) -> Model:
    """Train XGBoost."""
    import xgboost

    settings = {"max_depth": 3, "nthread": 1, "seed": 3, "verbosity": 0, **params}
    types = ["c" if categorical and f == CATEGORICAL else "q" for f in range(N_FEATURES)]

    def matrix(X: NDArray[np.float32]) -> Any:
        return xgboost.DMatrix(X, feature_types=types if categorical else None, enable_categorical=True)

    rows = matrix(X_TRAIN)
    rows.set_label(Y_TRAIN)
    booster = xgboost.train(settings, rows, n_trees)
    step = settings.get("num_parallel_tree", 1)
    rounds = n_trees
    if best is not None:
        booster.set_attr(best_iteration=str(best))
        rounds = best + 1

    def predict(X: NDArray[np.float32], n: int | None = None) -> NDArray[np.float64]:
        used = rounds if n is None else n // step
        return booster.predict(matrix(X), output_margin=True, iteration_range=(0, used)).astype(np.float64)

    listing = booster.trees_to_dataframe()
    listing = listing[listing["Tree"] < rounds * step]
    splits = listing[(listing["Feature"] != "Leaf") & listing["Split"].notna()]
    return Model(
        data=bytes(booster.save_raw(suffix[1:])),
        suffix=suffix,
        predict=predict,
        n_trees=rounds * step,
        n_leaves=int((listing["Feature"] == "Leaf").groupby(listing["Tree"]).sum().max()),
        cuts=len(set(zip(splits["Feature"], splits["Split"].astype(np.float32), strict=True))),
    )


def catboost_model(
    n_trees: int = 8, *, suffix: str = ".cbm", scale: tuple[float, float] | None = None, **params: Any
) -> Model:
    """Train CatBoost."""
    import catboost

    settings = {
        "depth": 3,
        "thread_count": 1,
        "random_seed": 3,
        "allow_writing_files": False,
        "verbose": False,
        **params,
    }
    model = catboost.CatBoostRegressor(iterations=n_trees, **settings)
    model.fit(X_TRAIN, Y_TRAIN)
    if scale is not None:
        model.set_scale_and_bias(*scale)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        model.save_model(str(path), format=suffix[1:])
        data = path.read_bytes()
        saved = catboost.CatBoost()  # CatBoost's JSON loses the last digit of a leaf: its file is the model
        saved.load_model(str(path), format=suffix[1:])
    symmetric = settings.get("grow_policy", "SymmetricTree") == "SymmetricTree"
    leaves = model.get_tree_leaf_counts()
    return Model(
        data=data,
        suffix=suffix,
        predict=lambda X, n=None: saved.predict(X, prediction_type="RawFormulaVal", ntree_end=n or 0),
        n_trees=model.tree_count_,
        n_leaves=int(max(leaves)),
        # Borders of a model that was only just trained count those that the trees use, once for each feature.
        cuts=sum(map(len, model.get_borders().values())) if symmetric else None,
    )


MODELS: dict[str, Callable[[], Model]] = {
    "lightgbm": lightgbm_model,
    "lightgbm zero is missing": lambda: lightgbm_model(zero_as_missing=True),
    "lightgbm nothing is missing": lambda: lightgbm_model(use_missing=False),
    "lightgbm categorical": lambda: lightgbm_model(categorical=True, min_data_per_group=5, cat_smooth=1),
    "lightgbm one category against the rest": lambda: lightgbm_model(categorical=True, max_cat_to_onehot=20),
    "lightgbm random forest": lambda: lightgbm_model(boosting="rf", bagging_freq=1, bagging_fraction=0.6),
    "lightgbm dart": lambda: lightgbm_model(boosting="dart", drop_rate=0.5),
    "lightgbm stumps": lambda: lightgbm_model(num_leaves=2),
    "lightgbm one leaf": lambda: lightgbm_model(1, min_data_in_leaf=1000),
    "xgboost": xgboost_model,
    "xgboost ubj": lambda: xgboost_model(suffix=".ubj"),
    "xgboost base score": lambda: xgboost_model(base_score=7.5),
    "xgboost dart": lambda: xgboost_model(booster="dart", rate_drop=0.5, suffix=".ubj"),
    "xgboost best iteration": lambda: xgboost_model(best=4),
    "xgboost parallel trees": lambda: xgboost_model(4, num_parallel_tree=3, subsample=0.5),
    "xgboost categorical": lambda: xgboost_model(categorical=True, max_cat_to_onehot=2),
    "xgboost one category against the rest": lambda: xgboost_model(
        categorical=True, max_cat_to_onehot=20, suffix=".ubj"
    ),
    "xgboost pruned nodes": lambda: xgboost_model(gamma=3.0, tree_method="exact"),
    "xgboost stumps": lambda: xgboost_model(max_depth=1),
    "xgboost one leaf": lambda: xgboost_model(gamma=1e9),
    "catboost": catboost_model,
    "catboost json": lambda: catboost_model(suffix=".json"),
    "catboost scale and bias": lambda: catboost_model(scale=(2.5, -3.0)),
    "catboost missing is largest": lambda: catboost_model(nan_mode="Max"),
    "catboost lossguide": lambda: catboost_model(grow_policy="Lossguide", max_leaves=6),
    "catboost depthwise json": lambda: catboost_model(grow_policy="Depthwise", suffix=".json"),
    "catboost stumps": lambda: catboost_model(depth=1),
}
"""Name -> a way to train it; :func:`model` keeps what it trained."""


@cache
def model(name: str) -> Model:
    """Train the model of that name, once."""
    return MODELS[name]()
