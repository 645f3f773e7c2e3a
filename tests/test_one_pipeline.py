"""Every runner runs the pipeline of the same `create_pipeline()`."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

from pipelines import run_kubeflow, run_local, run_vertex
from pipelines.run_local import PIPELINES

FOLDER = Path(run_local.__file__).parent
RUNNERS = ("run_local", "run_kubeflow", "run_vertex", "airflow_dag")
# Where things are, how the Beam jobs run, and how long the example trains.
MAY_DIFFER = {
    "pipeline_name",
    "pipeline_root",
    "data_root",
    "inference_data_root",
    "enable_cache",
    "metadata_connection_config",
    "beam_pipeline_args",
    "train_steps",
}
FOLDERS = {"pipeline_root": "gs://b/a", "data_root": "gs://b/l", "inference_data_root": "gs://b/u"}
COMPILED = {"image": "image:1", "pipeline_name": "name", "enable_cache": False, **FOLDERS}


class Called(Exception):
    """Ends a run where the pipeline would be made, with the arguments that it was asked for."""


def with_local(name, folder):
    run_local.run(name, str(folder))


def with_kubeflow(name, folder):
    run_kubeflow.compile_pipeline(name, output=str(folder / "out.yaml"), **COMPILED)


def with_vertex(name, folder):
    run_vertex.submit(name, project="mine", location="europe-west1", **COMPILED)


@pytest.mark.parametrize("start", [with_local, with_kubeflow, with_vertex])
@pytest.mark.parametrize("name", PIPELINES)
def test_runner_calls_create_pipeline_and_says_only_where_and_how(
    name, start, tmp_path, monkeypatch
):
    def create_pipeline(**arguments):
        raise Called(arguments)

    example = PIPELINES[name]
    module = importlib.import_module(f"pipelines.{example.package}.{example.prefix}pipeline")
    monkeypatch.setattr(module, "create_pipeline", create_pipeline)

    with pytest.raises(Called) as called:
        start(name, tmp_path)

    (arguments,) = called.value.args
    assert {"pipeline_name", "pipeline_root", "data_root"} <= set(arguments) <= MAY_DIFFER


@pytest.mark.parametrize("runner", RUNNERS)
def test_runner_makes_no_component_itself(runner):
    tree = ast.parse((FOLDER / f"{runner}.py").read_text(encoding="utf-8"))
    calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert not {call for call in calls if "tfx.components" in call or call.endswith("Inferencer")}
    # Vertex gets what run_kubeflow compiles.
    made_by = "compile_pipeline" if runner == "run_vertex" else "create_pipeline"
    assert any(call.rpartition(".")[2] == made_by for call in calls)


def test_runners_are_all_there_are():
    files = {path.stem for path in FOLDER.glob("*.py")} - {"__init__"}
    assert files == set(RUNNERS)
