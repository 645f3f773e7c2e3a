from __future__ import annotations

import inspect
import re
from typing import NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
import tfx_bsl.public.beam.run_inference as tfx_bsl_beam
from apache_beam.typehints import typehints
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog
from tfx_bsl.public.proto.model_spec_pb2 import InferenceSpecType

import bulk_inferencer.beam
from bulk_inferencer.beam import (
    BatchBounds,
    CreateModelHandler,
    RecordFailure,
    RunInference,
    RunInferenceOnKeyedBatches,
    RunInferencePerModel,
    RunInferencePerModelOnKeyedBatches,
    SavedModel,
)
from bulk_inferencer.beam.bundle import failed_record_error
from bulk_inferencer.beam.metrics import NAMESPACE
from bulk_inferencer.errors import FailedRecordError, ModelError, SettingsError
from tests.beam.helpers import (
    collect,
    given,
    hints_by_step,
    metrics_of,
    outputs_of,
    pipeline_of,
    plain,
    run_together,
    while_running,
    y_of,
)
from tests.helpers import FLOAT, RECORDS, example, features_of, save_functions

pytestmark = pytest.mark.slow

Any, List, Tuple = typehints.Any, typehints.List, typehints.Tuple

NO_EXAMPLE = b"no tf.Example"
X = [example(x=float(x)) for x in range(10)]
KEYS = ["a", "a", b"k", 1, -1.5, True, None, None, ("t", 2), frozenset({3})]


@pytest.fixture(scope="module")
def five(linear_model):
    return SavedModel(linear_model)


@pytest.fixture(scope="module")
def triple(tmp_path_factory):
    """A tf.Module: y = 3 x, where x is positive, from a context of a SequenceExample too."""

    def serve(records):
        x = tf.io.parse_sequence_example(records, {"x": FLOAT})[0]["x"]
        with tf.control_dependencies([tf.debugging.assert_non_negative(x, "x is negative")]):
            return {"y": 3 * x}

    path = tmp_path_factory.mktemp("triple")
    return SavedModel(save_functions(path, serving_default=(serve, {"records": RECORDS})))


def spec_of(model, *signatures, **batch_parameters):
    """Returns tfx_bsl's description of a model."""
    saved = {"model_path": model.path, "tag": ["serve"], "signature_name": signatures}
    return InferenceSpecType(saved_model_spec=saved, batch_parameters=batch_parameters)


@pytest.fixture(scope="module")
def outputs(five, triple):
    """Results of elements of every kind; Beam has compared each with its declared type."""
    protos = [tf.train.Example.FromString(X[2]), tf.train.SequenceExample.FromString(X[3])]
    pairs, keyed = [("a", X[1]), ("b", X[2]), ("a", X[3])], list(zip(KEYS, X, strict=True))
    models = (model for model in (triple, five, triple))
    return run_together(
        {
            "records": (RunInference(triple), [X[1], *protos]),
            "keys": (RunInference(five), keyed),
            "any keys": (RunInference(five), keyed, Tuple[Any, bytes]),
            "groups": (beam.GroupByKey() | RunInferenceOnKeyedBatches(triple), pairs),
            "anything": (RunInference(five), [X[1], ("k", X[2]), ("k", [X[3]])], Any),
            "models": (RunInferencePerModel(models), list(enumerate(X))),
            "lists of models": (
                RunInferencePerModelOnKeyedBatches([triple, five]), [("a", X[:2]), ("b", [])]
            ),
            "nothing": (RunInferencePerModel([five]), [], Tuple[str, bytes]),
        },
        "--runtime_type_check",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("records", [3.0, 6.0, 9.0]),
        ("keys", [(key, 5.0 * x) for x, key in enumerate(KEYS)]),
        ("any keys", [(key, 5.0 * x) for x, key in enumerate(KEYS)]),
        ("groups", [("a", [3.0, 9.0]), ("b", [6.0])]),
        ("anything", [5.0, ("k", 10.0), ("k", [15.0])]),
        ("models", [(x, (3.0 * x, 5.0 * x, 3.0 * x)) for x in range(10)]),
        ("lists of models", [("a", ([0.0, 3.0], [0.0, 5.0])), ("b", ([], []))]),
        ("nothing", []),
    ],
)
def test_results_stand_where_their_records_stood(outputs, label, expected):
    assert sorted(map(repr, plain(outputs[label]))) == sorted(map(repr, expected))


class Number(NamedTuple):
    x: float


@pytest.fixture(scope="module")
def of_rows(five, triple, keras_export, tmp_path_factory):
    """Results of rows of every kind, by a model that parses tf.Examples or takes tensors."""
    path = str(tmp_path_factory.mktemp("rows") / "numbers.parquet")
    pq.write_table(pa.table({"x": [1.0, 2.0], "name": ["a", None]}), path)
    tensors, dicts = SavedModel(keras_export), [{"x": 1, "id": 7}, {"x": 2.5}]
    squared = beam.Select(x=lambda row: float(row["x"]) ** 2) | beam.Reshuffle()  # with a coder
    keyed = [("k", {"x": 1.0}), ("l", {"x": "text"}), ("m", [{"x": 2.0}, Number(3), {}])]
    cases = {
        "dicts": (RunInference(five), dicts),
        "dicts as tensors": (RunInference(tensors), dicts),
        "rows": (RunInference(five), [beam.Row(x=1.0, y="a"), beam.Row(x=2.0, y="b")]),
        "schema": (squared | RunInference(five), dicts),
        "named tuples": (RunInference(five), [Number(1), Number(2.5)], Number),
        "array": (RunInference(tensors), [{"x": np.ones(1, np.float32)}, {"x": np.zeros((1, 1))}]),
        "parquet": (beam.io.ReadAllFromParquet() | RunInference(five), [path]),
        "anything": (RunInference(five), [X[1], {"x": 2.0}, ("k", beam.Row(x=3.0))], Any),
        "models": (RunInferencePerModel([five, triple]), [("k", {"x": 2.0})]),
        "keyed": (RunInference(five).with_failures(), keyed, Any),
    }
    return run_together(cases, "--runtime_type_check")


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("dicts", [5.0, 12.5]),
        ("rows", [5.0, 10.0]),
        ("schema", [5.0, 31.25]),
        ("named tuples", [5.0, 12.5]),
        ("parquet", [5.0, 10.0]),
        ("anything", [5.0, 10.0, ("k", 15.0)]),
        ("models", [("k", (10.0, 6.0))]),
    ],
)
def test_rows_are_scored_as_the_tf_examples_of_their_values(of_rows, label, expected):
    assert sorted(map(repr, plain(of_rows[label]))) == sorted(map(repr, expected))


def test_rows_are_scored_by_models_that_take_tensors(of_rows):
    assert sorted(plain(of_rows["dicts as tensors"], "output_0")) == [5.0, 12.5]
    assert sorted(plain(of_rows["array"], "output_0")) == [0.0, 5.0]


def test_row_that_cannot_be_scored_is_a_failure_and_shown_as_it_came(of_rows):
    found = of_rows["keyed"]
    assert sorted(plain(found["predictions"])) == [("k", 5.0), ("m", [10.0, 15.0])]
    failures = sorted((f.key, f.record, f.error_type) for f in found["failures"])
    invalid = "InvalidArgumentError"
    assert failures == [("l", {"x": "text"}, invalid), ("m", {}, invalid)]


def test_log_carries_the_row_as_a_tf_example(of_rows):
    records = [
        record
        for log in of_rows["dicts as tensors"]
        for tensor in log.predict_log.request.inputs.values()
        for record in tensor.string_val
    ]
    assert sorted(features_of(record)["x"] for record in records) == [[1.0], [2.5]]


def test_types_are_declared_and_checked_where_the_pipeline_is_built(five, tf1_model):
    pairs = given(pipeline_of(), [], Tuple[str, bytes])
    assert (pairs | RunInference(five)).element_type == Tuple[str, PredictionLog]
    results = pairs | RunInferencePerModel([five]).with_failures()
    assert results.predictions.element_type == Tuple[str, Tuple[PredictionLog]]
    assert results.failures.element_type is RecordFailure
    with pytest.raises(SettingsError, match=r", not .*float"):
        given(pipeline_of(), [], Tuple[str, float]) | RunInference(five)
    with pytest.raises(SettingsError, match=r", not .*bytes"):
        pairs | RunInferenceOnKeyedBatches(five)
    with pytest.raises(SettingsError, match=r"^inference_spec_types is empty\. Give at least one "):
        RunInferencePerModel(iter([]))
    models = [SavedModel(tf1_model, ("predict",)), SavedModel(tf1_model, ("scores_only",))]
    with pytest.raises(ModelError, match=r"'scores_only'.* FORMAT_TF_SEQUENCE_EXAMPLE"):
        given(pipeline_of(), [], tf.train.SequenceExample) | RunInferencePerModel(models)


ELEMENT_TYPES = [
    *(bytes, tf.train.Example, tf.train.SequenceExample, Any),
    *(Tuple[str, bytes], Tuple[Any, bytes], Tuple[str, Any], Tuple[str, tf.train.Example]),
    *(Tuple[str, List[bytes]], Tuple[str, List[Any]]),
]


@pytest.mark.parametrize("element_type", ELEMENT_TYPES, ids=str)
def test_next_step_is_fed_if_it_takes_the_type_that_tfx_bsl_declares(five, element_type):
    spec = spec_of(five)
    for name, models in (("RunInference", spec), ("RunInferencePerModel", [spec, spec])):
        ours, theirs = (
            given(pipeline_of(), [], element_type) | getattr(names, name)(models)
            for names in (bulk_inferencer.beam, tfx_bsl_beam)
        )
        if element_type is not Any and element_type != Tuple[str, Any]:
            assert ours.element_type == theirs.element_type
        ours | beam.Map(lambda result: result).with_input_types(theirs.element_type)


def test_other_element_of_unknown_type_ends_the_run(five):
    with pytest.raises(SettingsError, match=r", not \(str, int\)\. .* \[while running "):
        outputs_of(RunInference(five), [("k", 5)], Any)


EVENTS: list[str] = []


def note_read(record):
    EVENTS.append("read")
    return record


def note_batch(batch):
    EVENTS.append(f"score {len(batch)}")
    return batch


@pytest.mark.parametrize(
    ("largest", "bounds", "elements", "reads"),
    [(3, None, X, 3), (9, BatchBounds(3), X, 3), (3, None, [("k", X[:4]), ("l", X[4:])], 1)],
    ids=["spec", "given", "lists"],
)
def test_full_batch_is_scored_before_the_bundle_goes_on(five, largest, bounds, elements, reads):
    """A batch is as large as the specs say, unless other bounds are given."""
    specs = [spec_of(five, max_batch_size=9), spec_of(five, max_batch_size=largest), five]
    EVENTS.clear()
    read = beam.Map(note_read).with_output_types(Any)
    outputs_of(read | RunInferencePerModel(specs, preprocess=note_batch, bounds=bounds), elements)
    sizes = [int(size) for size in re.findall(r"score (\d+)", " ".join(EVENTS))]
    assert (max(sizes), sum(sizes)) == (3, 3 * len(X))
    in_a_row = re.findall("(?:read )+", " ".join(EVENTS) + " ")
    assert max(map(len, in_a_row)) == len("read ") * reads


def load(path, tags):
    EVENTS.append(f"load with {tags}")
    return tf.saved_model.load(path, tags)


def negate(batch):
    return [example(x=-features_of(record)["x"][0]) for record in batch]


def add_x(records, outputs):
    return {**outputs, "x": np.array([features_of(record)["x"] for record in records])}


def test_functions_load_the_model_and_run_before_and_after_it(five):
    by_name = {"preprocess": f"{__name__}:negate", "postprocess": f"{__name__}:add_x"}
    ((log,),) = outputs_of(RunInferencePerModel([five], **by_name), [X[2]])
    EVENTS.clear()
    transform = RunInference(five, load, preprocess=negate, postprocess=add_x)
    assert outputs_of(transform, [X[2]]) == [log]
    assert EVENTS == ["load with ['serve']"]
    assert y_of(log) == -10.0
    assert tf.make_ndarray(log.predict_log.response.outputs["x"]).tolist() == [[2.0]]
    assert log.predict_log.request.inputs["examples"].string_val == [X[2]]


def test_failures_are_a_separate_output_and_travel_with_all_that_they_say(five, triple):
    elements = [((1, "k"), [X[1], NO_EXAMPLE, X[2]]), (None, [example(x=-1.0)]), ("none", [])]
    with pipeline_of("--runtime_type_check") as pipeline:
        transform = RunInferencePerModel([five, triple]).with_failures()
        results = given(pipeline, elements) | transform
        predictions = collect(results.predictions, "Predictions")
        by_type = beam.Map(lambda failure: (failure.error_type, failure))
        groups = collect(results.failures | beam.Reshuffle() | by_type | beam.GroupByKey())
    assert dict(plain(predictions)) == {(1, "k"): ([5.0, 10.0], [3.0, 6.0]), "none": ([], [])}
    ((error_type, failures),) = groups
    assert error_type == "InvalidArgumentError"
    assert {type(failure) for failure in failures} == {RecordFailure}
    found = {failure.key: failure for failure in failures}
    assert found.keys() == {(1, "k"), None}
    assert found[1, "k"][1:3] == (NO_EXAMPLE, error_type)
    assert "x is negative" in found[None].message


def refuse_bad(batch):
    if any(record.startswith(b"bad") or b"\x03bad" in record for record in batch):
        raise ValueError("a bad record.")
    return batch


@pytest.mark.parametrize(
    ("element", "which"),
    [(b"bad" * 100, repr((b"bad" * 100)[:80])), ((None, [X[0], b"bad"]), "b'bad'"),
     (("k", b"bad"), "b'bad' with key 'k'"), ({"bad": 1}, "{'bad': 1}")],
    ids=["alone", "list", "keyed", "row"],
)  # fmt: skip
def test_bad_record_ends_the_run_where_failures_are_no_output(five, element, which):
    failure = RecordFailure(None, b"", "ValueError", "a bad record.")
    message = str(failed_record_error(which, failure, "with_failures"))
    with pytest.raises(FailedRecordError, match=while_running(message)):
        outputs_of(RunInference(five, preprocess=refuse_bad), [element])


def test_metrics_tell_what_became_of_the_records_also_by_the_names_of_beam(five):
    elements = [("a", [*X, NO_EXAMPLE]), ("b", []), ("c", [NO_EXAMPLE])]
    with pipeline_of() as pipeline:
        given(pipeline, elements) | RunInference(five).with_failures()
    metered = metrics_of(pipeline.result, NAMESPACE)
    counted = {"examples_read": 12, "predictions_written": 10, "examples_failed": 2}
    assert metered.items() >= {**counted, "model_loads": 1}.items()
    assert metered["batches"] == metered["batch_records"].count >= 2
    for ours, beams in {
        "batch_records": "inference_request_batch_size",
        "batch_bytes": "inference_request_batch_byte_size",
        "model_load_milliseconds": "load_model_latency_milli_secs",
        "model_load_bytes": "model_byte_size",
    }.items():
        assert metered[ours] == metered[beams]
    assert metered["num_inferences"] == len(X)
    assert metered["inference_request_batch_byte_size"].sum == sum(map(len, X))
    milliseconds = metered["inference_batch_latency_micro_secs"].sum / 1000
    assert milliseconds == pytest.approx(metered["inference_milliseconds"].sum, abs=len(X))


MIN_RAM, ACCELERATOR = "beam:resources:min_ram_bytes:v1", "beam:resources:accelerator:v1"


def test_resource_hints_are_those_of_one_transform_and_of_its_step_that_calls_the_model(five):
    gpu = "type:nvidia-tesla-t4;count:1;install-nvidia-driver"
    first = RunInference(five).with_resource_hints(accelerator=gpu)
    second = first.with_failures().with_resource_hints(min_ram="8GB")
    third = RunInferencePerModel([five, five])
    fourth = third.with_failures().with_resource_hints(min_ram=1 << 30)
    pipeline = pipeline_of()
    values = given(pipeline, X) | "Before" >> beam.Map(lambda record: record)
    values | "1" >> first | "After" >> beam.Map(y_of)
    for label, transform in {"2": second, "3": third, "4": fourth}.items():
        values | label >> transform
    assert hints_by_step(pipeline) == {
        "1/Predict": {ACCELERATOR: gpu.encode()},
        "2/Predict/ParDo(_Predict)": {ACCELERATOR: gpu.encode(), MIN_RAM: b"8000000000"},
        "4/Predict/ParDo(_Predict)": {MIN_RAM: b"1073741824"},
    }


@pytest.mark.parametrize(
    "ours",
    [
        *(RunInference, RunInferencePerModel, CreateModelHandler),
        *(RunInferenceOnKeyedBatches, RunInferencePerModelOnKeyedBatches),
    ],
)
def test_parameters_begin_with_those_of_tfx_bsl(ours):
    theirs = inspect.signature(getattr(tfx_bsl_beam, ours.__name__)).parameters.values()
    ours = inspect.signature(ours).parameters.values()
    theirs = [(p.name, p.default) for p in theirs if p.name != "examples"]
    positional = [p for p in ours if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert [(p.name, p.default) for p in positional][: len(theirs)] == theirs
    assert {p.name for p in positional[len(theirs) :]} <= {"load_override_fn"}


def test_results_are_those_of_tfx_bsl(five, tf1_model):
    """For all kinds of logs, see the tests of `PredictionLogEncoder`."""
    heads = spec_of(SavedModel(tf1_model), "serving_default", "regress")
    ours, theirs = (
        run_together(
            {
                "one": (names.RunInference(heads), list(enumerate(X))),
                "several": (
                    names.RunInferencePerModelOnKeyedBatches([spec_of(five), heads]),
                    [("a", X[:3]), ("b", X[3:])],
                ),
            }
        )
        for names in (bulk_inferencer.beam, tfx_bsl_beam)
    )
    for label, found in ours.items():
        assert dict(found) == dict(theirs[label])
    assert len(ours["one"]) == len(X)


def test_string_input_takes_the_record_where_tfx_bsl_describes_the_model(tmp_path):
    def serve(text):
        return {"y": tf.strings.length(text)}

    model = SavedModel(save_functions(tmp_path, serving_default=(serve, {"text": RECORDS})))
    records = [example(text="a"), example(text="four")]
    spec = spec_of(model)
    found = run_together(
        {
            "model": (RunInference(model), records),
            "spec": (RunInference(spec), records),
            "tfx_bsl": (tfx_bsl_beam.RunInference(spec), records),
        }
    )
    assert sorted(map(y_of, found["model"])) == [1, 4]
    assert {next(iter(log.predict_log.request.inputs)) for log in found["model"]} == {"examples"}
    assert sorted(map(y_of, found["spec"])) == sorted(map(len, records))
    as_bytes = PredictionLog.SerializeToString
    assert sorted(map(as_bytes, found["spec"])) == sorted(map(as_bytes, found["tfx_bsl"]))
