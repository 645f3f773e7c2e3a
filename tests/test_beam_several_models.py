"""ABTest, Cascade and PredictionsToExamples on Beam's local runner, with real models."""

from __future__ import annotations

from typing import Any

import apache_beam as beam
import pytest
import tensorflow as tf
from apache_beam.typehints import typehints
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog
from tfx_bsl.public.proto.model_spec_pb2 import InferenceSpecType

from bulk_inferencer._models.routing import SplitRouting
from bulk_inferencer.beam import (
    ABTest,
    BatchBounds,
    Cascade,
    Column,
    ExitWhen,
    PredictionsToExamples,
    RunInference,
    RunInferencePerModel,
    SavedModel,
    Stage,
)
from bulk_inferencer.errors import FailedRecordError, ModelError, SettingsError
from tests.beam_helpers import (
    collect,
    given,
    outputs_of,
    pipeline_of,
    while_running,
    y_of,
)
from tests.helpers import RECORDS, exactly, example, features_of, save_functions

pytestmark = pytest.mark.slow

X_OF_Y = Column(output="y", name="x")


@pytest.fixture(scope="module")
def five(linear_model):
    return SavedModel(linear_model)


@pytest.fixture(scope="module")
def ten(tmp_path_factory):
    """A tf.Module: y = 10 x, of shape [batch, 1] as that of five."""

    def serve(examples):
        x = tf.io.parse_example(examples, {"x": tf.io.FixedLenFeature([], tf.float32)})["x"]
        return {"y": 10 * x[:, tf.newaxis]}

    path = tmp_path_factory.mktemp("ten")
    return SavedModel(save_functions(path, serving_default=(serve, {"examples": RECORDS})))


def outputs_by_name(transform, elements, element_type=None):
    """Returns the outputs of a transform that returns collections by name."""
    with pipeline_of() as pipeline:
        results = given(pipeline, elements, element_type) | transform
        collected = {name: collect(values, name) for name, values in results.items()}
    return collected


def output_names(log):
    return set(log.predict_log.response.outputs)


# ABTest


def test_keyed_elements_go_by_their_keys(five, ten):
    elements = [(f"user{i}", example(x=1.0)) for i in range(50)]
    weights = {"five": 0.5, "ten": 0.5}
    outputs = outputs_by_name(ABTest({"five": five, "ten": ten}, weights), elements)

    routing = SplitRouting(weights)
    for name, y in (("five", 5.0), ("ten", 10.0)):
        expected = {key for key, _ in elements if routing.model_of(key.encode()) == name}
        assert {key for key, _ in outputs[name]} == expected
        assert {y_of(log) for _, log in outputs[name]} == {y}


def test_feature_is_the_key_where_it_is_named(five, ten):
    elements = [example(x=float(i), user=f"user{i % 10}") for i in range(40)]
    weights = {"five": 1, "ten": 1}
    transform = ABTest({"five": five, "ten": ten}, weights, key="user", salt="2")
    outputs = outputs_by_name(transform, elements)

    routing = SplitRouting(weights, salt="2")
    users = {
        name: {
            features_of(log.predict_log.request.inputs["examples"].string_val[0])["user"][0]
            for log in logs
        }
        for name, logs in outputs.items()
    }
    all_users = {f"user{i}".encode() for i in range(10)}
    assert users == {
        name: {user for user in all_users if routing.model_of(user) == name} for name in users
    }
    assert sum(map(len, outputs.values())) == 40


@pytest.mark.parametrize("key", [len, lambda record: "all"], ids=["number", "text"])
def test_function_gives_the_key(five, ten, key):
    elements = [example(x=float(i)) for i in range(10)]
    transform = ABTest({"five": five, "ten": ten}, {"five": 1, "ten": 1}, key=key)
    outputs = outputs_by_name(transform, elements)
    # All records are of one length, and so have one key and go to one model.
    assert sorted(map(len, outputs.values())) == [0, 10]


def test_record_is_the_key_where_there_is_none(five, ten):
    elements = [example(x=float(i)) for i in range(50)]
    weights = {"five": 1, "ten": 1}
    outputs = outputs_by_name(ABTest({"five": five, "ten": ten}, weights), elements)
    routing = SplitRouting(weights)
    assert len(outputs["five"]) == sum(routing.model_of(e) == "five" for e in elements)
    assert len(outputs["ten"]) == 50 - len(outputs["five"])


def test_keyed_batches_stay_whole(five, ten):
    elements = [(i, [example(x=1.0), example(x=2.0)]) for i in range(20)]
    outputs = outputs_by_name(ABTest({"five": five, "ten": ten}, {"five": 1, "ten": 1}), elements)
    found = {
        name: {tuple(map(y_of, logs)) for _, logs in batches} for name, batches in outputs.items()
    }
    assert found == {"five": {(5.0, 10.0)}, "ten": {(10.0, 20.0)}}
    assert sum(map(len, outputs.values())) == 20


def test_each_model_may_be_a_transform_with_settings_of_its_own(five, ten):
    models = {
        "five": RunInference(five).with_resource_hints(accelerator="type:nvidia-tesla-t4;count:1"),
        "ten": RunInference(ten).with_failures(),
    }
    elements = [(f"user{i}", example(x=1.0) if i else b"no tf.Example") for i in range(20)]
    # A salt with which the record that cannot be scored goes to the model with failures.
    routing = SplitRouting({"five": 1, "ten": 1}, salt="3")
    assert routing.model_of(b"user0") == "ten"
    with pipeline_of() as pipeline:
        results = given(pipeline, elements) | ABTest(models, routing.weights, salt="3")
        fives = collect(results["five"], "five")
        tens = collect(results["ten"].predictions, "ten")
        failures = collect(results["ten"].failures, "failures")
    assert len(fives) + len(tens) == 19
    assert [failure.key for failure in failures] == ["user0"]


def test_only_the_step_of_one_model_asks_for_its_resources(five, ten):
    models = {"five": five, "ten": RunInference(ten).with_resource_hints(min_ram="8GB")}
    pipeline = pipeline_of()
    _ = given(pipeline, [example(x=1.0)]) | ABTest(models, {"five": 1, "ten": 1})
    proto = pipeline.to_runner_api()
    hints = {
        step.unique_name: bool(proto.components.environments[step.environment_id].resource_hints)
        for step in proto.components.transforms.values()
        if step.unique_name.endswith("/Predict")
    }
    assert hints == {
        "ABTest/RunInference five/Predict": False,
        "ABTest/RunInference ten/Predict": True,
    }


@pytest.mark.parametrize(
    ("record", "text"),
    [
        (example(x=1.0), "expected one value of feature 'user' to split by, got 0"),
        (b"no tf.Example", "expected feature 'user' to split by, got no tf.Example"),
    ],
)
def test_record_without_a_key_is_an_error(five, ten, record, text):
    message = (
        f"Expected every record to have a key to be split by, but the one {record[:80]!r} has "
        f"none: {text}. Mend it, or give ABTest a function as key."
    )
    transform = ABTest({"five": five, "ten": ten}, {"five": 1, "ten": 1}, key="user")
    with pytest.raises(FailedRecordError, match=while_running(message)):
        outputs_by_name(transform, [record])


def test_list_of_records_has_no_feature_to_split_by(five, ten):
    message = (
        "Expected one record per element to read feature 'user' from, got a list of 2. Leave out "
        "the key of ABTest to split by that of the element."
    )
    transform = ABTest({"five": five, "ten": ten}, {"five": 1, "ten": 1}, key="user")
    with pytest.raises(SettingsError, match=while_running(message)):
        outputs_by_name(transform, [("a", [example(x=1.0)] * 2)])


def test_key_of_another_type_is_an_error(five, ten):
    message = (
        "Expected a key to split by as bytes, text or number, got tuple. Give ABTest a function "
        "as key that returns one of them."
    )
    transform = ABTest({"five": five, "ten": ten}, {"five": 1, "ten": 1})
    with pytest.raises(SettingsError, match=while_running(message)):
        outputs_by_name(transform, [((1, 2), example(x=1.0))])


@pytest.mark.parametrize(("weights", "got"), [({"five": 1}, "five"), ({}, "none")])
def test_weights_have_to_be_of_the_models(five, ten, weights, got):
    message = f"Expected weights for the models five, ten, got them for {got}. Use the same names."
    with pytest.raises(SettingsError, match=exactly(message)):
        ABTest({"five": five, "ten": ten}, weights)


def test_model_of_an_ab_test_is_named_in_errors(five, tmp_path):
    message = (
        "Model 'ten': Expected a model, got the string 'models/ten'. Give SavedModel('models/ten')."
    )
    weights = {"five": 1, "ten": 1}
    with pytest.raises(SettingsError, match=exactly(message)):
        ABTest({"five": five, "ten": "models/ten"}, weights)
    transform = ABTest({"five": five, "ten": SavedModel(str(tmp_path))}, weights)
    with pytest.raises(ModelError, match=r"^Model 'ten': Expected a SavedModel, found no saved_"):
        given(pipeline_of(), [example(x=1.0)]) | transform


# Cascade


def test_batch_parameters_of_the_stages_specs_are_honoured(five, ten):
    spec = InferenceSpecType()
    spec.saved_model_spec.model_path = five.path
    spec.batch_parameters.max_batch_size = 8
    assert Cascade([Stage("five", spec), Stage("ten", ten)])._bounds == BatchBounds(max_records=8)


def test_five_times_and_then_ten_times(five, ten):
    stages = [Stage("five", five, columns=(X_OF_Y,)), Stage("ten", ten)]
    elements = [(x, example(x=float(x))) for x in (1, 2, 12)]
    outputs = dict(outputs_of(Cascade(stages), elements))
    assert {x: y_of(log) for x, log in outputs.items()} == {1: 50.0, 2: 100.0, 12: 600.0}
    assert output_names(outputs[1]) == {"y", "five/y", "ten/y"}


def test_settled_records_have_the_outputs_of_the_first_stage_only(five, ten):
    stages = [
        Stage("five", five, exit_when=(ExitWhen("y", at_least=50.0),)),
        Stage("ten", ten),
    ]
    elements = [(x, example(x=float(x))) for x in (1, 12)]
    outputs = dict(outputs_of(Cascade(stages), elements))
    assert {x: y_of(log) for x, log in outputs.items()} == {1: 10.0, 12: 60.0}
    assert output_names(outputs[12]) == {"y", "five/y"}


def test_stage_takes_the_specs_of_tfx_bsl(five, ten):
    spec = InferenceSpecType()
    spec.saved_model_spec.model_path = five.path
    stages = [Stage("five", spec, columns=(X_OF_Y,)), Stage("ten", ten)]
    (log,) = outputs_of(Cascade(stages), [example(x=1.0)])
    assert y_of(log) == 50.0


def test_failure_names_its_stage(five, ten):
    with pipeline_of() as pipeline:
        results = (
            given(pipeline, [example(x=1.0), b"bad"])
            | Cascade([Stage("five", five), Stage("ten", ten)]).with_failures()
        )
        failures = collect(results.failures)
    (failure,) = failures
    assert failure.record == b"bad"
    assert failure.message.startswith("Stage 'five': ")


def test_stage_without_a_model_fails_while_the_pipeline_is_built(five, tmp_path):
    stages = [Stage("five", five), Stage("six", SavedModel(str(tmp_path)))]
    with pytest.raises(ModelError, match=r"^Stage 'six': Expected a SavedModel, found no saved_"):
        given(pipeline_of(), [example(x=1.0)]) | Cascade(stages)


# PredictionsToExamples


def test_composition_gives_each_model_a_step_of_its_own(five, ten):
    with pipeline_of() as pipeline:
        predictions = (
            given(pipeline, [(x, example(x=float(x))) for x in (1, 2)])
            | "Five" >> RunInference(five)
            | PredictionsToExamples([X_OF_Y], replace_features=True)
            | "Ten" >> RunInference(ten).with_resource_hints(min_ram="8GB")
        )
        outputs = collect(predictions)
    assert {x: y_of(log) for x, log in outputs} == {1: 50.0, 2: 100.0}


@pytest.mark.parametrize(
    ("element_type", "expected"),
    [
        (PredictionLog, bytes),
        (typehints.Tuple[str, PredictionLog], typehints.Tuple[str, bytes]),
        (
            typehints.Tuple[int, typehints.List[PredictionLog]],
            typehints.Tuple[int, typehints.List[bytes]],
        ),
        (Any, typehints.Any),
    ],
)
def test_type_of_the_examples_follows_from_that_of_the_predictions(element_type, expected):
    logs = pipeline_of() | beam.Create([]).with_output_types(element_type)
    assert (logs | PredictionsToExamples([X_OF_Y])).element_type == expected


@pytest.mark.parametrize("keyed", [lambda v: v, lambda v: ("k", v), lambda v: ("k", [v])])
def test_examples_stand_where_their_predictions_stood(five, keyed):
    column = Column(output="y", name="five_times")
    with pipeline_of() as pipeline:
        outputs = collect(
            given(pipeline, [keyed(example(x=3.0))])
            | RunInference(five)
            | PredictionsToExamples([column])
        )
    assert outputs == [keyed(example(x=3.0) + example(five_times=15.0))]


def test_classes_become_features_too(tf1_model):
    columns = [Column("classes", "labels"), Column("scores", "scores")]
    with pipeline_of() as pipeline:
        outputs = collect(
            given(pipeline, [example(x=1.0)])
            | RunInference(SavedModel(tf1_model))
            | PredictionsToExamples(columns)
        )
    assert [features_of(record) for record in outputs] == [
        {"x": [1.0], "labels": [b"small", b"big"], "scores": [-5.0, 5.0]}
    ]


@pytest.mark.parametrize("models", [2, 3])
def test_predictions_of_several_models_are_an_error(five, models):
    message = (
        f"Expected PredictionLogs, each alone, as (key, log) or as (key, [log, ...]), got a tuple "
        f"of {models} from several models. Put PredictionsToExamples right behind RunInference."
    )
    pipeline = pipeline_of()
    logs = given(pipeline, [example(x=1.0)]) | RunInferencePerModel([five] * models)
    _ = logs | PredictionsToExamples([X_OF_Y])
    with pytest.raises(SettingsError, match=while_running(message)):
        pipeline.run()


def test_no_column_is_an_error():
    message = (
        "Expected at least one column in PredictionsToExamples, got none. Name an output and its "
        "feature: Column('y', 'x')."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        PredictionsToExamples([])


def test_other_elements_are_an_error():
    message = (
        "Expected PredictionLogs, each alone, as (key, log) or as (key, [log, ...]), got int. "
        "Put PredictionsToExamples right behind RunInference."
    )
    with pytest.raises(SettingsError, match=while_running(message)):
        outputs_of(PredictionsToExamples([X_OF_Y]), [1])
