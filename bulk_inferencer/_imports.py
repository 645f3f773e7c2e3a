"""Imports of libraries that consist of thousands of modules."""

from __future__ import annotations

import gc
import importlib
import sys


def import_large(library: str) -> None:
    """Imports a library whose import creates hundreds of thousands of objects.

    Python's garbage collector would walk them again and again, and once more when the process ends,
    and find nothing: with TensorFlow, that takes a second. So it waits, and then leaves out what is
    there; what is made later is collected as ever.
    """
    if library in sys.modules or not gc.isenabled():
        importlib.import_module(library)
        return
    gc.disable()
    try:
        importlib.import_module(library)
        gc.freeze()
    finally:
        gc.enable()
