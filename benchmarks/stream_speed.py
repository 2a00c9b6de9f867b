"""Speed of click models: scoring against ONNX Runtime, and scoring while models are swapped.

    taskset -c 1 python benchmarks/stream_speed.py score
    python benchmarks/stream_speed.py swap

The model is that of the streams' study: 44 dense features, two ids with embeddings 16 wide, their product, and a top MLP
of 512-256-128. Weights are random: times do not depend on them, but for the masks' density.

`score` times, in turn in one process on one thread, models in our engine, from raw features and 64-bit ids: the dense master, the two forms
of the default (`narrow`, a small dense net; `masked`, one of 1.25 times the weights, a fifth of which is zero) and a master with nine of ten
weights zero (`sparse`), against the dense master in ONNX Runtime in three forms:

    onnx dense        raw features; ids already looked up, as rows of the tables
    onnx dense, z     features already normalised as well: only embeddings, product and MLP are left
    onnx dense, int8  the same, its matrices quantised by onnxruntime.quantization (dynamic, per channel)

What learning costs is measured by benchmarks/stream_loop.py. `swap` scores batches of 128 in a
thread while another one swaps a thousand times between two models no score of which is the same, and compares the time of
a call with that of the same thread alone. Each writes its part of benchmarks/results/stream-speed.json.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import os
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from prunus.bench.adapters.onnx_net import arrays_of
from prunus.bench.machine import describe
from prunus.bench.stats import order_of_round, paired_ratio, summary
from prunus.data.events import EventSchema
from prunus.engine import reference
from prunus.engine.click import ClickModel, IdEmbeddings
from prunus.engine.disk import write_atomically
from prunus.engine.event_scorer import EventScorer
from prunus.online.dense_to_sparse.default import ONCE, TWICE
from prunus.online.dense_to_sparse.patterns import narrow
from prunus.student.ctr import ClickShape

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from prunus.online.dense_to_sparse.default import Half

N_DENSE, N_IDS, KNOWN, DIM, TOP = 44, 2, 50_000, 16, (512, 256, 128)
DENSITIES = (0.2, 0.1, 0.05)
OURS = "prunus 90% masked"
BATCHES = (1, 20, 128, 512)
SLICE_SECONDS = 0.03
REQUESTS = 64
GOAL_RATIO, GOAL_P99 = 4.0, 1.5
SWAPS = 1000

FILE = Path(__file__).parent / "results" / "stream-speed.json"
SCHEMA = EventSchema(
    tuple(f"id{i}" for i in range(N_IDS)), tuple(f"x{i}" for i in range(N_DENSE)), "click>0", ("time",)
)


def make_model(density: float, *, top: tuple[int, ...] = TOP, seed: int = 0, shift: float = 0.0) -> ClickModel:
    """Make a click model whose hidden matrices keep a share of their weights; ``shift`` is added to each score."""
    from prunus.compiler_click import compile_click
    from prunus.engine.network import Activation
    from prunus.student.mlp import LayerArrays
    from prunus.student.normalise import RunningNormaliser

    rng = np.random.default_rng(seed)
    normaliser = RunningNormaliser(N_DENSE)
    normaliser.observe(raw_features(rng, 1000))
    keys = np.sort(np.random.default_rng(1).integers(1, 2**64, (N_IDS, KNOWN), dtype=np.uint64), axis=1)
    tables = [IdEmbeddings(key, 0.3 * rng.normal(size=(KNOWN + 1, DIM))) for key in keys]
    layers = []
    sizes = (N_DENSE + N_IDS * DIM + N_IDS * (N_IDS - 1) // 2, *top, 1)
    for before, after in itertools.pairwise(sizes):
        kept = rng.random((after, before)) < (density if after > 1 else 1.0)
        weight = rng.normal(size=(after, before)) * kept * np.sqrt(2 / before / (density if after > 1 else 1.0))
        bias = np.full(after, shift if after == 1 else 0.1)
        last = Activation.IDENTITY if after == 1 else Activation.RELU
        layers.append(LayerArrays(weight.astype(np.float32), bias.astype(np.float32), last))
    return compile_click(normaliser.input_stage(), tables, [], layers, interactions=True)


def form(density: float, half: Half) -> ClickModel:
    """Make what a learner of the default serves: as many weights as this share of the master's, in a net so many times as large."""
    inside = narrow(ClickShape(N_DENSE, (KNOWN,) * N_IDS, DIM, top=TOP), half.wider * density)
    return make_model(1 / half.wider, top=inside.top)


def raw_features(rng: np.random.Generator, n: int) -> NDArray[np.float32]:
    """Draw heavy-tailed features, a few missing."""
    dense = np.exp(2 * rng.normal(size=(n, N_DENSE))).astype(np.float32)
    dense[rng.random(dense.shape) < 0.02] = np.nan
    return dense


def requests(model: ClickModel, batch: int, count: int) -> list[tuple[NDArray[np.uint64], NDArray[np.float32]]]:
    """Draw batches of events whose ids are known but for one in ten, the frequent ones more often than the others."""
    rng = np.random.default_rng(3)
    made = []
    for _ in range(count):
        place = (KNOWN * rng.random((batch, N_IDS)) ** 3).astype(np.int64)
        ids = np.stack([table.keys[place[:, field]] for field, table in enumerate(model.tables)], 1)
        ids[rng.random(ids.shape) < 0.1] = 7
        made.append((ids, raw_features(rng, batch)))
    return made


def onnx_dense(model: ClickModel, *, raw: bool, int8: bool = False) -> Callable[..., NDArray[np.float32]]:
    """Put a dense model into ONNX Runtime: a function of rows int64 [n, ids] and features float32 [n, dense]."""
    import onnxruntime
    from onnx import TensorProto, helper

    from prunus.bench.adapters.onnx_net import ACTIVATIONS, _Graph

    g = _Graph()
    stage = model.top.inputs
    z = "X"
    if raw:
        center, scale, lower, upper, fill = (
            getattr(stage, name)[:N_DENSE] for name in ("center", "scale", "lower", "upper", "fill")
        )
        log = g.add("Mul", g.add("Sign", "X"), g.add("Log", g.add("Add", g.add("Abs", "X"), g.constant(1.0))))
        z = g.add("Mul", g.add("Sub", log, g.constant(center)), g.constant(scale))
        z = g.add("Clip", z, g.constant(lower[0]), g.constant(upper[0]))
        z = g.add("Where", g.add("IsNaN", "X"), g.constant(fill), z)
    vectors, one = [], g.constant([1], np.int64)
    for field, table in enumerate(model.tables):
        row = g.add("Squeeze", g.add("Gather", "rows", g.constant([field], np.int64), axis=1), one)
        vectors.append(g.add("Gather", g.constant(table.rows), row, axis=0))
    products = [g.add("ReduceSum", g.add("Mul", a, b), one) for a, b in itertools.combinations(vectors, 2)]
    h = g.add("Concat", z, *vectors, *products, axis=1)
    arrays = arrays_of(model.top)
    for number in range(len(model.top.layers)):
        op = ACTIVATIONS[int(arrays[f"activation_{number}"])]
        last = number == len(model.top.layers) - 1
        weight, bias = g.constant(arrays[f"weight_{number}"].T), g.constant(arrays[f"bias_{number}"])
        if int8:  # the quantiser knows MatMul
            h = g.add("Add", g.add("MatMul", h, weight), bias, output="score" if last else "")
        else:
            h = g.add("Gemm", h, weight, bias, output="score" if last else "")
        h = h if last else g.add(op, h)
    graph = helper.make_graph(
        g.nodes,
        "click",
        [
            helper.make_tensor_value_info("rows", TensorProto.INT64, ["n", N_IDS]),
            helper.make_tensor_value_info("X", TensorProto.FLOAT, ["n", N_DENSE]),
        ],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n", 1])],
        g.constants,
    )
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    if int8:
        from onnxruntime.quantization import QuantType, quantize_dynamic

        with tempfile.TemporaryDirectory() as folder:
            before, after = Path(folder) / "a.onnx", Path(folder) / "b.onnx"
            before.write_bytes(content)
            quantize_dynamic(
                before, after, per_channel=True, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul"]
            )
            content = after.read_bytes()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return lambda rows, X: session.run(["score"], {"rows": rows, "X": X})[0][:, 0]


def score(seconds: float) -> dict[str, Any]:
    """Time scoring; see the module."""
    master = make_model(1.0)
    models = {"prunus dense": master, "prunus 90% sparse": make_model(0.1)}
    for density in DENSITIES:
        models[f"prunus {1 - density:.0%} narrow"] = form(density, ONCE)
        models[f"prunus {1 - density:.0%} masked"] = form(density, TWICE)
    scorers = {name: EventScorer(model, SCHEMA) for name, model in models.items()}
    rivals = {
        "onnx dense": onnx_dense(master, raw=True),
        "onnx dense, z": onnx_dense(master, raw=False),
        "onnx dense, int8": onnx_dense(master, raw=False, int8=True),
    }
    rows = []
    for batch in BATCHES:
        calls = calls_of(master, scorers, rivals, batch)
        slices = in_turn(calls, REQUESTS, seconds / len(BATCHES))
        for name in calls:
            row = {
                "engine": name,
                "batch": batch,
                **summary(slices[name], batch),
                **paired_ratio(slices[name], slices[OURS]),
            }
            rows.append({key.replace("_doc", "_event"): value for key, value in row.items()})
    for row in rows:
        print(
            f"{row['engine']:20}{row['batch']:5}{row['us_per_event']:9.3f} us{row['p99_us_per_event']:9.3f} p99{row['ratio']:8.2f}"
        )
    at = {row["engine"]: row["ratio"] for row in rows if row["batch"] == 128}
    goal = {
        name: {"ratio": at[name], "goal": GOAL_RATIO, "met": at[name] >= GOAL_RATIO}
        for name in ("onnx dense", "onnx dense, z")
    }
    print(json.dumps(goal, indent=1))
    return {
        "rows": rows,
        "ratio_to": OURS,
        "goals": goal,
        "model": {"dense": N_DENSE, "ids": N_IDS, "known": KNOWN, "dim": DIM, "top": TOP},
    }


def calls_of(
    master: ClickModel, scorers: dict[str, EventScorer], rivals: dict[str, Callable[..., Any]], batch: int
) -> dict[str, Callable[[int], Any]]:
    """Give for each engine a function that scores request i; those that score the dense master score alike."""
    events = requests(master, batch, REQUESTS)
    found = [np.stack([table.find(ids[:, f]) for f, table in enumerate(master.tables)], 1) for ids, _ in events]
    stage = master.top.inputs.take(np.arange(N_DENSE))
    z = [reference.input_stage(stage, dense).astype(np.float32) for _, dense in events]
    out = np.empty(batch, np.float32)
    calls: dict[str, Callable[[int], Any]] = {}
    for name, scorer in scorers.items():
        calls[name] = lambda i, one=scorer: one.score(*events[i], out=out)
    for name, rival in rivals.items():
        features = [dense for _, dense in events] if name == "onnx dense" else z
        calls[name] = lambda i, one=rival, x=features: one(found[i], x[i])
    expected = scorers["prunus dense"].score(*events[0])
    for name in ("onnx dense", "onnx dense, z"):
        apart = np.abs(calls[name](0) - expected) / np.maximum(1, np.abs(expected))
        assert apart.max() < 1e-4, (name, apart.max())
    return calls


def in_turn(calls: dict[str, Callable[[int], Any]], n: int, seconds: float) -> dict[str, list[list[int]]]:
    """Time functions of a request's number in turn, slices of some calls in rounds: nanoseconds of each call."""
    counts = {}
    for name, call in calls.items():
        for i in range(min(n, 20)):
            call(i)
        began = time.perf_counter()
        call(0)
        counts[name] = max(2, int(SLICE_SECONDS / (time.perf_counter() - began)))
    slices: dict[str, list[list[int]]] = {name: [] for name in calls}
    end, number, at = time.perf_counter() + seconds, 0, 0
    names = list(calls)
    while time.perf_counter() < end or number < 5:
        for place in order_of_round(number, len(names)):
            call, times = calls[names[place]], []
            for _ in range(counts[names[place]]):
                at = (at + 1) % n
                began_ns = time.perf_counter_ns()
                call(at)
                times.append(time.perf_counter_ns() - began_ns)
            slices[names[place]].append(times)
        number += 1
    return slices


def swap(_seconds: float) -> dict[str, Any]:
    """Score in one thread while another swaps; see the module. Needs two cores."""
    models = [make_model(0.1), make_model(0.1, seed=5, shift=100.0)]
    ready = [EventScorer(model, SCHEMA) for model in models]
    scorer = EventScorer(models[0], SCHEMA)
    events = requests(models[0], 128, REQUESTS)
    expected = [[one.score(*event) for event in events] for one in ready]
    cores = sorted(os.sched_getaffinity(0))

    def traffic(swapping: threading.Event, times: list[int], seen: list[int]) -> None:
        os.sched_setaffinity(0, {cores[-1]})
        out = np.empty(128, np.float32)
        for i in itertools.cycle(range(len(events))):
            if swapping.is_set():
                return
            began = time.perf_counter_ns()
            scorer.score(*events[i], out=out)
            times.append(time.perf_counter_ns() - began)
            whole = [bool((out == one[i]).all()) for one in expected]
            seen[whole.index(True) if any(whole) else 2] += 1

    def run(swaps: int, seconds: float) -> tuple[list[int], list[int], float]:
        done, times, seen = threading.Event(), [], [0, 0, 0]
        thread = threading.Thread(target=traffic, args=(done, times, seen))
        gc.collect()
        thread.start()
        began = time.perf_counter()
        os.sched_setaffinity(0, {cores[0]})
        for number in range(swaps):
            scorer.swap(ready[(number + 1) % 2])
            time.sleep(seconds / swaps)
        if not swaps:
            time.sleep(seconds)
        took = time.perf_counter() - began
        done.set()
        thread.join()
        return times, seen, took

    rounds = []
    for number in range(6):  # in turn: with swaps, without
        for swaps in (0, SWAPS) if number % 2 else (SWAPS, 0):
            times, seen, took = run(swaps, 2.0)
            rounds.append({
                "swaps": swaps, "seconds": took, "calls": len(times), "first": seen[0], "second": seen[1], "mixed": seen[2],
                "median_us": float(np.median(times)) / 1e3, "p99_us": float(np.percentile(times, 99)) / 1e3,
            })  # fmt: skip
            print(rounds[-1])
    pairs = zip([r for r in rounds if r["swaps"]], [r for r in rounds if not r["swaps"]], strict=True)
    ratio = float(np.median([a["p99_us"] / b["p99_us"] for a, b in pairs]))
    mixed = sum(r["mixed"] for r in rounds)
    print(f"p99 with swaps over p99 without: {ratio:.3f}; mixed scores: {mixed}")
    return {
        "rounds": rounds,
        "p99_ratio": ratio,
        "mixed": mixed,
        "goal": {"p99_ratio": GOAL_P99, "met": ratio <= GOAL_P99 and not mixed},
    }


def main() -> None:
    """Measure one part, and put it beside the others."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["score", "swap"])
    parser.add_argument("--seconds", type=float, default=24)
    arguments = parser.parse_args()
    found = {"score": score, "swap": swap}[arguments.part](arguments.seconds)
    results = json.loads(FILE.read_text()) if FILE.exists() else {}
    results |= {arguments.part: {**found, "machine": describe()}}
    write_atomically(FILE, (json.dumps(results, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
