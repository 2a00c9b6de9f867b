"""``prunus rank calibrate``: measure this CPU, so that budgets in microseconds can be kept."""

from __future__ import annotations

from typing import Annotated

import typer

from prunus.cli import options, talk
from prunus.cli.progress import progress


@talk.verb()
def calibrate(
    seconds: Annotated[float, typer.Option(min=0.5, max=3600.0, help="Time to spend, about.")] = 50.0,
    json: options.Json = False,
) -> None:
    """Measure the engine on this CPU and store the time model.

    `rank compress` and `rank design` do it by themselves where no model is stored; do it again on a quiet machine when
    the machine was busy then.

    Example:
      prunus rank calibrate --seconds 30
    """
    from prunus.latency import calibrate as measure
    from prunus.latency import stored_path

    with progress() as bars:
        bars.stage("calibrate this CPU", 1.0)
        model = measure(seconds, progress=bars.advance)
    path = stored_path()
    model.save(path)
    if json:
        talk.put_json(
            {
                "error": model.error,
                "errors": model.errors,
                "call_us": model.call_us,
                "lanes": model.lanes,
                "files": {"time_model": str(path)},
            }
        )
        return
    talk.put(f"time model: {path}")
    talk.put(f"9 of 10 networks that it was not fitted on took within {model.error * 100:.1f} % of what it says")
    if model.errors:
        worst = max(model.errors, key=lambda name: model.errors[name])
        talk.put(f"least sure of networks and calls that are {worst}: {model.errors[worst] * 100:.1f} %")
