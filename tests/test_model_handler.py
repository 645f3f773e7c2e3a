"""CreateModelHandler with Beam's own RunInference."""

from __future__ import annotations

import re

import apache_beam as beam
import pytest
import tensorflow as tf
from apache_beam.ml.inference.base import KeyedModelHandler
from apache_beam.ml.inference.base import RunInference as BeamRunInference
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog
from tfx_bsl.public.proto.model_spec_pb2 import InferenceSpecType

from bulk_inferencer.beam import BatchBounds, CreateModelHandler, RunInference, SavedModel
from bulk_inferencer.beam.metrics import NAMESPACE
from bulk_inferencer.errors import FailedRecordError, ModelError, SettingsError
from tests.beam_helpers import (
    collect,
    counters_of,
    given,
    outputs_of,
    pipeline_of,
    while_running,
    y_of,
)
from tests.helpers import FLOAT, RECORDS, exactly, example, save_functions, sequence_example

pytestmark = pytest.mark.slow

X = [example(x=float(x)) for x in range(10)]


@pytest.fixture
def handler(linear_model):
    return CreateModelHandler(SavedModel(linear_model))


def example_of(x):
    return example(x=x)


def test_records_are_scored_as_by_our_own_transform(handler, linear_model):
    ours = outputs_of(RunInference(SavedModel(linear_model)), X)
    theirs = outputs_of(BeamRunInference(handler), X)
    assert {type(log) for log in theirs} == {PredictionLog}
    assert sorted(theirs, key=y_of) == sorted(ours, key=y_of)


def test_records_of_all_types_are_scored(tmp_path):
    def serve(records):
        context, _, _ = tf.io.parse_sequence_example(records, {"x": FLOAT})
        return {"y": 5 * context["x"]}

    handler = CreateModelHandler(
        SavedModel(save_functions(tmp_path, serving_default=(serve, {"records": RECORDS})))
    )
    elements = [
        tf.train.Example.FromString(example(x=1.0)),
        tf.train.SequenceExample.FromString(sequence_example(x=2.0)),
        example(x=3.0),
    ]
    outputs = outputs_of(BeamRunInference(handler), elements)
    assert sorted(map(y_of, outputs)) == [5.0, 10.0, 15.0]


def test_keys_come_through_beams_own_handler_of_keys(handler):
    elements = [("a", X[1]), (None, X[2]), ("a", X[3])]
    outputs = outputs_of(BeamRunInference(KeyedModelHandler(handler)), elements)
    assert {y_of(log): key for key, log in outputs} == {5.0: "a", 10.0: None, 15.0: "a"}
    assert len(outputs) == 3


def test_functions_of_beam_run_before_and_after_the_model(handler):
    chained = handler.with_preprocess_fn(example_of).with_postprocess_fn(y_of)
    assert sorted(outputs_of(BeamRunInference(chained), [1.0, 2.0])) == [5.0, 10.0]


def test_batches_of_the_user_are_taken_as_they_are(handler):
    outputs = outputs_of(BeamRunInference(handler.with_no_batching()), [X[:3], X[3:]])
    assert sorted(map(y_of, outputs)) == [5.0 * x for x in range(10)]


def metrics_of(handler):
    """Returns the distributions and the counters that Beam reports of a run, by name."""
    pipeline = pipeline_of()
    given(pipeline, X) | BeamRunInference(handler)
    result = pipeline.run()
    result.wait_until_finish()
    query = beam.metrics.MetricsFilter().with_namespace(NAMESPACE)
    found = result.metrics().query(query)["distributions"]
    values = {d.key.metric.name: d.committed for d in found}
    return values, counters_of(result, NAMESPACE)


def test_metrics_of_beam_are_reported(handler):
    distributions, counters = metrics_of(handler)
    assert counters["num_inferences"] == len(X)
    assert distributions["inference_request_batch_size"].sum == len(X)
    assert distributions["inference_request_batch_byte_size"].sum == sum(map(len, X))
    assert set(distributions) >= {
        "inference_batch_latency_micro_secs",
        "load_model_latency_milli_secs",
        "model_byte_size",
    }


def test_bytes_of_protos_are_counted_as_they_are_serialized(handler):
    batch = [X[1], tf.train.Example.FromString(X[2])]
    assert handler.get_num_bytes(batch) == len(X[1]) + len(X[2])


@pytest.mark.parametrize("bounds", [None, BatchBounds(max_records=2)])
def test_batches_have_the_bounds_of_the_spec_or_those_given(linear_model, bounds):
    spec = InferenceSpecType()
    spec.saved_model_spec.model_path = linear_model
    spec.batch_parameters.max_batch_size = 3
    handler = CreateModelHandler(spec, bounds=bounds)
    largest = 2 if bounds else 3
    assert handler.batch_elements_kwargs() == {"max_batch_size": largest}
    sizes = metrics_of(handler)[0]["inference_request_batch_size"]
    assert sizes.max <= largest
    assert sizes.sum == len(X)


# Failures


def test_bad_batch_is_an_output_of_its_own_with_exception_handling(linear_model):
    one_by_one = CreateModelHandler(SavedModel(linear_model), bounds=BatchBounds(max_records=1))
    pipeline = pipeline_of()
    values = given(pipeline, [*X[:2], b"no tf.Example"])
    predictions, other = values | BeamRunInference(one_by_one).with_exception_handling()
    found = collect(predictions, "Predictions")
    failures = collect(other.failed_inferences, "Failures")
    result = pipeline.run()
    result.wait_until_finish()
    assert sorted(map(y_of, found)) == [0.0, 5.0]
    ((batch, error),) = failures
    assert batch == [b"no tf.Example"]
    assert error[0] is FailedRecordError
    assert "InvalidArgumentError" in error[1]
    counters = counters_of(result, NAMESPACE)
    assert (counters["num_inferences"], counters["failed_batches_counter"]) == (2, 1)


def test_bad_record_ends_the_run_otherwise(handler):
    message = (
        r"^Expected every record to be scored, but the one number 1 of a batch failed: "
        r"InvalidArgumentError: .*[Pp]ars.*\. Mend it, or take failures as an output of their own: "
        r"RunInference\(\.\.\.\)\.with_exception_handling\(\)\. \[while running"
    )
    batches = [[X[0], b"no tf.Example", X[1]]]
    with pytest.raises(FailedRecordError, match=message):
        outputs_of(BeamRunInference(handler.with_no_batching()), batches)


def test_number_of_a_bad_record_is_that_in_the_batch_of_beam(linear_model):
    handler = CreateModelHandler(SavedModel(linear_model), bounds=BatchBounds(max_records=2))
    with pytest.raises(FailedRecordError, match="the one number 4 of a batch failed"):
        handler.run_inference([*X[:4], b"no tf.Example"], handler.load_model())


def test_element_of_another_type_ends_the_run(handler):
    message = (
        "Expected elements to be bytes, tf.train.Example or tf.train.SequenceExample, each alone, "
        "as (key, record) or as (key, [record, ...]), got float. Convert them with beam.Map."
    )
    with pytest.raises(SettingsError, match=while_running(message)):
        outputs_of(BeamRunInference(handler), [1.5])


@pytest.mark.parametrize("wrap", [lambda handler: handler, KeyedModelHandler])
def test_arguments_of_the_inference_are_refused_where_the_pipeline_is_built(handler, wrap):
    transform = BeamRunInference(wrap(handler), inference_args={"top_k": 3, "beams": 2})
    message = (
        "Expected no inference_args, got top_k, beams: a signature takes records alone. Leave "
        "them out."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        given(pipeline_of(), X) | transform


def test_model_that_does_not_exist_ends_the_run(tmp_path):
    handler = CreateModelHandler(SavedModel(str(tmp_path)))
    message = rf"^Expected a SavedModel, found no saved_model.pb in {re.escape(str(tmp_path))}\."
    with pytest.raises(ModelError, match=message):
        outputs_of(BeamRunInference(handler), X)
