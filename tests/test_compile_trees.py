"""prunus.compile on trees: exact, proved before anybody gets the scorer, and refused by name where it cannot be."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import prunus
from cli_tools import run
from prunus.compiler_trees import compile_trees
from prunus.engine.ensemble_rows import hard_rows
from prunus.engine.scorer import RankScorer
from prunus.errors import InfiniteValueError, NetworkError, ParityError, SchemaError, TeacherError
from prunus.teacher.exact import REPAID, TOLERANCE, ExactTeacher, fastest, prove_leaves
from prunus.teacher.trees import load_trees
from teacher_models import CATEGORICAL, MODELS, N_FEATURES, X_TRAIN, Y_TRAIN, lightgbm_model, model, rows
from test_engine_ensemble import stump, trees

if TYPE_CHECKING:
    from pathlib import Path

pytest_plugins = ("cli_fixtures",)


def write(folder: Path, name: str) -> Path:
    """Write the model of a name to a file."""
    trained = model(name)
    path = folder / f"ranker{trained.suffix}"
    path.write_bytes(trained.data)
    return path


@pytest.mark.parametrize("name", MODELS)
def test_every_kind_of_model_is_compiled(name: str, tmp_path: Path) -> None:
    """A path gives a scorer with the library's leaves and scores, and a file that loads with the same."""
    path = write(tmp_path, name)
    scorer = prunus.compile(path)
    X = rows(300, seed=5)
    teacher = load_trees(path)
    np.testing.assert_array_equal(scorer.leaves(X), teacher.leaves(X))
    expected = model(name).predict(X)
    assert (np.abs(scorer.score(X) - expected) <= TOLERANCE * np.maximum(1, np.abs(expected))).all()
    scorer.save(tmp_path / "m.prunus")
    again = prunus.load(tmp_path / "m.prunus")
    np.testing.assert_array_equal(again.score(X), scorer.score(X))
    assert again.metadata == scorer.metadata
    assert again.metadata["origin"] == {
        "format": teacher.library, "trees": teacher.n_trees, "leaves": teacher.n_leaves,
    }  # fmt: skip
    proof = again.metadata["parity"]
    assert proof["rows"] >= 1000
    assert proof["leaves"] == proof["rows"] * teacher.n_trees
    assert proof["largest_difference"] <= proof["tolerance"] == TOLERANCE


def test_objects_of_the_libraries_are_compiled() -> None:
    """Boosters, what scikit-learn classes of the libraries are after fit, and teachers of ours."""
    import catboost
    import lightgbm
    import xgboost

    small: dict[str, Any] = {"n_estimators": 3, "max_depth": 3}
    boosters: list[Any] = [
        lightgbm.LGBMRegressor(**small, verbosity=-1, n_jobs=1).fit(X_TRAIN, Y_TRAIN),
        xgboost.XGBRegressor(**small, n_jobs=1).fit(X_TRAIN, Y_TRAIN),
        catboost.CatBoostRegressor(**small, verbose=False, allow_writing_files=False).fit(X_TRAIN, Y_TRAIN),
    ]
    X = rows(200, seed=6)
    expected = [np.asarray(booster.predict(X), float) for booster in boosters]
    cases = [*zip(boosters, expected, strict=True)]
    cases += [(boosters[0].booster_, expected[0]), (boosters[1].get_booster(), expected[1])]
    for booster, scores in cases:
        scorer = prunus.compile(booster)
        np.testing.assert_allclose(scorer.score(X), scores, rtol=2e-5, atol=2e-5)


def test_a_model_that_stopped_early_is_cut_to_its_best_iteration() -> None:
    """What LightGBM predicts with by default is what is compiled."""
    import lightgbm

    train = lightgbm.Dataset(X_TRAIN, Y_TRAIN)
    booster = lightgbm.train({"verbosity": -1, "num_threads": 1, "num_leaves": 4}, train, 9)
    booster.best_iteration = 4
    X = rows(100, seed=7)
    scorer = prunus.compile(booster)
    assert scorer.leaves(X).shape == (100, 4)
    np.testing.assert_allclose(scorer.score(X), booster.predict(X), rtol=2e-5, atol=2e-5)


def test_the_first_trees_alone(tmp_path: Path) -> None:
    """n_trees keeps the first ones, as smaller does."""
    path = write(tmp_path, "lightgbm")
    X = rows(100, seed=8)
    scorer = prunus.compile(str(path), n_trees=3)
    np.testing.assert_allclose(scorer.score(X), model("lightgbm").predict(X, 3), rtol=2e-5, atol=2e-5)
    with pytest.raises(TeacherError, match="got 9 trees; expected 1 to 8"):
        prunus.compile(path, n_trees=9)


def test_names_of_features(tmp_path: Path) -> None:
    """Names are those in the model, or those that are given, one each."""
    path = write(tmp_path, "lightgbm")
    assert prunus.compile(path).schema.feature_names == load_trees(path).feature_names
    given = prunus.compile(load_trees(path), feature_names=list("abcde"))
    assert given.schema.feature_names == tuple("abcde")
    assert all(given.schema.allow_missing)
    with pytest.raises(SchemaError, match="got 2 feature names for trees over 5"):
        prunus.compile(path, feature_names=["a", "b"])


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    """Another object, one that is not trained, another file: each is named."""
    import lightgbm

    with pytest.raises(TeacherError, match=r"got the dict of builtins; expected a trained model of LightGBM"):
        prunus.compile({})
    with pytest.raises(TeacherError, match=r"the LGBMRanker gives no model .* call fit first"):
        prunus.compile(lightgbm.LGBMRanker())
    (tmp_path / "x.txt").write_text("hello")
    with pytest.raises(TeacherError, match="expected a LightGBM"):
        prunus.compile(tmp_path / "x.txt")


def test_linear_leaves_are_refused(tmp_path: Path) -> None:
    """What is not constant inside a leaf cannot be exact, and says so."""
    (tmp_path / "m.txt").write_bytes(lightgbm_model(3, linear_tree=True).data)
    with pytest.raises(TeacherError, match=r"linear models \(linear_tree\)"):
        prunus.compile(tmp_path / "m.txt")


def test_an_objective_whose_base_is_unknown_is_refused(tmp_path: Path) -> None:
    """XGBoost's base score is placed by the objective; an unknown one is named."""
    path = write(tmp_path, "xgboost")
    path.write_text(path.read_text().replace("reg:squarederror", "survival:secret"))
    teacher_error = pytest.raises(TeacherError, match=r"survival:secret|cannot read it")
    with teacher_error:
        prunus.compile(path)


CHANGES = {
    "a threshold by one ulp": lambda e: replace(e, threshold=np.nextafter(e.threshold, np.float32(np.inf))),
    "one threshold by one ulp": lambda e: replace(
        e, threshold=np.where(np.arange(e.n_nodes) == 5, np.nextafter(e.threshold, np.float32(-9e9)), e.threshold)
    ),
    "missing values to the other side": lambda e: replace(e, missing=e.missing ^ 4),
    "two leaves exchanged": lambda e: replace(e, left=e.right, right=e.left),
    "another feature": lambda e: replace(e, feature=(e.feature + 1) % e.n_features),
    "a leaf's value": lambda e: replace(e, value=e.value + 1e-3 * (np.arange(e.n_leaves) == 3)),
    "the base": lambda e: replace(e, base=e.base + 1e-3),
}


@pytest.mark.parametrize("library", ["lightgbm", "xgboost", "catboost"])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_the_proof_finds_what_is_wrong(library: str, change: Any, tmp_path: Path) -> None:
    """Each small mistake that a translation could make is found by the generated rows, and nothing comes out."""
    teacher = load_trees(write(tmp_path, library))
    right = compile_trees(teacher)
    prove_leaves(right, teacher)
    wrong = RankScorer(change(right.model), right.schema)
    with pytest.raises(ParityError, match=r"generated row \d+ (reaches leaf|scores)"):
        prove_leaves(wrong, teacher)


def test_the_proof_is_of_trees(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """A scorer of a network is refused."""
    network = prunus.load(request.getfixturevalue("model"))
    with pytest.raises(NetworkError, match="expected one of an ensemble"):
        prove_leaves(network, load_trees(write(tmp_path, "lightgbm")))


def test_hard_rows_sit_on_and_beside_every_cut(tmp_path: Path) -> None:
    """Every threshold, both its neighbours, NaN and zeros of every size, and every code, stand in some row."""
    ensemble = load_trees(write(tmp_path, "lightgbm categorical")).ensemble()
    X = hard_rows(ensemble)
    assert X.shape == (1000, N_FEATURES)
    assert X.dtype == np.float32
    np.testing.assert_array_equal(X, hard_rows(ensemble))
    for feature in range(N_FEATURES):
        column = X[:, feature]
        assert np.isnan(column).any()
        nodes = ensemble.feature == feature
        cuts = ensemble.threshold[nodes & (ensemble.category < 0)]
        for side in (-np.inf, np.inf):
            assert np.isin(np.nextafter(cuts, np.float32(side)), column).all()
        assert np.isin(cuts, column).all()
        if feature != CATEGORICAL:
            assert np.isin(np.float32([0, 1e-35, np.inf, -np.inf]), column).all()
    codes = ensemble.set_code
    assert np.isin(codes.astype(np.float32), X[:, CATEGORICAL]).all()
    assert not np.isinf(hard_rows(ensemble, infinities=False)).any()
    assert len(hard_rows(stump(0), least=7, most=7)) == 7
    assert np.isin([0, 3, 4], hard_rows(trees())[:, 0]).all()


# ---- labels in bulk


@pytest.mark.parametrize("name", ["lightgbm categorical", "xgboost dart", "catboost lossguide"])
def test_labels_of_the_engine_are_the_librarys(name: str, tmp_path: Path) -> None:
    """An exact teacher is its teacher, within the tolerance, for any number of threads; pickled too."""
    teacher = load_trees(write(tmp_path, name))
    exact = ExactTeacher(teacher)
    X = rows(3000, seed=9)
    expected = teacher.score(X)
    found = exact.score(X)
    assert found.dtype == np.float64
    assert (np.abs(found - expected) <= TOLERANCE * np.maximum(1, np.abs(expected))).all()
    np.testing.assert_array_equal(exact.score(X, n_threads=3), found)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(exact)).score(X), found)  # noqa: S301 - our own bytes
    assert (exact.name, exact.path, exact.nbytes) == (teacher.name, teacher.path, teacher.nbytes)
    assert exact.parity.leaves == exact.parity.rows * teacher.n_trees
    np.testing.assert_array_equal(exact.leaves(X), teacher.leaves(X))
    with pytest.raises(SchemaError, match="expected"):
        exact.score(X[:, :2])
    X[4, 0] = np.inf
    if teacher.library == "XGBoost":
        with pytest.raises(InfiniteValueError, match="at row 4"):
            exact.score(X)
    else:
        np.testing.assert_allclose(exact.score(X), teacher.score(X), rtol=2e-5, atol=2e-5)


def test_a_teacher_that_cannot_be_exact_stays_in_its_library(tmp_path: Path) -> None:
    """Linear leaves are refused by name."""
    (tmp_path / "m.txt").write_bytes(lightgbm_model(3, linear_tree=True).data)
    linear = load_trees(tmp_path / "m.txt")
    with pytest.raises(TeacherError, match="linear models"):
        ExactTeacher(linear)
    assert fastest(linear, 10 * REPAID) is linear


def test_labels_are_made_by_our_engine_where_they_are_many(tmp_path: Path) -> None:
    """A few documents do not repay the proof."""
    teacher = load_trees(write(tmp_path, "lightgbm"))
    assert fastest(teacher, REPAID - 1) is teacher
    assert isinstance(fastest(teacher, REPAID), ExactTeacher)


# ---- the command


def test_compile_writes_says_and_proves(tmp_path: Path) -> None:
    """The verb writes the model, says what was proved and how fast it is, and what to do next; --json has all of it."""
    path, out = write(tmp_path, "lightgbm"), tmp_path / "m.prunus"
    said = run("compile", path, "-o", out)
    assert said.code == 0, said.err
    assert "reach the same leaf of every tree as in LightGBM" in said.out
    assert f"next: prunus score {out} DATA" in said.out
    values = run("compile", path, "-o", out, "--trees", "2", "--json").json()
    assert (values["trees"], values["bytes"]) == (2, out.stat().st_size)
    assert set(values["us_per_doc"]) == {"1", "20", "128", "1000"}
    assert all(value > 0 for value in values["us_per_doc"].values())
    assert values["parity"]["leaves"] == 2 * values["parity"]["rows"]
    assert values["files"] == {"model": str(out), "source": str(path)}


def test_compile_refuses_in_one_line_and_writes_nothing(tmp_path: Path) -> None:
    """A model that cannot be exact, one that is no model, and the source itself as the output."""
    path, out = tmp_path / "m.txt", tmp_path / "m.prunus"
    path.write_bytes(lightgbm_model(3, linear_tree=True).data)
    assert "linear models" in run("compile", path, "-o", out).refused()
    path.write_text("hello")
    assert "expected a LightGBM" in run("compile", path, "-o", out).refused()
    assert not out.exists()
    source = write(tmp_path, "xgboost")
    before = source.read_bytes()
    assert "expected another name" in run("compile", source, "-o", source).refused()
    assert source.read_bytes() == before


def test_the_other_verbs_take_trees(tmp_path: Path, world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Score, inspect, evaluate (with and without its teacher) and bench work on a file of trees."""
    monkeypatch.setenv("PRUNUS_CACHE", str(tmp_path))
    monkeypatch.setattr("prunus.bench.run.ROUNDS", 1)
    out = tmp_path / "m.prunus"
    assert run("compile", world["teacher.txt"], "-o", out).code == 0
    teacher = load_trees(world["teacher.txt"])
    scores = np.array([float(x) for x in run("score", out, world["test.parquet"]).out.split()])
    np.testing.assert_allclose(scores, teacher.score_data(world.test), rtol=2e-5, atol=2e-5)
    found = run("inspect", out, "--json").json()
    assert found["trees"]["trees"] == teacher.n_trees
    assert found["trees"]["leaves"] == int(teacher.ensemble().n_leaves)
    assert sum(found["trees"]["missing"].values()) == found["trees"]["numeric_splits"]
    assert (found["layers"], found["nonzeros"]) == (None, None)
    assert found["features"]["used"] == [teacher.feature_names[f] for f in teacher.features_used]
    assert f"{teacher.n_trees} exact trees of" in run("inspect", out).out
    alone = run("evaluate", out, world["test.parquet"], "--user", "user").out
    assert "exact trees: LightGBM" in alone
    against = run("evaluate", out, world["test.parquet"], "--against", world["teacher.txt"], "--json").json()
    assert against["verdict"]["outcome"] == "non_inferior"
    assert against["verdict"]["difference"] == pytest.approx(0, abs=1e-6)
    assert [row["role"] for row in against["rows"]] == ["teacher", "trees"]
    words = [
        "--against",
        "lightgbm",
        "--teacher",
        world["teacher.txt"],
        "--seconds",
        "0.2",
        "--batches",
        "1,20",
        "--json",
    ]
    for more in ([], ["--data", world["test.parquet"]]):
        rows_of = run("bench", out, *words, *more).json()["rows"]
        assert {"prunus", "lightgbm"} <= {row["engine"] for row in rows_of}
        assert not any(row.get("wrong") for row in rows_of)
