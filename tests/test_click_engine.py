"""Click models: the native engine against its slow twin, its tables, its swaps, and the file."""

from __future__ import annotations

import itertools
import pickle
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from click_models import SHAPES, Shape, columns_of, make_click, make_events
from int8_networks import dense_int8
from model_files import forge, parts_of
from prunus import _native
from prunus.data.events import EventSchema
from prunus.engine import click_codec, click_file, click_reference
from prunus.engine.click import ClickModel, IdEmbeddings, plain_slots
from prunus.engine.event_scorer import EventScorer
from prunus.engine.loading import load
from prunus.engine.network import Activation, BlockInt8, Dense, InputStage, Network, Sparse
from prunus.errors import DataError, InfiniteValueError, ModelFileError, NetworkError, SchemaError

BATCHES = (1, 2, 3, 4, 5, 8, 9, 16, 17, 24, 25, 33, 63, 64, 65, 127, 128, 129, 300)


def tolerance(scores):
    """What two computations of the same scores may differ by."""
    return 1e-4 * np.maximum(1, np.abs(scores))


class TestScores:
    """The engine does what the twin says."""

    @pytest.mark.parametrize("name", SHAPES)
    def test_engine_is_the_twins(self, name):
        """Every shape, instruction set and batch size; threads change no bit, and neither does the batch."""
        rng = np.random.default_rng(3)
        model = make_click(rng, SHAPES[name])
        ids, dense = make_events(rng, model, max(BATCHES))
        expected = click_reference.score(model, ids, dense)
        assert np.ptp(expected) > 0.1
        for isa in _native.isas():
            scorer = EventScorer(model, columns_of(model), isa=isa)
            for n in BATCHES:
                found = scorer.score(ids[:n], dense[:n])
                assert (np.abs(found - expected[:n]) <= tolerance(expected[:n])).all(), (isa, n)
            whole = scorer.score(ids, dense)
            np.testing.assert_array_equal(scorer.score(ids, dense, n_threads=3), whole)

    def test_int8_networks(self):
        """Dense and block int8 layers above and below, within a step of rounding of the twin."""
        rng = np.random.default_rng(0)
        model = make_click(rng, Shape(6, (20, 7), dim=8, bottom=(12, 8), top=(16, 8)))
        n_inputs = model.n_inputs
        block = BlockInt8.from_dense(dense_int8(rng, 16, 8, density=0.5, scale=40.0))
        last = Dense(rng.normal(size=(1, 8)), np.zeros(1), Activation.IDENTITY)
        layers = (dense_int8(rng, n_inputs, 16, scale=20.0, zero=120.0), block, last)
        below = (dense_int8(rng, 6, 12, scale=20.0, zero=120.0), Dense(rng.normal(size=(8, 12)) / 4, np.zeros(8), Activation.RELU))  # fmt: skip
        model = replace(
            model,
            bottom=Network(6, model.bottom.inputs, below, n_outputs=8),
            top=Network(n_inputs, plain_slots(0, n_inputs), layers),
        )
        ids, dense = make_events(rng, model, 200)
        expected = click_reference.score(model, ids, dense)
        for isa in _native.isas():
            found = EventScorer(model, columns_of(model), isa=isa).score(ids, dense)
            near = np.abs(found - expected) <= tolerance(expected)
            assert near.mean() > 0.9, isa  # a value near a half step may round to the other side
            assert np.abs(found - expected).max() < 0.2, isa
        content = click_file.to_bytes(model, columns_of(model))
        np.testing.assert_array_equal(
            click_file.scorer_from_bytes(content, "m").score(ids, dense),
            EventScorer(model, columns_of(model)).score(ids, dense),
        )

    def test_probabilities(self):
        """1 / (1 + exp(-score)), without a warning where that overflows."""
        rng = np.random.default_rng(0)
        model = make_click(rng, SHAPES["two ids"])
        last = model.top.layers[-1]
        far = replace(
            model, top=replace(model.top, layers=(*model.top.layers[:-1], replace(last, bias=last.bias - 200)))
        )
        ids, dense = make_events(rng, model, 50)
        scorer = EventScorer(model, columns_of(model))
        expected = 1 / (1 + np.exp(-scorer.score(ids, dense).astype(np.float64)))
        np.testing.assert_allclose(scorer.probability(ids, dense), expected, rtol=1e-5)
        assert (EventScorer(far, columns_of(far)).probability(ids, dense) == 0).all()

    @settings(max_examples=50)
    @given(
        keys=st.lists(st.integers(1, 2**64 - 1) | st.integers(1, 300) | st.integers(2**63, 2**63 + 300), unique=True),
        others=st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 301), min_size=1),
    )
    def test_each_id_finds_its_row(self, keys, others):
        """Whatever the keys are, each finds its own row, and everything else the unknown one."""
        keys = np.array(sorted(keys), np.uint64)
        rows = np.arange(len(keys) + 1, dtype=np.float32)[:, None]
        layer = Dense(np.ones((1, 1)), np.zeros(1), Activation.IDENTITY)
        model = ClickModel(0, (IdEmbeddings(keys, rows),), None, True, Network(1, plain_slots(0, 1), (layer,)))
        scorer = EventScorer(model, columns_of(model))
        asked = np.array([*keys.tolist(), *others], np.uint64)
        place = {key: number + 1 for number, key in enumerate(keys.tolist())}
        expected = [place.get(key, 0) for key in asked.tolist()]
        found = scorer.score(asked[:, None], np.empty((len(asked), 0), np.float32))
        assert found.tolist() == expected
        assert model.tables[0].find(asked).tolist() == expected


class TestCalls:
    """What a call takes and refuses."""

    @pytest.fixture
    def scorer(self):
        """A scorer of six features and two ids."""
        model = make_click(np.random.default_rng(3), replace_density(SHAPES["two ids"]))
        return EventScorer(model, columns_of(model))

    def test_what_can_be_converted_is(self, scorer):
        """Lists, other integers and float64 score as the arrays that they stand for; ``out`` is written and returned."""
        ids, dense = make_events(np.random.default_rng(1), scorer.model, 9)
        expected = scorer.score(ids, dense)
        out = np.empty(9, np.float32)
        assert scorer.score(ids, dense, out=out) is out
        np.testing.assert_array_equal(out, expected)
        np.testing.assert_array_equal(scorer.score(ids.tolist(), dense.tolist()), expected)
        np.testing.assert_array_equal(scorer.score(np.asfortranarray(ids), dense.astype(np.float64)), expected)
        np.testing.assert_array_equal(scorer.score(ids.view(np.int64), dense), expected)
        assert scorer.score(ids[:0], dense[:0]).shape == (0,)

    def test_what_cannot_be_converted_is_named(self, scorer):
        """Each with what was got and what was expected."""
        ids, dense = make_events(np.random.default_rng(1), scorer.model, 9, missing=0)
        for wrong, error in (
            ((ids[:, :1], dense), SchemaError),
            ((ids, dense[:, 1:]), SchemaError),
            ((ids, dense[:4]), SchemaError),
            ((ids[0], dense[0]), SchemaError),
            ((3, 4.5), SchemaError),
            ((ids, dense[0]), SchemaError),
            ((None, dense), DataError),
            ((ids.astype(np.float64), dense), DataError),
            ((ids.astype(str), dense), DataError),
            ((ids, dense.astype(str)), DataError),
        ):
            with pytest.raises(error, match="expected"):
                scorer.score(*wrong)
        for options in ({"out": np.empty(8, np.float32)}, {"out": np.empty(9)}, {"n_threads": 0}):
            with pytest.raises(DataError, match="expected"):
                scorer.score(ids, dense, **options)
        dense[3, 2] = -np.inf
        with pytest.raises(InfiniteValueError, match="'x2' is -inf at event 3"):
            scorer.score(ids, dense)

    def test_models_that_do_not_fit_are_refused(self, scorer):
        """Tables out of order, networks of other widths, schemas of other columns."""
        model = scorer.model
        table = model.tables[0]
        for keys, rows in (
            (table.keys[::-1], table.rows),
            (table.keys, table.rows[1:]),
            (table.keys * 0, table.rows),
            (table.keys, table.rows * np.nan),
        ):
            with pytest.raises(NetworkError, match=r"expected|must|hold"):
                IdEmbeddings(keys, rows)
        for change in (
            {"tables": model.tables[:1]},
            {"n_dense": 5},
            {"interactions": False},
            {"bottom": model.top},
            {"tables": (table, IdEmbeddings(table.keys, table.rows[:, 1:]))},
        ):
            with pytest.raises(NetworkError, match="expected"):
                replace(model, **change)
        with pytest.raises(SchemaError, match="1 id fields"):
            EventScorer(model, replace(scorer.schema, id_fields=("a",)))

    def test_overflowing_products_are_named(self, scorer):
        """Embeddings whose product is no float32 give an error, not a score."""
        tables = tuple(IdEmbeddings(table.keys, table.rows * 1e20 + 1e20) for table in scorer.model.tables)
        huge = EventScorer(replace(scorer.model, tables=tables), scorer.schema)
        with pytest.raises(NetworkError, match="products of embeddings"):
            huge.score(*make_events(np.random.default_rng(1), huge.model, 9))


def known_model():
    """Make a click model without a random number, and its schema."""
    dim = 4
    keys = (np.arange(1, 8, dtype=np.uint64) << np.uint64(60)) // np.uint64(3)
    tables = tuple(IdEmbeddings(keys[:n], (np.arange((n + 1) * dim).reshape(n + 1, dim) % 7 - 3) / 8) for n in (7, 3))
    stage = InputStage([0, 1, 1], [1, 0, 2], [0.5, 1, 0], [2, 0.25, 1], [-5] * 3, [5] * 3, [0.125, 0, 0])
    below = (np.arange(3 * dim).reshape(dim, 3) % 5 - 2) / 4
    first = (np.arange(6 * 15).reshape(6, 15) % 11 - 5) / 8
    first[np.arange(90).reshape(6, 15) % 3 > 0] = 0
    last = np.array([[1, -1, 0.5, 2, -0.25, 1]])
    bottom = Network(2, stage, (Dense(below, np.full(dim, 0.25), Activation.RELU),), n_outputs=dim)
    layers = (Sparse.from_dense(first.astype(np.float32), np.zeros(6), Activation.RELU), Dense(last, [0.5], Activation.IDENTITY))  # fmt: skip
    model = ClickModel(2, tables, bottom, interactions=True, top=Network(15, plain_slots(0, 15), layers))
    return model, EventSchema(("item", "user"), ("age", "price"), "clicks>0", ("day", "second"), ("user", "second"))


def replace_density(shape):
    """Let every feature be read."""
    return shape._replace(density=1.0)


class TestSwap:
    """A call sees one whole model."""

    def pair(self):
        """Two models of the same columns that share no id's row, no pattern and no score; the second lies far above."""
        rng = np.random.default_rng(5)
        shape = Shape(6, (40, 30), dim=8, top=(24, 16))
        models = []
        for shift in (-500, 500):
            model = make_click(rng, shape)
            last = model.top.layers[-1]
            last = replace(last, bias=last.bias + np.float32(shift))
            models.append(replace(model, top=replace(model.top, layers=(*model.top.layers[:-1], last))))
        return [EventScorer(model, columns_of(models[0]), metadata={"which": n}) for n, model in enumerate(models)]

    def test_everything_comes_with_the_model(self):
        """Scores, model, metadata and pickle are the other's; other columns are refused."""
        left, right = self.pair()
        events = make_events(np.random.default_rng(0), left.model, 50)
        assert not (left.score(*events) == right.score(*events)).any()
        before = left.score(*events)
        with pytest.raises(SchemaError, match="nothing was replaced"):
            left.swap(EventScorer(right.model, replace(right.schema, dense=tuple("abcdef"))))
        with pytest.raises(NetworkError, match="expected another EventScorer"):
            left.swap(right.model)
        np.testing.assert_array_equal(left.score(*events), before)
        left.swap(right)
        np.testing.assert_array_equal(left.score(*events), right.score(*events))
        again = pickle.loads(pickle.dumps(left))  # noqa: S301 - our own bytes
        np.testing.assert_array_equal(again.score(*events), right.score(*events))
        assert (again.metadata, again.schema) == ({"which": 1}, right.schema)

    def test_no_call_sees_a_mixture(self):
        """While a thread swaps 1,000 times, every call of another one is all of one model."""
        ready = self.pair()
        scorer = EventScorer(ready[0].model, ready[0].schema)
        ids, dense = make_events(np.random.default_rng(0), scorer.model, 300)
        expected = [one.score(ids, dense) for one in ready]
        seen, stop = [0, 0, 0], threading.Event()

        def score():
            for n in itertools.cycle((1, 20, 128, 300)):
                if stop.is_set() and min(seen[:2]) > 0:
                    return
                found = scorer.score(ids[:n], dense[:n])
                whole = [bool((found == one[:n]).all()) for one in expected]
                seen[whole.index(True) if any(whole) else 2] += 1

        thread = threading.Thread(target=score)
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)  # threads take turns between any two steps of a call, not every 5 ms only
        try:
            thread.start()
            for number in range(1000):
                new = ready[number % 2]
                # Every tenth is packed anew, so that building one and freeing one happen among the calls too.
                scorer.swap(new if number % 10 else EventScorer(new.model, new.schema))
            while min(seen[:2]) == 0:
                scorer.swap(ready[seen[0] > 0])
        finally:
            stop.set()
            thread.join()
            sys.setswitchinterval(interval)
        assert seen[2] == 0


class TestFile:
    """What is written comes back, and nothing else is taken."""

    @pytest.mark.parametrize("name", SHAPES)
    def test_a_file_gives_back_the_model(self, tmp_path, name):
        """Scores bit by bit, schema and metadata; equal input gives equal bytes; the file is of one kind."""
        rng = np.random.default_rng(4)
        model = make_click(rng, SHAPES[name])
        schema = replace(columns_of(model), key=("k",), where="t>3", time=("a", "b"))
        scorer = EventScorer(model, schema, metadata={"window": 3})
        scorer.save(tmp_path / "m.prunus")
        again = load(tmp_path / "m.prunus")
        assert isinstance(again, EventScorer)
        assert (again.schema, again.metadata) == (schema, {"window": 3})
        events = make_events(rng, model, 40)
        np.testing.assert_array_equal(again.score(*events), scorer.score(*events))
        content = (tmp_path / "m.prunus").read_bytes()
        assert click_file.to_bytes(again.model, schema, metadata={"window": 3}) == content

    def test_a_file_of_an_earlier_build_still_loads(self):
        """A file that is kept beside the tests (written by save once) loads for as long as its version is read."""
        scorer = load(Path(__file__).parent / "golden" / "click-v2.prunus")
        model, schema = known_model()
        assert (scorer.schema, scorer.metadata) == (schema, {"teacher": "none"})
        for old, new in zip(scorer.model.tables, model.tables, strict=True):
            np.testing.assert_array_equal(old.keys, new.keys)
            np.testing.assert_array_equal(old.rows, new.rows)
        events = make_events(np.random.default_rng(0), model, 100)
        np.testing.assert_array_equal(scorer.score(*events), EventScorer(model, schema).score(*events))

    def test_check_events_meet_known_and_unknown_ids(self):
        """Each table is asked for rows of its own and for the unknown one."""
        model = make_click(np.random.default_rng(4), SHAPES["two ids"])
        rows = np.stack(
            [table.find(click_codec.check_ids(model)[:, field]) for field, table in enumerate(model.tables)]
        )
        assert (rows > 0).any(axis=1).all()
        dense = click_codec.check_dense(model)
        assert np.isnan(dense[-1]).any()
        assert np.isfinite(dense[:-1]).all()

    def test_forged_files_are_refused(self):
        """A right checksum over wrong contents: each is a named error."""
        model = make_click(np.random.default_rng(4), SHAPES["bottom"])
        content = click_file.to_bytes(model, columns_of(model))
        tensors, header = parts_of(content)
        entry, schema = header["click"], header["schema"]
        keys, rows = tensors["table.0.keys"], tensors["table.0.rows"]
        forged_tensors = (
            {"table.0.keys": keys[::-1].copy()},
            {"table.0.keys": keys.astype(np.int64)},
            {"table.0.keys": keys[1:]},
            {"table.0.rows": rows[1:]},
            {"table.0.rows": rows[:, 1:].copy()},
            {"table.0.rows": rows[0]},
            {"table.0.rows": rows * np.float32(np.nan)},
            {"table.0.rows": rows * np.float32(1e30)},
            {"table.0.rows": None},
            {"table.9.rows": rows},
            {"check.scores": tensors["check.scores"] + 1},
            {"check.scores": tensors["check.scores"][:3]},
            {"check.dense": tensors["check.dense"][:, 1:].copy()},
            {"bottom.layer.0.bias": tensors["bottom.layer.0.bias"][1:]},
            {"top.inputs.feature": tensors["top.inputs.feature"] + 1},
        )
        forged_headers = (
            {"click": None},
            {"click": []},
            {"click": entry | {"n_dense": -1}},
            {"click": entry | {"n_dense": 7}},
            {"click": entry | {"n_dense": 6.0}},
            {"click": entry | {"n_features": 10**9}},
            {"click": entry | {"tables": [20] * 300}},
            {"click": entry | {"tables": 3}},
            {"click": entry | {"interactions": 1}},
            {"click": entry | {"interactions": False}},
            {"click": entry | {"bottom": None}},
            {"click": entry | {"top": []}},
            {"click": entry | {"more": 1}},
            {"schema": None},
            {"schema": schema | {"id_fields": ["a"]}},
            {"schema": schema | {"id_fields": "abc"}},
            {"schema": schema | {"dense": [1, 2]}},
            {"schema": schema | {"label": None}},
            {"schema": schema | {"more": ["x"]}},
            {"kind": "ranker"},
            {"kind": "recommender"},
        )
        for change in forged_tensors:
            with pytest.raises(ModelFileError):
                load_content(forge(content, tensors=change))
        for change in forged_headers:
            with pytest.raises(ModelFileError):
                load_content(forge(content, header=change))
        assert load_content(forge(content)).model.n_ids == 3


def load_content(content):
    """Load bytes as whatever kind they say they are."""
    from prunus.engine import file, recommender_file
    from prunus.engine.header import checked_header

    kind = checked_header(content, "m")["kind"]
    readers = {"click": click_file, "recommender": recommender_file}
    return readers.get(kind, file).scorer_from_bytes(content, "m")
