"""Every kernel of 64-bit Arm against golden files of the NumPy twins: cross-compiled, and run in an emulator.

The runner has no Python in it. It runs this machine's kernels too, under AddressSanitizer: see test_hostile_files.py.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest

import golden_files
import golden_form
import native_builds

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]

SETS = ("neon", "scalar")


@pytest.fixture(scope="module")
def command():
    """Build the runner; give what starts it."""
    for tool, package in (("aarch64-linux-gnu-g++", "g++-aarch64-linux-gnu"), ("qemu-aarch64", "qemu-user")):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed (Debian: {package})")
    # -O1: half the time of -O3, and the same vector instructions, for the kernels are written with them.
    folder = native_builds.build(
        "aarch64", "-DCMAKE_TOOLCHAIN_FILE=native/aarch64-linux-gnu.cmake", "-DPRUNUS_PYTHON=OFF",
        "-DCMAKE_CXX_FLAGS_RELEASE=-O1", "-DPRUNUS_KERNEL_LEVEL=-O1", target="prunus_golden",
    )  # fmt: skip
    return ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu", folder / "prunus_golden"]


def run(command, cases, folder):
    """Write the cases and run the command on them."""
    path = folder / "golden"
    golden_form.write(path, cases)
    return subprocess.run([*command, path], capture_output=True, text=True, check=False)


def test_every_kernel_is_the_twins(command, tmp_path):
    """Scores, leaves and statuses are the twin's in every case, on every instruction set of the build."""
    cases = list(golden_files.cases())
    assert len({case.name for case in cases}) == len(cases)
    done = run(command, cases, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.partition(",")[0] for line in done.stdout.splitlines()] == [
        f"{name}: {len(cases)} cases" for name in SETS
    ]


def changed(case, name, at, by):
    """Return a case with one number of one array changed."""
    values = case.arrays[name].copy()
    values.reshape(-1)[at] += by
    return replace(case, arrays={**case.arrays, name: values})


def test_one_wrong_number_is_told(command, tmp_path):
    """A score off by one, a leaf that is another, a status too many: each is told with its case, kernel and set."""
    sums = next(golden_files.integers())
    trees = next(golden_files.forests())
    stage = next(case for case in golden_files.functions() if "bad_status" in case.arrays)
    clicks = next(golden_files.clicks())
    wrong = (
        changed(clicks, "score", 299, 1),
        changed(clicks, "keys", 0, -1),
        changed(sums, "score", 69, 1),
        changed(trees, "leaves", -1, 1),
        changed(stage, "bad_status", 41, 4),
    )
    done = run(command, [stage, *wrong, sums], tmp_path)
    assert done.returncode == 1
    told = done.stderr.splitlines()
    assert len(told) == len(wrong) * len(SETS)
    for case in wrong:
        for name in SETS:
            assert any(f"case '{case.name}', kernel {case.kernel}, set {name}: " in line for line in told)


def test_scores_of_a_batch_are_compared(command, tmp_path):
    """A NaN is no score, however much slack there is."""
    case = next(golden_files.integers())
    wrong = replace(case, arrays={**case.arrays, "score": np.full_like(case.arrays["score"], np.nan)})
    assert run(command, [wrong], tmp_path).returncode == 1


@pytest.mark.parametrize("cut", [1, 7, 300])
def test_half_a_file_is_refused(command, tmp_path, cut):
    """A file that ends in the middle is an error of its own, not a success."""
    path = tmp_path / "whole"
    golden_form.write(path, [next(golden_files.integers())])
    half = tmp_path / "half"
    half.write_bytes(path.read_bytes()[:-cut])
    done = subprocess.run([*command, half], capture_output=True, text=True, check=False)
    assert done.returncode == 2
