"""Amounts as people write them: counts, shares, bytes and times."""

from __future__ import annotations

import math

NOTHING = "\N{EN DASH}"  # what stands for an amount that is not known


def counted(count: int, noun: str, plural: str = "") -> str:
    """Returns `1 record` or `2,000 records`."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def about(count: int) -> str:
    """Returns a number with the three digits that an estimate may have."""
    digits = len(str(abs(count)))
    return f"{round(count, min(0, 3 - digits)):,}"


def share(part: float, whole: float) -> str:
    """Returns a part of a whole in percent; see `percent`."""
    return percent(part / whole) if whole else NOTHING


def percent(fraction: float) -> str:
    """Returns a fraction such as `12.5 %`, which is `0 %` or `100 %` only if it is so exactly."""
    if math.isnan(fraction):
        return NOTHING
    if 0 < fraction < 0.0001:
        return "< 0.01 %"
    if 0.9999 < fraction < 1:
        return "> 99.99 %"
    digits = 2 if fraction < 0.01 or fraction > 0.99 else 1
    return f"{100 * fraction:.{digits}f}".rstrip("0").rstrip(".") + " %"


def in_bytes(count: float, of: float | None = None) -> str:
    """Returns a size such as `1.4 GB`, or `0.7 of 1.4 GB`."""
    unit, divisor = "byte" if (count if of is None else of) == 1 else "bytes", 1.0
    for name in ("kB", "MB", "GB", "TB", "PB"):
        if max(count, of or 0) < 999.95 * divisor:
            break
        unit, divisor = name, 1000 * divisor
    digits = 0 if divisor == 1 else 1
    first = "" if of is None else f"{count / divisor:,.{digits}f} of "
    return f"{first}{(count if of is None else of) / divisor:,.{digits}f} {unit}"


def in_time(seconds: float) -> str:
    """Returns a clock such as `0:41` or `1:02:03`."""
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    start = f"{hours}:{minutes:02d}" if hours else f"{minutes}"
    return f"{start}:{whole % 60:02d}"


def in_words(seconds: float) -> str:
    """Returns a time in a sentence: `0.4 seconds`, `12 seconds`, `3 minutes` or `2.5 hours`."""
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= 2 * length:
            amount = seconds / length
            text = f"{amount:.0f}" if amount >= 10 else f"{amount:.1f}".removesuffix(".0")
            return f"{text} {unit}s"
    text = f"{seconds:.0f}" if seconds >= 9.95 else f"{seconds:.1f}"
    return "1 second" if text == "1.0" else f"{text.removesuffix('.0')} seconds"


def duration(seconds: float) -> str:
    """Returns a time in a table: `250 ms`, `5.0 s`, `2 min 5 s` or `30 h 1 min`."""
    if math.isnan(seconds):
        return NOTHING
    if seconds < 0.001:
        return "< 1 ms" if seconds else "0 s"
    if seconds < 0.9995:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    return in_whole_seconds(seconds)


def in_whole_seconds(seconds: float) -> str:
    """Returns a time such as `5 s`, `2 min 5 s` or `30 h 1 min`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
