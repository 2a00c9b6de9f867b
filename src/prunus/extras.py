"""Optional dependencies: imported when first needed, and named together with their extra when they are not there."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from prunus.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Sequence


def need(module: str, extra: str) -> Any:  # noqa: ANN401 - a module has no narrower type that helps its caller
    """Import an optional dependency.

    Args:
        module: dotted name, such as ``"pyarrow.parquet"``.
        extra: the extra of prunus that installs it, such as ``"io"``.

    Returns:
        The module itself (``"pyarrow.parquet"`` gives the submodule, not the package).

    Raises:
        MissingExtraError: the module's package is not installed; the message names the extra to install.
        ImportError: the package is installed and fails while it is imported; its own error is passed on.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != package:
            raise
        msg = f"{package!r} is not installed and is needed here: run  pip install 'prunus[{extra}]'"
        raise MissingExtraError(msg, name=package) from error


def missing(modules: Sequence[str]) -> tuple[str, ...]:
    """Tell which optional dependencies are not installed, without importing any.

    Args:
        modules: top-level names, such as ``["torch", "lightgbm"]``.

    Returns:
        Those that are not there, in the order given.
    """
    from importlib.util import find_spec

    return tuple(name for name in modules if find_spec(name) is None)
