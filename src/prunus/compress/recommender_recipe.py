"""The recipe of a recommender's compression: every choice, so that the same recipe repeats the run."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from prunus.teacher.linear import EaseSettings  # noqa: TC001 - pydantic reads it at run time


class RecommenderRecipe(BaseModel):
    """What a recommender's student is made by. Unknown keys are refused.

    Attributes:
        budget: as typed: ``128B`` (an item), ``400KB`` (the file).
        teacher: settings of EASE; None chooses them on a tenth of the training part. A teacher that was given has none.
        kind: ``auto`` for the best of dense rows and cut weights, at several settings, on a tenth of the training part
            (:mod:`~prunus.compress.recommender_choice`), or dense rows for a teacher that was given, since that may know
            the tenth; ``tickets``, wide rows of which few values are kept; ``dense``, short rows of which all are; or
            ``item-item``, the teacher's own weights of which the largest are, for a teacher that has them.
        factors: width of a ticket's row before pruning.
        bits: of a value in the file, 2 to 8.
        epochs: passes over the training users.
        lists: items of the teacher's list that the student learns, for each user.
        teacher_weight: of the loss to the teacher's lists, beside 1 of the histories' own. Short dense rows of
            MovieLens-1M wanted a tenth of the default, those of online_retail the default (docs/recommenders.md).
        k: places of the metrics.
        margin: what the student may lose, as a share of the teacher's mean nDCG.
        seed: everything random follows from it.
        threads: of training.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    budget: str
    teacher: EaseSettings | None = None
    # docs/distillation.md says what these were chosen by.
    kind: Literal["auto", "tickets", "dense", "item-item"] = "auto"
    factors: int = Field(default=512, ge=2)
    bits: int = Field(default=4, ge=2, le=8)
    epochs: int = Field(default=60, ge=1)
    lists: int = Field(default=100, ge=1)
    teacher_weight: float = Field(default=0.5, ge=0)
    k: int = Field(default=20, ge=1)
    margin: float = Field(default=0.01, gt=0)
    seed: int = 0
    threads: int = Field(default=1, ge=1)
