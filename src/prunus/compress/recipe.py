"""The recipe of a ranker's compression: every choice, so that the same recipe repeats the run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from prunus.design import Architecture
from prunus.distill.augment import Augmentation  # noqa: TC001 - pydantic reads it at run time

Effort = Literal["quick", "normal", "thorough"]

EPOCHS: Final[dict[str, int]] = {"quick": 16, "normal": 40, "thorough": 120}
"""Passes over the training documents for each effort; what more passes bring is in docs/distillation.md."""


class RankerRecipe(BaseModel):
    """What a ranker's student is made by. Unknown keys are refused.

    Attributes:
        budget: as typed: ``0.5us``, ``0.5us@20`` or ``20KB``.
        effort: how long to train and how many architectures to try.
        epochs: passes over the training documents; None takes the effort's.
        seeds: trainings of each architecture; the best on validation data is kept.
        seed: the first of them; everything random follows from it.
        augmentation: how synthetic documents are drawn.
        synthetic_docs: size of their pool, as a multiple of the training documents (at most two million documents).
        synthetic_share: synthetic documents in a step, as a share of the real ones.
        learning_rate: peak of the schedule.
        batch_docs: real documents in a step.
        pointwise: weight of the squared error to the teacher's scores.
        listwise: weight of the listwise loss on the teacher's scores.
        labels: weight of the listwise loss on the labels.
        missing: ``auto`` forbids NaN where training never had one; ``allow`` reads it as the mean.
        k: cutoff of nDCG.
        margin: what the student may lose, as a share of the teacher's mean.
        threads: of training.
        search_minutes: time to train further designs in, found by a search; 0 trains the proposed ones only.
        architectures: further designs to train, spelled as :attr:`prunus.design.Architecture.spelled`; the finished recipe
            of a search lists those that it kept, so that the same recipe without a search makes the same students.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    budget: str
    effort: Effort = "normal"
    epochs: int | None = Field(default=None, ge=1)
    seeds: int = Field(default=1, ge=1)
    seed: int = 0
    augmentation: Augmentation = "neighbour"
    synthetic_docs: float = Field(default=1.0, ge=0)
    synthetic_share: float = Field(default=0.5, ge=0)
    learning_rate: float = Field(default=8e-3, gt=0)
    batch_docs: int = Field(default=4096, ge=1)
    pointwise: float = Field(default=1.0, ge=0)
    listwise: float = Field(default=0.3, ge=0)
    labels: float = Field(default=1.5, ge=0)
    missing: Literal["auto", "allow"] = "auto"
    k: int = Field(default=10, ge=1)
    margin: float = Field(default=0.01, gt=0)
    threads: int = Field(default=1, ge=1)
    search_minutes: float = Field(default=0.0, ge=0)
    architectures: tuple[str, ...] = ()

    @field_validator("architectures")
    @classmethod
    def _spelled(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(Architecture.parse(text).spelled for text in given)

    @property
    def n_epochs(self) -> int:
        """Passes over the training documents."""
        return self.epochs if self.epochs is not None else EPOCHS[self.effort]


@dataclass(frozen=True)
class Silent:
    """Progress that nobody sees; what the library does unless it is told otherwise."""

    def stage(self, name: str, total: float) -> None:
        """Begin a stage of ``total`` units."""

    def advance(self, done: float, note: str = "") -> None:
        """Say how much of the stage is done, and what there is to say of it."""
