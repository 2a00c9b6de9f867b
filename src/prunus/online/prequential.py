"""Figures of a stream, window by window: each event is predicted before any model learns from it.

With y the click (0 or 1), l a model's log-odds, s(l) = 1 / (1 + exp(-l)), and c the window's share of clicks:

    loss = mean of log(1 + exp(l)) - y l               entropy = -(c log c + (1 - c) log(1 - c))
    NE = loss / entropy        calibration = sum of s(l) / sum of y        gap = 100 (NE_model / NE_dense - 1)

c is the same for every model, so a gap depends on the losses alone. What is not defined is None: NE in a window with one
class only, calibration without a click, all figures of a model that was not there for the whole window or ran away to
numbers that are not finite.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from prunus import click_metrics
from prunus.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

REFERENCE = "dense"
"""The model that gaps are taken to."""


class Prequential:
    """Windows of figures for several models, and their totals.

    A window closes at the first batch that fills it. Totals leave out the events before ``counted_from``, where masks
    still grow; a model's totals and gap are over the events that it predicted, the dense model's beside them too.

    Args:
        models: names, the reference among them where there is one.
        size: events of a window, 1 or more.
        counted_from: events at the beginning that no total counts.
    """

    def __init__(self, models: Sequence[str], size: int, counted_from: int = 0) -> None:
        if size < 1:
            msg = f"got a window of {size} events; expected 1 or more"
            raise DataError(msg)
        self.models = tuple(models)
        self.size = size
        self.counted_from = counted_from
        self.events = 0
        self.n_windows = 0
        self._label: list[NDArray[np.float32]] = []
        self._logits: dict[str, list[NDArray[np.float32] | None]] = {name: [] for name in self.models}
        # Of each model: events, clicks, its loss, and the loss of the reference on the same events.
        self._sums = {name: np.zeros(4) for name in self.models}

    @property
    def pending(self) -> int:
        """Events in the window that is open."""
        return sum(len(part) for part in self._label)

    @property
    def full(self) -> bool:
        """Whether the open window has all its events."""
        return self.pending >= self.size

    def add(
        self, label: NDArray[np.float32], logits: Mapping[str, NDArray[np.float32] | None]
    ) -> dict[str, NDArray[np.float64]]:
        """Take a batch that no model has learned from yet.

        Args:
            label: float32 [n], 0 or 1.
            logits: of each model, float32 [n], or None where it is not there yet.

        Returns:
            Log-loss of each event by each model that is there, float64 [n].
        """
        self._label.append(np.asarray(label, np.float32))
        for name in self.models:
            given = logits.get(name)
            self._logits[name].append(None if given is None else np.asarray(given, np.float32))
        losses = {name: click_metrics.log_losses(label, one) for name, one in logits.items() if one is not None}
        if self.events >= self.counted_from:
            self._count(label, losses)
        self.events += len(label)
        return losses

    def _count(self, label: NDArray[np.float32], losses: Mapping[str, NDArray[np.float64]]) -> None:
        beside = float(losses[REFERENCE].sum()) if REFERENCE in losses else np.nan
        for name in losses.keys() & self._sums:
            self._sums[name] += len(label), float(label.sum()), float(losses[name].sum()), beside

    def losses(self, name: str) -> NDArray[np.float64] | None:
        """Log-loss of a model for each event of the open window; None where it was not there for all of it."""
        logits = self._whole(name)
        return None if logits is None else click_metrics.log_losses(np.concatenate(self._label), logits)

    def close(self) -> dict[str, Any]:
        """End the open window, and give its line of the log."""
        label = np.concatenate(self._label)
        rate = float(label.mean(dtype=np.float64))
        found = {name: _figures(self._whole(name), label, rate) for name in self.models}
        line: dict[str, Any] = {
            "window": self.n_windows,
            "events": self.events,
            "size": len(label),
            "rate": rate,
            **{part: {name: found[name][part] for name in self.models} for part in ("ne", "auc", "calibration")},
            "gap_percent": {
                name: gap_percent(found[name]["loss"], found[REFERENCE]["loss"])
                for name in self.models
                if name != REFERENCE and REFERENCE in self.models
            },
        }
        self.n_windows += 1
        self._label.clear()
        for parts in self._logits.values():
            parts.clear()
        return line

    def totals(self) -> dict[str, Any]:
        """Give NE and gap over all events that count, of each model over those that it predicted."""
        ne: dict[str, float | None] = {}
        gap: dict[str, float | None] = {}
        for name, (n, clicks, loss, beside) in self._sums.items():
            spread = click_metrics.entropy(clicks / n) if n else 0.0
            ne[name] = _finite(loss / n / spread) if spread else None
            if name != REFERENCE and REFERENCE in self.models:
                gap[name] = gap_percent(loss, beside) if n else None
        counted = {name: int(sums[0]) for name, sums in self._sums.items()}
        return {"ne": ne, "gap_percent": gap, "counted": counted}

    def state(self) -> dict[str, Any]:
        """Give what a checkpoint needs: numbers and arrays."""
        return {
            "events": self.events,
            "n_windows": self.n_windows,
            "label": np.concatenate([np.empty(0, np.float32), *self._label]),
            "sizes": [len(part) for part in self._label],
            "logits": {
                name: [part if part is None else part.copy() for part in parts] for name, parts in self._logits.items()
            },
            "sums": {name: sums.copy() for name, sums in self._sums.items()},
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.events, self.n_windows = int(state["events"]), int(state["n_windows"])
        ends = np.cumsum(state["sizes"], dtype=np.int64)
        self._label = np.split(np.asarray(state["label"], np.float32), ends[:-1]) if len(ends) else []
        self._logits = {name: list(state["logits"][name]) for name in self.models}
        self._sums = {name: np.array(state["sums"][name], np.float64) for name in self.models}

    def _whole(self, name: str) -> NDArray[np.float32] | None:
        parts = self._logits.get(name, [])
        there = [part for part in parts if part is not None]
        return np.concatenate(there) if there and len(there) == len(parts) else None


def gap_percent(loss: float | None, reference: float | None) -> float | None:
    """Say by how many percent a loss is above the reference's on the same events; None where either is not there."""
    if loss is None or reference is None or not reference > 0:
        return None
    return _finite(100 * (loss / reference - 1))


def _figures(logits: NDArray[np.float32] | None, label: NDArray[np.float32], rate: float) -> dict[str, float | None]:
    found: dict[str, float | None] = dict.fromkeys(("loss", "ne", "auc", "calibration"))
    if logits is not None and np.isfinite(logits).all():
        found["loss"] = click_metrics.log_loss(label, logits)
        found["ne"] = _finite(click_metrics.normalized_entropy(label, logits, rate))
        found["auc"] = _finite(click_metrics.auc(label, logits))
        found["calibration"] = _finite(click_metrics.calibration(label, logits))
    return found


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
