from __future__ import annotations

import logging
import os
import re
import socket
from typing import Any, NamedTuple

import apache_beam as beam
import pytest
import tensorflow as tf
from apache_beam.ml.inference.base import (
    KeyedModelHandler,
    KeyModelMapping,
    MaybeKeyedModelHandler,
)
from apache_beam.ml.inference.base import RunInference as BeamRunInference
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog
from tfx_bsl.public.proto.model_spec_pb2 import InferenceSpecType

from bulk_inferencer._models.retries import Limits
from bulk_inferencer.beam import (
    BatchBounds,
    CreateModelHandler,
    RunInference,
    SavedModel,
    TFServing,
)
from bulk_inferencer.beam.metrics import NAMESPACE
from bulk_inferencer.errors import FailedRecordError, ModelError, SettingsError
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


class Number(NamedTuple):
    x: float


@pytest.fixture
def handler(linear_model):
    return CreateModelHandler(SavedModel(linear_model))


def test_records_are_scored_in_all_ways_in_which_beam_calls_a_handler(handler, linear_model):
    """As they are, with keys, with functions of Beam's around the model, and in given batches."""
    chained = handler.with_preprocess_fn(lambda x: example(x=x)).with_postprocess_fn(y_of)
    pairs = [("a", X[1]), (None, X[2]), ("a", X[3])]
    shared = CreateModelHandler(SavedModel(linear_model), large_model=True)
    rows = [{"x": 1.0}, beam.Row(x=2.0), Number(3)]
    found = run_together(
        {
            "ours": (RunInference(SavedModel(linear_model)), X),
            "theirs": (BeamRunInference(handler), X),
            "keyed": ("Keyed" >> BeamRunInference(KeyedModelHandler(handler)), pairs),
            "chained": ("Chained" >> BeamRunInference(chained), [1.0, 2.0]),
            "batches": ("Batches" >> BeamRunInference(handler.with_no_batching()), [X[:3], X[3:]]),
            "rows": ("Rows" >> BeamRunInference(shared), rows, Any),
        }
    )
    assert {type(log) for log in found["theirs"]} == {PredictionLog}
    assert sorted(found["theirs"], key=y_of) == sorted(found["ours"], key=y_of)
    assert sorted(map(str, plain(found["keyed"]))) == ["('a', 15.0)", "('a', 5.0)", "(None, 10.0)"]
    assert sorted(found["chained"]) == [5.0, 10.0]
    assert sorted(plain(found["rows"])) == [5.0, 10.0, 15.0]
    assert sorted(plain(found["batches"])) == [5.0 * x for x in range(10)]


def test_keys_may_be_there_or_choose_the_handler(handler):
    maybe, pairs = MaybeKeyedModelHandler(handler), [("a", record) for record in X]
    by_key = KeyedModelHandler([KeyModelMapping(["a", "b"], handler)])
    found = run_together(
        {
            "maybe": ("Maybe" >> BeamRunInference(maybe), X),
            "maybe keyed": ("Maybe keyed" >> BeamRunInference(maybe), pairs),
            "by key": ("By key" >> BeamRunInference(by_key), pairs),
        }
    )
    ys = [5.0 * x for x in range(10)]
    assert sorted(plain(found["maybe"])) == ys
    for name in ("maybe keyed", "by key"):
        assert sorted(plain(found[name])) == [("a", y) for y in ys]


def test_model_may_be_shared_between_processes_and_is_metered_where_the_step_runs(
    linear_model, handler, monkeypatch
):
    monkeypatch.delenv("OF_THE_MODEL", raising=False)
    model = SavedModel(linear_model)
    shared = CreateModelHandler(model, model_copies=2, env_vars={"OF_THE_MODEL": "set"})
    large = CreateModelHandler(model, large_model=True)
    ways = [(h.share_model_across_processes(), h.model_copies()) for h in (handler, large, shared)]
    assert ways == [(False, 1), (True, 1), (True, 2)]
    with pipeline_of() as pipeline:
        found = collect(given(pipeline, X) | BeamRunInference(shared))
    assert sorted(map(y_of, found)) == [5.0 * x for x in range(10)]
    assert os.environ["OF_THE_MODEL"] == "set"
    metered = metrics_of(pipeline.result, NAMESPACE)
    assert (metered["batch_records"].sum, metered["model_loads"]) == (len(X), 2)


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


def test_parameters_of_batches_are_those_of_the_spec_and_of_beams_handlers(linear_model):
    parameters = {"min_batch_size": 2, "target_batch_duration_secs": 0.5, "variance": 0.125}
    spec = InferenceSpecType(
        saved_model_spec={"model_path": linear_model}, batch_parameters=parameters
    )
    assert CreateModelHandler(SavedModel(linear_model)).batch_elements_kwargs() == {}
    assert CreateModelHandler(spec).batch_elements_kwargs() == parameters
    assert CreateModelHandler(spec, bounds=BatchBounds(7)).batch_elements_kwargs() == {
        "max_batch_size": 7, "target_batch_duration_secs": 0.5, "variance": 0.125
    }  # fmt: skip
    handler = CreateModelHandler(
        spec, variance=0.5, max_batch_size=4, batch_length_fn=len, batch_bucket_boundaries=[9]
    )
    assert handler.batch_elements_kwargs() == parameters | {
        "variance": 0.5, "max_batch_size": 4, "length_fn": len, "bucket_boundaries": [9]
    }  # fmt: skip


def test_batches_have_the_size_that_is_asked_for(linear_model):
    size = 3 * len(X[0])
    sizes = {
        "at least": {"min_batch_size": 5},
        "exactly": {"min_batch_size": 2, "max_batch_size": 2},
        "by bytes": {"element_size_fn": len, "min_batch_size": size, "max_batch_size": size},
        "over bundles": {"min_batch_size": 10, "max_batch_duration_secs": 60},
    }
    found = {}
    for name, parameters in sizes.items():
        handler = CreateModelHandler(SavedModel(linear_model), **parameters)
        with pipeline_of() as pipeline:
            given(pipeline, X) | BeamRunInference(handler)
        calls = metrics_of(pipeline.result, NAMESPACE)["batch_records"]
        found[name] = (calls.min, calls.max, calls.sum)
    assert found == {
        "at least": (5, 5, 10),
        "exactly": (2, 2, 10),
        "by bytes": (1, 3, 10),
        "over bundles": (10, 10, 10),
    }


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_batch_weight": 9, "speed": 1},
         r"^Beam's BatchElements does not take max_batch_weight, speed\. It takes min_batch_s"),
        ({"min_batch_size": 3, "max_batch_size": 2},
         r"^Beam's BatchElements refuses min_batch_size=3, max_batch_size=2: .*3.*2"),
        ({"min_batch_size": 3, "max_batch_size": 4, "bounds": BatchBounds()},
         (r"^The size of batches is given twice, by bounds and by min_batch_size and "
          r"max_batch_size\. Leave one of them out\.$")),
        ({"model_copies": 0}, r"^model_copies must be a whole number of at least 1, not 0\."),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_honoured_are_refused(linear_model, settings, message):
    with pytest.raises(SettingsError, match=message):
        CreateModelHandler(SavedModel(linear_model), **settings)


def test_model_is_checked_where_the_handler_is_made(tmp_path, linear_model, caplog):
    with pytest.raises(ModelError, match=re.escape(str(tmp_path))):
        CreateModelHandler(SavedModel(str(tmp_path)))
    with pytest.raises(ModelError, match="'other'"):
        CreateModelHandler(SavedModel(linear_model, ("other",)))
    with socket.socket() as unused, caplog.at_level(logging.WARNING, "bulk_inferencer"):
        unused.bind(("localhost", 0))  # and does not listen
        address = f"localhost:{unused.getsockname()[1]}"
        CreateModelHandler(TFServing(address, "five", limits=Limits(0.2, 0.4)))
    (message,) = caplog.messages
    assert message.startswith(f"Could not check grpc://{address}/five before the run: ")


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
