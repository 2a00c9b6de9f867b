"""Students that run as int8: the rounding, what crosses the border, the compiled network and the law of parity."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prunus.compiler_int8 import compile_int8
from prunus.compress.parity import movement, stage_margin
from prunus.data.synthetic import generate_ranking
from prunus.distill.loop import Loop, LoopSettings, TrainingSet
from prunus.distill.quantising import Quantising
from prunus.engine import reference
from prunus.engine.network import Activation, BlockInt8, Dense, DenseInt8, InputStage, SlotKind
from prunus.student.inputs import learn_inputs
from prunus.student.mlp import MLP, LayerArrays, StagedInputs
from prunus.student.quantise import LARGEST, STEPS, Int8Arrays, QuantisedMLP, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prunus.data.ranking import RankingData

FIRSTS = ("int8", "f32")


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Small products on two threads of a busy machine wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data() -> RankingData:
    """Generate documents with missing values."""
    return generate_ranking(80, seed=3, missing=0.1)


def student(
    data: RankingData, widths: tuple[int, ...], *, seed: int, first: str = "int8", density: float | None = None
) -> tuple[QuantisedMLP, InputStage, torch.Tensor]:
    """Draw a calibrated student in evaluation mode; with a density, one of blocks of which that share stands."""
    inputs, _ = learn_inputs(data)
    model = QuantisedMLP(inputs, widths, seed=seed, first=first, blocks=density is not None)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(seed)
    if density is not None:
        for number, mask in enumerate(model.masks[:-1]):
            grain = 4 if model.int8[number] else 1
            kept = torch.rand(mask.shape[0], -(-mask.shape[1] // grain), generator=generator) < density
            mask.copy_(kept.repeat_interleave(grain, dim=1)[:, : mask.shape[1]].float())
    z = StagedInputs(inputs)(torch.from_numpy(data.X))
    model.calibrate(z)
    return model.eval(), inputs, z


def scores_of(model: torch.nn.Module, z: torch.Tensor) -> np.ndarray:
    """Score without gradients."""
    with torch.no_grad():
        return np.asarray(model(z).numpy())


class TestRounding:
    """Bytes and int8 weights."""

    def test_is_a_plain_student_until_calibrated(self, data: RankingData) -> None:
        """The same seed gives the same first weights and scores as a float32 student."""
        inputs, _ = learn_inputs(data)
        z = StagedInputs(inputs)(torch.from_numpy(data.X))
        plain, quantised = MLP(inputs.n_slots, (9, 5), seed=4), QuantisedMLP(inputs, (9, 5), seed=4)
        np.testing.assert_array_equal(scores_of(quantised.eval(), z), scores_of(plain.eval(), z))
        assert all(isinstance(layer, LayerArrays) for layer in quantised.layers())

    @settings(max_examples=20, deadline=None)
    @given(seed=st.integers(0, 1000), first=st.sampled_from(FIRSTS))
    def test_weights_stay_in_range_and_reach_it(self, data: RankingData, seed: int, first: str) -> None:
        """Integers lie in -127..127 and each row with a weight uses the end of the range."""
        model, _, _ = student(data, (7, 6), seed=seed, first=first, density=0.5)
        for layer in model.layers():
            if isinstance(layer, Int8Arrays):
                largest = np.abs(layer.weight.astype(int)).max(axis=1)
                assert ((largest == LARGEST) | (largest == 0)).all()

    def test_ranges_hold_what_was_seen(self, data: RankingData) -> None:
        """No document of the calibration is cut, and indicators keep 0 and 1."""
        model, inputs, z = student(data, (12, 6), seed=0)
        assert (z >= model.lower).all()
        assert (z <= model.upper).all()
        indicator = np.isin(inputs.kind, [SlotKind.MISSING, SlotKind.EQUAL])
        assert indicator.any()
        assert (model.lower[indicator] == 0).all()
        assert (model.upper[indicator] == 1).all()

    @pytest.mark.parametrize("first", FIRSTS)
    def test_the_error_is_small(self, data: RankingData, first: str) -> None:
        """Rounding to 8 bits moves the scores of an untrained student by a few per cent of their spread at most."""
        model, inputs, z = student(data, (32, 16), seed=1, first=first)
        plain = MLP(inputs.n_slots, (32, 16), seed=1).eval()
        before, after = scores_of(plain, z), scores_of(model, z)
        assert 0 < np.std(before - after) < 0.05 * np.std(before)

    @pytest.mark.parametrize("first", FIRSTS)
    def test_training_sees_the_rounding_that_evaluation_does(self, data: RankingData, first: str) -> None:
        """In float32 and in integers the same scores, but for inputs that lie on a boundary."""
        model, _, z = student(data, (24, 12), seed=2, first=first, density=0.5)
        exact = scores_of(model, z)
        rounded = scores_of(model.train(), z)
        assert np.mean(np.abs(exact - rounded) < 1e-4) > 0.98

    def test_gradients_pass_where_the_input_is_in_range(self, data: RankingData) -> None:
        """Straight through: weights of every layer get a gradient, and an input beyond its range passes none."""
        model, _, z = student(data, (8, 4), seed=0)
        model.train()(z).sum().backward()
        for layer in model.linears:
            assert layer.weight.grad is not None
            assert layer.weight.grad.abs().sum() > 0
        far = (model.upper + 10 * (model.upper - model.lower)).repeat(3, 1).requires_grad_()
        model(far).sum().backward()
        assert far.grad is not None
        assert (far.grad == 0).all()

    def test_needs_an_int8_layer(self, data: RankingData) -> None:
        """One hidden layer that stays float32 leaves nothing to quantise."""
        with pytest.raises(ValueError, match="expected some layer but the last in int8"):
            QuantisedMLP(learn_inputs(data)[0], (8,), seed=0, first="f32")


class TestBorder:
    """The arrays are the student: torch on arrays, the compiled network in the twin."""

    @settings(max_examples=25, deadline=None)
    @given(
        seed=st.integers(0, 10_000),
        first=st.sampled_from(FIRSTS),
        density=st.sampled_from([None, 0.05, 0.4, 1.0]),
        widths=st.sampled_from([(24, 12), (30, 17, 9), (5, 3)]),
    )
    def test_compiled_is_the_student(
        self, data: RankingData, seed: int, first: str, density: float | None, widths: tuple[int, ...]
    ) -> None:
        """The twin's scores of the compiled network keep the law of parity, document by document."""
        model, inputs, _ = student(data, widths, seed=seed, first=first, density=density)
        stage, layers = model.stage(inputs), model.layers(scale=3.0, shift=-1.0)
        network = compile_int8(data.n_features, stage, layers)
        u = StagedInputs(stage)(torch.from_numpy(data.X))
        expected = run(layers, u).numpy()
        bound = movement(layers, u, torch.from_numpy(stage_margin(stage, layers[0]))).numpy()
        difference = np.abs(reference.score(network, data.X) - expected)
        assert (difference <= 1e-4 * np.maximum(1, np.abs(expected)) + bound).all()
        assert np.mean(bound == 0) > 0.1  # the law is not empty: many documents have no slack at all

    def test_shares_are_the_stage(self, data: RankingData) -> None:
        """Staging raw features with the student's stage gives the shares of ranges of the original stage's inputs."""
        model, inputs, z = student(data, (6, 4), seed=0)
        u = StagedInputs(model.stage(inputs))(torch.from_numpy(data.X))
        torch.testing.assert_close(u, model.shares(z), rtol=1e-4, atol=1e-5)
        assert (u >= 0).all()
        assert (u <= 1).all()

    def test_kinds_of_layer(self, data: RankingData) -> None:
        """Dense where little was pruned, by blocks where much was, float32 where it was told and at the end."""
        cases: tuple[tuple[str, float | None, list[type]], ...] = (
            ("int8", None, [DenseInt8, DenseInt8, Dense]),
            ("f32", None, [Dense, DenseInt8, Dense]),
            ("int8", 0.3, [BlockInt8, BlockInt8, Dense]),
        )
        for first, density, expected in cases:
            model, inputs, _ = student(data, (32, 16), seed=1, first=first, density=density)
            network = compile_int8(data.n_features, model.stage(inputs), model.layers())
            assert [type(layer) for layer in network.layers] == expected

    def test_dead_parts_go_and_blocks_stay_in_place(self) -> None:
        """Four dead neighbours go together, one alone stays as an empty row; constants move into the next bias."""
        rng = np.random.default_rng(0)
        ones = np.ones(8, np.float32)
        inputs = InputStage(np.arange(8), np.zeros(8), 0 * ones, ones, 0 * ones, ones, 0 * ones)
        first, second = rng.integers(1, 127, (12, 8)), rng.integers(-127, 0, (4, 12))
        first[:, 4:] = 0  # inputs 4 to 7 are read by nobody
        first[1] = 0  # unit 1 is a constant, its neighbours live
        second[:, 4:8] = 0  # nobody reads units 4 to 7
        last = LayerArrays(rng.normal(size=(1, 4)).astype(np.float32), np.ones(1, np.float32), Activation.IDENTITY)

        def layer(weight: np.ndarray, input_scale: float) -> Int8Arrays:
            n = len(weight)
            bias = np.linspace(2.0, 3.0, n).astype(np.float32)
            scale = np.full(n, 1e-5, np.float32)
            return Int8Arrays(weight.astype(np.int8), scale, bias, input_scale, Activation.RELU6, blocks=True)

        layers = [layer(first, 255.0), layer(second, 42.5), last]
        network = compile_int8(8, inputs, layers)
        X = rng.random((50, 8)).astype(np.float32)
        np.testing.assert_allclose(
            reference.score(network, X), run(layers, torch.from_numpy(X)).numpy(), rtol=1e-5, atol=1e-5
        )
        assert network.inputs.feature.tolist() == [0, 1, 2, 3]
        assert [(x.n_inputs, x.n_outputs) for x in network.layers] == [(4, 8), (8, 4), (4, 1)]
        blocks = network.layers[0]
        assert isinstance(blocks, DenseInt8 | BlockInt8)
        assert not blocks.steps()[1].any()

    def test_sums_past_2_to_24_stay_exact(self) -> None:
        """A float32 could not hold the sum of 2,000 of the largest products; the run must."""
        weight = np.full((1, 2000), 127, np.int8)
        weight[0, 0] = 126
        layer = Int8Arrays(
            weight, np.ones(1, np.float32), np.zeros(1, np.float32), 255.0, Activation.IDENTITY, blocks=False
        )
        total = run([layer], torch.ones(1, 2000))
        assert total.item() == float(np.float32(STEPS * (2000 * 127 - 1)))


class TestMovement:
    """The bound that the law allows."""

    @settings(max_examples=40, deadline=None)
    @given(seed=st.integers(0, 10_000), first=st.sampled_from(FIRSTS))
    def test_holds_every_nudge_of_the_inputs(self, data: RankingData, seed: int, first: str) -> None:
        """Inputs moved inside the margin never move a score by more than the bound; far from boundaries, not at all."""
        model, inputs, z = student(data, (16, 8), seed=seed, first=first)
        layers = model.layers()
        u = model.shares(z)
        margin = torch.full((inputs.n_slots,), 0.02) if first == "int8" else torch.zeros(inputs.n_slots)
        bound = movement(layers, u, margin).numpy()
        generator = torch.Generator().manual_seed(seed)
        nudge = (2 * torch.rand(u.shape, generator=generator) - 1) * margin * 0.98 / STEPS
        nudged = (u + nudge).clamp(0, 1) if first == "int8" else u
        moved = np.abs(run(layers, nudged).numpy() - run(layers, u).numpy())
        assert (moved <= bound + 1e-5).all()
        if first == "int8":
            assert (moved > 0).any()


@pytest.mark.parametrize("first", FIRSTS)
def test_quantising_while_training(tmp_path: Path, first: str) -> None:
    """The student learns with rounding in place, ends as int8 near its float32 twin, and resumes to the bit."""
    data = generate_ranking(60, seed=1)
    inputs, _ = learn_inputs(data)
    z = StagedInputs(inputs)(torch.from_numpy(data.X))
    target = z[:, 0].clamp(-1, 1) + torch.abs(z[:, 3])
    target = (target - target.mean()) / target.std()
    lesson = TrainingSet(z, target, torch.from_numpy(data.y), data.offsets, z[:0], target[:0])

    def loop(name: str) -> Loop:
        model = QuantisedMLP(inputs, (16, 8), seed=0, first=first)  # type: ignore[arg-type]
        made = Loop(
            model, lesson, LoopSettings(4, 256, 0.0, 8e-3),
            validate=lambda m: -float(np.mean((scores_of(m, z) - target.numpy()) ** 2)), checkpoint=tmp_path / name,
        )  # fmt: skip
        made.callbacks = [Quantising(made.total_steps // 2)]
        return made

    whole = loop("a.pt")
    best = whole.run()
    assert isinstance(best, QuantisedMLP)
    assert bool(best.active)
    plain, rounded = whole.history[1]["valid"], whole.history[-1]["valid"]
    assert rounded > 1.02 * plain  # minus a mean squared error: nearer 0 than before the rounding, for it learned on
    cut = loop("b.pt")
    cut.settings = whole.settings
    stop_after = cut._run_epoch
    epochs = iter(range(3))

    def interrupted() -> float:
        if next(epochs, None) == 2:
            raise KeyboardInterrupt
        return stop_after()

    cut._run_epoch = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        cut.run()
    again = loop("b.pt").run()
    for a, b in zip(best.layers(), again.layers(), strict=True):
        np.testing.assert_array_equal(a.weight, b.weight)
        np.testing.assert_array_equal(a.bias, b.bias)


def test_quantising_refuses_a_plain_student() -> None:
    """A float32 student cannot be calibrated; the error names what is needed."""
    data = generate_ranking(4, seed=0)
    z = torch.zeros(data.n_docs, 3)
    lesson = TrainingSet(z, z[:, 0], torch.from_numpy(data.y), data.offsets, z[:0], z[:0, 0])
    loop = Loop(MLP(3, (4,), seed=0), lesson, LoopSettings(1, 10_000), validate=lambda _: 0.0)
    loop.callbacks = [Quantising(0)]
    with pytest.raises(TypeError, match="expected a QuantisedMLP"):
        loop.run()
