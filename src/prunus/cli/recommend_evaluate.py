"""``prunus recommend evaluate``: how well a recommender's lists are, and whether they are as good as another's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prunus.cli import interactions, options, talk
from prunus.cli.recommend_compress import show

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from prunus.engine.recommend_scorer import RecommendScorer


@talk.verb()
def evaluate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A recommender (.prunus).", show_default=False)],
    data: interactions.Data,
    *,
    test: interactions.Test = None,
    split: interactions.Split_ = None,
    against: Annotated[
        Path | None, typer.Option("--against", metavar="MODEL", help="Another recommender, for the paired test.")
    ] = None,
    user: interactions.User = None,
    item: interactions.Item = None,
    rating: interactions.Rating = None,
    time: interactions.Time = None,
    min_rating: interactions.MinRating = None,
    where: options.Where = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Length of the lists.")] = 20,
    margin: Annotated[
        float, typer.Option(min=1e-6, max=1.0, help="What MODEL may lose, as a share of the other's mean nDCG.")
    ] = 0.01,
    seed: Annotated[int, typer.Option(min=0, help="Of random splits.")] = 0,
    json: options.Json = False,
) -> None:
    """Measure nDCG, recall, hit rate and MRR over all items; with --against, test whether MODEL lists as well.

    Histories come from DATA, what is to be found from --test or the split. A model that was trained on the very
    interactions to be found looks better than it is: use the split that it was made with. Items that the model does not
    know are left out and counted.

    Examples:
      prunus recommend evaluate out/recommender.prunus train.parquet --test test.parquet
      prunus recommend evaluate small.prunus ratings.dat --split leave-last-out --against large.prunus -k 10
    """
    from prunus import topk
    from prunus.verdict import compare, paired_interval

    columns = interactions.columns_of(
        user=user, item=item, rating=rating, time=time, min_rating=min_rating, where=where
    )
    scorer = interactions.load_recommender(model)
    parts = interactions.read_split(data, test, split, columns, seed=seed, catalogue=interactions.catalogue_of(scorer))
    found = scorer.recommend(parts.histories, k)
    metrics = {name: topk.by_name(f"{name}@{k}") for name in ("ndcg", "recall", "hr", "mrr")}

    def figures(lists: NDArray[Any]) -> dict[str, Any]:
        return {f"{name}@{k}": metric(lists, parts.test).mean for name, metric in metrics.items()}

    student = {"role": "student", "name": str(model), **figures(found.ids), **bytes_of(model), "chosen": True}
    values: dict[str, Any] = {
        "metric": f"ndcg@{k}",
        "convention": str(metrics["ndcg"](found.ids, parts.test)),
        "split": parts.how,
        "data": {
            "users": parts.n_test_users,
            "interactions": parts.test.nnz,
            "cold_users": int((found.cold & (parts.test.lengths > 0)).sum()),
            "left_out": parts.train.left_out,
        },
        "student": student,
        "files": {"model": str(model)},
        "rows": [student],
    }
    sentence = ""
    if against is not None:
        other = interactions.load_recommender(against)
        check_same_items(scorer, other, against)
        theirs = other.recommend(parts.histories, k).ids
        pair = [metrics["ndcg"](lists, parts.test) for lists in (theirs, found.ids)]
        verdict = compare(pair[0], pair[1], margin=margin)
        difference, lower, upper = paired_interval(pair[0], pair[1])
        student |= {"difference": difference, "lower": lower, "upper": upper}
        teacher = {"role": "against", "name": str(against), **figures(theirs), **bytes_of(against)}
        values |= {"teacher": teacher, "verdict": verdict.to_json(), "rows": [teacher, student]}
        sentence = verdict.sentence(of="user")
    if json:
        talk.put_json(values)
        return
    show(values)
    if sentence:
        talk.put("")
        talk.put(sentence)


def bytes_of(path: Path) -> dict[str, Any]:
    """Say what a model's file takes."""
    from prunus.engine.recommender_file import sizes

    held = sizes(path.read_bytes(), str(path))
    return {"bytes_per_item": held.bytes_per_item, "file_bytes": held.file, "id_map_bytes": held.id_map}


def check_same_items(scorer: RecommendScorer, other: RecommendScorer, path: Path) -> None:
    """Check that two models know the same items under the same numbers.

    Raises:
        DataError: they do not.
    """
    from prunus.errors import DataError

    if interactions.catalogue_of(scorer) != interactions.catalogue_of(other):
        msg = f"{path} knows {other.model.n_items} items, and they are not the model's {scorer.model.n_items}; expected the same catalogue"
        raise DataError(msg)
