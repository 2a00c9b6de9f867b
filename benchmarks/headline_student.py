"""A student of the headline's generated set, distilled on fresh documents of the same world: scored by the teacher, labels unread.

    python benchmarks/headline_student.py --kind int8 --widths 256 128 --epochs 20 -o student.prunus

The teacher knows the noise of its own training documents by heart (nDCG .94 there, .81 elsewhere), so a student that learns
from its scores on them learns noise. Documents without labels are what a user has most of. Validation chooses the epoch;
the test documents are not read.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path

import numpy as np
import torch
from headline_models import FEATURES, generated
from kinds import FRESH_SEED

from prunus.compress.recipe import RankerRecipe, Silent
from prunus.compress.training import prepare, train_student
from prunus.data.reading import read_ranking
from prunus.data.select import Columns
from prunus.data.synthetic import generate_ranking
from prunus.design import Architecture
from prunus.engine.file import save
from prunus.engine.int8 import BLOCK
from prunus.latency import LatencyModel, Prices
from prunus.student.inputs import learn_inputs
from prunus.teacher.exact import ExactTeacher
from prunus.teacher.trees import load_trees


def main() -> None:
    """Train and save."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--kind", choices=["int8", "block"], default="int8")
    arguments.add_argument("--widths", type=int, nargs="+", default=[256, 128])
    arguments.add_argument("--density", type=float, default=0.56, help="of a block student's blocks, at the end")
    arguments.add_argument("--queries", type=int, default=80_000)
    arguments.add_argument("--epochs", type=int, default=20)
    arguments.add_argument("-o", "--out", type=Path, required=True)
    given = arguments.parse_args()
    torch.set_num_threads(1)
    made = generated()
    teacher = ExactTeacher(load_trees(made.teacher))
    train = read_ranking(made.folder / "train.parquet", Columns(user="user"))
    valid = read_ranking(made.folder / "valid.parquet", Columns(user="user"))
    fresh = generate_ranking(given.queries, FRESH_SEED, n_features=FEATURES, missing=0.0)
    inputs, schema = learn_inputs(train)
    recipe = RankerRecipe(
        budget="0.4us", epochs=given.epochs, augmentation="none", labels=0.0, batch_docs=1024, learning_rate=8e-3
    )
    nothing = np.empty((0, FEATURES), np.float32), np.empty(0)
    lesson = prepare(inputs, fresh, teacher.score(fresh.X), valid, *nothing)
    sizes = [inputs.n_slots, *given.widths]
    n_blocks = sum(a * b for a, b in itertools.pairwise(sizes)) / BLOCK
    prices = Prices(0.0, 1e-3, 0.0, np.zeros(inputs.n_slots), 1.0)  # the target counts blocks
    trained = train_student(
        Architecture(given.kind, tuple(given.widths), given.density * n_blocks), lesson, inputs, schema, recipe,
        seed=0, prices=prices, latency=LatencyModel.load_or_calibrate(), space=None, progress=Silent(),
    )  # fmt: skip
    metadata = {"teacher": teacher.name, "architecture": trained.architecture.name, "documents": fresh.n_docs}
    save(given.out, trained.network, schema, metadata=metadata | {"nonzeros": trained.network.nonzeros})
    sys.stdout.write(f"{trained.architecture.name}: validation nDCG@10 {trained.valid:.4f}, {given.out}\n")


if __name__ == "__main__":
    main()
