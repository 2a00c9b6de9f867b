"""``prunus stream``: what it prints, writes and refuses."""

from __future__ import annotations

import pytest

from cli_tools import run
from engine_networks import names
from prunus.engine.scorer import RankScorer
from prunus.online.serving import Models
from swap_pair import one_of_two

pytest.importorskip("typer", reason="typer is not installed (extra 'cli')")


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
