"""What a Vertex AI endpoint may get wrong, and its settings: each error in its full text."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import re

import grpc
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth.credentials import Credentials
from google.auth.exceptions import RefreshError

from bulk_inferencer._models.batching import Scorer
from bulk_inferencer._models.predictor import FORMAT_PROTO, FORMAT_TF_EXAMPLE
from bulk_inferencer._models.retries import Limits
from bulk_inferencer.beam import VertexEndpoint
from bulk_inferencer.errors import EndpointError, ModelError, SettingsError
from tests.helpers import exactly, example
from tests.vertex_server import (
    ENDPOINT,
    URI,
    Reply,
    VertexServer,
    make_client,
    predictor,
)

X = [example(x=float(x)) for x in range(20)]
RAW = pytest.mark.parametrize("raw", [False, True], ids=["predict", "raw"])


@pytest.fixture
def serve():
    """Starts servers, which stop when the test is over."""
    with contextlib.ExitStack() as servers:
        yield lambda *answer, **settings: servers.enter_context(VertexServer(*answer, **settings))


# Errors


@RAW
def test_endpoint_that_never_answers_is_an_error_after_the_time_limit(serve, raw):
    server = serve(faults=itertools.repeat(Reply(503, headers={"Retry-After": "1000"})))
    url = f"POST {server.url}/v1/{ENDPOINT}:predict?%24alt=json%3Benum-encoding%3Dint: as planned"
    told = '{"error": {"code": 503, "message": "as planned"}}' if raw else url
    message = (
        f"Expected an answer from {URI} within 600 s, got none; attempts: 1, the last: 503: "
        f"{told}. Check that the server is up and can take the load, or raise the time limit."
    )
    with pytest.raises(EndpointError, match=exactly(message)):
        predictor(server, raw=raw).predict(X)


@RAW
@pytest.mark.parametrize("body", [b'{"error": "overloaded"}', b'["slow down"]'])
def test_overload_that_is_told_in_another_form_than_googles_passes(serve, raw, body):
    server = serve(faults=[Reply(503, body)])
    outputs = predictor(server, raw=raw).predict(X)
    assert len(outputs["outputs"]) == len(X)
    assert len(server.calls) == 2


@RAW
def test_endpoint_without_a_model_costs_no_records(serve, raw):
    body = b'{"error": {"code": 400, "message": "FAILED_PRECONDITION: no deployed models"}}'
    server = serve(faults=itertools.repeat(Reply(400, body)))
    with pytest.raises(EndpointError, match=rf"^Expected {re.escape(URI)} to answer, got 400: "):
        list(Scorer(predictor(server, raw=raw)).score(X))
    assert len(server.calls) == 1


def test_connection_that_cannot_be_encrypted_is_an_error_at_once(serve):
    server = serve()
    client = functools.partial(make_client, server.url.replace("http://", "https://"))
    message = (
        rf"^Expected an encrypted connection to {re.escape(URI)}, got .*Check the certificates"
    )
    with pytest.raises(EndpointError, match=message):
        predictor(server, client=client).predict(X)


class Token(Credentials):
    """Credentials that cannot be refreshed, as some cannot, or without effect."""

    def __init__(self, error=None):
        super().__init__()
        self.token = "token"
        self.error = error

    def refresh(self, request):
        if self.error:
            raise self.error


def with_token(server, error=None, **settings):
    client = functools.partial(make_client, server.url, Token(error))
    return predictor(server, client=client, **settings)


@RAW
@pytest.mark.parametrize("status", [401, 403, 404, 405, 501])
def test_error_of_the_endpoint_costs_no_records(serve, raw, status):
    server = serve(faults=itertools.repeat(Reply(status, b"no way")))
    url = f"POST {server.url}/v1/{ENDPOINT}:predict?%24alt=json%3Benum-encoding%3Dint: no way"
    message = (
        f"Expected {URI} to answer, got {status}: {'no way' if raw else url}. Check the endpoint's "
        f"name, the location and the credentials."
    )
    with pytest.raises(EndpointError, match=exactly(message)):
        list(Scorer(with_token(server, raw=raw)).score(X))
    assert {call.authorization for call in server.calls} == {"Bearer token"}
    assert {len(call.instances) for call in server.calls} == {20}


def test_credentials_that_expired_are_an_error(serve):
    server = serve(faults=[Reply(401)])
    message = (
        f"Expected credentials for {URI}, got RefreshError: expired. Give workers a service "
        f"account, or set VertexEndpoint.client."
    )
    with pytest.raises(EndpointError, match=exactly(message)):
        with_token(server, RefreshError("expired")).predict(X)


def test_credentials_that_cannot_be_refreshed_for_now_are_asked_again(serve):
    server = serve(faults=[Reply(401)])
    error = RefreshError("busy", retryable=True)
    outputs = with_token(server, error).predict(X)
    assert outputs["outputs"].tolist() == [5.0 * x for x in range(20)]


@RAW
def test_number_of_predictions_has_to_be_that_of_the_instances(serve, raw):
    message = (
        f"Expected 20 predictions for 20 instances, got 1 from {URI}. Return one per instance."
    )
    with pytest.raises(EndpointError, match=exactly(message)):
        predictor(serve(lambda instances: [1.0]), raw=raw).predict(X)


def test_predictions_have_to_have_the_same_outputs(serve):
    message = (
        f"Expected every prediction of a batch to have the outputs a, b, got a, c from {URI}. "
        f"Return the same outputs for each instance."
    )
    server = serve(lambda instances: [{"a": 1, "b": 2}, {"a": 1, "c": 2}])
    with pytest.raises(EndpointError, match=exactly(message)):
        predictor(server).predict(X[:2])


@pytest.mark.parametrize(
    "predictions", [[[1.0], [1.0, 2.0]], [["a"], ["b", "c"]], [1.0, [2.0]], [[[1], [2]], [[1, 2]]]]
)
def test_predictions_have_to_have_one_shape(serve, predictions):
    message = (
        f"Expected output 'outputs' to have one shape for all records of a batch, got different "
        f"ones from {URI}. Pad it to one length."
    )
    with pytest.raises(EndpointError, match=exactly(message)):
        predictor(serve(lambda instances: predictions)).predict(X[:2])


@pytest.mark.parametrize(
    ("predictions", "kinds"),
    [
        (["NaN", 1.0], "numbers and strings"),
        ([["a", True], ["b", False]], "booleans and strings"),
        ([{"y": {"z": 1}}, {"y": {"z": 2}}], "objects"),
    ],
)
def test_values_of_an_output_have_to_be_of_one_kind(serve, predictions, kinds):
    name = "y" if kinds == "objects" else "outputs"
    message = (
        f"Expected output '{name}' to consist of numbers, of strings or of booleans, got {kinds} "
        f"from {URI}. Return values of one kind, under a name of their own."
    )
    with pytest.raises(EndpointError, match=exactly(message)):
        predictor(serve(lambda instances: predictions)).predict(X[:2])


@pytest.mark.parametrize(
    "body",
    [b"<html>", b"\xff", b"", {"outputs": [1.0]}, [1.0], {"predictions": None}],
    ids=["text", "bytes", "nothing", "columns", "list", "null"],
)
def test_raw_answer_without_predictions_is_shown(serve, body):
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    message = (
        f"Expected JSON with a list of predictions from {URI}, got {sent!r}. Check what the "
        f"container returns."
    )
    with pytest.raises(EndpointError, match=exactly(message)):
        predictor(serve(faults=[Reply(200, body)]), raw=True).predict(X)


def test_answer_that_is_no_json_is_an_error(serve):
    start = f"Expected JSON with a list of predictions from {URI}, got Failed to load JSON: "
    end = ". Check what the container returns."
    with pytest.raises(EndpointError, match=f"^{re.escape(start)}.*{re.escape(end)}$"):
        predictor(serve(faults=[Reply(200, b"<html>")])).predict(X)


# Clients and settings


def grpc_client():
    from google.cloud.aiplatform_v1 import PredictionServiceClient
    from google.cloud.aiplatform_v1.services.prediction_service.transports import (
        PredictionServiceGrpcTransport,
    )

    channel = grpc.insecure_channel("127.0.0.1:1")
    return PredictionServiceClient(transport=PredictionServiceGrpcTransport(channel=channel))


def test_raw_requests_need_a_client_for_rest():
    message = (
        "Expected VertexEndpoint.client to return a client with the REST transport for raw "
        "requests, got grpc. Make it with transport='rest'."
    )
    model = VertexEndpoint(ENDPOINT, raw=True, client="tests.test_vertex_errors:grpc_client")
    with pytest.raises(SettingsError, match=exactly(message)):
        model.load(FORMAT_TF_EXAMPLE)


def test_client_with_another_transport_reports_errors_alike():
    model = VertexEndpoint(ENDPOINT, client=grpc_client, limits=Limits(0.2, 0.2))
    start = f"Expected an answer from {URI} within 0.2 s, got none; attempts: "
    end = ". Check that the server is up and can take the load, or raise the time limit."
    message = rf"^{re.escape(start)}\d+, the last: 503: .*{re.escape(end)}$"
    with pytest.raises(EndpointError, match=message):
        model.load(FORMAT_TF_EXAMPLE).predict(X)


def test_client_that_cannot_be_imported_is_named():
    message = (
        "Expected a function as VertexEndpoint.client, named as package.module:function, got "
        "'tests.none:client': No module named 'tests.none'. Install its module on every worker."
    )
    model = VertexEndpoint(ENDPOINT, client="tests.none:client")
    with pytest.raises(SettingsError, match=exactly(message)):
        model.load(FORMAT_TF_EXAMPLE)


def test_default_client_is_for_the_location_with_the_default_credentials(tmp_path, monkeypatch):
    key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    account = {
        "type": "service_account",
        "client_email": "tests@example.com",
        "token_uri": "https://example.com",
        "private_key": key.decode(),
        "project_id": "tests",
    }
    path = tmp_path / "account.json"
    path.write_text(json.dumps(account))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    client = VertexEndpoint(ENDPOINT, raw=True).load(FORMAT_TF_EXAMPLE)._client
    assert client.transport.kind == "rest"
    assert client.transport.host == "https://us-central1-aiplatform.googleapis.com"


def test_default_client_without_credentials_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", f"{tmp_path}/none.json")
    message = (
        f"Expected credentials for {URI}, got DefaultCredentialsError: File {tmp_path}/none.json "
        f"was not found.. Give workers a service account, or set VertexEndpoint.client."
    )
    with pytest.raises(EndpointError, match=exactly(message)):
        VertexEndpoint(ENDPOINT).load(FORMAT_TF_EXAMPLE)


@pytest.mark.parametrize("name", ["", "5", f"{ENDPOINT}/x", f"/{ENDPOINT}"])
def test_name_has_to_be_that_of_an_endpoint(name):
    message = (
        f"Expected projects/<project>/locations/<location>/endpoints/<endpoint> as name of a "
        f"VertexEndpoint, got {name!r}. Copy it from the endpoint's page."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        VertexEndpoint(name)


def test_features_can_be_taken_from_examples_only():
    message = (
        f"Expected FORMAT_TF_EXAMPLE records to make instances for {URI} from, got FORMAT_PROTO. "
        f"Set input_name to send records as they are."
    )
    with pytest.raises(ModelError, match=exactly(message)):
        VertexEndpoint(ENDPOINT).check(FORMAT_PROTO)
    assert VertexEndpoint(ENDPOINT, input_name="data").check(FORMAT_PROTO)
