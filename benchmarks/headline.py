"""The headline: a student, its teacher and every smaller forest, in every engine there is, in one interleaved run.

    make bench-peers     # once: environments, models, students, compiled models
    make bench

or ``python benchmarks/headline.py --globo DIR``. The first student of a set is the one whose network the rivals run too, dense; more
students of it are timed beside. What is missing of models and students is made; ``--student SET=FILE`` names others. Where none can
be made, the forests are timed all the same. Quality stands in every row; the verdict is against the teacher, on the test queries.

Goals are printed beside what was measured, and nothing fails where one is missed. The JSON (benchmarks/results/headline.json)
holds rows, goals, each round's medians, versions, machine, commit and load.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import headline_models
import numpy as np
from headline_goals import goals_of
from headline_models import RankingSet, say

from prunus.bench import machine, stats
from prunus.bench.peers import PEERS
from prunus.bench.run import Comparison, Contestant, compare, ready
from prunus.engine.file import load, write_atomically
from prunus.errors import PeerError
from prunus.teacher.trees import load_trees

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BATCHES = (1, 20, 64, 128, 1000)
ROUNDS = 7
SLICE_SECONDS = 0.02
FOREST_ENGINES = (
    "prunus-trees", "treeproto", "lleaves", "lightgbm", "onnxruntime-trees", "daal4py", "tl2cgen", "tl2cgen-c",
)  # fmt: skip
"""What runs the teacher and the smallest forest; a forest of the frontier runs in the first three."""

NET_ENGINES = tuple(name for name, peer in PEERS.items() if peer.runs == "network")
COMPILERS = ("lleaves", "tl2cgen", "tl2cgen-c")
LIMITS = Path(__file__).with_name("headline_limits.py")
SETS = ("globo_ltr", "generated")


def contestants_of(found: RankingSet, students: Sequence[Path], folder: Path) -> Iterator[Contestant]:
    """List all that is timed on one set.

    Args:
        found: the set.
        students: our model files; the first is the one that the rivals run too.
        folder: for small files that describe the limits.
    """
    for index, path in enumerate(students):
        scorer = load(path)
        quality = found.quality(
            scorer.score_data(found.test) if hasattr(scorer, "score_data") else scorer.score(found.test.X)
        )
        extra = {"model": "student", "file": path.name, "nonzeros": scorer.network.nonzeros, **quality}
        yield Contestant("prunus", path, f"student {path.stem}", ours=index == 0, extra=extra)
        if index:
            continue
        for engine in NET_ENGINES:
            yield Contestant(engine, path, f"student in {engine}", extra=extra | {"dense": engine != "libxsmm"})
        limits = folder / f"{found.name}.json"
        limits.write_text(json.dumps({"student": str(path.resolve())}))
        for name, part in (("arithmetic", "Arithmetic"), ("input stage", "InputStage")):
            yield Contestant(f"{LIMITS}:{part}", limits, f"bound: {name}", extra={"model": "bound"})
    forests = [("teacher", found.teacher, FOREST_ENGINES)]
    if found.smallest != found.teacher:
        forests.append(("smallest forest", found.smallest, FOREST_ENGINES))
    forests += [(path.stem, path, FOREST_ENGINES[:3]) for path in found.frontier]
    forests += [(f"{engine}'s trees", path, (engine, "prunus-trees")) for engine, path in found.others.items()]
    for name, path, engines in forests:
        extra = {"model": name, "trees": load_trees(path).n_trees, **found.quality(found.scores_of(path))}
        for engine in engines:
            yield Contestant(engine, path, f"{name} in {engine}", extra=extra)


def prepare(contestants: Sequence[Contestant], found: RankingSet) -> dict[str, str]:
    """Install engines and compile models, so that a later run only times; give what failed, with the reason."""
    failed = {}
    with tempfile.TemporaryDirectory() as folder:
        for contestant in contestants:
            try:
                ready(contestant, found.test.X, Path(folder), tell=say)
            except PeerError as error:
                failed[contestant.label] = str(error)
    return failed


def medians_of(timed: Comparison) -> dict[str, dict[str, list[float]]]:
    """Give each contestant's slice medians, microseconds a document: label -> batch -> one a round."""
    return {
        label: {batch: stats.slice_medians(slices, int(batch)).tolist() for batch, slices in cell.items()}
        for label, cell in timed.raw.items()
    }


def put_table(rows: Sequence[dict[str, Any]]) -> None:
    """Print what was measured: one line a contestant, microseconds a document and its 99th percentile for each batch."""
    batches = sorted({row["batch"] for row in rows})
    labels = list(dict.fromkeys(row["engine"] for row in rows))
    by = {(row["engine"], row["batch"]): row for row in rows}
    head = f"{'':36}{'nDCG@10':>8} {'verdict':>13} {'minus teacher':>24}" + "".join(f"{f'B={b}':>18}" for b in batches)
    sys.stdout.write(head + "\n")
    for label in labels:
        row = by[label, batches[0]]
        quality, verdict, interval = "", "", ""
        if "ndcg@10" in row:
            quality, verdict = f"{row['ndcg@10']:.4f}", row["verdict"].replace("_", "-")
            interval = f"{row['minus_teacher']:+.4f} [{row['lower']:+.4f}, {row['upper']:+.4f}]"
        cells = "".join(
            f"{by[label, b]['us_per_doc']:>9.3g} {'(' + format(by[label, b]['p99_us_per_doc'], '.2g') + ')':>8}"
            for b in batches
        )
        mark = " (!)" if row.get("wrong") else ""
        sys.stdout.write(f"{label + mark:36}{quality:>8} {verdict:>13} {interval:>24}{cells}\n")
    sys.stdout.write(
        "us a document, median of the rounds (99th percentile of the calls); (!) its scores are not the model's\n"
    )


def put_goals(goals: Sequence[dict[str, Any]]) -> None:
    """Print goals beside what was measured."""
    for goal in goals:
        values = ", ".join(f"{ratio:.3g} at {batch}" for batch, ratio in goal["measured"].items())
        wanted = f"{goal['sign']} {goal['goal']:g}" if goal["goal"] is not None else "no goal"
        mark = {True: "reached", False: "missed", None: ""}[goal["reached"]]
        sys.stdout.write(f"{goal['what']:64} {wanted:>8}: {values or 'not measured'}  {mark}\n")


def run_set(found: RankingSet, students: Sequence[Path], given: argparse.Namespace) -> dict[str, Any]:
    """Time one set and print it."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        listed = list(contestants_of(found, students, Path(folder)))
        say(f"{found.name}: {len(listed)} contestants")
        if given.prepare:
            return {"unavailable": prepare(listed, found), "seconds": time.monotonic() - started}
        # A forest takes a compiler minutes: that is done before, or not at all. The rest takes seconds.
        prepare([contestant for contestant in listed if contestant.engine not in COMPILERS], found)
        timed = compare(
            listed,
            np.ascontiguousarray(found.test.X),
            given.batches,
            rounds=given.rounds,
            slice_seconds=SLICE_SECONDS,
            judge=found.quality,
            tell=say,
            build=False,
        )
    medians = medians_of(timed)
    goals = goals_of(medians, timed.rows, f"student {students[0].stem}" if students else None)
    sys.stdout.write(f"\n{found.name}: {found.test.n_docs} documents of {found.test.n_queries} test queries\n")
    put_table(timed.rows)
    put_goals(goals)
    return {**timed.to_json(), "goals": goals, "medians": medians, "seconds": time.monotonic() - started}


def sets_of(given: argparse.Namespace) -> Iterator[RankingSet]:
    """Give the sets that can be run; say why one cannot."""
    if "globo_ltr" in given.sets:
        if given.globo is None or not (given.globo / "test.parquet").is_file():
            say(f"globo_ltr: left out: its data are not there ({given.globo}); expected --globo DIR with test.parquet")
        else:
            yield headline_models.globo(given.globo)
    if "generated" in given.sets:
        yield headline_models.generated()


def students_of(found: RankingSet, given: Sequence[str]) -> list[Path]:
    """Give the student files of one set: those named, else its own, which are made where they are not there yet."""
    named = [Path(value.partition("=")[2]) for value in given if value.partition("=")[0] == found.name]
    if named:
        return named
    for path, command in found.students.items():
        if not path.exists():
            say(f"{found.name}: training {path}")
            try:
                subprocess.run([sys.executable, *command], check=True)
            except subprocess.CalledProcessError as error:
                say(f"{found.name}: left out: {path}: exit {error.returncode} of: python {shlex.join(command)}")
    return [path for path in found.students if path.exists()]


def main() -> None:
    """Run the benchmark."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--globo", type=Path, help="folder of globo_ltr: train, valid and test.parquet")
    arguments.add_argument("--student", action="append", default=[], metavar="SET=FILE")
    arguments.add_argument("--sets", type=lambda text: text.split(","), default=list(SETS))
    arguments.add_argument("--prepare", action="store_true", help="make models and environments; time nothing")
    arguments.add_argument("--batches", type=lambda text: [int(b) for b in text.split(",")], default=list(BATCHES))
    arguments.add_argument("--rounds", type=int, default=ROUNDS)
    arguments.add_argument("-o", "--results", type=Path)
    given = arguments.parse_args()
    load_before = os.getloadavg()
    values: dict[str, Any] = {"machine": machine.describe(), "load_before": load_before, "sets": {}}
    for found in sets_of(given):
        values["sets"][found.name] = run_set(found, students_of(found, given.student), given)
        for name, why in values["sets"][found.name]["unavailable"].items():
            sys.stdout.write(f"not timed: {name}: {why}\n")
    values["load_after"] = os.getloadavg()
    if given.prepare:
        return
    path = given.results or Path(__file__).parent / "results" / "headline.json"
    write_atomically(path, (json.dumps(values, indent=1) + "\n").encode())
    sys.stdout.write(f"{values['machine']['cpu']}; one thread; {path}\n")


if __name__ == "__main__":
    main()
