"""The loop of a stream: test, then train; kills anywhere leave no trace; what is worse does not serve."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import signal
import time

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (extra 'train')")
pytest.importorskip("river", reason="river is not installed (extra 'stream')")
pytest.importorskip("pydantic", reason="pydantic is not installed (extra 'train')")

from prunus.click_metrics import entropy, log_losses  # noqa: E402
from prunus.engine import disk  # noqa: E402
from prunus.online.checkpoint import Checkpoints  # noqa: E402
from prunus.online.serving import Models, rollback  # noqa: E402
from stream_world import (  # noqa: E402
    CAPACITY,
    N_DENSE,
    N_IDS,
    SETTINGS,
    TinyLearner,
    TinyScorer,
    make_events,
    make_loop,
    written,
)

N = 4000


@pytest.fixture(scope="module")
def events():
    """Draw the events of most tests."""
    return make_events(N)


@pytest.fixture(scope="module")
def uninterrupted(events, tmp_path_factory):
    """Run once without a stop, and give what was written."""
    out = tmp_path_factory.mktemp("uninterrupted")
    torch.manual_seed(3)
    make_loop(events, out).run()
    return out, written(out)


def lines(out, name):
    """Read a log."""
    return [json.loads(line) for line in (out / name).read_text().splitlines()]


def test_figures_are_those_of_a_plain_loop(events, uninterrupted) -> None:
    """Test-then-train, spelled out with the same learner: the same losses of dense and sparse model, to the last bit."""
    out, _ = uninterrupted
    torch.manual_seed(3)
    learner, total, clicks, counted = TinyLearner(), np.zeros(2), 0.0, 0
    from prunus.data.id_table import IdTable
    from prunus.online.inputs import Inputs
    from prunus.student.normalise import RunningNormaliser

    inputs = Inputs([IdTable(CAPACITY, 2, 700) for _ in range(N_IDS)], RunningNormaliser(N_DENSE))
    patterns = {line["events"]: line["patterns"] for line in lines(out, "windows.jsonl")}
    last = SETTINGS.warm_up
    for start in range(0, N, SETTINGS.batch):
        part = events.take(slice(start, start + SETTINGS.batch))
        batch = inputs.prepare(part)
        said = learner.predict(batch)
        if start >= SETTINGS.warm_up:
            for which, one in enumerate((said.dense, said.sparse)):
                total[which] += log_losses(part.label, one.numpy() + part.offset).sum()
            clicks, counted = clicks + float(part.label.sum()), counted + len(part)
        learner.learn(batch)
        seen = start + len(part)
        if seen - last >= SETTINGS.new_pattern_after:
            learner.repattern()
            last = seen
        inputs.observe(part, seen)
    assert patterns[N] == (N - SETTINGS.warm_up) // SETTINGS.new_pattern_after
    ne = json.loads((out / "result.json").read_text())["ne"]
    for which, name in enumerate(("dense", "sparse")):
        assert ne[name] == pytest.approx(total[which] / counted / entropy(clicks / counted), rel=1e-12)


def test_nothing_of_an_event_is_known_before_it_is_predicted(events, uninterrupted, tmp_path) -> None:
    """With other labels, values and ids from some event on, every line up to it is the same."""
    out, _ = uninterrupted
    arrays = events.arrays()
    cut = 2048  # the end of a window
    other = make_events(N, seed=9).arrays()
    changed = type(events)(**{name: np.concatenate([arrays[name][:cut], other[name][cut:]]) for name in arrays})
    torch.manual_seed(3)
    make_loop(changed, tmp_path).run()
    assert lines(tmp_path, "windows.jsonl")[:8] == lines(out, "windows.jsonl")[:8]
    assert lines(tmp_path, "windows.jsonl")[8] != lines(out, "windows.jsonl")[8]


def test_the_last_model_knows_nothing_of_who_had_a_row_before(events, tmp_path) -> None:
    """Ids of the last batch have rows that were others': in the model that is made at the end they begin anew."""
    loop = make_loop(events.take(slice(0, 3999)), tmp_path)
    loop.run()
    last = lines(tmp_path, "emissions.jsonl")[-1]
    assert last["events"] == 3999
    assert last["swapped"]
    content = TinyScorer.read(Models(tmp_path / "models").path(last["number"])).content
    part, n_new = events.take(slice(3968, 3999)), 0
    before = make_loop(events.take(slice(0, 3968)), tmp_path / "before")
    before.run()
    for field in range(N_IDS):
        known = dict(zip(content["keys"][field], content["values"][field], strict=True))
        had = set(before.inputs.tables[field].snapshot()[0].tolist())
        for key in set(part.ids[:, field].tolist()) & set(known) - had:
            n_new += 1
            assert known[key] == 0.0
    assert n_new


def test_lines_and_summary(events, uninterrupted) -> None:
    """The summary has the promised keys; the served model's figures are those of the files, from the first on."""
    out, _ = uninterrupted
    windows, emissions = lines(out, "windows.jsonl"), lines(out, "emissions.jsonl")
    summary = json.loads((out / "result.json").read_text())
    assert {"events", "ne", "gap_percent", "flops_cut", "emissions"} <= set(summary)
    assert {"dense", "sparse"} <= set(summary["ne"])
    assert summary["events"] == sum(line["size"] for line in windows) == N
    assert summary["flops_cut"] == 0.5
    assert windows[-1]["total"] == {key: summary[key] for key in ("ne", "counted")} | {
        "gap_percent": {"sparse": summary["gap_percent"], "served": summary["served_gap_percent"]}
    }
    spent = json.loads((out / "spent.json").read_text())
    assert (spent["events"], spent["seconds"]) == (N, summary["seconds"])
    assert summary["emissions"] == sum(line["swapped"] for line in emissions)
    assert emissions[0] == emissions[0] | {"number": 1, "why": "first", "events": SETTINGS.warm_up, "swapped": True}
    assert {line["why"] for line in emissions} == {"first", "every", "new_pattern_after"}
    for before, line in itertools.pairwise(windows):
        part = events.take(slice(before["events"], line["events"]))
        if line["serving"] is None:
            assert line["ne"]["served"] is None
            continue
        file = out / "models" / f"{line['serving']:06d}.prunus"
        if file.exists() and before["events"] >= SETTINGS.warm_up:
            loss = log_losses(part.label, TinyScorer.read(file).score(part.ids, part.dense) + part.offset).mean()
            assert line["ne"]["served"] == pytest.approx(loss / entropy(line["rate"]), rel=1e-9)
    assert sum(line["swapped"] for line in emissions) >= 3


def test_a_guard_refuses_what_is_worse(tmp_path) -> None:
    """A broken candidate is written down and not swapped in, and the learner's next sound one is."""
    learner = TinyLearner()
    loop = make_loop(
        make_events(3072), tmp_path, learner=learner, on_batch=lambda n: setattr(learner, "broken", 1024 <= n < 2048)
    )
    loop.run()
    found = lines(tmp_path, "emissions.jsonl")
    broken = [line for line in found if 1024 < line["events"] <= 2048]
    assert broken
    assert not any(line["swapped"] for line in broken)
    assert all(line["loss"] > line["served_loss"] for line in broken)
    assert any(line["swapped"] for line in found if line["events"] > 2048 + SETTINGS.window)
    assert not any((tmp_path / "models" / f"{line['number']:06d}.prunus").exists() for line in broken)


def test_a_model_that_ran_away_does_not_serve(tmp_path) -> None:
    """NaN in the weights is no model: that is said once, and the loop goes on."""
    learner, told = TinyLearner(), []

    def spoil(n):
        if n == 1536:
            learner.weight[0] = torch.nan

    summary = make_loop(make_events(3072), tmp_path, learner=learner, on_batch=spoil, say=told.append).run()
    assert summary["events"] == 3072
    assert sum("after 1,600 events the sparse model predicts what is no number" in one for one in told) == 1
    assert not any(line["swapped"] for line in lines(tmp_path, "emissions.jsonl") if line["events"] > 1536)


def test_what_cannot_be_learned_from_is_counted_and_set_aside(events, tmp_path) -> None:
    """Each such batch is counted; of several in a row the first is kept, also where the run was stopped among them."""
    said: list[str] = []
    aside = []
    for stop in (704, 0):
        learner = TinyLearner()

        def refuse(n, learner=learner, stop=stop):
            learner.refuses = 640 <= n < 832 or n == 1024
            if n == stop:
                signal.raise_signal(signal.SIGINT)

        loop = make_loop(events.take(slice(0, 1920)), tmp_path, learner=learner, on_batch=refuse, say=said.append)
        refuse(704 if not stop else 0, stop=None)
        with contextlib.suppress(KeyboardInterrupt):
            loop.run()
        aside += [int(one.time[0]) for one in loop.source.aside]
    assert aside == [640, 1024]
    counted = [line["counts"].get("not_learned", 0) for line in lines(tmp_path, "windows.jsonl")]
    assert counted == [0, 0, 128, 192, 256, 256, 256, 256]
    assert sum("after 704 events a gradient is no number" in one for one in said) == 1


def test_a_gap_that_grows_brings_a_new_pattern(tmp_path) -> None:
    """Where the kept weights become the wrong ones, the watch of the gap alarms, and the emission says why it came."""
    rng = np.random.default_rng(0)
    n = 20_000
    events = make_events(n)
    dense = rng.normal(size=(n, N_DENSE)).astype(np.float32)
    late = np.arange(n)[:, None] >= n // 2
    weight = np.where(late, [0, 0, 0, 2, 2, 2], [2, 2, 2, 0, 0, 0])
    label = (rng.random(n) < 1 / (1 + np.exp(1 - (dense * weight).sum(1)))).astype(np.float32)
    changed = type(events)(events.ids, dense, label, events.time)
    settings = SETTINGS.model_copy(update={"new_pattern_after": 10_000_000, "warm_up": 2048, "window": 1024})
    learner = TinyLearner()
    learner.mask[3:] = False  # the right ones, until the middle
    summary = make_loop(changed, tmp_path, settings=settings, learner=learner).run()
    assert summary["patterns"] == summary["alarms"]["gap"] >= 1
    first = next(line for line in lines(tmp_path, "emissions.jsonl") if line["why"] == "gap")
    assert n // 2 < first["events"] < n // 2 + 100 * SETTINGS.batch
    assert summary["alarms"]["loss"] >= 1


def child(events, out, checkpoint_s, die=None, pause=0.0):
    """Run the loop in a process of its own, a pause after each batch; ``die`` is called in it first. Returns its number."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        if die is not None:
            die()
        torch.manual_seed(3)
        make_loop(events, out, checkpoint_s=checkpoint_s, on_batch=lambda _: time.sleep(pause)).run()
        code = 0
    finally:
        os._exit(code)


@pytest.mark.parametrize("checkpoint_s", [0.02, pytest.param(0.0, marks=pytest.mark.long)])
def test_kills_at_any_moment_leave_no_trace(events, uninterrupted, tmp_path, checkpoint_s: float) -> None:
    """After SIGKILL at random moments, logs, models and summary are those of a run that nothing stopped, byte for byte."""
    rng = random.Random(int(checkpoint_s * 100))
    kills = 0
    while True:
        # 63 batches take .95 s at least, five lives .75 at most: no run ends before its five kills.
        pid = child(events, tmp_path, checkpoint_s, pause=0.015)
        if kills < 5:
            time.sleep(rng.uniform(0.02, 0.15))
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        if os.WIFSIGNALED(status):
            kills += 1
            continue
        assert os.WEXITSTATUS(status) == 0
        break
    assert kills == 5
    same(tmp_path, uninterrupted)


def same(out, uninterrupted):
    """Compare with the run that was not stopped; models that either has forgotten may be missing in the other."""
    found, expected = written(out), uninterrupted[1]
    shared = found.keys() & expected.keys()
    assert {"windows.jsonl", "emissions.jsonl", "summary", "current"} <= shared
    assert sum(name.endswith(".prunus") for name in shared) >= SETTINGS.keep_models
    for name in sorted(shared):
        assert found[name] == expected[name], name


@pytest.mark.parametrize(
    "after", [11, 44, *(pytest.param(n, marks=pytest.mark.long) for n in (0, 5, 17, 22, 28, 33, 39, 50, 55, 61))]
)
def test_kills_between_any_two_calls_of_the_disk(events, uninterrupted, tmp_path, after: int) -> None:
    """A kill before or after the n-th flush, rename or link of the run leaves no trace either."""

    def die():
        calls = iter(range(after, -1, -1))

        def counted(call):
            def once(*args, **kwargs):
                if next(calls, None) == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*args, **kwargs)

            return once

        for name in ("fsync", "replace", "symlink", "unlink", "truncate"):
            setattr(os, name, counted(getattr(os, name)))

    short = events.take(slice(0, N))
    pid = child(short, tmp_path, 0.0, die)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status)
    _, status = os.waitpid(child(short, tmp_path, 0.05), 0)
    assert os.WEXITSTATUS(status) == 0
    same(tmp_path, uninterrupted)


def test_a_run_that_ended_goes_on_when_there_is_more(events, uninterrupted, tmp_path) -> None:
    """A source that has grown since is gone on with as if it had never ended."""
    torch.manual_seed(3)
    make_loop(events.take(slice(0, 1900)), tmp_path).run()
    before = tmp_path, written(tmp_path)
    make_loop(events.take(slice(0, 1900)), tmp_path).run()
    same(tmp_path, before)
    said: list[str] = []
    make_loop(events, tmp_path, say=said.append).run()
    assert said == ["going on after 1,900 events"]
    whole = lines(uninterrupted[0], "windows.jsonl")
    # 1,900 is in the middle of a batch: the later windows hold the same events in other batches.
    assert [line["events"] for line in lines(tmp_path, "windows.jsonl")][:7] == [line["events"] for line in whole][:7]
    assert json.loads((tmp_path / "result.json").read_text())["events"] == N


def test_a_model_of_the_end_does_not_serve_on_where_the_run_finds_it_worse(events, tmp_path) -> None:
    """Where the source grew after a short last window, and that window's model is refused in its new form, none of it serves."""
    torch.manual_seed(3)
    make_loop(events.take(slice(0, 1900)), tmp_path).run()
    models = Models(tmp_path / "models")
    last = models.current
    learner = TinyLearner()
    loop = make_loop(
        events.take(slice(0, 2048)), tmp_path, learner=learner, on_batch=lambda _: setattr(learner, "broken", True)
    )
    loop.run()
    line = lines(tmp_path, "emissions.jsonl")[-1]
    assert (line["number"], line["events"], line["swapped"]) == (last, 2048, False)
    assert models.current == loop.emissions.serving < last
    assert not models.path(last).exists()


def test_a_stop_is_a_checkpoint(events, uninterrupted, tmp_path) -> None:
    """SIGINT and SIGTERM end the loop after a batch, with its checkpoint written; then it goes on."""
    for number, at in ((signal.SIGINT, 640), (signal.SIGTERM, 1472)):

        def stop(n, number=number, at=at):
            if n == at:
                signal.raise_signal(number)

        torch.manual_seed(3)
        said: list[str] = []
        with pytest.raises(KeyboardInterrupt):
            make_loop(events, tmp_path, on_batch=stop, say=said.append, checkpoint_s=1e9).run()
        assert said[-1] == "stopping after this batch; once more stops at once, without a checkpoint"
        assert not (tmp_path / "result.json").exists()
    said = []
    make_loop(events, tmp_path, say=said.append).run()
    assert said == ["going on after 1,472 events"]
    same(tmp_path, uninterrupted)


def test_a_checkpoint_is_told_to_the_source(events, tmp_path) -> None:
    """The place that a checkpoint holds is passed on, after the checkpoint; a source that cannot take it stops nothing."""
    said: list[str] = []
    loop = make_loop(events, tmp_path, say=said.append)
    loop.source.deaf = True
    loop.run()
    assert loop.source.committed == {"at": N}
    assert said == ["the brokers are away"]
    assert Checkpoints(tmp_path / "work", pytest.fail).read()["position"] == {"at": N}


def test_a_full_disk_is_told_and_lived_through(events, uninterrupted, tmp_path, monkeypatch) -> None:
    """While nothing can be written the loop learns on with the old checkpoint and model; lines that waited are written."""
    real = os.write
    full = False

    def write(descriptor, data):
        if full:
            raise OSError(28, "No space left on device")
        return real(descriptor, data)

    def fill(n):
        nonlocal full
        full = 1000 < n < 2500

    monkeypatch.setattr(disk.os, "write", write)
    said: list[str] = []
    torch.manual_seed(3)
    make_loop(events, tmp_path, say=said.append, on_batch=fill, checkpoint_s=0.0).run()
    assert any(line.startswith("no checkpoint was written, the one before stays") for line in said)
    assert any("is not swapped in" in line for line in said)
    windows = lines(tmp_path, "windows.jsonl")
    expected = lines(uninterrupted[0], "windows.jsonl")
    keys = ("events", "rate", "density", "patterns")
    assert [[line[key] for key in keys] for line in windows] == [[line[key] for key in keys] for line in expected]
    assert [line["ne"]["dense"] for line in windows] == [line["ne"]["dense"] for line in expected]


def test_a_damaged_checkpoint_falls_back(events, uninterrupted, tmp_path) -> None:
    """The one before is taken, with a message, and the end is the same."""

    def stop(n):
        if n == 2048:
            signal.raise_signal(signal.SIGINT)

    torch.manual_seed(3)
    with pytest.raises(KeyboardInterrupt):
        make_loop(events, tmp_path, on_batch=stop, checkpoint_s=0.0).run()
    newest = max((tmp_path / "work").iterdir(), key=lambda file: file.stat().st_mtime_ns)
    newest.write_bytes(newest.read_bytes()[:-100])
    said: list[str] = []
    make_loop(events, tmp_path, say=said.append).run()
    assert (
        said == [f"{newest} is damaged; going on from the checkpoint before it", "going on after 2,048 events"]
        or said[1] == "going on after 1,984 events"
    )
    same(tmp_path, uninterrupted)


def test_the_loop_honours_a_rollback(events, tmp_path) -> None:
    """From the batch after a rollback the loop counts the model before as the one that serves; the withdrawn one is gone."""
    models = Models(tmp_path / "models")
    done: list[tuple[int, int]] = []

    def back(n):
        if n == 2176 and not done:
            done.append(rollback(tmp_path))

    said: list[str] = []
    make_loop(events, tmp_path, say=said.append, on_batch=back).run()
    ((gone, stays),) = done
    assert said == [f"model {gone} was rolled back; model {stays} serves"]
    window = next(line for line in lines(tmp_path, "windows.jsonl") if line["events"] >= 2240)
    assert window["serving"] == stays
    assert models.current is not None
    assert models.current > gone


def test_a_rollback_while_the_loop_is_down(events, tmp_path) -> None:
    """A model that was withdrawn after the last checkpoint is not taken back when the loop comes to it again."""

    def stop(n):
        if n == 1536:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        make_loop(events, tmp_path, on_batch=stop).run()
    gone, stays = rollback(tmp_path)
    said: list[str] = []
    make_loop(events.take(slice(0, 1600)), tmp_path, say=said.append).run()
    assert f"model {gone} was rolled back; model {stays} serves" in said
