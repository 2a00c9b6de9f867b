"""Learners of sparse models: laws that all of them keep, and what each does on its own."""

from __future__ import annotations

import copy
import dataclasses
import time
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pytest
import torch

from prunus.errors import CheckpointError
from prunus.online.dense_to_sparse import default
from prunus.online.dense_to_sparse.contest import Contest
from prunus.online.dense_to_sparse.cotrain import Cotrained, CotrainSettings
from prunus.online.dense_to_sparse.emission import Cut, EmissionSettings, Emitting
from prunus.online.dense_to_sparse.leader import Leader
from prunus.online.dense_to_sparse.learned import Learned
from prunus.online.dense_to_sparse.patterns import budget, by_layer, evenly, largest
from prunus.online.dense_to_sparse.rules import Fixed, Regrowth, StraightThrough, Whole
from prunus.online.dense_to_sparse.single import Again, Beside, Single
from prunus.online.dense_to_sparse.trainee import Rates, Trainee, log_loss
from prunus.online.learner import Prepared
from prunus.online.replay import Replay
from prunus.student.ctr import ClickNet, ClickShape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prunus.online.learner import Learner

SHAPE = ClickShape(5, (7, 4), dim=3, top=(16, 12, 8))
RATES = Rates(dense=5e-3, rows=1e-2, averages=(0.9,))
DENSITY = 0.25
N_KEPT = int(DENSITY * sum(a * b for a, b in SHAPE.matrices))
NARROW = ClickShape(5, (7, 4), dim=3, top=(6, 4, 4))

LEARNERS: dict[str, Callable[[], Learner]] = {
    "co-trained": lambda: Cotrained(SHAPE, RATES, CotrainSettings(DENSITY, ramp=6, every=2), seed=3),
    "narrow": lambda: Single("narrow", NARROW, RATES, Whole(), seed=3),
    "fixed": lambda: Single("fixed", SHAPE, RATES, Fixed(every=2, n_kept=N_KEPT, ramp=6), seed=3),
    "RigL": lambda: Single("RigL", SHAPE, RATES, Regrowth(every=3, n_kept=N_KEPT), seed=3),
    "SET": lambda: Single("SET", SHAPE, RATES, Regrowth(every=3, n_kept=N_KEPT, by_gradient=False), seed=3),
    "straight-through": lambda: Single(
        "straight-through",
        SHAPE,
        Rates(0.03, averages=(0.5, 0.9), rule="soap"),
        StraightThrough(every=2, n_kept=N_KEPT, ramp=6),
        seed=3,
        again=Again(2, 64),
    ),
    **{
        f"emitted, {cut}": lambda cut=cut: Emitting(  # type: ignore[misc]
            SHAPE, RATES, EmissionSettings(DENSITY, cut, every=8, sample=2), seed=3
        )
        for cut in get_args(Cut)
    },
    "learned": lambda: Single("learned", SHAPE, RATES, Learned(N_KEPT, ramp=6), seed=3),
    "contest": lambda: Contest(
        "contest",
        [
            Single(
                "straight-through",
                SHAPE,
                Rates(0.03, averages=(0.5, 0.9), rule="soap"),
                StraightThrough(every=2, n_kept=N_KEPT, ramp=6),
                seed=3,
                again=again,
            )
            for again in (Again(0), Again(1, 64))
        ],
        trusts=(0.5, 0.0),
    ),
    "beside": lambda: Beside(
        Single("RigL", SHAPE, RATES, Regrowth(every=3, n_kept=N_KEPT), seed=3),
        Single("dense", SHAPE, RATES, Whole(), seed=4),
    ),
}
"""One of each kind, at the same budget."""


def batches(n: int, size: int = 32, seed: int = 0) -> list[Prepared]:
    """Draw a stream whose clicks depend on one input and one id; row 3 of the first id goes to a new id in batch 5."""
    generator = torch.Generator().manual_seed(seed)
    stream = []
    for number in range(n):
        z = torch.randn(size, SHAPE.n_dense, generator=generator)
        columns = [torch.randint(0, rows, (size,), generator=generator) for rows in SHAPE.rows]
        click = torch.sigmoid(2 * z[:, 0] + columns[0] - 3)
        label = (torch.rand(size, generator=generator) < click).float()
        fresh = (torch.tensor([3] if number == 5 else [], dtype=torch.int64), torch.tensor([], dtype=torch.int64))
        stream.append(Prepared(z, torch.stack(columns, 1), label, torch.zeros(size), fresh))
    return stream


def follow(learner: Learner, stream: list[Prepared]) -> list[torch.Tensor]:
    """Test, then train; give the sparse model's logits."""
    logits = []
    for batch in stream:
        logits.append(learner.predict(batch).sparse.clone())
        learner.learn(batch)
    return logits


@pytest.mark.parametrize("kind", LEARNERS)
class TestLearners:
    """Laws of every learner."""

    def test_keeps_to_its_budget(self, kind: str) -> None:
        """After the ramp the sparse model does no more operations than its share of the dense net's hidden layers."""
        learner = LEARNERS[kind]()
        follow(learner, batches(12))
        dense = 2 * sum(a * b for a, b in SHAPE.matrices)
        last = 2 * SHAPE.top[-1]
        assert learner.flops_per_event.serve <= (DENSITY * dense + last) * (1 + 1e-6)  # densities are float32
        assert learner.flops_per_event.train >= learner.flops_per_event.serve

    def test_learns(self, kind: str) -> None:
        """Its loss on a stream that can be learned falls below that of the share of clicks."""
        learner, stream = LEARNERS[kind](), batches(160)
        logits = follow(learner, stream)
        loss = np.mean([float(log_loss(a, b)) for a, b in zip(logits[-40:], stream[-40:], strict=True)])
        share = float(torch.stack([b.label for b in stream]).mean())
        assert loss < 0.85 * -(share * np.log(share) + (1 - share) * np.log(1 - share))

    def test_serves_what_it_predicts(self, kind: str) -> None:
        """The net that it gives away scores as it does itself, and is zero where its masks are."""
        learner, stream = LEARNERS[kind](), batches(13)
        follow(learner, stream[:-1])
        batch = stream[-1]
        expected = learner.predict(batch).sparse
        net = learner.net()
        with torch.no_grad():
            torch.testing.assert_close(net(batch.z, batch.rows), expected, rtol=1e-5, atol=1e-6)
        for weight, mask in zip(net.hidden, learner.masks(), strict=True):
            assert not weight.detach().numpy()[~mask.kept].any()
        assert all(not parameter.requires_grad or parameter.grad is None for parameter in net.parameters())

    def test_never_looks_ahead(self, kind: str) -> None:
        """What it predicts does not depend on the labels of the batch."""
        stream = batches(8)
        flipped = [*stream[:-1], Prepared(stream[-1].z, stream[-1].rows, 1 - stream[-1].label, stream[-1].offset)]
        ours, theirs = follow(LEARNERS[kind](), stream), follow(LEARNERS[kind](), flipped)
        assert torch.equal(ours[-1], theirs[-1])

    def test_passes_over_what_is_no_number(self, kind: str) -> None:
        """A batch whose loss is no number, the first one also, is said not to be learned from; all that is predicted is finite."""
        learner, stream = LEARNERS[kind](), batches(14)
        for number, batch in enumerate(stream):
            label = torch.full_like(batch.label, torch.nan) if number in (0, 7) else batch.label
            assert learner.predict(batch).sparse.isfinite().all()
            assert learner.learn(dataclasses.replace(batch, label=label)) is (number not in (0, 7))
        assert learner.net()(stream[0].z, stream[0].rows).isfinite().all()

    def test_goes_on_from_a_state(self, kind: str) -> None:
        """A learner that loaded a state, and one that never stopped, end with the same bits."""
        stream = batches(15)
        whole, first, second = (LEARNERS[kind]() for _ in range(3))
        expected = follow(whole, stream)
        follow(first, stream[:7])
        state = first.state()
        kept = copy.deepcopy(state)
        follow(first, stream[7:9])  # what a state holds does not change with the learner that gave it
        assert str(kept) == str(state)
        second.load(state)
        found = follow(second, stream[7:])
        assert all(torch.equal(a, b) for a, b in zip(found, expected[7:], strict=True))
        assert second.masks() == whole.masks()

    def test_takes_a_new_pattern_between_batches(self, kind: str) -> None:
        """As the loop asks for one, also of a learner that has loaded a state; it learns on, to the same bits."""
        one, other, stream = LEARNERS[kind](), LEARNERS[kind](), batches(12)
        follow(one, stream[:5])
        other.load(one.state())
        for learner in (one, other):
            learner.repattern()
        assert all(torch.equal(a, b) for a, b in zip(follow(one, stream[5:]), follow(other, stream[5:]), strict=True))
        one.repattern()
        assert all(torch.isfinite(logits).all() for logits in follow(one, stream[:2]))

    def test_refuses_another_method(self, kind: str) -> None:
        """A state of another method is refused by name."""
        with pytest.raises(CheckpointError, match=r"'another'.*begin a new run"):
            LEARNERS[kind]().load({**LEARNERS[kind]().state(), "name": "another"})

    def test_forgets_rows_of_other_ids(self, kind: str) -> None:
        """A row given to a new id scores as the unknown id until it has learned."""
        learner = LEARNERS[kind]()
        follow(learner, batches(5))
        batch = batches(6)[5]
        rows = batch.rows.clone()
        rows[:, 0] = 3
        as_new = learner.predict(Prepared(batch.z, rows, batch.label, batch.offset, batch.fresh)).sparse
        rows = rows.clone()
        rows[:, 0] = 0
        assert torch.equal(as_new, learner.predict(Prepared(batch.z, rows, batch.label, batch.offset)).sparse)


def leaves(state: Any) -> Iterator[Any]:
    """Tensors and plain values of a state, one after another."""
    if isinstance(state, dict | list | tuple):
        for part in state.values() if isinstance(state, dict) else state:
            yield from leaves(part)
    else:
        yield state


@pytest.mark.parametrize("resumed", [False, True])
def test_two_threads_give_the_bits_of_one(resumed: bool) -> None:
    """A master in a thread of its own, from the start or from a state of one thread: the same predictions and state."""

    def make(at_once: bool) -> Beside:
        sparse, master = LEARNERS["straight-through"](), Single("dense", SHAPE, RATES, Whole(), seed=4)
        return Beside(sparse, master, at_once=at_once)

    stream = batches(60, size=64)
    one, two = make(at_once=False), make(at_once=True)
    if resumed:
        follow(one, stream[:20])
        two.load(one.state())
        stream = stream[20:]
    for batch in stream:
        said, also = one.predict(batch), two.predict(batch)
        assert torch.equal(said.sparse, also.sparse)
        assert torch.equal(said.dense, also.dense)  # type: ignore[arg-type]
        one.learn(batch)
        two.learn(batch)
    ends = [list(leaves(learner.state())) for learner in (one, two)]
    assert len(ends[0]) == len(ends[1]) > 50
    assert all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in zip(*ends, strict=True))


@pytest.mark.parametrize("fails", ["sparse", "master"])
def test_a_failure_in_either_thread_is_raised(fails: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of either learner reaches the caller, who finds the other one at rest."""
    sparse, master = LEARNERS["straight-through"](), Single("dense", SHAPE, RATES, Whole(), seed=4)
    learner = Beside(sparse, master, at_once=True)
    other, ended = (master, []) if fails == "sparse" else (sparse, [])
    batch, learn = batches(1)[0], other.learn
    learner.predict(batch)

    def fail(batch: Prepared) -> None:
        raise RuntimeError(fails)

    def slow(batch: Prepared) -> None:
        time.sleep(0.05)
        learn(batch)
        ended.append(True)

    monkeypatch.setattr(sparse if fails == "sparse" else master, "learn", fail)
    monkeypatch.setattr(other, "learn", slow)
    with pytest.raises(RuntimeError, match=fails):
        learner.learn(batch)
    assert ended


def test_refuses_another_shape() -> None:
    """A state of a net of another shape is refused, both shapes named."""
    state = Cotrained(ClickShape(6, (7, 4), dim=3), RATES, CotrainSettings(), seed=0).state()
    with pytest.raises(CheckpointError, match="begin a new run"):
        LEARNERS["co-trained"]().load(state)


class TestAgain:
    """Learning from the past once more."""

    @pytest.mark.parametrize(("every", "steps"), [(1, 80), (2, 60), (3, 53)])
    def test_learns_no_row_twice(self, every: int, steps: int) -> None:
        """More steps for the layers; each row takes as many as there were batches with its id."""
        once, twice = (Single("again", NARROW, RATES, Whole(), seed=0, again=Again(one, 256)) for one in (0, every))
        stream = batches(40)
        for learner in (once, twice):
            follow(learner, stream)
        assert (once.state()["steps"], twice.state()["steps"]) == (40, steps)
        counts = [learner.state()["trainee"]["optimiser"]["rows"]["steps"] for learner in (once, twice)]
        assert torch.equal(*counts)
        assert counts[0].max() > 30

    def test_shows_no_embedding_that_knows_the_label(self) -> None:
        """What the replay holds of an event does not depend on the event's label, and is what it was scored with."""
        stream = batches(9)
        flipped = [*stream[:-1], dataclasses.replace(stream[-1], label=1 - stream[-1].label)]
        held = []
        for events in (stream, flipped):
            learner = Single("again", NARROW, RATES, Whole(), seed=0, again=Again(1, 512))
            follow(learner, events[:-1])
            learner.predict(events[-1])
            seen = learner.net().embed(events[-1].rows).detach()
            learner.learn(events[-1])
            held.append(learner.state()["replay"]["columns"]["vectors"][-32:])
            torch.testing.assert_close(held[-1].float(), seen, rtol=1e-3, atol=1e-4)
        assert torch.equal(*held)

    def test_does_not_come_to_trust_rare_ids(self) -> None:
        """Ids that say nothing, each seen twice: a second look at their events does no harm."""
        shape, rates = ClickShape(5, (2048,), dim=8, top=(16, 8)), Rates(dense=5e-3, rows=0.1)
        generator = torch.Generator().manual_seed(5)
        stream = [
            dataclasses.replace(batch, rows=torch.randint(0, 2048, (64, 1), generator=generator), fresh=())
            for batch in batches(60, size=64)
        ]
        loss = []
        for every in (0, 1):
            learner = Single("again", shape, rates, Whole(), seed=0, again=Again(every, 4096, trust=0.0))
            logits = follow(learner, stream)
            loss.append(np.mean([float(log_loss(a, b)) for a, b in zip(logits[20:], stream[20:], strict=True)]))
        assert loss[1] < loss[0]


class TestReplay:
    """Events once more."""

    def test_mixes_labels_with_what_was_thought(self) -> None:
        """(1 - trust) y + trust p, p with the offset that the sampling of negatives brought."""
        batch = dataclasses.replace(batches(1)[0], offset=torch.linspace(-1, 1, 32))
        said = torch.linspace(-3, 3, 32)
        replay = Replay(32, trust=0.25, seed=0)
        replay.add(batch, torch.zeros(32, 2, 3), said)
        p = 1 / (1 + np.exp(-(said + batch.offset).double().numpy()))
        held = replay.state()["columns"]["label"]
        np.testing.assert_allclose(held, 0.75 * batch.label.numpy() + 0.25 * p, rtol=1e-5)

    def test_draws_what_was_added_lately(self) -> None:
        """Every event of the last ``capacity`` ones is drawn, none of the others, each with its own embeddings."""
        replay, stream = Replay(80, seed=0), batches(5)  # the third batch begins the ring anew in its middle
        net = ClickNet(SHAPE, seed=0)
        for batch in stream:
            replay.add(batch, net.embed(batch.rows).detach(), torch.zeros(len(batch)))
        drawn = replay.draw(2000)
        events = {
            tuple(z.tolist()): (vectors, float(y))
            for first, b in zip((16, 0, 0), stream[2:], strict=True)
            for z, vectors, y in zip(b.z[first:], net.embed(b.rows[first:]).detach(), b.label[first:], strict=True)
        }
        assert {tuple(z.tolist()) for z in drawn.z} == set(events)
        for z, vectors, label in zip(drawn.z, drawn.vectors, drawn.label, strict=True):
            torch.testing.assert_close(vectors, events[tuple(z.tolist())][0], rtol=1e-3, atol=1e-4)
            assert events[tuple(z.tolist())][1] == float(label)


class TestPatterns:
    """Which weights are kept."""

    @pytest.mark.parametrize("density", [0.05, 0.3, 1.0])
    def test_keeps_exactly_the_budget(self, density: float) -> None:
        """As many weights as there should be, the largest ones, at least one in a layer."""
        net = ClickNet(SHAPE, seed=1)
        scores = by_layer(net.hidden)
        scores[1] *= 1e-6
        n_kept = budget(net, density)
        masks = largest(scores, n_kept)
        assert sum(int(mask.sum()) for mask in masks) == n_kept
        assert all(mask.any() for mask in masks)
        flat = torch.cat([score.flatten() for score in scores])
        kept = torch.cat([mask.flatten() for mask in masks]) > 0
        assert (flat[kept].sort().values[1:] >= flat[~kept].max()).all() if n_kept < len(flat) else kept.all()

    def test_breaks_ties_by_place(self) -> None:
        """Equal scores: the first places win."""
        first, second = largest([torch.ones(2, 3), torch.ones(1, 3)], 4)
        assert first.flatten().tolist() == [1, 1, 1, 0, 0, 0]
        assert second.flatten().tolist() == [1, 0, 0]

    def test_divides_by_sides(self) -> None:
        """A layer small enough is kept whole; the others share the rest by the sum of their sides."""
        shapes = [(100, 50), (40, 100), (2, 3)]
        counts = evenly(shapes, 1000)
        assert counts[2] == 6
        assert counts[0] / 150 == pytest.approx(counts[1] / 140, rel=0.01)
        assert 998 <= sum(counts) <= 1000


class TestLeader:
    """The model that did best of late speaks."""

    def test_is_the_least_discounted_loss(self) -> None:
        """By the sum that the recursion stands for; of equal ones the first leads."""
        losses = np.random.default_rng(0).random((60, 3)).astype(np.float32)
        memory = 0.9
        leader, chosen, expected = Leader(3, memory), [], []
        for t, row in enumerate(losses):
            leader.judge([torch.tensor(float(x)) for x in row])
            chosen.append(leader.best)
            discounted = [(1 - memory) * memory ** (t - s) for s in range(t + 1)]
            expected.append(int(np.argmin(discounted @ losses[: t + 1])))
        assert chosen == expected
        assert len(set(chosen)) > 1
        leader = Leader(2, 0.9)
        leader.judge([torch.tensor(1.0), torch.tensor(1.0)])
        assert leader.best == 0

    def test_one_batch_does_not_make_a_model_unsound(self) -> None:
        """In a batch without clicks a loss can be many times another by chance; for long it cannot."""
        leader = Leader(2, 0.95)
        few_clicks = torch.tensor([0.1, 0.12]), torch.tensor([0.001, 0.01])
        for number in range(60):
            leader.judge(few_clicks[number % 20 == 10])
            assert leader.sound(4.0) == [True, True]
        for _ in range(60):
            leader.judge(torch.tensor([0.1, 5.0]))
        assert leader.sound(4.0) == [True, False]

    def test_a_loss_that_is_no_number_is_the_worst(self) -> None:
        """Where no model has one nothing is learned; where one has none it does not lead, and one that is huge is forgotten."""
        leader = Leader(2, 0.5)
        leader.judge([torch.tensor(0.5), torch.tensor(1.0)])
        before = leader.state()
        leader.judge([torch.tensor(float("nan")), torch.tensor(float("inf"))])
        assert torch.equal(leader.state()["losses"], before["losses"])
        assert leader.best == 0
        leader.judge([torch.tensor(float("nan")), torch.tensor(1.0)])
        assert leader.best == 1
        leader.judge([torch.tensor(0.5), torch.tensor(1e30)])
        for _ in range(8):
            leader.judge([torch.tensor(2.0), torch.tensor(1.0)])
        assert leader.best == 1

    def test_short_averages_lead_after_a_change_and_long_ones_where_nothing_changes(self) -> None:
        """A stream whose first input changes its sign: before it the long average is heard most, right after it the short one."""
        rates = Rates(0.05, averages=(0.5, 0.98))
        learner = Single("two averages", SHAPE, rates, Whole(), seed=0)
        heard = []
        for number, batch in enumerate(batches(240)):
            turned = batch if number < 200 else dataclasses.replace(batch, label=1 - batch.label)
            learner.predict(turned)
            learner.learn(turned)
            heard.append(learner.state()["trainee"]["leader"]["best"])
        assert np.mean(heard[100:200]) > 0.8
        assert np.mean(heard[205:215]) < 0.2


@pytest.mark.parametrize("memories", [(0.5, 0.98), (0.5, 0.9, 0.98), (0.98,)])
def test_steps_are_small_while_long_averages_lead(memories: tuple[float, ...]) -> None:
    """Rates by the formula, from which average led: small where nothing changes, large again after a change; one average: as given.

    A learner made anew in the calm goes on to the same bits.
    """

    def learner() -> Single:
        return Single("averages", SHAPE, Rates(0.05, averages=memories), Whole(), seed=0)

    one, calm, found, other = learner(), 0.0, [], None
    for number, batch in enumerate(batches(260)):
        turned = batch if number < 200 else dataclasses.replace(batch, label=1 - batch.label)
        said = one.predict(turned).sparse.clone()
        one.learn(turned)
        if other is not None:
            assert torch.equal(other.predict(turned).sparse, said)
            other.learn(turned)
        trainee = one.state()["trainee"]
        if number % 4 == 0 and len(memories) > 1:
            calm = 0.9 * calm + 0.1 * (trainee["leader"]["best"] >= len(memories) / 2)
        found.append(trainee["optimiser"]["dense"]["param_groups"][0]["lr"])
        assert found[-1] == pytest.approx(0.05 * (1 - 0.6 * calm))
        assert one._trainee.optimiser.settling == pytest.approx(calm)
        if number == 150:
            other = learner()
            other.load(one.state())
    if len(memories) > 1:
        assert found[199] < 0.7 * 0.05 < found[259]


def test_the_contest_serves_the_better_learner() -> None:
    """A learner that cannot learn never leads for long, and costs are those of both."""
    good, bad = (Single("narrow", NARROW, Rates(rate), Whole(), seed=3) for rate in (5e-3, 1e-9))
    contest, alone = Contest("both", [bad, good]), Single("narrow", NARROW, Rates(5e-3), Whole(), seed=3)
    stream = batches(60)
    heard, own = follow(contest, stream), follow(alone, stream)
    assert all(torch.equal(a, b) for a, b in zip(heard[20:], own[20:], strict=True))
    assert contest.flops_per_event.train == 2 * alone.flops_per_event.train
    assert contest.flops_per_event.serve == alone.flops_per_event.serve


def test_a_learner_that_trusts_the_others_learns_what_all_said() -> None:
    """It is the learner of (1 - t) y + t p, with p the mean of the probabilities, offsets among them; the other goes by labels."""

    def make() -> list[Single]:
        return [Single("narrow", NARROW, RATES, Whole(), seed=seed) for seed in (3, 4)]

    trust, (one, other), labels = 0.25, make(), make()[0]
    contest = Contest("both", make(), (trust, 0.0))
    for batch in (dataclasses.replace(batch, offset=torch.full((32,), 0.7)) for batch in batches(20)):
        said = [learner.predict(batch).sparse for learner in (one, other, labels)]
        p = (torch.sigmoid(said[0] + 0.7) + torch.sigmoid(said[1] + 0.7)) / 2
        one.learn(batch, (1 - trust) * batch.label + trust * p)
        other.learn(batch)
        labels.learn(batch)
        contest.predict(batch)
        contest.learn(batch)
    states = [state["trainee"]["averages"][0] for state in contest.state()["learners"]]
    expected = [learner.state()["trainee"]["averages"][0] for learner in (one, other, labels)]
    assert torch.allclose(states[0], expected[0], rtol=1e-4, atol=1e-6)
    assert torch.equal(states[1], expected[1])
    assert not torch.allclose(states[0], expected[2], rtol=1e-2, atol=1e-4)


def test_a_contest_refuses_a_state_of_other_trusts() -> None:
    """What its learners go by is part of the method."""

    def contest(*trusts: float) -> Contest:
        return Contest("both", [Single("narrow", NARROW, RATES, Whole(), seed=seed) for seed in (3, 4)], trusts)

    contest(0.5, 0.0).load(contest(0.5, 0.0).state())
    with pytest.raises(CheckpointError, match=r"trusts \[0.0, 0.0\]; expected \[0.5, 0.0\]"):
        contest(0.5, 0.0).load(contest(0.0, 0.0).state())


@pytest.mark.parametrize("weight", [float("nan"), 1e3])
@pytest.mark.parametrize("trust", [0.0, 0.5])
def test_a_learner_that_ran_away_is_left_behind(trust: float, weight: float) -> None:
    """The other one is heard and learns on, from its own word alone, and its batches count as learned."""
    one, other = (Single("narrow", NARROW, RATES, Whole(), seed=seed) for seed in (3, 4))
    contest, stream = Contest("both", [one, other], (trust, trust)), batches(40)
    follow(contest, stream[:10])
    blown = contest.state()
    leads = blown["leader"]["best"]
    alone = Contest("alone", [Single("narrow", NARROW, RATES, Whole(), seed=9)], (trust,))
    left = [copy.deepcopy(blown["learners"][1 - leads])]
    alone.load({"name": "alone", "trusts": [trust], "leader": Leader(1, 0.9).state(), "learners": left})
    state = blown["learners"][leads]["trainee"]
    for weights in (*state["averages"], *state["net"].values()):
        weights.fill_(weight)
    contest.load(blown)
    for batch in stream[10:]:
        for learner in (contest, alone):
            learner.predict(batch)
            assert learner.learn(batch)
    left, expected = contest.state()["learners"][1 - leads], alone.state()["learners"][0]
    assert torch.equal(left["trainee"]["averages"][0], expected["trainee"]["averages"][0])
    assert contest.net().hidden[0].isfinite().all()


@pytest.mark.parametrize("top", [(16,), (8, 4), (1,)])
@pytest.mark.parametrize("density", [0.05, 0.1, 0.15, 0.35])
def test_the_default_learner_fits_small_nets(top: tuple[int, ...], density: float) -> None:
    """Widths are whole units: nets narrower than what may be kept keep all that they have."""
    learner = default.sparse(dataclasses.replace(SHAPE, top=top), density, seed=0)
    assert torch.isfinite(torch.stack(follow(learner, batches(3)))).all()


def test_the_default_is_a_small_dense_net_and_a_masked_one() -> None:
    """Both do a tenth of the operations; the first, which looks once, hears both, the second goes by labels and by its mask."""
    wide = dataclasses.replace(SHAPE, top=(512, 256, 128))
    kept = []
    for half in (default.ONCE, default.TWICE):
        learner = default.one_half(wide, 0.1, half, seed=0)
        follow(learner, batches(45))
        masks = learner.masks()
        kept.append(sum(int(mask.kept.sum()) for mask in masks) / sum(mask.kept.size for mask in masks))
        assert 0.09 < learner.flops_per_event.serve / wide.flops() < 0.1005
    assert kept[0] == 1.0
    assert kept[1] == pytest.approx(0.8, abs=0.02)

    def first(trusts: tuple[float, float] | None) -> torch.Tensor:
        halves = [default.one_half(SHAPE, 0.5, half, seed=0) for half in (default.ONCE, default.TWICE)]
        contest = default.sparse(SHAPE, 0.5, seed=0) if trusts is None else Contest("by hand", halves, trusts)
        follow(contest, batches(12))
        return torch.stack([one["trainee"]["averages"][0].sum() for one in contest.state()["learners"]])

    assert torch.equal(first(None), first((0.5, 0.0)))
    assert (first(None) != first((0.0, 0.5))).all()


@pytest.mark.parametrize("memories", [(0.9,), (0.5, 0.9)])
def test_average_is_that_of_the_weights(memories: tuple[float, ...]) -> None:
    """The averaged nets are the running means of the nets so far, by the formula of the docstring."""
    trainee = Trainee(SHAPE, dataclasses.replace(RATES, averages=memories), seed=0)
    means = [trainee.net.hidden[0].detach().clone() for _ in memories]
    for step, batch in enumerate(batches(40)):
        log_loss(trainee.net(batch.z, batch.rows), batch).backward()
        trainee.step()
        for number, memory in enumerate(memories):
            keep = min(memory, step / (step + 10))
            means[number] = keep * means[number] + (1 - keep) * trainee.net.hidden[0].detach()
    for average, mean in zip(trainee.state()["averages"], means, strict=True):
        first = average[: mean.numel()].view_as(mean)  # hidden weights come first
        torch.testing.assert_close(first, mean, rtol=1e-5, atol=1e-6)
