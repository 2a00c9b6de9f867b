"""Dense features of a stream to inputs: signed log1p, then mean and spread of the events that came before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from prunus.engine.network import InputStage, SlotKind
from prunus.student.inputs import CLIP

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

LARGEST = np.float32(2.0**127)
"""log1p reads magnitudes above this as this, as the engine does."""

NARROW = 1e-3
"""A feature that varies by less than this share of its mean reads as 0: float32 can hardly tell its values apart."""


class RunningNormaliser:
    """z = clamp((t(x) - mean) / deviation, -5, 5) with t(x) = sign(x) log1p(|x|); 0 where x is missing (NaN).

    Mean and deviation are those of the events observed so far, all alike; an event is to be transformed before it is
    observed. Until a feature has varied it reads as 0.

    Attributes:
        n_dense: features.
        count: float64 [n_dense], events in which each feature was there.
        mean: float64 [n_dense], of t(x).
        spread: float64 [n_dense], sum of the squared deviations of t(x) from its mean.
    """

    def __init__(self, n_dense: int) -> None:
        """Begin without events.

        Args:
            n_dense: features.
        """
        self.n_dense = n_dense
        self.count = np.zeros(n_dense)
        self.mean = np.zeros(n_dense)
        self.spread = np.zeros(n_dense)

    def transform(self, dense: NDArray[np.float32]) -> NDArray[np.float32]:
        """Normalise events by those before them.

        Args:
            dense: float32 [n, n_dense]; NaN means missing.

        Returns:
            float32 [n, n_dense], finite.
        """
        return self._scaled(_signed_log(dense))

    def observe(self, dense: NDArray[np.float32]) -> None:
        """Learn mean and deviation from events.

        Args:
            dense: float32 [n, n_dense]; NaN means missing and is left out.
        """
        self._merge(_signed_log(dense))

    def advance(self, dense: NDArray[np.float32]) -> NDArray[np.float32]:
        """Transform events, then observe them, in one pass over the logarithms."""
        t = _signed_log(dense)
        z = self._scaled(t)
        self._merge(t)
        return z

    def input_stage(self) -> InputStage:
        """The transformation as it is now, for the engine: one slot a feature.

        Raises:
            NetworkError: there are no features.
        """
        center, scale = self._affine()
        bound = np.full(self.n_dense, CLIP, np.float32)
        kind = np.full(self.n_dense, SlotKind.LOG, np.uint8)
        feature = np.arange(self.n_dense, dtype=np.int32)
        return InputStage(feature, kind, center, scale, -bound, bound, np.zeros(self.n_dense, np.float32))

    def state(self) -> dict[str, NDArray[np.float64]]:
        """Copies of count, mean and spread."""
        return {"count": self.count.copy(), "mean": self.mean.copy(), "spread": self.spread.copy()}

    def load(self, state: Mapping[str, NDArray[np.float64]]) -> None:
        """Go on from what :meth:`state` returned."""
        self.count, self.mean, self.spread = (state[name].copy() for name in ("count", "mean", "spread"))

    def _affine(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Centre and scale of each feature, in the engine's precision."""
        deviation = np.sqrt(self.spread / np.maximum(self.count, 1.0))
        varies = deviation > NARROW * np.abs(self.mean)
        return self.mean.astype(np.float32), np.where(varies, 1.0 / np.where(varies, deviation, 1.0), 0.0).astype(
            np.float32
        )

    def _scaled(self, t: NDArray[np.float32]) -> NDArray[np.float32]:
        center, scale = self._affine()
        return np.asarray(np.nan_to_num(np.clip((t - center) * scale, -CLIP, CLIP), copy=False), np.float32)

    def _merge(self, t: NDArray[np.float32]) -> None:
        """Join the statistics of a batch to those so far (Chan, Golub, LeVeque 1983)."""
        there = ~np.isnan(t)
        n = there.sum(0).astype(np.float64)
        total = self.count + n
        mean = np.where(there, t, 0.0).sum(0, dtype=np.float64) / np.maximum(n, 1.0)
        spread = np.square(np.where(there, t - mean, 0.0)).sum(0)
        shift = mean - self.mean
        share = n / np.maximum(total, 1.0)
        self.spread += spread + shift * shift * self.count * share
        self.mean += shift * share
        self.count = total


def _signed_log(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """sign(x) log1p(min(|x|, 2^127)); NaN stays NaN."""
    return np.copysign(np.log1p(np.minimum(np.abs(x), LARGEST)), x)
