"""Compress a ranker from Python: what `prunus rank compress` does, step by step.

    python examples/compress.py DIR [EPOCHS]

Needs the extra `train`. Data and teacher are made here; put your own in their places.
"""

from __future__ import annotations

import sys
from pathlib import Path

from prunus.compress.ranker import compress_ranker
from prunus.compress.recipe import RankerRecipe
from prunus.data.synthetic import generate_ranking
from prunus.report import ranker as report
from prunus.teacher.lambdamart import train_lambdamart


def main(folder: str, epochs: str = "10") -> None:
    """Train a teacher, compress it to 20 KB, write the report."""
    out = Path(folder)
    train, valid, test = (generate_ranking(n, seed) for seed, n in enumerate((300, 100, 300)))
    teacher = train_lambdamart(train, valid, n_trees=60)
    recipe = RankerRecipe(budget="20KB", effort="quick", epochs=int(epochs))
    result = compress_ranker(teacher, train, valid, test, recipe=recipe, out=out)
    report.write(result.to_json(), out / "report.html")
    student = result.to_json()["student"]
    print(
        f"{student['name']}: {student['bytes']:,} bytes, {student['nonzeros']:,} weights, instead of {teacher.nbytes:,} bytes"
    )
    print(result.verdict.sentence())


if __name__ == "__main__":
    main(*sys.argv[1:])
