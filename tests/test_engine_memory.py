"""What a call costs in memory: nothing, and nothing that stays."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from engine_networks import make_rows, names, table_network
from prunus.engine.scorer import RankScorer

NATIVE = Path(__file__).parent / "native"


@pytest.fixture(scope="module")
def counter(tmp_path_factory):
    """The library that counts calls of the allocator."""
    compiler = shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("needs a C compiler and glibc")
    library = tmp_path_factory.mktemp("counter") / "count_mallocs.so"
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-fno-builtin", NATIVE / "count_mallocs.c", "-o", library], check=True)  # fmt: skip
    return library


def test_a_call_with_out_allocates_nothing(counter):
    """After one call, 10,000 more with out= ask the C library for no memory, on every instruction set."""
    done = subprocess.run(
        [sys.executable, NATIVE / "count_calls.py", counter],
        env={**os.environ, "LD_PRELOAD": str(counter)},
        capture_output=True,
        text=True,
        check=True,
    )
    known, *rows = done.stdout.splitlines()
    assert int(known.split()[1]) >= 1
    assert len(rows) >= 4
    assert [row for row in rows if not row.endswith(" 0")] == []


def resident_bytes():
    """Return the memory that this process holds now."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


@pytest.mark.long
@pytest.mark.timeout(600)
def test_memory_is_flat_over_a_million_calls():
    """A million calls on one document, with and without out=, leave no memory behind."""
    network = table_network("mixed")
    scorer = RankScorer(network, names(network))
    X = make_rows(np.random.default_rng(0), network, 1)
    out = np.empty(1, np.float32)

    def calls(n):
        for _ in range(n):
            scorer.score(X, out)
            scorer.score(X)

    calls(10_000)
    before = resident_bytes()
    calls(500_000)
    assert resident_bytes() - before < 1 << 20


@pytest.mark.long
def test_scorers_give_their_memory_back():
    """Making, using, and dropping scorers leaves no memory behind."""
    network = table_network("wide")
    X = make_rows(np.random.default_rng(0), network, 70)

    def rounds(n):
        for _ in range(n):
            RankScorer(network, names(network)).score(X, n_threads=2)

    rounds(200)
    before = resident_bytes()
    rounds(1000)
    assert resident_bytes() - before < 4 << 20
