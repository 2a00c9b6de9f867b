"""The verbs of recommenders: files in; the promised keys, tables, verdicts and named refusals out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from cli_tools import run
from interactions_world import make_interactions

pytest.importorskip("typer", reason="typer is not installed (extra 'cli')")
pytest.importorskip("torch", reason="torch is not installed (extra 'train')")

QUICK = ("--factors", "48", "--epochs", "6", "-k", "5", "--l2", "20", "--margin", "0.5")


@dataclass(frozen=True)
class Compressed:
    """A folder with interactions of named items (ratings.csv) and what came of them (out)."""

    path: Path
    values: dict[str, object]

    @property
    def model(self) -> Path:
        """The model file."""
        return self.path / "out" / "recommender.prunus"


@pytest.fixture(scope="module")
def compressed(tmp_path_factory: pytest.TempPathFactory) -> Compressed:
    """Write interactions as text, and compress them once."""
    folder = tmp_path_factory.mktemp("recommend")
    data = make_interactions(250, 80, n_each=12)
    assert data.times is not None
    rows = zip(data.user_of.tolist(), data.items.tolist(), data.times.tolist(), strict=True)
    lines = [f"u{user},film {item},{1 + item % 5},{time}" for user, item, time in rows]
    (folder / "ratings.csv").write_text("user,item,rating,timestamp\n" + "\n".join(lines) + "\n")
    done = run(
        "recommend", "compress", folder / "ratings.csv", "--budget", "60B", "-o", folder / "out", *QUICK, "--json"
    )
    return Compressed(folder, done.json())


def test_compress_gives_the_promised_keys(compressed: Compressed) -> None:
    """The keys of DESIGN.md, figures in range, the names' bytes beside; and the table says the same."""
    values = compressed.values
    student = values["student"]
    assert isinstance(student, dict)
    assert {"ndcg@5", "recall@5", "bytes_per_item", "file_bytes"} <= student.keys()
    assert student["bytes_per_item"] <= 60
    assert student["id_map_bytes"] > 0
    assert student["file_bytes"] == compressed.model.stat().st_size
    assert values["split"] == "strong:0.1"
    again = run(
        "recommend",
        "compress",
        compressed.path / "ratings.csv",
        "--budget",
        "60B",
        "-o",
        compressed.path / "out",
        *QUICK,
    )
    assert again.code == 0, again.err
    assert f"{student['ndcg@5']:.4f}" in again.out
    assert "users" in again.out
    assert "quer" not in again.out
    assert "which bytes/item does not count" in again.out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--budget", "60"), "expected bytes an item"),
        (("--budget", "1B"), "one value an item takes"),
        (("--budget", "60B", "--split", "half"), "expected leave-last-out"),
        (("--budget", "60B", "--split", "strong:0.1", "--test", "x"), "expected one of them"),
        (("--budget", "60B", "--min-rating", "9"), "below the least rating"),
        (("--budget", "60B", "--item", "song"), "no column 'song'"),
        (("--budget", "60B", "--where", "rating>"), "cannot be read"),
        (("--budget", "60B", "--test", "nothing.txt"), "cannot be opened"),
        (("--budget", "60B", "--l2", "0"), "above 0"),
    ],
)
def test_compress_refuses(compressed: Compressed, tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    """What cannot be used is one line on stderr, and nothing is written."""
    done = run("recommend", "compress", compressed.path / "ratings.csv", *options, "-o", tmp_path / "out")
    assert said in done.refused()
    assert not (tmp_path / "out").exists()


def test_given_test_part(compressed: Compressed, tmp_path: Path) -> None:
    """Lists a user, and a test part as a file; numbered items need no names in the file."""
    rng = np.random.default_rng(0)
    rows = [np.unique(rng.integers(0, 40, 10)).tolist() for _ in range(60)]
    rows[0] = sorted({*rows[0], *range(40)} - {39})
    for name, part in (("train.txt", slice(0, -2)), ("test.txt", slice(-2, None))):
        (tmp_path / name).write_text("".join(f"{u} {' '.join(map(str, r[part]))}\n" for u, r in enumerate(rows)))
    done = run(
        "recommend", "compress", tmp_path / "train.txt", "--test", tmp_path / "test.txt", "--budget", "4KB",
        "-o", tmp_path / "out", *QUICK, "--epochs", "1", "--json",
    )  # fmt: skip
    values = done.json()
    assert values["split"] == "given"
    assert values["student"]["id_map_bytes"] == 0
    assert values["student"]["file_bytes"] <= 4000
