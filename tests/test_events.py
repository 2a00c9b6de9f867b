"""Events are what their columns say: stable hashes, times that order as the columns do, and nothing that cannot be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunus.data.events import (
    Events,
    EventSchema,
    combine_hashes,
    hash_column,
    hash_integers,
    hash_strings,
    pack_times,
)
from prunus.errors import ColumnError, DataError, ExpressionError, SchemaError

pa = pytest.importorskip("pyarrow")

SCHEMA = EventSchema(
    id_fields=("user", "item"), dense=("age", "price"), label="clicks>0", time=("day", "ms//1000"), key=("request",)
)


def splitmix64(value):
    """Finalise as the paper does, in Python's integers."""
    mask = (1 << 64) - 1
    z = (value + 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return (z ^ (z >> 31)) or 1


def test_the_hash_is_that_of_the_paper():
    """The first outputs of splitmix64 with seed 0 are the published ones, and b2sum agrees: hashes stay what they are."""
    golden = 0x9E3779B97F4A7C15
    states = np.array([0, golden, 2 * golden % 2**64], np.uint64)
    assert [hex(one) for one in hash_integers(states).tolist()] == [
        "0xe220a8397b1dcdaf",
        "0x6e789e6aa1b965f4",
        "0x6c45d188009454f",
    ]
    assert hash_strings(["UA"]).tolist() == [0xBA988D3C7E00BDDB]


@given(st.lists(st.integers(-(2**63), 2**64 - 1), max_size=20))
def test_an_integer_and_its_decimal_string_hash_alike(values):
    """An integer, its string, and where it is exact its float have one hash, that of the reference."""
    expected = [splitmix64(value % 2**64) for value in values]
    assert hash_strings([str(value) for value in values]).tolist() == expected
    small = [value for value in values if -(2**63) <= value < 2**63]
    assert hash_column(pa.array(small, pa.int64())).tolist() == [splitmix64(value % 2**64) for value in small]
    exact = [float(value) for value in values if abs(value) < 2**53]
    assert hash_column(pa.array(exact, pa.float64())).tolist() == [splitmix64(int(one) % 2**64) for one in exact]


@given(st.lists(st.one_of(st.none(), st.text(max_size=5), st.sampled_from(["7", "07", "-0", "-7", "0"])), max_size=30))
def test_strings_in_every_form_of_column(values):
    """Plain, large and dictionary columns of strings, whole or sliced, hash as each string on its own."""
    expected = [0 if not one else int(hash_strings([one])[0]) for one in values]
    column = pa.array(values, pa.string())
    forms = [column, column.cast(pa.large_string()), column.dictionary_encode()]
    for form in forms:
        assert hash_column(form).tolist() == expected
        assert hash_column(form.slice(1)).tolist() == expected[1:]
    assert len({hash_strings([one])[0] for one in ("7", "07", "-7", "-0", "0")}) == 5


def test_what_is_missing_is_0_and_nothing_else_is():
    """Null, NaN and the empty string hash to 0; the one integer that would is 1; nested columns are refused."""
    for column in (
        pa.array([None], pa.int8()),
        pa.array([None, float("nan")]),
        pa.array(["", None]),
        pa.nulls(2),
        pa.DictionaryArray.from_arrays(pa.array([None, 0], pa.int8()), [""]),
    ):
        assert not hash_column(column).any()
    zero = np.array([-0x9E3779B97F4A7C15 % 2**64], np.uint64)
    assert hash_integers(zero).tolist() == [1]
    assert hash_column(pa.array([0, None, 5])).tolist() == [splitmix64(0), 0, splitmix64(5)]
    assert hash_column(pa.array([1.5])).tolist() == hash_strings(["1.5"]).tolist()
    assert hash_column(pa.array([True])).tolist() == [splitmix64(1)]
    # A dictionary of 128 values has codes of int8, which cannot count to 128.
    many = pa.array([*map(str, range(128)), None]).dictionary_encode().cast(pa.dictionary(pa.int8(), pa.string()))
    assert hash_column(many).tolist() == [*map(splitmix64, range(128)), 0]
    with pytest.raises(ColumnError, match="expected integers or strings"):
        hash_column(pa.array([[1]]))


@given(st.lists(st.tuples(*[st.integers(-4, 4)] * 3), min_size=2, max_size=12))
def test_keys_of_several_columns(rows):
    """Rows of a composite key are equal exactly when all parts are, and a row with a missing part is missing."""
    hashes = np.column_stack([hash_integers(np.array(part)) for part in zip(*rows, strict=True)])
    found = combine_hashes(hashes).tolist()
    assert [one == found[0] for one in found] == [row == rows[0] for row in rows]
    hashes[0, 1] = 0
    assert combine_hashes(hashes)[0] == 0


@given(
    st.integers(1, 5).flatmap(
        lambda k: st.lists(
            st.tuples(*[st.integers(-(1 << 64 // k - 1), (1 << 64 // k - 1) - 1)] * k), min_size=1, max_size=9
        )
    )
)
def test_packed_times_order_as_their_columns(rows):
    """Of rows that fit, the packed numbers compare as the tuples do; others are told."""
    k = len(rows[0])
    packed, fits = pack_times([np.array(part, np.int64) for part in zip(*rows, strict=True)])
    assert fits.all()
    assert sorted(range(len(rows)), key=rows.__getitem__) == np.argsort(packed, kind="stable").tolist()
    assert len(set(packed.tolist())) == len(set(rows))
    if k > 1:
        over = [np.array([value]) for value in (0,) * (k - 1) + (1 << (64 // k - 1),)]
        assert not pack_times(over)[1].any()


def test_a_schema_is_its_json():
    """A schema comes back from its JSON, names the columns that it reads, and refuses what makes no sense."""
    assert EventSchema.from_json(SCHEMA.to_json()) == SCHEMA
    assert SCHEMA.columns == ("user", "item", "age", "price", "request", "clicks", "day", "ms")
    whole = EventSchema(("a",), (), "y", ("t",), where="part<=3")
    assert whole.columns == ("a", "y", "t", "part")
    for wrong, error, match in (
        ({"id_fields": (), "dense": ()}, ColumnError, "at least one of each"),
        ({"time": ()}, ColumnError, "at least one of each"),
        ({"dense": ("user",)}, ColumnError, "named twice"),
        ({"dense": ("clicks",)}, ColumnError, "gives the label"),
        ({"label": "clicks>"}, ExpressionError, "--label"),
        ({"time": ("ms+",)}, ExpressionError, "--time"),
        ({"where": "("}, ExpressionError, "--where"),
        ({"colour": 1}, SchemaError, "expected id_fields"),
    ):
        with pytest.raises(error, match=match):
            EventSchema.from_json(SCHEMA.to_json() | wrong)


def some_events(n):
    """Make events of two ids and two dense features."""
    rng = np.random.default_rng(n)
    return Events(rng.integers(0, 9, (n, 2)), rng.random((n, 2)), rng.integers(0, 2, n), np.arange(n))


def test_events_are_arrays_of_one_length():
    """Slices, choices and joints hold the same events; what does not fit together is refused."""
    events = some_events(10)
    assert (events.offset == 0).all()
    assert (events.key == 0).all()
    assert {name: one.dtype for name, one in events.arrays().items()} == {
        "ids": np.uint64,
        "dense": np.float32,
        "label": np.float32,
        "time": np.int64,
        "offset": np.float32,
        "key": np.uint64,
    }
    again = Events.concat([events.take(slice(0, 3)), Events.empty(SCHEMA), events.take(np.arange(3, 10))])
    for name, column in events.arrays().items():
        assert np.array_equal(getattr(again, name), column), name
    assert events.take(slice(2, 5)).ids.base is not None
    arrays = events.arrays()
    for name, wrong, error in (
        ("label", np.full(10, 2), DataError),
        ("dense", np.full((10, 2), np.inf), DataError),
        ("ids", np.zeros((9, 2)), SchemaError),
        ("ids", np.zeros(10), SchemaError),
        ("offset", np.zeros(9), SchemaError),
        ("key", np.zeros((10, 1)), SchemaError),
    ):
        with pytest.raises(error):
            Events(**(arrays | {name: wrong}))
