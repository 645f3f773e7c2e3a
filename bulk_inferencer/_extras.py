"""Packages that only some users need, and the extras that install them."""

from __future__ import annotations

import importlib.util

from bulk_inferencer.errors import MissingExtraError


def require(module: str, extra: str, user: str) -> None:
    """Checks that a module is installed, without importing it.

    Raises:
      MissingExtraError: it is not. The message says that `user` needs it, and to install `extra`.
    """
    if not is_installed(module):
        raise MissingExtraError(
            f"{user} needs {module}, which is not installed. Install it with: "
            f"pip install 'bulk-inferencer[{extra}]'"
        )


def is_installed(module: str) -> bool:
    """Returns whether a module can be found. Imports its parents, but not the module itself."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # one of its parents
        return False
