"""The tree is the pipeline: imports point one way, and what must not need torch does not load it."""

from __future__ import annotations

import ast
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parent.parent / "src" / "prunus"

TIERS: tuple[tuple[str, ...], ...] = (
    ("errors",),
    ("extras",),
    ("click_metrics", "data", "metrics", "topk", "verdict"),
    ("engine", "_native"),
    ("latency",),
    ("teacher", "foreign"),
    ("student",),
    ("design",),
    ("distill",),
    ("prune",),
    ("compiler_trees",),
    ("compiler",),
    ("compiler_click", "compiler_int8"),
    ("bench",),
    ("compress", "online"),
    ("report", "serve", "scale", "export"),
    ("cli",),
)
"""Lowest first: a module imports its own tier and lower ones."""

RANK = {name: rank for rank, tier in enumerate(TIERS) for name in tier}

FACADE = frozenset({"__version__"})
"""What lower modules may take from the top package itself."""

TORCH_FREE = (
    "click_metrics",
    "data",
    "metrics",
    "topk",
    "verdict",
    "engine",
    "latency",
    "compiler",
    "compiler_click",
    "compiler_int8",
    "compiler_trees",
    "bench",
    "report",
    "serve",
    "cli",
)


def module_name(path: Path) -> str:
    """Give the dotted name of a source file."""
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(SOURCE.rglob("*.py"))}

OTHER_PROCESS = frozenset(
    name for name in MODULES if name == "prunus.bench.worker" or name.startswith("prunus.bench.adapters")
)
"""What bench runs in a process of a rival: there it imports that rival (torch too), its neighbours by a relative name (in an
environment without prunus the folder is a package of another name), or prunus as a user does."""


def imported(source: str) -> list[tuple[int, str]]:
    """List what a module imports, anywhere in it.

    Args:
        source: text of a Python module.

    Returns:
        (line, dotted name) of each import; ``from a import b`` gives ``a.b``, so that a module taken from a package
        counts as that module.
    """
    found: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            prefix = "." * node.level + (node.module or "")
            found += [(node.lineno, f"{prefix}.{alias.name}") for alias in node.names]
    return found


def violations(name: str, source: str) -> list[str]:
    """List the imports of one module that point upwards.

    Args:
        name: dotted name of the module.
        source: its text.

    Returns:
        One line for each offending import; empty when all is well.
    """
    own = name.split(".")[1]
    found = []
    for line, target in imported(source):
        parts = target.split(".")
        if target.startswith(".") and name not in OTHER_PROCESS:
            found.append(f"{name}:{line}: {target} is relative; expected 'from prunus.x import y'")
        if parts[0] != "prunus":
            continue
        part = parts[1] if len(parts) > 1 else ""
        if part in FACADE or (not part and name in OTHER_PROCESS):
            continue
        if part not in RANK:
            found.append(f"{name}:{line}: imports {target!r}, the facade or an unranked part; import its home module")
        elif RANK[part] > RANK[own]:
            found.append(f"{name}:{line}: {own} imports {part}, which stands above it")
    return found


def run(code: str, *flags: str) -> str:
    """Run Python code in a process of its own and give its output."""
    done = subprocess.run(
        [sys.executable, *flags, "-c", code], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", [name for name in MODULES if name != "prunus"])
def test_imports_point_down(name: str) -> None:
    """A module imports only what stands below it, at its top or inside a function."""
    assert name.split(".")[1] in RANK, f"{name} has no place in the order: add it to TIERS and to CONTRIBUTING.md"
    assert violations(name, MODULES[name].read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("name", "source", "bad"),
    [
        ("prunus.engine.file", "from prunus.errors import ModelFileError", False),
        ("prunus.engine.file", "from prunus.engine import network", False),
        ("prunus.engine.file", "from prunus import __version__", False),
        ("prunus.engine.file", "import numpy", False),
        ("prunus.engine.file", "from prunus.teacher.trees import load_trees", True),
        ("prunus.engine.file", "from prunus import teacher", True),
        ("prunus.engine.file", "import prunus.cli", True),
        ("prunus.engine.file", "import prunus", True),
        ("prunus.engine.file", "from prunus import load", True),
        ("prunus.engine.file", "def f():\n    from prunus.compress import ranker", True),
        ("prunus.engine.file", "from . import network", True),
    ],
)
def test_direction_check_sees(name: str, source: str, bad: bool) -> None:
    """The check above tells a downward import from an upward one."""
    assert bool(violations(name, source)) is bad


def torch_free_modules() -> list[str]:
    """List the modules that must not load torch: those of the torch-free parts that exist, and the tree reader."""
    names = [name for name in MODULES if name == "prunus" or name.split(".")[1] in TORCH_FREE]
    return names + [name for name in MODULES if name == "prunus.teacher.trees"]


def test_torch_is_not_named_where_it_must_not_be() -> None:
    """No torch-free module imports torch, not even inside a function (what times torch as a rival may)."""
    found = [
        f"{name}:{line}"
        for name in torch_free_modules()
        if name not in OTHER_PROCESS
        for line, target in imported(MODULES[name].read_text(encoding="utf-8"))
        if target.partition(".")[0] == "torch"
    ]
    assert found == []


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed: nothing could load it")
@pytest.mark.parametrize("part", sorted({".".join(name.split(".")[:2]) for name in torch_free_modules()}))
def test_torch_stays_out(part: str) -> None:
    """Importing a torch-free part, with every module in it, does not load torch where torch is installed."""
    names = [name for name in torch_free_modules() if ".".join(name.split(".")[:2]) == part]
    names = [name for name in names if not name.endswith("__main__")]
    imports = "".join(f"import {name}\n" for name in names)
    assert json.loads(run(f"import sys, json\n{imports}print(json.dumps('torch' in sys.modules))")) is False


def test_facade_needs_only_two_packages() -> None:
    """``import prunus`` loads nothing outside the standard library but numpy and safetensors, if even those."""
    code = """
import sys, json, sysconfig
before = set(sys.modules)
import prunus
new = {name.partition('.')[0] for name in set(sys.modules) - before}
print(json.dumps(sorted(new - set(sys.stdlib_module_names))))
"""
    assert set(json.loads(run(code))) <= {"prunus", "numpy", "safetensors"}


def test_loading_and_scoring_need_only_two_packages() -> None:
    """The facade's load and RankScorer come up when every package but numpy and safetensors is out of reach."""
    if "prunus.engine.scorer" not in MODULES or "prunus.engine.file" not in MODULES:
        pytest.skip("prunus.engine.scorer is not written yet")
    code = """
import sys
allowed = set(sys.stdlib_module_names) | {"prunus", "numpy", "safetensors"}
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in allowed:
            raise ModuleNotFoundError("blocked: " + name, name=name)
sys.meta_path.insert(0, Block())
import prunus
print(prunus.load.__name__, prunus.RankScorer.__name__)
"""
    assert run(code).split() == ["load", "RankScorer"]


@pytest.mark.parametrize("name", ["DistilledRanker", "EventScorer", "RankScorer", "RecommendScorer", "load"])
def test_facade_names_resolve(name: str) -> None:
    """Each public name of the package is there."""
    import prunus

    home = prunus._HOME[name]
    if home not in MODULES:
        pytest.skip(f"{home} is not written yet")
    if name == "DistilledRanker":
        pytest.importorskip("torch")
    assert getattr(prunus, name).__name__ == name
    assert name in dir(prunus)


def test_facade_table_is_whole() -> None:
    """What __all__ promises is what the table of homes and the version hold, and an unknown name is refused."""
    import prunus

    assert set(prunus.__all__) == {*prunus._HOME, "__version__"}
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = prunus.nothing


def test_every_package_says_what_it_is() -> None:
    """Each package has a docstring."""
    packages = {name: path for name, path in MODULES.items() if path.name == "__init__.py"}
    assert [name for name, path in packages.items() if not ast.get_docstring(ast.parse(path.read_text("utf-8")))] == []
