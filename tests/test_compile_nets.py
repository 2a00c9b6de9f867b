"""prunus.compile and `prunus compile` take nets: told by content or class, named, proved, written whole or not at all."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (extra 'train')")
onnx = pytest.importorskip("onnx", reason="onnx is not installed (extra 'onnx')")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra 'onnx')")
pytest.importorskip("typer", reason="typer is not installed (extra 'cli')")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from torch import nn  # noqa: E402

import prunus  # noqa: E402
from cli_tools import run  # noqa: E402
from prunus.errors import ForeignModelError, ParityError, SchemaError, TeacherError  # noqa: E402

pytest_plugins = ("cli_fixtures",)

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def model():
    """An ONNX model of two layers, most of whose weights are zero."""
    rng = np.random.default_rng(0)
    weights = [(rng.normal(size=shape) * (rng.random(shape) < 0.3)).astype(np.float32) for shape in ((6, 20), (20, 1))]
    constants = [numpy_helper.from_array(weight, f"w{k}") for k, weight in enumerate(weights)]
    nodes = [
        helper.make_node("MatMul", ["X", "w0"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "w1"], ["score"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width]) for name, width in (("X", 6), ("score", 1))]  # fmt: skip
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def path(model, tmp_path):
    """Its file."""
    onnx.save(model, tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def test_kinds_are_told_by_content_and_class(model, path, tmp_path):
    """A path of any name, a ModelProto and a module are nets; each scores and can be saved."""
    other = tmp_path / "net.bin"
    other.write_bytes(path.read_bytes())
    X = np.random.default_rng(1).normal(size=(50, 6)).astype(np.float32)
    expected = prunus.compile(path).score(X)
    for source in (str(path), other, model):
        scorer = prunus.compile(source)
        np.testing.assert_array_equal(scorer.score(X), expected)
        scorer.save(tmp_path / "m.prunus")
        again = prunus.load(tmp_path / "m.prunus")
        np.testing.assert_array_equal(again.score(X), expected)
        assert again.metadata == scorer.metadata
    assert prunus.compile(nn.Linear(3, 1), feature_names="abc").features_used == ("a", "b", "c")


def test_what_is_wrong_is_named(path, tmp_path):
    """A number of trees for a net, other names than features, other objects and broken files are named errors."""
    with pytest.raises(ForeignModelError, match="n_trees=3 for a net"):
        prunus.compile(path, n_trees=3)
    with pytest.raises(SchemaError, match="got 2 feature names for a net of 6"):
        prunus.compile(path, feature_names=["a", "b"])
    with pytest.raises(TeacherError):
        prunus.compile(object())
    with pytest.raises(ForeignModelError, match="cannot be read"):
        prunus.compile(tmp_path / "absent.onnx")
    (tmp_path / "text.onnx").write_text("tree\nversion=v4\n")
    with pytest.raises(ForeignModelError, match=r"text\.onnx is no ONNX model"):
        prunus.compile(tmp_path / "text.onnx")


def test_the_time_model_chooses_kernels_where_there_is_one(path, tmp_path, monkeypatch):
    """With a stored time model of this CPU the metadata say so, and without one they name the rule."""
    from latency_models import round_numbers

    monkeypatch.setenv("PRUNUS_CACHE", str(tmp_path))
    assert prunus.compile(path).metadata["kernels_by"] == "density of each layer"
    from prunus.latency.model import stored_path

    round_numbers().save(stored_path())
    assert prunus.compile(path).metadata["kernels_by"] == "time model of this CPU, at batch 128"


def test_the_command_writes_a_model(path, tmp_path, cache):
    """`prunus compile net.onnx` writes a file that scores, names its features, and says how it was proved."""
    names = tmp_path / "names.txt"
    names.write_text("".join(f"column {i}\n" for i in range(6)), encoding="utf-8")
    out = tmp_path / "net.prunus"
    done = run("compile", str(path), "-o", str(out), "--features", str(names), "--json")
    assert done.code == 0, done.err
    values = json.loads(done.out)
    assert values["parity"]["rows"] == 512
    assert values["nonzeros"] == prunus.load(out).network.nonzeros
    assert set(values["us_per_doc"]) == {"1", "20", "128", "1000"}
    assert prunus.load(out).schema.feature_names == tuple(f"column {i}" for i in range(6))
    text = run("compile", str(path), "-o", str(out))
    assert text.code == 0, text.err
    assert "score as in ONNX Runtime" in text.out
    assert run("inspect", str(out)).code == 0


def test_nothing_is_written_where_parity_fails(path, tmp_path, cache, monkeypatch):
    """Exit code 2, one line, and no file."""
    from prunus import compiler

    def fail(*_):
        msg = "the compiled network scores 1 where the net gives 2"
        raise ParityError(msg)

    monkeypatch.setattr(compiler, "prove_parity", fail)
    done = run("compile", str(path), "-o", str(tmp_path / "net.prunus"))
    assert (done.code, done.out) == (2, "")
    assert "where the net gives 2" in done.err
    assert not (tmp_path / "net.prunus").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--features", "absent.txt"], "absent.txt cannot be read"),
        (["--features", "few.txt"], "got 2 feature names"),
        (["--trees", "3"], "n_trees=3 for a net"),
    ],
)
def test_wrong_options_are_named(path, tmp_path, cache, monkeypatch, more, message):
    """What does not fit a net is one line and exit code 2."""
    monkeypatch.chdir(tmp_path)
    Path("few.txt").write_text("a\nb\n")
    done = run("compile", "net.onnx", "-o", "net.prunus", *more)
    assert done.code == 2
    assert message in done.err
    assert not Path("net.prunus").exists()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_page_on_nets_runs(tmp_path, monkeypatch, cache):
    """The code of docs/nets.md prints what it says, and its commands run."""
    page = (ROOT / "docs" / "nets.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL))
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = [line.rpartition("# ")[2] for line in code.splitlines() if line.startswith("print(")]
    assert done.stdout.splitlines() == said
    monkeypatch.chdir(tmp_path)
    commands = re.findall(r"^\$ prunus (.*)$", page, re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        done = run(*shlex.split(command))
        assert done.code == 0, (command, done.err)
    again, first = (prunus.load(tmp_path / name) for name in ("from-onnx.prunus", "net.prunus"))
    X = np.random.default_rng(0).normal(size=(40, 20)).astype(np.float32)
    np.testing.assert_allclose(again.score(X), first.score(X), rtol=1e-4, atol=1e-5)
    assert again.features_used == first.features_used
