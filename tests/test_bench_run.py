"""Whole comparisons between engines that are not engines: order, ratios, failures by name, files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from prunus.bench import machine
from prunus.bench.quick import compare_in_process, enough_rows, time_scorer
from prunus.bench.run import Contestant, against, compare
from prunus.errors import OutputError, PeerError

ENGINES = Path(__file__).with_name("bench_engines.py")
X = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep away from the user's cache."""
    monkeypatch.setenv("PRUNUS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def contestant(tmp_path: Path):
    """Make a contestant of one of the test engines."""

    def make(name: str, engine: str = "Linear", *, ours: bool = False, **settings: object) -> Contestant:
        model = tmp_path / f"{name}.json"
        model.write_text(json.dumps({"name": name, **settings}))
        return Contestant(f"{ENGINES}:{engine}", model, name, ours=ours, extra={"ndcg@10": 0.5})

    return make


def quiet(_: str) -> None:
    """Say nothing."""


def test_rounds_are_interleaved_and_reversed(contestant, tmp_path: Path) -> None:
    """In every round each engine has one slice at each batch size, and every other round runs backwards."""
    log = tmp_path / "log.txt"
    names = ["a", "b", "c"]
    compare([contestant(n, log=str(log)) for n in names], X, (2, 5), rounds=3, slice_seconds=0.0, tell=quiet)
    calls = [line.split() for line in log.read_text().splitlines()]
    expected = [[name, b] for order in (names, names[::-1], names) for b in ("2", "5") for name in order]

    def runs(items: list[list[str]]) -> list[list[str]]:
        return [item for i, item in enumerate(items) if i == 0 or item != items[i - 1]]

    assert runs(calls) == runs(expected)
    assert len(calls) >= 4 * len(expected)


def test_rows_carry_what_is_promised(contestant) -> None:
    """Rows come by batch size in the order given, with the ratio to our model and what the caller knows."""
    progress: list[tuple[int, int]] = []
    found = compare(
        [contestant("rival"), contestant("mine", ours=True)],
        X,
        (8, 1),
        rounds=3,
        slice_seconds=0.001,
        tell=quiet,
        progress=lambda done, total: progress.append((done, total)),
    )
    assert [(row["engine"], row["batch"]) for row in found.rows] == [
        ("rival", 1),
        ("mine", 1),
        ("rival", 8),
        ("mine", 8),
    ]
    for row in found.rows:
        assert row["us_per_doc"] > 0
        assert row["p99_us_per_doc"] >= row["us_per_doc"] * 0.5
        assert row["ndcg@10"] == 0.5
        assert row["calls"] >= 9
        assert (row["ratio"] == 1.0) == (row["engine"] == "mine") or row["ratio"] > 0
    assert all(row["ratio"] == 1.0 for row in found.rows if row["engine"] == "mine")
    assert found.unavailable == {}
    assert progress == [(1, 3), (2, 3), (3, 3)]
    assert found.settings["rounds"] == 3
    assert all(len(slices) == 3 for cells in found.raw.values() for slices in cells.values())


def test_engine_that_fails_is_named_and_the_others_go_on(contestant, tmp_path: Path) -> None:
    """Failing at load, at the first call, in the middle, or for want of a file: each is told by name, with its reason."""
    missing = Contestant("prunus", tmp_path / "nothing.prunus", "missing")
    unknown = Contestant("no-such-engine", contestant("x").model, "unknown")
    foreign = Contestant("lightgbm", contestant("y").model, "foreign")
    found = compare(
        [
            contestant("good"),
            contestant("broken", "Broken"),
            contestant("crashing", "Crashing", calls=35),
            missing,
            unknown,
            foreign,
        ],
        X,
        (2,),
        rounds=9,
        slice_seconds=0.0,
        tell=quiet,
    )
    assert {row["engine"] for row in found.rows} == {"good"}
    assert "no kernel for batches of 2" in found.unavailable["broken"]
    assert "during slice (exit 7): segmentation fault, more or less" in found.unavailable["crashing"]
    assert "no file" in found.unavailable["missing"]
    assert "unknown engine 'no-such-engine'; expected prunus, lightgbm" in found.unavailable["unknown"]
    assert "cannot run y.json (catboost); expected a model file of lightgbm" in found.unavailable["foreign"]


def test_ratio_is_missing_where_our_model_did_not_run(contestant) -> None:
    """Without our own times there is nothing to divide by, and no ratio is made up."""
    found = compare([contestant("mine", "Broken", ours=True), contestant("rival")], X, (2,), rounds=3, tell=quiet)
    assert [row["ratio"] for row in found.rows] == [None]
    assert list(found.unavailable) == ["mine"]


def test_wrong_scores_are_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A contestant whose scores differ from the reference by over a thousandth is marked in each of its rows."""
    monkeypatch.setattr("prunus.bench.parity.OWN_PREDICT", (f"{ENGINES}:Linear",))
    model = tmp_path / "m.json"
    for factor, wrong in ((1.0005, None), (1.5, True)):
        model.write_text(json.dumps({"factor": factor}))
        found = compare([Contestant(f"{ENGINES}:Linear", model, "it")], X, (1, 4), rounds=3, tell=quiet)
        assert [row.get("wrong") for row in found.rows] == [wrong, wrong]
        assert found.rows[0]["max_difference"] == pytest.approx((factor - 1) * np.abs(X[:, 0]).max(), rel=1e-4)


def test_file_holds_every_call(contestant, tmp_path: Path) -> None:
    """The file can be read back, has the raw times and the machine, and a folder that is not there is an OutputError."""
    found = compare([contestant("mine")], X, (2,), rounds=3, slice_seconds=0.0, tell=quiet)
    found.save(tmp_path / "result.json")
    read = json.loads((tmp_path / "result.json").read_text())
    assert read == found.to_json(raw=True)
    assert read["raw"]["mine"]["2"] == found.raw["mine"]["2"]
    assert read["machine"]["cpu"]
    assert "raw" not in found.to_json()
    with pytest.raises(OutputError, match="cannot write"):
        found.save(tmp_path / "no" / "result.json")


@pytest.mark.parametrize("names", [[], ["a", "a"]])
def test_names_must_differ(contestant, names: list[str]) -> None:
    """No contestant, or two of one name, is refused before anything starts."""
    with pytest.raises(PeerError, match="each with a name of its own"):
        compare([contestant(name) for name in names], X, tell=quiet)


def test_against_lists_our_model_first() -> None:
    """Engines of trees get the teacher, engines of networks our model, and each row its model's quality."""
    found = against(["lleaves", "torch"], "m.prunus", "t.txt", student={"ndcg@10": 0.6}, teacher_extra={"ndcg@10": 0.5})
    assert [(c.label, str(c.model), c.ours, c.extra["ndcg@10"]) for c in found] == [
        ("prunus", "m.prunus", True, 0.6),
        ("lleaves", "t.txt", False, 0.5),
        ("torch", "m.prunus", False, 0.6),
    ]
    with pytest.raises(PeerError, match="lleaves runs trees, and no teacher was given"):
        against(["lleaves"], "m.prunus")
    with pytest.raises(PeerError, match="unknown engine 'fast'; expected one of lightgbm"):
        against(["fast"], "m.prunus")


def test_in_process_scorers_are_timed_in_turn() -> None:
    """Two scorers get the same number of slices in reversing order, and the first one's ratio is 1."""
    order: list[str] = []

    class Scorer:
        def __init__(self, name: str) -> None:
            self.name = name

        def score(self, X: np.ndarray) -> np.ndarray:
            order.append(self.name)
            return X[:, 0]

    rows = compare_in_process([Scorer("a"), Scorer("b").score], X, 10, rounds=4, slice_seconds=0.0)
    assert [name for i, name in enumerate(order) if i == 0 or name != order[i - 1]] == ["a", "b", "a", "b", "a"]
    assert rows[0]["ratio"] == 1.0
    assert rows[1]["ratio"] > 0
    assert rows[0]["calls"] >= 12


def test_time_scorer_gives_median_and_p99() -> None:
    """A scorer that sleeps 2 ms for 100 documents costs at least 20 us each."""
    import time

    def score(X: np.ndarray) -> np.ndarray:
        time.sleep(0.002)
        return X[:, 0]

    median, p99 = time_scorer(score, X, 100, seconds=0.05)
    assert median >= 20.0
    assert p99 >= median


def test_few_rows_are_repeated() -> None:
    """Rows are repeated until there are two batches, each row whole; enough rows are left alone."""
    longer = enough_rows(X, 60)
    assert longer.shape == (120, 3)
    assert np.array_equal(longer[50:100], X)
    assert enough_rows(X, 25) is X


def test_machine_describes_itself() -> None:
    """Every field that a figure needs beside it is there, and is plain JSON."""
    found = machine.describe()
    assert json.loads(json.dumps(found)) == found
    assert found["numpy"] == np.__version__
    assert found["cpu"]
    assert {"cores", "affinity", "caches", "isas", "python", "prunus", "commit", "time"} <= found.keys()
