"""Is a budget kept? Ten budgets from 0.05 to 2 us, the student of each timed on data it was not designed on.

    python benchmarks/budgets.py --data ../shared/data/globo_ltr --teacher globo-run/teacher.txt -o budgets-run

The times are taken against the anchor network of the time model, so the drift of a shared machine is divided out; the
raw times stand beside them.
"""

from __future__ import annotations

import argparse
import json
import sys
from itertools import cycle
from pathlib import Path

from globo import NOT_FEATURES, Talk

from prunus.bench import machine
from prunus.bench.quick import enough_rows, time_scorer
from prunus.bench.worker import batches_of
from prunus.compress.ranker import compress_ranker
from prunus.compress.recipe import RankerRecipe
from prunus.data.reading import read_ranking
from prunus.data.select import Columns
from prunus.engine.file import write_atomically
from prunus.errors import BudgetImpossibleError
from prunus.latency import LatencyModel
from prunus.teacher.trees import load_trees

BUDGETS = (0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 0.8, 1.3, 2.0)


def main() -> None:
    """Run the benchmark."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--data", type=Path, required=True)
    arguments.add_argument("--teacher", type=Path, required=True)
    arguments.add_argument("--epochs", type=int, default=4)
    arguments.add_argument("-o", "--out", type=Path, required=True)
    arguments.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "budgets.json")
    given = arguments.parse_args()
    columns = Columns(ignore=NOT_FEATURES)
    train, valid, test = (read_ranking(given.data / f"{part}.parquet", columns) for part in ("train", "valid", "test"))
    teacher = load_trees(given.teacher)
    latency = LatencyModel.load_or_calibrate()
    rows = []
    for budget in BUDGETS:
        recipe = RankerRecipe(budget=f"{budget}us", effort="quick", epochs=given.epochs, synthetic_docs=0.2)
        try:
            result = compress_ranker(
                teacher, train, valid, test, recipe=recipe, out=given.out / str(budget), peers=(), progress=Talk()
            )
        except BudgetImpossibleError as error:
            rows.append({"budget_us": budget, "refused": str(error), "nearest": error.nearest})
            continue
        batches = cycle(batches_of(enough_rows(test.X, 128), 128))
        anchored = latency.anchored_us(lambda s=result.scorer, b=batches: s.score(next(b)), seconds=1.0) / 128
        raw, p99 = time_scorer(result.scorer, test.X, 128, 0.5)
        rows.append(
            {
                "budget_us": budget, "measured_us": anchored, "raw_us": raw, "raw_p99_us": p99, "share": anchored / budget,
                "student": result.values["student"]["name"], "nonzeros": result.values["student"]["nonzeros"],
                "ndcg@10": result.values["student"]["ndcg@10"],
            }
        )  # fmt: skip
        sys.stderr.write(f"{rows[-1]}\n")
    values = {"batch": 128, "epochs": given.epochs, "rows": rows, "machine": machine.describe()}
    write_atomically(given.results, (json.dumps(values, indent=1) + "\n").encode())
    sys.stdout.write(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
