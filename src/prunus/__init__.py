"""Small sparse models that rank as well as the model they came from, and score many times faster on a CPU.

>>> import prunus
>>> scorer = prunus.load("ranker.prunus")  # doctest: +SKIP
>>> scores = scorer.score(X)  # doctest: +SKIP

Importing this package loads nothing but itself; each name below is imported when it is first used. Loading a model and
scoring need numpy and safetensors; the rest needs the extras (``pip install 'prunus[train,cli]'``).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prunus.compiler import compile as compile  # noqa: A004 - the verb, as the user writes it
    from prunus.compress.estimator import DistilledRanker as DistilledRanker
    from prunus.engine.event_scorer import EventScorer as EventScorer
    from prunus.engine.loading import load as load
    from prunus.engine.recommend_scorer import RecommendScorer as RecommendScorer
    from prunus.engine.scorer import RankScorer as RankScorer

__version__ = "0.1.0"

_HOME = {
    "DistilledRanker": "prunus.compress.estimator",
    "EventScorer": "prunus.engine.event_scorer",
    "RankScorer": "prunus.engine.scorer",
    "RecommendScorer": "prunus.engine.recommend_scorer",
    "compile": "prunus.compiler",
    "load": "prunus.engine.loading",
}

__all__ = ["DistilledRanker", "EventScorer", "RankScorer", "RecommendScorer", "__version__", "compile", "load"]


def __getattr__(name: str) -> object:
    """Import a public name when it is first used."""
    if name not in _HOME:
        msg = f"module 'prunus' has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
