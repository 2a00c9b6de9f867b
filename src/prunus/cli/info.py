"""``prunus info``: this machine and this installation."""

from __future__ import annotations

from typing import Any

from prunus.cli import options, talk

EXTRAS = {
    "cli": ("typer", "rich"),
    "io": ("pyarrow", "polars", "sklearn", "scipy"),
    "train": ("torch", "lightgbm", "pydantic", "matplotlib", "psutil"),
    "onnx": ("onnx", "onnxruntime"),
    "bench": ("lightgbm", "psutil"),
}
"""What each extra installs, by the names that Python imports."""


@talk.verb()
def info(json: options.Json = False) -> None:
    """Show version, instruction sets, CPU, caches, what is installed, and the stored time model.

    Example:
      prunus info --json
    """
    values = collect()
    if json:
        talk.put_json(values)
        return
    talk.put(f"prunus {values['version']}, Python {values['python']}")
    talk.put(
        f"CPU: {values['cpu']}, {values['cores']} cores; caches {', '.join(f'{k} {v}' for k, v in values['caches'].items()) or 'unknown'}"
    )
    talk.put(f"instruction set: {values['isa']} (here: {', '.join(values['isas'])}; PRUNUS_ISA chooses)")
    for name, extra in values["extras"].items():
        lacking = extra["missing"]
        talk.put(
            f"extra {name}: "
            + (f"missing {', '.join(lacking)}: pip install 'prunus[{name}]'" if lacking else "installed")
        )
    stored = values["time_model"]
    if stored["stored"]:
        talk.put(f"time model: {stored['path']}, within {stored['error'] * 100:.1f} % for 9 networks of 10")
    else:
        talk.put("time model: none for this machine yet; `prunus rank calibrate` measures it")
    talk.put(f"cache: {values['cache']}")


def collect() -> dict[str, Any]:
    """Gather what the verb shows; nothing heavy is imported for it."""
    import os
    import platform

    from prunus import __version__
    from prunus.bench.machine import cpu_caches, cpu_model
    from prunus.engine.disk import cache_dir
    from prunus.engine.scorer import choose_isa
    from prunus.extras import missing

    from prunus import _native  # isort: skip

    lacking = {name: missing(modules) for name, modules in EXTRAS.items()}
    return {
        "version": __version__,
        "python": platform.python_version(),
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "caches": cpu_caches(),
        "isas": list(_native.isas()),
        "isa": choose_isa(),
        "extras": {name: {"installed": not absent, "missing": list(absent)} for name, absent in lacking.items()},
        "cache": str(cache_dir()),
        "time_model": time_model(),
    }


def time_model() -> dict[str, Any]:
    """Say whether a time model of this machine is stored, where, and how exact it is."""
    from prunus.errors import CalibrationError
    from prunus.latency import LatencyModel, stored_path

    path = stored_path()
    try:
        return {"stored": True, "path": str(path), "error": LatencyModel.load(path).error}
    except CalibrationError:
        return {"stored": False, "path": str(path), "error": None}
