"""A sparse model comes off the learner: guarded, published, and scored with as whoever serves it scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from prunus.click_metrics import log_losses
from prunus.errors import OutputError, PrunusError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from prunus.data.events import Events
    from prunus.online.lines import Lines
    from prunus.online.serving import Models


WORSE = 1.645
"""Standard errors by which a candidate may lose more: the one-sided test refuses one in twenty of those that are as good."""


class Scorer(Protocol):
    """What :class:`prunus.engine.click.EventScorer` is to the loop."""

    def score(self, ids: NDArray[np.uint64], dense: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give the log-odds of events, offsets left out: float32 [n]."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model file, whole or not at all."""


class Emissions:
    """Which model serves, and how the next one comes to.

    A candidate is judged by the last window, twice: by the losses of the learner's sparse model, which predicted the
    window's events before it learned them, and by its own, scored by the engine once more. The first are what such a model
    is worth on events to come; the second tell of a candidate that is broken, and alone would flatter it, as it has learned
    from these events. Where either are above those of the model that serves by more than chance makes them
    (:func:`standard_errors` above :data:`WORSE`), or are no numbers, the candidate is not swapped in. Of two models alike
    the newer serves: were it refused for a difference that is noise, the older would serve on while the stream moves.

    Of a decline so slow that each window takes it for noise, that would refuse nothing. So the best model that has served
    is kept, and the window's losses are compared with its own also: a candidate that is worse than it beyond chance, and
    not beyond chance better than what serves, is not swapped in. What is better than it beyond chance becomes the best in
    its place, so on a stream that drifts it is never far behind.

    Args:
        models: where they are published.
        log: gets a line an emission.
        say: is told in a sentence what went wrong.
        read: makes a scorer of a model file, as :func:`prunus.load` does.

    Attributes:
        serving: number of the model that serves; None before the first.
        best: number of the best one that has served, as far as later ones were told from it.
        n_emitted: emissions so far, those that were not swapped in among them.
        n_swapped: those that were.
    """

    def __init__(
        self,
        models: Models,
        log: Lines,
        say: Callable[[str], None],
        read: Callable[[Path], Any],
    ) -> None:
        self._models, self._log, self._say, self._read = models, log, say, read
        self.serving: int | None = None
        self.best: int | None = None
        self.n_emitted = 0
        self.n_swapped = 0
        self._scorer: Scorer | None = None
        self._cannot: int | None = None  # the model of which that was told
        self._best: Scorer | None = None
        # Of the checkpoint before: a loop that goes on from that one scores with these models again.
        self._needed: int | None = None
        self._compared: int | None = None

    def scores(self, events: Events) -> NDArray[np.float32] | None:
        """Score events with the model that serves, which a rollback may just have changed; None before the first.

        Args:
            events: n of them.

        Returns:
            float32 [n], log-odds, offsets left out; NaN where the model cannot score them.
        """
        standing = self._models.standing_in(self.serving)
        if standing != self.serving:
            self._say(f"model {self.serving} was rolled back; model {standing} serves")
            self._serve(standing)
        if self._scorer is None:
            return None
        try:
            return self._scorer.score(events.ids, events.dense)
        except PrunusError as error:  # products of embeddings that no event had before: the loop outlives such a model
            if self._cannot != self.serving:
                self._say(f"model {self.serving} cannot score events: {error}")
            self._cannot = self.serving
            return np.full(len(events), np.nan, np.float32)

    def emit(
        self,
        make: Callable[[], Scorer],
        *,
        why: str,
        seen: int,
        window: Sequence[Events],
        learned: NDArray[np.float64] | None,
        served: NDArray[np.float64] | None,
    ) -> bool:
        """Make a model, judge it, and let it serve.

        Args:
            make: makes the candidate.
            why: what it was made for.
            seen: events of the stream so far.
            window: the last window.
            learned: float64 [n], loss of the learner's sparse model for each of its events; None where that was not there
                for all of it.
            served: those of the model that serves.

        Returns:
            Whether it serves.
        """
        self.n_emitted += 1
        line: dict[str, Any] = {"number": self.n_emitted, "events": seen, "why": why}
        try:
            candidate = make()
            judged = [_losses(candidate, window), *([] if learned is None else [learned])]
            means = np.array([one.mean() for one in judged])
            good = bool(np.isfinite(means).all())
            line |= {"loss": float(means.max()) if good else None, "served_loss": None, "standard_errors": None}
            if served is not None and self._scorer is not None and np.isfinite(served).all():
                line["served_loss"] = float(served.mean())
                if good:
                    line["standard_errors"] = max(standard_errors(one, served) for one in judged)
                    line |= self._beside_the_best(judged[-1], served, window)
                    ahead = standard_errors(judged[-1], served) < -WORSE
                    good = line["standard_errors"] <= WORSE and (ahead or line["standard_errors_of_best"] <= WORSE)
            line["swapped"] = good
            if not good:
                self._models.retract(self.n_emitted, self.serving)
            else:
                self._models.publish(self.n_emitted, candidate.save)
                self._serve(self._models.standing_in(self.n_emitted))
                if line.get("standard_errors_of_best", -np.inf) < -WORSE:
                    self.best, self._best = self.serving, self._scorer
        except OutputError as error:
            self._say(f"model {self.n_emitted} is not swapped in: {error}")
            line |= {"swapped": False, "error": "cannot be written"}
        except PrunusError as error:
            self._say(f"model {self.n_emitted} is not swapped in: {error}")
            line |= {"swapped": False, "error": str(error)}
        self.n_swapped += line["swapped"]
        self._log.append(line)
        return bool(line["swapped"])

    def _beside_the_best(
        self, learned: NDArray[np.float64], served: NDArray[np.float64], window: Sequence[Events]
    ) -> dict[str, Any]:
        """Compare with the best model that has served; that which serves takes its place where it was rolled back."""
        standing = self._models.standing_in(self.best)
        if standing != self.best or standing is None or self._best is None:
            self.best, self._best = self.serving, self._scorer
        beside = served
        if self._best is not None and self.best != self.serving:
            try:
                beside = _losses(self._best, window)
            except PrunusError:  # it cannot score these events: then it is no longer the best
                self.best, self._best = self.serving, self._scorer
        return {"best": self.best, "standard_errors_of_best": standard_errors(learned, beside)}

    def state(self) -> dict[str, Any]:
        """Give what a checkpoint needs."""
        return {
            "serving": self.serving,
            "best": self.best,
            "n_emitted": self.n_emitted,
            "n_swapped": self.n_swapped,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a state.

        Raises:
            ModelFileError: the model that served is no longer there.
        """
        self.n_emitted, self.n_swapped = state["n_emitted"], state["n_swapped"]
        self._needed, self._compared = state["serving"], state["best"]
        self._serve(state["serving"])
        self.best = state["best"]
        self._best = None if self.best is None else self._read(self._models.path(self.best))

    def forget(self, keep: int) -> None:
        """Delete old models, now that a checkpoint is written; the best stays.

        Args:
            keep: numbers below that of the oldest model which a checkpoint needs, that stay.
        """
        oldest = [number for number in (self._needed, self.serving) if number is not None]
        if len(oldest) == 2:
            self._models.forget(min(oldest) - keep + 1, {self._compared, self.best})
        self._needed, self._compared = self.serving, self.best

    def _serve(self, number: int | None) -> None:
        # What serves is what stands in the file, as for anyone who follows.
        self._scorer = None if number is None else self._read(self._models.path(number))
        self.serving = number


def standard_errors(candidate: NDArray[np.float64], served: NDArray[np.float64]) -> float:
    """Say by how much a candidate loses more than the model that serves: mean paired difference over its standard error.

    Args:
        candidate: float64 [n], its loss for each event.
        served: float64 [n], that of the model that serves, for the same events.

    Returns:
        Below 0 where the candidate loses less; 0 where the two are alike, or of one event, which tells nothing.
    """
    difference = candidate - served
    if len(difference) < 2 or not difference.any():
        return 0.0
    error = difference.std(ddof=1) / len(difference) ** 0.5
    # Worse by the same amount everywhere leaves no doubt; a float that JSON can hold says so.
    return float(difference.mean() / max(error, np.finfo(np.float64).tiny ** 0.5))


def _losses(scorer: Scorer, window: Sequence[Events]) -> NDArray[np.float64]:
    """Loss of each event, in nats: float64 [n]."""
    return np.concatenate([log_losses(part.label, scorer.score(part.ids, part.dense) + part.offset) for part in window])
