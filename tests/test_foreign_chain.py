"""A chain of steps, folded into an input stage and layers, computes what its steps compute one after the other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunus.engine.network import Activation, Dense, Network
from prunus.engine.reference import score
from prunus.errors import ForeignModelError
from prunus.foreign.chain import WIDEST_REPEATED, Chain

STEPS = ("affine", "vector", "shift", "scale", "relu", "relu6", "clip", "from below", "from above", "sigmoid", "tanh", "linear")  # fmt: skip


def take(chain, h, step, rng):
    """Add one step to a chain, and apply it to h, float64 [n, width]."""
    width = h.shape[1]
    if step in {"affine", "vector", "shift", "scale"}:
        size = 1 if step == "affine" else width
        a = np.ones(size) if step == "shift" else rng.normal(size=size) * (rng.random(size) > 0.1)
        b = np.zeros(size) if step == "scale" else rng.normal(size=size)
        chain.affine(a, b, step)
        return h * a + b
    if step == "sigmoid":
        chain.sigmoid(step)
        return 1 / (1 + np.exp(-h))
    if step == "tanh":
        chain.tanh(step)
        return np.tanh(h)
    if step == "linear":
        outputs = int(rng.integers(1, 6))
        weight, bias = rng.normal(size=(outputs, width)), rng.normal(size=outputs)
        weight[rng.random(weight.shape) < 0.3] = 0
        chain.linear(weight, bias, step)
        return h @ weight.T + bias
    ends = np.sort(rng.normal(size=2))
    lower, upper = {
        "relu": (0, np.inf),
        "relu6": (0, 6),
        "clip": tuple(ends),
        "from below": (ends[0], np.inf),
        "from above": (-np.inf, ends[1]),
    }[step]
    chain.clamp(lower, upper, step)
    return np.clip(h, lower, upper)


def run(chain, X):
    """Score with the arrays of a finished chain, by the slow twin."""
    inputs, layers = chain.finish()
    network = Network(X.shape[1], inputs, tuple(Dense(x.weight, x.bias, x.activation) for x in layers))
    return score(network, X)


@given(st.integers(0, 2**32), st.integers(1, 7), st.lists(st.sampled_from(STEPS), max_size=12))
def test_folding_changes_nothing(seed, n_features, steps):
    """Any steps in any order give, folded, what they give one by one."""
    rng = np.random.default_rng(seed)
    chain = Chain(n_features)
    X = (rng.normal(size=(40, n_features)) * 3).astype(np.float32)
    h = X.astype(np.float64)
    for step in steps:
        h = take(chain, h, step, rng)
    weight = rng.normal(size=(1, h.shape[1]))
    chain.linear(weight, None, "the last")
    for step in steps[:2]:  # and after the last layer
        h, weight = (take(chain, h @ weight.T, step, rng), np.ones((1, 1))) if step != "linear" else (h, weight)
    expected = (h @ weight.T)[:, 0]
    np.testing.assert_allclose(run(chain, X), expected, rtol=1e-4, atol=1e-4 * max(1, np.abs(expected).max()))


def kinds(chain):
    """Return the activations of a finished chain's layers."""
    return [layer.activation for layer in chain.finish()[1]]


def test_what_folds_costs_no_layer():
    """Standardisation, clipping of inputs, batch normalisation before and after an activation: two layers stay two."""
    rng = np.random.default_rng(0)
    chain = Chain(5)
    chain.affine(1.0, -rng.normal(size=5), "sub")
    chain.affine(1 / rng.uniform(1, 2, 5), 0.0, "div")
    chain.clamp(-3, 3, "clip")
    chain.linear(rng.normal(size=(4, 5)), None, "first")
    chain.affine(rng.normal(size=4), rng.normal(size=4), "norm")
    chain.clamp(0, np.inf, "relu")
    chain.affine(rng.normal(size=4), rng.normal(size=4), "norm")
    chain.linear(rng.normal(size=(1, 4)), None, "second")
    chain.affine(2.0, 1.0, "to the scale of the labels")
    assert kinds(chain) == [Activation.RELU, Activation.IDENTITY]


def test_zeros_stay_zeros():
    """Folding keeps the pattern of the weights: what was pruned stays pruned."""
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(6, 5)) * (rng.random((6, 5)) < 0.3)
    chain = Chain(5)
    chain.affine(rng.uniform(1, 2, 5), rng.normal(size=5), "standard")
    chain.linear(weight, rng.normal(size=6), "first")
    chain.affine(rng.uniform(1, 2, 6), rng.normal(size=6), "norm")
    chain.clamp(-1, 1, "clip")
    chain.linear(np.ones((1, 6)), None, "last")
    np.testing.assert_array_equal(chain.finish()[1][0].weight != 0, weight != 0)


def test_no_cancellation_in_the_input_stage():
    """A feature around a million with a spread of one keeps its digits: the mean is taken off first."""
    x = (1e6 + np.arange(-3, 4)).astype(np.float32)[:, None]
    for steps in ([(1.0, -1e6), (1 / 3, 0.0)], [(1 / 3, -1e6 / 3)], [(1 / 3, 0.0), (1.0, -1e6 / 3)]):
        chain = Chain(1)
        for scale, shift in steps:
            chain.affine(scale, shift, "standard")
        chain.linear([[1.0]], None, "last")
        assert (chain.finish()[0].center == 1e6).all()
        np.testing.assert_allclose(run(chain, x), np.arange(-3, 4) / 3, atol=1e-6)


def test_the_first_width_is_the_number_of_features():
    """Where nothing else says it, the first vector or matrix does."""
    chain = Chain()
    assert chain.n_features is None
    chain.affine(1.0, np.arange(4.0), "mean")
    assert chain.n_features == 4
    chain = Chain()
    chain.linear(np.ones((3, 7)), None, "linear")
    assert (chain.n_features, chain.width) == (7, 3)


REFUSED = {
    "too many values": (lambda c: c.affine(np.ones(4), 0.0, "mean"), r"mean has values of shape \[4\] for 3 units"),
    "a column of values": (lambda c: c.affine(np.ones((3, 1)), 0.0, "mean"), r"shape \[3, 1\]"),
    "NaN": (lambda c: c.affine(1.0, np.nan, "mean"), "mean holds NaN"),
    "infinite weight": (lambda c: c.linear([[np.inf, 0, 0]], None, "first"), "first holds NaN or infinity"),
    "wide": (lambda c: c.linear(np.ones((1, 4)), None, "first"), "first takes 4 inputs, and 3 stand before it"),
    "three dimensions": (lambda c: c.linear(np.ones((1, 1, 3)), None, "first"), r"shape \[1, 1, 3\]"),
    "no outputs": (lambda c: c.linear(np.ones((0, 3)), None, "first"), r"shape \[0, 3\]"),
    "biases": (lambda c: c.linear(np.ones((2, 3)), np.ones(3), "first"), r"first has values of shape \[3\]"),
    "bounds crossed": (lambda c: c.clamp(1, 0, "clip"), r"clip clips to \[1, 0\]"),
    "bounds NaN": (lambda c: c.clamp(np.nan, 0, "clip"), "clip clips"),
    "two outputs": (lambda c: c.finish(), "gives 3 outputs; expected 1"),
    "too large": (
        lambda c: (c.linear(np.ones((1, 3)), None, "a"), c.affine(1e300, 0.0, "b"), c.finish()),
        "leave float32",
    ),
}


@pytest.mark.parametrize(("act", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_does_not_fit_is_refused(act, message):
    """Wrong shapes and numbers are a ForeignModelError that names the step."""
    with pytest.raises(ForeignModelError, match=message):
        act(Chain(3))


def test_a_chain_without_width_is_refused():
    """A number alone does not say how many features there are, nor does nothing at all."""
    with pytest.raises(ForeignModelError, match="how many features"):
        Chain().affine(2.0, 0.0, "mul")
    with pytest.raises(ForeignModelError, match="how many features"):
        Chain().finish()
    with pytest.raises(ForeignModelError, match="70000 features"):
        Chain(70_000)


def test_no_small_net_takes_gigabytes():
    """A step that needs a layer of its own is refused where that layer would be huge."""
    with pytest.raises(ForeignModelError, match=f"at most {WIDEST_REPEATED}"):
        Chain(60_000).sigmoid("sigmoid")
