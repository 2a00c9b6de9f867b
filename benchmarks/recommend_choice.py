"""Whether a short training tells which kind of student is the best: `--kind auto`'s candidates, trained for several numbers of epochs.

    python benchmarks/recommend_choice.py --data ../shared/data --set online_retail --budgets 128 32 --epochs 60 360 -o work

Everything happens on the training part: nine tenths are learned from, the tenth judges. --epochs are those of the run: candidates are trained for
a sixth of them, so that six times the command's 60 is a candidate trained in full. Candidates are kept under -o as soon as
they are done. Prints one JSON object with all of the set that was asked for.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from recommend_sets import SETS

from prunus.bench import machine
from prunus.compress.recipe import Silent
from prunus.compress.recommender_choice import candidates, choose_student, round_epochs
from prunus.compress.recommender_recipe import RecommenderRecipe
from prunus.compress.recommender_student import StudentPlan
from prunus.compress.row_budget import RowBudget
from prunus.compress.workspace import Workspace
from prunus.teacher.choose import choose_ease
from prunus.teacher.linear import EaseSettings

if TYPE_CHECKING:
    from prunus.data.interactions import Interactions

TICKETS = StudentPlan("tickets", 0.5)


def study(
    train: Interactions, recipe: RecommenderRecipe, teacher: EaseSettings, plans: list[StudentPlan], space: Workspace
) -> dict[str, Any]:
    """Hold the candidates of one recipe against each other."""
    budget, inner = RowBudget.parse(recipe.budget, train.n_items), space.part(f"{recipe.budget}-{recipe.epochs}")
    found = choose_student(train, teacher, budget, recipe, inner, Silent(), {}, plans=plans)
    return {"budget": recipe.budget, "epochs": round_epochs(recipe), "teacher": str(teacher), "candidates": found}


def main() -> None:
    """Run what is asked for and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--set", choices=SETS, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True, help="work folder")
    parser.add_argument("--budgets", type=int, nargs="+", default=[128], help="bytes an item")
    parser.add_argument(
        "--epochs", type=int, nargs="+", default=[60], help="of the run, of which candidates have a sixth"
    )
    parser.add_argument("--tickets", action="store_true", help="try tickets, too")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    train, space = SETS[args.set].read(args.data, args.seed).train, Workspace(args.output).part(args.set)
    settings = EaseSettings(**space.json("teacher", lambda: asdict(choose_ease(train, seed=args.seed)[0].settings)))
    runs = []
    for budget in args.budgets:
        for epochs in args.epochs:
            recipe = RecommenderRecipe(budget=f"{budget}B", epochs=epochs, seed=args.seed)
            plans = [*candidates(recipe), *([TICKETS] if args.tickets else [])]
            runs.append(study(train, recipe, settings, plans, space))
    print(json.dumps({"set": args.set, "runs": runs, "machine": machine.describe()}, indent=1))


if __name__ == "__main__":
    main()
