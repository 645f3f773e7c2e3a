"""Checks of single values against their bounds, in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_UNKNOWN = "unknown, since "


@dataclass(frozen=True)
class Check:
    """Whether one expectation is met.

    ```python
    str(Check("mean of 'y'", "at most 5", "7.2", False))
    # The mean of 'y' should be at most 5, but is 7.2.
    ```

    Attributes:
      what: what is expected of, such as `mean of 'y'`.
      expected: the bound, such as `at most 5`.
      found: what it is.
      is_met: whether it is.
    """

    what: str
    expected: str
    found: str
    is_met: bool

    @property
    def was_made(self) -> bool:
        """Whether there was something to check: without a baseline, there is no drift."""
        return not (self.is_met and self.found.startswith(_UNKNOWN))

    def __str__(self) -> str:
        is_as = "and is" if self.is_met else "but is"
        return f"The {self.what} should be {self.expected}, {is_as} {self.found}."


def within(what: str, value: float, low: float | None, high: float | None, more: str = "") -> Check:
    """Returns the check of a value that is known; `more` follows it."""
    bounds = [bound for bound in (low, high) if bound is not None and math.isfinite(bound)]
    is_met = (low is None or value >= low) and (high is None or value <= high)
    return Check(what, _range(low, high), number(value, bounds) + more, is_met)


def unknown(
    what: str, low: float | None, high: float | None, reason: str, is_met: bool = False
) -> Check:
    """Returns the check of a value that nobody can tell."""
    return Check(what, _range(low, high), f"{_UNKNOWN}{reason}", is_met)


def missing(output: str, reason: str) -> Check:
    """Returns the check of an output that is not there at all."""
    return Check(f"output '{output}'", "there", f"missing, since {reason}", False)


def _range(low: float | None, high: float | None) -> str:
    if low is None or low == -math.inf:
        return f"at most {_bound(math.inf if high is None else high)}"
    if high is None or high == math.inf:
        return f"at least {_bound(low)}"
    return f"from {_bound(low)} to {_bound(high)}"


def _bound(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else _exact(value)


def number(value: float, bounds: Sequence[float] = ()) -> str:
    """Returns a number with six digits, or all of them where fewer would be misleading.

    With fewer, it may lie on the other side of a bound.
    """
    if isinstance(value, int):
        return f"{value:,}"
    text = f"{value:.6g}"
    shown = float(text)
    is_misleading = any(
        (shown < bound, shown > bound) != (value < bound, value > bound) for bound in bounds
    )
    return _exact(value) if is_misleading else text


def _exact(value: float) -> str:
    text = f"{value:.15g}"
    return text if float(text) == value else repr(float(value)).removesuffix(".0")
