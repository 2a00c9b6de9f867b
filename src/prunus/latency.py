"""How long a network takes on this CPU: measure our own kernels once, then predict any network.

A batch is cut in full tiles of documents and one smaller tile for the rest. A call of less than a full tile is timed
whole, so the call itself is in T_rest; after full tiles it is taken out again:

    T(batch) = T_rest                                   for less than a full tile
             = call + n_full T_full + (T_rest - call)   else,        T_tile = c_0 + c_1 groups + c_2 slots + c_3 log slots
                                                            + c_4 units + c_5 stored weights + c_6 dense weights

with one set of coefficients for each size of tile, fitted by non-negative least squares on relative errors over random
networks that are built and timed here. (The additive form over rows and stored weights is that of arXiv 2202.10728 as
far as it is known; the input stage and the smaller tiles are ours.)
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from prunus import _native
from prunus.data.ranking import Schema
from prunus.engine.network import GROUP, Activation, Dense, InputStage, Layer, Network, NetworkShape, SlotKind, Sparse
from prunus.engine.scorer import RankScorer, choose_isa
from prunus.errors import CalibrationError, OutputError
from prunus.extras import need

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

MODEL_VERSION: Final = 3
"""Raised whenever kernels or the form of the model change, so that stored calibrations are measured again."""


@dataclass(frozen=True)
class Latency:
    """A predicted time.

    Attributes:
        us_per_doc: microseconds for each document, one thread, raw features in, scores out.
        error: the 90 % quantile of the relative error that the model made on networks it was not fitted on.
    """

    us_per_doc: float
    error: float


@dataclass(frozen=True)
class Prices:
    """What the parts of a sparse network cost, in one unit: microseconds for each document, or bytes.

    Attributes:
        fixed: call, output and everything that pruning cannot save.
        weight: one stored weight.
        unit: one unit (its bias, activation and store).
        slot: float64 [n_slots], each input slot.
        block: one stored block of four neighbouring int8 weights.
    """

    fixed: float
    weight: float
    unit: float
    slot: NDArray[np.float64]
    block: float = 0.0


def _terms(shape: NetworkShape) -> NDArray[np.float64]:
    """The terms of the module's formula; the engine runs the last layer as one sparse row, whatever its kernel."""
    rows = stored = dense = 0
    for number, (_, n_out, weights, kind) in enumerate(shape.layers):
        if kind == "sparse" or number == len(shape.layers) - 1:
            rows, stored = rows + n_out, stored + weights
        else:
            dense += weights
    return np.array([1.0, shape.n_groups, shape.n_slots, shape.n_log_slots, rows, stored, dense])


@dataclass(frozen=True)
class LatencyModel:
    """The time model of one CPU and one build of the engine.

    Attributes:
        key: hash of the CPU, instruction set and engine that it was measured on.
        lanes: documents in a vector.
        call_us: of a call, whatever the batch.
        tiles: us coefficients: ``"4"`` for a full tile without the call; with the call, ``"2"`` and ``"3"`` for calls of
            that many vectors and ``"few:n"`` for calls of n documents.
        error: 90 % quantile of the relative error on networks held out of the fit.
        anchor_us: time of a call of the anchor network when this was measured; see :meth:`anchored_us`.
    """

    key: str
    lanes: int
    call_us: float
    tiles: dict[str, list[float]]
    error: float
    anchor_us: float

    def _call_of(self, documents: int) -> NDArray[np.float64]:
        """Coefficients of a call of less than a full tile; between sizes that were measured, interpolated."""
        vectors = -(-documents // self.lanes)
        if vectors > 1:
            return np.array(self.tiles[str(min(vectors, 3))]) if vectors < 4 else self._full(1)
        known = sorted(int(name[4:]) for name in self.tiles if name.startswith("few:"))
        columns = zip(*(self.tiles[f"few:{n}"] for n in known), strict=True)
        return np.array([np.interp(documents, known, column) for column in columns])

    def _full(self, tiles: int) -> NDArray[np.float64]:
        """Coefficients of a call of that many full tiles."""
        return np.asarray(np.array(self.tiles["4"]) * tiles + self.call_us * np.eye(7)[0])

    def _coefficients(self, batch: int) -> NDArray[np.float64]:
        """Us of a call of ``batch`` documents for each unit of the terms."""
        full, rest = divmod(batch, 4 * self.lanes)
        if full == 0:
            return self._call_of(rest)
        tail = self._call_of(rest) - self.call_us * np.eye(7)[0] if rest else np.zeros(7)
        return self._full(full) + np.maximum(tail, 0.0)

    def predict(self, network: Network | NetworkShape, batch: int = 128) -> Latency:
        """Predict the time of a network.

        Args:
            network: or its shape.
            batch: documents in a call, at least 1.
        """
        shape = network.shape if isinstance(network, Network) else network
        return Latency(float(np.dot(self._coefficients(batch), _terms(shape))) / batch, self.error)

    def layer_us(self, n_outputs: int, stored: int, *, sparse: bool, batch: int = 128) -> float:
        """Predict one layer, us for each document.

        Args:
            n_outputs: of the layer.
            stored: weights that are stored.
            sparse: the kernel.
            batch: documents in a call.
        """
        c = self._coefficients(batch) / batch
        return float(c[4] * n_outputs + c[5] * stored if sparse else c[6] * stored)

    def prices(self, inputs: InputStage, batch: int) -> Prices:
        """Price the parts of a sparse network, us for each document.

        Args:
            inputs: the input stage, all slots; a feature's load is shared by its slots.
            batch: documents in a call.
        """
        c = self._coefficients(batch) / batch
        slots_of_feature = np.bincount(inputs.feature)[inputs.feature]
        slot = c[1] / _group_sizes(inputs.feature) / slots_of_feature + c[2] + c[3] * (inputs.kind == SlotKind.LOG)
        return Prices(float(c[0]), float(c[5]), float(c[4]), slot)

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
        anchor = _anchor()
        ratios = []
        rounds = max(int(seconds / 0.02), 5)
        for _ in range(rounds):
            before = time_call(anchor, seconds=0.005)
            ratios.append(time_call(call, seconds=0.01) * 2 / (before + time_call(anchor, seconds=0.005)))
        return float(np.median(ratios)) * self.anchor_us

    def save(self, path: Path) -> None:
        """Write the model as JSON.

        Raises:
            OutputError: the file cannot be written.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            scratch = path.with_suffix(f".{os.getpid()}.part")
            scratch.write_text(json.dumps(asdict(self), indent=1))
            scratch.replace(path)
        except OSError as error:
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
        path = cache_dir() / f"latency-{machine_key()}.json"
        if path.exists():
            try:
                return cls.load(path)
            except CalibrationError:
                path.unlink(missing_ok=True)
        model = calibrate(progress=progress)
        model.save(path)
        return model


def cache_dir() -> Path:
    """Where measurements are kept: PRUNUS_CACHE, else ~/.cache/prunus."""
    return Path(os.environ.get("PRUNUS_CACHE") or Path.home() / ".cache" / "prunus")


def _cpu() -> str:
    wanted = ("vendor_id", "cpu family", "model", "model name", "stepping", "cache size", "flags")
    try:
        text = Path("/proc/cpuinfo").read_text().split("\n\n", 1)[0]
    except OSError:
        return platform.processor() or platform.machine()
    return "\n".join(line for line in text.splitlines() if line.split(":")[0].strip() in wanted)


def machine_key() -> str:
    """Hash of all that a measured time depends on: CPU, instruction set, engine build."""
    build = hashlib.sha256(Path(_native.__file__).read_bytes()).hexdigest()
    text = "\n".join([_cpu(), choose_isa(), build, str(MODEL_VERSION)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def random_network(rng: np.random.Generator, *, widest: int = 256) -> Network:
    """Draw a network to be timed: 1 to 4 layers, widths from 4, densities from 2 to 100 %, plain and log inputs.

    Args:
        rng: source of randomness.
        widest: bound of the widths.
    """
    n_features = int(rng.integers(8, 160))
    read = np.sort(rng.choice(n_features, int(rng.integers(4, n_features + 1)), replace=False)).astype(np.int32)
    kind = np.where(rng.random(len(read)) < rng.random(), SlotKind.LOG, SlotKind.VALUE).astype(np.uint8)
    ones = np.ones(len(read), np.float32)
    inputs = InputStage(read, kind, 0 * ones, ones, -5 * ones, 5 * ones, 0 * ones)
    widths = [int(w) for w in np.exp(rng.uniform(np.log(4), np.log(widest), int(rng.integers(1, 5))))]
    layers: list[Layer] = []
    n_in = len(read)
    for n_out in [*widths, 1]:
        weight = rng.normal(size=(n_out, n_in)).astype(np.float32) / np.float32(n_in**0.5)
        activation = Activation.IDENTITY if n_out == 1 else Activation.RELU6
        if rng.random() < 0.35:
            layers.append(Dense(weight, np.zeros(n_out, np.float32), activation))
        else:
            weight[rng.random(weight.shape) > np.exp(rng.uniform(np.log(0.02), 0))] = 0
            layers.append(Sparse.from_dense(weight, np.zeros(n_out, np.float32), activation))
        n_in = n_out
    return Network(n_features, inputs, tuple(layers))


def time_call(call: Callable[[], object], *, seconds: float) -> float:
    """Time a call, us: the median over slices of the mean of a slice, after one slice to warm up.

    Args:
        call: what to time.
        seconds: to spend, about.
    """
    clock = time.perf_counter
    start = clock()
    call()
    repeats = max(int(3e-4 / max(clock() - start, 1e-7)), 1)
    slices: list[float] = []
    end = clock() + seconds
    while clock() < end or len(slices) < 4:
        start = clock()
        for _ in range(repeats):
            call()
        slices.append((clock() - start) / repeats)
    return float(np.median(slices[1:])) * 1e6


def _group_sizes(feature: NDArray[np.int32]) -> NDArray[np.int64]:
    """For each slot, how many of the features read stand in the group that is loaded for it."""
    read = np.unique(feature)
    group, end = [], -1
    for f in read.tolist():
        if f >= end:
            end = f + GROUP
        group.append(end)
    _, of_feature, count = np.unique(group, return_inverse=True, return_counts=True)
    return np.asarray(count[of_feature][np.searchsorted(read, feature)])


def _anchor() -> Callable[[], object]:
    """Make a call of one fixed network on one fixed batch: what the machine's speed is measured by."""
    rng = np.random.default_rng(12345)
    network = random_network(rng)
    X = np.exp(rng.normal(size=(128, network.n_features))).astype(np.float32)
    return partial(RankScorer(network, Schema(tuple(f"f{i}" for i in range(network.n_features)))).score, X)


def _fit(terms: NDArray[np.float64], us: NDArray[np.float64]) -> NDArray[np.float64]:
    optimize = need("scipy.optimize", extra="train")
    weight = 1.0 / us
    size = np.abs(terms * weight[:, None]).max(axis=0)
    size[size == 0] = 1.0
    coefficients, _ = optimize.nnls(terms * weight[:, None] / size, us * weight)
    return np.asarray(coefficients / size)


def calibrate(seconds: float = 20.0, *, seed: int = 0, progress: Callable[[float], None] | None = None) -> LatencyModel:
    """Measure this CPU's kernels and fit the time model.

    Args:
        seconds: to spend, about; under a minute gives errors of a few per cent.
        seed: of the random networks.
        progress: told the share done, in [0, 1].
    """
    rng = np.random.default_rng(seed)
    lanes = _native.lanes(choose_isa())
    few = sorted({1, 2, max(lanes // 4, 1), max(lanes // 2, 1), lanes})
    batches = [*few, 2 * lanes, 3 * lanes, 4 * lanes, 16 * lanes]
    n_networks = 44
    anchor = _anchor()
    anchors = []
    each = seconds / n_networks / len(batches)
    terms, us = [], []
    for number in range(n_networks):
        network = random_network(rng)
        names = tuple(f"f{i}" for i in range(network.n_features))
        scorer = RankScorer(network, Schema(names))
        X = np.exp(rng.normal(size=(batches[-1], network.n_features))).astype(np.float32)
        terms.append(_terms(network.shape))
        anchors.append(time_call(anchor, seconds=each))
        row = [time_call(partial(scorer.score, X[:batch]), seconds=each) for batch in batches]
        us.append(np.array(row) / anchors[-1])
        if progress is not None:
            progress((number + 1) / n_networks)
    anchor_us = float(np.median(anchors))
    return _fit_model(np.array(terms), np.array(us) * anchor_us, batches, few, lanes, anchor_us)


def _fit_model(
    terms: NDArray[np.float64],
    us: NDArray[np.float64],
    batches: list[int],
    few: list[int],
    lanes: int,
    anchor_us: float,
) -> LatencyModel:
    # Four tiles less one tile, over three, is a tile without the call; what one tile takes beyond that is the call.
    one, four = us[:, batches.index(4 * lanes)], us[:, batches.index(16 * lanes)]
    tile = (four - one) / 3.0
    if (tile <= 0).any():
        msg = "the machine was too busy to be measured: a call of more documents took less time; calibrate again"
        raise CalibrationError(msg)
    call_us = max(float(np.median(one - tile)), 0.0)
    columns = {"4": tile, "2": us[:, batches.index(2 * lanes)], "3": us[:, batches.index(3 * lanes)]}
    columns |= {f"few:{n}": us[:, batches.index(n)] for n in few}
    held = np.arange(len(terms)) % 4 == 3
    errors = []
    for y in columns.values():
        fitted = _fit(terms[~held], y[~held])
        errors.append(np.abs(terms[held] @ fitted / y[held] - 1.0))
    tiles = {name: [float(c) for c in _fit(terms, y)] for name, y in columns.items()}
    return LatencyModel(machine_key(), lanes, call_us, tiles, float(np.quantile(errors[0], 0.9)), anchor_us)
