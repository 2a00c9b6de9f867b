"""Click models for the engine's tests: a table of shapes, and events that meet known, unknown and missing ids."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

from engine_networks import make_inputs
from prunus.compiler_click import compile_click
from prunus.data.events import EventSchema
from prunus.engine.click import IdEmbeddings
from prunus.engine.network import Activation


class Shape(NamedTuple):
    """Sizes of a click model."""

    n_dense: int
    ids: tuple[int, ...]
    dim: int = 4
    bottom: tuple[int, ...] = ()
    interactions: bool = True
    top: tuple[int, ...] = (25, 14)
    density: float = 0.4


SHAPES = {
    "two ids": Shape(6, (20, 7)),
    "many ids": Shape(3, (20, 7, 30, 1, 12, 9), dim=3),
    "wide embeddings": Shape(5, (20, 7), dim=37),
    "bottom": Shape(6, (20, 7, 9), dim=5, bottom=(11, 5)),
    "wide bottom": Shape(6, (20, 7), dim=16, bottom=(40, 16), top=(33,)),
    "bottom alone": Shape(6, (), bottom=(11, 5)),
    "one output below": Shape(6, (20, 7), dim=1, bottom=(11, 1)),
    "no products": Shape(6, (20, 7), interactions=False),
    "bottom, no products": Shape(6, (20, 7), bottom=(11, 9), interactions=False),
    "no dense": Shape(0, (20, 7, 9)),
    "no ids": Shape(6, ()),
    "empty table": Shape(6, (0, 5)),
    "linear": Shape(6, (20, 7), top=()),
    "dense layers": Shape(6, (20, 7), bottom=(8, 4), density=1.0),
}


class _Layer(NamedTuple):
    weight: np.ndarray
    bias: np.ndarray
    activation: Activation


def _layers(rng, sizes, density, last):
    layers = []
    for before, after in itertools.pairwise(sizes):
        weight = rng.normal(size=(after, before)) / np.sqrt(max(1.0, before * density))
        weight[rng.random(weight.shape) >= density] = 0
        layers.append(_Layer(weight.astype(np.float32), np.abs(rng.normal(size=after) * 0.3).astype(np.float32), Activation.RELU))  # fmt: skip
    if layers:
        layers[-1] = layers[-1]._replace(activation=last)
    return layers


def make_click(rng, shape):
    """Draw a click model."""
    n_dense, ids, dim, bottom, interactions, top, density = shape
    tables = [
        IdEmbeddings(np.sort(rng.choice(2**62, n, replace=False)).astype(np.uint64) + 1, rng.normal(size=(n + 1, dim)))
        for n in ids
    ]
    vectors = len(ids) + bool(bottom)
    n_inputs = (bottom[-1] if bottom else n_dense) + len(ids) * dim
    n_inputs += vectors * (vectors - 1) // 2 if interactions else 0
    return compile_click(
        make_inputs(rng, n_dense) if n_dense else None,
        tables,
        _layers(rng, (n_dense, *bottom), density, Activation.RELU) if bottom else [],
        _layers(rng, (n_inputs, *top, 1), density, Activation.IDENTITY),
        interactions=interactions,
    )


def make_events(rng, model, n, *, missing=0.1):
    """Draw events: ids uint64 [n, n_ids], dense float32 [n, n_dense]."""
    ids = np.zeros((n, model.n_ids), np.uint64)
    for field, table in enumerate(model.tables):
        known = np.concatenate([table.keys, rng.integers(1, 2**63, 3, dtype=np.uint64), [np.uint64(0), ~np.uint64(0)]])
        ids[:, field] = rng.choice(known, n)
    dense = (rng.normal(size=(n, model.n_dense)) * np.exp(rng.normal(size=model.n_dense) * 2)).astype(np.float32)
    dense[rng.random(dense.shape) < missing] = np.nan
    return ids, dense


def columns_of(model):
    """Name the columns of a model."""
    return EventSchema(
        tuple(f"id{field}" for field in range(model.n_ids)),
        tuple(f"x{feature}" for feature in range(model.n_dense)),
        "click>0",
        ("time",),
    )
