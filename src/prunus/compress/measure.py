"""What a student costs, measured on real documents; and designs corrected by it before anything is trained."""

from __future__ import annotations

from dataclasses import replace
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np

from prunus.bench.quick import enough_rows
from prunus.bench.worker import batches_of
from prunus.compress.typical import typical_network
from prunus.data.ranking import Schema
from prunus.design import CYCLE, METADATA_BYTES, PRUNED, Architecture, cheapest, dense_cost, halving
from prunus.design import prices as prices_at
from prunus.engine.file import to_bytes
from prunus.engine.scorer import RankScorer

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from prunus.compress.workspace import Workspace
    from prunus.design import Budget, Kind
    from prunus.engine.network import InputStage, Network
    from prunus.latency import LatencyModel, Prices

TIMED_ROWS = CYCLE
"""Documents that a measurement cycles through, where there are as many."""

CLOSE = 0.96
"""A dense design is widened until it measures at least this share of its target; a step of one unit is about 3 %."""


def measured_us(
    network: Network, X: NDArray[np.float32], batch: int, latency: LatencyModel, *, seconds: float = 0.6
) -> float:
    """Time a network on real documents, us for each document, the machine's drift since its calibration divided out.

    Args:
        network: to time.
        X: float32 [n, n_features]; batches are cut from it in turn.
        batch: documents in a call.
        latency: time model, whose anchor the drift is measured by.
        seconds: to spend.
    """
    names = tuple(f"f{i}" for i in range(network.n_features))
    scorer = RankScorer(network, Schema(names, (True,) * network.n_features))
    return measured_scorer_us(scorer, X, batch, latency, seconds=seconds)


def measured_scorer_us(
    scorer: RankScorer, X: NDArray[np.float32], batch: int, latency: LatencyModel, *, seconds: float = 0.6
) -> float:
    """Time a scorer as :func:`measured_us` times a network."""
    batches = cycle(batches_of(enough_rows(X[:TIMED_ROWS], batch), batch))
    return latency.anchored_us(lambda: scorer.score(next(batches)), seconds=seconds) / batch


class Costs:
    """Measures what networks cost in the budget's unit, and remembers it: a resumed run must choose the same."""

    def __init__(
        self,
        budget: Budget,
        inputs: InputStage,
        schema: Schema,
        prices: Prices,
        latency: LatencyModel,
        X: NDArray[np.float32],
        space: Workspace | None,
        widest: int,
        *,
        stage_of: Callable[[Architecture], InputStage] | None = None,
    ) -> None:
        """Set up.

        Args:
            budget: says the unit, and the documents in a call.
            inputs: the input stage, all slots.
            schema: of the model file.
            prices: of a sparse network's parts.
            latency: time model of this CPU.
            X: float32 [n, n_features], documents to time on.
            space: where measurements are remembered, or None.
            widest: first hidden layer of a dense student at most.
            stage_of: inputs that a student reads; None where all read all.
        """
        self.stage_of = stage_of or (lambda _: inputs)
        self.budget, self.inputs, self.schema, self.prices = budget, inputs, schema, prices
        self.latency, self.X, self.space, self.widest = latency, X, space, widest

    def of(self, network: Network, name: str) -> float:
        """Cost of a network: bytes of its file, or measured us for each document."""
        if self.budget.n_bytes is not None:
            return float(len(to_bytes(network, self.schema, metadata={})) + METADATA_BYTES)

        def measure() -> float:
            return measured_us(network, self.X, self.budget.batch, self.latency)

        return self._remembered(name, measure)

    def _remembered(self, name: str, measure: Callable[[], float]) -> float:
        return measure() if self.space is None else float(self.space.json(f"measured-{name}", measure))

    def prices_of(self, kind: Kind) -> Prices:
        """Prices of a network's parts at one of a kind that takes the budget."""
        return (
            prices_at(self.inputs, self.budget, self.latency, self.schema, kind=kind)
            if kind == "block"
            else self.prices
        )

    def _typical(self, architecture: Architecture) -> Network:
        price = self.prices_of(architecture.kind)
        return typical_network(architecture, self.stage_of(architecture), self.schema.n_features, price)

    def fit(self, architecture: Architecture) -> Architecture:
        """Correct a design by what random networks of its shape take here.

        The target of one that is pruned moves by what the time model misses, above all where there are so few documents
        that they do not come from memory. One that keeps its weights has nothing to prune, so its widths move, up or
        down, until its measured time is as near below the target as a unit allows.
        """
        if self.budget.n_bytes is not None:
            return architecture
        if architecture.kind in PRUNED:
            network = self._typical(architecture)
            predicted = self.predicted(network)
            missed = self.of(network, f"{architecture.key}-random") - predicted
            target = architecture.target - float(np.clip(missed, -0.3 * architecture.target, 0.6 * architecture.target))
            return replace(architecture, target=max(target, cheapest(self.prices)))
        return self._fit_widths(architecture)

    def _fit_widths(self, architecture: Architecture) -> Architecture:
        measured: dict[int, float] = {}
        first, n_layers, target = architecture.widths[0], len(architecture.widths), architecture.target
        while first not in measured:
            widths = halving(first, n_layers)
            design = replace(architecture, widths=widths)
            measured[first] = self.of(self._typical(design), f"{design.key}-random")
            if CLOSE * target <= measured[first] <= target or first <= 2:
                break
            ratio = measured[first] / self._predicted(design)
            narrower = (replace(design, widths=halving(n, n_layers)) for n in range(2, self.widest + 1))
            first = max((one.widths[0] for one in narrower if self._predicted(one) * ratio <= target), default=2)
        inside = [n for n, us in measured.items() if us <= target]
        best = max(inside) if inside else min(measured)
        return replace(architecture, widths=halving(best, n_layers))

    def predicted_us(self, network: Network) -> float:
        """Predict what a network takes, us for each document at the budget's batch, documents fetched from memory."""
        return self.latency.predict(network, self.budget.batch, cycle=CYCLE).us_per_doc

    def predicted(self, network: Network) -> float:
        """Predict what a network costs in the budget's unit; bytes are counted."""
        return self.predicted_us(network) if self.budget.n_bytes is None else self.of(network, "")

    def _predicted(self, architecture: Architecture) -> float:
        widths, kind = architecture.widths, architecture.kind
        return dense_cost(self.stage_of(architecture), widths, self.budget, self.latency, self.schema, kind)
