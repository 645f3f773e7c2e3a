"""A Vertex AI endpoint on loopback: a real model behind its REST API, with faults as planned.

Faults come from an iterator, one per request; None is no fault, and there are none after its end.
"""

from __future__ import annotations

import base64
import functools
import http.server
import json
import threading
import time
from typing import Any, NamedTuple

import tensorflow as tf

from bulk_inferencer._models.predictor import FORMAT_TF_EXAMPLE
from bulk_inferencer._models.retries import Caller, Limits
from bulk_inferencer.beam import VertexEndpoint

ENDPOINT = "projects/tests/locations/us-central1/endpoints/5"
URI = f"vertex://{ENDPOINT}"
_LONGEST_STALL_SECONDS = 60


class Reply(NamedTuple):
    """An answer that was planned: a fault, or something odd.

    A body that is text is an error as Google's services describe theirs.
    """

    status: int
    body: Any = "as planned"
    headers: Any = ()


class Call(NamedTuple):
    """A request that the endpoint got."""

    method: str
    instances: list[Any]
    content: dict[str, Any]
    authorization: str | None


class BadInstance(Exception):
    """Raised by a model that cannot take an instance."""


def five_times(instances):
    return [5 * instance["x"] for instance in instances]


class VertexServer:
    """Answers `:predict` and `:rawPredict` of `ENDPOINT`.

    Attributes:
      calls: the requests, in their order.
      url: where it is.
    """

    def __init__(self, answer=five_times, faults=(), deployed_model_id="11", model_version_id="3"):
        """Starts with `__enter__`.

        Args:
          answer: takes instances, and returns their predictions.
          faults: a `Reply`, or a method of this class that takes the handler; one per request.
          deployed_model_id: which model it says that it is.
          model_version_id: which version of it.
        """
        self.calls = []
        self._answer = answer
        self._faults = iter(faults)
        self._versions = (deployed_model_id, model_version_id)
        self._lock = threading.Lock()
        self._released = threading.Event()
        self._server = _HttpServer(("127.0.0.1", 0), _Handler)
        self._server.endpoint = self
        # Looks more often than twice a second whether it should stop.
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def url(self):
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def stall(self, handler):
        """Does not answer before the test is over."""
        self._released.wait(_LONGEST_STALL_SECONDS)

    def cut(self, handler):
        """Closes the connection without an answer."""

    def cut_short(self, handler):
        """Closes the connection in the middle of the answer."""
        handler.send(200, b'{"predictions": [[1.0', {}, missing=100)

    def respond(self, handler, path, content):
        endpoint, _, method = path.removeprefix("/v1/").partition(":")
        assert endpoint == ENDPOINT
        instances = content["instances"]
        with self._lock:
            self.calls.append(
                Call(method, instances, content, handler.headers.get("Authorization"))
            )
            fault = next(self._faults, None)
        if callable(fault):
            fault(handler)
        else:
            handler.reply(fault or self._reply(method, instances))

    def _reply(self, method, instances):
        try:
            predictions = self._answer(instances)
        except BadInstance as error:
            # A container's own way to say it: a raw request gets it as it is.
            return Reply(400, {"error": str(error)} if method == "rawPredict" else str(error))
        except Exception as error:  # noqa: BLE001, a test should see it, not a closed connection
            return Reply(500, repr(error))
        deployed_model_id, model_version_id = self._versions
        if method == "rawPredict":
            names = ("X-Vertex-AI-Deployed-Model-Id", "X-Vertex-AI-Model-Version-Id")
            headers = {n: v for n, v in zip(names, self._versions, strict=True) if v}
            return Reply(200, {"predictions": predictions}, headers)
        content = {
            "predictions": predictions,
            "deployedModelId": deployed_model_id,
            "modelVersionId": model_version_id,
        }
        return Reply(200, content)


class _HttpServer(http.server.ThreadingHTTPServer):
    daemon_threads = False  # so that closing waits for them


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.endpoint.respond(self, self.path.partition("?")[0], content)

    def reply(self, reply):
        body = reply.body
        if isinstance(body, str):
            body = {"error": {"code": reply.status, "message": body}}
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        self.send(reply.status, body, reply.headers)

    def send(self, status, body, headers, missing=0):
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **dict(headers)}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) + missing))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):
        pass


def serving(path):
    """Returns what answers with a SavedModel, as TensorFlow Serving answers JSON in rows."""
    model = tf.saved_model.load(path)
    function = model.signatures["serving_default"]
    _, inputs = function.structured_input_signature

    def answer(instances):
        feeds = {
            name: tf.constant([_typed(row[name], spec.dtype) for row in instances], spec.dtype)
            for name, spec in inputs.items()
        }
        try:
            outputs = {name: v.numpy().tolist() for name, v in function(**feeds).items()}
        except tf.errors.InvalidArgumentError as error:
            raise BadInstance("could not parse the instances") from error
        rows = [
            {name: _json(values[i]) for name, values in outputs.items()}
            for i in range(len(instances))
        ]
        # A single output goes without its name.
        return [next(iter(row.values())) for row in rows] if len(outputs) == 1 else rows

    answer.model = model  # whose variables a signature holds weakly
    return answer


def _typed(value, dtype):
    if isinstance(value, list):
        return [_typed(item, dtype) for item in value]
    if isinstance(value, dict):
        return base64.b64decode(value["b64"])
    return int(value) if dtype.is_integer else value


def _json(value):
    if isinstance(value, list):
        return [_json(item) for item in value]
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(value).decode()}


def make_client(url, credentials=None):
    """Returns Google's own client, for a server at `url`."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud.aiplatform_v1 import PredictionServiceClient
    from google.cloud.aiplatform_v1.services.prediction_service.transports.rest import (
        PredictionServiceRestTransport,
    )

    transport = PredictionServiceRestTransport(
        host=url, credentials=credentials or AnonymousCredentials()
    )
    return PredictionServiceClient(transport=transport)


def endpoint(server, **settings):
    """Returns the model behind a `VertexServer`."""
    client = functools.partial(make_client, server.url)
    return VertexEndpoint(ENDPOINT, **{"client": client, **settings})


def predictor(server, record_format=FORMAT_TF_EXAMPLE, pauses=None, **settings):
    """Returns a predictor that notes its pauses instead of making them."""
    loaded = endpoint(server, **settings).load(record_format)
    pauses = [] if pauses is None else pauses
    limits = settings.get("limits", Limits())
    loaded._caller = Caller(URI, limits, lambda: time.monotonic() + sum(pauses), pauses.append)
    return loaded
