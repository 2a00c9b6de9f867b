"""Learned masks: the slope of a score, the price's way to the budget, and layers that get what they need."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from prunus.prune.learned import LearnedMasks, Surrogate


def test_every_weight_stands_at_first() -> None:
    """Nothing was pruned before anything was learned."""
    weights = [torch.randn(4, 6, generator=torch.Generator().manual_seed(0))]
    learned = LearnedMasks(weights, 5)
    assert learned.n_standing == 24
    assert learned.masks()[0].all()


@pytest.mark.parametrize("surrogate", get_args(Surrogate))
def test_a_weight_that_helps_gains(surrogate: Surrogate) -> None:
    """Where w G < 0 the score rises, where w G > 0 it falls, whatever the sign of w."""
    weights = [torch.tensor([[1.0, -1.0, 1.0, -1.0]])]
    learned = LearnedMasks(weights, 4, surrogate=surrogate)
    before = learned.scores[0].clone()
    learned.learn(weights, [torch.tensor([[-1.0, 1.0, 1.0, -1.0]])])
    assert (learned.scores[0] > before).tolist() == [[True, True, False, False]]


@pytest.mark.parametrize("surrogate", get_args(Surrogate))
def test_price_finds_the_budget(surrogate: Surrogate) -> None:
    """Where weights help in different measure, those that help most stand, as many as should, at a price above zero."""
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(20, 30, generator=generator), torch.randn(10, 20, generator=generator)]
    helps = [torch.rand(weight.shape, generator=generator) for weight in weights]
    learned = LearnedMasks(weights, 120, surrogate=surrogate)
    for _ in range(1000):
        noise = [torch.randn(weight.shape, generator=generator) for weight in weights]
        learned.learn(weights, [n - h * w.sign() for n, h, w in zip(noise, helps, weights, strict=True)])
    assert learned.n_standing == pytest.approx(120, rel=0.1)
    assert learned.price > 0
    standing = torch.cat([m.flatten() for m in learned.masks()]) > 0
    use = torch.cat([h.flatten() for h in helps])
    assert use[standing].mean() > use[~standing].mean() + 0.4


def test_density_goes_where_it_is_needed() -> None:
    """A layer whose weights help stays denser than one whose weights do not."""
    generator = torch.Generator().manual_seed(2)
    weights = [torch.randn(20, 30, generator=generator) for _ in range(2)]
    learned = LearnedMasks(weights, 300, rate=0.02)
    for _ in range(600):
        noise = [torch.randn(weight.shape, generator=generator) for weight in weights]
        noise[0] -= 0.5 * weights[0].sign()
        learned.learn(weights, noise)
    first, second = (float(mask.mean()) for mask in learned.masks())
    assert first > 2 * second


def test_goes_on_from_its_state() -> None:
    """Scores that loaded a state end with the same bits."""
    generator = torch.Generator().manual_seed(3)
    weights = [torch.randn(5, 7, generator=generator)]
    steps = [[torch.randn(5, 7, generator=generator)] for _ in range(40)]
    whole, first, second = (LearnedMasks(weights, 9) for _ in range(3))
    for gradients in steps:
        whole.learn(weights, gradients)
    for gradients in steps[:17]:
        first.learn(weights, gradients)
    second.load(first.state())
    for gradients in steps[17:]:
        second.learn(weights, gradients)
    assert torch.equal(second.scores[0], whole.scores[0])
    assert second.price == whole.price
