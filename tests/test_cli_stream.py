"""``prunus stream``: what it prints, writes and refuses; real nets, killed fifty times."""

from __future__ import annotations

import functools
import json
import os
import random
import signal
import threading
import time

import numpy as np
import pytest

pytest.importorskip("typer", reason="typer is not installed (extra 'cli')")
pytest.importorskip("torch", reason="torch is not installed (extra 'train')")
pytest.importorskip("river", reason="river is not installed (extra 'stream')")
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

from cli_tools import run  # noqa: E402
from engine_networks import names  # noqa: E402
from prunus.cli.app import app  # noqa: E402
from prunus.click_metrics import auc, normalized_entropy  # noqa: E402
from prunus.data.synthetic_stream import drifting_events  # noqa: E402
from prunus.engine.loading import load  # noqa: E402
from prunus.engine.scorer import RankScorer  # noqa: E402
from prunus.online.serving import Models  # noqa: E402
from stream_world import written  # noqa: E402
from swap_pair import one_of_two  # noqa: E402

N = 8000
COLUMNS = ("--label", "click", "--time", "ms", "--ids", "id_*", "--dense", "count*,share*")
SMALL = (
    *("--batch", 128, "--window", 1024, "--warm-up", 2048, "--top", "16,8", "--dim", 4),
    *("--capacity", 500, "--keep", 3),
)


@pytest.fixture(scope="module")
def drifting():
    """Generate a stream with a drift."""
    return drifting_events("abrupt", N, 0)


@pytest.fixture(scope="module")
def folder(drifting, tmp_path_factory):
    """Write it as three files."""
    path = tmp_path_factory.mktemp("events")
    for number, rows in enumerate(np.array_split(np.arange(N), 3)):
        pq.write_table(
            pa.table({name: column[rows] for name, column in drifting.columns.items()}), path / f"{number}.parquet"
        )
    return path


def call(folder, out, *more):
    """Give the words of a call."""
    return ["stream", "run", folder, *COLUMNS, *SMALL, "-o", out, *more]


@pytest.fixture(scope="module")
def uninterrupted(folder, tmp_path_factory):
    """Run once without a stop, with --json."""
    out = tmp_path_factory.mktemp("uninterrupted") / "out"
    done = run(*call(folder, out, "--json"))
    assert done.code == 0, done.err
    return out, done


def test_json_is_a_line_a_window_and_the_summary(uninterrupted) -> None:
    """Stdout holds the log as it is on disk, then the summary with the promised keys; stderr is silent."""
    out, done = uninterrupted
    *windows, summary = [json.loads(line) for line in done.out.splitlines()]
    assert windows == [json.loads(line) for line in (out / "windows.jsonl").read_text().splitlines()]
    assert [line["events"] for line in windows] == [*range(1024, N, 1024), N]
    assert summary == json.loads((out / "result.json").read_text())
    assert {"events", "ne", "gap_percent", "flops_cut", "emissions"} <= set(summary)
    assert summary["events"] == N
    assert summary["ne"]["dense"] > 0
    assert summary["gap_percent"] == pytest.approx(100 * (summary["ne"]["sparse"] / summary["ne"]["dense"] - 1))
    # A small dense net may lead: of a net as narrow as this one, whole units make steps of some per cent.
    assert 0.895 <= summary["flops_cut"] < 0.95
    assert summary["emissions"] >= 3
    assert done.err == ""
    assert "<svg" in (out / "report.html").read_text()


def test_text_is_a_table(folder, uninterrupted, tmp_path) -> None:
    """Without --json stdout has a row a model, stderr a line a window; figures are those of the JSON."""
    done = run(*call(folder, tmp_path))
    assert done.code == 0
    summary = json.loads(uninterrupted[1].out.splitlines()[-1])
    for name, key in (("dense master", "dense"), ("sparse, learning on", "sparse"), ("sparse, as served", "served")):
        (row,) = [line for line in done.out.splitlines() if line.startswith(name)]
        assert f"{summary['ne'][key]:.4f}" in row
    assert len([line for line in done.err.splitlines() if "events: NE" in line]) == 8
    assert written(tmp_path)["windows.jsonl"] == written(uninterrupted[0])["windows.jsonl"]


def test_what_served_is_what_the_file_scores(drifting, uninterrupted) -> None:
    """Figures of the served model are those of the model file, read again and given the window's events."""
    out, done = uninterrupted
    line = json.loads(done.out.splitlines()[-2])
    scorer = load(Models(out / "models").path(line["serving"]))
    assert scorer.schema.id_fields == drifting.schema.id_fields
    places = [drifting.schema.dense.index(name) for name in scorer.schema.dense]
    last = drifting.events.take(slice(N - line["size"], N))
    logits = scorer.score(last.ids, np.ascontiguousarray(last.dense[:, places]))
    assert normalized_entropy(last.label, logits) == pytest.approx(line["ne"]["served"], rel=1e-6)
    assert auc(last.label, logits) == pytest.approx(line["auc"]["served"], abs=1e-4)


def test_ctrl_c_goes_on(folder, uninterrupted, tmp_path, monkeypatch) -> None:
    """It exits with 130 and says how to go on; the same call then ends with the same bytes."""
    from prunus.cli.stream_display import Lines

    def stop(self, line):
        if line["window"] == 3:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Lines, "window", stop)
        done = run(*call(folder, tmp_path))
    assert done.code == 130
    assert done.out == ""
    assert done.err.splitlines() == [
        "stopping after this batch; once more stops at once, without a checkpoint",
        "interrupted: run the same command again: it goes on",
    ]
    done = run(*call(folder, tmp_path))
    assert done.code == 0
    assert done.err.splitlines()[0] == "going on after 4,096 events"
    assert_same(tmp_path, uninterrupted[0])


def assert_same(out, other):
    """Compare what two runs wrote; models that either has forgotten may be missing in the other."""
    found, expected = written(out), written(other)
    for name in found.keys() & expected.keys():
        assert found[name] == expected[name], name
    assert sum(name.endswith(".prunus") for name in found.keys() & expected.keys()) >= 3


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--seed", 1], "settings.seed: 0 then, 1 now"),
        (["--cut", 0.8], "settings.cut: 0.9 then, 0.8 now"),
        (["--ids", "event"], "inputs.schema"),
        (["--top", "16,x"], "expected widths such as 512,256,128"),
        (["--top", ""], "expected widths such as 512,256,128"),
        (["--dense", "none*"], "--dense 'none*' matches no column"),
        (["--label", "clicked"], "no column 'clicked' for the label; did you mean 'click'? (choose it with --label)"),
        (["--time", "when"], "no column 'when' for the time"),
        (["--dense", "count*,click"], "'click' is a feature and gives the label"),
    ],
)
def test_what_is_refused(folder, uninterrupted, more: list[object], said: str) -> None:
    """Other settings in a run's directory, and options that cannot be used: one line that says which."""
    assert said in run(*call(folder, uninterrupted[0], *more)).refused()


def test_a_batch_that_learners_cannot_keep_is_refused(folder, tmp_path) -> None:
    """Up to what the default learner keeps of the past; one more is refused before anything is read."""
    from prunus.online.dense_to_sparse.single import Again
    from prunus.online.settings import LARGEST_BATCH, StreamSettings

    assert StreamSettings(batch=LARGEST_BATCH).batch <= Again().memory
    done = run(*call(folder, tmp_path, "--batch", LARGEST_BATCH + 1))
    assert done.code == 2
    assert f"{LARGEST_BATCH}" in done.err
    assert "--batch" in done.err
    assert not list(tmp_path.iterdir())


def test_rows_that_are_no_events(tmp_path) -> None:
    """They are set aside in a file and counted in the log; with --bad refuse they end the run."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 600).astype(float)
    label[[5, 300]] = 7
    table = pa.table({"user": rng.integers(0, 9, 600), "x": rng.normal(size=600), "y": label, "t": np.arange(600)})
    pq.write_table(table, tmp_path / "events.parquet")
    words = [
        "stream",
        "run",
        tmp_path / "events.parquet",
        "--label",
        "y",
        "--time",
        "t",
        "--ids",
        "user",
        "--dense",
        "x",
    ]
    done = run(*words, *SMALL, "-o", tmp_path / "out", "--json")
    *windows, summary = [json.loads(line) for line in done.out.splitlines()]
    assert summary["events"] == 598
    assert summary["counts"] == windows[-1]["counts"] == {"events": 598, "bad_label": 2}
    aside = [json.loads(line) for line in (tmp_path / "out" / "set-aside.jsonl").read_text().splitlines()]
    assert [line["reason"] for line in aside] == ["bad_label"] * 2
    assert [line["row"] for line in aside] == [5, 300]
    said = run(*words, *SMALL, "-o", tmp_path / "short").out
    assert f"Also counted: 2 bad_label; what was set aside: {tmp_path / 'short' / 'set-aside.jsonl'}" in said
    assert "No model was made: the stream ended within the warm-up of 2,048 events (--warm-up)." in said
    assert "neither 0 nor 1" in run(*words, *SMALL, "-o", tmp_path / "other", "--bad", "refuse").refused()


def test_json_lines_are_the_same_stream(drifting, uninterrupted, tmp_path) -> None:
    """Events of a file of JSON lines give the log that those of Parquet give; among files they are refused."""
    columns = {name: column.tolist() for name, column in drifting.columns.items()}
    rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
    file = tmp_path / "events.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    fields = ["--ids", ",".join(name for name in columns if name.startswith("id_"))]
    fields += ["--dense", ",".join(name for part in ("count", "share") for name in columns if name.startswith(part))]
    expected = (uninterrupted[0] / "windows.jsonl").read_bytes()
    done = run("stream", "run", file, *COLUMNS, *SMALL, *fields, "-o", tmp_path / "file")
    assert "no Parquet file" in done.refused()
    words = ["--label", "click", "--time", "ms", *fields, *SMALL]
    assert run("stream", "run", file, *words, "-o", tmp_path / "file").code == 0
    assert (tmp_path / "file" / "windows.jsonl").read_bytes() == expected
    assert "expected it alone" in run("stream", "run", file, "-", *words, "-o", tmp_path / "two").refused()


def test_a_glob_takes_no_column_that_has_another_role(tmp_path) -> None:
    """Columns of label, time and key are no features by a glob, whatever their names; a name says that one is meant."""
    from prunus.cli.stream_source import features_of

    names = ("label", "ms", "request id", "x", "y")
    pq.write_table(pa.table({name: [1, 2] for name in names}), tmp_path / "events.parquet")
    roles = ("label>0", "ms", "request id")
    assert features_of((), ("*",), [str(tmp_path)], roles) == ((), ("x", "y"))
    assert features_of(("x",), ("*",), [str(tmp_path)], roles) == (("x",), ("y",))
    assert features_of(("*",), ("x",), [str(tmp_path)], roles) == (("y",), ("x",))


@pytest.mark.parametrize("columns", [["--ids", "user"], ["--dense", "x"]])
def test_ids_or_dense_columns_alone(tmp_path, columns) -> None:
    """Either kind of feature is enough."""
    rng = np.random.default_rng(0)
    user = rng.integers(0, 9, 1500)
    x = rng.normal(size=1500)
    label = (rng.random(1500) < 1 / (1 + np.exp(1 - x - user / 9))).astype(np.int8)
    pq.write_table(pa.table({"user": user, "x": x, "y": label, "t": np.arange(1500)}), tmp_path / "events.parquet")
    more = ["--warm-up", 512, "--window", 512, "-o", tmp_path / "out", "--json"]
    done = run("stream", "run", tmp_path / "events.parquet", "--label", "y", "--time", "t", *columns, *SMALL, *more)
    assert done.code == 0, done.err
    assert json.loads(done.out.splitlines()[-1])["emissions"] >= 1


def fork(words, prepare=lambda: None):
    """Run the command in a process of its own, which has all modules already; give its number."""
    pid = os.fork()
    if pid:
        return pid
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        prepare()
        app([str(word) for word in words], prog_name="prunus")
    except SystemExit as end:
        os._exit(end.code or 0)
    finally:
        os._exit(1)


def die_after(batches, seconds):
    """Be killed some time after so many batches, wherever the loop then is."""
    from prunus.cli.stream_display import Lines

    left = iter(range(batches - 1, -1, -1))

    def events(self, n):
        if next(left, None) == 0:
            timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL))
            timer.start()

    Lines.events = events


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kills", [2, pytest.param(50, marks=pytest.mark.long)])
def test_kills_leave_no_trace(folder, uninterrupted, tmp_path, kills: int) -> None:
    """After SIGKILL at random moments, models, logs and summary are those of a run that nothing stopped, byte for byte."""
    rng = random.Random(kills)
    words = call(folder, tmp_path, "--checkpoint", 0.0)
    for _ in range(kills):
        most = max(2, N // 128 // kills)
        pid = fork(words, functools.partial(die_after, rng.randint(1, most), rng.uniform(0, 0.03)))
        assert os.WIFSIGNALED(os.waitpid(pid, 0)[1])
    assert os.WEXITSTATUS(os.waitpid(fork(words), 0)[1]) == 0
    assert_same(tmp_path, uninterrupted[0])


def test_rollback_says_what_it_did(tmp_path) -> None:
    """Text for people, JSON for programs; with nothing before it, one line and exit code 2."""
    network = one_of_two(False)
    models = Models(tmp_path / "models")
    for number in (1, 2, 3):
        models.publish(number, RankScorer(network, names(network)).save)
    done = run("stream", "rollback", tmp_path)
    assert (done.code, done.err) == (0, "")
    assert done.out == f"model 3 is withdrawn; model 2 serves: {models.path(2)}\n"
    assert run("stream", "rollback", tmp_path, "--json").json() == {
        "withdrawn": 2,
        "serving": 1,
        "files": {"model": str(models.path(1))},
    }
    assert models.current == 1
    assert "model 1 is the first that is left" in run("stream", "rollback", tmp_path).refused()
    assert "has no models" in run("stream", "rollback", tmp_path / "nothing").refused()


def test_a_window_in_words_without_a_master() -> None:
    """Then the sparse models' own entropy is told; so is that no model serves yet, and how many rows were no events."""
    from prunus.cli.stream_display import words_of

    line = {"ne": {"dense": None, "sparse": 0.9, "served": None}, "gap_percent": {}, "serving": None}
    assert words_of(line | {"counts": {"events": 9}}) == "sparse NE 0.9000, no model yet"
    line |= {"ne": {"dense": None, "sparse": 0.9, "served": 0.91}, "serving": 3, "counts": {"bad_time": 2, "late": 1}}
    assert words_of(line) == "sparse NE 0.9000, served NE 0.9100, model 3, 2 bad"


def test_the_line_that_moves_shows_events_and_the_last_window(capsys) -> None:
    """Where stderr is a terminal: events so far, their rate, the last window's figures, and what is said above."""
    from prunus.cli.stream_display import Live, Rate

    live = Live()
    live.start()
    live.events(122_000)
    time.sleep(0.1)
    live.events(123_456)
    live.say("model 2 was rolled back")
    line = {"ne": {"dense": 0.8123}, "gap_percent": {"sparse": 0.5, "served": 0.6}, "serving": 12, "counts": {}}
    live.window(line)
    live.stop()
    shown = " ".join(capsys.readouterr().err.split())
    for expected in (
        "model 2 was rolled back",
        "123,456 events",
        "NE 0.8123, sparse +0.50 %, served +0.60 %, model 12",
    ):
        assert expected in shown
    rate = Rate()
    assert rate.of(0) is None or rate.of(0) == 0
    assert (rate.of(100) or 0) > 0
