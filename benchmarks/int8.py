"""What int8 costs in quality on globo_ltr: float32, rounded after training, and rounded while training; dense and by blocks.

    python benchmarks/int8.py --data ../shared/data/globo_ltr --teacher globo-run/teacher.txt

Every row trains students of one shape with the same epochs, seeds and order of documents. Densities are shares of the
weights of all layers; where weights go is chosen by what they do (all weights cost the same, a block costs four). No
time is measured here: `kinds.py` compares the kinds at the same time.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from globo import NOT_FEATURES

from prunus.compress import training
from prunus.compress.distil import teacher_scores
from prunus.compress.recipe import RankerRecipe, Silent
from prunus.compress.training import prepare, staged, train_model
from prunus.data.reading import read_ranking
from prunus.data.select import Columns
from prunus.design import Architecture
from prunus.distill.quantising import CALIBRATION_ROWS
from prunus.engine.file import write_atomically
from prunus.latency import Prices
from prunus.metrics import ndcg
from prunus.prune import gradual
from prunus.student.inputs import learn_inputs
from prunus.student.quantise import QuantisedMLP
from prunus.teacher.trees import load_trees
from prunus.verdict import paired_interval

if TYPE_CHECKING:
    from prunus.data.ranking import RankingData
    from prunus.metrics import PerQuery

ROWS: dict[str, tuple[tuple[str, dict[str, Any]], ...]] = {
    "kinds": (
        ("dense f32", {"kind": "dense"}),
        ("int8", {"kind": "int8"}),
        ("int8, first layer f32", {"kind": "int8", "first": "f32"}),
        ("sparse 50 %", {"kind": "sparse", "density": 0.5}),
        ("block int8 50 %", {"kind": "block", "density": 0.5}),
        ("sparse 25 %", {"kind": "sparse", "density": 0.25}),
        ("block int8 25 %", {"kind": "block", "density": 0.25}),
        ("block int8 25 %, first layer f32", {"kind": "block", "first": "f32", "density": 0.25}),
    ),
    "order": (
        ("units as they were drawn", {"kind": "block", "density": 0.25}),
        ("units by likeness", {"kind": "block", "density": 0.25, "likeness": True}),
        ("feature columns shuffled", {"kind": "block", "density": 0.25, "shuffled": True}),
        ("units as they were drawn, 12 %", {"kind": "block", "density": 0.125}),
        ("units by likeness, 12 %", {"kind": "block", "density": 0.125, "likeness": True}),
        ("feature columns shuffled, 12 %", {"kind": "block", "density": 0.125, "shuffled": True}),
    ),
}
"""Studies: what each row trains; each row is compared with the first one of its study."""


def rounded_afterwards(plain: torch.nn.Module, inputs: Any, z: torch.Tensor) -> QuantisedMLP:  # noqa: ANN401
    """Give a trained float32 student int8 layers without training: ranges from documents, weights rounded."""
    model = QuantisedMLP(inputs, plain.widths, seed=0)  # type: ignore[arg-type]
    model.load_state_dict(plain.state_dict(), strict=False)
    model.calibrate(z[:: max(len(z) // CALIBRATION_ROWS, 1)])
    return model.eval()


def main() -> None:
    """Run the study."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--data", type=Path, required=True)
    arguments.add_argument("--teacher", type=Path, required=True)
    arguments.add_argument("--study", choices=list(ROWS), default="kinds")
    arguments.add_argument("--epochs", type=int, default=12)
    arguments.add_argument("--seeds", type=int, default=2)
    arguments.add_argument("--widths", nargs="+", default=["64x32", "128x64"])
    arguments.add_argument("--results", type=Path, default=None)
    given = arguments.parse_args()
    torch.set_num_threads(1)
    columns = Columns(ignore=NOT_FEATURES, user="user_id")
    train, valid, test = (read_ranking(given.data / f"{part}.parquet", columns) for part in ("train", "valid", "test"))
    teacher = load_trees(given.teacher)
    recipe = RankerRecipe(budget="1us", epochs=given.epochs, augmentation="none")
    train_scores = teacher_scores(teacher, train)
    columns_of = {False: np.arange(train.n_features), True: np.random.default_rng(0).permutation(train.n_features)}
    lessons = {}
    for shuffled in {bool(what.get("shuffled")) for _, what in ROWS[given.study]}:
        parts = [
            replace(part, X=np.ascontiguousarray(part.X[:, columns_of[shuffled]])) for part in (train, valid, test)
        ]
        inputs, _ = learn_inputs(parts[0])
        no_rows = np.empty((0, train.n_features), np.float32)
        lesson = prepare(inputs, parts[0], train_scores, parts[1], no_rows, np.empty(0))
        lessons[shuffled] = (inputs, lesson, staged(inputs, parts[2].X))
    of_teacher = ndcg(test.y, teacher.score(test.X), test.offsets)

    def quality(model: torch.nn.Module, z: torch.Tensor, data: RankingData) -> PerQuery:
        with torch.no_grad():
            return ndcg(data.y, model(z).numpy(), data.offsets)

    rows: list[dict[str, Any]] = []
    for text in given.widths:
        widths = tuple(int(w) for w in text.split("x"))
        baselines: list[PerQuery] = []
        for number, (name, what) in enumerate(ROWS[given.study]):
            inputs, lesson, test_z = lessons[bool(what.get("shuffled"))]
            n_weights = sum(a * b for a, b in itertools.pairwise([inputs.n_slots, *widths, 1]))
            prices = Prices(0.0, 1.0, 0.0, np.zeros(inputs.n_slots), 4.0)
            training.GradualPruning = partial(gradual.GradualPruning, by_likeness=bool(what.get("likeness")))  # type: ignore[misc]
            target = what.get("density", 1.0) * n_weights
            architecture = Architecture(what["kind"], widths, target, what.get("first", "int8"))
            found: dict[str, list[dict[str, Any]]] = {}
            for seed in range(given.seeds):
                start = time.perf_counter()
                model, _ = train_model(
                    architecture, lesson, inputs, recipe, seed=seed, prices=prices, checkpoint=None, progress=Silent()
                )
                seconds = time.perf_counter() - start
                models = {name: model}
                if what["kind"] == "dense":
                    models["int8, rounded after training"] = rounded_afterwards(
                        copy.deepcopy(model), inputs, lesson.data.z
                    )
                if number == 0:
                    baselines.append(quality(model, test_z, test))
                for label, one in models.items():
                    of_test = quality(one, test_z, test)
                    difference, lower, upper = paired_interval(baselines[seed], of_test, clusters=test.users)
                    found.setdefault(label, []).append(
                        {
                            "seed": seed, "valid": quality(one, lesson.valid_z, valid).mean, "test": of_test.mean, "nonzeros": one.nonzeros,
                            "minus_first": difference, "lower": lower, "upper": upper, "seconds": seconds,
                        }
                    )  # fmt: skip
            for label, runs in found.items():
                means = {
                    key: float(np.mean([r[key] for r in runs])) for key in ("valid", "test", "minus_first", "nonzeros")
                }
                rows.append({"widths": text, "row": label, **means, "runs": runs})
                sys.stderr.write(
                    f"{text} {label:36s} valid {means['valid']:.4f} test {means['test']:.4f}"
                    f" minus first {means['minus_first']:+.4f} weights {means['nonzeros']:.0f} {runs[-1]['seconds']:.0f} s\n"
                )
    values = {
        "study": given.study, "epochs": given.epochs, "seeds": given.seeds, "teacher": of_teacher.mean,
        "rows": rows,
    }  # fmt: skip
    path = given.results or Path(__file__).parent / "results" / f"int8-{given.study}.json"
    write_atomically(path, (json.dumps(values, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
