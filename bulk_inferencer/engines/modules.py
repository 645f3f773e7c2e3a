"""Modules of the user's that go to workers with a parcel, and are imported there from memory."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import io
import posixpath
import sys
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from types import ModuleType

from bulk_inferencer import _files
from bulk_inferencer.errors import SettingsError

_INIT = "__init__.py"


def read_modules(paths: Iterable[str]) -> dict[str, bytes]:
    """Returns the sources of modules by the path under which Python looks for them.

    Args:
      paths: Python files, or wheels, of which all Python files are taken.

    Raises:
      SettingsError: a path is something else, is missing, or has a module that another has too.
    """
    found: dict[str, bytes] = {}
    for path in paths:
        if not _files.exists(path):
            raise SettingsError(f"There is no module {path}. Correct InferenceJob.modules.")
        with _files.open_to_read(path) as file:
            own = _sources(path, file.read())
        if both := sorted(own.keys() & found.keys()):
            raise SettingsError(
                f"InferenceJob.modules has {both[0]} twice, the second time in {path}. Leave one "
                f"out."
            )
        found |= own
    return found


def _sources(path: str, content: bytes) -> dict[str, bytes]:
    name = posixpath.basename(path)
    if name.endswith(".py"):
        return {name: content}
    if not name.endswith((".whl", ".zip")):
        raise SettingsError(
            f"InferenceJob.modules needs Python files or wheels, but has {path}. Name the .py "
            f"files, or install the package on every worker."
        )
    with zipfile.ZipFile(io.BytesIO(content)) as wheel:
        return {own: wheel.read(own) for own in wheel.namelist() if own.endswith(".py")}


class _ShippedModules(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Finds modules in memory."""

    def __init__(self, sources: Mapping[str, bytes]) -> None:
        self.sources = sources

    @property
    def names(self) -> set[str]:
        """The names of the packages, and of the modules that are in none."""
        return {path.partition("/")[0].removesuffix(".py") for path in self.sources}

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not (own := self._path_of(name)):
            return None
        return importlib.util.spec_from_loader(name, self, origin=own)

    def is_package(self, name: str) -> bool:
        return posixpath.basename(self._path_of(name)) == _INIT

    def get_source(self, name: str) -> str:
        return importlib.util.decode_source(self.sources[self._path_of(name)])

    def _path_of(self, name: str) -> str:
        path = name.replace(".", "/")
        candidates = (f"{path}/{_INIT}", f"{path}.py")
        return next((own for own in candidates if own in self.sources), "")


def make_importable(sources: Mapping[str, bytes]) -> None:
    """Lets Python import modules from memory, before those of the same name that are installed.

    Those of an earlier run in the same process are forgotten.
    """
    earlier = [finder for finder in sys.meta_path if isinstance(finder, _ShippedModules)]
    if not sources or any(finder.sources == sources for finder in earlier):
        return
    finder = _ShippedModules(sources)
    for other in earlier:
        if other.names & finder.names:
            sys.meta_path.remove(other)
    for name in list(sys.modules):
        if name.partition(".")[0] in finder.names:
            del sys.modules[name]
    sys.meta_path.insert(0, finder)
