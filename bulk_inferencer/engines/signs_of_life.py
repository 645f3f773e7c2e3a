"""Signs of life of workers, for runners that do not notice when one has died.

worker    signs_of_life  -> <manifests folder>/alive-<its own id>, while the process has work
launcher  Silence        <- for how long nothing has changed in any of them
"""

from __future__ import annotations

import logging
import posixpath
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from bulk_inferencer import _files
from bulk_inferencer._units.run import UnitTask
from bulk_inferencer._units.run_file import is_run_over, write_for_run

_logger = logging.getLogger(__name__)

_PREFIX = "alive-"
_SIGN_SECONDS = 10.0


@contextmanager
def signs_of_life(task: UnitTask) -> Iterator[None]:
    """Shows within `with` that this process is alive, by a file that grows every ten seconds."""
    with _lock:
        signs = _of_runs.get(task.run_file) or _Signs(task)
        _of_runs[task.run_file] = signs
    signs.begin_work()
    try:
        yield
    finally:
        signs.end_work()


class _Signs:
    """The signs of this process for a run. Threads share them."""

    def __init__(self, task: UnitTask) -> None:
        self._run_file = task.run_file
        self._path = posixpath.join(task.manifests_folder, _PREFIX + uuid.uuid4().hex)
        self._lock = threading.Lock()
        self._working = 0  # threads
        self._has_worked = threading.Event()  # since the last sign
        # A thread of its own: loading a model or calling it may take long.
        threading.Thread(target=self._give, name="signs of life", daemon=True).start()

    def begin_work(self) -> None:
        with self._lock:
            self._working += 1
            self._has_worked.set()

    def end_work(self) -> None:
        with self._lock:
            self._working -= 1

    def _give(self) -> None:
        goes_on = True
        given = 0
        while goes_on:
            try:
                # Once the run has ended, its folder may be gone, and nobody looks into it.
                goes_on = not is_run_over(self._run_file)
                if goes_on and self._has_worked.wait(_SIGN_SECONDS):
                    with self._lock:
                        if not self._working:
                            self._has_worked.clear()
                    given += 1
                    goes_on = write_for_run(self._path, b"." * given, self._run_file)
                    time.sleep(_SIGN_SECONDS)
            except Exception:  # Whatever a filesystem raises may pass.
                _logger.info(
                    "Cannot write %s, so the run may take this worker for dead.",
                    self._path,
                    exc_info=True,
                )
                time.sleep(_SIGN_SECONDS)
        with _lock:
            _of_runs.pop(self._run_file, None)


_lock = threading.Lock()
_of_runs: dict[str, _Signs] = {}  # by their files; see `run_file`


class Silence:
    """For how long workers have given no sign of life.

    Attributes:
      is_first: whether none of them has ever given one.
    """

    def __init__(self, folder: str) -> None:
        """Begins now, with the folder of a run's manifests, in which nobody has given a sign."""
        self.is_first = True
        self._folder = folder
        self._last: dict[str, _files.Stored] = {}
        self._since = time.monotonic()

    def seconds(self) -> float:
        """Looks for signs, and returns how long ago the last one was, or the beginning."""
        now = _signs_in(self._folder)
        if now != self._last:
            self.is_first = False
            self._last = now
            self._since = time.monotonic()
        return time.monotonic() - self._since


def delete_signs(folder: str) -> None:
    """Deletes all signs in the folder of a run's manifests."""
    for path in _signs_in(folder):
        _files.delete(path)


def _signs_in(folder: str) -> dict[str, _files.Stored]:
    return _files.matching(posixpath.join(_files.literal(folder), _PREFIX + "*"))
