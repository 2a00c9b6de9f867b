"""What the tests of the command share: ways to run it, and what it gave."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from prunus.data.ranking import RankingData

N_FEATURES = 12

QUICK = ("--effort", "quick", "--epochs", "2")


@dataclass(frozen=True)
class Done:
    """What a call of the command gave.

    Attributes:
        code: exit code.
        out: stdout.
        err: stderr.
    """

    code: int
    out: str
    err: str

    def json(self) -> dict[str, Any]:
        """Read stdout as the one JSON object that it must be."""
        assert self.code == 0, self.err
        value = json.loads(self.out)
        assert isinstance(value, dict)
        return value

    def refused(self) -> str:
        """Check that the command refused its input as it should, and give the message."""
        assert self.code == 2, (self.code, self.out, self.err)
        assert self.out == ""
        errors = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert errors == self.err.splitlines()[-1:], self.err
        assert "Traceback" not in self.err
        return errors[0]


@dataclass(frozen=True)
class World:
    """A folder with data and a teacher.

    Attributes:
        path: the folder; train.parquet, valid.parquet, test.parquet, test.txt (LETOR) and teacher.txt are in it.
        test: the test data.
    """

    path: Path
    test: RankingData

    def __getitem__(self, name: str) -> str:
        """Give the path of a file."""
        return str(self.path / name)

    def parts(self) -> list[str]:
        """Give the options that name the three parts."""
        return [word for part in ("train", "valid", "test") for word in (f"--{part}", self[f"{part}.parquet"])]


def run(*args: object) -> Done:
    """Run the command in this process."""
    from typer.testing import CliRunner

    from prunus.cli.app import app

    done = CliRunner().invoke(app, [str(arg) for arg in args], prog_name="prunus")
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Done(done.exit_code, done.stdout, done.stderr)


STARTED = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
import prunus.bench.run as bench
import prunus.prune.gradual as gradual
bench.ROUNDS = 1
gradual.DOCUMENTS = 256
from prunus.cli import main
main()
"""


def start(*args: object, **settings: Any) -> subprocess.Popen[str]:
    """Start the command in a process of its own; what it times, it times in one round only, and it prunes by few documents.

    Ctrl-C reaches it wherever the tests run: a shell's background jobs ignore SIGINT, and their children inherit that.
    """
    command = [sys.executable, "-c", STARTED, *map(str, args)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env={**os.environ, **settings})


def frame_of(data: RankingData) -> Any:
    """Make an Arrow table of ranking data: qid, label, user, the features, and ``part``, which is qid modulo 5."""
    import pyarrow as pa

    qid = data.query_of_doc
    columns = {"qid": qid, "label": data.y.astype(np.int32), "part": qid % 5}
    if data.users is not None:
        columns["user"] = data.users[qid]
    return pa.table(columns | {name: data.X[:, f] for f, name in enumerate(data.feature_names)})


def write_parquet(path: Path | str, data: RankingData) -> None:
    """Write ranking data as Parquet."""
    import pyarrow.parquet as pq

    pq.write_table(frame_of(data), path)


def files_below(path: Path) -> list[str]:
    """List the files in a folder and below it."""
    return sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.is_file())
