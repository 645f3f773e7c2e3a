from __future__ import annotations

import pytest
import tensorflow as tf
from apache_beam.ml.inference.base import KeyedModelHandler
from apache_beam.ml.inference.base import RunInference as BeamRunInference
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog
from tfx_bsl.public.proto.model_spec_pb2 import InferenceSpecType

from bulk_inferencer.beam import (
    BatchBounds,
    CreateModelHandler,
    RunInference,
    SavedModel,
    TFServing,
)
from bulk_inferencer.beam.metrics import NAMESPACE
from bulk_inferencer.errors import FailedRecordError, SettingsError
from tests.beam.helpers import (
    collect,
    given,
    metrics_of,
    outputs_of,
    pipeline_of,
    plain,
    run_together,
    y_of,
)
from tests.helpers import exactly, example

pytestmark = pytest.mark.slow

X = [example(x=float(x)) for x in range(10)]


@pytest.fixture
def handler(linear_model):
    return CreateModelHandler(SavedModel(linear_model))


def test_records_are_scored_in_all_ways_in_which_beam_calls_a_handler(handler, linear_model):
    """As they are, with keys, with functions of Beam's around the model, and in given batches."""
    chained = handler.with_preprocess_fn(lambda x: example(x=x)).with_postprocess_fn(y_of)
    pairs = [("a", X[1]), (None, X[2]), ("a", X[3])]
    found = run_together(
        {
            "ours": (RunInference(SavedModel(linear_model)), X),
            "theirs": (BeamRunInference(handler), X),
            "keyed": ("Keyed" >> BeamRunInference(KeyedModelHandler(handler)), pairs),
            "chained": ("Chained" >> BeamRunInference(chained), [1.0, 2.0]),
            "batches": ("Batches" >> BeamRunInference(handler.with_no_batching()), [X[:3], X[3:]]),
        }
    )
    assert {type(log) for log in found["theirs"]} == {PredictionLog}
    assert sorted(found["theirs"], key=y_of) == sorted(found["ours"], key=y_of)
    assert sorted(map(str, plain(found["keyed"]))) == ["('a', 15.0)", "('a', 5.0)", "(None, 10.0)"]
    assert sorted(found["chained"]) == [5.0, 10.0]
    assert sorted(plain(found["batches"])) == [5.0 * x for x in range(10)]


@pytest.mark.parametrize("bounds", [None, BatchBounds(max_records=2)])
def test_batches_have_the_bounds_of_the_spec_or_those_given_and_are_metered(linear_model, bounds):
    spec = InferenceSpecType(
        saved_model_spec={"model_path": linear_model}, batch_parameters={"max_batch_size": 3}
    )
    elements = [*X[:5], *map(tf.train.Example.FromString, X[5:])]
    with pipeline_of() as pipeline:
        given(pipeline, elements) | BeamRunInference(CreateModelHandler(spec, bounds=bounds))
    metered = metrics_of(pipeline.result, NAMESPACE)
    assert metered["inference_request_batch_size"].max <= (2 if bounds else 3)
    assert metered["inference_request_batch_size"].sum == len(X)
    assert metered["inference_request_batch_byte_size"].sum == sum(map(len, X))
    assert metered["num_inferences"] == len(X)
    assert {"inference_batch_latency_micro_secs", "model_byte_size"} <= metered.keys()
    assert "load_model_latency_milli_secs" in metered


def test_bad_batch_is_an_output_of_its_own_with_exception_handling(linear_model):
    one_by_one = CreateModelHandler(SavedModel(linear_model), bounds=BatchBounds(max_records=1))
    with pipeline_of() as pipeline:
        values = given(pipeline, [*X[:2], b"no tf.Example"])
        predictions, other = values | BeamRunInference(one_by_one).with_exception_handling()
        found = collect(predictions, "Predictions")
        failures = collect(other.failed_inferences, "Failures")
    assert sorted(map(y_of, found)) == [0.0, 5.0]
    ((batch, (kind, message, *_)),) = failures
    assert (batch, kind) == ([b"no tf.Example"], FailedRecordError)
    assert "InvalidArgumentError" in message
    metered = metrics_of(pipeline.result, NAMESPACE)
    assert (metered["num_inferences"], metered["failed_batches_counter"]) == (2, 1)


def test_bad_record_is_an_error_with_its_number_in_the_batch_of_beam(linear_model):
    handler = CreateModelHandler(SavedModel(linear_model), bounds=BatchBounds(max_records=2))
    message = (
        r"^The record number 4 of a batch could not be scored: InvalidArgumentError: .* or call "
        r"with_exception_handling\(\) to get failures as a separate output\. \[while running"
    )
    batches = [[*X[:4], b"no tf.Example"]]
    with pytest.raises(FailedRecordError, match=message):
        outputs_of(BeamRunInference(handler.with_no_batching()), batches)


def test_arguments_of_the_inference_are_refused_where_the_pipeline_is_built(handler):
    message = "Leave out inference_args (top_k, beams): a signature takes only records."
    for wrapped in (handler, KeyedModelHandler(handler)):
        transform = BeamRunInference(wrapped, inference_args={"top_k": 3, "beams": 2})
        with pytest.raises(SettingsError, match=exactly(message)):
            given(pipeline_of(), X) | transform


def test_loader_is_for_a_saved_model():
    with pytest.raises(SettingsError, match=r"^load_override_fn loads SavedModels only"):
        CreateModelHandler(TFServing("localhost:8500", "m"), tf.saved_model.load)
