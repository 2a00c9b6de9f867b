"""Builds the extension with a sanitizer, and runs Python on that build in a process of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import native_builds

SOURCE = native_builds.ROOT / "src" / "prunus"

RUNTIMES = {"thread": "libtsan.so", "address": "libasan.so"}
"""What must be loaded before Python, which is not instrumented itself."""

BUILDS = {"thread": "thread", "address": "address;undefined"}
"""What PRUNUS_SANITIZE is set to."""

LEVELS = ("-DCMAKE_CXX_FLAGS_RELEASE=-O1", "-DPRUNUS_KERNEL_LEVEL=-O0")
"""The kernels are templates unrolled by hand, all inlined: with checks between, optimising them takes minutes a file and
finds no more, for nothing that was written is left out without it."""

SUPPRESSED = Path(__file__).parent / "native" / "tsan.supp"
"""What is not a race of ours, with the reason."""

OPTIONS = {
    # 66 is no exit code of ours, so that a report can be told from any other failure.
    "thread": {
        "TSAN_OPTIONS": f"exitcode=66 history_size=5 second_deadlock_stack=1 suppressions={SUPPRESSED} print_suppressions=0"
    },
    # Python leaves memory to the system when it ends: what leaks is looked for in test_engine_memory.py.
    "address": {"ASAN_OPTIONS": "exitcode=66 detect_leaks=0", "UBSAN_OPTIONS": "print_stacktrace=1 exitcode=66"},
}

REPORTED = 66


def runtime(kind: str) -> str:
    """Give the path of a sanitizer's library, or skip the test."""
    compiler = shutil.which("c++")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("needs a C++ compiler on Linux")
    found = subprocess.run([compiler, f"-print-file-name={RUNTIMES[kind]}"], capture_output=True, text=True, check=True)
    path = found.stdout.strip()
    if not Path(path).is_absolute():
        pytest.skip(f"the compiler has no {RUNTIMES[kind]}")
    return path


def native(kind: str, target: str = "all") -> Path:
    """Build native code with a sanitizer and give the folder; a later call builds what changed.

    Args:
        kind: a key of :data:`BUILDS`.
        target: what to build.
    """
    runtime(kind)
    return native_builds.build(f"sanitize-{kind}", f"-DPRUNUS_SANITIZE={BUILDS[kind]}", *LEVELS, target=target)


def build(kind: str, folder: Path) -> Path:
    """Build the extension with a sanitizer and put the package around it; a later call builds what changed.

    Args:
        kind: a key of :data:`BUILDS`.
        folder: where the package is put together, for PYTHONPATH.
    """
    where = native(kind)
    package = folder / "prunus"
    package.mkdir()
    for entry in SOURCE.iterdir():
        if not entry.name.startswith("_native"):
            (package / entry.name).symlink_to(entry)
    (built,) = where.glob("_native*.so")
    (package / built.name).symlink_to(built)
    return folder


def run(kind: str, code: str, *, package: Path | None = None, arguments: tuple[object, ...] = ()) -> subprocess.CompletedProcess[str]:  # fmt: skip
    """Run Python code under a sanitizer's runtime.

    Args:
        kind: a key of :data:`BUILDS`.
        code: what to run.
        package: what :func:`build` gave; without it the code must not import prunus.
        arguments: its sys.argv[1:].
    """
    import numpy as np

    # -S: an editable install would put a finder of its own before PYTHONPATH.
    interpreter = Path(sys.executable).resolve()
    places = [*([package] if package else []), Path(__file__).parent, Path(np.__file__).parents[1]]
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "LD_"))},
        **OPTIONS[kind],
        "LD_PRELOAD": runtime(kind),
        "PYTHONPATH": os.pathsep.join(map(str, places)),
        "OPENBLAS_NUM_THREADS": "1",
    }
    command = [interpreter, "-S", "-c", code, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
