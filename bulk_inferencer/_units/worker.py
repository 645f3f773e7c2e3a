"""What runs units on a worker, whichever engine brings it there."""

from __future__ import annotations

import logging
import math
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from bulk_inferencer._signals import busy
from bulk_inferencer._units.manifest import Manifest
from bulk_inferencer._units.plan import Unit
from bulk_inferencer._units.progress import poll_seconds
from bulk_inferencer._units.run import UnitTask
from bulk_inferencer._units.run_file import RunIsOver, delete_empty_folders, is_run_over
from bulk_inferencer._units.stop_sign import StopSign
from bulk_inferencer._work import Work
from bulk_inferencer.errors import WorkerError

_logger = logging.getLogger(__name__)

_LOCAL_SECONDS = 1.0  # between two looks whether a run on a disk is over
_Loaded = TypeVar("_Loaded")


@dataclass(frozen=True)
class UnitWorker:
    """Runs units, each of them from end to end. It can be pickled, and called in any process.

    Models are loaded once per process, with the first unit. Each unit leaves its manifest in
    `task.manifests_folder`, so that nothing has to come back through an engine.

    ```python
    worker = UnitWorker(task, stop)
    for unit in units:
        worker(unit)
    ```

    Attributes:
      task: what it needs to know.
      stop: where it says that an error ends the run, and sees that another worker said so.
      modules: sources of the modules that its models come from, by path.
    """

    task: UnitTask
    stop: StopSign
    modules: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    def __call__(self, unit: Unit, new_work: Callable[[], Work] = Work) -> Manifest | None:
        """Runs a unit, and returns its manifest; None if the run is over.

        An error of ours puts up the stop sign instead of being raised: the run raises it.

        Raises:
          WorkerError: this process does not see the folder of the results.
          Exception: whatever is not an error of ours.
        """
        with self.at_work(UnitTask.load) as loaded:
            if loaded:
                return loaded.run(unit, new_work)
        return None

    @contextmanager
    def at_work(
        self, load: Callable[[UnitTask], _Loaded], look_seconds: float = 0.0
    ) -> Iterator[_Loaded | None]:
        """Gives what some work of the run needs, within `with`; None if the run is over.

        An error of ours puts up the stop sign instead of being raised: the run raises it.

        Args:
          load: makes of the task what is needed, once per process.
          look_seconds: for how long the run is not over, once somebody has looked. A look takes
            long where files are far away.

        Raises:
          WorkerError: this process does not see the folder of the results.
        """
        of_run = _of_run(self)
        if of_run is None:
            yield None
            return
        if not of_run.has_begun:
            self._check_folder()
            of_run.has_begun = True
        is_done = False
        with self.stop.put_up_on_error():
            try:
                loaded = self._loaded(of_run, load, look_seconds)
                with busy():
                    yield loaded
                is_done = True
            except Exception as error:
                if not self._is_run_over():
                    raise
                is_expected = isinstance(error, RunIsOver)
                _logger.info("A unit ended after its run.", exc_info=not is_expected)
        if not is_done and self._is_run_over():
            self.stop.delete()  # Nobody looks for it any more.
            delete_empty_folders(self.task.manifests_folder)

    def is_over(self) -> bool:
        """Returns whether no more units of the run should start."""
        # A worker may outlive a run that was interrupted, or lost its folders to another one.
        return self._is_run_over() or self.stop.is_up()

    def forget(self) -> None:
        """Lets go of the models that are loaded in this process, and starts no more units in it.

        Call it when the run is over.
        """
        _forget(self.stop.path)

    def _is_run_over(self) -> bool:
        return is_run_over(self.task.run_file)

    def _check_folder(self) -> None:
        if self._is_run_over():
            raise WorkerError(
                f"A worker on {socket.gethostname()} cannot see {self.task.run_file}, which this "
                f"run wrote. Results and checkpoints must be in folders that all workers share: "
                f"choose a bucket, or a disk that every machine mounts at the same path. Nothing "
                f"was scored there."
            )

    def _loaded(
        self, of_run: _OfRun, load: Callable[[UnitTask], _Loaded], look_seconds: float
    ) -> _Loaded | None:
        if time.monotonic() - of_run.looked >= look_seconds:
            if self.is_over():
                return None
            of_run.looked = time.monotonic()
        with of_run.lock:
            # Another thread may have failed to load it meanwhile, or the run has been interrupted.
            if of_run.ended.is_set():
                return None
            if load not in of_run.loaded and not self.is_over():
                of_run.loaded[load] = load(self.task)
            return of_run.loaded.get(load)


class _OfRun:
    """What the units of a run share in a process."""

    def __init__(self, worker: UnitWorker) -> None:
        self.lock = threading.Lock()
        self.has_begun = False
        self.loaded: dict[Callable[[UnitTask], Any], Any] = {}
        self.looked = -math.inf  # when nothing had ended the run yet
        self.ended = threading.Event()
        self._workers = [worker]  # one for each parcel that this process gets

    @property
    def worker(self) -> UnitWorker:
        return self._workers[0]

    def keep(self, worker: UnitWorker) -> None:
        """Keeps a worker until the run is over, so that it need not be unpickled again."""
        if not any(own is worker for own in self._workers):
            self._workers.append(worker)

    def watch(self) -> None:
        """Forgets the run when it is over: the process may then wait long for another one."""
        if not self.worker.task.run_file:
            return
        seconds = poll_seconds(self.worker.task.run_file, _LOCAL_SECONDS)

        def wait() -> None:
            while not self.ended.wait(seconds):
                try:
                    if self.worker.is_over():
                        self.worker.forget()
                except Exception:  # whatever a filesystem raises
                    _logger.debug("Cannot see whether the run is over.", exc_info=True)

        threading.Thread(target=wait, name="end of run", daemon=True).start()

    def end(self) -> None:
        """Lets go of what is loaded."""
        self.ended.set()
        self.loaded = {}


_lock = threading.Lock()
# By the paths of their stop signs.
_runs: dict[str, _OfRun] = {}
_forgotten: set[str] = set()


def _of_run(worker: UnitWorker) -> _OfRun | None:
    """Returns what units of a run share in this process; None if the run was forgotten."""
    path = worker.stop.path
    with _lock:
        others = [] if path in _runs or path in _forgotten else list(_runs.values())
    # A process of Ray or Spark may work for several runs, one after the other.
    for other in others:
        if other.worker.is_over():
            other.worker.forget()
    with _lock:
        if path in _forgotten:
            return None
        if path not in _runs:
            _runs[path] = _OfRun(worker)
            _runs[path].watch()
        _runs[path].keep(worker)
        return _runs[path]


def _forget(path: str) -> None:
    with _lock:
        _forgotten.add(path)
        of_run = _runs.pop(path, None)
    if of_run:
        of_run.end()
