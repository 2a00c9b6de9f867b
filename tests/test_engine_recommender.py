"""The recommender types, their slow twin, and values on levels."""

from __future__ import annotations

import numpy as np
import pytest

from prunus.engine import recommender_reference as reference
from prunus.engine.levels import choose_step, quantise, quantise_rows
from prunus.engine.recommender import DenseFactors, SparseFactors, SparseRows
from prunus.errors import RecommenderError
from recommenders import make_dense, make_histories, make_rows, make_sparse

KINDS = {
    "tied": lambda rng: make_sparse(rng, scale=True, bias=True),
    "untied": lambda rng: make_sparse(rng, tied=False, scale=True),
    "item_item": lambda rng: make_sparse(rng, item_item=True, bias=True),
    "dense": lambda rng: make_dense(rng, bias=True),
    "dense_untied": lambda rng: make_dense(rng, tied=False, scale=True),
}


def matrices(model):
    """Give encoder and decoder as float64 matrices."""
    if isinstance(model, DenseFactors):
        encode, decode = model.encode, model.decode
    else:
        encode = np.eye(model.n_items) if model.item_item else model.encode.to_dense()
        decode = model.decode.to_dense()
    scale = np.ones(model.n_items) if model.encode_scale is None else model.encode_scale
    return scale[:, None].astype(np.float64) * encode, decode.astype(np.float64)


@pytest.mark.parametrize("kind", KINDS)
def test_twin_is_two_matrix_products(kind):
    """Scores are history x encoder x decoder' + bias, as dense matrices give them."""
    rng = np.random.default_rng(1)
    model = KINDS[kind](rng)
    indptr, items = make_histories(rng, 9, model.n_items)
    seen = np.zeros((9, model.n_items))
    seen[np.repeat(np.arange(9), np.diff(indptr)), items] = 1
    encode, decode = matrices(model)
    expected = seen @ encode @ decode.T + (0 if model.bias is None else model.bias)
    np.testing.assert_allclose(reference.score(model, indptr, items), expected, rtol=1e-5, atol=1e-5)


def test_top_k_breaks_ties_by_number_and_pads():
    """Of equal scores the lower number comes first; where items run out, -1 and -inf stand."""
    ids, best = reference.top_k(np.float32([[1, 3, 3, 2]]), np.array([[True, True, True, False]]), 4)
    assert ids.tolist() == [[1, 2, 0, -1]]
    assert best.tolist() == [[3, 3, 1, -np.inf]]


def test_rows_survive_a_dense_matrix():
    """From a matrix and back, empty rows too."""
    matrix = np.float32([[0, 1, 0], [0, 0, 0], [2, 0, -1], [0, 0, 0]])
    rows = SparseRows.from_dense(matrix)
    assert rows.lengths.tolist() == [1, 0, 2, 0]
    np.testing.assert_array_equal(rows.to_dense(), matrix)


BAD_ROWS = {
    "indptr falls": {"indptr": [0, 2, 1, 3]},
    "indptr too short": {"indptr": [0, 3, 3, 2]},
    "factor beyond": {"factor": [0, 4, 1]},
    "factor below": {"factor": [-1, 3, 1]},
    "factors fall": {"factor": [3, 0, 1]},
    "factor twice": {"factor": [3, 3, 1]},
    "value too many": {"value": [1.0, 2.0, 3.0, 4.0]},
    "value is NaN": {"value": [1.0, np.nan, 3.0]},
    "no width": {"n_factors": 0},
    "factor is no whole number": {"factor": [0, 1.5, 1]},
    "step of zero": {"step": [0.0]},
    "steps too many": {"step": [1.0, 1.0]},
    "value between levels": {"value": [1.0, 2.5, 3.0], "step": [1.0]},
    "level too far": {"value": [1.0, 128.0, 3.0], "step": [1.0]},
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_bad_rows_are_refused(case):
    """Each way in which rows cannot be rows is a named error."""
    good = {"n_factors": 4, "indptr": [0, 2, 2, 3], "factor": [0, 3, 1], "value": [1.0, 2.0, 3.0], "step": [1.0]}
    SparseRows(**{name: np.array(part) if isinstance(part, list) else part for name, part in good.items()})
    bad = good | {"step": None} | BAD_ROWS[case]
    with pytest.raises(RecommenderError):
        SparseRows(**{name: np.array(part) if isinstance(part, list) else part for name, part in bad.items()})


ROWS = SparseRows(2, np.array([0, 1, 2]), np.array([0, 1]), np.float32([1, 2]))
BAD_MODELS = {
    "popular twice": lambda: SparseFactors(ROWS, popular=np.array([1, 1])),
    "popular beyond": lambda: SparseFactors(ROWS, popular=np.array([2])),
    "bias of another length": lambda: SparseFactors(ROWS, bias=np.zeros(3)),
    "infinite scale": lambda: SparseFactors(ROWS, encode_scale=np.array([1, np.inf])),
    "encoder of another shape": lambda: SparseFactors(ROWS, make_rows(np.random.default_rng(0), 2, 3, 1)),
    "encoder of item-item weights": lambda: SparseFactors(ROWS, ROWS, item_item=True),
    "item-item weights no square": lambda: SparseFactors(
        make_rows(np.random.default_rng(0), 2, 3, 1), item_item=True
    ),
    "dense encoder of another shape": lambda: DenseFactors(np.ones((2, 3)), np.ones((2, 2))),
    "dense of one dimension": lambda: DenseFactors(np.ones(3)),
    "dense between levels": lambda: DenseFactors(np.full((2, 2), 0.3), step=np.array([0.2])),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_MODELS)
def test_bad_models_are_refused(case):
    """Each way in which parts do not fit each other is a named error."""
    with pytest.raises(RecommenderError):
        BAD_MODELS[case]()


def test_tied_is_the_same_object():
    """No encoder, or the decoder again, means tied; an equal copy does not."""
    assert SparseFactors(ROWS).tied
    assert SparseFactors(ROWS, ROWS).tied
    assert not SparseFactors(ROWS, SparseRows(2, ROWS.indptr, ROWS.factor, ROWS.value)).tied
    matrix = np.ones((2, 3), np.float32)
    assert DenseFactors(matrix).tied
    assert DenseFactors(matrix, matrix).tied
    assert not DenseFactors(matrix, matrix.copy()).tied


def test_popular_order_names_every_item():
    """Who is not listed as popular follows by number."""
    assert SparseFactors(make_rows(np.random.default_rng(0), 5, 3, 1), popular=np.array([3, 1])).popular_order(5).tolist() == [3, 1, 0, 2, 4]  # fmt: skip


@pytest.mark.parametrize("bits", range(2, 9))
def test_levels(bits):
    """Values move by half a step at most where they are not clipped, and stay there when quantised again."""
    values = np.random.default_rng(bits).normal(size=2000).astype(np.float32)
    moved, step = quantise(values, bits)
    levels = moved / step
    most = 2 ** (bits - 1) - 1
    assert np.array_equal(np.rint(levels) * step, moved)
    assert np.abs(levels).max() <= most + 1e-3
    inside = np.abs(values) <= most * step
    assert np.abs(moved - values)[inside].max() <= step[0] / 2 * 1.0001
    np.testing.assert_array_equal(quantise(moved, bits, step)[0], moved)
    clipless = quantise(values, bits, np.abs(values).max() / most)[0]
    assert np.square(moved - values).sum() <= np.square(clipless - values).sum() * 1.01  # a step is a float16


@pytest.mark.parametrize("per_row", [False, True])
def test_quantised_rows_drop_what_becomes_zero(per_row):
    """The pattern keeps what is not 0, and each value is a level of its row's step."""
    rows = make_rows(np.random.default_rng(3), 40, 20, 6, spread=6)
    new = quantise_rows(rows, 3, per_row=per_row)
    assert 0 < len(new.value) < len(rows.value)
    assert (new.value != 0).all()
    assert len(new.step) == (40 if per_row else 1)
    step = np.repeat(new.step, rows.lengths) if per_row else new.step
    dense = np.zeros_like(rows.to_dense())
    dense[rows.row, rows.factor] = quantise(rows.value, 3, step)[0]
    np.testing.assert_array_equal(new.to_dense(), dense)


def test_step_of_nothing():
    """No values, or zeros alone, have a step all the same; tiny ones have a step above 0."""
    assert choose_step(np.zeros(3, np.float32), 4) > 0
    assert choose_step(np.zeros(0, np.float32), 4) > 0
    assert choose_step(np.float32([1e-12]), 8) > 0
    with pytest.raises(RecommenderError, match="bits"):
        choose_step(np.ones(1, np.float32), 9)
