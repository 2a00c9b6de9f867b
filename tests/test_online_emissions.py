"""The guard of emissions: what is worse beyond chance does not serve, what differs by chance does."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import ttest_rel

from prunus.click_metrics import log_losses
from prunus.data.events import Events
from prunus.errors import NetworkError
from prunus.online.emissions import WORSE, Emissions, standard_errors
from prunus.online.lines import Lines
from prunus.online.serving import Models

N = 4000


class Fixed:
    """A scorer of given log-odds."""

    def __init__(self, logits):
        self.logits = logits

    def score(self, ids, dense):
        """Give them, in the order in which events ask."""
        del ids
        return self.logits[dense[:, 0].astype(int)]

    def save(self, path):
        """Write something."""
        path.write_text("a model")


@pytest.fixture(scope="module")
def stream():
    """Draw a window in two parts, and the true log-odds of its events."""
    rng = np.random.default_rng(5)
    truth = rng.normal(-1, 1, N).astype(np.float32)
    label = (rng.random(N) < 1 / (1 + np.exp(-truth))).astype(np.float32)
    dense = np.arange(N, dtype=np.float32)[:, None]
    events = Events(np.zeros((N, 1), np.uint64), dense, label, np.arange(N))
    return [events.take(slice(0, 1500)), events.take(slice(1500, N))], truth, label


def noisy(truth, spread, seed):
    """Give a model that errs by so much."""
    return (truth + np.random.default_rng(seed).normal(0, spread, N)).astype(np.float32)


def emitted(tmp_path, stream, served, candidate, learned):
    """Let one model serve, judge another by these log-odds, and give its line of the log."""
    window, _, label = stream
    said = []
    log = Lines(tmp_path / "emissions.jsonl", said.append)
    emissions = Emissions(Models(tmp_path / "models"), log, said.append, lambda _: Fixed(served))
    seen = {"why": "every", "seen": N, "window": window}
    assert emissions.emit(lambda: Fixed(np.nan_to_num(served)), **seen, learned=None, served=None)
    swapped = emissions.emit(
        lambda: Fixed(candidate), **seen, learned=log_losses(label, learned), served=log_losses(label, served)
    )
    line = json.loads(log.path.read_text().splitlines()[-1])
    assert line["swapped"] is swapped
    assert emissions.serving == (2 if swapped else 1)
    return line


def test_the_figure_is_that_of_a_paired_t_test(stream) -> None:
    """SciPy's statistic; nothing to tell is 0; the same harm everywhere is beyond all doubt."""
    _, truth, label = stream
    one, other = log_losses(label, noisy(truth, 0.5, 1)), log_losses(label, noisy(truth, 0.3, 2))
    assert standard_errors(one, other) == pytest.approx(ttest_rel(one, other).statistic, rel=1e-9)
    assert standard_errors(one, one) == standard_errors(one[:1], other[:1]) == 0
    assert WORSE < standard_errors(other + 0.125, other) < np.inf


def test_of_models_as_good_one_in_twenty_is_refused() -> None:
    """Two models of equal error on fresh events: refused at the rate that the docs state."""
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(2000):
        truth = rng.normal(-1, 1, 500)
        label = (rng.random(500) < 1 / (1 + np.exp(-truth))).astype(float)
        one, other = (log_losses(label, truth + rng.normal(0, 0.3, 500)) for _ in range(2))
        refused += standard_errors(one, other) > WORSE
    assert 70 <= refused <= 130  # 100 expected, three standard deviations about it


@pytest.mark.parametrize(
    ("served", "candidate", "learned", "swapped"),
    [
        (0.3, 0.3, 0.3, True),  # as good, each by its own noise
        (0.3, 0.0, 0.0, True),
        (0.3, 0.0, 0.9, False),  # what it is worth on events to come is less
        (0.3, 0.9, 0.0, False),  # broken on the way
        (np.nan, 0.3, 0.3, True),  # nothing is worse than no number
        (0.3, np.nan, 0.0, False),
        (0.3, 0.0, np.nan, False),
        (np.nan, np.nan, np.nan, False),
    ],
)
def test_only_what_is_worse_beyond_chance_is_refused(tmp_path, stream, served, candidate, learned, swapped) -> None:
    """Models by the spread of their errors."""
    _, truth, _ = stream
    models = [
        noisy(truth, 0 if np.isnan(x) else x, k) * (np.nan if np.isnan(x) else 1)
        for k, x in enumerate((served, candidate, learned))
    ]
    line = emitted(tmp_path, stream, *models)
    assert line["swapped"] is swapped
    known = bool(np.isfinite([served, candidate, learned]).all())
    assert (line["standard_errors"] is not None) is known
    if known:
        assert (line["standard_errors"] <= WORSE) is swapped


def test_a_model_that_cannot_score_stops_nothing(tmp_path, stream) -> None:
    """Its log-odds are no numbers, that is told once, and the next candidate, which can be scored, serves."""
    window, truth, label = stream

    class Failing(Fixed):
        fails = False

        def score(self, ids, dense):
            if self.fails:
                msg = "products of embeddings are beyond float32"
                raise NetworkError(msg)
            return super().score(ids, dense)

    said: list[str] = []
    log = Lines(tmp_path / "emissions.jsonl", said.append)
    emissions = Emissions(Models(tmp_path / "models"), log, said.append, lambda _: Failing(truth))
    assert emissions.emit(lambda: Fixed(truth), why="first", seen=0, window=window, learned=None, served=None)
    Failing.fails = True
    logits = np.concatenate([emissions.scores(part) for part in window])
    assert logits.shape == truth.shape
    assert np.isnan(logits).all()
    assert said == ["model 1 cannot score events: products of embeddings are beyond float32"]
    seen = {"why": "every", "seen": N, "window": window, "learned": None, "served": log_losses(label, logits)}
    assert not emissions.emit(lambda: Failing(truth), **seen)
    assert emissions.emit(lambda: Fixed(truth), **seen)


class Noisy:
    """A model whose file says by how much it errs; the first dense value is the truth."""

    def __init__(self, spread, seed):
        self.spread, self.seed = spread, seed

    def score(self, ids, dense):
        """Give the truth, and an error."""
        del ids
        return dense[:, 0] + np.random.default_rng(self.seed).normal(0, self.spread, len(dense)).astype(np.float32)

    def save(self, path):
        """Write it down."""
        path.write_text(f"{self.spread} {self.seed}")


def follow_spreads(tmp_path, spreads):
    """Let a learner err by so much from window to window, every model a candidate; give the spreads that served, and the best."""
    rng = np.random.default_rng(1)
    read = lambda path: Noisy(*(kind(one) for kind, one in zip((float, int), path.read_text().split(), strict=True)))  # noqa: E731
    models, said = Models(tmp_path / "models"), []
    emissions = Emissions(models, Lines(tmp_path / "emissions.jsonl", said.append), said.append, read)
    served, best = [], []
    for number, spread in enumerate(spreads):
        truth = rng.normal(-1, 1, N).astype(np.float32)
        label = (rng.random(N) < 1 / (1 + np.exp(-truth))).astype(np.float32)
        window = [Events(np.zeros((N, 1), np.uint64), truth[:, None], label, np.arange(N))]
        learned = Noisy(spread, 1000 + number).score(None, window[0].dense)
        now = None if emissions.serving is None else log_losses(label, emissions.scores(window[0]))
        made = lambda spread=spread, number=number: Noisy(spread, number)  # noqa: E731
        seen = {"why": "every", "seen": N, "window": window}
        emissions.emit(made, **seen, learned=log_losses(label, learned), served=now)
        emissions.forget(1)
        served.append(emissions._scorer.spread)
        best.append(emissions.best)
    assert not said
    return served, best


def test_a_decline_too_slow_for_a_window_does_not_add_up(tmp_path) -> None:
    """Steps of a seventh of a standard error, sixty of them: what serves stays near the best, whose file stays too."""
    spreads = np.linspace(0.3, 0.9, 61)
    served, best = follow_spreads(tmp_path, spreads)
    assert max(served) < 0.55
    assert best[-1] is not None
    assert Models(tmp_path / "models").path(best[-1]).exists()


def test_what_becomes_better_serves_and_is_the_best(tmp_path) -> None:
    """A learner that gets better is followed, and after a setback (a drift) as well: the best does not hold it back."""
    spreads = [*np.linspace(0.9, 0.2, 15), *[1.5] * 3, *np.linspace(0.5, 0.1, 15)]
    served, best = follow_spreads(tmp_path, spreads)
    assert max(served[14:18]) < 0.35
    assert served[-1] < 0.15
    assert best[-1] > 20


def test_of_models_alike_the_newer_serves(tmp_path) -> None:
    """On a stream that stands still, most candidates serve."""
    served, _ = follow_spreads(tmp_path, 0.3 + 1e-6 * np.arange(100))
    assert len(set(served)) >= 75  # candidates judged thrice at one in twenty


def test_a_difference_within_chance_is_no_reason(tmp_path, stream) -> None:
    """A candidate whose mean loss is above that of the model that serves, by noise, serves."""
    _, truth, label = stream
    served = noisy(truth, 0.3, 0)
    worse = next(
        one
        for one in (noisy(truth, 0.3, seed) for seed in range(1, 99))
        if 0.2 < standard_errors(log_losses(label, one), log_losses(label, served)) < 1.5
    )
    line = emitted(tmp_path, stream, served, worse, worse)
    assert line["loss"] > line["served_loss"]
    assert line["swapped"]
