"""The time model: its terms, its fit, its prices, its file, and a calibration of this machine."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.stats import spearmanr

from latency_models import TILE, round_numbers
from prunus.engine.network import BlockInt8, Dense, DenseInt8, LayerShape, Sparse
from prunus.errors import CalibrationError
from prunus.latency import LatencyModel, calibrate, random_batch, random_network
from prunus.latency.calibration import fit, least_squares
from prunus.latency.clock import scorer_of, time_against_anchor, time_call
from prunus.latency.key import Caches, data_caches
from prunus.latency.prices import reference
from prunus.latency.samples import Sample, tile_sizes
from prunus.latency.terms import Tile, expected_rows, fetch_terms, network_terms, share_missed, work_of

if TYPE_CHECKING:
    from pathlib import Path

CACHES = Caches(32 << 10, 1 << 20, 32 << 20)


def samples_of(model: LatencyModel, count: int, seed: int) -> list[Sample]:
    """Make measurements that a model predicts exactly."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        work = work_of(random_network(rng, widest=400))
        tile = model.full_tile(work.widest_pair)
        batches = [*(n for n in tile_sizes(16) if n <= tile), 128, 256]
        found.append(Sample(work, tile, {b: model.call_time_us(work, b, b) for b in batches}, {}, model.anchor_us))
    return found


def test_fit_recovers_a_model_that_is_true(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times made by known prices are predicted to a part in a thousand, on networks not used in the fit."""
    monkeypatch.setattr("prunus._native.lanes", lambda _: 16)
    true = round_numbers()
    got = fit(samples_of(true, 240, 0), call_in_anchors=true.call_us / true.anchor_us)
    for sample in samples_of(true, 10, 1):
        for batch in (1, 3, 20, 64, 100, 128, 1000):
            expected = true.call_time_us(sample.work, batch, batch)
            assert got.call_time_us(sample.work, batch, batch) == pytest.approx(expected, rel=2e-3)
    assert got.error < 1e-3
    assert all(price >= 0 for prices in got.tiles.values() for price in prices.values())


def test_one_wild_measurement_does_not_move_the_fit() -> None:
    """A row ten times too slow leaves the prices that the others agree on."""
    rows = [{"a": float(i % 7 + 1), "b": float(i % 3)} for i in range(60)]
    us = [2 * row["a"] + 5 * row["b"] for row in rows]
    us[10] *= 10
    assert least_squares(rows, us) == pytest.approx({"a": 2.0, "b": 5.0}, rel=1e-2)


def test_a_solver_that_goes_round_in_circles_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one solver gives up another one finds the same prices: a calibration does not fail by chance."""

    def gives_up(*_: object, **__: object) -> None:
        message = "Maximum number of iterations reached."
        raise RuntimeError(message)

    rows = [{"a": float(i % 7 + 1), "b": float(i % 3)} for i in range(60)]
    us = [2 * row["a"] + 5 * row["b"] for row in rows]
    monkeypatch.setattr("scipy.optimize.nnls", gives_up)
    assert least_squares(rows, us) == pytest.approx({"a": 2.0, "b": 5.0}, rel=1e-3)


def test_terms_count_what_the_layers_hold() -> None:
    """Weights, rows and multiply-adds of a network add up over its layers."""
    rng = np.random.default_rng(3)
    for _ in range(20):
        network = random_network(rng, widest=100)
        hidden = network.layers[:-1]
        terms = network_terms(work_of(network), Tile(64, 4, 16), CACHES)
        sparse = [layer for layer in hidden if isinstance(layer, Sparse)]
        assert terms.get("weights", 0) == sum(len(layer.values) for layer in sparse)
        assert terms.get("rows", 0) + terms.get("empty rows", 0) == sum(layer.n_outputs for layer in sparse)
        dense = [layer for layer in hidden if isinstance(layer, Dense)]
        assert terms.get("multiply-adds", 0) == sum(layer.n_inputs * layer.n_outputs for layer in dense)
        fours = [-(-layer.n_inputs // 4) * layer.n_outputs for layer in hidden if isinstance(layer, DenseInt8)]
        assert terms.get("int8: multiply-adds", 0) == sum(fours)
        blocks = [len(layer.blocks) for layer in hidden if isinstance(layer, BlockInt8)]
        assert terms.get("blocks: weights", 0) == sum(blocks)
        assert terms["slots"] + terms["log slots"] == network.inputs.n_slots
        assert all(value >= 0 for value in terms.values())


@pytest.mark.parametrize(
    ("n_in", "n_out", "stored"), [(40, 20, 30), (100, 64, 3200), (8, 5, 40), (8, 5, 0), (500, 300, 9000)]
)
def test_expected_rows_hold_every_weight(n_in: int, n_out: int, stored: int) -> None:
    """Lengths that are taken to be random add up to the rows and weights of the layer, and none is impossible."""
    rows = expected_rows(n_in, n_out, stored)
    assert rows.counts.sum() == pytest.approx(n_out)
    assert rows.lengths @ rows.counts == pytest.approx(stored, rel=1e-3)
    assert rows.lengths.min() >= 0
    assert rows.lengths.max() <= n_in
    assert 1 <= rows.runs <= min(n_out, n_in + 1)


def test_expected_rows_are_those_of_random_layers() -> None:
    """The number of different row lengths is what random layers have, on average."""
    rng = np.random.default_rng(0)
    counted = []
    for _ in range(200):
        flat = np.zeros(60 * 30, bool)
        flat[rng.choice(flat.size, 240, replace=False)] = True
        counted.append(len(np.unique(flat.reshape(30, 60).sum(axis=1))))
    assert expected_rows(60, 30, 240).runs == pytest.approx(np.mean(counted), rel=0.05)


def test_caches_lose_more_of_a_larger_working_set() -> None:
    """Nothing of half a cache is missed, everything of twice one."""
    shares = [share_missed(size, 1000) for size in (0, 500, 800, 1000, 1500, 4000)]
    assert shares == sorted(shares)
    assert shares[0] == shares[1] == 0.0
    assert shares[-1] == shares[-2] == 1.0


def test_more_documents_in_the_cycle_cost_more() -> None:
    """Documents that come from memory are never predicted to be cheaper than those in a cache."""
    work = work_of(random_network(np.random.default_rng(1)))
    lines = [sum(fetch_terms(work, 128, cycle, CACHES).values()) for cycle in (128, 1000, 10_000, 10**6)]
    assert lines == sorted(lines)
    assert lines[-1] > lines[0]


@pytest.mark.parametrize("batch", [1, 16, 17, 64, 100, 128, 1000])
def test_a_call_is_the_sum_of_its_tiles(batch: int) -> None:
    """Full tiles and the smallest tile that holds the rest, and the call once."""
    model = round_numbers()
    cut = model.tiles_of(batch)
    assert sum(tile.documents * n for _, tile, n in cut) >= batch
    assert sum(tile.documents * n for name, tile, n in cut if name in ("64", "full")) == batch - batch % 64
    work = work_of(random_network(np.random.default_rng(2), widest=100))
    shares = {"1": 0.25, "16": 0.25, "24": 0.5, "32": 0.6, "48": 0.8, "64": 1.0, "full": 1.0}
    terms = network_terms(work, Tile(64, 4, 16), CACHES)
    tile = sum(TILE.get(name, 0) * value for name, value in terms.items())
    expected = model.call_us + sum(shares[name] * n * tile for name, _, n in cut)
    assert model.call_time_us(work, batch, batch) == pytest.approx(expected)


@pytest.mark.parametrize("batch", [1, 16, 17, 64, 128, 1000])
@pytest.mark.parametrize("weights", [300, 2000, 9000])
def test_prices_add_up_to_a_prediction(batch: int, weights: int) -> None:
    """A network that costs the target by prices is predicted to take it, however its features are scattered."""
    model = round_numbers()
    rng = np.random.default_rng(5)
    for _ in range(5):
        network = random_network(rng)
        places = network.inputs.n_slots * 64 + 2048
        if weights > 0.8 * places:
            continue
        shape = reference(network.inputs, weights, 96 * max((weights / 1600) ** 0.5, 1), "sparse")
        target = model.predict(shape, batch).us_per_doc
        prices = model.prices(network.inputs, batch, target_us=target)
        units = sum(layer.n_outputs for layer in shape.layers)
        stored = sum(layer.stored for layer in shape.layers)
        total = prices.fixed + prices.unit * units + prices.weight * stored + float(prices.slot.sum())
        assert total == pytest.approx(target, rel=0.02)
        assert min(prices.weight, prices.unit, prices.block, prices.slot.min()) > 0


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


@pytest.mark.parametrize("part", ["_cpu", "data_caches", "choose_isa", "_engine_build"])
def test_the_key_names_all_that_a_time_depends_on(monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    """Another CPU, other caches, another instruction set and another build have other keys."""
    from prunus.latency import key

    before = key.machine_key()
    monkeypatch.setattr(key, part, lambda: "another")
    assert key.machine_key() != before


def test_caches_rise() -> None:
    """What the system says of its caches makes sense."""
    caches = data_caches()
    assert 4096 <= caches.l1 <= caches.l2 <= caches.l3


def test_a_stored_model_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second call measures nothing; a damaged store is measured again."""
    monkeypatch.setenv("PRUNUS_CACHE", str(tmp_path))
    calls = []

    def fake(**_: object) -> LatencyModel:
        calls.append(1)
        return round_numbers()

    monkeypatch.setattr("prunus.latency.calibration.calibrate", fake)
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


def test_wide_networks_run_in_tiles_of_half_the_size() -> None:
    """From the bound that the calibration found, and not below it."""
    model = round_numbers()
    assert [n for _, _, n in model.tiles_of(128, 479)] == [1.0, 1.0]
    assert [(tile.documents, n) for _, tile, n in model.tiles_of(100, 480)] == [(32, 1.0), (32, 2.0), (4, 1.0)]


def test_layers_are_priced_one_by_one() -> None:
    """A layer costs what it adds: twice the weights, twice the price, where rows cost nothing."""
    model = round_numbers()
    rng = np.random.default_rng(0)
    weight = (rng.random((24, 50)) < 0.3).astype(np.float32)
    layer = Sparse.from_dense(weight, np.zeros(24, np.float32), 2)
    stored, rows = int(weight.sum()), int(weight.any(axis=1).sum())
    assert model.layer_us(layer, batch=64) == pytest.approx((0.001 * stored + 0.001 * rows) / 64)


def test_int8_layers_have_terms_of_their_own() -> None:
    """A layer of bytes is not priced as one of floats."""
    network = random_network(np.random.default_rng(0))
    for kind, name in (("dense_int8", "int8: multiply-adds"), ("block_int8", "blocks: weights")):
        shape = reference(network.inputs, 2000, 96, kind)
        assert all(isinstance(layer, LayerShape) for layer in shape.layers)
        terms = network_terms(work_of(shape), Tile(64, 4, 16), CACHES)
        assert terms[name] > 0
        assert "multiply-adds" not in terms
        assert "weights" not in terms


@pytest.mark.long
def test_a_calibration_orders_networks_by_their_time() -> None:
    """Networks that a short calibration has not seen are ranked as their measured times are, and more work is more time."""
    model = calibrate(12.0)
    rng = np.random.default_rng(99)
    predicted, measured = [], []
    for _ in range(60):
        network, batch = random_network(rng, widest=300), min(random_batch(rng), 1000)
        X = np.exp(rng.standard_normal((batch, network.n_features), np.float32))
        score = scorer_of(network).score
        us, anchor = time_against_anchor(partial(score, X), seconds=0.02)
        measured.append(us / anchor / batch)
        predicted.append(model.predict(network, batch).us_per_doc)
        calls = {n: model.predict(network, n).us_per_doc * n for n in (1, 16, 64, 128, 1000)}
        assert calls[1] > 0
        # Eight times the documents at least: prices that were measured beside other work bend by a tenth or two.
        assert all(calls[few] <= calls[many] for few, many in ((1, 64), (16, 128), (64, 1000)))
    assert spearmanr(predicted, measured).statistic > 0.95
