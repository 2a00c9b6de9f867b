"""The time model: its formula, its file, and a calibration of this machine."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from latency_models import round_numbers
from prunus.errors import CalibrationError
from prunus.latency import LatencyModel, _fit_model, _terms, calibrate, random_network, time_call

if TYPE_CHECKING:
    from pathlib import Path


def test_fit_recovers_a_model_that_is_true() -> None:
    """Times made by the formula are predicted to a part in a thousand, on networks not used in the fit."""
    true = round_numbers()
    rng = np.random.default_rng(0)
    networks = [random_network(rng) for _ in range(60)]
    few = [1, 2, 4, 8, 16]
    batches = [*few, 32, 48, 64, 256]
    us = np.array([[true.predict(n, b).us_per_doc * b for b in batches] for n in networks])
    got = _fit_model(np.array([_terms(n.shape) for n in networks]), us, batches, few, 16, 10.0)
    fresh = [random_network(rng) for _ in range(10)]
    for network in fresh:
        for batch in (1, 20, 64, 128, 1000):
            assert got.predict(network, batch).us_per_doc == pytest.approx(
                true.predict(network, batch).us_per_doc, rel=1e-3
            )
    assert got.error < 1e-6


@pytest.mark.parametrize("batch", [1, 16, 17, 64, 128, 1000])
def test_prices_add_up_to_a_prediction(batch: int) -> None:
    """A sparse network costs the sum of its parts, however its features are scattered."""
    model = round_numbers()
    rng = np.random.default_rng(5)
    for _ in range(20):
        network = random_network(rng)
        shape = replace(network.shape, layers=tuple(x._replace(kind="sparse") for x in network.shape.layers))
        prices = model.prices(network.inputs, batch)
        units = sum(b for _, b, _, _ in shape.layers)
        stored = sum(n for _, _, n, _ in shape.layers)
        total = prices.fixed + prices.unit * units + prices.weight * stored + prices.slot.sum()
        assert total == pytest.approx(model.predict(shape, batch).us_per_doc, rel=1e-6)


def test_file_round_trip(tmp_path: Path) -> None:
    """A stored model reads back equal."""
    model = round_numbers()
    model.save(tmp_path / "m.json")
    assert LatencyModel.load(tmp_path / "m.json") == model


@pytest.mark.parametrize("content", ["", "{}", "[]", "not json", '{"key": 1}'])
def test_a_damaged_file_is_named(tmp_path: Path, content: str) -> None:
    """Whatever stands in the file, the error says to calibrate again."""
    (tmp_path / "m.json").write_text(content)
    with pytest.raises(CalibrationError, match="calibrate again"):
        LatencyModel.load(tmp_path / "m.json")


def test_another_machine_is_refused(tmp_path: Path) -> None:
    """A model of another CPU or engine is no model of this one."""
    model = round_numbers()
    model.save(tmp_path / "m.json")
    values = json.loads((tmp_path / "m.json").read_text()) | {"key": "elsewhere"}
    (tmp_path / "m.json").write_text(json.dumps(values))
    with pytest.raises(CalibrationError, match="another CPU"):
        LatencyModel.load(tmp_path / "m.json")


def test_a_stored_model_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second call measures nothing; a damaged store is measured again."""
    monkeypatch.setenv("PRUNUS_CACHE", str(tmp_path))
    calls = []

    def fake(**_: object) -> LatencyModel:
        calls.append(1)
        return round_numbers()

    monkeypatch.setattr("prunus.latency.calibrate", fake)
    first = LatencyModel.load_or_calibrate()
    assert LatencyModel.load_or_calibrate() == first
    assert len(calls) == 1
    next(tmp_path.glob("latency-*.json")).write_text("{")
    assert LatencyModel.load_or_calibrate() == first
    assert len(calls) == 2


def test_time_call_counts_what_it_calls() -> None:
    """Longer work takes longer, by its own measure of it."""
    short = time_call(lambda: sum(range(200)), seconds=0.05)
    long = time_call(lambda: sum(range(20_000)), seconds=0.05)
    assert 10 < long / short < 1000


@pytest.mark.long
def test_calibration_predicts_more_work_as_more_time() -> None:
    """A short calibration gives positive times that rise with batch and with weights."""
    model = calibrate(4.0)
    rng = np.random.default_rng(1)
    for _ in range(5):
        network = random_network(rng)
        per_call = [model.predict(network, batch).us_per_doc * batch for batch in (1, 16, 64, 128, 1000)]
        assert per_call[0] > 0
        assert all(a <= b * 1.01 for a, b in itertools.pairwise(per_call))
