"""The verbs and their help, put together."""

from __future__ import annotations

import inspect as inspection
from typing import Annotated

import typer

from prunus.cli import (
    bench,
    compile,  # noqa: A004 - the verb's own module
    demo,
    evaluate,
    info,
    inspect,
    rank_calibrate,
    rank_compress,
    rank_design,
    rank_teach,
    recommend_compress,
    recommend_evaluate,
    score,
    stream_rollback,
    stream_run,
)

ABOUT = """Turn a trained ranker into a small sparse model that ranks as well and scores many times faster on a CPU.

Results go to stdout, talk to stderr; --json prints one JSON object. Every stage can be run again: what is done is kept.

Exit codes:
  0    all is well
  1    a bug of prunus, with its traceback
  2    the input or the options cannot be used; one line on stderr says why and what to do
  130  interrupted; `demo`, both `compress` and `stream run` go on where they were when they are run again
  141  whoever read the output went away

Example:
  prunus demo
"""

RANK = """Rankers: documents with features, grouped by query.

Example:
  prunus rank compress ranker.txt --train train.parquet --valid valid.parquet --test test.parquet --budget 0.5us -o out
"""

RECOMMEND = """Recommenders: users and the items that they took.

Example:
  prunus recommend compress train.parquet --test test.parquet --budget 128B -o out
"""

STREAM = """Streams: time-ordered events, a model that learns from them for ever, and sparse models that come off it.

Example:
  prunus stream run 'events/*.parquet' --label clicked --time timestamp --ids user,item --dense 'f*' -o out
"""

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def help_text(text: str | None) -> str:
    """Make a docstring a help text: indented lines, such as examples, keep their breaks.

    Args:
        text: a docstring.
    """
    paragraphs = inspection.cleandoc(text or "").split("\n\n")
    # click wraps a paragraph unless its first line is this mark.
    return "\n\n".join("\b\n" + one if "\n  " in one else one for one in paragraphs)


def _version(wanted: bool) -> None:
    if wanted:
        from prunus import __version__

        typer.echo(f"prunus {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    del version


def make_app() -> typer.Typer:
    """Put the command together: the verbs in the order in which a user meets them."""
    # Plain help: it is the same on every terminal, so that docs/cli.md can be generated from it.
    top = typer.Typer(
        name="prunus",
        help=help_text(ABOUT),
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings=SETTINGS,
    )
    top.callback(help=help_text(ABOUT))(_root)
    rank = typer.Typer(
        help=help_text(RANK),
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings=SETTINGS,
    )
    recommend = typer.Typer(
        help=help_text(RECOMMEND),
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings=SETTINGS,
    )
    stream = typer.Typer(
        help=help_text(STREAM),
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings=SETTINGS,
    )
    for group, name, function, short in (
        (top, "demo", demo.demo, "The whole job, with nothing given."),
        (rank, "teach", rank_teach.teach, "Train a LightGBM LambdaMART teacher."),
        (rank, "compress", rank_compress.compress, "Make a small model that ranks as well."),
        (rank, "calibrate", rank_calibrate.calibrate, "Measure the engine on this CPU."),
        (rank, "design", rank_design.design, "Propose students that meet a budget."),
        (recommend, "compress", recommend_compress.compress, "Make a recommender of a few bytes an item."),
        (recommend, "evaluate", recommend_evaluate.evaluate, "Quality of its lists, and the test against another."),
        (stream, "run", stream_run.run, "Learn from events, and let sparse models off that serve."),
        (stream, "rollback", stream_rollback.rollback, "Let the model before serve again."),
        (top, "compile", compile.compile, "Take a trained model as it is."),
        (top, "score", score.score, "Documents in, scores out; histories in, lists out."),
        (top, "evaluate", evaluate.evaluate, "Quality, time, and the test against a teacher."),
        (top, "bench", bench.bench, "Time a model beside other engines."),
        (top, "inspect", inspect.inspect, "Show what a model file holds."),
        (top, "info", info.info, "Show this machine and installation."),
    ):
        needs_arguments = name not in {"demo", "calibrate", "info"}
        add = group.command(
            name,
            help=help_text(function.__doc__),
            short_help=short,
            no_args_is_help=needs_arguments,
            context_settings=SETTINGS,
        )
        add(function)
    top.add_typer(rank, name="rank", short_help="The stages for rankers: teach, compress, ...")
    top.add_typer(recommend, name="recommend", short_help="The stages for recommenders: compress, evaluate.")
    top.add_typer(stream, name="stream", short_help="The stages for streams: run, rollback.")
    return top


app = make_app()
