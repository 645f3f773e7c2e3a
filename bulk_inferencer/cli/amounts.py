"""Amounts as people write them: bytes, times, counts."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """Returns `1 record` or `2,000 records`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def about(count: int) -> str:
    """Returns a number with the three digits that an estimate may have."""
    digits = len(str(abs(count)))
    return f"{round(count, min(0, 3 - digits)):,}"


def in_bytes(count: float, of: float | None = None) -> str:
    """Returns a size such as `1.4 GB`, or `0.7 of 1.4 GB`."""
    unit, divisor = "bytes", 1.0
    for name in ("kB", "MB", "GB", "TB", "PB"):
        if max(count, of or 0) < 999.95 * divisor:
            break
        unit, divisor = name, 1000 * divisor
    digits = 0 if unit == "bytes" else 1
    first = "" if of is None else f"{count / divisor:,.{digits}f} of "
    return f"{first}{(count if of is None else of) / divisor:,.{digits}f} {unit}"


def in_time(seconds: float) -> str:
    """Returns a clock such as `0:41` or `1:02:03`."""
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    start = f"{hours}:{minutes:02d}" if hours else f"{minutes}"
    return f"{start}:{whole % 60:02d}"


def in_words(seconds: float) -> str:
    """Returns a time such as `0.4 seconds`, `12 seconds`, `3 minutes` or `2.5 hours`."""
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= 2 * length:
            amount = seconds / length
            text = f"{amount:.0f}" if amount >= 10 else f"{amount:.1f}".removesuffix(".0")
            return f"{text} {unit}s"
    text = f"{seconds:.0f}" if seconds >= 9.95 else f"{seconds:.1f}"
    return "1 second" if text == "1.0" else f"{text.removesuffix('.0')} seconds"
