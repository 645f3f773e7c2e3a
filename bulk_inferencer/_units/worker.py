"""What runs units on a worker, whichever engine brings it there."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from bulk_inferencer import _files
from bulk_inferencer._signals import busy
from bulk_inferencer._units.manifest import Manifest
from bulk_inferencer._units.plan import Unit
from bulk_inferencer._units.run import LoadedTask, UnitTask
from bulk_inferencer._units.stop_sign import StopSign
from bulk_inferencer._work import Work
from bulk_inferencer.errors import WorkerError

_logger = logging.getLogger(__name__)


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
        of_run = _of_run(self)
        if not of_run.has_begun:
            self._check_folder()
            of_run.has_begun = True
        with self.stop.put_up_on_error():
            if loaded := self._loaded(of_run):
                with busy():
                    return loaded.run(unit, new_work)
        return None

    def is_over(self) -> bool:
        """Returns whether no more units of the run should start."""
        # A worker may outlive a run that was interrupted, or lost its folders to another one.
        return self._has_ended() or self.stop.is_up()

    def forget(self) -> None:
        """Lets go of the models that are loaded in this process. Call it when the run is over."""
        with _lock:
            _runs.pop(self.stop.path, None)

    def _has_ended(self) -> bool:
        return bool(self.task.claim) and not _files.exists(self.task.claim)

    def _check_folder(self) -> None:
        if self._has_ended():
            raise WorkerError(
                f"A worker on {socket.gethostname()} cannot see {self.task.claim}, which this run "
                f"wrote. Results and checkpoints must be in folders that all workers share: "
                f"choose a bucket, or a disk that every machine mounts at the same path. Nothing "
                f"was scored there."
            )

    def _loaded(self, of_run: _OfRun) -> LoadedTask | None:
        if self.is_over():
            return None
        with of_run.lock:
            # Another thread may have failed to load it meanwhile.
            if of_run.loaded is None and not self.is_over():
                of_run.loaded = self.task.load()
            return of_run.loaded


class _OfRun:
    """What the units of a run share in a process."""

    def __init__(self, worker: UnitWorker) -> None:
        self.worker = worker
        self.lock = threading.Lock()
        self.has_begun = False
        self.loaded: LoadedTask | None = None


_lock = threading.Lock()
_runs: dict[str, _OfRun] = {}  # by the path of their stop signs


def _of_run(worker: UnitWorker) -> _OfRun:
    with _lock:
        if worker.stop.path not in _runs:
            # A process of Ray or Spark may work for several runs, one after the other.
            for path in [p for p, other in _runs.items() if other.worker.is_over()]:
                del _runs[path]
            _runs[worker.stop.path] = _OfRun(worker)
        return _runs[worker.stop.path]
