"""The student: its input stage, its layers, and the same scores in torch, the twin and the engine."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prunus import _native
from prunus.compiler import compile_layers
from prunus.data.ranking import RankingData, Schema
from prunus.data.synthetic import generate_ranking
from prunus.engine import reference
from prunus.engine.network import Activation, Dense, SlotKind, Sparse
from prunus.engine.scorer import RankScorer
from prunus.errors import DataError
from prunus.student.inputs import learn_inputs
from prunus.student.mlp import MLP, LayerArrays, StagedInputs


def pruned(n_inputs: int, widths: tuple[int, ...], density: float, seed: int) -> MLP:
    """Make a student with random masks."""
    model = MLP(n_inputs, widths, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    for mask in model.masks[:-1]:
        mask.copy_((torch.rand(mask.shape, generator=generator) < density).float())
    return model


class TestInputs:
    """What each feature becomes."""

    def data(self, **columns: np.ndarray) -> RankingData:
        """Make one query a document."""
        X = np.stack(list(columns.values()), axis=1).astype(np.float32)
        n = len(X)
        return RankingData(X, np.zeros(n, np.float32), np.arange(n + 1), tuple(columns))

    def test_kinds(self) -> None:
        """Heavy tails are read through log1p, even spreads as they are, constants not at all."""
        rng = np.random.default_rng(0)
        data = self.data(tail=np.exp(3 * rng.normal(size=5000)), even=rng.random(5000), constant=np.ones(5000))
        stage, _ = learn_inputs(data)
        assert stage.feature.tolist() == [0, 1]
        assert stage.kind.tolist() == [SlotKind.LOG, SlotKind.VALUE]

    def test_slots_are_standardised(self) -> None:
        """Over the training documents each numeric slot has mean 0 and deviation 1, but for the clamp."""
        data = generate_ranking(200, seed=1)
        stage, _ = learn_inputs(data)
        z = StagedInputs(stage)(torch.from_numpy(data.X)).numpy()
        numeric = np.isin(stage.kind, [SlotKind.VALUE, SlotKind.LOG]) & ~np.isnan(data.X[:, stage.feature]).any(0)
        assert np.abs(z[:, numeric].mean(0)).max() < 0.1
        assert np.abs(z[:, numeric].std(0) - 1).max() < 0.2

    def test_missing_values(self) -> None:
        """A feature that lacked values gets an indicator and may lack them again; the others may not, unless told."""
        rng = np.random.default_rng(0)
        holes = np.where(rng.random(500) < 0.2, np.nan, rng.normal(size=500))
        data = self.data(a=holes, b=rng.normal(size=500))
        stage, schema = learn_inputs(data)
        assert stage.feature.tolist() == [0, 0, 1]
        assert SlotKind.MISSING in stage.kind.tolist()
        assert schema.allow_missing == (True, False)
        assert learn_inputs(data, missing="allow")[1].allow_missing == (True, True)

    def test_categories(self) -> None:
        """A categorical feature has a slot for each category."""
        codes = np.random.default_rng(0).integers(0, 5, 300)
        stage, _ = learn_inputs(self.data(c=codes.astype(float)), categories={0: np.arange(5, dtype=np.float32)})
        assert stage.center.tolist() == [0, 1, 2, 3, 4]
        assert (stage.kind == SlotKind.EQUAL).all()

    def test_infinities_and_constants_are_refused(self) -> None:
        """An infinity is named; so is a set in which nothing varies."""
        with pytest.raises(DataError, match="'a' holds an infinity"):
            learn_inputs(self.data(a=np.array([1.0, np.inf, 2.0])))
        with pytest.raises(DataError, match="every feature is constant"):
            learn_inputs(self.data(a=np.ones(4)))


class TestParity:
    """One student, three ways to run it."""

    @settings(max_examples=25)
    @given(seed=st.integers(0, 10_000), density=st.sampled_from([0.02, 0.3, 1.0]), depth=st.integers(1, 3))
    def test_torch_twin_and_engine_agree(self, seed: int, density: float, depth: int) -> None:
        """Scores agree within 1e-4 x max(1, |score|) on every instruction set that this CPU has."""
        data = generate_ranking(6, seed=seed, missing=0.1)
        stage, schema = learn_inputs(data)
        model = pruned(stage.n_slots, (24, 17, 9)[:depth], density, seed)
        network = compile_layers(data.n_features, stage, model.layers(scale=3.0, shift=-1.0))
        with torch.no_grad():
            expected = model(StagedInputs(stage)(torch.from_numpy(data.X))).numpy() * 3.0 - 1.0
        tolerance = 1e-4 * np.maximum(1, np.abs(expected))
        assert (np.abs(reference.score(network, data.X) - expected) <= tolerance).all()
        for isa in _native.isas():
            scores = RankScorer(network, schema, isa=isa).score(data.X)
            assert (np.abs(scores - expected) <= tolerance).all(), isa

    def test_kernels_follow_density(self) -> None:
        """A layer with few weights left runs sparse, a full one dense."""
        data = generate_ranking(6, seed=0)
        stage, _ = learn_inputs(data)
        sparse = compile_layers(data.n_features, stage, pruned(stage.n_slots, (32, 16), 0.1, 0).layers())
        dense = compile_layers(data.n_features, stage, MLP(stage.n_slots, (32, 16), seed=0).layers())
        assert isinstance(sparse.layers[0], Sparse)
        assert all(isinstance(layer, Dense) for layer in dense.layers)

    def test_a_unit_that_reads_nothing_is_a_constant(self) -> None:
        """It moves into the next bias, however far out its own bias lies: no activation overflows on the way."""
        data = generate_ranking(6, seed=3)
        stage, _ = learn_inputs(data)
        rng = np.random.default_rng(0)
        for activation, bias, constant in ((Activation.SIGMOID, -1000.0, 0.0), (Activation.RELU6, 7.0, 6.0)):
            first = rng.normal(size=(3, stage.n_slots)).astype(np.float32)
            first[1] = 0
            last = rng.normal(size=(1, 3)).astype(np.float32)
            layers = [
                LayerArrays(first, np.array([0.1, bias, 0.2], np.float32), activation),
                LayerArrays(last, np.zeros(1, np.float32), Activation.IDENTITY),
            ]
            network = compile_layers(data.n_features, stage, layers)
            assert [layer.n_outputs for layer in network.layers] == [2, 1]
            assert network.layers[1].bias == pytest.approx(last[0, 1] * constant)

    def test_pruned_features_are_never_read(self) -> None:
        """A feature whose weights are gone may hold anything, and the narrow scorer gives the same scores."""
        data = generate_ranking(6, seed=2, missing=0.0)
        stage, schema = learn_inputs(data)
        model = MLP(stage.n_slots, (8,), seed=0)
        model.masks[0][:, :5] = 0
        network = compile_layers(data.n_features, stage, model.layers())
        scorer = RankScorer(network, Schema(schema.feature_names))
        unread = [f for f in range(data.n_features) if f not in network.features_read]
        assert unread
        X = data.X.copy()
        X[:, unread] = np.nan
        np.testing.assert_array_equal(scorer.score(X), scorer.score(data.X))
        read = network.features_read
        np.testing.assert_allclose(scorer.narrow().score(data.X[:, read]), scorer.score(data.X), rtol=1e-6, atol=1e-6)

    def test_same_seed_same_student(self) -> None:
        """First weights follow from the seed."""
        a, b, c = (MLP(5, (4,), seed=s).layers()[0].weight for s in (1, 1, 2))
        assert (a == b).all()
        assert (a != c).any()
