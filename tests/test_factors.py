"""The student of recommenders and its training: what is scored, what is learned, and that a resume changes nothing."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from prunus.data.interactions import Interactions  # noqa: E402
from prunus.distill import factors as loop_module  # noqa: E402
from prunus.distill.factors import FactorLoop, FactorSettings, TeacherLists, teacher_lists  # noqa: E402
from prunus.engine import recommender_reference as twin  # noqa: E402
from prunus.engine.recommender import DenseFactors, SparseFactors  # noqa: E402
from prunus.errors import RecipeChangedError, RecommenderError  # noqa: E402
from prunus.prune.lottery import Lottery  # noqa: E402
from prunus.prune.schedule import ExponentialSchedule  # noqa: E402
from prunus.student.factors import Factors, _Rows, leading_factors  # noqa: E402
from prunus.teacher.item_scores import ByHistory  # noqa: E402

N_USERS, N_ITEMS, N_TASTES = 150, 40, 4
POPULAR = np.arange(N_ITEMS, dtype=np.int32)


def histories(seed: int = 0, n_users: int = N_USERS) -> Interactions:
    """Draw users who each take about half of the items of one taste, and a few of the others; the last has none."""
    rng = np.random.default_rng(seed)
    taste = rng.integers(0, N_TASTES, n_users)
    share = np.where(np.arange(N_ITEMS) % N_TASTES == taste[:, None], 0.5, 0.05)
    taken = rng.random((n_users, N_ITEMS)) < share
    taken[:, 0] |= ~taken.any(axis=1)
    taken[-1] = False
    indptr = np.concatenate([[0], np.cumsum(taken.sum(axis=1))])
    return Interactions(indptr, np.nonzero(taken)[1].astype(np.int32), N_ITEMS)


def by_taste(matrix: object) -> np.ndarray:
    """Score each item by how many items of its taste were taken: a teacher who knows how the data were made."""
    counts = np.asarray(matrix.toarray())  # type: ignore[attr-defined]
    same = np.arange(N_ITEMS)[:, None] % N_TASTES == np.arange(N_ITEMS) % N_TASTES
    return np.asarray(counts @ same + 0.01 * np.linspace(0, 1, N_ITEMS), np.float32)


TEACHER = ByHistory(by_taste, "tastes")
SETTINGS = FactorSettings(epochs=6, batch_users=32, learning_rate=0.02, teacher=1.0)


def trained(
    settings: FactorSettings = SETTINGS, *, density: float = 0.25, checkpoint: Path | None = None, bits: int = 8
) -> FactorLoop:
    """Build a loop over small data, with a pruner that goes down to a density."""
    data = histories()
    model = Factors(N_ITEMS, 16, seed=settings.seed, bits=bits)
    end = 3 * -(-N_USERS // settings.batch_users)
    pruner = Lottery({"weight": model.weight}, ExponentialSchedule(0, end, 5), density, masks={"weight": model.mask})
    return FactorLoop(
        model, data, teacher_lists(TEACHER, data, 16, block=64), settings, pruner=pruner, checkpoint=checkpoint
    )


class TestTeacherLists:
    """What is kept of a teacher."""

    def test_best_unseen_items_first(self) -> None:
        """Items fall by score, none is seen, and nothing better is left out; blocks change nothing."""
        data = histories()
        lists, whole = teacher_lists(TEACHER, data, 8, block=7), by_taste(data.users_x_items())
        assert (np.diff(lists.scores, axis=1) <= 0).all()
        for user in range(data.n_users):
            unseen = np.setdiff1d(np.arange(N_ITEMS), data.history(user))
            assert not np.isin(lists.items[user], data.history(user)).any()
            np.testing.assert_array_equal(lists.scores[user], np.sort(whole[user, unseen])[::-1][:8])

    def test_short_lists_end_in_nothing(self) -> None:
        """A user with fewer unseen items than the list is long has scores of -inf at its end, and a loss that is finite."""
        full = Interactions([0, N_ITEMS - 3, N_ITEMS], np.r_[np.arange(N_ITEMS - 3), 0, 1, 2].astype(np.int32), N_ITEMS)
        lists = teacher_lists(TEACHER, full, 8)
        assert (lists.scores[0] == -np.inf).sum() == 5
        loop = FactorLoop(Factors(N_ITEMS, 8, seed=0), full, lists, dataclasses.replace(SETTINGS, epochs=2))
        loop.run()
        assert all(np.isfinite(record["loss"]) for record in loop.history)


class TestFactors:
    """The module and the arrays that it gives."""

    @pytest.mark.parametrize("calibrated", [False, True])
    @pytest.mark.parametrize("density", [0.25, 1.0])
    def test_engine_scores_what_was_trained(self, calibrated: bool, density: float) -> None:
        """The twin of the engine gives the scores of the module, with and without levels, sparse and dense."""
        settings = dataclasses.replace(SETTINGS, round_from=0.5 if calibrated else 1.0)
        loop, data = trained(settings, density=density, bits=4), histories(1)
        model = loop.run()
        found = model.factors(POPULAR)
        assert isinstance(found, SparseFactors if density < 1 else DenseFactors)
        with torch.no_grad():
            ours = model(torch.from_numpy(data.indptr), torch.from_numpy(data.items.astype(np.int64))).numpy()
        np.testing.assert_allclose(twin.score(found, data.indptr, data.items), ours, rtol=1e-4, atol=1e-4)
        step = found.decode.step if isinstance(found, SparseFactors) else found.step
        assert (step is not None) is calibrated
        if calibrated:
            assert len(np.unique(model.rows().detach().numpy())) <= 15

    def test_refuses_bits(self) -> None:
        """Levels have 2 to 8 bits."""
        with pytest.raises(RecommenderError, match="got 9 bits"):
            Factors(3, 4, seed=0, bits=9)

    def test_starts_from_the_leading_factors(self) -> None:
        """Of weights with few positive eigenvalues, the directions of the leading factors give these weights back."""
        basis = np.linalg.qr(np.random.default_rng(0).normal(size=(30, 3)))[0]
        symmetric = basis @ np.diag([3.0, 2.0, 1.0]) @ basis.T
        scale = np.linspace(0.5, 2.0, 30)
        found = leading_factors((symmetric * scale / scale[:, None]).astype(np.float32), 4)
        np.testing.assert_allclose(found @ found.T, symmetric, atol=1e-5)
        model = Factors(30, 4, seed=0)
        before = model.weight.detach().clone()
        found[7] = 0
        model.start_from(found)
        rows = model.rows().detach().numpy()
        np.testing.assert_allclose(
            rows @ rows[0],
            (found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9) @ rows[0])
            + (np.arange(30) == 7) * (rows[7] @ rows[0]),
            atol=1e-5,
        )
        assert torch.equal(model.weight[7], before[7])

    def test_gradient_of_rows(self) -> None:
        """The written gradient of masked rows is that of the formula, by differences; what is masked has none."""
        generator = torch.Generator().manual_seed(0)
        weight, length = torch.randn(5, 7, generator=generator).double(), torch.randn(5, generator=generator).double()
        mask = torch.rand(5, 7, generator=generator) < 0.6
        mask[:, 0] = True
        rows = torch.nn.functional.normalize(weight * mask, dim=1) * length.exp()[:, None]
        inputs = (weight.requires_grad_(), mask, length.requires_grad_())
        np.testing.assert_allclose(_Rows.apply(*inputs).detach().numpy(), rows.numpy(), rtol=1e-12)
        assert torch.autograd.gradcheck(_Rows.apply, inputs)

    def test_rounding_lets_the_gradient_pass(self) -> None:
        """With levels in place the weights still learn."""
        model = Factors(6, 4, seed=0, bits=3)
        model.calibrate()
        (model.rows() * torch.arange(24.0).view(6, 4)).sum().backward()
        assert model.weight.grad is not None
        assert (model.weight.grad != 0).all()


class TestLoop:
    """Training."""

    def test_own_loss_is_that_of_whole_scores(self) -> None:
        """The sums over profiles give the distance between normalised scores and histories, computed whole."""
        data = histories()
        x = torch.from_numpy(data.users_x_items().toarray()[:-1])
        model = Factors(N_ITEMS, 16, seed=1)
        with torch.no_grad():
            model.log_length.copy_(torch.linspace(-1, 1, N_ITEMS))
        rows = model.rows().detach()
        y = x @ (rows @ rows.T).fill_diagonal_(0.0)
        expected = (y / y.norm(dim=1, keepdim=True) - x / x.norm(dim=1, keepdim=True)).square().sum(1).mean()
        indptr, items = torch.from_numpy(data.indptr[:-1]), torch.from_numpy(data.items.astype(np.int64))
        profiles = model.profiles(rows, indptr, items)
        whole = (profiles @ rows.T).square().sum(1)
        ours = loop_module._own_loss(model, rows, profiles, whole, indptr, items)
        assert ours.item() == pytest.approx(expected.item(), rel=1e-5)

    @pytest.mark.parametrize("among", ["head", "catalogue"])
    def test_learns_the_teachers_lists(self, among: str) -> None:
        """A quarter of the weights, on levels, come to list most of what the teacher lists for users who were not seen."""
        settings = dataclasses.replace(SETTINGS, epochs=20, among=among)
        model, data = trained(settings, bits=4).run(), histories(5)
        theirs = teacher_lists(TEACHER, data, 8).items

        def shared(student: Factors) -> float:
            ours = ByHistory(lambda part: twin.score(student.factors(POPULAR), part.indptr, part.indices), "student")
            lists = teacher_lists(ours, data, 8)
            return float((lists.items[:-1, :, None] == theirs[:-1, None]).any(2).mean())

        assert shared(Factors(N_ITEMS, 16, seed=0)) < 0.4
        assert shared(model) > 0.5

    def test_pruned_to_the_density(self) -> None:
        """Rows keep four of sixteen factors each, in the module and in what the engine gets."""
        loop = trained()
        found = loop.run().factors(POPULAR)
        assert isinstance(found, SparseFactors)
        assert (loop.model.mask.sum(1) == 4).all()
        assert (found.decode.lengths <= 4).all()
        assert loop.history[-1]["density"] == 0.25

    def test_a_resume_changes_nothing(self, tmp_path: Path) -> None:
        """Interrupted in any epoch and gone on with, training ends with the same bits as without a stop."""

        class StopError(Exception):
            pass

        def stop(loop: FactorLoop) -> dict[str, float]:
            if loop.epoch == stopped + 1:
                raise StopError
            return {}

        whole = trained().run().factors(POPULAR)
        for stopped in (1, 5):
            path = tmp_path / f"{stopped}.pt"
            first = trained(checkpoint=path)
            first.on_epoch = stop
            with pytest.raises(StopError):
                first.run()
            second = trained(checkpoint=path)
            found = second.run().factors(POPULAR)
            assert isinstance(found, SparseFactors)
            assert isinstance(whole, SparseFactors)
            assert len(second.history) == SETTINGS.epochs
            np.testing.assert_array_equal(found.decode.to_dense(), whole.decode.to_dense())

    def test_refuses_a_checkpoint_of_other_settings(self, tmp_path: Path) -> None:
        """A checkpoint belongs to its settings."""
        path = tmp_path / "loop.pt"
        trained(dataclasses.replace(SETTINGS, epochs=1), checkpoint=path).run()
        with pytest.raises(RecipeChangedError, match=r"loop\.pt was made with other settings"):
            trained(checkpoint=path).run()

    def test_the_rate_falls_once_a_cycle(self) -> None:
        """It stands at its peak until the fall, ends at a fiftieth of it, and goes back where a pruner says so."""
        loop = trained(dataclasses.replace(SETTINGS, fall_from=0.5))
        rates = []
        for step in range(loop.total_steps + 1):
            loop.step = step
            rates.append(loop._learning_rate())
        assert rates[: len(rates) // 2] == [0.02] * (len(rates) // 2)
        assert rates[-1] == pytest.approx(0.0004)
        assert (np.diff(rates[len(rates) // 2 :]) <= 0).all()
        assert isinstance(loop.pruner, Lottery)
        loop.pruner.rewound_at = loop.total_steps
        assert loop._learning_rate() == 0.02

    def test_an_epoch_of_some_users_draws_others_next_time(self) -> None:
        """With fewer users an epoch than there are, steps are fewer and two epochs see different users."""
        loop = trained(dataclasses.replace(SETTINGS, epochs=2, epoch_users=64))
        seen: list[set[int]] = []
        loss = loop._loss

        def watched(users: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
            if loop.step % loop.steps_per_epoch == 0:
                seen.append(set())
            seen[-1] |= set(users.tolist())
            return loss(users, rng)

        loop._loss = watched  # type: ignore[method-assign]
        loop.run()
        assert loop.steps_per_epoch == 2
        assert [len(users) for users in seen] == [64, 64]
        assert seen[0] != seen[1]

    def test_sampled_columns_hold_histories_and_heads(self) -> None:
        """Of fewer columns than items, the batch's own are always there, by place, and the rest evenly."""
        loop = trained(dataclasses.replace(SETTINGS, columns=36, among="catalogue"))
        assert loop.lists is not None
        counts, data = np.zeros(N_ITEMS), histories()
        users = np.array([0, 5])
        items = np.concatenate([data.history(user) for user in users]).astype(np.int64)
        own = np.union1d(loop.lists.items[users], items)
        for seed in range(200):
            columns, place, expected = loop._columns(users, items, np.random.default_rng(seed))
            assert columns is not None
            assert expected is not None
            assert (place[own] >= 0).all()
            np.testing.assert_array_equal(np.flatnonzero(place >= 0), columns.numpy())
            assert (expected[place[own]] == 1).all()
            counts[columns.numpy()] += 1 / expected.numpy()
        assert counts.mean() == pytest.approx(200)
        assert (np.abs(counts - 200) < 60).all()
        assert np.isfinite(loop.run().weight.detach().numpy()).all()

    def test_a_sample_stands_for_the_catalogue(self) -> None:
        """The loss of drawn columns is on average about that of all, and moves the rows of these columns alone."""
        loop, users = trained(), np.array([0, 5])
        assert loop.lists is not None
        loop.lists = TeacherLists(loop.lists.items[:, :2], loop.lists.scores[:, :2])
        rng = np.random.default_rng(0)
        whole = float(loop._loss(users, rng).detach())
        loop.settings = dataclasses.replace(loop.settings, columns=30)
        drawn = [loop._loss(users, rng) for _ in range(200)]
        found = np.array([float(loss.detach()) for loss in drawn])
        assert found.std() > 0
        assert found.mean() == pytest.approx(whole, abs=4 * found.std() / np.sqrt(len(found)) + 0.1 * found.var())
        drawn[0].backward()
        weight = loop.model.weight.grad
        assert weight is not None
        assert 25 <= int((weight != 0).any(1).sum()) <= 30

    def test_without_a_teacher(self) -> None:
        """Without lists the histories alone teach: items of one taste come to lie near each other."""
        loop = FactorLoop(Factors(N_ITEMS, 16, seed=0), histories(), None, dataclasses.replace(SETTINGS, epochs=20))
        rows = loop.run().rows().detach()
        near = (rows @ rows.T - torch.eye(N_ITEMS)).numpy()
        same = np.arange(N_ITEMS)[:, None] % N_TASTES == np.arange(N_ITEMS) % N_TASTES
        assert near[same].mean() > near[~same].mean() + 0.1
