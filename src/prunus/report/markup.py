"""HTML and SVG as values: whatever is not `Markup` is text and is escaped, so data cannot become markup.

Attributes are keyword arguments: ``class_`` is ``class``, an underscore is a hyphen (``stroke_width``), an attribute
that is None is left out, and a number is written with at most two decimals.
"""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)
_VOID = frozenset({"meta", "input", "br"})


class Markup(str):
    """A string that is HTML or SVG already."""

    __slots__ = ()


def clean(text: object) -> str:
    """Return the text without what no page may hold: control characters, direction overrides, lone surrogates."""
    return _UNPRINTABLE.sub("\ufffd", str(text))


def escaped(text: object) -> str:
    """Return `Markup` as it is, and anything else as escaped text."""
    return str(text) if isinstance(text, Markup) else html.escape(clean(text), quote=True)


def joined(parts: Iterable[object], between: str = "") -> Markup:
    """Join the parts, each escaped unless it is `Markup`."""
    return Markup(between.join(escaped(part) for part in parts))


def element(tag: str, *children: object, **attributes: object) -> Markup:
    """Return one element of the page.

    Args:
        tag: the element's name.
        *children: `Markup`, or text to escape.
        **attributes: see the module.

    Returns:
        The element as `Markup`.
    """
    words = [tag]
    for name, value in attributes.items():
        if value is None or value is False:
            continue
        key = name.rstrip("_").replace("_", "-")
        words.append(key if value is True else f'{key}="{_attribute(value)}"')
    opening = " ".join(words)
    return Markup(f"<{opening}>") if tag in _VOID else Markup(f"<{opening}>{joined(children)}</{tag}>")


def coordinate(value: float) -> str:
    """Write a coordinate with at most two decimals."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _attribute(value: object) -> str:
    return coordinate(value) if isinstance(value, float) else html.escape(clean(value), quote=True)
