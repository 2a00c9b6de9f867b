"""Which inputs a student reads that keeps its weights: one training takes them away one by one, and says in what order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from prunus.distill.loop import Loop, LoopSettings
from prunus.distill.losses import LossMix
from prunus.prune.inputs import InputElimination
from prunus.student.mlp import MLP

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from prunus.compress.recipe import RankerRecipe
    from prunus.compress.training import Lesson
    from prunus.compress.workspace import Workspace
    from prunus.design import Architecture
    from prunus.engine.network import InputStage
    from prunus.latency import Prices

WIDTHS = (64, 32)
"""Hidden units of the student that loses its inputs."""

FROM = 0.2
"""Share of the steps before the first input goes."""


class ChosenInputs:
    """Lesson and input stage of a student that reads the most important inputs only; the order is learned when asked for."""

    def __init__(
        self, lesson: Lesson, inputs: InputStage, recipe: RankerRecipe, prices: Prices, space: Workspace | None
    ) -> None:
        """Set up.

        Args:
            lesson: what students learn from.
            inputs: the input stage, all slots.
            recipe: settings.
            prices: of the slots.
            space: where the order is kept, or None.
        """
        self.lesson, self.inputs, self.recipe, self.prices, self.space = lesson, inputs, recipe, prices, space
        self._importance: NDArray[np.int64] | None = None
        self._lessons: dict[int, Lesson] = {}

    def importance(self) -> NDArray[np.int64]:
        """int64 [n_slots], all slots, the most important one first."""
        if self._importance is None:
            kept = (lambda _, make: make()) if self.space is None else self.space.array
            self._importance = np.asarray(kept("importance-of-inputs", self._eliminate), np.int64)
        return self._importance

    def _eliminate(self) -> NDArray[np.int64]:
        recipe, slot = self.recipe, self.prices.slot
        mix = LossMix(recipe.pointwise, recipe.listwise, recipe.labels)
        settings = LoopSettings(
            recipe.n_epochs, recipe.batch_docs, 0.0, recipe.learning_rate, mix=mix, seed=recipe.seed
        )
        student = MLP(self.inputs.n_slots, WIDTHS, seed=recipe.seed)
        loop = Loop(student, self.lesson.data, settings, validate=lambda _: 0.0)
        # About half of what an input costs a small student are its weights in the first layer.
        gone = InputElimination(round(FROM * loop.total_steps), loop.total_steps - 1, slot + slot.mean())
        loop.callbacks = [gone]
        loop.run()
        return np.array(gone.importance, np.int64)

    def stage(self, architecture: Architecture) -> InputStage:
        """Return the input stage that a student reads."""
        n = architecture.n_inputs
        return self.inputs if n is None else self.inputs.take(np.sort(self.importance()[:n]))

    def lesson_of(self, architecture: Architecture) -> Lesson:
        """Return what a student learns from."""
        n = architecture.n_inputs
        if n is None:
            return self.lesson
        if n not in self._lessons:
            self._lessons[n] = self.lesson.take(np.sort(self.importance()[:n]))
        return self._lessons[n]
