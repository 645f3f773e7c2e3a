"""Pipelines compile for Kubeflow Pipelines, and its own parser accepts them."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml
from google.protobuf import json_format
from kfp import components
from kfp.pipeline_spec import pipeline_spec_pb2
from tfx.types.standard_artifacts import InferenceResult

from bulk_inferencer import bulk_inferencer_pb2 as our
from bulk_inferencer import engines
from bulk_inferencer.components import engine_setting, kubeflow_entrypoint
from pipelines import run_kubeflow
from pipelines.catalogue import BEAM_PIPELINE_ARGS, PIPELINES
from tests.components.tfx_helpers import Nodes, importer, parameter
from tests.integration.kubeflow_launcher import compile_nodes

CHECKOUT = Path(__file__).parents[2]
MODELS_OF = {
    "five_times_table_branch": ["five", "ten"],
    "five_times_table_cascade": ["five", "ten"],
    "penguins_cascade": ["small", "full"],
}


def compile_example(name, output, *options):
    """Does what the command of docs/kubeflow.md does; returns its status."""
    folders = ("pipeline-root", "data-root", "inference-data-root")
    arguments = [f"--{folder}=gs://bucket/{folder}" for folder in folders]
    return run_kubeflow.main(
        [name, "--image=registry/image:1", f"--output={output}", *arguments, *options]
    )


def spec_in(path):
    """Returns a PipelineSpec of which Kubeflow's own definition knows every field."""
    documents = yaml.safe_load(path.read_text())
    return json_format.ParseDict(documents, pipeline_spec_pb2.PipelineSpec())


def containers_of(spec):
    executors = json_format.MessageToDict(spec.deployment_spec)["executors"].values()
    return [executor["container"] for executor in executors]


def constant_of(task, name):
    return task.inputs.parameters[name].runtime_value.constant.string_value


@pytest.mark.parametrize("name", PIPELINES)
def test_examples_compile_to_a_spec_that_kfp_loads(name, tmp_path, capsys):
    path = tmp_path / "new" / "pipeline.yaml"

    assert compile_example(name, path) == 0

    assert capsys.readouterr().out.startswith(f"Wrote {path}, schema version 2.1.0: ")
    spec = spec_in(path)
    assert spec.schema_version == "2.1.0"
    assert spec.pipeline_info.name == name.replace("_", "-")
    assert components.load_component_from_file(str(path)).name == name.replace("_", "-")
    for container in containers_of(spec):
        assert container["image"] == "registry/image:1"
        assert tuple(container["command"]) == kubeflow_entrypoint.COMMAND
        assert set(BEAM_PIPELINE_ARGS) <= set(container["args"])
    # What is not in the image is not in the spec, and nobody asked for the cache.
    assert str(CHECKOUT) not in path.read_text()
    assert not any(task.HasField("caching_options") for task in spec.root.dag.tasks.values())

    (task,) = (task for key, task in spec.root.dag.tasks.items() if key.endswith("Inferencer"))
    component = spec.components[task.component_ref.name]
    models, is_branch = MODELS_OF.get(name, []), name.endswith("_branch")
    has_table = name == "five_times_table"
    of_models = [f"{kind}_{model}" for model in models for kind in ("model", "blessing")]
    inputs = {"examples", *(of_models or ["model", "model_blessing"])}
    assert component.input_definitions.artifacts.keys() == inputs
    outputs = {
        key: yaml.safe_load(definition.artifact_type.instance_schema)["title"]
        for key, definition in component.output_definitions.artifacts.items()
    }
    assert outputs == {
        **dict.fromkeys(models if is_branch else ["inference_result"], "tfx.InferenceResult"),
        "summary": "bulk_inferencer.InferenceSummary",
        "failed_examples": "tfx.Examples",
        **({"comparison": "bulk_inferencer.ModelComparison"} if is_branch else {}),
        **({"prediction_table": "bulk_inferencer.PredictionTable"} if has_table else {}),
    }
    assert constant_of(task, "model_names") == (",".join(models) if is_branch else "")


def test_blessings_and_baselines_are_in_the_spec(tmp_path, uris):
    nodes = Nodes(tmp_path, **uris)
    earlier = nodes.add(importer("earlier", InferenceResult, "/earlier"))
    nodes.branch(
        "Branch",
        expectations={"ten": {"outputs": {"y": {"max_drift": 0.1}}}},
        baselines={"ten": earlier.outputs["result"]},
    )
    spec = spec_in(compile_nodes(tmp_path / "pipeline.yaml", *nodes.all.values()))
    component = spec.components["Branch"]
    blessing = component.output_definitions.artifacts["prediction_blessing_ten"].artifact_type
    assert yaml.safe_load(blessing.instance_schema)["title"] == "tfx.ModelBlessing"
    assert "baseline_ten" in component.input_definitions.artifacts
    expected = json.loads(constant_of(spec.root.dag.tasks["Branch"], "expectations"))
    assert expected == {"models": {"ten": {"outputs": {"y": {"max_drift": 0.1}}}}}


def test_engine_is_in_the_spec_and_may_be_a_parameter_of_the_pipeline(tmp_path, uris):
    nodes = Nodes(tmp_path, **uris)
    ray = engines.Ray("ray://head:10001", num_gpus=1, runtime_env={"pip": ["a"], "x": {"y": 1}})
    nodes.bulk("Ray", engine=ray)
    nodes.branch("Parameter", engine=parameter('{"spark": {}}', name="where"))
    spec = spec_in(compile_nodes(tmp_path / "pipeline.yaml", *nodes.all.values()))
    tasks = spec.root.dag.tasks
    message = json_format.Parse(constant_of(tasks["Ray"], "engine"), our.Engine())
    assert engine_setting.engine(message) == ray
    given = tasks["Parameter"].inputs.parameters["engine"]
    assert given.component_input_parameter == "where"
    assert "where" in spec.root.input_definitions.parameters


def test_command_of_the_page_compiles_with_the_paths_of_the_image(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (CHECKOUT / "docs/kubeflow.md").read_text()
    (command,) = re.findall(r"^python -m pipelines.run_kubeflow (.+?)\n```$", page, re.M | re.S)
    arguments = shlex.split(command.replace("\\\n", ""))

    assert run_kubeflow.main(arguments) == 0

    tasks = spec_in(tmp_path / "build/five_times_table.yaml").root.dag.tasks
    model_py = f"{run_kubeflow.CODE_ROOT}/pipelines/five_times_table/model.py"
    assert constant_of(tasks["Trainer"], "module_file") == model_py
    options = {"CsvExampleGen": "--data-root", "InferenceExampleGen": "--inference-data-root"}
    for task, option in options.items():
        given = arguments[arguments.index(option) + 1]
        assert constant_of(tasks[task], "input_base") == given


def test_image_has_what_the_spec_and_the_lock_name():
    dockerfile = (CHECKOUT / "Dockerfile").read_text()

    assert f"WORKDIR {run_kubeflow.CODE_ROOT}\nCOPY pipelines pipelines\n" in dockerfile
    (tfx,) = re.findall(r"^ARG TFX=(.+)$", dockerfile, re.MULTILINE)
    assert (CHECKOUT / f"requirements/tfx-{tfx}.txt").is_file()
    (uv,) = re.findall(r"uv==(\S+)", dockerfile)
    assert f"version={uv}\n" in (CHECKOUT / "tools/uv").read_text()
    # What comes from the checkout is not held back.
    copied = re.findall(r"^COPY (?!--)(.+) \S+$", dockerfile, re.MULTILINE)
    names = {name.split("/")[0] for line in copied for name in line.split()}
    let_in = re.findall(r"^!([^/\n]+)", (CHECKOUT / ".dockerignore").read_text(), re.MULTILINE)
    assert names == set(let_in)


def test_json_is_a_job_for_vertex(tmp_path):
    path = tmp_path / "pipeline.json"
    options = ("--pipeline-name=mine", "--cache", "--beam-arg=--runner=Other")

    compile_example("five_times_table", path, *options)

    documents = json.loads(path.read_text())
    job = json_format.ParseDict(documents, pipeline_spec_pb2.PipelineJob())
    assert job.display_name == "mine"
    assert job.runtime_config.gcs_output_directory == "gs://bucket/pipeline-root"
    spec = json_format.ParseDict(documents["pipelineSpec"], pipeline_spec_pb2.PipelineSpec())
    assert all(task.caching_options.enable_cache for task in spec.root.dag.tasks.values())
    assert all(container["args"][-1] == "--runner=Other" for container in containers_of(spec))


def test_spec_2_0_on_request(tmp_path):
    path = tmp_path / "pipeline.yaml"
    compile_example("five_times_table", path, "--spec=2.0")
    assert spec_in(path).schema_version == "2.0.0"
    assert "--json_serialized_inputs_spec_args" not in path.read_text()


def test_output_that_is_neither_yaml_nor_json(capsys):
    with pytest.raises(SystemExit) as error:
        compile_example("five_times_table", "pipeline.txt")
    assert error.value.code == 2
    message = "--output must end with .yaml, .yml or .json, not 'pipeline.txt'."
    assert message in capsys.readouterr().err
