"""A run that is stopped in the middle goes on when it is run again, and ends with the same bytes."""

from __future__ import annotations

import re
import shutil
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

EPOCHS = 20
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


def stop(world: World, out: Path, how: signal.Signals, stage: str, seconds: float, nth: int = 1) -> tuple[int, str]:
    """Start, and send a signal some time after a stage of this name began, or the nth of them."""
    process = start(*arguments(world, out))
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        nth -= stage in line
        if not nth:
            break
    time.sleep(seconds)
    process.send_signal(how)
    out_text, rest = process.communicate(timeout=120)
    assert out_text == ""
    return process.returncode, said + rest


@pytest.mark.parametrize(
    ("how", "stage", "seconds", "nth"),
    [
        (signal.SIGINT, "reading", 0.0, 1),
        (signal.SIGKILL, "train ", 0.3, 1),
        (signal.SIGINT, "train ", 0.3, 2),
        (signal.SIGINT, "timing", 0.5, 1),
    ],
)
def test_a_stopped_run_goes_on(
    world: World, uninterrupted: bytes, tmp_path: Path, how: signal.Signals, stage: str, seconds: float, nth: int
) -> None:
    """After Ctrl-C or a kill, the same command ends with the very model of a run that nothing stopped."""
    out = tmp_path / "out"
    code, said = stop(world, out, how, stage, seconds, nth)
    if how is signal.SIGINT:
        assert code == 130, said
        assert said.splitlines()[-1] == "interrupted: run the same command again: it goes on"
        assert "Traceback" not in said
    else:
        assert code == -signal.SIGKILL
    assert not (out / "report.html").exists()
    assert finish(world, out) == uninterrupted
    assert all((out / name).is_file() for name in FINISHED)


def test_what_is_done_is_kept(world: World, uninterrupted: bytes, tmp_path: Path) -> None:
    """Students that were trained before the stop are not trained again: their checkpoints stay as they are."""
    out = tmp_path / "out"
    _, said = stop(world, out, signal.SIGKILL, "train ", 0.0, nth=2)
    design = re.findall(r"train (\w+ \w+)", said)[0].replace(" ", "-")
    before = {file: file.stat().st_mtime_ns for file in (out / "work").glob(f"{design}*.pt")}
    assert before
    assert finish(world, out) == uninterrupted
    assert {file: file.stat().st_mtime_ns for file in (out / "work").glob(f"{design}*.pt")} == before
    shutil.rmtree(out)
