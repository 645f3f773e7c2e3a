"""Submitting to Vertex AI: Google's own client against a server on loopback, over its REST API."""

from __future__ import annotations

import http.server
import json
import threading

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform
from google.cloud.aiplatform.utils import resource_manager_utils

from pipelines import run_vertex

pytestmark = pytest.mark.slow

PROJECT, NUMBER, LOCATION = "mine", "5", "europe-west1"
ARGUMENTS = [
    f"--project={PROJECT}",
    f"--location={LOCATION}",
    "--image=registry.example.com/image:1",
    "--pipeline-root=gs://bucket/root",
    "--data-root=gs://bucket/labelled",
    "--inference-data-root=gs://bucket/unlabelled",
]


class Handler(http.server.BaseHTTPRequestHandler):
    """Creates pipeline jobs, and says that every bucket is there."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.calls.append((self.path, json.loads(body)))
        job_id = self.path.partition("pipelineJobId=")[2].partition("&")[0]
        name = f"projects/{NUMBER}/locations/{LOCATION}/pipelineJobs/{job_id}"
        self._answer({"name": name, "state": "PIPELINE_STATE_PENDING"})

    def do_GET(self):
        self._answer({"kind": "storage#bucket", "name": "bucket", "projectNumber": NUMBER})

    def _answer(self, content):
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def calls(monkeypatch):
    """Puts the service in Google's place, and returns the requests that it gets."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.calls = []
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        # The client asks whose the bucket is, of a service that it reaches at Google's address.
        monkeypatch.setattr(resource_manager_utils, "get_project_number", lambda project: NUMBER)
        credentials = AnonymousCredentials()
        aiplatform.init(credentials=credentials, api_endpoint=url, api_transport="rest")
        yield server.calls
        aiplatform.initializer.global_pool.shutdown(wait=True)
        server.shutdown()
        thread.join()


def test_job_is_submitted_without_cache_and_accelerator_by_default(calls, capsys):
    run_vertex.main(["five_times_table", *ARGUMENTS])

    ((path, content),) = calls
    jobs = f"locations/{LOCATION}/pipelineJobs"
    assert path.startswith(f"/v1/projects/{PROJECT}/{jobs}?pipelineJobId=five-times-table-2")
    assert content["displayName"] == "five-times-table"
    assert content["runtimeConfig"]["gcsOutputDirectory"] == "gs://bucket/root"
    tasks = content["pipelineSpec"]["root"]["dag"]["tasks"]
    assert {"CsvExampleGen", "Trainer", "Evaluator", "BulkInferencer"} <= set(tasks)
    assert not any(task["cachingOptions"].get("enableCache") for task in tasks.values())
    assert "accelerator" not in json.dumps(content)
    printed = capsys.readouterr().out
    assert printed.startswith(f"Submitted projects/{NUMBER}/{jobs}/five-times-table-2")


def test_options_reach_the_job_and_the_accelerator_the_inferencer_alone(calls):
    options = ["--service-account=me@mine.iam", "--label=team=birds", "--cache"]
    accelerator = ["--accelerator=NVIDIA_TESLA_T4", "--accelerator-count=2"]
    run_vertex.main(["penguins_cascade", *ARGUMENTS, *options, *accelerator])

    ((_, content),) = calls
    assert content["labels"]["team"] == "birds"
    assert content["serviceAccount"] == "me@mine.iam"
    spec = content["pipelineSpec"]
    tasks = spec["root"]["dag"]["tasks"].values()
    assert all(task["cachingOptions"]["enableCache"] for task in tasks)
    executors = spec["deploymentSpec"]["executors"]
    resources = {name: it["container"].get("resources") for name, it in executors.items()}
    accelerator = {"type": "NVIDIA_TESLA_T4", "count": "2"}
    assert resources.pop("CascadeInferencer_executor") == {"accelerator": accelerator}
    assert not any(resources.values())


def test_label_without_a_value_is_refused(capsys):
    with pytest.raises(SystemExit):
        run_vertex.main(["five_times_table", *ARGUMENTS, "--label=team"])
    assert "argument --label: expected NAME=VALUE, got team" in capsys.readouterr().err
