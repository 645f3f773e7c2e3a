"""Opens parcels on a worker that has this package."""

from __future__ import annotations

import os
import pickle
import socket
import sys
import threading
import weakref
from collections.abc import Sequence

from bulk_inferencer._units.worker import UnitWorker
from bulk_inferencer.engines.modules import make_importable
from bulk_inferencer.engines.parcel import Parcel
from bulk_inferencer.errors import WorkerError

_lock = threading.Lock()
# By the content of their parcels. A run holds those that work for it.
_workers: weakref.WeakValueDictionary[bytes, UnitWorker] = weakref.WeakValueDictionary()


def remember(content: bytes, worker: UnitWorker) -> None:
    """Remembers who was packed in this process, where local threads are workers too."""
    with _lock:
        _workers[content] = worker


def opened(parcel: Sequence[object]) -> UnitWorker:
    """Returns who is in a parcel, after making the modules in it importable.

    Args:
      parcel: the fields of a `Parcel`, with which `problem_here` has found no problem.

    Raises:
      WorkerError: a module is missing on the worker, or cannot be imported there.
    """
    own = Parcel(*parcel)  # type: ignore[arg-type]
    with _lock:
        worker = _workers.get(own.content)
        if worker is None:
            worker = _workers[own.content] = _unpickled(own)
        return worker


def _unpickled(parcel: Parcel) -> UnitWorker:
    if parcel.options is not None:
        from bulk_inferencer.engines import beam_options  # which imports Beam

        beam_options.open_filesystems((), parcel.options)
    if os.path.isdir(parcel.folder):  # or relative paths would mean something else here
        os.chdir(parcel.folder)
    make_importable(parcel.modules, parcel.run)
    try:
        worker: UnitWorker = pickle.loads(parcel.content)
    except Exception as error:  # The user's modules may raise anything.
        raise WorkerError(
            f"The worker on {socket.gethostname()} ({sys.executable}) cannot import what the model "
            f"or its functions need: {type(error).__name__}: {error}. {parcel.advice}"
        ) from error
    return worker
