"""What a measured time depends on: the CPU, its caches, the instruction set and the build of the engine."""

from __future__ import annotations

import hashlib
import platform
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from prunus import _native
from prunus.engine.scorer import choose_isa

MODEL_VERSION: Final = 4
"""Raised whenever the form of the time model changes, so that stored calibrations are measured again."""

_CACHES: Final = Path("/sys/devices/system/cpu/cpu0/cache")


class Caches(NamedTuple):
    """Bytes of the data caches that one core sees, smallest first.

    Attributes:
        l1: of the first level.
        l2: of the second.
        l3: of the last.
    """

    l1: int
    l2: int
    l3: int


@cache
def data_caches() -> Caches:
    """Sizes of this machine's data caches; common ones where the system does not say."""
    sizes = {"1": 32 << 10, "2": 1 << 20, "3": 32 << 20}
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    for folder in sorted(_CACHES.glob("index*")):
        try:
            level, kind, size = ((folder / part).read_text().strip() for part in ("level", "type", "size"))
            if kind != "Instruction" and level in sizes:
                sizes[level] = int(size[:-1]) * units[size[-1]] if size[-1] in units else int(size)
        except (OSError, ValueError):
            continue
    return Caches(sizes["1"], sizes["2"], max(sizes["3"], sizes["2"]))


def _cpu() -> str:
    wanted = ("vendor_id", "cpu family", "model", "model name", "stepping", "flags", "CPU part", "Features")
    try:
        text = Path("/proc/cpuinfo").read_text().split("\n\n", 1)[0]
    except OSError:
        return platform.processor() or platform.machine()
    return "\n".join(line for line in text.splitlines() if line.split(":")[0].strip() in wanted)


@cache
def _engine_build() -> str:
    return hashlib.sha256(Path(_native.__file__).read_bytes()).hexdigest()


def machine_key() -> str:
    """Hash of all that a measured time depends on: CPU family, model and features, caches, instruction set, engine build."""
    text = "\n".join([_cpu(), str(data_caches()), choose_isa(), _engine_build(), str(MODEL_VERSION)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
