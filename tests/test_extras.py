"""Optional dependencies are named together with their extra."""

from __future__ import annotations

import ast
import json
import tomllib
from importlib.metadata import packages_distributions
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


def extras_of(repo: Path) -> dict[str, set[str]]:
    """Read the distributions of each extra, with those of the extras that it names."""
    project = tomllib.loads((repo / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = project["optional-dependencies"]

    def closure(extra: str) -> set[str]:
        found: set[str] = set()
        for line in lines[extra]:
            name, _, rest = line.partition("[")
            if name == "prunus":
                found |= set().union(*(closure(inner) for inner in rest.partition("]")[0].split(",")))
            else:
                found.add(name.partition(">")[0])
        return found

    return {extra: closure(extra) for extra in lines}


def calls_of_need(repo: Path) -> list[tuple[str, str, str]]:
    """List (place, module, extra) of each call of need in the package."""
    found = []
    for path in sorted((repo / "src" / "prunus").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "need":
                values = [*node.args, *(keyword.value for keyword in node.keywords)]
                place = f"{path.relative_to(repo)}:{node.lineno}"
                found.append((place, *(value.value for value in values if isinstance(value, ast.Constant))))
    return found


def test_the_extra_that_is_named_holds_the_package(repo: Path) -> None:
    """Whoever follows the message of a missing package gets that package."""
    extras, installed = extras_of(repo), packages_distributions()
    calls = calls_of_need(repo)
    assert len(calls) > 5
    wrong = [
        f"{place}: {module} is not in the extra {extra!r}"
        for place, module, extra in calls
        for top in [module.partition(".")[0]]
        if extra not in extras or not {*installed.get(top, [top])} & extras[extra]
    ]
    assert wrong == []
