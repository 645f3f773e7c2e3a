"""What the tests of components/ need: prepared artifacts, and pipelines of seconds."""

from __future__ import annotations

from collections import namedtuple
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest
import tensorflow as tf
from google.protobuf import json_format
from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2
from tfx import types
from tfx import v1 as tfx
from tfx.types import artifact_utils, standard_artifacts

from bulk_inferencer import (
    BranchInferencer,
    BulkInferencer,
    CascadeInferencer,
    InferenceSummary,
    PredictionTable,
    Summary,
    read_predictions,
)
from bulk_inferencer import bulk_inferencer_pb2 as our
from bulk_inferencer.components.executor import Executor
from bulk_inferencer.errors import SettingsError
from tests.helpers import FLOAT, RECORDS, example, features_of, save_functions, write_tfrecord

SPLITS = ("train", "unlabelled")
UNLABELLED = our.DataSpec(example_splits=["unlabelled"])

# Records and examples


def examples_of(*xs):
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


def times(factor, *xs):
    """Returns what `scored` does where y = factor * x."""
    return sorted((x, factor * x) for x in xs)


def table_of(artifact):
    """Returns the rows of a table of predictions, by its columns, as pandas reads them."""
    return pd.read_parquet(artifact.uri).to_dict("list")


def five_times(*xs):
    return times(5, *xs)


def summary_of(artifact):
    """Returns the summary of a single model."""
    return Summary.read(artifact.uri).branches["inference_result"]


# Settings


def columns_of(signature_name="", **columns):
    """Returns an OutputColumnsSpec with `column=output`."""
    cols = [our.PredictOutputCol(output_key=columns[c], output_column=c) for c in columns]
    predict = our.PredictOutput(output_columns=cols)
    return our.OutputColumnsSpec(signature_name=signature_name, predict_output=predict)


def columns_spec(signature_name="", **columns):
    return our.OutputExampleSpec(output_columns_spec=[columns_of(signature_name, **columns)])


def cascade_spec(**of_five):
    return our.CascadeSpec(stages=[our.StageSpec(name="five", **of_five)])


def parameter(default=None, name="parameter"):
    return tfx.dsl.experimental.RuntimeParameter(name, ptype=str, default=default)


def assert_refused(message, call, *args, error=SettingsError, **kwargs):
    """Checks that a call raises an error with this message and nothing around it."""
    with pytest.raises(error) as raised:
        call(*args, **kwargs)
    assert str(raised.value) == message


# Components, with channels that hold nothing

ENDPOINT = our.ModelSpec(
    tf_serving=our.TFServingSpec(address="serving.example.com:8500", model_name="five_times")
)


def channel(kind):
    return types.Channel(type=kind)


def models():
    return {name: channel(standard_artifacts.Model) for name in ("five", "ten")}


def stages(**of_five):
    return [our.StageSpec(name="five", **of_five), our.StageSpec(name="ten")]


def bulk(**arguments):
    if "model" not in arguments:
        arguments = {"model_export": channel(standard_artifacts.Model), **arguments}
    return BulkInferencer(**{"examples": channel(standard_artifacts.Examples), **arguments})


def branch(**arguments):
    defaults = {"examples": channel(standard_artifacts.Examples), "models": models()}
    return BranchInferencer(**{**defaults, **arguments})


def cascade(**arguments):
    defaults = {"examples": channel(standard_artifacts.Examples), "models": models()}
    return CascadeInferencer(**{**defaults, "stages": stages(), **arguments})


def message_of(component, name, kind):
    return json_format.Parse(component.exec_properties[name], kind())


def types_of(channels):
    return {key: channel.type for key, channel in channels.items()}


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

Outputs = namedtuple(
    "Outputs", "inference_result summary failed_examples output_examples prediction_table"
)


def make_outputs(folder):
    """Returns the artifacts that an execution writes to, as a launcher makes them."""
    examples = standard_artifacts.Examples
    result = standard_artifacts.InferenceResult
    kinds = (result, InferenceSummary, examples, examples, PredictionTable)
    folders = [Path(folder, key) for key in Outputs._fields]
    for made in folders:
        made.mkdir(parents=True)
    return Outputs(*map(artifact, kinds, folders))


def execute(outputs, inputs, context=None, **properties):
    """Calls the executor as a launcher does, and returns it; settings may be messages or text."""
    needs = {"output_examples": "output_example_spec", "prediction_table": "table_spec"}
    unused = {key for key, spec in needs.items() if spec not in properties}
    executor = Executor(context)
    executor.Do(
        {key: [value] for key, value in inputs.items()},
        {key: [made] for key, made in outputs._asdict().items() if key not in unused},
        {
            name: value if isinstance(value, str) else json_format.MessageToJson(value)
            for name, value in properties.items()
        },
    )
    return executor


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
        self.root = folder / "artifacts"
        self._metadata = str(folder / "metadata.sqlite")

    def run(self, *nodes, enable_cache=False):
        connection = tfx.orchestration.metadata.sqlite_metadata_connection_config(self._metadata)
        pipeline = tfx.dsl.Pipeline(
            "pipeline",
            str(self.root),
            components=list(nodes),
            enable_cache=enable_cache,
            metadata_connection_config=connection,
        )
        tfx.orchestration.LocalDagRunner().run(pipeline)

    def latest(self, node="BulkInferencer"):
        """Returns what is recorded of a node's latest execution."""
        return latest(self._metadata, f"pipeline.{node}")


class Nodes:
    """The nodes of a pipeline: new ones for each, as TFX wants it.

    At first there are examples, the models five and ten, and a blessing of five.
    """

    def __init__(self, folder, examples_uri, five_uri, ten_uri):
        self.uri_of = {"five": five_uri, "ten": ten_uri}
        self.folder = folder
        self.blessing_folder = folder / "blessing"
        self.blessing_folder.mkdir(exist_ok=True)
        self.all = {}
        self.add(importer("examples", standard_artifacts.Examples, examples_uri, SPLITS))
        for name, uri in self.uri_of.items():
            self.add(importer(name, standard_artifacts.Model, uri))
        self.bless("blessing", "five", blessed=1)

    def add(self, node):
        self.all[node.id] = node
        return node

    def bless(self, name, model, blessed):
        properties = {"blessed": blessed, "current_model": self.uri_of[model]}
        kind = standard_artifacts.ModelBlessing
        self.add(importer(name, kind, self.blessing_folder, **properties))

    def __getitem__(self, name):
        return self.all[name].outputs["result"]

    def several(self):
        """Returns the arguments that a component for several models needs."""
        return {"examples": self["examples"], "models": {n: self[n] for n in self.uri_of}}

    def bulk(self, name="BulkInferencer", **arguments):
        defaults = {"examples": self["examples"], "model_export": self["five"]}
        return self.add(BulkInferencer(**{**defaults, **arguments}).with_id(name))

    def branch(self, name, **arguments):
        return self.add(BranchInferencer(**{**self.several(), **arguments}).with_id(name))

    def cascade(self, name, *stages, **arguments):
        made = CascadeInferencer(**{**self.several(), **arguments}, stages=stages)
        return self.add(made.with_id(name))

    def run(self):
        """Runs all nodes; returns what gives the record of each."""
        pipeline = LocalPipeline(self.folder)
        pipeline.run(*self.all.values())
        return pipeline.latest


# ML Metadata


class Recorded(NamedTuple):
    """What ML Metadata says of an execution: lists of its artifacts by key."""

    state: str
    properties: dict[str, Any]
    inputs: dict[str, list[metadata_store_pb2.Artifact]]
    outputs: dict[str, list[metadata_store_pb2.Artifact]]

    def output(self, key="inference_result"):
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
    inputs, outputs = {}, {}
    events = metadata_store_pb2.Event
    for event in store.get_events_by_execution_ids([execution.id]):
        found = store.get_artifacts_by_id([event.artifact_id])
        # The events of resolvers are internal.
        by_key = inputs if event.type in (events.INPUT, events.INTERNAL_INPUT) else outputs
        by_key.setdefault(event.path.steps[0].key, []).extend(found)
    state = metadata_store_pb2.Execution.State.Name(execution.last_known_state)
    return Recorded(state, custom_properties(execution), inputs, outputs)


def custom_properties(holder):
    """Returns the custom properties of an artifact or execution as values."""
    return {
        name: getattr(value, value.WhichOneof("value"))
        for name, value in holder.custom_properties.items()
    }
