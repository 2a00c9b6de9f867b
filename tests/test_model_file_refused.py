"""Model files that are no files of ours any more, or never were: each is a ModelFileError that says what it is."""

from __future__ import annotations

import json
import os
import struct

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from model_files import f32, forge, forge_outer, i32, known_bytes, load_bytes, parts_of, u16
from prunus.engine import file as model_file
from prunus.engine.file import load, read_header
from prunus.engine.header import FORMAT_VERSION, OLDEST_VERSION
from prunus.engine.network_codec import INPUTS
from prunus.errors import InstructionSetError, ModelFileError, ModelVersionError


@pytest.fixture
def content():
    """Give the bytes of a small model file."""
    return known_bytes()


# ---- damaged files


def test_every_flipped_byte_is_found(tmp_path, content):
    """Each byte in turn, inverted or with one bit changed, gives ModelFileError and nothing else."""
    path = tmp_path / "m.prunus"
    load_bytes(path, content)
    for position in range(len(content)):
        for pattern in (0xFF, 1 << position % 8):
            damaged = bytearray(content)
            damaged[position] ^= pattern
            with pytest.raises(ModelFileError):
                load_bytes(path, bytes(damaged))


@pytest.mark.long
def test_every_flipped_bit_is_found(tmp_path, content):
    """Each single bit of a file gives ModelFileError and nothing else."""
    path = tmp_path / "m.prunus"
    for position in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[position // 8] ^= 1 << position % 8
        with pytest.raises(ModelFileError):
            load_bytes(path, bytes(damaged))


def test_every_cut_is_found(tmp_path, content):
    """A file cut at any length, or with anything behind it, gives ModelFileError that names the file."""
    path = tmp_path / "m.prunus"
    for length in range(len(content)):
        with pytest.raises(ModelFileError, match=r"m\.prunus"):
            load_bytes(path, content[:length])
    for more in (b"\0", b"x" * 1000, content):
        with pytest.raises(ModelFileError, match="longer"):
            load_bytes(path, content + more)


def test_a_cut_file_is_called_truncated(tmp_path, content):
    """Cut behind its header, or inside it, the message says so."""
    for length in (200, len(content) - 1):
        with pytest.raises(ModelFileError, match="truncated"):
            load_bytes(tmp_path / "m.prunus", content[:length])


@given(st.binary(max_size=300))
def test_random_bytes_never_load(tmp_path_factory, junk):
    """Any other bytes give ModelFileError."""
    with pytest.raises(ModelFileError):
        load_bytes(tmp_path_factory.mktemp("junk") / "m.prunus", junk)


# ---- foreign files


@pytest.mark.parametrize("reader", [load, read_header])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent.prunus", "No such file"),
        ("", "is a folder"),
        ("empty.prunus", "is empty"),
        ("forest.txt", "not a model file.*: prunus compile makes one of trees"),
        ("short.txt", "not a model file"),
        ("other.safetensors", "not a model file"),
        ("pipe", "no regular file"),
        ("a\0b", "cannot be read"),
        ("n" * 300, "cannot be read"),
        ("forest.txt/below", "cannot be read"),
    ],
)
def test_foreign_files_are_named(tmp_path, reader, name, message):
    """What is no model file gives ModelFileError that says what it is and what was expected."""
    (tmp_path / "empty.prunus").touch()
    (tmp_path / "forest.txt").write_text("tree\nversion=v4\n" * 100)
    (tmp_path / "short.txt").write_text("tree")
    (tmp_path / "other.safetensors").write_bytes(safetensors.numpy.save({"x": np.ones(3)}, {"format": "np"}))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ModelFileError, match=message) as caught:
        reader(f"{tmp_path}/{name}")
    assert "expected a model file that prunus wrote" in str(caught.value)


def test_a_large_foreign_file_is_not_read(tmp_path, monkeypatch):
    """A safetensors file of another program is refused by its header, whatever its size."""
    path = tmp_path / "large.safetensors"
    text = b'{"x":{"dtype":"U8","shape":[1099511627776],"data_offsets":[0,1099511627776]}}'
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(1 << 40)  # a hole: takes no space, and reading it would take a terabyte
    with pytest.raises(ModelFileError, match="not a model file"):
        load(path)


# ---- hostile files: every checksum right, the contents not


HOSTILE_TENSORS = {
    "index too large": {"layer.0.indices": u16(0, 3, 1)},
    "index far too large": {"layer.0.indices": u16(0, 2**16 - 1, 1)},
    "index repeated": {"layer.0.indices": u16(2, 2, 1)},
    "indices falling": {"layer.0.indices": u16(2, 0, 1)},
    "indptr falling": {"layer.0.indptr": i32(0, 4, 3)},
    "indptr negative": {"layer.0.indptr": i32(0, -1, 3)},
    "indptr from one": {"layer.0.indptr": i32(1, 2, 3)},
    "indptr too far": {"layer.0.indptr": i32(0, 2, 2**31 - 1)},
    "indptr short": {"layer.0.indptr": i32(0, 3)},
    "indptr empty": {"layer.0.indptr": i32()},
    "feature out of range": {"inputs.feature": i32(0, 1, 4)},
    "feature far out of range": {"inputs.feature": i32(0, 1, 2**31 - 1)},
    "feature negative": {"inputs.feature": i32(-1, 1, 1)},
    "features falling": {"inputs.feature": i32(1, 0, 1)},
    "slot kind unknown": {"inputs.kind": np.array([0, 1, 4], np.uint8)},
    "bounds crossed": {"inputs.lower": f32(-4, 5, -4)},
    "NaN weight": {"layer.1.weight": f32([1, np.nan])},
    "NaN value": {"layer.0.values": f32(1, np.nan, 1)},
    "infinite bias": {"layer.0.bias": f32(np.inf, 0)},
    "NaN center": {"inputs.center": f32(np.nan, 0, 0)},
    "infinite bound": {"inputs.upper": f32(np.inf, 4, 4)},
    "weight float64": {"layer.1.weight": np.ones((1, 2))},
    "weight float16": {"layer.1.weight": np.ones((1, 2), np.float16)},
    "indices int32": {"layer.0.indices": i32(0, 2, 1)},
    "indices int64": {"layer.0.indices": np.array([0, 2, 1])},
    "indices float32": {"layer.0.indices": f32(0, 2, 1)},
    "kind int32": {"inputs.kind": i32(0, 1, 2)},
    "weight one-dimensional": {"layer.1.weight": f32(1, -1)},
    "weight three-dimensional": {"layer.1.weight": f32([[1, -1]])[None]},
    "weight too wide": {"layer.1.weight": f32([1, -1, 1]).reshape(1, 3)},
    "two outputs": {"layer.1.weight": np.ones((2, 2), np.float32), "layer.1.bias": f32(0, 0)},
    "no outputs": {"layer.1.weight": np.ones((0, 2), np.float32), "layer.1.bias": f32()},
    "bias missing one": {"layer.0.bias": f32(0.1)},
    "scalar bias": {"layer.1.bias": np.array(0, np.float32)},
    "no slots": {f"inputs.{name}": np.zeros(0, np.float32) for name in INPUTS}
    | {"inputs.feature": i32(), "inputs.kind": np.zeros(0, np.uint8)},
    "tensor missing": {"layer.1.bias": None},
    "inputs missing": {"inputs.fill": None},
    "rows missing": {"check.rows": None},
    "scores missing": {"check.scores": None},
    "tensor unknown": {"layer.2.weight": f32(1)},
    "tensor of the other kind": {"layer.1.indptr": i32(0, 1)},
    "scores wrong": {"check.scores": f32(*range(8))},
    "scores NaN": {"check.scores": np.full(8, np.nan, np.float32)},
    "scores infinite": {"check.scores": np.full(8, np.inf, np.float32)},
    "scores short": {"check.scores": f32(0)},
    "scores one row": {"check.scores": np.zeros((1, 8), np.float32)},
    "rows empty": {"check.rows": np.zeros((0, 2), np.float32), "check.scores": f32()},
    "rows too narrow": {"check.rows": np.zeros((8, 1), np.float32)},
    "rows infinite": {"check.rows": np.full((8, 2), np.inf, np.float32)},
    "rows NaN where forbidden": {"check.rows": np.full((8, 2), np.nan, np.float32)},
}

LAYERS = [
    {"kind": "sparse", "activation": "relu6", "n_inputs": 3, "n_outputs": 2},
    {"kind": "dense", "activation": "identity", "n_inputs": 2, "n_outputs": 1},
]

HOSTILE_HEADERS = {
    "kind unknown": {"kind": "recommender"},
    "kind missing": {"kind": None},
    "kind a list": {"kind": ["ranker"]},
    "version missing": {"format_version": None},
    "version a text": {"format_version": "1"},
    "version true": {"format_version": True},
    "version zero": {"format_version": 0},
    "version a float": {"format_version": 1.0},
    "schema missing": {"schema": None},
    "schema a list": {"schema": []},
    "schema with more": {"schema": {"feature_names": list("abcd"), "allow_missing": [True] * 4, "more": 1}},
    "no features": {"schema": {"feature_names": [], "allow_missing": []}},
    "names repeated": {"schema": {"feature_names": list("abca"), "allow_missing": [True] * 4}},
    "names no texts": {"schema": {"feature_names": [1, 2, 3, 4], "allow_missing": [True] * 4}},
    "names a text": {"schema": {"feature_names": "abcd", "allow_missing": [True] * 4}},
    "rules short": {"schema": {"feature_names": list("abcd"), "allow_missing": [True]}},
    "rules empty": {"schema": {"feature_names": list("abcd"), "allow_missing": []}},
    "rules numbers": {"schema": {"feature_names": list("abcd"), "allow_missing": [1, 0, 0, 0]}},
    "one feature": {"schema": {"feature_names": ["a"], "allow_missing": [True]}},
    "absurdly many features": {
        "schema": {"feature_names": [f"f{i}" for i in range(70_000)], "allow_missing": [True] * 70_000}
    },
    "layers missing": {"layers": None},
    "layers empty": {"layers": []},
    "layers a number": {"layers": 2},
    "layers a text": {"layers": "ab"},
    "layers of numbers": {"layers": [1, 2]},
    "a layer less": {"layers": LAYERS[:1]},
    "a layer more": {"layers": [*LAYERS, LAYERS[1]]},
    "very many layers": {"layers": [LAYERS[1]] * 10_000},
    "layer kind unknown": {"layers": [LAYERS[0] | {"kind": "int8"}, LAYERS[1]]},
    "layer kind a list": {"layers": [LAYERS[0] | {"kind": []}, LAYERS[1]]},
    "layer kinds swapped": {"layers": [LAYERS[0] | {"kind": "dense"}, LAYERS[1] | {"kind": "sparse"}]},
    "activation unknown": {"layers": [LAYERS[0] | {"activation": "gelu"}, LAYERS[1]]},
    "activation a number": {"layers": [LAYERS[0] | {"activation": 2}, LAYERS[1]]},
    "layer with more": {"layers": [LAYERS[0] | {"scale": 2}, LAYERS[1]]},
    "n_inputs wrong": {"layers": [LAYERS[0] | {"n_inputs": 4}, LAYERS[1]]},
    "n_inputs absurd": {"layers": [LAYERS[0] | {"n_inputs": 10**30}, LAYERS[1]]},
    "n_inputs zero": {"layers": [LAYERS[0] | {"n_inputs": 0}, LAYERS[1]]},
    "n_inputs negative": {"layers": [LAYERS[0] | {"n_inputs": -3}, LAYERS[1]]},
    "n_inputs a float": {"layers": [LAYERS[0] | {"n_inputs": 3.0}, LAYERS[1]]},
    "n_inputs true": {"layers": [LAYERS[0], LAYERS[1] | {"n_outputs": True}]},
    "n_outputs wrong": {"layers": [LAYERS[0], LAYERS[1] | {"n_outputs": 2}]},
}


def set_in(outer, tensor, **fields):
    """Change fields of a tensor's entry in safetensors' header."""
    outer[tensor].update(fields)


HOSTILE_OUTERS = {
    "shape absurd": lambda outer: set_in(outer, "layer.1.weight", shape=[2**62, 4]),
    "shape absurd and empty": lambda outer: set_in(outer, "layer.1.weight", shape=[0, 2**62]),
    "shape beyond 64 bits": lambda outer: set_in(outer, "layer.1.weight", shape=[10**30, 2]),
    "shape negative": lambda outer: set_in(outer, "layer.1.weight", shape=[-1, -2]),
    "shape a text": lambda outer: set_in(outer, "layer.1.weight", shape="1,2"),
    "shape missing": lambda outer: outer["layer.1.weight"].pop("shape") and None,
    "dtype unknown": lambda outer: set_in(outer, "layer.1.weight", dtype="Q4"),
    "dtype a list": lambda outer: set_in(outer, "layer.1.weight", dtype=[]),
    "place overlapping": lambda outer: set_in(outer, "layer.1.weight", data_offsets=[0, 8]),
    "place negative": lambda outer: set_in(outer, "layer.1.weight", data_offsets=[-8, 0]),
    "place absurd": lambda outer: set_in(outer, "layer.1.weight", data_offsets=[0, 2**63]),
    "place beyond 64 bits": lambda outer: set_in(outer, "layer.1.weight", data_offsets=[0, 10**30]),
    "place a text": lambda outer: set_in(outer, "layer.1.weight", data_offsets="ab"),
    "place of floats": lambda outer: set_in(outer, "layer.1.weight", data_offsets=[0.0, 8.0]),
    "entry a list": lambda outer: outer.__setitem__("layer.1.weight", []),
    "more metadata than texts": lambda outer: outer["__metadata__"].__setitem__("more", {"a": []}),
    "nested too deep": lambda outer: (
        json.dumps(outer).encode()[:-1] + b',"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    ),
    "no JSON": lambda outer: json.dumps(outer).encode()[:-1],
    "a list": lambda outer: b"[" + json.dumps(outer).encode() + b"]",
    "not UTF-8": lambda outer: json.dumps(outer).encode()[:-1] + b',"\xff":1}',
    "a constant": lambda outer: json.dumps(outer).encode()[:-1] + b',"x":NaN}',
    "an integer of ten thousand digits": lambda outer: (
        json.dumps(outer).encode()[:-1] + b',"x":' + b"9" * 10_000 + b"}"
    ),
    "another checksum in the metadata": lambda outer: outer["__metadata__"].__setitem__(
        "twice", outer["__metadata__"]["prunus"]
    ),
}


@pytest.mark.parametrize("changes", HOSTILE_TENSORS.values(), ids=HOSTILE_TENSORS.keys())
def test_hostile_tensors(tmp_path, content, changes):
    """A file with a right checksum and an array that cannot run is a ModelFileError that names the file."""
    with pytest.raises(ModelFileError, match=r"m\.prunus"):
        load_bytes(tmp_path / "m.prunus", forge(content, tensors=changes))


@pytest.mark.parametrize("changes", HOSTILE_HEADERS.values(), ids=HOSTILE_HEADERS.keys())
def test_hostile_headers(tmp_path, content, changes):
    """A file with a right checksum and a header that says what cannot be is a ModelFileError that names the file."""
    with pytest.raises(ModelFileError, match=r"m\.prunus"):
        load_bytes(tmp_path / "m.prunus", forge(content, header=changes))


@pytest.mark.parametrize("change", HOSTILE_OUTERS.values(), ids=HOSTILE_OUTERS.keys())
def test_hostile_safetensors_headers(tmp_path, content, change):
    """A file whose outer header lies about places, shapes or types is a ModelFileError."""
    with pytest.raises(ModelFileError, match=r"m\.prunus"):
        load_bytes(tmp_path / "m.prunus", forge_outer(content, change))


def test_forging_changes_nothing_by_itself(tmp_path, content):
    """The helpers of the hostile tests give a file that loads where they are told to change nothing."""
    load_bytes(tmp_path / "m.prunus", forge(content))
    load_bytes(tmp_path / "m.prunus", forge_outer(content, dict))


@pytest.mark.parametrize(("version", "advice"), [(FORMAT_VERSION + 1, "upgrade prunus"), (10**9, "upgrade prunus")])
@pytest.mark.parametrize("reader", [load, read_header])
def test_a_newer_format_says_what_to_do(tmp_path, content, reader, version, advice):
    """A newer format is an error of its own: which versions this build reads, and to upgrade."""
    path = tmp_path / "m.prunus"
    path.write_bytes(forge(content, header={"format_version": version, "layers": "quite another form"}))
    with pytest.raises(ModelVersionError, match=advice) as caught:
        reader(path)
    assert f"reads versions {OLDEST_VERSION} to {FORMAT_VERSION}" in str(caught.value)
    assert str(version) in str(caught.value)


def test_an_unknown_kind_says_to_upgrade(tmp_path, content):
    """A kind of a later version is refused with that advice."""
    with pytest.raises(ModelFileError, match=r"kind 'stream'.*upgrade prunus"):
        load_bytes(tmp_path / "m.prunus", forge(content, header={"kind": "stream"}))


def test_scores_that_differ_are_told_apart(tmp_path, content):
    """A reference score off by more than the tolerance is refused; inside it, it is not."""
    scores = parts_of(content)[0]["check.scores"]
    near = scores + np.float32(0.5e-4) * np.maximum(1, np.abs(scores))
    far = scores + np.float32(2e-4) * np.maximum(1, np.abs(scores))
    load_bytes(tmp_path / "m.prunus", forge(content, tensors={"check.scores": near}))
    with pytest.raises(ModelFileError, match="does not score here as where it was written"):
        load_bytes(tmp_path / "m.prunus", forge(content, tensors={"check.scores": far}))


def test_a_wrong_instruction_set_is_not_blamed_on_the_file(tmp_path, content, monkeypatch):
    """An error of the environment passes through load as it is."""

    def refuse(*_, **__):
        msg = "avx1024"
        raise InstructionSetError(msg)

    monkeypatch.setattr(model_file, "RankScorer", refuse)
    with pytest.raises(InstructionSetError):
        load_bytes(tmp_path / "m.prunus", content)
