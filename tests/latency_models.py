"""A time model in round numbers, so that tests of what uses one need not measure anything."""

from __future__ import annotations

from prunus.latency import LatencyModel, machine_key
from prunus.latency.model import FULL, HALF, TURN

CALL_US = 0.5

TILE = {
    "tiles": 0.05,
    "groups": 0.01,
    "slots": 0.005,
    "log slots": 0.015,
    "rows": 0.001,
    "weights": 0.001,
    "last weights": 0.001,
    "multiply-adds": 0.0006,
    "blocks: weights": 0.0005,
    "int8: multiply-adds": 0.0008,
}
"""Us of each term of a full tile."""


def round_numbers() -> LatencyModel:
    """Give a time model of this machine's key: a weight costs 1 ns a tile, a unit 1 ns, a slot 5 ns, log 10 ns more."""

    def call(share: float) -> dict[str, float]:
        prices = {name: share * us for name, us in TILE.items()}
        return prices | {"tiles": CALL_US + prices["tiles"]}

    shares = {1: 0.25, 2: 0.25, 4: 0.25, 8: 0.25, 16: 0.25, 24: 0.5, 32: 0.6, 48: 0.8, 64: 1.0}
    tiles = {str(documents): call(share) for documents, share in shares.items()}
    half = {name: 0.6 * us for name, us in TILE.items()}
    return LatencyModel(machine_key(), 16, CALL_US, 480.0, tiles | {FULL: TILE, HALF: half, TURN: {}}, {}, 0.1, 10.0)
