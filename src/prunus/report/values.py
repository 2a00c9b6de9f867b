"""Reads a result that may lack anything: each reader returns what is there in the expected form, or nothing.

A page is drawn at the end of hours of work, so a key that is missing, None, NaN or of another type leaves a gap in the
page and never stops it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any


def at(value: object, *keys: str) -> Any:  # noqa: ANN401 - a result is plain JSON of any shape
    """Return what stands under the keys, one inside the other, or None."""
    for key in keys:
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def number(value: object, *keys: str) -> float | None:
    """Return a finite number, or None."""
    found = at(value, *keys)
    if isinstance(found, bool) or not isinstance(found, Real):
        return None
    try:
        plain = float(found)
    except (OverflowError, ValueError):
        return None
    return plain if math.isfinite(plain) else None


def positive(value: object, *keys: str) -> float | None:
    """Return a finite number above 0, or None."""
    found = number(value, *keys)
    return found if found is not None and found > 0 else None


def count(value: object, *keys: str) -> int | None:
    """Return a whole number of at least 0, or None."""
    found = number(value, *keys)
    return int(found) if found is not None and found >= 0 and found == int(found) else None


def text(value: object, *keys: str) -> str | None:
    """Return a string that is not empty (a number as it is written), or None."""
    found = at(value, *keys)
    if isinstance(found, str):
        return found.strip() or None
    plain = number(found)
    return None if plain is None else str(found)


def records(value: object, *keys: str) -> list[Mapping[str, Any]]:
    """Return the mappings of a list; anything else in it is left out."""
    return [item for item in listed(value, *keys) if isinstance(item, Mapping)]


def texts(value: object, *keys: str) -> list[str]:
    """Return the strings of a list; anything else in it is left out."""
    return [item for item in listed(value, *keys) if isinstance(item, str) and item]


def listed(value: object, *keys: str) -> list[Any]:
    """Return a list; a string, a mapping or a single value is none."""
    found = at(value, *keys)
    if isinstance(found, (str, bytes, Mapping)) or not isinstance(found, Iterable):
        return []
    return list(found)


def by_batch(value: object, *keys: str) -> dict[int, float]:
    """Return microseconds a document by batch size, from a mapping whose keys are numbers or their names."""
    found = at(value, *keys)
    times: dict[int, float] = {}
    for key, time in found.items() if isinstance(found, Mapping) else ():
        batch, us = _batch(key), positive(time)
        if batch and us is not None:
            times[batch] = us
    return dict(sorted(times.items()))


def _batch(key: object) -> int | None:
    try:
        batch = int(str(key))
    except ValueError:
        return None
    return batch if batch > 0 else None
