"""``prunus score``: documents or events in, scores out; or histories in, lists of items out."""

from __future__ import annotations

import io
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prunus.cli import interactions, options, talk
from prunus.errors import OutputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Unknown(Enum):
    """What is done about an unknown item."""

    skip = "skip"
    error = "error"


FORMS = (".txt", ".csv", ".parquet")


@talk.verb()
def score(
    model: options.Model,
    data: Annotated[
        list[str],
        typer.Argument(
            metavar="DATA...",
            help="Files, or globs in quotes. Of a ranker: LETOR/SVMlight text (also .gz), Parquet or CSV; of a recommender: histories, as 'recommend compress' reads them; of a click model: events with the columns of its stream, Parquet, CSV or one file of JSON lines (- for stdin).",
            show_default=False,
        ),
    ],
    *,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            metavar="FILE",
            help=".txt: one score a line; .csv and .parquet: columns qid (where the data have it) and score. Lists: .txt, user and items; else columns user, rank, item, score. Default: stdout, as .txt.",
        ),
    ] = None,
    qid: options.Qid = "qid",
    where: options.Where = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Recommender: length of the lists.")] = 20,
    user: interactions.User = None,
    item: interactions.Item = None,
    unknown: Annotated[
        Unknown, typer.Option(help="Recommender: an item of a history that the model does not know.")
    ] = Unknown.skip,
    threads: Annotated[int, typer.Option(min=1, help="Threads to score with.")] = 1,
    json: options.Json = False,
) -> None:
    """Score documents: one score each, in the order of the data, higher is better. Or recommend items to users.

    A ranker's columns are matched by name; those that the model does not read, and labels, may be absent. A recommender
    gives each user of the histories the best items that are not in them; users need not have been seen in training. A
    click model gives each event the log-odds of a click.

    Examples:
      prunus score out/ranker.prunus test.parquet -o scores.parquet
      prunus score out/ranker.prunus test.txt.gz | head
      prunus score out/recommender.prunus histories.parquet -k 20 -o lists.parquet
    """
    from prunus.data.reading import read_features
    from prunus.engine.event_scorer import EventScorer
    from prunus.engine.loading import load
    from prunus.engine.recommend_scorer import RecommendScorer

    check_form(out)
    scorer = load(model)
    if isinstance(scorer, RecommendScorer):
        from prunus.cli.score_lists import score_lists

        score_lists(
            scorer,
            list(data),
            model=model,
            k=k,
            out=out,
            user=user,
            item=item,
            where=where,
            unknown=unknown.value,
            threads=threads,
            json=json,
        )
        return
    unit = "documents"
    if isinstance(scorer, EventScorer):
        from prunus.cli.score_events import score_events

        scores, ids, unit = score_events(scorer, list(data), where=where, threads=threads), None, "events"
    else:
        needed = [int(f) for f in scorer.model.features_read]
        columns = options.columns_of(qid=qid, where=where)
        X, ids = read_features(list(data), scorer.schema.feature_names, needed=needed, columns=columns)
        scores = scorer.score(X, n_threads=threads)
    if out is not None:
        write(out, scores, ids)
    if json:
        values: dict[str, Any] = {unit: len(scores), "files": {"model": str(model)}}
        if out is None:
            values["scores"] = [float(one) for one in scores]
        else:
            values["files"]["scores"] = str(out)
        talk.put_json(values)
    elif out is None:
        talk.put("\n".join(map(str, scores)))
    else:
        talk.put(f"{len(scores):,} scores: {out}")


def check_form(out: Path | None) -> None:
    """Check the name of the file to write, before any work is done.

    Raises:
        OutputError: its suffix is unknown.
    """
    if out is not None and out.suffix.lower() not in FORMS:
        msg = f"got -o {out}; expected a name that ends in {', '.join(FORMS)}"
        raise OutputError(msg)


def write(out: Path, scores: NDArray[np.float32], ids: NDArray[Any] | None) -> None:
    """Write scores, whole or not at all.

    Args:
        out: .txt, .csv or .parquet.
        scores: float32 [n_docs].
        ids: [n_docs] query ids, or None.

    Raises:
        OutputError: the file cannot be written.
    """
    from prunus.engine.disk import write_atomically
    from prunus.extras import need

    columns = {} if ids is None else {"qid": ids}
    kind = out.suffix.lower()
    if kind == ".txt":
        content = ("\n".join(map(str, scores)) + "\n").encode()
    else:
        pa = need("pyarrow", extra="io")
        frame = pa.table({**columns, "score": scores})
        buffer = io.BytesIO()
        if kind == ".csv":
            need("pyarrow.csv", extra="io").write_csv(frame, buffer)
        else:
            need("pyarrow.parquet", extra="io").write_table(frame, buffer)
        content = buffer.getvalue()
    write_atomically(out, content)
