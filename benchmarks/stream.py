"""How well sparse models follow a stream: methods x streams x densities x seeds, each run test-then-train.

    python benchmarks/stream.py run --data ../shared/data --work ~/stream-work        # any number of processes at once
    python benchmarks/stream.py table --work ~/stream-work -o benchmarks/results/stream-goals.json
    python benchmarks/stream_doc.py                                                   # into docs/dense-to-sparse.md

*Tuning*: every method tries five learning rates on the first 30 % of a stream (seed 0, 90 % fewer operations), and further ones by a
factor of two while the best stands at an end; the one with the smallest loss over the last two thirds of that is taken for
all seeds and densities. *Report*: the other 70 %, of generated streams on seeds that settled no design. Gap: by how much
the loss of a method is above that of the dense net trained alone, in per cent. The interval is of a paired bootstrap, over
windows of 20,480 events and over seeds. Each cell is a file of the work folder: a run that is stopped goes on there.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stream_data import BATCH, DRIFTS, REAL, Stream, load
from stream_methods import METHODS, OURS, REFERENCE
from torch.nn import functional

from prunus.bench import machine
from prunus.student.ctr import ClickShape

TUNED, FIRST = 0.3, 0.1
"""Share of a stream that settings are chosen on, and of it what is not counted, as models have hardly begun."""
WINDOW = 40
"""Batches of a window of the bootstrap."""
RESAMPLES = 4000
SEEDS, FRESH = range(5), range(30, 42)
"""Of real and of generated streams. Seeds 0 to 8 and 20 to 27 settled the default, and what 9 to 14 showed of an earlier one was known; 30 to 41 nobody had looked at."""
FURTHER = 3
"""Rates that are tried beyond an end of a grid."""
MAIN = 0.1
FOR_ALL_DENSITIES = ("dense", "dense, int8", "dense, SOAP")
"""Methods that have no density."""


@dataclass(frozen=True)
class Cell:
    """One run.

    Attributes:
        stream: name of the stream.
        method: name of the method.
        density: share of the dense net's operations.
        seed: of learner and, where it is generated, stream.
        rate: learning rate; None for the tuned one.
    """

    stream: str
    method: str
    density: float
    seed: int
    rate: float | None = None

    def file(self, work: Path) -> Path:
        """Where its result is kept."""
        rate = "tuned" if self.rate is None else f"{self.rate:g}"
        method = self.method.replace(", ", "-").replace(" ", "-")
        return work / f"{self.stream}_{method}_{self.density:g}_{self.seed}_{rate}.json"


def cells() -> list[Cell]:
    """All cells, the most telling first."""
    core = (REFERENCE, "small dense", OURS, "small dense, our recipe")
    found = [Cell(stream, name, MAIN, seed) for seed in range(2) for stream in REAL for name in core]
    found += [Cell(stream, name, MAIN, seed) for seed in FRESH for stream in DRIFTS for name in core]
    found += [Cell(stream, name, d, 0) for d in (0.05, 0.2) for stream in REAL for name in core]
    found += [Cell(stream, name, MAIN, 0) for stream in REAL for name in METHODS]
    found += [Cell(stream, name, MAIN, FRESH[0]) for stream in DRIFTS for name in METHODS]
    found += [Cell(stream, name, MAIN, seed) for seed in SEEDS for stream in REAL for name in METHODS]
    found += [Cell(stream, name, d, seed) for seed in SEEDS for d in (0.05, 0.2) for stream in REAL for name in core]
    found += [Cell(stream, name, MAIN, seed) for seed in FRESH for stream in DRIFTS for name in METHODS]
    found += [Cell(s, name, d, seed) for seed in SEEDS for d in (0.05, 0.2) for s in REAL for name in METHODS]
    singular = [Cell(c.stream, c.method, MAIN, c.seed) if c.method in FOR_ALL_DENSITIES else c for c in found]
    return list(dict.fromkeys(singular))


def tune(cell: Cell, data: Path, work: Path) -> float | None:
    """Choose the rate of a cell; None while another process is at it."""
    rates = METHODS[cell.method].rates
    if len(rates) == 1:
        return rates[0]
    losses: dict[float, float] = {}
    waiting, further = list(rates), FURTHER
    while waiting:
        rate = waiting.pop()
        trial = measured(Cell(cell.stream, cell.method, MAIN, 0, rate), data, work)
        if trial is None:
            return None
        losses[rate] = part(trial["loss"], cell.stream, work, FIRST, TUNED)
        best = min(losses, key=losses.__getitem__)
        if not waiting and further and best in (min(losses), max(losses)):
            waiting, further = [best / 2 if best == min(losses) else best * 2], further - 1
    return best


def part(loss: list[float], stream: str, work: Path, first: float, last: float) -> float:
    """Mean log-loss of a part of a stream."""
    n = json.loads((work / f"length-{stream}.json").read_text())
    return float(np.mean(loss[int(first * n) : int(last * n)])) / BATCH


_LOADED: dict[tuple[str, int], Stream] = {}


def measured(cell: Cell, data: Path, work: Path) -> dict[str, Any] | None:
    """Give the result of a cell, from its file or by running it; None while another process is at it."""
    file = cell.file(work)
    if file.exists():
        return json.loads(file.read_text())
    key = (cell.stream, cell.seed if cell.stream in DRIFTS else 0)
    if key not in _LOADED:
        _LOADED.clear()
        _LOADED[key] = load(*key, data, work)
        (work / f"length-{cell.stream}.json").write_text(str(len(_LOADED[key].batches)))
    rate = tune(cell, data, work) if cell.rate is None else cell.rate
    if rate is None:
        return None
    claim = file.with_suffix(".claimed")
    if not claimed(claim):
        return None
    if key not in _LOADED:
        _LOADED.clear()
        _LOADED[key] = load(*key, data, work)
    result = run(cell, rate, _LOADED[key])
    file.with_suffix(".part").write_text(json.dumps(result))
    file.with_suffix(".part").rename(file)
    claim.unlink()
    return result


def claimed(claim: Path) -> bool:
    """Claim a cell for this process, unless a process that still runs has it."""
    if claim.exists() and Path(f"/proc/{claim.read_text() or 0}").exists():
        return False
    claim.write_text(str(os.getpid()))
    return True


def run(cell: Cell, rate: float, stream: Stream) -> dict[str, Any]:
    """Follow a stream, or its first part where a rate is tried."""
    shape = ClickShape(stream.n_dense, stream.rows)
    learner = METHODS[cell.method].make(shape, rate, cell.density, cell.seed)
    batches = stream.batches if cell.rate is None else stream.batches[: int(TUNED * len(stream.batches))]
    loss, began = [], time.process_time()
    for batch in batches:
        logits = learner.predict(batch).sparse
        loss.append(functional.binary_cross_entropy_with_logits(logits, batch.label, reduction="sum"))
        learner.learn(batch)
    cpu = time.process_time() - began
    return {
        **asdict(cell),
        "rate": rate,
        "loss": [round(float(one), 4) for one in loss],
        "clicks": [int(batch.label.sum()) for batch in batches],
        "cpu_s": cpu,
        "events": len(batches) * BATCH,
        "flops": asdict(learner.flops_per_event),
        "density_by_layer": [mask.density for mask in learner.masks()],
        "widths": list(learner.net().shape.top),
    }


def main() -> None:
    """Run cells, or make the table of those that are there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--only", nargs="*", help="names of streams or methods")
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("-o", "--out", type=Path)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    wanted = [c for c in cells() if not options.only or {c.stream, c.method} & set(options.only)]
    if options.what == "table":
        from stream_table import table

        text = json.dumps({"machine": machine.describe(), **table(wanted, options.work)}, indent=1)
        options.out.write_text(text + "\n") if options.out else print(text)
        return
    began = time.monotonic()
    for cell in wanted:
        if time.monotonic() - began > 60 * options.minutes:
            break
        if cell.file(options.work).exists():
            continue
        result = measured(cell, options.data, options.work)
        if result is not None:
            settled = part(result["loss"], cell.stream, options.work, TUNED, 1.0)
            print(
                f"{cell.stream:13} {cell.method:26} {cell.density:4} seed {cell.seed} rate {result['rate']:g} loss {settled:.5f} cpu {result['cpu_s']:.0f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
