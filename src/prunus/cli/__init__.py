"""The command ``prunus``: thin, one module for each verb; stdout is data, stderr is talk.

Exit codes: 0 all is well; 1 a bug of prunus, with its traceback; 2 the input cannot be used, in one line on stderr;
130 interrupted; 141 whoever read the output went away.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command on ``sys.argv``."""
    from prunus.errors import MissingExtraError
    from prunus.extras import need

    try:
        need("typer", extra="cli")
        need("rich", extra="cli")
        from prunus.cli.app import app
    except MissingExtraError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)
    app(prog_name="prunus")


if __name__ == "__main__":
    main()
