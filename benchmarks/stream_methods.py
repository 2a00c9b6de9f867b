"""The methods of benchmarks/stream.py. Each has five learning rates to be tuned, and nothing else."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from prunus.online.dense_to_sparse.cotrain import Cotrained, CotrainSettings
from prunus.online.dense_to_sparse.default import ONCE, SPARSE, TWICE, Half, dense, kept, one_half, pair, sparse
from prunus.online.dense_to_sparse.emission import EmissionSettings, Emitting
from prunus.online.dense_to_sparse.learned import Learned
from prunus.online.dense_to_sparse.patterns import narrow
from prunus.online.dense_to_sparse.rules import Fixed, Regrowth, Whole
from prunus.online.dense_to_sparse.single import Again, Single
from prunus.online.dense_to_sparse.trainee import Rates
from prunus.online.learner import Predictions

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from prunus.online.dense_to_sparse.emission import Cut
    from prunus.online.learner import Learner, Prepared
    from prunus.student.ctr import ClickShape

WIDE, SMALL = (5e-4, 1e-3, 2e-3, 4e-3, 8e-3), (1e-3, 2e-3, 4e-3, 8e-3, 16e-3)
TURNED = (2e-3, 4e-3, 8e-3, 16e-3, 32e-3)
"""Grids of learning rates: of dense nets, of nets with fewer weights, and of SOAP."""


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


class DenseInt8(Single):
    """The dense net that learns in float32 and scores in int8: weights by row, inputs of each layer by batch."""

    @torch.no_grad()
    def predict(self, batch: Prepared) -> Predictions:
        """Score with everything rounded to 127 steps on either side of zero, but for the last layer."""
        net = self._trainee.averaged
        self._trainee.forget(batch)
        h = net._join(batch.z, net.embed(batch.rows))  # noqa: SLF001 - the net has no way to see its layers one by one
        for layer in net.linears[:-1]:
            h = torch.relu(functional.linear(rounded(h, 0), rounded(layer.weight, 1), layer.bias))
        return Predictions(None, net.linears[-1](h).squeeze(1))


def rounded(values: Tensor, by_row: int) -> Tensor:
    """Values on the nearest of 255 levels, of which the largest is the largest magnitude, of all or of each row."""
    size = values.abs().amax(dim=1, keepdim=True) if by_row else values.abs().max()
    scale = size.clamp_min(1e-12) / 127
    return torch.round(values / scale) * scale


def _dense_int8(shape: ClickShape, rate: float, density: float, seed: int) -> Learner:
    del density
    return DenseInt8("dense, int8", shape, Rates(rate), Whole(), seed=seed)


def _emitted(cut: Cut) -> Callable[[ClickShape, float, float, int], Learner]:
    def make(shape: ClickShape, rate: float, density: float, seed: int) -> Learner:
        return Emitting(shape, Rates(rate), EmissionSettings(density, cut), seed=seed)

    return make


def _learned(shape: ClickShape, rate: float, density: float, seed: int) -> Learner:
    inside, rule = narrow(shape, TWICE.wider * density), Learned(kept(shape, density))
    return Single("learned masks", inside, _ours(rate), rule, seed=seed, again=TWICE.again)


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
    again = Again(1, trust=0.0)
    return Single("small dense, again", narrow(shape, density), Rates(rate), Whole(), seed=seed, again=again)


def _ours(rate: float) -> Rates:
    return dataclasses.replace(SPARSE, dense=rate)


UNMASKED = TWICE._replace(wider=1.0)
"""The default's masked learner as a small dense net."""


def _pair(*halves: Half) -> Callable[[ClickShape, float, float, int], Learner]:
    """The default with other learners."""

    def make(shape: ClickShape, rate: float, density: float, seed: int) -> Learner:
        return pair(shape, density, halves, seed=seed, rates=_ours(rate))

    return make


def _half(half: Half) -> Callable[[ClickShape, float, float, int], Learner]:
    def make(shape: ClickShape, rate: float, density: float, seed: int) -> Learner:
        return one_half(shape, density, half, seed=seed, rates=_ours(rate))

    return make


def _sparse(shape: ClickShape, rate: float, density: float, seed: int) -> Learner:
    return sparse(shape, density, seed=seed, rates=_ours(rate))


METHODS = {
    "dense": Method(WIDE, _dense),
    "small dense": Method(SMALL, _small),
    "sparse": Method(TURNED, _sparse),
    "sparse, labels alone": Method(TURNED, _pair(ONCE._replace(trust=0.0), TWICE)),
    "sparse, once": Method(TURNED, _half(ONCE)),
    "sparse, twice": Method(TURNED, _half(TWICE)),
    "co-trained": Method(SMALL, _cotrained),
    "RigL": Method(SMALL, _rigl),
    "small dense, our recipe": Method(TURNED, _pair(ONCE, UNMASKED)),
    "small dense, labels alone": Method(TURNED, _pair(ONCE._replace(trust=0.0), UNMASKED)),
    "small dense, again": Method(SMALL, _again),
    "fixed mask": Method(SMALL, _fixed),
    "SET": Method(SMALL, _set),
    "dense, int8": Method(WIDE, _dense_int8),
    "learned masks": Method(TURNED, _learned),
    "emitted, magnitude": Method(WIDE, _emitted("magnitude")),
    "emitted, OBS": Method(WIDE, _emitted("weights")),
    "dense, SOAP": Method((8e-3,), _dense_soap),
}
"""By name. Embeddings learn at 1e-2 in all of them; one average that keeps .95 a step scores, but where our recipe has several.
The dense net with SOAP, which costs twice a dense net's training and is there to say what that alone would bring, has one rate."""
REFERENCE = "dense"
"""What gaps are measured against."""
OURS = "sparse"
BASELINES = ("small dense", "fixed mask", "RigL", "SET", "co-trained", "emitted, magnitude")
"""What ours is held against: learned as others do it (Adam, one pass, one average), and the sketch that the reference notes began with."""
RECIPE = ("small dense, again", "sparse, once", "small dense, labels alone", "small dense, our recipe")
"""Small dense nets that learn by a part of our recipe, or by all of it, each at its own rate: of a gap against these the mask is one part, the rate another."""
