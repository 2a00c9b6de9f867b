"""The click models that the engine can run: id tables, products of embeddings, and networks, as plain arrays.

An event has one 64-bit id in each of F fields, 0 where it is missing, and dense features. With e_f the embedding of its
id in field f, that of the unknown id where the table does not have it, and v_0 what the bottom network makes of the
dense features,

    x = [v_0, e_1 .. e_F, <v_i, v_j> for i < j],    log-odds = top(x),

with the products of v_0, e_1 .. e_F. Where there is no bottom network the dense features stand in x as they are, the
products are those of the embeddings alone, and the top network's input stage normalises.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from prunus.engine.arrays import MAX_WIDTH, checked_array, require
from prunus.engine.network import InputStage, Network, SlotKind

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_IDS = (1 << 31) - 2
"""Largest number of ids of a table."""

MAX_FIELDS = 256
"""Largest number of id fields."""

_LARGEST = np.finfo(np.float32).max


@dataclass(frozen=True, eq=False)
class IdEmbeddings:
    """The embeddings of one id field.

    Attributes:
        keys: uint64 [n_ids], the ids that have an embedding of their own, rising; 0 is no id.
        rows: float32 [n_ids + 1, dim]: row 0 is that of every other id, row i + 1 that of ``keys[i]``.
    """

    keys: NDArray[np.uint64]
    rows: NDArray[np.float32]

    def __post_init__(self) -> None:
        object.__setattr__(self, "keys", checked_array(self.keys, np.uint64, "keys"))
        object.__setattr__(self, "rows", checked_array(self.rows, np.float32, "rows", 2))
        n = len(self.keys)
        require(n <= MAX_IDS, f"{n} ids; expected at most {MAX_IDS}")
        require(n == 0 or self.keys[0] > 0, "keys hold 0, which is no id")
        require((self.keys[1:] > self.keys[:-1]).all(), "keys must rise, without repeats")
        require(len(self.rows) == n + 1, f"{len(self.rows)} rows for {n} ids; expected {n + 1}, the unknown one first")
        require(1 <= self.dim <= MAX_WIDTH, f"embeddings {self.dim} wide; expected 1 to {MAX_WIDTH}")

    @property
    def dim(self) -> int:
        """Width of an embedding."""
        return int(self.rows.shape[1])

    def find(self, ids: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return the row of each id: int64 of the same shape, 0 where the table does not have it."""
        place = np.searchsorted(self.keys, ids)
        found = place < len(self.keys)
        found[found] = self.keys[place[found]] == ids[found]
        return np.where(found, place + 1, 0)


@dataclass(frozen=True, eq=False)
class ClickModel:
    """Id tables and networks; see the module's formula.

    Attributes:
        n_dense: dense features.
        tables: the embeddings of each id field, all equally wide.
        bottom: network of the dense features, several outputs wide, or None.
        interactions: whether x holds the products.
        top: network of x; its features are x, its one output is the log-odds.
    """

    n_dense: int
    tables: tuple[IdEmbeddings, ...]
    bottom: Network | None
    interactions: bool
    top: Network

    def __post_init__(self) -> None:
        object.__setattr__(self, "tables", tuple(self.tables))
        object.__setattr__(self, "interactions", bool(self.interactions))
        require(0 <= self.n_dense <= MAX_WIDTH, f"{self.n_dense} dense features; expected 0 to {MAX_WIDTH}")
        require(self.n_ids <= MAX_FIELDS, f"{self.n_ids} id fields; expected at most {MAX_FIELDS}")
        require(len({table.dim for table in self.tables}) <= 1, "embeddings of different widths; expected all equal")
        if self.bottom is not None:
            takes, gives = self.bottom.n_features, self.bottom.n_outputs
            require(takes == self.n_dense, f"the bottom network takes {takes} features; expected {self.n_dense}")
            fits = not (self.interactions and self.tables) or gives == self.dim
            require(fits, f"the bottom network gives {gives} outputs; expected {self.dim}, as they are multiplied")
        takes = self.top.n_features
        require(takes == self.n_inputs, f"the top network takes {takes} features; expected {self.n_inputs}")
        require(
            self.top.n_outputs == 1, f"the top network gives {self.top.n_outputs} outputs; expected 1, the log-odds"
        )

    @property
    def n_ids(self) -> int:
        """Id fields."""
        return len(self.tables)

    @property
    def dim(self) -> int:
        """Width of an embedding; 0 where there are no id fields."""
        return self.tables[0].dim if self.tables else 0

    @property
    def n_first(self) -> int:
        """Length of v_0, or of the dense features where there is no bottom network."""
        return self.n_dense if self.bottom is None else self.bottom.n_outputs

    @property
    def n_products(self) -> int:
        """Pairwise products in x."""
        n_vectors = self.n_ids + (self.bottom is not None)
        return n_vectors * (n_vectors - 1) // 2 if self.interactions else 0

    @property
    def n_inputs(self) -> int:
        """Length of x."""
        return self.n_first + self.n_ids * self.dim + self.n_products

    @property
    def networks(self) -> dict[str, Network]:
        """The networks by name, ``bottom`` (where there is one) before ``top``."""
        return {"top": self.top} if self.bottom is None else {"bottom": self.bottom, "top": self.top}

    @property
    def nonzeros(self) -> int:
        """Weights of the networks that are not zero, biases not counted."""
        return sum(network.nonzeros for network in self.networks.values())


def plain_slots(first: int, count: int) -> InputStage:
    """Return input slots that hand features on as they are.

    Args:
        first: the first feature.
        count: slots, a feature each.
    """
    one, bound = np.ones(count, np.float32), np.full(count, _LARGEST, np.float32)
    feature = np.arange(first, first + count, dtype=np.int32)
    return InputStage(feature, np.full(count, SlotKind.VALUE, np.uint8), 0 * one, one, -bound, bound, 0 * one)


def join_slots(left: InputStage, right: InputStage) -> InputStage:
    """Return the slots of two stages, the features of the second one after those of the first."""
    return InputStage(
        *(np.concatenate([getattr(left, name), getattr(right, name)]) for name in left.__dataclass_fields__)
    )
