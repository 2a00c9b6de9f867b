"""One verb for every source of events: :func:`open_events`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from prunus.data.event_kafka import KafkaSource
from prunus.data.event_lines import JsonLinesSource
from prunus.data.event_sources import ParquetSource
from prunus.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from prunus.data.event_sources import EventSource
    from prunus.data.events import EventSchema

LINE_SUFFIXES = (".jsonl", ".ndjson", ".json")
"""Files of these names, also with .gz behind, hold lines of JSON."""
_KAFKA = "kafka://HOST:PORT,.../TOPIC?group=NAME&start=earliest"


def open_events(
    sources: Sequence[str | Path] | str | Path,
    schema: EventSchema,
    *,
    follow: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> EventSource:
    """Open a source by its name.

    Args:
        sources: Parquet or CSV files, globs and folders; or one of: a file of JSON lines, ``"-"`` for JSON lines on
            standard input, a Kafka topic as ``kafka://HOST:PORT,.../TOPIC``, with ``?group=`` and ``?start=latest``.
        schema: what each column is.
        follow: whether to wait for more.
        say: is told in a sentence that a source is waited for.

    Raises:
        DataError: a source cannot be opened, or a pipe or several files of lines are to be followed or joined.
    """
    names = [str(one) for one in ([sources] if isinstance(sources, str | Path) else sources)]
    kinds = {name: _kind(name) for name in names}
    single = [name for name, kind in kinds.items() if kind != "files"]
    if not single:
        return ParquetSource(names, schema, follow=follow)
    if len(names) > 1:
        msg = f"got {single[0]!r} among {len(names)} sources; expected it alone: lines of several files go through '-'"
        raise DataError(msg)
    (name,) = names
    if kinds[name] == "kafka":
        return _open_kafka(name, schema, follow=follow, say=say)
    if name == "-" and follow:
        msg = "a pipe ends when its writer does, and cannot be followed; expected standard input without --follow"
        raise DataError(msg)
    return JsonLinesSource(name, schema, follow=follow)


def _kind(name: str) -> str:
    if name.startswith("kafka://"):
        return "kafka"
    plain = name.removesuffix(".gz")
    return "lines" if name == "-" or plain.endswith(LINE_SUFFIXES) else "files"


def _open_kafka(name: str, schema: EventSchema, *, follow: bool, say: Callable[[str], None]) -> KafkaSource:
    parts = urlsplit(name)
    options = dict(parse_qsl(parts.query))
    topic = parts.path.removeprefix("/")
    if not parts.netloc or not topic or "/" in topic or set(options) - {"group", "start"}:
        msg = f"got {name!r}; expected {_KAFKA}"
        raise DataError(msg)
    return KafkaSource(parts.netloc, topic, schema, follow=follow, say=say, **options)  # type: ignore[arg-type]  # start is checked
