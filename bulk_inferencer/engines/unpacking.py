"""Opens parcels on a worker that has this package."""

from __future__ import annotations

import pickle
import socket
import sys
import threading
import weakref
from collections.abc import Sequence

from bulk_inferencer._units.worker import UnitWorker
from bulk_inferencer.engines.modules import make_importable
from bulk_inferencer.engines.parcel import Parcel, problem_here
from bulk_inferencer.errors import WorkerError

_lock = threading.Lock()
_packed_here: weakref.WeakValueDictionary[bytes, UnitWorker] = weakref.WeakValueDictionary()
_last: tuple[bytes, UnitWorker] | None = None  # A worker gets the same parcel with each unit.


def remember(content: bytes, worker: UnitWorker) -> None:
    """Remembers who was packed in this process, where local threads are workers too."""
    _packed_here[content] = worker


def opened(parcel: Sequence[object]) -> UnitWorker:
    """Returns who is in a parcel, after making the modules in it importable.

    Raises:
      WorkerError: the worker lacks a module, or has another version of Python or of this package.
    """
    global _last
    if problem := problem_here(parcel):
        raise WorkerError(problem)
    own = Parcel(*parcel)  # type: ignore[arg-type]
    with _lock:
        if worker := _packed_here.get(own.content):
            return worker
        if _last is None or _last[0] != own.content:
            _last = own.content, _unpickled(own)
        return _last[1]


def _unpickled(parcel: Parcel) -> UnitWorker:
    if parcel.options is not None:
        from bulk_inferencer.engines import beam_options  # which imports Beam

        beam_options.open_filesystems((), parcel.options)
    make_importable(parcel.modules)
    try:
        worker: UnitWorker = pickle.loads(parcel.content)
    except ImportError as error:
        raise WorkerError(
            f"The worker on {socket.gethostname()} ({sys.executable}) cannot import what the model "
            f"or its functions need: {error}. {parcel.advice}"
        ) from error
    return worker
