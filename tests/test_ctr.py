"""The click model in torch: its gradients, its optimiser, and the normaliser that only knows the past."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from prunus.errors import NetworkError
from prunus.student.ctr import ClickNet, ClickShape
from prunus.student.ctr_gradient import Touched, backward
from prunus.student.ctr_optimiser import BETAS, EPSILON, ClickOptimiser
from prunus.student.mlp import StagedInputs
from prunus.student.normalise import RunningNormaliser

SHAPES = {
    "plain": ClickShape(5, (7, 4), dim=3, interactions=False, top=(6, 4)),
    "products": ClickShape(5, (7, 4, 9), dim=3, top=(6, 4)),
    "bottom": ClickShape(5, (7, 4), dim=3, bottom=(8, 3), top=(6,)),
    "one id": ClickShape(2, (5,), dim=4, top=(3,)),
    "no ids": ClickShape(4, (), top=(6, 4)),
    "no dense": ClickShape(0, (7, 4, 5), dim=3, top=(6,)),
    "linear": ClickShape(3, (4, 4), dim=2, top=()),
}


def batch(shape: ClickShape, n: int = 20, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draw z, rows and labels; every row of every table is there where n allows it."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(n, shape.n_dense, generator=generator)
    columns = [(torch.arange(n) + field) % rows for field, rows in enumerate(shape.rows)]
    rows = torch.stack(columns, 1) if columns else torch.empty(n, 0, dtype=torch.int64)
    return z, rows, (torch.rand(n, generator=generator) < 0.3).float()


def plainly(net: ClickNet, z: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """The formula of the module's docstring, event by event and product by product."""
    shape, logits = net.shape, []
    table = net.table.split(list(shape.rows)) if shape.rows else []
    for event in range(len(z)):
        h = z[event]
        for layer in net.bottom:
            h = torch.clamp(layer(h), min=0)
        vectors = [part[rows[event, field]] for field, part in enumerate(table)]
        parts = [h, *vectors]
        pool = [h, *vectors] if shape.bottom else vectors
        if shape.interactions:
            parts += [torch.dot(a, b)[None] for a, b in itertools.combinations(pool, 2)]
        h = torch.cat(parts)
        for number, layer in enumerate(net.top):
            h = layer(h) if number == len(net.top) - 1 else torch.clamp(layer(h), min=0)
        logits.append(h)
    return torch.cat(logits)


class TestNet:
    """Outputs and gradients."""

    @pytest.mark.parametrize("name", SHAPES)
    def test_outputs_and_gradients_are_those_of_the_formula(self, name: str) -> None:
        """Both agree with a loop over events in plain autograd, in double precision."""
        shape = SHAPES[name]
        net = ClickNet(shape, seed=1).double()
        z, rows, y = batch(shape)
        found = net(z.double(), rows)
        expected = plainly(net, z.double(), rows)
        torch.testing.assert_close(found, expected)
        gradients = []
        for logits in (found, expected):
            net.zero_grad(set_to_none=True)
            functional.binary_cross_entropy_with_logits(logits, y.double()).backward()
            gradients.append([p.grad.to_dense() for p in net.parameters() if p.numel()])
        for ours, theirs in zip(*gradients, strict=True):
            torch.testing.assert_close(ours, theirs)
            assert theirs.abs().max() > 0

    @pytest.mark.parametrize("name", SHAPES)
    def test_weights_replace_the_hidden_ones(self, name: str) -> None:
        """Masked weights score as a net whose own weights were masked; their inputs are those that it multiplied."""
        shape = SHAPES[name]
        net, other = ClickNet(shape, seed=1), ClickNet(shape, seed=1)
        generator = torch.Generator().manual_seed(0)
        masked = [w.detach() * (torch.rand(w.shape, generator=generator) < 0.5) for w in net.hidden]
        for own, weight in zip(other.hidden, masked, strict=True):
            own.data.copy_(weight)
        z, rows, _ = batch(shape)
        torch.testing.assert_close(net(z, rows, masked), other(z, rows))
        inputs: list[torch.Tensor] = []
        net.predict(z, net.embed(rows), masked, inputs)
        assert [x.shape[1] for x in inputs] == [n_inputs for _, n_inputs in shape.matrices]
        assert [tuple(w.shape) for w in net.hidden] == shape.matrices

    @pytest.mark.parametrize("name", SHAPES)
    def test_gradients_written_out_are_those_of_autograd(self, name: str) -> None:
        """Of every layer under masked weights, and of rows that are read once, often, or by two fields; in double precision."""
        shape = SHAPES[name]
        ours, theirs = ClickNet(shape, seed=1).double(), ClickNet(shape, seed=1).double()
        generator = torch.Generator().manual_seed(0)
        z, rows, y = batch(shape)
        z, y = z.double(), y.double()
        offset = torch.randn(len(z), generator=generator, dtype=torch.float64)
        masks = [(torch.rand(w.shape, generator=generator) < 0.7).double() for w in theirs.hidden]
        weights = [(w.detach() * mask).requires_grad_() for w, mask in zip(theirs.hidden, masks, strict=True)]
        functional.binary_cross_entropy_with_logits(theirs(z, rows, weights) + offset, y).backward()
        for own, weight in zip(theirs.hidden, weights, strict=True):
            own.grad = weight.grad
        for learned in (None, (rows, Touched.by(rows))):
            backward(ours, z, ours.embed(rows), y, offset, [w.detach() for w in weights], learned)
            for a, b in zip(ours.linears, theirs.linears, strict=True):
                torch.testing.assert_close(a.weight.grad, b.weight.grad)
                torch.testing.assert_close(a.bias.grad, b.bias.grad)
                assert b.weight.grad is not None
                assert b.weight.grad.abs().max() > 0
            assert (ours.table.grad is None) == (learned is None)
        if shape.rows:
            torch.testing.assert_close(ours.table.grad.to_dense(), theirs.table.grad.to_dense())
            assert ours.table.grad.indices()[0].tolist() == sorted(set((rows + ours.first_row).flatten().tolist()))

    def test_operations_are_counted_by_density(self) -> None:
        """Two for each weight that is kept; the last layer is always whole."""
        shape = ClickShape(44, (10, 10))
        weights = 77 * 512 + 512 * 256 + 256 * 128
        assert shape.flops() == 2 * (weights + 128)
        assert shape.flops([0.1, 0.1, 0.1]) == pytest.approx(2 * (0.1 * weights + 128))

    def test_sizes_that_do_not_fit_are_refused(self) -> None:
        """Each with what was got."""
        for wrong in ({"bottom": (8, 5)}, {"rows": (0,)}, {"dim": 0}, {"n_dense": 0, "bottom": (16,)}):
            with pytest.raises(NetworkError, match="expected"):
                ClickShape(**{"n_dense": 3, "rows": (4,), **wrong})

    def test_new_ids_begin_as_the_unknown_one(self) -> None:
        """Their rows and no others change, and what the optimiser knew of them is forgotten."""
        net = ClickNet(SHAPES["products"], seed=0)
        optimiser = ClickOptimiser(net)
        z, rows, y = batch(net.shape)
        functional.binary_cross_entropy_with_logits(net(z, rows), y).backward()
        optimiser.step()
        before = [table.clone() for table in net.tables]
        none = torch.empty(0, dtype=torch.int64)
        given = net.reset_rows([torch.tensor([5]), none, torch.tensor([3, 8]), *[none] * (net.shape.n_ids - 3)])
        assert given.tolist() == [5, 7 + 4 + 3, 7 + 4 + 8]
        optimiser.reset_rows(given)
        for field, (table, old) in enumerate(zip(net.tables, before, strict=True)):
            expected = old.clone()
            expected[{0: [5], 2: [3, 8]}.get(field, [])] = old[0]
            torch.testing.assert_close(table, expected, rtol=0, atol=0)
        forgotten = set(range(len(net.table))) - set(optimiser.state_dict()["rows"]["rows"].tolist())
        assert forgotten == {5, 7 + 4 + 3, 7 + 4 + 8}


class TestOptimiser:
    """Steps over the rows that were touched."""

    @pytest.mark.parametrize("rule", ["adam", "adagrad"])
    def test_steps_are_those_of_torch(self, rule: str) -> None:
        """Where every row is touched in every step, the embeddings too move as torch's own optimiser moves them."""
        shape = SHAPES["products"]
        ours, theirs = ClickNet(shape, seed=0), ClickNet(shape, seed=0)
        optimiser = ClickOptimiser(ours, rule=rule, learning_rate=0.01)
        made = torch.optim.Adam if rule == "adam" else torch.optim.Adagrad
        plain = made(theirs.parameters(), lr=0.01, eps=EPSILON[rule])
        for step in range(5):
            z, rows, y = batch(shape, seed=step)
            for net in (ours, theirs):
                net.zero_grad(set_to_none=True)
                functional.binary_cross_entropy_with_logits(net(z, rows), y).backward()
            theirs.table.grad = theirs.table.grad.to_dense()
            optimiser.step()
            plain.step()
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize("rule", ["adam", "adagrad"])
    def test_other_rows_stay(self, rule: str) -> None:
        """A row without a gradient keeps its bits; one first seen late moves as far as one seen first."""
        net = ClickNet(ClickShape(2, (50,), dim=4, top=()), seed=0)
        optimiser = ClickOptimiser(net, rule=rule, learning_rate=0.01)
        moved = []
        for rows in ([[1]], [[1]], [[1]], [[2]]):
            before = net.table.detach().clone()
            optimiser.zero_grad()
            net.embed(torch.tensor(rows)).sum().backward()
            optimiser.step()
            change = (net.table.detach() - before).abs()
            assert change.amax(1).nonzero().flatten().tolist() == rows[0]
            moved.append(change[rows[0]].mean().item())
        assert moved[3] == pytest.approx(moved[0], rel=1e-4)
        assert moved[0] == pytest.approx(0.01, rel=1e-4)

    @pytest.mark.parametrize("settling", [0.0, 0.5, 1.0])
    def test_a_row_that_settles_moves_less_the_more_it_has_learned(self, settling: float) -> None:
        """Under one gradient for ever Adam moves a row by its rate; one that settles, by the docstring's share of it."""
        net = ClickNet(ClickShape(2, (50,), dim=4, top=()), seed=0)
        optimiser = ClickOptimiser(net, learning_rate=0.01)
        optimiser.settling = settling
        moved = []
        for _ in range(900):
            before = net.table[1].detach().clone()
            optimiser.zero_grad()
            net.embed(torch.tensor([[1]])).sum().backward()
            optimiser.step()
            moved.append((before - net.table[1].detach()).mean().item())
        step = np.arange(1, 901)
        share = 1 + settling * (np.maximum((1 + step / 50) ** -0.5, 0.25) - 1)
        assert moved == pytest.approx(0.01 * share, rel=0.01)

    @pytest.mark.parametrize("rule", ["adam", "adagrad"])
    def test_resumed_is_uninterrupted(self, rule: str) -> None:
        """State kept and loaded gives the same bits as going on."""
        shape = SHAPES["bottom"]
        net = ClickNet(shape, seed=0)
        optimiser = ClickOptimiser(net, rule=rule, learning_rate=0.02, row_rate=0.1)

        def steps(net: ClickNet, optimiser: ClickOptimiser, seeds: range) -> None:
            for seed in seeds:
                z, rows, y = batch(shape, n=3, seed=seed)
                optimiser.zero_grad()
                functional.binary_cross_entropy_with_logits(net(z, rows), y).backward()
                optimiser.step()

        steps(net, optimiser, range(3))
        other = ClickNet(shape, seed=9)
        resumed = ClickOptimiser(other, rule=rule)
        other.load_state_dict(net.state_dict())
        resumed.load_state_dict(optimiser.state_dict())
        steps(net, optimiser, range(3, 6))
        steps(other, resumed, range(3, 6))
        for a, b in zip(net.parameters(), other.parameters(), strict=True):
            assert torch.equal(a, b)

    @pytest.mark.parametrize("poison", [float("nan"), float("inf"), 1e25])
    @pytest.mark.parametrize("before", [0, 2])
    @pytest.mark.parametrize("rule", ["adam", "adagrad", "soap"])
    def test_takes_no_step_by_what_is_no_number(self, rule: str, before: int, poison: float) -> None:
        """A gradient that is no number, or whose square is none, of a weight or a row, changes no bit; the next step is as if without."""
        shape = SHAPES["bottom"]

        def steps(poisoned: bool) -> tuple[ClickNet, ClickOptimiser]:
            net = ClickNet(shape, seed=0)
            optimiser = ClickOptimiser(net, rule=rule)
            for seed in range(before + 1):
                z, rows, y = batch(shape, seed=seed)
                for target in (net.linears[0].weight, net.table) if poisoned and seed == before else ():
                    optimiser.zero_grad()
                    functional.binary_cross_entropy_with_logits(net(z, rows), y).backward()
                    assert target.grad is not None
                    target.grad = target.grad.clone() * poison
                    assert not optimiser.step()
                optimiser.zero_grad()
                functional.binary_cross_entropy_with_logits(net(z, rows), y).backward()
                assert optimiser.step()
            return net, optimiser

        (plain, ours), (other, theirs) = steps(False), steps(True)
        for a, b in zip(plain.parameters(), other.parameters(), strict=True):
            assert torch.equal(a, b)
        torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=0, atol=0)

    def test_betas_are_torchs(self) -> None:
        """So that the row rule and the dense rule are one rule."""
        assert torch.optim.Adam([torch.zeros(1)]).defaults["betas"] == BETAS


class TestNormaliser:
    """Mean and deviation of what came before."""

    @given(seed=st.integers(0, 1000), cuts=st.lists(st.integers(0, 200), max_size=6))
    def test_batches_do_not_matter(self, seed: int, cuts: list[int]) -> None:
        """Statistics are those of all events observed, however they were cut into batches; missing values are left out."""
        rng = np.random.default_rng(seed)
        dense = np.exp(rng.normal(size=(200, 3)) * [1, 2, 3]).astype(np.float32) * [1, -1, 1e3]
        dense[rng.random(dense.shape) < 0.2] = np.nan
        dense = dense.astype(np.float32)
        normaliser = RunningNormaliser(3)
        for part in np.split(dense, sorted(cuts)):
            normaliser.observe(part)
        log = np.sign(dense) * np.log1p(np.abs(dense))
        np.testing.assert_allclose(normaliser.mean, np.nanmean(log, 0, dtype=np.float64), rtol=1e-5)
        deviation = np.sqrt(normaliser.spread / normaliser.count)
        np.testing.assert_allclose(deviation, np.nanstd(log.astype(np.float64), 0), rtol=1e-5)

    def test_an_event_is_not_in_its_own_statistics(self) -> None:
        """The first batch reads as 0; the second is scaled by the first alone."""
        rng = np.random.default_rng(0)
        first, second = rng.normal(size=(2, 300, 2)).astype(np.float32)
        normaliser, other = RunningNormaliser(2), RunningNormaliser(2)
        assert (normaliser.advance(first) == 0).all()
        other.observe(first)
        z = normaliser.advance(second)
        np.testing.assert_array_equal(z, other.transform(second))
        assert 0.8 < z.std() < 1.2

    def test_missing_constant_and_wild_values(self) -> None:
        """NaN and a feature that does not vary read as 0, an outlier as 5; an infinity does no harm."""
        rng = np.random.default_rng(0)
        dense = np.stack([rng.normal(size=100), np.full(100, 1e6), rng.normal(size=100)], 1).astype(np.float32)
        normaliser = RunningNormaliser(3)
        normaliser.observe(dense)
        z = normaliser.transform(np.array([[1e30, 1e6, np.nan], [-1e30, 0, np.inf]], np.float32))
        np.testing.assert_array_equal(z, [[5, 0, 0], [-5, 0, 5]])
        normaliser.observe(np.full((1, 3), np.inf, np.float32))
        assert np.isfinite(normaliser.transform(dense)).all()

    def test_stage_and_state(self) -> None:
        """The engine's input stage gives the same inputs; a state that was kept goes on as if nothing had happened."""
        rng = np.random.default_rng(0)
        dense = np.exp(2 * rng.normal(size=(500, 4))).astype(np.float32)
        dense[rng.random(dense.shape) < 0.1] = np.nan
        normaliser, other = RunningNormaliser(4), RunningNormaliser(4)
        normaliser.observe(dense[:250])
        staged = StagedInputs(normaliser.input_stage())(torch.from_numpy(dense)).numpy()
        np.testing.assert_allclose(normaliser.transform(dense), staged, atol=2e-6)
        other.load(normaliser.state())
        np.testing.assert_array_equal(normaliser.advance(dense[250:]), other.advance(dense[250:]))
        np.testing.assert_array_equal(normaliser.transform(dense), other.transform(dense))
