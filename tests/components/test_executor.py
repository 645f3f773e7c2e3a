"""The executor, called with real artifacts and without a launcher: what reaches the job and Beam.

What a run does with its settings is tested with runs and units.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import apache_beam as beam
import pytest
import tensorflow as tf
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx import v1 as tfx
from tfx.components.util import examples_utils, tfxio_utils
from tfx.types.standard_artifacts import Examples, ModelBlessing
from tfx.utils import dependency_utils
from tfx_bsl.tfxio import dataset_options

from bulk_inferencer import bulk_inferencer_pb2 as our
from bulk_inferencer.components.executor import Executor
from bulk_inferencer.errors import FailureLimitError
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
    write_examples,
)
from tests.helpers import context_of, example, read_tfrecord, sequence_example, tree

ALL_MAY_FAIL = our.DataSpec(failure_limit=our.FailureLimit(max_fraction=1))
FN_API_RUNNER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"


@pytest.fixture
def mixed_examples(tmp_path):
    """Examples of which two of four cannot be scored."""
    good, bad = examples_of(1, 2), [example(name="first"), example(name="second")]
    uri = write_examples(tmp_path / "mixed", unlabelled=[good[0], bad[0], good[1], bad[1]])
    return artifact(Examples, uri, ["unlabelled"])


def properties_of(made):
    return custom_properties(made.mlmd_artifact)


def counts_of(outputs):
    found = properties_of(outputs.inference_result)
    return found["examples_read"], found["predictions_written"], found["examples_failed"]


def test_every_split_is_scored_and_described_by_default(outputs, inputs):
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


@pytest.mark.slow
def test_failures_are_listed_kept_and_can_be_fed_back_in(outputs, mixed_examples, model, tmp_path):
    execute(outputs, {"examples": mixed_examples, "model": model}, data_spec=ALL_MAY_FAIL)

    assert counts_of(outputs) == (4, 2, 2)
    assert scored(outputs.inference_result) == five_times(1, 2)
    file = f"{mixed_examples.uri}/Split-unlabelled/data-00000-of-00001.gz"
    with gzip.open(f"{outputs.summary.uri}/failures-unlabelled.jsonl.gz", "rt") as lines:
        failures = [json.loads(line) for line in lines]
    assert [(failure["file"], failure["record"]) for failure in failures] == [(file, 1), (file, 3)]
    assert all("Feature: x (data type: float) is required" in f["reason"] for f in failures)
    assert outputs.failed_examples.split_names == '["unlabelled"]'

    again = make_outputs(tmp_path / "again")
    execute(again, {"examples": outputs.failed_examples, "model": model}, data_spec=ALL_MAY_FAIL)
    assert counts_of(again) == (2, 0, 2)


@pytest.mark.slow
def test_too_many_failures_are_an_error_that_empties_the_outputs(outputs, mixed_examples, model):
    limit = our.FailureLimit(max_count=1, max_fraction=1)

    with pytest.raises(
        FailureLimitError, match=r"2 of 4[\s\S]* FailureLimit comes from DataSpec\.failure_limit\.$"
    ):
        execute(
            outputs,
            {"examples": mixed_examples, "model": model},
            data_spec=our.DataSpec(failure_limit=limit),
            output_example_spec=columns_spec(y5="y"),
        )

    assert [tree(made.uri) for made in outputs] == [[], [], [], []]


def test_empty_split_gives_no_predictions_and_a_warning(outputs, model, tmp_path, caplog):
    Path(tmp_path, "Split-a").mkdir()
    execute(outputs, {"examples": artifact(Examples, tmp_path, ["a"]), "model": model})
    assert counts_of(outputs) == (0, 0, 0)
    assert scored(outputs.inference_result) == []
    assert "Split 'a' is empty: no record in 0 files." in caplog.messages


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
    assert tree(outputs.summary.uri) == ["summary.json"]
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


@pytest.mark.parametrize(
    ("args", "is_local"),
    [
        ([], True),
        (["--direct_num_workers=1"], True),
        (["--runner=DirectRunner"], True),
        ([f"--runner={FN_API_RUNNER}", "--direct_num_workers=1"], True),
        (["--runner", FN_API_RUNNER], True),
        (["--runner=DataflowRunner"], False),
        (["--runner=FlinkRunner"], False),
        (["--runner=PortableRunner"], False),
    ],
)
def test_tfx_is_packed_only_for_workers_elsewhere(packaged, args, is_local):
    executor = Executor(Executor.Context(beam_pipeline_args=args))
    assert packaged == ([] if is_local else [args])
    assert set(args) <= set(executor._beam_pipeline_args)
    assert ("--extra_package=tfx.tar.gz" in executor._beam_pipeline_args) != is_local


def test_package_of_the_hooks_is_for_the_workers(outputs, inputs, packaged):
    hooks = {"module_path": "hooks@/packages/hooks.whl"}
    context = Executor.Context(beam_pipeline_args=["--direct_num_workers=1"])
    # The gate is closed, so that nothing is installed or run here.
    executor = execute(outputs, inputs, context, required_blessings="model_blessing", **hooks)
    args = ["--direct_num_workers=1", "--extra_package=/packages/hooks.whl"]
    assert executor._beam_pipeline_args == args


def test_runner_of_the_pipelines_author_is_kept(outputs, inputs, packaged):
    context = Executor.Context(beam_pipeline_args=["--runner=NoSuchRunner"])
    with pytest.raises(ValueError, match="NoSuchRunner"):
        execute(outputs, inputs, context)
    assert [tree(made.uri) for made in outputs] == [[], [], [], []]


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
