"""The films of arXiv 2401.10484 run again: on a generated twin, with little training."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed (extra 'train')")
pytest.importorskip("torch_pruning", reason="torch_pruning is not installed (extra 'train')")
pl = pytest.importorskip("polars", reason="polars is not installed (extra 'io')")
pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra 'io')")


@pytest.fixture(scope="module")
def films(repo: Path) -> ModuleType:
    """Load the example as a module."""
    spec = importlib.util.spec_from_file_location("films", repo / "examples" / "films.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["films"] = module  # its dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_quick_table(films: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every model has a row; the pruned ones are as small as they say and take no more bytes; the table is printed."""
    table = films.main(
        ["--quick", "--groups", "numerical", "--json", str(tmp_path / "t.json"), "--models", str(tmp_path)]
    )
    rows = {row["model"]: row for row in table}
    printed = capsys.readouterr().out
    assert all(f"| {name} |" in printed for name in rows)
    full = rows["SAD"]["weights"]
    small = {"small dense alone", "small dense SAD", "SP-SAD", "LTH-SAD", "SS-SAD", "random mask SAD", "LTH alone"}
    for name in small | {"prune + fine-tune", "prune + fine-tune SAD"}:
        assert 0.35 * full < rows[name]["weights"] <= 0.41 * full, name
        assert rows[name]["bytes"] < rows["SAD"]["bytes"]
    assert rows["constant"]["weights"] == 0
    assert rows["SAD"]["mae_minus_sad"] == 0
    for row in table:
        assert row["mae"] ** 2 <= row["mse"], "the mean of squares is at least the square of the mean"
        assert row["us_per_film"] > 0
        assert row["joules"] is None or row["joules"] >= 0
    assert len(list(tmp_path.glob("numerical-0-*.prunus"))) == len(rows)


def test_nothing_is_learned_from_the_films_to_judge_on(films: ModuleType) -> None:
    """Inputs of the films to learn from are the same, whatever the films after them hold."""
    table = films.twin(300)
    late = pl.col("year") > 2013
    other = table.with_columns(
        pl.when(late).then(pl.lit("word1 word2")).otherwise(pl.col("overview")).alias("overview"),
        pl.when(late).then(pl.lit("nowhere")).otherwise(pl.col("country")).alias("country"),
        pl.when(late).then(pl.lit(1e9)).otherwise(pl.col("budget_usd")).alias("budget_usd"),
    )
    a, b = (films.prepare(frame, 2013, 9999) for frame in (table, other))
    for group in films.GROUPS:
        assert np.array_equal(a[group].X, b[group].X), group
        assert np.isfinite(a[group].X).all()
        assert len(a[group].X) + len(a[group].held) == 300
    assert not np.array_equal(a["all"].held, b["all"].held)


def test_real_table(films: ModuleType, data_dir: Path) -> None:
    """The real films come apart as the paper cuts them, and a line on them does better than the constant."""
    path = data_dir / "films" / "films.parquet"
    if not path.exists():
        pytest.skip(f"no films in {data_dir}")
    tasks = films.prepare(pl.read_parquet(path), 2013, 9999)
    task = tasks["all"]
    assert (len(task.y), len(task.held_y)) == (4014, 499)
    constant = np.abs(task.held_y - task.y.mean()).mean()
    assert constant == pytest.approx(0.953, abs=5e-4)
    line = films.Ridge(1000.0).fit(task.X, task.y).predict(task.held)
    assert np.abs(line - task.held_y).mean() < 0.9 * constant


@pytest.mark.parametrize(("energy", "joules"), [({0: 2.0, 1: 0.5}, 2.5), (None, None), ({}, None)])
def test_joules_are_the_machine_s_or_none(
    films: ModuleType, monkeypatch: pytest.MonkeyPatch, energy: dict[int, float] | None, joules: float | None
) -> None:
    """All packages of a machine that tells its joules are added up; one that does not is never guessed at."""

    class ZeusMonitor:
        """Answers as zeus does."""

        def __init__(self, gpu_indices: list[int]) -> None:
            assert gpu_indices == []

        def begin_window(self, _name: str) -> None:
            """Begin."""

        def end_window(self, _name: str) -> SimpleNamespace:
            """End."""
            return SimpleNamespace(cpu_energy=energy)

    monkeypatch.setitem(sys.modules, "zeus", ModuleType("zeus"))
    monkeypatch.setitem(sys.modules, "zeus.monitor", ModuleType("zeus.monitor"))
    sys.modules["zeus.monitor"].ZeusMonitor = ZeusMonitor  # type: ignore[attr-defined]
    with films.Meter(alone=True).running() as cost:
        sum(range(1000))
    assert cost["joules"] == joules
    assert cost["cpu_seconds"] >= 0
    with films.Meter(alone=False).running() as cost:
        pass
    assert cost["joules"] is None
