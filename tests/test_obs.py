"""Optimal brain surgeon: exact where that can be checked by force, never above magnitude, and within its budget."""

from __future__ import annotations

import itertools

import pytest
import torch

from prunus.prune.obs import Moments, damped, emit, emit_units, error, least_squares

SIZES = ((12, 20), (8, 12), (5, 8))
"""(outputs, inputs) of the layers of a small net."""


def observed(n_outputs: int, n_inputs: int, seed: int = 0, n: int = 400) -> tuple[Moments, torch.Tensor]:
    """Moments of one batch of correlated inputs, and these inputs with a one appended."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(n_inputs, n_inputs, generator=generator)
    x = torch.relu(torch.randn(n, n_inputs, generator=generator) @ mix)
    derivative = torch.randn(n, n_outputs, generator=generator) * torch.rand(n_outputs, generator=generator)
    moments = Moments.zeros(n_outputs, n_inputs)
    moments.observe(x, derivative, 1.0)
    return moments, torch.nn.functional.pad(x, (0, 1), value=1.0).double()


def net(seed: int = 0) -> tuple[list[tuple[torch.Tensor, torch.Tensor]], list[Moments]]:
    """Draw layers, and moments of each."""
    generator = torch.Generator().manual_seed(seed)
    layers = [(torch.randn(a, b, generator=generator), torch.randn(a, generator=generator)) for a, b in SIZES]
    return layers, [observed(a, b, seed + number)[0] for number, (a, b) in enumerate(SIZES)]


def test_moments_forget() -> None:
    """Running means of x x' and of squared derivatives, each batch at the weight of its age."""
    generator = torch.Generator().manual_seed(0)
    moments = Moments.zeros(3, 2)
    inputs, outputs, weight = torch.zeros(3, 3), torch.zeros(3), 0.0
    for _ in range(4):
        x, d = torch.randn(50, 2, generator=generator), torch.randn(50, 3, generator=generator)
        moments.observe(x, d, 0.3)
        one = torch.cat([x, torch.ones(50, 1)], 1)
        inputs, outputs = 0.7 * inputs + 0.3 * one.T @ one / 50, 0.7 * outputs + 0.3 * (d**2).mean(0)
        weight = 0.7 * weight + 0.3
    torch.testing.assert_close(moments.inputs, inputs)
    torch.testing.assert_close(moments.outputs, outputs)
    assert moments.weight == pytest.approx(weight)


def test_error_is_that_of_the_outputs() -> None:
    """The quadratic form is the mean squared error over the events that H was made of."""
    moments, x = observed(4, 6)
    change = torch.randn(4, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = (x @ change.T).square().mean(dim=0)
    torch.testing.assert_close(error(change, moments.inputs.double()), expected, rtol=1e-4, atol=1e-6)


def test_least_squares_against_a_solver() -> None:
    """On any support, weights are those of a least squares solver that is given the events; one row keeps nothing."""
    moments, x = observed(5, 6)
    h = moments.inputs.double()
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(5, 7, dtype=torch.float64, generator=generator)
    kept = torch.rand(5, 7, generator=generator) < 0.6
    kept[3] = False
    fitted, _ = least_squares(weight, kept, h)
    assert not fitted[~kept].any()
    for row, support in enumerate(kept):
        if support.any():
            expected = torch.linalg.lstsq(x[:, support], x @ weight[row]).solution
            torch.testing.assert_close(fitted[row, support], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("everything", [True, False])
def test_prices_are_what_removal_costs(everything: bool) -> None:
    """The price of each weight is by how much the error rises when it goes and the rest is fitted anew."""
    h = damped(observed(3, 6)[0])
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(3, 7, dtype=torch.float64, generator=generator)
    kept = torch.ones(3, 7, dtype=torch.bool) if everything else torch.rand(3, 7, generator=generator) < 0.7
    fitted, price = least_squares(weight, kept, h)
    before = error(fitted - weight, h)
    for row, column in kept.nonzero().tolist():
        fewer = kept.clone()
        fewer[row, column] = False
        after = error(least_squares(weight, fewer, h)[0] - weight, h)
        assert float(price[row, column]) == pytest.approx(float(after[row] - before[row]), rel=1e-5, abs=1e-9)


def test_one_of_few_is_the_best_of_all() -> None:
    """To remove one weight of a row, the choice is the one that trying all finds."""
    weight = torch.randn(1, 7, generator=torch.Generator().manual_seed(4))
    moments = observed(1, 7)[0]
    h = damped(moments)
    target = torch.cat([weight, torch.zeros(1, 1)], 1).double()
    found = emit([(weight, torch.zeros(1))], [moments], 6)[0]
    costs = []
    for support in itertools.combinations(range(7), 6):
        kept = torch.zeros(1, 8, dtype=torch.bool)
        kept[0, [*support, 7]] = True
        costs.append(float(error(least_squares(target, kept, h)[0] - target, h)))
    ours = torch.cat([found.weight, found.bias[:, None]], 1).double()
    assert float(error(ours - target, h)) == pytest.approx(min(costs), rel=1e-4)


@pytest.mark.parametrize("grain", [1, 4])
@pytest.mark.parametrize("density", [0.1, 0.3, 0.7])
@pytest.mark.parametrize("seed", range(3))
def test_never_above_magnitude(grain: int, density: float, seed: int) -> None:
    """Each row's error is at most that of as many of its largest blocks left as they are; the budget holds."""
    layers, moments = net(seed)
    n_kept = int(density * sum(a * b for a, b in SIZES))
    emitted = emit(layers, moments, n_kept, grain)
    assert n_kept - grain < sum(int(layer.kept.sum()) for layer in emitted) <= n_kept
    for (weight, bias), layer, moment in zip(layers, emitted, moments, strict=True):
        assert not layer.weight[~layer.kept].any()
        blocks = layer.kept.view(len(weight), -1, grain).any(dim=2)
        assert torch.equal(blocks.repeat_interleave(grain, dim=1), layer.kept)
        size = weight.view(len(weight), -1, grain).square().sum(dim=2)
        ranks = size.argsort(dim=1, descending=True).argsort(dim=1)
        largest = (ranks < blocks.sum(dim=1, keepdim=True)).repeat_interleave(grain, dim=1)
        h = damped(moment)
        ours = torch.cat([layer.weight - weight, (layer.bias - bias)[:, None]], 1).double()
        theirs = torch.cat([weight * largest - weight, torch.zeros(len(bias), 1)], 1).double()
        assert (error(ours, h) <= error(theirs, h) + 1e-6).all()


def test_what_matters_more_keeps_more() -> None:
    """Of two like rows the one that the loss depends on more keeps more weights."""
    layers, moments = net()
    weight, bias = layers[0]
    weight[1] = weight[0]
    moments[0].outputs[0], moments[0].outputs[1] = 10.0, 0.1
    kept = emit([(weight, bias)], moments[:1], 60)[0].kept
    assert kept[0].sum() > kept[1].sum()


def test_no_layer_goes_altogether() -> None:
    """A layer that hardly matters keeps a weight: without one its outputs would be constants."""
    layers, moments = net()
    moments[1].outputs *= 1e-12
    assert all(layer.kept.any() for layer in emit(layers, moments, 12))


def test_units_go_whole() -> None:
    """A unit goes with its row and its column; the budget holds, and what is left makes up for what went."""
    layers, moments = net()
    n_kept = 150
    emitted = emit_units(layers, moments, n_kept)
    assert sum(int(layer.kept.sum()) for layer in emitted) <= n_kept
    for below, above in itertools.pairwise(emitted):
        units = below.kept.any(dim=1)
        assert torch.equal(units, above.kept.any(dim=0))
        assert torch.equal(below.kept, units[:, None] & below.kept.any(dim=0))
        assert not below.bias[~units].any()
    (weight, bias), layer, h = layers[1], emitted[1], damped(moments[1])
    rows = layer.kept.any(dim=1)
    cut = torch.cat([weight * layer.kept - weight, torch.zeros(len(bias), 1)], 1).double()
    ours = torch.cat([layer.weight - weight, (layer.bias - bias)[:, None]], 1).double()
    assert (error(ours, h)[rows] < error(cut, h)[rows]).all()
