"""Microseconds for a list of 20: our engine against NumPy, implicit and ONNX Runtime, in turn in one process, one thread.

    taskset -c 1 python benchmarks/recommend_speed.py --data ../shared/data/ml_1m_ultragcn

Every engine gets histories and gives the 20 best items that are not in them. What each of them runs:

    ticket            a student of 128 bytes an item: wide rows of which a third of the values are kept
    dense             the same in short rows, whole
    numpy rows        EASE: rows of the weights of the history's items are summed, for each user
    numpy product     EASE: histories x weights, dense
    scipy product     EASE: histories in CSR x dense weights
    onnx ease         EASE as a MatMul, what was seen masked, TopK
    onnx ticket       the factors of the ticket as two dense MatMuls, what was seen masked, TopK
    onnx dense        those of the short rows
    implicit items    implicit's CosineRecommender with 64 neighbours, its `recommend`
    implicit als      implicit's AlternatingLeastSquares, 64 factors, users folded in by its `recommend`
    implicit known    the same for users whose factors were computed in training: no history is encoded

The last takes less than any of the others are asked for; it is printed, and no goal is held against it. A student that
--work does not hold is made there first, as `prunus recommend compress --budget 128B --kind tickets` (or `dense`) makes
it: some ten minutes of one core each, before anything is timed. Quality stands in the last column: NDCG@20 of the lists
over all test users. Writes benchmarks/results/recommend-speed.json.
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
from prunus.data import splits
from prunus.data.interactions_reading import read_given
from prunus.engine.disk import cache_dir, write_atomically
from prunus.engine.loading import load
from prunus.engine.recommend_scorer import RecommendScorer
from prunus.engine.recommender import SparseFactors
from prunus.engine.recommender_file import packed_bytes
from prunus.teacher.linear import EaseSettings, fit_ease

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from prunus.data.interactions import Interactions

K = 20
BATCHES = (1, 256)
SLICE_SECONDS = 0.05
GOAL = 5.0
BUDGET = "128B"
STUDENTS = {"ticket": "tickets", "dense": "dense"}
"""Names of the students, and their kinds."""
UNFAIR = "implicit known"


def student(kind: str, train: Interactions, test: Interactions, work: Path) -> RecommendScorer:
    """Load a student, made first where it is not there."""
    out = work / kind
    if not (out / "recommender.prunus").exists():
        from prunus.compress.recommender import compress_recommender
        from prunus.compress.recommender_recipe import RecommenderRecipe

        recipe = RecommenderRecipe(budget=BUDGET, kind=kind)
        compress_recommender(splits.given(train, test), recipe=recipe, out=out)
    scorer = load(out / "recommender.prunus")
    if not isinstance(scorer, RecommendScorer) or scorer.model.n_items != train.n_items:
        msg = f"{out} holds a model of other data; expected one of {train.n_items} items: name another --work"
        raise SystemExit(msg)
    return scorer


def matrices(scorer: RecommendScorer) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Give the factors as histories x encoder x decoder."""
    model = scorer.model
    assert model.encode is not None
    encode, decode = (
        rows.to_dense() if isinstance(model, SparseFactors) else rows for rows in (model.encode, model.decode)
    )
    return encode, np.ascontiguousarray(decode.T)


def about(scorer: RecommendScorer) -> dict[str, Any]:
    """Describe a student."""
    model = scorer.model
    return {
        "items": model.n_items,
        "factors": model.n_factors,
        "values_per_item": model.nonzeros / model.n_items,
        "bytes_per_item": packed_bytes(model, metadata=scorer.metadata) / model.n_items,
        "isa": scorer.isa,
    }


def best(scores: NDArray[np.float32], seen: scipy.sparse.csr_matrix) -> NDArray[np.int64]:
    """Mask what was seen, and return the best items of each row."""
    for user in range(len(scores)):
        scores[user, seen.indices[seen.indptr[user] : seen.indptr[user + 1]]] = -np.inf
    top = np.argpartition(scores, -K, axis=1)[:, -K:]
    order = np.argsort(-np.take_along_axis(scores, top, axis=1), axis=1)
    return np.take_along_axis(top, order, axis=1)


def ours(scorer: RecommendScorer) -> Callable[[scipy.sparse.csr_matrix], Any]:
    """Give a student as a function of histories."""
    return lambda seen: scorer.recommend((seen.indptr, seen.indices), K).ids


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
            "times": {student: paired_ratio(slices[name], slices[student]) for student in STUDENTS},
        }
        rows.append({key.replace("_doc", "_user"): value for key, value in row.items()})
    return rows


def goal(rows: list[dict[str, Any]], name: str, batch: int) -> dict[str, Any]:
    """Hold a student against the fastest of the rivals that encode histories."""
    rivals = [row for row in rows if row["batch"] == batch and row["engine"] not in {*STUDENTS, UNFAIR}]
    nearest = min(rivals, key=lambda row: row["times"][name]["ratio"])
    ratio = nearest["times"][name]["ratio"]
    print(f"batch {batch}: {name} {ratio:.1f} times as fast as {nearest['engine']}, the fastest rival; goal {GOAL:g}")
    return {"student": name, "batch": batch, "rival": nearest["engine"], "ratio": ratio, "goal": GOAL, "met": ratio >= GOAL}  # fmt: skip


def main() -> None:
    """Time, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder with train.parquet and test.parquet")
    parser.add_argument("--work", type=Path, default=cache_dir() / "bench" / "recommend-speed")
    parser.add_argument("--seconds", type=float, default=12, help="for each batch size")
    parser.add_argument("--l2", type=float, default=500)
    parser.add_argument("-o", "--out", default="recommend-speed")
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")

    folder = Path(arguments.data)
    train, test = read_given(folder / "train.parquet", folder / "test.parquet")
    scorers = {name: student(kind, train, test, arguments.work) for name, kind in STUDENTS.items()}
    histories = scipy.sparse.csr_matrix(train.users_x_items())
    weights = np.ascontiguousarray(fit_ease(train, EaseSettings(l2=arguments.l2)).weights, np.float32)
    engines: dict[str, Any] = {
        **{name: ours(scorer) for name, scorer in scorers.items()},
        **numpy_engines(weights),
        "onnx ease": onnx_engine(weights),
        **{f"onnx {name}": onnx_engine(*matrices(scorer)) for name, scorer in scorers.items()},
        **implicit_engines(histories),
    }
    quality = {name: ndcg(find, histories, test) for name, find in engines.items()}
    rows = []
    for batch in BATCHES:
        rows += measure(engines, batches(histories, batch, 512 if batch == 1 else 20), batch, arguments.seconds)
    print(f"{'engine':16}{'batch':>6}{'us/user':>10}{'p99':>10}{'x ticket':>10}{'x dense':>9}{'NDCG@20':>9}")
    for row in rows:
        row["ndcg@20"] = quality[row["engine"]]
        ratios = [row["times"][name]["ratio"] for name in STUDENTS]
        print(
            f"{row['engine']:16}{row['batch']:6}{row['us_per_user']:10.2f}{row['p99_us_per_user']:10.2f}"
            f"{ratios[0]:10.2f}{ratios[1]:9.2f}{row['ndcg@20']:9.4f}"
        )
    result = {
        "machine": describe(),
        "students": {name: about(scorer) for name, scorer in scorers.items()},
        "users": train.n_users,
        "interactions": train.nnz,
        "k": K,
        "goals": [goal(rows, name, batch) for name in STUDENTS for batch in BATCHES],
        "rows": rows,
    }
    path = Path(__file__).parent / "results" / f"{arguments.out}.json"
    write_atomically(path, (json.dumps(result, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
