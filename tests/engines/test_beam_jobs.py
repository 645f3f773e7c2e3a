"""Jobs that nobody waits for any more."""

from __future__ import annotations

import apache_beam as beam
import pytest
from apache_beam.runners.runner import PipelineResult, PipelineRunner, PipelineState

from bulk_inferencer._signals import Terminated
from bulk_inferencer.engines.beam_jobs import waited_for


class Job(PipelineResult):
    """A job whose wait ends with an error."""

    def __init__(self, error):
        super().__init__(PipelineState.RUNNING)
        self._error = error

    def wait_until_finish(self, duration=None):
        raise self._error


class RemoteJob(Job):
    was_cancelled = False

    def cancel(self):
        self.was_cancelled = True


class Runner(PipelineRunner):
    def __init__(self, job):
        self.job = job

    def run_pipeline(self, pipeline, options):
        return self.job


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, Terminated])
def test_job_of_any_runner_is_cancelled_by_an_interruption(caplog, interruption):
    job = RemoteJob(interruption())
    with pytest.raises(interruption), waited_for(beam.Pipeline(Runner(job))):
        pass
    assert job.was_cancelled
    assert caplog.messages == ["The run was interrupted, so it cancels Beam's job."]


def test_job_that_failed_is_not_cancelled(caplog):
    job = RemoteJob(OSError("lost"))
    with pytest.raises(OSError, match="lost"), waited_for(beam.Pipeline(Runner(job))):
        pass
    assert (job.was_cancelled, caplog.messages) == (False, [])


def test_job_that_has_no_cancelling_is_left_alone(caplog):
    job = Job(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt), waited_for(beam.Pipeline(Runner(job))):
        pass
    assert caplog.messages == []
