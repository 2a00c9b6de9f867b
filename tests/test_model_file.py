"""The model file: what is saved is what is loaded, and nothing else ever loads."""

from __future__ import annotations

import errno
import json
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from model_files import forge, forge_outer, load_bytes, parts_of
from prunus.data.ranking import Schema
from prunus.engine import file as model_file
from prunus.engine.disk import write_atomically
from prunus.engine.file import check_rows, codec_of, load, read_header, save, to_bytes
from prunus.engine.header import FORMAT_VERSION, MAX_HEADER_BYTES, OLDEST_VERSION
from prunus.engine.network import Activation, BlockInt8, Dense, DenseInt8, InputStage, Network, SlotKind, Sparse
from prunus.engine.network_codec import NUMPY
from prunus.errors import InstructionSetError, ModelFileError, ModelVersionError, NetworkError, OutputError, SchemaError

STAGE = ("feature", "kind", "center", "scale", "lower", "upper", "fill")


def random_network(seed, n_features=5, widths=(4, 3), density=0.5):
    """Make a network with slots of every kind, dense and sparse layers, and a schema that allows some NaN."""
    rng = np.random.default_rng(seed)
    n_slots = int(rng.integers(1, 2 * n_features + 1))
    kind = rng.integers(0, 4, n_slots)
    inputs = InputStage(
        feature=np.sort(rng.integers(0, n_features, n_slots)),
        kind=kind,
        center=rng.normal(0, 2, n_slots).astype(np.float32),
        scale=rng.uniform(0.1, 3, n_slots).astype(np.float32),
        lower=np.full(n_slots, -3, np.float32),
        upper=np.full(n_slots, 3, np.float32),
        fill=rng.normal(0, 1, n_slots).astype(np.float32),
    )
    layers, width = [], n_slots
    for n_outputs in (*widths, 1):
        weight = rng.normal(0, 1, (n_outputs, width)).astype(np.float32)
        bias = rng.normal(0, 1, n_outputs).astype(np.float32)
        activation = Activation(rng.integers(0, 4))
        if rng.random() < 0.5:
            weight[rng.random(weight.shape) > density] = 0
            layers.append(Sparse.from_dense(weight, bias, activation))
        else:
            layers.append(Dense(weight, bias, activation))
        width = n_outputs
    schema = Schema(tuple(f"f{i}" for i in range(n_features)), tuple((rng.random(n_features) < 0.5).tolist()))
    return Network(n_features, inputs, tuple(layers)), schema


def known_network():
    """Make a small network whose first layer is sparse and second dense, and its schema."""
    n = 3
    inputs = InputStage(
        feature=np.array([0, 1, 1]),
        kind=np.array([SlotKind.VALUE, SlotKind.LOG, SlotKind.MISSING]),
        center=np.zeros(n, np.float32),
        scale=np.ones(n, np.float32),
        lower=np.full(n, -4, np.float32),
        upper=np.full(n, 4, np.float32),
        fill=np.zeros(n, np.float32),
    )
    first = np.array([[1, 0, -0.5], [0, 2, 0]], np.float32)
    layers = (
        Sparse.from_dense(first, np.array([0.1, -0.2], np.float32), Activation.RELU6),
        Dense(np.array([[1, -1]], np.float32), np.array([0.5], np.float32), Activation.IDENTITY),
    )
    return Network(4, inputs, layers), Schema(("a", "b", "c", "d"), (False, True, False, False))


@pytest.fixture
def content():
    """Give the bytes of a small model file."""
    return to_bytes(*known_network(), metadata={"teacher": "ranker.txt"})


def same_network(left, right):
    """Say whether two networks are equal in every bit."""

    def arrays(network):
        yield from (getattr(network.inputs, name) for name in STAGE)
        for layer in network.layers:
            sparse = isinstance(layer, Sparse)
            yield from (getattr(layer, x) for x in (("indptr", "indices", "values") if sparse else ("weight",)))
            yield layer.bias
            yield np.array([layer.activation, layer.n_inputs, layer.n_outputs])

    pairs = zip(arrays(left), arrays(right), strict=True)
    same_types = [type(x) for x in left.layers] == [type(x) for x in right.layers]
    return left.n_features == right.n_features and same_types and all(np.array_equal(a, b) for a, b in pairs)


# ---- what is saved is what is loaded


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.lists(st.integers(1, 9), max_size=3), st.floats(0, 1))
def test_save_then_load_is_identity(tmp_path_factory, seed, n_features, widths, density):
    """Every array, the schema and the metadata come back as they were, and saving again gives the same bytes."""
    network, schema = random_network(seed, n_features, widths, density)
    path = tmp_path_factory.mktemp("model") / "m.prunus"
    metadata = {"teacher": "a.txt", "verdict": {"lower": -0.25, "sha256": "0" * 64}, "budget": None, "seeds": [1, 2]}
    save(path, network, schema, metadata=metadata)
    scorer = load(path)
    assert same_network(scorer.network, network)
    assert scorer.schema == schema
    assert scorer.metadata == metadata
    assert to_bytes(scorer.network, scorer.schema, metadata=scorer.metadata) == path.read_bytes()


def test_the_header_is_readable(tmp_path):
    """The header is sorted JSON that names format, kind, schema, layers and metadata; read_header gives all of it."""
    path = tmp_path / "m.prunus"
    network, schema = known_network()
    save(
        path,
        network,
        schema,
        metadata={"teacher": "é.txt", "nDCG": np.float32(0.5), "path": Path("x"), "n": np.arange(2)},
    )
    header = read_header(path)
    assert header["format_version"] == FORMAT_VERSION
    assert header["kind"] == "ranker"
    assert header["schema"] == {"feature_names": ["a", "b", "c", "d"], "allow_missing": [False, True, False, False]}
    assert header["layers"] == [
        {"kind": "sparse", "activation": "relu6", "n_inputs": 3, "n_outputs": 2},
        {"kind": "dense", "activation": "identity", "n_inputs": 2, "n_outputs": 1},
    ]
    assert (header["teacher"], header["nDCG"], header["path"], header["n"]) == ("é.txt", 0.5, "x", [0, 1])
    assert [*header][:-1] == sorted([*header][:-1])
    assert [*header][-1] == "sha256"
    assert 'teacher\\":\\"é.txt'.encode() in path.read_bytes()


def test_the_file_is_plain_safetensors(content):
    """Any safetensors reader sees the arrays under their names."""
    tensors, _ = parts_of(content)
    np.testing.assert_array_equal(tensors["layer.1.weight"], [[1, -1]])
    np.testing.assert_array_equal(tensors["layer.0.indices"], [0, 2, 1])
    assert tensors["check.rows"].shape == (8, 2)  # of four features the network reads two


def int8_network():
    """Make a network of every kind of layer, without an engine: its schema takes missing values."""
    rng = np.random.default_rng(0)
    inputs = known_network()[0].inputs
    scale, bias = np.full(5, 0.5, np.float32), np.arange(5, dtype=np.float32)
    dense = DenseInt8(rng.integers(-127, 128, (5, 3)), scale, bias, 0.1, 12.0, Activation.RELU6)
    weight = rng.integers(-127, 128, (3, 4))
    weight[1, 1:] = 0  # block 1 covers input 4 and three that are not there
    block = BlockInt8(
        i32(0, 1, 3), u16(0, 0, 1), weight[[0, 2, 1]], scale[:2], bias[:2], 5, 0.25, -1.5, Activation.RELU
    )
    last = Dense(f32([1, -1]), f32(0.5), Activation.IDENTITY)
    return Network(4, inputs, (dense, block, last)), known_network()[1]


def test_layers_of_int8_are_described_and_come_back():
    """A codec gives back what it took: kinds, arrays in their small types, numbers that float32 holds exactly."""
    network, _ = int8_network()
    codec = codec_of(network)
    entry, tensors = json.loads(json.dumps(codec.describe(network))), codec.tensors(network)
    assert [x["kind"] for x in entry] == ["dense_int8", "block_int8", "dense"]
    types = codec.types(entry, FORMAT_VERSION, "m")
    assert {name: NUMPY[types[name]] for name in tensors} == {name: array.dtype for name, array in tensors.items()}
    again = codec.build(entry, tensors, 4)
    for old, new in zip(network.layers, again.layers, strict=True):
        assert vars(old).keys() == vars(new).keys()
        assert all(np.array_equal(vars(old)[name], vars(new)[name]) for name in vars(old))
    with pytest.raises(ModelFileError, match="unknown to format version 1"):
        codec.types(entry, 1, "m")
    for number in (1e300, "1", 1, None, True):
        with pytest.raises(ModelFileError, match="is unknown"):
            codec.types([entry[0] | {"input_scale": number}], FORMAT_VERSION, "m")
    with pytest.raises(NetworkError, match="input_scale"):
        codec.build([entry[0] | {"input_scale": -1.0}, *entry[1:]], tensors, 4)


def test_equal_input_gives_equal_bytes(content):
    """Nothing of the moment or the machine is in a file, and the order of the metadata does not matter."""
    metadata = {"b": 1, "a": {"d": 2, "c": 3}}
    turned = {"a": {"c": 3, "d": 2}, "b": 1}
    assert to_bytes(*known_network(), metadata=metadata) == to_bytes(*known_network(), metadata=turned)
    assert to_bytes(*known_network(), metadata={"teacher": "ranker.txt"}) == content


@pytest.mark.parametrize("name", ["ranker-v1", "ranker-v2", "int8-v2"])
def test_a_file_of_an_earlier_build_still_loads(name):
    """Files that are kept beside the tests (written by save once) load for as long as their version is read."""
    scorer = load(Path(__file__).parent / "golden" / f"{name}.prunus")
    network, schema = int8_network() if name == "int8-v2" else known_network()
    for old, new in zip(scorer.network.layers, network.layers, strict=True):
        assert type(old) is type(new)
        assert all(np.array_equal(vars(old)[part], vars(new)[part]) for part in vars(new))
    assert all(np.array_equal(getattr(scorer.network.inputs, part), getattr(network.inputs, part)) for part in STAGE)
    assert scorer.schema == schema
    assert scorer.metadata == {"teacher": "ranker.txt"}


@given(st.integers(0, 2**32 - 1))
def test_check_rows_use_every_slot(seed):
    """The rows are finite but for the last, which is missing exactly where allowed; they are the same each time."""
    network, schema = random_network(seed)
    rows = check_rows(network, schema)
    allowed = np.array(schema.allow_missing)[network.features_read]
    assert rows.dtype == np.float32
    assert np.isfinite(rows[:-1]).all()
    np.testing.assert_array_equal(np.isnan(rows[-1]), allowed)
    np.testing.assert_array_equal(rows, check_rows(network, schema))


def extreme_network(center, scale):
    """Make a network of one slot of each kind with the same centre and scale, and its schema."""
    n = len(SlotKind)
    column = [np.full(n, value, np.float32) for value in (center, scale, -1, 1, 0)]
    layer = Dense(np.ones((1, n), np.float32), np.zeros(1, np.float32), Activation.IDENTITY)
    return Network(n, InputStage(np.arange(n), np.arange(n), *column), (layer,)), Schema(tuple("abcd"), (True,) * n)


@pytest.mark.parametrize("scale", [0.0, 1e-44, 1e-30, 3e38, -2.0])
@pytest.mark.parametrize("center", [0.0, 1e38, -1e38, 1e-44])
def test_extreme_input_stages_are_saved(tmp_path, scale, center):
    """Centres and scales near the ends of float32 give finite check rows and a file that loads."""
    network, schema = extreme_network(center, scale)
    assert np.isfinite(check_rows(network, schema)[:-1]).all()
    save(tmp_path / "m.prunus", network, schema, metadata={})
    assert same_network(load(tmp_path / "m.prunus").network, network)


def test_scores_that_float32_cannot_repeat_are_not_written(tmp_path):
    """Where x - center overflows, the engine and its twin differ: the network is refused, and nothing is written."""
    with pytest.raises(NetworkError, match="cannot be saved"):
        save(tmp_path / "m.prunus", *extreme_network(3.4e38, 1e-44), metadata={})
    assert not any(tmp_path.iterdir())


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


def f32(*values):
    """Make a float32 array."""
    return np.array(values, np.float32)


def u16(*values):
    """Make a uint16 array."""
    return np.array(values, np.uint16)


def i32(*values):
    """Make an int32 array."""
    return np.array(values, np.int32)


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
    "no slots": {f"inputs.{name}": np.zeros(0, np.float32) for name in STAGE}
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


# ---- what save refuses


@pytest.mark.parametrize("key", ["format_version", "kind", "schema", "layers", "sha256"])
def test_metadata_may_not_shadow_the_header(tmp_path, key):
    """Keys of the file itself are refused as metadata."""
    with pytest.raises(ModelFileError, match=key):
        save(tmp_path / "m.prunus", *known_network(), metadata={key: 1})
    assert not any(tmp_path.iterdir())


CIRCLE: list[object] = []
CIRCLE.append(CIRCLE)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1, 2}, b"x", {(1, 2): 3}, "\ud800", CIRCLE])
def test_metadata_must_be_json(tmp_path, value):
    """Metadata that JSON cannot hold are refused by name, and nothing is written."""
    with pytest.raises(ModelFileError, match="metadata cannot be written"):
        save(tmp_path / "m.prunus", *known_network(), metadata={"x": value})
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    "text", ['"sha256":"' + "0" * 64 + '"}', '\\"sha256\\":\\"' + "f" * 64 + '\\"}"', "\\", '"}"', "\0\n\x7f"]
)
def test_no_text_in_the_metadata_confuses_the_checksum(tmp_path, text):
    """Quotes, backslashes and whole false checksums inside the metadata come back as they were."""
    path = tmp_path / "m.prunus"
    for metadata in ({"x": text}, {text: 1}, {"z": {"sha256": text}}, {"sha": {"sha256": "0" * 64}}):
        save(path, *known_network(), metadata=metadata)
        assert load(path).metadata == metadata


def test_metadata_too_large_to_read_are_refused(tmp_path):
    """A header that load would refuse is not written."""
    with pytest.raises(NetworkError, match="less metadata"):
        save(tmp_path / "m.prunus", *known_network(), metadata={"x": "x" * MAX_HEADER_BYTES})
    assert not any(tmp_path.iterdir())


def test_the_schema_must_fit(tmp_path):
    """A schema of another number of features is refused."""
    network, _ = known_network()
    with pytest.raises(SchemaError, match="2 features for a model of 4"):
        save(tmp_path / "m.prunus", network, Schema(("a", "b")), metadata={})


def test_scores_that_overflow_are_not_written(tmp_path):
    """A network whose scores are infinite on ordinary rows is refused, and nothing is written."""
    network, schema = known_network()
    layers = (network.layers[0], Dense(f32([3e38, -3e38]), f32(3e38), Activation.IDENTITY))
    with pytest.raises(NetworkError, match="overflow"):
        save(tmp_path / "m.prunus", Network(4, network.inputs, layers), schema, metadata={})
    assert not any(tmp_path.iterdir())


# ---- disks that fail


def fail(error):
    """Make a function that raises an error."""

    def raising(*_, **__):
        raise error

    return raising


@pytest.mark.parametrize("existing", [None, b"what stood there before"])
@pytest.mark.parametrize("function", ["write", "fsync", "replace"])
@pytest.mark.parametrize(
    "failure", [(errno.ENOSPC, "free some space"), (errno.EDQUOT, "quota"), (errno.EIO, "can be written")]
)
def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch, existing, function, failure):
    """Where a write, a flush or the rename fails, no new file is there and an old one is untouched."""
    path, (number, advice) = tmp_path / "m.prunus", failure
    if existing is not None:
        path.write_bytes(existing)
    monkeypatch.setattr(os, function, fail(OSError(number, os.strerror(number))))
    with pytest.raises(OutputError, match=advice) as caught:
        save(path, *known_network(), metadata={})
    monkeypatch.undo()
    assert str(path) in str(caught.value)
    assert "Nothing was written" in str(caught.value)
    assert [x.read_bytes() for x in tmp_path.iterdir()] == ([] if existing is None else [existing])


def test_a_disk_that_fills_up_halfway(tmp_path, monkeypatch):
    """Short writes are carried on with, and a failure after some of them leaves nothing."""
    real, calls = os.write, []

    def short(descriptor, data):
        calls.append(len(data))
        if len(calls) == 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, data[:10])

    monkeypatch.setattr(os, "write", short)
    with pytest.raises(OutputError):
        save(tmp_path / "m.prunus", *known_network(), metadata={})
    assert len(calls) == 5
    assert not any(tmp_path.iterdir())
    calls[:] = [0] * 5
    save(tmp_path / "m.prunus", *known_network(), metadata={})
    monkeypatch.undo()
    load(tmp_path / "m.prunus")


def test_the_kernel_refuses(tmp_path):
    """A real limit on the size of files, set by the kernel, gives OutputError and leaves nothing."""
    pytest.importorskip("resource")
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "from prunus.engine.disk import write_atomically\nfrom prunus.errors import OutputError\n"
        "try: write_atomically(sys.argv[1], b'x' * 5000)\nexcept OutputError: print('refused')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "m.prunus"],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
    )
    assert done.stdout == "refused\n"
    assert not any(tmp_path.iterdir())


def test_an_interrupt_leaves_nothing_behind(tmp_path, monkeypatch):
    """Ctrl-C in the middle of writing removes the temporary file and goes on as what it is."""
    monkeypatch.setattr(os, "fsync", fail(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path / "m.prunus", *known_network(), metadata={})
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent/m.prunus", "make the folder first"),
        ("folder", "is a folder or a device"),
        ("", "is a folder or a device"),
        ("file/m.prunus", "Nothing was written"),
        ("n" * 300, "Nothing was written"),
        ("a\0b", "Nothing was written"),
    ],
)
def test_paths_that_cannot_be_written(tmp_path, name, message):
    """A folder, a missing folder or a name that is too long gives OutputError."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=message):
        save(f"{tmp_path}/{name}", *known_network(), metadata={})
    assert sorted(x.name for x in tmp_path.iterdir()) == ["file", "folder"]


def test_devices_are_not_replaced():
    """A device is refused before anything is written beside it."""
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with pytest.raises(OutputError, match="device"):
        save("/dev/full", *known_network(), metadata={})
    assert Path("/dev/full").is_char_device()


def test_links_keep_their_place(tmp_path, content):
    """A link to a model file stays a link, and its target is replaced."""
    (tmp_path / "target").write_bytes(b"old")
    (tmp_path / "link").symlink_to("target")
    write_atomically(tmp_path / "link", content)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == content


def test_permissions_are_those_of_any_new_file(tmp_path, content):
    """A model file is as readable as the user's umask says, not as private as a temporary file."""
    (tmp_path / "plain").touch()
    write_atomically(tmp_path / "m.prunus", content)
    assert (tmp_path / "m.prunus").stat().st_mode == (tmp_path / "plain").stat().st_mode
