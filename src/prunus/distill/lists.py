"""Losses that make a student list items as its teacher does: softmaxes over a catalogue, or over the heads of the lists.

All take scores of users over items. Notation: s student scores, t teacher scores, U the items that a user has not seen,
T and S the K items of U that teacher and student put first, p = softmax(t / temperature) over the items named. Scores
of seen items are no target: the teacher gives what a user has, and lists leave it out.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

FAR = -1e9
"""Stands for minus infinity, which would make 0 x infinity of an item that no softmax gives any weight."""


def softmax_loss(student: Tensor, teacher: Tensor, seen: Tensor | None = None, *, temperature: float = 1.0) -> Tensor:
    """Cross-entropy between two softmaxes over the items of each row, averaged over rows.

    mean_u -sum_{j in U} p_j log softmax_U(s)_j.

    Args:
        student: float [n_users, n_items].
        teacher: float [n_users, n_items], on any scale; ``temperature`` is on the same.
        seen: bool [n_users, n_items], items that do not count; None where all do.
        temperature: of the teacher's softmax, > 0. The student's scores are taken as they are.

    References:
        Hinton et al. 2015, arXiv 1503.02531; ListNet, Cao et al., ICML 2007.
    """
    target = teacher / temperature
    if seen is not None:
        student, target = student.masked_fill(seen, FAR), target.masked_fill(seen, FAR)
    return -(torch.softmax(target, 1) * torch.log_softmax(student, 1)).sum(1).mean()


def head_loss(
    student: Tensor,
    items: Tensor,
    teacher: Tensor,
    seen: Tensor,
    *,
    temperature: float = 1.0,
    expected: Tensor | None = None,
) -> Tensor:
    """Cross-entropy of the student's softmax over U to the teacher's over the head T of its list, averaged over users.

    mean_u -sum_{j in T} p_j log softmax_U(s)_j: what :func:`softmax_loss` gives where the teacher's softmax is next to
    nothing below its head, for the price of keeping the head alone. Of a large catalogue the columns may be a sample;
    then column j stands for 1 / q_j items, q_j being how often it is expected among those drawn, and the student's
    softmax is over s_j - log q_j. The items of a head must be among the columns, with q_j = 1.

    Args:
        student: float [n_users, n_columns].
        items: int64 [n_users, K], columns of the head; none of them seen, unless its score is -inf.
        teacher: float [n_users, K], scores of the head.
        seen: bool [n_users, n_columns].
        temperature: of the teacher's softmax.
        expected: float [n_columns], q in (0, 1]; None for ones.

    References:
        Bengio and Senecal 2008, "Adaptive Importance Sampling to Accelerate Training of a Neural Probabilistic Language
        Model", for the sample.
    """
    among = student if expected is None else student - torch.log(expected)
    total = torch.logsumexp(among.masked_fill(seen, FAR), 1)
    p = torch.softmax(teacher / temperature, 1)
    return (total - (p * student.gather(1, items)).sum(1)).mean()


def head(scores: Tensor, k: int, seen: Tensor | None = None) -> Tensor:
    """Items that stand first in each row's list: int64 [n_users, k], the first of them first.

    Args:
        scores: float [n_users, n_items].
        k: length, at most n_items.
        seen: bool [n_users, n_items], items that go last; None for none.
    """
    return (scores if seen is None else scores.masked_fill(seen, FAR)).topk(k, dim=1).indices


def plackett_luce_loss(ranked: Tensor, others: Tensor) -> Tensor:
    """Relaxed ranking distillation: the teacher's order of its K best items, all of them above L others.

    mean_u -(1/K) sum_k [s_k - log(sum_{m >= k} exp s_m + sum_l exp s_l)], k and m over the teacher's list in its order.
    The published loss is the sum over k; the mean keeps its weight free of K.

    Args:
        ranked: float [n_users, K], student scores of the teacher's list, its first item first.
        others: float [n_users, L], student scores of items that are not on it.

    References:
        DE-RRD, Kang et al., CIKM 2020, equation 8.
    """
    below = torch.logsumexp(others, dim=1, keepdim=True)
    tail = torch.logcumsumexp(ranked.flip(1), dim=1).flip(1)
    return -(ranked - torch.logaddexp(tail, below)).mean()


def rejuvenated_loss(
    student: Tensor,
    teacher: Tensor,
    seen: Tensor,
    *,
    k: int,
    n_drawn: int,
    temperature: float = 1.0,
    beta: float = 3.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Rejuvenated cross-entropy: the teacher corrects the student's own list, and the more so the better that is.

    With w = exp(-beta |T & S| / K) of each user, mean_u (1 - w) CE(S) + w CE(T + R): CE(I) is :func:`softmax_loss` over
    the items I, and R are items drawn from S that are not in T, which close the teacher's list against what the student
    puts in its place. Cross-entropy over T alone bounds NDCG only where the student's best items are among it.

    Args:
        student: float [n_users, n_items].
        teacher: float [n_users, n_items].
        seen: bool [n_users, n_items].
        k: length of both lists.
        n_drawn: items drawn from S, at most k.
        temperature: of the teacher's softmax.
        beta: how fast the weight moves from the teacher's list to the student's as they come to share items.
        generator: of the draws.

    References:
        After RCE-KD, arXiv 2509.20989.
    """
    of_teacher, of_student = head(teacher, k, seen), head(student.detach(), k, seen)
    in_teacher = torch.zeros_like(seen).scatter_(1, of_teacher, value=True)
    shared = in_teacher.gather(1, of_student)
    weight = torch.exp(-beta * shared.sum(1) / k)
    own = _row_losses(student, teacher, of_student, None, temperature)
    order = torch.rand(shared.shape, generator=generator).masked_fill(shared, math.inf).argsort(1)[:, :n_drawn]
    drawn, twice = of_student.gather(1, order), shared.gather(1, order)
    items = torch.cat([of_teacher, drawn], dim=1)
    out = torch.cat([torch.zeros_like(of_teacher, dtype=torch.bool), twice], dim=1)
    return ((1.0 - weight) * own + weight * _row_losses(student, teacher, items, out, temperature)).mean()


def _row_losses(student: Tensor, teacher: Tensor, items: Tensor, out: Tensor | None, temperature: float) -> Tensor:
    """Cross-entropy of each row over some items of it, without those that are marked as out: float [n_users]."""
    s, t = student.gather(1, items), teacher.gather(1, items) / temperature
    if out is not None:
        s, t = s.masked_fill(out, FAR), t.masked_fill(out, FAR)
    return -(torch.softmax(t, 1) * torch.log_softmax(s, 1)).sum(1)


def cosine_loss(at_history: Tensor, squared_norm: Tensor, lengths: Tensor) -> Tensor:
    """Squared distance between normalised scores and normalised histories: mean_u |y/|y| - x/|x||^2 = 2 - 2 cos(y, x).

    The data's own loss, without a teacher. It needs no scores of the whole catalogue: x . y is a sum over the history,
    and of y = p D^T, |y|^2 = p (D^T D) p^T.

    Args:
        at_history: float [n_users], x . y, the sum of a user's scores over its history.
        squared_norm: float [n_users], |y|^2 over all items.
        lengths: float [n_users], |x|^2, items of the history, > 0.

    References:
        ELSA, Vancura et al., RecSys 2022.
    """
    return (2.0 - 2.0 * at_history / torch.sqrt(squared_norm.clamp(min=1e-12) * lengths)).mean()
