"""The paper's three models on modules of any kind: what they remove, what goes back, and that the teacher teaches."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (extra 'train')")
pytest.importorskip("torch_pruning", reason="torch_pruning is not installed (extra 'train')")
from torch import Tensor, nn  # noqa: E402
from torch.nn.functional import cross_entropy, mse_loss  # noqa: E402

import prunus  # noqa: E402
from prunus.errors import ModuleError, TrainingError  # noqa: E402
from prunus.prune.channels import count_weights  # noqa: E402
from prunus.prune.lottery import Ticket, rest_of, weights_of  # noqa: E402
from prunus.prune.sad import LTH_SAD, SAD, SP_SAD, SS_SAD, Recipe, prune_and_distil  # noqa: E402

PAPER = {"SAD": SAD, "SP-SAD": SP_SAD, "LTH-SAD": LTH_SAD, "SS-SAD": SS_SAD}
QUICK = {
    "epochs": 6,
    "prune_rate": 0.3,
    "prune_every": 2,
    "batch": 32,
    "width": 8,
    "milestones": (),
    "learning_rate": 0.02,
}


def quick(name: str, **more: object) -> Recipe:
    """Shorten one of the paper's recipes."""
    recipe = PAPER[name]
    return replace(recipe, **QUICK | {"sparsity": 0.6 if recipe.sparsity else 0.0} | more)


def stack(n_inputs: int, *widths: int, seed: int = 0) -> nn.Sequential:
    """Draw layers with batch norms and ReLUs, and one output."""
    torch.manual_seed(seed)
    sizes = itertools.pairwise((n_inputs, *widths))
    layers = [part for a, b in sizes for part in (nn.Linear(a, b), nn.BatchNorm1d(b), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(widths[-1], 1))


def cnn(width: int, seed: int = 0) -> nn.Sequential:
    """Draw two convolutions and a classifier of three."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, 3),
    )  # fmt: skip


def numbers() -> tuple[Tensor, Tensor]:
    """Draw rows and a number for each."""
    x = torch.randn(128, 6, generator=torch.Generator().manual_seed(0))
    return x, torch.sin(x[:, :1] * 2) + x[:, 1:2].relu()


def images() -> tuple[Tensor, Tensor]:
    """Draw small images of three classes."""
    x = torch.randn(96, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    y = torch.arange(96) % 3
    x[y == 1, :, :4] += 1.0
    x[y == 2, :, :, :4] += 1.0
    return x, y


CASES = {
    "vectors": (lambda: stack(6, 12, 8), lambda: stack(6, 24, 16, 8, seed=1), numbers, mse_loss),
    "images": (lambda: cnn(4), lambda: cnn(6, seed=1), images, cross_entropy),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", PAPER)
def test_learns_as_small_as_it_says(name: str, case: str) -> None:
    """Each model ends at its share of weights, its loss falls, and the modules that were given stay as they were."""
    make_student, make_teacher, data, loss = CASES[case]
    student, teacher, (x, y) = make_student(), make_teacher(), data()
    before = [{k: v.clone() for k, v in module.state_dict().items()} for module in (student, teacher)]
    trained = prune_and_distil(student, teacher, x, y, quick(name), loss=loss)
    share = count_weights(trained.module) / count_weights(student)
    assert share == pytest.approx(0.4 if name != "SAD" else 1.0, abs=0.07)  # a channel of the small CNN is 0.07
    losses = [record["loss"] for record in trained.history][-QUICK["epochs"] :]  # without the search of SS-SAD
    assert losses[-1] < losses[0]
    stored = sum(weight.numel() for weight in weights_of(trained.module).values())
    assert (stored == count_weights(trained.module)) is (name in ("SAD", "SP-SAD")), (
        "channels go, single weights become 0"
    )
    for module, state in zip((student, teacher), before, strict=True):
        assert all(torch.equal(value, state[key]) for key, value in module.state_dict().items())
    assert teacher.training


def test_weights_fall_in_the_paper_s_steps() -> None:
    """Linear in the first weights, every so many epochs: 70 % after two, 40 % after four."""
    x, y = numbers()
    trained = prune_and_distil(stack(6, 12, 8), stack(6, 16), x, y, quick("LTH-SAD"), loss=mse_loss)
    full = count_weights(stack(6, 12, 8))
    shares = [record["weights"] / full for record in trained.history]
    assert shares == pytest.approx([1.0, 1.0, 0.7, 0.7, 0.4, 0.4], abs=0.02)


def test_lottery_survivors_start_from_their_first_values() -> None:
    """The ticket of LTH-SAD is the untrained student under the mask, biases and norms with it; SP-SAD has none."""
    x, y = numbers()
    student = stack(6, 12, 8)
    trained = prune_and_distil(student, stack(6, 16), x, y, quick("LTH-SAD"), loss=mse_loss)
    assert isinstance(trained.ticket, Ticket)
    for name, weight in weights_of(student).items():
        assert torch.equal(trained.ticket.values[name], weight * trained.ticket.masks[name])
        assert torch.equal(weights_of(trained.module)[name] != 0, trained.ticket.masks[name])
    assert all(torch.equal(trained.ticket.beside[name], value) for name, value in rest_of(student).items())
    assert prune_and_distil(student, stack(6, 16), x, y, quick("SP-SAD"), loss=mse_loss).ticket is None


def test_the_ticket_of_ss_sad_knows_no_teacher() -> None:
    """Another teacher finds the same mask and makes another student of it; with LTH-SAD it finds another mask."""
    x, y = numbers()
    found = {}
    for name, seed in itertools.product(("SS-SAD", "LTH-SAD"), (1, 2)):
        teacher = stack(6, 16, seed=seed)
        found[name, seed] = prune_and_distil(stack(6, 12, 8), teacher, x, y, quick(name), loss=mse_loss)

    def same(name: str, what: str) -> bool:
        a, b = (found[name, seed] for seed in (1, 2))
        parts = (
            [(a.ticket.masks, b.ticket.masks)] if what == "mask" else [(a.module.state_dict(), b.module.state_dict())]
        )
        return all(torch.equal(u[key], v[key]) for u, v in parts for key in u)

    assert same("SS-SAD", "mask")
    assert not same("SS-SAD", "student")
    assert not same("LTH-SAD", "mask")
    assert len(found["SS-SAD", 1].history) == 4 + 6


def test_a_seed_repeats() -> None:
    """The same arguments give the same bits, and torch's own generator is left alone."""
    x, y = numbers()
    torch.manual_seed(7)
    expected = torch.rand(1)
    states = []
    for number in range(2):
        torch.manual_seed(7)
        student, teacher = stack(6, 12, 8), stack(6, 16, seed=1)
        torch.manual_seed(7)
        trained = prune_and_distil(student, teacher, x, y, quick("SP-SAD"), loss=mse_loss, seed=3)
        assert torch.equal(torch.rand(1), expected), number
        states.append(trained.module.state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_the_teacher_teaches() -> None:
    """From labels that are noise, a student still comes near its teacher through what it shows alone."""
    x, y = numbers()
    noise = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    alone = replace(SAD, **QUICK | {"epochs": 30, "alpha": 0.0, "beta": 0.0})
    teacher = prune_and_distil(stack(6, 32, 16, seed=1), None, x, y, alone, loss=mse_loss).module
    distance = {}
    for name, recipe in {"alone": alone, "taught": replace(alone, alpha=20.0, beta=20.0)}.items():
        module = prune_and_distil(stack(6, 12, 8), teacher, x, noise, recipe, loss=mse_loss).module
        with torch.no_grad():
            distance[name] = float(mse_loss(module(x), teacher(x)))
    assert distance["taught"] < 0.4 * distance["alone"]


def test_the_rate_starts_again_with_the_weights() -> None:
    """Milestones count from the values that training last started from; without a reset they count from the start."""
    x, y = numbers()
    options = {"milestones": (1,), "decay": 0.5, "alpha": 0.0, "beta": 0.0}
    rates = {}
    for reset in ("none", "rate", "first", "late"):
        recipe = replace(quick("LTH-SAD"), **options, reset=reset, late=1)
        history = prune_and_distil(stack(6, 8), None, x, y, recipe, loss=mse_loss).history
        rates[reset] = [record["learning_rate"] for record in history]
    assert rates["none"] == [0.02, 0.01, 0.01, 0.01, 0.01, 0.01]
    # Pruned by the first step of an epoch, so a new count lasts until the first step of the next but one.
    assert rates["first"] == rates["rate"] == [0.02, 0.01, 0.02, 0.01, 0.02, 0.01]
    assert rates["late"] == [0.02, 0.01, 0.01, 0.01, 0.01, 0.01]


def test_a_pruned_student_runs_in_the_engine() -> None:
    """What came out, smaller or sparse, compiles and scores as the module does."""
    x, y = numbers()
    for name in ("SP-SAD", "LTH-SAD"):
        module = prune_and_distil(stack(6, 12, 8), stack(6, 16), x, y, quick(name), loss=mse_loss).module
        with torch.no_grad():
            expected = module(x)[:, 0].numpy()
        np.testing.assert_allclose(prunus.compile(module).score(x.numpy()), expected, rtol=1e-4, atol=1e-4)


class TestPaper:
    """The figures of table 2."""

    @pytest.mark.parametrize(
        ("name", "epochs", "rate", "every", "beta", "alpha"),
        [
            ("SP-SAD", 160, 0.10, 20, 100, 0.9),
            ("LTH-SAD", 1200, 0.05, 75, 50, 0.8),
            ("SS-SAD", 200, 0.05, 20, 200, 0.9),
        ],
    )
    def test_table(self, name: str, epochs: int, rate: float, every: int, beta: float, alpha: float) -> None:
        """Each recipe reaches its sparsity with epochs to spare."""
        recipe = PAPER[name]
        assert (recipe.epochs, recipe.prune_rate, recipe.prune_every, recipe.beta) == (epochs, rate, every, beta)
        assert (recipe.alpha, recipe.temperature) == (alpha, 4.0)
        assert recipe.rounds * recipe.prune_rate == pytest.approx(recipe.sparsity)
        assert recipe.rounds * recipe.prune_every < recipe.total_epochs


class TestRefusals:
    """What cannot be done is said."""

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"epochs": 0}, "at least one epoch"),
            ({"sparsity": 1.0}, "a sparsity in"),
            ({"prune_rate": 0.0}, "a rate in"),
            ({"epochs": 4}, "expected epochs after the last one"),
            ({"grain": "channel"}, "for channels; expected 'none' or 'rate'"),
        ],
    )
    def test_recipes(self, wrong: dict, message: str) -> None:
        """A recipe that cannot be followed is refused when it is made."""
        with pytest.raises(ValueError, match=message):
            quick("LTH-SAD", **wrong)

    def test_layers(self) -> None:
        """Layers that are not there, or are never called, are named."""
        x, y = numbers()
        student, teacher = stack(6, 12), stack(6, 16)
        with pytest.raises(ModuleError, match="no layer 'relu'"):
            prune_and_distil(student, teacher, x, y, quick("SAD"), loss=mse_loss, layers=(["2"], ["relu"]))
        student.add_module("idle", nn.ReLU())
        student.forward = lambda x: student[3](student[2](student[1](student[0](x))))  # type: ignore[method-assign]
        with pytest.raises(ModuleError, match="'idle' of Sequential is never called"):
            prune_and_distil(student, teacher, x, y, quick("SAD"), loss=mse_loss, layers=(["idle"], ["2"]))

    def test_a_loss_that_runs_away(self) -> None:
        """A learning rate that is much too large ends in an error, not in a net of NaN."""
        x, y = numbers()
        with pytest.raises(TrainingError, match="lower learning_rate"):
            prune_and_distil(stack(6, 12), None, x, y * 1e30, quick("SAD", learning_rate=1e9), loss=mse_loss)
