"""A run that is stopped in the middle goes on when it is run again, and ends with the same bytes."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from cli_tools import World, start

pytest.importorskip("typer", reason="typer is not installed (extra 'cli')")
pytest.importorskip("lightgbm", reason="lightgbm is not installed (extra 'train')")
pytest.importorskip("torch", reason="torch is not installed (extra 'train')")

pytest_plugins = ("cli_fixtures",)
pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

EPOCHS = 6
FINISHED = ("ranker.prunus", "result.json", "report.html")


def arguments(world: World, out: Path) -> list[object]:
    """Give a call that trains for a few seconds under a budget of bytes, which no timing has a say in."""
    settings = ["--budget", "12KB", "--effort", "quick", "--epochs", EPOCHS]
    return ["rank", "compress", world["teacher.txt"], *world.parts(), *settings, "-o", out]


def finish(world: World, out: Path) -> bytes:
    """Run to the end, and give the model's bytes."""
    process = start(*arguments(world, out))
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return (out / "ranker.prunus").read_bytes()


@pytest.fixture(scope="module")
def uninterrupted(world: World, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Run once without a stop."""
    return finish(world, tmp_path_factory.mktemp("uninterrupted") / "out")


def stop(world: World, out: Path, how: signal.Signals, stage: str, checkpoints: int = 0) -> str:
    """Start, send a signal in a stage of this name once so many students have checkpoints, and give what was said."""
    process = start(*arguments(world, out))
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if stage in line:
            break
    while len(list(out.glob("work/*.pt"))) < checkpoints and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(how)
    out_text, rest = process.communicate(timeout=120)
    said += rest
    assert out_text == ""
    assert not (out / "report.html").exists()
    if how is signal.SIGINT:
        assert process.returncode == 130, said
        assert said.splitlines()[-1] == "interrupted: run the same command again: it goes on"
        assert "Traceback" not in said
    else:
        assert process.returncode == -how
    return said


def written(out: Path) -> dict[Path, int]:
    """Give when each checkpoint was written."""
    return {file: file.stat().st_mtime_ns for file in out.glob("work/*.pt")}


def test_a_stopped_run_goes_on(world: World, uninterrupted: bytes, tmp_path: Path) -> None:
    """After Ctrl-C or a kill at any stage, the same command ends with the very model of a run that nothing stopped.

    The first stop in a training is after an epoch of the first student, the second after one of the second. The student
    that was trained before that stop is not trained again: its checkpoint stays as it is.
    """
    out = tmp_path / "out"
    stop(world, out, signal.SIGINT, "reading")
    stop(world, out, signal.SIGKILL, "train ", 1)
    (first,) = written(out)
    stop(world, out, signal.SIGINT, "train ", 2)
    before = written(out)
    assert len(before) == 2
    stop(world, out, signal.SIGKILL, "train ", 2)
    stop(world, out, signal.SIGINT, "timing")
    assert finish(world, out) == uninterrupted
    after = written(out)
    assert after[first] == before[first]
    assert any(after[file] > before[file] for file in before)
    assert all((out / name).is_file() for name in FINISHED)
