"""Beam's portable runners, as far as they need no cluster."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import apache_beam as beam
import grpc
import pytest
from apache_beam.options.pipeline_options import PipelineOptions, PortableOptions

from bulk_inferencer import PythonModel, predict
from bulk_inferencer.engines import beam_portable
from bulk_inferencer.engines.beam import Beam
from bulk_inferencer.engines.beam_workers import quiet_connections
from bulk_inferencer.errors import SettingsError, WorkerError
from tests.helpers import exactly, tree
from tests.integration.clusters.processes import free_port

POOL = "The first `python` on the PATH of a worker pool must have Beam"
# Beam's job service within this process, with workers in threads of it.
EMBEDDED = ["--runner=PortableRunner", "--job_endpoint=embed", "--environment_type=LOOPBACK"]


class Job:
    """A job that goes on until it is cancelled, or fails with an error."""

    def __init__(self, error=None):
        self._error = error
        self._cancelled = threading.Event()

    def cancel(self):
        self._cancelled.set()

    def wait(self):
        if self._error:
            raise self._error
        assert self._cancelled.wait(10)
        raise RuntimeError("Pipeline job failed in state CANCELLED: unknown error")


def error_of(job, folder, timeout_seconds=0.2):
    """Returns the error of a run whose job is this one."""
    pipeline = beam.Pipeline(options=PipelineOptions(EMBEDDED))
    pipeline.result = job
    with (
        pytest.raises(WorkerError) as caught,
        beam_portable.watched(pipeline, str(folder), timeout_seconds),
    ):
        job.wait()
    assert tree(folder) == []
    return str(caught.value)


@pytest.mark.slow
def test_results_come_from_a_portable_runner(tmp_path):
    Path(tmp_path, "in.csv").write_text("x\n1\n2\n")
    model = PythonModel(lambda path: lambda features: {"y": 5 * features["x"]})
    engine = Beam(EMBEDDED)
    result = predict(model, tmp_path / "in.csv", tmp_path / "out", engine=engine)
    assert result.to_pandas()["y"].tolist() == [5, 10]


def test_beam_watches_a_job_for_longer_than_five_minutes(tmp_path):
    pipeline = beam.Pipeline(options=PipelineOptions(EMBEDDED))
    with beam_portable.watched(pipeline, str(tmp_path), timeout_seconds=600):
        timeout = pipeline.options.view_as(PortableOptions).job_server_timeout
    assert timeout > 7 * 24 * 60 * 60


def test_job_that_no_worker_begins_is_cancelled(tmp_path):
    assert error_of(Job(), tmp_path) == (
        f"No worker of Beam's runner has begun within 0.2 s, so the job was cancelled. See what "
        f"the runner and its workers logged. {POOL}. If workers were only busy with other jobs, "
        f"raise Beam.worker_timeout_seconds."
    )


def test_job_whose_workers_give_no_sign_of_life_any_more_is_cancelled(tmp_path):
    class BegunJob(Job):
        def wait(self):
            (tmp_path / "alive-worker").touch()
            super().wait()

    assert error_of(BegunJob(), tmp_path, 1) == (
        "Workers of Beam's runner died: none has given a sign of life for 1 s, so the job was "
        "cancelled. Either memory ran out or somebody killed them. Run again to go on where this "
        "run stopped."
    )


class Broken(grpc.RpcError):
    def details(self):
        return "Connection reset\nby peer."


DIED = "failed: bundle a failed:SDK worker disconnected: worker[a]"
NOT_STARTED = "failed: didn't get control connection to a after 1m0s\n\tcaused by:\nb"
GO_ON = "Run again to go on where this run stopped."


def test_worker_that_died_is_one_line(tmp_path):
    assert error_of(Job(RuntimeError(DIED)), tmp_path) == (
        f"A worker of Beam's runner died: SDK worker disconnected: worker[a]. Either memory ran "
        f"out or somebody killed it. {GO_ON}"
    )


def test_worker_that_did_not_start_is_one_line(tmp_path):
    assert error_of(Job(RuntimeError(NOT_STARTED)), tmp_path) == (
        f"Beam's runner could not start a worker: didn't get control connection to a after 1m0s. "
        f"{POOL}, and install its packages within that time."
    )


def test_connection_that_broke_is_one_line(tmp_path):
    assert error_of(Job(Broken()), tmp_path) == (
        f"The connection to Beam's runner broke: Connection reset by peer. See what the runner "
        f"logged. {GO_ON}"
    )


def test_other_errors_stay_as_they_are(tmp_path):
    pipeline = beam.Pipeline(options=PipelineOptions(EMBEDDED))
    with (
        pytest.raises(RuntimeError, match=r"^no quota$"),
        beam_portable.watched(pipeline, str(tmp_path), timeout_seconds=60),
    ):
        raise RuntimeError("no quota")


def test_address_where_nothing_answers_is_refused_at_once(tmp_path):
    endpoint = f"localhost:{free_port()}"
    options = [f"--job_endpoint={endpoint}", "--job_server_timeout=1", "--runner=PortableRunner"]
    message = (
        f"Nothing answers at {endpoint}, where Beam's option --job_endpoint sends jobs. Start the "
        f"runner's job service, or correct the address."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        Beam(options).check()


def test_error_that_a_runner_tells_is_in_the_log_below_warnings(caplog):
    def fail(element):
        raise ValueError(f"not {element}")

    pipeline = beam.Pipeline(options=PipelineOptions(EMBEDDED))
    caplog.set_level(logging.INFO)
    with quiet_connections(), pytest.raises(RuntimeError, match="ValueError: not 1"), pipeline:
        _ = pipeline | beam.Create([1]) | beam.Map(fail)
    told = [r for r in caplog.records if "Beam's runner says: " in r.message]
    assert any("ValueError: not 1" in r.message for r in told)
    by_client = [r for r in caplog.records if r.name == "root"]  # The service is here, too.
    assert max(r.levelno for r in by_client) < logging.WARNING
