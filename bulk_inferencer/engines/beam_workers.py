"""Processes of Beam's local runner: one that dies ends the run, and says so once."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import grpc
from apache_beam.portability import python_urns
from apache_beam.runners.portability import portable_runner
from apache_beam.runners.portability.fn_api_runner.worker_handlers import (
    BeamFnControlServicer,
    SubprocessSdkWorkerHandler,
    WorkerHandler,
)
from apache_beam.runners.portability.local_job_service import SubprocessSdkWorker
from apache_beam.runners.worker import data_plane, sdk_worker

from bulk_inferencer.errors import WorkerError

_logger = logging.getLogger(__name__)


class _Shared(AbstractContextManager[None]):
    """Changes something of this process within `with`. Threads that do so at once share it."""

    def __init__(self, change: Callable[[], Callable[[], None]]) -> None:
        """Takes a function that makes the change, and returns one that takes it back."""
        self._change = change
        self._lock = threading.Lock()
        self._users = 0

    def __enter__(self) -> None:
        with self._lock:
            if not self._users:
                self._take_back = self._change()
            self._users += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                self._take_back()


def _silence_workers() -> Callable[[], None]:
    sdk_worker.print = lambda *values, **settings: None

    def take_back() -> None:
        del sdk_worker.print

    return take_back


def _quiet_connections() -> Callable[[], None]:
    print_error = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> None:
        if isinstance(args.exc_value, grpc.RpcError):
            _logger.info("A connection to a worker broke.", exc_info=args.exc_value)
        else:
            print_error(args)

    def is_wanted(record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], grpc.RpcError))

    def is_not_told(record: logging.LogRecord) -> bool:
        if record.pathname == portable_runner.__file__ and record.levelno >= logging.ERROR:
            _logger.info("Beam's runner says: %s", record.getMessage())
            return False
        return True

    threading.excepthook = hook
    data_plane._LOGGER.addFilter(is_wanted)
    logging.root.addFilter(is_not_told)

    def take_back() -> None:
        logging.root.removeFilter(is_not_told)
        data_plane._LOGGER.removeFilter(is_wanted)
        threading.excepthook = print_error

    return take_back


_silent_workers = _Shared(_silence_workers)
_quietly = _Shared(_quiet_connections)


def silent_workers() -> AbstractContextManager[None]:
    """Within `with`, workers of this process do not print errors that they also raise."""
    return _silent_workers


def quiet_connections() -> AbstractContextManager[None]:
    """Within `with`, what an error says as well is in the log only, below the level of warnings.

    That is, that connections to a worker broke, and what errors a portable runner told of.
    """
    return _quietly


@WorkerHandler.register_environment(python_urns.SUBPROCESS_SDK, bytes)
class _WorkerProcess(SubprocessSdkWorkerHandler):
    """A worker process of the local runner, whose death ends the run.

    Beam's own would let the run wait for its answers for ever.
    """

    def start_worker(self) -> None:
        self.worker = SubprocessSdkWorker(
            self._worker_command_line, self.control_address, self.provision_info, self.worker_id
        )
        self.worker_thread = threading.Thread(name="run_worker", target=self._run)
        self.worker_thread.start()

    def _run(self) -> None:
        try:
            self.worker.run()
        except RuntimeError as error:
            died = WorkerError(
                f"A process of Beam's local runner died: {error}. Either memory ran out or "
                f"somebody killed it. Run again, if need be with a lower --direct_num_workers."
            )

            def refuse(request: Any) -> None:
                if request is not BeamFnControlServicer._DONE_MARKER:
                    raise died

            self.control_conn.push = refuse
            self.control_conn.abort(died)
