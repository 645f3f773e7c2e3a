"""Models behind a Vertex AI endpoint: Google's own client against a server on loopback."""

from __future__ import annotations

import base64
import contextlib
import datetime
import email.utils
import itertools
import math

import apache_beam as beam
import numpy as np
import pytest
import tensorflow as tf
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to

from bulk_inferencer._models.batching import Failed, Scored, Scorer
from bulk_inferencer._models.predictor import FORMAT_PROTO, FORMAT_TF_EXAMPLE, RecordError
from bulk_inferencer._models.retries import Limits
from bulk_inferencer._signatures import PREDICT, Signature
from bulk_inferencer.beam import BatchBounds, RunInference, SavedModel, VertexEndpoint
from tests.helpers import example, save_functions
from tests.vertex_server import (
    ENDPOINT,
    URI,
    Reply,
    VertexServer,
    endpoint,
    predictor,
    serving,
)

X = [example(x=float(x)) for x in range(20)]
RAW = pytest.mark.parametrize("raw", [False, True], ids=["predict", "raw"])


@pytest.fixture
def serve():
    """Starts servers, which stop when the test is over."""
    with contextlib.ExitStack() as servers:
        yield lambda *answer, **settings: servers.enter_context(VertexServer(*answer, **settings))


def scored(scorer, records):
    """Returns the outputs in the order of the records, None for failures."""
    results = []
    for result in scorer.score(records):
        if isinstance(result, Scored):
            results += result.outputs["outputs"].tolist()
        else:
            results.append(None)
    return results


def b64(value):
    return {"b64": base64.b64encode(value).decode()}


# Like local mode


@RAW
def test_records_are_scored_as_in_local_mode(serve, linear_model, raw):
    server = serve(serving(linear_model))
    loaded = predictor(server, raw=raw, input_name="examples")
    expected = SavedModel(linear_model).load(FORMAT_TF_EXAMPLE).predict(X)
    outputs = loaded.predict(X)
    assert outputs["outputs"].tolist() == expected["y"].tolist()
    assert server.calls[0].instances == [{"examples": b64(record)} for record in X]
    assert loaded.input_name == "examples"


@RAW
def test_features_become_instances(serve, tmp_path, raw):
    def function(x, n, words):
        return {"y": 5 * x + tf.cast(n, tf.float32), "first": words[:, 0]}

    inputs = {
        "x": tf.TensorSpec([None], tf.float32),
        "n": tf.TensorSpec([None], tf.int64),
        "words": tf.TensorSpec([None, 2], tf.string),
    }
    path = save_functions(tmp_path, serving_default=(function, inputs))
    records = [example(x=0.5 * i, n=-i, words=["ä" * i, b"\xff\0"], none=[]) for i in range(5)]
    records.append(example(x=0.1, n=2**53, words=[b"\xff\0", "b"], none=[]))
    server = serve(serving(path))
    outputs = predictor(server, raw=raw).predict(records)
    expected = SavedModel(path).load(FORMAT_TF_EXAMPLE).predict(records)
    assert outputs["y"].tolist() == expected["y"].tolist()
    assert outputs["first"].tolist() == expected["first"].tolist()
    assert server.calls[0].instances[-2:] == [
        {"x": 2.0, "n": -4, "words": [b64("ääää".encode()), b64(b"\xff\0")], "none": []},
        {"x": np.float32(0.1), "n": 2**53, "words": [b64(b"\xff\0"), b64(b"b")], "none": []},
    ]


def test_raw_request_has_the_body_that_the_container_takes(serve):
    server = serve()
    predictor(server, raw=True, signature="other").predict([example(x=1.0, n=2**60 + 1)])
    ((method, _, content, _),) = server.calls
    assert method == "rawPredict"
    assert content == {"signature_name": "other", "instances": [{"x": 1.0, "n": 2**60 + 1}]}


def test_records_of_any_format_go_to_a_named_input(serve):
    server = serve(lambda instances: [len(base64.b64decode(i["data"]["b64"])) for i in instances])
    loaded = predictor(server, FORMAT_PROTO, input_name="data")
    assert loaded.input_name == "data"
    outputs = loaded.predict([b"", b"\0\0", b"\xff" * 300])
    assert outputs["outputs"].tolist() == [0, 2, 300]


def test_signature_is_known_without_asking_the_endpoint():
    model = VertexEndpoint(ENDPOINT, signature="other", client="never.called:here")
    assert model.check(FORMAT_TF_EXAMPLE) == (Signature("other", PREDICT),)
    assert (model.uri, model.fingerprint()) == (URI, "")


def test_input_has_the_usual_name_where_features_are_sent(serve):
    assert predictor(serve()).input_name == "examples"


# Outputs


@RAW
@pytest.mark.parametrize(
    ("predictions", "name", "dtype", "values"),
    [
        ([1, 2.5], "outputs", np.float64, [1.0, 2.5]),
        ([[[1, 2]], [[3, 4]]], "outputs", np.float64, [[[1.0, 2.0]], [[3.0, 4.0]]]),
        ([[], []], "outputs", np.float64, [[], []]),
        ([{"y": [1]}, {"y": [2]}], "y", np.float64, [[1.0], [2.0]]),
        (["a", "ä\0"], "outputs", object, [b"a", "ä\0".encode()]),
        ([["a", "b"], ["c", ""]], "outputs", object, [[b"a", b"b"], [b"c", b""]]),
        ([b64(b"\xff\0"), b64(b"")], "outputs", object, [b"\xff\0", b""]),
        ([{"y": [b64(b"\0")]}, {"y": ["b"]}], "y", object, [[b"\0"], [b"b"]]),
        ([True, False], "outputs", np.bool_, [True, False]),
    ],
    ids=["scalars", "lists", "nothing", "objects", "text", "texts", "bytes", "both", "booleans"],
)
def test_predictions_become_arrays(serve, raw, predictions, name, dtype, values):
    server = serve(lambda instances: predictions)
    outputs = predictor(server, raw=raw).predict(X[:2])
    assert list(outputs) == [name]
    assert outputs[name].dtype == dtype
    assert outputs[name].tolist() == values


def test_null_is_no_number(serve):
    outputs = predictor(serve(lambda instances: [[1.0, None]])).predict(X[:1])
    assert outputs["outputs"][0, 0] == 1.0
    assert math.isnan(outputs["outputs"][0, 1])


def test_outputs_of_an_object_are_in_the_order_of_their_names(serve):
    server = serve(lambda instances: [{"b": 1, "a": "x"}, {"a": "y", "b": 2}])
    outputs = predictor(server).predict(X[:2])
    assert {name: values.tolist() for name, values in outputs.items()} == {
        "a": [b"x", b"y"],
        "b": [1.0, 2.0],
    }
    assert list(outputs) == ["a", "b"]


@RAW
@pytest.mark.parametrize(
    ("deployed", "version", "known"),
    [("11", "3", {"3"}), ("11", "", {"11"}), ("", "", set())],
)
def test_version_that_answered_is_known(serve, raw, deployed, version, known):
    server = serve(deployed_model_id=deployed, model_version_id=version)
    loaded = predictor(server, raw=raw)
    assert loaded.versions == set()
    loaded.predict(X)
    assert loaded.versions == known


# Faults


@RAW
@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_request_is_made_again_after_a_passing_error(serve, raw, status):
    server = serve(faults=[Reply(status), Reply(status, b"<html>not JSON</html>")])
    outputs = predictor(server, raw=raw).predict(X)
    assert outputs["outputs"].tolist() == [5.0 * x for x in range(20)]
    assert len(server.calls) == 3


@RAW
@pytest.mark.parametrize("fault", ["cut", "cut_short", "stall"])
def test_request_is_made_again_after_a_connection_fails(serve, raw, fault):
    server = serve(faults=[lambda handler: getattr(server, fault)(handler)])
    loaded = predictor(server, raw=raw, limits=Limits(0.5, 60))
    assert loaded.predict(X)["outputs"].tolist() == [5.0 * x for x in range(20)]
    assert len(server.calls) == 2


def in_seconds(seconds):
    date = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)
    return email.utils.format_datetime(date, usegmt=True)


@RAW
@pytest.mark.parametrize(
    ("retry_after", "at_least", "at_most"),
    [
        (lambda: "17", 17, 17),
        (lambda: in_seconds(90), 80, 90),
        (lambda: in_seconds(-90), 0, 0.1),
        (lambda: "soon", 0, 0.1),
    ],
    ids=["seconds", "date", "date in the past", "neither"],
)
def test_pause_is_what_the_endpoint_asks_for(serve, raw, retry_after, at_least, at_most):
    pauses = []
    server = serve(faults=[Reply(429, headers={"Retry-After": retry_after()})])
    predictor(server, raw=raw, pauses=pauses).predict(X)
    assert at_least <= pauses[0] <= at_most


@RAW
def test_nothing_is_lost_or_doubled_when_every_second_request_is_turned_down(serve, raw):
    server = serve(faults=itertools.cycle([Reply(503), None]))
    loaded = predictor(server, raw=raw)
    found = [loaded.predict(X[i : i + 5])["outputs"].tolist() for i in range(0, 20, 5)]
    assert list(itertools.chain(*found)) == [5.0 * x for x in range(20)]


# Records that are at fault


@RAW
def test_record_that_the_model_cannot_take_fails_alone(serve, linear_model, raw):
    loaded = predictor(serve(serving(linear_model)), raw=raw, input_name="examples")
    records = [*X[:7], b"bad", *X[7:]]
    results = scored(Scorer(loaded), records)
    assert results == [*([5.0 * x] for x in range(7)), None, *([5.0 * x] for x in range(7, 20))]
    (failed,) = (r for r in Scorer(loaded).score(records) if isinstance(r, Failed))
    assert failed.error_type == "HTTP 400"
    assert "could not parse the instances" in failed.message


@RAW
@pytest.mark.parametrize(
    "reply",
    [Reply(413), Reply(400, "Request payload size exceeds the limit: 1572864 bytes.")],
    ids=["413", "400"],
)
def test_batch_that_is_too_large_is_halved(serve, raw, reply):
    server = serve(faults=[reply, reply])
    scorer = Scorer(predictor(server, raw=raw))
    assert scored(scorer, X) == [5.0 * x for x in range(20)]
    assert scorer.safe_records == 5


def test_record_that_is_no_example_fails_before_it_is_sent(serve):
    server = serve()
    with pytest.raises(RecordError, match=r"^DecodeError: not a tf.Example: "):
        predictor(server).predict([X[0], b"bad"])
    assert server.calls == []


@pytest.mark.parametrize("value", [2**53 + 1, -(2**53) - 1])
@pytest.mark.parametrize("values", [lambda value: value, lambda value: [1, value]])
def test_integer_that_would_be_rounded_fails_alone(serve, value, values):
    records = [X[0], example(x=1.0, n=values(value)), X[2]]
    results = list(Scorer(predictor(serve())).score(records))
    (failed,) = (result for result in results if isinstance(result, Failed))
    reason = f"ValueError: feature 'n' is {value}, which JSON's numbers cannot hold"
    assert (failed.index, failed.reason) == (1, reason)
    assert len(results) == 3


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_number_that_json_does_not_have_fails_alone(serve, value):
    records = [X[0], example(x=value), X[2]]
    assert scored(Scorer(predictor(serve())), records) == [0.0, None, 10.0]


# Whole runs


def test_pipeline_loses_and_doubles_nothing_when_half_of_the_requests_are_turned_down(serve):
    server = serve(faults=itertools.cycle([Reply(503), None]))
    elements = [(f"key {i % 50}", example(x=float(i))) for i in range(100)]
    transform = RunInference(endpoint(server), bounds=BatchBounds(max_records=16))
    with beam.Pipeline(FnApiRunner()) as pipeline:
        logs = pipeline | beam.Create(elements) | transform
        found = logs | beam.MapTuple(
            lambda key, log: (key, log.predict_log.response.outputs["outputs"].double_val[0])
        )
        assert_that(found, equal_to([(f"key {i % 50}", 5.0 * i) for i in range(100)]))
