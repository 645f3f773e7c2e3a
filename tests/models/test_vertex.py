"""A Vertex AI endpoint: Google's own client against a server on loopback."""

from __future__ import annotations

import base64
import contextlib
import datetime
import email.utils
import functools
import itertools
import json
import pickle
import re
import sys

import grpc
import numpy as np
import pytest
import tensorflow as tf
from google.auth.exceptions import RefreshError
from google.oauth2.credentials import Credentials

from bulk_inferencer._formats.record_format import FORMAT_PROTO, FORMAT_TF_EXAMPLE
from bulk_inferencer._models.predictor import RecordError
from bulk_inferencer._models.retries import Limits
from bulk_inferencer._models.saved_model import SavedModel
from bulk_inferencer._models.scorer import Scorer
from bulk_inferencer._models.vertex import VertexEndpoint
from bulk_inferencer._signatures import PREDICT, Signature
from bulk_inferencer.errors import EndpointError, MissingExtraError, ModelError, SettingsError
from tests.helpers import exactly, example
from tests.models.fakes import scored
from tests.models.vertex_server import (
    ENDPOINT,
    URI,
    BadInstance,
    Reply,
    VertexServer,
    make_client,
    predictor,
)

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


def answering(path):
    """Returns what answers with a SavedModel that takes records."""
    model = tf.saved_model.load(path)

    def answer(instances):
        records = [base64.b64decode(instance["examples"]["b64"]) for instance in instances]
        try:
            (output,) = model.signatures["serving_default"](tf.constant(records)).values()
        except tf.errors.InvalidArgumentError as error:
            raise BadInstance("could not parse the instances") from error
        return output.numpy().tolist()

    return answer


@RAW
def test_records_are_scored_as_in_local_mode_and_one_that_the_model_refuses_fails_alone(
    serve, linear_model, raw
):
    server = serve(answering(linear_model))
    loaded = predictor(server, raw=raw, input_name="examples")
    expected = SavedModel(linear_model).load(FORMAT_TF_EXAMPLE).predict(X).outputs["y"].tolist()
    assert y_of(loaded) == expected
    assert server.calls[0].instances == [{"examples": b64(record)} for record in X]
    assert loaded.input_name == "examples"
    found = scored(Scorer(loaded), [*X[:7], b"bad", *X[7:]])
    failed = found.pop(7)
    assert found == [y for (y,) in expected]
    assert failed.error_type == "HTTP 400"
    assert "could not parse the instances" in failed.message


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


@RAW
@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_nothing_is_lost_or_doubled_when_requests_are_turned_down(serve, raw, status):
    """In whatever form: Google's own, that of a proxy, or none that its client can read."""
    bodies = ("busy", b"<html>not JSON</html>", b'{"error": "overloaded"}', b'["slow down"]')
    server = serve(faults=itertools.cycle([*(Reply(status, body) for body in bodies), None]))
    loaded = predictor(server, raw=raw)
    assert [y for i in range(0, 20, 5) for y in y_of(loaded, X[i : i + 5])] == Y
    assert len(server.calls) == 20


@RAW
@pytest.mark.parametrize("fault", ["cut", "cut short", "stall"])
def test_request_is_made_again_after_a_connection_fails(serve, raw, fault):
    server = serve(faults=[fault])
    assert y_of(predictor(server, raw=raw, limits=Limits(0.5, 60))) == Y
    assert len(server.calls) == 2


def in_seconds(seconds):
    date = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)
    return email.utils.format_datetime(date, usegmt=True)


@RAW
def test_pause_is_what_the_endpoint_asks_for(serve, raw):
    for retry_after, at_least, at_most in [
        ("17", 17, 17),
        (in_seconds(90), 80, 90),
        (in_seconds(-90), 0, 0.1),
        ("soon", 0, 0.1),
    ]:
        pauses = []
        server = serve(faults=[Reply(429, headers={"Retry-After": retry_after})])
        predictor(server, raw=raw, pauses=pauses).predict(X)
        assert at_least <= pauses[0] <= at_most


@RAW
def test_batch_that_is_too_large_is_halved(serve, raw):
    for reply in (Reply(413), Reply(400, "Request payload size exceeds the limit: 1572864 bytes")):
        scorer = Scorer(predictor(serve(faults=[reply, reply]), raw=raw))
        assert scored(scorer, X) == Y
        assert scorer.safe_records == 5


def test_record_that_cannot_be_an_instance_fails_before_it_is_sent(serve):
    server = serve()
    for bad, error in {b"bad": "DecodeError", example(x=1.0, n=2**53 + 1): "ValueError"}.items():
        with pytest.raises(RecordError, match=f"^{error}: "):
            predictor(server).predict([X[0], bad])
    assert server.calls == []


@RAW
def test_endpoint_that_never_answers_is_an_error_after_the_time_limit(serve, raw):
    server = serve(faults=itertools.repeat(Reply(503, headers={"Retry-After": "1000"})))
    url = f"POST {server.url}/v1/{ENDPOINT}:predict?%24alt=json%3Benum-encoding%3Dint: as planned"
    told = '{"error": {"code": 503, "message": "as planned"}}' if raw else url
    message = f"No answer from {URI} within 600 s; attempts: 1, the last: 503: {told}. Check that "
    with pytest.raises(EndpointError, match=f"^{re.escape(message)}"):
        predictor(server, raw=raw).predict(X)


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


@RAW
@pytest.mark.parametrize("status", [401, 403, 404, 405, 501, 400])
def test_error_of_the_endpoint_costs_no_records(serve, raw, status):
    told = "FAILED_PRECONDITION: no deployed models" if status == 400 else "no way"
    server = serve(faults=itertools.repeat(Reply(status, told.encode())))
    url = f"POST {server.url}/v1/{ENDPOINT}:predict?%24alt=json%3Benum-encoding%3Dint: "
    message = (
        f"{URI} refused a request: {status}: {'' if raw else url}{told}. Check the endpoint's "
        f"name, the location and the credentials."
    )
    with pytest.raises(EndpointError, match=exactly(message)):
        list(Scorer(with_token(server, raw=raw)).score(X))
    assert {call.authorization for call in server.calls} == {"Bearer token"}
    assert {len(call.instances) for call in server.calls} == {20}


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
def test_number_of_predictions_has_to_be_that_of_the_instances(serve, raw):
    message = (
        f"Expected 20 predictions for 20 instances from {URI}, got 1. Return one for each instance."
    )
    with pytest.raises(EndpointError, match=exactly(message)):
        predictor(serve(lambda instances: [1.0]), raw=raw).predict(X)


@pytest.mark.parametrize(
    "body",
    [b"<html>", b"\xff", b"", {"outputs": [1.0]}, [1.0], {"predictions": None}],
    ids=["text", "bytes", "nothing", "columns", "list", "null"],
)
def test_answer_without_predictions_is_shown(serve, body):
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    start = f"Expected JSON with a list of predictions from {URI}, got"
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
    message = rf"^No answer from {re.escape(URI)} within 0\.2 s; attempts: \d+, the last: 503: "
    with pytest.raises(EndpointError, match=message):
        model.load(FORMAT_TF_EXAMPLE).predict(X)
    message = (
        "Raw requests need a VertexEndpoint.client with the REST transport, got one with grpc. "
        "Create it with transport='rest'."
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
            f"Expected VertexEndpoint.name to be projects/<project>/locations/<location>/endpoints/"
            f"<endpoint>, got {name!r}. Copy it from the endpoint's page."
        )
        with pytest.raises(SettingsError, match=exactly(message)):
            VertexEndpoint(name)
    message = (
        f"Expected FORMAT_TF_EXAMPLE records to make instances for {URI} from, got FORMAT_PROTO. "
        f"Set VertexEndpoint.input_name to send records as they are."
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
