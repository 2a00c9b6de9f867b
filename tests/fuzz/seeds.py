"""Small model files of every kind, for a fuzzer to begin with."""

from __future__ import annotations

import numpy as np

from click_models import Shape, columns_of, make_click
from engine_networks import make_inputs, make_network
from ensembles import ALL_MISSING, make_ensemble
from prunus.data.ranking import Schema
from prunus.engine import click_file, recommender_file
from prunus.engine.ensemble import Ensemble
from prunus.engine.file import to_bytes
from prunus.engine.network import Activation, BlockInt8, Dense, DenseInt8, Network, SlotKind
from recommenders import make_dense, make_sparse


def int8_network(rng):
    """Make a network of both int8 kinds of layer."""
    inputs = make_inputs(rng, 6)
    dense = DenseInt8(rng.integers(-50, 50, (5, 6)), rng.uniform(0.001, 0.01, 5), rng.normal(size=5), 20.0, 100.0, Activation.RELU6)  # fmt: skip
    blocks = np.array([0, 1, 1, 0], np.int32)
    weight = rng.integers(-50, 50, (4, 4))
    weight[blocks == 1, 1:] = 0  # the second block covers inputs 4 to 7, and the layer has 5
    block = BlockInt8(
        np.array([0, 2, 3, 4], np.int32),
        blocks,
        weight,
        rng.uniform(0.001, 0.01, 3),
        rng.normal(size=3),
        5,
        42.5,
        0.0,
        Activation.RELU6,
    )
    last = Dense(rng.normal(size=(1, 3)), rng.normal(size=1), Activation.IDENTITY)
    return Network(6, inputs, (dense, block, last))


def seeds():
    """Give the bytes of some small model files, by name."""
    rng = np.random.default_rng(20)
    models = {
        "linear": make_network(rng, 1, (), density=1.0),
        "sparse": make_network(rng, 7, (5, 3), density=0.5),
        "mixed": make_network(rng, 6, (5, 4), dense=(1,), slots=9, kinds=tuple(SlotKind), last=Activation.SIGMOID),
        "int8": int8_network(rng),
        "trees": make_ensemble(rng, (5, 1, 3), 4, missing=ALL_MISSING, categorical=0.4),
        "stumps": make_ensemble(rng, (2, 2), 2, scale=1e-6),
    }
    files = {}
    for name, model in models.items():
        # Trees have a rule for what is missing, everywhere.
        allowed = tuple(isinstance(model, Ensemble) or f % 2 == 1 for f in range(model.n_features))
        schema = Schema(tuple(f"f{f}" for f in range(model.n_features)), allowed)
        files[name] = to_bytes(model, schema, metadata={"teacher": "t", "verdict": {"lower": -0.5}})
    return files | recommenders(rng) | clicks(rng)


def clicks(rng):
    """Give the bytes of some small click models, by name."""
    shapes = {
        "click": Shape(2, (3, 1), dim=2, top=(4,)),
        "click bottom": Shape(1, (2, 0), dim=2, bottom=(2,), top=(3,)),
    }
    models = {name: make_click(rng, shape) for name, shape in shapes.items()}
    return {name: click_file.to_bytes(model, columns_of(model), metadata={"t": 1}) for name, model in models.items()}


def recommenders(rng):
    """Give the bytes of some small recommenders, by name; one is large enough for an entropy code."""
    models = {
        "factors": make_sparse(rng, 9, 12, 3, bits=4, tied=False, scale=True, bias=True, per_row=True),
        "coded": make_sparse(rng, 60, 40, 7, bits=3),
        "item-item": make_sparse(rng, 7, stored=3, item_item=True),
        "dense": make_dense(rng, 6, 3, bits=8, bias=True),
    }
    names = {"factors": [f"item {i}" for i in range(9)], "item-item": [str(7 * i) for i in range(7)]}
    return {
        name: recommender_file.to_bytes(model, names.get(name), metadata={"teacher": "t"})
        for name, model in models.items()
    }
