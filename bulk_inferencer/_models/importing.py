"""Functions that settings name, for workers to import."""

from __future__ import annotations

import hashlib
import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bulk_inferencer._models.predictor import reason_of, shown
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
                f"Could not import {setting} {value!r}: {reason_of(error).message}. Name the "
                f"function as package.module:function, and install its module on every worker."
            ) from error
    if not callable(found):
        raise SettingsError(
            f"{setting} must be a function, but {shown(value)} is of type {type(found).__name__}. "
            f"Pass a function, or name one as package.module:function."
        )
    return found


def name_of(function: Callable[..., Any]) -> str:
    """Returns the name of a function after its module, for messages."""
    module = getattr(function, "__module__", "")
    name = getattr(function, "__qualname__", repr(function))
    return f"{module}.{name}" if module else name


def origin(function: Callable[..., Any]) -> str:
    """Returns the name of a function, its file and the SHA-256 of that, for the log."""
    name = f"{function.__module__}.{getattr(function, '__qualname__', type(function).__name__)}"
    try:
        path = Path(inspect.getsourcefile(function) or "")
    except TypeError:  # of an object that is called like a function
        path = Path()
    if not path.is_file():
        return f"{name}, whose source is not known"
    return f"{name} from {path}, SHA-256 {hashlib.sha256(path.read_bytes()).hexdigest()}"


def digest(function: Callable[..., Any]) -> str:
    """Returns a digest of a function and of the module that defines it.

    It is empty if the module has no file, or if the function holds values from elsewhere.
    """
    if not (inspect.isfunction(function) or inspect.isclass(function)):
        return ""
    if getattr(function, "__closure__", None):
        return ""
    try:
        path = Path(inspect.getsourcefile(function) or "")
    except TypeError:
        return ""
    if not path.is_file():
        return ""
    line = getattr(getattr(function, "__code__", None), "co_firstlineno", 0)
    source = hashlib.sha256(path.read_bytes()).hexdigest()
    return f"{function.__qualname__} {line} {source}"
