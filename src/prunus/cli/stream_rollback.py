"""``prunus stream rollback``: the model that served before serves again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prunus.cli import options, talk


@talk.verb()
def rollback(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Directory of a run, as given to its -o.", show_default=False)
    ],
    *,
    json: options.Json = False,
) -> None:
    """Let the model serve that served before the current one.

    Whoever follows the directory swaps at its next look, and a loop that runs goes on from the model before. The current
    model is withdrawn: the loop does not take it back, but its next one may serve.

    Example:
      prunus stream rollback out
    """
    from prunus.online import serving

    gone, serves = serving.rollback(directory)
    model = serving.Models(directory / "models").path(serves)
    if json:
        talk.put_json({"withdrawn": gone, "serving": serves, "files": {"model": str(model)}})
        return
    talk.put(f"model {gone} is withdrawn; model {serves} serves: {model}")
