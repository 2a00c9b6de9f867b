"""Models of a stream on disk: published, withdrawn, followed by whoever scores."""

from __future__ import annotations

import errno
import json
import threading
import time

import numpy as np
import pytest

from engine_networks import names
from prunus.engine.loading import load
from prunus.engine.scorer import RankScorer
from prunus.errors import OutputError, ServingError
from prunus.online.serving import Follower, Models, follow, rollback
from swap_pair import documents, one_of_two

X = documents(20)


@pytest.fixture(scope="module")
def pair():
    """Two scorers of the same features that differ in every score."""
    return [RankScorer(network, names(network)) for network in (one_of_two(False), one_of_two(True))]


@pytest.fixture
def models(tmp_path, pair):
    """A run with three models, the third serving: the second differs from the others."""
    made = Models(tmp_path / "models")
    for number in (1, 2, 3):
        made.publish(number, pair[number % 2].save)
    return made


def test_the_last_published_serves(tmp_path, pair) -> None:
    """Each model moves the link on, and what it names can be loaded as a file."""
    made = Models(tmp_path / "run" / "models")
    assert (made.current, made.numbers()) == (None, [])
    for number in (1, 2, 5):
        made.publish(number, pair[number % 2].save)
        assert made.current == number
        np.testing.assert_array_equal(load(made.folder / "current").score(X), pair[number % 2].score(X))
    assert made.numbers() == [1, 2, 5]
    assert {file.name for file in made.folder.iterdir()} == {
        "current",
        ".lock",
        "000001.prunus",
        "000002.prunus",
        "000005.prunus",
    }


def test_a_loop_that_repeats_itself_does_not_go_back(models, pair) -> None:
    """What was published after the checkpoint is written again, and the later model serves meanwhile."""
    before = models.path(2).read_bytes()
    models.publish(2, pair[0].save)
    assert models.current == 3
    assert models.path(2).read_bytes() == before


def test_rollback_goes_back_one_by_one(models, tmp_path) -> None:
    """Each rollback names what it did, is written down, and the first model is not gone back from."""
    assert rollback(tmp_path) == (3, 2)
    assert (models.current, models.withdrawn()) == (2, {3})
    assert rollback(tmp_path) == (2, 1)
    lines = [json.loads(line) for line in (models.folder / "rollbacks.jsonl").read_text().splitlines()]
    assert [(line["from"], line["to"]) for line in lines] == [(3, 2), (2, 1)]
    with pytest.raises(ServingError, match="model 1 is the first"):
        rollback(tmp_path)
    assert models.current == 1
    assert [models.standing_in(n) for n in (1, 2, 3, None)] == [1, 1, 1, None]


def test_what_was_withdrawn_does_not_come_back(models, pair, tmp_path) -> None:
    """Publishing it again, as a loop does that goes on from a checkpoint, changes nothing; the next model serves."""
    rollback(tmp_path)
    models.publish(3, pair[1].save)
    assert models.current == 2
    models.publish(4, pair[0].save)
    assert models.current == 4
    assert rollback(tmp_path) == (4, 2)


def test_a_rollback_that_was_killed_is_finished(models, tmp_path) -> None:
    """With the withdrawal on disk and the link not moved, the loop knows, and the next rollback moves the link."""
    (models.folder / "rollbacks.jsonl").write_text('{"from": 3, "to": 2}\n')
    assert models.standing_in(3) == 2
    assert rollback(tmp_path) == (3, 2)
    assert (models.current, len((models.folder / "rollbacks.jsonl").read_text().splitlines())) == (2, 1)


def test_nothing_to_go_back_to(tmp_path) -> None:
    """A directory that is no run, and one without a model, are told apart."""
    with pytest.raises(ServingError, match="expected the directory of a run"):
        rollback(tmp_path / "nothing")
    (tmp_path / "models").mkdir()
    with pytest.raises(ServingError, match="serves yet"):
        rollback(tmp_path)


def test_old_models_are_forgotten_but_not_the_one_that_serves(models, tmp_path) -> None:
    """What is below a number goes, unless it serves."""
    models.forget(3)
    assert models.numbers() == [3]
    with pytest.raises(ServingError, match="first that is left"):
        rollback(tmp_path)
    models.forget(9)
    assert models.numbers() == [3]


def test_a_model_that_cannot_be_written_changes_nothing(models) -> None:
    """The one that serves serves on."""

    def fail(path):
        msg = "disk full"
        raise OutputError(msg)

    with pytest.raises(OutputError):
        models.publish(4, fail)
    assert models.current == 3


def test_a_follower_has_what_serves(models, pair, tmp_path) -> None:
    """It swaps after a publication, a rollback, and a file that was written anew under the same number."""
    follower = follow(tmp_path, every_s=None)
    scorer = follower.scorer
    np.testing.assert_array_equal(scorer.score(X), pair[1].score(X))
    assert not follower.poll()
    rollback(tmp_path)
    assert follower.poll()
    np.testing.assert_array_equal(scorer.score(X), pair[0].score(X))
    models.publish(4, pair[1].save)
    assert follower.poll()
    np.testing.assert_array_equal(scorer.score(X), pair[1].score(X))
    pair[0].save(models.path(4))
    assert follower.poll()
    np.testing.assert_array_equal(scorer.score(X), pair[0].score(X))


def test_a_follower_keeps_its_model_when_the_next_is_damaged(models, pair, tmp_path) -> None:
    """The error is kept to be asked for, and the next sound model is taken."""
    follower = follow(tmp_path, every_s=None)
    models.publish(4, lambda path: path.write_bytes(b"nothing"))
    assert not follower.poll()
    assert "000004" in str(follower.error) or "current" in str(follower.error)
    np.testing.assert_array_equal(follower.scorer.score(X), pair[1].score(X))
    models.publish(5, pair[0].save)
    assert follower.poll()
    assert follower.error is None


def test_a_follower_outlives_a_file_system_that_is_away(models, pair, tmp_path, monkeypatch) -> None:
    """An error of the system is told, the model stays, and the next look finds what serves by then."""
    follower = follow(tmp_path, every_s=None)

    def away(self):
        raise OSError(errno.ESTALE, "Stale file handle")

    with monkeypatch.context() as patch:
        patch.setattr(Follower, "_look", away)
        assert not follower.poll()
    assert "Stale file handle" in str(follower.error)
    assert not follower.poll()
    assert follower.error is None
    models.publish(4, pair[0].save)
    assert follower.poll()
    np.testing.assert_array_equal(follower.scorer.score(X), pair[0].score(X))


def test_a_follower_needs_a_model(tmp_path) -> None:
    """Before the first model there is nothing to score with."""
    with pytest.raises(ServingError, match="wait for the first"):
        follow(tmp_path, every_s=None)


def test_scoring_while_models_change(models, pair, tmp_path) -> None:
    """A thread at full speed sees one whole model, old or new, through publications and rollbacks; both are seen."""
    expected = [one.score(X) for one in pair]
    seen: set[int] = set()
    mixed: list[object] = []
    end = threading.Event()
    with follow(tmp_path, every_s=0.001) as follower:

        def score():
            while not end.is_set():
                scores = follower.scorer.score(X)
                which = [n for n in (0, 1) if np.array_equal(scores, expected[n])]
                seen.update(which)
                if len(which) != 1:
                    mixed.append(scores)

        thread = threading.Thread(target=score)
        thread.start()
        for number in range(4, 24):
            models.publish(number, pair[number % 2].save)
            if number % 7 == 0:
                rollback(tmp_path)
            time.sleep(0.005)
        end.set()
        thread.join()
    assert seen == {0, 1}
    assert mixed == []
