"""The versions of the libraries that results depend on."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterable

from bulk_inferencer import __version__

_LIBRARIES = ("tfx", "apache-beam", "tensorflow", "numpy", "pyarrow")


def library_versions() -> dict[str, str]:
    """Returns the versions of Python and of the libraries that results depend on."""
    versions = {"bulk-inferencer": __version__, "python": platform.python_version()}
    return versions | versions_of(_LIBRARIES)


def versions_of(libraries: Iterable[str]) -> dict[str, str]:
    """Returns the versions of libraries; `not installed` for those that are not there."""
    versions = {}
    for library in libraries:
        try:
            versions[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            versions[library] = "not installed"
    return versions
