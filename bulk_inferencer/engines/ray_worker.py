"""What Ray runs on a worker."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bulk_inferencer._units.worker import UnitWorker

_logger = logging.getLogger(__name__)

_IDLE_SECONDS = 2.0  # in which Ray has taken the result of a unit, and sent the next one


def unit_runner(
    run_parcel: Callable[[Sequence[Any], Sequence[bytes]], str],
    environment: Mapping[str, str],
    log_level: int,
) -> Callable[[Sequence[Any], bytes], str]:
    """Returns a function that runs a unit on a worker, which may lack this package.

    It takes a `Parcel` and a pickled unit, and returns what `run_parcel` does. Its process ends
    some time after the run.

    Args:
      run_parcel: `parcel.run_parcel`, which goes there by value.
      environment: variables of the environment, for where they are not set.
      log_level: of our log. Its lines go to stderr, which Ray keeps, and takes to whoever started
        the run.
    """

    # Pickled by value, as all functions within functions are.
    def run_unit(parcel: Sequence[Any], unit: bytes) -> str:
        import logging
        import os
        import warnings

        for name, value in environment.items():
            os.environ.setdefault(name, value)
        logger = logging.getLogger("bulk_inferencer")
        if not logger.handlers:  # for the first unit
            handler = logging.StreamHandler()
            handler.setFormatter(logging.Formatter("%(levelname)s:%(name)s:%(message)s"))
            logger.addHandler(handler)
            logger.propagate = False
            # They tell of themselves when they are imported.
            for module in ("apache_beam", "google"):
                warnings.filterwarnings("ignore", category=FutureWarning, module=module)
        logger.setLevel(log_level)
        if problem := run_parcel(parcel, []):  # such as that this package is missing
            return problem
        from bulk_inferencer.engines import ray_worker, unpacking

        with ray_worker.process_of_run(unpacking.opened(parcel)):
            return run_parcel(parcel, [unit])

    return run_unit


class _Process:
    """Ends this process when the run that it works for is over, and no unit is at work in it.

    It would hold the memory of a GPU, which Ray gives to others meanwhile. Ray itself keeps as many
    idle processes as a node has cores, for as long as the session lasts.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._units = 0
        self._is_watched = False

    @contextmanager
    def at_work(self, worker: UnitWorker) -> Iterator[None]:
        """Is there while a unit of the run is at work."""
        with self._changed:
            self._units += 1
            self._changed.notify_all()
            if not self._is_watched and worker.task.run_file:
                self._is_watched = True
                watch = threading.Thread(target=self._watch, args=(worker,), daemon=True)
                watch.start()
        try:
            yield
        finally:
            with self._changed:
                self._units -= 1
                self._changed.notify_all()

    def _watch(self, worker: UnitWorker) -> None:
        from bulk_inferencer._units.progress import poll_seconds

        seconds = poll_seconds(worker.task.run_file, _IDLE_SECONDS)
        while True:
            self._wait_until_idle(seconds)
            try:
                is_over = worker.is_over()
            except Exception:  # whatever a filesystem raises
                _logger.debug("Cannot see whether the run is over.", exc_info=True)
                continue
            if is_over and not self._units:
                os.kill(os.getpid(), signal.SIGTERM)
                return

    def _wait_until_idle(self, seconds: float) -> None:
        """Returns when no unit has been at work for some seconds."""
        with self._changed:
            while self._units or self._changed.wait(seconds):
                while self._units:
                    self._changed.wait()


process_of_run = _Process().at_work
