"""swap(): a call sees one whole model, old or new."""

from __future__ import annotations

import pickle
import weakref

import numpy as np
import pytest

from engine_networks import make_network, names
from prunus.data.ranking import Schema
from prunus.engine.reference import score as reference_score
from prunus.engine.scorer import RankScorer
from prunus.errors import MissingValueError, NetworkError, SchemaError
from swap_pair import N_FEATURES, documents, mixtures, one_of_two, traffic, trees


@pytest.fixture
def pair():
    """Two scorers of the same features."""
    left, right = one_of_two(0), one_of_two(1)
    return (
        RankScorer(left, names(left), metadata={"model": "left"}),
        RankScorer(right, names(right, [True] * N_FEATURES), metadata={"model": "right"}, isa="scalar"),
    )


def test_everything_comes_with_the_model(pair):
    """Scores, network, schema, metadata, instruction set and pickle are the other scorer's after a swap."""
    left, right = pair
    X = documents(50)
    assert not (left.score(X) == right.score(X)).any()
    left.swap(right)
    np.testing.assert_array_equal(left.score(X), right.score(X))
    assert (left.network, left.schema, left.metadata, left.isa) == (
        right.network,
        right.schema,
        {"model": "right"},
        "scalar",
    )
    again = pickle.loads(pickle.dumps(left))  # noqa: S301 - our own bytes
    np.testing.assert_array_equal(again.score(X), right.score(X))
    np.testing.assert_array_equal(left.narrow().score(X[:, left.network.features_read]), right.score(X))


def test_the_rules_for_missing_values_are_the_new_models(pair):
    """A NaN that the old model forbade is scored as the new one allows, and the other way round."""
    left, right = pair
    X = documents(5)
    X[2, 3] = np.nan
    expected = right.score(X)
    old = RankScorer(left.network, left.schema)
    left.swap(right)
    np.testing.assert_array_equal(left.score(X), expected)
    left.swap(old)
    with pytest.raises(MissingValueError, match="row 2"):
        left.score(X)


def test_swaps_do_not_chain(pair):
    """A scorer that gave its model away may take another; the receiver keeps what it was given."""
    left, right = pair
    X = documents(9)
    before, after = left.score(X), right.score(X)
    old = RankScorer(left.network, left.schema)
    left.swap(right)
    right.swap(old)
    np.testing.assert_array_equal(left.score(X), after)
    np.testing.assert_array_equal(right.score(X), before)


@pytest.mark.parametrize(
    ("feature_names", "message"),
    [
        ((*(f"f{i}" for i in range(N_FEATURES - 1)), "g"), "column 23 is 'g' instead of 'f23'"),
        (("f1", "f0", *(f"f{i}" for i in range(2, N_FEATURES))), "column 0 is 'f1' instead of 'f0'"),
    ],
)
def test_other_features_are_refused(pair, feature_names, message):
    """A model of other names, or of the same in another order, is refused, and the old one goes on."""
    left, right = pair
    X = documents(9)
    before = left.score(X)
    with pytest.raises(SchemaError, match=message):
        left.swap(RankScorer(right.network, Schema(feature_names)))
    np.testing.assert_array_equal(left.score(X), before)


def test_another_number_of_features_is_refused(pair):
    """A wider model is refused."""
    wider = make_network(np.random.default_rng(0), N_FEATURES + 1, (3,))
    with pytest.raises(SchemaError, match="25 instead of 24"):
        pair[0].swap(RankScorer(wider, names(wider)))


def test_only_scorers_are_taken(pair):
    """A bare network has no schema to check."""
    with pytest.raises(NetworkError, match="got a Network; expected another RankScorer"):
        pair[0].swap(pair[1].network)


def test_the_old_model_is_freed(pair):
    """Nothing holds the old model once it is replaced."""
    network = one_of_two(0)
    scorer = RankScorer(network, names(network))
    old = weakref.ref(network)
    del network
    assert old() is not None
    scorer.swap(pair[1])
    assert old() is None


def test_no_mixture_equals_either_model():
    """The pair shows what it is there to show: whatever is taken from both models scores between them, everywhere."""
    smaller, larger = one_of_two(0), one_of_two(1)
    X = documents(500)
    lowest, highest = reference_score(smaller, X), reference_score(larger, X)
    mixed = [reference_score(network, X) for network in mixtures(smaller, larger)]
    assert len(mixed) == 2**7 - 2
    for scores in mixed:
        assert (scores > lowest + 1e-4).all()
        assert (scores < highest - 1e-4).all()


@pytest.mark.parametrize("n_threads", [1, 2])
def test_no_call_sees_a_mixture(n_threads):
    """Two threads score 200,000 documents while the model is swapped: each call is all of one model."""
    seen = traffic(200_000, n_threads=n_threads)
    assert seen.mixed == 0
    assert seen.documents >= 200_000
    assert min(seen.first, seen.second, seen.swaps) > 0


@pytest.mark.parametrize("n_threads", [1, 2])
def test_networks_and_trees_swap(n_threads):
    """A network and an ensemble take each other's place in the same way."""
    seen = traffic(100_000, (one_of_two(0), trees()), n_threads=n_threads)
    assert seen.mixed == 0
    assert min(seen.first, seen.second, seen.swaps) > 0


def test_a_network_becomes_trees(pair):
    """The model, its class and its leaves are the new one's; so is what a pickle holds."""
    scorer = pair[0]
    scorer.swap(RankScorer(trees(), names(trees(), [True] * N_FEATURES)))
    assert scorer.leaves(documents(3)).shape == (3, 3)
    with pytest.raises(NetworkError):
        _ = scorer.network
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(scorer)).score(documents(9)), scorer.score(documents(9)))  # noqa: S301 - our own bytes


@pytest.mark.long
@pytest.mark.timeout(600)
def test_no_call_of_ten_million_documents_sees_a_mixture():
    """Two threads score ten million documents while the model is swapped: each call is all of one model."""
    seen = traffic(10_000_000)
    assert seen.mixed == 0
    assert seen.documents >= 10_000_000
    assert min(seen.first, seen.second) > 1000
    assert seen.swaps > 1000
