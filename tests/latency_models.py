"""A time model in round numbers, so that tests of what uses one need not measure anything."""

from __future__ import annotations

from prunus.latency import LatencyModel, machine_key


def round_numbers() -> LatencyModel:
    """Give a time model of this machine's key: a weight costs 1 ns a tile, a unit 1 ns, a slot 5 ns, log 10 ns more."""
    call = 0.5
    tile = [0.05, 0.01, 0.005, 0.010, 0.001, 0.001, 0.0006]

    def whole(share: float) -> list[float]:
        return [call + share * tile[0], *(share * c for c in tile[1:])]

    few = {f"few:{n}": whole(0.25) for n in (1, 2, 4, 8, 16)}
    return LatencyModel(machine_key(), 16, call, {"4": tile, "3": whole(0.8), "2": whole(0.6), **few}, 0.1, 10.0)
