"""Functions that settings name, for workers to import."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from bulk_inferencer.errors import SettingsError


def function(setting: str, value: Callable[..., Any] | str) -> Callable[..., Any]:
    """Returns a function that is given as itself, or as `package.module:function`.

    Raises:
      SettingsError: there is no such function.
    """
    found: Any = value
    if isinstance(value, str):
        module, _, name = value.partition(":")
        try:
            found = getattr(importlib.import_module(module), name)
        except Exception as error:  # a user's module may raise anything when it is imported
            raise SettingsError(
                f"Could not import {setting} {value!r}: {error}. Name the function as "
                f"package.module:function, and install its module on every worker."
            ) from error
    if not callable(found):
        raise SettingsError(
            f"{setting} must be a function, but {value!r} is of type {type(found).__name__}. Pass "
            f"a function, or name one as package.module:function."
        )
    return found
