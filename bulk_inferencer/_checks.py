"""Checks of settings for the dataclasses of all floors. Messages name the field."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from math import inf
from numbers import Integral, Real
from typing import Any

from bulk_inferencer.errors import SettingsError


def check_number(
    field: str, value: Any, advice: str, low: float = -inf, high: float = inf, whole: bool = False
) -> None:
    """Raises SettingsError if a value is not a number from `low` to `high`."""
    kind: Any = Integral if whole else Real
    if isinstance(value, kind) and low <= value <= high:
        return
    wanted = "a whole number" if whole else "a number"
    if low > -inf:
        wanted += f" of at least {low}" if high == inf else f" from {low} to {high}"
    raise SettingsError(f"{field} must be {wanted}, not {value!r}. {advice}")


def check_tuple(field: str, value: Any, kind: type) -> None:
    """Raises SettingsError if a value is not a tuple, or another collection, of one kind."""
    # A `kind` may itself be a collection of its kind: strings are.
    is_single = isinstance(value, kind)
    is_collection = isinstance(value, Collection) and not is_single
    if is_collection and all(isinstance(entry, kind) for entry in value):
        return
    wanted = "names" if kind is str else kind.__name__
    example = repr(value) if is_single else "'name'" if kind is str else f"{kind.__name__}(...)"
    raise SettingsError(f"{field} must be a tuple of {wanted}, not {value!r}. Write ({example},).")


def doubled(names: Iterable[str]) -> str:
    """Returns the names that occur more than once, with commas; empty if there are none."""
    return ", ".join(sorted(name for name, count in Counter(names).items() if count > 1))
