"""Models behind a server that speaks TensorFlow Serving's API, over real connections."""

from __future__ import annotations

import contextlib
import itertools
import re
import socket

import grpc
import pytest
import tensorflow as tf

from bulk_inferencer._models.batching import Scorer
from bulk_inferencer._models.predictor import FORMAT_PROTO, FORMAT_TF_EXAMPLE, RecordError
from bulk_inferencer._models.retries import Limits
from bulk_inferencer._signatures import CLASSIFY, REGRESS
from bulk_inferencer.beam import TFServing
from bulk_inferencer.errors import EndpointError, ModelError, SettingsError
from tests.helpers import RECORDS, exactly, example, save_functions
from tests.model_server import (
    NAME,
    TOKEN,
    ModelServer,
    assert_as_local,
    client_credentials,
    failing,
    predictor,
    server_credentials,
    tf_serving,
    unavailable,
)

X = [example(x=float(x)) for x in range(40)]


@pytest.fixture
def serve():
    """Starts servers, which stop when the test is over."""
    with contextlib.ExitStack() as servers:
        yield lambda path, **settings: servers.enter_context(ModelServer(path, **settings))


@pytest.fixture(scope="module")
def typed_model(tmp_path_factory):
    """Takes features, not records: `y` = 5 x + n, and the first of two `words`."""

    def serve(x, n, words):
        return {"y": 5 * x + tf.cast(n, tf.float32), "first": words[:, 0]}

    inputs = {
        "x": tf.TensorSpec([None], tf.float32),
        "n": tf.TensorSpec([None], tf.int32),
        "words": tf.TensorSpec([None, 2], tf.string),
    }
    path = tmp_path_factory.mktemp("typed") / "model"
    return save_functions(path, serving_default=(serve, inputs))


# Like local mode


def test_records_are_scored_as_in_local_mode(serve, linear_model):
    server = serve(linear_model)
    loaded = predictor(server)
    assert_as_local(linear_model, loaded.predict(X), X)
    assert loaded.input_name == "examples"
    assert [call[:3] for call in server.calls] == [("Predict", "serving_default", 40)]


def test_features_become_typed_inputs(serve, typed_model):
    records = [example(x=0.5 * i, n=i, words=[f"a{i}", b"\xff\0"]) for i in range(9)]
    loaded = predictor(serve(typed_model))
    assert_as_local(typed_model, loaded.predict(records), records)
    assert loaded.input_name == "examples"


@pytest.mark.parametrize(
    "signature", ["serving_default", "scores_only", "classes_only", "regress", "regress_column"]
)
def test_classifications_and_regressions_are_those_of_local_mode(serve, tf1_model, signature):
    server = serve(tf1_model)
    loaded = predictor(server, signature)
    assert_as_local(tf1_model, loaded.predict(X), X, signature)
    method = "Regress" if "regress" in signature else "Classify"
    assert [call[:3] for call in server.calls] == [(method, signature, 40)]
    assert loaded.signatures[0].method == (REGRESS if method == "Regress" else CLASSIFY)


def test_several_signatures_are_called_one_after_the_other(serve, tf1_model):
    server = serve(tf1_model)
    names = ("predict", "regress", "serving_default")
    assert_as_local(tf1_model, predictor(server, *names).predict(X), X, *names)
    assert [call.method for call in server.calls] == ["Predict", "Regress", "Classify"]


def test_records_of_any_format_go_to_a_string_input(serve, tmp_path):
    function = (lambda data: {"n": tf.strings.length(data)}, {"data": RECORDS})
    server = serve(save_functions(tmp_path, serving_default=function))
    loaded = predictor(server, record_format=FORMAT_PROTO)
    assert loaded.input_name == "data"
    assert loaded.predict([b"", b"\0\0", b"\xff" * 300])["n"].tolist() == [0, 2, 300]


# What is sent


@pytest.mark.parametrize(
    ("settings", "sent", "uri"),
    [
        ({}, "0", ""),
        ({"version": 7}, "7", "/versions/7"),
        ({"version_label": "stable"}, "stable", "/labels/stable"),
    ],
)
def test_version_is_asked_for_and_the_one_that_answered_is_known(
    serve, linear_model, settings, sent, uri
):
    server = serve(linear_model, labels={"stable": 7})
    model = tf_serving(server, **settings)
    loaded = model.load(FORMAT_TF_EXAMPLE)
    assert loaded.versions == set()
    loaded.predict(X[:1])
    assert [call.spec.removeprefix("0") for call in server.calls] == [sent.removeprefix("0")]
    assert loaded.versions == {"7"}
    assert model.uri == f"grpc://{server.address}/{NAME}{uri}"


def test_check_returns_the_signatures_and_there_is_no_fingerprint(serve, tf1_model):
    model = tf_serving(serve(tf1_model), "regress")
    assert model.check(FORMAT_TF_EXAMPLE) == model.load(FORMAT_TF_EXAMPLE).signatures
    assert model.fingerprint() == ""


def test_channel_options_are_used(serve, linear_model):
    server = serve(linear_model)
    options = (("grpc.primary_user_agent", "bulk-of-tests"),)
    predictor(server, channel_options=options).predict(X[:1])
    assert server.calls[0].metadata["user-agent"].startswith("bulk-of-tests ")


@pytest.mark.parametrize(
    "credentials", [client_credentials, "tests.model_server:client_credentials"]
)
def test_call_credentials_go_over_tls(serve, linear_model, credentials):
    server = serve(linear_model, credentials=server_credentials(), token=TOKEN)
    loaded = predictor(server, credentials=credentials)
    assert_as_local(linear_model, loaded.predict(X), X)
    assert server.calls[0].metadata["authorization"] == f"Bearer {TOKEN}"


# Errors


@pytest.mark.parametrize("signature", ["serving_default", "regress"])
def test_record_that_is_no_example_fails_before_it_is_sent(serve, tf1_model, signature):
    server = serve(tf1_model)
    with pytest.raises(RecordError, match=r"^DecodeError: not a tf.Example: "):
        predictor(server, signature).predict([X[0], b"bad"])
    assert server.calls == []


def test_record_that_lacks_a_feature_fails_before_it_is_sent(serve, typed_model):
    server = serve(typed_model)
    message = (
        "InvalidArgumentError: Feature: n (data type: int64) is required but could not be found."
    )
    with pytest.raises(RecordError, match=exactly(message)):
        predictor(server).predict([example(x=1.0, words=["a", "b"])])
    assert server.calls == []


def no_answer(server, seconds, last):
    uri = f"grpc://{server.address}/{NAME}"
    start = f"Expected an answer from {uri} within {seconds} s, got none; attempts: "
    end = ". Check that the server is up and can take the load, or raise the time limit."
    return rf"^{re.escape(start)}\d+, the last: {last}{re.escape(end)}$"


def test_server_that_never_answers_is_an_error_after_the_time_limit(serve, linear_model):
    server = serve(linear_model, faults=itertools.repeat(unavailable))
    loaded = predictor(server, limits=Limits(0.5, 0.5))
    with pytest.raises(EndpointError, match=no_answer(server, 0.5, "UNAVAILABLE: as planned")):
        loaded.predict(X)
    assert len(server.calls) > 1


def test_check_waits_for_a_server_no_longer_than_one_request_may_take():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    model = TFServing(f"127.0.0.1:{port}", NAME, limits=Limits(0.5, 20))
    message = no_answer(model, 0.5, "UNAVAILABLE: failed to connect .*")
    with pytest.raises(EndpointError, match=message):
        model.check(FORMAT_TF_EXAMPLE)


@pytest.mark.parametrize("credentials", [None, "grpc:ssl_channel_credentials"])
def test_client_without_tls_or_trust_gets_no_answer(serve, linear_model, credentials):
    server = serve(linear_model, credentials=server_credentials())
    with pytest.raises(EndpointError, match=no_answer(server, 0.5, "UNAVAILABLE: .*")):
        predictor(server, limits=Limits(0.5, 0.5), credentials=credentials)


@pytest.mark.parametrize(
    ("name", "version"), [("ten_times", 7), (NAME, 8)], ids=["model", "version"]
)
def test_model_that_is_not_served_is_named(serve, linear_model, name, version):
    server = serve(linear_model)
    message = (
        f"Expected grpc://{server.address}/{name}/versions/{version} to answer, got NOT_FOUND: "
        f"Servable not found for request: Specific({name}, {version}). Check the address, the "
        f"model's name and version, and the credentials."
    )
    with pytest.raises(EndpointError, match=exactly(message)):
        TFServing(server.address, name, version).load(FORMAT_TF_EXAMPLE)


def test_token_that_is_not_valid_is_an_error_at_once(serve, linear_model):
    server = serve(linear_model, credentials=server_credentials(), token=TOKEN)
    message = (
        f"Expected grpc://{server.address}/{NAME} to answer, got UNAUTHENTICATED: no valid token. "
        f"Check the address, the model's name and version, and the credentials."
    )
    with pytest.raises(EndpointError, match=exactly(message)):
        predictor(server, credentials=lambda: client_credentials("let-me-out"))


@pytest.mark.parametrize("code", ["PERMISSION_DENIED", "UNIMPLEMENTED", "NOT_FOUND"])
def test_error_of_the_server_costs_no_records(serve, linear_model, code):
    server = serve(linear_model, faults=itertools.repeat(failing(grpc.StatusCode[code])))
    message = (
        f"Expected grpc://{server.address}/{NAME} to answer, got {code}: as planned. Check the "
        f"address, the model's name and version, and the credentials."
    )
    with pytest.raises(EndpointError, match=exactly(message)):
        list(Scorer(predictor(server)).score(X))
    assert len(server.calls) == 1


def test_server_that_does_not_describe_its_model_is_named(serve, linear_model):
    server = serve(linear_model, metadata_faults=[failing(grpc.StatusCode.INVALID_ARGUMENT)])
    message = (
        f"Expected grpc://{server.address}/{NAME} to describe its signatures, got "
        f"INVALID_ARGUMENT: as planned. Check the address and the model's name."
    )
    with pytest.raises(EndpointError, match=exactly(message)):
        predictor(server)


def test_signature_that_the_model_lacks_is_named(serve, linear_model):
    server = serve(linear_model)
    message = (
        f"Signature 'other' not found in grpc://{server.address}/{NAME}; it has: serving_default. "
        f"Set ModelSpec.model_signature_name (without TFX: signatures)."
    )
    with pytest.raises(ModelError, match=exactly(message)):
        tf_serving(server, "other").check(FORMAT_TF_EXAMPLE)


def test_answer_with_another_number_of_rows_is_an_error(serve, tmp_path):
    function = (lambda examples: {"y": tf.zeros([2, 7])}, {"examples": RECORDS})
    server = serve(save_functions(tmp_path, serving_default=function))
    message = (
        "Expected output 'y' to have the batch size 40 as its first dimension, got shape (2, 7). "
        "Return one row per record from the signature."
    )
    with pytest.raises(ModelError, match=exactly(message)):
        predictor(server).predict(X)


@pytest.mark.parametrize(("address", "name"), [("", NAME), ("localhost:8500", "")])
def test_address_and_name_are_needed(address, name):
    message = (
        f"Expected TFServing to have an address (host:port) and a model_name, got {address!r} and "
        f"{name!r}. Fill in both."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        TFServing(address, name)


def test_version_and_label_exclude_each_other():
    message = (
        "Expected a version or a version_label in TFServing, got both: 7 and 'stable'. Give one "
        "of them."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        TFServing("localhost:8500", NAME, version=7, version_label="stable")


def test_credentials_that_cannot_be_imported_are_named():
    message = (
        "Expected a function as TFServing.credentials, named as package.module:function, got "
        "'tests.none:credentials': No module named 'tests.none'. Install its module on every "
        "worker."
    )
    model = TFServing("localhost:8500", NAME, credentials="tests.none:credentials")
    with pytest.raises(SettingsError, match=exactly(message)):
        model.load(FORMAT_TF_EXAMPLE)
