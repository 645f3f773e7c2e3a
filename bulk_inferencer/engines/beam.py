"""Units as one Apache Beam job, on any of its runners."""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import apache_beam as beam
import grpc
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability import python_urns
from apache_beam.runners.portability.fn_api_runner.worker_handlers import (
    BeamFnControlServicer,
    SubprocessSdkWorkerHandler,
    WorkerHandler,
)
from apache_beam.runners.portability.local_job_service import SubprocessSdkWorker
from apache_beam.runners.runner import create_runner
from apache_beam.runners.worker import data_plane, sdk_worker
from apache_beam.utils.shared import Shared

from bulk_inferencer import _files
from bulk_inferencer._access import check_access
from bulk_inferencer._signals import busy, guard_exit
from bulk_inferencer._units.plan import Unit
from bulk_inferencer._units.run import UnitTask
from bulk_inferencer._units.stop_sign import StopSign
from bulk_inferencer.beam import metrics
from bulk_inferencer.errors import SettingsError, WorkerError

_logger = logging.getLogger(__name__)

_REST = "rest"  # the arguments that belong to no option
_LOCAL_RUNNERS = ("BundleBasedDirectRunner", "DirectRunner", "FnApiRunner")


def run_units(
    task: UnitTask,
    units: Sequence[Unit],
    make_pipeline: Callable[[], beam.Pipeline],
    stop: StopSign | None = None,
) -> None:
    """Runs units, each of them from end to end in one thread of a worker.

    Each leaves its manifest in `task.manifests_folder`. After an error, or when somebody has put up
    `stop`, no more units start.

    Raises:
      BulkInferencerError: what a worker raised; see `run_unit` and `UnitTask.load`.
    """
    stop = stop or StopSign.in_folder(task.manifests_folder)
    try:
        with _quiet_connections(), make_pipeline() as pipeline:
            _ = (
                pipeline
                | "Units" >> beam.Create(units)
                | "Distribute" >> beam.Reshuffle()
                | "RunUnit" >> beam.ParDo(_RunUnit(task, stop))
            )
    except Exception:
        if error := stop.take_down():
            raise error from None
        raise
    except BaseException:  # Ctrl-C or SIGTERM: local threads may still be at work.
        stop.take_down()
        guard_exit()
        raise
    if error := stop.take_down():
        raise error


def open_filesystems(
    paths: Iterable[str],
    options: PipelineOptions | Sequence[str],
    make_pipeline: Callable[[], beam.Pipeline] | None = None,
) -> None:
    """Gives Beam's options to its filesystems, so that they can be used before there is a pipeline.

    A pipeline that somebody else makes brings its own options, unless they are given here, too.

    Raises:
      MissingExtraError, SettingsError: one of the paths cannot be opened; see `check_access`.
    """
    if make_pipeline and not options:
        check_access(paths, needs_credentials=False)
        return
    if not isinstance(options, PipelineOptions):
        options = PipelineOptions(with_runner(options))
    FileSystems.set_options(options)
    check_access(paths)


def make_pipeline(options: PipelineOptions | Sequence[str]) -> beam.Pipeline:
    """Returns a pipeline. Arguments that name no runner get a local one.

    Raises:
      SettingsError: the runner lacks an option, such as Dataflow its project.
    """
    if not isinstance(options, PipelineOptions):
        options = PipelineOptions(with_runner(options))
    try:
        return beam.Pipeline(options=options)
    except ValueError as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise SettingsError(f"Beam cannot take its options: {reason}. Correct them.") from error


def with_runner(args: Iterable[Any]) -> list[Any]:
    """Returns Beam's arguments. If they name no runner, adds the local one, a thread per core.

    By its class path, since Beam 2.7x takes the name `DirectRunner` as a wish to download another
    runner first, and hangs on a slow network.
    """
    args = list(args)
    if runner_of(args) is not None:
        return args
    return [
        "--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner",
        "--direct_running_mode=multi_threading",
        f"--direct_num_workers={_available_cores()}",
        *args,
    ]


def check_options(args: Sequence[str]) -> None:
    """Checks options that a person has typed.

    Beam leaves out those that it does not know, and prints pages about a wrong value.

    Raises:
      SettingsError: a value is wrong or missing, or there is an option that the local runner does
        not have.
        Other runners may have more options than are known here.
    """
    options, printed = PipelineOptions(list(args)), io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            known = options.get_all_options(add_extra_args_fn=_add_rest)
            given = options.get_all_options(retain_unknown_options=True)
    except SystemExit:
        reason = printed.getvalue().strip().rpartition("error: ")[2]
        raise SettingsError(f"Beam cannot take its options: {reason}. Correct them.") from None
    if (runner := runner_of(args)) is not None:
        _check_runner(runner)
    unknown = [f"--{name}" for name in sorted(given.keys() - known.keys())] or known[_REST]
    if unknown and is_local(args):
        raise SettingsError(
            f"Beam's local runner has no option {unknown[0]}. Correct it, or leave it out."
        )
    make_pipeline(args)


def _check_runner(name: str) -> None:
    try:
        create_runner(name)
    except (AttributeError, ImportError, ValueError) as error:
        reason = str(error).rstrip(".")
        raise SettingsError(
            f"Beam has no runner '{name}' here: {reason}. Correct its option --runner."
        ) from error


def _add_rest(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(_REST, nargs="*")


@contextmanager
def silent_workers() -> Iterator[None]:
    """Within `with`, workers of this process do not print errors that they also raise."""
    sdk_worker.print = lambda *values, **settings: None
    try:
        yield
    finally:
        del sdk_worker.print


def is_local(args: Iterable[Any]) -> bool:
    """Returns whether a pipeline with these arguments runs on this machine alone."""
    runner = runner_of(args)
    return runner is None or runner.rpartition(".")[2] in _LOCAL_RUNNERS


def runner_of(args: Iterable[Any]) -> str | None:
    """Returns the runner that Beam's arguments name, or None."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--runner")
    named: str | None = parser.parse_known_args([str(arg) for arg in args])[0].runner
    return named


@contextmanager
def _quiet_connections() -> Iterator[None]:
    """Within `with`, only the log says that connections to a worker broke: an error says why."""
    print_error = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> None:
        if isinstance(args.exc_value, grpc.RpcError):
            _logger.info("A connection to a worker broke.", exc_info=args.exc_value)
        else:
            print_error(args)

    def is_wanted(record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], grpc.RpcError))

    threading.excepthook = hook
    data_plane._LOGGER.addFilter(is_wanted)
    try:
        yield
    finally:
        data_plane._LOGGER.removeFilter(is_wanted)
        threading.excepthook = print_error


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


class _RunUnit(beam.DoFn):
    def __init__(self, task: UnitTask, stop: StopSign) -> None:
        self._task = task
        self._stop = stop
        self._shared = Shared()

    def setup(self) -> None:
        with self._stop.put_up_on_error():
            if not self._stop.is_up():
                self._loaded = self._shared.acquire(self._task.load)

    def process(self, unit: Unit) -> None:
        with self._stop.put_up_on_error():
            if not self._is_over():
                with busy():
                    self._run(unit)

    def _is_over(self) -> bool:
        # A worker may outlive a run that was interrupted, or lost its folders to another one.
        has_ended = bool(self._task.claim) and not _files.exists(self._task.claim)
        return has_ended or self._stop.is_up()

    def _run(self, unit: Unit) -> None:
        manifest = self._loaded.run(unit, metrics.MeteredWork)
        # For display only: some runners count failed attempts too.
        metrics.count(manifest.examples_read, manifest.predictions_made, manifest.examples_failed)


def _available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
