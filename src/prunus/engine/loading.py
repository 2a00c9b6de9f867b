"""``prunus.load``: whatever a model file holds, ready to run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prunus.engine import click_file, file, recommender_file
from prunus.engine.header import checked_header, read_bytes

if TYPE_CHECKING:
    import os

    from prunus.engine.event_scorer import EventScorer
    from prunus.engine.recommend_scorer import RecommendScorer
    from prunus.engine.scorer import RankScorer


def load(path: str | os.PathLike[str]) -> RankScorer | RecommendScorer | EventScorer:
    """Read a model file and check all of it before anything is returned.

    Args:
        path: a file that prunus wrote.

    Returns:
        A :class:`~prunus.engine.scorer.RankScorer`, a :class:`~prunus.engine.recommend_scorer.RecommendScorer` or an
        :class:`~prunus.engine.event_scorer.EventScorer`, as the file's kind is, on the best instruction set of this CPU.

    Raises:
        ModelFileError: the file is absent, truncated, damaged, foreign, or holds what cannot run.
        ModelVersionError: it was written in a format that this version does not know.
    """
    content, name = read_bytes(path), str(path)
    kind = checked_header(content, name)["kind"]
    if kind == recommender_file.KIND:
        return recommender_file.scorer_from_bytes(content, name)
    if kind == click_file.KIND:
        return click_file.scorer_from_bytes(content, name)
    return file.scorer_from_bytes(content, name)
