"""Training of the study of kinds: students of every kind at one budget, each brought to its time as measured by itself.

What was trained is kept in the work folder: a run that is stopped, or out of its minutes, goes on there.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from kinds_level import AIM, NEAR, next_lever

from prunus.compress.measure import measured_us
from prunus.compress.recipe import Silent
from prunus.compress.training import Lesson, grains_of, new_student, to_network, train_student
from prunus.design import PRUNED, Architecture, Budget, halving, prices
from prunus.distill.loop import Loop, LoopSettings
from prunus.distill.losses import LossMix
from prunus.engine.file import save, write_atomically
from prunus.engine.int8 import BLOCK
from prunus.prune.inputs import InputElimination
from prunus.prune.magnitude import cost
from prunus.student.quantise import QuantisedMLP

if TYPE_CHECKING:
    from prunus.compress.recipe import RankerRecipe
    from prunus.data.ranking import RankingData, Schema
    from prunus.design import Kind
    from prunus.engine.network import InputStage, Network
    from prunus.latency import LatencyModel

BATCH = 128
"""Documents of a call."""
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

        def start() -> int:
            price = prices(self.inputs, Budget(us_per_doc=budget), self.latency, self.schema)
            of_weight = price.weight if kind == "sparse" else price.block / BLOCK
            left = max(budget - price.fixed - 0.5 * float(price.slot.sum()), 0.4 * budget) / of_weight
            n_slots = self.inputs.n_slots
            weights = {w: n_slots * w + w * w // 2 + w // 2 for w in range(8, self.widest + 1, 8)}
            return max((w for w, n in weights.items() if n * density <= left), default=8)

        return int(self.kept(f"start-{kind}-{density:g}-{budget:g}", start))  # another calibration starts no new shapes

    def train(self, kind: Kind, widths: tuple[int, ...], n_inputs: int, budget: float, seed: int) -> dict[str, Any]:
        """Train one student to the measured time; its file stays in the work folder."""
        shape = "x".join(map(str, (n_inputs, *widths)))
        name = f"{kind}-{shape}-{budget:g}-epochs{self.recipe.n_epochs}-seed{seed}"

        def make() -> dict[str, Any]:
            full = self.full_cost(kind, widths, n_inputs, budget)
            aims = self.work / f"target-{kind}-{shape}-{budget:g}.json", self.work / f"target-{kind}.json"
            target = min(first_target(aims) * budget, full)
            best: dict[str, Any] = {}
            tried: list[tuple[float, float]] = []
            for attempt in range(RETRIES + 1):
                found, network = self.train_once(kind, widths, n_inputs, budget, seed, target)
                us = found["us"]
                if not best or abs(us / budget - 1) < abs(best["us"] / budget - 1):
                    best = found | {"attempts": attempt + 1, "file": f"{name}.prunus"}
                    save(self.work / best["file"], network, self.schema, metadata={"architecture": name})
                whole = kind not in PRUNED or (us < budget and target >= full)
                if abs(us / budget - 1) <= NEAR * AIM or whole or time.monotonic() > self.deadline:
                    break
                tried.append((target, us))
                target, before = min(next_lever(tried, budget), full), target
                if target == before:  # nothing is left to try: the student is whole and still faster than the budget
                    break
            if kind in PRUNED:
                for path in aims:
                    write_atomically(path, json.dumps(best["target"] / budget).encode())
            return best

        return self.kept(name, make)  # type: ignore[no-any-return]

    def train_once(
        self, kind: Kind, widths: tuple[int, ...], n_inputs: int, budget: float, seed: int, target: float
    ) -> tuple[dict[str, Any], Network]:
        """Train one student with one target; give what is known of it, and its network."""
        start = time.perf_counter()
        lesson, inputs = self.reading(n_inputs)
        price = prices(inputs, Budget(us_per_doc=budget), self.latency, self.schema)
        trained = train_student(
            Architecture(kind, widths, target), lesson, inputs, self.schema, self.recipe,
            seed=seed, prices=price, latency=self.latency, space=None, progress=Silent(),
        )  # fmt: skip
        found = {
            "kind": kind, "shape": "x".join(map(str, (n_inputs, *widths))), "budget": budget, "seed": seed,
            "target": target, "us": self.us(trained.network), "valid": trained.valid,
            "nonzeros": trained.network.nonzeros, "features": len(trained.network.features_read),
            "seconds": time.perf_counter() - start, "parity": trained.parity,
            "layers": [list(layer) for layer in trained.network.shape.layers],
        }  # fmt: skip
        self.say(
            f"{kind} {found['shape']} seed {seed}: {found['us']:.4f} us, valid {trained.valid:.4f}, {found['seconds']:.0f} s"
        )
        return found, trained.network

    def again(self, row: dict[str, Any], lever: float) -> dict[str, Any]:
        """Train a student again with another lever; the row itself where that changes nothing, or the time is over."""
        kind, budget = row["kind"], row["budget"]
        n_inputs, *widths = (int(w) for w in row["shape"].split("x"))
        target = row["target"]
        if kind in PRUNED:
            target = min(lever, self.full_cost(kind, tuple(widths), n_inputs, budget))
        else:
            widths = list(halving(round(lever), N_HIDDEN))
        shape = "x".join(map(str, (n_inputs, *widths)))
        if (shape, target) == (row["shape"], row["target"]) or time.monotonic() > self.deadline:
            return row
        found, network = self.train_once(kind, tuple(widths), n_inputs, budget, row["seed"], target)
        first = row.get("first", row["file"])
        file = f"{Path(first).stem}-level{len(row.get('tried', [])) + 1}.prunus"
        save(self.work / file, network, self.schema, metadata={"architecture": Path(file).stem})
        return found | {"attempts": row["attempts"] + 1, "file": file, "first": first}

    def level_of(self, first: str) -> Path:
        """Where what became of a student is kept."""
        return self.work / f"{Path(first).stem}-level.json"

    def full_cost(self, kind: Kind, widths: tuple[int, ...], n_inputs: int, budget: float) -> float:
        """What the price list says of the student before anything is pruned."""
        inputs = self.reading(n_inputs)[1]
        price = prices(inputs, Budget(us_per_doc=budget), self.latency, self.schema)
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


def first_target(aims: tuple[Path, ...]) -> float:
    """Aim where the last student of this shape, or else of this kind, came out right; a share of the budget."""
    known = [path for path in aims if path.exists()]
    return float(json.loads(known[0].read_text())) if known else FIRST_TARGET
