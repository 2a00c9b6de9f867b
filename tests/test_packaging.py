"""The wheel is whole, and with numpy and safetensors alone it loads a model and scores with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest

from prunus.data.ranking import Schema
from prunus.engine.network import Activation, Dense, InputStage, Network, SlotKind, Sparse

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

SCORE = """
import json, sys
import numpy as np
import prunus

scorer = prunus.load(sys.argv[1])
scores = scorer.score(np.load(sys.argv[2]))
outside = sorted({name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names))
print(json.dumps({"scores": scores.tolist(), "isa": scorer.isa, "modules": outside, "file": prunus.__file__}))
"""


def pip(python: Path | str, *arguments: str) -> None:
    """Run pip of one environment; what it says becomes the failure's message."""
    command = [str(python), "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


@pytest.fixture(scope="module")
def wheel(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel of this checkout; what was compiled to install it is not compiled again."""
    for tool in ("scikit_build_core", "nanobind"):
        pytest.importorskip(tool, reason="the build tools are not installed (extra 'dev')")
    folder = tmp_path_factory.mktemp("wheel")
    pip(sys.executable, "wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), str(repo))
    (built,) = folder.glob("prunus-*.whl")
    return built


@pytest.fixture(scope="module")
def bare(repo: Path, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an environment of numpy, safetensors and the wheel, and give its interpreter."""
    folder = tmp_path_factory.mktemp("bare") / "env"
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    pip(python, "install", "-c", str(repo / "constraints.txt"), "numpy", "safetensors")
    pip(python, "install", "--no-deps", str(wheel))
    return python


def small_model() -> tuple[Network, Schema]:
    """Make a network with one slot of each kind, a sparse layer, a dense layer, and one feature that is not read."""
    rng = np.random.default_rng(7)
    n_slots = 5
    inputs = InputStage(
        feature=np.array([0, 1, 1, 2, 4], np.int32),
        kind=np.array([SlotKind.VALUE, SlotKind.LOG, SlotKind.MISSING, SlotKind.EQUAL, SlotKind.VALUE], np.uint8),
        center=np.array([0.5, 0.1, 0, 2, -1], np.float32),
        scale=np.array([2, 0.7, 1, 1, 0.3], np.float32),
        lower=np.full(n_slots, -5, np.float32),
        upper=np.full(n_slots, 5, np.float32),
        fill=np.array([0, 0.2, 0, 0, 0], np.float32),
    )
    first = rng.normal(size=(17, n_slots)).astype(np.float32)
    first[rng.random(first.shape) < 0.6] = 0
    layers = (
        Sparse.from_dense(first, rng.normal(size=17).astype(np.float32), Activation.RELU6),
        Dense(rng.normal(size=(1, 17)).astype(np.float32), np.array([0.25], np.float32), Activation.IDENTITY),
    )
    schema = Schema(("a", "b", "c", "unread", "e"), (False, True, False, False, False))
    return Network(5, inputs, layers), schema


def test_wheel_holds_the_package_and_nothing_else(repo: Path, wheel: Path) -> None:
    """The wheel has every Python file, one native module and the marker of typed packages, and no sources or tests."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        metadata = next(archive.read(name).decode() for name in names if name.endswith(".dist-info/METADATA"))
    packaged = {name for name in names if not name.partition("/")[0].endswith(".dist-info")}
    source = repo / "src"
    expected = {path.relative_to(source).as_posix() for path in (source / "prunus").rglob("*.py")}
    assert expected <= packaged
    extra = packaged - expected
    native = {name for name in extra if name.startswith("prunus/_native") and name.endswith(".so")}
    assert len(native) == 1
    assert "prunus/py.typed" in extra
    # Rivals' C interfaces are compiled where they are timed.
    rivals = {name for name in extra if name.startswith("prunus/bench/adapters/") and name.endswith((".c", ".cpp"))}
    others = {Path(name).suffix for name in extra - native - rivals - {"prunus/py.typed"}}
    assert others <= {".pyi", ".html", ".css", ".js", ".json"}
    required = [line for line in metadata.splitlines() if line.startswith("Requires-Dist:") and "extra ==" not in line]
    assert sorted(line.split()[1].partition(">")[0] for line in required) == ["numpy", "safetensors"]
    assert "License-Expression: Apache-2.0" in metadata


def test_two_packages_load_and_score(bare: Path, tmp_path: Path) -> None:
    """A model written here scores the same where only numpy and safetensors are, and nothing else is imported."""
    from prunus.engine.file import load, save

    network, schema = small_model()
    model, rows = tmp_path / "model.prunus", tmp_path / "rows.npy"
    save(model, network, schema, metadata={"note": "written by the test"})
    X = np.random.default_rng(3).normal(size=(37, 5)).astype(np.float32)
    X[::4, 1] = np.nan
    X[::3, 2] = 2
    np.save(rows, X)
    # Nothing of this process' environment leads the other interpreter to this checkout.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PRUNUS_"))}
    done = subprocess.run(
        [str(bare), "-c", SCORE, str(model), str(rows)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        cwd=tmp_path,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert Path(answer["file"]).is_relative_to(bare.parent.parent)
    here = load(model).score(X)
    assert len(np.unique(here)) > 5, "the rows do not tell scores apart"
    np.testing.assert_allclose(answer["scores"], here, rtol=1e-4, atol=1e-4)
    assert set(answer["modules"]) <= {"numpy", "prunus", "safetensors", "_safetensors_rust"} | venv_hooks(bare)


def venv_hooks(python: Path) -> set[str]:
    """List what an interpreter loads by itself at its start."""
    code = "import sys; print(*{name.partition('.')[0] for name in sys.modules} - set(sys.stdlib_module_names))"
    done = subprocess.run([str(python), "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return set(done.stdout.split())
