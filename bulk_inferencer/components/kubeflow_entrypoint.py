"""What a container runs on Kubeflow Pipelines: TFX's own entrypoint, after types are restored.

A pipeline's spec gives each artifact a type, from which TFX's entrypoint imports a class. On the
way the type gets lost: the driver of open-source Kubeflow Pipelines passes input artifacts with an
empty `instanceSchema` ("TODO: figure out how to get schema" in backend/src/v2/metadata/client.go),
and `kfp.local` passes them as `system.Artifact`. TFX's entrypoint raises on both. This one takes
the types from the component's spec, which TFX's compiler puts on the command line:

    KubeflowV2DagRunnerConfig(
        default_image=...,
        default_commands=list(kubeflow_entrypoint.COMMAND),
        use_pipeline_spec_2_1=True,
    )

Types that arrive whole, as on Vertex AI, are left alone. The module can go when Kubeflow passes
types, or when TFX takes them from the component's spec.
"""

from __future__ import annotations

import argparse
import functools
import runpy
import sys
from collections.abc import Sequence

import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from bulk_inferencer.components import kubeflow_names
from bulk_inferencer.errors import SettingsError

COMMAND = ("python", "-m", "bulk_inferencer.components.kubeflow_entrypoint")

_TFX_ENTRYPOINT = "tfx.orchestration.kubeflow.v2.container.kubeflow_v2_run_executor"
_EXECUTOR_INPUT = "--json_serialized_invocation_args"
_INPUTS_SPEC = "--json_serialized_inputs_spec_args"
# What Kubeflow's own types begin with: an artifact of any type, and the log that it keeps itself.
_KUBEFLOW_TYPES = "system."


def main() -> None:
    """Runs TFX's entrypoint with the arguments that this process was given."""
    sys.argv[1:] = restore_arguments(sys.argv[1:])
    runpy.run_module(_TFX_ENTRYPOINT, run_name="__main__", alter_sys=True)


def restore_arguments(arguments: Sequence[str]) -> list[str]:
    """Returns the arguments of TFX's entrypoint with restored types.

    Raises:
      SettingsError: see `restore_types`.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(_EXECUTOR_INPUT, required=True, dest="executor_input")
    parser.add_argument(_INPUTS_SPEC, dest="inputs_spec")
    known, others = parser.parse_known_args(arguments)
    parse = functools.partial(json_format.Parse, ignore_unknown_fields=True)
    executor_input = parse(known.executor_input, pipeline_spec_pb2.ExecutorInput())
    inputs_spec = parse(known.inputs_spec or "{}", pipeline_spec_pb2.ComponentInputsSpec())
    restore_types(executor_input, inputs_spec)
    kubeflow_names.remember(executor_input)
    arguments = [*others, _EXECUTOR_INPUT, json_format.MessageToJson(executor_input)]
    # Without it, TFX reads the parameters of a pipeline's spec before 2.1.
    return [*arguments, _INPUTS_SPEC, known.inputs_spec] if known.inputs_spec else arguments


def restore_types(
    executor_input: pipeline_spec_pb2.ExecutorInput,
    inputs_spec: pipeline_spec_pb2.ComponentInputsSpec,
) -> None:
    """Gives the artifacts of an execution types that TFX can import; changes `executor_input`.

    Removes outputs that do not belong to the component, such as Kubeflow's `executor-logs`, which
    Kubeflow writes itself.

    Raises:
      SettingsError: an input has a type in neither of them.
    """
    for key, artifacts in executor_input.inputs.artifacts.items():
        for artifact in artifacts.artifacts:
            title = _title(artifact.type)
            if title and not title.startswith(_KUBEFLOW_TYPES):
                continue
            if key not in inputs_spec.artifacts:
                raise SettingsError(
                    f"The artifact of input {key!r} has the type {title!r} from Kubeflow, and the "
                    f"component's spec on the command line has types only for: "
                    f"{', '.join(sorted(inputs_spec.artifacts)) or 'no input'}. Compile the "
                    f"pipeline with use_pipeline_spec_2_1=True."
                )
            artifact.type.CopyFrom(inputs_spec.artifacts[key].artifact_type)
    outputs = executor_input.outputs.artifacts
    for key in list(outputs):
        if any(_title(made.type).startswith(_KUBEFLOW_TYPES) for made in outputs[key].artifacts):
            del outputs[key]


def _title(schema: pipeline_spec_pb2.ArtifactTypeSchema) -> str:
    if schema.WhichOneof("kind") == "instance_schema":
        return (yaml.safe_load(schema.instance_schema) or {}).get("title", "")
    return schema.schema_title


if __name__ == "__main__":
    main()
