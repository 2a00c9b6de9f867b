"""The rivals' copies of a network, ONNX and PyTorch, against the NumPy twin: same network, or the race is not fair."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunus.bench.adapters.onnx_net import arrays_of, build
from prunus.engine.network import Activation, Dense, InputStage, Network, SlotKind, Sparse
from prunus.engine.reference import score

if TYPE_CHECKING:
    from collections.abc import Sequence

KINDS = [(kind,) for kind in SlotKind] + [tuple(SlotKind), (SlotKind.LOG, SlotKind.MISSING)]


def network_of(
    kinds: Sequence[SlotKind],
    activation: Activation,
    seed: int,
    *,
    last: Activation = Activation.IDENTITY,
    one_bound: bool = False,
) -> Network:
    """Make a network of 5 features whose slots are of these kinds, with one sparse and one dense hidden layer."""
    rng = np.random.default_rng(seed)
    n_slots = 7
    kind = np.array([kinds[i % len(kinds)] for i in range(n_slots)])
    inputs = InputStage(
        np.sort(rng.integers(0, 5, n_slots)),
        kind,
        np.where(kind == SlotKind.EQUAL, rng.integers(-1, 2, n_slots), rng.normal(size=n_slots)).astype(np.float32),
        rng.uniform(0.3, 2.0, n_slots).astype(np.float32),
        np.full(n_slots, -1.5, np.float32) if one_bound else rng.uniform(-3, -1, n_slots).astype(np.float32),
        np.full(n_slots, 1.5, np.float32) if one_bound else rng.uniform(1, 3, n_slots).astype(np.float32),
        rng.normal(size=n_slots).astype(np.float32),
    )
    first = rng.normal(size=(6, n_slots)) * (rng.random((6, n_slots)) < 0.5)
    layers = (
        Sparse.from_dense(first.astype(np.float32), rng.normal(size=6).astype(np.float32), activation),
        Dense(rng.normal(size=(4, 6)).astype(np.float32), rng.normal(size=4).astype(np.float32), activation),
        Dense(rng.normal(size=(1, 4)).astype(np.float32), rng.normal(size=1).astype(np.float32), last),
    )
    return Network(5, inputs, layers)


def documents(seed: int, n: int = 60, *, missing: float = 0.2) -> np.ndarray:
    """Rows with heavy tails, small integers (which the slots of kind EQUAL look for) and missing values."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 5)) * 10.0 ** rng.integers(-6, 7, (n, 5))
    X = np.where(rng.random((n, 5)) < 0.3, rng.integers(-1, 2, (n, 5)), X)
    X[rng.random((n, 5)) < missing] = np.nan
    return X.astype(np.float32)


def in_onnx(network: Network, X: np.ndarray, allow_missing: np.ndarray | None = None) -> np.ndarray:
    """Score with ONNX Runtime."""
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        build(arrays_of(network, allow_missing)), options, providers=["CPUExecutionProvider"]
    )
    return session.run(["score"], {"X": X})[0][:, 0]


def in_torch(network: Network, X: np.ndarray, allow_missing: np.ndarray | None = None) -> np.ndarray:
    """Score with PyTorch."""
    torch = pytest.importorskip("torch")
    from prunus.bench.adapters import torch_net

    with torch.inference_mode():
        return torch_net.build(arrays_of(network, allow_missing))(torch.from_numpy(X)).numpy()[:, 0]


ENGINES = pytest.mark.parametrize("engine", [in_onnx, in_torch])


@ENGINES
@pytest.mark.parametrize("activation", list(Activation), ids=lambda a: a.name)
@pytest.mark.parametrize("kinds", KINDS, ids=lambda kinds: "+".join(k.name for k in kinds))
def test_same_scores_as_the_twin(engine, kinds: tuple[SlotKind, ...], activation: Activation) -> None:
    """Every kind of slot, alone and mixed, with every activation."""
    network, X = network_of(kinds, activation, seed=1), documents(2)
    np.testing.assert_allclose(engine(network, X), score(network, X), rtol=1e-4, atol=1e-4)


@ENGINES
@given(seed=st.integers(0, 2**31), activation=st.sampled_from(Activation))
def test_same_scores_for_any_network(engine, seed: int, activation: Activation) -> None:
    """Random stages, weights and rows."""
    rng = np.random.default_rng(seed)
    network = network_of([SlotKind(int(k)) for k in rng.integers(0, 4, 7)], activation, seed, one_bound=bool(seed % 2))
    X = documents(seed, 9)
    np.testing.assert_allclose(engine(network, X), score(network, X), rtol=1e-4, atol=1e-4)


@ENGINES
@pytest.mark.parametrize("last", list(Activation), ids=lambda a: a.name)
def test_last_layer_has_its_activation(engine, last: Activation) -> None:
    """The score itself goes through the last layer's activation."""
    network, X = network_of([SlotKind.LOG], Activation.RELU6, seed=3, last=last), documents(4)
    np.testing.assert_allclose(engine(network, X), score(network, X), rtol=1e-4, atol=1e-4)


@ENGINES
def test_no_test_for_missing_values_where_there_are_none(engine) -> None:
    """Rows without NaN score the same when the copy may assume that there is none."""
    network, X = network_of([SlotKind.VALUE, SlotKind.LOG], Activation.RELU, seed=5), documents(6, missing=0.0)
    np.testing.assert_allclose(engine(network, X, np.zeros(5, bool)), score(network, X), rtol=1e-4, atol=1e-4)


def test_graph_charges_only_for_what_is_needed() -> None:
    """No logarithm without a LOG slot, no Where without missing values, no Gather where all columns are read."""
    onnx = pytest.importorskip("onnx")

    def operators(network: Network, allow_missing: np.ndarray | None) -> set[str]:
        model = onnx.load_model_from_string(build(arrays_of(network, allow_missing)))
        return {node.op_type for node in model.graph.node}

    plain = network_of([SlotKind.VALUE], Activation.RELU, seed=7)
    assert operators(plain, None) >= {"Gather", "Where", "IsNaN"}
    assert operators(plain, np.zeros(5, bool)).isdisjoint({"Log", "Where", "IsNaN"})
    n = 5
    ones = np.ones(n, np.float32)
    stage = InputStage(np.arange(n), np.zeros(n), 0 * ones, ones, -ones, ones, 0 * ones)
    whole = Network(n, stage, (Dense(ones[None], ones[:1], Activation.IDENTITY),))
    assert operators(whole, np.zeros(n, bool)) == {"Sub", "Mul", "Clip", "Gemm"}
