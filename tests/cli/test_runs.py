"""`runs`: what ML Metadata has recorded, as a list."""

from __future__ import annotations

import subprocess
import sys

import pytest
from ml_metadata.proto import metadata_store_pb2 as mlmd

from tests.components.test_recorded_results import Recorder


@pytest.fixture
def recorder(tmp_path):
    recorder = Recorder(tmp_path)
    recorder.add("penguins", "first", y=1)
    ours = "bulk_inferencer.components.any.Inferencer"
    recorder.add("penguins", "second", state=mlmd.Execution.FAILED, kind=ours)
    return recorder


def test_runs_are_a_table_and_name_the_command_for_their_predictions(call, recorder, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    folder = recorder.folder / "0"
    code, out, err = call("runs", recorder.folder / "metadata.sqlite")
    assert (code, err) == (0, "")
    head, *rows = [line.split() for line in out.splitlines()]
    assert head[:4] == ["when", "pipeline", "component", "state"]
    assert rows[0][2:] == ["penguins", "second", "failed"]
    assert rows[1][2:] == ["penguins", "first", "complete", str(folder)]
    assert out.splitlines()[-1] == f"  bulk-inferencer show {folder}"


def test_refused_predictions_are_told_apart_and_components_are_cut_last(
    call, call_json, tmp_path, monkeypatch
):
    monkeypatch.setenv("COLUMNS", "80")
    recorder = Recorder(tmp_path)
    for blessed in (1, 0, None):
        recorder.add(
            "p", "BulkInferencer-of-penguins", 1, output="inference_result", blessed=blessed
        )
    _, out, _ = call("runs", tmp_path / "metadata.sqlite")
    head, *rows = out.splitlines()[:4]
    start = head.index("expected")
    assert [row[start : start + 8].strip() for row in rows] == ["", "not met", "met"]
    assert all(" BulkInferencer-of-penguins  complete" in row for row in rows)
    runs = call_json("runs", tmp_path / "metadata.sqlite", "--json")
    assert [run["results"][0]["meets_expectations"] for run in runs] == [None, False, True]


def test_runs_as_json_hold_all_that_is_recorded(call_json, recorder):
    metadata = recorder.folder / "metadata.sqlite"
    failed, done = call_json("runs", metadata, "--pipeline", "penguins", "--json")
    assert (failed["component"], failed["state"], failed["results"]) == ("second", "FAILED", [])
    (result,) = done["results"]
    assert (result["uri"], result["examples_read"]) == (str(recorder.folder / "0"), None)
    assert done["started"].endswith("+00:00")
    (newest,) = call_json("runs", metadata, "-n", "1", "--json")
    assert newest == failed


def test_store_without_runs_says_so(call, tmp_path):
    Recorder(tmp_path).add("penguins", "trainer")
    code, out, _ = call("runs", tmp_path / "metadata.sqlite")
    assert (code, out) == (0, "No execution of an inferencer is recorded there.\n")
    code, _, err = call("runs", tmp_path / "metadata.sqlite", "--pipeline", "x")
    message = "Error: ML Metadata has no pipeline 'x', but penguins. Correct --pipeline.\n"
    assert (code, err) == (1, message)


WITHOUT_TFX = """
import importlib.machinery, sys

class NoTFX(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name == "ml_metadata" else super().find_spec(name, path, target)

sys.meta_path = [f for f in sys.meta_path if f is not importlib.machinery.PathFinder] + [NoTFX]
from bulk_inferencer.cli.main import main
main()
"""


def test_without_ml_metadata_the_extra_is_named():
    command = [sys.executable, "-W", "ignore", "-c", WITHOUT_TFX, "runs", "metadata.sqlite"]
    done = subprocess.run(command, capture_output=True, text=True)
    message = (
        "Error: The command 'runs' needs ml_metadata, which is not installed. Install it with: pip "
        "install 'bulk-inferencer[tfx]'\n"
    )
    assert (done.returncode, done.stderr) == (1, message)
