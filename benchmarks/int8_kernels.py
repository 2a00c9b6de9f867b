"""How far the int8 kernels are from what this core can do, and where they beat float32: all timed in turn, one thread.

    taskset -c 1 python benchmarks/int8_kernels.py --seconds 60 -o benchmarks/results/int8-kernels.json

The bound of a layer is its stored quads (four weights) times the time of one vpdpbusd, measured in the same rounds by
benchmarks/native/limits.cpp, over the documents in a vector; without VNNI there is no bound. The input stage stands in
every time, and its own time (a network with no weights) in the bound. Times are of batches that fit L2; ``ratio`` is
the median over rounds of (time of dense float32) / (time) on the same shape; ``quiet`` compares minima instead, which
other programs disturb less.

Break-even: the density of 1x4 blocks at which a block-sparse network takes as long as the dense int8 one, and the
density of single weights at which a sparse float32 network does, by interpolation between the densities measured (of
minima).
"""

from __future__ import annotations

import argparse
import ctypes
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from kernels import SLICE_SECONDS, Case, Workload, build_limits, inputs, network

from prunus import _native
from prunus.bench.machine import describe
from prunus.engine.file import write_atomically
from prunus.engine.network import Activation, BlockInt8, Dense, DenseInt8, InputStage, Network, SlotKind, Sparse

SHAPES = ((400, 200, 200, 100), (200, 75, 75, 25), (64, 32))
BLOCK_SPARSITIES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
SPARSITIES = (0.5, 0.75, 0.9, 0.95, 0.98)
QUADS = "vpdpbusd"


class Slice(Case):
    """A case timed by this thread's own time, so that what other programs take meanwhile is left out."""

    def measure(self) -> None:
        """Time one slice."""
        if not self.calls:
            self.call()
            begin = time.thread_time()
            self.call()
            self.calls = max(1, int(SLICE_SECONDS / (time.thread_time() - begin)))
        call, begin = self.call, time.thread_time()
        for _ in range(self.calls):
            call()
        self.times.append((time.thread_time() - begin) / self.calls / self.documents * 1e6)


def int8_network(
    stage: InputStage, widths: tuple[int, ...], density: float | None, rng: np.random.Generator, *, first: str = "int8"
) -> Network:
    """Draw a network of dense int8 layers (``density`` None) or blocks; ``first`` "sparse" keeps a float32 first layer."""
    layers: list[Dense | Sparse | DenseInt8 | BlockInt8] = []
    width = stage.n_slots
    for number, outputs in enumerate(widths):
        bias = (rng.normal(size=outputs) * 0.1).astype(np.float32)
        if number == 0 and first == "sparse":
            weight = (rng.normal(size=(outputs, width)) * (rng.random((outputs, width)) < 0.02)).astype(np.float32)
            layers.append(Sparse.from_dense(weight, bias, Activation.RELU6))
            width = outputs
            continue
        steps = rng.integers(-127, 128, (outputs, width)).astype(np.int8)
        if density is not None:
            steps *= np.repeat(rng.random((outputs, -(-width // 4))) < density, 4, axis=1)[:, :width]
        scale = np.full(outputs, 1 / (127 * 42.5 * np.sqrt(max(1.0, width * (density or 1.0)))))
        layer = DenseInt8(steps, scale, bias, 42.5, 0.0 if number else 128.0, Activation.RELU6)
        layers.append(layer if density is None else BlockInt8.from_dense(layer))
        width = outputs
    layers.append(Dense(rng.normal(size=(1, width)) / width**0.5, np.zeros(1), Activation.IDENTITY))
    return Network(stage.n_slots, stage, tuple(layers))


def bound(net: Network, isa: str, batch: int) -> dict[str, float] | None:
    """Quads times one instruction, the float32 layers' weights times one multiply-add, and the input stage."""
    if isa != "avx512vnni":
        return None
    quads = sum(x.n_outputs * -(-x.n_inputs // 4) for x in net.layers if isinstance(x, DenseInt8))
    quads += sum(len(x.blocks) for x in net.layers if isinstance(x, BlockInt8))
    weights = sum(x.shape.stored for x in net.layers if isinstance(x, Dense | Sparse))
    return {QUADS: quads / 16, "multiply-add 512": weights / 16, f"input B={batch} {isa}": 1.0}


def build(work: Workload, batches: tuple[int, ...], shapes: tuple[tuple[int, ...], ...]) -> None:
    """Add the cases of one instruction set."""
    rng, isa = work.rng, work.isa
    stage = inputs(SlotKind.VALUE, rng)
    for batch in batches:
        work.add("input", work.scorer(network(stage, (), 1.0, rng, last=0.0)), batch)
    for widths in shapes:
        label = "x".join(map(str, widths))
        nets = {
            "dense f32": network(stage, widths, 1.0, rng),
            "dense int8": int8_network(stage, widths, None, rng),
            "mixed": int8_network(stage, widths, None, rng, first="sparse"),
        }
        nets |= {f"block int8 {s:.0%}": int8_network(stage, widths, 1 - s, rng) for s in BLOCK_SPARSITIES}
        nets |= {f"sparse f32 {s:.0%}": network(stage, widths, 1 - s, rng) for s in SPARSITIES}
        for name, net in nets.items():
            for batch in batches:
                options: dict[str, Any] = {}
                if "int8" in name or name == "mixed":
                    options["bounds"] = bound(net, isa, batch) or {}
                work.add(f"{label} {name}", work.scorer(net), batch, **options)


def rows_of(cases: list[Case]) -> list[dict[str, Any]]:
    """Make a row of each case: median, quiet time, share of the bound, ratio to dense float32."""
    times = {case.name: np.array(case.times) for case in cases}
    rows = []
    for case in cases:
        own = times[case.name]
        row: dict[str, Any] = {"name": case.name, "us": float(np.median(own)), "quiet_us": float(own.min())}
        if case.bounds:
            least = sum(factor * times[name] for name, factor in case.bounds.items())
            row |= {"bound_us": float(np.median(least)), "share": float(np.median(least / own))}
            row["quiet_share"] = float(sum(f * times[name].min() for name, f in case.bounds.items()) / own.min())
        shape, _, rest = case.name.partition(" ")
        base = f"{shape} dense f32 {rest[rest.index('B=') :]}" if "B=" in rest else ""
        if base in times:
            row["ratio"] = float(np.median(times[base] / own))
            row["quiet_ratio"] = float(times[base].min() / own.min())
        rows.append({key: float(f"{x:.5g}") if isinstance(x, float) else x for key, x in row.items()})
    return rows


def break_even(cases: list[Case], label: str, batch: int, isa: str) -> dict[str, Any]:
    """Densities at which block int8, and sparse float32, take as long as dense int8."""
    times = {case.name: np.min(case.times) for case in cases}
    target = times[f"{label} dense int8 B={batch} {isa}"]
    found: dict[str, Any] = {"shape": label, "batch": batch, "isa": isa}
    for kind, sparsities in (("block int8", BLOCK_SPARSITIES), ("sparse f32", SPARSITIES)):
        density = 1 - np.array(sorted(sparsities, reverse=True))
        ratio = [times[f"{label} {kind} {1 - d:.0%} B={batch} {isa}"] / target for d in density]
        beyond = ratio[-1] < 1
        found[kind] = "above " + f"{density[-1]:.2f}" if beyond else float(f"{np.interp(1.0, ratio, density):.3f}")
        if ratio[0] > 1:
            found[kind] = "below " + f"{density[0]:.2f}"
    return found


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--seconds", type=float, default=60, help="how long to measure")
    parser.add_argument("--isas", default=_native.isas()[0], help="instruction sets, comma-separated")
    parser.add_argument("--batches", default="128,1000", help="documents in a call, comma-separated")
    parser.add_argument("--shapes", default=",".join("x".join(map(str, s)) for s in SHAPES), help="hidden widths")
    parser.add_argument("--seed", type=int, default=0, help="of weights and documents")
    parser.add_argument("-o", "--output", type=Path, help="JSON file; default: nothing is written")
    options = parser.parse_args()
    isas, batches = options.isas.split(","), tuple(map(int, options.batches.split(",")))
    shapes = tuple(tuple(map(int, s.split("x"))) for s in options.shapes.split(","))
    cases: list[Case] = []
    with tempfile.TemporaryDirectory() as folder:
        limits = build_limits(Path(folder))
        for name, kind in (("multiply-add 512", 0), (QUADS, 4), (f"{QUADS} loaded", 5)):
            each = limits.limits_run(512, kind, ctypes.c_long(1))
            if each:
                call = lambda kind=kind: limits.limits_run(512, kind, ctypes.c_long(20_000))  # noqa: E731
                cases.append(Slice(name, call, documents=20_000 * each))
        for isa in isas:
            work = Workload(isa, options.seed, memory=False)
            build(work, batches, shapes)
            cases += [Slice(case.name, case.call, case.documents, case.bounds) for case in work.cases]
        begin, rounds = time.perf_counter(), 0
        while rounds < 5 or time.perf_counter() - begin < options.seconds:
            for case in cases[:: 1 if rounds % 2 else -1]:
                case.measure()
            rounds += 1
    rows = rows_of(cases)
    print(f"{'case':44} {'us':>9} {'quiet':>9} {'bound':>9}  share  quiet  ratio")
    for row in rows:
        share = f"{row['bound_us']:9.5g} {row['share']:6.0%} {row['quiet_share']:6.0%}" if "share" in row else " " * 23
        ratio = f"{row['ratio']:6.2f} {row['quiet_ratio']:6.2f}" if "ratio" in row else ""
        print(f"{row['name']:44} {row['us']:9.5g} {row['quiet_us']:9.5g} {share} {ratio}")
    even = [break_even(cases, "x".join(map(str, s)), b, isa) for s in shapes for b in batches for isa in isas]
    for row in even:
        print(row)
    if options.output:
        settings = {"isas": isas, "seconds": options.seconds, "rounds": rounds, "seed": options.seed}
        result = {"machine": describe(), "settings": settings, "rows": rows, "break_even": even}
        write_atomically(options.output, (json.dumps(result, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
