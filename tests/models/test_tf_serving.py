"""A server that speaks TensorFlow Serving's API, over real connections; nothing may get lost."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import itertools
import pickle
import re
import socket
from dataclasses import replace

import grpc
import numpy as np
import pytest
import tensorflow as tf

from bulk_inferencer._formats.first_records import of_batch
from bulk_inferencer._formats.record_format import FORMAT_PROTO, FORMAT_TF_EXAMPLE
from bulk_inferencer._models.predictor import OutOfMemory, RecordError
from bulk_inferencer._models.retries import Limits
from bulk_inferencer._models.tf_serving import TFServing
from bulk_inferencer._signatures import CLASSIFY, REGRESS
from bulk_inferencer.errors import EndpointError, ModelError, SettingsError
from tests.helpers import RECORDS, exactly, example, save_functions
from tests.models.fakes import assert_masked
from tests.models.model_server import (
    NAME,
    TOKEN,
    ModelServer,
    answering,
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


def test_results_of_every_method_are_those_of_local_mode(serve, tf1_model):
    server = serve(tf1_model)
    names = ("predict", "regress", "serving_default")
    assert_as_local(tf1_model, predictor(server, *names).predict(X), X, *names)
    assert [call.method for call in server.calls] == ["Predict", "Regress", "Classify"]
    for method, kind, names in [
        ("Classify", CLASSIFY, ["serving_default", "scores_only", "classes_only"]),
        ("Regress", REGRESS, ["regress", "regress_column"]),
    ]:
        for signature in names:
            loaded = predictor(server, signature)
            assert_as_local(tf1_model, loaded.predict(X), X, signature)
            assert server.calls[-1][:3] == (method, signature, 40)
            assert loaded.signatures[0].method == kind


def test_records_of_any_format_go_to_a_string_input(serve, tmp_path):
    function = (lambda data: {"n": tf.strings.length(data)}, {"data": RECORDS})
    server = serve(save_functions(tmp_path, serving_default=function))
    loaded = predictor(server, record_format=FORMAT_PROTO)
    assert loaded.input_name == "data"
    assert loaded.predict([b"", b"\0\0", b"\xff" * 300]).outputs["n"].tolist() == [0, 2, 300]


def test_string_input_named_like_a_feature_gets_that_feature(serve, tmp_path):
    function = (lambda text: {"n": tf.strings.length(text)}, {"text": RECORDS})
    model = tf_serving(serve(save_functions(tmp_path, serving_default=function)))
    records = [example(text="abc"), example(text="")]
    for found, expected in ((of_batch(records), [3, 0]), (of_batch(X), [len(r) for r in records])):
        fitted = model.fitted(FORMAT_TF_EXAMPLE, found)
        assert fitted.load(FORMAT_TF_EXAMPLE).predict(records).outputs["n"].tolist() == expected
    assert replace(model, takes_records=True).fitted(FORMAT_TF_EXAMPLE, found).takes_records is True


@pytest.mark.parametrize(
    ("settings", "sent", "uri"),
    [({}, "", ""), ({"version": 7}, "7", "/versions/7"),
     ({"version_label": "stable"}, "stable", "/labels/stable")],
)  # fmt: skip
def test_version_is_asked_for_and_the_one_that_answered_is_known(
    serve, linear_model, settings, sent, uri
):
    server = serve(linear_model, labels={"stable": 7})
    model = tf_serving(server, **settings)
    assert model.uri == f"grpc://{server.address}/{NAME}{uri}"
    assert bool(model.fingerprint()) == ("version" in settings)
    assert pickle.loads(pickle.dumps(model)) == model
    loaded = model.load(FORMAT_TF_EXAMPLE)
    assert model.check(FORMAT_TF_EXAMPLE) == loaded.signatures
    prediction = loaded.predict(X)
    assert_as_local(linear_model, prediction, X)
    assert prediction.versions == {"7"}
    assert [call.spec for call in server.calls] == [sent]


def test_model_that_changes_in_mid_run_is_noticed(serve, linear_model, caplog):
    server = serve(linear_model, damages=map(answering, [7, 8, 8, 7, 9]))
    loaded = predictor(server)
    found = [loaded.predict(X).versions for _ in range(4)]
    assert found == [{"7"}, {"8"}, {"8"}, {"7"}]
    (warning,) = caplog.messages
    assert warning == (
        f"grpc://{server.address}/{NAME} answered with version 8 of its model after version 7. "
        f"The results hold predictions of both. Set TFServing.version to ask for one of them."
    )
    message = (
        f"grpc://{server.address}/{NAME}/versions/7 was asked for version 7, but answered with "
        f"version 9. Check what the server is."
    )
    with pytest.raises(EndpointError, match=exactly(message)):
        predictor(server, version=7).predict(X)


def test_secrets_are_not_shown_even_if_the_server_shows_them(serve, linear_model, caplog):
    def showing(code):
        return failing(code, f"not allowed: authorization: Bearer {TOKEN}")

    codes = ("UNAVAILABLE", "INTERNAL", "INVALID_ARGUMENT", "PERMISSION_DENIED")
    faults = [showing(grpc.StatusCode[code]) for code in codes]
    faults.insert(2, None)  # a record that is scored after INTERNAL
    server = serve(linear_model, faults=faults, token=TOKEN)
    model = tf_serving(server, credentials=functools.partial(client_credentials, TOKEN))
    proxy = (("grpc.http_proxy", f"http://{TOKEN}@proxy"),)
    shown = [repr(model), repr(replace(model, channel_options=proxy))]
    assert_masked(TOKEN, model.load(FORMAT_TF_EXAMPLE), X, shown, caplog)


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


AGAIN = None
STATUSES = [
    ("ABORTED", "as planned", AGAIN),
    ("RESOURCE_EXHAUSTED", "OOM when allocating tensor with shape[40]", OutOfMemory),
    ("UNAUTHENTICATED", "no token", EndpointError),
    ("INVALID_ARGUMENT", "Feature: x is required", RecordError),
]


@pytest.mark.parametrize(("code", "details", "raised"), STATUSES)
def test_status_tells_who_is_at_fault(serve, linear_model, code, details, raised):
    # A session adds the place in its graph to what is wrong with the data.
    sent = f"{details} [Op:Inference]" if raised is RecordError else details
    server = serve(linear_model, faults=[failing(grpc.StatusCode[code], sent)])
    loaded = predictor(server)
    if raised is AGAIN:
        assert_as_local(linear_model, loaded.predict(X), X)
    else:
        with pytest.raises(raised, match=re.escape(details)) as caught:
            loaded.predict(X)
        assert "Op:" not in str(caught.value)
    assert [call.count for call in server.calls] == [40] * (1 if raised else 2)
    assert server.scored == (0 if raised else 40)


def test_status_that_leaves_it_open_is_settled_by_other_records(serve, linear_model):
    server = serve(linear_model, faults=[failing(grpc.StatusCode.INTERNAL)])
    loaded = predictor(server)
    with pytest.raises(RecordError, match=exactly("INTERNAL: as planned")):
        loaded.predict(X)
    assert [call.count for call in server.calls] == [40, 1]
    assert_as_local(linear_model, loaded.predict(X[:20]), X[:20])


def test_faults_that_pass_cost_no_record_however_many_there_are(serve, linear_model):
    server = serve(linear_model, faults=[failing(grpc.StatusCode.ABORTED)] * 40)
    assert_as_local(linear_model, predictor(server, pauses=[]).predict(X[:16]), X[:16])
    assert [call.count for call in server.calls] == [16] * 41


def test_model_or_version_that_is_not_served_is_named(serve, linear_model):
    server = serve(linear_model)
    for name, version in (("ten_times", 7), (NAME, 8)):
        message = (
            f"grpc://{server.address}/{name}/versions/{version} did not describe its signatures: "
            f"NOT_FOUND: Servable not found for request: Specific({name}, {version}). Check the "
            f"address, and the model's name and version."
        )
        with pytest.raises(EndpointError, match=exactly(message)):
            TFServing(server.address, name, version).load(FORMAT_TF_EXAMPLE)


def test_server_out_of_reach_is_an_error_after_the_time_of_one_request(serve, linear_model):
    """No server, and one that the client cannot talk to, without TLS or without trust."""
    tls = serve(linear_model, token=TOKEN).address
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"127.0.0.1:{taken.getsockname()[1]}"
    untrusting = "grpc:ssl_channel_credentials"
    for address, credentials in ((nobody, None), (tls, None), (tls, untrusting)):
        message = f"No answer from grpc://{address}/{NAME} within 0.5 s; attempts: "
        model = TFServing(address, NAME, credentials=credentials, limits=Limits(0.5, 20))
        with pytest.raises(EndpointError, match=f"^{message}.*, the last: UNAVAILABLE: "):
            model.check(FORMAT_TF_EXAMPLE)


def test_signature_and_rows_that_the_model_lacks_are_named(serve, tmp_path):
    function = (lambda examples: {"y": tf.zeros([2, 7])}, {"examples": RECORDS})
    damages = [None, lambda r: r.outputs["y"].tensor_shape.dim.add(size=3), lambda r: r.Clear()]
    server = serve(save_functions(tmp_path, serving_default=function), damages=damages)
    with pytest.raises(ModelError, match=r"^Signature 'other' .* Correct TFServing\.signatures\.$"):
        tf_serving(server, "other").check(FORMAT_TF_EXAMPLE)
    loaded = predictor(server)
    with pytest.raises(ModelError, match=r"^Output 'y' has shape \(2, 7\) for a batch of 40\."):
        loaded.predict(X)
    with pytest.raises(EndpointError, match=r"^grpc://\S+ answered with a tensor that cannot be "):
        loaded.predict(X[:2])
    with pytest.raises(EndpointError, match=r"^grpc://\S+ answered with the outputs none, but its"):
        loaded.predict(X[:2])


def test_settings_that_name_no_model_are_refused():
    for address, name in (("", NAME), ("a:1", "")):
        message = (
            f"TFServing needs an address (host:port) and a model_name, but has {address!r} and "
            f"{name!r}. Fill in both."
        )
        with pytest.raises(SettingsError, match=exactly(message)):
            TFServing(address, name)
    message = (
        "TFServing takes either a version or a version_label, but has both: 7 and 'stable'. Leave "
        "out one of them."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        TFServing("a:1", NAME, 7, "stable")


def test_credentials_that_cannot_be_imported_are_named():
    model = TFServing("localhost:8500", NAME, credentials="tests.none:credentials")
    with pytest.raises(SettingsError, match=r"^Could not import TFServing\.credentials 'tests\.no"):
        model.load(FORMAT_TF_EXAMPLE)


def test_requests_have_the_deadline_that_they_are_given(serve, linear_model):
    server = serve(linear_model)
    predictor(server, limits=Limits(request_seconds=7, total_seconds=60)).predict(X)
    assert 0 < server.calls[0].seconds_left < 8


@slow
def test_server_that_dies_in_mid_call_is_found_when_it_is_back(serve, linear_model):
    server = serve(linear_model, faults=[None, lambda context: server.stop()])
    loaded, pauses = predictor(server), []

    def come_back(seconds):
        pauses.append(seconds)
        if len(pauses) == 3:  # after attempts at no server
            server.start()

    loaded._caller._sleep = come_back
    batches = [X[i : i + 10] for i in range(0, 40, 10)]
    found = [loaded.predict(batch).outputs["y"] for batch in batches]
    assert np.concatenate(found)[:, 0].tolist() == Y
    assert len(pauses) >= 3
    # The answer to the second batch was lost; its records are scored twice and returned once.
    assert [call.count for call in server.calls] == [10] * 5


@slow
def test_threads_that_share_a_predictor_lose_nothing_while_requests_fail(serve, linear_model):
    faults = itertools.cycle([None, unavailable, None])
    server = serve(linear_model, faults=faults, metadata_faults=[unavailable])
    loaded = predictor(server)
    batches = [X[i : i + 5] for i in range(40)]
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        predictions = list(threads.map(loaded.predict, batches))
    for i, prediction in enumerate(predictions):
        assert prediction.outputs["y"][:, 0].tolist() == Y[i : i + 5]
    assert server.scored == sum(map(len, batches))


def test_batch_that_is_too_large_for_the_server_costs_no_records(serve, linear_model):
    server = serve(linear_model, max_receive_bytes=400)
    with pytest.raises(OutOfMemory, match="larger than max"):
        predictor(server).predict(X)
