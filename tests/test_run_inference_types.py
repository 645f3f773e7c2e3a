"""What RunInference takes and says that it gives: types of elements, kinds of models, hints."""

from __future__ import annotations

import logging
import re
import socket

import apache_beam as beam
import pytest
import tensorflow as tf
from apache_beam.typehints import typehints
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog
from tfx_bsl.public.proto.model_spec_pb2 import InferenceSpecType

from bulk_inferencer._models.retries import Limits
from bulk_inferencer.beam import (
    CreateModelHandler,
    RunInference,
    RunInferenceOnKeyedBatches,
    RunInferencePerModel,
    RunInferencePerModelOnKeyedBatches,
    SavedModel,
    TFServing,
)
from bulk_inferencer.errors import ModelError, SettingsError
from tests.beam_helpers import (
    collect,
    given,
    outputs_of,
    pipeline_of,
    while_running,
    y_of,
)
from tests.helpers import FLOAT, RECORDS, exactly, example, save_functions, sequence_example

Any, List, Tuple, Union = typehints.Any, typehints.List, typehints.Tuple, typehints.Union

SERIALIZED = {
    bytes: example(x=2.0),
    tf.train.Example: tf.train.Example.FromString(example(x=2.0)),
    tf.train.SequenceExample: tf.train.SequenceExample.FromString(sequence_example(x=2.0)),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tf.Module: y = 5 x, where x is a feature of an Example or of a SequenceExample's context.

    Both look alike in this respect, once they are serialized.
    """

    def serve(records):
        context, _, _ = tf.io.parse_sequence_example(records, {"x": FLOAT})
        return {"y": 5 * context["x"]}

    path = tmp_path_factory.mktemp("context") / "model"
    return SavedModel(save_functions(path, serving_default=(serve, {"records": RECORDS})))


def typed_outputs(elements, element_type=None, **transforms):
    """Returns (declared type, outputs) of each transform, which Beam has held together."""
    with pipeline_of("--runtime_type_check") as pipeline:
        values = given(pipeline, elements, element_type)
        found = {}
        for label, transform in transforms.items():
            outputs = values | label >> transform
            found[label] = outputs.element_type, collect(outputs, f"Collect{label}")
    return found


# Types of elements and results


@pytest.mark.parametrize("record_type", SERIALIZED, ids=lambda kind: kind.__name__)
def test_records(model, record_type):
    record = SERIALIZED[record_type]
    found = typed_outputs(
        [record], one=RunInference(model), several=RunInferencePerModel([model, model])
    )
    (declared, (log,)) = found["one"]
    assert declared is PredictionLog
    assert y_of(log) == 10.0
    (declared, (logs,)) = found["several"]
    assert declared == Tuple[PredictionLog, ...]
    assert tuple(map(y_of, logs)) == (10.0, 10.0)


@pytest.mark.parametrize("record_type", SERIALIZED, ids=lambda kind: kind.__name__)
def test_keyed_records(model, record_type):
    element = ("k", SERIALIZED[record_type])
    found = typed_outputs(
        [element], one=RunInference(model), several=RunInferencePerModel([model, model])
    )
    (declared, ((key, log),)) = found["one"]
    assert declared == Tuple[str, PredictionLog]
    assert (key, y_of(log)) == ("k", 10.0)
    (declared, ((key, logs),)) = found["several"]
    assert declared == Tuple[str, Tuple[PredictionLog, ...]]
    assert (key, *map(y_of, logs)) == ("k", 10.0, 10.0)


@pytest.mark.parametrize("record_type", SERIALIZED, ids=lambda kind: kind.__name__)
def test_keyed_lists(model, record_type):
    record = SERIALIZED[record_type]
    found = typed_outputs(
        [(7, [record, record])],
        one=RunInference(model),
        one_on_lists=RunInferenceOnKeyedBatches(model),
        several=RunInferencePerModel([model, model]),
        several_on_lists=RunInferencePerModelOnKeyedBatches([model, model]),
    )
    for label in ("one", "one_on_lists"):
        (declared, ((key, logs),)) = found[label]
        assert declared == Tuple[int, List[PredictionLog]]
        assert (key, *map(y_of, logs)) == (7, 10.0, 10.0)
    for label in ("several", "several_on_lists"):
        (declared, ((key, columns),)) = found[label]
        assert declared == Tuple[int, Tuple[List[PredictionLog], ...]]
        assert (key, *(list(map(y_of, logs)) for logs in columns)) == (7, [10.0] * 2, [10.0] * 2)


def test_groups_are_lists(model):
    elements = [(key, example(x=x)) for key, x in [("a", 1.0), ("b", 2.0), ("a", 3.0)]]
    transform = beam.GroupByKey() | RunInferenceOnKeyedBatches(model)
    ((declared, outputs),) = typed_outputs(elements, Tuple[str, bytes], groups=transform).values()
    assert declared == Tuple[str, List[PredictionLog]]
    assert {key: sorted(map(y_of, logs)) for key, logs in outputs} == {"a": [5.0, 15.0], "b": [10]}


@pytest.mark.parametrize(
    ("elements", "element_type", "declared"),
    [
        ([example(x=1.0), SERIALIZED[tf.train.Example]], None, PredictionLog),
        ([("k", SERIALIZED[bytes]), (None, SERIALIZED[tf.train.SequenceExample])], None,
         Union[Tuple[str, PredictionLog], Tuple[type(None), PredictionLog]]),
        ([("k", SERIALIZED[bytes])], Tuple[str, Union[tuple(SERIALIZED)]],
         Tuple[str, PredictionLog]),
        ([("k", list(SERIALIZED.values()))], None, Tuple[str, List[PredictionLog]]),
        ([("k", [SERIALIZED[bytes]]), ("k", [])], None,
         Union[Tuple[str, List[PredictionLog]], Tuple[str, Any]]),
        ([("k", SERIALIZED[bytes])], Tuple[str, Any], Tuple[str, Any]),
        ([SERIALIZED[bytes], ("k", SERIALIZED[bytes]), ("k", [SERIALIZED[bytes]])], Any, Any),
    ],
    ids=[
        "records", "keys and records", "typed records", "list", "empty list", "values", "anything"
    ],
)  # fmt: skip
def test_elements_of_several_types(model, elements, element_type, declared):
    ((found, outputs),) = typed_outputs(elements, element_type, one=RunInference(model)).values()
    assert found == declared
    assert len(outputs) == len(elements)


def test_lists_of_unknown_type_are_keyed_batches(model):
    transform = RunInferenceOnKeyedBatches(model)
    ((key, logs),) = outputs_of(transform, [("k", [SERIALIZED[bytes]])], Tuple[str, Any])
    assert (key, *map(y_of, logs)) == ("k", 10.0)


# Wrong elements


def element_error(got):
    return (
        f"Expected elements to be bytes, tf.train.Example or tf.train.SequenceExample, each alone, "
        f"as (key, record) or as (key, [record, ...]), got {got}. Convert them with beam.Map."
    )


@pytest.mark.parametrize(
    ("transform", "element_type"),
    [
        *[
            (RunInference, element_type)
            for element_type in (
                str,
                List[bytes],
                Tuple[bytes, ...],
                Tuple[str, int],
                Tuple[str, List[str]],
                Tuple[str, Tuple[str, bytes]],
                Tuple[str, str, bytes],
            )
        ],
        (RunInferenceOnKeyedBatches, bytes),
        (RunInferenceOnKeyedBatches, Tuple[str, bytes]),
    ],
    ids=str,
)
def test_wrong_type_of_elements_is_refused_where_the_pipeline_is_built(
    model, transform, element_type
):
    values = given(pipeline_of(), [], element_type)
    with pytest.raises(SettingsError, match=exactly(element_error(element_type))):
        values | transform(model)


def test_one_wrong_type_among_others_is_named(model):
    values = given(pipeline_of(), [], Union[Tuple[str, bytes], Tuple[str, float]])
    with pytest.raises(SettingsError, match=exactly(element_error(Tuple[str, float]))):
        values | RunInferencePerModel([model])


@pytest.mark.parametrize(
    ("element", "got"),
    [
        (1.5, "float"),
        (None, "NoneType"),
        ([b""], "list"),
        (("k", 5), "(str, int)"),
        (("k", "l", b""), "(str, str, bytes)"),
        (("k",), "(str)"),
        (("k", [b"", "text"]), "str"),
    ],
    ids=str,
)
def test_wrong_element_of_unknown_type_ends_the_run(model, element, got):
    with pytest.raises(SettingsError, match=while_running(element_error(got))):
        outputs_of(RunInference(model), [element], Any)


# Models


both = pytest.mark.parametrize(
    "make", [RunInference, CreateModelHandler], ids=lambda function: function.__name__
)


@both
def test_service_that_was_shut_down_is_refused(make):
    spec = InferenceSpecType(ai_platform_prediction_model_spec={"model_name": "m"})
    message = (
        "Expected a saved_model_spec, got an ai_platform_prediction_model_spec: that service "
        "has been shut down. Use VertexEndpoint or TFServing."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        make(spec)


@both
@pytest.mark.parametrize(
    ("spec", "got"),
    [
        (InferenceSpecType(), "InferenceSpecType"),
        (PredictionLog(), "PredictionLog"),
    ],
    ids=["empty", "message"],
)
def test_what_is_no_model_is_refused(make, spec, got):
    message = (
        f"Expected SavedModel, TFServing, VertexEndpoint or an InferenceSpecType with a "
        f"saved_model_spec, got {got}."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        make(spec)


@both
def test_path_instead_of_a_model_is_refused(make):
    message = "Expected a model, got the string 'models/7'. Give SavedModel('models/7')."
    with pytest.raises(SettingsError, match=exactly(message)):
        make("models/7")


@both
def test_sizes_of_batches_that_exclude_each_other_are_refused(make):
    spec = InferenceSpecType(
        saved_model_spec={"model_path": "m"},
        batch_parameters={"min_batch_size": 5, "max_batch_size": 4},
    )
    message = (
        "Expected min_batch_size to be at most max_batch_size in batch_parameters, got 5 and 4."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        make(spec)


@both
def test_loader_of_a_model_behind_a_server_is_refused(make):
    message = "Expected a SavedModel for load_override_fn, got TFServing. Leave it out."
    with pytest.raises(SettingsError, match=exactly(message)):
        make(TFServing("localhost:8500", "m"), load_override_fn=tf.saved_model.load)


def test_no_models_are_refused():
    message = "Expected at least one model in inference_spec_types, got none."
    with pytest.raises(SettingsError, match=exactly(message)):
        RunInferencePerModel(iter([]))


def test_models_are_checked_where_the_pipeline_is_built(tf1_model):
    values = given(pipeline_of(), [], tf.train.SequenceExample)
    message = (
        "Expected FORMAT_TF_EXAMPLE records for the classify signature 'scores_only', got "
        "FORMAT_TF_SEQUENCE_EXAMPLE. Its log holds a tf.Example; name a predict signature in "
        "ModelSpec.model_signature_name."
    )
    models = [SavedModel(tf1_model, ("predict",)), SavedModel(tf1_model, ("scores_only",))]
    with pytest.raises(ModelError, match=exactly(message)):
        values | RunInferencePerModel(models)


def test_lists_of_several_types_are_checked_as_the_strictest(tf1_model):
    values = given(pipeline_of(), [], Tuple[str, List[Union[bytes, tf.train.SequenceExample]]])
    with pytest.raises(ModelError, match=r"got FORMAT_TF_SEQUENCE_EXAMPLE\."):
        values | RunInference(SavedModel(tf1_model, ("regress",)))


def test_model_of_a_spec_has_its_tags_and_signatures(tf1_model):
    spec = InferenceSpecType(
        saved_model_spec={"model_path": tf1_model, "tag": ["serve", "gpu"], "signature_name": ["a"]}
    )
    message = (
        f"Tags ['gpu', 'serve'] not found in {tf1_model}; it has: ['serve']. "
        "Set ModelSpec.tag (without TFX: tags)."
    )
    with pytest.raises(ModelError, match=exactly(message)):
        given(pipeline_of(), [], bytes) | RunInference(spec)


def test_server_that_does_not_answer_yet_is_a_warning(caplog):
    with socket.socket() as unused:
        unused.bind(("localhost", 0))  # and does not listen
        address = f"localhost:{unused.getsockname()[1]}"
        model = TFServing(address, "five", limits=Limits(0.2, 0.4))
        with caplog.at_level(logging.WARNING, "bulk_inferencer"):
            outputs = given(pipeline_of(), [], Tuple[str, bytes]) | RunInference(model)
    assert outputs.element_type == Tuple[str, PredictionLog]
    (message,) = caplog.messages
    uri = re.escape(f"grpc://{address}/five")
    assert re.match(
        f"Could not check {uri} before the run: Expected an answer from {uri} within .* s, got "
        f"none; .* Check that the server is up",
        message,
    )


# Resource hints


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


@pytest.mark.parametrize(
    ("add_failures", "step"),
    [
        (lambda transform: transform, "RunInference/Predict"),
        (lambda transform: transform.with_failures(), "RunInference/Predict/ParDo(_Predict)"),
    ],
    ids=["predictions", "predictions and failures"],
)
def test_hints_are_those_of_the_step_that_calls_the_model(model, add_failures, step):
    pipeline = pipeline_of()
    accelerator = "type:nvidia-tesla-t4;count:1;install-nvidia-driver"
    transform = add_failures(RunInference(model))
    transform = transform.with_resource_hints(accelerator=accelerator, min_ram="8GB")
    values = given(pipeline, [example(x=1.0)]) | "Before" >> beam.Map(lambda record: record)
    results = values | transform
    predictions = results if isinstance(results, beam.PCollection) else results.predictions
    predictions | "After" >> beam.Map(y_of)
    assert hints_by_step(pipeline) == {
        step: {
            "beam:resources:accelerator:v1": accelerator.encode(),
            "beam:resources:min_ram_bytes:v1": b"8000000000",
        }
    }


def test_hints_of_several_models(model):
    pipeline = pipeline_of()
    transform = RunInferencePerModel([model, model]).with_resource_hints(min_ram=1 << 30)
    given(pipeline, [], bytes) | transform
    assert hints_by_step(pipeline) == {
        "RunInferencePerModel/Predict": {"beam:resources:min_ram_bytes:v1": b"1073741824"}
    }


def test_no_hints_where_none_are_asked_for(model):
    pipeline = pipeline_of()
    given(pipeline, [], bytes) | RunInference(model)
    assert hints_by_step(pipeline) == {}
