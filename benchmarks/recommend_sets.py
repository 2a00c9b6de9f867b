"""What it takes to list as well as the teacher on other data: kinds of students at several budgets, each with its verdict.

    python benchmarks/recommend_sets.py --data ../shared/data --set online_retail --kinds item-item dense --budgets 128 64 -o work

Each student is one run of `compress_recommender` in a folder of its own under -o; one that is done is kept, and a run
that was stopped goes on there. The first run chooses the teacher's settings and makes its lists, and the others take
them from its folder: `seconds` says what each stage took where it was run. Prints one JSON object with all runs of the set that
-o holds.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunus.bench import machine
from prunus.compress.recommender import compress_recommender
from prunus.compress.recommender_recipe import RecommenderRecipe
from prunus.data import splits
from prunus.data.interactions_reading import InteractionColumns, read_given, read_interactions
from prunus.engine.disk import write_atomically

if TYPE_CHECKING:
    from prunus.data.splits import Split

TEACHERS_PART = ("teacher.json", "heads.npy", "head-scores.npy", "start.npy", "teacher-test.npy")
"""What the runs of a set share: it depends on neither kind nor budget."""


@dataclass(frozen=True)
class Source:
    """Where a set lies, and how it is split: by name, or by a file of the test part."""

    file: str
    columns: InteractionColumns
    split: str
    test: str = ""

    def read(self, data: Path, seed: int) -> Split:
        """Read and split it."""
        if self.test:
            return splits.given(*read_given(data / self.file, data / self.test, self.columns))
        return splits.by_name(self.split, seed)(read_interactions(data / self.file, self.columns))


SETS = {
    "ml_1m_ultragcn": Source(
        "ml_1m_ultragcn/train.parquet", InteractionColumns(), "given", "ml_1m_ultragcn/test.parquet"
    ),
    "amazon_beauty_seq": Source(
        "amazon_beauty_seq/interactions.parquet", InteractionColumns(time=("pos",)), "leave-last-out"
    ),
    "online_retail": Source(
        "online_retail/transactions.parquet",
        InteractionColumns(user="customer_id", time=("timestamp",), where="customer_id>=0 and quantity>0"),
        "random:0.1",
    ),
    "globo_clicks": Source(
        "globo_clicks/clicks.parquet", InteractionColumns(item="article_id", time=("timestamp_ms",)), "strong:0.1"
    ),
}


def run(split: Split, recipe: RecommenderRecipe, out: Path, first: Path | None, teachers: Path | None) -> None:
    """Compress, unless that is done; CPU seconds and peak memory of this process stand beside the result."""
    if (out / "spent.json").exists():
        return
    if first is not None and first != out:
        (out / "work").mkdir(parents=True, exist_ok=True)
        for name in TEACHERS_PART:
            if (first / "work" / name).exists():
                shutil.copy(first / "work" / name, out / "work" / name)
    start = time.process_time(), time.perf_counter()
    compress_recommender(split, recipe=recipe, out=out, teachers=teachers)
    spent = {
        "cpu_seconds": round(time.process_time() - start[0], 1),
        "wall_seconds": round(time.perf_counter() - start[1], 1),
        "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
        "teacher_from": None if first is None or first == out else first.name,
    }
    write_atomically(out / "spent.json", json.dumps(spent).encode())


def figures(out: Path) -> dict[str, Any]:
    """Give what a finished run said."""
    values = json.loads((out / "result.json").read_text())
    spent = json.loads((out / "spent.json").read_text())
    metric = values["metric"]
    rest = {key: values["student"].get(key) for key in ("bytes_per_item", "nonzeros", "id_map_bytes", "plan")}
    return {
        "run": out.name,
        "teacher": {"name": values["teacher"]["name"], metric: values["teacher"][metric]},
        "student": {metric: values["student"][metric]} | rest,
        "popularity": values["rows"][2][metric],
        "verdict": values["verdict"],
        "candidates": values.get("candidates", []),
        "seconds": values["seconds"],
        "data": values["data"],
        "recipe": values["recipe"],
        "machine": values["machine"],
    } | spent


def main() -> None:
    """Run what is asked for and print what there is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--set", choices=SETS, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True, help="work folder")
    parser.add_argument("--kinds", nargs="+", default=["tickets", "dense", "item-item", "auto"])
    parser.add_argument("--budgets", type=int, nargs="+", default=[128], help="bytes an item")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--teachers", type=Path, help="keep fitted teachers here, and take those that are there")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    split, first = SETS[args.set].read(args.data, args.seed), None
    for budget in args.budgets:
        for kind in args.kinds:
            out = args.output / f"{args.set}-{kind}-{budget}B"
            recipe = RecommenderRecipe(budget=f"{budget}B", kind=kind, seed=args.seed, threads=args.threads)
            run(split, recipe, out, first, args.teachers)
            first = first or out
    done = sorted(args.output.glob(f"{args.set}-*/spent.json"))
    report = {"set": args.set, "runs": [figures(path.parent) for path in done], "machine": machine.describe()}
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
