"""The time model: prices of what a network does, from which the time of any network follows.

A call of n documents runs n // F full tiles of F documents and one smaller tile for the rest; F is four vectors, or two
where activations would not stay near the first cache. With x_t(network) the
counted terms of a tile of t documents (:mod:`prunus.latency.terms`) and c_t their fitted prices, all of them 0 or more,

    T(n) = c_n x_n                                                  n <= F: a call of one tile, the call included
         = c_F x_F + (n // F - 1) c_full x_F + (c_r x_r - call + c_turn x_r)     else, r = n mod F (no last part where r = 0)

plus the cache lines of raw features that come from beyond the first cache, each at its price. The additive form over
rows and stored weights is that of arXiv 2202.10728 as far as it is known; the other terms are ours.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from prunus.engine.disk import cache_dir, write_atomically
from prunus.errors import CalibrationError, OutputError
from prunus.latency.clock import time_against_anchor
from prunus.latency.key import data_caches, machine_key
from prunus.latency.prices import Prices, linearised
from prunus.latency.terms import Terms, Tile, Work, alone_terms, fetch_terms, network_terms, work_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from prunus.engine.network import InputStage, Layer, Network, NetworkShape

FULL, HALF = "full", "half"
"""Names of the prices of a full tile that is not the first of its call, of four vectors and (in wide networks) of two."""

TURN = "turn"
"""Name of the prices of what a last, smaller tile takes beyond its own call: the CPU turns to another code for it, whose
branches it has to learn anew."""

SIZES = (2_000, 20_000)
"""Stored weights where one region of the error bars ends and the next begins."""


@dataclass(frozen=True)
class Latency:
    """A predicted time.

    Attributes:
        us_per_doc: microseconds for each document, one thread, raw features in, scores out.
        error: the 90 % quantile of the relative error that the model made on networks it was not fitted on, of about
            this size and in calls of about as many documents.
    """

    us_per_doc: float
    error: float


@dataclass(frozen=True)
class LatencyModel:
    """The time model of one CPU and one build of the engine.

    Attributes:
        key: hash of the CPU, caches, instruction set and engine that it was measured on.
        lanes: documents in a vector.
        call_us: of a call of no documents.
        halved_from: widest pair (:attr:`Work.widest_pair`) from which full tiles are of two vectors.
        tiles: documents -> term -> us: of a call of that many documents; and :data:`FULL`, :data:`HALF` and :data:`TURN`.
        fetch: us of a cache line of raw features from beyond each cache.
        error: 90 % quantile of the relative error on networks held out of the fit.
        errors: the same by region, see :func:`region`.
        anchor_us: time of a call of the anchor network when this was measured; see :meth:`anchored_us`.
    """

    key: str
    lanes: int
    call_us: float
    halved_from: float
    tiles: dict[str, Terms]
    fetch: Terms
    error: float
    anchor_us: float
    errors: dict[str, float] = field(default_factory=dict)

    def full_tile(self, widest_pair: int = 0) -> int:
        """Documents of a full tile of a network."""
        return (4 if widest_pair < self.halved_from else 2) * self.lanes

    def tiles_of(self, batch: int, widest_pair: int = 0) -> list[tuple[str, Tile, float]]:
        """Cut a call: which prices, at which size of tile, how many times.

        Args:
            batch: documents in the call.
            widest_pair: of the network.

        Returns:
            Name of the prices, tile and count; a call of several tiles pays the call once, so ``call_us`` comes off
            the last one where that is a call's own prices.
        """
        full = self.full_tile(widest_pair)
        n_full, rest = divmod(batch, full)
        found = []
        if n_full:
            found.append((str(full), self._tile(full), 1.0))
        if n_full > 1:
            found.append((FULL if full == 4 * self.lanes else HALF, self._tile(full), n_full - 1.0))
        if rest:
            size = next(size for size in self._sizes() if size >= rest)
            found.append((str(size), self._tile(size), 1.0))
        return found

    def _sizes(self) -> list[int]:
        return sorted(int(name) for name in self.tiles if name.isdigit())

    def _tile(self, documents: int) -> Tile:
        return tile_of(documents, self.lanes)

    def call_time_us(self, work: Work, batch: int, cycle: int) -> float:
        """Predict a call.

        Args:
            work: the network.
            batch: documents in it.
            cycle: documents that calls go through before they read the same again.
        """
        caches = data_caches()
        full = self.full_tile(work.widest_pair)
        n_full, rest = divmod(batch, full)

        def of(name: str, documents: int) -> float:
            return priced(self.tiles[name], network_terms(work, tile_of(documents, self.lanes), caches))

        total = priced(self.fetch, fetch_terms(work, batch, cycle, caches))
        if n_full:
            more = of(FULL if full == 4 * self.lanes else HALF, full)
            total += of(str(full), full) + (n_full - 1) * more
        if rest:
            size = next(n for n in self._sizes() if n >= rest)
            total += of(str(size), size)
            if n_full:
                total += of(TURN, size) - self.call_us
        return total

    def predict(self, network: Network | NetworkShape, batch: int = 128, *, cycle: int | None = None) -> Latency:
        """Predict the time of a network.

        Args:
            network: or its shape, whose sparse rows are then taken to be random.
            batch: documents in a call, at least 1.
            cycle: documents that calls go through before they read the same again: what stays in which cache. Default:
                every call reads the same ones.
        """
        work = work_of(network)
        us = self.call_time_us(work, batch, max(cycle or batch, batch))
        stored = sum(layer.stored for layer in work.shape.layers)
        return Latency(us / batch, self.errors.get(region(stored, batch, self.lanes), self.error))

    def layer_us(self, layer: Layer, *, batch: int = 128) -> float:
        """Predict what one layer adds to the time of a network, us for each document.

        Args:
            layer: any but the last.
            batch: documents in a call.
        """
        caches = data_caches()
        cut = self.tiles_of(batch, layer.n_inputs + layer.n_outputs)
        return sum(n * priced(self.tiles[name], alone_terms(layer, tile, caches)) for name, tile, n in cut) / batch

    def prices(
        self,
        inputs: InputStage,
        batch: int,
        *,
        target_us: float | None = None,
        cycle: int | None = None,
        kind: Literal["sparse", "block_int8"] = "sparse",
    ) -> Prices:
        """Price the parts of a sparse network, us for each document.

        The model is not linear, prices are: they are its tangent at a network that costs the target, so that a student
        pruned to the target by prices is predicted to take about the target.

        Args:
            inputs: the input stage, all slots; a feature's load is shared by its slots.
            batch: documents in a call.
            target_us: what the student is to take, us for each document; None for a small student.
            cycle: as in :meth:`predict`.
            kind: kernel of the hidden layers of that network.
        """
        return linearised(self, inputs, batch, target_us=target_us, cycle=cycle, kind=kind)

    def anchored_us(self, call: Callable[[], object], *, seconds: float = 0.5) -> float:
        """Time a call in turn with the anchor network and divide out how much slower or faster the machine is now.

        A shared machine drifts by half within minutes; the ratio to the anchor does not, so times taken this way can
        be compared with predictions.

        Args:
            call: what to time.
            seconds: to spend, about.

        Returns:
            us of the call, at the speed that the machine had when it was calibrated.
        """
        us, anchor = time_against_anchor(call, seconds=seconds)
        return us / anchor * self.anchor_us

    def save(self, path: Path) -> None:
        """Write the model as JSON.

        Raises:
            OutputError: the file cannot be written.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, json.dumps(asdict(self), indent=1).encode())
        except OSError as error:  # an OutputError is one too
            msg = f"cannot write the time model {path}: {error}; set PRUNUS_CACHE to a directory that can be written"
            raise OutputError(msg) from error

    @classmethod
    def load(cls, path: Path) -> LatencyModel:
        """Read a stored model and check that it was measured here.

        Raises:
            CalibrationError: it cannot be read, or belongs to another CPU or build.
        """
        try:
            model = cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError) as error:
            msg = f"cannot read the time model {path}: {error}; calibrate again"
            raise CalibrationError(msg) from error
        if model.key != machine_key():
            msg = f"{path} was measured on another CPU, instruction set or engine; expected one of this machine: calibrate again"
            raise CalibrationError(msg)
        return model

    @classmethod
    def load_or_calibrate(cls, *, progress: Callable[[float], None] | None = None) -> LatencyModel:
        """Return this machine's stored model, measuring and storing it first where there is none."""
        from prunus.latency.calibration import calibrate

        path = stored_path()
        if path.exists():
            try:
                return cls.load(path)
            except CalibrationError:
                path.unlink(missing_ok=True)
        model = calibrate(progress=progress)
        model.save(path)
        return model


def stored_path() -> Path:
    """Where this machine's time model is kept."""
    return cache_dir() / f"latency-{machine_key()}.json"


def tile_of(documents: int, lanes: int) -> Tile:
    """Describe the tile that a call of so many documents runs in."""
    return Tile(documents, -(-documents // lanes), 4 if documents <= 4 < lanes else lanes)


def priced(prices: Terms, terms: Terms) -> float:
    """Sum of terms, each at its price; terms without one cost nothing."""
    return sum(prices.get(name, 0.0) * value for name, value in terms.items())


def region(stored: int, batch: int, lanes: int) -> str:
    """Name the region of the error bars that a network and a call belong to.

    Args:
        stored: weights of the network.
        batch: documents in a call.
        lanes: documents in a vector.
    """
    size = int(np.searchsorted(SIZES, stored, side="right"))
    calls = ("one", "few", "a tile", "many")[sum(batch > bound for bound in (1, lanes, 4 * lanes))]
    return f"{('small', 'medium', 'large')[size]}, {calls}"
