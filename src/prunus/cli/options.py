"""Options that several verbs share, each with one meaning."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from prunus.data.select import Columns

DATA = "Data"
RECIPE = "Recipe"


class Effort(Enum):
    """How long to train and how much to try."""

    quick = "quick"
    normal = "normal"
    thorough = "thorough"


class Augmentation(Enum):
    """How synthetic documents are drawn from the teacher's midpoints."""

    none = "none"
    independent = "independent"
    replace = "replace"
    neighbour = "neighbour"


class Missing(Enum):
    """What a NaN is."""

    auto = "auto"
    allow = "allow"


Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Data = Annotated[
    list[str],
    typer.Argument(
        metavar="DATA...",
        help="Files, or globs in quotes: LETOR/SVMlight text (also .gz), Parquet or CSV.",
        show_default=False,
    ),
]
Model = Annotated[Path, typer.Argument(metavar="MODEL", help="A model file (.prunus).", show_default=False)]
Train = Annotated[
    list[str],
    typer.Option(
        "--train", metavar="FILE", help="Documents to learn on; repeats, takes globs in quotes.", show_default=False
    ),
]
Features = Annotated[
    list[str] | None,
    typer.Option(
        "--features",
        metavar="NAMES",
        help="Columns that are features, in order: names and globs, separated by commas; repeats.",
    ),
]
Ignore = Annotated[
    list[str] | None,
    typer.Option(
        "--ignore", metavar="NAMES", help="Columns that are no features: names and globs, separated by commas; repeats."
    ),
]
Qid = Annotated[str, typer.Option("--qid", metavar="COLUMN", help="Column of query ids.")]
Label = Annotated[
    str, typer.Option("--label", metavar="COLUMN", help="Column of labels, or an expression such as 'label>0'.")
]
Where = Annotated[
    str | None,
    typer.Option("--where", metavar="EXPRESSION", help="Rows to keep, of every file: such as 'part<=3'."),
]
User = Annotated[
    str | None,
    typer.Option("--user", metavar="COLUMN", help="Column of users: queries of one user form a cluster in the test."),
]
Against = Annotated[
    str | None,
    typer.Option(
        "--against", metavar="ENGINES", help="Engines to compare with, separated by commas.", show_default=False
    ),
]


def split_names(values: list[str] | None) -> tuple[str, ...]:
    """Split what was given, several times or with commas, into names."""
    return tuple(name.strip() for value in values or () for name in value.split(",") if name.strip())


def engines_of(value: str | None) -> tuple[str, ...]:
    """Split the names of engines, and check them before any work is done.

    Raises:
        PeerError: a name is unknown.
    """
    from prunus.bench.peers import PEERS
    from prunus.errors import PeerError

    names = split_names([value] if value else None)
    unknown = [name for name in names if name not in PEERS]
    if unknown:
        msg = f"got the engine {unknown[0]!r}; expected some of {', '.join(PEERS)}"
        raise PeerError(msg)
    return names


def columns_of(
    *,
    features: list[str] | None = None,
    ignore: list[str] | None = None,
    qid: str = "qid",
    label: str = "label",
    where: str | None = None,
    user: str | None = None,
    teacher_scores: str | None = None,
) -> Columns:
    """Bring the column options into the form that the readers take."""
    from prunus.data.select import Columns

    chosen = split_names(features)
    return Columns(
        label=label,
        qid=qid,
        features=chosen or None,
        ignore=split_names(ignore),
        where=where,
        user=user,
        teacher_scores=teacher_scores,
    )
