"""Beam's portable runners: they take jobs from a client, and workers may be anywhere.

The client in Beam knows less of its job than a run needs: it stops watching after five minutes, and
waits for ever where a runner has not noticed that its workers died.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import apache_beam as beam
import grpc
from apache_beam.options.pipeline_options import PipelineOptions, PortableOptions
from apache_beam.runners.portability.portable_runner import PortableRunner

from bulk_inferencer.engines.signs_of_life import Silence, delete_signs
from bulk_inferencer.errors import SettingsError, WorkerError

_logger = logging.getLogger(__name__)

_CONNECT_SECONDS = 30
_YEAR_SECONDS = 365 * 24 * 60 * 60
_LOOK_SECONDS = 5.0

_POOL = "The first `python` on the PATH of a worker pool must have Beam"
_GO_ON = "Run again to go on where this run stopped."
# What Prism says.
_DIED = re.compile(r"(SDK worker disconnected: [^\n]*)")
_NOT_STARTED = re.compile(r"(didn't get control connection[^\n]*)")


def is_portable(pipeline: beam.Pipeline) -> bool:
    """Returns whether a portable runner runs a pipeline: Prism, Flink, or any with an endpoint."""
    return isinstance(pipeline.runner, PortableRunner)


def check_endpoint(options: PipelineOptions) -> None:
    """Checks that something answers where jobs go, if the options say where.

    Raises:
      SettingsError: nothing does, within half a minute.
    """
    portable = options.view_as(PortableOptions)
    endpoint = portable.job_endpoint
    if not endpoint or endpoint == "embed":
        return
    seconds = min(_CONNECT_SECONDS, portable.job_server_timeout)
    with grpc.insecure_channel(endpoint) as channel:
        try:
            grpc.channel_ready_future(channel).result(seconds)
        except grpc.FutureTimeoutError:
            raise SettingsError(
                f"Nothing answers at {endpoint}, where Beam's option --job_endpoint sends jobs. "
                f"Start the runner's job service, or correct the address."
            ) from None


@contextmanager
def watched(pipeline: beam.Pipeline, folder: str, timeout_seconds: float) -> Iterator[None]:
    """Watches the job of a portable runner, which starts within `with`, until it ends.

    Args:
      pipeline: what runs.
      folder: where workers give signs of life; see `signs_of_life`.
      timeout_seconds: for how long none may come before the job is cancelled.

    Raises:
      SettingsError: see `check_endpoint`.
      WorkerError: none came for so long, or the runner says that a worker died.
    """
    check_endpoint(pipeline.options)  # before any wait for it is without end
    # Beam's client would raise an error after this time, while the job goes on: apache/beam#35867.
    pipeline.options.view_as(PortableOptions).job_server_timeout = _YEAR_SECONDS
    watch = _Watch(pipeline, folder, timeout_seconds)
    try:
        yield
    except Exception as error:
        if told := watch.problem or _told_by(error):
            raise WorkerError(told) from error
        raise
    finally:
        watch.end()


class _Watch:
    """Cancels a job when no worker has given a sign of life for too long."""

    def __init__(self, pipeline: beam.Pipeline, folder: str, timeout_seconds: float) -> None:
        self.problem = ""
        self._pipeline = pipeline
        self._folder = folder
        self._timeout = timeout_seconds
        self._ended = threading.Event()
        with _tolerated():
            delete_signs(folder)  # of a run that was killed
        self._thread = threading.Thread(target=self._watch, name="signs of life", daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._ended.set()
        self._thread.join(_LOOK_SECONDS)

    def _watch(self) -> None:
        silence: Silence | None = None
        while not self._ended.wait(min(_LOOK_SECONDS, self._timeout / 4)):
            job = getattr(self._pipeline, "result", None)  # which is not there before it runs
            if job is None:
                continue
            with _tolerated():
                silence = silence or Silence(self._folder)  # which begins with the job
                if silence.seconds() > self._timeout:
                    self.problem = self._explanation(silence.is_first)
                    job.cancel()
                    break
        with _tolerated():
            delete_signs(self._folder)

    def _explanation(self, is_first: bool) -> str:
        seconds = f"{self._timeout:g} s"
        if is_first:
            return (
                f"No worker of Beam's runner has begun within {seconds}, so the job was "
                f"cancelled. See what the runner and its workers logged. {_POOL}. If workers were "
                f"only busy with other jobs, raise Beam.worker_timeout_seconds."
            )
        return (
            f"Workers of Beam's runner died: none has given a sign of life for {seconds}, so the "
            f"job was cancelled. Either memory ran out or somebody killed them. {_GO_ON}"
        )


@contextmanager
def _tolerated() -> Iterator[None]:
    """Only logs what a filesystem raises within `with`, or a runner that is gone."""
    try:
        yield
    except Exception:
        _logger.info("Cannot watch the job.", exc_info=True)


def _told_by(error: Exception) -> str:
    """Returns what an error of Beam's client says of workers; empty text if nothing."""
    if isinstance(error, grpc.RpcError):
        details = getattr(error, "details", lambda: "")() or type(error).__name__
        return (
            f"The connection to Beam's runner broke: {' '.join(details.split()).rstrip('.')}. See "
            f"what the runner logged. {_GO_ON}"
        )
    if found := _DIED.search(str(error)):
        return (
            f"A worker of Beam's runner died: {found[1]}. Either memory ran out or somebody killed "
            f"it. {_GO_ON}"
        )
    if found := _NOT_STARTED.search(str(error)):
        return (
            f"Beam's runner could not start a worker: {found[1]}. {_POOL}, and install its "
            f"packages within that time."
        )
    return ""
