"""The models of the headline, each made once and kept: teachers, the frontier of smaller forests, other libraries' trees.

Two ranking sets. ``globo_ltr`` is real (a folder with train, valid and test.parquet) and its teacher stops early, at 161
trees. ``generated`` has 136 features, as many as MSLR-WEB has, none missing (one of the rivals knows no missing values);
its teacher is 878 trees, and still gains from its last ones. What is kept, under ``<cache>/bench/<set>/``:

    teacher.txt, forest-<n>.txt    LightGBM LambdaMART of up to 64 leaves, and its first n trees
    xgboost.ubj, catboost.cbm      as many trees by the other two libraries, trained on the same rows
    train, valid, test.parquet     the generated set's rows
    student*/, student*.prunus     students of the teacher, each made by the command that stands beside it below
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from prunus.bench.peers import digest
from prunus.data.reading import read_ranking
from prunus.data.select import Columns
from prunus.data.synthetic import generate_ranking
from prunus.engine.disk import cache_dir
from prunus.metrics import PerQuery, ndcg
from prunus.teacher.lambdamart import train_lambdamart
from prunus.teacher.trees import TreeTeacher, load_trees
from prunus.verdict import compare as verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from prunus.data.ranking import RankingData

NOT_FEATURES = (
    "timestamp_ms", "user_id", "article_id", "last_article_id",
    "environment", "device_group", "os", "country", "region", "referrer_type",
)  # fmt: skip
"""Columns of globo_ltr that are no features."""

PARTS = ("train", "valid", "test")
GENERATED = {"train": (6000, 1), "valid": (1500, 2), "test": (3000, 3)}
"""Part of the generated set -> (queries, seed)."""
FEATURES = 136
TREES = 878
THREADS = 1


@dataclass(frozen=True)
class RankingSet:
    """One set with its models.

    Attributes:
        name: "globo_ltr" or "generated".
        folder: where its models are kept.
        test: documents of the verdict and of the timing.
        teacher: path of the teacher.
        smallest: path of the fewest first trees that are non-inferior to all of them on the test data (chosen there, in
            the forest's favour).
        frontier: paths of smaller forests, which lose to the teacher.
        others: engine -> path of its own library's model.
        students: path of a student -> arguments of Python that make it; the rivals run the first one's network.
    """

    name: str
    folder: Path
    test: RankingData
    teacher: Path
    smallest: Path
    frontier: tuple[Path, ...]
    others: dict[str, Path]
    students: dict[Path, tuple[str, ...]]

    def quality(self, scores: NDArray[Any]) -> dict[str, Any]:
        """Judge scores of the test documents: nDCG@10, and the verdict against the teacher with its interval.

        Args:
            scores: [n_docs] of ``test``.
        """
        of_scores = ndcg(self.test.y, np.asarray(scores, np.float64), self.test.offsets)
        found = verdict(self.of_teacher(), of_scores, clusters=self.test.users)
        return {
            "ndcg@10": of_scores.mean,
            "verdict": found.outcome,
            "minus_teacher": found.difference,
            "lower": found.lower,
            "upper": found.upper,
        }

    def scores_of(self, path: Path) -> NDArray[np.float64]:
        """Score the test documents with a forest in its own library; kept beside it, as that takes seconds.

        Args:
            path: of the forest.
        """
        kept = path.with_name(f"{path.stem}-{digest(path.read_bytes(), self.test.X.tobytes())}.npy")
        if not kept.exists():
            np.save(kept, load_trees(path).score(self.test.X, n_threads=THREADS))
        scores: NDArray[np.float64] = np.load(kept)
        return scores

    def of_teacher(self) -> PerQuery:
        """Give the teacher's nDCG@10 of each test query."""
        return ndcg(self.test.y, self.scores_of(self.teacher), self.test.offsets)


def folder_of(name: str) -> Path:
    """Where the models of a set are kept."""
    return cache_dir() / "bench" / name


def say(line: str) -> None:
    """Tell the user something on stderr."""
    sys.stderr.write(f"{line}\n")


def smallest_forest(teacher: TreeTeacher, test: RankingData) -> tuple[TreeTeacher, list[dict[str, Any]]]:
    """Find the fewest first trees that are non-inferior to all of them on the test data, in steps of a tree near it.

    Chosen on the test data, in the forest's favour: prunus' own students are chosen on validation data.
    """
    of_teacher = ndcg(test.y, teacher.score(test.X), test.offsets)
    tried: dict[int, bool] = {}

    def passes(n: int) -> bool:
        if n not in tried:
            forest = teacher if n == teacher.n_trees else teacher.smaller(n)
            tried[n] = verdict(
                of_teacher, ndcg(test.y, forest.score(test.X), test.offsets), clusters=test.users
            ).non_inferior
        return tried[n]

    low, high = 1, teacher.n_trees
    while low < high:
        middle = (low + high) // 2
        if passes(middle):
            high = middle
        else:
            low = middle + 1
    for n in range(max(high - 6, 1), high):  # not quite monotone: look just below
        if passes(n):
            high = n
            break
    return teacher.smaller(high), [{"trees": n, "non_inferior": ok} for n, ok in sorted(tried.items())]


def globo(data: Path) -> RankingSet:
    """Give the real set with its models, made where they are not there yet.

    Args:
        data: folder of train, valid and test.parquet.
    """
    columns = Columns(ignore=NOT_FEATURES, user="user_id")

    def parts() -> tuple[RankingData, RankingData]:
        return read_ranking(data / "train.parquet", columns), read_ranking(data / "valid.parquet", columns)

    def train() -> TreeTeacher:
        return train_lambdamart(*parts(), params={"num_threads": THREADS})

    folder = folder_of("globo_ltr")
    command = (
        "-m", "prunus.cli", "rank", "compress", str(folder / "teacher.txt"), "--ignore", ",".join(NOT_FEATURES),
        "--user", "user_id", "--budget", "0.06us", "--effort", "quick", "-o", str(folder / "student"),
        *(word for part in PARTS for word in (f"--{part}", str(data / f"{part}.parquet"))),
    )  # fmt: skip
    students = {folder / "student" / "ranker.prunus": command}
    return _with_models("globo_ltr", read_ranking(data / "test.parquet", columns), train, parts, (40, 80), students)


def generated() -> RankingSet:
    """Give the generated set with its models, made where they are not there yet."""
    folder = folder_of("generated")
    folder.mkdir(parents=True, exist_ok=True)
    files = {part: folder / f"{part}.parquet" for part in PARTS}
    for part, path in files.items():
        if not path.exists():
            say(f"generating {path.name}")
            _write_parquet(
                generate_ranking(GENERATED[part][0], GENERATED[part][1], n_features=FEATURES, missing=0.0), path
            )
    columns = Columns(user="user")

    def parts() -> tuple[RankingData, RankingData]:
        return read_ranking(files["train"], columns), read_ranking(files["valid"], columns)

    def train() -> TreeTeacher:
        more = {"num_threads": THREADS, "learning_rate": 0.03}
        # The best first trees of 1000 are more than 878: its validation nDCG still rises there.
        return train_lambdamart(*parts(), params=more, n_trees=1000, patience=1000).smaller(TREES)

    # Students of its own training documents would learn their noise: headline_student.py says more.
    script = str(Path(__file__).with_name("headline_student.py"))
    students = {
        path: (script, "--kind", kind, "-o", str(path))
        for kind in ("block", "int8")
        for path in (folder / f"student-{kind}.prunus",)
    }
    return _with_models("generated", read_ranking(files["test"], columns), train, parts, (100, 300, 500), students)


def _with_models(
    name: str,
    test: RankingData,
    train: Callable[[], TreeTeacher],
    parts: Callable[[], tuple[RankingData, RankingData]],
    frontier: tuple[int, ...],
    students: dict[Path, tuple[str, ...]],
) -> RankingSet:
    folder = folder_of(name)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "teacher.txt"
    if not path.exists():
        say(f"{name}: training its teacher")
        train().save(path)
    teacher = load_trees(path)
    smallest = folder / "smallest.json"
    if not smallest.exists():
        forest, tried = smallest_forest(teacher, test)
        forest.save(folder / f"forest-{forest.n_trees}.txt")
        smallest.write_text(json.dumps({"trees": forest.n_trees, "of": teacher.n_trees, "tried": tried}) + "\n")
    n_smallest = int(json.loads(smallest.read_text())["trees"])
    for n in frontier:
        if not (folder / f"forest-{n}.txt").exists():
            teacher.smaller(n).save(folder / f"forest-{n}.txt")
    others = {"xgboost": folder / "xgboost.ubj", "catboost": folder / "catboost.cbm"}
    for engine, other in others.items():
        if not other.exists():
            say(f"{name}: training {teacher.n_trees} trees of {engine}")
            OTHERS[engine](parts()[0], teacher.n_trees, other)
    return RankingSet(
        name,
        folder,
        test,
        path,
        folder / f"forest-{n_smallest}.txt",
        tuple(folder / f"forest-{n}.txt" for n in frontier if n < n_smallest),
        others,
        students,
    )


def _train_xgboost(train: RankingData, n_trees: int, path: Path) -> None:
    import xgboost

    rows = xgboost.DMatrix(train.X, train.y, qid=np.repeat(np.arange(train.n_queries), np.diff(train.offsets)))
    settings = {
        "objective": "rank:ndcg", "tree_method": "hist", "grow_policy": "lossguide", "max_leaves": 64, "max_depth": 0,
        "eta": 0.05, "nthread": THREADS, "seed": 1,
    }  # fmt: skip
    xgboost.train(settings, rows, n_trees).save_model(path)


def _train_catboost(train: RankingData, n_trees: int, path: Path) -> None:
    import catboost

    queries = np.repeat(np.arange(train.n_queries), np.diff(train.offsets))
    rows = catboost.Pool(train.X, train.y, group_id=queries)
    settings = {
        "loss_function": "QueryRMSE", "depth": 6, "iterations": n_trees, "thread_count": THREADS, "random_seed": 1,
        "verbose": False, "allow_writing_files": False,
    }  # fmt: skip
    catboost.CatBoost(settings).fit(rows).save_model(str(path))


OTHERS: dict[str, Callable[[RankingData, int, Path], None]] = {"xgboost": _train_xgboost, "catboost": _train_catboost}
"""Engine -> how its own library's model is trained: its usual ranking loss, trees of 64 leaves."""


def _write_parquet(data: RankingData, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sizes = np.diff(data.offsets)
    table = {
        "qid": np.repeat(np.arange(data.n_queries), sizes),
        "label": data.y.astype(np.int8),
        "user": np.repeat(np.asarray(data.users), sizes),
        **{name: data.X[:, index] for index, name in enumerate(data.feature_names)},
    }
    half = path.with_name(f"{path.name}.half")
    pq.write_table(pa.table(table), half, compression="zstd")
    half.replace(path)
