"""Model files of every kind, damaged or forged: always a named error, never a crash, never gigabytes."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fuzz.target
import golden_files
import golden_form
import sanitizers
from fuzz import run
from fuzz.mutate import Parts, make_checks_right, mutate
from fuzz.seeds import seeds
from prunus import _native
from prunus.engine.header import sign
from prunus.engine.loading import load
from prunus.errors import ModelFileError

FUZZ = Path(__file__).parent / "fuzz"
FILES = seeds()


def damaged(content, step):
    """Give a file with every ``step``-th byte changed in two ways, and cut at every ``step``-th length."""
    for position in range(0, len(content), step):
        for pattern in (0xFF, 1 << position % 8):
            yield content[:position] + bytes([content[position] ^ pattern]) + content[position + 1 :]
        yield content[:position]


@pytest.mark.parametrize("name", FILES)
def test_seeds_load(name):
    """What the other tests damage is sound before: it loads, taken apart and put together again too."""
    assert fuzz.target.read(FILES[name]).startswith("loaded")
    assert fuzz.target.read(sign(Parts(FILES[name]).assemble())).startswith("loaded")
    assert fuzz.target.read(make_checks_right(FILES[name])).startswith("loaded")


@pytest.mark.parametrize("step", [pytest.param(11, id="some"), pytest.param(1, id="all", marks=pytest.mark.long)])
@pytest.mark.parametrize("name", FILES)
def test_damage_is_found(tmp_path, name, step):
    """A byte changed anywhere, or a cut at any length, gives ModelFileError that names the file."""
    path = tmp_path / "m.prunus"
    for content in damaged(FILES[name], step):
        path.write_bytes(content)
        with pytest.raises(ModelFileError, match=r"m\.prunus"):
            load(path)


@given(st.integers(0, 2**32), st.sampled_from(sorted(FILES)))
@settings(max_examples=300)
def test_forged_files_are_read_or_refused_by_name(seed, name):
    """Whatever is changed in a file that is signed again, it loads and scores, or it is a ModelFileError."""
    fuzz.target.read(mutate(FILES[name], random.Random(seed)))


def test_forging_reaches_far():
    """The changes above come to many outcomes, loaded models of each class among them."""
    rng = random.Random(1)
    outcomes = {fuzz.target.read(mutate(FILES[rng.choice(sorted(FILES))], rng)) for _ in range(1000)}
    assert len(outcomes) > 60
    assert {"loaded Network", "loaded Ensemble", "loaded SparseFactors", "loaded DenseFactors"} <= outcomes
    for part in (
        "checksum",
        "indptr",
        "indices lie",
        "child",
        "unpacked",
        "id map",
        "does not score here",
        "truncated",
        "NaN",
        "no JSON",
    ):
        assert any(part in outcome for outcome in outcomes), part


@pytest.mark.parametrize("path", sorted((FUZZ / "corpus").iterdir()), ids=lambda path: path.name)
def test_kept_files_are_read_or_refused_by_name(path):
    """The files that fuzzing kept, what it once found among them, are handled."""
    fuzz.target.read(path.read_bytes())


LIMITED = """
import random, resource
from pathlib import Path
from fuzz.mutate import mutate
from fuzz.seeds import seeds
from fuzz.target import read
files = sorted(seeds().items())
for _, content in files:
    read(content)
taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + (128 << 20), resource.RLIM_INFINITY))
rng = random.Random(1)
for _ in range(400):
    read(mutate(rng.choice(files)[1], rng))
try:
    bytearray(256 << 20)
except MemoryError:
    print("limited")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits are those of Linux")
def test_no_small_file_takes_much_memory():
    """Hundreds of forged files of a few kilobytes are read within 128 MiB more than Python takes by itself."""
    done = subprocess.run([sys.executable, "-c", LIMITED], cwd=FUZZ.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == "limited\n"


def test_a_finding_is_reported_and_kept(tmp_path, monkeypatch, capsys):
    """Where the reader raises anything but a named error, the fuzzer says so and writes the file."""
    real = fuzz.target.read

    def broken(content):
        outcome = real(content)
        if "indptr" in outcome:
            raise IndexError(outcome)
        return outcome

    monkeypatch.setattr(fuzz.target, "read", broken)
    monkeypatch.setattr(run, "limit_memory", lambda: None)  # it would hold for the tests after this one too
    found = run.plain(3, 1, tmp_path / "corpus", tmp_path / "out")
    kept = list((tmp_path / "out").glob("crash-*"))
    assert found >= len(kept) > 0  # the same file may be met again
    assert all("indptr" in real(path.read_bytes()) for path in kept)
    assert "IndexError" in capsys.readouterr().out


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("how", [(), ("--plain",)], ids=["guided", "plain"])
def test_fuzzing_for_a_while_finds_nothing(tmp_path, how):
    """The fuzzer runs for ten seconds and finds nothing."""
    if not how:
        pytest.importorskip("atheris", reason="atheris is not installed (extra 'fuzz')")
    command = [sys.executable, FUZZ / "run.py", "--seconds", "10", "--corpus", tmp_path / "c", "--out", tmp_path / "o", *how]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    assert len(list((tmp_path / "c").iterdir())) > len(FILES)
    assert not list((tmp_path / "o").glob("crash-*"))


UNDER_ASAN = """
import random, sys
from prunus import _native
from prunus.errors import ModelFileError
from fuzz.mutate import mutate
from fuzz.seeds import seeds
from fuzz.target import FOLDER, load, read
print(_native.__file__)
for name, content in seeds().items():
    assert read(content).startswith("loaded")
    path = FOLDER / "m.prunus"
    for position in range(len(content)):
        for bad in (content[:position] + bytes([content[position] ^ 255]) + content[position + 1 :], content[:position]):
            path.write_bytes(bad)
            try:
                load(path)
            except ModelFileError:
                continue
            raise SystemExit(f"{name} loads with byte {position} changed or cut there")
rng = random.Random(int(sys.argv[1]))
files = sorted(seeds().items())
outcomes = {read(mutate(rng.choice(files)[1], rng)) for _ in range(int(sys.argv[2]))}
print(len(outcomes))
"""

OVERRUN = "import ctypes, sys; ctypes.CDLL(sys.argv[1]).overrun(ctypes.c_long(40))"


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_hostile_files_under_address_sanitizer(tmp_path):
    """Each byte changed, a cut at each length, and forged files: named errors, and no report of ASan or UBSan.

    That the same way of running does report a read past the end of an array is seen first.
    """
    library = tmp_path / "broken.so"
    subprocess.run(["cc", "-g", "-shared", "-fPIC", "-fsanitize=address", FUZZ.parent / "native" / "broken.c", "-o", library], check=True)  # fmt: skip
    seen = sanitizers.run("address", OVERRUN, arguments=(library,))
    assert seen.returncode == sanitizers.REPORTED
    assert "heap-buffer-overflow" in seen.stderr
    (tmp_path / "package").mkdir()
    package = sanitizers.build("address", tmp_path / "package")
    done = sanitizers.run("address", UNDER_ASAN, package=package, arguments=(1, 5000))
    assert done.returncode == 0, done.stderr[-8000:]
    assert "runtime error" not in done.stderr
    where, outcomes = done.stdout.splitlines()
    assert Path(where).parent == package / "prunus"
    assert int(outcomes) > 100


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_kernels_under_address_sanitizer(tmp_path):
    """Every kernel of this machine gives the twins' numbers in the runner without Python: no report of ASan or UBSan."""
    cases = list(golden_files.cases())
    golden_form.write(tmp_path / "golden", cases)
    runner = sanitizers.native("address", "prunus_golden") / "prunus_golden"
    done = subprocess.run([runner, tmp_path / "golden"], env={**os.environ, **sanitizers.OPTIONS["address"]}, capture_output=True, text=True, check=False)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert {line.partition(",")[0] for line in done.stdout.splitlines()} == {
        f"{isa}: {len(cases)} cases" for isa in _native.isas()
    }
