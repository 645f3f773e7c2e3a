"""Submitting to Vertex AI: Google's own client against a server on loopback, over its REST API."""

from __future__ import annotations

import http.server
import json
import threading
from typing import Any, NamedTuple

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform
from google.cloud.aiplatform.utils import resource_manager_utils
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from pipelines import run_vertex

pytestmark = pytest.mark.slow

PROJECT, NUMBER, LOCATION = "mine", "5", "europe-west1"
ARGUMENTS = {
    "image": "registry.example.com/image:1",
    "pipeline-root": "gs://bucket/root",
    "data-root": "gs://bucket/labelled",
    "inference-data-root": "gs://bucket/unlabelled",
    "project": PROJECT,
    "location": LOCATION,
}


class Call(NamedTuple):
    """A request that the service got."""

    path: str
    content: dict[str, Any]


class Handler(http.server.BaseHTTPRequestHandler):
    """Creates pipeline jobs, and says that every bucket is there."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.calls.append(Call(self.path, json.loads(body)))
        job_id = self.path.partition("pipelineJobId=")[2].partition("&")[0]
        name = f"projects/{NUMBER}/locations/{LOCATION}/pipelineJobs/{job_id}"
        self._answer({"name": name, "state": "PIPELINE_STATE_PENDING"})

    def do_GET(self):
        self._answer({"kind": "storage#bucket", "name": "bucket", "projectNumber": NUMBER})

    def _answer(self, content):
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def calls(monkeypatch):
    """Puts the service in Google's place, and returns the requests that it gets."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.calls = []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
    # The client asks whose the bucket is, of a service that it reaches at Google's address only.
    monkeypatch.setattr(resource_manager_utils, "get_project_number", lambda project: NUMBER)
    aiplatform.init(
        project=PROJECT,
        location=LOCATION,
        credentials=AnonymousCredentials(),
        api_endpoint=url,
        api_transport="rest",
    )
    yield server.calls
    aiplatform.initializer.global_pool.shutdown(wait=True)
    server.shutdown()
    thread.join()
    server.server_close()


def submit(*options, name="five_times_table", **changed):
    arguments = {**ARGUMENTS, **changed}
    return run_vertex.main(
        [name, *(f"--{key}={value}" for key, value in arguments.items()), *options]
    )


def only(calls):
    (call,) = calls
    return call.content


def spec_of(content):
    """Returns the PipelineSpec in a request, of which Kubeflow's definition knows every field."""
    return json_format.ParseDict(content["pipelineSpec"], pipeline_spec_pb2.PipelineSpec())


def test_whole_job_arrives(calls, capsys):
    submit("--service-account=runner@mine.iam.gserviceaccount.com", "--label=team=birds")

    (call,) = calls
    assert call.path.startswith(
        f"/v1/projects/{PROJECT}/locations/{LOCATION}/pipelineJobs?pipelineJobId=five-times-table-2"
    )
    content = call.content
    assert content["displayName"] == "five-times-table"
    assert content["labels"]["team"] == "birds"
    assert content["serviceAccount"] == "runner@mine.iam.gserviceaccount.com"
    assert content["runtimeConfig"]["gcsOutputDirectory"] == "gs://bucket/root"
    tasks = spec_of(content).root.dag.tasks
    assert {"CsvExampleGen", "Trainer", "Evaluator", "BulkInferencer"} <= set(tasks)
    assert capsys.readouterr().out.startswith(
        f"Submitted projects/{NUMBER}/locations/{LOCATION}/pipelineJobs/five-times-table-2"
    )


@pytest.mark.parametrize(("options", "enabled"), [((), False), (("--cache",), True)])
def test_caching_is_that_of_the_command(calls, options, enabled):
    submit(*options)
    tasks = spec_of(only(calls)).root.dag.tasks.values()
    assert {task.caching_options.enable_cache for task in tasks} == {enabled}


def test_accelerator_is_that_of_the_inferencer_alone(calls):
    submit("--accelerator=NVIDIA_TESLA_T4", "--accelerator-count=2", name="penguins_cascade")
    executors = spec_of(only(calls)).deployment_spec["executors"]
    accelerators = {
        name: dict(executor["container"]["resources"]["accelerator"])
        for name, executor in json_format.MessageToDict(executors).items()
        if "resources" in executor.get("container", {})
    }
    assert accelerators == {"CascadeInferencer_executor": {"type": "NVIDIA_TESLA_T4", "count": "2"}}


def test_label_without_a_value_is_refused(capsys):
    with pytest.raises(SystemExit):
        submit("--label=team")
    assert "argument --label: expected NAME=VALUE, got team" in capsys.readouterr().err
