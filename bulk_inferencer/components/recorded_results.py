"""The results that ML Metadata has recorded of a pipeline.

TFX is not imported here, which takes seconds: ML Metadata alone says what was recorded.
"""

from __future__ import annotations

import datetime as dt
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ml_metadata import errors as mlmd_errors
from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2 as mlmd

from bulk_inferencer import _files
from bulk_inferencer._access import check_access
from bulk_inferencer.components import keys
from bulk_inferencer.errors import InputError, SettingsError
from bulk_inferencer.results.amounts import counted
from bulk_inferencer.results.places import Place
from bulk_inferencer.results.run_results import Results, read_place
from bulk_inferencer.results.summary import Summary

_FINISHED = (mlmd.Execution.COMPLETE, mlmd.Execution.CACHED)
_INPUTS = (mlmd.Event.INPUT, mlmd.Event.DECLARED_INPUT)
_OUTPUTS = (mlmd.Event.OUTPUT, mlmd.Event.DECLARED_OUTPUT)
# Types of artifacts, by their names in ML Metadata.
_PREDICTIONS, _TABLE = "InferenceResult", "bulk_inferencer.PredictionTable"
_SUMMARY, _COMPARISON = "bulk_inferencer.InferenceSummary", "bulk_inferencer.ModelComparison"
_MODEL = "Model"
_BLESSED = "blessed"  # the property of a ModelBlessing, as TFX names it

# How a file of SQLite begins.
_SQLITE = b"SQLite format 3\0"
# How the types of executions are named that are inferencers, and of one that only imports results.
_OURS, _THEIRS, _IMPORTER = "bulk_inferencer.", ".BulkInferrer", ".Importer"
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
    for execution, outputs, _ in _newest(store, executions):
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
        f"ML Metadata has recorded no results{where}: of {counted(len(executions), 'execution')}, "
        f"none has ended well and written predictions. Run the pipeline first."
    )


@dataclass(frozen=True)
class RecordedResult:
    """The predictions of one model in an execution, as ML Metadata knows them.

    Attributes:
      name: the output that they are; of several models, its name.
      uri: where they are.
      gate: the verdict of the gate; empty if it is not recorded, as by TFX's BulkInferrer.
      model: the URI of the model, or its endpoint; empty if it is not recorded.
      meets_expectations: whether the model was blessed for its predictions; None if nothing was
        expected of them.
      examples_read: records read; None if it is not recorded, as below.
      predictions_written: records predicted.
      examples_failed: records that could not be scored.
    """

    name: str
    uri: str
    gate: str = ""
    model: str = ""
    meets_expectations: bool | None = None
    examples_read: int | None = None
    predictions_written: int | None = None
    examples_failed: int | None = None


@dataclass(frozen=True)
class RecordedRun:
    """An execution of an inferencer.

    Attributes:
      execution_id: its id in ML Metadata.
      pipeline: the pipeline.
      run: the run of the pipeline.
      component: the component, as its id names it.
      state: `COMPLETE`, `CACHED`, `FAILED`, `RUNNING`, or another state of ML Metadata.
      started: when.
      ended: when it was last heard of.
      results: what each model has predicted; empty if the execution has not ended well.
      summary: the folder with the `summary.json` of the run; empty if there is none.
    """

    execution_id: int
    pipeline: str
    run: str
    component: str
    state: str
    started: dt.datetime
    ended: dt.datetime
    results: tuple[RecordedResult, ...] = ()
    summary: str = ""


def recorded_runs(
    metadata: str | os.PathLike[str] | mlmd.ConnectionConfig | metadata_store.MetadataStore,
    pipeline_name: str = "",
    most: int | None = None,
) -> list[RecordedRun]:
    """Returns the executions of inferencers that ML Metadata has recorded, the newest first.

    They are those of our components and of TFX's BulkInferrer, and others that wrote predictions.
    No file but that of ML Metadata is read, and nothing is written.

    Args:
      metadata: see `latest_results`.
      pipeline_name: the pipeline; default: any.
      most: how many executions to return; default: all.

    Raises:
      InputError: there is no such file or pipeline.
      SettingsError: the metadata is something else.
    """
    store = _opened(metadata)
    types = {own.id: own.name for own in store.get_execution_types()}
    found = (
        recorded
        for recorded in _newest(store, _executions(store, pipeline_name, ""))
        if _is_inferencer(types.get(recorded.execution.type_id, ""), recorded)
    )
    return [_run_of(store, recorded) for recorded in itertools.islice(found, most)]


def _is_inferencer(kind: str, recorded: _Recorded) -> bool:
    # One that has failed has no outputs, and only the name of its type tells.
    if kind.startswith(_OURS) or kind.endswith(_THEIRS):
        return True
    types = {artifact.type for artifact in recorded.outputs.values()}
    return not kind.endswith(_IMPORTER) and not types.isdisjoint((_PREDICTIONS, _TABLE))


def _run_of(store: metadata_store.MetadataStore, recorded: _Recorded) -> RecordedRun:
    execution, outputs, inputs = recorded
    contexts = {own.type: own.name for own in store.get_contexts_by_execution(execution.id)}
    pipeline = contexts.get("pipeline", "")
    # The second names are those of InteractiveContext.
    run = contexts.get("pipeline_run") or contexts.get("run", "")
    node = contexts.get("node", "").removeprefix(f"{pipeline}.")
    component = node or contexts.get("component_run", "").removeprefix(f"{run}.")
    of_type = {kind: _of_type(outputs, kind) for kind in (_PREDICTIONS, _TABLE, _SUMMARY)}
    models = _of_type(inputs, _MODEL)
    shown = of_type[_PREDICTIONS] or of_type[_TABLE]
    return RecordedRun(
        execution_id=execution.id,
        pipeline=pipeline,
        run=run,
        component=component,
        state=mlmd.Execution.State.Name(execution.last_known_state),
        started=_time(execution.create_time_since_epoch),
        ended=_time(execution.last_update_time_since_epoch),
        results=tuple(
            _result(key, shown[key], models, _is_blessed(key, outputs)) for key in sorted(shown)
        ),
        summary=next((own.uri for own in of_type[_SUMMARY].values()), ""),
    )


def _of_type(artifacts: Mapping[str, mlmd.Artifact], kind: str) -> dict[str, mlmd.Artifact]:
    return {key: artifact for key, artifact in artifacts.items() if artifact.type == kind}


def _is_blessed(result: str, outputs: Mapping[str, mlmd.Artifact]) -> bool | None:
    """Returns whether a model was blessed for its predictions; None if nothing was expected."""
    is_of_all = result in (keys.INFERENCE_RESULT, keys.PREDICTION_TABLE)
    verdicts = [
        artifact.custom_properties[_BLESSED].int_value == 1
        for key, artifact in outputs.items()
        if key == keys.prediction_blessing_key(result)
        or (is_of_all and key.startswith(keys.PREDICTION_BLESSING))
        if _BLESSED in artifact.custom_properties
    ]
    return all(verdicts) if verdicts else None


def _result(
    key: str,
    artifact: mlmd.Artifact,
    models: Mapping[str, mlmd.Artifact],
    meets_expectations: bool | None,
) -> RecordedResult:
    kept = artifact.custom_properties
    ids = kept[keys.MODEL_ID].string_value.split(",") if keys.MODEL_ID in kept else []
    uris = [own.uri for own in models.values() if not ids or str(own.id) in ids]
    endpoint = kept[keys.MODEL_ENDPOINT].string_value if keys.MODEL_ENDPOINT in kept else ""
    counts = {name: int(kept[name].int_value) for name in keys.COUNTS if name in kept}
    gate = kept[keys.GATE].string_value if keys.GATE in kept else ""
    model = endpoint or ", ".join(uris)
    return RecordedResult(key, artifact.uri, gate, model, meets_expectations, **counts)


def _time(milliseconds: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(milliseconds / 1000, dt.timezone.utc)


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
    name = ""
    if isinstance(metadata, mlmd.ConnectionConfig) and metadata.HasField("sqlite"):
        name = metadata.sqlite.filename_uri
        if name and not os.path.isfile(name):  # ML Metadata would make one.
            raise InputError(f"There is no file {name}. Give the SQLite file of ML Metadata.")
        if name and not _may_be_sqlite(name):
            raise _not_metadata(name)
    try:
        return metadata_store.MetadataStore(metadata)
    except (mlmd_errors.StatusError, RuntimeError) as error:
        reason = _without_sql(str(error))
        # It would make the tables that it does not find.
        if name and ("readonly database" in reason or "not a database" in reason):
            raise _not_metadata(name) from error
        raise InputError(
            f"{name or 'ML Metadata'} cannot be opened: {reason}. Give the SQLite file of ML "
            f"Metadata, or a ConnectionConfig."
        ) from error


def _may_be_sqlite(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            start = file.read(len(_SQLITE))
    except OSError:
        return True  # ML Metadata says why.
    return start in (b"", _SQLITE)  # ML Metadata makes its tables in an empty one.


def _without_sql(message: str) -> str:
    what = message.rpartition("Error when executing query: ")[2]
    return what.partition(" query: ")[0].rstrip(". ")


def _not_metadata(path: str) -> InputError:
    return InputError(
        f"{path} is not an SQLite file of ML Metadata. Give the file that the pipeline writes, "
        f"often metadata.sqlite or metadata.db."
    )


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


class _Recorded(NamedTuple):
    """An execution, and its artifacts by the name of their channel."""

    execution: mlmd.Execution
    outputs: dict[str, mlmd.Artifact]
    inputs: dict[str, mlmd.Artifact]


def _newest(
    store: metadata_store.MetadataStore, executions: Sequence[mlmd.Execution]
) -> Iterator[_Recorded]:
    """Yields executions, the newest first."""
    newest = sorted(executions, key=lambda execution: execution.id, reverse=True)
    for start in range(0, len(newest), _AT_A_TIME):
        some = {own.id: _Recorded(own, {}, {}) for own in newest[start : start + _AT_A_TIME]}
        events = store.get_events_by_execution_ids(list(some))
        artifacts = {
            artifact.id: artifact
            for artifact in store.get_artifacts_by_id(list({event.artifact_id for event in events}))
        }
        for event in events:
            key = next((step.key for step in event.path.steps if step.HasField("key")), "")
            own = some[event.execution_id]
            if event.type in _OUTPUTS:
                own.outputs[key] = artifacts[event.artifact_id]
            elif event.type in _INPUTS:
                own.inputs[key] = artifacts[event.artifact_id]
        yield from some.values()


def _place(outputs: dict[str, mlmd.Artifact]) -> Place | None:
    """Returns where the results are that an execution wrote; None if it wrote no predictions."""
    by_type: dict[str, dict[str, str]] = {}
    for key, artifact in outputs.items():
        by_type.setdefault(artifact.type, {})[key] = artifact.uri
    logs = by_type.get(_PREDICTIONS, {})
    table = next(iter(by_type.get(_TABLE, {}).values()), None)
    if not logs and not table:
        return None
    check_access(artifact.uri for artifact in outputs.values())
    folder = by_type.get(_SUMMARY, {}).get(keys.SUMMARY, "")
    return Place(
        name=folder or next(iter(logs.values())),
        logs=logs,
        table=table,
        comparison=next(iter(by_type.get(_COMPARISON, {}).values()), None),
        summary=Summary.read_if_any(folder) if folder else None,
        summary_folder=folder,
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(sorted(names)) or "none"
