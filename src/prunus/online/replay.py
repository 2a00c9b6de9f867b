"""Events of the recent past, kept to be learned from once more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from prunus.online.learner import Prepared

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor


class Replay:
    """A ring of the last events, from which batches are drawn evenly.

    A narrow model that sees each event once is short of steps, not of weights: to learn from a second batch, drawn from
    here, doubles its steps at its own small price. What a batch looks like when it is drawn is what it looked like when it
    came: features normalised by what was known then, and the label that it had. Ids that have lost their row since are
    unknown.

    Args:
        capacity: events that are kept.
        seed: of the draws.
    """

    def __init__(self, capacity: int, *, seed: int) -> None:
        self._capacity = capacity
        self._seed = seed
        self._columns: dict[str, Tensor] = {}
        self._given: list[Tensor] = []  # for each id field, at which event each row was last given to a new id
        self._seen = 0
        self._draws = 0

    def __len__(self) -> int:
        """Count the events that are kept now."""
        return min(self._seen, self._capacity)

    def add(self, batch: Prepared) -> None:
        """Keep a batch; the oldest events go.

        Args:
            batch: of at most ``capacity`` events.
        """
        columns = {"z": batch.z, "rows": batch.rows, "label": batch.label, "offset": batch.offset}
        if not self._columns:
            self._columns = {name: value.new_zeros(self._capacity, *value.shape[1:]) for name, value in columns.items()}
        self._given = self._given or [torch.zeros(0, dtype=torch.int64) for _ in range(batch.rows.shape[1])]
        for field, fresh in enumerate(batch.fresh):
            if len(fresh):
                short = int(fresh.max()) + 1 - len(self._given[field])
                self._given[field] = functional.pad(self._given[field], (0, max(short, 0)))
                self._given[field][fresh] = self._seen
        places = torch.arange(self._seen, self._seen + len(batch)) % self._capacity
        for name, value in columns.items():
            self._columns[name][places] = value
        self._seen += len(batch)

    def draw(self, n: int) -> Prepared:
        """Draw ``n`` events with replacement, each of those kept as likely as another.

        Args:
            n: events; some must have been added.
        """
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + self._draws)
        self._draws += 1
        places = torch.randint(0, len(self), (n,), generator=generator)
        z, rows, label, offset = (self._columns[name][places] for name in ("z", "rows", "label", "offset"))
        number = self._seen - 1 - (self._seen - 1 - places) % self._capacity
        for field, given in enumerate(self._given):
            if len(given):
                row = rows[:, field]
                old = (row < len(given)) & (given[row.clamp(max=len(given) - 1)] > number)
                rows[old, field] = 0
        return Prepared(z, rows, label, offset)

    def state(self) -> dict[str, Any]:
        """Give all that a later draw depends on; the tensors are copies."""
        columns = {name: value[: len(self)].clone() for name, value in self._columns.items()}
        given = [given.clone() for given in self._given]
        return {"columns": columns, "given": given, "seen": self._seen, "draws": self._draws}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self._columns, self._seen, self._draws = {}, state["seen"], state["draws"]
        self._given = [given.clone() for given in state["given"]]
        for name, value in state["columns"].items():
            self._columns[name] = value.new_zeros(self._capacity, *value.shape[1:])
            self._columns[name][: len(value)] = value
