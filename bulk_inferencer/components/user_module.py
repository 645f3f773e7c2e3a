"""The user's module with hooks, as TFX hands it to an executor."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

from tfx.components.util import udf_utils
from tfx.utils import io_utils

from bulk_inferencer.errors import SettingsError

MODULE_FILE = "module_file"
MODULE_PATH = "module_path"

# The functions of a user's module that stand before and after the model.
PREPROCESS = "preprocess"
POSTPROCESS = "postprocess"
_HOOKS_OF_FILE = "bulk_inferencer_module_file"


def packages(exec_properties: Mapping[str, Any]) -> list[str]:
    """Returns the packages that TFX made of the module, for remote workers to install."""
    _, found = udf_utils.decode_user_module_key(exec_properties.get(MODULE_PATH))
    return list(found)


@contextlib.contextmanager
def hooks(exec_properties: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yields the functions of the user's module by name, none without a module.

    TFX's own helpers reload a module that has the same name as an earlier one, and so mix both: two
    components of one process may well have a `hooks.py` each. Here modules go when the run is over.
    """
    file, path = exec_properties.get(MODULE_FILE), exec_properties.get(MODULE_PATH)
    name, _ = udf_utils.decode_user_module_key(path)
    with udf_utils.TempPipInstallContext(packages(exec_properties)) as installed:
        _forget_modules(installed.temp_directory)
        try:
            yield _import_hooks(name, file) if path or file else {}
        finally:
            _forget_modules(installed.temp_directory)
            sys.modules.pop(_HOOKS_OF_FILE, None)


def _forget_modules(folder: str | None) -> None:
    """Makes Python import anew what the packages in `folder` hold."""
    for entry in os.listdir(folder) if folder else []:
        sys.modules.pop(entry.removesuffix(".py"), None)
    importlib.invalidate_caches()


def _import_hooks(module_path: str | None, module_file: str | None) -> dict[str, Any]:
    where = module_path or module_file
    try:
        if module_path:
            module = importlib.import_module(module_path)
        else:
            module = _import_file(io_utils.ensure_local(module_file))
    except Exception as error:  # a module of the user's may raise anything when it is imported
        raise SettingsError(
            f"Expected a module with hooks, but {where} cannot be imported: "
            f"{type(error).__name__}: {error}. Correct the module."
        ) from error
    found = {
        name: getattr(module, name) for name in (PREPROCESS, POSTPROCESS) if hasattr(module, name)
    }
    if not found:
        raise SettingsError(
            f"Expected {PREPROCESS}(batch), {POSTPROCESS}(records, outputs) or both in {where}, "
            f"got neither. Define one at the top level of the module."
        )
    return found


def _import_file(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(_HOOKS_OF_FILE, path)
    if spec is None or spec.loader is None:
        raise ImportError("it is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[_HOOKS_OF_FILE] = module  # where what is pickled by its name is found again
    spec.loader.exec_module(module)
    return module
