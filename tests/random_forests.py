"""Random trained models of the three libraries, and rows that are hard on them: the material of the law of exact trees."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from prunus.teacher.trees import TreeTeacher, load_trees

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Rng = np.random.Generator

LIBRARIES = ("lightgbm", "xgboost", "catboost")

TINY = np.float32(1e-35)
"""LightGBM's idea of zero."""


def column(rng: Rng, n: int) -> NDArray[np.float64]:
    """Draw one feature: one of the kinds that real data have, some values missing."""
    kind = rng.integers(0, 9)
    x = {
        0: lambda: rng.normal(size=n),
        1: lambda: rng.integers(-3, 4, n).astype(float),
        2: lambda: np.exp(4 * rng.normal(size=n)),
        3: lambda: np.where(rng.random(n) < 0.7, 0.0, rng.normal(size=n)),
        4: lambda: rng.integers(0, 20, n) * 0.1,  # not float32 numbers
        5: lambda: rng.normal(size=n) * 10.0 ** rng.integers(-38, 38),
        6: lambda: np.full(n, float(rng.integers(-1, 2))),
        7: lambda: rng.normal(size=n) * 2e-35,  # about what LightGBM takes for zero
        8: lambda: rng.integers(0, 2, n) * 2.0 - 1,
    }[int(kind)]()
    if rng.random() < 0.5:
        x[rng.random(n) < rng.choice([0.05, 0.5])] = np.nan
    return x


def data(rng: Rng, categorical: bool) -> tuple[NDArray[np.float64], NDArray[np.float64], list[int]]:
    """Draw a training set: X [n, n_features] (float64, often not float32), y [n], and its categorical features."""
    n, n_features = int(rng.integers(20, 200)), int(rng.integers(1, 7))
    X = np.stack([column(rng, n) for _ in range(n_features)], axis=1)
    if rng.random() < 0.5:
        X = X.astype(np.float32).astype(np.float64)
    codes = [f for f in range(n_features) if categorical and rng.random() < 0.4]
    for f in codes:
        top = int(rng.choice([2, 5, 40, 1000]))
        X[:, f] = rng.integers(0, top, n)
        if rng.random() < 0.4:
            X[rng.random(n) < 0.2, f] = np.nan
    with np.errstate(all="ignore"):
        z = np.tanh(np.nan_to_num(X, nan=0.7, posinf=1, neginf=-1) / (np.nanstd(X, axis=0) + 1e-40))
    y = np.nan_to_num(z) @ rng.normal(size=n_features) + rng.normal(size=n) * rng.choice([0, 0.5])
    y += np.isnan(X[:, 0]) * 1.0 + np.sin(np.nan_to_num(X[:, -1]) * 5)
    return X, y if rng.random() < 0.95 else np.full(n, 2.5), codes


def grouped(y: NDArray[np.float64], rng: Rng) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Turn a target into grades 0 to 3 and queries of a few documents: (grades, sizes)."""
    rank = np.argsort(np.argsort(y))
    sizes = []
    while sum(sizes) < len(y):
        sizes.append(min(int(rng.integers(1, 20)), len(y) - sum(sizes)))
    return rank * 4 // len(y), np.array(sizes)


def train_lightgbm(rng: Rng) -> tuple[bytes, str]:
    """Train a random LightGBM model: (its file, the file's suffix)."""
    import lightgbm

    X, y, codes = data(rng, categorical=True)
    objective = str(rng.choice(["regression", "lambdarank", "binary", "poisson", "l1"]))
    params: dict[str, Any] = {
        "objective": objective,
        "num_leaves": int(rng.choice([2, 3, 7, 31])),
        "min_data_in_leaf": int(rng.integers(1, 10)),
        "min_data_in_bin": 1,
        "max_bin": int(rng.choice([3, 15, 255])),
        "learning_rate": float(rng.choice([0.05, 0.5, 1.0])),
        "zero_as_missing": bool(rng.random() < 0.3),
        "use_missing": bool(rng.random() < 0.8),
        "boosting": str(rng.choice(["gbdt", "gbdt", "dart", "rf"])),
        "bagging_fraction": 0.7,
        "bagging_freq": 1,
        "min_gain_to_split": float(rng.choice([0, 0, 0, 1])),
        "extra_trees": bool(rng.random() < 0.2),
        "max_cat_to_onehot": int(rng.choice([1, 4, 2000])),
        "min_data_per_group": 1,
        "cat_smooth": 0.1,
        "cat_l2": 0.1,
        "enable_bundle": bool(rng.random() < 0.5),
        "seed": int(rng.integers(1 << 30)),
        "verbosity": -1,
        "num_threads": 1,
    }
    grades, sizes = grouped(y, rng)
    label = {"lambdarank": grades, "binary": grades > 1, "poisson": grades}.get(objective, y)
    group = sizes if objective == "lambdarank" else None
    rows = lightgbm.Dataset(X, label, group=group, categorical_feature=codes, params=params)
    booster = lightgbm.train(params, rows, int(rng.integers(1, 12)))
    if rng.random() < 0.2:
        booster.best_iteration = int(rng.integers(1, booster.num_trees() + 1))  # what early stopping leaves behind
    return booster.model_to_string().encode(), ".txt"


def train_xgboost(rng: Rng) -> tuple[bytes, str]:
    """Train a random XGBoost model: (its file, the file's suffix)."""
    import xgboost

    X, y, codes = data(rng, categorical=True)
    X = X.astype(np.float32)
    objective = str(
        rng.choice(
            ["reg:squarederror", "rank:ndcg", "binary:logistic", "count:poisson", "reg:absoluteerror", "reg:gamma"]
        )
    )
    method = str(rng.choice(["hist", "approx"] if codes else ["hist", "approx", "exact"]))
    params: dict[str, Any] = {
        "objective": objective,
        "tree_method": method,
        "booster": str(rng.choice(["gbtree", "gbtree", "dart"])),
        "rate_drop": 0.4,
        "max_depth": int(rng.integers(1, 6)),
        "eta": float(rng.choice([0.1, 0.5, 1.0])),
        "gamma": float(rng.choice([0, 0, 0.5])),
        "min_child_weight": float(rng.choice([0, 1])),
        "subsample": float(rng.choice([0.6, 1.0])),
        "max_cat_to_onehot": int(rng.choice([1, 4, 2000])),
        "seed": int(rng.integers(1 << 30)),
        "nthread": 1,
        "verbosity": 0,
    }
    if method != "exact":
        params |= {"max_bin": int(rng.choice([2, 16, 256])), "grow_policy": str(rng.choice(["depthwise", "lossguide"]))}
    if rng.random() < 0.3:
        params["num_parallel_tree"] = 3
    if rng.random() < 0.5:
        params["base_score"] = 0.25
    grades, sizes = grouped(y, rng)
    label = {"rank:ndcg": grades, "binary:logistic": grades > 1, "count:poisson": grades, "reg:gamma": 1.0 + grades}
    types = ["c" if f in codes else "q" for f in range(X.shape[1])]
    rows = xgboost.DMatrix(X, label.get(objective, y), feature_types=types, enable_categorical=True)
    if objective == "rank:ndcg":
        rows.set_group(sizes)
    n = int(rng.integers(1, 8))
    booster = xgboost.train(params, rows, n)
    if rng.random() < 0.2:
        booster.set_attr(best_iteration=str(rng.integers(0, n)))
    suffix = str(rng.choice(["json", "ubj"]))
    return bytes(booster.save_raw(suffix)), f".{suffix}"


def train_catboost(rng: Rng) -> tuple[bytes, str]:
    """Train a random CatBoost model: (its file, the file's suffix)."""
    import catboost

    X, y, _ = data(rng, categorical=False)
    X = X.astype(np.float32)
    # CatBoost refuses features that are all constant, and targets that are.
    X[:, 0] = rng.normal(size=len(X))
    y = y + (np.ptp(y) == 0) * X[:, 0]
    grades, sizes = grouped(y, rng)
    loss = str(rng.choice(["RMSE", "Logloss", "QueryRMSE", "MAE"]))
    label = {"Logloss": (grades > 1).astype(int), "QueryRMSE": grades}.get(loss, y)
    settings: dict[str, Any] = {
        "iterations": int(rng.integers(1, 8)),
        "depth": int(rng.integers(1, 6)),
        "grow_policy": str(rng.choice(["SymmetricTree", "Depthwise", "Lossguide"])),
        "nan_mode": str(rng.choice(["Min", "Max"])),
        "border_count": int(rng.choice([1, 8, 254])),
        "feature_border_type": str(rng.choice(["GreedyLogSum", "Uniform", "Median", "MinEntropy"])),
        "learning_rate": float(rng.choice([0.1, 1.0])),
        "loss_function": loss,
        "random_seed": int(rng.integers(1 << 30)),
        "thread_count": 1,
        "allow_writing_files": False,
        "verbose": False,
    }
    model = catboost.CatBoost(settings)
    queries = np.repeat(np.arange(len(sizes)), sizes)
    model.fit(catboost.Pool(X, label, group_id=queries if loss == "QueryRMSE" else None))
    if rng.random() < 0.4:
        model.set_scale_and_bias(float(rng.normal()), float(rng.normal()))
    suffix = str(rng.choice(["cbm", "json"]))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        model.save_model(str(path), format=suffix)
        return path.read_bytes(), f".{suffix}"


TRAIN = {"lightgbm": train_lightgbm, "xgboost": train_xgboost, "catboost": train_catboost}


def random_teacher(library: str, seed: int, folder: Path) -> TreeTeacher:
    """Train a random model, write it to a file and load that."""
    rng = np.random.default_rng([LIBRARIES.index(library), seed])
    while True:
        try:
            content, suffix = TRAIN[library](rng)
        except ValueError as error:  # no feature had two values, or such: the next draw will do
            if "Error" not in type(error).__name__:
                raise
            continue
        path = folder / f"{library}{seed}{suffix}"
        path.write_bytes(content)
        return load_trees(path)


def hard_rows(teacher: TreeTeacher, n: int, rng: Rng) -> NDArray[np.float32]:
    """Draw rows from where trees go wrong: on thresholds and one float32 beside them, zeros of every size, NaN, codes.

    Infinities are among them where the library takes them.
    """
    X = np.empty((n, teacher.n_features), np.float32)
    special = [0.0, -0.0, TINY, -TINY, 1.0000001e-35, -1.0000001e-35, 1e-45, -1e-45, 1e-40, 3.4e38, -3.4e38, 1, -1, 0.5]
    if teacher.library != "XGBoost":
        special += [np.inf, -np.inf]
    for f, thresholds in enumerate(teacher.thresholds):
        choices = [np.array(special, np.float32), rng.normal(size=20).astype(np.float32)]
        if len(thresholds):
            with np.errstate(over="ignore", under="ignore"):
                beside = [np.nextafter(thresholds, np.float32(side)) for side in (-np.inf, np.inf)]
            on = np.concatenate([thresholds, *beside])
            choices += [on[np.isfinite(on)]] * 3
        if f in teacher.categories:
            codes = teacher.categories[f]
            wrong = [-1, -2, -0.5, -0.999, 0.5, 1e9, 2.0**31, 2.0**24, 2.0**24 - 1, 65535, 1001.5]
            choices = [codes, codes + 1, codes + np.float32(0.5), np.array(wrong, np.float32), choices[0]]
        which = rng.integers(0, len(choices), n)
        for k, values in enumerate(choices):
            at = which == k
            X[at, f] = rng.choice(values, int(at.sum())) if len(values) else 0
    X[rng.random(X.shape) < 0.1] = np.nan
    X[:1] = np.nan
    return X
