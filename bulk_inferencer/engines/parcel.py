"""What goes to workers of any engine, as bytes, and how a worker opens it.

A parcel can be unpickled where this package is missing, or is another version: then an error says
so, instead of one that only says which name was not found. Ray and Spark get `run_parcel` by value,
so this module imports nothing but Python's own at its top.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bulk_inferencer._units.worker import UnitWorker


class Parcel(NamedTuple):
    """What a worker needs.

    Attributes:
      version: of this package, where the parcel was made.
      python: the version of Python there, such as `3.12`.
      advice: how the engine gets packages and modules onto its workers.
      modules: sources of the user's modules, by path.
      options: Beam's options for files; None where the engine hands them on itself.
      folder: the current one of the process that starts the run, where relative paths begin.
      content: a `UnitWorker`, pickled.
      run: tells the run from others.
    """

    version: str
    python: str
    advice: str
    modules: dict[str, bytes]
    options: Sequence[str] | None
    folder: str
    content: bytes
    run: str


def pack(worker: UnitWorker, advice: str, options: Sequence[str] | None = None) -> Parcel:
    """Returns what an engine sends to its workers."""
    import dataclasses

    from bulk_inferencer import __version__
    from bulk_inferencer.engines.pickling import dumps
    from bulk_inferencer.engines.unpacking import remember

    content = dumps(dataclasses.replace(worker, modules={}))
    remember(content, worker)
    python = "{}.{}".format(*sys.version_info)
    modules, folder, run = dict(worker.modules), os.getcwd(), worker.stop.path
    return Parcel(__version__, python, advice, modules, options, folder, content, run)


def problem_here(parcel: Sequence[Any]) -> str:
    """Returns why this process cannot open a parcel; empty text if it can.

    Args:
      parcel: the fields of a `Parcel`.
    """
    version, python, advice = parcel[:3]
    where = f"The worker on {socket.gethostname()} ({sys.executable})"
    found_python = "{}.{}".format(*sys.version_info)
    if found_python != python:
        return (
            f"{where} has Python {found_python}, but the run was started with {python}. Use the "
            f"same version on both."
        )
    try:
        import bulk_inferencer

        found_version = getattr(bulk_inferencer, "__version__", "of an unknown version")
        if found_version != version:
            return (
                f"{where} has bulk-inferencer {found_version}, but the run was started with "
                f"{version}. {advice}"
            )
        import bulk_inferencer.engines.unpacking  # and all that it needs
    except ImportError as error:
        return f"{where} cannot import bulk_inferencer: {error}. {advice}"
    return ""


def run_parcel(parcel: Sequence[Any], units: Sequence[bytes]) -> str:
    """Runs units on a worker. Returns why the worker cannot run any; empty text if it could.

    Args:
      parcel: the fields of a `Parcel`.
      units: each a `Unit`, pickled.
    """
    if problem := problem_here(parcel):
        return problem
    import pickle

    from bulk_inferencer.engines.unpacking import opened
    from bulk_inferencer.errors import WorkerError

    try:
        worker = opened(parcel)
        for unit in units:
            worker(pickle.loads(unit))
    except WorkerError as error:
        return str(error)
    return ""
