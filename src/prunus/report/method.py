"""The last part of a ranker's page: conventions, data, machine, seeds, recipe and time spent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from prunus.report import form
from prunus.report.markup import Markup, element, joined
from prunus.report.sections import section
from prunus.report.tables import Cell, pairs, table
from prunus.report.values import at, count, listed, number

if TYPE_CHECKING:
    from prunus.report.run import Run


def method(run: Run) -> Markup:
    """Conventions, data, machine, seeds, recipe and time spent: what a reader needs to repeat or to doubt the run."""
    parts: list[object] = [element("h3", "Conventions"), element("dl", *_conventions(run), class_="conventions")]
    tables = [_data(run), _seconds(run), pairs("Machine", _mapping(run, "machine"))]
    seeds = listed(run.result, "seeds") or (
        [at(run.result, "seeds")] if number(run.result, "seeds") is not None else []
    )
    recipe = {**({"seeds": seeds} if seeds else {}), **(_mapping(run, "seeds")), **_mapping(run, "recipe")}
    tables.append(pairs("Recipe and seeds", recipe))
    timing = _mapping(run, "timing")
    unavailable = timing.get("unavailable")
    if isinstance(unavailable, Mapping):
        tables.append(pairs("Could not be timed here", unavailable))
    settings = timing.get("settings")
    if isinstance(settings, Mapping):
        tables.append(pairs("Timing", settings))
    tables.append(pairs("Files", _mapping(run, "files")))
    parts.append(element("div", *(item for item in tables if item), class_="columns"))
    return section("method", "How it was measured", *parts)


def _mapping(run: Run, key: str) -> Mapping[str, Any]:
    found = at(run.result, key)
    return found if isinstance(found, Mapping) else {}


def _conventions(run: Run) -> list[Markup]:
    empty = count(run.result, "data", "test_empty_queries")
    left_out = "" if empty is None else f" ({form.whole(empty)} in the test data)"
    known = []
    if run.metric_key.startswith("ndcg"):
        known.append(
            (
                run.metric,
                f"gain 2^label \N{MINUS SIGN} 1, discount log2(1 + rank), ties broken by input order, queries without a relevant document left out and counted{left_out}.",
            )
        )
    elif run.verdict.metric:
        known.append((run.metric, f"queries without a relevant document are left out and counted{left_out}."))
    if run.verdict.metric:
        known.append(("In full", f"{run.verdict.metric}."))
    known += [
        (
            "Ranks as well",
            "paired by query (clustered by user where the data name one), the one-sided 95 % lower bound of the mean difference lies above the loss allowed.",
        ),
        (
            "Microseconds a document",
            "one thread, raw features in, scores out, median of interleaved runs; p99 is the 99th percentile of the same runs.",
        ),
        ("Faster", "time of the other divided by the time of this model, at the same number of documents a call."),
        ("Bytes", "of the file on disk; 1 KB is 1,000 bytes."),
        ("Density, sparsity", "share of weights that are not zero, and 1 minus it."),
    ]
    return [joined([element("dt", name), element("dd", words)]) for name, words in known]


def _data(run: Run) -> Markup:
    rows = []
    for part in ("train", "valid", "test"):
        n_queries, documents = count(run.result, "data", part, "queries"), count(run.result, "data", part, "documents")
        if n_queries is not None or documents is not None:
            rows.append([Cell(part), Cell(form.whole(n_queries), n_queries), Cell(form.whole(documents), documents)])
    return table("Data", [("Part", ""), ("Queries", ""), ("Documents", "")], rows) if rows else Markup()


def _seconds(run: Run) -> Markup:
    spent = [
        (str(name), seconds)
        for name, value in _mapping(run, "seconds").items()
        if (seconds := number(value)) is not None
    ]
    if not spent:
        return Markup()
    rows = [[Cell(name.replace("_", " ")), Cell(form.duration(seconds), seconds)] for name, seconds in spent]
    total = (
        ""
        if any(name == "total" for name, _ in spent)
        else f" ({form.duration(sum(seconds for _, seconds in spent))} in all)"
    )
    return table(f"Time spent{total}", [("Stage", ""), ("Wall clock", "")], rows)
