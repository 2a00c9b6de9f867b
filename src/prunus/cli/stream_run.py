"""``prunus stream run``: events in; a model that learns from them, and sparse models that serve, out."""

from __future__ import annotations

import json as json_format
import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prunus.cli import options, table, talk
from prunus.cli.stream_display import display

if TYPE_CHECKING:
    from collections.abc import Mapping


class Late(Enum):
    """What becomes of an event that comes later than the tolerance allows."""

    use = "use"
    set_aside = "set-aside"


class Bad(Enum):
    """What becomes of a row that is no event."""

    set_aside = "set-aside"
    refuse = "refuse"


@talk.verb(goes_on=True)
def run(
    source: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="Parquet files, globs in quotes and folders, in time order; or one of: a .jsonl file, - (JSON lines on stdin), kafka://HOST:PORT/TOPIC.",
            show_default=False,
        ),
    ],
    *,
    label: Annotated[
        str,
        typer.Option(
            "--label", metavar="COLUMN", help="0 or 1; a column or an expression: 'clicks>0'.", show_default=False
        ),
    ],
    time: Annotated[
        list[str],
        typer.Option(
            "--time", metavar="COLUMNS", help="When: columns that rise, the first counts most.", show_default=False
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Folder of the run.", show_default=False)],
    ids: Annotated[
        list[str] | None,
        typer.Option("--ids", metavar="COLUMNS", help="Columns of ids (integers or strings), names and globs."),
    ] = None,
    dense: Annotated[
        list[str] | None,
        typer.Option("--dense", metavar="COLUMNS", help="Numeric columns, names and globs."),
    ] = None,
    key: Annotated[
        list[str] | None,
        typer.Option("--key", metavar="COLUMNS", help="What makes two rows one event; the second is left out."),
    ] = None,
    duplicates: Annotated[
        int, typer.Option(min=0, help="Rows among which a second one of an event is looked for; with --key.")
    ] = 100_000,
    where: options.Where = None,
    follow: Annotated[bool, typer.Option("--follow", help="Wait for more files, or lines, when all are read.")] = False,
    tolerance: Annotated[
        int, typer.Option(min=0, help="How long an event may come after later ones; in units of --time.")
    ] = 0,
    late: Annotated[Late, typer.Option(help="An event that comes later is learned from, or set aside.")] = Late.use,
    join: Annotated[
        int | None,
        typer.Option(min=0, help="How long a label may take that comes in a row of its own, by --key."),
    ] = None,
    negatives: Annotated[
        float, typer.Option(min=1e-6, max=1.0, help="Share of the negatives that the source holds.")
    ] = 1.0,
    bad: Annotated[
        Bad, typer.Option(help="A row that is no event is set aside in set-aside.jsonl, or ends the run.")
    ] = Bad.set_aside,
    cut: Annotated[
        float, typer.Option(min=0.0, max=0.99, help="Share of the dense model's operations to do without.")
    ] = 0.9,
    top: Annotated[str, typer.Option(metavar="WIDTHS", help="Hidden layers of the dense model.")] = "512,256,128",
    bottom: Annotated[str, typer.Option(metavar="WIDTHS", help="Its layers under the dense features.")] = "",
    dim: Annotated[int, typer.Option(min=1, help="Width of an embedding.")] = 16,
    batch: Annotated[
        int, typer.Option(min=1, max=204_800, help="Events that are predicted, then learned from, at once.")
    ] = 512,
    window: Annotated[int, typer.Option(min=1, help="Events of a line of the log.")] = 20_480,
    warm_up: Annotated[
        int, typer.Option(min=0, help="Events before the first sparse model; no total counts them.")
    ] = 102_400,
    capacity: Annotated[int, typer.Option(min=1, help="Ids of a column that have an embedding of their own.")] = 50_000,
    admit_after: Annotated[int, typer.Option(min=1, help="Times that an id is seen before it has one.")] = 2,
    expire_after: Annotated[
        int | None, typer.Option(min=1, help="Events after which an id that was not seen loses it.")
    ] = None,
    watch: Annotated[
        bool, typer.Option(help="Let a dense master learn beside: it costs its own training, and gives the gap.")
    ] = True,
    keep: Annotated[int, typer.Option(min=1, help="Models that stay, to roll back to.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Of everything random.")] = 0,
    threads: Annotated[
        int, typer.Option(min=1, help="Threads of training; from 2 up the master learns beside, to the same bits at 2.")
    ] = 1,
    checkpoint: Annotated[float, typer.Option(min=0.0, help="Seconds from one checkpoint to the next.")] = 30.0,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a window, one a line, and the summary last.")
    ] = False,
) -> None:
    r"""Learn from events for ever, each predicted before it is learned, and let sparse models off that serve.

    Writes models/ with `current`, the model that serves; windows.jsonl, a line a window; report.html; and result.json at the
    end. A run that was stopped or killed goes on where it was, to the same bits; other sources or options in the same folder
    are refused.

    Examples:
      prunus stream run 'events/*.parquet' --label clicked --time timestamp --ids user,item --dense 'f*' -o out
      prunus stream run events/ --follow --label 'clicks>0' --time day,second --ids ad,site,page -o out
      tail -f events.jsonl | prunus stream run - --label clicked --time t --ids user,item --json -o out
    """
    from prunus.extras import need

    need("pydantic", extra="stream")
    need("torch", extra="stream")
    need("river", extra="stream")
    from prunus.cli import stream_source
    from prunus.data.event_opening import open_events
    from prunus.data.event_order import Ordered
    from prunus.data.events import EventSchema
    from prunus.online.run import run_stream
    from prunus.online.settings import StreamSettings
    from prunus.report import stream as report

    settings = StreamSettings(
        cut=cut,
        dim=dim,
        top=widths_of(top, "--top"),
        bottom=widths_of(bottom, "--bottom"),
        batch=batch,
        window=window,
        warm_up=warm_up,
        capacity=capacity,
        admit_after=admit_after,
        expire_after=expire_after,
        watched=watch,
        keep_models=keep,
        seed=seed,
        threads=threads,
    )
    times = options.split_names(time)
    keys = options.split_names(key)
    named = stream_source.features_of(
        options.split_names(ids), options.split_names(dense), source, [label, *times, *keys]
    )
    schema = EventSchema(*named, label, times, keys, where)
    rules: dict[str, Any] = {
        "tolerance": tolerance,
        "late": late.value,
        "duplicates": duplicates if key else 0,
        "join": join,
        "negatives": negatives,
        "bad": bad.value,
    }
    events = Ordered(
        open_events(source, schema, follow=follow, say=talk.say), **rules, set_aside=out / "set-aside.jsonl"
    )
    with display(quiet=json) as shown, report.kept(out, shown.say) as draw:

        def on_window(line: dict[str, Any]) -> None:
            if json:
                put_line(line)
            shown.window(line)
            draw()

        summary = run_stream(
            events,
            schema,
            settings=settings,
            out=out,
            inputs={"source": source, "follow": follow, **rules},
            say=shown.say,
            on_window=on_window,
            on_batch=shown.events,
            checkpoint_s=checkpoint,
        )
    if json:
        put_line(summary)
        return
    show(summary, settings.warm_up, events.rejects.path)
    talk.put(f"report: {out / 'report.html'}")


def widths_of(text: str, option: str) -> tuple[int, ...]:
    """Read widths of layers, separated by commas.

    Raises:
        DataError: one is no whole number above 0, or there is none where one is needed.
    """
    from prunus.errors import DataError

    parts = options.split_names([text])
    if not all(part.isdecimal() and int(part) for part in parts) or (option == "--top" and not parts):
        msg = f"got {option} {text!r}; expected widths such as 512,256,128"
        raise DataError(msg)
    return tuple(int(part) for part in parts)


def put_line(values: Mapping[str, Any]) -> None:
    """Write one JSON object on a line of its own, at once."""
    talk.put(json_format.dumps(values, allow_nan=False))
    sys.stdout.flush()


def show(summary: Mapping[str, Any], warm_up: int, set_aside: Path | None) -> None:
    """Write what a run came to: a row a model, and what else was counted."""
    gaps = {"dense": None, "sparse": summary["gap_percent"], "served": summary["served_gap_percent"]}
    names = {"dense": "dense master", "sparse": "sparse, learning on", "served": "sparse, as served"}
    rows = [
        [
            names[name],
            table.number(summary["ne"][name], ".4f"),
            table.number(gaps[name], "+.2f"),
            table.number(summary["counted"][name]),
        ]
        for name in names
    ]
    talk.put(f"{summary['events']:,} events; normalized entropy test-then-train, after the warm-up")
    table.put_table(["model", "NE", "gap, %", "events"], rows, left=1, strong=[2])
    talk.put("")
    served = (
        f"{summary['emissions']} models served, {summary['refused']} were worse than the one that served and did not."
    )
    if not summary["emissions"] + summary["refused"]:
        served = f"No model was made: the stream ended within the warm-up of {warm_up:,} events (--warm-up)."
    talk.put(f"The sparse model does {100 * summary['flops_cut']:.1f} % fewer operations. {served}")
    alarms = summary["alarms"]
    talk.put(
        f"Alarms: {alarms['loss']} of the dense master's loss, {alarms['gap']} of the gap; {summary['patterns']} new patterns asked for."
    )
    others = [f"{n:,} {name}" for name, n in summary["counts"].items() if n and name != "events"]
    if others:
        where = f"; what was set aside: {set_aside}" if set_aside is not None and set_aside.exists() else ""
        talk.put(f"Also counted: {', '.join(others)}{where}")
    talk.put("")
    for name, path in summary["files"].items():
        if path is not None:
            talk.put(f"{name}: {path}")
