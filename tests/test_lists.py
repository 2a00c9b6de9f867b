"""Losses over lists: their formulas spelled out, and that each brings the student to the teacher's list."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from prunus.distill.lists import (  # noqa: E402
    cosine_loss,
    head,
    head_loss,
    plackett_luce_loss,
    rejuvenated_loss,
    softmax_loss,
)

if TYPE_CHECKING:
    from collections.abc import Callable

N_USERS, N_ITEMS, K = 5, 30, 6


def draw(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draw scores of a student and a teacher, and which items were seen."""
    generator = torch.Generator().manual_seed(seed)
    student, teacher = torch.randn(2, N_USERS, N_ITEMS, generator=generator, dtype=torch.float64)
    return student, teacher, torch.rand(N_USERS, N_ITEMS, generator=generator) < 0.3


def by_head(student: torch.Tensor, teacher: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """Call the loss over all items to the teacher's head."""
    items = head(teacher, K, seen)
    return head_loss(student, items, teacher.gather(1, items), seen, temperature=0.5)


def by_order(student: torch.Tensor, teacher: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """Call the loss to the order of the teacher's head."""
    items = head(teacher, N_ITEMS - int(seen.sum(1).max()), seen)
    return plackett_luce_loss(student.gather(1, items[:, :K]), student.gather(1, items[:, K:]))


LOSSES: dict[str, Callable[..., torch.Tensor]] = {
    "softmax": lambda s, t, seen: softmax_loss(s, t, seen, temperature=0.5),
    "head": by_head,
    "plackett_luce": by_order,
    "rejuvenated": lambda s, t, seen: rejuvenated_loss(
        s, t, seen, k=K, n_drawn=K, temperature=0.5, generator=torch.Generator().manual_seed(0)
    ),
}


@pytest.mark.parametrize("name", LOSSES)
class TestEveryLoss:
    """Laws of all of them."""

    def test_brings_the_student_to_the_teachers_list(self, name: str) -> None:
        """Free scores that follow the gradient come to list the teacher's items first."""
        student, teacher, seen = draw()
        if name == "plackett_luce":  # its two groups of items must hold all unseen ones
            seen[:] = seen[0]
        student.requires_grad_()
        optimizer = torch.optim.Adam([student], lr=0.05)

        def shared() -> float:
            ours, theirs = head(student.detach(), K, seen), head(teacher, K, seen)
            return float((ours[:, :, None] == theirs[:, None]).any(2).double().mean())

        before = shared()
        for _ in range(300):
            optimizer.zero_grad()
            LOSSES[name](student, teacher, seen).backward()
            optimizer.step()
        assert before < 0.5
        assert shared() >= 0.95

    def test_seen_items_do_not_count(self, name: str) -> None:
        """Scores of seen items have no gradient, and huge ones of them change nothing."""
        student, teacher, seen = draw(1)
        student.requires_grad_()
        loss = LOSSES[name](student, teacher, seen)
        loss.backward()
        assert student.grad is not None
        assert (student.grad[seen] == 0).all()
        assert (student.grad[~seen] != 0).any()
        spoilt = [torch.where(seen, 50.0, scores) for scores in (student.detach(), teacher)]
        assert LOSSES[name](*spoilt, seen).item() == pytest.approx(loss.item(), rel=1e-12)

    def test_large_scores_stay_finite(self, name: str) -> None:
        """Scores of 1e4 give finite losses and gradients."""
        student, teacher, seen = draw(2)
        student = (student * 1e4).requires_grad_()
        loss = LOSSES[name](student, teacher * 1e4, seen)
        loss.backward()
        assert student.grad is not None
        assert torch.isfinite(loss)
        assert torch.isfinite(student.grad).all()


class TestFormulas:
    """What each loss is, spelled out."""

    def test_softmax(self) -> None:
        """Cross-entropy over unseen items, user by user, in NumPy."""
        student, teacher, seen = draw()
        expected = []
        for ours, theirs, out in zip(student.numpy(), teacher.numpy(), seen.numpy(), strict=True):
            s, t = ours[~out], theirs[~out] / 0.5
            p, q = np.exp(t) / np.exp(t).sum(), np.exp(s) / np.exp(s).sum()
            expected.append(-(p * np.log(q)).sum())
        assert softmax_loss(student, teacher, seen, temperature=0.5).item() == pytest.approx(np.mean(expected))

    def test_head_of_everything_is_the_softmax(self) -> None:
        """With every unseen item in the head (and -inf where a user has no more), both losses are one."""
        student, teacher, seen = draw()
        items = head(teacher, N_ITEMS, seen)
        scores = teacher.masked_fill(seen, -torch.inf).gather(1, items)
        ours = head_loss(student, items, scores, seen, temperature=0.7).item()
        assert ours == pytest.approx(softmax_loss(student, teacher, seen, temperature=0.7).item())

    def test_sampled_columns_are_expected_to_give_the_whole(self) -> None:
        """Over every way to draw 3 of the 7 items that are not the head, the mean of the softmax's sum is the sum over all."""
        scores = draw()[0][:1, :8]
        sums = []
        for drawn in itertools.combinations(range(1, 8), 3):
            columns = [0, *drawn]
            expected = torch.tensor([1.0, *[3 / 7] * 3], dtype=torch.float64)
            nothing = torch.zeros(1, 4, dtype=torch.bool)
            loss = head_loss(scores[:, columns], torch.tensor([[0]]), torch.zeros(1, 1), nothing, expected=expected)
            sums.append(float(torch.exp(loss + scores[0, 0])))
        assert np.mean(sums) == pytest.approx(float(torch.exp(scores).sum()))

    def test_plackett_luce_is_a_distribution_of_orders(self) -> None:
        """Over all orders of all items, the probabilities exp(-K x loss) add up to one."""
        scores = draw()[0][0, :5]
        nothing = torch.full((1, 1), -torch.inf, dtype=torch.float64)
        total = sum(
            float(torch.exp(-5 * plackett_luce_loss(scores[list(order)][None], nothing)))
            for order in itertools.permutations(range(5))
        )
        assert total == pytest.approx(1.0)

    def test_rejuvenated_of_equal_lists_is_one_softmax(self) -> None:
        """A student with the teacher's own list has nothing to close: both parts are the softmax over that list."""
        _, teacher, seen = draw()
        student, items = 3.0 * teacher, head(teacher, K, seen)
        expected = softmax_loss(student.gather(1, items), teacher.gather(1, items))
        assert rejuvenated_loss(student, teacher, seen, k=K, n_drawn=4).item() == pytest.approx(expected.item())

    def test_cosine_is_the_distance_of_unit_vectors(self) -> None:
        """2 - 2 cos(y, x) = |y/|y| - x/|x||^2, from the three sums that the loss is given."""
        y, _, seen = draw()
        x = seen.double()
        unit = y / y.norm(dim=1, keepdim=True) - x / x.norm(dim=1, keepdim=True)
        ours = cosine_loss((x * y).sum(1), y.square().sum(1), x.sum(1))
        assert ours.item() == pytest.approx(unit.square().sum(1).mean().item())
