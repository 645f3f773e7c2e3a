"""A Vertex AI endpoint on loopback: Google's REST API over HTTP, with faults as planned."""

from __future__ import annotations

import functools
import http.server
import json
import socket
import threading
import time
from typing import Any, NamedTuple

from bulk_inferencer._formats.record_format import FORMAT_TF_EXAMPLE
from bulk_inferencer._models.retries import Caller, Limits
from bulk_inferencer._models.vertex import VertexEndpoint, VertexPredictor

ENDPOINT = "projects/tests/locations/us-central1/endpoints/5"
URI = f"vertex://{ENDPOINT}"
_LONGEST_STALL_SECONDS = 60
_VERSION_HEADERS = ("X-Vertex-AI-Deployed-Model-Id", "X-Vertex-AI-Model-Version-Id")


class Reply(NamedTuple):
    """An answer; a body that is text becomes an error as Google's services describe theirs."""

    status: int
    body: Any = "as planned"
    headers: Any = ()


class Call(NamedTuple):
    method: str
    instances: list[Any]
    content: dict[str, Any]
    authorization: str | None


def five_times(instances):
    return [5 * instance["x"] for instance in instances]


class VertexServer(http.server.ThreadingHTTPServer):
    """Answers `:predict` and `:rawPredict` of `ENDPOINT`; `calls` holds the requests in order."""

    daemon_threads = False  # so that closing waits for them

    def __init__(self, answer=five_times, faults=(), versions=("11", "3")):
        """Takes a function from instances to predictions.

        Faults are None, a `Reply`, `cut`, `cut short`, `stall` or a function that is called in
        place of an answer, one for each request; versions are the ids of the deployed model and of
        the model's version.
        """
        super().__init__(("127.0.0.1", 0), _Handler)
        self.calls = []
        self.released = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}"
        self._answer = answer
        self._faults = iter(faults)
        self._versions = versions
        self._lock = threading.Lock()

    def __enter__(self):
        self._serve()
        return self

    def __exit__(self, *error):
        self.released.set()
        self.stop()
        self.server_close()

    def _serve(self):
        # Looks more often than twice a second whether it should stop.
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,))
        self._thread.start()

    def stop(self):
        """Takes no more connections."""
        self.shutdown()
        self._thread.join()
        self.socket.close()

    def start(self):
        """Starts, after `stop` on the same port."""
        self.socket = socket.socket(self.address_family, self.socket_type)
        self.server_bind()
        self.server_activate()
        self._serve()

    def begin(self, call):
        """Counts a request, and returns the fault that is planned for it."""
        with self._lock:
            self.calls.append(call)
            return next(self._faults, None)

    def answer(self, call):
        is_raw = call.method == "rawPredict"
        try:
            content = {"predictions": self._answer(call.instances)}
        except Exception as error:  # noqa: BLE001, a test should see it, not a closed connection
            return Reply(500, repr(error))
        if is_raw:
            headers = zip(_VERSION_HEADERS, self._versions, strict=True)
            return Reply(200, content, [(name, value) for name, value in headers if value])
        ids = zip(("deployedModelId", "modelVersionId"), self._versions, strict=True)
        return Reply(200, {**content, **dict(ids)})


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        endpoint, _, method = self.path.partition("?")[0].removeprefix("/v1/").partition(":")
        assert endpoint == ENDPOINT
        call = Call(method, content["instances"], content, self.headers.get("Authorization"))
        fault = self.server.begin(call)
        if fault == "stall":
            self.server.released.wait(_LONGEST_STALL_SECONDS)
        elif fault == "cut short":
            self._send(Reply(200, b'{"predictions": [[1.0'), missing=100)
        elif callable(fault):
            fault()
        elif fault != "cut":
            self._send(fault or self.server.answer(call))

    def _send(self, reply, missing=0):
        body = reply.body
        if isinstance(body, str):
            body = {"error": {"code": reply.status, "message": body}}
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        self.send_response(reply.status)
        for name, value in {"Content-Type": "application/json", **dict(reply.headers)}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) + missing))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):
        pass


def make_client(url, credentials=None):
    """Returns Google's own client, for a server at `url`."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud.aiplatform_v1 import PredictionServiceClient

    rest = PredictionServiceClient.get_transport_class("rest")
    transport = rest(host=url, credentials=credentials or AnonymousCredentials())
    return PredictionServiceClient(transport=transport)


def predictor(server, pauses=None, limits=None, **settings):
    """Returns a predictor that notes its pauses instead of making them."""
    client = functools.partial(make_client, server.url)
    model = VertexEndpoint(ENDPOINT, **{"client": client, **settings})
    pauses = [] if pauses is None else pauses
    clock = lambda: time.monotonic() + sum(pauses)  # noqa: E731
    caller = Caller(URI, limits or Limits(), clock, pauses.append)
    return VertexPredictor(model, model.check(FORMAT_TF_EXAMPLE), caller)
