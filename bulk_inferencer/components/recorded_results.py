"""The results that ML Metadata has recorded of a pipeline."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

from ml_metadata import errors as mlmd_errors
from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2 as mlmd
from tfx.types import standard_artifacts

from bulk_inferencer import _files
from bulk_inferencer._access import check_access
from bulk_inferencer.components import keys
from bulk_inferencer.components.artifacts import InferenceSummary, PredictionTable
from bulk_inferencer.errors import InputError, SettingsError
from bulk_inferencer.results.places import Place
from bulk_inferencer.results.run_results import Results, read_place
from bulk_inferencer.results.summary import Summary

_FINISHED = (mlmd.Execution.COMPLETE, mlmd.Execution.CACHED)
_OUTPUTS = (mlmd.Event.OUTPUT, mlmd.Event.DECLARED_OUTPUT)
_PREDICTIONS = standard_artifacts.InferenceResult.TYPE_NAME
_AT_A_TIME = 100  # executions whose outputs are looked up together


def latest_results(
    metadata: str | os.PathLike[str] | mlmd.ConnectionConfig | metadata_store.MetadataStore,
    pipeline_name: str = "",
    component_id: str = "",
    *,
    split: str | None = None,
    model: str | None = None,
    allow_partial: bool = False,
) -> Results:
    """Reads the newest results that a pipeline has recorded in ML Metadata.

    ```python
    latest_results("metadata.sqlite", "penguins").to_pandas()
    ```

    They are those of the last execution of an inferencer, of ours or TFX's BulkInferrer, that has
    ended well, or was taken from the cache.

    Args:
      metadata: the SQLite file of ML Metadata, or how to connect to it, for example
        `InteractiveContext.metadata_connection_config`.
      pipeline_name: the pipeline; default: any.
      component_id: the component, as its id names it in the pipeline; default: any inferencer.
      split: see `bulk_inferencer.results.read`.
      model: see there.
      allow_partial: see there.

    Raises:
      InputError: there is no such file, pipeline or component, or nothing was recorded yet; or the
        results are not complete.
      SettingsError: the metadata is something else, or there is no such model.
    """
    store = _opened(metadata)
    executions = _executions(store, pipeline_name, component_id)
    for execution, outputs in _newest_with_outputs(store, executions):
        place = _place(outputs)
        if place is not None and execution.last_known_state in _FINISHED:
            return read_place(place, split, model, allow_partial)
    where = "".join(
        [
            f" of the component '{component_id}'" if component_id else " of an inferencer",
            f" in the pipeline '{pipeline_name}'" if pipeline_name else "",
        ]
    )
    raise InputError(
        f"ML Metadata has recorded no results{where}: none of {len(executions)} executions has "
        f"ended well and written predictions. Run the pipeline first."
    )


def _opened(metadata: Any) -> metadata_store.MetadataStore:
    if isinstance(metadata, metadata_store.MetadataStore):
        return metadata
    if isinstance(metadata, (str, os.PathLike)):
        path = _files.as_path("metadata", metadata)
        metadata = mlmd.ConnectionConfig()
        metadata.sqlite.filename_uri = path
        metadata.sqlite.connection_mode = mlmd.SqliteMetadataSourceConfig.READONLY
    if not isinstance(metadata, (mlmd.ConnectionConfig, mlmd.MetadataStoreClientConfig)):
        raise SettingsError(
            f"metadata must be the SQLite file of ML Metadata, or a ConnectionConfig, not "
            f"{metadata!r} of type {type(metadata).__name__}."
        )
    name = "ML Metadata"
    if isinstance(metadata, mlmd.ConnectionConfig) and metadata.HasField("sqlite"):
        name = metadata.sqlite.filename_uri
        if name and not os.path.isfile(name):  # ML Metadata would make one.
            raise InputError(f"There is no file {name}. Give the SQLite file of ML Metadata.")
    try:
        return metadata_store.MetadataStore(metadata)
    except (mlmd_errors.StatusError, RuntimeError) as error:
        raise InputError(
            f"{name} cannot be opened: {error}. Give the SQLite file of ML Metadata, or a "
            f"ConnectionConfig."
        ) from error


def _executions(
    store: metadata_store.MetadataStore, pipeline_name: str, component_id: str
) -> list[mlmd.Execution]:
    """Returns the executions of a component or pipeline, or all of them."""
    pipelines = [context.name for context in store.get_contexts_by_type("pipeline")]
    if pipeline_name and pipeline_name not in pipelines:
        raise InputError(
            f"ML Metadata has no pipeline '{pipeline_name}', but {_listed(pipelines)}. Correct "
            f"pipeline_name."
        )
    pipelines = [pipeline_name] if pipeline_name else pipelines
    if not component_id:
        if not pipeline_name:
            return list(store.get_executions())
        context = store.get_context_by_type_and_name("pipeline", pipeline_name)
        return list(store.get_executions_by_context(context.id))
    contexts = {context.name: context for context in store.get_contexts_by_type("node")}
    wanted = [contexts[n] for p in pipelines if (n := f"{p}.{component_id}") in contexts]
    if not wanted:
        known = [
            name.removeprefix(f"{pipeline}.")
            for name in contexts
            for pipeline in pipelines
            if name.startswith(f"{pipeline}.")
        ]
        raise InputError(
            f"ML Metadata has no component '{component_id}', but {_listed(known)}. Correct "
            f"component_id."
        )
    return [own for context in wanted for own in store.get_executions_by_context(context.id)]


def _newest_with_outputs(
    store: metadata_store.MetadataStore, executions: Sequence[mlmd.Execution]
) -> Iterator[tuple[mlmd.Execution, dict[str, mlmd.Artifact]]]:
    """Yields executions, the newest first, with their outputs by name."""
    newest = sorted(executions, key=lambda execution: execution.id, reverse=True)
    for start in range(0, len(newest), _AT_A_TIME):
        some = newest[start : start + _AT_A_TIME]
        events = [
            event
            for event in store.get_events_by_execution_ids([execution.id for execution in some])
            if event.type in _OUTPUTS
        ]
        artifacts = {
            artifact.id: artifact
            for artifact in store.get_artifacts_by_id(list({event.artifact_id for event in events}))
        }
        outputs: dict[int, dict[str, mlmd.Artifact]] = {execution.id: {} for execution in some}
        for event in events:
            key = next((step.key for step in event.path.steps if step.HasField("key")), "")
            outputs[event.execution_id][key] = artifacts[event.artifact_id]
        for execution in some:
            yield execution, outputs[execution.id]


def _place(outputs: dict[str, mlmd.Artifact]) -> Place | None:
    """Returns where the results are that an execution wrote; None if it wrote no predictions."""
    by_type: dict[str, dict[str, str]] = {}
    for key, artifact in outputs.items():
        by_type.setdefault(artifact.type, {})[key] = artifact.uri
    logs = by_type.get(_PREDICTIONS, {})
    table = next(iter(by_type.get(PredictionTable.TYPE_NAME, {}).values()), None)
    if not logs and not table:
        return None
    check_access(artifact.uri for artifact in outputs.values())
    folder = by_type.get(InferenceSummary.TYPE_NAME, {}).get(keys.SUMMARY, "")
    return Place(
        name=folder or next(iter(logs.values())),
        logs=logs,
        table=table,
        summary=Summary.read_if_any(folder) if folder else None,
        summary_folder=folder,
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(sorted(names)) or "none"
