"""The loop of a stream: each batch is predicted, counted, then learned from; for ever, and on from where it was killed.

::

    DIR/recipe.json                  what the run was started with
    DIR/windows.jsonl                one line a window: figures, alarms, masks, costs
    DIR/emissions.jsonl              one line an emission: why it came, what it was judged by
    DIR/models/                      the models that served, see prunus.online.serving
    DIR/work/checkpoint-[01].pt      everything needed to go on, see prunus.online.checkpoint
    DIR/spent.json                   CPU-seconds up to the last checkpoint
    DIR/result.json                  the summary, where the source has ended

From a source that repeats itself the bits of all of it but the seconds do not depend on when the run was killed:
a checkpoint holds the whole state, position in the source and lengths of the logs among it; what was written after it is
cut off or written again. Nothing of an event is learned before it is predicted: not a weight, a mean, or the row of an id.
"""

from __future__ import annotations

import json
import signal
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Protocol

import torch

from prunus.data.events import Events
from prunus.engine.disk import write_atomically
from prunus.engine.loading import load
from prunus.errors import DataError
from prunus.online.checkpoint import Checkpoints
from prunus.online.drift import Drift
from prunus.online.emissions import Emissions
from prunus.online.lines import Lines
from prunus.online.prequential import Prequential
from prunus.online.serving import Models

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from prunus.online.emissions import Scorer
    from prunus.online.inputs import Inputs
    from prunus.online.learner import Learner, Predictions
    from prunus.online.settings import StreamSettings

MODELS = ("dense", "sparse", "served")
"""Whose figures are counted: the dense master's, the learner's sparse model's, and those of the model that serves."""

NOT_LEARNED = "not_learned"
"""Count of the events of batches whose loss or gradient is no number."""

IDLE_S = 0.2
"""Seconds until a source that has nothing now is asked again."""


class Source(Protocol):
    """Events in the order in which they are learned, with a place to go on from: :class:`prunus.data.event_order.Ordered`."""

    @property
    def counts(self) -> Mapping[str, int]:
        """What was read and set aside, by name."""

    def read(self, n: int) -> Events | None:
        """Give the next up to n events; none of them where there are none now, None where the stream has ended."""

    def set_aside(self, events: Events, reason: str, *, kept: bool) -> None:
        """Count events by a reason, and keep them where those are kept that are no events; or count only."""

    def position(self) -> dict[str, Any]:
        """Give the place after the last event that was taken in."""

    def seek(self, position: Mapping[str, Any]) -> None:
        """Go to a place."""

    def commit(self, position: Mapping[str, Any]) -> None:
        """Tell whoever keeps account of readers that a checkpoint holds a place."""

    def state(self) -> dict[str, Any]:
        """Give what was taken in and not yet read."""

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a state, after :meth:`seek`."""


class Loop:
    """A run of a stream.

    Args:
        source: its events.
        learner: what learns.
        inputs: id tables and normaliser, as new.
        emit: makes a scorer of the learner's sparse model as it is now, with this metadata.
        settings: the recipe.
        out: the run's directory, claimed.
        dense_flops: of scoring an event with the dense model.
        say: is told in a sentence what somebody should know.
        on_window: is given each line of the log.
        on_batch: is given the number of events so far.
        read: makes a scorer of a model file.
        checkpoint_s: seconds from one checkpoint to the next; 0 for one after each batch.
    """

    def __init__(
        self,
        source: Source,
        learner: Learner,
        inputs: Inputs,
        emit: Callable[[Learner, Inputs, dict[str, Any]], Scorer],
        *,
        settings: StreamSettings,
        out: Path,
        dense_flops: float,
        say: Callable[[str], None],
        on_window: Callable[[dict[str, Any]], None] = lambda _: None,
        on_batch: Callable[[int], None] = lambda _: None,
        read: Callable[[Path], Any] = load,
        checkpoint_s: float = 30.0,
    ) -> None:
        self.source, self.learner, self.inputs, self.settings, self.out = source, learner, inputs, settings, out
        self._emit, self._say, self._on_window, self._on_batch = emit, say, on_window, on_batch
        self._dense_flops, self._checkpoint_s = dense_flops, checkpoint_s
        (out / "work").mkdir(parents=True, exist_ok=True)
        self._checkpoints = Checkpoints(out / "work", say)
        self._log = Lines(out / "windows.jsonl", say)
        self._emissions_log = Lines(out / "emissions.jsonl", say)
        self.emissions = Emissions(Models(out / "models"), self._emissions_log, say, read)
        self.windows = Prequential(MODELS, settings.window, settings.warm_up)
        self._drift = Drift(
            loss_allowance=settings.loss_allowance,
            loss_threshold=settings.loss_threshold,
            gap_allowance=settings.gap_allowance,
            gap_threshold=settings.gap_threshold,
        )
        self._window: list[Events] = []
        self._masks: list[NDArray[np.bool_]] = []
        self._why = ""
        self._told = self._stuck = False
        self._last_pattern = settings.warm_up
        self._n_patterns = 0
        self._alarms = {"loss": 0, "gap": 0}
        self._train_flops = 0.0
        self._seconds = 0.0

    def run(self) -> dict[str, Any]:
        """Run until the source ends; go on where the last run of this directory was.

        Returns:
            The summary, as in result.json.

        Raises:
            KeyboardInterrupt: it was told to stop (Ctrl-C, SIGTERM); a checkpoint is written.
            CheckpointError: the checkpoints, or what they count on, are damaged.
            OutputError: the summary cannot be written.
        """
        torch.set_num_threads(self.settings.threads_each)
        self._begin(self._checkpoints.read())
        begun, before = time.process_time(), self._seconds
        written, at_events = time.monotonic(), self.windows.events
        with _told_to_stop(self._say) as stop:
            while not stop.told:
                events = self.source.read(self.settings.batch)
                if events is None:
                    break
                if len(events):
                    self._step(events)
                    self._on_batch(self.windows.events)
                else:
                    time.sleep(IDLE_S)
                self._seconds = before + time.process_time() - begun
                if self.windows.events > at_events and time.monotonic() - written >= self._checkpoint_s:
                    self._checkpoint()
                    written, at_events = time.monotonic(), self.windows.events
            # Before the end is drawn up: where the source has grown by the next run, that goes on as if it had not ended.
            self._checkpoint()
            if stop.told:
                raise KeyboardInterrupt
        return self._end()

    def _step(self, events: Events) -> None:
        """Predict, count, learn, observe."""
        batch = self.inputs.prepare(events)
        said = self.learner.predict(batch)
        grown = self._watch(self.windows.add(events.label, self._logits(said, events)))
        learned = self.learner.learn(batch)
        if not learned:
            # Of batches in a row only the first is kept: it may be to blame, those after it find weights that ran away.
            self.source.set_aside(events, NOT_LEARNED, kept=not self._stuck)
        self._stuck = not learned
        self._tell_of_no_numbers(said)
        self._train_flops += self.learner.flops_per_event.train * len(events)
        self._window.append(events)
        if self.windows.full:
            self._close_window()
        # After the emission, whose candidate has then shown in a window what it is worth.
        seen = self.windows.events
        if seen > self.settings.warm_up and (grown or seen - self._last_pattern >= self.settings.new_pattern_after):
            self.learner.repattern()
            self._drift.new_pattern()
            self._why = "gap" if grown else "new_pattern_after"
            self._last_pattern = seen
            self._n_patterns += 1
        self.inputs.observe(events, seen)

    def _tell_of_no_numbers(self, said: Predictions) -> None:
        """Say once that a batch was not learned from; more of them are in the log."""
        finite = bool(torch.isfinite(said.sparse).all())
        if self._told or (finite and not self._stuck):
            return
        self._told = True
        what = "a gradient is no number" if finite else "the sparse model predicts what is no number"
        self._say(
            f"after {self.windows.events:,} events {what}: such batches are counted as {NOT_LEARNED} and change no weight;"
            " what serves goes on. Where their count goes on rising, begin in another folder, from a later event or with"
            " another --seed"
        )

    def _logits(self, said: Predictions, events: Events) -> dict[str, NDArray[np.float32] | None]:
        """Log-odds of the three models, as the labels were sampled."""
        found = {
            "dense": None if said.dense is None else said.dense.detach().numpy(),
            "sparse": said.sparse.detach().numpy(),
            "served": self.emissions.scores(events),
        }
        return {name: None if one is None else one + events.offset for name, one in found.items()}

    def _watch(self, losses: Mapping[str, NDArray[np.float64]]) -> bool:
        """Show a batch to the detectors; say whether the gap has grown."""
        if "dense" not in losses:
            return False
        self._alarms["loss"] += self._drift.loss(float(losses["dense"].mean()))
        if self.windows.events <= self.settings.warm_up:
            return False
        grown = self._drift.gap(float((losses["sparse"] - losses["dense"]).mean()))
        self._alarms["gap"] += grown
        return grown

    def _close_window(self) -> None:
        """Write the window's line, and emit where it is time."""
        learned, served = self.windows.losses("sparse"), self.windows.losses("served")
        masks = [mask.kept for mask in self.learner.masks()]
        flops = self.learner.flops_per_event
        line = self.windows.close() | {
            "total": self.windows.totals(),
            "serving": self.emissions.serving,
            "alarms": dict(self._alarms),
            "patterns": self._n_patterns,
            "units": [len(mask) for mask in masks],
            "density": [float(mask.mean()) for mask in masks],
            "churn": _churn(self._masks, masks),
            "flops": {"train": flops.train, "serve": flops.serve, "dense": self._dense_flops},
            "train_flops": self._train_flops,
            "ids": [len(table) for table in self.inputs.tables],
            "counts": dict(self.source.counts),
        }
        self._masks = masks
        self._log.append(line)
        self._on_window(line)
        number = self.windows.n_windows
        if self.windows.events >= self.settings.warm_up and number % self.settings.emit_every == 0:
            why = self._why or ("every" if self.emissions.n_emitted else "first")
            about = {"events": self.windows.events, "why": why}
            self.emissions.emit(
                lambda: self._emit(self.learner, self.inputs, about),
                why=why,
                seen=self.windows.events,
                window=self._window,
                learned=learned,
                served=served,
            )
            self._why = ""
        self._window = []

    def _end(self) -> dict[str, Any]:
        """Close the last window, emit the last model, and write the summary."""
        if self.windows.pending:
            # Ids that came with the last batch have rows by now, which still hold what others left there: a batch of no
            # events lets the learner begin them anew, as the next batch would have.
            self.learner.predict(self.inputs.prepare(self._window[-1].take(slice(0))))
            self._close_window()
        totals = self.windows.totals()
        flops = self.learner.flops_per_event
        emissions = self.emissions
        summary = {
            "events": self.windows.events,
            "ne": totals["ne"],
            "gap_percent": totals["gap_percent"]["sparse"],
            "served_gap_percent": totals["gap_percent"]["served"],
            "counted": totals["counted"],
            "flops_cut": 1 - flops.serve / self._dense_flops,
            "emissions": emissions.n_swapped,
            "refused": emissions.n_emitted - emissions.n_swapped,
            "patterns": self._n_patterns,
            "alarms": dict(self._alarms),
            "train_flops": self._train_flops,
            "seconds": round(self._seconds, 2),
            "counts": dict(self.source.counts),
            "method": self.learner.name,
            "files": {
                "model": None if emissions.serving is None else str(self.out / "models" / "current"),
                "windows": str(self._log.path),
                "emissions": str(self._emissions_log.path),
            },
        }
        self._log.flush(to_disk=True)
        self._emissions_log.flush(to_disk=True)
        write_atomically(self.out / "result.json", (json.dumps(summary, indent=1) + "\n").encode())
        return summary

    def _checkpoint(self) -> None:
        """Write all of the state; where the disk does not take it, say so and go on."""
        state: dict[str, Any] = {
            "position": self.source.position(),
            "source": self.source.state(),
            "learner": self.learner.state(),
            "inputs": self.inputs.state(),
            "windows": self.windows.state(),
            "drift": self._drift.state(),
            "emissions": self.emissions.state(),
            "random": torch.get_rng_state(),
            "window": [events.arrays() for events in self._window],
            "masks": list(self._masks),
            "why": self._why,
            "stuck": self._stuck,
            "last_pattern": self._last_pattern,
            "n_patterns": self._n_patterns,
            "alarms": dict(self._alarms),
            "train_flops": self._train_flops,
            "seconds": self._seconds,
            "log": self._log.size,
            "emissions_log": self._emissions_log.size,
        }
        try:
            self._log.flush(to_disk=True)
            self._emissions_log.flush(to_disk=True)
            self._checkpoints.write(state)
        except OSError as error:  # OutputError is one
            self._say(f"no checkpoint was written, the one before stays: {error}")
            return
        self.emissions.forget(self.settings.keep_models)
        try:
            self.source.commit(state["position"])
        except DataError as error:  # monitors lag behind; the checkpoint alone says where to go on
            self._say(str(error))
        # Beside the log, not in it: no two runs of the same bits take the same time.
        spent = {"events": self.windows.events, "seconds": round(self._seconds, 2)}
        with suppress(OSError):
            write_atomically(self.out / "spent.json", json.dumps(spent).encode())

    def _begin(self, state: dict[str, Any] | None) -> None:
        """Take up a state, or begin without one: then whatever an earlier run wrote before its first is written again."""
        self._log.begin(0 if state is None else state["log"])
        self._emissions_log.begin(0 if state is None else state["emissions_log"])
        if state is None:
            return
        self.source.seek(state["position"])
        self.source.load(state["source"])
        self.learner.load(state["learner"])
        self.inputs.load(state["inputs"])
        self.windows.load(state["windows"])
        self._drift.load(state["drift"])
        self.emissions.load(state["emissions"])
        torch.set_rng_state(state["random"])
        self._window = [Events(**arrays) for arrays in state["window"]]
        self._masks = list(state["masks"])
        self._why, self._last_pattern, self._n_patterns = state["why"], state["last_pattern"], state["n_patterns"]
        self._alarms, self._stuck = dict(state["alarms"]), state["stuck"]
        self._train_flops, self._seconds = state["train_flops"], state["seconds"]
        self._say(f"going on after {self.windows.events:,} events")


def _churn(before: list[NDArray[np.bool_]], now: list[NDArray[np.bool_]]) -> float | None:
    """Share of the weights kept in one of two patterns that are not kept in the other; None where these are not of one net."""
    if not now or [mask.shape for mask in before] != [mask.shape for mask in now]:
        return None
    both = sum(int((a & b).sum()) for a, b in zip(before, now, strict=True))
    either = sum(int((a | b).sum()) for a, b in zip(before, now, strict=True))
    return 1 - both / either if either else 0.0


class _Stop:
    """Whether somebody asked for an end."""

    told = False


@contextmanager
def _told_to_stop(say: Callable[[str], None]) -> Iterator[_Stop]:
    """Let Ctrl-C and SIGTERM end the loop after the batch that is learned; a second one ends it at once."""
    stop = _Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def tell(number: int, _: object) -> None:
        stop.told = True
        signal.signal(number, before[number])
        say("stopping after this batch; once more stops at once, without a checkpoint")

    before: dict[int, Any] = {number: signal.signal(number, tell) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
