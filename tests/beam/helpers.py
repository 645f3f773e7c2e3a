"""Pipelines on Beam's local runner, and what comes out of them."""

from __future__ import annotations

import re
import uuid

import apache_beam as beam
import tensorflow as tf
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

# The runner pickles functions and runs them in this process, so that this is shared with them.
_collected: dict[str, list] = {}


def pipeline_of(*options, runner=None):
    """Returns a pipeline that does not look at pytest's arguments."""
    return beam.Pipeline(runner=runner or FnApiRunner(), options=PipelineOptions(list(options)))


def given(pipeline, elements, element_type=None, label="Create"):
    """Returns a collection of elements: of the type that Beam finds, or of the one said."""
    create = beam.Create(elements)
    create = create.with_output_types(element_type) if element_type else create
    return pipeline | label >> create


def collect(values, label="Collect"):
    """Returns a list that holds the elements of a collection after the run."""
    return _collect(values, label, beam.Map(_append, name := uuid.uuid4().hex), name)


def collect_with_window(values, label="Collect"):
    """Returns a list that holds (element, timestamp in seconds, window) after the run."""
    with_window = beam.ParDo(_WithWindow()) | beam.Map(_append, name := uuid.uuid4().hex)
    return _collect(values, label, with_window, name)


def outputs_of(transform, elements, element_type=None):
    """Runs a transform on elements and returns its outputs."""
    return run_together({"outputs": (transform, elements, element_type)})["outputs"]


def run_together(cases, *options):
    """Runs several transforms in one pipeline.

    Args:
      cases: by label, a transform, its elements and, unless Beam is to find it, their type.
      *options: of the pipeline.

    Returns:
      By label, the outputs; of a transform that returns several collections, those by their names.
    """
    found = {}
    with pipeline_of(*options) as pipeline:
        for label, (transform, *elements) in cases.items():
            values = given(pipeline, *elements, label=f"Create {label}")
            found[label] = _collect_all(values | label >> transform, label)
    return found


def value_of(log, output):
    """Returns the one value of an output of a PredictionLog."""
    return tf.make_ndarray(log.predict_log.response.outputs[output]).item()


def y_of(log):
    """Returns the output `y` of a PredictionLog."""
    return value_of(log, "y")


def plain(result, output="y"):
    """Returns a result with the value of an output in place of each PredictionLog."""
    if isinstance(result, PredictionLog):
        return value_of(result, output)
    if type(result) in (tuple, list):
        return type(result)(plain(part, output) for part in result)
    return result


def metrics_of(result, namespace):
    """Returns the counters and distributions of a run, by name."""
    query = beam.metrics.MetricsFilter().with_namespace(namespace)
    found = result.metrics().query(query)
    return {m.key.metric.name: m.committed for m in found["counters"] + found["distributions"]}


def hints_by_step(pipeline):
    """Returns the resource hints of a pipeline, by the step that is run with them."""
    components = pipeline.to_runner_api().components
    return {
        step.unique_name: dict(hints)
        for step in components.transforms.values()
        if step.environment_id
        and not step.subtransforms
        and (hints := components.environments[step.environment_id].resource_hints)
    }


def while_running(message):
    """Returns a pattern for a message of a run, to which Beam adds the step."""
    return rf"^{re.escape(message)} \[while running '[^']*'\]$"


def _collect_all(results, label):
    results = results._asdict() if hasattr(results, "_asdict") else results
    if isinstance(results, dict):
        return {name: _collect_all(values, f"{label} {name}") for name, values in results.items()}
    return collect(results, f"Collect {label}")


def _collect(values, label, transform, name):
    _collected[name] = []
    values | label >> transform
    return _collected[name]


def _append(value, name):
    _collected[name].append(value)


class _WithWindow(beam.DoFn):
    def process(self, value, time=beam.DoFn.TimestampParam, window=beam.DoFn.WindowParam):
        yield value, float(time), window
