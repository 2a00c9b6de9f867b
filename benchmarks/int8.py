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
from pathlib import Path
from typing import Any

import numpy as np
import torch
from globo import NOT_FEATURES

from prunus.compress.distil import teacher_scores
from prunus.compress.recipe import RankerRecipe, Silent
from prunus.compress.training import prepare, staged, synthetic_documents, train_model
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

ROWS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("dense f32", {"kind": "dense"}),
    ("int8", {"kind": "int8"}),
    ("int8, first layer f32", {"kind": "int8", "first": "f32"}),
    ("sparse 50 %", {"kind": "sparse", "density": 0.5}),
    ("block int8 50 %", {"kind": "block", "density": 0.5}),
    ("sparse 25 %", {"kind": "sparse", "density": 0.25}),
    ("block int8 25 %", {"kind": "block", "density": 0.25}),
    ("block int8 25 %, first layer f32", {"kind": "block", "first": "f32", "density": 0.25}),
)


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
    arguments.add_argument("--epochs", type=int, default=12)
    arguments.add_argument("--seeds", type=int, default=2)
    arguments.add_argument("--widths", nargs="+", default=["64x32", "128x64"])
    arguments.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "int8.json")
    given = arguments.parse_args()
    torch.set_num_threads(1)
    columns = Columns(ignore=NOT_FEATURES, user="user_id")
    train, valid, test = (read_ranking(given.data / f"{part}.parquet", columns) for part in ("train", "valid", "test"))
    teacher = load_trees(given.teacher)
    inputs, _ = learn_inputs(train)
    recipe = RankerRecipe(budget="1us", epochs=given.epochs, augmentation="none")
    lesson = prepare(
        inputs, train, teacher_scores(teacher, train), valid, synthetic_documents(teacher, train, recipe), np.empty(0)
    )
    test_z = staged(inputs, test.X)
    of_teacher = ndcg(test.y, teacher.score(test.X), test.offsets)

    def quality(model: torch.nn.Module) -> Any:  # noqa: ANN401
        with torch.no_grad():
            return ndcg(test.y, model(test_z).numpy(), test.offsets)

    def valid_quality(model: torch.nn.Module) -> float:
        with torch.no_grad():
            return ndcg(valid.y, model(lesson.valid_z).numpy(), valid.offsets).mean

    prices = Prices(0.0, 1.0, 0.0, np.zeros(inputs.n_slots), 4.0)
    rows: list[dict[str, Any]] = []
    for text in given.widths:
        widths = tuple(int(w) for w in text.split("x"))
        sizes = [inputs.n_slots, *widths, 1]
        n_weights = sum(a * b for a, b in itertools.pairwise(sizes))
        dense_runs: list[Any] = []
        for name, what in ROWS:
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
                    dense_runs.append(quality(model))
                for label, one in models.items():
                    of_test = quality(one)
                    difference, lower, upper = paired_interval(dense_runs[seed], of_test, clusters=test.users)
                    found.setdefault(label, []).append(
                        {
                            "seed": seed, "valid": valid_quality(one), "test": of_test.mean, "nonzeros": one.nonzeros,
                            "minus_dense": difference, "lower": lower, "upper": upper, "seconds": seconds,
                        }
                    )  # fmt: skip
            for label, runs in found.items():
                means = {
                    key: float(np.mean([r[key] for r in runs])) for key in ("valid", "test", "minus_dense", "nonzeros")
                }
                rows.append({"widths": text, "row": label, **means, "runs": runs})
                sys.stderr.write(
                    f"{text} {label:36s} valid {means['valid']:.4f} test {means['test']:.4f}"
                    f" minus dense {means['minus_dense']:+.4f} weights {means['nonzeros']:.0f} {runs[-1]['seconds']:.0f} s\n"
                )
    values = {
        "epochs": given.epochs, "seeds": given.seeds, "teacher": of_teacher.mean, "prunings_by": gradual.saliency.__name__,
        "rows": rows,
    }  # fmt: skip
    write_atomically(given.results, (json.dumps(values, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
