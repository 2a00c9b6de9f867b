"""Environments and compiled models of rival engines: made once, redone when half made, refused with a reason."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from prunus.bench import adapters, environments, peers
from prunus.bench.adapters.onnx_net import arrays_of
from prunus.bench.environments import ensure, prepared
from prunus.bench.peers import PEERS, Peer, kind_of, peers_for
from prunus.bench.run import Contestant, compare
from prunus.engine.network import Activation, Dense, InputStage, Network
from prunus.errors import PeerError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep away from the user's cache."""
    monkeypatch.setenv("PRUNUS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Collect the commands that would install or prepare, and run none of them."""
    ran: list[list[str]] = []

    def run(name: str, what: str, command: list[str], seconds: float) -> None:
        ran.append(command)
        if "venv" in command:
            Path(command[-1]).mkdir()
        if "pip" in command and "broken==1" in command:
            msg = f"{name}: {what} failed"
            raise PeerError(msg)

    monkeypatch.setattr(environments, "_run", run)
    return ran


def quiet(_: str) -> None:
    """Say nothing."""


def linear() -> Network:
    """Make the smallest network: one feature, one weight."""
    one = np.ones(1, np.float32)
    stage = InputStage(np.zeros(1), np.zeros(1), 0 * one, one, -one, one, 0 * one)
    return Network(1, stage, (Dense(one[None], one, Activation.IDENTITY),))


def test_every_peer_has_an_adapter() -> None:
    """The table of rivals and the table of adapters name the same engines; ours is the one that is no rival."""
    assert set(PEERS) | {"prunus"} == set(adapters.ENGINES)
    assert all(name == peer.name for name, peer in PEERS.items())
    assert all("==" in pin for peer in PEERS.values() for pin in peer.requirements)


def test_environment_is_made_once(commands: list[list[str]]) -> None:
    """A second call finds it; the pins go to pip as they stand."""
    peer = Peer("p", "trees", "", ("a==1", "b==2"))
    python = ensure(peer, tell=quiet)
    assert python == peer.folder / "bin" / "python"
    assert commands[1][-2:] == ["a==1", "b==2"]
    assert len(commands) == 2
    assert ensure(peer, tell=quiet) == python
    assert len(commands) == 2


def test_half_made_environment_is_redone(commands: list[list[str]]) -> None:
    """What a killed or failed run left is thrown away, and nothing of it is taken for an environment."""
    peer = Peer("p", "trees", "", ("broken==1",))
    for _ in range(2):
        with pytest.raises(PeerError, match="p: installing it failed"):
            ensure(peer, tell=quiet)
        (peer.folder / "left-over").touch()
    assert len(commands) == 4
    fixed = replace(peer, requirements=("works==1",))
    fixed.folder.mkdir(parents=True)
    (fixed.folder / "left-over").touch()
    ensure(fixed, tell=quiet)
    assert not (fixed.folder / "left-over").exists()


def test_nothing_is_made_where_that_is_not_wanted(tmp_path: Path, commands: list[list[str]]) -> None:
    """Then what is not there is refused with the command that makes it; what is there is found."""
    peer = Peer("p", "trees", "", ("a==1",))
    with pytest.raises(PeerError, match=r"not installed yet.*make bench-peers"):
        ensure(peer, tell=quiet, build=False)
    assert commands == []
    assert ensure(peer, tell=quiet) == ensure(peer, tell=quiet, build=False)
    (tmp_path / "t.txt").write_text("tree")
    environment = PEERS["lleaves"].folder
    environment.mkdir(parents=True)
    (environment / "ready.json").touch()
    with pytest.raises(PeerError, match=r"t\.txt is not compiled for it yet.*make bench-peers"):
        prepared(PEERS["lleaves"], tmp_path / "t.txt", tell=quiet, build=False)
    made = prepared(PEERS["lleaves"], tmp_path / "t.txt", tell=quiet)
    assert prepared(PEERS["lleaves"], tmp_path / "t.txt", tell=quiet, build=False) == made


def test_other_pins_are_another_environment() -> None:
    """The folder's name depends on the pins, and engines that share an environment share its folder."""
    a, b = Peer("p", "trees", "", ("a==1",)), Peer("p", "trees", "", ("a==2",))
    assert a.folder != b.folder
    assert PEERS["tl2cgen"].folder == PEERS["tl2cgen-c"].folder


def test_engines_that_prepare_alike_share_what_was_made(tmp_path: Path, commands: list[list[str]]) -> None:
    """TL2cgen compiles a forest once for both of its engines; two ways to quantise are two models."""
    (tmp_path / "t.txt").write_text("tree")
    made = [prepared(PEERS[name], tmp_path / "t.txt", tell=quiet) for name in ("tl2cgen", "tl2cgen-c")]
    assert made[0] == made[1]
    np.savez(tmp_path / "m.npz", a=np.zeros(1))
    names = ("onnxruntime", "onnxruntime-int8-dynamic", "onnxruntime-int8-static", "openvino", "openvino-int8")
    models = {prepared(PEERS[name], tmp_path / "m.npz", tell=quiet) for name in names}
    assert len(models) == len(names)


def test_missing_program_and_missing_pins_are_reasons(commands: list[list[str]]) -> None:
    """Without its compiler, or without a way to install it, an engine is refused with what to do."""
    with pytest.raises(PeerError, match="the program no-such-compiler is not on the PATH"):
        ensure(Peer("p", "trees", "", ("a==1",), tools=("no-such-compiler",)), tell=quiet)
    with pytest.raises(PeerError, match="run  pip install p"):
        ensure(Peer("p", "trees", "", installed=("no_such_module",)), tell=quiet)
    assert commands == []


def test_engine_that_is_installed_beside_prunus_is_used(commands: list[list[str]]) -> None:
    """Where all its modules are there, nothing is installed."""
    assert ensure(Peer("p", "trees", "", ("numpy==0",), installed=("numpy",)), tell=quiet) == Path(sys.executable)
    assert commands == []


def test_failed_command_tells_its_last_lines() -> None:
    """The reason holds the exit status and what the program said; one that takes too long is stopped."""
    script = "import sys; print('ERROR: no matching distribution'); print('bye'); sys.exit(3)"
    with pytest.raises(PeerError, match=r"p: installing it failed \(exit 3\): ERROR: no matching distribution"):
        environments._run("p", "installing it", [sys.executable, "-c", script], 60)
    with pytest.raises(PeerError, match="took over 0 s"):
        environments._run("p", "installing it", [sys.executable, "-c", "import time; time.sleep(60)"], 0.2)
    with pytest.raises(PeerError, match="could not be started"):
        environments._run("p", "installing it", ["/no/such/program"], 1)


def test_model_is_prepared_once_for_each_content(tmp_path: Path) -> None:
    """The same bytes under another name are found again, other bytes are not, and a failure leaves nothing behind."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    peer, told = PEERS["onnxruntime"], list[str]()
    network = linear()
    np.savez(tmp_path / "a.npz", **arrays_of(network))
    first = prepared(peer, tmp_path / "a.npz", tell=told.append)
    assert (first / "model.onnx").stat().st_size > 0
    shutil.copy(tmp_path / "a.npz", tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", **arrays_of(network))
    assert prepared(peer, tmp_path / "b.npz", tell=told.append) == first
    assert prepared(peer, tmp_path / "c.npz", tell=told.append) == first
    assert len(told) == 1
    np.savez(tmp_path / "d.npz", feature=np.zeros(1))
    with pytest.raises(PeerError, match=r"preparing d\.npz failed"):
        prepared(peer, tmp_path / "d.npz", tell=quiet)
    made = [path for path in first.parent.iterdir() if path.is_dir() and path.suffix != ".half"]
    assert made == [first]


def test_unavailable_peer_is_named_in_the_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rival that will not install stands in the result with its reason, and the run does not fail."""
    monkeypatch.setitem(PEERS, "p", Peer("p", "trees", "", ("a==1",), reads=("lightgbm",)))
    monkeypatch.setitem(adapters.ENGINES, "p", "compiled:Lleaves")

    def refuse(name: str, what: str, command: list[str], seconds: float) -> None:
        msg = f"{name}: {what} failed (exit 1): no network"
        raise PeerError(msg)

    monkeypatch.setattr(environments, "_run", refuse)
    (tmp_path / "t.txt").write_text("tree")
    found = compare([Contestant("p", tmp_path / "t.txt")], np.zeros((4, 1), np.float32), (1,), tell=quiet)
    assert found.rows == []
    assert found.unavailable == {"p": "p: making its environment failed (exit 1): no network"}


@pytest.mark.parametrize(
    ("name", "content", "kind", "reader"),
    [
        ("t.txt", "tree", "lightgbm", "lleaves"),
        ("t.ubj", "", "xgboost", "tl2cgen"),
        ("t.json", '{"learner": {}}', "xgboost", "xgboost"),
        ("t.json", '{"oblivious_trees": []}', "catboost", "catboost"),
        ("t.cbm", "CBM1", "catboost", "catboost"),
        ("m.prunus", "", "prunus", "torch"),
    ],
)
def test_peers_are_offered_by_kind_of_model(tmp_path: Path, name: str, content: str, kind: str, reader: str) -> None:
    """A file is told by its suffix, .json by its content, and only engines that read it are offered."""
    path = tmp_path / name
    path.write_text(content)
    assert kind_of(path) == kind
    assert reader in peers_for(path)
    assert all(kind in PEERS[peer].reads for peer in peers_for(path))


def test_cache_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """PRUNUS_CACHE first, then XDG_CACHE_HOME, then ~/.cache; rivals and the time model are kept in one folder."""
    latency = pytest.importorskip("prunus.latency.model", reason="the native extension is not built")

    def folders() -> set[Path]:
        return {peers.peers_dir().parent, latency.stored_path().parent}

    assert folders() == {tmp_path / "cache"}
    monkeypatch.delenv("PRUNUS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert folders() == {tmp_path / "xdg" / "prunus"}
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert folders() == {Path.home() / ".cache" / "prunus"}


@pytest.mark.long
@pytest.mark.timeout(600)
def test_environment_is_really_made(tmp_path: Path) -> None:
    """A wheel from a folder is installed into an environment of its own, which does not see this one's packages."""
    wheel = tmp_path / "prunus_rival-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("prunus_rival.py", "ANSWER = 42\n")
        archive.writestr("prunus_rival-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: prunus-rival\nVersion: 1\n")
        archive.writestr(
            "prunus_rival-1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("prunus_rival-1.dist-info/RECORD", "")
    python = ensure(Peer("rival", "trees", "", (str(wheel),)), tell=quiet)

    def run(code: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([str(python), "-I", "-c", code], capture_output=True, text=True, check=False)

    assert run("import prunus_rival; print(prunus_rival.ANSWER)").stdout.strip() == "42"
    assert run("import numpy").returncode != 0


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("missing", [0.0, 0.1])
def test_lightgbm_end_to_end(tmp_path: Path, missing: float) -> None:
    """LightGBM beside our own model and its dense copies: right scores, every row, both paths of its C API."""
    lightgbm = pytest.importorskip("lightgbm")
    pytest.importorskip("prunus._native")
    from prunus.data.ranking import Schema
    from prunus.engine.file import save

    rng = np.random.default_rng(0)
    X = rng.normal(size=(2000, 6)).astype(np.float32)
    y = (X[:, 0] > 0) + (X[:, 1] * X[:, 2] > 0.5)
    X[rng.random(X.shape) < missing] = np.nan
    data = lightgbm.Dataset(X, y.astype(int), group=[20] * 100)
    settings = {"objective": "lambdarank", "num_leaves": 15, "verbose": -1, "num_threads": 1}
    lightgbm.train(settings, data, 20).save_model(tmp_path / "t.txt")
    ones = np.ones(6, np.float32)
    stage = InputStage(np.arange(6), np.ones(6), 0 * ones, ones, -3 * ones, 3 * ones, 0 * ones)
    weight = rng.normal(size=(8, 6)).astype(np.float32)
    hidden = Dense(weight, np.zeros(8, np.float32), Activation.RELU6)
    network = Network(
        6, stage, (hidden, Dense(weight[:1, :1] * np.ones((1, 8), np.float32), ones[:1], Activation.IDENTITY))
    )
    schema = Schema(tuple("abcdef"), (True,) * 6)
    save(tmp_path / "m.prunus", network, schema, metadata={})
    found = compare(
        [
            Contestant("prunus", tmp_path / "m.prunus"),
            *(Contestant(name, tmp_path / "m.prunus") for name in ("onnxruntime", "torch")),
            Contestant("lightgbm", tmp_path / "t.txt"),
        ],
        X,
        (1, 20),
        rounds=3,
        slice_seconds=0.002,
        tell=quiet,
    )
    assert found.unavailable == {}
    assert [row["engine"] for row in found.rows] == ["prunus", "onnxruntime", "torch", "lightgbm"] * 2
    for row in found.rows:
        assert "wrong" not in row
        assert row["max_difference"] < 1e-4
        assert row["ratio"] > 0
    assert found.versions["lightgbm"]["lightgbm"] == lightgbm.__version__
