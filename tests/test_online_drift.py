"""Detectors of drift: they find what changed, keep still where nothing did, and go on from a state."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("river", reason="river is not installed (extra 'stream')")
from river.drift import ADWIN, PageHinkley

from prunus.online.drift import Drift, Watch


def test_a_gap_that_grows_is_seen_at_any_scale() -> None:
    """A rise of one spread is found within 100 batches, whatever the unit; a gap that stays alarms nobody."""
    for scale in (1e-4, 1.0, 50.0):
        rng = np.random.default_rng(0)
        drift = Drift()
        still = [drift.gap(scale * (0.2 + x)) for x in rng.normal(size=600)]
        assert not any(still)
        grown = [drift.gap(scale * (1.2 + x)) for x in rng.normal(size=100)]
        assert any(grown)


def test_a_gap_that_shrinks_is_no_alarm() -> None:
    """The watch of the gap looks upwards only."""
    rng = np.random.default_rng(1)
    drift = Drift()
    assert not any(drift.gap(x) for x in rng.normal(size=400))
    assert not any(drift.gap(x - 3) for x in rng.normal(size=200))


def test_a_new_pattern_is_given_time() -> None:
    """After a new pattern the watch learns anew for as long as it was told to, however large the gap."""
    rng = np.random.default_rng(2)
    drift = Drift(learn=50)
    for x in rng.normal(size=200):
        drift.gap(x)
    drift.new_pattern()
    assert not any(drift.gap(x + 9) for x in rng.normal(size=49))


def test_the_masters_loss() -> None:
    """A jump of the loss by a tenth is found, and noise about a level is not."""
    rng = np.random.default_rng(3)
    drift = Drift()
    assert not any(drift.loss(x) for x in 0.35 + 0.02 * rng.normal(size=500))
    assert any(drift.loss(x) for x in 0.385 + 0.02 * rng.normal(size=200))


def test_a_model_that_learns_fast_at_first_hides_no_drift() -> None:
    """A loss that falls steeply in its first batches, and later rises by three spreads of its noise: told within ten batches."""
    rng = np.random.default_rng(7)
    drift = Drift()
    level = 0.31 + 0.3 * np.exp(-np.arange(200) / 8)
    assert not any(drift.loss(x) for x in level + 0.015 * rng.normal(size=200))
    assert any(drift.loss(x) for x in 0.355 + 0.015 * rng.normal(size=10))


def test_numbers_that_are_none_are_left_out() -> None:
    """NaN and infinity change nothing."""
    drift = Drift()
    before = drift.state()
    assert not drift.gap(float("nan"))
    assert not drift.loss(float("inf"))
    assert drift.state() == before


@pytest.mark.parametrize("make", [ADWIN, lambda: PageHinkley(min_instances=5, threshold=5.0, mode="up")])
@pytest.mark.parametrize("memory", [120, 4096])
def test_a_watch_goes_on_from_its_state(make, memory: int) -> None:
    """Put down anywhere, a watch gives what it would have given, also where it forgets its older half."""
    rng = np.random.default_rng(4)
    numbers = np.concatenate([rng.normal(m, 1, 150) for m in (0, 3, 0)])
    whole, parts = Watch(make, 20, memory), Watch(make, 20, memory)
    found = []
    for number in numbers:
        found.append(whole.update(number))
        taken_up = Watch(make, 20, memory)
        taken_up.load(parts.state())
        parts = taken_up
        assert parts.update(number) == found[-1]
    assert any(found)
    assert len(parts.state()) <= 2 * memory


def test_a_watch_says_what_rivers_detector_says() -> None:
    """With room for all numbers, a watch is the detector on numbers over the spread of the first."""
    rng = np.random.default_rng(5)
    numbers = np.concatenate([rng.normal(m, 1, 200) for m in (0, 2)])
    watch, plain = Watch(ADWIN, 30), ADWIN()
    spread = (np.diff(numbers[:30]) ** 2).mean() ** 0.5 / 2**0.5
    alarms = 0
    for at, number in enumerate(numbers):
        plain.update(number / spread)
        found = watch.update(number)
        assert found == (plain.drift_detected and at >= 30)
        alarms += found
    assert alarms


def test_drift_goes_on_from_its_state() -> None:
    """Both watches and the spread, put down and taken up, alarm at the same batches."""
    rng = np.random.default_rng(6)
    numbers = np.concatenate([rng.normal(m, 1, 150) for m in (0, 2, 2)])
    whole, parts, alarms = Drift(), Drift(), np.zeros(2)
    for at, number in enumerate(numbers):
        if at % 40 == 7:
            state, parts = parts.state(), Drift()
            parts.load(state)
        found = whole.gap(number), whole.loss(abs(number))
        assert (parts.gap(number), parts.loss(abs(number))) == found
        alarms += found
    assert alarms.all()


def test_numbers_that_do_not_vary() -> None:
    """A constant has no spread, and no change."""
    drift = Drift()
    assert not any(drift.gap(0.0) or drift.loss(0.3) for _ in range(300))


def test_only_the_detectors_of_river_are_imported() -> None:
    """Not what River's package brings along for its data sets: that takes longer than the rest of a start."""
    code = "import sys; from prunus.online.drift import Drift; Drift().loss(1.0); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"river.stats", "prunus.online.drift"} <= set(done.stdout.split())
    assert not {"sqlalchemy", "pandas", "sklearn", "river.datasets"} & set(done.stdout.split())
