"""The model file of an ensemble of trees: what is saved is what is loaded, and nothing else ever loads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given

from ensembles import ALL_MISSING, edge_rows, ensembles, make_ensemble
from model_files import forge, load_bytes, parts_of
from prunus.data.ranking import Schema
from prunus.engine import ensemble_reference
from prunus.engine.codec import CHECK_ROWS
from prunus.engine.ensemble import ARRAYS, Ensemble
from prunus.engine.file import check_rows, load, read_header, save, to_bytes
from prunus.errors import ModelFileError, NetworkError, SchemaError
from test_engine_ensemble import trees


def schema(ensemble: Ensemble) -> Schema:
    """Name the features a0, a1 ...; all may be missing."""
    return Schema(tuple(f"a{i}" for i in range(ensemble.n_features)), (True,) * ensemble.n_features)


def same(left: Ensemble, right: Ensemble) -> bool:
    """Say whether two ensembles are equal in every bit."""
    arrays = all(np.array_equal(getattr(left, name), getattr(right, name)) for name in ARRAYS)
    return arrays and (left.n_features, left.base) == (right.n_features, right.base)


@pytest.fixture
def content() -> bytes:
    """Give the bytes of a small file of trees."""
    return to_bytes(trees(), schema(trees()), metadata={"teacher": "ranker.txt"})


@given(ensembles())
def test_save_then_load_is_identity(tmp_path_factory: pytest.TempPathFactory, ensemble: Ensemble) -> None:
    """Every array and the base come back as they were, and saving again gives the same bytes."""
    path = tmp_path_factory.mktemp("model") / "m.prunus"
    save(path, ensemble, schema(ensemble), metadata={"teacher": "é", "trees of": 3})
    scorer = load(path)
    assert same(scorer.model, ensemble)
    X = edge_rows(np.random.default_rng(0), ensemble, 40)
    np.testing.assert_array_equal(scorer.leaves(X), ensemble_reference.leaves(ensemble, X))
    assert scorer.schema == schema(ensemble)
    assert scorer.metadata == {"teacher": "é", "trees of": 3}
    assert to_bytes(scorer.model, scorer.schema, metadata=scorer.metadata) == path.read_bytes()


def test_a_file_of_an_earlier_build_still_loads() -> None:
    """A file of trees that is kept beside the tests (written by save once) loads for as long as version 2 is read."""
    scorer = load(Path(__file__).parent / "golden" / "trees-v2.prunus")
    assert same(scorer.model, trees())
    assert scorer.schema == schema(trees())
    assert scorer.metadata == {"teacher": "ranker.txt"}


def test_the_header_is_readable(tmp_path: Path, content: bytes) -> None:
    """The header counts trees, nodes, leaves and sets, and has no layers."""
    (tmp_path / "m.prunus").write_bytes(content)
    header = read_header(tmp_path / "m.prunus")
    assert header["format_version"] == 2
    assert header["kind"] == "ranker"
    assert "layers" not in header
    assert header["trees"] == {
        "n_trees": 3, "n_nodes": 3, "n_leaves": 6, "n_sets": 1, "base": 0.5, "references": "I16", "values": "F32",
    }  # fmt: skip


def test_small_types_are_used_where_nothing_is_lost() -> None:
    """References take 16 bits up to 32,768 leaves a tree, values 32 bits where they are float32 numbers; sets if any."""
    small = make_ensemble(np.random.default_rng(0), (5, 1, 9), 3)
    tensors, header = parts_of(to_bytes(small, schema(small), metadata={}))
    assert (header["trees"]["references"], header["trees"]["values"]) == ("I16", "F64")
    assert (tensors["trees.left"].dtype, tensors["trees.value"].dtype) == (np.int16, np.float64)
    assert "trees.category" not in tensors
    for leaves, references in ((1 << 15, "I16"), ((1 << 15) + 1, "I32")):
        chain = np.arange(leaves - 1)
        tall = Ensemble(
            1, 0.0, np.array([0, 0, leaves - 1]), np.array([0, 1, leaves + 1]), np.array([~0, 0]),
            np.zeros(leaves - 1, np.int32), chain.astype(np.float32), ~(chain + 1),
            np.append(chain[1:], ~leaves), np.zeros(leaves - 1, np.uint8), np.full(leaves - 1, -1), np.zeros(1, np.int32),
            np.zeros(0, np.int32), np.arange(leaves + 1.0),
        )  # fmt: skip
        content = to_bytes(tall, schema(tall), metadata={})
        tensors, header = parts_of(content)
        assert (header["trees"]["references"], header["trees"]["values"]) == (references, "F32")
        again = [tensors["trees.left"].astype(int), tensors["trees.right"].astype(int)]
        np.testing.assert_array_equal(again, [~chain, np.append(chain[1:], ~(leaves - 1))])


@given(ensembles())
def test_check_rows_straddle_thresholds(ensemble: Ensemble) -> None:
    """The rows are always the same; they hold thresholds, what is just above them, a row of zeros and one of NaN."""
    rows = check_rows(ensemble, schema(ensemble))
    features = ensemble.features_read
    assert rows.shape == (CHECK_ROWS, len(features))
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, check_rows(ensemble, schema(ensemble)))
    assert np.isnan(rows[-1]).all()
    assert (rows[-2] == 0).all()
    assert np.isfinite(rows[:-1]).all()
    for column, feature in enumerate(features):
        nodes = ensemble.feature == feature
        if (ensemble.category[nodes] < 0).all():
            cuts = np.clip(ensemble.threshold[nodes], -3.4028235e38, 3.4028235e38)
            assert np.isin(rows[0:-2:2, column], cuts).all()
            with np.errstate(over="ignore"):
                above = np.minimum(np.nextafter(cuts, np.float32(np.inf)), np.float32(3.4028235e38))
            assert np.isin(rows[1:-2:2, column], above).all()


def test_every_flipped_byte_and_every_cut_is_found(tmp_path: Path, content: bytes) -> None:
    """Each byte in turn, inverted, and each shorter length, gives ModelFileError and nothing else."""
    path = tmp_path / "m.prunus"
    load_bytes(path, content)
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 0xFF
        with pytest.raises(ModelFileError):
            load_bytes(path, bytes(damaged))
        with pytest.raises(ModelFileError):
            load_bytes(path, content[:position])


def i16(*values: int) -> np.ndarray:
    """Make an int16 array."""
    return np.array(values, np.int16)


def i32(*values: int) -> np.ndarray:
    """Make an int32 array."""
    return np.array(values, np.int32)


def f32(*values: float) -> np.ndarray:
    """Make a float32 array."""
    return np.array(values, np.float32)


HOSTILE_TENSORS = {
    "node_start falls": {"trees.node_start": i32(0, 2, 1, 3)},
    "node_start negative": {"trees.node_start": i32(0, -1, 2, 3)},
    "node_start too far": {"trees.node_start": i32(0, 2, 2, 2**31 - 1)},
    "node_start from one": {"trees.node_start": i32(1, 2, 2, 3)},
    "node_start short": {"trees.node_start": i32(0, 3)},
    "node_start empty": {"trees.node_start": i32()},
    "node_start wide": {"trees.node_start": i32(0, 2, 2, 3).reshape(2, 2)},
    "node_start int64": {"trees.node_start": np.array([0, 2, 2, 3])},
    "a tree more": {"trees.node_start": i32(0, 2, 2, 2, 3)},
    "a tree less": {"trees.node_start": i32(0, 2, 3)},
    "feature out of range": {"trees.feature": np.array([1, 4, 0], np.uint16)},
    "feature far out of range": {"trees.feature": np.array([1, 65535, 0], np.uint16)},
    "feature int32": {"trees.feature": i32(1, 3, 0)},
    "feature short": {"trees.feature": np.array([1, 3], np.uint16)},
    "feature scalar": {"trees.feature": np.array(1, np.uint16)},
    "threshold NaN": {"trees.threshold": f32(np.nan, 0, 0)},
    "threshold long": {"trees.threshold": f32(0, 0, 0, 0)},
    "threshold float64": {"trees.threshold": np.zeros(3)},
    "child out of range": {"trees.left": i16(2, ~2, ~0)},
    "child far out of range": {"trees.left": i16(32767, ~2, ~0)},
    "child before its parent": {"trees.left": i16(1, 0, ~0)},
    "child itself": {"trees.left": i16(0, ~2, ~0)},
    "child twice": {"trees.right": i16(1, ~1, ~1)},
    "leaf out of range": {"trees.right": i16(~0, ~3, ~1)},
    "leaf far out of range": {"trees.right": i16(-32768, ~1, ~1)},
    "leaf twice": {"trees.right": i16(~2, ~1, ~1)},
    "leaf of another tree": {"trees.left": i16(1, ~2, ~2)},
    "children short": {"trees.left": i16(1, ~2)},
    "children int32": {"trees.left": i32(1, ~2, ~0)},
    "missing unknown": {"trees.missing": np.array([3, 0, 5], np.uint8)},
    "missing far unknown": {"trees.missing": np.array([255, 0, 5], np.uint8)},
    "missing of a category": {"trees.missing": np.array([1, 0, 0], np.uint8)},
    "missing short": {"trees.missing": np.array([1], np.uint8)},
    "category out of range": {"trees.category": i32(-1, -1, 1)},
    "category far out of range": {"trees.category": i32(-1, -1, 2**31 - 1)},
    "category negative": {"trees.category": i32(-(2**31), -1, 0)},
    "category missing": {"trees.category": None},
    "set_start falls": {"trees.set_start": i32(2, 0)},
    "set_start too far": {"trees.set_start": i32(0, 2**31 - 1)},
    "set_start empty": {"trees.set_start": i32()},
    "set_code negative": {"trees.set_code": i32(-1, 3)},
    "set_code falls": {"trees.set_code": i32(3, 0)},
    "set_code repeated": {"trees.set_code": i32(3, 3)},
    "set_code wide": {"trees.set_code": i32(0, 3).reshape(1, 2)},
    "value NaN": {"trees.value": f32(1, 2, np.nan, 8, 16, 32)},
    "value infinite": {"trees.value": f32(1, 2, np.inf, 8, 16, 32)},
    "value short": {"trees.value": f32(1, 2)},
    "value float64": {"trees.value": np.arange(6.0)},
    "values that overflow": {"trees.value": np.full(6, 3e38, np.float32)},
    "all missing": {f"trees.{name}": None for name in ("node_start", "feature", "left", "right", "value")},
    "a layer beside": {"layer.0.weight": f32(1)},
    "an input stage beside": {"inputs.feature": i32(0)},
    "rows missing": {"check.rows": None},
    "rows too narrow": {"check.rows": np.zeros((8, 2), np.float32)},
    "scores wrong": {"check.scores": f32(*range(8))},
    "scores NaN": {"check.scores": np.full(8, np.nan, np.float32)},
}

TREES = {"n_trees": 3, "n_nodes": 3, "n_leaves": 6, "n_sets": 1, "base": 0.5, "references": "I16", "values": "F32"}

HOSTILE_HEADERS = {
    "no trees": {"trees": None},
    "trees a list": {"trees": []},
    "trees a number": {"trees": 3},
    "trees with more": {"trees": TREES | {"depth": 2}},
    "trees with less": {"trees": {"n_trees": 3}},
    "both kinds of model": {"layers": [{"kind": "dense", "activation": "relu", "n_inputs": 1, "n_outputs": 1}]},
    "format version 1": {"format_version": 1},
    "a schema that forbids": {"schema": {"feature_names": list("abcd"), "allow_missing": [True, False, True, True]}},
    "a schema too narrow": {"schema": {"feature_names": list("abc"), "allow_missing": [True] * 3}},
    "an unknown type": {"trees": TREES | {"references": "I8"}},
    "a type no text": {"trees": TREES | {"references": ["I16"]}},
    "the other type": {"trees": TREES | {"values": "F64"}},
    "base a text": {"trees": TREES | {"base": "0.5"}},
    "base a whole number": {"trees": TREES | {"base": 1}},
    "base absurd": {"trees": TREES | {"base": 1e300}},
    "base another": {"trees": TREES | {"base": 0.6}},
} | {
    f"{count} {value!r}": {"trees": TREES | {count: value}}
    for count in ("n_trees", "n_nodes", "n_leaves", "n_sets")
    for value in (0, -1, 2, 10**30, 1.0, True, "3", None)
}


@pytest.mark.parametrize("changes", HOSTILE_TENSORS.values(), ids=HOSTILE_TENSORS.keys())
def test_hostile_tensors(tmp_path: Path, content: bytes, changes: dict[str, np.ndarray | None]) -> None:
    """A file with a right checksum and arrays that are no trees is a ModelFileError that names the file."""
    with pytest.raises(ModelFileError, match=r"m\.prunus"):
        load_bytes(tmp_path / "m.prunus", forge(content, tensors=changes))


@pytest.mark.parametrize("changes", HOSTILE_HEADERS.values(), ids=HOSTILE_HEADERS.keys())
def test_hostile_headers(tmp_path: Path, content: bytes, changes: dict[str, object]) -> None:
    """A file with a right checksum and a header that says what cannot be is a ModelFileError that names the file."""
    with pytest.raises(ModelFileError, match=r"m\.prunus"):
        load_bytes(tmp_path / "m.prunus", forge(content, header=changes))


SCORED = {"values that overflow", "scores wrong", "base absurd", "base another", "a schema that forbids"}
"""What only scoring can show, or the scorer."""


@pytest.mark.parametrize("name", sorted((HOSTILE_TENSORS.keys() | HOSTILE_HEADERS.keys()) - SCORED))
def test_nothing_native_sees_a_hostile_file(
    tmp_path: Path, content: bytes, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bad references and absurd sizes are refused before the engine is given any of it."""

    def reached(*_: object, **__: object) -> None:
        pytest.fail("the engine was given a hostile model")

    monkeypatch.setattr("prunus.engine.scorer._native.Forest", reached)
    monkeypatch.setattr("prunus.engine.scorer._native.Network", reached)
    forged = forge(content, tensors=HOSTILE_TENSORS.get(name), header=HOSTILE_HEADERS.get(name))
    with pytest.raises(ModelFileError, match=r"m\.prunus"):
        load_bytes(tmp_path / "m.prunus", forged)


def test_forging_changes_nothing_by_itself(tmp_path: Path, content: bytes) -> None:
    """The helper of the hostile tests gives a file that loads where it is told to change nothing."""
    load_bytes(tmp_path / "m.prunus", forge(content))
    load_bytes(tmp_path / "m.prunus", forge(content, header={"trees": TREES}))


def test_metadata_named_trees_were_allowed_in_version_1(tmp_path: Path) -> None:
    """A file of version 1 keeps its metadata whatever later versions call their own fields."""
    golden = (Path(__file__).parent / "golden" / "ranker-v1.prunus").read_bytes()
    scorer = load_bytes(tmp_path / "m.prunus", forge(golden, header={"trees": 161}))
    assert scorer.metadata == {"teacher": "ranker.txt", "trees": 161}
    with pytest.raises(ModelFileError, match="trees"):
        save(tmp_path / "m.prunus", scorer.model, scorer.schema, metadata=scorer.metadata)


def test_what_cannot_be_saved_is_refused(tmp_path: Path) -> None:
    """Scores beyond float32, a schema of another width, and one that forbids NaN: nothing is written."""
    path = tmp_path / "m.prunus"
    with pytest.raises(NetworkError, match="overflow"):
        save(path, replace(trees(), base=1e39), schema(trees()), metadata={})
    with pytest.raises(SchemaError, match="3 features for a model of 4"):
        save(path, trees(), Schema(("a", "b", "c")), metadata={})
    with pytest.raises(NetworkError, match="forbids missing values"):
        save(path, trees(), Schema(tuple("abcd"), (True, True, True, False)), metadata={})
    assert not any(tmp_path.iterdir())


def test_scores_that_differ_are_told_apart(tmp_path: Path, content: bytes) -> None:
    """A reference score off by more than 2e-5 is refused; inside it, it is not."""
    scores = parts_of(content)[0]["check.scores"]
    for share, fits in ((1e-5, True), (4e-5, False)):
        moved = forge(content, tensors={"check.scores": scores + np.float32(share) * np.maximum(1, np.abs(scores))})
        if fits:
            load_bytes(tmp_path / "m.prunus", moved)
            continue
        with pytest.raises(ModelFileError, match="does not score here as where it was written"):
            load_bytes(tmp_path / "m.prunus", moved)


def test_a_large_ensemble_loads_fast_enough_to_be_loaded_often(tmp_path: Path) -> None:
    """A thousand trees of 64 leaves make a file of about 1.2 MB, as the format says, and it loads."""
    large = make_ensemble(np.random.default_rng(0), [64] * 1000, 100, missing=ALL_MISSING, shape="leafwise")
    save(tmp_path / "m.prunus", large, schema(large), metadata={})
    n_bytes = (tmp_path / "m.prunus").stat().st_size
    arrays = 4 * 1001 + 63_000 * (2 + 4 + 1 + 2 + 2) + 64_000 * 8 + CHECK_ROWS * (len(large.features_read) + 1) * 4
    assert arrays < n_bytes < arrays + 6000
    assert same(load(tmp_path / "m.prunus").model, large)
