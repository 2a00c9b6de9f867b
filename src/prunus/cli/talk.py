"""Talk goes to stderr, data to stdout; errors become one line and an exit code."""

from __future__ import annotations

import errno
import functools
import json
import os
import sys
from typing import TYPE_CHECKING, Any, ParamSpec

from prunus.errors import PrunusError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

P = ParamSpec("P")

INTERRUPTED = 130
BROKEN_PIPE = 141
"""128 + SIGPIPE, what a shell reports of any program whose reader went away."""


def say(text: str) -> None:
    """Tell the user something, on stderr."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def put(text: str) -> None:
    """Write a line of results, on stdout."""
    sys.stdout.write(f"{text}\n")


def put_json(values: Mapping[str, Any]) -> None:
    """Write the one JSON object of a verb, on stdout; numbers that are not finite become null."""
    put(json.dumps(_finite(values), indent=1, allow_nan=False, default=str))


def _finite(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, dict):
        return {str(key): _finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    if isinstance(value, float) and (value != value or value in {float("inf"), float("-inf")}):  # noqa: PLR0124 - NaN
        return None
    return value


def fail(message: object, code: int) -> None:
    """Say in one line what is wrong, and end with a code."""
    say(f"error: {' '.join(str(message).split())}")
    sys.exit(code)


def verb(*, goes_on: bool = False) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """Turn a function into a verb: its errors become one line on stderr and an exit code.

    Args:
        goes_on: whether an interrupted run goes on where it was when it is run again.
    """

    def decorate(function: Callable[P, None]) -> Callable[P, None]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> None:
            try:
                function(*args, **kwargs)
                sys.stdout.flush()
            except PrunusError as error:
                fail(error, error.exit_code)
            except KeyboardInterrupt:
                say(
                    "interrupted: run the same command again: it goes on"
                    if goes_on
                    else "interrupted: nothing was written"
                )
                sys.exit(INTERRUPTED)
            except OSError as error:
                _fail_of_system(error)

        return call

    return decorate


def _fail_of_system(error: OSError) -> None:
    if error.errno == errno.EPIPE:
        # The interpreter flushes stdout once more at its end; that must not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(BROKEN_PIPE)
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        where = error.filename or "the disk"
        fail(
            f"no space is left on {where}; expected room for the results: free some, and run the same command again", 2
        )
    raise error
