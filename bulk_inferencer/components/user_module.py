"""The user's module with functions of their own, as TFX hands it to an executor."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any, NamedTuple

from tfx.components.util import udf_utils
from tfx.utils import io_utils

from bulk_inferencer._models.predictor import reason_of
from bulk_inferencer.components import keys
from bulk_inferencer.errors import SettingsError

PREPROCESS, POSTPROCESS, LOAD_MODEL = "preprocess", "postprocess", "load_model"
_NAME_OF_FILE = "bulk_inferencer_module_file"


class UserModule(NamedTuple):
    """What a module of the user's gives.

    Attributes:
      functions: its functions, by name; none without a module.
      files: what workers elsewhere need of it: the packages that TFX has made of it or, where TFX
        makes none, a copy of the file. None of a module that is importable, since nobody knows what
        it consists of.
    """

    functions: Mapping[str, Callable[..., Any]]
    files: Sequence[str]


@contextlib.contextmanager
def imported(exec_properties: Mapping[str, Any]) -> Iterator[UserModule]:
    """Yields the user's module.

    TFX's own helpers reload a module that has the same name as an earlier one, which mixes the two:
    two components of one process may well have a `hooks.py` each. Here, a module is forgotten when
    the run is over.
    """
    file, path = exec_properties.get(keys.MODULE_FILE), exec_properties.get(keys.MODULE_PATH)
    name, packages = udf_utils.decode_user_module_key(path)
    with (
        udf_utils.TempPipInstallContext(list(packages)) as installed,
        tempfile.TemporaryDirectory() as folder,
    ):
        _forget_modules(installed.temp_directory)
        try:
            functions = _import_functions(name, file) if path or file else {}
            copies = [_copy_for_workers(file, folder)] if file and not path else []
            yield UserModule(functions, [*packages, *copies])
        finally:
            _forget_modules(installed.temp_directory)
            sys.modules.pop(_NAME_OF_FILE, None)


def _forget_modules(folder: str | None) -> None:
    """Makes Python import the modules of the packages in `folder` again."""
    for entry in os.listdir(folder) if folder else []:
        sys.modules.pop(entry.removesuffix(".py"), None)
    importlib.invalidate_caches()


def _import_functions(module_path: str | None, module_file: str | None) -> dict[str, Any]:
    where = module_path or module_file
    try:
        if module_path:
            module = importlib.import_module(module_path)
        else:
            module = _import_file(io_utils.ensure_local(module_file))
    except Exception as error:  # Importing a user's module may raise anything.
        raise SettingsError(
            f"Cannot import {where}: {reason_of(error)}. Fix the module."
        ) from error
    names = (PREPROCESS, POSTPROCESS, LOAD_MODEL)
    found = {name: getattr(module, name) for name in names if hasattr(module, name)}
    if not found:
        raise SettingsError(
            f"{where} has nothing that the component could use. Define preprocess(batch), "
            f"postprocess(records, outputs) or load_model(path), or several of them, at the top "
            f"level of the module."
        )
    return found


def _import_file(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(_NAME_OF_FILE, path)
    if spec is None or spec.loader is None:
        raise ImportError("it is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[_NAME_OF_FILE] = module  # where pickle finds what the module defines
    spec.loader.exec_module(module)
    return module


def _copy_for_workers(path: str, folder: str) -> str:
    """Copies a file to the name under which it is imported, and returns where."""
    return shutil.copyfile(io_utils.ensure_local(path), f"{folder}/{_NAME_OF_FILE}.py")
