"""Two models that share no value, and the traffic that would show a mixture of them."""

from __future__ import annotations

import itertools
import sys
import threading
from dataclasses import dataclass, replace

import numpy as np

from engine_networks import names
from ensembles import ALL_MISSING, make_ensemble
from prunus.engine.ensemble import Ensemble
from prunus.engine.network import Activation, Dense, InputStage, Network, SlotKind, Sparse
from prunus.engine.scorer import RankScorer

N_FEATURES = 24


def one_of_two(larger):
    """Make one of two networks that differ in every number, so that a mixture of them scores strictly between.

    All weights are positive, all activations rise, and documents stand above the centres: the score then rises with
    every weight, bias, bound and scale, and falls with every centre. One network has the larger of each.
    """
    rng = np.random.default_rng(7)  # the same draws for both; one adds something to each
    more = 0.1 if larger else 0.0
    n = N_FEATURES
    stage = InputStage(
        np.arange(n),
        np.full(n, SlotKind.VALUE, np.uint8),
        rng.uniform(-1, 0, n) - more,
        rng.uniform(0.2, 0.4, n) + more,
        np.full(n, -9 + more),
        np.full(n, 9 + more),
        rng.uniform(0, 1, n) + more,
    )
    layers = []
    width = n
    for outputs, sparse in ((16, True), (12, False), (1, True)):
        weight = rng.uniform(0.5, 3, size=(outputs, width)) / width
        weight[rng.random(weight.shape) > 0.5] = 0
        others = rng.random(weight.shape) < 0.1
        if larger:  # and more of them: the patterns differ as well
            weight[(weight > 0) | others] += 0.5 / width
        bias = rng.uniform(-1, 1, outputs) + more
        activation = Activation.IDENTITY if outputs == 1 else Activation.SIGMOID
        layers.append(Sparse.from_dense(weight, bias, activation) if sparse else Dense(weight, bias, activation))
        width = outputs
    return Network(n, stage, tuple(layers))


def documents(n):
    """Draw documents for either, each feature between 0 and 4."""
    return np.random.default_rng(3).uniform(0, 4, (n, N_FEATURES)).astype(np.float32)


def mixtures(left, right):
    """Give every network that has parts of both: the input stage, and the weights and the biases of each layer."""
    parts = 1 + 2 * len(left.layers)
    for choice in itertools.product((left, right), repeat=parts):
        if len({id(x) for x in choice}) == 1:
            continue
        stage, weights, biases = choice[0], choice[1::2], choice[2::2]
        layers = tuple(
            replace(w.layers[k], bias=b.layers[k].bias) for k, (w, b) in enumerate(zip(weights, biases, strict=True))
        )
        yield Network(left.n_features, stage.inputs, layers)


@dataclass
class Seen:
    """What came out of the traffic."""

    documents: int = 0
    swaps: int = 0
    first: int = 0
    second: int = 0
    mixed: int = 0


def trees():
    """Make an ensemble of the same features, whose scores lie far above those of both networks."""
    return make_ensemble(np.random.default_rng(5), (17, 1, 9), N_FEATURES, missing=ALL_MISSING, base=100.0)


def traffic(n_docs, models=None, *, n_threads=1, batches=(1, 20, 128, 500)):
    """Score documents from two threads while a third swaps the model; count what each call saw.

    Args:
        n_docs: how many, in all; each thread goes on beyond its half until it has seen both models.
        models: the two to swap between; default: those of :func:`one_of_two`.
        n_threads: threads that each call shares its documents between.
        batches: sizes of the calls, taken in turn.
    """
    models = models or (one_of_two(0), one_of_two(1))
    ready = [RankScorer(model, names(model, [isinstance(model, Ensemble)] * N_FEATURES)) for model in models]
    scorer = RankScorer(models[0], ready[0].schema)
    X = documents(max(batches))
    expected = [one.score(X) for one in ready]
    counts, stop = [Seen(), Seen()], threading.Event()

    def score(seen):
        out = np.empty(len(X), np.float32)
        for n in itertools.cycle(batches):
            if seen.documents >= n_docs / 2 and seen.first and seen.second:
                return
            got = scorer.score(X[:n], out[:n], n_threads=n_threads)
            seen.documents += n
            seen.first += (first := bool((got == expected[0][:n]).all()))
            seen.second += (second := bool((got == expected[1][:n]).all()))
            seen.mixed += not (first or second)

    def swap():
        rng = np.random.default_rng()  # at random: a swap and a call in lockstep would show one model only
        for number in itertools.count(1):
            if stop.is_set():
                return
            # Every hundredth model is new, so that building one and freeing one happen among the calls too.
            new = ready[rng.integers(2)]
            scorer.swap(new if number % 100 else RankScorer(new.model, new.schema))
            counts[0].swaps += 1

    swapper = threading.Thread(target=swap)
    threads = [threading.Thread(target=score, args=(seen,)) for seen in counts]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads take turns between any two steps of a call, not every 5 ms only
    try:
        for thread in (swapper, *threads):
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        stop.set()
        swapper.join()
        sys.setswitchinterval(interval)
    return Seen(*(sum(column) for column in zip(*(vars(x).values() for x in counts), strict=True)))
