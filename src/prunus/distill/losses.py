"""Losses that make a student rank as its teacher does, over documents grouped by query.

All take flat scores and the query of each document, so lists of any length stand in one batch without padding.
Notation: s student scores, t teacher scores (both standardised over the training set), q(i) the query of document i.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def segment_log_softmax(scores: Tensor, query: Tensor, n_queries: int) -> Tensor:
    """Log softmax over the documents of each query.

    Args:
        scores: float [n].
        query: int64 [n], in [0, n_queries).
        n_queries: number of queries.

    Returns:
        float [n]: s_i - log sum_{j: q(j) = q(i)} exp(s_j).
    """
    top = torch.full((n_queries,), -torch.inf, dtype=scores.dtype, device=scores.device)
    top = top.scatter_reduce(0, query, scores.detach(), "amax")
    shifted = scores - top[query]
    total = torch.zeros(n_queries, dtype=scores.dtype, device=scores.device).index_add(0, query, torch.exp(shifted))
    return shifted - torch.log(total)[query]


def pointwise_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared error to the teacher: mean_i (s_i - t_i)^2.

    References:
        Cohen et al., SIGIR 2018, "Universal Approximation Functions for Fast Learning to Rank"; arXiv 2202.10728.
    """
    return torch.mean((student - teacher) ** 2)


def listwise_loss(student: Tensor, target: Tensor, query: Tensor, n_queries: int) -> Tensor:
    """Cross-entropy between two softmaxes over the documents of a query, averaged over queries.

    mean_q -sum_{i in q} p_i log softmax(s)_i, with p a distribution over the documents of each query.

    Args:
        student: float [n].
        target: float [n], p; sums to 1 (or 0, which leaves the query out) in each query.
        query: int64 [n].
        n_queries: number of queries.

    References:
        Cao et al., ICML 2007, "Learning to Rank: From Pairwise Approach to Listwise Approach" (ListNet).
    """
    return -torch.sum(target * segment_log_softmax(student, query, n_queries)) / n_queries


def gain_distribution(labels: Tensor, query: Tensor, n_queries: int) -> Tensor:
    """Labels as a distribution over each query's documents: p_i = (2^y_i - 1) / sum; all 0 without a relevant one."""
    gain = torch.exp2(labels) - 1.0
    total = torch.zeros(n_queries, dtype=gain.dtype, device=gain.device).index_add(0, query, gain)
    return gain / torch.clamp(total, min=1e-9)[query]


@dataclass(frozen=True)
class LossMix:
    """Weights of the terms of the training loss; see ``docs/distillation.md`` for what was measured.

    Attributes:
        pointwise: weight of the squared error to the teacher's standardised scores.
        listwise: weight of the cross-entropy to softmax(teacher / temperature).
        labels: weight of the cross-entropy to the labels' gains.
        temperature: of the teacher's softmax, in standard deviations of its scores.
    """

    pointwise: float = 1.0
    listwise: float = 0.3
    labels: float = 1.5
    temperature: float = 1.0

    def __call__(self, student: Tensor, teacher: Tensor, labels: Tensor, query: Tensor, n_queries: int) -> Tensor:
        """Return the mixed loss of real documents (all arguments flat, [n])."""
        loss = self.pointwise * pointwise_loss(student, teacher)
        if self.listwise:
            target = torch.exp(segment_log_softmax(teacher / self.temperature, query, n_queries))
            loss = loss + self.listwise * listwise_loss(student / self.temperature, target, query, n_queries)
        if self.labels:
            loss = loss + self.labels * listwise_loss(
                student, gain_distribution(labels, query, n_queries), query, n_queries
            )
        return loss
