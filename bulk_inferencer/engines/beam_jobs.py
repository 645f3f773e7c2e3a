"""Jobs that a runner runs elsewhere, while this process waits."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import apache_beam as beam
from apache_beam.runners.runner import PipelineResult

from bulk_inferencer.engines import dataflow

_logger = logging.getLogger(__name__)


@contextmanager
def waited_for(pipeline: beam.Pipeline) -> Iterator[beam.Pipeline]:
    """Runs a pipeline at the end of `with`, and waits for its job. Ctrl-C and SIGTERM cancel it.

    Otherwise it would go on, and nobody would commit what it writes.
    """
    try:
        with pipeline:
            yield pipeline
    except Exception:
        raise
    except BaseException:
        _cancel(pipeline)
        raise


def _cancel(pipeline: beam.Pipeline) -> None:
    is_dataflow = dataflow.is_dataflow(pipeline.options)
    result = getattr(pipeline, "result", None)
    if result is None:  # A job may be there all the same, if it was just being submitted.
        if is_dataflow and (job := dataflow.submitted(pipeline.options)):
            _logger.warning("The run was interrupted. If there is a %s, cancel it.", job)
        return
    if type(result).cancel is PipelineResult.cancel:  # the local runner's, which is over
        return
    name = f"the Dataflow job {result.job_id()}" if is_dataflow else "Beam's job"
    # First, since it may take long where the network is slow.
    _logger.warning("The run was interrupted, so it cancels %s.", name)
    try:
        result.cancel()
    except Exception as error:  # noqa: BLE001, the run was interrupted, whatever this says
        _logger.error("Could not cancel %s: %s. Cancel it yourself.", name, error)
