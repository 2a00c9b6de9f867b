"""Networks for the engine's tests: a table of named ones, and random ones drawn by hypothesis."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from prunus.data.ranking import Schema
from prunus.engine.network import Activation, Dense, InputStage, Network, SlotKind, Sparse

ALL_KINDS = tuple(SlotKind)


def make_inputs(rng, n_features, *, slots=None, kinds=(SlotKind.VALUE, SlotKind.LOG)):
    """Draw an input stage: one slot a feature, or as many slots as asked for at random features."""
    feature = np.arange(n_features) if slots is None else np.sort(rng.integers(0, n_features, slots))
    n = len(feature)
    kind = rng.choice(np.array(kinds, np.uint8), n)
    lower = rng.uniform(-4, 0, n)
    return InputStage(
        feature,
        kind,
        np.where(kind == SlotKind.EQUAL, rng.integers(-2, 3, n), rng.normal(size=n)),
        rng.uniform(0.2, 2, n) * rng.choice([-1, 1], n),
        lower,
        lower + rng.uniform(0, 8, n),
        rng.normal(size=n),
    )


def make_network(
    rng,
    n_features,
    widths,
    *,
    density=0.3,
    dense=(),
    activation=Activation.RELU6,
    last=Activation.IDENTITY,
    slots=None,
    kinds=(SlotKind.VALUE, SlotKind.LOG),
):
    """Draw a network; ``dense`` numbers the layers stored densely, ``widths`` are those of the hidden layers."""
    inputs = make_inputs(rng, n_features, slots=slots, kinds=kinds)
    layers = []
    width = inputs.n_slots
    for number, outputs in enumerate((*widths, 1)):
        weight = rng.normal(size=(outputs, width)) / np.sqrt(max(1.0, width * density))
        weight[rng.random(weight.shape) >= density] = 0
        weight, bias = weight.astype(np.float32), (rng.normal(size=outputs) * 0.3).astype(np.float32)
        act = last if number == len(widths) else activation
        layers.append(Dense(weight, bias, act) if number in dense else Sparse.from_dense(weight, bias, act))
        width = outputs
    return Network(n_features, inputs, tuple(layers))


def make_rows(rng, network, n, *, missing=(), spread=2.0):
    """Draw documents: heavy-tailed, with some exact small integers (for EQUAL) and NaN where ``missing`` is true."""
    X = rng.normal(size=(n, network.n_features)) * np.exp(rng.normal(size=network.n_features) * spread)
    whole = rng.random(X.shape) < 0.3
    X[whole] = rng.integers(-2, 3, int(whole.sum()))
    if len(missing):
        X[(rng.random(X.shape) < 0.2) & np.asarray(missing)] = np.nan
    return np.ascontiguousarray(X, np.float32)


def names(network, missing=()):
    """Return a schema of names f0, f1, ..."""
    allowed = tuple(bool(x) for x in missing) or (False,) * network.n_features
    return Schema(tuple(f"f{i}" for i in range(network.n_features)), allowed)


# name -> (n_features, hidden widths, options). Widths straddle 4, 8, 12, 16 and 64; densities reach both ends.
TABLE = {
    "one weight": (1, (), {"density": 1.0}),
    "linear": (37, (), {"density": 1.0}),
    "linear dense": (37, (), {"density": 1.0, "dense": (0,)}),
    "two features": (2, (3,), {"density": 1.0}),
    "three features": (3, (5, 2), {}),
    "four features": (4, (7,), {"dense": (0, 1)}),
    "five features": (5, (8,), {"dense": (0,)}),
    "straddling": (17, (15, 17, 33), {"density": 0.4}),
    "straddling dense": (17, (11, 13, 25, 12, 24), {"density": 1.0, "dense": (0, 1, 2, 3, 4, 5)}),
    "no weights": (9, (6, 4), {"density": 0.0}),
    "full rows": (21, (9, 5), {"density": 1.0}),
    "long rows": (150, (31, 8), {"density": 0.7}),
    "very sparse": (70, (64, 32), {"density": 0.03}),
    "mixed": (44, (40, 24, 10), {"dense": (1, 3), "density": 0.2}),
    "wide": (30, (400, 200), {"density": 0.02}),
    "identity": (12, (10, 6), {"activation": Activation.IDENTITY}),
    "relu": (12, (10, 6), {"activation": Activation.RELU, "dense": (1,)}),
    "sigmoid": (12, (10, 6), {"activation": Activation.SIGMOID, "last": Activation.SIGMOID, "dense": (0,)}),
    "relu6 at the end": (12, (10,), {"last": Activation.RELU6}),
    "only values": (20, (6,), {"kinds": (SlotKind.VALUE,)}),
    "only logs": (20, (6,), {"kinds": (SlotKind.LOG,)}),
    "few features read": (300, (8,), {"slots": 5, "kinds": ALL_KINDS}),
    "many slots a feature": (6, (19, 3), {"slots": 50, "kinds": ALL_KINDS}),
    "every kind": (40, (16, 8), {"slots": 90, "kinds": ALL_KINDS}),
}


def table_network(name):
    """Return the network of a row of the table, always the same."""
    n_features, widths, options = TABLE[name]
    return make_network(np.random.default_rng(len(name) * 1000 + n_features), n_features, widths, **options)


@st.composite
def networks(draw):
    """Draw a network and rules for its missing values."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n_features = draw(st.integers(1, 40))
    widths = tuple(draw(st.lists(st.integers(1, 70), max_size=3)))
    network = make_network(
        rng,
        n_features,
        widths,
        density=draw(st.sampled_from([0.0, 0.03, 0.2, 0.6, 1.0])),
        dense=tuple(i for i in range(len(widths) + 1) if draw(st.booleans())),
        activation=draw(st.sampled_from(list(Activation))),
        last=draw(st.sampled_from([Activation.IDENTITY, Activation.SIGMOID])),
        slots=draw(st.none() | st.integers(1, 80)),
        kinds=tuple(draw(st.sets(st.sampled_from(ALL_KINDS), min_size=1))),
    )
    return network, rng.random(n_features) < draw(st.sampled_from([0.0, 0.5, 1.0]))
