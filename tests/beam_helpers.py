"""Pipelines on Beam's local runner, and what comes out of them."""

from __future__ import annotations

import re
import uuid

import apache_beam as beam
import tensorflow as tf
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

# The runner pickles functions and runs them in this process, so that this is shared with them.
_collected: dict[str, list] = {}


def pipeline_of(*options, runner=None):
    """Returns a pipeline that does not look at pytest's arguments."""
    return beam.Pipeline(runner=runner or FnApiRunner(), options=PipelineOptions(list(options)))


def collect(values, label="Collect"):
    """Returns a list that holds the elements of a collection after the run."""
    return _collect(values, label, beam.Map(_append, name := uuid.uuid4().hex), name)


def collect_with_window(values, label="Collect"):
    """Returns a list that holds (element, timestamp in seconds, window) after the run."""
    name = uuid.uuid4().hex
    return _collect(values, label, beam.ParDo(_AppendWithWindow(), name), name)


def outputs_of(transform, elements, element_type=None, *options):
    """Runs a transform on elements and returns its outputs."""
    with pipeline_of(*options) as pipeline:
        outputs = collect(given(pipeline, elements, element_type) | transform)
    return outputs


def given(pipeline, elements, element_type=None):
    """Returns a collection of elements: of the type that Beam finds, or of the one said."""
    create = beam.Create(elements)
    return pipeline | (create.with_output_types(element_type) if element_type else create)


def y_of(log):
    """Returns the output `y` of a PredictionLog."""
    return tf.make_ndarray(log.predict_log.response.outputs["y"]).item()


def counters_of(result, namespace):
    """Returns the counters of a run, by name."""
    query = beam.metrics.MetricsFilter().with_namespace(namespace)
    return {c.key.metric.name: c.committed for c in result.metrics().query(query)["counters"]}


def while_running(message):
    """Returns a pattern for a message of a run, to which Beam adds the step."""
    return rf"^{re.escape(message)} \[while running '[^']*'\]$"


def _collect(values, label, transform, name):
    _collected[name] = []
    values | label >> transform
    return _collected[name]


def _append(value, name):
    _collected[name].append(value)


class _AppendWithWindow(beam.DoFn):
    def process(
        self, value, name, timestamp=beam.DoFn.TimestampParam, window=beam.DoFn.WindowParam
    ):
        _collected[name].append((value, float(timestamp), window))
