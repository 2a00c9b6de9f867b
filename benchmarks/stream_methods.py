"""The methods of benchmarks/stream.py. Each has five learning rates to be tuned, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from prunus.online.dense_to_sparse.cotrain import Cotrained, CotrainSettings
from prunus.online.dense_to_sparse.default import dense, kept, sparse
from prunus.online.dense_to_sparse.patterns import narrow
from prunus.online.dense_to_sparse.rules import Fixed, Regrowth, Whole
from prunus.online.dense_to_sparse.single import Again, Single
from prunus.online.dense_to_sparse.trainee import Rates

if TYPE_CHECKING:
    from collections.abc import Callable

    from prunus.online.learner import Learner
    from prunus.student.ctr import ClickShape

WIDE, SMALL = (5e-4, 1e-3, 2e-3, 4e-3, 8e-3), (1e-3, 2e-3, 4e-3, 8e-3, 16e-3)
TURNED = (1e-3, 2e-3, 4e-3, 8e-3, 16e-3)
"""Grids of learning rates: of dense nets, of nets with fewer weights, and of SOAP."""
AGAIN = Again(1)


@dataclass(frozen=True)
class Method:
    """A way to learn a model of a stream.

    Attributes:
        rates: learning rates that are tried.
        make: makes a learner of the dense shape, a rate, a density and a seed.
    """

    rates: tuple[float, ...]
    make: Callable[[ClickShape, float, float, int], Learner]


def _dense(shape: ClickShape, rate: float, density: float, seed: int) -> Learner:
    del density
    return dense(shape, seed=seed, rates=Rates(rate))


def _dense_soap(shape: ClickShape, rate: float, density: float, seed: int) -> Learner:
    del density
    return Single("dense, SOAP", shape, Rates(rate, rule="soap"), Whole(), seed=seed)


def _small(shape: ClickShape, rate: float, density: float, seed: int) -> Learner:
    return Single("small dense", narrow(shape, density), Rates(rate), Whole(), seed=seed)


def _fixed(shape: ClickShape, rate: float, density: float, seed: int) -> Learner:
    return Single("fixed mask", shape, Rates(rate), Fixed(n_kept=kept(shape, density)), seed=seed)


def _rigl(shape: ClickShape, rate: float, density: float, seed: int) -> Learner:
    return Single("RigL", shape, Rates(rate), Regrowth(n_kept=kept(shape, density)), seed=seed)


def _set(shape: ClickShape, rate: float, density: float, seed: int) -> Learner:
    rule = Regrowth(n_kept=kept(shape, density), by_gradient=False)
    return Single("SET", shape, Rates(rate), rule, seed=seed)


def _cotrained(shape: ClickShape, rate: float, density: float, seed: int) -> Learner:
    return Cotrained(shape, Rates(rate), CotrainSettings(density), seed=seed)


def _again(shape: ClickShape, rate: float, density: float, seed: int) -> Learner:
    return Single("small dense, again", narrow(shape, density), Rates(rate), Whole(), seed=seed, again=AGAIN)


def _small_soap(shape: ClickShape, rate: float, density: float, seed: int) -> Learner:
    rates = Rates(rate, rule="soap")
    return Single("small dense, SOAP, again", narrow(shape, density), rates, Whole(), seed=seed, again=AGAIN)


def _sparse(shape: ClickShape, rate: float, density: float, seed: int) -> Learner:
    return sparse(shape, density, seed=seed, rates=Rates(rate, rule="soap"), again=AGAIN)


METHODS = {
    "dense": Method(WIDE, _dense),
    "small dense": Method(SMALL, _small),
    "sparse, SOAP, again": Method(TURNED, _sparse),
    "co-trained": Method(SMALL, _cotrained),
    "RigL": Method(SMALL, _rigl),
    "small dense, SOAP, again": Method(TURNED, _small_soap),
    "small dense, again": Method(SMALL, _again),
    "fixed mask": Method(SMALL, _fixed),
    "SET": Method(SMALL, _set),
    "dense, SOAP": Method(TURNED, _dense_soap),
}
"""By name, in the order in which they are run. Embeddings learn at 1e-2 and averages keep .95 a step in all of them."""
REFERENCE = "dense"
"""What gaps are measured against."""
OURS = "sparse, SOAP, again"
BASELINES = ("small dense", "fixed mask", "RigL", "SET", "co-trained")
"""What ours is held against: as others do it, and the sketch that the reference notes began with."""
