"""Windows of figures over a stream, against an outside library; drift detectors that can be put down and taken up."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra 'train')")
from sklearn.metrics import log_loss, roc_auc_score

from prunus.click_metrics import entropy, log_losses
from prunus.errors import DataError
from prunus.online.prequential import Prequential


def stream(n, seed=0):
    """Draw events: labels, and the logits of a model that knows and of one that is worse."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(-1.5, 1.0, n).astype(np.float32)
    label = (rng.random(n) < 1 / (1 + np.exp(-truth))).astype(np.float32)
    return label, truth, (0.7 * truth + rng.normal(0, 0.5, n)).astype(np.float32)


def test_figures_are_those_of_scikit_learn() -> None:
    """Loss, NE and AUC of a window are what scikit-learn gives, ties included."""
    label, dense, sparse = stream(2000)
    sparse = np.round(sparse, 1)  # ties
    windows = Prequential(("dense", "sparse"), 2000)
    for part in np.array_split(np.arange(2000), 7):
        assert not windows.full
        windows.add(label[part], {"dense": dense[part], "sparse": sparse[part]})
    assert windows.full
    rate = label.mean(dtype=np.float64)
    spread = log_loss(label, np.full(2000, rate))
    assert entropy(rate) == pytest.approx(spread, rel=1e-12)
    assert windows.losses("dense").mean() == pytest.approx(
        log_loss(label, 1 / (1 + np.exp(-dense.astype(float)))), rel=1e-9
    )
    line = windows.close()
    for name, logits in (("dense", dense), ("sparse", sparse)):
        p = 1 / (1 + np.exp(-logits.astype(np.float64)))
        assert line["ne"][name] == pytest.approx(log_loss(label, p) / spread, rel=1e-9)
        assert line["auc"][name] == pytest.approx(roc_auc_score(label, logits), rel=1e-12)
        assert line["calibration"][name] == pytest.approx(p.sum() / label.sum(), rel=1e-9)
    assert line["gap_percent"] == {"sparse": pytest.approx(100 * (line["ne"]["sparse"] / line["ne"]["dense"] - 1))}
    assert windows.totals()["ne"]["dense"] == pytest.approx(line["ne"]["dense"], rel=1e-12)
    assert (line["window"], line["events"], line["size"], windows.pending) == (0, 2000, 2000, 0)


def test_losses_of_extreme_logits_are_exact() -> None:
    """No logit overflows: the loss of a sure prediction is 0 or the logit itself."""
    found = log_losses(np.array([1.0, 0.0, 0.0, 1.0], np.float32), np.array([1e4, -1e4, 1e4, 0.0], np.float32))
    np.testing.assert_allclose(found, [0.0, 0.0, 1e4, np.log(2)], rtol=1e-12)


def test_a_model_that_comes_late_is_compared_on_its_own_events() -> None:
    """Its window is None until it was there for all of it, and its gap is over the events that it predicted."""
    label, dense, sparse = stream(300)
    windows = Prequential(("dense", "served"), 100)
    for start in range(0, 300, 50):
        part = slice(start, start + 50)
        windows.add(label[part], {"dense": dense[part], "served": None if start < 150 else sparse[part]})
        if windows.full:
            line = windows.close()
            assert (line["ne"]["served"] is None) == (start < 200)
            assert (line["gap_percent"]["served"] is None) == (start < 200)
    totals = windows.totals()
    there = slice(150, 300)
    expected = 100 * (log_losses(label[there], sparse[there]).sum() / log_losses(label[there], dense[there]).sum() - 1)
    assert totals["counted"] == {"dense": 300, "served": 150}
    assert totals["gap_percent"]["served"] == pytest.approx(expected)


def test_totals_leave_out_the_beginning() -> None:
    """Events before ``counted_from`` are in the windows, and in no total."""
    label, dense, _ = stream(400)
    windows = Prequential(("dense",), 100, counted_from=200)
    for start in range(0, 400, 50):
        windows.add(label[start : start + 50], {"dense": dense[start : start + 50]})
    rate = label[200:].mean(dtype=np.float64)
    assert windows.totals()["counted"] == {"dense": 200}
    assert windows.totals()["ne"]["dense"] == pytest.approx(log_losses(label[200:], dense[200:]).mean() / entropy(rate))


@pytest.mark.parametrize("click", [0.0, 1.0])
def test_one_class_has_no_ne(click: float) -> None:
    """A window of one class has losses, and neither NE nor AUC."""
    windows = Prequential(("dense", "sparse"), 4)
    windows.add(np.full(4, click, np.float32), {"dense": np.ones(4, np.float32), "sparse": np.zeros(4, np.float32)})
    line = windows.close()
    assert line["ne"] == line["auc"] == {"dense": None, "sparse": None}
    assert line["gap_percent"]["sparse"] is not None
    assert windows.totals()["ne"]["dense"] is None


def test_a_model_that_ran_away_does_not_stop_the_stream() -> None:
    """NaN logits give no figures, and no error."""
    windows = Prequential(("dense",), 2)
    windows.add(np.array([0.0, 1.0], np.float32), {"dense": np.array([np.nan, 1.0], np.float32)})
    line = windows.close()
    assert [line[part]["dense"] for part in ("ne", "auc", "calibration")] == [None] * 3
    assert windows.totals()["ne"]["dense"] is None


def test_a_window_needs_events() -> None:
    """No window is empty."""
    with pytest.raises(DataError, match="window of 0 events"):
        Prequential(("dense",), 0)


def test_state_is_all_there_is() -> None:
    """Windows that go on from a state, put down in the middle of a window, give the same lines and totals."""
    label, dense, sparse = stream(500)
    lines: dict[str, list[object]] = {"one": [], "two": []}

    def feed(windows, name, start, end):
        for at in range(start, end, 25):
            part = slice(at, at + 25)
            windows.add(label[part], {"dense": dense[part], "served": None if at < 225 else sparse[part]})
            if windows.full:
                lines[name].append(windows.close())

    whole = Prequential(("dense", "served"), 100, counted_from=150)
    feed(whole, "one", 0, 500)
    first = Prequential(("dense", "served"), 100, counted_from=150)
    feed(first, "two", 0, 250)
    second = Prequential(("dense", "served"), 100, counted_from=150)
    second.load(first.state())
    feed(second, "two", 250, 500)
    assert lines["one"] == lines["two"]
    assert whole.totals() == second.totals()
