"""Whole inputs that are taken from a student: what an input is worth, and in what order they go."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from prunus.distill.loop import Loop, LoopSettings, TrainingSet  # noqa: E402 - torch may be missing
from prunus.distill.losses import LossMix  # noqa: E402
from prunus.prune.inputs import InputElimination, input_saliency  # noqa: E402
from prunus.student.mlp import MLP  # noqa: E402

N_INPUTS = 8


def documents(n: int = 3000) -> torch.Tensor:
    """Draw inputs of different means and spreads."""
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.normal(rng.normal(size=N_INPUTS), 0.5 + rng.random(N_INPUTS), (n, N_INPUTS))).float()


def linear(weights: np.ndarray) -> MLP:
    """Make a student that is a linear function of its inputs: one unit that stays between the ends of ReLU6."""
    model = MLP(len(weights), (1,), seed=0)
    with torch.no_grad():
        model.linears[0].weight.copy_(torch.from_numpy(weights)[None] * 0.01)
        model.linears[0].bias.fill_(3.0)
        model.linears[1].weight.fill_(100.0)
    return model


def test_saliency_of_a_linear_student_is_its_weight_squared_times_the_variance() -> None:
    """Holding input j at its mean changes the score by w_j (z_j - m_j), so the squared error rises by w_j^2 var(z_j)."""
    z, weights = documents(), np.linspace(-2, 2, N_INPUTS).astype(np.float32)
    expected = 0.5 * weights**2 * z.double().var(0).numpy()
    np.testing.assert_allclose(input_saliency(linear(weights), z, seed=1), expected, rtol=0.06)


def eliminate(weights: np.ndarray, price: np.ndarray) -> InputElimination:
    """Take the inputs from a student that learns a linear teacher of these weights."""
    z = documents()
    z = (z - z.mean(0)) / z.std(0)
    teacher = z @ torch.from_numpy(weights.astype(np.float32))
    nothing = torch.empty((0, N_INPUTS)), torch.empty(0)
    data = TrainingSet(z, teacher / teacher.std(), torch.zeros(len(z)), np.arange(0, len(z) + 1, 10), *nothing)
    loop = Loop(MLP(N_INPUTS, (8,), seed=0), data, LoopSettings(12, 100, mix=LossMix(1, 0, 0)), validate=lambda _: 0.0)
    gone = InputElimination(loop.total_steps // 5, loop.total_steps - 1, price)
    loop.callbacks = [gone]
    model = loop.run()
    assert int(model.masks[0].any(0).sum()) == 1
    return gone


def test_the_most_important_input_is_left_last() -> None:
    """The larger half of a linear teacher's weights comes back as the order of importance; every input stands in it once."""
    weights = np.random.default_rng(3).permutation(1.5 ** np.arange(N_INPUTS))
    importance = eliminate(weights, np.ones(N_INPUTS)).importance
    assert sorted(importance) == list(range(N_INPUTS))
    assert importance[: N_INPUTS // 2] == np.argsort(-weights)[: N_INPUTS // 2].tolist()


def test_of_two_inputs_alike_the_dearer_goes_first() -> None:
    """Equal weights: prices decide."""
    price = np.random.default_rng(4).permutation(4.0 ** np.arange(N_INPUTS))
    assert eliminate(np.ones(N_INPUTS), price).importance == np.argsort(price).tolist()
