"""What a time was measured on; kept beside every figure."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_CPUINFO = Path("/proc/cpuinfo")
_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


def cpu_model() -> str:
    """Name of the processor with its family, model and stepping, since one name may stand for several."""
    fields: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines():
            if not line.strip() and fields:
                break
            key, _, value = line.partition(":")
            fields[key.strip()] = value.strip()
    name = fields.get("model name") or platform.processor() or platform.machine()
    numbers = [f"{key} {fields[key]}" for key in ("cpu family", "model", "stepping") if key in fields]
    return f"{name} ({', '.join(numbers)})" if numbers else name


def cpu_caches() -> dict[str, str]:
    """Sizes of the first core's caches, as the system gives them: ``{"L1d": "32K", "L2": "1024K", ...}``."""
    caches = {}
    for folder in sorted(_CACHES.glob("index*")):
        with contextlib.suppress(OSError):
            level, kind, size = ((folder / part).read_text().strip() for part in ("level", "type", "size"))
            suffix = {"Data": "d", "Instruction": "i"}.get(kind, "")
            caches[f"L{level}{suffix}"] = size
    return caches


def cores() -> list[int]:
    """Cores that this process may run on, lowest first; empty where the system cannot say."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def _isas() -> list[str]:
    try:
        native = import_module("prunus._native")
    except ImportError:
        return []
    return [str(name) for name in native.isas()]


def _commit() -> str | None:
    """Commit of the checkout that this package is run from, with ``+changes`` where files differ; None elsewhere."""
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None


def package_version(name: str) -> str | None:
    """Version of an installed distribution, None where there is none."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def describe() -> dict[str, Any]:
    """Describe this machine and this installation.

    Returns:
        ``cpu``, ``cores`` (those of the machine), ``affinity`` (those that this process may use), ``caches``, ``isas``
        (of our engine, best first), ``load`` (average over the last minute), ``system``, ``python``, ``numpy``,
        ``prunus``, ``commit`` and ``time`` (UTC, ISO 8601).
    """
    import numpy as np

    from prunus import __version__

    load = None
    with contextlib.suppress(OSError, AttributeError):
        load = round(os.getloadavg()[0], 2)
    return {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "affinity": cores(),
        "caches": cpu_caches(),
        "isas": _isas(),
        "load": load,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": sys.version.split()[0],
        "numpy": np.__version__,
        "prunus": __version__,
        "commit": _commit(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
