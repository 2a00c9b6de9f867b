"""The engine under ThreadSanitizer and AddressSanitizer: nothing is reported, where what is broken is."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

import sanitizers

NATIVE = Path(__file__).parent / "native"

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def thread_package(tmp_path_factory):
    """The package with an extension built for ThreadSanitizer."""
    return sanitizers.build("thread", tmp_path_factory.mktemp("thread"))


RACE = """
import ctypes, sys, threading
broken = ctypes.CDLL(sys.argv[1])
together = threading.Barrier(2)
def work():
    together.wait()  # one that had ended before the other began would be in order, as the GIL is a lock
    broken.race(ctypes.c_long(3_000_000))
threads = [threading.Thread(target=work) for _ in range(2)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


def test_a_race_would_be_reported(tmp_path):
    """The same way of running finds the race of a library that has one."""
    sanitizers.runtime("thread")
    library = tmp_path / "broken.so"
    subprocess.run([shutil.which("cc"), "-g", "-O1", "-shared", "-fPIC", "-fsanitize=thread", NATIVE / "broken.c", "-o", library], check=True)  # fmt: skip
    done = sanitizers.run("thread", RACE, arguments=(library,))
    assert done.returncode == sanitizers.REPORTED
    assert "data race" in done.stderr


TRAFFIC = """
import sys
from prunus import _native
from swap_pair import one_of_two, traffic, trees
print(_native.__file__)
pairs = (None, (one_of_two(0), trees()))
seen = [traffic(int(sys.argv[1]), pair, n_threads=n) for pair in pairs for n in (1, 2, 3)]
assert not any(one.mixed for one in seen), seen
assert all(min(one.first, one.second, one.swaps) > 0 for one in seen), seen
print(sum(one.documents for one in seen), sum(one.swaps for one in seen))
"""


def test_swapping_is_free_of_races(thread_package):
    """Two threads score, sharing each call between up to three more, while a third swaps: nothing of ours is reported."""
    done = sanitizers.run("thread", TRAFFIC, package=thread_package, arguments=(150_000,))
    assert done.returncode == 0, done.stderr[-8000:]
    assert "ThreadSanitizer" not in done.stderr
    where, counts = done.stdout.splitlines()
    assert Path(where).parent == thread_package / "prunus"
    documents, swaps = map(int, counts.split())
    assert documents >= 900_000
    assert swaps > 1000
