"""Optional dependencies are named together with their extra."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from prunus.errors import MissingExtraError
from prunus.extras import missing, need


def test_need_gives_the_module() -> None:
    """What is installed is imported, and a submodule is the submodule."""
    assert need("json", extra="io") is json
    assert need("json.decoder", extra="io").JSONDecoder is json.JSONDecoder


@pytest.mark.parametrize("module", ["prunus_no_such_package", "prunus_no_such_package.sub.module"])
def test_need_names_the_extra(module: str) -> None:
    """What is not installed is refused with the command that installs it."""
    with pytest.raises(
        MissingExtraError, match=r"'prunus_no_such_package' is not installed.*pip install 'prunus\[io\]'"
    ):
        need(module, extra="io")


def test_need_passes_on_another_missing_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that is there and lacks something of its own keeps its own error."""
    (tmp_path / "prunus_half_installed.py").write_text("import prunus_no_such_package\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="prunus_no_such_package") as caught:
        need("prunus_half_installed", extra="io")
    assert not isinstance(caught.value, MissingExtraError)


def test_missing_keeps_order_and_imports_nothing() -> None:
    """The list of absent packages keeps its order and leaves out what is there."""
    assert missing(["prunus_b", "json", "prunus_a"]) == ("prunus_b", "prunus_a")
