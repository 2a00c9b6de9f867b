"""Distil any Python function: a teacher needs no file, only scores.

    python examples/callable_teacher.py [EPOCHS]

Needs the extra `train`. The function here is a formula; yours may call a service or a large network.
"""

from __future__ import annotations

import sys

import numpy as np

from prunus import DistilledRanker
from prunus.data.synthetic import generate_ranking
from prunus.metrics import ndcg


def teacher(X: np.ndarray) -> np.ndarray:
    """Score documents: float32 [n, n_features] -> [n]."""
    X = np.nan_to_num(X)
    return np.log1p(np.abs(X[:, 0])) * (X[:, 1] > 0.5) - X[:, 2]


def main(epochs: str = "10") -> None:
    """Distil the function to 20 KB, and say how alike the two rank."""
    train, test = generate_ranking(300, 1), generate_ranking(100, 2)
    ranker = DistilledRanker(teacher=teacher, budget="20KB", effort="quick", recipe={"epochs": int(epochs)})
    ranker.fit(train.X, train.y, qid=train.query_of_doc)
    of_student, of_teacher = (
        ndcg(test.y, scores, test.offsets).mean for scores in (ranker.predict(test.X), teacher(test.X))
    )
    print(f"nDCG@10: student {of_student:.4f}, teacher {of_teacher:.4f}")
    print(f"correlation of the scores: {np.corrcoef(ranker.predict(test.X), teacher(test.X))[0, 1]:.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
