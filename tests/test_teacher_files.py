"""Model files that cannot be used: each is a named error that says which file, what it is and what was expected."""

from __future__ import annotations

import contextlib
import json
import pickle
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prunus.errors import MissingExtraError, TeacherError
from prunus.teacher.trees import load_trees
from prunus.teacher.ubjson import UbjsonError, read_ubjson
from teacher_models import (
    CATEGORICAL,
    MODELS,
    X_TRAIN,
    Y_TRAIN,
    catboost_model,
    lightgbm_model,
    model,
    rows,
    xgboost_model,
)

FORMATS = (
    "lightgbm",
    "lightgbm categorical",
    "xgboost",
    "xgboost dart",
    "catboost",
    "catboost json",
    "catboost lossguide",
)
"""One model of each file format that there is."""


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    """Give a function that writes bytes to a file of a suffix and loads it as a teacher."""
    folder = tmp_path_factory.mktemp("files")

    def load(data: bytes, suffix: str):
        path = folder / f"model{suffix}"
        path.write_bytes(data)
        return load_trees(path)

    return load


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=40)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_truncated_file_is_refused(name, share, load):
    """Wherever a file is cut off, it is refused by name; or nothing that scores was lost, and it scores the same."""
    trained = model(name)
    size = int(share * len(trained.data))
    X = rows(20, seed=1)
    if b"\nend of parameters" in trained.data[:size]:
        np.testing.assert_array_equal(load(trained.data[:size], trained.suffix).score(X), trained.predict(X))
        return
    with pytest.raises(TeacherError, match="expected") as caught:
        load(trained.data[:size], trained.suffix)
    assert f"model{trained.suffix}" in str(caught.value)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("lost", [1, 2, 5])
def test_a_file_without_its_last_bytes(name, lost, load):
    """The last few bytes count too, but for LightGBM's last line, which says that there are no pandas categories."""
    trained = model(name)
    if trained.suffix == ".txt":
        end = trained.data.index(b"\nend of parameters") + len(b"\nend of parameters") - lost
    else:
        end = len(trained.data) - lost
    with pytest.raises(TeacherError, match=r"truncated|cannot be decoded|stops after"):
        load(trained.data[:end], trained.suffix)


@pytest.mark.parametrize(
    ("data", "suffix", "message"),
    [
        (b"", ".txt", "an empty file"),
        (b"", ".json", "an empty file"),
        (b"\n\n", ".txt", "begins with"),
        (b"", ".cbm", "stops after 0 bytes"),
        (b"1 qid:1 1:0.5 2:0.1\n", ".txt", "begins with"),
        (b"PAR1\x15\x04", ".parquet", "Parquet data"),
        (b"\x40" + bytes(7) + b'{"__metadata__":{"prunus":"{', ".prunus", "a model that prunus wrote"),
        (b"PK\x03\x04\x00", ".zip", "zip archive"),
        (b"\x1f\x8b\x08\x00", ".gz", "gzip"),
        (b"binf\x00\x00", ".model", "old binary format"),
        (pickle.dumps({"model": 1}), ".pkl", "a pickle"),
        (b"{}", ".json", "JSON of another kind"),
        (b"[]", ".json", "begins with"),
        (b'{"tree_info": []}', ".json", "LightGBM's JSON dump"),
        (b'{"learner": {}}', ".json", "missing or misshapen"),
        (b'{"learner": 5}', ".json", "missing or misshapen"),
        (b'{"features_info": {}}', ".json", "missing or misshapen"),
        (b"{L\x00\x00", ".ubj", "cannot be decoded"),
        (b"{" * 100_000, ".json", "truncated or damaged"),
        (b'{"a":' * 100_000, ".json", "truncated or damaged"),
        (b"CBM1\x00\x00\x00\x00", ".cbm", "CatBoost cannot read it"),
        (b"CBM1" + b"\xff" * 40, ".cbm", "stops after"),
        (b"tree\n", ".txt", "end of trees"),
        (b"tree\nversion=v4\n\nend of trees\n\npandas_categorical:null\n", ".txt", "missing from its head"),
        (b"\x00\xff\xfe" * 10, ".txt", "begins with"),
    ],
)
def test_foreign_files(data, suffix, message, load):
    """A file of another kind is told by its content, and the kinds that are expected are listed."""
    with pytest.raises(TeacherError, match=re.escape(message)) as caught:
        load(data, suffix)
    assert "expected" in str(caught.value)
    assert f"model{suffix}" in str(caught.value)


def test_absent_files(tmp_path):
    """A path that is not there, or is a folder, is a named error."""
    for path in (tmp_path / "absent.txt", tmp_path):
        with pytest.raises(TeacherError, match="cannot be read"):
            load_trees(path)


@pytest.mark.parametrize("name", FORMATS)
def test_kind_is_told_by_content(name, load):
    """A model under another suffix is read for what it is."""
    trained = model(name)
    assert load(trained.data, ".model").n_trees == trained.n_trees


LIGHTGBM_EDITS = [
    ("num_class=1", "num_class=3", "3 outputs"),
    ("num_class=1", "num_class=x", "num_class is 'x'"),
    ("max_feature_idx=4", "max_feature_idx=9", "entries for 10 features"),
    ("feature_infos=", "infos=", "feature_infos is missing"),
    ("tree_sizes=", "tree_sizes=7 ", "numbers where"),
    ("\nnum_cat=0", "\nnum_cat=1", "cat_boundaries is missing"),
    ("\nleft_child=", "\nleft_kid=", "left_child is missing"),
    ("\nleft_child=1 ", "\nleft_child=0 ", "make no tree"),
    ("\nleft_child=1 ", "\nleft_child=9 ", "make no tree"),
    ("\nthreshold=", "\nthreshold=x ", "no number"),
    ("\nthreshold=", "\nthreshold=1 ", "numbers where"),
    ("\nleaf_value=", "\nleaf_value=nan ", "numbers where"),
    ("\nsplit_feature=", "\nsplit_feature=5 ", "numbers where"),
    ("\nleaf_count=", "\nleaf_count=1 ", "numbers where"),
    ("\ndecision_type=", "\ndecision=", "decision_type is missing"),
    ("pandas_categorical:null", "pandas_categorical:[[", "pandas_categorical"),
    ("\nend of trees", "\n", "end of trees"),
    ("\nend of parameters", "\n", "before the end of its parameters"),
    ("\nleaf_value=", "\r\nleaf_value=", "line endings"),
]


@pytest.mark.parametrize(("old", "new", "message"), LIGHTGBM_EDITS)
def test_damaged_lightgbm_text(old, new, message, load):
    """Damage that would make LightGBM end the process, or score with another tree, is found before."""
    text = model("lightgbm").data.decode()
    assert old in text
    edited = text.replace(old, new, 1)
    if old.startswith("\n") and "line endings" not in message:
        edited = re.sub(r"(?m)^tree_sizes=.*\n", "", edited)
    with pytest.raises(TeacherError, match=re.escape(message)):
        load(edited.encode(), ".txt")


def test_lightgbm_ignores_what_it_need_not_read(load):
    """A damaged parameter line, on which LightGBM crashes, does no harm, and is kept when the model is saved."""
    trained = model("lightgbm")
    data = trained.data.replace(b"[num_leaves: 7]", b"[num_leaves7")
    teacher = load(data, ".txt")
    X = rows(20, seed=2)
    np.testing.assert_array_equal(teacher.score(X), trained.predict(X))
    teacher.save(teacher.path.with_name("saved.txt"))
    assert teacher.path.with_name("saved.txt").read_bytes() == data


XGBOOST_EDITS = [
    (("left_children", 0), 99, "make no tree"),
    (("left_children", 0), 0, "make no tree"),
    (("left_children", 0), -1, "one child"),
    (("right_children", 0), 1, "make no tree"),
    (("split_indices", 0), 77, "beyond the 5"),
    (("parents", 1), 5, "whose parent"),
    (("split_conditions",), [], "do not have"),
    (("tree_param", "num_nodes"), "3", "do not have"),
    (("tree_param", "size_leaf_vector"), "4", "vectors"),
]


@pytest.mark.parametrize(("where", "value", "message"), XGBOOST_EDITS)
def test_damaged_xgboost_json(where, value, message, load):
    """Links that lead out of a tree, or round in it, are found before XGBoost follows them."""
    found = json.loads(model("xgboost").data)
    part = found["learner"]["gradient_booster"]["model"]["trees"][0]
    for key in where[:-1]:
        part = part[key]
    part[where[-1]] = value
    with pytest.raises(TeacherError, match=message):
        load(json.dumps(found).encode(), ".json")


def several_outputs(library: str) -> tuple[bytes, str]:
    """Train a model of three classes."""
    y = (np.abs(Y_TRAIN) * 1.5).astype(int) % 3
    if library == "lightgbm":
        import lightgbm

        params = {"objective": "multiclass", "num_class": 3, "verbosity": -1, "num_threads": 1}
        return lightgbm.train(params, lightgbm.Dataset(X_TRAIN, y), 2).model_to_string().encode(), ".txt"
    if library == "xgboost":
        import xgboost

        params = {"objective": "multi:softprob", "num_class": 3, "nthread": 1}
        return bytes(xgboost.train(params, xgboost.DMatrix(X_TRAIN, y), 2).save_raw("ubj")), ".ubj"
    if library == "xgboost vectors":
        import xgboost

        params = {"multi_strategy": "multi_output_tree", "nthread": 1, "tree_method": "hist"}
        booster = xgboost.train(params, xgboost.DMatrix(X_TRAIN, np.column_stack([Y_TRAIN, y])), 2)
        return bytes(booster.save_raw("json")), ".json"
    from catboost import CatBoostClassifier

    grow = {"grow_policy": "Lossguide"} if library == "catboost lossguide" else {}
    classifier = CatBoostClassifier(
        iterations=2,
        depth=2,
        loss_function="MultiClass",
        thread_count=1,
        verbose=False,
        allow_writing_files=False,
        **grow,
    )
    classifier.fit(X_TRAIN, y)
    return classifier._serialize_model(), ".cbm"


@pytest.mark.parametrize("library", ["lightgbm", "xgboost", "xgboost vectors", "catboost", "catboost lossguide"])
def test_several_outputs_are_refused(library, load):
    """A model with more than one output has no score of a document."""
    with pytest.raises(TeacherError, match=r"[23] outputs; expected one score a document"):
        load(*several_outputs(library))


def frame():
    """Make the training documents a data frame with a categorical column of strings."""
    import pandas as pd

    table = pd.DataFrame(X_TRAIN, columns=list("abcde"))
    table["c"] = pd.Series([f"os{int(code)}" for code in X_TRAIN[:, CATEGORICAL]], dtype="category")
    return table


def not_numeric(library: str) -> tuple[bytes, str]:
    """Train a model on a data frame with a categorical column."""
    if library == "lightgbm":
        import lightgbm

        params = {"verbosity": -1, "num_threads": 1}
        return lightgbm.train(params, lightgbm.Dataset(frame(), Y_TRAIN), 2).model_to_string().encode(), ".txt"
    if library == "xgboost":
        import xgboost

        rows = xgboost.DMatrix(frame(), Y_TRAIN, enable_categorical=True)
        return bytes(xgboost.train({"nthread": 1}, rows, 2).save_raw("json")), ".json"
    from catboost import CatBoostRegressor

    settings = {"iterations": 2, "depth": 2, "thread_count": 1, "verbose": False, "allow_writing_files": False}
    if library == "catboost text":
        table = frame().assign(text=[f"word{int(code)} word" for code in X_TRAIN[:, CATEGORICAL]]).drop(columns="c")
        regressor = CatBoostRegressor(**settings, text_features=["text"])
    else:
        table = frame()
        regressor = CatBoostRegressor(**settings, cat_features=["c"])
    regressor.fit(table, Y_TRAIN)
    return regressor._serialize_model(), ".cbm"


@pytest.mark.filterwarnings("ignore:.*sliced data.*:UserWarning")
@pytest.mark.parametrize(
    ("library", "message"),
    [
        ("lightgbm", "1 pandas categorical columns"),
        ("xgboost", "1 categorical columns of a data frame"),
        ("catboost", "1 categorical features"),
        ("catboost text", "1 text features"),
    ],
)
def test_features_that_are_no_numbers_are_refused(library, message, load):
    """A model that turns strings into codes by itself is refused, and the error says what to do."""
    with pytest.raises(TeacherError, match=rf"{message}.*expected numbers only.*: "):
        load(*not_numeric(library))


def test_a_linear_booster_is_refused(load):
    """XGBoost's gblinear has no trees."""
    import xgboost

    booster = xgboost.train({"booster": "gblinear", "nthread": 1}, xgboost.DMatrix(np.nan_to_num(X_TRAIN), Y_TRAIN), 2)
    with pytest.raises(TeacherError, match="'gblinear'; expected trees"):
        load(bytes(booster.save_raw("json")), ".json")


@pytest.mark.parametrize("module", ["lightgbm", "xgboost", "catboost"])
def test_an_absent_library_is_named(module, load, monkeypatch):
    """Without the library the error names the extra that installs it."""
    import sys

    trained = model(module)
    monkeypatch.setitem(sys.modules, module, None)
    extra = {"lightgbm": "train"}.get(module, module)
    with pytest.raises(MissingExtraError, match=rf"prunus\[{extra}\]"):
        load(trained.data, trained.suffix)


@pytest.mark.parametrize("name", FORMATS)
def test_the_libraries_keep_quiet(name, load, capfd):
    """Loading, scoring and cutting print nothing, since stdout is for data."""
    trained = model(name)
    capfd.readouterr()
    teacher = load(trained.data, trained.suffix)
    teacher.score(X_TRAIN)
    teacher.smaller(2).score(X_TRAIN)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", [name for name in MODELS if name.startswith("xgboost")])
def test_ubjson_and_json_say_the_same(name):
    """Our reader finds in XGBoost's UBJSON what the JSON parser finds in its JSON."""
    import xgboost

    booster = xgboost.Booster()
    booster.load_model(bytearray(model(name).data))
    assert same(read_ubjson(bytes(booster.save_raw("ubj"))), json.loads(bytes(booster.save_raw("json"))))


def same(a, b) -> bool:
    """Compare two decoded values; JSON shows float32 by their shortest decimals."""
    if isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in b)
    if isinstance(b, list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(b, float | int) and not isinstance(b, bool):
        return np.float32(a) == np.float32(b)
    return a == b


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"Z", None),
        (b"T", True),
        (b"i\xff", -1),
        (b"U\xff", 255),
        (b"I\x01\x00", 256),
        (b"D\x3f\xf0\x00\x00\x00\x00\x00\x00", 1.0),
        (b"SU\x02ab", "ab"),
        (b"[i\x01i\x02]", [1, 2]),
        (b"[#i\x02TF", [True, False]),
        (b"[]", []),
        (b"{}", {}),
        (b"{U\x01a[$U#i\x02\x03\x04U\x01bZ}", {"a": [3, 4], "b": None}),
    ],
)
def test_ubjson_values(data, value):
    """Each marker of the format is read as it is defined."""
    assert same(read_ubjson(data), value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"i",
        b"SU\x05ab",
        b"[i\x01",
        b"{U\x01a",
        b"[$S#i\x01",
        b"[$U",
        b"X",
        b"TT",
        b"[" * 1000,
        b"[#l\x7f\xff\xff\xff",
        b"{Z}",
        b"[#i\xff",
    ],
)
def test_bad_ubjson(data):
    """Bytes that are no whole value are refused, without reading past their end or nesting for ever."""
    with pytest.raises(UbjsonError, match="at byte"):
        read_ubjson(data)


@given(data=st.binary(min_size=1, max_size=20), share=st.floats(0, 1, exclude_max=True))
def test_any_damage_is_read_or_refused(data, share):
    """Whatever bytes stand in the middle of a model, the reader gives a value or its own error, and no other."""
    whole = model("xgboost dart").data
    at = int(share * len(whole))
    with contextlib.suppress(UbjsonError):
        assert isinstance(read_ubjson(whole[:at] + data + whole[at + len(data) :]), dict)


def test_helpers_train_what_they_say():
    """The three helpers write what their suffix says, so that the tables above test what they name."""
    assert lightgbm_model(1).data.startswith(b"tree\n")
    assert xgboost_model(1, suffix=".ubj").data.startswith(b"{L")
    assert catboost_model(1).data.startswith(b"CBM1")
