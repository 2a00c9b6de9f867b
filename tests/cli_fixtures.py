"""What the tests of the command are run on: a measured CPU, generated data with a teacher, and a small model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from cli_tools import N_FEATURES, World, run, write_parquet

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Measure this CPU once, briefly, into a cache that belongs to the tests."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRUNUS_CACHE", str(folder))
        done = run("rank", "calibrate", "--seconds", "1", "--json")
        assert done.json()["files"]["time_model"].startswith(str(folder))
        yield folder


@pytest.fixture
def short_jobs(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time in one round, and choose masks by few documents' curvatures: no test looks at how long or how well.

    Curvatures of 4096 documents are most of a training on the few hundred documents of the tests.
    """
    monkeypatch.setattr("prunus.bench.run.ROUNDS", 1)
    monkeypatch.setattr("prunus.prune.gradual.DOCUMENTS", 256)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Generate data, and train a small teacher on them."""
    from prunus.data.synthetic import generate_ranking
    from prunus.teacher.lambdamart import train_lambdamart

    folder = tmp_path_factory.mktemp("world")
    sizes = {"train": 60, "valid": 30, "test": 60}
    parts = {
        name: generate_ranking(n, seed, n_features=N_FEATURES, docs_per_query=(5, 15))
        for seed, (name, n) in enumerate(sizes.items())
    }
    for name, data in parts.items():
        write_parquet(folder / f"{name}.parquet", data)
    params = {"num_leaves": 8, "min_data_in_leaf": 10, "num_threads": 1}
    train_lambdamart(parts["train"], parts["valid"], params=params, n_trees=6).save(folder / "teacher.txt")
    return World(folder, parts["test"])


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory, world: World) -> Path:
    """Write a model of the world's features: random weights, and the last two features are not read."""
    from prunus.data.reading import read_ranking
    from prunus.data.select import Columns
    from prunus.engine import file
    from prunus.engine.network import Activation, Dense, InputStage, Network, Sparse
    from prunus.student.inputs import learn_inputs

    train = read_ranking(world["train.parquet"], Columns(ignore=("user", "part")))
    stage, schema = learn_inputs(train)
    kept = stage.feature < N_FEATURES - 2
    parts = ("feature", "kind", "center", "scale", "lower", "upper", "fill")
    inputs = InputStage(*(getattr(stage, part)[kept] for part in parts))
    rng = np.random.default_rng(0)
    first = rng.normal(size=(8, inputs.n_slots)).astype(np.float32)
    second = rng.normal(size=(1, 8)).astype(np.float32)
    second[0, ::2] = 0
    layers = (
        Dense(first, np.zeros(8, np.float32), Activation.RELU6),
        Sparse.from_dense(second, np.zeros(1, np.float32), Activation.IDENTITY),
    )
    path = tmp_path_factory.mktemp("model") / "m.prunus"
    file.save(path, Network(N_FEATURES, inputs, layers), schema, metadata={"made_by": "the tests"})
    return path
