"""Networks with random weights that cost about what a trained student will: to be timed before anything is trained."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from prunus.design import KERNELS, PRUNED
from prunus.engine.int8 import BLOCK
from prunus.engine.network import Network
from prunus.latency.networks import layer_of

if TYPE_CHECKING:
    from prunus.design import Architecture
    from prunus.engine.network import InputStage
    from prunus.latency import Prices

LEAST_DENSITY = 0.01
"""Density of a pruned one at least, where its inputs alone cost more than its target."""


def typical_network(architecture: Architecture, inputs: InputStage, n_features: int, price: Prices) -> Network:
    """Draw a network of a student's shape.

    Every unit is kept, and every input that the student reads; the weights of a student that will be pruned are thinned out evenly to its target.

    Args:
        architecture: of the student.
        inputs: the input stage: all slots, or those that the student reads.
        n_features: columns of the raw features.
        price: of the parts of a sparse network.
    """
    rng = np.random.default_rng(0)
    inputs = some_inputs(inputs, architecture.n_inputs)
    kind = architecture.kind
    sizes = [inputs.n_slots, *architecture.widths, 1]
    n_weights = sum(a * b for a, b in itertools.pairwise(sizes))
    of_weight = price.block / BLOCK if kind == "block" else price.weight
    left = architecture.target - price.fixed - float(price.slot.sum()) - price.unit * sum(sizes[1:])
    density = min(max(left / of_weight / n_weights, LEAST_DENSITY), 1.0) if kind in PRUNED else 1.0
    layers = []
    for number, (n_in, n_out) in enumerate(itertools.pairwise(sizes)):
        last = number == len(architecture.widths)
        kernel = KERNELS[kind]
        if kernel.endswith("int8") and (last or (number == 0 and architecture.first == "f32")):
            kernel = "sparse" if kind in PRUNED else "dense"
        layers.append(layer_of(rng, kernel, n_in, n_out, density, last=last))
    return Network(n_features, inputs, tuple(layers))


def some_inputs(inputs: InputStage, n_inputs: int | None) -> InputStage:
    """Stand in for the inputs that will be chosen: so many, evenly spread; all where there are no more."""
    if n_inputs is None or n_inputs >= inputs.n_slots:
        return inputs
    return inputs.take(np.arange(n_inputs) * inputs.n_slots // n_inputs)
