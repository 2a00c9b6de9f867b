"""What the page on streams says is what was measured."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture
def doc(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Let the script that writes the tables be imported, and forget it and what it imports afterwards."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module("stream_doc")
    for name in ("stream", "stream_data", "stream_doc", "stream_methods"):
        sys.modules.pop(name, None)


def test_the_page_has_the_tables_of_the_results(doc: Any) -> None:
    """Written anew from the results the page is the same, and other results would change it."""
    page, tables = doc.PAGE.read_text(), json.loads(doc.RESULTS.read_text())["tables"]
    assert doc.written(page, tables) == page
    ours = next(row for row in tables[0]["rows"] if row["method"] == doc.OURS)
    ours["gap"] += 1
    assert doc.written(page, tables) != page


@pytest.mark.parametrize(("value", "shown"), [(0.004, "0.00"), (-0.004, "0.00"), (-0.256, "-0.26"), (1, "+1.00")])
def test_signs(doc: Any, value: float, shown: str) -> None:
    """Every figure has its sign, but zero."""
    assert doc.signed(value) == shown
