"""What every test may ask for: real data where there are any, and repeatable inputs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent

# A machine under load is slow at random: time is no property of an input, so no deadline.
settings.register_profile("dev", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("dev"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "dev")

# Two threads on matrices of a hundred numbers wait for each other more than they compute.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# LightGBM takes all cores all the same: its threads wait asleep, not spinning, as other tests run beside.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# Plots are drawn without a screen.
os.environ.setdefault("MPLBACKEND", "Agg")


def find_data() -> Path | None:
    """Look for the folder of real data: ``PRUNUS_DATA``, or ``../shared/data`` beside the checkout."""
    named = os.environ.get("PRUNUS_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    return folder if folder.is_dir() else None


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Give the folder of real data sets, or skip the test."""
    folder = find_data()
    if folder is None:
        pytest.skip("no real data: set PRUNUS_DATA to their folder, or put them into ../shared/data")
    return folder


@pytest.fixture(scope="session")
def repo() -> Path:
    """Give the root of the checkout."""
    return ROOT
