"""Numbers and names as people read them, and no longer than a page can bear."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from bulk_inferencer.results.amounts import NOTHING, counted

_MINUS = "\N{MINUS SIGN}"
# The most rows of a table whose length is that of the data.
MOST_ROWS = 50
LONGEST_NAME = 200
LONGEST_VALUE = 120
_LONGEST_FILE = 100
_MOST_VALUES = 6


def number(value: float) -> str:
    """Returns a number with at most five significant digits; a whole number with all of them."""
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else f"{_MINUS}∞"
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1e15 or size < 1e-4:
        text = f"{value:.4g}"
    elif size >= 1e4:
        text = f"{value:,.0f}"
    else:
        text = f"{value:,.{4 - math.floor(math.log10(size))}f}".rstrip("0").rstrip(".")
    return text.replace("-", _MINUS)


def left_out(count: int, noun: str, plural: str = "") -> str:
    """Returns how many of something are left out; nothing if none are."""
    return f"{counted(count, noun, plural)} left out." if count > 0 else ""


def listed(names: Sequence[str], most: int = 4) -> str:
    """Returns names as a list in a sentence, with `most` of them at most."""
    own = [clean(name) for name in names[:most]]
    if more := len(names) - len(own):
        own.append(f"{more:,} more")
    return " and ".join([", ".join(own[:-1]), own[-1]] if len(own) > 1 else own)


def clean(text: str, longest: int = LONGEST_NAME) -> str:
    """Returns text that can be written as UTF-8, shortened in the middle if it is long."""
    text = text if len(text) <= longest else f"{text[: longest // 2]} … {text[-longest // 3 :]}"
    return text.encode("utf-8", "replace").decode()


def file(path: str) -> str:
    """Returns the end of a path, which tells files apart."""
    return clean(path if len(path) <= _LONGEST_FILE else f"…{path[-_LONGEST_FILE:]}")


def value(own: Any) -> str:
    """Returns a value of a row: a number, text, or a list of these, shortened."""
    return clean(_value(own), LONGEST_VALUE)


def _value(own: Any) -> str:
    if own is None:
        return NOTHING
    if isinstance(own, (bool, int)):  # with all digits, and as it is: it may be an id
        return str(own)
    if isinstance(own, float):
        return number(own)
    if isinstance(own, bytes):
        return own[: 2 * LONGEST_VALUE].decode("utf-8", "backslashreplace")
    if isinstance(own, str):
        return own
    if isinstance(own, (list, tuple)):
        more = f", … {len(own):,} values" if len(own) > _MOST_VALUES else ""
        return f"[{', '.join(map(_value, own[:_MOST_VALUES]))}{more}]"
    if isinstance(own, dict):
        return json.dumps(own, default=str, ensure_ascii=False)
    return str(own)
