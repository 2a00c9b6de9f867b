"""Run under count_mallocs.so: print how often 10,000 calls with out= asked the C library for memory.

The first line is a call that must be counted, so that a counter that counts nothing is found out.
"""

import ctypes
import sys
from itertools import product, repeat

import numpy as np

from prunus import _native
from prunus.data.events import EventSchema
from prunus.data.ranking import Schema
from prunus.engine.click import ClickModel, IdEmbeddings, plain_slots
from prunus.engine.event_scorer import EventScorer
from prunus.engine.network import Activation, Dense, InputStage, Network, Sparse
from prunus.engine.scorer import RankScorer

counter = ctypes.CDLL(sys.argv[1])
counter.counter_stop.restype = ctypes.c_long
rng = np.random.default_rng(0)
n = 44
one = np.ones(n, np.float32)
inputs = InputStage(np.arange(n), np.arange(n) % 2, 0 * one, one, -3 * one, 3 * one, one)
first = Sparse.from_dense(rng.normal(size=(64, n)) * (rng.random((64, n)) < 0.1), np.zeros(64), Activation.RELU6)
last = Dense(rng.normal(size=(1, 64)), np.zeros(1), Activation.IDENTITY)
network = Network(n, inputs, (first, last))
schema = Schema(tuple(f"f{i}" for i in range(n)))

stumps = np.arange(40, dtype=np.int32)
ends = np.arange(41, dtype=np.int32)
forest = (
    n, 0.0, ends, 2 * ends, stumps, stumps, np.zeros(40, np.float32), ~(2 * stumps), ~(2 * stumps + 1),
    np.zeros(40, np.uint8), np.full(40, -1, np.int32), np.zeros(1, np.int32), np.zeros(0, np.int32), rng.normal(size=80),
)  # fmt: skip

keys = np.arange(1, 100, dtype=np.uint64) << np.uint64(50)
tables = (IdEmbeddings(keys, rng.normal(size=(100, 8))), IdEmbeddings(keys, rng.normal(size=(100, 8))))
below = Network(n, inputs, (first, Dense(rng.normal(size=(8, 64)), np.zeros(8), Activation.RELU)), n_outputs=8)
top = Network(27, plain_slots(0, 27), (Dense(rng.normal(size=(1, 27)), np.zeros(1), Activation.IDENTITY),))
click = ClickModel(n, tables, below, interactions=True, top=top)
columns = EventSchema(("a", "b"), schema.feature_names, "y", ("t",))

counter.counter_start()
kept = np.empty(1 << 20)
sys.stdout.write(f"known {counter.counter_stop()}\n")
for isa in _native.isas():
    scorers = {"network": RankScorer(network, schema, isa=isa), "forest": _native.Forest(*forest, isa=isa)}
    events = EventScorer(click, columns, isa=isa)
    for batch in (1, 20, 300):
        ids, X, out = np.full((batch, 2), keys[7]), np.zeros((batch, n), np.float32), np.empty(batch, np.float32)
        for _ in range(101):
            events.score(ids, X, out=out)
        calls = repeat(None, 10_000 // batch + 100)
        counter.counter_start()
        for _ in calls:
            events.score(ids, X, out=out)
        sys.stdout.write(f"{isa} click {batch} {counter.counter_stop()}\n")
    for name, batch in product(scorers, (1, 3, 20, 128)):
        score = scorers[name].score
        X, out = np.zeros((batch, n), np.float32), np.empty(batch, np.float32)
        score(X, out)
        for _ in range(100):  # the interpreter's own first times
            score(X, out)
        calls = repeat(None, 10_000)
        counter.counter_start()
        for _ in calls:
            score(X, out)
        sys.stdout.write(f"{isa} {name} {batch} {counter.counter_stop()}\n")
