"""Pipelines with several models compile for Kubeflow Pipelines, and its own parser accepts them."""

from __future__ import annotations

import json

import pytest
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2
from tfx import v1 as tfx
from tfx.types.standard_artifacts import Examples, Model, ModelBlessing

from bulk_inferencer import BranchInferencer, CascadeInferencer
from bulk_inferencer import bulk_inferencer_pb2 as our
from tests.tfx_helpers import importer


@pytest.fixture
def compile_pipeline(tmp_path):
    """Returns what compiles components, and gives the PipelineSpec proto."""

    def run(*components):
        path = tmp_path / "pipeline.json"
        runner = tfx.orchestration.experimental.KubeflowV2DagRunner(
            config=tfx.orchestration.experimental.KubeflowV2DagRunnerConfig(default_image="image"),
            output_filename=str(path),
        )
        runner.run(tfx.dsl.Pipeline("name", "gs://root", components=list(components)))
        spec = json.loads(path.read_text())["pipelineSpec"]
        return json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())

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
