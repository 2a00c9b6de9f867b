"""Which kind of student wins at the same time: dense, dense int8, sparse and block-sparse int8, equally tuned.

    python benchmarks/kinds.py --set globo_ltr --data ../shared/data/globo_ltr -o kinds-globo
    python benchmarks/kinds.py --set generated -o kinds-generated

Sets and teachers are those of the headline (``headline_models.py``). For each budget (at batch 128) and kind, the same
number of shapes is trained with one seed and the best on validation data is trained with the others: dense kinds read
all inputs or half of them (or a quarter, where all are too many), chosen by a first training that takes them away one by
one; pruned kinds start so wide that .7 or .4 of their weights can stay, and lose inputs while they are pruned. Every
student is brought to the same *measured* time. First by itself (``kinds_train.py``): widths of dense ones are fitted on
random networks of their shape; pruned ones are trained again with a corrected target. Then all students of a budget are
timed in turn, and those off by more than 5 % of the median are trained again (``kinds_level.py``). Their test nDCG is
compared query by query, averaged over seeds. What was trained is kept in the work folder: a run that is stopped, or out of
its --minutes, goes on there.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from headline_models import FEATURES, NOT_FEATURES, generated, globo
from kinds_level import NEAR, in_turn, level
from kinds_train import BATCH, DENSITIES, SHARES, OutOfTimeError, Study

from prunus.bench import machine
from prunus.compress.distil import teacher_scores
from prunus.compress.measure import TIMED_ROWS
from prunus.compress.recipe import RankerRecipe
from prunus.compress.training import prepare, synthetic_documents
from prunus.data.reading import read_ranking
from prunus.data.select import Columns
from prunus.data.synthetic import generate_ranking
from prunus.engine.file import load, write_atomically
from prunus.latency import LatencyModel
from prunus.metrics import ndcg
from prunus.student.inputs import learn_inputs
from prunus.teacher.exact import ExactTeacher
from prunus.teacher.trees import load_trees
from prunus.verdict import paired_interval

if TYPE_CHECKING:
    from prunus.data.ranking import RankingData
    from prunus.design import Kind
    from prunus.metrics import PerQuery
    from prunus.teacher.trees import TreeTeacher

KINDS: tuple[Kind, ...] = ("dense", "int8", "sparse", "block")
BUDGETS = (0.05, 0.1, 0.2, 0.5)
FRESH_SEED = 4
"""Of documents that neither the teacher nor the verdict has seen."""


def levelled(
    study: Study, rows: list[dict[str, Any]], rounds: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Bring the students of a budget to the same time in turn; where an earlier run has begun that, go on there."""

    def timed(now: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for row in now:
            if "first" in row:
                write_atomically(study.level_of(row["first"]), (json.dumps(row) + "\n").encode())
        found = in_turn([load(study.work / row["file"]) for row in now], study.test.X[: study.rows], BATCH, rounds)
        study.say(f"{now[0]['budget']:g} us, in turn: " + " ".join(f"{one['ratio_to_median']:.3f}" for one in found))
        return found

    kept = [(study.level_of(row["file"]), row) for row in rows]
    begun = [json.loads(path.read_text()) if path.exists() else row for path, row in kept]
    return level(begun, timed, study.again)


def compared(study: Study, rows: list[dict[str, Any]], rounds: int) -> dict[str, Any]:
    """Bring the students of a budget to the same time in turn, and compare the kinds query by query."""
    rows, timed = levelled(study, rows, rounds)
    scorers = [load(study.work / row["file"]) for row in rows]
    qualities = [ndcg(study.test.y, s.score(study.test.X), study.test.offsets) for s in scorers]
    us_in_turn = float(np.median([row["us_in_turn"] for row in timed]))
    found: dict[str, Any] = {"us_in_turn": us_in_turn, "kinds": {}, "pairs": [], "students": []}
    means: dict[str, PerQuery] = {}
    for row, time_row, quality in zip(rows, timed, qualities, strict=True):
        found["students"].append({**row, **time_row, "test": quality.mean})
    for kind in dict.fromkeys(row["kind"] for row in rows):
        own = [i for i, row in enumerate(rows) if row["kind"] == kind]
        tests = [qualities[i].mean for i in own]
        means[kind] = replace(qualities[own[0]], values=np.mean([qualities[i].values for i in own], axis=0))
        ratios = [timed[i]["ratio_to_median"] for i in own]
        found["kinds"][kind] = {
            "shape": rows[own[0]]["shape"], "test": float(np.mean(tests)),
            "spread": float(np.std(tests, ddof=1)) if len(tests) > 1 else None,
            "valid": float(np.mean([rows[i]["valid"] for i in own])), "us": float(np.mean([rows[i]["us"] for i in own])),
            "ratio_to_median": ratios, "same_time": all(abs(r - 1) <= NEAR for r in ratios),
        }  # fmt: skip
    kinds = list(means)
    for i, one in enumerate(kinds):
        for other in kinds[i + 1 :]:
            difference, lower, upper = paired_interval(means[one], means[other], clusters=study.test.users)
            found["pairs"].append({"of": other, "minus": one, "difference": difference, "lower": lower, "upper": upper})
    return found


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
            budgets[f"{budget:g}"] = settings | compared(study, rows, given.rounds)
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
