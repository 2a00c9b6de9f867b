"""What the README and the pages of docs show runs, and examples run: on generated data, with little training."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cli_tools import Done, run, write_parquet
from interactions_world import make_interactions

pytest.importorskip("typer", reason="typer is not installed (extra 'cli')")
pytest.importorskip("lightgbm", reason="lightgbm is not installed (extra 'train')")
pytest.importorskip("torch", reason="torch is not installed (extra 'train')")

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

pytest_plugins = ("cli_fixtures",)

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

QUICK = {
    ("demo",): ["--queries", "60", "--trees", "8", "--epochs", "1", "--budget", "30KB"],
    ("rank", "teach"): ["--trees", "8"],
    # Bytes instead of microseconds: a machine under load keeps those too.
    ("rank", "compress"): ["--effort", "quick", "--epochs", "1", "--budget", "30KB"],
    ("rank", "calibrate"): ["--seconds", "1"],
    ("bench",): ["--seconds", "0.2"],
    ("stream", "run"): ["--batch", "64", "--window", "512", "--warm-up", "1024", "--top", "16,8", "--capacity", "200"],
    ("recommend", "compress"): ["--factors", "48", "--epochs", "4", "--l2", "20", "-k", "5"],
}
"""What is added to a documented command, so that it ends soon; an option given twice counts as given last."""

EXAMPLE = """
import runpy, sys
import prunus.bench.run as bench
import prunus.prune.gradual as gradual
bench.ROUNDS = 1
gradual.DOCUMENTS = 256
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Runs an example as a program; what it times, it times in one round only, and it prunes by few documents."""

FIGURE = re.compile(r"\d\.\d+")


def blocks(page: Path, language: str) -> list[str]:
    """Give the fenced blocks of exactly this language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[list[str]]:
    """Give the calls of prunus in the page's sh blocks, as lists of words."""
    lines = [line for block in blocks(page, "sh") for line in block.replace("\\\n", " ").splitlines()]
    calls = [shlex.split(line, comments=True) for line in lines]
    return [call[1:] for call in calls if call[:1] == ["prunus"]]


def quickly(call: list[str]) -> Done:
    """Run a documented command with little training and timing."""
    more = next((extra for verb, extra in QUICK.items() if tuple(call[: len(verb)]) == verb), [])
    return run(*call, *more)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short_jobs: None) -> Path:
    """Stand in a folder that holds the files that the pages speak of."""
    from prunus.data.synthetic import generate_ranking

    monkeypatch.chdir(tmp_path)
    for seed, (name, n) in enumerate({"train": 60, "valid": 30, "test": 60}.items()):
        write_parquet(tmp_path / f"{name}.parquet", generate_ranking(n, seed, docs_per_query=(5, 15)))
    interactions = make_interactions(250, 80, n_each=12)
    columns = {"user": np.repeat(np.arange(250), np.diff(interactions.indptr)), "item": interactions.items}
    for name, more in {"ratings": {"rating": np.full(len(interactions.items), 5)}, "histories": {}}.items():
        pq.write_table(pa.table(columns | more), tmp_path / f"{name}.parquet")
    rng = np.random.default_rng(0)
    events = {"user": rng.integers(0, 50, 3000), "item": rng.integers(0, 20, 3000), "f1": rng.normal(size=3000)}
    clicked = (rng.random(3000) < 1 / (1 + np.exp(1 - events["f1"]))).astype(np.int8)
    pq.write_table(pa.table(events | {"second": np.arange(3000), "clicked": clicked}), tmp_path / "events.parquet")
    return tmp_path


def test_pages_have_commands() -> None:
    """The README shows each verb that its reader needs first."""
    shown = {
        tuple(call[:2]) if call[0] in ("rank", "recommend", "stream") else (call[0],)
        for call in commands(ROOT / "README.md")
    }
    assert {("rank", "teach"), ("rank", "compress"), ("score",), ("evaluate",), ("bench",), ("inspect",)} <= shown
    assert {("recommend", "compress"), ("recommend", "evaluate"), ("stream", "run"), ("stream", "rollback")} <= shown


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=lambda page: page.name)
def test_commands_run(page: Path, folder: Path) -> None:
    """Each documented command runs, one after the other in one folder."""
    for call in commands(page):
        done = quickly(call)
        assert done.code == 0, (call, done.err)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_readme_code_prints_what_it_says(folder: Path) -> None:
    """The README's Python runs after the demo; what it prints is what its comments say, figures of quality roughly."""
    assert quickly(["demo"]).code == 0
    (block,) = blocks(ROOT / "README.md", "python")
    done = subprocess.run([sys.executable, "-c", block], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    prints = [line for line in block.splitlines() if line.startswith("print(")]
    said = [line.rpartition("# ")[2] for line in prints]
    found = done.stdout.splitlines()
    assert len(prints) <= 10
    assert len(said) == len(found)
    for expected, printed in zip(said, found, strict=True):
        # A model's quality and its order of documents depend on its training; all else does not.
        if FIGURE.fullmatch(expected):
            assert 0.3 < float(printed) <= 1
        elif expected.startswith("["):
            assert sorted(printed.strip("[]").split()) == sorted(expected.strip("[]").split())
        else:
            assert printed == expected


def test_readme_opens_as_it_should() -> None:
    """Within the first 35 lines: the figure, ten lines of Python at most, the two commands, how to install."""
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:35]
    opening = "\n".join(lines)
    for expected in ("make demo", "make test", "pip install", "one thread", "```python"):
        assert expected in opening
    assert len([line for line in blocks(ROOT / "README.md", "python")[0].splitlines() if line]) <= 10


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Each relative link of a page leads to a file or folder of the repository."""
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    broken = [to for to in targets if "://" not in to and not (page.parent / to).exists()]
    assert broken == []


def test_index_names_every_page() -> None:
    """docs/README.md lists each page of docs."""
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert {name for name in pages if f"({name})" not in index} == set()


EXAMPLES = {
    "serve.py": ["prunus-demo/ranker.prunus"],
    "compress.py": ["out", "1"],
    "callable_teacher.py": ["1"],
    "films.py": ["--quick"],
}


def test_table_of_examples_is_whole() -> None:
    """No example is missing in the table that the test runs over."""
    assert {path.name for path in (ROOT / "examples").glob("*.py")} == set(EXAMPLES)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_run(name: str, folder: Path, model: Path) -> None:
    """Each example runs to its end and prints something."""
    if name == "serve.py":
        (folder / "prunus-demo").mkdir()
        (folder / "prunus-demo" / "ranker.prunus").write_bytes(model.read_bytes())
    command = [sys.executable, "-c", EXAMPLE, str(ROOT / "examples" / name), *EXAMPLES[name]]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout
