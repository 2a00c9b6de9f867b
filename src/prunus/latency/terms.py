"""What a network does to one tile of documents, counted: the terms that the time model has a price for.

A tile is the documents that go through the layers together: a few vectors of them, or fewer documents than a vector has
lanes. For each tile size the time is a sum of terms, each counted from the network's shape as the kernels run it:

    input stage   groups of features that are loaded and transposed, slots, logarithms, cache lines that come from afar
    dense         multiply-adds, inputs x blocks of outputs, blocks too low to hide the latency of a multiply-add
    sparse        weights, rows, rows of another length than the one before, chains of multiply-adds in long rows
    memory        weights that the caches cannot hold from one tile to the next, activations that leave the first cache

Whether the caches hold something is a share between 0 and 1 that rises with the working set; see :func:`share_missed`.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from prunus.engine.int8 import BLOCK
from prunus.engine.network import BlockInt8, LayerShape, Network, NetworkShape, Sparse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from prunus.engine.network import Layer as NetworkLayer
    from prunus.latency.key import Caches

Terms = dict[str, float]

SHORT_ROW = 12
"""Weights of the longest row whose loop the sparse kernel unrolls whole."""

CHAIN_HIDDEN = 48
"""Weights of a lone row whose multiply-adds, one after the other, the CPU hides behind those of its neighbours."""

LATENCY = 4
"""Multiply-adds that must be under way at once to fill the pipe."""

PANEL = 12
"""Outputs whose dense weights stand together; the last panel is filled up with zeros."""

LINE = 64
"""Bytes of a cache line."""


class Rows(NamedTuple):
    """How long the rows of a sparse layer are.

    Attributes:
        lengths: float64 [n], weights (or blocks) in a row, rising.
        counts: float64 [n], rows of that length; expected numbers where only the shape is known.
        runs: different lengths that stand in the layer.
    """

    lengths: NDArray[np.float64]
    counts: NDArray[np.float64]
    runs: float


class Layer(NamedTuple):
    """A layer as the terms see it: its shape and, where it is sparse, its rows."""

    shape: LayerShape
    rows: Rows | None


class Work(NamedTuple):
    """A network as the terms see it.

    Attributes:
        shape: of the network.
        layers: first to last.
    """

    shape: NetworkShape
    layers: tuple[Layer, ...]

    @property
    def row_bytes(self) -> int:
        """Bytes of a document's raw features."""
        return 4 * self.shape.n_features

    @property
    def widest_pair(self) -> int:
        """Most inputs and outputs of a layer together: the engine cuts wide networks into smaller tiles."""
        return max(layer.n_inputs + layer.n_outputs for layer in self.shape.layers)


class Tile(NamedTuple):
    """A size of tile.

    Attributes:
        documents: in it.
        vectors: of documents side by side; at least 1.
        lanes: documents in a vector, 4 where the kernels of few documents run.
    """

    documents: int
    vectors: int
    lanes: int

    @property
    def row_bytes(self) -> int:
        """Bytes of one input or unit over the tile."""
        return 4 * self.vectors * self.lanes


@lru_cache(maxsize=4096)
def expected_rows(n_inputs: int, n_outputs: int, stored: int) -> Rows:
    """Rows of a layer whose weights stand at random places: lengths are binomial.

    Args:
        n_inputs: inputs (or blocks of inputs) of the layer.
        n_outputs: rows.
        stored: weights in all of them.
    """
    mean = stored / n_outputs
    p = min(mean / max(n_inputs, 1), 1.0)
    if p >= 1.0 or p <= 0.0:
        return Rows(np.array([float(n_inputs) if p else 0.0]), np.array([float(n_outputs)]), 1.0)
    spread = 5.0 * math.sqrt(mean * (1 - p)) + 3.0
    length = np.arange(max(math.floor(mean - spread), 0), min(math.ceil(mean + spread), n_inputs) + 1)
    choose = [math.lgamma(n_inputs + 1) - math.lgamma(k + 1) - math.lgamma(n_inputs - k + 1) for k in length.tolist()]
    share = np.exp(np.array(choose) + length * math.log(p) + (n_inputs - length) * math.log1p(-p))
    share /= share.sum()
    return Rows(length.astype(np.float64), share * n_outputs, float((1 - (1 - share) ** n_outputs).sum()))


def _rows_of(indptr: NDArray[np.int32]) -> Rows:
    length, count = np.unique(np.diff(indptr), return_counts=True)
    return Rows(length.astype(np.float64), count.astype(np.float64), float(len(length)))


def work_of(network: Network | NetworkShape) -> Work:
    """Look at a network, or at a shape whose weights are yet to be placed.

    Args:
        network: with its rows as they are; of a shape they are taken to be random.
    """
    if isinstance(network, NetworkShape):
        return Work(network, tuple(_expected(layer) for layer in network.layers))
    return Work(network.shape, tuple(map(_seen, network.layers)))


def _seen(layer: NetworkLayer) -> Layer:
    rows = _rows_of(layer.indptr) if isinstance(layer, Sparse | BlockInt8) else None
    return Layer(layer.shape, rows)


def _expected(shape: LayerShape) -> Layer:
    if shape.kind == "sparse":
        return Layer(shape, expected_rows(shape.n_inputs, shape.n_outputs, shape.stored))
    if shape.kind == "block_int8":
        return Layer(shape, expected_rows(-(-shape.n_inputs // BLOCK), shape.n_outputs, shape.stored // BLOCK))
    return Layer(shape, None)


def share_missed(working_set: float, cache: int) -> float:
    """Share of a working set, read over and over, that a cache of that size does not hold.

    A cache that drops the oldest line first holds nothing of a cycle longer than itself; real ones lose it over a range
    of sizes, taken here from half to one and a half times the cache.
    """
    return min(max(working_set / cache - 0.5, 0.0), 1.0)


def _add(terms: Terms, name: str, value: float) -> None:
    terms[name] = terms.get(name, 0.0) + value


def input_terms(work: Work) -> Terms:
    """Terms of the input stage, raw features in the first cache."""
    shape = work.shape
    plain = shape.n_slots - shape.n_log_slots
    return {"groups": float(shape.n_groups), "slots": float(plain), "log slots": float(shape.n_log_slots)}


def fetch_terms(work: Work, documents: float, cycle: float, caches: Caches) -> Terms:
    """Cache lines of raw features that a tile fetches from beyond each cache.

    Args:
        work: the network.
        documents: in the tile.
        cycle: documents that the calls go through before they read the same again.
        caches: of this machine.
    """
    lines = documents * min(work.row_bytes / LINE + 0.5, 1.5 * work.shape.n_groups)
    working_set = cycle * work.row_bytes
    return {
        f"lines past {name}": lines * share_missed(working_set, size)
        for name, size in zip(("L1", "L2", "L3"), caches, strict=True)
    }


def layer_terms(layer: Layer, tile: Tile, caches: Caches, *, first: bool, last: bool) -> Terms:
    """Terms of one layer.

    Args:
        layer: the layer.
        tile: the size of tile.
        caches: of this machine.
        first: it reads the input stage.
        last: the engine runs it as one sparse row, whatever its kernel.
    """
    shape = layer.shape
    inputs = shape.n_inputs / BLOCK if shape.kind.endswith("int8") else shape.n_inputs
    spilled = share_missed((inputs + shape.n_outputs) * tile.row_bytes, caches.l1)
    if last:
        return {"last weights": float(shape.stored), "last weights spilled": shape.stored * spilled}
    if shape.kind == "sparse" and layer.rows is not None:
        return _sparse_terms(layer.rows, spilled, tile)
    if shape.kind == "dense":
        return _dense_terms(shape, spilled, tile)
    return _int8_terms(layer, spilled, tile, first=first)


def _sparse_terms(rows: Rows, spilled: float, tile: Tile) -> Terms:
    length, count = rows.lengths, rows.counts
    weights = float(length @ count)
    n_rows = float(count.sum())
    empty = float(count[length == 0].sum())
    long = length > SHORT_ROW
    together = LATENCY if tile.vectors == 1 else 2
    # Expected rows of a length that are left when the kernel has taken them by twos or fours.
    lone = np.minimum(count[long], np.where(count[long] < 1, count[long], count[long] % together))
    chain = np.maximum(length[long] - CHAIN_HIDDEN, 0)
    return {
        "sparse layers": 1.0,
        "runs": rows.runs,
        "rows": n_rows - empty,
        "empty rows": empty,
        "long rows": float(count[long].sum()),
        "weights": weights,
        "weights in long rows": float(length[long] @ count[long]),
        "weights in chains": float(chain @ lone),
        "weights spilled": weights * spilled,
        "rows spilled": n_rows * spilled,
    }


def _dense_terms(shape: LayerShape, spilled: float, tile: Tile) -> Terms:
    n_in, n_out = shape.n_inputs, shape.n_outputs
    terms = {
        "dense layers": 1.0,
        "dense outputs": float(n_out),
        "multiply-adds": float(n_in * n_out),
        "panels of 36": float(n_in * (n_out // 36 + (n_out % 36 > 24))),
    }
    for height in (4, 6, 8, 12):
        blocks, rest = divmod(n_out, height)
        low = max(LATENCY - rest * tile.vectors, 0) if rest else 0
        terms[f"blocks of {height}"] = float(n_in * (blocks + (rest > 0)))
        terms[f"low blocks of {height}"] = float(n_in * low)
        terms[f"block starts of {height}"] = float(blocks + (rest > 0))
    terms["dense inputs spilled"] = terms["blocks of 6"] * spilled
    return terms


def _int8_terms(layer: Layer, spilled: float, tile: Tile, *, first: bool) -> Terms:
    """Terms of an int8 layer. Its inputs are put together by fours first: of bytes, or (after the input stage) of floats."""
    shape = layer.shape
    terms = {"int8 layers": 1.0, f"fours of {'floats' if first else 'bytes'}": float(shape.n_inputs)}
    if layer.rows is not None:
        return terms | {f"blocks: {name}": value for name, value in _sparse_terms(layer.rows, spilled, tile).items()}
    columns = -(-shape.n_inputs // BLOCK)
    dense = _dense_terms(LayerShape(columns, shape.n_outputs, shape.stored, "dense"), spilled, tile)
    return terms | {f"int8: {name}": value for name, value in dense.items()}


def weight_bytes(layers: Sequence[Layer]) -> float:
    """Bytes of weights that one tile reads."""
    return sum(_layer_bytes(layer, last=number == len(layers) - 1) for number, layer in enumerate(layers))


def _layer_bytes(layer: Layer, *, last: bool) -> float:
    shape = layer.shape
    if shape.kind.endswith("int8"):
        return shape.stored * (1.0 if layer.rows is None else 2.0)
    if last or layer.rows is not None:
        return 8.0 * shape.stored
    return 4.0 * shape.n_inputs * PANEL * -(-shape.n_outputs // PANEL)


def network_terms(work: Work, tile: Tile, caches: Caches) -> Terms:
    """Terms of a whole network over one tile, raw features in the first cache.

    Args:
        work: the network.
        tile: the size of tile.
        caches: of this machine.
    """
    terms: Terms = {"tiles": 1.0, **input_terms(work)}
    last = len(work.layers) - 1
    for number, layer in enumerate(work.layers):
        for name, value in layer_terms(layer, tile, caches, first=number == 0, last=number == last).items():
            _add(terms, name, value)
    stream = weight_bytes(work.layers)
    working_set = stream + work.shape.widest * tile.row_bytes
    terms["bytes of weights"] = stream
    for name, size in zip(("L1", "L2", "L3"), caches, strict=True):
        terms[f"bytes past {name}"] = stream * share_missed(working_set, size)
    return terms


def alone_terms(layer: NetworkLayer, tile: Tile, caches: Caches) -> Terms:
    """Terms that a layer adds to a network, its weights read from the first cache.

    Args:
        layer: any but the last.
        tile: the size of tile.
        caches: of this machine.
    """
    seen = _seen(layer)
    return {
        **layer_terms(seen, tile, caches, first=False, last=False),
        "bytes of weights": _layer_bytes(seen, last=False),
    }
