"""What tickets and distillation are worth to a recommender, at equal bytes an item as the files are packed.

    python benchmarks/recommend.py --data ../shared/data/ml_1m_ultragcn -o recommend-ml1m
    python benchmarks/recommend.py --data ... -o chosen --choose --only "ticket x distillation" --budgets 64

Two tables. *Equal bytes*: at each budget, tickets with and without distillation, small dense factors with and without,
and the teacher's weights cut, or cut and fitted anew on what is left. *Grid*: at 128 bytes, each way to come to a mask,
with and without distillation. All students have the same epochs, the same loss and the same teacher; every
figure is NDCG@20 over the full ranking. ``--choose`` measures on a tenth of the training part instead of the test
part: settings are chosen there. Each student is kept in the work folder as soon as it is done: a run that is stopped,
or out of its --minutes, goes on there.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from prunus import topk
from prunus.bench import machine
from prunus.compress.beside import cut_weights
from prunus.compress.factors import OVER, TicketPlan, popular_items, train_dense, train_factors
from prunus.compress.row_budget import RowBudget
from prunus.data import splits
from prunus.data.interactions_reading import read_given
from prunus.distill.factors import FactorSettings, teacher_lists
from prunus.engine.disk import write_atomically
from prunus.engine.recommender_file import packed_bytes
from prunus.prune.lottery import at_random
from prunus.student.factors import leading_factors
from prunus.teacher.item_scores import from_model
from prunus.teacher.linear import EaseSettings, ItemItem, ease_problem, fit_ease

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from prunus.data.splits import Split
    from prunus.distill.factors import TeacherLists
    from prunus.engine.recommender import Recommender

K = 20
BUDGETS = (128, 64, 32, 16)
GRID_BUDGET = 128
LISTS = 100
TEACHER = EaseSettings(800, growth=0.25, long_histories=0.5, popular_items=0.1)
"""Chosen on a tenth of the training part; docs/recommenders.md."""
PLAIN = EaseSettings(800)
"""EASE as published, to be held against published figures."""
HEAVY = 0.5
"""Weight of the teacher's lists that was chosen for tickets of 128 values a row."""
LIGHT = {way: dict.fromkeys(BUDGETS, HEAVY) for way in ("gradual", "late")} | {
    "dense": {128: 0.05, 64: 0.05, 32: 0.03, 16: 0.03}
}
"""Weights of each student and budget, beside :data:`HEAVY`. On a tenth of the training part, seed 0, .5 was better than .15
for tickets of 128 bytes, and .03 better than .1 and .5 for dense rows of 32; the others are taken over from these."""
ROUND, LATE = 5, 2
"""Epochs between two prunings where survivors go back, and epochs done at the values that late ones go back to."""
RANDOM_OVER = {HEAVY: 2.0, 0.0: 1.5}
"""What random masks are drawn for, in budgets, by the teacher's weight: drawn for 1.03 as the others are, rounding left 63
and 84 of 128 bytes."""


@dataclass
class Study:
    """One data set, its teacher and what is shared by all students."""

    split: Split
    teacher: ItemItem
    lists: TeacherLists
    start: NDArray[np.float32]
    settings: FactorSettings
    bits: int
    work: Path
    deadline: float

    def kept(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
        """Return a result of an earlier run, or make it; nothing new is begun once the time is over."""
        path = self.work / f"{name.replace(' ', '-')}.json"
        if path.exists():
            return dict(json.loads(path.read_text()))
        if time.monotonic() > self.deadline:
            return None
        start = time.process_time()
        value = make() | {"cpu_seconds": round(time.process_time() - start, 1)}
        write_atomically(path, (json.dumps(value) + "\n").encode())
        sys.stderr.write(f"{time.strftime('%H:%M:%S')} {name}: {value['ndcg']:.4f} at {value['bytes']:.1f} B\n")
        return value

    def measured(self, model: Recommender) -> dict[str, Any]:
        """Measure a student: nDCG, bytes an item and values an item."""
        n_items = model.n_items
        figures = {"bytes": packed_bytes(model) / n_items, "values": model.nonzeros / n_items}
        return {"ndcg": self.ndcg(from_model(model).scores)} | figures

    def ndcg(self, score: Callable[..., NDArray[np.float32]]) -> float:
        """Mean NDCG@20 over the users with something to find."""
        return topk.ndcg(topk.recommend(score, self.split.histories, K), self.split.test, K).mean

    def student(self, way: str, budget: int, seed: int, weight: float) -> dict[str, Any]:
        """Train one student, with so much weight on the teacher's lists."""
        train, settings = self.split.train, replace(self.settings, seed=seed, teacher=weight)
        limit = RowBudget(budget * train.n_items, train.n_items)
        lists, start = (self.lists, self.start) if weight else (None, None)
        if way == "dense":
            found = train_dense(train, lists, limit, bits=self.bits, settings=settings)
        else:
            plan = ways(settings.epochs, seed, weight)[way]
            if plan.reset != "none":
                settings = replace(settings, cycle=settings.epochs - int(plan.prune_until * settings.epochs))
            found = train_factors(train, lists, limit, bits=self.bits, settings=settings, plan=plan, start=start)
        return self.measured(found.model)


def ways(epochs: int, seed: int, weight: float) -> dict[str, TicketPlan]:
    """Ways to come to a mask, with so much weight on the teacher's lists."""
    return {
        "gradual": TicketPlan(),
        "one-shot": TicketPlan(every=epochs),
        "first": TicketPlan(reset="first", every=ROUND),
        "late": TicketPlan(reset="late", every=ROUND, late=LATE),
        "rate": TicketPlan(reset="rate", every=ROUND),
        "random": TicketPlan(
            importance=at_random(seed), every=epochs, prune_until=1.5 / epochs, over=RANDOM_OVER.get(weight, OVER)
        ),
    }


def told(weight: float) -> str:
    """Name a weight of the teacher in the names of rows."""
    return {0.0: "alone", HEAVY: "distilled"}.get(weight, f"distilled x{weight:g}")


def cut_rows(study: Study, budget: int, *, fitted: bool) -> dict[str, Any]:
    """Cut the teacher's weights to a budget, with and without a fit on what is left."""
    train = study.split.train
    limit, problem = RowBudget(budget * train.n_items, train.n_items), ease_problem(train, TEACHER) if fitted else None
    return study.measured(cut_weights(study.teacher.weights, popular_items(train), limit, {}, problem))


def prepare(args: argparse.Namespace) -> Study:
    """Read the data, fit the teacher and ask it for its lists."""
    split = splits.given(*read_given(args.data / "train.parquet", args.data / "test.parquet"))
    if args.choose:
        split = splits.random_by_user(split.train, 0.1, 0)
    teacher = fit_ease(split.train, TEACHER)
    args.output.mkdir(parents=True, exist_ok=True)
    return Study(
        split,
        teacher,
        teacher_lists(teacher, split.train, LISTS),
        leading_factors(teacher.weights, args.factors),
        FactorSettings(epochs=args.epochs),
        args.bits,
        args.output,
        time.monotonic() + 60 * args.minutes,
    )


def main() -> None:
    """Run what is asked for and print both tables as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.parquet and test.parquet")
    parser.add_argument("-o", "--output", type=Path, required=True, help="work folder")
    parser.add_argument("--choose", action="store_true", help="measure on a tenth of the training part")
    parser.add_argument("--budgets", type=int, nargs="+", default=BUDGETS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--factors", type=int, default=512)
    parser.add_argument("--bits", type=int, default=4)
    parser.add_argument("--minutes", type=float, default=600.0)
    parser.add_argument("--only", help="only rows whose name begins with this")
    args = parser.parse_args()
    torch.set_num_threads(1)
    study = prepare(args)
    wanted = args.only or ""
    rows: dict[str, list[dict[str, Any]]] = {}

    def add(name: str, make: Callable[[], dict[str, Any]], seed: int = 0) -> None:
        if name.startswith(wanted):
            value = study.kept(f"{name} {seed}", make)
            rows.setdefault(name, []).extend([] if value is None else [value])

    for budget in args.budgets:
        for fitted in (False, True):
            name = f"{'cut and refitted' if fitted else 'cut'} {budget}B"
            add(name, lambda budget=budget, fitted=fitted: cut_rows(study, budget, fitted=fitted))  # type: ignore[misc]
    cells = [
        (way, budget, weight)
        for way in LIGHT
        for budget in args.budgets
        for weight in sorted({0.0, HEAVY, LIGHT[way][budget]})
    ]
    cells += [(way, GRID_BUDGET, weight) for way in ways(1, 0, HEAVY) if way not in LIGHT for weight in (HEAVY, 0.0)]
    for seed in range(args.seeds):
        for way, budget, weight in cells:
            name = f"{way} {told(weight)} {budget}B"

            def make(way: str = way, budget: int = budget, weight: float = weight, seed: int = seed) -> dict[str, Any]:
                return study.student(way, budget, seed, weight)

            add(name, make, seed)
    report = {
        "measured_on": "a tenth of the training part" if args.choose else "the test part",
        "metric": f"ndcg@{K}",
        "teacher": {"name": study.teacher.name, "ndcg": study.ndcg(study.teacher.scores)},
        "ease": {"name": str(PLAIN), "ndcg": study.ndcg(fit_ease(study.split.train, PLAIN).scores)},
        "rows": {name: summary(values) for name, values in rows.items() if values},
        "settings": asdict(study.settings) | {"factors": args.factors, "bits": args.bits, "lists": LISTS},
        "machine": machine.describe(),
    }
    print(json.dumps(report, indent=1))


def summary(values: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean over seeds, and each seed's figure."""
    means = {
        key: float(np.mean([value[key] for value in values])) for key in ("ndcg", "bytes", "values", "cpu_seconds")
    }
    return means | {"seeds": [value["ndcg"] for value in values]}


if __name__ == "__main__":
    main()
