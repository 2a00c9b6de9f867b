"""Microseconds for a list of 20: our engine against NumPy, implicit and ONNX Runtime, in turn in one process, one thread.

    taskset -c 1 python benchmarks/recommend_speed.py --data ../shared/data/ml_1m_ultragcn --model recommender.prunus

Every engine gets histories and gives the 20 best items that are not in them. What each of them runs:

    prunus            the model of --model: sparse factors (random ones of --factors and --stored without it)
    numpy rows        EASE: rows of the weights of the history's items are summed, for each user
    numpy product     EASE: histories x weights, dense
    scipy product     EASE: histories in CSR x dense weights
    onnx ease         EASE as a MatMul, what was seen masked, TopK
    onnx factors      the factors of prunus as two dense MatMuls, what was seen masked, TopK
    implicit items    implicit's CosineRecommender with 64 neighbours, its `recommend`
    implicit als      implicit's AlternatingLeastSquares, 64 factors, users folded in by its `recommend`
    implicit known    the same for users whose factors were computed in training: no history is encoded

The last takes less than any of the others are asked for; it is printed, and no goal is held against it. Quality stands
in the last column: NDCG@20 of the lists over all test users, where --data has a test part. Writes
benchmarks/results/recommend-speed.json.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse

from prunus.bench.machine import describe
from prunus.bench.stats import order_of_round, paired_ratio, summary
from prunus.data.interactions_reading import read_given
from prunus.engine.disk import write_atomically
from prunus.engine.levels import quantise_rows
from prunus.engine.loading import load
from prunus.engine.recommend_scorer import RecommendScorer
from prunus.engine.recommender import SparseFactors, SparseRows
from prunus.engine.recommender_file import packed_bytes
from prunus.teacher.linear import EaseSettings, fit_ease

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

K = 20
SLICE_SECONDS = 0.05
GOAL = 5.0
UNFAIR = "implicit known"


def random_model(n_items: int, n_factors: int, stored: int) -> SparseFactors:
    """Make tied factors on 4-bit levels at random places."""
    rng = np.random.default_rng(0)
    factor = np.sort(np.argsort(rng.random((n_items, n_factors)), axis=1)[:, :stored], axis=1)
    rows = SparseRows(
        n_factors,
        (np.arange(n_items + 1) * stored).astype(np.int32),
        factor.ravel().astype(np.int32),
        rng.normal(size=n_items * stored).astype(np.float32),
    )
    return SparseFactors(quantise_rows(rows, 4), popular=np.arange(100, dtype=np.int32))


def best(scores: NDArray[np.float32], seen: scipy.sparse.csr_matrix) -> NDArray[np.int64]:
    """Mask what was seen, and return the best items of each row."""
    for user in range(len(scores)):
        scores[user, seen.indices[seen.indptr[user] : seen.indptr[user + 1]]] = -np.inf
    top = np.argpartition(scores, -K, axis=1)[:, -K:]
    order = np.argsort(-np.take_along_axis(scores, top, axis=1), axis=1)
    return np.take_along_axis(top, order, axis=1)


def numpy_engines(weights: NDArray[np.float32]) -> dict[str, Any]:
    """Give EASE in NumPy and SciPy: functions of histories."""

    def rows(seen: scipy.sparse.csr_matrix) -> Any:  # noqa: ANN401
        users = range(seen.shape[0])
        sums = [weights[seen.indices[seen.indptr[u] : seen.indptr[u + 1]]].sum(axis=0) for u in users]
        return best(np.array(sums), seen)

    return {
        "numpy rows": rows,
        "numpy product": lambda seen: best(seen.toarray() @ weights, seen),
        "scipy product": lambda seen: best(np.asarray(seen @ weights), seen),
    }


def onnx_engine(*matrices: NDArray[np.float32]) -> Callable[[scipy.sparse.csr_matrix], Any]:
    """Give a chain of MatMuls, a mask and TopK in ONNX Runtime."""
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    nodes, at = [], "seen"
    for number in range(len(matrices)):
        nodes.append(helper.make_node("MatMul", [at, f"w{number}"], [f"h{number}"]))
        at = f"h{number}"
    nodes += [
        helper.make_node("Cast", ["seen"], ["mask"], to=TensorProto.BOOL),
        helper.make_node("Where", ["mask", "never", at], ["masked"]),
        helper.make_node("TopK", ["masked", "k"], ["scores", "ids"]),
    ]
    constants = [numpy_helper.from_array(matrix, f"w{number}") for number, matrix in enumerate(matrices)]
    constants += [
        numpy_helper.from_array(np.array(-np.inf, np.float32), "never"),
        numpy_helper.from_array(np.array([K], np.int64), "k"),
    ]
    graph = helper.make_graph(
        nodes,
        "ranking",
        [helper.make_tensor_value_info("seen", TensorProto.FLOAT, [None, len(matrices[0])])],
        [helper.make_tensor_value_info("ids", TensorProto.INT64, [None, K])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda seen: session.run(["ids"], {"seen": seen.toarray()})[0]


def implicit_engines(train: scipy.sparse.csr_matrix) -> dict[str, Any]:
    """Give implicit's recommenders, or nothing where it is not installed."""
    try:
        import implicit
    except ImportError:
        print("implicit is not installed: its rows are missing (pip install implicit)")
        return {}
    items = implicit.nearest_neighbours.CosineRecommender(K=64, num_threads=1)
    items.fit(train, show_progress=False)
    als = implicit.als.AlternatingLeastSquares(factors=64, iterations=8, num_threads=1, random_state=0)
    als.fit(train, show_progress=False)

    def users(seen: scipy.sparse.csr_matrix) -> NDArray[np.int64]:
        return np.arange(seen.shape[0])

    return {
        "implicit items": lambda seen: items.recommend(users(seen), seen, N=K)[0],
        "implicit als": lambda seen: als.recommend(users(seen), seen, N=K, recalculate_user=True)[0],
        UNFAIR: lambda seen: als.recommend(seen.users, seen, N=K)[0],
    }


def batches(histories: scipy.sparse.csr_matrix, size: int, count: int) -> list[scipy.sparse.csr_matrix]:
    """Cut requests of some users, others in each where there are enough; each knows its users' numbers."""
    made = []
    for number in range(count):
        users = np.arange(number * size, (number + 1) * size) % histories.shape[0]
        part = histories[users]
        part.users = users
        made.append(part)
    return made


def ndcg(find: Callable[[Any], Any], histories: scipy.sparse.csr_matrix, test: Any) -> float:  # noqa: ANN401
    """Score the lists of all users who have something in the test part."""
    users = np.flatnonzero(np.diff(test.indptr) > 0)
    discount = 1 / np.log2(np.arange(2, K + 2))
    total = 0.0
    for start in range(0, len(users), 256):
        chosen = users[start : start + 256]
        part = histories[chosen]
        part.users = chosen
        for user, found in zip(chosen, np.asarray(find(part)), strict=True):
            wanted = test.items[test.indptr[user] : test.indptr[user + 1]]
            total += (np.isin(found, wanted) * discount).sum() / discount[: min(K, len(wanted))].sum()
    return total / len(users)


def measure(engines: dict[str, Any], requests: list[Any], batch: int, seconds: float) -> list[dict[str, Any]]:
    """Time the engines in turn, slices of some calls in rounds; times are microseconds a user."""
    names = list(engines)
    calls = {}
    for name in names:
        engines[name](requests[0])
        began = time.perf_counter()
        engines[name](requests[0])
        calls[name] = max(1, int(SLICE_SECONDS / (time.perf_counter() - began)))
    slices: dict[str, list[list[int]]] = {name: [] for name in names}
    end, number, at = time.perf_counter() + seconds, 0, 0
    while time.perf_counter() < end or number < 5:
        for place in order_of_round(number, len(names)):
            find, times = engines[names[place]], []
            for _ in range(calls[names[place]]):
                request = requests[at % len(requests)]
                at += 1
                began_ns = time.perf_counter_ns()
                find(request)
                times.append(time.perf_counter_ns() - began_ns)
            slices[names[place]].append(times)
        number += 1
    rows = []
    for name in names:
        row = {
            "engine": name,
            "batch": batch,
            **summary(slices[name], batch),
            **paired_ratio(slices[name], slices["prunus"]),
        }
        rows.append({key.replace("_doc", "_user"): value for key, value in row.items()})
    return rows


def main() -> None:
    """Time, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder with train.parquet and test.parquet")
    parser.add_argument("--model", help="a recommender's file; default random factors")
    parser.add_argument("--factors", type=int, default=512)
    parser.add_argument("--stored", type=int, default=169, help="values an item of a random model")
    parser.add_argument("--seconds", type=float, default=12, help="for each batch size")
    parser.add_argument("--l2", type=float, default=500)
    parser.add_argument("-o", "--out", default="recommend-speed")
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")

    folder = Path(arguments.data)
    train, test = read_given(folder / "train.parquet", folder / "test.parquet")
    if arguments.model:
        scorer = load(arguments.model)
        assert isinstance(scorer, RecommendScorer)
    else:
        scorer = RecommendScorer(random_model(train.n_items, arguments.factors, arguments.stored))
    model = scorer.model
    assert isinstance(model, SparseFactors)
    assert model.encode is not None
    histories = scipy.sparse.csr_matrix(train.users_x_items())
    decode = np.ascontiguousarray(model.decode.to_dense().T)
    weights = np.ascontiguousarray(fit_ease(train, EaseSettings(l2=arguments.l2)).weights, np.float32)
    engines: dict[str, Any] = {
        "prunus": lambda seen: scorer.recommend((seen.indptr, seen.indices), K).ids,
        **numpy_engines(weights),
        "onnx ease": onnx_engine(weights),
        "onnx factors": onnx_engine(model.encode.to_dense(), decode),
        **implicit_engines(histories),
    }
    same_items = scorer.item_ids is None or scorer.item_ids == (train.item_ids or tuple(map(str, range(train.n_items))))
    quality = {
        name: None if name == "prunus" and not same_items else ndcg(engines[name], histories, test) for name in engines
    }
    rows = []
    for batch in (1, 256):
        rows += measure(engines, batches(histories, batch, 512 if batch == 1 else 20), batch, arguments.seconds)
    print(f"{'engine':16}{'batch':>6}{'us/user':>10}{'p99':>10}{'ratio':>8}{'NDCG@20':>9}")
    for row in rows:
        row["ndcg@20"] = quality[row["engine"]]
        shown = "-" if row["ndcg@20"] is None else f"{row['ndcg@20']:.4f}"
        print(
            f"{row['engine']:16}{row['batch']:6}{row['us_per_user']:10.2f}{row['p99_us_per_user']:10.2f}{row['ratio']:8.2f}{shown:>9}"
        )
    goals = {}
    for batch in (1, 256):
        rivals = [row for row in rows if row["batch"] == batch and row["engine"] not in {"prunus", UNFAIR}]
        nearest = min(rivals, key=lambda row: row["ratio"])
        goals[str(batch)] = {
            "rival": nearest["engine"],
            "ratio": nearest["ratio"],
            "goal": GOAL,
            "met": nearest["ratio"] >= GOAL,
        }
        print(f"batch {batch}: {nearest['ratio']:.1f} times {nearest['engine']}, the fastest rival; goal {GOAL:g}")
    result = {
        "machine": describe(),
        "model": {
            "items": model.n_items,
            "factors": model.n_factors,
            "values_per_item": model.nonzeros / model.n_items,
            "bytes_per_item": packed_bytes(model, metadata=scorer.metadata) / model.n_items,
            "isa": scorer.isa,
            "random": arguments.model is None,
        },
        "users": train.n_users,
        "interactions": train.nnz,
        "k": K,
        "goals": goals,
        "rows": rows,
    }
    path = Path(__file__).parent / "results" / f"{arguments.out}.json"
    write_atomically(path, (json.dumps(result, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
