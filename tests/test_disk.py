"""Disks that fail: a file is written whole, or nothing is left behind."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from model_files import known_bytes, known_network
from prunus.engine.disk import write_atomically
from prunus.engine.file import load, save
from prunus.errors import OutputError


@pytest.fixture
def content():
    """Give the bytes of a small model file."""
    return known_bytes()


def fail(error):
    """Make a function that raises an error."""

    def raising(*_, **__):
        raise error

    return raising


@pytest.mark.parametrize("existing", [None, b"what stood there before"])
@pytest.mark.parametrize("function", ["write", "fsync", "replace"])
@pytest.mark.parametrize(
    "failure", [(errno.ENOSPC, "free some space"), (errno.EDQUOT, "quota"), (errno.EIO, "can be written")]
)
def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch, existing, function, failure):
    """Where a write, a flush or the rename fails, no new file is there and an old one is untouched."""
    path, (number, advice) = tmp_path / "m.prunus", failure
    if existing is not None:
        path.write_bytes(existing)
    monkeypatch.setattr(os, function, fail(OSError(number, os.strerror(number))))
    with pytest.raises(OutputError, match=advice) as caught:
        save(path, *known_network(), metadata={})
    monkeypatch.undo()
    assert str(path) in str(caught.value)
    assert "Nothing was written" in str(caught.value)
    assert [x.read_bytes() for x in tmp_path.iterdir()] == ([] if existing is None else [existing])


def test_a_disk_that_fills_up_halfway(tmp_path, monkeypatch):
    """Short writes are carried on with, and a failure after some of them leaves nothing."""
    real, calls = os.write, []

    def short(descriptor, data):
        calls.append(len(data))
        if len(calls) == 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, data[:10])

    monkeypatch.setattr(os, "write", short)
    with pytest.raises(OutputError):
        save(tmp_path / "m.prunus", *known_network(), metadata={})
    assert len(calls) == 5
    assert not any(tmp_path.iterdir())
    calls[:] = [0] * 5
    save(tmp_path / "m.prunus", *known_network(), metadata={})
    monkeypatch.undo()
    load(tmp_path / "m.prunus")


def test_the_kernel_refuses(tmp_path):
    """A real limit on the size of files, set by the kernel, gives OutputError and leaves nothing."""
    pytest.importorskip("resource")
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "from prunus.engine.disk import write_atomically\nfrom prunus.errors import OutputError\n"
        "try: write_atomically(sys.argv[1], b'x' * 5000)\nexcept OutputError: print('refused')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "m.prunus"],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
    )
    assert done.stdout == "refused\n"
    assert not any(tmp_path.iterdir())


def test_an_interrupt_leaves_nothing_behind(tmp_path, monkeypatch):
    """Ctrl-C in the middle of writing removes the temporary file and goes on as what it is."""
    monkeypatch.setattr(os, "fsync", fail(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path / "m.prunus", *known_network(), metadata={})
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent/m.prunus", "make the folder first"),
        ("folder", "is a folder or a device"),
        ("", "is a folder or a device"),
        ("file/m.prunus", "Nothing was written"),
        ("n" * 300, "Nothing was written"),
        ("a\0b", "Nothing was written"),
    ],
)
def test_paths_that_cannot_be_written(tmp_path, name, message):
    """A folder, a missing folder or a name that is too long gives OutputError."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=message):
        save(f"{tmp_path}/{name}", *known_network(), metadata={})
    assert sorted(x.name for x in tmp_path.iterdir()) == ["file", "folder"]


def test_devices_are_not_replaced():
    """A device is refused before anything is written beside it."""
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with pytest.raises(OutputError, match="device"):
        save("/dev/full", *known_network(), metadata={})
    assert Path("/dev/full").is_char_device()


def test_links_keep_their_place(tmp_path, content):
    """A link to a model file stays a link, and its target is replaced."""
    (tmp_path / "target").write_bytes(b"old")
    (tmp_path / "link").symlink_to("target")
    write_atomically(tmp_path / "link", content)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == content


def test_permissions_are_those_of_any_new_file(tmp_path, content):
    """A model file is as readable as the user's umask says, not as private as a temporary file."""
    (tmp_path / "plain").touch()
    write_atomically(tmp_path / "m.prunus", content)
    assert (tmp_path / "m.prunus").stat().st_mode == (tmp_path / "plain").stat().st_mode
