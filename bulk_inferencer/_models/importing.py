"""Functions that settings name, for workers to import."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from bulk_inferencer.errors import SettingsError


def function(setting: str, value: Callable[..., Any] | str) -> Callable[..., Any]:
    """Returns a function that is given as itself, or as `package.module:function`.

    Args:
      setting: the name of the setting, for messages.
      value: the function or its name.

    Raises:
      SettingsError: there is no such function.
    """
    found = _imported(setting, value) if isinstance(value, str) else value
    if not callable(found):
        raise SettingsError(
            f"Expected {setting} to be a function, got {value!r}, which is a "
            f"{type(found).__name__}. Pass a function, or name one as package.module:function."
        )
    return found


def _imported(setting: str, value: str) -> Any:
    module, _, name = value.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except Exception as error:  # a user's module may raise anything when it is imported
        raise SettingsError(
            f"Could not import {setting} {value!r}: {error}. Name the function as "
            f"package.module:function, and install its module on every worker."
        ) from error
