"""LightGBM rankers for converters that take regressions only: what is scored, the raw sum of the trees, is the same."""

from __future__ import annotations

import re
from pathlib import Path


def as_regression(model: str) -> str:
    """Read a LightGBM text model and name its objective regression, in its head and in its list of parameters."""
    text = Path(model).read_text(encoding="utf-8")
    text = re.sub(r"^objective=.*$", "objective=regression", text, flags=re.MULTILINE)
    return re.sub(r"^\[objective: .*\]$", "[objective: regression]", text, flags=re.MULTILINE)
