"""Score in a service: load once, give the output array, and no call allocates anything.

    python examples/serve.py MODEL

Needs numpy and safetensors. MODEL is what `prunus demo` or `prunus rank compress` wrote.
"""

from __future__ import annotations

import sys

import numpy as np

import prunus


def main(model: str) -> None:
    """Answer a few requests with random documents."""
    ranker = prunus.load(model)
    # Only the features that the model reads have to be computed; a narrow scorer takes just those columns.
    narrow = ranker.narrow()
    print(f"reads {len(narrow.schema.feature_names)} of {ranker.schema.n_features} features on {ranker.isa}")
    rng = np.random.default_rng(0)
    out = np.empty(100, np.float32)
    for request in range(3):
        documents = rng.exponential(size=(100, narrow.schema.n_features)).astype(np.float32)
        scores = narrow.score(documents, out)
        assert scores is out
        best = np.argsort(-scores, kind="stable")[:3]
        print(f"request {request}: documents {best.tolist()} first")


if __name__ == "__main__":
    main(*sys.argv[1:])
