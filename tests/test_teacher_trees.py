"""Tree ensembles as teachers: laws that hold for every library and every kind of tree."""

from __future__ import annotations

import pickle
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prunus.data.ranking import RankingData
from prunus.errors import InfiniteValueError, OutputError, SchemaError, TeacherError
from prunus.teacher import trees
from prunus.teacher.trees import TreeTeacher, load_trees
from teacher_models import CATEGORICAL, MODELS, N_FEATURES, X_TRAIN, Model, lightgbm_model, model, rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

every_model = pytest.mark.parametrize("name", MODELS)
SMALLEST, LARGEST = np.finfo(np.float32).min, np.finfo(np.float32).max


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """Give a function that writes the model of a name to a file and loads it, once."""
    folder = tmp_path_factory.mktemp("models")

    @cache
    def load(name: str) -> tuple[Model, TreeTeacher]:
        trained = model(name)
        path = folder / f"{name.replace(' ', '_')}{trained.suffix}"
        path.write_bytes(trained.data)
        return trained, load_trees(path)

    return load


def moved(X: NDArray[np.float32], teacher: TreeTeacher, rng: np.random.Generator) -> NDArray[np.float32]:
    """Move every finite value to a random point of its cell: its lowest float32, its highest, or one between."""
    X = X.copy()
    for f, thresholds in enumerate(teacher.thresholds):
        if f in teacher.categories:
            continue
        with np.errstate(over="ignore"):
            edges = np.concatenate([[SMALLEST], np.nextafter(thresholds, np.float32(np.inf))]).astype(np.float32)
        tops = np.concatenate([thresholds, [LARGEST]]).astype(np.float32)
        there = np.isfinite(X[:, f])
        cell = np.searchsorted(thresholds, X[there, f], side="left")
        low, high = edges[cell], tops[cell]
        share = rng.random(len(cell)) ** rng.integers(1, 30)
        between = (low.astype(np.float64) * (1 - share) + high.astype(np.float64) * share).astype(np.float32)
        choice = rng.integers(0, 3, len(cell))
        X[there, f] = np.clip(np.choose(choice, [low, between, high]), low, high)
    return X


def near_thresholds(teacher: TreeTeacher, n: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw rows whose values are thresholds, their neighbours among the float32, zeros, tiny values and NaN."""
    X = rows(n, seed=int(rng.integers(2**31)))
    tiny = np.array([0.0, -0.0, 1e-45, -1e-45, 1e-36, -1e-36, 1e-35, -1e-35, 1.1e-35, -1.1e-35, np.nan], np.float32)
    for f, thresholds in enumerate(teacher.thresholds):
        if f in teacher.categories:
            continue
        with np.errstate(over="ignore"):
            up, down = (np.nextafter(thresholds, np.float32(end)) for end in (np.inf, -np.inf))
        pool = np.concatenate([thresholds, up, down, tiny])
        pool = pool[~np.isinf(pool)]
        there = rng.random(n) < 0.6
        X[there, f] = rng.choice(pool, there.sum())
    return X


@every_model
def test_scores_are_the_librarys_own(name, load):
    """A teacher's scores are the library's raw scores, missing values included."""
    trained, teacher = load(name)
    X = rows(300, seed=1)
    np.testing.assert_array_equal(teacher.score(X), trained.predict(X))
    assert teacher.score(X).dtype == np.float64


@every_model
def test_size_is_what_the_library_says(name, load):
    """Trees, leaves and the number of different cuts are those of the library's own listing."""
    trained, teacher = load(name)
    assert (teacher.n_trees, teacher.n_leaves, teacher.n_features) == (trained.n_trees, trained.n_leaves, N_FEATURES)
    assert teacher.nbytes == len(trained.data)
    if trained.cuts is not None and "zero is missing" not in name:
        assert sum(map(len, teacher.thresholds)) == trained.cuts


@every_model
@settings(max_examples=6)
@given(seed=st.integers(0, 2**31 - 1))
def test_scores_are_constant_inside_a_cell(name, load, seed):
    """Moving any finite value to any other point of its cell changes no score, not by one bit."""
    _, teacher = load(name)
    rng = np.random.default_rng(seed)
    X = near_thresholds(teacher, 200, rng)
    np.testing.assert_array_equal(teacher.score(moved(X, teacher, rng)), teacher.score(X))


@pytest.mark.parametrize("name", [name for name in MODELS if "stumps" in name])
def test_scores_change_at_a_threshold(name, load):
    """In a sum of stumps the step from a threshold to the next float32 changes the score, so no threshold is idle."""
    _, teacher = load(name)
    base = rows(1, seed=2)
    steps = 0
    for f, thresholds in enumerate(teacher.thresholds):
        for t in thresholds[np.abs(thresholds) < 1e38]:
            pair = np.repeat(base, 2, axis=0)
            pair[:, f] = [t, np.nextafter(t, np.float32(np.inf))]
            below, above = teacher.score(pair)
            assert below != above
            steps += 1
    assert steps > 0


@every_model
def test_thresholds_are_sorted_and_finite(name, load):
    """Thresholds of a feature rise strictly, are finite float32, and stand for features_used only."""
    _, teacher = load(name)
    for f, thresholds in enumerate(teacher.thresholds):
        assert thresholds.dtype == np.float32
        assert np.isfinite(thresholds).all()
        assert (np.diff(thresholds) > 0).all()
        assert (f in teacher.features_used) == (len(thresholds) > 0 or f in teacher.categories)


@every_model
def test_a_feature_that_is_not_used_changes_nothing(name, load):
    """Features outside features_used can hold anything."""
    _, teacher = load(name)
    X = rows(50, seed=4)
    other = rows(50, seed=5)
    used = list(teacher.features_used)
    other[:, used] = X[:, used]
    np.testing.assert_array_equal(teacher.score(other), teacher.score(X))


@every_model
def test_midpoints_stand_one_in_each_cell(name, load):
    """Between minimum and maximum every cell has one midpoint, and it lies in that cell."""
    _, teacher = load(name)
    low, high = np.nanmin(X_TRAIN, axis=0), np.nanmax(X_TRAIN, axis=0)
    for f, points in enumerate(teacher.midpoints(low, high)):
        assert points.dtype == np.float32
        assert (np.diff(points) > 0).all()
        if f in teacher.categories:
            np.testing.assert_array_equal(points[:-1], teacher.categories[f])
            assert points[-1] not in teacher.categories[f]
            continue
        inside = teacher.thresholds[f][(teacher.thresholds[f] > low[f]) & (teacher.thresholds[f] < high[f])]
        np.testing.assert_array_equal(np.searchsorted(inside, points, side="left"), np.arange(len(inside) + 1))
        assert low[f] <= points[0]
        assert points[-1] <= high[f]
        if len(inside) == 0:
            assert points[0] == np.float32((np.float64(low[f]) + high[f]) / 2)


@every_model
def test_smaller_is_the_first_trees(name, load):
    """The ensemble of the first n trees scores as the library does with n trees, and keeps no cut of the others."""
    trained, teacher = load(name)
    X = rows(200, seed=6)
    step = 3 if "parallel" in name else 1
    for n in sorted({step, teacher.n_trees // 2 // step * step or step, teacher.n_trees}):
        part = teacher.smaller(n)
        assert part.n_trees == n
        assert part.path is None
        assert part.feature_names == teacher.feature_names
        np.testing.assert_allclose(part.score(X), trained.predict(X, n), rtol=1e-12, atol=1e-12)
        for few, many in zip(part.thresholds, teacher.thresholds, strict=True):
            assert set(few.tolist()) <= set(many.tolist())
    assert teacher.smaller(teacher.n_trees).n_leaves == teacher.n_leaves


@every_model
def test_smaller_is_constant_inside_its_own_cells(name, load):
    """The first trees have cells of their own, and scores are constant there too."""
    _, teacher = load(name)
    part = teacher.smaller(3 if "parallel" in name else 1)
    rng = np.random.default_rng(7)
    X = near_thresholds(teacher, 200, rng)
    np.testing.assert_array_equal(part.score(moved(X, part, rng)), part.score(X))


@every_model
def test_save_and_load_is_identity(name, load, tmp_path):
    """A saved teacher loads as the same teacher, whole or cut; CatBoost's JSON to 12 digits, all else to the bit."""
    _, teacher = load(name)
    X = rows(200, seed=8)
    for part in (teacher, teacher.smaller(3 if "parallel" in name else 1)):
        for suffix in {"LightGBM": [".txt"], "XGBoost": [".json", ".ubj"], "CatBoost": [".cbm", ".json"]}[part.library]:
            path = tmp_path / f"again{suffix}"
            part.save(path)
            again = load_trees(path)
            # CatBoost writes 16 digits of a float64 into its JSON, one too few.
            digits = 1e-12 if (part.library, suffix) == ("CatBoost", ".json") else 0
            np.testing.assert_allclose(again.score(X), part.score(X), rtol=digits, atol=digits)
            assert again.feature_names == part.feature_names
            assert again.n_trees == part.n_trees
            assert again.nbytes == path.stat().st_size
            for ours, theirs in zip(again.thresholds, part.thresholds, strict=True):
                np.testing.assert_array_equal(ours, theirs)
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".part")]


@every_model
def test_scores_do_not_depend_on_threads_or_chunks(name, load, monkeypatch):
    """One thread, two threads, chunks of seven rows, and one row at a time give the same bits."""
    _, teacher = load(name)
    X = rows(40, seed=9)
    scores = teacher.score(X, n_threads=1)
    np.testing.assert_array_equal(teacher.score(X, n_threads=2), scores)
    np.testing.assert_array_equal([teacher.score(row[None])[0] for row in X], scores)
    monkeypatch.setattr(trees, "CHUNK", 7)
    np.testing.assert_array_equal(teacher.score(X), scores)


@pytest.mark.parametrize("name", ["lightgbm", "xgboost", "catboost"])
def test_input_of_any_real_type(name, load):
    """Float64, integers, Fortran order, slices and lists are read as float32; no rows give no scores."""
    _, teacher = load(name)
    X = np.round(rows(30, seed=10) * 4)
    scores = teacher.score(X)
    whole = np.nan_to_num(X).astype(np.int32)
    for other in (X.astype(np.float64), np.asfortranarray(X), np.repeat(X, 2, axis=0)[::2], X.tolist()):
        np.testing.assert_array_equal(teacher.score(other), scores)
    np.testing.assert_array_equal(teacher.score(whole), teacher.score(whole.astype(np.float32)))
    assert teacher.score(X[:0]).shape == (0,)


@pytest.mark.parametrize("name", ["lightgbm", "xgboost", "catboost"])
@pytest.mark.parametrize("shape", [(3, N_FEATURES - 1), (3, N_FEATURES + 1), (N_FEATURES,)])
def test_wrong_number_of_features(name, shape, load):
    """Rows that have not the teacher's features are refused with both counts."""
    with pytest.raises(SchemaError, match=rf"expected \[n, {N_FEATURES}\]"):
        load(name)[1].score(np.zeros(shape, np.float32))


@pytest.mark.parametrize("name", ["lightgbm", "catboost"])
def test_infinities_lie_beyond_every_threshold(name, load):
    """Where the library takes infinities, they score as the largest and smallest float32 do."""
    _, teacher = load(name)
    X = rows(20, seed=11)
    far, infinite = X.copy(), X.copy()
    far[:, 3], infinite[:, 3] = LARGEST, np.inf
    np.testing.assert_array_equal(teacher.score(infinite), teacher.score(far))


def test_xgboost_refuses_infinities(load):
    """XGBoost takes no infinity: the error names feature and row."""
    X = rows(20, seed=11)
    X[7, 3] = -np.inf
    with pytest.raises(InfiniteValueError, match="'f3' is -inf at row 7"):
        load("xgboost")[1].score(X)


@pytest.mark.parametrize("name", [name for name in MODELS if "categor" in name])
def test_codes_that_no_split_names_score_alike(name, load):
    """A category is told apart only if a split names it: all other codes give one score."""
    _, teacher = load(name)
    codes = teacher.categories[CATEGORICAL]
    assert len(codes) > 0
    assert len(teacher.thresholds[CATEGORICAL]) == 0
    told_apart = 0
    for row in rows(40, seed=12):
        X = np.repeat(row[None], 60, axis=0)
        X[:, CATEGORICAL] = np.arange(60)
        scores = teacher.score(X)
        assert len(np.unique(scores[~np.isin(X[:, CATEGORICAL], codes)])) == 1
        told_apart += len(np.unique(scores)) > 1
    assert told_apart > 0


@pytest.mark.parametrize(
    ("text", "value", "cut"),
    [
        ("1.0000000180025095e-35", 1e-35, True),  # what LightGBM writes for "0 and below"
        ("-1.0000000180025095e-35", -1e-35, False),  # -1e-35 is read as 0, which is above
        ("0", 1e-35, True),
        ("1e-40", 1e-35, True),
        ("0.5", 0.5, True),
        ("0.50000001", 0.5, True),  # no float32: the cut stands at 0.5
        ("0.49999999", 0.5, False),
        ("1.7976931348623157e+308", LARGEST, None),  # cuts no finite value from another
        ("-1e300", LARGEST, None),
    ],
)
def test_lightgbm_thresholds_in_float32(text, value, cut, tmp_path):
    """Thresholds that are no float32, or near zero, cut float32 values where LightGBM does."""
    data = lightgbm_model(1, num_leaves=2, use_missing=False).data.decode()
    old = next(line for line in data.split("\n") if line.startswith("threshold="))
    data = data.replace(old, f"threshold={text}")
    head, _, tail = data.partition("\n\nTree=0")
    size = len(("Tree=0" + tail).partition("end of trees")[0])
    head = "\n".join(f"tree_sizes={size}" if line.startswith("tree_sizes=") else line for line in head.split("\n"))
    path = tmp_path / "edited.txt"
    path.write_text(f"{head}\n\nTree=0{tail}", encoding="utf-8")
    teacher = load_trees(path)
    (f,) = teacher.features_used or (1,)
    special = [0, -0.0, 1e-45, -1e-45, 1e-36, -1e-36, 1e-35, -1e-35, 1.1e-35, -1.1e-35, 0.5, 1, -1, LARGEST, SMALLEST]
    special += [np.nextafter(np.float32(v), np.float32(d)) for v in (0.5, 1e-35, -1e-35) for d in (1, -1)]
    X = np.zeros((len(special), N_FEATURES), np.float32)
    X[:, f] = special
    scores = teacher.score(X)
    cells = np.searchsorted(teacher.thresholds[f], X[:, f], side="left")
    for cell in np.unique(cells):
        assert len(np.unique(scores[cells == cell])) == 1
    if cut is None:
        assert len(np.unique(scores)) == 1
    else:
        assert len(np.unique(scores)) == 2
        assert (teacher.thresholds[f][0] >= np.float32(value)) == cut


def test_linear_leaves_are_scored_and_said(tmp_path):
    """LightGBM's linear trees score as in LightGBM, and the teacher says that its cells are not constant."""
    trained = lightgbm_model(3, linear_tree=True)
    path = tmp_path / "linear.txt"
    path.write_bytes(trained.data)
    teacher = load_trees(path)
    X = rows(50, seed=13)
    np.testing.assert_array_equal(teacher.score(X), trained.predict(X))
    assert not teacher.piecewise_constant


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        ([0, np.nan], [10, np.nan], [[5], [np.nan]]),
        ([3, -1e38], [3, 3e38], [[3], [1e38]]),
        ([-np.inf, 2], [5, 3], [[np.nan], [2.5]]),
    ],
)
def test_midpoints_where_little_is_known(low, high, expected, load):
    """A feature without thresholds has the middle of its range, and NaN where nothing finite is known of it."""
    from prunus.teacher.forest import midpoints_of

    for a, b, points in zip(low, high, expected, strict=True):
        found = midpoints_of(np.zeros(0, np.float32), np.float32(a), np.float32(b))
        np.testing.assert_allclose(found, np.float32(points), rtol=1e-6)
    with pytest.raises(SchemaError, match="one a feature"):
        load("xgboost")[1].midpoints(np.zeros(2), np.ones(2))


def test_midpoint_between_neighbouring_floats():
    """Where no float32 lies between two thresholds, the midpoint is the upper one, which belongs to the cell."""
    from prunus.teacher.forest import midpoints_of

    t = np.array([1, np.nextafter(np.float32(1), np.float32(2))], np.float32)
    points = midpoints_of(t, np.float32(0), np.float32(2))
    np.testing.assert_array_equal(np.searchsorted(t, points, side="left"), [0, 1, 2])


@pytest.mark.parametrize("n", [0, -1, 9])
def test_smaller_refuses_other_counts(n, load):
    """The first n trees exist for n from 1 to n_trees."""
    with pytest.raises(TeacherError, match="expected 1 to 8"):
        load("lightgbm")[1].smaller(n)


def test_parallel_trees_are_cut_at_rounds(load):
    """XGBoost's rounds of several trees stay whole: n is rounded down, and less than a round is refused."""
    _, teacher = load("xgboost parallel trees")
    assert teacher.smaller(8).n_trees == 6
    with pytest.raises(TeacherError, match="one boosting round"):
        teacher.smaller(2)


@pytest.mark.parametrize(
    ("name", "suffix"), [("lightgbm", ".json"), ("xgboost", ".txt"), ("catboost", ".ubj"), ("xgboost", "")]
)
def test_save_refuses_another_librarys_suffix(name, suffix, load, tmp_path):
    """A model is not written under a name from which it could not be read again."""
    with pytest.raises(TeacherError, match="expected"):
        load(name)[1].save(tmp_path / f"model{suffix}")
    assert list(tmp_path.iterdir()) == []


def test_save_into_no_folder(load, tmp_path):
    """A file that cannot be written is a named error, and nothing is left behind."""
    with pytest.raises(OutputError, match="cannot write"):
        load("lightgbm")[1].save(tmp_path / "absent" / "model.txt")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["lightgbm", "xgboost", "catboost", "catboost lossguide"])
def test_teachers_survive_pickle(name, load):
    """A teacher that went through pickle scores the same, so that it can go to a worker process."""
    _, teacher = load(name)
    X = rows(20, seed=14)
    again = pickle.loads(pickle.dumps(teacher))  # noqa: S301 - made one line above
    np.testing.assert_array_equal(again.score(X), teacher.score(X))


def test_columns_by_name_or_by_position(load):
    """Made-up names go by position; names go by name; XGBoost's f0 is not LETOR's f1."""
    _, teacher = load("xgboost")
    assert teacher.feature_names == ("f0", "f1", "f2", "f3", "f4")
    assert teacher.columns(["f1", "f2", "f3", "f4", "f5"]) == [0, 1, 2, 3, 4]
    assert teacher.columns(["f4", "f3", "f2", "f1", "f0"]) == [4, 3, 2, 1, 0]
    with pytest.raises(SchemaError, match="absent"):
        teacher.columns(["f1", "f2"])


def test_named_features_are_found_by_name(tmp_path):
    """A teacher with real names takes its columns from the data by name, other columns ignored."""
    import lightgbm

    names = ["age", "clicks", "os", "dwell", "rank"]
    booster = lightgbm.train(
        {"verbosity": -1, "num_threads": 1}, lightgbm.Dataset(X_TRAIN, X_TRAIN[:, 3].copy(), feature_name=names), 3
    )
    booster.save_model(tmp_path / "named.txt")
    teacher = load_trees(tmp_path / "named.txt")
    assert teacher.feature_names == tuple(names)
    assert not teacher.names_are_default
    X = rows(10, seed=15)
    order = [3, 1, 4, 0, 2]
    data = RankingData(
        X=np.column_stack([X[:, order], np.ones(10, np.float32)]),
        y=np.zeros(10, np.float32),
        offsets=np.array([0, 10]),
        feature_names=(*(names[f] for f in order), "more"),
    )
    np.testing.assert_array_equal(teacher.score_data(data), teacher.score(X))
    with pytest.raises(SchemaError, match="rank"):
        teacher.columns(names[:4])
