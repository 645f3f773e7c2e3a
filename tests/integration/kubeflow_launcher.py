"""What Kubeflow does around a container, on one machine and without a cluster.

`Run` resolves, calls and records each task of a compiled pipeline as the driver and the launcher of
open-source Kubeflow Pipelines do (backend/src/v2/{driver,component,metadata} of kubeflow/pipelines,
read at 7b70c7b of August 2026). Two things differ: artifacts lie in local folders, for which the
launcher has no path, and ML Metadata is a dict.
"""

from __future__ import annotations

import graphlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2 as pb
from tfx import v1 as tfx
from tfx.orchestration.kubeflow.v2 import kubeflow_v2_dag_runner

from bulk_inferencer.components import kubeflow_entrypoint

PLACEHOLDER = "{{$}}"


class Run:
    """A run of a compiled pipeline: the outputs of its tasks by key, and the commands called."""

    def __init__(self, pipeline_yaml: Path, folder: Path) -> None:
        documents = yaml.safe_load(Path(pipeline_yaml).read_text())
        self._spec = json_format.ParseDict(documents, pb.PipelineSpec())
        self._executors = json_format.MessageToDict(self._spec.deployment_spec)["executors"]
        self._folder = folder
        self._in_metadata: dict[tuple[str, str], pb.RuntimeArtifact] = {}
        self.outputs: dict[str, dict[str, pb.RuntimeArtifact]] = {}
        self.commands: dict[str, list[str]] = {}

    def run(self) -> Run:
        tasks = self._spec.root.dag.tasks
        upstream = {name: list(task.dependent_tasks) for name, task in tasks.items()}
        for name in graphlib.TopologicalSorter(upstream).static_order():
            self._run_task(name)
        return self

    def _run_task(self, name: str) -> None:
        component = self._spec.components[self._spec.root.dag.tasks[name].component_ref.name]
        executor = self._executors[component.executor_label]
        if importer := executor.get("importer"):
            (key,) = component.output_definitions.artifacts
            artifact = pb.RuntimeArtifact(uri=importer["artifactUri"]["constant"])
            artifact.metadata.update(importer.get("metadata", {}))
            self.outputs[name] = {key: artifact}
        else:
            self.outputs[name] = self._run_container(name, component, executor["container"])
        for key, artifact in self.outputs[name].items():
            id = len(self._in_metadata) + 1
            self._in_metadata[name, key] = _through_metadata(key, artifact, id)

    def _run_container(
        self, name: str, component: pb.ComponentSpec, container: dict[str, Any]
    ) -> dict[str, pb.RuntimeArtifact]:
        """Returns a task's outputs, with what its `executor_output` says of them."""
        root = self._folder / name
        executor_input = self._resolve(name, component, root)
        # The launcher makes the folder that an artifact lies in, not the artifact's own.
        root.mkdir(parents=True)
        command = [
            part.replace(PLACEHOLDER, json_format.MessageToJson(executor_input))
            for part in (*container["command"], *container["args"])
        ]
        assert not [part for part in command if "{{$" in part]
        self.commands[name] = command
        ran = subprocess.run(
            command,
            cwd=self._folder,  # Nothing is importable that is not installed.
            env=container_environment(),
            capture_output=True,
            text=True,
        )
        assert ran.returncode == 0, f"{name}: {ran.stderr[-4000:]}"

        executor_output = json_format.Parse(
            Path(executor_input.outputs.output_file).read_text(), pb.ExecutorOutput()
        )
        outputs = {}
        for key in component.output_definitions.artifacts:
            (outputs[key],) = executor_input.outputs.artifacts[key].artifacts
            (said,) = executor_output.artifacts[key].artifacts
            outputs[key].uri = said.uri or outputs[key].uri
            outputs[key].metadata.update(json_format.MessageToDict(said.metadata))
        return outputs

    def _resolve(self, name: str, component: pb.ComponentSpec, root: Path) -> pb.ExecutorInput:
        """Returns a task's parameters, inputs and outputs as the driver resolves them."""
        resolved = pb.ExecutorInput()
        inputs = self._spec.root.dag.tasks[name].inputs
        for key, parameter in inputs.parameters.items():
            resolved.inputs.parameter_values[key].CopyFrom(parameter.runtime_value.constant)
        for key, source in inputs.artifacts.items():
            output = source.task_output_artifact
            resolved.inputs.artifacts[key].artifacts.append(
                self._in_metadata[output.producer_task, output.output_artifact_key]
            )
        for key, spec in component.output_definitions.artifacts.items():
            resolved.outputs.artifacts[key].artifacts.add(
                name=key, uri=str(root / key), type=spec.artifact_type, metadata=spec.metadata
            )
        # Unless PUBLISH_LOGS is off, the driver adds an output that the launcher writes.
        resolved.outputs.artifacts["executor-logs"].artifacts.add(
            name="executor-logs",
            uri=str(root / "executor-logs"),
            type=pb.ArtifactTypeSchema(schema_title="system.Artifact"),
        )
        resolved.outputs.output_file = str(root / "output_metadata.json")
        return resolved


def compile_nodes(path: Path, *nodes: Any) -> Path:
    """Writes a pipeline of these nodes to a YAML file, and returns its path."""
    config = kubeflow_v2_dag_runner.KubeflowV2DagRunnerConfig(
        default_image="image",
        default_commands=list(kubeflow_entrypoint.COMMAND),
        use_pipeline_spec_2_1=True,
    )
    runner = kubeflow_v2_dag_runner.KubeflowV2DagRunner(
        config, output_dir=str(path.parent), output_filename=path.name
    )
    runner.run(tfx.dsl.Pipeline("pipeline", str(path.parent), components=list(nodes)))
    return path


def container_environment() -> dict[str, str]:
    """Returns the environment of a container: its `python` is the one that runs the tests."""
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    return {**os.environ, "PATH": path}


def _through_metadata(key: str, artifact: pb.RuntimeArtifact, id: int) -> pb.RuntimeArtifact:
    """Returns an artifact as the driver reads it back from ML Metadata for the next task."""
    read = pb.RuntimeArtifact(name=str(id), uri=artifact.uri)
    # "TODO(Bobgy): figure out how to get schema", says GetOutputArtifactsByExecutionId.
    read.type.instance_schema = ""
    read.metadata.update({"display_name": key, "store_session_info": "{}"})
    for name, value in json_format.MessageToDict(artifact.metadata).items():
        assert value is not None, f"Kubeflow cannot store a null: {key}, {name}"
        if isinstance(value, dict):
            value = {"struct": value}
        elif isinstance(value, list):
            value = {"list": value}
        read.metadata.update({name: float(value) if isinstance(value, bool) else value})
    return read
