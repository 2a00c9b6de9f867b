"""The ranker's headline on globo_ltr: students against the teacher and its smaller forests, in every tree engine there is.

    python benchmarks/globo.py --data ../shared/data/globo_ltr --budget 0.06us -o globo-run

Trains the teacher (LightGBM LambdaMART, 64 leaves, learning rate .05, stopped early on validation nDCG@10), compresses
it with three seeds of the sparse and of the dense kind, and times the chosen student, the other kind at the same time,
the teacher and the smallest forest that is itself non-inferior to it in one interleaved run: lleaves, TL2cgen and
LightGBM's C API, one thread. The figures, with machine and versions, go to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from headline_models import NOT_FEATURES, smallest_forest

from prunus.bench.run import Contestant, compare
from prunus.compress.ranker import compress_ranker
from prunus.compress.recipe import RankerRecipe
from prunus.data.reading import read_ranking
from prunus.data.select import Columns
from prunus.engine.file import load, write_atomically
from prunus.metrics import ndcg
from prunus.report.ranker import write as write_report
from prunus.teacher.lambdamart import train_lambdamart
from prunus.teacher.trees import load_trees
from prunus.verdict import paired_interval

TREE_ENGINES = ("lleaves", "tl2cgen", "tl2cgen-c", "lightgbm")
BATCHES = (1, 20, 128, 1000)


class Talk:
    """Progress as lines on stderr."""

    def stage(self, name: str, total: float) -> None:
        """Say that a stage begins."""
        del total
        sys.stderr.write(f"{name}\n")

    def advance(self, done: float, note: str = "") -> None:
        """Say nothing of small steps."""


def main() -> None:
    """Run the benchmark."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--data", type=Path, required=True)
    arguments.add_argument("--budget", default="0.06us")
    arguments.add_argument("--effort", default="normal")
    arguments.add_argument("--seeds", type=int, default=3)
    arguments.add_argument("-o", "--out", type=Path, required=True)
    arguments.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "globo.json")
    given = arguments.parse_args()

    columns = Columns(ignore=NOT_FEATURES, user="user_id")
    train, valid, test = (read_ranking(given.data / f"{part}.parquet", columns) for part in ("train", "valid", "test"))
    given.out.mkdir(parents=True, exist_ok=True)
    path = given.out / "teacher.txt"
    if not path.exists():
        train_lambdamart(train, valid).save(path)
    teacher = load_trees(path)
    recipe = RankerRecipe(budget=given.budget, effort=given.effort, seeds=given.seeds)
    result = compress_ranker(teacher, train, valid, test, recipe=recipe, out=given.out / "run", progress=Talk())
    write_report(result.values, given.out / "run" / "report.html")

    of_teacher = ndcg(test.y, teacher.score(test.X), test.offsets)
    forest, tried = smallest_forest(teacher, test)
    forest_path = given.out / f"forest-{forest.n_trees}.txt"
    forest.save(forest_path)
    of_forest = ndcg(test.y, forest.score(test.X), test.offsets)

    students = [row for row in result.values["rows"] if row["role"] in ("sparse", "dense")]
    files = [given.out / "run" / "work" / f"student-{number}.prunus" for number in range(len(students))]
    contestants = []
    qualities = {}
    for row, file in zip(students, files, strict=True):
        quality = ndcg(test.y, load(file).score(test.X), test.offsets)
        qualities[row["name"]] = quality
        extra = {"ndcg@10": quality.mean, "nonzeros": row["nonzeros"], "role": row["role"]}
        contestants.append(Contestant("prunus", file, row["name"], ours=row["chosen"], extra=extra))
    for name, model, quality in (("teacher", path, of_teacher), ("smallest forest", forest_path, of_forest)):
        extra = {"ndcg@10": quality.mean, "model": name}
        contestants.extend(Contestant(engine, model, f"{name} in {engine}", extra=extra) for engine in TREE_ENGINES)
    timed = compare(contestants, np.ascontiguousarray(test.X), BATCHES, rounds=15)

    chosen = next(row for row in students if row["chosen"])
    ratios = {
        model: {
            str(batch): min(row["ratio"] for row in timed.rows if row["batch"] == batch and row.get("model") == model)
            for batch in BATCHES
        }
        for model in ("teacher", "smallest forest")
    }
    kinds = {}
    for kind in ("sparse", "dense"):
        own = [row for row in students if row["role"] == kind]
        means = [row["ndcg@10"] for row in own]
        per_query = np.mean([qualities[row["name"]].values - of_teacher.values for row in own], axis=0)
        kinds[kind] = {
            "ndcg@10": means, "mean": float(np.mean(means)), "spread": float(np.std(means, ddof=1)) if len(means) > 1 else None,
            "minus_teacher": float(np.nanmean(per_query)), "valid": [row["valid"] for row in own],
            "nonzeros": [row["nonzeros"] for row in own], "measured_us": [row["cost"] for row in own],
        }  # fmt: skip
    pairs = []
    for one, other in zip(
        [r for r in students if r["role"] == "dense"], [r for r in students if r["role"] == "sparse"], strict=False
    ):
        difference, lower, upper = paired_interval(
            qualities[one["name"]], qualities[other["name"]], clusters=test.users
        )
        pairs.append(
            {
                "dense": one["name"],
                "sparse": other["name"],
                "time_ratio": one["cost"] / other["cost"],
                "difference": difference,
                "lower": lower,
                "upper": upper,
            }
        )
    values = {
        "chosen": chosen["name"],
        "verdict": result.verdict.to_json(),
        "ratio_to_fastest_tree_engine": ratios,
        "smallest_forest": {"trees": forest.n_trees, "teacher_trees": teacher.n_trees, "tried": tried},
        "kinds": kinds,
        "sparse_minus_dense": pairs,
        "students": students,
        "timing": timed.to_json(),
        "recipe": result.values["recipe"],
    }
    write_atomically(given.results, (json.dumps(values, indent=1) + "\n").encode())
    summary = {
        key: values[key] for key in ("chosen", "verdict", "ratio_to_fastest_tree_engine", "kinds", "sparse_minus_dense")
    }
    sys.stdout.write(json.dumps(summary, indent=1) + "\n")


if __name__ == "__main__":
    main()
