"""Which kind of student wins at the same time: dense, dense int8, sparse and block-sparse int8, equally tuned.

    python benchmarks/kinds.py --set globo --data ../shared/data/globo_ltr --teacher globo-run/teacher.txt -o kinds-globo
    python benchmarks/kinds.py --set generated -o kinds-generated

For each budget (at batch 128) and kind, the same number of shapes is trained with one seed and the best on validation
data is trained with the others. Every student is brought to the same *measured* time: widths of dense ones are fitted on
random networks of their shape; pruned ones are trained again with a corrected target until they measure within 5 %. In
the end all students of a budget are timed in turn in one run, and their test nDCG is compared query by query, averaged
over seeds. What was trained is kept in the work folder: a run that is stopped, or out of its --minutes, goes on there.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from globo import NOT_FEATURES

from prunus.bench import machine
from prunus.bench.quick import compare_in_process
from prunus.compress.distil import teacher_scores
from prunus.compress.measure import TIMED_ROWS, measured_us
from prunus.compress.recipe import RankerRecipe, Silent
from prunus.compress.training import (
    Lesson,
    grains_of,
    new_student,
    prepare,
    synthetic_documents,
    to_network,
    train_student,
)
from prunus.data.reading import read_ranking
from prunus.data.select import Columns
from prunus.data.synthetic import generate_ranking
from prunus.design import Architecture, Budget, halving, prices
from prunus.engine.file import load, save, write_atomically
from prunus.latency import LatencyModel
from prunus.metrics import ndcg
from prunus.prune.blocks import fold_any, unfold
from prunus.prune.magnitude import cost
from prunus.student.inputs import learn_inputs
from prunus.student.quantise import QuantisedMLP
from prunus.teacher.lambdamart import train_lambdamart
from prunus.teacher.trees import load_trees
from prunus.verdict import paired_interval

if TYPE_CHECKING:
    from prunus.data.ranking import RankingData, Schema
    from prunus.design import Kind
    from prunus.engine.network import InputStage, Network
    from prunus.latency import Prices
    from prunus.metrics import PerQuery
    from prunus.teacher.trees import TreeTeacher

KINDS: tuple[Kind, ...] = ("dense", "int8", "sparse", "block")
BUDGETS = (0.05, 0.1, 0.2, 0.5)
BATCH = 128
NEAR = 0.05
"""A student is at the budget when it measures within this share of it."""
RETRIES = 4
"""Trainings of a pruned student with a corrected target at most, after the first."""
SHAPES: dict[Kind, tuple[tuple[int, float, str], ...]] = {
    "dense": ((2, 1.0, "int8"), (3, 1.0, "int8")),
    "int8": ((2, 1.0, "int8"), (2, 1.0, "f32")),
    "sparse": ((2, 1.5, "int8"), (2, 2.5, "int8")),
    "block": ((2, 1.5, "int8"), (2, 2.5, "int8")),
}
"""Shapes of each kind: hidden layers, first width over that of the dense (int8) network that takes the budget, and what
the first layer of an int8 student is."""


class OutOfTimeError(Exception):
    """The run's minutes are over; what was trained is kept."""


@dataclass
class Study:
    """One data set, its teacher and what is shared by all trainings."""

    test: RankingData
    lesson: Lesson
    inputs: InputStage
    schema: Schema
    recipe: RankerRecipe
    latency: LatencyModel
    work: Path
    deadline: float
    widest: int

    def say(self, text: str) -> None:
        """Tell how far the run is."""
        sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")
        sys.stderr.flush()

    def kept(self, name: str, make: Any) -> Any:  # noqa: ANN401
        """Return a value of an earlier run, or make it; nothing new is begun once the time is over."""
        path = self.work / f"{name}.json"
        if path.exists():
            return json.loads(path.read_text())
        if time.monotonic() > self.deadline:
            raise OutOfTimeError
        value = make()
        write_atomically(path, (json.dumps(value) + "\n").encode())
        return value

    def us(self, network: Network) -> float:
        """Measured us for each document."""
        return measured_us(network, self.test.X[:TIMED_ROWS], BATCH, self.latency, seconds=1.0)

    def random_us(self, kind: Kind, widths: tuple[int, ...], first: str, density: float = 1.0) -> float:
        """Measure an untrained network of a shape, thinned out evenly."""
        architecture = Architecture(kind, widths, 0.0, first)  # type: ignore[arg-type]
        model = new_student(architecture, self.inputs, seed=0)
        rng = np.random.default_rng(0)
        if isinstance(model, QuantisedMLP):
            model.calibrate(self.lesson.data.z[:4096])
        for mask, grain in zip(model.masks[:-1], grains_of(model), strict=False):
            blocks = fold_any(np.ones(mask.shape, np.bool_), grain)
            kept = unfold(rng.random(blocks.shape) < density, grain, mask.shape[1])
            mask.copy_(torch.from_numpy(kept).float())
        return self.us(
            to_network(model.eval(), self.lesson, self.inputs, self.schema.n_features, self.latency, BATCH)[0]
        )

    def fitted_width(self, kind: Kind, n_layers: int, first: str, budget: float) -> int:
        """First width of the widest network of a kind, each layer half the one before, that takes at most the budget."""

        def fit() -> int:
            low, high = 2, self.widest
            while low < high:
                middle = (low + high + 1) // 2
                if self.random_us(kind, halving(middle, n_layers), first) <= budget * (1 + NEAR / 2):
                    low = middle
                else:
                    high = middle - 1
            return low

        return int(self.kept(f"width-{kind}-{n_layers}-{first}-{budget:g}", fit))

    def train(self, kind: Kind, widths: tuple[int, ...], first: str, budget: float, seed: int) -> dict[str, Any]:
        """Train one student to the measured time; its file stays in the work folder."""
        shape = "x".join(map(str, widths))
        name = f"{kind}-{shape}-{first}-{budget:g}-epochs{self.recipe.n_epochs}-seed{seed}"

        def make() -> dict[str, Any]:
            price = prices(self.inputs, Budget(us_per_doc=budget), self.latency, self.schema)
            full = self.full_cost(kind, widths, first, price)
            target = min(self.first_target(kind, budget), full)
            best: dict[str, Any] = {}
            tried: list[tuple[float, float]] = []
            for attempt in range(RETRIES + 1):
                start = time.perf_counter()
                trained = train_student(
                    Architecture(kind, widths, target, first),  # type: ignore[arg-type]
                    self.lesson, self.inputs, self.schema, self.recipe,
                    seed=seed, prices=price, latency=self.latency, space=None, progress=Silent(),
                )  # fmt: skip
                us = self.us(trained.network)
                found = {
                    "kind": kind, "shape": shape, "first": first, "budget": budget, "seed": seed, "target": target,
                    "us": us, "valid": trained.valid, "nonzeros": trained.network.nonzeros, "attempts": attempt + 1,
                    "seconds": time.perf_counter() - start, "parity": trained.parity, "file": f"{name}.prunus",
                    "layers": [list(layer) for layer in trained.network.shape.layers],
                }  # fmt: skip
                self.say(f"{name}: {us:.4f} us, valid {trained.valid:.4f}, {found['seconds']:.0f} s")
                if not best or abs(us / budget - 1) < abs(best["us"] / budget - 1):
                    best = found
                    save(self.work / found["file"], trained.network, self.schema, metadata={"architecture": name})
                unpruned = kind in ("dense", "int8") or (us < budget and target >= full)
                if abs(us / budget - 1) <= NEAR or unpruned or time.monotonic() > self.deadline:
                    break
                tried.append((target, us))
                target, before = min(next_target(tried, budget), full), target
                if target == before:  # nothing is left to try: the student is whole and still faster than the budget
                    break
            if kind in ("sparse", "block"):
                path = self.work / f"target-{kind}-{budget:g}.json"
                write_atomically(path, json.dumps(best["target"]).encode())
            return best

        return self.kept(name, make)  # type: ignore[no-any-return]

    def full_cost(self, kind: Kind, widths: tuple[int, ...], first: str, price: Prices) -> float:
        """What the price list says of the student before anything is pruned."""
        model = new_student(Architecture(kind, widths, 0.0, first), self.inputs, seed=0)  # type: ignore[arg-type]
        return cost(price, [np.ones(mask.shape, np.bool_) for mask in model.masks], grains_of(model))

    def first_target(self, kind: Kind, budget: float) -> float:
        """Take what the last pruned student of this kind and budget needed, or the budget itself."""
        path = self.work / f"target-{kind}-{budget:g}.json"
        return float(json.loads(path.read_text())) if path.exists() else budget

    def of_kind(self, kind: Kind, budget: float, seeds: int) -> list[dict[str, Any]]:
        """Train all seeds of a kind's best shape."""
        tried = []
        for n_layers, factor, first in SHAPES[kind]:
            like: Kind = "int8" if kind in ("int8", "block") else "dense"
            width = self.fitted_width(like, n_layers, first, budget)
            wide = min(round(width * factor / 8) * 8, self.widest) if factor > 1 else width
            tried.append(self.train(kind, halving(max(wide, 4), n_layers), first, budget, 0))
        best = max(tried, key=lambda row: row["valid"] - (0.0 if abs(row["us"] / budget - 1) <= 2 * NEAR else 1.0))
        widths = tuple(int(w) for w in best["shape"].split("x"))
        return [self.train(kind, widths, best["first"], budget, seed) for seed in range(seeds)]

    def compared(self, rows: list[dict[str, Any]], rounds: int) -> dict[str, Any]:
        """Time the students of a budget in turn, and compare the kinds query by query."""
        scorers = [load(self.work / row["file"]) for row in rows]
        timed = compare_in_process(scorers, self.test.X[:TIMED_ROWS], BATCH, rounds=rounds)
        middle = float(np.median([row["ratio"] for row in timed]))
        qualities = [ndcg(self.test.y, s.score(self.test.X), self.test.offsets) for s in scorers]
        found: dict[str, Any] = {"kinds": {}, "pairs": [], "students": []}
        means: dict[str, PerQuery] = {}
        for row, time_row, quality in zip(rows, timed, qualities, strict=True):
            side_by_side = {"ratio_to_median": time_row["ratio"] / middle, "us_in_turn": time_row["us_per_doc"]}
            found["students"].append({**row, **side_by_side, "test": quality.mean})
        for kind in dict.fromkeys(row["kind"] for row in rows):
            own = [i for i, row in enumerate(rows) if row["kind"] == kind]
            tests = [qualities[i].mean for i in own]
            means[kind] = replace(qualities[own[0]], values=np.mean([qualities[i].values for i in own], axis=0))
            ratios = [timed[i]["ratio"] / middle for i in own]
            found["kinds"][kind] = {
                "shape": rows[own[0]]["shape"], "first": rows[own[0]]["first"], "test": float(np.mean(tests)),
                "spread": float(np.std(tests, ddof=1)) if len(tests) > 1 else None,
                "valid": float(np.mean([rows[i]["valid"] for i in own])), "us": float(np.mean([rows[i]["us"] for i in own])),
                "ratio_to_median": ratios, "same_time": all(abs(r - 1) <= NEAR for r in ratios),
            }  # fmt: skip
        kinds = list(means)
        for i, one in enumerate(kinds):
            for other in kinds[i + 1 :]:
                difference, lower, upper = paired_interval(means[one], means[other], clusters=self.test.users)
                found["pairs"].append(
                    {"of": other, "minus": one, "difference": difference, "lower": lower, "upper": upper}
                )
        return found


def next_target(tried: list[tuple[float, float]], budget: float) -> float:
    """Aim anew: on the line through the two nearest measurements on either side, or in proportion to the last."""
    under = max((pair for pair in tried if pair[1] <= budget), default=None)
    over = min((pair for pair in tried if pair[1] > budget), default=None)
    if under is None or over is None or under[0] >= over[0]:
        target, us = tried[-1]
        return target * budget / us
    share = (budget - under[1]) / (over[1] - under[1])
    return under[0] + share * (over[0] - under[0])


def parts_of(given: argparse.Namespace) -> tuple[RankingData, RankingData, RankingData, TreeTeacher]:
    """Read or generate training, validation and test documents, and the teacher, trained once."""
    if given.set == "globo":
        columns = Columns(ignore=NOT_FEATURES, user="user_id")
        train, valid, test = (read_ranking(given.data / f"{p}.parquet", columns) for p in ("train", "valid", "test"))
    else:
        sizes = (given.queries, given.queries // 6, given.queries * 5 // 12)
        train, valid, test = (generate_ranking(n, seed + 1, n_features=136) for seed, n in enumerate(sizes))
    path = given.teacher or given.out / "teacher.txt"
    if not path.exists():
        train_lambdamart(train, valid, n_trees=given.trees).save(path)
    return train, valid, test, load_trees(path)


def main() -> None:
    """Run the study."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--set", choices=["globo", "generated"], required=True)
    arguments.add_argument("--data", type=Path)
    arguments.add_argument("--teacher", type=Path)
    arguments.add_argument("--queries", type=int, default=12_000, help="training queries of the generated set")
    arguments.add_argument("--trees", type=int, default=1000, help="most trees of a teacher that is trained here")
    arguments.add_argument("--budgets", type=float, nargs="+", default=list(BUDGETS))
    arguments.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    arguments.add_argument("--seeds", type=int, default=3)
    arguments.add_argument("--epochs", type=int, default=24)
    arguments.add_argument("--augmentation", default="none")
    arguments.add_argument("--widest", type=int, default=512)
    arguments.add_argument("--minutes", type=float, default=60.0)
    arguments.add_argument("--rounds", type=int, default=41)
    arguments.add_argument("-o", "--out", type=Path, required=True)
    arguments.add_argument("--results", type=Path)
    given = arguments.parse_args()
    if given.set == "globo" and given.data is None:
        arguments.error("--set globo needs --data, the folder of its parquet files")
    start = time.monotonic()
    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    train, valid, test, teacher = parts_of(given)
    recipe = RankerRecipe(budget=f"1us@{BATCH}", epochs=given.epochs, augmentation=given.augmentation)
    inputs, schema = learn_inputs(train)
    synthetic = synthetic_documents(teacher, train, recipe)
    synthetic_scores = teacher.score(synthetic) if len(synthetic) else np.empty(0)
    lesson = prepare(inputs, train, teacher_scores(teacher, train), valid, synthetic, synthetic_scores)
    latency = LatencyModel.load_or_calibrate()
    study = Study(test, lesson, inputs, schema, recipe, latency, given.out, start + 60 * given.minutes, given.widest)
    of_teacher = ndcg(test.y, teacher.score(test.X), test.offsets)
    study.say(
        f"{given.set}: {train.n_docs} training documents, teacher of {teacher.n_trees} trees {of_teacher.mean:.4f}"
    )

    budgets: dict[str, Any] = {}
    complete = True
    for budget in given.budgets:
        rows: list[dict[str, Any]] = []
        try:
            for kind in given.kinds:
                rows += study.of_kind(kind, budget, given.seeds)
        except OutOfTimeError:
            complete = False
            study.say(f"out of time at {budget:g} us; run again to go on")
        if rows:
            budgets[f"{budget:g}"] = study.compared(rows, given.rounds)
            for kind, row in budgets[f"{budget:g}"]["kinds"].items():
                spread = "" if row["spread"] is None else f" +-{row['spread']:.4f}"
                study.say(f"{budget:g} us {kind:7s} {row['shape']:>12s} {row['test']:.4f}{spread} {row['us']:.4f} us")
        if not complete:
            break
    values = {
        "set": given.set, "complete": complete, "batch": BATCH, "epochs": given.epochs, "seeds": given.seeds,
        "augmentation": given.augmentation, "shapes": {kind: SHAPES[kind] for kind in given.kinds},
        "teacher": {"trees": teacher.n_trees, "test": of_teacher.mean}, "budgets": budgets, "machine": machine.describe(),
    }  # fmt: skip
    path = given.results or Path(__file__).parent / "results" / f"kinds-{given.set}.json"
    write_atomically(path, (json.dumps(values, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
