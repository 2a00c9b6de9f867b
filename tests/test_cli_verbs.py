"""Each verb gives what its help says: text for people, one JSON object with the promised keys for programs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cli_tools import N_FEATURES, QUICK, World, files_below, run, start, write_parquet

pytest.importorskip("typer", reason="typer is not installed (extra 'cli')")
pytest.importorskip("lightgbm", reason="lightgbm is not installed (extra 'train')")

pytest_plugins = ("cli_fixtures",)

VERBS = (
    "demo",
    "rank teach",
    "rank compress",
    "rank calibrate",
    "rank design",
    "recommend compress",
    "recommend evaluate",
    "stream run",
    "stream rollback",
    "score",
    "evaluate",
    "bench",
    "compile",
    "inspect",
    "info",
)
BATCHES = {"20", "128", "1000"}


@pytest.fixture(autouse=True)
def _few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time one round only: no test looks at how long anything takes."""
    monkeypatch.setattr("prunus.bench.run.ROUNDS", 1)


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_an_example_and_json(verb: str) -> None:
    """Each verb's help shows how it is called, word for word, and offers --json."""
    for flag in ("--help", "-h"):
        done = run(*verb.split(), flag)
        assert done.code == 0
        assert f"  prunus {verb}" in done.out
        assert "--json" in done.out


def test_the_table_of_verbs_is_whole() -> None:
    """No verb is missing in the table that these tests run over."""
    import typer

    from prunus.cli.app import app

    top = typer.main.get_command(app)
    groups = {"rank", "recommend", "stream"}
    found = set(top.commands) - groups
    found |= {f"{group} {name}" for group in groups for name in top.commands[group].commands}
    assert found == set(VERBS)


def test_info_names_machine_and_extras() -> None:
    """Info tells version, instruction sets and what is installed."""
    from prunus import __version__

    values = run("info", "--json").json()
    assert values["version"] == __version__
    assert values["isa"] in values["isas"]
    assert values["extras"]["cli"] == {"installed": True, "missing": []}
    text = run("info")
    assert __version__ in text.out
    assert values["isa"] in text.out


def test_version() -> None:
    """The version is one line."""
    from prunus import __version__

    assert run("--version").out == f"prunus {__version__}\n"


def test_info_names_what_a_missing_extra_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """An extra that is not whole is shown with what to install."""
    from prunus.cli import info

    monkeypatch.setitem(info.EXTRAS, "train", ("torch", "no_such_module"))
    assert run("info", "--json").json()["extras"]["train"] == {"installed": False, "missing": ["no_such_module"]}
    assert "pip install 'prunus[train]'" in run("info").out


@pytest.mark.parametrize(
    "code", ["import prunus.cli", "from prunus.cli.app import app", "from prunus.cli import info; info.collect()"]
)
def test_quick_verbs_import_nothing_heavy(code: str) -> None:
    """Help and info load neither torch nor any reader or trainer."""
    heavy = "{'torch', 'lightgbm', 'pyarrow', 'polars', 'pandas', 'sklearn', 'scipy', 'pydantic', 'matplotlib'}"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(sorted({heavy} & set(sys.modules)))"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"


def test_without_typer_the_extra_is_named(tmp_path: Path) -> None:
    """Where typer is not installed, the command names the extra and exits with 2."""
    code = "import sys; sys.modules['typer'] = None; from prunus.cli import main; main()"
    (tmp_path / "sitecustomize.py").write_text("")
    done = subprocess.run([sys.executable, "-c", code, "info"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pip install 'prunus[cli]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.usefixtures("cache")
def test_design_predicts_times(world: World) -> None:
    """Each proposed student has a predicted time at each batch size; a larger budget's students take longer.

    How near predictions are to a budget is not asked here: a second of calibration, beside other tests, is too noisy for that.
    """
    from prunus.compress.proposals import kinds_at
    from prunus.design import PRUNED, Budget

    files = ("--train", world["train.parquet"], "--teacher", world["teacher.txt"])
    args = ("rank", "design", *files, "--budget", "0.1us")
    values = run(*args, "--json").json()
    kinds = [row["kind"] for row in values["architectures"]]
    assert len(kinds) == len(set(kinds)) == 2
    assert kinds == [kind for kind in kinds_at(Budget(0.1)) if kind in kinds]
    for row in values["architectures"]:
        assert set(row["us_per_doc"]) == BATCHES
        assert row["us_per_doc"]["128"] > 0
    text = run(*args)
    assert values["architectures"][0]["name"] in text.out
    generous = run("rank", "design", *files, "--budget", "50us", "--json").json()
    assert not {row["kind"] for row in generous["architectures"]} & set(PRUNED), "nothing is pruned for such a budget"
    slowest = max(row["us_per_doc"]["128"] for row in values["architectures"])
    assert slowest < min(row["us_per_doc"]["128"] for row in generous["architectures"])


def test_teach_trains_once(world: World, tmp_path: Path) -> None:
    """Run again, the teacher is kept; with other settings, the file is not touched."""
    out = tmp_path / "t.txt"
    args = [
        "rank",
        "teach",
        "--train",
        world["train.parquet"],
        "--valid",
        world["valid.parquet"],
        "--ignore",
        "user,part",
    ]
    args += ["--param", "num_leaves=8", "--param", "num_threads=1", "--trees", "5", "-o", str(out)]
    first = run(*args, "--test", world["test.parquet"], "--json").json()
    assert 0 < first["valid"]["ndcg@10"] <= 1
    assert 0 < first["test"]["ndcg@10"] <= 1
    assert first["trees"] <= 5
    before = out.read_bytes(), out.stat().st_mtime_ns
    again = run(*args)
    assert "kept" in again.err
    assert str(out) in again.out
    assert "not made by these data and options" in run(*args, "--seed", "9").refused()
    assert (out.read_bytes(), out.stat().st_mtime_ns) == before


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".parquet"])
def test_score_writes_each_form(world: World, model: Path, tmp_path: Path, suffix: str) -> None:
    """The scores in a file are those of the library, in the order of the data."""
    import prunus

    out = tmp_path / f"scores{suffix}"
    done = run("score", model, world["test.parquet"], "-o", out, "--json").json()
    assert done == {"documents": world.test.n_docs, "files": {"model": str(model), "scores": str(out)}}
    if suffix == ".txt":
        found = np.loadtxt(out, dtype=np.float32)
    else:
        import pyarrow.csv
        import pyarrow.parquet

        table = pyarrow.csv.read_csv(out) if suffix == ".csv" else pyarrow.parquet.read_table(out)
        assert table.column_names == ["qid", "score"]
        np.testing.assert_array_equal(table["qid"].to_numpy(), world.test.query_of_doc)
        found = table["score"].to_numpy().astype(np.float32)
    np.testing.assert_array_equal(found, prunus.load(model).score(world.test.X))


def test_score_on_stdout_is_one_a_line(world: World, model: Path) -> None:
    """Without -o the scores, and nothing else, are on stdout; --json holds the same."""
    lines = run("score", model, world["test.parquet"]).out.splitlines()
    values = run("score", model, world["test.parquet"], "--json").json()
    assert [float(line) for line in lines] == pytest.approx(values["scores"], rel=1e-6)
    assert len(lines) == world.test.n_docs


def test_score_needs_only_what_the_model_reads(world: World, model: Path, tmp_path: Path) -> None:
    """Columns that the model does not read, and labels, may be absent."""
    import pyarrow.parquet as pq

    table = pq.read_table(world["test.parquet"])
    unread = list(world.test.feature_names[-2:])
    pq.write_table(table.drop_columns([*unread, "label", "user", "part"]), tmp_path / "narrow.parquet")
    assert run("score", model, tmp_path / "narrow.parquet").out == run("score", model, world["test.parquet"]).out


def test_score_takes_globs_and_conditions(world: World, model: Path, tmp_path: Path) -> None:
    """Several files are read one after the other, and --where chooses rows."""
    half = world.test.n_queries // 2
    for name, queries in (("a", np.arange(half)), ("b", np.arange(half, world.test.n_queries))):
        write_parquet(tmp_path / f"{name}.parquet", world.test.take_queries(queries))
    whole = run("score", model, world["test.parquet"]).out
    assert run("score", model, tmp_path / "*.parquet").out == whole
    assert run("score", model, tmp_path / "a.parquet", tmp_path / "b.parquet").out == whole
    kept = int(np.count_nonzero(world.test.query_of_doc % 5 <= 1))
    assert len(run("score", model, world["test.parquet"], "--where", "part<=1").out.splitlines()) == kept


@pytest.mark.usefixtures("cache")
def test_evaluate_alone(world: World, model: Path) -> None:
    """The quality is that of the library, and its convention stands beside it."""
    import prunus
    from prunus.metrics import ndcg

    values = run("evaluate", model, world["test.parquet"], "--json").json()
    expected = ndcg(world.test.y, prunus.load(model).score(world.test.X), world.test.offsets, k=10)
    assert values["student"]["ndcg@10"] == pytest.approx(expected.mean)
    assert values["convention"] == str(expected)
    assert set(values["student"]["us_per_doc"]) == BATCHES
    assert values["student"]["bytes"] == model.stat().st_size
    assert values["student"]["features_used"] == N_FEATURES - 2


def test_evaluate_against_a_teacher(world: World, model: Path) -> None:
    """The verdict is that of the library; teacher and student carry the promised figures."""
    import prunus
    from prunus.metrics import ndcg
    from prunus.teacher.trees import load_trees
    from prunus.verdict import compare

    args = ("evaluate", model, world["test.parquet"], "--against", world["teacher.txt"], "--user", "user")
    values = run(*args, "--json").json()
    for side in ("teacher", "student"):
        assert {"ndcg@10", "us_per_doc", "bytes"} <= set(values[side])
        assert set(values[side]["us_per_doc"]) == BATCHES
    assert {"nonzeros", "features_used"} <= set(values["student"])
    assert set(values["files"]) == {"model", "report"}
    test = world.test
    quality = [
        ndcg(test.y, scores, test.offsets, k=10)
        for scores in (load_trees(world["teacher.txt"]).score(test.X), prunus.load(model).score(test.X))
    ]
    assert values["verdict"] == compare(*quality, clusters=test.users).to_json()
    assert {"outcome", "non_inferior", "difference", "lower", "margin", "queries"} <= set(values["verdict"])


def test_evaluate_prints_a_table(world: World, model: Path) -> None:
    """The text names the convention, both models and the outcome in a sentence."""
    text = run("evaluate", model, world["test.parquet"], "--against", world["teacher.txt"]).out
    for expected in ("nDCG(dcg='exp-log2', empty='skip')@10", "teacher: ", "student: ", "us/doc @1000", "The "):
        assert expected in text


def test_bench_has_quality_beside_time(world: World, model: Path, tmp_path: Path) -> None:
    """Every row has a time and, with data, the quality of the same model; everything measured is kept."""
    out = tmp_path / "bench.json"
    args = ["bench", model, "--against", "lightgbm", "--teacher", world["teacher.txt"], "--data", world["test.parquet"]]
    args += ["--seconds", "0.3", "--batches", "1,20"]
    values = run(*args, "-o", out, "--json").json()
    assert {(row["engine"], row["batch"]) for row in values["rows"]} == {
        (engine, batch) for engine in ("prunus", "lightgbm") for batch in (1, 20)
    }
    for row in values["rows"]:
        assert {"us_per_doc", "p99_us_per_doc", "ratio"} <= set(row)
        assert 0 < row["ndcg@10"] <= 1
    assert json.loads(out.read_text())["raw"]["prunus"]["20"]


def test_bench_alone_generates_rows(model: Path) -> None:
    """Without data the rows are generated, and the text says that no quality stands beside the times."""
    done = run("bench", model, "--seconds", "0.2", "--batches", "20")
    assert done.code == 0, done.err
    assert "no quality" in done.err
    assert "prunus" in done.out


def test_bench_runs_a_file_of_trees(world: World, tmp_path: Path) -> None:
    """An ensemble in our engine is timed beside its own library, on generated rows and on data, and scores the same."""
    from prunus.data.ranking import Schema
    from prunus.engine.file import save
    from prunus.teacher.trees import load_trees

    trees = load_trees(world["teacher.txt"])
    path = tmp_path / "trees.prunus"
    save(path, trees.ensemble(), Schema(trees.feature_names, (True,) * trees.n_features), metadata={})
    args = ["bench", path, "--against", "lightgbm,prunus-trees", "--teacher", world["teacher.txt"]]
    args += ["--seconds", "0.3", "--batches", "1,20", "--json"]
    for more in ([], ["--data", world["test.parquet"]]):
        values = run(*args, *more).json()
        assert values["unavailable"] == {}
        assert [row["engine"] for row in values["rows"]] == ["prunus", "lightgbm", "prunus-trees"] * 2
        assert all(row["max_difference"] < 1e-4 for row in values["rows"])
        assert not any("wrong" in row for row in values["rows"])
    assert len({row["ndcg@10"] for row in values["rows"]}) == 1


def test_bench_says_that_trees_are_no_network(world: World, tmp_path: Path) -> None:
    """A rival that runs networks cannot run a file of trees: it is named with the reason."""
    pytest.importorskip("torch")
    from prunus.data.ranking import Schema
    from prunus.engine.file import save
    from prunus.teacher.trees import load_trees

    trees = load_trees(world["teacher.txt"])
    path = tmp_path / "trees.prunus"
    save(path, trees.ensemble(), Schema(trees.feature_names, (True,) * trees.n_features), metadata={})
    values = run("bench", path, "--against", "torch", "--seconds", "0.1", "--batches", "20", "--json").json()
    assert "holds an ensemble of trees; expected a network" in values["unavailable"]["torch"]


def test_inspect_shows_what_a_file_holds(world: World, model: Path) -> None:
    """Layers, features that are read and not, provenance and the outcome of the checks."""
    values = run("inspect", model, "--json").json()
    assert values["kind"] == "ranker"
    assert values["features"]["unused"] == list(world.test.feature_names[-2:])
    assert len(values["features"]["used"]) == N_FEATURES - 2
    assert [layer["kernel"] for layer in values["layers"]] == ["dense f32", "sparse f32"]
    assert values["provenance"] == {"made_by": "the tests"}
    assert values["check"]["agrees"] is True
    text = run("inspect", model).out
    assert f"does not read: {', '.join(world.test.feature_names[-2:])}" in text


@pytest.mark.long
@pytest.mark.usefixtures("short_jobs")
def test_compress_gives_what_it_promises(world: World, tmp_path: Path) -> None:
    """One call writes model, result and report, prints the promised keys, and run again gives the same model."""
    out = tmp_path / "out"
    args = ["rank", "compress", world["teacher.txt"], *world.parts(), "--budget", "12KB", *QUICK, "-o", out]
    values = run(*args, "--json").json()
    for side in ("teacher", "student"):
        assert {"ndcg@10", "us_per_doc", "bytes"} <= set(values[side])
        assert set(values[side]["us_per_doc"]) == BATCHES
    assert {"nonzeros", "features_used"} <= set(values["student"])
    assert {"outcome", "non_inferior", "difference", "lower", "margin", "queries"} <= set(values["verdict"])
    assert values["files"] == {"model": str(out / "ranker.prunus"), "report": str(out / "report.html")}
    assert json.loads((out / "result.json").read_text())["verdict"] == values["verdict"]
    assert "<html" in (out / "report.html").read_text()
    model = (out / "ranker.prunus").read_bytes()
    again = run(*args)
    assert again.code == 0, again.err
    assert (out / "ranker.prunus").read_bytes() == model
    for expected in ("teacher: ", "student: ", "us/doc @128", str(out / "report.html")):
        assert expected in again.out
    other = run(*args, "--seed", "5").refused()
    assert "seed" in other
    assert (out / "ranker.prunus").read_bytes() == model


def test_broken_pipe_is_quiet(world: World, model: Path) -> None:
    """A reader that goes away ends the command without a word."""
    process = start("score", model, *[world["test.parquet"]] * 300)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) == 141
    assert err == ""


def test_files_below(tmp_path: Path) -> None:
    """The helper that lists what was written sees folders below."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_text("")
    assert files_below(tmp_path) == ["a/b"]
