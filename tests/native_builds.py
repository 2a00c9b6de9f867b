"""Builds of the native code beside the installed one, each in a folder of its own under ``build/``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def build(name: str, *options: str, target: str = "all") -> Path:
    """Configure and build with CMake, and return the folder; a later call builds what changed.

    Args:
        name: of the folder.
        options: CMake's own.
        target: what to build.
    """
    for module in ("cmake", "ninja", "nanobind"):
        pytest.importorskip(module, reason=f"{module} is not installed (extra 'dev')")
    import ninja

    cmake, where = [sys.executable, "-m", "cmake"], ROOT / "build" / name
    configure = [*cmake, "-S", ROOT, "-B", where, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", *options]
    configure += [f"-DCMAKE_MAKE_PROGRAM={ninja.BIN_DIR}/ninja", f"-DPython_EXECUTABLE={sys.executable}"]
    for command in (configure, [*cmake, "--build", where, "--target", target]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return where
