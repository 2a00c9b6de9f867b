"""The worker's protocol with an engine that is not one, and the loop that takes the times."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from prunus.bench.client import Client
from prunus.bench.worker import MAX_VIEWS, MIN_CALLS, batches_of, timed_slice
from prunus.errors import PeerError

ENGINES = Path(__file__).with_name("bench_engines.py")


class Clock:
    """Nanoseconds that only go by in calls."""

    def __init__(self) -> None:
        self.now = 0
        self.seen: list[int] = []

    def __call__(self) -> int:
        """Tell the time."""
        return self.now

    def engine(self, nanoseconds: list[int]):
        """Make an engine whose i-th call takes the i-th time (the last one for ever after)."""

        def call(X) -> None:
            self.now += nanoseconds[min(len(self.seen), len(nanoseconds) - 1)]
            self.seen.append(int(X[0, 0]))

        return call


def rows(n: int) -> np.ndarray:
    """Rows whose first feature is their number."""
    return np.arange(2 * n, dtype=np.float32).reshape(n, 2) / 2


def test_slice_cycles_through_the_batches_and_goes_on_where_it_was() -> None:
    """Each call gets the next batch, the untimed first call too, and the next slice begins after the last."""
    clock = Clock()
    call = clock.engine([1000])
    batches = batches_of(rows(12), 4)
    times, following = timed_slice(call, batches, 5e-6, 0, clock)
    assert times == [1000] * 5
    assert clock.seen == [0, 4, 8, 0, 4, 8]
    assert following == 0
    _, following = timed_slice(call, batches, 0.0, 2, clock)
    assert clock.seen[6:] == [8, 0, 4, 8]
    assert following == 0


def test_slice_leaves_out_its_first_call() -> None:
    """The call that warms the caches is made and not timed."""
    clock = Clock()
    times, _ = timed_slice(clock.engine([10**9, 5]), batches_of(rows(4), 2), 0.0, 0, clock)
    assert times == [5] * MIN_CALLS


def test_slow_engine_is_called_often_enough_for_a_median() -> None:
    """A call longer than the slice does not end it before the third."""
    clock = Clock()
    times, _ = timed_slice(clock.engine([10**9]), batches_of(rows(4), 2), 0.03, 0, clock)
    assert len(times) == MIN_CALLS


@pytest.mark.parametrize(
    ("n", "batch", "expected"), [(10, 1, 10), (10, 3, 3), (10, 10, 1), (MAX_VIEWS + 9, 1, MAX_VIEWS)]
)
def test_batches_are_contiguous_views(n: int, batch: int, expected: int) -> None:
    """Batches do not copy, do not overlap, and leave out what is left over."""
    X = rows(n)
    views = batches_of(X, batch)
    assert len(views) == expected
    assert all(view.base is not None and view.flags.c_contiguous and view.shape == (batch, 2) for view in views)
    assert np.array_equal(np.concatenate(views), X[: batch * expected])


@pytest.fixture
def start(tmp_path: Path):
    """Start a worker with one of the test engines, loaded with 40 rows."""
    np.save(tmp_path / "X.npy", rows(40))
    started: list[Client] = []

    def make(engine: str, core: int | None = None, **settings: object) -> Client:
        model = tmp_path / "model.json"
        model.write_text(json.dumps(settings))
        client = Client(engine.lower(), None, core=core, log=tmp_path / "log.txt")
        started.append(client)
        client.load(f"{ENGINES}:{engine}", model, tmp_path / "X.npy")
        return client

    yield make
    for client in started:
        client.close()


def test_worker_scores_and_times(start) -> None:
    """Scores come back in order for every batch size, a slice gives times, and prints do not get in between."""
    client = start("Linear", factor=2.0)
    for batch in (1, 7, 40):
        assert np.array_equal(client.score(batch, batch), 2.0 * np.arange(batch))
    assert np.array_equal(client.score(7, 25), 2.0 * np.arange(25))
    assert np.array_equal(client.reference(5), np.arange(5))
    times = client.slice(7, 0.001)
    assert len(times) >= MIN_CALLS
    assert all(isinstance(x, int) and x >= 0 for x in times)
    assert client.versions["numpy"] == np.__version__
    assert "no-such-package" not in client.versions


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system cannot pin a process to a core")
def test_worker_is_pinned(start) -> None:
    """The worker runs on the core that it was told, and the driver stays where it was."""
    core = max(os.sched_getaffinity(0))
    before = os.sched_getaffinity(0)
    client = start("Linear", core=core)
    assert os.sched_getaffinity(client._process.pid) == {core}
    assert os.sched_getaffinity(0) == before


def test_failure_of_an_engine_is_a_reply(start) -> None:
    """An exception of the engine is reported with its type and text, and the worker lives on."""
    client = start("Broken")
    with pytest.raises(PeerError, match="broken: slice failed: RuntimeError: no kernel for batches of 3"):
        client.slice(3, 0.001)
    with pytest.raises(PeerError, match="no kernel for batches of 4"):
        client.slice(4, 0.001)


def test_death_of_an_engine_is_told_with_its_last_words(start) -> None:
    """A process that ends is reported with its exit status and the last line that it wrote."""
    client = start("Crashing", calls=2)
    with pytest.raises(PeerError, match=r"during slice \(exit 7\): segmentation fault, more or less"):
        client.slice(2, 0.001)
    with pytest.raises(PeerError, match="before slice"):
        client.slice(2, 0.001)


def test_engine_that_hangs_is_stopped(start) -> None:
    """No reply within the limit is an error, and the process is gone."""
    client = start("Hanging")
    with pytest.raises(PeerError, match="no answer to 'slice' within 1 s"):
        client.ask("slice", 1.0, batch=1, seconds=0.001)
    assert client._process.wait(timeout=10) != 0


def test_unknown_engine_is_named(start) -> None:
    """An engine that is not in the file is reported, not a traceback."""
    with pytest.raises(PeerError, match="load failed: AttributeError"):
        start("NoSuchEngine")
