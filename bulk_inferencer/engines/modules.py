"""Modules of the user's that go to workers with a parcel, and are imported there from memory."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import io
import logging
import posixpath
import sys
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from types import ModuleType

from bulk_inferencer import _files
from bulk_inferencer.errors import SettingsError

_logger = logging.getLogger(__name__)

_INIT = "__init__.py"
_COMPILED = (".so", ".pyd")
_FOLDER = "/<modules>/"  # which is on no disk


def read_modules(paths: Iterable[str]) -> dict[str, bytes]:
    """Returns the sources of modules by the path under which Python looks for them.

    Args:
      paths: Python files, or wheels, of which all Python files are taken.

    Raises:
      SettingsError: a path is something else, is missing or damaged, has compiled modules, or one
        that another path has too.
    """
    found: dict[str, bytes] = {}
    for path in paths:
        own = _sources(path)
        if both := sorted(own.keys() & found.keys()):
            raise SettingsError(
                f"InferenceJob.modules has {both[0]} twice, the second time in {path}. Leave one "
                f"out."
            )
        found |= own
    return found


def _sources(path: str) -> dict[str, bytes]:
    name = posixpath.basename(path)
    if not name.endswith((".py", ".whl", ".zip")):
        raise SettingsError(
            f"InferenceJob.modules needs Python files or wheels, but has {path}. Name the .py "
            f"files, or install the package on every worker."
        )
    if not _files.exists(path):
        raise SettingsError(f"There is no module {path}. Correct InferenceJob.modules.")
    with _files.open_to_read(path) as file:
        content = file.read()
    try:
        if name.endswith(".py"):
            compile(content, path, "exec", dont_inherit=True)
            return {name: content}
        with zipfile.ZipFile(io.BytesIO(content)) as wheel:
            names = wheel.namelist()
            sources = {own: wheel.read(own) for own in names if own.endswith(".py")}
    except (SyntaxError, ValueError, zipfile.BadZipFile) as error:
        raise SettingsError(
            f"InferenceJob.modules has {path}, which cannot be imported: {error}. Mend it."
        ) from error
    _check_other_files(path, names)
    return sources


def _check_other_files(path: str, names: Sequence[str]) -> None:
    """Warns of files of a wheel that stay behind; raises a SettingsError if they are modules."""
    if compiled := [own for own in names if own.endswith(_COMPILED)]:
        raise SettingsError(
            f"InferenceJob.modules has {path}, in which {compiled[0]} is compiled. Workers import "
            f"modules from memory, which only sources can be. Install the package on every worker."
        )
    others = [own for own in names if not own.endswith((".py", "/")) and ".dist-info/" not in own]
    if others:
        _logger.warning(
            "Only the Python sources of %s go to workers. It has other files, such as %s. If the "
            "code reads them, install the package on every worker.",
            *(path, others[0]),
        )


class _ShippedModules(importlib.abc.MetaPathFinder, importlib.abc.ExecutionLoader):
    """Finds modules in memory."""

    def __init__(self, sources: Mapping[str, bytes], run: str) -> None:
        self.sources = dict(sources)
        self.run = run

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not self._path_of(name):
            return None
        return importlib.util.spec_from_loader(name, self)

    def is_package(self, name: str) -> bool:
        return posixpath.basename(self._path_of(name)) == _INIT

    def get_filename(self, name: str) -> str:
        return _FOLDER + self._path_of(name)

    def get_source(self, name: str) -> str:
        return importlib.util.decode_source(self.sources[self._path_of(name)])

    def forget_modules(self) -> None:
        """Lets Python import these modules anew, and those of the same name from elsewhere."""
        for name in list(sys.modules):
            parts = name.split(".")
            if any(self._path_of(".".join(parts[:i])) for i in range(1, len(parts) + 1)):
                del sys.modules[name]

    def _path_of(self, name: str) -> str:
        path = name.replace(".", "/")
        candidates = (f"{path}/{_INIT}", f"{path}.py")
        return next((own for own in candidates if own in self.sources), "")


class _Namespaces(importlib.abc.MetaPathFinder):
    """Finds packages without an `__init__.py`, if nobody else does."""

    def __init__(self, sources: Iterable[str]) -> None:
        self._sources = tuple(sources)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        folder = name.replace(".", "/") + "/"
        if not any(own.startswith(folder) for own in self._sources):
            return None
        spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [_FOLDER + folder]
        return spec


def make_importable(sources: Mapping[str, bytes], run: str) -> None:
    """Lets Python import modules from memory, before those of the same name that are installed.

    Those of an earlier run in the same process are forgotten.
    """
    shipped = next((own for own in sys.meta_path if isinstance(own, _ShippedModules)), None)
    if not shipped and not sources:
        return
    if shipped and shipped.run == run and shipped.sources.items() >= sources.items():
        return
    for finder in list(sys.meta_path):
        if isinstance(finder, (_ShippedModules, _Namespaces)):
            sys.meta_path.remove(finder)
    if shipped:
        shipped.forget_modules()
    shipped = _ShippedModules(sources, run)
    shipped.forget_modules()
    sys.meta_path.insert(0, shipped)
    sys.meta_path.append(_Namespaces(sources))
