"""Checkpoints of an endless run: whole or not at all, one before kept, and nothing in them is code."""

from __future__ import annotations

import os

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (extra 'train')")

from prunus.errors import CheckpointError, OutputError  # noqa: E402
from prunus.online.checkpoint import Checkpoints  # noqa: E402

VALUES = {
    "keys": np.array([1, 2**64 - 1], np.uint64),
    "empty": np.empty((0, 3), np.float32),
    "one": np.array(2.5),
    "names": np.array(["a", "bcd"]),
    "weight": torch.arange(6.0).reshape(2, 3),
    "plain": [None, True, 3, 0.1, "x", (1, 2)],
    "deep": {"a": {"b": [np.arange(3)]}},
}


def assert_same(found, expected):
    """Compare values with their types, arrays by dtype and shape too."""
    assert type(found) is type(expected)
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        for key in expected:
            assert_same(found[key], expected[key])
    elif isinstance(expected, (list, tuple)):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    elif isinstance(expected, np.ndarray):
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        np.testing.assert_array_equal(found, expected)
    elif isinstance(expected, torch.Tensor):
        assert found.dtype == expected.dtype
        assert torch.equal(found, expected)
    else:
        assert found == expected


def test_a_state_comes_back_as_it_was(tmp_path) -> None:
    """Arrays of any type, tensors and plain values are the same after a trip through the file."""
    Checkpoints(tmp_path, pytest.fail).write(VALUES)
    again = Checkpoints(tmp_path, pytest.fail)
    assert_same(again.read(), VALUES)
    assert again.n_written == 1


def test_nothing_written_is_nothing_read(tmp_path) -> None:
    """A run that has just begun has no state."""
    assert Checkpoints(tmp_path, pytest.fail).read() is None


def test_the_newest_of_two_is_read(tmp_path) -> None:
    """Two files take turns, also over a resume."""
    for step in range(5):
        one = Checkpoints(tmp_path, pytest.fail)
        assert one.read() == (None if step == 0 else {"step": step - 1})
        one.write({"step": step})
        assert one.n_written == step + 1
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("how", ["flipped", "cut", "empty", "folder"])
def test_a_damaged_one_falls_back(tmp_path, how: str) -> None:
    """The one before is taken and the damaged file named; the next write heals it; two damaged ones are refused."""
    one = Checkpoints(tmp_path, pytest.fail)
    one.write({"step": 1})
    before = set(tmp_path.iterdir())
    one.write({"step": 2})
    (newest,) = set(tmp_path.iterdir()) - before
    damage(newest, how)
    said: list[str] = []
    again = Checkpoints(tmp_path, said.append)
    assert again.read() == {"step": 1}
    assert said == [f"{newest} is damaged; going on from the checkpoint before it"]
    if how == "folder":
        return
    again.write({"step": 3})
    assert Checkpoints(tmp_path, pytest.fail).read() == {"step": 3}
    for file in tmp_path.iterdir():
        damage(file, how)
    with pytest.raises(CheckpointError, match="delete the directory to begin anew"):
        Checkpoints(tmp_path, said.append).read()


def damage(file, how):
    """Spoil a file."""
    content = file.read_bytes()
    if how == "folder":
        file.unlink()
        file.mkdir()
    elif how == "flipped":
        at = len(content) // 2
        file.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    else:
        file.write_bytes(content[: len(content) - 7] if how == "cut" else b"")


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch) -> None:
    """A write that fails in the middle is a named error; the checkpoint before is the newest, and the next write works."""
    one = Checkpoints(tmp_path, pytest.fail)
    one.write({"step": 1})
    one.write({"step": 2})
    real = os.write

    def full(descriptor, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OutputError, match="No space left"):
        one.write({"step": 3})
    monkeypatch.setattr(os, "write", real)
    assert Checkpoints(tmp_path, pytest.fail).read() == {"step": 2}
    one.write({"step": 4})
    assert Checkpoints(tmp_path, pytest.fail).read() == {"step": 4}
    assert len(list(tmp_path.iterdir())) == 2


class Evil:
    """What a pickle may hold: a call."""

    def __reduce__(self):
        return os.system, ("true",)


def test_no_code_of_a_file_runs(tmp_path) -> None:
    """A file with a sound sum that holds an object is not read."""
    import hashlib
    import io

    content = io.BytesIO()
    torch.save({"number": 1, "state": Evil()}, content)
    (tmp_path / "checkpoint-0.pt").write_bytes(hashlib.sha256(content.getvalue()).digest() + content.getvalue())
    with pytest.raises(CheckpointError):
        Checkpoints(tmp_path, lambda _: None).read()
