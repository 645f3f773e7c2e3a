"""Modules of the user's on the command line: where they come from, and which go to workers."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterable, Sequence


def import_from_here() -> None:
    """Lets modules in the current folder be imported, as `python -m` does."""
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)


def let_import(files: Iterable[str]) -> None:
    """Lets modules be imported from Python files and wheels, as they are on workers."""
    for file in filter(os.path.exists, files):
        is_python = file.endswith(".py")
        place = os.path.abspath(os.path.dirname(file) if is_python else file)
        if place not in sys.path:
            sys.path.insert(0, place)


def files_here(names: Iterable[str], given: Sequence[str]) -> list[str]:
    """Returns the Python files of the current folder that modules are imported from.

    Args:
      names: modules, or functions as `package.module:function`.
      given: files that workers get anyway.
    """
    found = []
    for module in dict.fromkeys(name.partition(":")[0] for name in names):
        file = f"{module}.py"
        if file in map(os.path.basename, given) or not os.path.exists(file):
            continue
        # Another one of this name may come first.
        spec = importlib.util.find_spec(module)
        origin = spec.origin if spec else None
        if origin and os.path.exists(origin) and os.path.samefile(origin, file):
            found.append(file)
    return found
