"""A server that speaks TensorFlow Serving's API, over real connections; nothing may get lost."""

from __future__ import annotations

import concurrent.futures
import contextlib
import itertools
import pickle
import re
import socket

import grpc
import pytest
import tensorflow as tf

from bulk_inferencer._formats.record_format import FORMAT_PROTO, FORMAT_TF_EXAMPLE
from bulk_inferencer._models.predictor import RecordError
from bulk_inferencer._models.retries import Limits
from bulk_inferencer._models.scorer import Scorer
from bulk_inferencer._models.tf_serving import TFServing
from bulk_inferencer._signatures import CLASSIFY, REGRESS
from bulk_inferencer.errors import EndpointError, ModelError, SettingsError
from tests.helpers import RECORDS, exactly, example, save_functions
from tests.models.fakes import scored
from tests.models.model_server import (
    NAME,
    TOKEN,
    ModelServer,
    assert_as_local,
    client_credentials,
    failing,
    predictor,
    tf_serving,
    unavailable,
)

X = [example(x=float(x)) for x in range(40)]
Y = [5.0 * x for x in range(40)]
slow = pytest.mark.slow


@pytest.fixture
def serve():
    """Starts servers, which stop when the test is over."""
    with contextlib.ExitStack() as servers:
        yield lambda path, **settings: servers.enter_context(ModelServer(path, **settings))


def test_features_become_typed_inputs_and_a_record_that_lacks_one_is_not_sent(serve, tmp_path):
    def function(x, n, words):
        return {"y": 5 * x + tf.cast(n, tf.float32), "first": words[:, 0]}

    inputs = {
        "x": tf.TensorSpec([None], tf.float32),
        "n": tf.TensorSpec([None], tf.int32),
        "words": tf.TensorSpec([None, 2], tf.string),
    }
    path = save_functions(tmp_path, serving_default=(function, inputs))
    server = serve(path)
    loaded = predictor(server)
    assert loaded.input_name == "examples"
    records = [example(x=0.5 * i, n=i, words=[f"a{i}", b"\xff\0"]) for i in range(9)]
    assert_as_local(path, loaded.predict(records), records)
    message = "InvalidArgumentError: Feature: n (data type: int64) is required but could not be fo"
    with pytest.raises(RecordError, match=f"^{re.escape(message)}"):
        loaded.predict([example(x=1.0, words=["a", "b"])])
    assert len(server.calls) == 1


def test_classifications_and_regressions_are_those_of_local_mode(serve, tf1_model):
    server = serve(tf1_model)
    for method, kind, names in [
        ("Classify", CLASSIFY, ["serving_default", "scores_only", "classes_only"]),
        ("Regress", REGRESS, ["regress", "regress_column"]),
    ]:
        for signature in names:
            loaded = predictor(server, signature)
            assert_as_local(tf1_model, loaded.predict(X), X, signature)
            assert server.calls[-1][:3] == (method, signature, 40)
            assert loaded.signatures[0].method == kind


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
    assert loaded.predict([b"", b"\0\0", b"\xff" * 300]).outputs["n"].tolist() == [0, 2, 300]


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
    assert model.uri == f"grpc://{server.address}/{NAME}{uri}"
    assert model.fingerprint() == ""
    assert pickle.loads(pickle.dumps(model)) == model
    loaded = model.load(FORMAT_TF_EXAMPLE)
    assert model.check(FORMAT_TF_EXAMPLE) == loaded.signatures
    prediction = loaded.predict(X)
    assert_as_local(linear_model, prediction, X)
    assert prediction.versions == {"7"}
    assert [call.spec.removeprefix("0") for call in server.calls] == [sent.removeprefix("0")]


def test_channel_options_are_used(serve, linear_model):
    server = serve(linear_model)
    options = (("grpc.primary_user_agent", "bulk-of-tests"),)
    predictor(server, channel_options=options).predict(X[:1])
    assert server.calls[0].metadata["user-agent"].startswith("bulk-of-tests ")


@pytest.mark.parametrize(
    "credentials", [client_credentials, f"{client_credentials.__module__}:client_credentials"]
)
def test_call_credentials_go_over_tls(serve, linear_model, credentials):
    server = serve(linear_model, token=TOKEN)
    loaded = predictor(server, credentials=credentials)
    assert_as_local(linear_model, loaded.predict(X), X)
    assert server.calls[0].metadata["authorization"] == f"Bearer {TOKEN}"


def test_record_that_is_no_example_fails_before_it_is_sent(serve, tf1_model):
    server = serve(tf1_model)
    for signature in ("serving_default", "regress"):
        with pytest.raises(RecordError, match=r"^DecodeError: not a tf.Example: "):
            predictor(server, signature).predict([X[0], b"bad"])
    assert server.calls == []


def no_answer(last):
    return rf"^No answer from grpc://127\.0\.0\.1:\d+/{NAME} within 0\.5 s; .*, the last: {last}"


def test_server_that_never_answers_is_an_error_after_the_time_limit(serve, linear_model):
    server = serve(linear_model, faults=itertools.repeat(unavailable))
    loaded = predictor(server, limits=Limits(0.5, 0.5))
    with pytest.raises(EndpointError, match=no_answer("UNAVAILABLE: as planned")):
        loaded.predict(X)
    assert len(server.calls) > 1
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    model = TFServing(address, NAME, limits=Limits(0.5, 20))
    with pytest.raises(EndpointError, match=no_answer("UNAVAILABLE: failed to connect")):
        model.check(FORMAT_TF_EXAMPLE)  # which waits for no longer than one request may take


@pytest.mark.parametrize("credentials", [None, "grpc:ssl_channel_credentials"])
def test_client_without_tls_or_trust_gets_no_answer(serve, linear_model, credentials):
    server = serve(linear_model, token=TOKEN)
    with pytest.raises(EndpointError, match=no_answer("UNAVAILABLE: ")):
        predictor(server, limits=Limits(0.5, 0.5), credentials=credentials)


def refused(server, why, path=NAME):
    return exactly(
        f"grpc://{server.address}/{path} refused a request: {why}. Check the address, the model's "
        f"name and version, and the credentials."
    )


def test_model_or_version_that_is_not_served_is_named(serve, linear_model):
    server = serve(linear_model)
    for name, version in (("ten_times", 7), (NAME, 8)):
        why = f"NOT_FOUND: Servable not found for request: Specific({name}, {version})"
        message = refused(server, why, f"{name}/versions/{version}")
        with pytest.raises(EndpointError, match=message):
            TFServing(server.address, name, version).load(FORMAT_TF_EXAMPLE)


def test_token_that_is_not_valid_is_an_error_at_once(serve, linear_model):
    server = serve(linear_model, token=TOKEN)
    with pytest.raises(EndpointError, match=refused(server, "UNAUTHENTICATED: no valid token")):
        predictor(server, credentials=lambda: client_credentials("let-me-out"))


@pytest.mark.parametrize("code", ["PERMISSION_DENIED", "UNIMPLEMENTED", "NOT_FOUND"])
def test_error_of_the_server_costs_no_records(serve, linear_model, code):
    server = serve(linear_model, faults=itertools.repeat(failing(grpc.StatusCode[code])))
    with pytest.raises(EndpointError, match=refused(server, f"{code}: as planned")):
        list(Scorer(predictor(server)).score(X))
    assert len(server.calls) == 1


def test_server_that_does_not_describe_its_model_is_named(serve, linear_model):
    server = serve(linear_model, metadata_faults=[failing(grpc.StatusCode.INVALID_ARGUMENT)])
    message = (
        f"grpc://{server.address}/{NAME} did not describe its signatures: INVALID_ARGUMENT: as "
        f"planned. Check the address and the model's name."
    )
    with pytest.raises(EndpointError, match=exactly(message)):
        predictor(server)


def test_signature_and_rows_that_the_model_lacks_are_named(serve, tmp_path):
    function = (lambda examples: {"y": tf.zeros([2, 7])}, {"examples": RECORDS})
    server = serve(save_functions(tmp_path, serving_default=function))
    with pytest.raises(ModelError, match=r"^Signature 'other' .* Correct TFServing\.signatures\.$"):
        tf_serving(server, "other").check(FORMAT_TF_EXAMPLE)
    with pytest.raises(ModelError, match=r"^Expected output 'y' .* 40 .*, got shape \(2, 7\)"):
        predictor(server).predict(X)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ("", NAME),
            f"needs an address (host:port) and a model_name, got '' and '{NAME}'. Fill in",
        ),
        (("a:1", ""), "needs an address (host:port) and a model_name, got 'a:1' and ''. Fill in"),
        (
            ("a:1", NAME, 7, "stable"),
            "takes a version or a version_label, got both: 7 and 'stable'",
        ),
    ],
    ids=["address", "name", "version"],
)
def test_settings_that_name_no_model_are_refused(settings, message):
    with pytest.raises(SettingsError, match=f"^TFServing {re.escape(message)}"):
        TFServing(*settings)


def test_credentials_that_cannot_be_imported_are_named():
    model = TFServing("localhost:8500", NAME, credentials="tests.none:credentials")
    with pytest.raises(SettingsError, match=r"^Could not import TFServing\.credentials 'tests\.no"):
        model.load(FORMAT_TF_EXAMPLE)


@slow
@pytest.mark.parametrize("code", ["RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "UNAVAILABLE"])
def test_nothing_is_lost_or_doubled_when_every_second_request_fails(serve, linear_model, code):
    fault = failing(grpc.StatusCode[code])
    faults = itertools.cycle([fault, None])
    server = serve(linear_model, faults=faults, metadata_faults=[fault])
    assert scored(Scorer(predictor(server)), X, 10) == Y
    assert (len(server.calls), server.scored) == (8, 40)


@slow
def test_server_that_stalls_is_asked_again_after_the_deadline(serve, linear_model):
    deadlines = []

    def stall(context):
        deadlines.append(context.time_remaining())
        server.stall(context)

    server = serve(linear_model, faults=[None, stall])
    loaded = predictor(server, limits=Limits(request_seconds=1, total_seconds=60))
    loaded.predict(X[:1])  # the first one takes longer
    assert_as_local(linear_model, loaded.predict(X), X)
    assert 0 < deadlines[0] < 2
    assert [call.count for call in server.calls] == [1, 40, 40]
    assert server.scored == 41


@slow
def test_server_that_dies_in_mid_call_is_found_when_it_is_back(serve, linear_model):
    server = serve(linear_model, faults=[None, lambda context: server.stop()])
    loaded, pauses = predictor(server), []

    def come_back(seconds):
        pauses.append(seconds)
        if len(pauses) == 3:  # after attempts at no server
            server.start()

    loaded._caller._sleep = come_back
    assert scored(Scorer(loaded), X, 10) == Y
    assert len(pauses) >= 3
    # The answer to the second batch was lost; its records are scored twice and returned once.
    assert [call.count for call in server.calls] == [10] * 5


@slow
def test_several_threads_share_a_predictor(serve, linear_model):
    server = serve(linear_model, faults=itertools.cycle([None, unavailable, None]))
    loaded = predictor(server)
    batches = [X[i : i + 5] for i in range(40)]
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        predictions = list(threads.map(loaded.predict, batches))
    for i, prediction in enumerate(predictions):
        assert prediction.outputs["y"][:, 0].tolist() == Y[i : i + 5]
    assert server.scored == sum(map(len, batches))


def test_record_that_the_model_cannot_parse_fails_alone(serve, linear_model):
    records = [*X[:13], b"bad", *X[13:]]
    reason = "INVALID_ARGUMENT: Feature: x (data type: float) is required but could not be found."
    found = scored(Scorer(predictor(serve(linear_model))), records)
    assert found.pop(13).reason == reason
    assert found == Y


def test_batch_or_record_that_is_too_large_for_the_server_costs_no_other(serve, linear_model):
    server = serve(linear_model, max_receive_bytes=400)
    scorer = Scorer(predictor(server))
    assert scored(scorer, X) == Y
    assert (scorer.safe_records, server.scored) == (10, 40)
    found = scored(scorer, [*X[:3], example(x=3.0, padding="." * 500), *X[4:6]])
    assert found.pop(3).error_type == "OutOfMemory"
    assert found == [0.0, 5.0, 10.0, 20.0, 25.0]


def test_batch_that_the_server_has_no_memory_for_is_halved(serve, linear_model):
    oom = failing(grpc.StatusCode.RESOURCE_EXHAUSTED, "OOM when allocating tensor with shape[40]")
    scorer = Scorer(predictor(serve(linear_model, faults=[oom])))
    assert scored(scorer, X) == Y
    assert scorer.safe_records == 20
