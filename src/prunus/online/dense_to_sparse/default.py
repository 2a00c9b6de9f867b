"""The learner that a stream gets unless another is asked for, with the settings that were chosen by benchmarks/stream.py.

Two narrow nets that do about as many operations as each other when they serve. One is dense, and learns from every event once, in steps twice
as large; what it learns is half the label, half the mean of the probabilities that both gave the event before they learned it
(:class:`~prunus.online.dense_to_sparse.contest.Contest`). The other has a quarter more weights than are served, and a mask that follows the stream
(:class:`~prunus.online.dense_to_sparse.rules.StraightThrough`); its layers learn, every second batch, once more from the replay
(:mod:`prunus.online.replay`). Which of them, and which of their running averages, did best of late is what scores; steps become
smaller while long averages do. Steps are those of :class:`prunus.student.soap.Soap`, which nets as narrow as this can afford. None of it needs a dense master. One that learns
beside it costs its own training and is there to be compared with.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NamedTuple

from prunus.online.dense_to_sparse.contest import Contest
from prunus.online.dense_to_sparse.patterns import narrow
from prunus.online.dense_to_sparse.rules import StraightThrough, Whole
from prunus.online.dense_to_sparse.single import Again, Beside, Single
from prunus.online.dense_to_sparse.trainee import Rates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prunus.online.learner import Learner
    from prunus.student.ctr import ClickShape

AVERAGES = (0.8, 0.9, 0.95, 0.98)
"""Memories of the running averages: five steps to fifty."""
SPARSE = Rates(dense=8e-3, rule="soap", averages=AVERAGES)
DENSE = Rates(dense=2e-3)


class Half(NamedTuple):
    """One of the two learners.

    Attributes:
        wider: weights of its net over those that it keeps; 1 for a net without a mask.
        faster: its learning rate over that of the default.
        again: learning from the past once more.
        trust: weight of what both learners said of a new event, against its label; t of :class:`Contest`.
    """

    wider: float
    faster: float
    again: Again
    trust: float


ONCE = Half(1.0, 2.0, Again(0), 0.5)
TWICE = Half(1.25, 1.0, Again(2), 0.0)


def kept(shape: ClickShape, density: float) -> int:
    """Hidden weights that do this share of the dense net's operations there; one a layer at least, or its output is constant."""
    return max(int(density * sum(a * b for a, b in shape.matrices)), len(shape.matrices))


def sparse(shape: ClickShape, density: float = 0.1, *, seed: int, rates: Rates = SPARSE) -> Contest:
    """Make the default learner.

    Args:
        shape: of the dense net that it takes the place of.
        density: share of that net's operations in hidden layers, in (0, 1].
        seed: everything random follows from it.
        rates: of learning.
    """
    return pair(shape, density, (ONCE, TWICE), seed=seed, rates=rates)


def pair(shape: ClickShape, density: float, halves: Sequence[Half], *, seed: int, rates: Rates = SPARSE) -> Contest:
    """Make a contest of two learners, that which looks once first; arguments as in :func:`sparse`."""
    learners = [one_half(shape, density, half, seed=seed, rates=rates) for half in halves]
    name = f"{learners[0].name} once, {learners[1].name} twice"
    return Contest(name, learners, [half.trust for half in halves])


def one_half(shape: ClickShape, density: float, half: Half, *, seed: int, rates: Rates = SPARSE) -> Single:
    """Make one of the two learners; arguments as in :func:`sparse`."""
    inside = narrow(shape, min(half.wider * density, 1.0))
    rates = dataclasses.replace(rates, dense=half.faster * rates.dense)
    if half.wider <= 1.0:
        return Single("small dense", inside, rates, Whole(), seed=seed, again=half.again)
    # Widths are whole units: the narrow net of a small one can have fewer weights than may be kept.
    n_kept = min(kept(shape, density), sum(a * b for a, b in inside.matrices))
    return Single("straight-through", inside, rates, StraightThrough(n_kept=n_kept), seed=seed, again=half.again)


def dense(shape: ClickShape, *, seed: int, rates: Rates = DENSE) -> Single:
    """Make a dense net that learns alone."""
    return Single("dense", shape, rates, Whole(), seed=seed)


def watched(shape: ClickShape, density: float = 0.1, *, seed: int, at_once: bool = False) -> Learner:
    """Make the default learner with a dense master beside it, for the gap between them; ``at_once``: in two threads."""
    return Beside(sparse(shape, density, seed=seed), dense(shape, seed=seed + 1), at_once=at_once)
