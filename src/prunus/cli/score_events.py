"""``prunus score`` of a click model: events in, log-odds out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from prunus.engine.event_scorer import EventScorer

_EVENTS = 8192  # read at once


def score_events(scorer: EventScorer, data: list[str], *, where: str | None, threads: int) -> NDArray[np.float32]:
    """Score the events of files, in their order.

    Args:
        scorer: the loaded model.
        data: what :func:`prunus.data.event_opening.open_events` reads, with the columns that the model was trained with.
            Labels are not needed where the column may be missing: in lines of JSON, or null.
        where: rows to keep, beside what the model's own schema says; None for all.
        threads: to score with.

    Returns:
        float32 [n], log-odds of a click.

    Raises:
        DataError: there is no such file or column, or a row is no event.
    """
    from dataclasses import replace

    from prunus.data.event_opening import open_events

    schema = scorer.schema if where is None else replace(scorer.schema, where=where)
    source = open_events(data, schema)
    source.labels_later = True
    scores = [np.empty(0, np.float32)]
    while (events := source.read(_EVENTS)) is not None:
        scores.append(scorer.score(events.ids, events.dense, n_threads=threads))
    return np.concatenate(scores)
