"""Write docs/cli.md: the help of each command, word for word. ``make docs`` runs this; a test compares the two."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer
from typer.testing import CliRunner

from prunus.cli.app import app

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = Path(__file__).with_name("cli.md")

HEAD = """# The command

Each section is what `--help` prints. `make docs` writes this page; do not edit it.
"""


def commands(command: object, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Give the path of a command and of those below it, in the order of the help."""
    yield path
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*path, name))


def page() -> str:
    """Make the page."""
    runner = CliRunner(env={"COLUMNS": "100", "TERMINAL_WIDTH": "100", "NO_COLOR": "1", "TERM": "dumb"})
    parts = [HEAD]
    for path in commands(typer.main.get_command(app), ()):
        done = runner.invoke(app, [*path, "--help"], prog_name="prunus", catch_exceptions=False)
        if done.exit_code:
            msg = f"prunus {' '.join(path)} --help exits with {done.exit_code}: {done.output}"
            raise RuntimeError(msg)
        title = " ".join(("prunus", *path))
        text = "\n".join(line.rstrip() for line in done.stdout.strip("\n").splitlines())
        parts.append(f"## `{title}`\n\n```text\n{text}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE}")
