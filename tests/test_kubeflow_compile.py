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
from tfx.types.standard_artifacts import Examples, Model, ModelBlessing
from tfx.utils import import_utils

import bulk_inferencer
from bulk_inferencer import BranchInferencer, CascadeInferencer
from bulk_inferencer import bulk_inferencer_pb2 as our
from bulk_inferencer.components import kubeflow_entrypoint
from pipelines import run_kubeflow
from pipelines.run_local import PIPELINES
from tests.integration.kubeflow_launcher import compile_nodes
from tests.tfx_helpers import importer

CHECKOUT = Path(__file__).parent.parent

BUILT_IN_NAMES = {"tfx." + kind for kind in ("Examples", "Model", "ModelBlessing")}


def compile_example(name, output, *options):
    """Does what the command of docs/kubeflow.md does."""
    folders = ("pipeline-root", "data-root", "inference-data-root")
    arguments = [f"--{folder}=gs://bucket/{folder}" for folder in folders]
    return run_kubeflow.main(
        [name, "--image=registry/image:1", f"--output={output}", *arguments, *options]
    )


def strictly(message, value):
    """Returns a message of which Kubeflow's own definition knows every field."""
    return json_format.ParseDict(value, message())


def containers_of(spec):
    executors = json_format.MessageToDict(spec.deployment_spec)["executors"]
    return {name.removesuffix("_executor"): it["container"] for name, it in executors.items()}


def titles_of(spec):
    """Returns the names of all artifact types."""
    return {
        yaml.safe_load(artifact.artifact_type.instance_schema)["title"]
        for component in spec.components.values()
        for definitions in (component.input_definitions, component.output_definitions)
        for artifact in definitions.artifacts.values()
    }


# The examples


@pytest.mark.parametrize("name", PIPELINES)
def test_examples_compile_to_a_spec_that_kfp_loads(name, tmp_path, capsys):
    path = tmp_path / "new" / "pipeline.yaml"

    assert compile_example(name, path) == 0

    assert capsys.readouterr().out.startswith(f"Wrote {path}, schema version 2.1.0: ")
    spec = strictly(pipeline_spec_pb2.PipelineSpec, yaml.safe_load(path.read_text()))
    assert spec.schema_version == "2.1.0"
    assert spec.pipeline_info.name == name.replace("_", "-")
    assert components.load_component_from_file(str(path)).name == name.replace("_", "-")
    for container in containers_of(spec).values():
        assert container["image"] == "registry/image:1"
        assert tuple(container["command"]) == kubeflow_entrypoint.COMMAND
        assert set(run_kubeflow.BEAM_PIPELINE_ARGS) <= set(container["args"])
    # What is not in the image is not in the spec, and nobody asked for the cache.
    assert str(CHECKOUT) not in path.read_text()
    assert not any(task.HasField("caching_options") for task in spec.root.dag.tasks.values())


def test_command_of_the_page_compiles(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (CHECKOUT / "docs/kubeflow.md").read_text()
    (command,) = re.findall(r"^python -m pipelines.run_kubeflow (.+?)\n```$", page, re.M | re.S)

    assert run_kubeflow.main(shlex.split(command.replace("\\\n", ""))) == 0

    assert (tmp_path / "build/five_times_table.yaml").is_file()


@pytest.fixture(scope="module")
def five_times_table(tmp_path_factory):
    path = tmp_path_factory.mktemp("compiled") / "pipeline.yaml"
    compile_example("five_times_table", path)
    return strictly(pipeline_spec_pb2.PipelineSpec, yaml.safe_load(path.read_text()))


def test_paths_are_those_of_the_image(five_times_table):
    parameters = {
        name: {key: value.runtime_value.constant.string_value for key, value in found.items()}
        for name, task in five_times_table.root.dag.tasks.items()
        if (found := task.inputs.parameters)
    }
    model_py = f"{run_kubeflow.CODE_ROOT}/pipelines/five_times_table/model.py"
    assert parameters["Trainer"]["module_file"] == model_py
    assert parameters["CsvExampleGen"]["input_base"] == "gs://bucket/data-root"
    assert parameters["InferenceExampleGen"]["input_base"] == "gs://bucket/inference-data-root"


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


def test_our_types_survive_and_can_be_imported(five_times_table):
    titles = titles_of(five_times_table)

    assert titles >= BUILT_IN_NAMES
    (ours,) = [title for title in titles if not title.startswith("tfx.")]
    assert ours == "bulk_inferencer.InferenceSummary"
    assert import_utils.import_class_by_path(ours) is bulk_inferencer.InferenceSummary


def test_json_is_a_job_for_vertex(tmp_path):
    path = tmp_path / "pipeline.json"

    compile_example(
        "five_times_table", path, "--pipeline-name=mine", "--cache", "--beam-arg=--runner=Other"
    )

    job = strictly(pipeline_spec_pb2.PipelineJob, json.loads(path.read_text()))
    assert job.display_name == "mine"
    assert job.runtime_config.gcs_output_directory == "gs://bucket/pipeline-root"
    spec = strictly(pipeline_spec_pb2.PipelineSpec, json_format.MessageToDict(job)["pipelineSpec"])
    assert all(task.caching_options.enable_cache for task in spec.root.dag.tasks.values())
    assert all(c["args"][-1] == "--runner=Other" for c in containers_of(spec).values())


def test_spec_2_0_on_request(tmp_path):
    path = tmp_path / "pipeline.yaml"

    compile_example("five_times_table", path, "--spec=2.0")

    spec = strictly(pipeline_spec_pb2.PipelineSpec, yaml.safe_load(path.read_text()))
    assert spec.schema_version == "2.0.0"
    assert not any(
        "--json_serialized_inputs_spec_args" in c["args"] for c in containers_of(spec).values()
    )


def test_output_that_is_neither_yaml_nor_json(tmp_path, capsys):
    with pytest.raises(SystemExit) as error:
        compile_example("five_times_table", "pipeline.txt")

    assert error.value.code == 2
    assert capsys.readouterr().err.endswith(
        "error: Expected --output to end with .yaml or .json, got pipeline.txt.\n"
    )


# Components with named models


@pytest.fixture
def compile_pipeline(tmp_path):
    """Returns what compiles components, and gives the PipelineSpec proto."""

    def run(*nodes):
        path = compile_nodes(tmp_path / "pipeline.yaml", *nodes)
        components.load_component_from_file(str(path))
        return strictly(pipeline_spec_pb2.PipelineSpec, yaml.safe_load(path.read_text()))

    return run


@pytest.fixture
def given():
    """Nodes for examples, two models and a blessing."""
    return {
        "examples": importer("examples", Examples, "gs://in", ["all"]),
        "five": importer("five", Model, "gs://five"),
        "ten": importer("ten", Model, "gs://ten"),
        "blessing": importer("blessing", ModelBlessing, "gs://blessing"),
    }


def test_branches_compile(compile_pipeline, given):
    outputs = {name: node.outputs["result"] for name, node in given.items()}
    branch = BranchInferencer(
        examples=outputs["examples"],
        models={name: outputs[name] for name in ("five", "ten")},
        model_blessings={"five": outputs["blessing"]},
    )

    spec = compile_pipeline(*given.values(), branch)

    component = spec.components[spec.root.dag.tasks["BranchInferencer"].component_ref.name]
    assert set(component.input_definitions.artifacts) == {
        "examples",
        "model_five",
        "model_ten",
        "blessing_five",
    }
    assert set(component.output_definitions.artifacts) == {
        "five",
        "ten",
        "summary",
        "failed_examples",
        "comparison",
    }
    parameters = spec.root.dag.tasks["BranchInferencer"].inputs.parameters
    assert 'string_value: "five,ten"' in str(parameters["model_names"])
    comparison = component.output_definitions.artifacts["comparison"].artifact_type
    assert "title: bulk_inferencer.ModelComparison" in comparison.instance_schema
    ours = import_utils.import_class_by_path("bulk_inferencer.ModelComparison")
    assert ours is bulk_inferencer.ModelComparison


def test_cascade_compiles(compile_pipeline, given):
    outputs = {name: node.outputs["result"] for name, node in given.items()}
    cascade = CascadeInferencer(
        examples=outputs["examples"],
        models={name: outputs[name] for name in ("five", "ten")},
        stages=[our.StageSpec(name="five"), our.StageSpec(name="ten")],
    )

    spec = compile_pipeline(*(given[name] for name in ("examples", "five", "ten")), cascade)

    component = spec.components[spec.root.dag.tasks["CascadeInferencer"].component_ref.name]
    assert set(component.input_definitions.artifacts) == {"examples", "model_five", "model_ten"}
    assert set(component.output_definitions.artifacts) == {
        "inference_result",
        "summary",
        "failed_examples",
    }
