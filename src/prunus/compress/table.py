"""The figures of a finished run: rows of the frontier, layers, features, slices of queries."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from prunus.verdict import paired_interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from prunus.data.ranking import RankingData
    from prunus.engine.network import Network
    from prunus.metrics import PerQuery

KERNELS = {"sparse": "sparse f32", "dense": "dense f32", "dense_int8": "dense int8", "block_int8": "blocks of 4, int8"}
"""What runs a layer, as the table names it."""

LENGTHS = (1, 11, 21, 51, 101, 201, 501)
"""First document counts of the slices by query length."""


def layer_rows(network: Network) -> list[dict[str, Any]]:
    """Describe each layer: shape, weights left of the shape's, kernel."""
    return [
        {
            "name": f"layer {number}" if number < len(network.layers) else "output",
            "inputs": layer.n_inputs,
            "outputs": layer.n_outputs,
            "nonzeros": layer.nonzeros,
            "density": layer.nonzeros / (layer.n_inputs * layer.n_outputs),
            "kernel": KERNELS[layer.shape.kind],
        }
        for number, layer in enumerate(network.layers, start=1)
    ]


def feature_rows(network: Network, names: tuple[str, ...]) -> dict[str, Any]:
    """List the features that are read, by their share of the first layer's absolute weight, and those that are not."""
    weight = np.abs(network.layers[0].dense_weight()).sum(axis=0).astype(np.float64)
    total = np.bincount(network.inputs.feature, weight, minlength=network.n_features)
    read = set(network.features_read.tolist())
    share = total / max(float(total.sum()), 1e-30)
    kept = sorted(
        ({"name": names[f], "share": float(share[f])} for f in read), key=lambda row: -float(str(row["share"]))
    )
    return {"kept": kept, "dropped": [name for f, name in enumerate(names) if f not in read]}


def query_slices(test: RankingData, teacher: PerQuery, student: PerQuery, *, worst: int = 12) -> dict[str, Any]:
    """Compare student and teacher query by query: the worst queries, and means by query length.

    Args:
        test: the documents.
        teacher: metric by query.
        student: metric by query.
        worst: queries to list.
    """
    difference = student.values - teacher.values
    counted = np.isfinite(difference)
    sizes = np.diff(test.offsets)
    order = [
        int(q)
        for q in np.argsort(np.where(counted, difference, np.inf), kind="stable")[:worst]
        if counted[q] and difference[q] < 0
    ]
    ids = test.query_ids if test.query_ids is not None else np.arange(test.n_queries)
    rows = [
        {
            "qid": str(ids[q]),
            "documents": int(sizes[q]),
            "teacher": float(teacher.values[q]),
            "student": float(student.values[q]),
            "difference": float(difference[q]),
        }
        for q in order
    ]
    by_length = []
    for low, high in zip(LENGTHS, [*LENGTHS[1:], np.inf], strict=True):
        here = counted & (sizes >= low) & (sizes < high)
        if here.sum() < 2:
            continue
        mean, lower, upper = paired_interval(
            replace(teacher, values=teacher.values[here]), replace(student, values=student.values[here])
        )
        by_length.append(
            {
                "documents": f"{low}-{int(high) - 1}" if np.isfinite(high) else f"{low} or more",
                "queries": int(here.sum()),
                "teacher": float(teacher.values[here].mean()),
                "student": float(student.values[here].mean()),
                "difference": mean,
                "lower": lower,
                "upper": upper,
            }
        )
    return {"worst": rows, "by_length": by_length}


def forest_sizes(n_trees: int) -> list[int]:
    """Sizes of the smaller forests on the frontier, the teacher's own left out: about 6, spread over its trees."""
    shares = (0.05, 0.1, 0.2, 0.3, 0.45, 0.65)
    return sorted({max(round(n_trees * share), 1) for share in shares} - {n_trees})


def quality_row(teacher: PerQuery, other: PerQuery, users: NDArray[np.generic] | None) -> dict[str, float]:
    """Mean and paired difference to the teacher, with its two-sided 95 % interval."""
    mean, lower, upper = paired_interval(teacher, other, clusters=users)
    return {"difference": mean, "lower": lower, "upper": upper}
