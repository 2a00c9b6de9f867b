"""The proof that a compiled network scores as the net it came from: both score generated rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from prunus.engine.reference import activate, input_stage
from prunus.errors import ParityError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from prunus.engine.scorer import RankScorer
    from prunus.foreign.net import ForeignNet

ROWS = 256
"""Rows of each kind, ordinary and far out."""

TOLERANCE = 1e-4
"""Scores agree within this times max(1, |score|)."""

REACH = 3.0
"""Rows far out reach 10^-REACH to 10^REACH times the spread of ordinary ones."""


@dataclass(frozen=True)
class Parity:
    """How near two models are.

    Attributes:
        rows: rows that both scored.
        largest: largest difference over max(1, |score|) among the ordinary rows.
    """

    rows: int
    largest: float


def parity_rows(net: ForeignNet, seed: int = 0) -> NDArray[np.float32]:
    """Generate rows to compare two models on: ordinary ones, then as many far out.

    An ordinary value is center + z / scale of its feature, z standard normal: where the net's own standardisation puts
    a feature; each feature of an eighth of them is exactly at its center. Far out, z is multiplied by 10^u, u uniform
    in -3 to 3, by row in one half and by value in the other.

    Args:
        net: what was read.
        seed: of the draws.

    Returns:
        float32 [2 * ROWS, n_features].
    """
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((2 * ROWS, net.n_features))
    z[rng.random(z.shape) < 0.125] = 0.0
    z[ROWS : ROWS + ROWS // 2] *= 10 ** rng.uniform(-REACH, REACH, (ROWS // 2, 1))
    z[ROWS + ROWS // 2 :] *= 10 ** rng.uniform(-REACH, REACH, (ROWS // 2, net.n_features))
    scale = np.where(net.inputs.scale == 0, 1.0, net.inputs.scale.astype(np.float64))
    largest = 1e30  # what the layers add up must stay inside float32
    return np.clip(z / scale + net.inputs.center, -largest, largest).astype(np.float32)


def largest_sums(net: ForeignNet, X: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return, for each row, the largest magnitude of W h + b in any layer.

    Args:
        net: what was read.
        X: float32 [n, n_features].

    Returns:
        float64 [n].
    """
    h = input_stage(net.inputs, X)
    largest = np.zeros(len(X))
    for layer in net.layers:
        h = h @ layer.weight.astype(np.float64).T + layer.bias
        largest = np.maximum(largest, np.abs(h).max(axis=1))
        h = activate(h, layer.activation)
    return largest


def prove_parity(scorer: RankScorer, net: ForeignNet) -> Parity:
    """Compare a compiled network with the net it came from, on rows over a wide range.

    On ordinary rows the scores agree within 1e-4 max(1, |score|). Far out a net may add up numbers much larger than the
    score that is left of them, and float32 holds seven digits of the larger: there the scores agree within 1e-4 of the
    largest number that any layer adds up.

    Args:
        scorer: the compiled network.
        net: what it was compiled from.

    Raises:
        ParityError: they do not agree; nothing may be written.
        ForeignModelError: the net does not run where it came from.
    """
    X = parity_rows(net)
    theirs, ours = np.asarray(net.run(X), np.float64), np.asarray(scorer.score(X), np.float64)
    size = np.maximum(1.0, np.abs(theirs))
    size[ROWS:] = np.maximum(size, largest_sums(net, X))[ROWS:]
    with np.errstate(invalid="ignore"):  # an infinity less an infinity is NaN, which is no agreement
        difference: NDArray[Any] = np.abs(ours - theirs) / size
    bad = np.flatnonzero(~(difference <= TOLERANCE))
    if len(bad):
        row = int(bad[0])
        msg = (
            f"the compiled network scores {ours[row]:.8g} where the net gives {theirs[row]:.8g} ({len(bad)} of {len(X)}"
            f" generated rows, the first {'far out' if row >= ROWS else 'an ordinary one'}); expected agreement within"
            f" {TOLERANCE:g}: report this as a bug, or scale the features so that float32 holds what the net adds up"
        )
        raise ParityError(msg)
    return Parity(len(X), float(difference[:ROWS].max()))
