"""LambdaMART: trained to our nDCG@10, repeatable, and refusing what LightGBM would stumble over."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from prunus.data.ranking import RankingData
from prunus.errors import EmptyDataError, SchemaError, TeacherError
from prunus.metrics import ndcg
from prunus.teacher.lambdamart import DEFAULTS, OWN, train_lambdamart
from prunus.teacher.trees import load_trees

SMALL = {"num_leaves": 8, "min_data_in_leaf": 5, "num_threads": 1}


def queries(n_queries: int, seed: int, names: tuple[str, ...] = ("a", "b", "c", "d"), top: int = 4) -> RankingData:
    """Make queries of 2 to 15 documents whose grade depends on two features and noise; some have no relevant one."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 16, n_queries)
    X = rng.normal(size=(sizes.sum(), 4)).astype(np.float32)
    signal = X[:, 0] * (X[:, 1] > 0) + X[:, 2] + rng.normal(size=len(X)) - 1
    y = np.clip(np.ceil(signal * 2), 0, top).astype(np.float32)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    y[: offsets[3]] = 0
    return RankingData(X=X, y=y, offsets=offsets, feature_names=names, source=f"queries {seed}")


TRAIN, VALID = queries(80, 0), queries(60, 1)


def test_stops_at_the_best_validation_ndcg():
    """The trees kept are those up to the best nDCG@10 of our convention, which the progress call reports."""
    seen: list[tuple[int, float]] = []
    teacher = train_lambdamart(
        TRAIN, VALID, params=SMALL, n_trees=60, patience=8, progress=lambda trees, value: seen.append((trees, value))
    )
    values = [value for _, value in seen]
    best = int(np.argmax(values)) + 1
    assert [trees for trees, _ in seen] == list(range(1, len(seen) + 1))
    assert teacher.n_trees == best
    assert len(seen) == min(best + 8, 60)
    for n in {1, best}:
        part = teacher.smaller(n)
        assert ndcg(VALID.y, part.score(VALID.X), VALID.offsets, k=10).mean == pytest.approx(values[n - 1], abs=1e-12)
    assert ndcg(VALID.y, np.zeros(VALID.n_docs), VALID.offsets).n_empty >= 3
    assert teacher.feature_names == TRAIN.feature_names


def test_n_trees_is_the_limit():
    """No more trees than asked for, however good they are."""
    assert train_lambdamart(TRAIN, VALID, params=SMALL, n_trees=2, patience=50).n_trees <= 2


def test_the_seed_repeats(tmp_path):
    """The same seed gives the same file for one thread and two; another seed gives another."""
    files = []
    for run, (seed, threads) in enumerate([(1, 1), (1, 2), (2, 1)]):
        params = {**SMALL, "num_threads": threads}
        teacher = train_lambdamart(TRAIN, VALID, params=params, n_trees=12, patience=12, seed=seed)
        teacher.save(tmp_path / f"{run}.txt")
        files.append((tmp_path / f"{run}.txt").read_text(encoding="utf-8").partition("\nend of trees")[0])
    assert files[0] == files[1]
    assert files[0] != files[2]


def test_saved_teacher_is_the_teacher(tmp_path):
    """What is saved loads with the same scores."""
    teacher = train_lambdamart(TRAIN, VALID, params=SMALL, n_trees=5)
    assert teacher.path is None
    teacher.save(tmp_path / "teacher.txt")
    assert teacher.path == tmp_path / "teacher.txt"
    again = load_trees(tmp_path / "teacher.txt")
    assert again.nbytes == teacher.nbytes == (tmp_path / "teacher.txt").stat().st_size
    np.testing.assert_array_equal(again.score(VALID.X), teacher.score(VALID.X))


def test_defaults_are_used_and_replaced_under_any_name():
    """A parameter given under an alias replaces the default, which LightGBM alone would not let it do."""
    whole = train_lambdamart(TRAIN, VALID, params={**SMALL, "eta": 0.5, "max_leaf_nodes": 3}, n_trees=3)
    assert whole.n_leaves == 3
    slow = train_lambdamart(TRAIN, VALID, params={**SMALL, "num_leaves": 3, "learning_rate": 0.005}, n_trees=1)
    fast = train_lambdamart(TRAIN, VALID, params={**SMALL, "num_leaves": 3, "shrinkage_rate": 0.5}, n_trees=1)
    np.testing.assert_allclose(fast.score(VALID.X), 100 * slow.score(VALID.X), rtol=1e-6)
    assert DEFAULTS["num_leaves"] == 64


@pytest.mark.parametrize("top", [1, 30, 31])
def test_labels_up_to_31(top):
    """Gains reach up to the largest label that data may hold."""
    train, valid = queries(40, 2, top=4), queries(30, 3, top=4)
    train, valid = (dataclasses.replace(data, y=np.where(data.y == 4, top, data.y > 0)) for data in (train, valid))
    teacher = train_lambdamart(train, valid, params=SMALL, n_trees=5)
    assert ndcg(valid.y, teacher.score(valid.X), valid.offsets).mean > ndcg(valid.y, valid.X[:, 3], valid.offsets).mean


@pytest.mark.parametrize("name", ["has blank", 'quo"te', "a:b", "[x]", "a,b"])
def test_names_that_lightgbm_cannot_keep(name):
    """Feature names that LightGBM refuses or changes are left out, and features go by position."""
    names = (name, "b", "c", "d")
    train, valid = (dataclasses.replace(data, feature_names=names) for data in (TRAIN, VALID))
    teacher = train_lambdamart(train, valid, params=SMALL, n_trees=3)
    assert teacher.names_are_default
    np.testing.assert_array_equal(teacher.score_data(valid), teacher.score(valid.X))


def test_missing_values_are_learned_from():
    """NaN in the features is no error in training or scoring."""
    X = TRAIN.X.copy()
    X[::3, 0] = np.nan
    teacher = train_lambdamart(dataclasses.replace(TRAIN, X=X), VALID, params=SMALL, n_trees=5)
    assert np.isfinite(teacher.score(X)).all()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"num_leafs": 3}, "'num_leafs', which is no LightGBM parameter"),
        ({"objective": "no_such"}, "LightGBM cannot train"),
        ({"num_leaves": -5}, "LightGBM cannot train"),
        ({"n_estimators": 10}, "use n_trees"),
        ({"boosting_type": "dart"}, "rescales earlier trees"),
        ({"random_state": 10}, "use seed"),
        ({"early_stopping_rounds": 10}, "use patience"),
        *(({name: 1}, "which is set here") for name in OWN),
    ],
)
def test_parameters_that_are_refused(params, message):
    """A parameter that LightGBM does not know, or that is set here, is a named error."""
    with pytest.raises(TeacherError, match=message):
        train_lambdamart(TRAIN, VALID, params={**SMALL, **params}, n_trees=2)


@pytest.mark.parametrize(("n_trees", "patience"), [(0, 5), (5, 0)])
def test_counts_that_are_refused(n_trees, patience):
    """At least one tree, and a patience of at least one."""
    with pytest.raises(TeacherError, match="expected both 1 or more"):
        train_lambdamart(TRAIN, VALID, n_trees=n_trees, patience=patience)


def test_data_that_are_refused():
    """Labels between grades, other features, queries too long and validation without relevant documents are named."""
    half = dataclasses.replace(TRAIN, y=TRAIN.y / 2)
    with pytest.raises(TeacherError, match="expects whole numbers"):
        train_lambdamart(half, VALID, n_trees=2)
    with pytest.raises(SchemaError, match="same names in the same order"):
        train_lambdamart(TRAIN, queries(10, 4, names=("b", "a", "c", "d")), n_trees=2)
    n = 10_001
    rng = np.random.default_rng(0)
    long = RankingData(
        X=rng.normal(size=(n, 4)).astype(np.float32),
        y=np.ones(n, np.float32),
        offsets=np.array([0, n]),
        feature_names=TRAIN.feature_names,
    )
    with pytest.raises(TeacherError, match=r"10001 documents.*at most 10000"):
        train_lambdamart(long, VALID, n_trees=2)
    with pytest.raises(EmptyDataError, match="relevant"):
        train_lambdamart(TRAIN, dataclasses.replace(VALID, y=np.zeros_like(VALID.y)), n_trees=2)


def test_training_keeps_quiet(capfd):
    """LightGBM prints nothing while it trains, since stdout is for data."""
    capfd.readouterr()
    train_lambdamart(TRAIN, VALID, params={**SMALL, "min_data_in_leaf": 500}, n_trees=3)
    assert capfd.readouterr() == ("", "")


def test_an_interrupt_goes_through():
    """Ctrl-C while training is passed on at the next tree."""

    def interrupt(trees: int, _value: float) -> None:
        if trees == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_lambdamart(TRAIN, VALID, params=SMALL, n_trees=10, progress=interrupt)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_on_real_data(data_dir):
    """On the news clicks, the teacher of the project's reference figures comes out: about 161 trees, test nDCG about .562."""
    parquet = pytest.importorskip("pyarrow.parquet")
    folder = data_dir / "globo_ltr"
    if not folder.is_dir():
        pytest.skip("no globo_ltr in the folder of real data")
    other = {"qid", "label", "timestamp_ms", "user_id", "article_id", "last_article_id", "environment", "device_group"}
    other |= {"os", "country", "region", "referrer_type"}
    parts = {}
    for part in ("train", "valid", "test"):
        table = parquet.read_table(folder / f"{part}.parquet")
        names = tuple(name for name in table.column_names if name not in other)
        _, starts = np.unique(table["qid"].to_numpy(), return_index=True)
        parts[part] = RankingData(
            X=np.stack([table[name].to_numpy() for name in names], axis=1).astype(np.float32),
            y=table["label"].to_numpy().astype(np.float32),
            offsets=np.append(np.sort(starts), table.num_rows),
            feature_names=names,
            source=part,
        )
    teacher = train_lambdamart(parts["train"], parts["valid"])
    test = parts["test"]
    assert 120 <= teacher.n_trees <= 220
    assert ndcg(test.y, teacher.score(test.X), test.offsets, k=10).mean == pytest.approx(0.5624, abs=0.004)
