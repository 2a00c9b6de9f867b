"""Bad input gets one line on stderr that says what was got, what was expected and what to do; exit code 2; no files."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli_tools import QUICK, Done, World, files_below, frame_of, run, write_parquet

pytest.importorskip("typer", reason="typer is not installed (extra 'cli')")
pytest.importorskip("lightgbm", reason="lightgbm is not installed (extra 'train')")
pytest.importorskip("torch", reason="torch is not installed (extra 'train')")

pytest_plugins = ("cli_fixtures",)


def compress(world: World, out: Path, *more: object, **parts: object) -> Done:
    """Compress the world's teacher; parts given by name stand in for the world's."""
    words: list[object] = []
    for part in ("train", "valid", "test"):
        words += [f"--{part}", parts.get(part, world[f"{part}.parquet"])]
    return run("rank", "compress", world["teacher.txt"], *words, "--budget", "12KB", *QUICK, "-o", out, *more)


def changed(world: World, path: Path, change: Any) -> Path:
    """Write the test data as Parquet after a change to their table."""
    import pyarrow.parquet as pq

    pq.write_table(change(frame_of(world.test)), path)
    return path


def put(name: str, row: int, value: float) -> Any:
    """Make a change: one value of one column."""

    def change(table: Any) -> Any:
        import pyarrow as pa

        column = table[name].to_numpy().astype(np.float64).copy()
        column[row] = value
        return table.set_column(table.column_names.index(name), name, pa.array(column))

    return change


def test_feature_absent(world: World, model: Path, tmp_path: Path) -> None:
    """Data that lack a feature are refused by its name, for a model and for a teacher."""
    name = world.test.feature_names[0]
    data = changed(world, tmp_path / "d.parquet", lambda table: table.drop_columns([name]))
    assert repr(name) in run("score", model, data, "-o", tmp_path / "s.csv").refused()
    assert repr(name) in compress(world, tmp_path / "out", test=data).refused()
    assert files_below(tmp_path) == ["d.parquet"]


def test_feature_count_for_a_teacher_without_names(world: World, tmp_path: Path) -> None:
    """A teacher that carries no names goes by position, so the counts must agree; both are said."""
    import lightgbm

    settings = {"objective": "regression", "verbose": -1, "num_threads": 1}
    teacher = tmp_path / "t.txt"
    lightgbm.train(settings, lightgbm.Dataset(world.test.X, world.test.y), 2).save_model(teacher)
    args = ["rank", "compress", teacher, *world.parts(), "--budget", "12KB", "-o", tmp_path / "out"]
    message = run(*args).refused()
    for expected in ("got 14 features", "reads 12", "--ignore"):
        assert expected in message
    assert files_below(tmp_path) == ["t.txt"]


def test_nan_where_the_schema_forbids_it(world: World, model: Path, tmp_path: Path) -> None:
    """A NaN in a feature that was never missing is refused, with row and feature, and nothing is written."""
    from prunus.engine.file import load

    scorer = load(model)
    name = next(
        n for n in scorer.features_used if not scorer.schema.allow_missing[scorer.schema.feature_names.index(n)]
    )
    data = changed(world, tmp_path / "d.parquet", put(name, 7, np.nan))
    for args in (("score", model, data, "-o", tmp_path / "s.csv"), ("evaluate", model, data)):
        message = run(*args).refused()
        assert repr(name) in message
        assert "row 7" in message
    assert files_below(tmp_path) == ["d.parquet"]


def test_infinity(world: World, model: Path, tmp_path: Path) -> None:
    """An infinity is refused, with row and feature."""
    name = world.test.feature_names[2]
    data = changed(world, tmp_path / "d.parquet", put(name, 3, np.inf))
    for done in (
        run("score", model, data),
        run("evaluate", model, data),
        compress(world, tmp_path / "out", valid=data),
    ):
        message = done.refused()
        assert repr(name) in message
        assert "row 3" in message
    assert files_below(tmp_path) == ["d.parquet"]


@pytest.mark.parametrize("content", [b"", b"\n\n# nothing\n"])
def test_empty_file(world: World, model: Path, tmp_path: Path, content: bytes) -> None:
    """A file without a document is refused by its name."""
    data = tmp_path / "empty.txt"
    data.write_bytes(content)
    for done in (
        run("score", model, data),
        run("evaluate", model, data),
        compress(world, tmp_path / "out", train=data),
    ):
        assert "empty.txt" in done.refused()
    assert files_below(tmp_path) == ["empty.txt"]


def test_absent_files(world: World, model: Path, tmp_path: Path) -> None:
    """Files that are not there are named: data, model, teacher."""
    assert "no.parquet" in run("score", model, tmp_path / "no.parquet").refused()
    assert "no-*.parquet" in run("score", model, tmp_path / "no-*.parquet").refused()
    for verb in ("score", "evaluate"):
        assert "no.prunus" in run(verb, tmp_path / "no.prunus", world["test.parquet"]).refused()
    assert "no.prunus" in run("inspect", tmp_path / "no.prunus").refused()
    assert (
        "no.txt"
        in run("rank", "compress", tmp_path / "no.txt", *world.parts(), "--budget", "1us", "-o", tmp_path).refused()
    )
    assert files_below(tmp_path) == []


def flipped(content: bytes) -> bytes:
    """Flip one bit in the middle."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    "damage", [lambda c: c[:-7], lambda c: c[: len(c) // 3], lambda _: b"", flipped, lambda _: b"PK\x03\x04" + bytes(200)],
    ids=["last bytes lost", "two thirds lost", "empty", "one bit flipped", "another kind of file"],
)  # fmt: skip
@pytest.mark.parametrize("verb", ["score", "evaluate", "bench", "inspect"])
def test_damaged_model_file(world: World, model: Path, tmp_path: Path, verb: str, damage: Any) -> None:
    """A model file that is truncated, damaged or foreign is refused by its name, whatever is asked of it."""
    bad = tmp_path / "bad.prunus"
    bad.write_bytes(damage(model.read_bytes()))
    data = [world["test.parquet"]] if verb in {"score", "evaluate"} else []
    assert "bad.prunus" in run(verb, bad, *data).refused()


def test_newer_model_format(model: Path, tmp_path: Path) -> None:
    """A file in a newer format is refused with both versions."""
    from prunus.engine import header

    bad = tmp_path / "new.prunus"
    content = model.read_bytes()
    old, new = (
        f'\\"format_version\\":{header.FORMAT_VERSION + extra}'.encode() for extra in (0, 7)
    )  # one digit each, so that no length changes
    if old not in content:
        old, new = old.replace(b":", b": "), new.replace(b":", b": ")
    assert content.count(old) == 1
    bad.write_bytes(header.sign(content.replace(old, new)))
    message = run("inspect", bad).refused()
    assert f"has format version {header.FORMAT_VERSION + 7}" in message


def test_split_query(world: World, model: Path, tmp_path: Path) -> None:
    """A query whose rows do not stand together is named."""
    data = changed(world, tmp_path / "d.parquet", put("qid", 0, 5))
    for done in (run("evaluate", model, data), compress(world, tmp_path / "out", test=data)):
        message = done.refused()
        assert "5" in message
        assert "stand together" in message
    assert files_below(tmp_path) == ["d.parquet"]


def test_negative_label(world: World, model: Path, tmp_path: Path) -> None:
    """A negative label is refused with its row and a way out."""
    data = changed(world, tmp_path / "d.parquet", put("label", 4, -1))
    for done in (run("evaluate", model, data), compress(world, tmp_path / "out", train=data)):
        message = done.refused()
        assert "row 4" in message
        assert "--label" in message
    assert files_below(tmp_path) == ["d.parquet"]


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize(("budget", "unit"), [("0.00001us", "us@128"), ("0.00001us@20", "us@20"), ("100B", "B")])
def test_impossible_budget_names_the_nearest(world: World, tmp_path: Path, budget: str, unit: str) -> None:
    """No network is that cheap: the nearest possible budget stands in the message, as it would be typed, and is possible."""
    from prunus.design import Budget

    args = ["--budget", budget]
    message = compress(world, tmp_path / "out", *args).refused()
    nearest = message.rpartition(" ")[2].rstrip(".")
    assert nearest.endswith(unit)
    assert Budget.parse(nearest)
    assert "ranker.prunus" not in files_below(tmp_path / "out")
    design = ["rank", "design", "--train", world["train.parquet"], "--teacher", world["teacher.txt"], "--budget"]
    assert nearest in run(*design, budget).refused()
    assert run(*design, nearest).code == 0


@pytest.mark.parametrize("budget", ["0", "fast", "-1us", "0us", "0.5us@0", "12 apples", "1e400us"])
def test_unreadable_budget(world: World, tmp_path: Path, budget: str) -> None:
    """A budget that cannot be read is refused before any work, with the forms that can."""
    message = compress(world, tmp_path / "out", f"--budget={budget}").refused()
    assert "budget" in message
    assert files_below(tmp_path) == []


def test_options_that_contradict_each_other(world: World, tmp_path: Path) -> None:
    """Each missing or doubled part of a run is named with the option that settles it."""
    out = ["--budget", "12KB", "-o", tmp_path / "out"]
    train = ["--train", world["train.parquet"]]
    valid = ["--valid", world["valid.parquet"]]
    test = ["--test", world["test.parquet"]]
    teacher = world["teacher.txt"]
    assert "--valid" in run("rank", "compress", teacher, *train, *test, *out).refused()
    assert "--split-valid" in run("rank", "compress", teacher, *train, *valid, *out).refused()
    assert (
        "--split-valid"
        in run("rank", "compress", teacher, *train, *valid, *test, "--split-valid", "0.5", *out).refused()
    )
    assert "--teacher-scores" in run("rank", "compress", *train, *valid, *test, *out).refused()
    both = [*train, *valid, *test, *out, "--teacher-scores", "label"]
    assert "--teacher-scores" in run("rank", "compress", teacher, *both).refused()
    assert "lightgbm" in run("rank", "compress", teacher, *train, *valid, *test, *out, "--against", "fastest").refused()
    assert files_below(tmp_path) == []


def test_wrong_names_of_things(world: World, model: Path, tmp_path: Path) -> None:
    """Engines, batch sizes, parameters, forms and expressions that do not exist are refused with those that do."""
    assert "lleaves" in run("bench", model, "--against", "quickest").refused()
    assert "--teacher" in run("bench", model, "--against", "lightgbm").refused()
    assert "1,20,128,1000" in run("bench", model, "--batches", "20,none").refused()
    assert ".parquet" in run("score", model, world["test.parquet"], "-o", tmp_path / "s.xlsx").refused()
    assert "'part'" in run("score", model, world["test.parquet"], "--where", "parts<=3").refused()
    teach = [
        "rank",
        "teach",
        "--train",
        world["train.parquet"],
        "--valid",
        world["valid.parquet"],
        "-o",
        tmp_path / "t.txt",
    ]
    assert "NAME=VALUE" in run(*teach, "--param", "num_leaves").refused()
    assert "num_leafs" in run(*teach, "--param", "num_leafs=3").refused()
    assert "'graded'" in run(*teach, "--label", "graded").refused()
    assert files_below(tmp_path) == []


def full_disk(*_: object) -> int:
    """Fail as a write to a full disk does."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".parquet"])
def test_full_disk_keeps_the_old_scores(
    world: World, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """On a full disk the file that was there stays as it was, and nothing else is left."""
    out = tmp_path / f"s{suffix}"
    out.write_bytes(b"before")
    monkeypatch.setattr("prunus.engine.disk.os.write", full_disk)
    done = run("score", model, world["test.parquet"], "-o", out)
    monkeypatch.undo()
    assert "No space left" in done.refused()
    assert files_below(tmp_path) == [out.name]
    assert out.read_bytes() == b"before"


@pytest.mark.usefixtures("cache")
def test_full_disk_leaves_no_half_model(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compressing on a full disk is refused, and no model, result or report appears."""
    monkeypatch.setattr("prunus.engine.disk.os.write", full_disk)
    done = compress(world, tmp_path / "out")
    monkeypatch.undo()
    assert "No space left" in done.refused()
    assert files_below(tmp_path) == []


def test_full_disk_behind_stdout(world: World, model: Path) -> None:
    """Where stdout goes to a full disk, one line says so."""
    full = Path("/dev/full")
    if not full.is_char_device():
        pytest.skip("this system has no /dev/full")
    import subprocess
    import sys

    with full.open("w") as sink:
        command = [sys.executable, "-m", "prunus.cli", "score", str(model), world["test.parquet"]]
        done = subprocess.run(command, stdout=sink, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: no space")
    assert len(done.stderr.splitlines()) == 1


def test_folder_that_cannot_be_made(world: World, tmp_path: Path) -> None:
    """Where a file stands in the way of the results' folder, it is named and stays."""
    (tmp_path / "out").write_text("mine")
    assert "out" in compress(world, tmp_path / "out").refused()
    assert (tmp_path / "out").read_text() == "mine"


def test_a_bug_keeps_its_traceback(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not raised on purpose is not dressed up as bad input."""

    def fail(*_: object) -> None:
        msg = "a bug"
        raise RuntimeError(msg)

    monkeypatch.setattr("prunus.engine.file.load", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        run("inspect", model)


def test_a_later_part_with_other_columns(world: World, tmp_path: Path) -> None:
    """Parts are matched by name: a column more is left out, one that is absent is refused."""
    write_parquet(tmp_path / "v.parquet", world.test)
    renamed = changed(
        world, tmp_path / "r.parquet", lambda table: table.rename_columns({world.test.feature_names[1]: "other"})
    )
    teach = ["rank", "teach", "--train", world["train.parquet"], "--ignore", "part,user", "--valid", renamed]
    assert repr(world.test.feature_names[1]) in run(*teach, "-o", tmp_path / "t.txt").refused()
