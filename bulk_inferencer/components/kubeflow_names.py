"""How Kubeflow names the artifacts of an execution, for which TFX makes up ids.

TFX's entrypoint gives an executor a hash of the name, and puts the name back only into what its own
Evaluator writes. Resolvers of blessed models look for the name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kfp.pipeline_spec import pipeline_spec_pb2

_name_of_uri: dict[str, str] = {}


def remember(executor_input: pipeline_spec_pb2.ExecutorInput) -> None:
    """Remembers the names of an execution's inputs, for the rest of this process."""
    for artifacts in executor_input.inputs.artifacts.values():
        for artifact in artifacts.artifacts:
            if artifact.name:
                _name_of_uri[artifact.uri] = artifact.name


def name_of(uri: str) -> str:
    """Returns how Kubeflow names an artifact; empty outside Kubeflow."""
    return _name_of_uri.get(uri, "")
