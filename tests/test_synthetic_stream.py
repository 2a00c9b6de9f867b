"""Generated streams: repeatable, with the drift where it is said to be, and a truth that no model beats."""

from __future__ import annotations

import numpy as np
import pytest

from event_streams import assert_same, read_all
from prunus.click_metrics import calibration, normalized_entropy
from prunus.data.event_sources import ParquetSource
from prunus.data.synthetic_stream import SWAPS, drifting_events
from prunus.errors import DataError

KINDS = ("none", "abrupt", "gradual", "recurring", "new-ids")
N = 60_000


@pytest.fixture(scope="module")
def streams():
    """Give one stream of each kind."""
    return {kind: drifting_events(kind, N, 1) for kind in KINDS}


def test_a_seed_repeats(streams):
    """The same arguments give the same bits, another seed gives other events of the same world."""
    for kind in ("gradual", "new-ids"):
        again, other = drifting_events(kind, N, 1), drifting_events(kind, N, 2)
        assert_same(streams[kind].events, again.events)
        assert np.array_equal(streams[kind].logit, again.logit)
        assert not np.array_equal(streams[kind].events.label, other.events.label)
        assert abs(other.optimal_ne - again.optimal_ne) < 0.03


@pytest.mark.parametrize("kind", KINDS)
def test_the_truth_is_calibrated_and_best(streams, kind):
    """Clicks come as often as their true odds say, part by part, and any change of the odds makes NE worse."""
    stream = streams[kind]
    y, x = stream.events.label, stream.logit
    assert 0.08 < y.mean() < 0.15
    assert 0.7 < stream.optimal_ne < 0.85
    assert abs(calibration(y, x) - 1) < 0.06
    p = 1 / (1 + np.exp(-x))
    for part in (*np.array_split(np.arange(N), 6), *np.array_split(np.argsort(x), 5)):
        # Clicks are a sum of independent draws: beyond four standard deviations by chance once in 16,000.
        assert abs(y[part].sum() - p[part].sum()) < 4 * np.sqrt((p[part] * (1 - p[part])).sum())
    for worse in (x + 0.15, x - 0.15, 1.15 * x, 0.85 * x, np.roll(x, 1)):
        assert normalized_entropy(y, worse, y.mean()) > stream.optimal_ne
    assert (np.diff(stream.events.time) >= 0).all()
    assert len(np.unique(stream.events.key)) == N
    assert 0.04 < np.isnan(stream.events.dense[:, :4]).mean() < 0.06
    assert not np.isnan(stream.events.dense[:, 4:]).any()


def test_the_columns_are_the_events(streams, tmp_path):
    """The raw columns, written to a file and read as a stream, are the same events, bit by bit."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    stream = streams["new-ids"]
    pq.write_table(pa.table(stream.columns), tmp_path / "s.parquet")
    assert_same(read_all(ParquetSource(tmp_path / "s.parquet", stream.schema), 10_000), stream.events)


def test_the_points_are_those_of_the_kind(streams):
    """Points stand where the concept changes, and nowhere else."""
    assert streams["none"].points == ()
    assert streams["abrupt"].points == tuple(int(share * N) for share in SWAPS)
    assert streams["gradual"].points == (N // 3, 2 * N // 3)
    assert streams["recurring"].points == tuple(range(N // 10, N, N // 10))
    assert len(streams["new-ids"].points) == 39
    for kind in ("none", "new-ids"):
        assert not streams[kind].concept.any()
    assert (np.diff(streams["gradual"].concept) > 0).all()
    for kind in ("abrupt", "recurring"):
        assert np.array_equal(np.flatnonzero(np.diff(streams[kind].concept)) + 1, streams[kind].points)


def frozen_gap(stream, learned, tested):
    """Learn a linear model on one part; give its NE over the true odds' NE on others, less 1."""
    linear_model = pytest.importorskip("sklearn.linear_model")
    events = stream.events
    few = [np.unique(events.ids[:, j], return_inverse=True)[1] for j in (6, 7)]
    hot = [np.eye(codes.max() + 1, dtype=np.float32)[codes] for codes in few]
    dense = np.nan_to_num(np.sign(events.dense) * np.log1p(np.abs(events.dense)))
    X = np.column_stack([*hot, dense])
    model = linear_model.LogisticRegression(C=0.3, max_iter=60, tol=1e-3).fit(X[learned], events.label[learned])
    x = model.decision_function(X)
    return [
        normalized_entropy(events.label[part], x[part]) / normalized_entropy(events.label[part], stream.logit[part]) - 1
        for part in tested
    ]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_drift_hurts_a_frozen_model_where_it_is_and_nowhere_else(streams):
    """A model learned before the drift loses after it: at once, little by little, or every other turn; without, never."""
    tenth = N // 10
    parts = [slice(i * tenth, (i + 1) * tenth) for i in range(10)]
    gaps = {
        kind: frozen_gap(streams[kind], slice(0, tenth), parts[1:])
        for kind in ("none", "abrupt", "gradual", "recurring")
    }
    assert max(gaps["none"]) < min(gaps["none"]) + 0.06
    calm = max(gaps["none"])
    assert gaps["abrupt"][0] < calm + 0.03
    assert min(gaps["abrupt"][1:]) > calm + 0.05
    # Long before the first concept is left behind, whose end is after a third.
    assert calm + 0.05 < gaps["gradual"][1] < np.mean(gaps["gradual"][-3:])
    assert gaps["gradual"][0] < gaps["gradual"][1] - 0.05
    away, back = gaps["recurring"][0::2], gaps["recurring"][1::2]
    assert min(away) > calm + 0.05
    assert max(back) < calm + 0.03


def test_new_ids_come_and_old_ones_go(streams):
    """With new ids, ever fewer of the ids seen in the first tenth are seen again; without, as many as ever."""
    tenth = N // 10
    for kind in ("none", "new-ids"):
        ids = streams[kind].events.ids[:, 4]
        first = ids[:tenth]
        known = [np.isin(ids[i * tenth : (i + 1) * tenth], first).mean() for i in (1, 5, 9)]
        if kind == "none":
            assert min(known) > 0.96
        else:
            assert known[0] > 0.8
            assert known[0] > known[1] + 0.3 > known[2] + 0.4


def test_arguments_out_of_range():
    """An unknown kind and too few events are named errors."""
    for kind, n in (("sudden", 1000), ("none", 99)):
        with pytest.raises(DataError, match="expected one of none, abrupt"):
            drifting_events(kind, n, 1)
