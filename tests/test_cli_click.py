"""``prunus score`` and ``prunus inspect`` of a click model."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

import prunus
from cli_tools import run
from click_models import SHAPES, columns_of, make_click
from prunus.data.event_sources import ParquetSource
from prunus.engine.event_scorer import EventScorer

if TYPE_CHECKING:
    from pathlib import Path

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model's file, with events beside it."""
    rng = np.random.default_rng(0)
    made = make_click(rng, SHAPES["bottom"])
    EventScorer(made, columns_of(made), metadata={"window": 7}).save(tmp_path / "m.prunus")
    columns = {name: rng.integers(0, 5, 90) for name in columns_of(made).id_fields}
    columns |= {name: rng.normal(size=90) for name in columns_of(made).dense}
    columns |= {"click": rng.integers(0, 2, 90), "time": np.arange(90)}
    for part, rows in (("a", slice(60)), ("b", slice(60, 90))):
        pq.write_table(pa.table({name: values[rows] for name, values in columns.items()}), tmp_path / f"{part}.parquet")
    return tmp_path / "m.prunus"


def test_score_writes_log_odds(model: Path) -> None:
    """The events of all files, in their order, as the scorer scores them; rows and forms as of any scores."""
    scorer = prunus.load(model)
    assert isinstance(scorer, EventScorer)
    files = [model.parent / "a.parquet", model.parent / "b.parquet"]
    events = ParquetSource(files, scorer.schema).read(1000)
    assert events is not None
    expected = scorer.score(events.ids, events.dense)
    values = run("score", model, *files, "--json").json()
    assert values["events"] == 90
    np.testing.assert_allclose(values["scores"], expected, rtol=1e-5)
    run("score", model, *files, "-o", model.parent / "s.parquet", "--threads", "2", "--where", "time>=60")
    np.testing.assert_array_equal(pq.read_table(model.parent / "s.parquet")["score"].to_numpy(), expected[60:])


def test_lines_of_json_are_scored_without_labels(model: Path) -> None:
    """The same events as lines of JSON, in a file or a pipe, have the same scores; clicks need not be known."""
    rows = pq.read_table(model.parent / "a.parquet").drop_columns(["click"]).to_pylist()
    (model.parent / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    expected = run("score", model, model.parent / "a.parquet", "--json").json()["scores"]
    assert run("score", model, model.parent / "a.jsonl", "--json").json()["scores"] == expected


def test_events_that_are_none_are_refused(model: Path) -> None:
    """A column that is not there is named, and nothing is written."""
    pq.write_table(pq.read_table(model.parent / "a.parquet").drop_columns(["x3"]), model.parent / "c.parquet")
    out = model.parent / "s.csv"
    assert "x3" in run("score", model, model.parent / "c.parquet", "-o", out).refused()
    assert not out.exists()


def test_inspect(model: Path) -> None:
    """Inspect says which ids are known, what the networks are, which columns it reads, and where it comes from."""
    values = run("inspect", model, "--json").json()
    assert values["ids"] == [{"name": f"id{i}", "known": n} for i, n in enumerate(SHAPES["bottom"].ids)]
    assert set(values["networks"]) == {"bottom", "top"}
    assert values["nonzeros"] == sum(row["nonzeros"] for rows in values["networks"].values() for row in rows)
    assert (values["label"], values["provenance"]) == ("click>0", {"window": 7})
    text = run("inspect", model).out
    assert "click model, format 2" in text
    assert "bottom network" in text
    assert "embeddings 5 wide, 6 products; 6 dense features: x0, x1" in text
