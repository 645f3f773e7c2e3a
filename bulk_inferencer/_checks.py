"""Checks of settings for the dataclasses of all floors. Messages name the field."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
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


def check_flag(field: str, value: Any) -> None:
    """Raises SettingsError if a value is not a truth value."""
    if not isinstance(value, bool):
        raise SettingsError(f"{field} must be True or False, not {value!r}.")


def check_tuple(field: str, value: Any, kind: type) -> None:
    """Raises SettingsError if a value is not a tuple, or another collection, of one kind."""
    # A `kind` may itself be a collection of its kind: strings are.
    is_single = isinstance(value, kind)
    is_collection = isinstance(value, Collection) and not is_single
    if is_collection and all(isinstance(entry, kind) for entry in value):
        if kind is str:
            _check_no_letters(field, value)
        return
    wanted = "names" if kind is str else kind.__name__
    example = repr(value) if is_single else "'name'" if kind is str else f"{kind.__name__}(...)"
    raise SettingsError(f"{field} must be a tuple of {wanted}, not {value!r}. Write ({example},).")


def check_kind(field: str, value: Any, kind: type, example: str) -> None:
    """Raises SettingsError if a value is not of a class."""
    if not isinstance(value, kind):
        article = "an" if kind.__name__[0] in "AEIO" else "a"
        raise SettingsError(
            f"{field} must be {article} {kind.__name__}, not {value!r}. Write {example}."
        )


def _check_no_letters(field: str, names: Collection[str]) -> None:
    """Raises SettingsError for what a list makes of a single name: `list("serve")`.

    A proto's constructor does so without a word. Names of one letter may be meant, so those in
    alphabetical order pass.
    """
    are_letters = len(names) > 2 and all(len(name) == 1 for name in names)
    if are_letters and isinstance(names, Sequence) and list(names) != sorted(set(names)):
        word = "".join(names)
        raise SettingsError(
            f"{field} has the letters {', '.join(names)} as names, because {word!r} was given "
            f"where a list belongs. Write [{word!r}]. If they are meant, put them in alphabetical "
            f"order."
        )


def doubled(names: Iterable[str]) -> str:
    """Returns the names that occur more than once, with commas; empty if there are none."""
    return ", ".join(sorted(name for name, count in Counter(names).items() if count > 1))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns a hint at the name that may be meant, with a blank before it; empty without one."""
    near = difflib.get_close_matches(name, list(known), 1)
    return f" Did you mean '{near[0]}'?" if near else ""
