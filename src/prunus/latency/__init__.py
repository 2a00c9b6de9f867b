"""How long a network takes on this CPU: measure our own kernels once, then predict any network.

:func:`calibrate` times random networks in turn with a fixed anchor and fits a :class:`LatencyModel`; it is stored under
:func:`~prunus.engine.disk.cache_dir` and refused on another machine. What the model counts is in
:mod:`prunus.latency.terms`.
"""

from prunus.latency.calibration import calibrate
from prunus.latency.key import machine_key
from prunus.latency.model import Latency, LatencyModel, stored_path
from prunus.latency.networks import random_batch, random_network
from prunus.latency.prices import Prices

__all__ = [
    "Latency",
    "LatencyModel",
    "Prices",
    "calibrate",
    "machine_key",
    "random_batch",
    "random_network",
    "stored_path",
]
