"""The catalogue of examples, from which every runner takes the same `create_pipeline()`."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines import catalogue, run_kubeflow, run_local
from pipelines.catalogue import PIPELINES

FOLDER = Path(catalogue.__file__).parent
FOLDERS = {"pipeline_root": "gs://b/a", "data_root": "gs://b/l", "inference_data_root": "gs://b/u"}
COMPILED = {"image": "image:1", "pipeline_name": "name", "enable_cache": False, **FOLDERS}
# Where things are, how the Beam jobs run, and how long the example trains.
MAY_DIFFER = {*FOLDERS, "pipeline_name", "enable_cache", "metadata_connection_config"} | {
    "beam_pipeline_args",
    "train_steps",
}
START = {
    "run_local": lambda name, folder: run_local.run(name, str(folder)),
    "run_kubeflow": lambda name, folder: run_kubeflow.compile_pipeline(
        name, output=str(folder / "out.yaml"), **COMPILED
    ),
}
each_example = pytest.mark.parametrize("name", PIPELINES)


def test_catalogue_and_runners_are_imported_without_tfx():
    imports = "import sys, pipelines.run_local, pipelines.run_kubeflow, pipelines.run_vertex\n"
    script = imports + "assert not {'tfx', 'tensorflow', 'apache_beam'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", script], cwd=FOLDER.parent, check=True)


@each_example
def test_example_names_its_file_and_a_similar_one_and_refuses_to_train_for_no_steps(name):
    example = PIPELINES[name]
    create_pipeline = example.load().create_pipeline
    assert Path(create_pipeline.__code__.co_filename) == FOLDER.parent / example.file
    assert Path(PIPELINES[example.similar].file).parent != Path(example.file).parent
    with pytest.raises(ValueError, match=r"^train_steps must be at least 1, not 0\.$"):
        create_pipeline(pipeline_name="p", train_steps=0, **FOLDERS)


class Called(Exception):
    """Ends a run where the pipeline would be made, with the arguments that it was asked for."""


@pytest.mark.parametrize("runner", START)
@each_example
def test_runner_calls_create_pipeline_and_says_only_where_and_how(
    name, runner, tmp_path, monkeypatch
):
    def create_pipeline(**arguments):
        raise Called(arguments)

    parts = PIPELINES[name].load()._replace(create_pipeline=create_pipeline)
    monkeypatch.setitem(PIPELINES, name, PIPELINES[name]._replace(load=lambda: parts))

    with pytest.raises(Called) as called:
        START[runner](name, tmp_path)

    (arguments,) = called.value.args
    assert {"pipeline_name", "pipeline_root", "data_root"} <= set(arguments) <= MAY_DIFFER


def test_runners_make_pipelines_by_create_pipeline_and_no_component_themselves():
    calls = {}
    for path in FOLDER.glob("*.py"):
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        calls[path.stem] = [ast.unparse(n.func) for n in nodes if isinstance(n, ast.Call)]
    # Vertex gets what run_kubeflow compiles.
    makes_pipeline = ("create_pipeline", "compile_pipeline")
    runners = {n for n, called in calls.items() if any(c.endswith(makes_pipeline) for c in called)}
    assert runners == {*START, "run_vertex", "airflow_dag"}
    for name in runners:
        assert not [c for c in calls[name] if "tfx.components" in c or c.endswith("Inferencer")]
