from __future__ import annotations

import dataclasses
import logging

import pytest
import tensorflow as tf
from tfx_bsl.public.proto.model_spec_pb2 import InferenceSpecType

from bulk_inferencer.beam import BatchBounds, SavedModel, TFServing
from bulk_inferencer.beam.specs import bounds_of, model_of
from bulk_inferencer.errors import SettingsError
from tests.helpers import exactly


def batch_spec(smallest=0, largest=0):
    return InferenceSpecType(
        saved_model_spec={"model_path": "m"},
        batch_parameters={"min_batch_size": smallest, "max_batch_size": largest},
    )


def test_spec_is_a_model_with_its_tags_and_signatures_and_the_function_that_loads_it():
    given = {"model_path": "models/7", "tag": ["serve", "gpu"], "signature_name": ["a", "b"]}
    spec = InferenceSpecType(saved_model_spec=given)
    model = SavedModel("models/7", ("a", "b"), ("serve", "gpu"), takes_records=True)
    assert model_of(spec) == model
    assert model_of(model) is model
    with_loader = dataclasses.replace(model, load_override_fn=tf.saved_model.load)
    for either in (spec, model):
        assert model_of(either, tf.saved_model.load) == with_loader


def test_spec_of_another_model_is_refused():
    kind = "ai_platform_prediction_model_spec"
    other = InferenceSpecType(ai_platform_prediction_model_spec={"model_name": "m"})
    for spec, has in ((InferenceSpecType(), "nothing"), (other, kind)):
        message = (
            f"An InferenceSpecType needs a saved_model_spec, but this one has {has}. For a model "
            f"behind a server, use TFServing or VertexEndpoint; AI Platform Prediction has been "
            f"shut down."
        )
        with pytest.raises(SettingsError, match=exactly(message)):
            model_of(spec)


def test_loader_of_a_model_behind_a_server_is_refused():
    model = TFServing("localhost:8500", "m")
    message = f"load_override_fn loads SavedModels only, but the model is {model!r}. Leave it out."
    with pytest.raises(SettingsError, match=exactly(message)):
        model_of(model, tf.saved_model.load)


@pytest.mark.parametrize(
    ("specs", "bounds"),
    [
        ([batch_spec(2, 3)], BatchBounds(max_records=3, first_records=2)),
        ([batch_spec(8, 0), batch_spec(0, 5), batch_spec(4, 7)], BatchBounds(5, first_records=4)),
        ([batch_spec(20_000)], BatchBounds(20_000, first_records=20_000)),
        ([batch_spec(), SavedModel("m")], BatchBounds()),
    ],
)
def test_batches_have_the_tightest_bounds_of_the_specs(specs, bounds):
    assert bounds_of(specs) == bounds


def test_batch_parameters_that_only_beam_can_use_are_named_in_a_warning(caplog):
    specs = [batch_spec(2, 3), batch_spec(), batch_spec()]
    specs[1].batch_parameters.variance = 0.1
    specs[2].batch_parameters.target_batch_overhead = 0.2
    with caplog.at_level(logging.WARNING, "bulk_inferencer"):
        assert bounds_of(specs) == BatchBounds(max_records=3, first_records=2)
    message = (
        "RunInference does not use target_batch_overhead, variance of batch_parameters: calls of "
        "the model grow as long as that pays. CreateModelHandler hands them to Beam's own "
        "RunInference, which does."
    )
    assert caplog.messages == [message]


def test_sizes_of_batches_that_exclude_each_other_are_refused():
    message = "batch_parameters.min_batch_size (5) is larger than max_batch_size (4). Lower it."
    with pytest.raises(SettingsError, match=exactly(message)):
        bounds_of([batch_spec(), batch_spec(5, 4)])
