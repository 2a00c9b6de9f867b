"""Parquet, CSV and frames: the same rows give the same data, and every wrong column is named."""

from __future__ import annotations

import decimal
import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from prunus.data import frames
from prunus.data.reading import Columns, kind_of, read_features, read_ranking
from prunus.errors import (
    ColumnError,
    DataError,
    EmptyDataError,
    ExpressionError,
    InfiniteValueError,
    LabelError,
    ParseError,
    SchemaError,
    SplitQueryError,
)

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
csv = pytest.importorskip("pyarrow.csv")


def small(**changes):
    """Make a small table of every kind of column that is allowed."""
    columns = {
        "qid": pa.array([1, 1, 1, 5, 5, 3], pa.int32()),
        "label": pa.array([0, 1, 2, 0, 4, 1], pa.int8()),
        "part": pa.array([1, 1, 1, 2, 2, 3], pa.int8()),
        "docid": pa.array(list("abcdef")),
        "clicks": pa.array([10, 200, 3, None, 5, 6], pa.int64()),
        "share": pa.array([0.1, 0.2, float("nan"), 0.4, None, 0.6], pa.float32()),
        "seen": pa.array([True, False, True, None, True, False]),
        "price": pa.array([decimal.Decimal("1.25")] * 6, pa.decimal128(8, 2)),
        "user": pa.array(["u", "u", "u", "v", "v", "u"]),
        "teacher": pa.array([0.5, -1.0, 2.0, 3.0, 4.0, 5.0]),
    }
    columns |= changes
    return pa.table({name: column for name, column in columns.items() if column is not None})


COLUMNS = Columns(user="user", teacher_scores="teacher", ignore=("part",))
X = np.array(
    [
        [10, 0.1, 1, 1.25],
        [200, 0.2, 0, 1.25],
        [3, np.nan, 1, 1.25],
        [np.nan, 0.4, np.nan, 1.25],
        [5, np.nan, 1, 1.25],
        [6, 0.6, 0, 1.25],
    ],
    dtype=np.float32,
)


def sources(tmp_path):
    """Give the small table in every form."""
    table = small()
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=2)
    pq.write_table(table, tmp_path / "no_suffix")
    csv.write_csv(table, tmp_path / "t.csv")
    csv.write_csv(table, tmp_path / "t.tsv", csv.WriteOptions(delimiter="\t"))
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress((tmp_path / "t.csv").read_bytes()))
    forms = {name: tmp_path / name for name in ("t.parquet", "no_suffix", "t.csv", "t.tsv", "t.csv.gz")}
    forms |= {
        "arrow": table,
        "batch": table.combine_chunks().to_batches()[0],
        "string path": str(tmp_path / "t.parquet"),
    }
    for library in ("pandas", "polars"):
        try:
            __import__(library)
        except ImportError:
            continue
        forms[library] = table.to_pandas() if library == "pandas" else __import__("polars").from_arrow(table)
    return forms


@pytest.mark.parametrize("batch_rows", [1, 4, 1 << 16])
def test_every_form_gives_the_same_data(tmp_path, monkeypatch, batch_rows):
    """Parquet with several row groups, CSV and frames of three libraries give the same arrays."""
    monkeypatch.setattr(frames, "BATCH_ROWS", batch_rows)
    forms = sources(tmp_path)
    assert {"pandas", "polars"} <= set(forms)
    for name, source in forms.items():
        data = read_ranking(source, COLUMNS)
        assert np.array_equal(data.X, X, equal_nan=True), name
        assert data.X.flags.c_contiguous, name
        assert data.feature_names == ("clicks", "share", "seen", "price"), name
        assert data.y.tolist() == [0, 1, 2, 0, 4, 1], name
        assert data.offsets.tolist() == [0, 3, 5, 6], name
        assert data.query_ids.tolist() == [1, 5, 3], name
        assert data.doc_ids.tolist() == list("abcdef"), name
        assert data.users.tolist() == ["u", "v", "u"], name
        assert data.teacher_scores.tolist() == [0.5, -1, 2, 3, 4, 5], name


@given(
    values=arrays(
        np.float32, st.tuples(st.integers(1, 30), st.integers(1, 4)), elements=st.floats(width=32, allow_infinity=False)
    ),
    group=st.integers(1, 9),
)
def test_parquet_round_trip(tmp_path_factory, values, group):
    """float32 columns come back bit by bit, whatever the row groups."""
    path = tmp_path_factory.mktemp("parquet") / "t.parquet"
    columns = {f"x{j}": values[:, j] for j in range(values.shape[1])}
    table = pa.table({"qid": np.arange(len(values)) // 3, "label": np.zeros(len(values)), **columns})
    pq.write_table(table, path, row_group_size=group)
    assert np.array_equal(read_ranking(path).X, values, equal_nan=True)


def test_several_files_and_globs(tmp_path):
    """Files are read one after the other in the order given, those of a glob by name; a query may cross the border."""
    pq.write_table(small().slice(0, 2), tmp_path / "part-0.parquet")
    pq.write_table(small().slice(2), tmp_path / "part-1.parquet")
    for paths in (
        str(tmp_path / "part-*.parquet"),
        tmp_path / "part-*.parquet",
        [tmp_path / "part-0.parquet", str(tmp_path / "*-1.parquet")],
    ):
        data = read_ranking(paths, COLUMNS)
        assert np.array_equal(data.X, X, equal_nan=True)
        assert data.offsets.tolist() == [0, 3, 5, 6]


@pytest.mark.parametrize(
    ("columns", "names", "n_docs"),
    [
        ({"ignore": ("part", "user")}, ("clicks", "share", "seen", "price", "teacher"), 6),
        ({"features": ("s*",)}, ("share", "seen"), 6),
        ({"features": ("*",), "ignore": ("user", "t*", "part")}, ("clicks", "share", "seen", "price"), 6),
        ({"features": ("price", "clicks")}, ("price", "clicks"), 6),
        # A column that --where reads tells parts of the data apart and is no feature, unless it is named as one.
        ({"where": "part<=2", "user": "user", "ignore": ("teacher",)}, ("clicks", "share", "seen", "price"), 5),
        ({"where": "part==3", "features": ("part", "clicks")}, ("part", "clicks"), 1),
        ({"where": "qid % 2 == 1 and clicks > 5", "features": ("share",)}, ("share",), 3),
        ({"label": "label>0", "features": ("share",)}, ("share",), 6),
    ],
)
def test_features_and_rows(columns, names, n_docs):
    """Features are those named, or the numeric columns without another role; rows are those of --where."""
    data = read_ranking(small(), Columns(**columns))
    assert data.feature_names == names
    assert data.n_docs == n_docs


def test_label_expression():
    """A label may be computed; true counts as 1, and the columns it reads are no features."""
    data = read_ranking(
        small(clicks=None, buys=pa.array([0, 1, 0, 2, 0, 0])),
        Columns(label="2*buys + seen", ignore=("user",), where="part<2"),
    )
    assert data.y.tolist() == [1, 2, 1]
    assert "buys" not in data.feature_names
    assert "seen" not in data.feature_names
    assert "label" not in data.feature_names
    assert read_ranking(small(), Columns(label="label>=2", features=("share",))).y.tolist() == [0, 0, 1, 0, 1, 0]


def test_where_splits_are_a_partition(data_dir: Path):
    """The parts that --where selects hold every row of the file once."""
    path = data_dir / "mq2008" / "mq2008_s1_s4.parquet"
    whole = read_ranking(path, Columns(ignore=("part",)))
    parts = [
        read_ranking(path, Columns(where=where))
        for where in ("part<=3", "part==4 and qid%2==0", "part==4 and qid%2!=0")
    ]
    assert [part.n_features for part in parts] == [46, 46, 46]
    assert sum(part.n_queries for part in parts) == whole.n_queries == 628
    assert np.array_equal(parts[0].X, whole.X[: parts[0].n_docs])
    assert sorted(np.concatenate([part.query_ids for part in parts])) == sorted(whole.query_ids)


def test_text_and_parquet_of_mq2008_are_the_same(data_dir: Path):
    """The LETOR files, with the options that tables have, give what the Parquet file gives."""
    text = read_ranking(
        str(data_dir / "mq2008" / "S?.txt.gz"), Columns(label="label>0", where="qid%2==0", ignore=("f7",))
    )
    table = read_ranking(
        data_dir / "mq2008" / "mq2008_s1_s4.parquet", Columns(label="label>0", where="qid%2==0", ignore=("f7", "part"))
    )
    assert text.feature_names == table.feature_names
    assert len(text.feature_names) == 45
    for name in ("X", "y", "offsets", "query_ids", "doc_ids"):
        assert np.array_equal(getattr(text, name), getattr(table, name)), name


WRONG = [
    ({}, {"qid": "query"}, ColumnError, "no column 'query' for the query ids"),
    ({}, {"label": "Label"}, ColumnError, "no column 'Label' for the label; did you mean 'label'"),
    ({}, {"label": "Label>0"}, ExpressionError, "no column 'Label'; did you mean 'label'"),
    ({}, {"where": "parts<3"}, ExpressionError, "no column 'parts'; did you mean 'part'"),
    ({}, {"where": "part>9", "ignore": ("user",)}, EmptyDataError, "no rows for which 'part>9' is true"),
    ({}, {"user": "u"}, ColumnError, "no column 'u' for the user"),
    ({}, {"teacher_scores": "t"}, ColumnError, "no column 't' for the teacher scores"),
    (
        {},
        {},
        ColumnError,
        "1 columns are not numeric: 'user' (string); expected numbers: encode them, or leave them out with --ignore 'user'",
    ),
    ({}, {"features": ("docid",)}, ColumnError, "'docid' (string)"),
    ({}, {"features": ("x*",)}, ColumnError, "--features 'x*' matches no column"),
    ({}, {"features": ("label",)}, ColumnError, "--features names 'label'"),
    ({}, {"features": ("seen",), "label": "seen"}, ColumnError, "--features names 'seen'"),
    ({}, {"features": ("part",), "ignore": ("part",)}, ColumnError, "no feature is left"),
    ({}, {"ignore": ("userr",)}, ColumnError, "--ignore 'userr' matches no column; did you mean 'user'"),
    ({"user": pa.array(list("aabbab")).dictionary_encode()}, {}, ColumnError, "'user' (dictionary"),
    ({"user": pa.array([1, 2, 3, 4, 5, 6], pa.timestamp("s"))}, {}, ColumnError, "'user' (timestamp[s])"),
    ({"user": pa.array([[1]] * 6)}, {}, ColumnError, "'user' (list<"),
    (
        {"qid": pa.array([1, 1, None, 2, 2, 2])},
        {"features": ("share",)},
        ColumnError,
        "column 'qid' has 1 missing values",
    ),
    ({"qid": pa.array([1, 2, 1, 3, 3, 3])}, {"features": ("share",)}, SplitQueryError, "query 1 comes back at row 2"),
    ({"label": pa.array([0, 1, None, 0, 1, 1])}, {"features": ("share",)}, LabelError, "the label of row 2 is missing"),
    ({"label": pa.array([0, 1, -1, 0, 1, 1])}, {"features": ("share",)}, LabelError, "label -1.0 at row 2"),
    ({"label": pa.array(list("010101"))}, {"features": ("share",)}, ColumnError, "column 'label' is string"),
    ({"user": pa.array(list("uvuvuv"))}, {"features": ("share",), "user": "user"}, DataError, "has several users"),
    (
        {"teacher": pa.array([1.0, None] * 3)},
        {"features": ("share",), "teacher_scores": "teacher"},
        DataError,
        "score of row 1 is nan",
    ),
    (
        {"share": pa.array([0.0, 1, 2, float("inf"), 4, 5])},
        {"features": ("share",)},
        InfiniteValueError,
        "'share' is inf at row 3",
    ),
    (
        {"share": pa.array([0.0, 1, 2, 1e39, 4, 5])},
        {"features": ("share",)},
        InfiniteValueError,
        "'share' is inf at row 3",
    ),
]


@pytest.mark.parametrize(("changes", "columns", "error", "says"), WRONG)
def test_wrong_columns(changes, columns, error, says):
    """What does not fit is a named error that says what to do."""
    with pytest.raises(error) as caught:
        read_ranking(small(**changes), Columns(**columns))
    assert says in str(caught.value)
    assert (
        "expected" in str(caught.value)
        or "did you mean" in str(caught.value)
        or "the columns are" in str(caught.value)
        or "drop it" in str(caught.value)
    )


def test_following_the_advice_helps():
    """The --ignore that an error suggests makes the next reading succeed."""
    table = small(day=pa.array(["mon"] * 6))
    with pytest.raises(ColumnError) as caught:
        read_ranking(table)
    advice = str(caught.value).split("--ignore '")[1].split("'")[0]
    assert read_ranking(table, Columns(ignore=tuple(advice.split(",")))).n_docs == 6


def test_features_of_a_model_are_matched_by_name():
    """With the names of a model, columns come in its order, others are left out, and absent ones are named."""
    table = small()
    data = read_ranking(table, feature_names=["price", "clicks"])
    assert data.feature_names == ("price", "clicks")
    assert np.array_equal(data.X, X[:, [3, 0]], equal_nan=True)
    with pytest.raises(
        SchemaError, match=r"lacks 1 of the 2 features that the model needs \('Price'\).*did you mean 'price'"
    ):
        read_ranking(table, feature_names=["Price", "clicks"])


def test_features_for_scoring():
    """Scoring needs no label, no query ids and only the columns that the model reads."""
    table = small(label=None)
    values, qid = read_features(table, ["seen", "gone", "clicks"], needed=[0, 2])
    assert np.array_equal(values[:, [0, 2]], X[:, [2, 0]], equal_nan=True)
    assert np.isnan(values[:, 1]).all()
    assert qid.tolist() == [1, 1, 1, 5, 5, 3]
    assert read_features(table.drop_columns("qid"), ["seen"])[1] is None
    assert read_features(table, ["seen"], columns=Columns(where="part==2"))[0].tolist()[1] == [1]
    with pytest.raises(SchemaError, match=r"lacks 1 of the 1 features that the model needs \('gone'\)"):
        read_features(table, ["seen", "gone"], needed=[1])
    with pytest.raises(SchemaError, match="none of the model's features"):
        read_features(table.drop_columns("qid"), ["gone"], needed=[])


def test_letor_features_for_scoring(tmp_path):
    """LETOR text meets a model's features by id or by position; what sparse text does not list is 0."""
    path = tmp_path / "rows.txt"
    path.write_text("1 qid:1 1:5\n0 qid:2 1:1 3:2\n1 qid:1 2:7\n")
    values, qid = read_features(path, ["f3", "f1", "f9"])
    assert values.tolist() == [[0, 5, 0], [2, 1, 0], [0, 0, 0]]
    assert qid.tolist() == [1, 2, 1]
    assert read_features(path, ["a", "b", "c", "d"])[0].tolist() == [[5, 0, 0, 0], [1, 0, 2, 0], [0, 7, 0, 0]]
    assert read_features(path, ["a", "b", "c"], columns=Columns(where="label>0"))[0].tolist() == [[5, 0, 0], [0, 7, 0]]
    with pytest.raises(SchemaError, match="got 3 features without names for a model of 2"):
        read_features(path, ["a", "b"])


def test_dense_letor_text_must_have_the_features_of_the_model(tmp_path):
    """Where every line lists every feature, one that is absent was not computed, so it is not taken for 0."""
    path = tmp_path / "rows.txt"
    path.write_text("1 qid:1 1:5 2:6\n0 qid:1 1:1 2:2\n")
    assert read_ranking(path, feature_names=["f2", "f1"]).X.tolist() == [[6, 5], [2, 1]]
    assert read_ranking(path, feature_names=["f2"]).X.tolist() == [[6], [2]]
    with pytest.raises(SchemaError, match=r"1 of those that the model needs are not among them \(f3\)"):
        read_ranking(path, feature_names=["f1", "f2", "f3"])
    assert read_features(path, ["f1", "f2", "f3"], needed=[0])[0][:, 0].tolist() == [5, 1]


def test_options_on_letor_text(tmp_path):
    """Label expressions, row selections and ignored features work on LETOR text, whose columns are label, qid and f1..."""
    path = tmp_path / "rows.txt"
    path.write_text("2 qid:1 1:5 2:6 #docid = A\n0 qid:1 1:1 2:2 #docid = B\n1 qid:3 1:4 2:8 #docid = C\n")
    data = read_ranking(path, Columns(label="label>1", where="f1>=4", features=("f*",)))
    assert data.feature_names == ("f2",)
    assert data.y.tolist() == [1, 0]
    assert data.doc_ids.tolist() == ["A", "C"]
    assert data.query_ids.tolist() == [1, 3]
    with pytest.raises(ColumnError, match="no column 'who' for the user"):
        read_ranking(path, Columns(user="who"))


def test_kinds_are_told_by_content(tmp_path):
    """Parquet and LETOR text are recognised whatever their names; other files are refused by name."""
    forms = sources(tmp_path)
    assert kind_of(forms["no_suffix"]) == "parquet"
    assert kind_of(forms["t.csv.gz"]) == "csv"
    letor = tmp_path / "t.dat"
    letor.write_text("# head\n1 qid:1 1:5\n")
    assert kind_of(letor) == "letor"
    other = tmp_path / "other.bin"
    for content in (b"user,item,rating\n1,2,3\n", b"\x80\x05\x95", b"tree\nversion=v4\n\0"):
        other.write_bytes(content)
        with pytest.raises(ParseError, match=r"other\.bin: .*expected"):
            read_ranking(other)


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda folder: folder / "absent.parquet", DataError, "cannot be opened"),
        (lambda folder: folder / "*.nothing", DataError, "no file matches"),
        (lambda folder: folder, DataError, "is a folder"),
        (lambda _folder: [], DataError, "got no files"),
        (lambda _folder: 3, DataError, "got builtins int; expected paths, or a frame"),
        (lambda folder: [folder / "t.parquet", folder / "t.csv"], DataError, "expected files of one kind"),
    ],
)
def test_wrong_paths(tmp_path, make, error, says):
    """What is no readable set of files is a named error."""
    sources(tmp_path)
    with pytest.raises(error) as caught:
        read_ranking(make(tmp_path), COLUMNS)
    assert says in str(caught.value)


@pytest.mark.parametrize("keep", [0, 4, 0.5, 0.98])
def test_truncated_parquet(tmp_path, keep):
    """A Parquet file that was cut off is a named error."""
    pq.write_table(small(), tmp_path / "t.parquet")
    whole = (tmp_path / "t.parquet").read_bytes()
    (tmp_path / "t.parquet").write_bytes(whole[: keep if isinstance(keep, int) else int(len(whole) * keep)])
    with pytest.raises(EmptyDataError if keep == 0 else ParseError, match=r"t\.parquet"):
        read_ranking(tmp_path / "t.parquet", COLUMNS)


def test_damaged_parquet_page(tmp_path):
    """A Parquet file whose pages were overwritten is a named error."""
    table = pa.table({"qid": np.arange(5000), "label": np.zeros(5000), "x": np.random.default_rng(0).random(5000)})
    pq.write_table(table, tmp_path / "t.parquet", compression="zstd", write_page_checksum=True)
    whole = bytearray((tmp_path / "t.parquet").read_bytes())
    whole[100 : len(whole) // 2] = bytes(len(whole) // 2 - 100)
    (tmp_path / "t.parquet").write_bytes(whole)
    with pytest.raises(ParseError, match="damaged"):
        read_ranking(tmp_path / "t.parquet")


def test_later_file_lacks_a_column(tmp_path):
    """Files that are read together have the same columns, or the one that has not is named."""
    pq.write_table(small().slice(0, 3), tmp_path / "a.parquet")
    pq.write_table(small().slice(3).drop_columns("share"), tmp_path / "b.parquet")
    with pytest.raises(ColumnError, match=r"b\.parquet: no column 'share'"):
        read_ranking([tmp_path / "a.parquet", tmp_path / "b.parquet"], COLUMNS)


def test_odd_pandas_frames():
    """Repeated column names and columns of mixed types are named errors; the index is no column."""
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"qid": [1, 1], "label": [0, 1], "x": [1.0, 2.0]}, index=pd.Index([7, 9], name="row"))
    assert read_ranking(frame).feature_names == ("x",)
    assert read_ranking(frame.assign(c=pd.array([1, None], dtype="Int64"))).X[:, 1].tolist()[0] == 1
    twice = pd.concat([frame, frame[["x"]]], axis=1)
    with pytest.raises(ColumnError):
        read_ranking(twice)
    with pytest.raises(ColumnError):
        read_ranking(frame.assign(x=[1, "a"]))


def test_repeated_names_in_arrow():
    """Repeated column names are a named error."""
    table = pa.Table.from_arrays([pa.array([1])] * 3, names=["qid", "label", "label"])
    with pytest.raises(ColumnError, match="'label' occur twice"):
        read_ranking(table)
