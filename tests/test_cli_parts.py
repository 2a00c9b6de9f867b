"""Training, validation and test data come out of the options as they say, whatever file they stand in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cli_tools import QUICK, World, frame_of, run, write_parquet

pytest.importorskip("typer", reason="typer is not installed (extra 'cli')")
pytest.importorskip("lightgbm", reason="lightgbm is not installed (extra 'train')")

pytest_plugins = ("cli_fixtures",)


@pytest.fixture(autouse=True)
def _few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time one round only: no test looks at how long anything takes."""
    monkeypatch.setattr("prunus.bench.run.ROUNDS", 1)


def test_conditions_split_one_file(world: World) -> None:
    """Rows of each part are chosen by its own condition and by the common one, and the halves of a split share nothing."""
    from prunus.cli.parts import Files, read_parts
    from prunus.data.select import Columns

    columns = Columns(ignore=("user", "part"), where="qid>=10")
    file = (world["test.parquet"],)
    parts = read_parts(Files(file, "part<=2"), Files((), "part==3"), Files(()), columns, split_valid=0.5, seed=1)
    asked = {"train": (0, 1, 2), "valid": (3,), "test": (3,)}
    ids = {name: set(getattr(parts, name).query_ids.tolist()) for name in asked}
    for name, wanted in asked.items():
        assert {qid % 5 for qid in ids[name]} == set(wanted)
        assert min(ids[name]) >= 10
    assert not ids["valid"] & ids["test"]
    assert ids["valid"] | ids["test"] == {qid for qid in range(10, 60) if qid % 5 == 3}


def test_a_condition_with_or_stays_whole(world: World) -> None:
    """Two conditions are joined as wholes: ``or`` in one does not leak out of it."""
    from prunus.cli.parts import Files, read
    from prunus.data.select import Columns

    data = read(Files((world["test.parquet"],), "part==1 or part==2"), Columns(where="qid<20"))
    assert data.query_ids is not None
    assert data.query_ids.tolist() == [qid for qid in range(20) if qid % 5 in {1, 2}]


def test_columns_follow_the_teacher(world: World, tmp_path: Path) -> None:
    """Data with the teacher's columns in another order, and others between them, are brought into its order."""
    import pyarrow.parquet as pq

    from prunus.cli.parts import Files, read_for
    from prunus.data.select import Columns
    from prunus.teacher.trees import load_trees

    table = frame_of(world.test)
    pq.write_table(table.select(table.column_names[::-1]), tmp_path / "d.parquet")
    teacher = load_trees(world["teacher.txt"])
    data = read_for(teacher, Files((str(tmp_path / "d.parquet"),)), Columns())
    assert data.feature_names == teacher.feature_names
    np.testing.assert_array_equal(data.X, world.test.X)


def test_a_teacher_without_names_goes_by_position(world: World, tmp_path: Path) -> None:
    """A teacher whose library made the names up takes the chosen columns in their order."""
    import lightgbm

    from prunus.cli.parts import Files, read_for
    from prunus.data.select import Columns
    from prunus.teacher.trees import load_trees

    settings = {"objective": "regression", "verbose": -1, "num_threads": 1}
    lightgbm.train(settings, lightgbm.Dataset(world.test.X, world.test.y), 2).save_model(tmp_path / "t.txt")
    teacher = load_trees(tmp_path / "t.txt")
    data = read_for(teacher, Files((world["test.parquet"],)), Columns(ignore=("user", "part")))
    assert data.feature_names == world.test.feature_names
    np.testing.assert_array_equal(teacher.score_data(data), teacher.score(world.test.X))


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("short_jobs")
def test_compress_from_one_file(world: World, tmp_path: Path) -> None:
    """One file, split by conditions and by query, is enough for the whole job."""
    args = ["rank", "compress", world["teacher.txt"], "--train", world["test.parquet"], "--train-where", "part<=2"]
    args += ["--valid-where", "part>=3", "--split-valid", "0.5", "--user", "user", "--budget", "12KB", *QUICK]
    data = run(*args, "-o", tmp_path / "out", "--json").json()["data"]
    assert data["train"]["queries"] == 36
    assert data["valid"]["queries"] == data["test"]["queries"] == 12


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("short_jobs")
def test_compress_a_column_of_scores(world: World, tmp_path: Path) -> None:
    """A column of scores stands in for the teacher; without a model there is no forest to time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from prunus.data.synthetic import generate_ranking
    from prunus.design import KERNELS
    from prunus.teacher.trees import load_trees

    teacher = load_trees(world["teacher.txt"])
    words = []
    for seed, part in enumerate(("train", "valid", "test")):
        data = generate_ranking(40, seed, n_features=teacher.n_features, docs_per_query=(5, 15))
        table = frame_of(data).append_column("theirs", pa.array(teacher.score(data.X)))
        pq.write_table(table, tmp_path / f"{part}.parquet")
        words += [f"--{part}", tmp_path / f"{part}.parquet"]
    args = [
        "rank",
        "compress",
        *words,
        "--teacher-scores",
        "theirs",
        "--ignore",
        "user,part",
        "--budget",
        "12KB",
        *QUICK,
    ]
    values = run(*args, "-o", tmp_path / "out", "--json").json()
    assert "theirs" in values["teacher"]["name"]
    assert values["teacher"]["bytes"] is None
    assert 0 < values["student"]["ndcg@10"] <= 1
    assert {row["role"] for row in values["rows"]} <= {"teacher", *KERNELS}


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("short_jobs")
def test_compress_letor_text(world: World, tmp_path: Path) -> None:
    """LETOR text works from the teacher to the scores; features are matched by their numbers."""
    import gzip

    from prunus.data.synthetic import generate_ranking

    words = []
    for seed, part in enumerate(("train", "valid", "test")):
        data = generate_ranking(40, seed, n_features=12, docs_per_query=(5, 15), missing=0.0)
        lines = [
            f"{int(y)} qid:{q} " + " ".join(f"{f}:{x:.9g}" for f, x in enumerate(row, start=1))
            for y, q, row in zip(data.y, data.query_of_doc, data.X, strict=True)
        ]
        with gzip.open(tmp_path / f"{part}.txt.gz", "wt") as file:
            file.write("\n".join(lines) + "\n")
        words += [f"--{part}", tmp_path / f"{part}.txt.gz"]
    teacher, out = tmp_path / "t.txt", tmp_path / "out"
    teach = ["rank", "teach", *words, "--param", "min_data_in_leaf=5", "--param", "num_leaves=8", "--trees", "5"]
    assert run(*teach, "-o", teacher).code == 0
    done = run("rank", "compress", teacher, *words, "--budget", "12KB", *QUICK, "-o", out)
    assert done.code == 0, done.err
    scores = run("score", out / "ranker.prunus", tmp_path / "test.txt.gz")
    assert len(scores.out.splitlines()) == data.n_docs


def test_write_parquet_is_what_read_reads(world: World, tmp_path: Path) -> None:
    """The helper that writes Parquet loses nothing."""
    from prunus.data.reading import read_ranking
    from prunus.data.select import Columns

    write_parquet(tmp_path / "d.parquet", world.test)
    data = read_ranking(tmp_path / "d.parquet", Columns(ignore=("user", "part")))
    np.testing.assert_array_equal(data.X, world.test.X)
    np.testing.assert_array_equal(data.offsets, world.test.offsets)
