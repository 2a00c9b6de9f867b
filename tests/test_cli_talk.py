"""What the command says, on a terminal and in a log."""

from __future__ import annotations

import io
import json
import math
import sys

import pytest

pytest.importorskip("typer", reason="typer is not installed (extra 'cli')")
pytest.importorskip("rich", reason="rich is not installed (extra 'cli')")

from prunus.cli import table, talk
from prunus.cli.progress import Bars, Lines, progress


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


ROWS = [["teacher", "1.0"], ["student", "0.02"]]


def test_tables_hold_the_same_on_both(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A terminal gets a drawn table, a pipe plain columns; each cell is in both, and marks of markup are only text."""
    rows = [*ROWS, ["[bold]", "3"]]
    table.put_table(["model", "us"], rows)
    plain = capsys.readouterr().out
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    table.put_table(["model", "us"], rows, strong=[1])
    for text in (plain, terminal.getvalue()):
        for cell in ("model", "us", *(cell for row in rows for cell in row)):
            assert cell in text
    assert [line.split() for line in plain.splitlines()][2:] == rows


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.04123, "0.0412"),
        (0.5, "0.500"),
        (1.234, "1.23"),
        (12.34, "12.3"),
        (105.4, "105"),
        (None, "-"),
        (math.nan, "-"),
    ],
)
def test_microseconds_have_three_digits(value: float | None, text: str) -> None:
    """Times are written with about three digits that count."""
    assert table.us(value) == text


def test_json_knows_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    """Numbers that JSON does not know become null, wherever they stand."""
    talk.put_json({"a": math.nan, "b": [math.inf, {"c": -math.inf}], "d": (1.5, "x")})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [None, {"c": None}], "d": [1.5, "x"]}


def test_a_log_gets_a_line_a_stage(capsys: pytest.CaptureFixture[str]) -> None:
    """Where stderr is no terminal, a stage is one line, however often it moves on."""
    with progress() as lines:
        assert isinstance(lines, Lines)
        for name in ("one", "two", "two"):
            lines.stage(name, 1.0)
            for step in range(10):
                lines.advance(step / 10, "a note")
    said = capsys.readouterr()
    assert [line.rpartition("] ")[2] for line in said.err.splitlines()] == ["one", "two"]
    assert said.out == ""


def test_a_terminal_gets_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal each stage has a bar with its note, on stderr."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with progress() as bars:
        assert isinstance(bars, Bars)
        bars.stage("train dense", 1.0)
        bars.advance(0.5, "valid 0.7")
        bars.stage("verdict", 1.0)
    assert "train dense" in terminal.getvalue()
    assert "verdict" in terminal.getvalue()


def test_an_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A message of several lines is put into one."""
    with pytest.raises(SystemExit) as stop:
        talk.fail("got this\n  expected that", 2)
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: got this expected that\n"


RESULT = {
    "metric": "ndcg@10",
    "teacher": {"engine": "lleaves", "us_per_doc": {"20": 10.0, "128": 8.0, "1000": 8.0}},
    "student": {"us_per_doc": {"20": 0.5, "128": 0.4, "1000": 0.4}},
    "rows": [
        {"role": "teacher", "name": "90 trees", "trees": 90, "ndcg@10": 0.7, "us_per_doc": {"128": 8.0}},
        {
            "role": "forest",
            "name": "20 trees",
            "trees": 20,
            "outcome": "inferior",
            "engine": "lleaves",
            "us_per_doc": {"128": 1.0},
        },
        {
            "role": "forest",
            "name": "50 trees",
            "trees": 50,
            "outcome": "non_inferior",
            "engine": "lleaves",
            "us_per_doc": {"128": 4.0},
        },
        {
            "role": "forest",
            "name": "70 trees",
            "trees": 70,
            "outcome": "non_inferior",
            "engine": "lleaves",
            "us_per_doc": {"128": 6.0},
        },
        {"role": "dense", "name": "dense 8x4", "chosen": False},
        {"role": "sparse", "name": "sparse 32x16", "chosen": True, "difference": -0.001, "lower": -0.002, "upper": 0.0},
    ],
}


def test_the_table_shows_the_smallest_forest_that_ranks_as_well() -> None:
    """Teacher, the smallest non-inferior forest, then the students with the chosen one first."""
    names = [row["name"] for row in table.shown_rows(RESULT)]
    assert names == ["90 trees", "50 trees", "sparse 32x16", "dense 8x4"]
    assert table.smallest_forest({"rows": RESULT["rows"][:2]}) is None


def test_speed_is_said_against_both_rivals() -> None:
    """The sentence divides the rivals' times by the student's, at the batch sizes that both have."""
    said = table.speed_sentence(RESULT)
    assert "as the teacher in lleaves: 20 at 20, 20 at 128, 20 at 1000" in said
    assert "(50 trees) in lleaves: 10 at 128" in said
    assert table.speed_sentence({"student": {}}) == ""
