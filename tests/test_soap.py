"""Adam in the eigenbasis: equal to Adam where the basis is the axes, indifferent to rotations, and good to go on from."""

from __future__ import annotations

import copy

import torch

from prunus.student.soap import Soap


def descend(optimiser: torch.optim.Optimizer, weight: torch.Tensor, gradients: list[torch.Tensor]) -> torch.Tensor:
    """Take a step by each gradient; give the weights."""
    for gradient in gradients:
        weight.grad = gradient.clone()
        optimiser.step()
    return weight.detach().clone()


def gradients(n: int, shape: tuple[int, ...], seed: int = 0) -> list[torch.Tensor]:
    """Draw gradients around one direction."""
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(shape, generator=generator)
    return [mean + torch.randn(shape, generator=generator) for _ in range(n)]


def test_is_adam_for_vectors() -> None:
    """A bias is learned by Adam."""
    ours, theirs = torch.zeros(7, requires_grad=True), torch.zeros(7, requires_grad=True)
    steps = gradients(25, (7,))
    a = descend(Soap([ours], lr=0.01), ours, steps)
    b = descend(torch.optim.Adam([theirs], lr=0.01, betas=(0.9, 0.99)), theirs, steps)
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_is_adam_where_rows_and_columns_do_not_mix() -> None:
    """Gradients of one entry a row and column: both bases are axes up to order and sign, which Adam does not see."""
    ours, theirs = torch.zeros(5, 5, requires_grad=True), torch.zeros(5, 5, requires_grad=True)
    scale = torch.diag(torch.tensor([1.0, 3.0, 0.2, 7.0, 0.5]))
    steps = [scale * gradient for gradient in gradients(25, (5, 5))]
    a = descend(Soap([ours], lr=0.01), ours, steps)
    b = descend(torch.optim.Adam([theirs], lr=0.01, betas=(0.9, 0.99)), theirs, steps)
    torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_turns_with_its_coordinates() -> None:
    """Rotated gradients give the rotated steps; Adam's do not."""
    steps = [gradient.double() for gradient in gradients(25, (5, 5))]
    q = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))[0]
    r = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2)))[0]
    results = {}
    for rule in (Soap, torch.optim.Adam):
        plain, turned = (torch.zeros(5, 5, dtype=torch.float64, requires_grad=True) for _ in range(2))
        a = descend(rule([plain], lr=0.01), plain, steps)
        b = descend(rule([turned], lr=0.01), turned, [q @ gradient @ r for gradient in steps])
        results[rule] = float((q @ a @ r - b).abs().max() / a.abs().max())
    assert results[Soap] < 1e-3
    assert results[torch.optim.Adam] > 0.1


def test_goes_on_from_its_state() -> None:
    """An optimiser that loaded a state ends with the same bits."""
    steps = gradients(30, (6, 4))
    whole, half = (torch.zeros(6, 4, requires_grad=True) for _ in range(2))
    expected = descend(Soap([whole]), whole, steps)
    first = Soap([half])
    descend(first, half, steps[:13])
    second = Soap([half])
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert torch.equal(descend(second, half, steps[13:]), expected)


def test_survives_gradients_of_low_rank() -> None:
    """Gradients of rank 1, tiny or zero, as of the first batches, leave finite weights."""
    generator = torch.Generator().manual_seed(5)
    weight = torch.zeros(100, 200, requires_grad=True)
    optimiser = Soap([weight])
    for scale in (1e-12, 0.0, 1e-20, 1e-6):
        row, column = torch.randn(100, 1, generator=generator), torch.randn(1, 200, generator=generator).relu()
        weight.grad = scale * row @ column
        optimiser.step()
    assert weight.isfinite().all()
