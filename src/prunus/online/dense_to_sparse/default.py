"""The learner that a stream gets unless another is asked for, with the settings that were chosen by benchmarks/stream.py.

A narrow net of about twice the weights that are served, half of them masked at any time by a mask that follows the stream
(:class:`~prunus.online.dense_to_sparse.rules.StraightThrough`); every event is learned from twice, by embeddings and layers as it comes,
by the layers, every second batch, once more from the replay (:mod:`prunus.online.replay`); steps are those of :class:`prunus.student.soap.Soap`, which nets
as narrow as this can afford. It needs no dense master. One that learns beside it costs its own training and is there to be compared with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prunus.online.dense_to_sparse.patterns import narrow
from prunus.online.dense_to_sparse.rules import StraightThrough, Whole
from prunus.online.dense_to_sparse.single import Again, Beside, Single
from prunus.online.dense_to_sparse.trainee import Rates

if TYPE_CHECKING:
    from prunus.online.learner import Learner
    from prunus.student.ctr import ClickShape

SPARSE = Rates(dense=8e-3, rule="soap")
DENSE = Rates(dense=2e-3)
WIDER = 2.0
"""Weights of the net in which the mask moves, over those that it keeps."""


def kept(shape: ClickShape, density: float) -> int:
    """Hidden weights that do this share of the dense net's operations there; one a layer at least, or its output is constant."""
    return max(int(density * sum(a * b for a, b in shape.matrices)), len(shape.matrices))


def sparse(
    shape: ClickShape, density: float = 0.1, *, seed: int, rates: Rates = SPARSE, again: Again | None = None
) -> Single:
    """Make the default learner.

    Args:
        shape: of the dense net that it takes the place of.
        density: share of that net's operations in hidden layers, in (0, 1].
        seed: everything random follows from it.
        rates: of learning.
        again: learning from the past once more; default one batch for every two new ones, from the last 204,800 events.
    """
    inside = narrow(shape, min(WIDER * density, 1.0))
    rule = StraightThrough(n_kept=kept(shape, density))
    return Single("straight-through", inside, rates, rule, seed=seed, again=again or Again(2))


def dense(shape: ClickShape, *, seed: int, rates: Rates = DENSE) -> Single:
    """Make a dense net that learns alone."""
    return Single("dense", shape, rates, Whole(), seed=seed)


def watched(shape: ClickShape, density: float = 0.1, *, seed: int, at_once: bool = False) -> Learner:
    """Make the default learner with a dense master beside it, for the gap between them; ``at_once``: in two threads."""
    return Beside(sparse(shape, density, seed=seed), dense(shape, seed=seed + 1), at_once=at_once)
