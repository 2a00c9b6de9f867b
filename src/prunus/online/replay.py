"""Events of the recent past, kept to be learned from once more by all of a model but its embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from prunus.online.learner import Prepared

KEPT_AS = torch.float16
"""Of embeddings in the ring: half the memory, and what it rounds off is far below a step of learning."""


@dataclass(frozen=True)
class Past:
    """Events as they looked to the model when they were new.

    Attributes:
        z: float32 [n, n_dense].
        vectors: float32 [n, n_ids, dim], the embeddings that their ids had before they were learned from.
        label: float32 [n], what is to be learned: labels, mixed with what the model thought of the event.
        offset: float32 [n].
    """

    z: Tensor
    vectors: Tensor
    label: Tensor
    offset: Tensor


class Replay:
    """A ring of the last events, from which batches are drawn evenly.

    A narrow model that sees each event once is short of steps, not of weights: to learn from a second batch, drawn from
    here, doubles its steps at its own small price. But the embedding of a rare id *is* the labels of the few events that
    had it. A net that is shown such an event once more, with the embedding of now, learns to trust what no new event will
    bring ("one-epoch phenomenon"). So an event is kept with the embeddings that its ids had before it was learned from: of
    its own label they know nothing, as those of new events, and no row is ever learned from twice.

    Nor is the label itself learned twice in full. With y the label and p the probability that the model gave the event when it
    was new, what is learned the second time is (1 - trust) y + trust p: the label's noise counts for less, and what the
    model knew then is not forgotten.

    Args:
        capacity: events that are kept.
        trust: weight of p, in [0, 1].
        seed: of the draws.

    References:
        Zhang et al. 2022, arXiv 2209.06053 (the phenomenon, and that embeddings bring it about); Wolpert 1992, "Stacked
        generalization" (a second level learns from what the first said of events that it had not seen); Buzzega et al. 2020,
        arXiv 2004.07211 ("dark experience replay": predictions are kept with past events).
    """

    def __init__(self, capacity: int, *, trust: float = 0.0, seed: int) -> None:
        self._capacity = capacity
        self._trust = trust
        self._seed = seed
        self._columns: dict[str, Tensor] = {}
        self._seen = 0
        self._draws = 0

    def __len__(self) -> int:
        """Count the events that are kept now."""
        return min(self._seen, self._capacity)

    def add(self, batch: Prepared, vectors: Tensor, said: Tensor) -> None:
        """Keep a batch; the oldest events go.

        Args:
            batch: of at most ``capacity`` events.
            vectors: float32 [n, n_ids, dim], embeddings before the batch was learned from.
            said: float32 [n], logits that the model gave it before that, offsets left out.
        """
        label = batch.label.lerp(torch.sigmoid(said + batch.offset), self._trust)
        columns = {"z": batch.z, "vectors": vectors.to(KEPT_AS), "label": label, "offset": batch.offset}
        if not self._columns:
            self._columns = {name: value.new_zeros(self._capacity, *value.shape[1:]) for name, value in columns.items()}
        start = self._seen % self._capacity
        first = min(len(batch), self._capacity - start)  # the rest begins the ring anew
        for name, value in columns.items():
            self._columns[name][start : start + first] = value[:first]
            self._columns[name][: len(batch) - first] = value[first:]
        self._seen += len(batch)

    def draw(self, n: int) -> Past:
        """Draw ``n`` events with replacement, each as likely as another.

        Args:
            n: events; some must have been added.
        """
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + self._draws)
        self._draws += 1
        ages = torch.randint(0, len(self), (n,), generator=generator)
        places = (self._seen - 1 - ages) % self._capacity
        z, vectors, label, offset = (
            self._columns[name].index_select(0, places) for name in ("z", "vectors", "label", "offset")
        )
        return Past(z, vectors.float(), label, offset)

    def state(self) -> dict[str, Any]:
        """Give all that a later draw depends on; the tensors are copies."""
        columns = {name: value[: len(self)].clone() for name, value in self._columns.items()}
        return {"columns": columns, "seen": self._seen, "draws": self._draws}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self._columns, self._seen, self._draws = {}, state["seen"], state["draws"]
        for name, value in state["columns"].items():
            self._columns[name] = value.new_zeros(self._capacity, *value.shape[1:])
            self._columns[name][: len(value)] = value
