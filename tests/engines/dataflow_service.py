"""Google Cloud Dataflow on this machine: as much of it as Beam's client asks for.

It runs the pipeline that was staged, in a process that sees no more of this one than a worker in a
data center would: the bucket, and what the job's options say.
"""

from __future__ import annotations

import functools
import http.server
import json
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httplib2
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability import python_urns
from apache_beam.portability.api import beam_provision_api_pb2, beam_runner_api_pb2
from apache_beam.runners.dataflow.internal import apiclient
from apache_beam.runners.portability.fn_api_runner.fn_runner import (
    ExtendedProvisionInfo,
    FnApiRunner,
)
from google.protobuf import struct_pb2

from tests.engines.storage_server import Storage

_PATIENCE_SECONDS = 300
_ADDRESS = "https://dataflow.googleapis.com"
_CLIENTS = ("JobsV1Beta3Client", "MessagesV1Beta3Client", "MetricsV1Beta3Client")


class Dataflow:
    """Takes jobs and plays them.

    Attributes:
      play: gets a job, and returns the state that it ends in, and why. It may wait.
      jobs: what was asked for, by id.
      is_watched: is set when somebody asks how a job is doing.
      was_cancelled: is set when somebody asks to cancel a job.
    """

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.play: Callable[[dict[str, Any]], tuple[str, str]] = self.run
        self.jobs: dict[str, dict[str, Any]] = {}
        self.is_watched = threading.Event()
        self.was_cancelled = threading.Event()
        self._states: dict[str, str] = {}
        self._messages: dict[str, list[dict[str, str]]] = {}

    def answer(self, method: str, path: list[str], body: dict[str, Any]) -> dict[str, Any]:
        """Returns the answer to a request; `path` is what follows `jobs`."""
        if method == "POST":
            number = f"2026-01-01_00_00_00-{len(self.jobs) + 1}"
            self.jobs[number] = body
            self._states[number], self._messages[number] = "RUNNING", []
            threading.Thread(target=self._play, args=(number,), daemon=True).start()
            return {"id": number, "currentState": "JOB_STATE_PENDING"}
        number = path[1]
        self.is_watched.set()
        if method == "PUT":
            assert body in ({"requestedState": state} for state in ("JOB_STATE_CANCELLED", 5))
            self._states[number] = "CANCELLED"
            self.was_cancelled.set()
        if path[2:] == ["messages"]:
            return {"jobMessages": self._messages[number]}
        return {"id": number, "currentState": f"JOB_STATE_{self._states[number]}"}

    def _play(self, number: str) -> None:
        state, reason = self.play(self.jobs[number])
        if reason:
            importance = {"messageImportance": "JOB_MESSAGE_ERROR", "messageText": reason}
            self._messages[number] = [{"time": "2026-01-01T00:00:00Z", **importance}]
        self._states[number] = state

    def end(self) -> None:
        """Ends all jobs, and waits until nobody asks how they are doing.

        Beam asks in a thread, which goes on after a Ctrl-C.
        """
        for number, state in self._states.items():
            self._states[number] = "CANCELLED" if state == "RUNNING" else state
        for thread in threading.enumerate():
            if "poll_for_job_completion" in thread.name:
                thread.join(_PATIENCE_SECONDS)

    def run(self, job: dict[str, Any]) -> tuple[str, str]:
        """Runs a job's pipeline. Every environment becomes that of this process."""
        options, pipeline = options_of(job), self.pipeline_of(job)
        worker = f"{sys.executable} -m apache_beam.runners.worker.sdk_worker_main"
        for environment in pipeline.components.environments.values():
            environment.urn = python_urns.SUBPROCESS_SDK
            environment.payload = worker.encode()
            del environment.dependencies[:]
        own = struct_pb2.Struct()
        own.update({"options": {name: _as_text(value) for name, value in options.items()}})
        ended = ["FAILED", "The worker gave no answer."]  # as when it does not even start

        def run_here() -> None:
            info = beam_provision_api_pb2.ProvisionInfo(pipeline_options=own)
            runner = FnApiRunner(provision_info=ExtendedProvisionInfo(info, folder, "job"))
            try:
                runner.run_via_runner_api(pipeline, PipelineOptions())
                ended[:] = "DONE", ""
            except Exception as error:  # noqa: BLE001, whatever a worker raised
                ended[1] = str(error)

        with tempfile.TemporaryDirectory() as folder:
            thread = threading.Thread(target=run_here, daemon=True)
            thread.start()
            thread.join(_PATIENCE_SECONDS)
        return ended[0], ended[1]

    def pipeline_of(self, job: dict[str, Any]) -> beam_runner_api_pb2.Pipeline:
        """Returns the pipeline that was staged for a job."""
        staged = self.storage.objects[options_of(job)["pipelineUrl"]]
        return beam_runner_api_pb2.Pipeline.FromString(staged)


def options_of(job: dict[str, Any]) -> dict[str, Any]:
    """Returns Beam's options, as a job hands them to its workers."""
    return job["environment"]["sdkPipelineOptions"]["options"]


def _as_text(value: Any) -> Any:
    """Returns a whole number as text, since a Struct has only floats."""
    is_whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return str(int(value)) if is_whole and not isinstance(value, bool) else value


@contextmanager
def serving(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> Iterator[Dataflow]:
    """Puts a new `Dataflow` in Google's place, within `with`."""
    dataflow = Dataflow(storage)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(dataflow))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    _redirect(f"127.0.0.1:{server.server_port}", monkeypatch)
    try:
        yield dataflow
    finally:
        dataflow.end()
        server.shutdown()
        server.server_close()
        thread.join()


def _redirect(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if hasattr(apiclient, "get_new_http"):  # Beam before 2.76
        monkeypatch.setattr(apiclient, "get_new_http", lambda: _Redirected(host))
        return
    for name in _CLIENTS:
        kind = getattr(apiclient.dataflow, name)
        monkeypatch.setattr(apiclient.dataflow, name, functools.partial(_client, kind, host))


def _client(kind: Any, host: str, credentials: Any, **others: Any) -> Any:
    rest = kind.get_transport_class("rest")
    return kind(transport=rest(host=host, url_scheme="http", credentials=credentials))


class _Redirected(httplib2.Http):
    def __init__(self, host: str) -> None:
        super().__init__()
        self._host = host

    def request(self, uri: str, *args: Any, **settings: Any) -> Any:
        assert uri.startswith(_ADDRESS), uri
        own = httplib2.Http()  # since Beam calls this from several threads
        try:
            return own.request(f"http://{self._host}{uri[len(_ADDRESS) :]}", *args, **settings)
        finally:
            own.close()


def _handler(dataflow: Dataflow) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = self.path.partition("?")[0].partition("/jobs")[2].split("/")
            body = json.dumps(dataflow.answer(self.command, path, json.loads(sent or "{}")))
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        do_POST = do_PUT = do_GET

        def log_message(self, *args: object) -> None:
            pass

    return Handler
