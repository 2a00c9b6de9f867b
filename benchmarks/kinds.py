"""Which kind of student wins at the same time: dense, dense int8, sparse and block-sparse int8, equally tuned.

    python benchmarks/kinds.py --set globo_ltr --data ../shared/data/globo_ltr -o kinds-globo
    python benchmarks/kinds.py --set generated -o kinds-generated

Sets and teachers are those of the headline (``headline_models.py``). For each budget (at batch 128) and kind, the same
number of shapes is trained with one seed and the best on validation data is trained with the others: dense kinds read
all inputs or half of them (or a quarter, where all are too many), chosen by a first training that takes them away one by
one; pruned kinds start so wide that .7 or .4 of their weights can stay, and lose inputs while they are pruned. Every
student is brought to the same *measured* time: widths of dense ones are fitted on random networks of their shape; pruned ones
are trained again with a corrected target until they measure within 5 %. In the end all students of a budget are timed in
turn in one run, and their test nDCG is compared query by query, averaged over seeds. What was trained is kept in the
work folder: a run that is stopped, or out of its --minutes, goes on there.
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
from headline_models import FEATURES, NOT_FEATURES, generated, globo

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
from prunus.design import PRUNED, Architecture, Budget, halving, prices
from prunus.distill.loop import Loop, LoopSettings
from prunus.distill.losses import LossMix
from prunus.engine.file import load, save, write_atomically
from prunus.engine.int8 import BLOCK
from prunus.latency import LatencyModel
from prunus.metrics import ndcg
from prunus.prune.inputs import InputElimination
from prunus.prune.magnitude import cost
from prunus.student.inputs import learn_inputs
from prunus.student.quantise import QuantisedMLP
from prunus.teacher.exact import ExactTeacher
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
AIM = 0.9
"""A student is trained again when it misses by more than this share of that: the run that counts measures once more."""
RETRIES = 4
"""Trainings of a pruned student with a corrected target at most, after the first."""
N_HIDDEN = 2
"""Hidden layers of every student, the second half as wide as the first."""
SHARES = (1.0, 0.5, 0.25)
"""Shares of the inputs that dense students are tried with: the first ``--shapes`` of these whose inputs the budget allows."""
DENSITIES = (0.7, 0.4)
"""Shares of their weights that pruned students are tried to be left with."""
ELIMINATION = (64, 32)
"""Hidden units of the student that says which inputs can be spared."""
FIRST_TARGET = 0.85
"""What a pruned student is aimed at before one of its kind was measured, as a share of its budget."""
FEW = 4096
"""Documents that random networks take their ranges from."""
FRESH_SEED = 4
"""Of documents that neither the teacher nor the verdict has seen."""
LEAST_DENSE = 4
"""First hidden layer of a dense student, least."""


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
    n_shapes: int
    rows: int
    parts: dict[int, tuple[Lesson, InputStage]]

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
        return measured_us(network, self.test.X[: self.rows], BATCH, self.latency, seconds=1.0)

    def order(self) -> list[int]:
        """Return all input slots, the most important one first."""

        def eliminate() -> list[int]:
            student = new_student(Architecture("dense", ELIMINATION, 0.0), self.inputs, seed=0)
            recipe = self.recipe
            mix = LossMix(recipe.pointwise, recipe.listwise, recipe.labels)
            settings = LoopSettings(recipe.n_epochs, recipe.batch_docs, 0.0, recipe.learning_rate, mix=mix)
            loop = Loop(student, self.lesson.data, settings, validate=lambda _: 0.0)
            slots = prices(self.inputs, Budget(us_per_doc=0.1), self.latency, self.schema).slot
            # About half of what an input costs a small dense student are its weights in the first layer.
            gone = InputElimination(round(0.2 * loop.total_steps), loop.total_steps - 1, slots + slots.mean())
            loop.callbacks = [gone]
            loop.run()
            return gone.importance

        return list(self.kept("order", eliminate))

    def reading(self, n_inputs: int) -> tuple[Lesson, InputStage]:
        """Return the lesson and the input stage of a student that reads so many inputs."""
        if n_inputs not in self.parts:
            slots = np.sort(np.array(self.order()[:n_inputs], np.int64))
            self.parts[n_inputs] = self.lesson.take(slots), self.inputs.take(slots)
        return self.parts[n_inputs]

    def random_us(self, kind: Kind, widths: tuple[int, ...], n_inputs: int) -> float:
        """Measure an untrained network of a shape that keeps its weights."""
        whole, inputs = self.reading(n_inputs)
        few = replace(whole.data, z=whole.data.z[:FEW], teacher=whole.data.teacher[:FEW])
        lesson = replace(whole, data=few)
        model = new_student(Architecture(kind, widths, 0.0), inputs, seed=0)
        if isinstance(model, QuantisedMLP):
            model.calibrate(few.z)
        return self.us(to_network(model.eval(), lesson, inputs, self.schema.n_features, self.latency, BATCH)[0])

    def fitted_width(self, kind: Kind, n_inputs: int, budget: float) -> int:
        """First width of the network of a kind that measures nearest to the budget; 0 where none is as fast."""

        def fit() -> int:
            measured: dict[int, float] = {}
            low, high = LEAST_DENSE, self.widest
            while low <= high:
                middle = (low + high) // 2
                measured[middle] = self.random_us(kind, halving(middle, N_HIDDEN), n_inputs)
                if abs(measured[middle] / budget - 1) <= NEAR / 5:
                    break
                low, high = (middle + 1, high) if measured[middle] < budget else (low, middle - 1)
            best = min(measured, key=lambda first: abs(measured[first] / budget - 1))
            return best if measured[best] <= budget * (1 + NEAR) else 0

        return int(self.kept(f"width-{kind}-{n_inputs}-{budget:g}", fit))

    def start_width(self, kind: Kind, budget: float, density: float) -> int:
        """First width, in steps of 8, at which the budget leaves a pruned student about this share of its weights."""
        price = prices(self.inputs, Budget(us_per_doc=budget), self.latency, self.schema)
        of_weight = price.weight if kind == "sparse" else price.block / BLOCK
        left = max(budget - price.fixed - 0.5 * float(price.slot.sum()), 0.4 * budget) / of_weight
        n_slots = self.inputs.n_slots
        weights = {w: n_slots * w + w * w // 2 + w // 2 for w in range(8, self.widest + 1, 8)}
        return max((w for w, n in weights.items() if n * density <= left), default=8)

    def train(self, kind: Kind, widths: tuple[int, ...], n_inputs: int, budget: float, seed: int) -> dict[str, Any]:
        """Train one student to the measured time; its file stays in the work folder."""
        shape = "x".join(map(str, (n_inputs, *widths)))
        name = f"{kind}-{shape}-{budget:g}-epochs{self.recipe.n_epochs}-seed{seed}"

        def make() -> dict[str, Any]:
            lesson, inputs = self.reading(n_inputs)
            price = prices(inputs, Budget(us_per_doc=budget), self.latency, self.schema)
            full = self.full_cost(kind, widths, inputs, price)
            aims = self.work / f"target-{kind}-{shape}-{budget:g}.json", self.work / f"target-{kind}.json"
            target = min(first_target(aims) * budget, full)
            best: dict[str, Any] = {}
            tried: list[tuple[float, float]] = []
            for attempt in range(RETRIES + 1):
                start = time.perf_counter()
                trained = train_student(
                    Architecture(kind, widths, target), lesson, inputs, self.schema, self.recipe,
                    seed=seed, prices=price, latency=self.latency, space=None, progress=Silent(),
                )  # fmt: skip
                us = self.us(trained.network)
                found = {
                    "kind": kind, "shape": shape, "budget": budget, "seed": seed, "target": target,
                    "us": us, "valid": trained.valid, "nonzeros": trained.network.nonzeros, "attempts": attempt + 1,
                    "features": len(trained.network.features_read), "seconds": time.perf_counter() - start,
                    "parity": trained.parity, "file": f"{name}.prunus",
                    "layers": [list(layer) for layer in trained.network.shape.layers],
                }  # fmt: skip
                self.say(f"{name}: {us:.4f} us, valid {trained.valid:.4f}, {found['seconds']:.0f} s")
                if not best or abs(us / budget - 1) < abs(best["us"] / budget - 1):
                    best = found
                    save(self.work / found["file"], trained.network, self.schema, metadata={"architecture": name})
                whole = kind not in PRUNED or (us < budget and target >= full)
                if abs(us / budget - 1) <= NEAR * AIM or whole or time.monotonic() > self.deadline:
                    break
                tried.append((target, us))
                target, before = min(next_target(tried, budget), full), target
                if target == before:  # nothing is left to try: the student is whole and still faster than the budget
                    break
            if kind in PRUNED:
                for path in aims:
                    write_atomically(path, json.dumps(best["target"] / budget).encode())
            return best

        return self.kept(name, make)  # type: ignore[no-any-return]

    def full_cost(self, kind: Kind, widths: tuple[int, ...], inputs: InputStage, price: Prices) -> float:
        """What the price list says of the student before anything is pruned."""
        model = new_student(Architecture(kind, widths, 0.0), inputs, seed=0)
        return cost(price, [np.ones(mask.shape, np.bool_) for mask in model.masks], grains_of(model))

    def shapes(self, kind: Kind, budget: float) -> list[tuple[int, int]]:
        """Give the shapes that a kind is tried with: (inputs, first width)."""
        n_slots = self.inputs.n_slots
        if kind in PRUNED:
            tried = [(n_slots, self.start_width(kind, budget, density)) for density in DENSITIES]
        else:
            numbers = [round(n_slots * share / BLOCK) * BLOCK if share < 1 else n_slots for share in SHARES]
            tried = [(n, self.fitted_width(kind, n, budget)) for n in numbers]
        return list(dict.fromkeys(shape for shape in tried if shape[1]))[: self.n_shapes]

    def of_kind(self, kind: Kind, budget: float, seeds: int) -> list[dict[str, Any]]:
        """Train all seeds of a kind's best shape; nothing where no network of the kind is that fast."""
        tried = [self.train(kind, halving(width, N_HIDDEN), n, budget, 0) for n, width in self.shapes(kind, budget)]
        if not tried:
            return []
        best = max(tried, key=lambda row: row["valid"] - (0.0 if abs(row["us"] / budget - 1) <= 2 * NEAR else 1.0))
        n_inputs, *widths = (int(w) for w in best["shape"].split("x"))
        return [self.train(kind, tuple(widths), n_inputs, budget, seed) for seed in range(seeds)]

    def compared(self, rows: list[dict[str, Any]], rounds: int) -> dict[str, Any]:
        """Time the students of a budget in turn, and compare the kinds query by query."""
        scorers = [load(self.work / row["file"]) for row in rows]
        timed = compare_in_process(scorers, self.test.X[: self.rows], BATCH, rounds=rounds)
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
                "shape": rows[own[0]]["shape"], "test": float(np.mean(tests)),
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


def first_target(aims: tuple[Path, ...]) -> float:
    """Aim where the last student of this shape, or else of this kind, came out right; a share of the budget."""
    known = [path for path in aims if path.exists()]
    return float(json.loads(known[0].read_text())) if known else FIRST_TARGET


def parts_of(given: argparse.Namespace) -> tuple[RankingData, RankingData, RankingData, TreeTeacher]:
    """Read training, validation and test documents, and the teacher; what the headline has not made yet is made."""
    made = globo(given.data) if given.set == "globo_ltr" else generated()
    columns = Columns(ignore=NOT_FEATURES, user="user_id") if given.set == "globo_ltr" else Columns(user="user")
    folder = given.data if given.set == "globo_ltr" else made.folder
    train, valid = (read_ranking(folder / f"{part}.parquet", columns) for part in ("train", "valid"))
    if given.fresh:
        train = generate_ranking(given.fresh, FRESH_SEED, n_features=FEATURES, missing=0.0)
    return train, valid, made.test, ExactTeacher(load_trees(made.teacher))


def main() -> None:
    """Run the study."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--set", choices=["globo_ltr", "generated"], required=True)
    arguments.add_argument("--data", type=Path, help="folder of globo_ltr's parquet files")
    arguments.add_argument("--budgets", type=float, nargs="+", default=list(BUDGETS))
    arguments.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    arguments.add_argument("--seeds", type=int, default=3)
    arguments.add_argument("--epochs", type=int, nargs="+", default=[24], help="one number, or one for each budget")
    arguments.add_argument("--shapes", type=int, nargs="+", default=[2], help="that each kind is tried with, likewise")
    arguments.add_argument("--augmentation", default="none")
    arguments.add_argument("--rows", type=int, default=TIMED_ROWS, help="documents that are timed, over and over")
    arguments.add_argument(
        "--fresh",
        type=int,
        default=0,
        help="learn from so many new queries of the generated set's world, scored by the teacher, their labels unread",
    )
    arguments.add_argument("--widest", type=int, nargs="+", default=[512], help="first hidden layer at most, likewise")
    arguments.add_argument("--minutes", type=float, default=60.0)
    arguments.add_argument("--rounds", type=int, default=41)
    arguments.add_argument("-o", "--out", type=Path, required=True)
    arguments.add_argument("--results", type=Path)
    given = arguments.parse_args()
    if given.set == "globo_ltr" and given.data is None:
        arguments.error("--set globo_ltr needs --data, the folder of its parquet files")
    start = time.monotonic()
    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    train, valid, test, teacher = parts_of(given)
    recipe = RankerRecipe(
        budget=f"1us@{BATCH}",
        epochs=given.epochs[0],
        augmentation=given.augmentation,
        labels=0.0 if given.fresh else 1.5,
    )
    inputs, schema = learn_inputs(train)
    synthetic = synthetic_documents(teacher, train, recipe)
    synthetic_scores = teacher.score(synthetic) if len(synthetic) else np.empty(0)
    lesson = prepare(inputs, train, teacher_scores(teacher, train), valid, synthetic, synthetic_scores)
    latency = LatencyModel.load_or_calibrate()
    study = Study(
        test,
        lesson,
        inputs,
        schema,
        recipe,
        latency,
        given.out,
        start + 60 * given.minutes,
        given.widest[0],
        1,
        given.rows,
        {},
    )
    of_teacher = ndcg(test.y, teacher.score(test.X), test.offsets)
    study.say(
        f"{given.set}: {train.n_docs} training documents, teacher of {teacher.n_trees} trees {of_teacher.mean:.4f}"
    )

    budgets: dict[str, Any] = {}
    each = {"epochs": given.epochs, "shapes": given.shapes, "widest": given.widest}
    complete = True
    for number, budget in enumerate(given.budgets):
        settings = {name: many[min(number, len(many) - 1)] for name, many in each.items()}
        study.recipe = recipe.model_copy(update={"epochs": settings["epochs"]})
        study.n_shapes, study.widest = settings["shapes"], settings["widest"]
        rows: list[dict[str, Any]] = []
        try:
            for kind in given.kinds:
                rows += study.of_kind(kind, budget, given.seeds)
        except OutOfTimeError:
            complete = False
            study.say(f"out of time at {budget:g} us; run again to go on")
        if rows:
            budgets[f"{budget:g}"] = settings | study.compared(rows, given.rounds)
            for kind, row in budgets[f"{budget:g}"]["kinds"].items():
                spread = "" if row["spread"] is None else f" +-{row['spread']:.4f}"
                study.say(f"{budget:g} us {kind:7s} {row['shape']:>12s} {row['test']:.4f}{spread} {row['us']:.4f} us")
        if not complete:
            break
    values = {
        "set": given.set, "complete": complete, "batch": BATCH, "timed_documents": min(given.rows, test.n_docs), "seeds": given.seeds,
        "augmentation": given.augmentation, "training_documents": train.n_docs, "fresh": bool(given.fresh), "shares_of_inputs": SHARES, "densities": DENSITIES,
        "teacher": {"trees": teacher.n_trees, "test": of_teacher.mean}, "budgets": budgets, "machine": machine.describe(),
    }  # fmt: skip
    path = given.results or Path(__file__).parent / "results" / f"kinds-{given.set}.json"
    write_atomically(path, (json.dumps(values, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
