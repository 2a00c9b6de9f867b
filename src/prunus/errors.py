"""Every exception that prunus raises on purpose.

Each message says what was got, what was expected and what to do. The command line turns any of them into one line on
stderr and exit code 2 (130 for an interrupt), so a name here is part of the interface.
"""

from __future__ import annotations


class PrunusError(Exception):
    """Base of every error that prunus raises on purpose."""

    exit_code = 2


class DataError(PrunusError, ValueError):
    """The data cannot be used as they are."""


class EmptyDataError(DataError):
    """A file or frame holds no rows, or no row was left after the selection."""


class ParseError(DataError):
    """A text file breaks the LETOR/SVMlight form; the message names file and line."""


class UnknownItemError(DataError):
    """A history names items that the model does not know, and that was asked to be an error."""


class SplitQueryError(DataError):
    """The rows of one query do not stand together."""


class LabelError(DataError):
    """Labels are negative, not finite, or too large for a gain of 2^label - 1."""


class ColumnError(DataError):
    """A column that was named is not there, or has a type that cannot be used."""


class ExpressionError(DataError):
    """A --where or --label expression cannot be read or evaluated."""


class EventError(DataError):
    """An event of a stream cannot be used, and that was asked to be an error."""


class SilentSourceError(DataError):
    """A source of events fell silent before its end, for longer than it is waited for."""


class SchemaError(DataError):
    """Features differ from those the model was made for (count, names or order)."""


class MissingValueError(DataError):
    """A NaN stands in a feature whose schema forbids missing values."""


class InfiniteValueError(DataError):
    """An infinity stands in a feature that the model reads."""


class NetworkError(PrunusError, ValueError):
    """The arrays do not describe a network that the engine can run."""


class EnsembleError(NetworkError):
    """The arrays do not describe trees that the engine can run."""


class RecommenderError(NetworkError):
    """The arrays do not describe a recommender that the engine can run."""


class ForeignModelError(PrunusError, ValueError):
    """A net that another tool made cannot be read, or does something that the engine has no kernel for."""


class ModuleError(PrunusError, ValueError):
    """A torch module has no such layer, or cannot be distilled or pruned as was asked."""


class TrainingError(PrunusError, ArithmeticError):
    """A training ran away: its loss is no finite number."""


class ParityError(PrunusError, ValueError):
    """A compiled model does not score as the model it came from; nothing was written."""


class ModelFileError(PrunusError, ValueError):
    """A model file is truncated, damaged, foreign, or holds what cannot run."""


class ModelVersionError(ModelFileError):
    """A model file was written in a format that this version does not know."""


class InstructionSetError(PrunusError, ValueError):
    """PRUNUS_ISA names an instruction set that this build or this CPU does not have."""


class TeacherError(PrunusError, ValueError):
    """A teacher cannot be read, or does something that prunus does not support."""


class NotEnoughMemoryError(PrunusError, MemoryError):
    """A computation would need more memory than there is; nothing was begun, and the message says how much."""


class BudgetError(PrunusError, ValueError):
    """A budget cannot be read (expected forms: 0.5us, 0.5us@20, 20KB)."""


class BudgetImpossibleError(BudgetError):
    """No network can meet the budget; ``nearest`` is the nearest budget that one can.

    Attributes:
        nearest: the nearest possible budget, as it would be typed (``"0.03us@128"``).
    """

    def __init__(self, message: str, nearest: str) -> None:
        super().__init__(message)
        self.nearest = nearest


class CheckpointError(PrunusError, ValueError):
    """A checkpoint is damaged, or belongs to another model or to other settings."""


class CalibrationError(PrunusError):
    """A stored time model belongs to another CPU or another engine version."""


class RecipeChangedError(PrunusError):
    """A run is resumed with inputs or settings other than those it was started with."""


class ServingError(PrunusError, ValueError):
    """A run has no model that serves, or none before it to go back to."""


class OutputError(PrunusError, OSError):
    """A result cannot be written (disk full, no permission); nothing half-written is left behind."""


class PeerError(PrunusError):
    """A rival engine cannot be installed or run here; the message says why."""


class MissingExtraError(PrunusError, ImportError):
    """An optional dependency is needed; the message names the extra to install."""
