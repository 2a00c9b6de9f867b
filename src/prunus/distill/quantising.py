"""From float32 to int8 while training: a callback that puts the rounding in place for the last part of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prunus.student.quantise import QuantisedMLP

if TYPE_CHECKING:
    from prunus.distill.loop import Loop

CALIBRATION_ROWS = 65_536
"""Documents that ranges are taken from, spread evenly over the training set."""


class Quantising:
    """Calibrates a student after a step and lets it learn on with its weights and activations rounded.

    The losses, the learning rate's schedule and the average go on as they are. Stateless: the student's buffers hold
    the ranges, so a resume needs no more.
    """

    def __init__(self, start: int) -> None:
        """Set up.

        Args:
            start: step after which the rounding is in place.
        """
        self.start = start

    def on_step(self, loop: Loop) -> None:
        """Calibrate at the start; the best epoch so far was another network."""
        if loop.step != self.start:
            return
        if not isinstance(loop.model, QuantisedMLP):
            msg = f"got a {type(loop.model).__name__} to quantise; expected a QuantisedMLP"
            raise TypeError(msg)
        z = loop.data.z
        loop.model.calibrate(z[:: max(len(z) // CALIBRATION_ROWS, 1)])
        loop.forget_best()

    def on_epoch(self, loop: Loop) -> None:
        """Do nothing."""
