"""The executor, called with real artifacts and without a launcher: what reaches the job and Beam.

What a run does with its settings is tested with runs and units.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
import pytest
import tensorflow as tf
from apache_beam.io.filesystems import FileSystems
from pyarrow import parquet as pq
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx import v1 as tfx
from tfx.components.util import examples_utils, tfxio_utils, udf_utils
from tfx.types.standard_artifacts import Examples, ModelBlessing
from tfx.utils import dependency_utils
from tfx_bsl.tfxio import dataset_options

from bulk_inferencer import Summary, read_predictions
from bulk_inferencer import bulk_inferencer_pb2 as our
from bulk_inferencer.components.executor import Executor
from bulk_inferencer.errors import FailureLimitError, InputError, ModelError, SettingsError
from bulk_inferencer.results.summary import Reused
from tests.components.tfx_helpers import (
    artifact,
    columns_spec,
    custom_properties,
    examples_of,
    execute,
    five_times,
    make_outputs,
    scored,
    summary_of,
    table_of,
    write_examples,
)
from tests.helpers import (
    context_of,
    example,
    read_tfrecord,
    sequence_example,
    tree,
    write_tfrecord,
)

FN_API_RUNNER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"


def properties_of(made):
    return custom_properties(made.mlmd_artifact)


def counts_of(outputs):
    found = properties_of(outputs.inference_result)
    return found["examples_read"], found["predictions_written"], found["examples_failed"]


def test_every_split_is_scored_and_described_by_default(outputs, inputs, caplog):
    with caplog.at_level("INFO"):
        execute(outputs, inputs)

    assert scored(outputs.inference_result) == five_times(0, 1, 2, 10, 11)
    assert tree(outputs.inference_result.uri) == [
        "prediction_logs-train-00000-of-00001.gz",
        "prediction_logs-unlabelled-00000-of-00001.gz",
    ]
    summary = summary_of(outputs.summary)
    assert properties_of(outputs.inference_result) == {
        "examples_read": 5,
        "predictions_written": 5,
        "examples_failed": 0,
        "gate": "no_blessing",
        "model_fingerprint": summary.model_fingerprint,
        "signature_names": "serving_default",
        "model_id": "7",
        "blessing_id": "",
        "examples_ids": "0",
    }
    assert len(summary.model_fingerprint) == 64
    assert summary.model_path == f"{inputs['model'].uri}/Format-Serving"
    assert properties_of(outputs.summary) == {"gate": "no_blessing"}
    versions = json.loads(Path(outputs.summary.uri, "summary.json").read_text())["versions"]
    assert (versions["tfx"], versions["tensorflow"]) == (tfx.__version__, tf.__version__)
    line = (
        f"{summary.model_path}: 5 records read, 5 predicted, 0 failed. Gate: no_blessing. Results: "
        f"{outputs.inference_result.uri}. Work: "
    )
    assert sum(message.startswith(line) for message in caplog.messages) == 1


@pytest.mark.slow
def test_failures_are_kept_up_to_a_limit_and_can_be_fed_back_in(outputs, model, tmp_path, caplog):
    good, bad = examples_of(1, 2), [example(name="first"), example(name="second")]
    some = [good[0], bad[0], good[1], bad[1]]
    uri = write_examples(tmp_path / "mixed", some=some, none=[])
    inputs = {"examples": artifact(Examples, uri, ["some", "none"]), "model": model}
    limit = our.FailureLimit(max_count=2, max_fraction=0.5)

    execute(outputs, inputs, data_spec=our.DataSpec(failure_limit=limit))

    assert counts_of(outputs) == (4, 2, 2)
    assert scored(outputs.inference_result) == five_times(1, 2)
    assert "Split 'none' holds no records (files: 1)." in caplog.messages
    assert "failures-some.jsonl.gz" in tree(outputs.summary.uri)
    assert outputs.failed_examples.split_names == '["none", "some"]'
    again = make_outputs(tmp_path / "again")
    with pytest.raises(FailureLimitError, match="2 of 2 records failed in split 'some'"):
        execute(again, {"examples": outputs.failed_examples, "model": model})
    assert not any(tree(made.uri) for made in again)


def test_with_a_checkpoint_the_next_execution_scores_only_files_that_are_new(model, tmp_path):
    uri = write_examples(tmp_path / "examples", all=examples_of(1, 2))
    inputs = {"examples": artifact(Examples, uri, ["all"]), "model": model}
    spec = our.DataSpec(checkpoint_dir=str(tmp_path / "checkpoint"), keep_checkpoint=True)
    first, second = (make_outputs(tmp_path / name) for name in ("first", "second"))

    execute(first, inputs, data_spec=spec)
    write_tfrecord(Path(uri, "Split-all", "new"), examples_of(3))
    execute(second, inputs, data_spec=spec)

    assert scored(first.inference_result) == five_times(1, 2)
    assert scored(second.inference_result) == five_times(1, 2, 3)
    assert counts_of(second) == (3, 3, 0)
    reused = Summary.read(second.summary.uri).reused
    assert reused == Reused(units=1, examples_read=2)


def test_files_that_are_damaged_or_hold_too_long_a_record_fail_the_run_or_are_skipped(
    outputs, inputs, tmp_path
):
    too_long = our.DataSpec(max_record_bytes=1)
    comes_from = r"BatchBounds\.max_record_bytes comes from DataSpec\.max_record_bytes\.$"
    with pytest.raises(InputError, match=comes_from):
        execute(outputs, inputs, data_spec=too_long)

    too_long.damaged_files = our.DataSpec.SKIP
    skipped = make_outputs(tmp_path / "skipped")
    execute(skipped, inputs, data_spec=too_long)
    assert counts_of(skipped) == (0, 0, 0)


def test_options_of_beam_reach_the_filesystems_before_examples_are_listed(
    outputs, model, monkeypatch, tmp_path
):
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr(FileSystems, "_pipeline_options", None)
    context = Executor.Context(beam_pipeline_args=["--s3_endpoint_url=http://127.0.0.1:9"])
    inputs = {"examples": artifact(Examples, "s3://bucket/in", ["a"]), "model": model}
    with pytest.raises(SettingsError, match=r"^There are no credentials for s3://bucket/in\. "):
        execute(outputs, inputs, context)
    options = FileSystems._pipeline_options.get_all_options()
    assert options["s3_endpoint_url"] == "http://127.0.0.1:9"


def test_error_names_the_setting_and_leaves_the_outputs_empty(outputs, inputs):
    message = r"Correct SavedModel\.tags\. SavedModel\.tags comes from ModelSpec\.tag\.$"
    with pytest.raises(ModelError, match=message):
        execute(outputs, inputs, model_spec=our.ModelSpec(tag=["gpu"]))
    assert not any(tree(made.uri) for made in outputs)


def test_parquet_is_read_and_written_and_the_table_may_take_the_place_of_logs(
    outputs, model, tmp_path
):
    xs = pa.array([1.0, 2.0], pa.float32())
    table = pa.table({"id": ["a", "b"], "number": xs, "x": ["not", "this"]})
    Path(tmp_path, "in", "Split-all").mkdir(parents=True)
    pq.write_table(table, tmp_path / "in" / "Split-all" / "data_parquet-00000-of-00001.parquet")
    properties = {"file_format": "tfrecords_gzip", "payload_format": "FORMAT_PARQUET"}

    execute(
        outputs,
        {"examples": artifact(Examples, tmp_path / "in", ["all"], **properties), "model": model},
        data_spec=our.DataSpec(columns=["number"], rename={"number": "x"}, prediction_logs=False),
        table_spec=our.TableSpec(keep=["id"]),
    )

    assert table_of(outputs.prediction_table) == {"id": ["a", "b"], "y": [5, 10]}
    assert tree(outputs.inference_result.uri) == []
    assert "report.html" in tree(outputs.summary.uri)
    assert counts_of(outputs) == (2, 2, 0)
    assert properties_of(outputs.prediction_table) == {"gate": "no_blessing"}
    assert properties_of(outputs.failed_examples)["payload_format"] == "FORMAT_TF_EXAMPLE"


@pytest.mark.slow
def test_sequence_examples_are_scored_and_get_columns_in_their_context(outputs, model, tmp_path):
    uri = write_examples(tmp_path / "examples", a=[sequence_example(name="n")])
    examples = artifact(Examples, uri, ["a"], payload_format="FORMAT_TF_SEQUENCE_EXAMPLE")

    execute(
        outputs,
        {"examples": examples, "model": model},
        model_spec=our.ModelSpec(model_signature_name=["count_steps"]),
        output_example_spec=columns_spec(count="steps"),
    )

    shard = f"{outputs.output_examples.uri}/Split-a/examples-00000-of-00001.gz"
    (record,) = read_tfrecord(shard)
    assert context_of(record) == {"name": [b"n"], "count": [3]}
    for made in (outputs.failed_examples, outputs.output_examples):
        assert properties_of(made) == {
            "file_format": "tfrecords_gzip",
            "payload_format": "FORMAT_TF_SEQUENCE_EXAMPLE",
        }


@pytest.mark.slow
def test_tfx_reads_output_examples_back(outputs, inputs):
    execute(outputs, inputs, output_example_spec=columns_spec(y5="y"))

    made = outputs.output_examples
    assert made.split_names == '["train", "unlabelled"]'
    # As Trainer and Transform do.
    factory = tfxio_utils.get_tf_dataset_factory_from_artifact([made], ["test"])
    (pattern,) = examples_utils.get_split_file_patterns([made], "train")
    shape = schema_pb2.FixedShape(dim=[schema_pb2.FixedShape.Dim(size=1)])
    presence = schema_pb2.FeaturePresence(min_fraction=1)
    fields = {"type": schema_pb2.FLOAT, "shape": shape, "presence": presence}
    features = [schema_pb2.Feature(name=name, **fields) for name in ("x", "y5")]
    options = dataset_options.TensorFlowDatasetOptions(batch_size=3, num_epochs=1, shuffle=False)
    (batch,) = factory([pattern], options, schema_pb2.Schema(feature=features))
    assert sorted(tf.reshape(batch["x"], [-1]).numpy().tolist()) == [0, 1, 2]
    assert sorted(tf.reshape(batch["y5"], [-1]).numpy().tolist()) == [0, 5, 10]


def test_gate_that_is_closed_reads_no_examples_and_says_why(outputs, inputs, tmp_path):
    gone = artifact(Examples, tmp_path / "gone", ["a"], file_format="FORMAT_PARQUET")

    execute(
        outputs,
        {**inputs, "examples": gone},
        required_blessings="model_blessing",
        data_spec=our.DataSpec(example_splits=["no such split"]),
        module_file=str(tmp_path / "no_such_hooks.py"),
    )

    summary = summary_of(outputs.summary)
    assert (summary.gate.verdict, summary.splits) == ("not_blessed", {})
    assert "model_blessing" in summary.gate.reason
    assert counts_of(outputs) == (0, 0, 0)
    assert properties_of(outputs.inference_result)["gate"] == "not_blessed"
    assert properties_of(outputs.summary) == {"gate": "not_blessed"}
    written = ["report.html", "statistics.json", "stats.tfrecord", "summary.json"]
    assert tree(outputs.summary.uri) == written
    assert tree(outputs.inference_result.uri) == tree(outputs.failed_examples.uri) == []
    assert outputs.failed_examples.split_names == "[]"


@pytest.mark.slow
def test_policy_to_ignore_scores_and_says_that_the_model_was_not_blessed(outputs, inputs, tmp_path):
    refusal = artifact(ModelBlessing, tmp_path, blessed=0)
    ignore = our.ModelSpec(gate_policy=our.IGNORE)
    execute(outputs, {**inputs, "model_blessing": refusal}, model_spec=ignore)
    assert summary_of(outputs.summary).gate.verdict == "not_blessed"
    assert properties_of(outputs.inference_result)["gate"] == "not_blessed"
    assert scored(outputs.inference_result) == five_times(0, 1, 2, 10, 11)


@pytest.fixture
def packaged(monkeypatch):
    """Collects the arguments for which TFX packs its sources, which takes a second and more."""
    calls = []

    def make_beam_dependency_flags(args):
        calls.append(list(args))
        return [*args, "--extra_package=tfx.tar.gz"]

    monkeypatch.setattr(dependency_utils, "make_beam_dependency_flags", make_beam_dependency_flags)
    # TFX parses all of the command line as flags where there are Beam arguments.
    monkeypatch.setattr("sys.argv", ["test"])
    return calls


def test_no_worker_gets_sources_of_tfx_and_jobs_elsewhere_get_its_labels(packaged):
    for args in ([], ["--direct_num_workers=1"], [f"--runner={FN_API_RUNNER}"]):
        assert Executor(Executor.Context(beam_pipeline_args=args))._beam_pipeline_args == args
    args = ["--runner=DataflowRunner"]
    own = Executor(Executor.Context(beam_pipeline_args=args))._beam_pipeline_args
    label = "tfx_executor=third_party_executor"
    assert own[0] == args[0]
    assert label in own
    assert set(own[1::2]) == {"--labels"}
    assert packaged == []


IMPORT = "from constants import NUMBER"
HOOKS = f"""
import os

{IMPORT}

def load_model(path):
    return lambda features: {{"y": NUMBER * features["x"]}}

def postprocess(records, outputs):
    return {{**outputs, "process": [os.getpid()] * len(records)}}
"""


@pytest.mark.slow
@pytest.mark.parametrize("is_packaged", [True, False], ids=["package", "file"])
def test_hooks_are_there_for_workers_in_processes_that_do_not_see_their_folder(
    outputs, inputs, tmp_path, monkeypatch, packaged, is_packaged
):
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "constants.py").write_text("NUMBER = 5\n")
    (folder / "hooks.py").write_text(HOOKS if is_packaged else HOOKS.replace(IMPORT, "NUMBER = 5"))
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec env -u PYTHONPATH {sys.executable} "$@"\n')
    python.chmod(0o755)
    hooks = {"module_file": str(folder / "hooks.py")}
    if is_packaged:
        wheel = udf_utils.package_user_module_file("mine", hooks["module_file"], str(tmp_path))
        hooks = {"module_path": wheel[1]}
    monkeypatch.setattr(sys, "executable", str(python))  # which the local runner starts
    args = ["--direct_running_mode=multi_processing", "--direct_num_workers=1"]
    context = Executor.Context(beam_pipeline_args=[f"--runner={FN_API_RUNNER}", *args])

    execute(outputs, inputs, context, **hooks)

    assert scored(outputs.inference_result) == five_times(0, 1, 2, 10, 11)
    predictions = read_predictions(outputs.inference_result.uri)
    assert os.getpid() not in {p.outputs["process"].item() for p in predictions}


def test_runner_of_the_pipelines_author_is_kept(outputs, inputs, packaged):
    context = Executor.Context(beam_pipeline_args=["--runner=NoSuchRunner"])
    with pytest.raises(ValueError, match="NoSuchRunner"):
        execute(outputs, inputs, context)
    assert not any(tree(made.uri) for made in outputs)


@pytest.mark.slow
def test_pipeline_that_the_launcher_makes_is_used(outputs, inputs):
    made_pipelines = []

    def make_pipeline():
        options = beam.options.pipeline_options.PipelineOptions([f"--runner={FN_API_RUNNER}"])
        made_pipelines.append(beam.Pipeline(options=options))
        return made_pipelines[-1]

    execute(outputs, inputs, Executor.Context(make_beam_pipeline_fn=make_pipeline))

    assert len(made_pipelines) == 1
    assert scored(outputs.inference_result) == five_times(0, 1, 2, 10, 11)
