"""What each part of distillation is worth on globo_ltr: synthetic documents, losses, and the price that pruning goes by.

    python benchmarks/ablation.py --data ../shared/data/globo_ltr --teacher globo-run/teacher.txt --part augmentation

Every row trains the same sparse student (64x32, pruned to the same predicted time) with the same epochs and three seeds,
changing one thing. Chosen on validation data; the test figures stand beside. Parts can run at the same time.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from globo import NOT_FEATURES

from prunus.compress.distil import teacher_scores
from prunus.compress.recipe import RankerRecipe, Silent
from prunus.compress.training import prepare, synthetic_documents, train_student
from prunus.data.reading import read_ranking
from prunus.data.select import Columns
from prunus.design import HEADROOM, Architecture, Budget, prices
from prunus.engine.file import write_atomically
from prunus.engine.scorer import RankScorer
from prunus.latency import LatencyModel
from prunus.metrics import ndcg
from prunus.prune import gradual
from prunus.student.inputs import learn_inputs
from prunus.teacher.trees import load_trees

ROWS: dict[str, list[dict[str, Any]]] = {
    "augmentation": [{"augmentation": how} for how in ("none", "independent", "replace", "neighbour")],
    "loss": [
        {"pointwise": 1.0, "listwise": 0.0, "labels": 0.0},
        {"pointwise": 0.0, "listwise": 1.0, "labels": 0.0},
        {"pointwise": 1.0, "listwise": 0.3, "labels": 0.0},
        {"pointwise": 1.0, "listwise": 0.3, "labels": 0.5},
        {"pointwise": 1.0, "listwise": 0.3, "labels": 1.5},
        {"pointwise": 1.0, "listwise": 0.3, "labels": 5.0},
        {"pointwise": 0.0, "listwise": 0.0, "labels": 1.0},
    ],
    "pruning": [
        {"score": "gauss-newton"},
        {"score": "magnitude"},
        {"score": "dense"},
    ],
}


def magnitude(weights: Any, _curvatures: Any) -> list[Any]:  # noqa: ANN401
    """Score with the square of the weight alone."""
    return [np.square(w.astype(np.float64)) for w in weights]


SCORES = {"gauss-newton": gradual.saliency, "magnitude": magnitude}


def main() -> None:
    """Run one part."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--data", type=Path, required=True)
    arguments.add_argument("--teacher", type=Path, required=True)
    arguments.add_argument("--part", choices=list(ROWS), required=True)
    arguments.add_argument("--epochs", type=int, default=24)
    arguments.add_argument("--seeds", type=int, default=3)
    arguments.add_argument("--budget", default="0.06us")
    arguments.add_argument("--results", type=Path, default=None)
    given = arguments.parse_args()
    torch.set_num_threads(1)
    columns = Columns(ignore=NOT_FEATURES)
    train, valid, test = (read_ranking(given.data / f"{part}.parquet", columns) for part in ("train", "valid", "test"))
    teacher = load_trees(given.teacher)
    latency = LatencyModel.load_or_calibrate()
    inputs, schema = learn_inputs(train)
    budget = Budget.parse(given.budget)
    of_teacher = ndcg(test.y, teacher.score(test.X), test.offsets)
    train_scores = teacher_scores(teacher, train)
    pools: dict[str, Any] = {}
    rows = []
    for change in ROWS[given.part]:
        settings = {key: value for key, value in change.items() if key != "score"}
        recipe = RankerRecipe(budget=given.budget, epochs=given.epochs, **settings)
        if recipe.augmentation not in pools:
            synthetic = synthetic_documents(teacher, train, recipe)
            scores = teacher.score(synthetic) if len(synthetic) else np.empty(0)
            pools[recipe.augmentation] = prepare(inputs, train, train_scores, valid, synthetic, scores)
        lesson = pools[recipe.augmentation]
        price = prices(inputs, budget, latency, schema)
        target = HEADROOM * budget.total
        if change.get("score") == "dense":
            target = 1e9  # nothing is pruned: what the student could be at its full width
        elif "score" in change:
            gradual.saliency = SCORES[change["score"]]
        runs = []
        for seed in range(given.seeds):
            start = time.perf_counter()
            trained = train_student(
                Architecture("sparse", (64, 32), target), lesson, inputs, schema, recipe,
                seed=seed, prices=price, latency=latency, space=None, progress=Silent(),
            )  # fmt: skip
            scorer = RankScorer(trained.network, schema)
            quality = ndcg(test.y, scorer.score(test.X), test.offsets)
            runs.append(
                {
                    "seed": seed, "valid": trained.valid, "test": quality.mean, "nonzeros": trained.network.nonzeros,
                    "minus_teacher": float(np.nanmean(quality.values - of_teacher.values)),
                    "seconds": time.perf_counter() - start,
                }
            )  # fmt: skip
        row = {
            "change": change, "runs": runs,
            "valid": float(np.mean([r["valid"] for r in runs])), "valid_spread": float(np.std([r["valid"] for r in runs], ddof=1)),
            "test": float(np.mean([r["test"] for r in runs])), "test_spread": float(np.std([r["test"] for r in runs], ddof=1)),
        }  # fmt: skip
        rows.append(row)
        sys.stderr.write(
            f"{change} valid {row['valid']:.4f} +-{row['valid_spread']:.4f} test {row['test']:.4f} +-{row['test_spread']:.4f}"
            f" (teacher {of_teacher.mean:.4f}) {runs[-1]['nonzeros']} nonzeros {runs[-1]['seconds']:.0f} s\n"
        )
    values = {
        "part": given.part,
        "epochs": given.epochs,
        "budget": given.budget,
        "teacher": of_teacher.mean,
        "rows": rows,
    }
    path = given.results or Path(__file__).parent / "results" / f"ablation-{given.part}.json"
    write_atomically(path, (json.dumps(values, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
