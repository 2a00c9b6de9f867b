"""How far the f32 kernels are from what this core can do: bounds and kernels timed in turn, in one process, one thread.

    taskset -c 1 python benchmarks/kernels.py --seconds 60

Prints a table and writes benchmarks/results/kernels.json: every time with its median, its quiet value (the minimum) and
two shares of its bound: of the quiet values, and the median over rounds of (bound in this round) / (time in this round).
A goal is held against the first; for batches from memory, which others on the machine slow down for minutes on end,
against the second. Those are timed in one round of eight.

Bounds, each measured in the same rounds by benchmarks/native/limits.cpp (built here with the system's compiler):

    multiply-add   weights x time of one vector multiply-add / documents in a vector
    sparse         the same, or one load from L1 for each vector and weight if that takes longer: a sparse kernel reads
                   an activation for every multiply-add. Weights, offsets, biases and stores are not in the bound, so it
                   cannot be reached.
    input          the time of a network with the same input stage, no weights and one output
    copy           numpy.copyto of the same batch into other memory
"""

from __future__ import annotations

import argparse
import ctypes
import json
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from prunus import _native
from prunus.bench.machine import describe
from prunus.data.ranking import Schema
from prunus.engine.file import write_atomically
from prunus.engine.network import Activation, Dense, InputStage, Network, SlotKind, Sparse
from prunus.engine.scorer import RankScorer

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent
LIMITS = {"multiply-add": 0, "multiply-add loaded": 1, "load": 2, "store": 3}
N_FEATURES = 136
SLICE_SECONDS = 1.2e-3
FROM_MEMORY = 200_000  # documents: 109 MB of features, more than any cache here
BIG, SMALL, TINY = (400, 200, 200, 100), (200, 75, 75, 25), (64, 32)


@dataclass
class Case:
    """One thing that is timed.

    Attributes:
        name: of it.
        call: what is timed.
        documents: in a call; times are divided by it.
        bounds: names of other cases with factors: the bound is the sum of factor x their time in the same round.
        goal: the least share of the bound, or None.
        most_us: the most microseconds for each document, or None.
        times: us for each document, one a round.
    """

    name: str
    call: Callable[[], object]
    documents: int = 1
    bounds: dict[str, float] = field(default_factory=dict)
    goal: float | None = None
    most_us: float | None = None
    times: list[float] = field(default_factory=list)
    calls: int = 0

    def measure(self, round_number: int) -> None:
        """Time one slice; NaN where this round is not for this case."""
        if self.documents == FROM_MEMORY and round_number % 8:
            self.times.append(float("nan"))
            return
        if not self.calls:
            self.call()
            begin = time.perf_counter()
            self.call()
            self.calls = max(1, int(SLICE_SECONDS / (time.perf_counter() - begin)))
        call, begin = self.call, time.perf_counter()
        for _ in range(self.calls):
            call()
        self.times.append((time.perf_counter() - begin) / self.calls / self.documents * 1e6)


def build_limits(folder: Path) -> ctypes.CDLL:
    """Compile limits.cpp."""
    library = folder / "limits.so"
    subprocess.run(["c++", "-O2", "-shared", "-fPIC", HERE / "native" / "limits.cpp", "-o", library], check=True)
    return ctypes.CDLL(str(library))


def limit_cases(limits: ctypes.CDLL, bits: int) -> list[Case]:
    """Bounds of one vector instruction: ``documents`` is how many instructions a call runs."""
    cases, turns = [], 20_000
    for name, kind in LIMITS.items():
        each = limits.limits_run(bits, kind, ctypes.c_long(1))
        call = lambda kind=kind: limits.limits_run(bits, kind, ctypes.c_long(turns))  # noqa: E731
        cases.append(Case(f"{name} {bits}", call, documents=turns * each))
    return cases


def inputs(kind: SlotKind | None, rng: np.random.Generator) -> InputStage:
    """All features, of one kind, or alternately VALUE and LOG."""
    n = N_FEATURES
    kinds = np.resize([SlotKind.VALUE, SlotKind.LOG], n) if kind is None else np.full(n, kind)
    center, scale = rng.normal(size=n), rng.uniform(0.5, 2, n)
    return InputStage(np.arange(n), kinds, center, scale, np.full(n, -8.0), np.full(n, 8.0), np.zeros(n))


def network(
    stage: InputStage, widths: tuple[int, ...], density: float, rng: np.random.Generator, *, last: float = 1.0
) -> Network:
    """Draw a network: each hidden row keeps ``density`` of its inputs at random; dense kernels where that is 1."""
    layers: list[Dense | Sparse] = []
    width = stage.n_slots
    for outputs in (*widths, 1):
        kept = density if outputs > 1 else last
        weight = (rng.normal(size=(outputs, width)) / np.sqrt(width * density)).astype(np.float32)
        weight[rng.random(weight.shape) >= kept] = 0
        bias = (rng.normal(size=outputs) * 0.1).astype(np.float32)
        act = Activation.RELU6 if outputs > 1 else Activation.IDENTITY
        dense = outputs > 1 and density == 1.0
        layers.append(Dense(weight, bias, act) if dense else Sparse.from_dense(weight, bias, act))
        width = outputs
    return Network(N_FEATURES, stage, tuple(layers))


class Workload:
    """Scorers and batches of one instruction set."""

    def __init__(self, isa: str, seed: int, *, memory: bool) -> None:
        self.isa, self.rng, self.memory = isa, np.random.default_rng(seed), memory
        self.lanes = _native.lanes(isa)
        self.bits = 512 if self.lanes == 16 else 256
        rows = FROM_MEMORY if memory else 4096
        self.X = (self.rng.normal(size=(rows, N_FEATURES)) * 3).astype(np.float32)
        self.out = np.empty(rows, np.float32)
        self.cases: list[Case] = []

    def scorer(self, net: Network) -> RankScorer:
        """Build a scorer."""
        return RankScorer(net, Schema(tuple(f"f{i}" for i in range(N_FEATURES)), (False,) * N_FEATURES), isa=self.isa)

    def add(self, name: str, scorer: RankScorer, batch: int, **options: Any) -> Case:  # noqa: ANN401
        """Time a scorer on one batch that is in cache (or not, where it is too large)."""
        X, out, score = self.X[:batch], self.out[:batch], scorer.score
        case = Case(f"{name} B={batch} {self.isa}", lambda: score(X, out), batch, **options)
        self.cases.append(case)
        return case

    def batches(self) -> tuple[int, ...]:
        """Batches that fit L2, and one that fits no cache."""
        return (128, 1000, FROM_MEMORY) if self.memory else (128, 1000)

    def add_inputs(self) -> None:
        """Input stage alone."""
        for kind in (SlotKind.VALUE, SlotKind.LOG, None):
            net = network(inputs(kind, self.rng), (), 1.0, self.rng, last=0.0)
            label = "input " + (kind.name if kind is not None else "both")
            scorer = self.scorer(net)
            for batch in self.batches():
                if batch == FROM_MEMORY:
                    self.add(label, scorer, batch, bounds={"copy": 1.0}, goal=1 / 1.3)
                else:
                    self.add(label, scorer, batch, most_us=0.05)

    def add_copy(self) -> None:
        """Copying the batch that fits no cache."""
        if self.memory:
            other = np.empty_like(self.X)
            other[:] = self.X
            self.cases.append(Case("copy", lambda: np.copyto(other, self.X), FROM_MEMORY))

    def add_dense(self) -> None:
        """Dense networks against the multiply-add bound."""
        for widths in (BIG, SMALL, TINY):
            net = network(inputs(None, self.rng), widths, 1.0, self.rng)
            weights = sum(np.prod(x.weight.shape) for x in net.layers if isinstance(x, Dense)) + widths[-1]
            for batch in (128, 1000):
                bounds = {f"multiply-add {self.bits}": weights / self.lanes}
                if widths == TINY:  # so small that the input stage is a fifth of it
                    bounds[f"input both B={batch} {self.isa}"] = 1.0
                self.add(f"dense {'x'.join(map(str, widths))}", self.scorer(net), batch, bounds=bounds, goal=0.85)

    def add_sparse(self) -> None:
        """Networks that are sparse in every layer against loads or multiply-adds, and the input stage."""
        for widths in (BIG, SMALL):
            for percent in (90, 95, 98):
                net = network(inputs(None, self.rng), widths, 1 - percent / 100, self.rng)
                scorer = self.scorer(net)
                for batch in self.batches():
                    per = net.nonzeros / self.lanes
                    bounds = {f"largest {self.bits}": per, f"input both B={batch} {self.isa}": 1.0}
                    name = f"sparse {'x'.join(map(str, widths))} {percent}%"
                    self.add(name, scorer, batch, bounds=bounds, goal=0.65)

    def add_few(self, batches: tuple[int, ...]) -> None:
        """Small batches, through Python."""
        for percent, most in ((98, 3.0), (95, 8.0)):
            scorer = self.scorer(network(inputs(None, self.rng), BIG, 1 - percent / 100, self.rng))
            for batch in batches:
                self.add(f"few {percent}%", scorer, batch, most_us=most if batch == 1 else None)
        scorer = self.scorer(network(inputs(None, self.rng), TINY, 1.0, self.rng))
        for batch in batches:
            self.add("few dense 64x32", scorer, batch)
        self.cases.append(
            Case(f"call {self.isa}", lambda X=self.X[:0], o=self.out[:0]: scorer.score(X, o), most_us=0.5)
        )


def single_calls(work: Workload, repeats: int) -> list[dict[str, Any]]:
    """Time single calls on one document: median and 99th percentile, with the clock's own time taken off."""
    clock = time.perf_counter_ns
    empty = np.median([-(clock() - clock()) for _ in range(20_000)])
    rows = []
    for percent, most in ((98, 3.0), (95, 8.0)):
        net = network(inputs(None, work.rng), BIG, 1 - percent / 100, np.random.default_rng(percent))
        score, out = work.scorer(net).score, np.empty(1, np.float32)
        documents = [work.X[i : i + 1] for i in range(64)]
        took = np.empty(repeats)
        for i in range(repeats):
            X = documents[i % 64]
            begin = clock()
            score(X, out)
            took[i] = clock() - begin
        us = (took[repeats // 10 :] - empty) / 1000
        median, p99 = float(np.median(us)), float(np.percentile(us, 99))
        row = {"name": f"one document {percent}%", "median_us": round(median, 3), "p99_us": round(p99, 3)}
        rows.append(row | {"met": median <= most and p99 <= 2 * median, "most_us": most, "nonzeros": net.nonzeros})
    return rows


def summarise(cases: list[Case]) -> list[dict[str, Any]]:
    """Make a row of each case."""
    times = {case.name: np.array(case.times) for case in cases}
    for bits in (256, 512):
        if f"load {bits}" in times:
            times[f"largest {bits}"] = np.maximum(times[f"load {bits}"], times[f"multiply-add {bits}"])
    rows = []
    for case in cases:
        own = times[case.name]
        row: dict[str, Any] = {"name": case.name, "us": float(np.nanmedian(own)), "quiet_us": float(np.nanmin(own))}
        if case.bounds:
            bound = sum(factor * times[name] for name, factor in case.bounds.items())
            quiet = sum(factor * np.nanmin(times[name]) for name, factor in case.bounds.items())
            row |= {"bound_us": float(np.nanmedian(bound)), "share": float(np.nanmedian(bound / own))}
            row["quiet_share"] = float(quiet / np.nanmin(own))
        if case.goal is not None:
            reached = row["share" if case.documents == FROM_MEMORY else "quiet_share"]
            row |= {"goal_share": round(case.goal, 3), "met": bool(reached >= case.goal)}
        if case.most_us is not None:
            row |= {"most_us": case.most_us, "met": bool(row["us"] <= case.most_us)}
        rows.append({key: float(f"{x:.5g}") if isinstance(x, float) else x for key, x in row.items()})
    return rows


def show(row: dict[str, Any]) -> str:
    """One line of the table."""
    share = f"{row['share']:6.0%} {row['quiet_share']:6.0%}" if "share" in row else " " * 13
    met = {True: "met", False: "MISSED"}.get(row.get("met", ""), "")
    return f"{row['name']:44} {row['us']:10.5g} {row['quiet_us']:10.5g} {share} {met}"


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--seconds", type=float, default=60, help="how long to measure")
    parser.add_argument("--isa", default=_native.isas()[0], help="instruction set")
    parser.add_argument("--beside", help="another instruction set for the small batches, timed in turn")
    parser.add_argument("--only", default="copy,input,dense,sparse,few", help="groups of cases, comma-separated")
    parser.add_argument("--no-memory", action="store_true", help="leave the batches that fit no cache out")
    parser.add_argument("--seed", type=int, default=0, help="of weights and documents")
    parser.add_argument("-o", "--output", type=Path, help="JSON file; default: nothing is written")
    options = parser.parse_args()
    groups = options.only.split(",")
    work = Workload(options.isa, options.seed, memory=not options.no_memory)
    few = (1, 2, 4, 8, 12, 16, 17, 20, 24, 32, 40, 48)
    with tempfile.TemporaryDirectory() as folder:
        limits = build_limits(Path(folder))
        work.cases += limit_cases(limits, work.bits)
        for group, add in (
            ("copy", work.add_copy),
            ("input", work.add_inputs),
            ("dense", work.add_dense),
            ("sparse", work.add_sparse),
            ("few", lambda: work.add_few(few)),
        ):
            if group in groups or (group == "input" and {"dense", "sparse"} & set(groups)):
                add()
        if options.beside:
            other = Workload(options.beside, options.seed, memory=False)
            other.add_few(few)
            work.cases += other.cases
        begin, rounds = time.perf_counter(), 0
        while rounds < 17 or time.perf_counter() - begin < options.seconds:
            for case in work.cases[:: 1 if rounds % 2 else -1]:
                case.measure(rounds)
            rounds += 1
    single = single_calls(work, 30_000) if "few" in groups else []
    rows = summarise(work.cases)
    print(f"{'case':44} {'us':>10} {'quiet':>10}  share  quiet")
    for row in rows:
        print(show(row))
    for row in single:
        print(
            f"{row['name']:44} median {row['median_us']:.3f} p99 {row['p99_us']:.3f} us {'met' if row['met'] else 'MISSED'}"
        )
    if options.output:
        settings = {"isa": options.isa, "seconds": options.seconds, "rounds": rounds, "seed": options.seed}
        result = {"machine": describe(), "settings": settings, "rows": rows, "single_calls": single}
        write_atomically(options.output, (json.dumps(result, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
