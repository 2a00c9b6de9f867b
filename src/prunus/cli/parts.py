"""Training, validation and test data as the options ask for them, with the columns that a teacher reads."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from prunus.cli.talk import say
from prunus.errors import DataError, SchemaError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prunus.data.ranking import RankingData
    from prunus.data.select import Columns
    from prunus.teacher.trees import TreeTeacher


@dataclass(frozen=True)
class Files:
    """Where one part of the data comes from.

    Attributes:
        paths: files and globs.
        where: rows of this part, beside the rows that are kept of every part.
    """

    paths: tuple[str, ...]
    where: str | None = None


@dataclass(frozen=True)
class Parts:
    """The three parts of a run.

    Attributes:
        train: documents to learn on.
        valid: documents to choose by.
        test: documents of the verdict.
    """

    train: RankingData
    valid: RankingData
    test: RankingData


def both(first: str | None, second: str | None) -> str | None:
    """Join two conditions with ``and``; None stands for no condition."""
    given = [condition for condition in (first, second) if condition is not None]
    return " and ".join(f"({condition})" for condition in given) if len(given) > 1 else next(iter(given), None)


def read(files: Files, columns: Columns, feature_names: Sequence[str] | None = None) -> RankingData:
    """Read one part.

    Args:
        files: where it is.
        columns: the role of each column.
        feature_names: features to take, by name; all that ``columns`` chooses where None.
    """
    from prunus.data.reading import read_ranking

    data = read_ranking(
        list(files.paths), replace(columns, where=both(columns.where, files.where)), feature_names=feature_names
    )
    if files.where is None:
        return data
    return replace(data, source=f"{data.source} where {files.where}")


def read_for(teacher: TreeTeacher, files: Files, columns: Columns) -> RankingData:
    """Read data with the columns that a teacher reads, in its order.

    A teacher that carries names is matched by name, and other columns are left out. One whose library made the names up
    goes by position: then the data must have as many features as it reads.

    Raises:
        SchemaError: a feature of the teacher is absent, or the counts differ.
    """
    if not teacher.names_are_default:
        return read(files, columns, teacher.feature_names)
    data = read(files, columns)
    if set(teacher.feature_names) <= set(data.feature_names):
        return read(files, columns, teacher.feature_names)
    if data.n_features != teacher.n_features:
        msg = (
            f"{data.source}: got {data.n_features} features ({_some(data.feature_names)}), and the teacher, whose features"
            f" have no names of their own, reads {teacher.n_features}; expected as many: choose them with --features or"
            " --ignore"
        )
        raise SchemaError(msg)
    return data


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")


def read_parts(
    train: Files,
    valid: Files,
    test: Files,
    columns: Columns,
    *,
    teacher: TreeTeacher | None = None,
    split_valid: float | None = None,
    seed: int = 0,
) -> Parts:
    """Read all three parts.

    Args:
        train: where the training data are.
        valid: where the validation data are; no paths: the files of ``train``, with its own condition.
        test: where the test data are; no paths and no condition: they are split from the validation data.
        columns: the role of each column.
        teacher: whose columns to take; None takes those that ``columns`` chooses.
        split_valid: share of the validation queries that validate, the others test; None: test data must be given.
        seed: of that split.

    Raises:
        DataError: a part is not said, or said twice.
    """
    if not valid.paths and valid.where is None:
        msg = (
            "got no validation data; expected --valid FILE, or --valid-where EXPRESSION for rows of the training files"
        )
        raise DataError(msg)
    says_test = bool(test.paths) or test.where is not None
    if says_test and split_valid is not None:
        msg = "got test data and --split-valid; expected one of them: drop --split-valid, or --test and --test-where"
        raise DataError(msg)
    if not says_test and split_valid is None:
        msg = (
            "got no test data; expected --test FILE, --test-where EXPRESSION for rows of the training files, or"
            " --split-valid 0.5 to test on half of the validation queries"
        )
        raise DataError(msg)
    say(f"reading {', '.join(train.paths)}")
    learn = read(train, columns) if teacher is None else read_for(teacher, train, columns)
    names = learn.feature_names

    def other(files: Files) -> RankingData:
        paths = files.paths or train.paths
        say(f"reading {', '.join(paths)}")
        return read(Files(paths, files.where), columns, names)

    if split_valid is None:
        return Parts(learn, other(valid), other(test))
    whole = other(valid)
    if whole.n_queries < 2:
        msg = f"{whole.source}: got one query to split into validation and test; expected at least two: name --test"
        raise DataError(msg)
    choose, prove = whole.split_by_query(split_valid, seed)
    return Parts(
        learn, replace(choose, source=f"{whole.source}, one part"), replace(prove, source=f"{whole.source}, the other")
    )
