"""RunInference and its kin on Beam's local runner, with real models."""

from __future__ import annotations

import inspect
import re

import apache_beam as beam
import hypothesis
import numpy as np
import pytest
import tensorflow as tf
import tfx_bsl.public.beam.run_inference as tfx_bsl_beam
from hypothesis import strategies as st
from tfx_bsl.public.proto.model_spec_pb2 import InferenceSpecType

import bulk_inferencer.beam
from bulk_inferencer.beam import (
    BatchBounds,
    RecordFailure,
    RunInference,
    RunInferenceOnKeyedBatches,
    RunInferencePerModel,
    RunInferencePerModelOnKeyedBatches,
    SavedModel,
)
from bulk_inferencer.beam.metrics import NAMESPACE
from bulk_inferencer.beam.specs import bounds_of
from bulk_inferencer.errors import FailedRecordError
from tests.beam_helpers import (
    collect,
    counters_of,
    given,
    outputs_of,
    pipeline_of,
    while_running,
    y_of,
)
from tests.helpers import RECORDS, example, features_of, save_functions

pytestmark = pytest.mark.slow

NO_EXAMPLE = b"no tf.Example"
X = [example(x=float(x)) for x in range(10)]
# A pipeline per example is too slow for that.
NO_SHRINKING = tuple(set(hypothesis.Phase) - {hypothesis.Phase.shrink, hypothesis.Phase.explain})


@pytest.fixture(scope="module")
def triple_model(tmp_path_factory):
    """A tf.Module: y = 3 x, where x is positive; a model of other records than the linear one."""

    def serve(examples):
        x = tf.io.parse_example(examples, {"x": tf.io.FixedLenFeature([], tf.float32)})["x"]
        with tf.control_dependencies([tf.debugging.assert_non_negative(x, "x is negative")]):
            return {"y": 3 * x}

    path = tmp_path_factory.mktemp("triple")
    return save_functions(path, serving_default=(serve, {"examples": RECORDS}))


def ys_of(outputs):
    """Returns y by key of keyed PredictionLogs or tuples of them."""
    return {
        key: tuple(map(y_of, log)) if isinstance(log, tuple) else y_of(log) for key, log in outputs
    }


# Keys


KEYS = ["a", "a", "", 1, -1.5, True, None, None, b"k", ("t", 2), frozenset({3})]


@pytest.mark.parametrize("element_type", [None, beam.typehints.Tuple[beam.typehints.Any, bytes]])
def test_keys_of_any_type_come_through_in_any_number(linear_model, element_type):
    elements = [(key, example(x=float(x))) for x, key in enumerate(KEYS)]
    outputs = outputs_of(RunInference(SavedModel(linear_model)), elements, element_type)
    assert len(outputs) == len(KEYS)
    found = {y_of(log): key for key, log in outputs}
    assert found == {5.0 * x: key for x, key in enumerate(KEYS)}
    assert [type(found[5.0 * x]) for x in range(len(KEYS))] == [type(key) for key in KEYS]


# Beam's own coder takes integers of 64 bits.
KEY = st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.text(max_size=3))
NUMBER = st.floats(-1e6, 1e6, width=32, allow_subnormal=False)


@pytest.mark.slow
@hypothesis.settings(max_examples=25, phases=NO_SHRINKING)
@hypothesis.given(
    pairs=st.lists(st.tuples(KEY, NUMBER), max_size=20), max_records=st.integers(1, 8)
)
def test_every_key_gets_the_prediction_of_its_own_record(linear_model, pairs, max_records):
    elements = [(key, example(key=repr(key), x=x)) for key, x in pairs]
    transform = RunInference(SavedModel(linear_model), bounds=BatchBounds(max_records))
    type_of_elements = beam.typehints.Tuple[beam.typehints.Any, bytes]
    outputs = outputs_of(transform, elements, type_of_elements)
    expected = sorted((repr(key), float(np.float32(5 * x))) for key, x in pairs)
    assert sorted((repr(key), y_of(log)) for key, log in outputs) == expected
    for key, log in outputs:
        (record,) = log.predict_log.request.inputs["examples"].string_val
        assert features_of(record)["key"] == [repr(key).encode()]


def test_lists_keep_their_records_in_order_however_batches_fall(linear_model):
    elements = [("a", X[:4]), ("b", []), ("a", X[4:5]), (None, X[5:])]
    transform = RunInferenceOnKeyedBatches(SavedModel(linear_model), bounds=BatchBounds(3))
    outputs = outputs_of(transform, elements)
    found = sorted((str(key), list(map(y_of, logs))) for key, logs in outputs)
    assert found == [
        ("None", [25.0, 30.0, 35.0, 40.0, 45.0]),
        ("a", [0.0, 5.0, 10.0, 15.0]),
        ("a", [20.0]),
        ("b", []),
    ]


@pytest.mark.parametrize("element_type", [bytes, beam.typehints.Tuple[str, bytes]])
def test_no_elements_have_no_outputs(linear_model, element_type):
    assert outputs_of(RunInference(SavedModel(linear_model)), [], element_type) == []


# Several models


def test_results_of_several_models_stand_in_their_order(linear_model, triple_model):
    models = (SavedModel(path) for path in (triple_model, linear_model, triple_model))
    outputs = outputs_of(RunInferencePerModel(models), list(enumerate(X)))
    assert ys_of(outputs) == {x: (3.0 * x, 5.0 * x, 3.0 * x) for x in range(10)}


def test_lists_of_several_models_stand_in_their_order(linear_model, triple_model):
    models = [SavedModel(triple_model), SavedModel(linear_model)]
    elements = [("a", X[:2]), ("b", [])]
    outputs = outputs_of(RunInferencePerModelOnKeyedBatches(models), elements)
    found = {key: tuple(list(map(y_of, logs)) for logs in columns) for key, columns in outputs}
    assert found == {"a": ([0.0, 3.0], [0.0, 5.0]), "b": ([], [])}


# Batches and hooks

SIZES: list[int] = []


def count(batch):
    SIZES.append(len(batch))
    return batch


def negate(batch):
    return [example(x=-features_of(record)["x"][0]) for record in batch]


def add_x(records, outputs):
    return {**outputs, "x": np.array([features_of(record)["x"] for record in records])}


@pytest.mark.parametrize("elements", [X, [("k", X)]], ids=["alone", "list"])
def test_batches_have_the_bounds_of_the_spec(linear_model, elements):
    spec = InferenceSpecType()
    spec.saved_model_spec.model_path = linear_model
    spec.batch_parameters.min_batch_size = 2
    spec.batch_parameters.max_batch_size = 3
    SIZES.clear()
    outputs_of(RunInference(spec, preprocess=count), elements)
    assert (max(SIZES), sum(SIZES)) == (3, len(X))


def test_batches_start_with_the_least_size_of_the_specs():
    specs = [InferenceSpecType() for _ in range(3)]
    for spec, size in zip(specs, (8, 0, 2), strict=True):
        spec.batch_parameters.min_batch_size = size
    assert bounds_of(specs) == BatchBounds(first_records=2)


@pytest.mark.parametrize(
    ("bounds", "largest"), [(BatchBounds(4), 4), (BatchBounds(max_bytes=2 * len(X[0])), 2)]
)
def test_bounds_that_are_given_go_before_those_of_the_spec(linear_model, bounds, largest):
    spec = InferenceSpecType()
    spec.saved_model_spec.model_path = linear_model
    spec.batch_parameters.max_batch_size = 5
    SIZES.clear()
    outputs_of(RunInference(spec, preprocess=count, bounds=bounds), X)
    assert (max(SIZES), sum(SIZES)) == (largest, len(X))


def test_several_models_share_the_tightest_bounds(linear_model, triple_model):
    specs = [InferenceSpecType() for _ in range(3)]
    for spec, size in zip(specs, (5, 3, 0), strict=True):
        spec.saved_model_spec.model_path = linear_model
        spec.batch_parameters.max_batch_size = size
    SIZES.clear()
    models = [*specs, SavedModel(triple_model)]
    outputs_of(RunInferencePerModel(models, preprocess=count), X)
    assert (max(SIZES), sum(SIZES)) == (3, len(models) * len(X))


EVENTS: list[str] = []


def note_read(record):
    EVENTS.append("read")
    return record


def note_batch(batch):
    EVENTS.append(f"score {len(batch)}")
    return batch


@pytest.mark.parametrize(
    "bounds", [BatchBounds(max_records=3), BatchBounds(max_bytes=2 * len(X[0]) + 1)]
)
def test_full_batch_is_scored_before_the_bundle_goes_on(linear_model, bounds):
    EVENTS.clear()
    read = beam.Map(note_read).with_output_types(bytes)
    transform = RunInference(SavedModel(linear_model), preprocess=note_batch, bounds=bounds)
    outputs_of(read | transform, X)
    longest = max(len(reads) for reads in re.findall("(?:read )+", " ".join(EVENTS) + " "))
    assert longest == len("read " * 3)
    assert sum(int(size) for size in re.findall(r"score (\d+)", " ".join(EVENTS))) == len(X)


@pytest.mark.parametrize(
    "hooks",
    [
        {"preprocess": negate, "postprocess": add_x},
        {"preprocess": f"{__name__}:negate", "postprocess": f"{__name__}:add_x"},
    ],
    ids=["functions", "names"],
)
def test_hooks_run_before_and_after_the_model(linear_model, hooks):
    (log,) = outputs_of(RunInference(SavedModel(linear_model), **hooks), [example(x=2.0)])
    assert y_of(log) == -10.0
    assert tf.make_ndarray(log.predict_log.response.outputs["x"]).tolist() == [[2.0]]
    assert log.predict_log.request.inputs["examples"].string_val == [example(x=2.0)]


# Failures


def failures_of(transform, elements):
    """Returns predictions and failures of a run."""
    with pipeline_of("--runtime_type_check") as pipeline:
        results = given(pipeline, elements) | transform.with_failures()
        assert results.failures.element_type is RecordFailure
        return collect(results.predictions, "Predictions"), collect(results.failures, "Failures")


def test_bad_record_costs_that_record_only(linear_model):
    elements = [*X[:5], NO_EXAMPLE, *X[5:]]
    predictions, (failure,) = failures_of(RunInference(SavedModel(linear_model)), elements)
    assert sorted(map(y_of, predictions)) == [5.0 * x for x in range(10)]
    assert isinstance(failure, RecordFailure)
    assert failure[:3] == (None, NO_EXAMPLE, "InvalidArgumentError")
    assert re.search("[Pp]ars", failure.message)


def test_failure_of_a_keyed_record_has_its_key(linear_model):
    elements = [("a", X[1]), ("b", NO_EXAMPLE), ("b", X[2]), ("c", example(z=1))]
    predictions, failures = failures_of(RunInference(SavedModel(linear_model)), elements)
    assert ys_of(predictions) == {"a": 5.0, "b": 10.0}
    assert {f.key: f.record for f in failures} == {"b": NO_EXAMPLE, "c": example(z=1)}


def test_failures_of_a_list_have_its_key_and_leave_the_rest(linear_model):
    elements = [("a", [X[1], NO_EXAMPLE, X[2]]), ("b", [NO_EXAMPLE]), ("c", [])]
    transform = RunInferenceOnKeyedBatches(SavedModel(linear_model))
    predictions, failures = failures_of(transform, elements)
    assert {k: list(map(y_of, logs)) for k, logs in predictions} == {"a": [5.0, 10.0], "c": []}
    assert sorted(f[:2] for f in failures) == [("a", NO_EXAMPLE), ("b", NO_EXAMPLE)]


def test_record_that_one_of_several_models_fails_on_is_a_failure(linear_model, triple_model):
    models = [SavedModel(linear_model), SavedModel(triple_model)]
    elements = [("a", X[1]), ("one", example(x=-1.0)), ("both", NO_EXAMPLE)]
    predictions, failures = failures_of(RunInferencePerModel(models), elements)
    assert ys_of(predictions) == {"a": (5.0, 3.0)}
    assert sorted(failure.key for failure in failures) == ["both", "one"]
    (message,) = [failure.message for failure in failures if failure.key == "one"]
    assert "x is negative" in message


def test_failures_travel_with_all_that_they_say(linear_model):
    elements = [((1, "k"), NO_EXAMPLE), (None, NO_EXAMPLE)]
    with pipeline_of() as pipeline:
        results = given(pipeline, elements) | RunInference(SavedModel(linear_model)).with_failures()
        groups = collect(
            results.failures
            | beam.Reshuffle()
            | beam.Map(lambda failure: (failure.error_type, failure))
            | beam.GroupByKey()
            | beam.MapTuple(lambda error_type, failures: (error_type, list(failures)))
        )
    ((error_type, failures),) = groups
    assert error_type == "InvalidArgumentError"
    assert {type(failure) for failure in failures} == {RecordFailure}
    assert {f.key: (f.record, f.error_type, bool(f.message)) for f in failures} == {
        (1, "k"): (NO_EXAMPLE, error_type, True),
        None: (NO_EXAMPLE, error_type, True),
    }


def test_failures_are_an_output_of_the_copy_only(linear_model):
    transform = RunInference(SavedModel(linear_model))
    with pipeline_of() as pipeline:
        values = given(pipeline, X[:1])
        results = values | "WithFailures" >> transform.with_failures()
        outputs = values | "Without" >> transform
    assert results._fields == ("predictions", "failures")
    assert isinstance(outputs, beam.PCollection)


def refuse_bad(batch):
    if any(record.startswith(b"bad") for record in batch):
        raise ValueError("a bad record.")
    return batch


@pytest.mark.parametrize(
    ("element", "which"),
    [
        (b"bad", "b'bad'"),
        (b"bad" * 100, repr((b"bad" * 100)[:80])),
        (("k", b"bad"), "with key 'k'"),
        ((None, [X[0], b"bad"]), "with key None"),
    ],
    ids=["alone", "long", "keyed", "list"],
)
def test_bad_record_ends_the_run_where_failures_are_no_output(linear_model, element, which):
    message = (
        f"Expected every record to be scored, but the one {which} failed: "
        f"ValueError: a bad record. Mend it, or take failures as an output of their own: "
        f"RunInference(...).with_failures()."
    )
    with pytest.raises(FailedRecordError, match=while_running(message)):
        outputs_of(RunInference(SavedModel(linear_model), preprocess=refuse_bad), [element])


def test_counters_tell_what_became_of_the_records(linear_model):
    pipeline = pipeline_of()
    elements = [("a", [*X, NO_EXAMPLE]), ("b", []), ("c", [NO_EXAMPLE])]
    given(pipeline, elements) | RunInference(SavedModel(linear_model)).with_failures()
    result = pipeline.run()
    result.wait_until_finish()
    counters = counters_of(result, NAMESPACE)
    assert counters.pop("batches") >= 2
    assert counters == {
        "examples_read": 12,
        "predictions_written": 10,
        "examples_failed": 2,
        "model_loads": 1,
    }


# Drop-in for tfx_bsl


@pytest.mark.parametrize(
    "name",
    [
        "RunInference",
        "RunInferencePerModel",
        "RunInferenceOnKeyedBatches",
        "RunInferencePerModelOnKeyedBatches",
        "CreateModelHandler",
    ],
)
def test_parameters_begin_with_those_of_tfx_bsl(name):
    ours = inspect.signature(getattr(bulk_inferencer.beam, name)).parameters.values()
    theirs = inspect.signature(getattr(tfx_bsl_beam, name)).parameters.values()
    theirs = [(p.name, p.default) for p in theirs if p.name != "examples"]
    positional = [p for p in ours if p.kind is not p.KEYWORD_ONLY]
    assert [(p.name, p.default) for p in positional][: len(theirs)] == theirs
    assert {p.name for p in positional[len(theirs) :]} <= {"load_override_fn"}


@pytest.mark.parametrize(
    ("model", "signatures", "kind"),
    [
        ("linear_model", [], "predict_log"),
        ("tf1_model", ["predict"], "predict_log"),
        ("tf1_model", ["serving_default"], "classify_log"),
        ("tf1_model", ["scores_only"], "classify_log"),
        ("tf1_model", ["regress"], "regress_log"),
        ("tf1_model", ["serving_default", "regress"], "multi_inference_log"),
    ],
)
def test_logs_are_those_of_tfx_bsl(request, model, signatures, kind):
    spec = InferenceSpecType()
    spec.saved_model_spec.model_path = request.getfixturevalue(model)
    spec.saved_model_spec.signature_name.extend(signatures)
    spec.saved_model_spec.tag.append("serve")
    with pipeline_of() as pipeline:
        examples = given(pipeline, list(enumerate(X)))
        ours = collect(examples | "Ours" >> RunInference(spec), "CollectOurs")
        theirs = collect(examples | "Theirs" >> tfx_bsl_beam.RunInference(spec), "CollectTheirs")
    assert len(ours) == len(theirs) == len(X)
    assert dict(ours) == dict(theirs)
    assert {log.WhichOneof("log_type") for _, log in ours} == {kind}


def test_results_of_several_models_are_those_of_tfx_bsl(linear_model, tf1_model):
    specs = [InferenceSpecType(), InferenceSpecType()]
    specs[0].saved_model_spec.model_path = linear_model
    specs[1].saved_model_spec.model_path = tf1_model
    specs[1].saved_model_spec.signature_name.append("regress")
    elements = [("a", X[:3]), ("b", X[3:])]
    with pipeline_of() as pipeline:
        lists = given(pipeline, elements)
        ours = collect(lists | "Ours" >> RunInferencePerModelOnKeyedBatches(specs), "CollectOurs")
        theirs = collect(
            lists | "Theirs" >> tfx_bsl_beam.RunInferencePerModelOnKeyedBatches(specs),
            "CollectTheirs",
        )
    assert sorted(ours) == sorted(theirs)
