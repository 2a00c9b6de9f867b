"""Adapters of the rivals: what they convert a model into, and that each runs the model that it is said to run."""

from __future__ import annotations

import os
import shutil
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensembles import make_ensemble
from prunus.bench.adapters import ENGINES, find_engine, treeproto
from prunus.bench.adapters.onnx_net import arrays_of
from prunus.bench.adapters.regression import as_regression
from prunus.bench.environments import ensure
from prunus.bench.peers import PEERS
from prunus.bench.run import Contestant, compare
from prunus.data.ranking import Schema
from prunus.engine import ensemble_reference, reference
from prunus.engine.file import save
from prunus.engine.int8 import DenseInt8
from prunus.engine.network import Activation, Dense, InputStage, Network, SlotKind
from prunus.errors import PeerError
from test_bench_nets import documents, network_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prunus.engine.ensemble import Ensemble

INT8 = ("onnxruntime-int8-dynamic", "onnxruntime-int8-static", "openvino-int8")
INSTALLED = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++")


def quiet(_: str) -> None:
    """Say nothing."""


@pytest.mark.parametrize("name", ENGINES)
def test_every_adapter_has_its_parts(name: str) -> None:
    """It can be found without its library, names its packages, and the files that it needs are there."""
    adapter = find_engine(name)
    assert adapter.packages
    assert callable(adapter.call)
    folder = Path(treeproto.__file__).parent
    assert all((folder / needed).is_file() for needed in getattr(adapter, "needs", ()))


# treeproto: the format is read back here, by its description


def bytes_of_bins(thresholds: Sequence[np.ndarray], X: np.ndarray) -> np.ndarray:
    """Count the thresholds below each value: uint8 [n_docs, n_features]."""
    columns = [np.searchsorted(found, X[:, f], side="left") for f, found in enumerate(thresholds)]
    return np.stack(columns, axis=1).astype(np.uint8)


def run_treeproto(data: bytes, X: np.ndarray) -> np.ndarray:
    """Score with a model in treeproto's format, a node at a time."""
    at = 0

    def take(dtype: Any, n: int) -> np.ndarray:
        nonlocal at
        found = np.frombuffer(data, dtype, n, at)
        at += found.nbytes
        return found

    n_trees, n_features = struct.unpack_from("<2i", data)
    at = 8
    thresholds = [take("<f4", int(take("<i4", 1)[0])) for _ in range(n_features)]
    bins, scores = bytes_of_bins(thresholds, X), np.zeros(len(X), np.float32)
    for _ in range(n_trees):
        n_nodes, n_leaves = take("<i4", 2)
        nodes, values = take(treeproto.NODE, int(n_nodes)), take("<f4", int(n_leaves))
        rows = np.repeat(np.arange(288)[:, None], len(X), axis=1)
        rows[256:] = -1  # scratch: reading a row that no node wrote would give a leaf that is not there
        for node in nodes:
            byte = np.frombuffer(node["bin"].tobytes(), np.uint8)
            assert (byte == byte[0]).all()
            right = bins[:, node["feature"]] > byte[0]
            rows[node["target"]] = np.where(right, rows[node["right"]], rows[node["left"]])
        leaf = rows[nodes[-1]["target"]]
        assert (leaf >= 0).all()
        scores += values[leaf]
    assert at == len(data)
    return scores


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32),
    shape=st.sampled_from(["balanced", "leafwise", "left chain", "right chain", "zigzag", "random"]),
    sizes=st.lists(st.integers(2, 64), min_size=1, max_size=5),
)
def test_treeproto_holds_the_same_trees(seed: int, shape: str, sizes: list[int]) -> None:
    """Read by the format's description, every tree of every shape gives the twin's scores, on thresholds too."""
    rng = np.random.default_rng(seed)
    ensemble = make_ensemble(rng, sizes, 16, shape=shape)
    own = ensemble.threshold
    pool = np.concatenate([own, np.nextafter(own, np.float32(np.inf)), rng.normal(size=20).astype(np.float32)])
    X = rng.choice(pool, (50, 16)).astype(np.float32)
    found = run_treeproto(treeproto.convert(ensemble), X)
    np.testing.assert_allclose(found, ensemble_reference.score(ensemble, X), rtol=1e-5, atol=1e-5)


def wide(n: int) -> Ensemble:
    """Make one feature with n thresholds."""
    return make_ensemble(np.random.default_rng(0), [n + 1], 16, thresholds=np.arange(10_000))


@pytest.mark.parametrize(
    ("ensemble", "why"),
    [
        (lambda rng: make_ensemble(rng, [8], 16, categorical=1.0), "categorical splits"),
        (lambda rng: make_ensemble(rng, [8], 15), "15 features"),
        (lambda rng: make_ensemble(rng, [8], 16, base=1.0), "base is 1.0"),
        (lambda rng: make_ensemble(rng, [300], 16), "300 leaves"),
        (lambda rng: make_ensemble(rng, [8, 1], 16), "one leaf"),
        (lambda rng: make_ensemble(rng, [64] * 200, 16, thresholds=np.arange(10_000)), "thresholds; a byte counts 255"),
    ],
)
def test_treeproto_refuses_what_its_format_cannot_hold(ensemble, why: str) -> None:
    """Each limit of the format is a reason, not a wrong model."""
    with pytest.raises(ValueError, match=why):
        treeproto.convert(ensemble(np.random.default_rng(1)))


def test_engine_whose_source_is_not_shipped_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without the variable, or with a path that is no file, the reason says what to set."""
    monkeypatch.delenv("PRUNUS_TREEPROTO", raising=False)
    with pytest.raises(PeerError, match="PRUNUS_TREEPROTO is not set"):
        ensure(PEERS["treeproto"], tell=quiet)
    monkeypatch.setenv("PRUNUS_TREEPROTO", str(tmp_path / "no.cpp"))
    with pytest.raises(PeerError, match=r"no\.cpp, which is no file"):
        ensure(PEERS["treeproto"], tell=quiet)


@INSTALLED
def test_missing_header_is_a_reason() -> None:
    """An adapter whose library is not installed says which package to install."""
    from dataclasses import replace

    peer = replace(PEERS["libxsmm"], headers=(("no/such/header.h", "no-such-package"),))
    with pytest.raises(PeerError, match=r"does not find no/such/header\.h.*apt-get install no-such-package"):
        ensure(peer, tell=quiet)


def test_ranker_becomes_a_regression(tmp_path: Path) -> None:
    """Both places that name the objective are changed, and nothing else."""
    text = "tree\nobjective=lambdarank\n\nTree=0\n\nparameters:\n[objective: lambdarank]\n[objective_seed: 1]\n"
    (tmp_path / "m.txt").write_text(text)
    assert as_regression(str(tmp_path / "m.txt")) == text.replace("lambdarank", "regression")


# Networks


def int8_network(seed: int) -> Network:
    """Make a network of one layer of int8 over five plain slots, and a float32 output."""
    rng = np.random.default_rng(seed)
    n = 5
    stage = InputStage(
        np.arange(n), np.zeros(n), rng.normal(size=n), rng.uniform(0.5, 2, n), np.full(n, -3.0), np.full(n, 3.0), np.zeros(n)
    )  # fmt: skip
    hidden = DenseInt8(
        rng.integers(-127, 128, (8, n)).astype(np.int8), rng.uniform(1e-4, 1e-3, 8), rng.normal(size=8), 42.5, 127.5,
        Activation.RELU6,
    )  # fmt: skip
    return Network(n, stage, (hidden, Dense(rng.normal(size=(1, 8)), rng.normal(size=1), Activation.IDENTITY)))


def test_layer_of_int8_is_written_down_as_the_real_layer() -> None:
    """Its zero point is folded back: the float32 copy differs by no more than the rounding of the inputs can make."""
    network = int8_network(3)
    X = documents(4, 200, missing=0.0)
    X = np.clip(X, -3, 3)
    arrays = arrays_of(network, np.zeros(5, bool))
    real = InputStage(*(getattr(network.inputs, name) for name in ("feature", "kind", "center", "scale", "lower", "upper", "fill")))  # fmt: skip
    layers = tuple(
        Dense(arrays[f"weight_{k}"], arrays[f"bias_{k}"], Activation(int(arrays[f"activation_{k}"]))) for k in range(2)
    )
    gap = np.abs(reference.score(Network(5, real, layers), X) - reference.score(network, X))
    hidden = network.layers[0]
    bound = np.abs(hidden.weight.astype(float)).sum(1) * hidden.scale * 0.5  # half a step of each input
    assert gap.max() <= np.abs(layers[1].weight[0]) @ bound
    assert gap.max() > 0


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Save a network that has all kinds of slots, with sparse and dense layers."""
    network = network_of([SlotKind.LOG, SlotKind.VALUE, SlotKind.MISSING, SlotKind.EQUAL], Activation.RELU6, seed=8)
    schema = Schema(tuple(f"f{i}" for i in range(network.n_features)), (True,) * network.n_features)
    save(tmp_path / "m.prunus", network, schema, metadata={})
    return tmp_path / "m.prunus"


def runs(model: Path, engine: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, X: np.ndarray) -> dict[str, Any]:
    """Run one engine for a moment and give its row at the largest batch."""
    monkeypatch.setenv("PRUNUS_CACHE", str(tmp_path / "cache"))
    asked: list[int] = []

    def judge(scores: np.ndarray) -> dict[str, Any]:
        asked.append(len(scores))
        return {"spread": float(np.std(scores))}

    contestants = [Contestant("prunus", model), Contestant(engine, model)]
    found = compare(contestants, X, (1, 7, 65), rounds=3, slice_seconds=0.0, tell=quiet, judge=judge)
    assert found.unavailable == {}
    rows = [row for row in found.rows if row["engine"] == engine]
    assert [row["batch"] for row in rows] == [1, 7, 65]
    assert not any(row.get("wrong") for row in rows), rows
    assert asked == ([len(X)] if engine in INT8 else [])
    return rows[-1]


@pytest.mark.skipif(not Path("/usr/include/libxsmm.h").exists(), reason="libxsmm-dev is not installed")
@INSTALLED
def test_libxsmm_runs_the_network(model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every kind of slot, sparse and dense layers, whole and part tiles of documents."""
    row = runs(model, "libxsmm", monkeypatch, tmp_path, documents(9, 300))
    assert row["max_difference"] < 1e-3


@pytest.mark.parametrize("engine", ["onnxruntime-int8-dynamic", "onnxruntime-int8-static"])
def test_onnx_int8_is_judged_by_its_own_scores(
    engine: str, model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A quantised copy is marked approximate, never wrong, and its own scores are handed to the judge."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    row = runs(model, engine, monkeypatch, tmp_path, documents(9, 300))
    assert row["approximate"]
    assert row["spread"] > 0
    assert row["max_difference"] > 0  # it did quantise


def make_or_skip(engine: str, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """Make the environment of an engine; where its packages cannot be had (no network, say), skip with the reason."""
    if not os.environ.get("PRUNUS_PEERS"):
        pytest.skip("installs up to half a gigabyte for each rival: set PRUNUS_PEERS=1 to run it")
    monkeypatch.setenv("PRUNUS_CACHE", str(cache))
    try:
        ensure(PEERS[engine], tell=quiet)
    except PeerError as error:
        pytest.skip(str(error))


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("engine", ["litert", "openvino", "openvino-int8"])
def test_installed_engine_runs_the_network(
    engine: str, model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In an environment made for it, with every kind of slot."""
    make_or_skip(engine, monkeypatch, tmp_path / "cache")
    row = runs(model, engine, monkeypatch, tmp_path, documents(9, 300))
    assert row["max_difference"] < 1e-3 or row["approximate"]


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("engine", ["onnxruntime-trees", "daal4py"])
def test_installed_engine_runs_the_trees(engine: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In an environment made for it, away from the thresholds, where oneDAL sends documents to the wrong side."""
    from prunus.data.synthetic import generate_ranking
    from prunus.teacher.lambdamart import train_lambdamart

    make_or_skip(engine, monkeypatch, tmp_path / "cache")
    data = generate_ranking(60, 1, n_features=16, missing=0.0)
    train_lambdamart(data, data, n_trees=10, params={"min_data_in_leaf": 5}).save(tmp_path / "t.txt")
    X = np.random.default_rng(0).uniform(0.1, 9.9, (300, 16)).astype(np.float32)
    contestants = [Contestant("lightgbm", tmp_path / "t.txt"), Contestant(engine, tmp_path / "t.txt")]
    found = compare(contestants, X, (1, 65), rounds=3, slice_seconds=0.0, tell=quiet)
    assert found.unavailable == {}
    assert not any(row.get("wrong") for row in found.rows), found.rows
