"""Pages that are generated say what the program says."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest


def test_command_reference_is_current(repo: Path) -> None:
    """docs/cli.md holds the help of each command, word for word."""
    pytest.importorskip("typer", reason="typer is not installed (extra 'cli')")
    made = runpy.run_path(str(repo / "docs" / "make_cli.py"))
    expected = made["page"]()
    assert "## `prunus rank compress`" in expected
    assert (repo / "docs" / "cli.md").read_text(encoding="utf-8") == expected, "run  make docs"
