"""Modules and functions that settings name, because they have to be there on every worker."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from bulk_inferencer.errors import SettingsError


def function(setting: str, value: Callable[..., Any] | str) -> Callable[..., Any]:
    """Returns a function that is given itself, or as `package.module:function`.

    Args:
      setting: what it is for, for messages.
      value: the function or its name.

    Raises:
      SettingsError: there is no such function.
    """
    found = _imported(setting, value) if isinstance(value, str) else value
    if not callable(found):
        raise SettingsError(
            f"Expected a function as {setting}, got {value!r}, which is a {type(found).__name__}. "
            f"Name a function."
        )
    return found


def _imported(setting: str, value: str) -> Any:
    module, _, name = value.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except Exception as error:  # a module of the user's may raise anything when it is imported
        raise SettingsError(
            f"Expected a function as {setting}, named as package.module:function, got {value!r}: "
            f"{error}. Install its module on every worker."
        ) from error
