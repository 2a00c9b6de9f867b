"""What a stream costs: events a second of the whole loop, its compute over that of a dense net alone, and an emission.

    taskset -c 0,1 python benchmarks/stream_loop.py --data DIR

The stream is the beginning of globo_ltr, read from its Parquet files: 44 dense features, two ids, 512-256-128, batches of
512. Rounds of four runs on the same events, in turn, in one process:

    dense alone           read, prepare, predict, learn, observe: no window, detector, model or checkpoint
    loop, no master       `prunus stream run --no-watch`: all of the loop around the sparse model that serves
    loop, 1 thread        `prunus stream run`: a dense master beside it
    loop, 2 threads       the same, `--threads 2`: to the same bits, which is checked

Seconds are counted from the first batch on: a stream without end begins once. `emission` is one cut of the dense net to a
tenth of its weights by optimal brain surgeon, on one thread. Writes benchmarks/results/stream-loop.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from prunus.bench.machine import describe
from prunus.cli.stream_source import features_of
from prunus.data.event_opening import open_events
from prunus.data.event_order import Ordered
from prunus.data.events import EventSchema
from prunus.data.id_table import IdTable
from prunus.engine.disk import write_atomically
from prunus.online.dense_to_sparse import default
from prunus.online.dense_to_sparse.emission import EmissionSettings, Emitting
from prunus.online.inputs import Inputs
from prunus.online.run import run_stream, shape_of
from prunus.online.settings import StreamSettings
from prunus.student.normalise import RunningNormaliser

if TYPE_CHECKING:
    from prunus.data.events import Events
    from prunus.online.dense_to_sparse.emission import Cut
    from prunus.online.learner import Learner

IDS = ["article_id", "last_article_id"]
DENSE = [
    "c_*",
    "share_*",
    "trend_*",
    "age_h",
    "since_last_click_s",
    "entry_share",
    "mean_pos",
    "trans_*",
    "co_*",
    "log_id_*",
    "user_seen",
    "last_c_1h",
    "last_out",
    "session_pos",
    "secs_*",
    "user_prior_clicks",
    "hour_local",
    "day_of_week",
]
LABEL, TIME = "label>0", "timestamp_ms"
RUNS = {
    "loop, no master": StreamSettings(watched=False),
    "loop, 1 thread": StreamSettings(),
    "loop, 2 threads": StreamSettings(threads=2),
}
CUTS: tuple[Cut, ...] = ("weights", "blocks", "units")
CHECKPOINT_S = 30.0
GOAL_EVENTS, GOAL_COMPUTE, GOAL_EMISSION = 20_000, 2.0, 1.0

FILE = Path(__file__).parent / "results" / "stream-loop.json"


class Beginning(Ordered):
    """The first ``left`` events of a stream."""

    left = 0

    def read(self, n: int) -> Events | None:
        """Give the next up to n of them."""
        events = super().read(min(n, self.left)) if self.left else None
        self.left -= 0 if events is None else len(events)
        return events


class Clock:
    """Wall and CPU-seconds (of all threads) since the first batch was done."""

    def __init__(self) -> None:
        self.events = 0
        self._first: tuple[int, float, float] | None = None

    def batch(self, events: int) -> None:
        """Say how many events are done."""
        if self._first is None:
            self._first = (events, time.perf_counter(), time.process_time())
        self.events = events

    def figures(self) -> dict[str, float]:
        """Draw up."""
        assert self._first is not None
        events, wall, cpu = self._first
        n, wall_s, cpu_s = self.events - events, time.perf_counter() - wall, time.process_time() - cpu
        return {
            "events": n,
            "wall_s": wall_s,
            "cpu_s": cpu_s,
            "events_per_s": n / wall_s,
            "events_per_cpu_s": n / cpu_s,
        }


def learn(learner: Learner, source: Ordered, schema: EventSchema, settings: StreamSettings) -> Clock:
    """Predict and learn, with nothing around it, on one thread."""
    tables = [IdTable(settings.capacity, settings.admit_after, settings.expire_after) for _ in schema.id_fields]
    inputs, clock = Inputs(tables, RunningNormaliser(len(schema.dense))), Clock()
    torch.set_num_threads(1)
    while (events := source.read(settings.batch)) is not None:
        batch = inputs.prepare(events)
        learner.predict(batch)
        learner.learn(batch)
        inputs.observe(events, clock.events + len(events))
        clock.batch(clock.events + len(events))
    return clock


def loop(source: Ordered, schema: EventSchema, settings: StreamSettings, out: Path) -> dict[str, Any]:
    """Run the whole loop; ``bits`` stand for its log and the model that it left."""
    clock = Clock()
    summary = run_stream(
        source,
        schema,
        settings=settings,
        out=out,
        inputs={},
        say=print,
        on_batch=clock.batch,
        checkpoint_s=CHECKPOINT_S,
    )
    left = (out / "windows.jsonl").read_bytes(), Path(summary["files"]["model"]).read_bytes()
    bits = hashlib.sha256(b"".join(left)).hexdigest()
    return {**clock.figures(), "bits": bits, "train_flops": summary["train_flops"] / summary["events"]}


def emission(source: Ordered, schema: EventSchema, settings: StreamSettings) -> dict[str, float]:
    """Time one emission of each kind: median CPU-seconds of three on one thread, which are wall seconds where it is alone."""
    found = {}
    shape, kept = shape_of(schema, settings), None
    for cut in CUTS:
        emitting = Emitting(shape, default.DENSE, EmissionSettings(0.1, cut, every=2**62), seed=0)
        if kept is None:
            learn(emitting, source, schema, settings)
            kept = emitting.state()
        emitting.load({**kept, "name": emitting.name})
        times = []
        for _ in range(3):
            began = time.process_time()
            emitting.repattern()
            times.append(time.process_time() - began)
        found[cut] = statistics.median(times)
    return found


def main() -> None:
    """Measure, and say which goals are met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the real sets")
    parser.add_argument("--events", type=int, default=200_000, help="more than the warm-up, that there is a model")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--busy", action="store_true", help="say in the file that other work ran beside")
    parser.add_argument("-o", "--out", type=Path, default=FILE)
    arguments = parser.parse_args()
    files = [str(arguments.data / "globo_ltr" / f"{part}.parquet") for part in ("train", "valid", "test")]
    schema = EventSchema(*features_of(IDS, DENSE, files, [LABEL, TIME]), LABEL, (TIME,))

    def beginning(events: int) -> Beginning:
        source = Beginning(open_events(files, schema))
        source.left = events
        return source

    master = default.dense(shape_of(schema, StreamSettings()), seed=0)
    rounds: list[dict[str, dict[str, Any]]] = []
    for number in range(arguments.rounds):
        found: dict[str, dict[str, Any]] = {}
        names = ["dense alone", *RUNS]
        for name in names if number % 2 == 0 else names[::-1]:
            source = beginning(arguments.events)
            if name == "dense alone":
                found[name] = {
                    **learn(master, source, schema, StreamSettings()).figures(),
                    "train_flops": master.flops_per_event.train,
                }
                master = default.dense(shape_of(schema, StreamSettings()), seed=0)
            else:
                with tempfile.TemporaryDirectory() as folder:
                    found[name] = loop(source, schema, RUNS[name], Path(folder) / "run")
            one = found[name]
            print(f"{name:18}{one['events_per_s']:10,.0f} events/s{one['events_per_cpu_s']:10,.0f} a CPU-second")
        assert found["loop, 1 thread"]["bits"] == found["loop, 2 threads"]["bits"], (
            "two threads gave other bits than one"
        )
        rounds.append(found)
    emitted = emission(beginning(60 * 512), schema, StreamSettings())
    report = {
        "busy": arguments.busy,
        "rounds": rounds,
        "emission_s": emitted,
        "goals": goals(rounds, emitted),
        "machine": describe(),
    }
    print(json.dumps(report["goals"], indent=1))
    write_atomically(arguments.out, (json.dumps(report, indent=1) + "\n").encode())


def goals(rounds: list[dict[str, dict[str, Any]]], emitted: dict[str, float]) -> dict[str, Any]:
    """Hold medians over the rounds against what was wanted; ratios are of runs of one round."""

    def over_alone(name: str, what: str) -> float:
        return statistics.median(found[name][what] / found["dense alone"][what] for found in rounds)

    rate = statistics.median(found["loop, 2 threads"]["events_per_s"] for found in rounds)
    compute = {
        name: {what: over_alone(name, what) for what in ("cpu_s", "train_flops")}
        for name in ("loop, no master", "loop, 1 thread", "loop, 2 threads")
    }
    return {
        "events_per_s": {"value": rate, "goal": GOAL_EVENTS, "met": rate >= GOAL_EVENTS},
        "compute_over_dense_alone": {
            name: {**one, "goal": GOAL_COMPUTE, "met": max(one.values()) <= GOAL_COMPUTE}
            for name, one in compute.items()
        },
        "emission_s": {**emitted, "goal": GOAL_EMISSION, "met": max(emitted.values()) <= GOAL_EMISSION},
    }


if __name__ == "__main__":
    main()
