"""Run under count_mallocs.so: print how often 10,000 calls with out= asked the C library for memory.

The first line is a call that must be counted, so that a counter that counts nothing is found out.
"""

import ctypes
import sys
from itertools import repeat

import numpy as np

from prunus import _native
from prunus.data.ranking import Schema
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

counter.counter_start()
kept = np.empty(1 << 20)
sys.stdout.write(f"known {counter.counter_stop()}\n")
for isa in _native.isas():
    score = RankScorer(network, schema, isa=isa).score
    for batch in (1, 3, 20, 128):
        X, out = np.zeros((batch, n), np.float32), np.empty(batch, np.float32)
        score(X, out)
        counter.counter_start()
        for _ in repeat(None, 10_000):
            score(X, out)
        sys.stdout.write(f"{isa} {batch} {counter.counter_stop()}\n")
