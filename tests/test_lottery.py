"""Tickets: which weights stay, what they start from again, and what a file of them gives back."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from prunus.errors import ModelFileError, TrainingError  # noqa: E402
from prunus.prune.lottery import Lottery, Ticket, at_random, choose, density, rest_of, weights_of  # noqa: E402
from prunus.prune.schedule import CubicSchedule, ExponentialSchedule, LinearSchedule  # noqa: E402

SCOPES = ("row", "tensor", "global")
RESETS = ("none", "rate", "first", "late")


def tensors(seed: int = 0) -> dict[str, torch.Tensor]:
    """Draw a matrix, a kernel of four dimensions and a larger matrix."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {"a": (6, 8), "b": (4, 3, 2, 2), "c": (10, 16)}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def descend(lottery: Lottery, steps: int) -> torch.optim.Optimizer:
    """Train the tensors of a lottery towards 1 for some steps."""
    weights = [w.requires_grad_() for w in lottery.weights.values()]
    optimizer = torch.optim.Adam(weights, lr=0.01)
    for step in range(steps):
        optimizer.zero_grad()
        sum(((w - 1.0) ** 2).sum() for w in weights).backward()
        optimizer.step()
        lottery.after_step(step, optimizer)
    return optimizer


class TestChoose:
    """Which weights stay."""

    @settings(max_examples=25)
    @given(st.integers(0, 99), st.sampled_from([0.03, 0.25, 0.5, 0.99, 1.0]), st.sampled_from(SCOPES))
    def test_nothing_removed_beats_anything_kept(self, seed: int, share: float, scope: str) -> None:
        """In each row, tensor, or all together, what stays scores at least what goes; the number is the one asked for."""
        scores = {name: w.abs() for name, w in tensors(seed).items()}
        masks = choose(scores, share, scope)  # type: ignore[arg-type]
        rows = {name: (scores[name].flatten(1), masks[name].flatten(1)) for name in scores}
        if scope == "row":
            groups = [(s, m) for a, b in rows.values() for s, m in zip(a, b, strict=True)]
        elif scope == "tensor":
            groups = [(a.flatten(), b.flatten()) for a, b in rows.values()]
        else:
            groups = [
                (torch.cat([a.flatten() for a, _ in rows.values()]), torch.cat([b.flatten() for _, b in rows.values()]))
            ]
            best = torch.cat([(a == a.amax(1, keepdim=True)).flatten() for a, _ in rows.values()])
            assert (groups[0][1] | ~best).all(), "a row lost its best weight"
            groups = [(groups[0][0][~best], groups[0][1][~best])]
        for score, kept in groups:
            if kept.any() and not kept.all():
                assert score[kept].min() >= score[~kept].max()
            if scope != "global":
                assert kept.sum() == max(round(share * kept.numel()), 1)

    def test_what_is_gone_stays_gone(self) -> None:
        """A negative score is never kept, not even where too few are left."""
        score = torch.tensor([[1.0, -1.0, -1.0, -1.0]])
        for scope in SCOPES:
            assert choose({"w": score}, 0.75, scope)["w"].tolist() == [[True, False, False, False]]

    @pytest.mark.parametrize("share", [0.0, -0.5, 1.5])
    def test_refuses_what_is_no_share(self, share: float) -> None:
        """A share lies in (0, 1]."""
        with pytest.raises(ValueError, match="expected one in"):
            choose(tensors(), share, "row")

    @pytest.mark.parametrize("scope", SCOPES)
    def test_refuses_weights_that_ran_away(self, scope: str) -> None:
        """NaN is larger than nothing: a row with one would lose all it has. The tensor is named and no mask changes."""
        weights = tensors()
        lottery = Lottery(weights, ExponentialSchedule(0, 1, 1), 0.5, scope=scope)  # type: ignore[arg-type]
        weights["b"][2, 1, 0, 0] = torch.nan
        with pytest.raises(TrainingError, match=r"NaN among the scores of b; expected numbers"):
            lottery.after_step(0)
        assert density(lottery.masks) == 1


class TestSchedule:
    """How far a pruning goes."""

    def test_each_pruning_removes_the_same_share(self) -> None:
        """Of an exponential schedule the ratio of two levels in a row is constant, and the ends are exact."""
        schedule = ExponentialSchedule(start=10, end=50, every=10)
        levels = [schedule.level(step, 1.0, 0.01) for step in range(10, 51, 10)]
        ratios = [b / a for a, b in itertools.pairwise(levels)]
        assert ratios == pytest.approx([0.01**0.25] * 4)
        assert (schedule.level(0, 1.0, 0.01), levels[0], levels[-1]) == (1.0, 1.0, pytest.approx(0.01))

    def test_each_pruning_of_a_line_removes_as_much(self) -> None:
        """Sixty per cent in twelve steps of five: the levels that arXiv 2401.10484 goes through."""
        schedule = LinearSchedule.stepwise(12, 75)
        levels = [schedule.level(step, 1.0, 0.4) for step in range(0, 901, 75)]
        assert levels == pytest.approx([1.0 - 0.05 * pruning for pruning in range(13)])

    def test_stepwise_prunes_so_many_times(self) -> None:
        """Three rounds of twenty steps prune three times, the last time to the target."""
        lottery = Lottery(tensors(), ExponentialSchedule.stepwise(3, 20), 0.125, scope="tensor")
        pruned = [step for step in range(100) if lottery.after_step(step)]
        assert pruned == [20, 40, 60]
        assert density(lottery.masks) == pytest.approx(0.125)


class TestLottery:
    """What happens to the weights."""

    @pytest.mark.parametrize("scope", SCOPES)
    @pytest.mark.parametrize("reset", RESETS)
    def test_what_is_gone_stays_zero(self, scope: str, reset: str) -> None:
        """Under any scope and reset, gone weights are exactly zero after training, and masks only shrink."""
        lottery = Lottery(
            tensors(),
            ExponentialSchedule(start=0, end=30, every=10),
            0.2,
            scope=scope,  # type: ignore[arg-type]
            reset=reset,  # type: ignore[arg-type]
            late=5,
        )
        seen = {name: mask.clone() for name, mask in lottery.masks.items()}
        choose_now = lottery.importance

        def watched(weights: dict, masks: dict) -> dict:
            for name, mask in masks.items():
                assert (mask <= seen[name]).all()
                seen[name] = mask.clone()
            return dict(choose_now(weights, masks))

        lottery.importance = watched
        descend(lottery, 45)
        assert density(lottery.masks) == pytest.approx(0.2, abs=0.05)
        for name, weight in lottery.weights.items():
            assert torch.equal(weight != 0, lottery.masks[name])

    @pytest.mark.parametrize("late", [1, 4, 9])
    def test_survivors_go_back(self, late: int) -> None:
        """After the last pruning survivors have the values of the first step, or of step k, bit for bit."""
        for reset, steps in (("first", 0), ("late", late)):
            schedule = ExponentialSchedule.stepwise(2, 10)
            lottery = Lottery(tensors(), schedule, 0.3, reset=reset, late=late)  # type: ignore[arg-type]
            alone = Lottery(tensors(), schedule, 1.0)
            descend(alone, steps)
            optimizer = descend(lottery, 21)
            for name, weight in lottery.weights.items():
                assert torch.equal(weight.detach(), alone.weights[name].detach() * lottery.masks[name])
            assert not optimizer.state, "moments of values that are no more"
            assert [lottery.rate_step(step) for step in (21, 25)] == [steps, steps + 4]

    def test_rate_goes_back_alone(self) -> None:
        """Learning-rate rewinding keeps values and moments; without a reset nothing goes back."""
        for reset, expected in (("rate", 0), ("none", 21)):
            lottery = Lottery(tensors(), ExponentialSchedule.stepwise(2, 10), 0.3, reset=reset)  # type: ignore[arg-type]
            first = {name: w.clone() for name, w in lottery.weights.items()}
            optimizer = descend(lottery, 21)
            assert lottery.rate_step(21) == expected
            assert len(optimizer.state) == len(first)
            kept = lottery.masks["a"]
            assert (lottery.weights["a"].detach()[kept] != first["a"][kept]).all()

    def test_resumes_exactly(self) -> None:
        """State taken in the middle and given to another lottery leads to the same masks and values."""
        schedule = CubicSchedule(start=0, end=30, every=5)
        whole = Lottery(tensors(), schedule, 0.2, reset="first")
        state = None
        for step in range(31):
            with torch.no_grad():
                for number, weight in enumerate(whole.weights.values()):
                    weight.add_(torch.sin(weight * 50.0 + number))
            whole.after_step(step)
            if step == 15:
                state = (
                    {n: m.clone() for n, m in whole.masks.items()},
                    {n: w.clone() for n, w in whole.weights.items()},
                )
                saved = {**whole.state_dict(), "masks": state[0]}
        assert state is not None
        other = Lottery(state[1], schedule, 0.2, reset="first")
        other.load_state_dict(saved)
        for step in range(16, 31):
            with torch.no_grad():
                for number, weight in enumerate(other.weights.values()):
                    weight.add_(torch.sin(weight * 50.0 + number))
            other.after_step(step)
        for name in whole.masks:
            assert torch.equal(whole.masks[name], other.masks[name])
            assert torch.equal(whole.weights[name], other.weights[name])

    def test_random_masks_are_nested_and_know_nothing_of_magnitude(self) -> None:
        """Random scores do not change while training goes on, whatever the weights are."""
        masks = []
        for scale in (1.0, 100.0):
            weights = {name: w * scale for name, w in tensors(3).items()}
            lottery = Lottery(weights, ExponentialSchedule.stepwise(2, 5), 0.25, importance=at_random(7))
            descend(lottery, 11)
            masks.append(lottery.masks)
        assert all(torch.equal(masks[0][name], masks[1][name]) for name in masks[0])
        assert not torch.equal(masks[0]["c"], choose({"c": tensors(3)["c"].abs()}, 0.25, "row")["c"])

    @pytest.mark.parametrize(("reset", "late", "share"), [("late", 0, 0.5), ("late", 10, 0.5), ("first", 0, 0.0)])
    def test_refuses(self, reset: str, late: int, share: float) -> None:
        """Late values come before the first pruning, and a density is a share."""
        with pytest.raises(ValueError, match="expected"):
            Lottery(tensors(), ExponentialSchedule.stepwise(2, 10), share, reset=reset, late=late)  # type: ignore[arg-type]


class TestModule:
    """Tickets of any module: biases, norms and running statistics go back with the weights."""

    @staticmethod
    def net(seed: int = 0) -> torch.nn.Module:
        """Draw a small net with a norm."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return torch.nn.Sequential(
                torch.nn.Conv1d(2, 4, 3),
                torch.nn.BatchNorm1d(4),
                torch.nn.ReLU(),
                torch.nn.Flatten(),
                torch.nn.Linear(16, 3),
            )

    @staticmethod
    def train(lottery: Lottery, net: torch.nn.Module, steps: int) -> None:
        """Train the net to give ones."""
        optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
        generator = torch.Generator().manual_seed(1)
        for step in range(steps):
            optimizer.zero_grad()
            (net(torch.randn(8, 2, 6, generator=generator)) - 1.0).square().mean().backward()
            optimizer.step()
            lottery.after_step(step, optimizer)

    @pytest.mark.parametrize(("reset", "late"), [("first", 0), ("late", 4)])
    def test_everything_goes_back(self, reset: str, late: int) -> None:
        """Right after the last pruning the whole state is that of step 0 or k, under the masks."""
        alone, net = self.net(), self.net()
        self.train(Lottery.of_module(alone, LinearSchedule.stepwise(1, 99), 0.5), alone, late)
        lottery = Lottery.of_module(net, LinearSchedule.stepwise(2, 10), 0.4, scope="global", reset=reset, late=late)
        self.train(lottery, net, 21)
        assert lottery.ticket().density == pytest.approx(0.4, abs=0.05)
        assert set(lottery.masks) == {"0.weight", "4.weight"}
        for name, tensor in alone.state_dict().items():
            expected = tensor * lottery.masks[name] if name in lottery.masks else tensor
            assert torch.equal(net.state_dict()[name], expected), name

    def test_a_ticket_sets_up_another_module(self, tmp_path: Path) -> None:
        """A saved ticket makes of any module of that shape what the search started from, masked."""
        net, other = self.net(), self.net(seed=5)
        lottery = Lottery.of_module(net, LinearSchedule.stepwise(2, 10), 0.4, reset="first")
        self.train(lottery, net, 25)
        lottery.ticket().save(tmp_path / "t.safetensors")
        Ticket.load(tmp_path / "t.safetensors").apply(weights_of(other), beside=rest_of(other))
        for name, tensor in self.net().state_dict().items():
            expected = tensor * lottery.masks[name] if name in lottery.masks else tensor
            assert torch.equal(other.state_dict()[name], expected), name


class TestTicket:
    """A ticket on disk."""

    def test_comes_back(self, tmp_path: Path) -> None:
        """What is loaded and applied is what was found: the first values under the last masks."""
        lottery = Lottery(tensors(), ExponentialSchedule.stepwise(2, 10), 0.3, reset="first")
        descend(lottery, 30)
        lottery.ticket().save(tmp_path / "t.safetensors")
        weights, masks = tensors(9), {name: torch.ones_like(m) for name, m in lottery.masks.items()}
        ticket = Ticket.load(tmp_path / "t.safetensors")
        ticket.apply(weights, masks)
        assert ticket.density == density(masks) == density(lottery.masks)
        for name, first in tensors().items():
            assert torch.equal(weights[name], first * lottery.masks[name])

    def test_refuses_another_model(self) -> None:
        """Names and shapes must be those of the ticket."""
        ticket = Lottery(tensors(), ExponentialSchedule.stepwise(1, 1), 0.5).ticket()
        with pytest.raises(ValueError, match="build the model"):
            ticket.apply({"a": torch.zeros(6, 8)})

    @pytest.mark.parametrize("content", [b"", b"no ticket at all", None])
    def test_refuses_another_file(self, tmp_path: Path, content: bytes | None) -> None:
        """A file that is no ticket is an error that names it; a mask without values is none."""
        path = tmp_path / "t.safetensors"
        Ticket({}, {}).save(path)
        if content is None:
            from safetensors.torch import save_file

            save_file({"kept.a": torch.ones(2, dtype=torch.bool)}, path)
        else:
            path.write_bytes(content)
        with pytest.raises(ModelFileError, match=r"t\.safetensors is no ticket"):
            Ticket.load(path)
