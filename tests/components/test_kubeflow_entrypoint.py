"""The entrypoint gives artifacts types that TFX can import, and changes nothing else."""

from __future__ import annotations

import pytest
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2 as pb
from tfx.orchestration.kubeflow.v2 import compiler_utils
from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_entrypoint_utils
from tfx.types.standard_artifacts import Examples, Model

from bulk_inferencer import InferenceSummary
from bulk_inferencer.components import kubeflow_entrypoint
from tests.components.tfx_helpers import (
    UNLABELLED,
    Nodes,
    assert_refused,
    five_times,
    scored,
    summary_of,
)
from tests.helpers import tree
from tests.integration.kubeflow_launcher import Run, compile_nodes

EXECUTOR_INPUT = "--json_serialized_invocation_args"

BLANK_TYPES = {
    "none": pb.ArtifactTypeSchema(),
    "empty": pb.ArtifactTypeSchema(instance_schema=""),  # from Kubeflow's driver
    "untitled": pb.ArtifactTypeSchema(instance_schema="type: object\n"),
    "of kfp": pb.ArtifactTypeSchema(schema_title="system.Artifact"),  # from kfp.local
}


def schema_of(kind):
    """Returns the type of an artifact, as TFX's compiler writes it into a pipeline's spec."""
    return pb.ArtifactTypeSchema(instance_schema=compiler_utils.get_artifact_schema(kind))


def inputs_spec(**kinds):
    spec = pb.ComponentInputsSpec()
    for key, kind in kinds.items():
        spec.artifacts[key].artifact_type.CopyFrom(schema_of(kind))
    return spec


def execution(**types):
    """Returns an execution with an input for each type."""
    made = pb.ExecutorInput()
    for key, schema in types.items():
        made.inputs.artifacts[key].artifacts.add(uri=f"gs://{key}", type=schema)
    return made


def inputs_for_tfx(executor_input):
    """Returns the inputs as TFX's entrypoint reads them."""
    return kubeflow_v2_entrypoint_utils.parse_raw_artifact_dict(executor_input.inputs.artifacts, {})


@pytest.mark.parametrize("blank", ["none", "empty", "of kfp"])
def test_tfx_alone_cannot_read_blank_types(blank):
    # Where this fails, TFX has learnt it, and the entrypoint can go.
    with pytest.raises((AttributeError, ImportError, UnboundLocalError)):
        inputs_for_tfx(execution(model=BLANK_TYPES[blank]))


@pytest.mark.parametrize("kind", [Model, InferenceSummary])
@pytest.mark.parametrize("blank", BLANK_TYPES.values(), ids=BLANK_TYPES)
def test_blank_types_of_all_artifacts_come_from_the_component(blank, kind):
    given, expected = execution(model=blank), execution(model=schema_of(kind))
    for executor_input, schema in ((given, BLANK_TYPES["of kfp"]), (expected, schema_of(kind))):
        executor_input.inputs.artifacts["model"].artifacts.add(uri="gs://more", type=schema)
    kubeflow_entrypoint.restore_types(given, inputs_spec(model=kind))
    assert given == expected
    read = [(type(made), made.uri) for made in inputs_for_tfx(given)["model"]]
    assert read == [(kind, "gs://model"), (kind, "gs://more")]


@pytest.mark.parametrize(
    "schema",
    [
        *map(schema_of, (Model, InferenceSummary)),
        *(pb.ArtifactTypeSchema(schema_title=name) for name in ("tfx.Model", "package.Own")),
    ],
)
def test_full_types_are_left_alone(schema):
    given = execution(model=schema)
    kubeflow_entrypoint.restore_types(given, inputs_spec(model=Examples))
    assert given == execution(model=schema)


def test_outputs_that_kubeflow_writes_itself_are_left_out():
    given = pb.ExecutorInput()
    given.outputs.artifacts["summary"].artifacts.add(type=schema_of(InferenceSummary))
    given.outputs.artifacts["executor-logs"].artifacts.add(type=BLANK_TYPES["of kfp"])
    kubeflow_entrypoint.restore_types(given, pb.ComponentInputsSpec())
    (artifacts,) = given.outputs.artifacts.values()
    assert artifacts.artifacts[0].type == schema_of(InferenceSummary)


@pytest.mark.parametrize(
    ("blank", "known", "listed"),
    [("of kfp", ("examples", "blessing"), "blessing, examples"), ("none", (), "no input")],
)
def test_type_that_nobody_knows(blank, known, listed):
    message = (
        f"The artifact of input 'model' has the type '{BLANK_TYPES[blank].schema_title}' from "
        f"Kubeflow, and the component's spec on the command line has types only for: {listed}. "
        f"Compile the pipeline with use_pipeline_spec_2_1=True."
    )
    given, spec = execution(model=BLANK_TYPES[blank]), inputs_spec(**dict.fromkeys(known, Model))
    assert_refused(message, kubeflow_entrypoint.restore_types, given, spec)


def test_arguments_keep_everything_but_the_blank_types():
    given, expected = (execution(model=kind) for kind in (BLANK_TYPES["empty"], schema_of(Model)))
    for executor_input in (given, expected):
        executor_input.inputs.parameter_values["steps"].number_value = 5
    inputs = [
        "--json_serialized_inputs_spec_args",
        json_format.MessageToJson(inputs_spec(model=Model)),
    ]
    others = ["--executor_class_path", "package.Executor", "--runner=DirectRunner", "--x=a b"]

    arguments = [
        *others[:2],
        EXECUTOR_INPUT,
        json_format.MessageToJson(given),
        *inputs,
        *others[2:],
    ]
    restored = kubeflow_entrypoint.restore_arguments(arguments)

    executor_input = restored.pop(restored.index(EXECUTOR_INPUT) + 1)
    assert json_format.Parse(executor_input, pb.ExecutorInput()) == expected
    assert restored == [*others, EXECUTOR_INPUT, *inputs]


def test_arguments_of_a_spec_before_2_1_get_no_inputs_spec():
    given = execution(model=schema_of(Model))
    given.inputs.parameters["steps"].int_value = 5
    text = json_format.MessageToJson(given)
    restored = kubeflow_entrypoint.restore_arguments([EXECUTOR_INPUT, text, "--runner=x"])
    assert restored == ["--runner=x", EXECUTOR_INPUT, text]


@pytest.mark.slow
def test_container_command_scores_what_kubeflow_passes(uris, tmp_path):
    nodes = Nodes(tmp_path, **uris)
    first = nodes.bulk(
        model_blessing=nodes["blessing"], data_spec=UNLABELLED, expectations={"min_records": 2}
    )
    nodes.bulk("Next", model_blessing=first.outputs["prediction_blessing"], data_spec=UNLABELLED)
    path = compile_nodes(tmp_path / "pipeline.yaml", *nodes.all.values())

    run = Run(path, tmp_path / "tasks").run()

    assert tuple(run.commands["BulkInferencer"][:3]) == kubeflow_entrypoint.COMMAND
    outputs = run.outputs["BulkInferencer"]
    assert scored(outputs["inference_result"]) == five_times(10, 11)
    assert summary_of(outputs["summary"]).gate.verdict == "blessed"
    metadata = json_format.MessageToDict(outputs["inference_result"].metadata)
    assert (metadata["gate"], metadata["predictions_written"]) == ("blessed", 2)
    # What its predictions bless the next component takes for blessed.
    assert tree(outputs["prediction_blessing"].uri) == ["BLESSED"]
    assert summary_of(run.outputs["Next"]["summary"]).gate.verdict == "blessed"
