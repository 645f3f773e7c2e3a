"""What the tests of components/ need: prepared artifacts, and pipelines of seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf
from google.protobuf import json_format
from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2
from tfx import types
from tfx import v1 as tfx
from tfx.types import artifact_utils, standard_artifacts

from bulk_inferencer import InferenceSummary, bulk_inferencer_pb2, read_predictions
from bulk_inferencer.components.executor import Executor
from tests.helpers import FLOAT, RECORDS, example, features_of, save_functions, write_tfrecord

# Records and examples


def examples_of(*xs):
    """Returns records that the model scores."""
    return [example(x=float(x)) for x in xs]


def write_examples(folder, **splits):
    """Writes a file of records for each split, as ExampleGen lays them out; returns the URI."""
    for split, records in splits.items():
        write_tfrecord(Path(folder, f"Split-{split}", "data-00000-of-00001.gz"), records)
    return str(folder)


def scored(result):
    """Returns the x and y of every prediction of an artifact, in ascending order."""
    predictions = read_predictions(result.uri)
    return sorted((*features_of(p.record)["x"], p.outputs["y"].item()) for p in predictions)


def five_times(*xs):
    """Returns what `scored` does where these x were scored."""
    return sorted((x, 5 * x) for x in xs)


# Artifacts


def save_model(folder, factor=5.0):
    """Exports y = factor * x with more signatures, as Trainer does; returns the URI."""
    weight = tf.Variable(factor)

    def multiply(examples):
        return {"y": weight * tf.io.parse_example(examples, {"x": FLOAT})["x"]}

    def length(payloads):
        return {"length": tf.strings.length(payloads)}

    def count_steps(sequences):
        features = {"steps": tf.io.RaggedFeature(tf.int64)}
        _, parsed, _ = tf.io.parse_sequence_example(sequences, sequence_features=features)
        return {"steps": parsed["steps"].row_lengths()}

    save_functions(
        Path(folder, "Format-Serving"),
        [weight],
        serving_default=(multiply, {"examples": RECORDS}),
        length=(length, {"payloads": RECORDS}),
        count_steps=(count_steps, {"sequences": RECORDS}),
    )
    return str(folder)


def artifact(kind, uri, splits=(), **custom_properties):
    """Returns an artifact as a driver hands it to an executor."""
    made = kind()
    made.uri = str(uri)
    if splits:
        made.split_names = artifact_utils.encode_split_names(list(splits))
    for name, value in custom_properties.items():
        if isinstance(value, int):
            made.set_int_custom_property(name, value)
        else:
            made.set_string_custom_property(name, value)
    return made


# The executor


class Outputs(NamedTuple):
    """The artifacts that an execution writes to."""

    inference_result: types.Artifact
    summary: types.Artifact
    failed_examples: types.Artifact
    output_examples: types.Artifact | None = None


def make_outputs(folder, with_output_examples=False):
    """Returns outputs in empty folders, as a launcher makes them."""
    kinds = {
        "inference_result": standard_artifacts.InferenceResult,
        "summary": InferenceSummary,
        "failed_examples": standard_artifacts.Examples,
    }
    if with_output_examples:
        kinds["output_examples"] = standard_artifacts.Examples
    for key in kinds:
        Path(folder, key).mkdir(parents=True)
    return Outputs(**{key: artifact(kind, Path(folder, key)) for key, kind in kinds.items()})


def execute(outputs, inputs, required_blessings="", **specs):
    """Calls the executor as a launcher does.

    Args:
      outputs: artifacts to write to.
      inputs: an artifact or a list of them by input.
      required_blessings: the execution property of this name.
      **specs: `data_spec`, `model_spec` and `output_example_spec` as messages or JSON.
    """
    specs = {
        "data_spec": bulk_inferencer_pb2.DataSpec(),
        "model_spec": bulk_inferencer_pb2.ModelSpec(),
        **specs,
    }
    properties = {
        name: spec if isinstance(spec, str) else json_format.MessageToJson(spec)
        for name, spec in specs.items()
    }
    Executor().Do(
        {key: value if isinstance(value, list) else [value] for key, value in inputs.items()},
        {key: [made] for key, made in outputs._asdict().items() if made},
        {**properties, "required_blessings": required_blessings},
    )


# Pipelines


def importer(name, kind, uri, splits=(), **custom_properties):
    """Returns a node that brings a prepared artifact into a pipeline."""
    split_names = {"split_names": artifact_utils.encode_split_names(list(splits))} if splits else {}
    return tfx.dsl.Importer(
        source_uri=str(uri),
        artifact_type=kind,
        properties=split_names,
        custom_properties=custom_properties,
    ).with_id(name)


class LocalPipeline:
    """A pipeline on LocalDagRunner, with ML Metadata of its own."""

    def __init__(self, folder):
        self._folder = folder
        self._metadata = str(folder / "metadata.sqlite")

    def run(self, *nodes, enable_cache=False):
        tfx.orchestration.LocalDagRunner().run(self.of(*nodes, enable_cache=enable_cache))

    def of(self, *nodes, enable_cache=False):
        """Returns the pipeline's definition."""
        connection = tfx.orchestration.metadata.sqlite_metadata_connection_config(self._metadata)
        return tfx.dsl.Pipeline(
            pipeline_name="pipeline",
            pipeline_root=str(self._folder / "artifacts"),
            components=list(nodes),
            enable_cache=enable_cache,
            metadata_connection_config=connection,
        )

    def latest(self, node="BulkInferencer"):
        """Returns what is recorded of a node's latest execution."""
        return latest(self._metadata, f"pipeline.{node}")


# ML Metadata


class Recorded(NamedTuple):
    """What ML Metadata says of an execution: lists of its artifacts by key."""

    state: str
    properties: dict[str, Any]
    inputs: dict[str, list[metadata_store_pb2.Artifact]]
    outputs: dict[str, list[metadata_store_pb2.Artifact]]

    def output(self, key):
        (made,) = self.outputs[key]
        return made


def open_store(metadata_path):
    """Opens ML Metadata in a SQLite file, to read."""
    config = metadata_store_pb2.ConnectionConfig()
    config.sqlite.filename_uri = str(metadata_path)
    config.sqlite.connection_mode = metadata_store_pb2.SqliteMetadataSourceConfig.READONLY
    return metadata_store.MetadataStore(config)


def latest(metadata_path, node):
    """Returns what is recorded of the latest execution of a node, `<pipeline>.<id>`."""
    store = open_store(metadata_path)
    context = store.get_context_by_type_and_name("node", node)
    execution = max(store.get_executions_by_context(context.id), key=lambda e: e.id)
    return recorded_of(store, execution)


def recorded_of(store, execution):
    """Returns what is recorded of an execution."""
    artifacts = {metadata_store_pb2.Event.INPUT: {}, metadata_store_pb2.Event.OUTPUT: {}}
    for event in store.get_events_by_execution_ids([execution.id]):
        found = store.get_artifacts_by_id([event.artifact_id])
        artifacts[event.type].setdefault(event.path.steps[0].key, []).extend(found)
    state = metadata_store_pb2.Execution.State.Name(execution.last_known_state)
    return Recorded(state, custom_properties(execution), *artifacts.values())


def custom_properties(holder):
    """Returns the custom properties of an artifact or execution as values."""
    return {
        name: getattr(value, value.WhichOneof("value"))
        for name, value in holder.custom_properties.items()
    }
