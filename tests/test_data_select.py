"""The expression language and the choice of columns."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunus.data.select import Expression, match, require
from prunus.errors import ColumnError, ExpressionError

pa = pytest.importorskip("pyarrow")

COLUMNS = {
    "part": pa.array([1, 2, 3, 4, 4, None], pa.int8()),
    "fold": pa.array([0, 1, 2, 2, 3, 3], pa.int32()),
    "label": pa.array([0.0, 1.5, 2.0, 0.0, float("nan"), None]),
    "day": pa.array(["mon", "tue", "mon", None, "wed", "sun"]),
    "kind": pa.array(["a", "b", "a", "b", "a", "b"]).dictionary_encode(),
    "seen": pa.array([True, False, None, True, False, True]),
    "click rate": pa.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]),
    "big": pa.array([100, 100, 100, 100, 100, 100], pa.int8()),
}


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("part<=3", [0, 1, 2]),
        ("part == 4 and fold != 2", [4]),
        ("1 < part <= 3", [1, 2]),
        ("not part <= 3", [3, 4]),
        ("part < 2 or fold == 3", [0, 4, 5]),
        ("part == 1 or part == 3 and fold == 0", [0]),
        ("(part == 1 or part == 3) and fold == 2", [2]),
        ("part in [1, 3]", [0, 2]),
        ("part in (1, -3)", [0]),
        ("part not in {1, 3}", [1, 3, 4]),
        ("day == 'mon'", [0, 2]),
        ('day in ["mon", "sun"]', [0, 2, 5]),
        ("day != 'mon'", [1, 4, 5]),
        ("kind == 'a'", [0, 2, 4]),
        ("kind in ['b']", [1, 3, 5]),
        ("part is None", [5]),
        ("part is not None and seen", [0, 3]),
        ("not seen", [1, 4]),
        ("seen == True", [0, 3, 5]),
        ("`click rate` >= 0.4", [3, 4, 5]),
        ("label > 0", [1, 2]),
        ("fold % 2 == 1", [1, 4, 5]),
        ("-fold % 3 == 2", [1]),
        ("fold // 2 == 1", [2, 3, 4, 5]),
        ("fold / 2 == 0.5", [1]),
        ("part + fold*2 > 8", [4]),
        ("part - fold < 1", []),
        ("big + big == 200", [0, 1, 2, 3, 4, 5]),
        ("part <= 3.0", [0, 1, 2]),
        ("part < 1000", [0, 1, 2, 3, 4]),
        ("+part == 4", [3, 4]),
    ],
)
def test_rows_for_which_it_is_true(text, rows):
    """Each form of the language keeps the rows that it says; missing values make nothing true."""
    assert np.flatnonzero(Expression(text).mask(COLUMNS).to_numpy(zero_copy_only=False)).tolist() == rows


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("part=3", "near '=3'; for equality write =="),
        ("part ==", "ends too early"),
        ("", "ends too early"),
        ("part <= 3 & fold != 2", "uses & or |; expected 'and' or 'or'"),
        ("__import__('os').system('true')", "\"__import__('os').system('true')\" is not supported"),
        ("part.real > 1", "'part.real' is not supported"),
        ("part[0] > 1", "'part[0]' is not supported"),
        ("(lambda: 1)() > part", "is not supported"),
        ("part ** 2 > 1", "'part ** 2' is not supported"),
        ("part if seen else fold", "is not supported"),
        ("f'{part}' == 'a'", "is not supported"),
        ("part == 1j", "'1j' is not supported"),
        ("part in 3", "expected a list after 'in'"),
        ("part in []", "at least one"),
        ("part in [fold]", "must list numbers or strings"),
        ("part in [1, 'a']", "\"part in [1, 'a']\" cannot be evaluated"),
        ("part == [1]", "compares with a list; expected 'in'"),
        ("part is 3", "'is' goes with None only"),
        ("Part <= 3", "there is no column 'Part'; did you mean 'part'?"),
        ("`click  rate` > 1", "there is no column 'click  rate'; did you mean 'click rate'?"),
        ("fold > 1 and day > 3", "'day > 3' cannot be evaluated"),
        ("fold > 1 and day", "'day' is string, not a condition"),
        ("not fold", "'fold' is int32, not a condition"),
        ("day + 1 == 3", "'day + 1' cannot be evaluated"),
        ("part + 1", "gives int64; expected true or false"),
        ("1 < 2", "reads no column"),
    ],
)
def test_what_is_wrong_is_named(text, says):
    """An expression outside the language, or one whose types do not fit, is an error that names the part."""
    with pytest.raises(ExpressionError) as caught:
        Expression(text).mask(COLUMNS)
    assert says in str(caught.value)
    assert str(caught.value).startswith(f"--where {text!r}: ")


@given(text=st.text(max_size=30))
def test_any_text_is_an_expression_or_a_named_error(text):
    """No text ends in anything but a result or the named error."""
    try:
        result = Expression(text).evaluate(COLUMNS)
    except ExpressionError:
        return
    assert len(result) == 6


def test_columns_read():
    """An expression says which columns it reads, each once."""
    assert Expression("a > 1 and (`b c` < a or d in [1])").names == ("a", "b c", "d")


def test_label_expression_is_a_number():
    """An expression may give numbers, which labels need."""
    assert Expression("2*fold + 1", "--label").evaluate(COLUMNS).to_pylist() == [1, 3, 5, 5, 7, 7]


NAMES = ["f1", "f2", "f10", "qid", "odd[1]"]


@pytest.mark.parametrize(
    ("patterns", "found"),
    [
        (["f*"], ["f1", "f2", "f10"]),
        (["f10", "f*"], ["f10", "f1", "f2"]),
        (["f?"], ["f1", "f2"]),
        (["f[2-9]", "qid"], ["f2", "qid"]),
        (["odd[1]"], ["odd[1]"]),
    ],
)
def test_globs(patterns, found):
    """Names come in the order of the patterns, each once, and an exact name wins over a glob."""
    assert match(patterns, NAMES, "--features", "a.parquet") == found


def test_what_matches_nothing_is_named():
    """A pattern without a column is an error that shows the nearest names or all of them."""
    with pytest.raises(ColumnError, match=r"a\.parquet: --ignore 'Qid' matches no column; did you mean 'qid'"):
        match(["Qid"], NAMES, "--ignore", "a.parquet")
    with pytest.raises(ColumnError, match=r"the columns are: f1, f2, f10"):
        require("zzzzzz", NAMES, "label", "--label", "a.parquet")
