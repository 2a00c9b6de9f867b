"""A believable result of a run of the ranker, made up: for the tests of the report and for looking at its design."""

from __future__ import annotations

import math
import random
from typing import Any

MARGIN = 0.0056


def sample(outcome: str = "non_inferior", seed: int = 1) -> dict[str, Any]:
    """Return a full result.json as a dict; ``outcome`` moves the student's quality so that the verdict fits."""
    rng = random.Random(seed)
    shift = {"non_inferior": 0.0023, "inferior": -0.0150, "inconclusive": -0.0041}[outcome]
    half = 0.0031 if outcome != "inconclusive" else 0.0095
    teacher = 0.56312
    rows = [_teacher(teacher), *(_forest(trees, teacher) for trees in (10, 25, 50, 100, 150, 200))]
    rows += [
        _student("sparse 200x100x50, 1740 nonzeros", "sparse", teacher + shift, half, 0.4213, 1740, 31, chosen=True),
        _student("sparse 100x50, 726 nonzeros", "sparse", teacher - 0.0022, half, 0.2871, 726, 24),
        _student("sparse 400x200x100, 3252 nonzeros", "sparse", teacher + 0.0030, half, 0.6624, 3252, 38),
        _student("dense 32x16", "dense", teacher + 0.0013, half, 0.4302, 1936, 44),
        _student("dense 16x8", "dense", teacher - 0.0039, half, 0.2544, 840, 44),
    ]
    student = next(row for row in rows if row["chosen"])
    lower, upper = shift - half * 0.84, shift + half * 0.84
    return {
        "kind": "ranker",
        "metric": "ndcg@10",
        "data": {
            "train": {"queries": 24000, "documents": 611304},
            "valid": {"queries": 3000, "documents": 76220},
            "test": {"queries": 5000, "documents": 127011},
            "test_empty_queries": 37,
        },
        "teacher": {key: rows[0][key] for key in ("name", "ndcg@10", "us_per_doc", "bytes", "trees")} | {"leaves": 64},
        "student": {key: student[key] for key in ("ndcg@10", "us_per_doc", "bytes", "nonzeros", "features_used")},
        "verdict": {
            "outcome": outcome,
            "non_inferior": outcome == "non_inferior",
            "difference": shift,
            "lower": lower,
            "upper": upper,
            "margin": MARGIN,
            "relative_margin": 0.01,
            "queries": 4963 if outcome != "inconclusive" else 434,
            "clusters": 4963 if outcome != "inconclusive" else 434,
            "queries_for_80_power": 1480 if outcome != "inconclusive" else 2311,
            "teacher_mean": teacher,
            "student_mean": teacher + shift,
            "metric": "nDCG(dcg='exp-log2', empty='skip')@10",
        },
        "files": {"model": "out/ranker.prunus", "report": "out/report.html"},
        "budget": {"us_per_doc": 0.5, "batch": 128},
        "rows": rows,
        "layers": [
            {
                "name": "hidden 1",
                "inputs": 36,
                "outputs": 118,
                "nonzeros": 842,
                "density": 842 / 36 / 118,
                "kernel": "sparse f32",
            },
            {
                "name": "hidden 2",
                "inputs": 118,
                "outputs": 71,
                "nonzeros": 604,
                "density": 604 / 118 / 71,
                "kernel": "sparse f32",
            },
            {
                "name": "hidden 3",
                "inputs": 71,
                "outputs": 34,
                "nonzeros": 260,
                "density": 260 / 71 / 34,
                "kernel": "sparse f32",
            },
            {"name": "output", "inputs": 34, "outputs": 1, "nonzeros": 34, "density": 1.0, "kernel": "dense f32"},
        ],
        "features": _features(rng),
        "queries": _queries(rng, shift),
        "training": {"history": _history(rng)},
        "timing": {
            "unavailable": {"quickscorer": "no such package for this platform"},
            "settings": {"rounds": 25, "rows": 20000, "core": 1},
        },
        "machine": {
            "cpu": "AMD EPYC 9254 24-Core Processor",
            "cores": 2,
            "isas": ["avx512", "avx2", "scalar"],
            "versions": {
                "prunus": "0.1.0",
                "python": "3.11.2",
                "numpy": "2.3.4",
                "torch": "2.13.0",
                "lightgbm": "4.6.0",
                "lleaves": "1.3.0",
            },
            "commit": "1f0c2ab",
            "governor": None,
        },
        "seeds": [1, 2, 3],
        "recipe": {
            "budget": "0.5us@128",
            "margin": 0.01,
            "loss": {"pointwise": 1.0, "listwise": 0.3, "labels": 0.1},
            "augment": {"kind": "on-manifold", "share": 0.3},
            "epochs": {"distil": 12, "prune": 12, "fine_tune": 6},
            "learning_rate": 0.003,
            "max_architectures": None,
        },
        "seconds": {
            "teacher": 41.2,
            "calibrate": 28.9,
            "design": 0.8,
            "distil": 164.3,
            "prune": 171.0,
            "fine_tune": 77.4,
            "measure": 58.2,
            "report": 0.2,
        },
    }


def _teacher(quality: float) -> dict[str, Any]:
    us = {"20": 15.6, "128": 13.14, "1000": 12.87}
    return {
        "name": "LambdaMART, 250 trees", "role": "teacher", "engine": "lleaves", "trees": 250, "nonzeros": None, "features_used": 44,
        "ndcg@10": quality, "difference": 0.0, "lower": 0.0, "upper": 0.0, "us_per_doc": us,
        "p99_us_per_doc": {batch: time * 1.09 for batch, time in us.items()}, "bytes": 1_874_211, "chosen": False,
    }  # fmt: skip


def _forest(trees: int, teacher: float) -> dict[str, Any]:
    loss = 0.06 * math.exp(-trees / 33)
    us = {"20": trees * 0.058 + 0.5, "128": trees * 0.0508 + 0.24, "1000": trees * 0.0500 + 0.2}
    half = 0.0007 + loss * 0.12
    return {
        "name": f"first {trees} trees", "role": "forest", "engine": "lleaves" if trees > 30 else "tl2cgen, lleaves", "engines": dict.fromkeys(us, "lleaves" if trees > 30 else "tl2cgen"), "outcome": "non_inferior" if loss + half < MARGIN else "inferior", "trees": trees, "nonzeros": None,
        "features_used": 44, "ndcg@10": teacher - loss, "difference": -loss, "lower": -loss - half, "upper": -loss + half,
        "us_per_doc": us, "p99_us_per_doc": {batch: time * 1.1 for batch, time in us.items()}, "bytes": 7480 * trees, "chosen": False,
    }  # fmt: skip


def _student(
    name: str, role: str, quality: float, half: float, us: float, nonzeros: int, used: int, *, chosen: bool = False
) -> dict[str, Any]:
    times = {"20": us * 1.9, "128": us, "1000": us * 0.93}
    return {
        "name": name, "role": role, "engine": "prunus avx512", "trees": None, "nonzeros": nonzeros, "features_used": used, "ndcg@10": quality,
        "difference": quality - 0.56312, "lower": quality - 0.56312 - half, "upper": quality - 0.56312 + half, "us_per_doc": times,
        "p99_us_per_doc": {batch: time * 1.16 for batch, time in times.items()}, "bytes": 6200 + nonzeros * 8, "chosen": chosen,
    }  # fmt: skip


def _features(rng: random.Random) -> dict[str, Any]:
    stems = (
        "views",
        "clicks",
        "shares",
        "recency",
        "affinity",
        "category_match",
        "region_match",
        "session_rank",
        "dwell",
        "novelty",
        "device",
    )
    names = [f"{stem}_{window}" for stem in stems for window in ("1h", "24h", "7d", "all")]
    raw = sorted((rng.paretovariate(0.9) for _ in range(31)), reverse=True)
    kept = rng.sample(names, 31)
    return {
        "kept": [{"name": name, "share": value / sum(raw)} for name, value in zip(kept, raw, strict=True)],
        "dropped": [name for name in names if name not in kept],
    }


def _queries(rng: random.Random, shift: float) -> dict[str, Any]:
    worst = []
    for index in range(20):
        teacher = rng.uniform(0.6, 1.0)
        student = rng.uniform(0.0, 0.3) * teacher + index * 0.008
        worst.append(
            {
                "qid": f"q{rng.randrange(10**6):06d}",
                "documents": rng.randint(8, 60),
                "teacher": teacher,
                "student": student,
                "difference": student - teacher,
            }
        )
    worst.sort(key=lambda item: item["difference"])
    slices = []
    for documents, queries, quality in (
        ("1-10", 612, 0.712),
        ("11-20", 1433, 0.601),
        ("21-40", 2105, 0.531),
        ("41-80", 701, 0.452),
        ("over 80", 112, 0.398),
    ):
        gap = shift + rng.gauss(0, 0.0015)
        half = 0.22 / math.sqrt(queries)
        slices.append(
            {
                "documents": documents,
                "queries": queries,
                "teacher": quality,
                "student": quality + gap,
                "difference": gap,
                "lower": gap - half,
                "upper": gap + half,
            }
        )
    return {"worst": worst, "by_length": slices}


def _history(rng: random.Random) -> list[dict[str, Any]]:
    history = []
    for stage, goal, final in STUDENTS:
        for epoch in range(60):
            density = (
                1.0
                if final == 1 or epoch < 15
                else max(final, final + (1 - final) * (1 - (epoch - 15) / 25) ** 3 if epoch < 40 else final)
            )
            loss = 0.042 + (0.565 - goal) + 0.9 * math.exp(-epoch / 4) + 0.01 * (1 - density)
            quality = goal - 0.05 * math.exp(-epoch / 5) - (0.004 * (1 - density) if epoch < 45 else 0)
            history.append(
                {
                    "stage": stage,
                    "epoch": epoch + 1,
                    "loss": loss * rng.uniform(0.98, 1.02),
                    "valid_ndcg@10": quality + rng.gauss(0, 0.0005),
                    "density": density,
                }
            )
    return history


STUDENTS = (
    ("sparse 200x100x50", 0.5641, 0.05),
    ("sparse 100x50", 0.5605, 0.07),
    ("sparse 400x200x100", 0.5650, 0.03),
    ("dense 32x16", 0.5632, 1.0),
    ("dense 16x8", 0.5588, 1.0),
)
"""Name, validation nDCG@10 and final density of each model trained."""
