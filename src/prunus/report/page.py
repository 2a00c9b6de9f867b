"""The shell of a page: style and script inside it, a policy that forbids the network, and a file written whole or not."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from pathlib import Path

from prunus.engine.disk import write_atomically
from prunus.errors import OutputError
from prunus.report.markup import Markup, element, joined


def document(title: str, body: Markup) -> str:
    """Return a whole HTML document.

    Args:
        title: for the window and for bookmarks.
        body: the content of ``main``.

    Returns:
        The document. Its policy allows exactly the style and the script in it, by their hashes: nothing is loaded, and
        no other script runs.
    """
    style, script = _asset("page.css"), _asset("page.js")
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; base-uri 'none'; form-action 'none'"
    )
    head = element(
        "head",
        element("meta", charset="utf-8"),
        _policy(policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", title),
        element("style", Markup(style)),
    )
    content = joined([head, element("body", element("main", body), element("script", Markup(script)))])
    return f"<!DOCTYPE html>\n{element('html', content, lang='en')}\n"


def save(path: str | Path, content: str) -> Path:
    """Write a page, whole or not at all.

    Args:
        path: the file; its folder must exist.
        content: what it holds.

    Returns:
        The path.

    Raises:
        OutputError: it cannot be written; nothing half-written is left behind.
    """
    try:
        write_atomically(path, content.encode())
    except OutputError as error:
        msg = f"the report cannot be written: {error}"
        raise OutputError(msg) from error
    return Path(path)


def _asset(name: str) -> str:
    return files("prunus.report").joinpath(name).read_text(encoding="utf-8").strip()


def _hash(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode('utf-8')).digest()).decode('ascii')}'"


def _policy(policy: str) -> Markup:
    # written by hand: the quotes of the policy are its own
    return Markup(f'<meta http-equiv="Content-Security-Policy" content="{policy}">')
