"""How numbers are written: always with a unit beside them, a true minus sign, and a dash for what was not measured."""

from __future__ import annotations

MISSING = "\N{EN DASH}"
"""Stands where a figure is missing."""

MINUS = "\N{MINUS SIGN}"


def us(value: float | None, unit: str = " \N{MICRO SIGN}s") -> str:
    """Microseconds with three digits: ``0.423 us``."""
    return MISSING if value is None else f"{_three_digits(value)}{unit}"


def quality(value: float | None) -> str:
    """A metric with four decimals."""
    return MISSING if value is None else f"{value:.4f}".replace("-", MINUS)


def signed(value: float | None, decimals: int = 4) -> str:
    """A difference with its sign; what rounds to zero has none."""
    if value is None:
        return MISSING
    written = f"{value:+.{decimals}f}"
    return written[1:] if float(written) == 0 else written.replace("-", MINUS)


def signed_percent(share: float | None) -> str:
    """A relative difference: 0.004 is ``+0.4 %``."""
    return MISSING if share is None else f"{signed(share * 100, 1 if abs(share) >= 0.001 else 2)} %"


def percent(share: float | None) -> str:
    """A share of one: 0.048 is ``4.8 %``."""
    if share is None:
        return MISSING
    scaled = share * 100
    decimals = 0 if scaled in {0, 100} else 1 if scaled >= 1 else 2
    return f"{scaled:.{decimals}f} %"


def interval(lower: float | None, upper: float | None) -> str:
    """An interval of a difference; an end that is missing is open."""
    if lower is None and upper is None:
        return MISSING
    return f"{signed(lower)} to {signed(upper)}"


def whole(value: float | None) -> str:
    """A count with commas at the thousands."""
    return MISSING if value is None else f"{round(value):,}".replace("-", MINUS)


def counted(value: float, one: str, many: str | None = None) -> str:
    """A count with its noun: ``1 query``, ``5,000 queries``."""
    return f"{whole(value)} {one if round(value) == 1 else many or one + 's'}"


def size(value: float | None) -> str:
    """Bytes in decimal units (1 KB is 1,000 bytes)."""
    if value is None:
        return MISSING
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if value >= scale:
            return f"{_three_digits(value / scale)} {unit}"
    return f"{value:.0f} B"


def times(ratio: float) -> str:
    """A ratio: one decimal below 10, none above."""
    return f"{ratio:,.0f}" if round(ratio, 1) >= 10 else f"{ratio:.1f}"


def duration(seconds: float | None) -> str:
    """Seconds, or minutes and seconds from two minutes on, or hours and minutes."""
    if seconds is None:
        return MISSING
    if seconds < 120:
        return f"{_three_digits(seconds)} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


def shortened(name: str, longest: int) -> str:
    """Cut a long name at its end."""
    return name if len(name) <= longest else name[: longest - 1].rstrip() + "\N{HORIZONTAL ELLIPSIS}"


def _three_digits(value: float) -> str:
    size_ = abs(value)
    for limit, decimals in ((100, 0), (10, 1), (1, 2), (0.1, 3), (0.01, 4)):
        if round(size_, decimals) >= limit:
            return f"{value:,.{decimals}f}"
    return "0" if value == 0 else f"{value:.2g}"
