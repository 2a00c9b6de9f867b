"""The model file: what is saved is what is loaded, and nothing else ever loads."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_files import f32, i32, known_bytes, known_network, parts_of, u16
from prunus.data.ranking import Schema
from prunus.engine.file import check_rows, codec_of, load, read_header, save, to_bytes
from prunus.engine.header import FORMAT_VERSION, MAX_HEADER_BYTES
from prunus.engine.network import Activation, BlockInt8, Dense, DenseInt8, InputStage, Network, SlotKind, Sparse
from prunus.engine.network_codec import NUMPY
from prunus.errors import ModelFileError, NetworkError, SchemaError

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


@pytest.fixture
def content():
    """Give the bytes of a small model file."""
    return known_bytes()


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
