"""A Vertex AI endpoint: Google's own client against a server on loopback."""

from __future__ import annotations

import base64
import contextlib
import email.utils
import functools
import itertools
import json
import pickle
import re
import sys
import time

import grpc
import numpy as np
import pytest
from google.auth.exceptions import RefreshError
from google.oauth2.credentials import Credentials

from bulk_inferencer._formats.record_format import FORMAT_PROTO, FORMAT_TF_EXAMPLE
from bulk_inferencer._models.predictor import OutOfMemory, RecordError
from bulk_inferencer._models.retries import Limits
from bulk_inferencer._models.vertex import VertexEndpoint
from bulk_inferencer._signatures import PREDICT, Signature
from bulk_inferencer.errors import EndpointError, MissingExtraError, ModelError, SettingsError
from tests.helpers import exactly, example
from tests.models.fakes import assert_masked
from tests.models.vertex_server import ENDPOINT, URI, Reply, VertexServer, make_client, predictor

X = [example(x=float(x)) for x in range(20)]
Y = [5.0 * x for x in range(20)]
RAW = pytest.mark.parametrize("raw", [False, True], ids=["predict", "raw"])
HERE = __name__


@pytest.fixture
def serve():
    """Starts servers, which stop when the test is over."""
    with contextlib.ExitStack() as servers:
        yield lambda *answer, **settings: servers.enter_context(VertexServer(*answer, **settings))


def y_of(predictor, records=X):
    return predictor.predict(records).outputs["outputs"].tolist()


def b64(value):
    return {"b64": base64.b64encode(value).decode()}


@RAW
def test_records_go_as_they_are_to_the_input_that_is_named(serve, raw):
    server = serve(lambda instances: [[1.0], [2.0]])
    loaded = predictor(server, raw=raw, input_name="data")
    assert loaded.input_name == "data"
    assert y_of(loaded, [b"", b"\xff\0"]) == [[1.0], [2.0]]
    assert server.calls[0].instances == [{"data": b64(b"")}, {"data": b64(b"\xff\0")}]


@RAW
def test_features_and_predictions_are_sent_and_read_as_json_has_them(serve, raw):
    predictions = [{"b": b64(b"\xff\0"), "a": [1, None]}, {"a": [2.5, 3], "b": "ä"}]
    server = serve(lambda instances: predictions)
    loaded = predictor(server, raw=raw)
    assert loaded.input_name == "examples"
    records = [example(x=0.1, n=2**53, words=[b"\xff\0", "b"], none=[]), example(x=-1.0)]
    outputs = loaded.predict(records).outputs
    assert list(outputs) == ["a", "b"]
    np.testing.assert_array_equal(outputs["a"], [[1, np.nan], [2.5, 3]])
    assert outputs["b"].tolist() == [b"\xff\0", "ä".encode()]
    assert server.calls[0].instances == [
        {"x": np.float32(0.1), "n": 2**53, "words": [b64(b"\xff\0"), b64(b"b")], "none": []},
        {"x": -1.0},
    ]


def test_raw_request_has_the_body_that_the_container_takes(serve):
    server = serve()
    predictor(server, raw=True, signature="other").predict([example(x=1.0, n=2**60 + 1)])
    ((method, _, content, _),) = server.calls
    assert method == "rawPredict"
    assert content == {"signature_name": "other", "instances": [{"x": 1.0, "n": 2**60 + 1}]}


@RAW
def test_version_that_answered_is_known(serve, raw):
    for versions, known in ((("11", "3"), {"3"}), (("11", ""), {"11"}), (("", ""), set())):
        assert predictor(serve(versions=versions), raw=raw).predict(X).versions == known


AGAIN = None
STATUSES = [
    *((status, "busy", AGAIN) for status in (409, 503)),
    # Errors of a proxy, which Google's client cannot read.
    *((503, body, AGAIN) for body in (b"<html>not JSON</html>", b'{"error": "no"}', b'["no"]')),
    (413, "as planned", OutOfMemory),
    (400, "Request payload size exceeds the limit: 1572864 bytes", OutOfMemory),
    *((status, "no way", EndpointError) for status in (401, 403)),
    *((status, "bad instance", RecordError) for status in (400, 422)),
]


@RAW
@pytest.mark.parametrize(("status", "told", "raised"), STATUSES)
def test_status_tells_who_is_at_fault(serve, raw, status, told, raised):
    server = serve(faults=itertools.repeat(Reply(status, told), 9 if raised else 1))
    loaded = with_token(server, raw=raw)
    if raised:
        with pytest.raises(raised, match=told) as caught:
            loaded.predict(X)
        if raised is EndpointError:
            advice = "Check the endpoint's name, the location and the credentials."
            message = f"{re.escape(URI)} refused a request: HTTP {status}: {told}\\. {advice}"
            assert re.fullmatch(message, str(caught.value))
    else:
        assert y_of(loaded) == Y
        assert len(server.calls) == 2
    assert {call.authorization for call in server.calls} == {"Bearer token"}
    assert {len(call.instances) for call in server.calls} == {20}


PRECONDITION = {"error": {"status": "FAILED_PRECONDITION", "message": "no"}}


@pytest.mark.parametrize(
    ("raw", "status", "body", "told"),
    [(False, 500, "boom", "HTTP 500: boom"), (True, 500, "boom", "HTTP 500: boom"),
     (False, 400, PRECONDITION, "HTTP 400: no"), (True, 400, PRECONDITION, "HTTP 400: no"),
     (True, 500, b'{"error": "boom"}', "HTTP 500: boom"), (True, 500, b"boom", "HTTP 500: boom")],
)  # fmt: skip
def test_status_that_leaves_it_open_is_settled_by_other_records(serve, raw, status, body, told):
    server = serve(faults=[Reply(status, body)])
    loaded = predictor(server, raw=raw)
    with pytest.raises(RecordError, match=exactly(told)):
        loaded.predict(X)
    assert [len(call.instances) for call in server.calls] == [20, 1]
    assert y_of(loaded) == Y


@RAW
def test_secrets_are_not_shown_even_if_the_endpoint_shows_them(serve, raw, caplog):
    told = "not allowed: Authorization: Bearer let-me-in"
    faults = [Reply(status, told) for status in (503, 500, 400, 403)]
    faults.insert(2, None)  # a record that is scored after 500
    loaded = with_token(serve(faults=faults), raw=raw)
    assert_masked("let-me-in", loaded, X, [repr(loaded._model)], caplog)


@RAW
@pytest.mark.parametrize("fault", ["cut", "cut short", "stall"])
def test_request_is_made_again_after_a_connection_fails(serve, raw, fault):
    server = serve(faults=[fault])
    assert y_of(predictor(server, raw=raw, limits=Limits(0.5, 60))) == Y
    assert len(server.calls) == 2


@RAW
def test_pause_is_what_the_endpoint_asks_for(serve, raw):
    later, before = (email.utils.formatdate(time.time() + n, usegmt=True) for n in (90, -90))
    for retry_after, at_least, at_most in [
        ("17", 17, 17), (later, 80, 90), (before, 0, 0.1), ("soon", 0, 0.1)
    ]:  # fmt: skip
        pauses = []
        server = serve(faults=[Reply(429, headers={"Retry-After": retry_after})])
        predictor(server, raw=raw, pauses=pauses).predict(X)
        assert at_least <= pauses[0] <= at_most


def test_record_that_cannot_be_an_instance_fails_before_it_is_sent(serve):
    server = serve()
    for bad, error in {b"bad": "DecodeError", example(x=1.0, n=2**53 + 1): "ValueError"}.items():
        with pytest.raises(RecordError, match=f"^{error}: "):
            predictor(server).predict([X[0], bad])
    assert server.calls == []


def test_connection_that_cannot_be_encrypted_is_an_error_at_once(serve):
    client = functools.partial(make_client, serve().url.replace("http://", "https://"))
    message = (
        rf"^Could not make an encrypted connection to {re.escape(URI)}: .*\. Check the "
        rf"certificates of the worker and of the server\.$"
    )
    with pytest.raises(EndpointError, match=message):
        predictor(serve(), client=client).predict(X)


def with_token(server, error=None, **settings):
    """Returns a predictor whose credentials are refreshed without effect, or with an error."""

    def refresh(request):
        if error:
            raise error

    credentials = Credentials("token")
    credentials.refresh = refresh
    client = functools.partial(make_client, server.url, credentials)
    return predictor(server, client=client, **settings)


def test_credentials_that_expired_are_an_error_and_others_are_refreshed_again(serve):
    message = (
        f"No valid credentials for {URI}: RefreshError: expired. Give workers a service account, "
        f"or set VertexEndpoint.client."
    )
    with pytest.raises(EndpointError, match=exactly(message)):
        with_token(serve(faults=[Reply(401)]), RefreshError("expired")).predict(X)
    busy = RefreshError("busy", retryable=True)
    assert y_of(with_token(serve(faults=[Reply(401)]), busy)) == Y


@RAW
def test_outputs_that_change_in_mid_run_are_an_error(serve, raw):
    loaded = predictor(serve(lambda x: [{"a": 1.0} if len(x) == 1 else {"b": 1.0}] * len(x)))
    loaded.predict(X)
    message = (
        f"{URI} answered with the outputs a, but its model has b. Check whether the model was "
        f"replaced, and run again."
    )
    with pytest.raises(EndpointError, match=exactly(message)):
        loaded.predict(X[:1])


@RAW
def test_number_of_predictions_has_to_be_that_of_the_instances(serve, raw):
    message = f"{URI} returned 1 predictions for 20 instances. Return one for each instance."
    with pytest.raises(EndpointError, match=exactly(message)):
        predictor(serve(lambda instances: [1.0]), raw=raw).predict(X)


@pytest.mark.parametrize(
    "body",
    [b"<html>", b"\xff", b"", {"outputs": [1.0]}, [1.0], {"predictions": None}],
    ids=["text", "bytes", "nothing", "columns", "list", "null"],
)
def test_answer_without_predictions_is_shown(serve, body):
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    start = f"{URI} did not answer with JSON that has a list of predictions, but with"
    message = f"{start} {sent!r}. Check what the container returns."
    with pytest.raises(EndpointError, match=exactly(message)):
        predictor(serve(faults=[Reply(200, body)]), raw=True).predict(X)
    with pytest.raises(EndpointError, match=f"^{re.escape(start)} Failed to load JSON: "):
        predictor(serve(faults=[Reply(200, b"<html>")])).predict(X)


def grpc_client():
    from google.cloud.aiplatform_v1 import PredictionServiceClient

    grpc_transport = PredictionServiceClient.get_transport_class("grpc")
    transport = grpc_transport(channel=grpc.insecure_channel("127.0.0.1:1"))
    return PredictionServiceClient(transport=transport)


def test_clients_with_another_transport_report_errors_alike_and_make_no_raw_requests():
    model = VertexEndpoint(ENDPOINT, client=f"{HERE}:grpc_client", limits=Limits(0.2, 0.2))
    message = rf"^No answer from {re.escape(URI)} within 0\.2 s; attempts: \d+, the last: UNAV"
    with pytest.raises(EndpointError, match=message):
        model.load(FORMAT_TF_EXAMPLE).predict(X)
    message = (
        "Raw requests need the REST transport, but VertexEndpoint.client has grpc. Create the "
        "client with transport='rest'."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        VertexEndpoint(ENDPOINT, raw=True, client=grpc_client).load(FORMAT_TF_EXAMPLE)
    with pytest.raises(SettingsError, match=r"^Could not import VertexEndpoint\.client 'tests\.no"):
        VertexEndpoint(ENDPOINT, client="tests.none:client").load(FORMAT_TF_EXAMPLE)


def test_default_client_is_for_the_location_with_the_default_credentials(tmp_path, monkeypatch):
    path, model = tmp_path / "account.json", VertexEndpoint(ENDPOINT, raw=True)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    message = f"No valid credentials for {URI}: DefaultCredentialsError: File {path} was not found"
    with pytest.raises(EndpointError, match=f"^{re.escape(message)}"):
        model.load(FORMAT_TF_EXAMPLE)
    names = ("client_id", "client_secret", "refresh_token", "quota_project_id")
    path.write_text(json.dumps({"type": "authorized_user", **dict.fromkeys(names, "tests")}))
    transport = model.load(FORMAT_TF_EXAMPLE)._client.transport
    assert transport.kind == "rest"
    assert transport.host == "https://us-central1-aiplatform.googleapis.com"


def test_settings_and_records_that_make_no_instances_are_refused():
    for name in ("", "5", f"{ENDPOINT}/x", f"/{ENDPOINT}"):
        message = (
            f"VertexEndpoint.name must be projects/<project>/locations/<location>/endpoints/"
            f"<endpoint>, not {name!r}. Copy it from the endpoint's page."
        )
        with pytest.raises(SettingsError, match=exactly(message)):
            VertexEndpoint(name)
    message = (
        f"Instances for {URI} can only be made from FORMAT_TF_EXAMPLE records, not from "
        f"FORMAT_PROTO. Set VertexEndpoint.input_name to send records as they are, or write a "
        f"preprocess function that returns a serialized tf.Example for each."
    )
    with pytest.raises(ModelError, match=exactly(message)):
        VertexEndpoint(ENDPOINT).check(FORMAT_PROTO)
    assert VertexEndpoint(ENDPOINT, input_name="data").check(FORMAT_PROTO)


def test_signature_is_known_without_asking_the_endpoint():
    model = VertexEndpoint(ENDPOINT, signature="other", client="never.called:here")
    assert model.check(FORMAT_TF_EXAMPLE) == (Signature("other", PREDICT),)
    assert (model.uri, model.fingerprint()) == (URI, "")
    assert pickle.loads(pickle.dumps(model)) == model


def test_extra_that_is_missing_is_named_before_the_run(monkeypatch):
    monkeypatch.setitem(sys.modules, "google.cloud.aiplatform_v1", None)  # as if not installed
    message = r"^VertexEndpoint needs google\.cloud\.aiplatform_v1, .*'bulk-inferencer\[vertex\]'$"
    for call in (VertexEndpoint(ENDPOINT).check, VertexEndpoint(ENDPOINT).load):
        with pytest.raises(MissingExtraError, match=message):
            call(FORMAT_TF_EXAMPLE)
