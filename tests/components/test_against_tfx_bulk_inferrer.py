"""What the README says of TFX's own BulkInferrer, shown by running both on the same artifacts."""

from __future__ import annotations

import json
import re

import keras
import pytest
import tensorflow as tf
from tfx.components.bulk_inferrer.component import BulkInferrer
from tfx.components.bulk_inferrer.executor import Executor as TfxExecutor
from tfx.proto import bulk_inferrer_pb2
from tfx.types.standard_artifacts import Examples, InferenceResult, Model, ModelBlessing

from bulk_inferencer import InferenceSummary, read_predictions
from bulk_inferencer.components.executor import Executor as OurExecutor
from bulk_inferencer.engines.beam_options import with_runner
from bulk_inferencer.errors import InputError
from tests import helpers
from tests.components.tfx_helpers import (
    artifact,
    channel,
    custom_properties,
    examples_of,
    summary_of,
    write_examples,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model_for_both(tmp_path_factory):
    """A tf.Module, y = 5x, which TF1's session loader can load too."""

    class FiveTimes(tf.Module):
        def __init__(self):
            super().__init__()
            self.factor = tf.Variable(5.0)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")])
        def serve(self, examples):
            return {"y": self.factor * tf.io.parse_example(examples, {"x": helpers.FLOAT})["x"]}

    module = FiveTimes()
    uri = str(tmp_path_factory.mktemp("model_for_both"))
    tf.saved_model.save(module, f"{uri}/Format-Serving", {"serving_default": module.serve})
    return uri


def make_examples(folder, records):
    uri = write_examples(folder, unlabelled=records)
    return artifact(Examples, uri, ["unlabelled"], payload_format="FORMAT_TF_EXAMPLE")


def run(executor, folder, examples, model_uri, splits=(), **blessings):
    """Runs an executor and returns its outputs by key."""
    model = artifact(Model, model_uri)
    model.id = 1
    kinds = {"inference_result": InferenceResult}
    if executor is OurExecutor:
        kinds |= {"summary": InferenceSummary, "failed_examples": Examples}
    outputs = {}
    for key, kind in kinds.items():
        uri = folder / f"{executor.__module__}-{key}"
        uri.mkdir()
        outputs[key] = artifact(kind, uri)
    executor(executor.Context(beam_pipeline_args=with_runner([]))).Do(
        {"examples": examples, "model": [model], **blessings},
        {key: [made] for key, made in outputs.items()},
        {"data_spec": json.dumps({"exampleSplits": splits}), "model_spec": "{}"},
    )
    return outputs


def written_logs(result):
    """Returns how many records stand in all files of predictions."""
    files = tf.io.gfile.glob(f"{result.uri}/prediction_logs*")
    return sum(1 for _ in tf.data.TFRecordDataset(files, "GZIP")) if files else 0


def test_keras_3_model_fails_there_and_is_scored_here(tmp_path):
    # Saved with a signature as TFX's tutorials do it.
    model = helpers.linear_keras(keras)
    helpers.save_with_signature(model, tmp_path / "keras_3" / "Format-Serving")
    uri = str(tmp_path / "keras_3")
    examples = [make_examples(tmp_path / "examples", examples_of(2))]
    with pytest.raises(Exception, match="Could not find variable"):
        run(TfxExecutor, tmp_path, examples, uri)
    outputs = run(OurExecutor, tmp_path, examples, uri)
    (prediction,) = read_predictions(outputs["inference_result"].uri)
    assert prediction.outputs["y"] == pytest.approx(10.0)


def test_one_bad_record_ends_the_run_there_and_is_a_failure_here(tmp_path, model_for_both):
    records = examples_of(*range(999))
    records.insert(500, b"not a tf.Example")
    examples = [make_examples(tmp_path / "examples", records)]
    with pytest.raises(Exception, match="Error parsing message"):
        run(TfxExecutor, tmp_path, examples, model_for_both)
    total = summary_of(run(OurExecutor, tmp_path, examples, model_for_both)["summary"]).total
    assert (total.examples_read, total.predictions_written, total.examples_failed) == (1000, 999, 1)


def test_artifacts_that_share_a_split_lose_records_there_and_none_here(tmp_path, model_for_both):
    examples = [make_examples(tmp_path / str(n), examples_of(*range(n))) for n in (3, 4)]
    theirs = run(TfxExecutor, tmp_path, examples, model_for_both)
    ours = run(OurExecutor, tmp_path, examples, model_for_both)
    assert written_logs(theirs["inference_result"]) == 4
    assert written_logs(ours["inference_result"]) == 7


def test_unblessed_model_leaves_no_word_there_and_a_reason_here(tmp_path, model_for_both):
    examples = [make_examples(tmp_path / "examples", examples_of(1))]
    refusal = artifact(ModelBlessing, tmp_path, blessed=0, current_model_id=1)

    theirs, ours = (
        run(executor, tmp_path, examples, model_for_both, model_blessing=[refusal])
        for executor in (TfxExecutor, OurExecutor)
    )

    assert helpers.tree(theirs["inference_result"].uri) == []
    assert not theirs["inference_result"].mlmd_artifact.custom_properties
    properties = custom_properties(ours["inference_result"].mlmd_artifact)
    assert properties["gate"] == "not_blessed"
    assert "not blessed" in summary_of(ours["summary"]).gate.reason


@pytest.mark.parametrize("of_model", [{}, {"current_model_id": 2}], ids=["of none", "of another"])
def test_blessing_that_does_not_name_the_model_counts_there_and_not_here(
    tmp_path, model_for_both, of_model
):
    examples = [make_examples(tmp_path / "examples", examples_of(1))]
    blessing = artifact(ModelBlessing, tmp_path, blessed=1, **of_model)
    theirs, ours = (
        run(executor, tmp_path, examples, model_for_both, model_blessing=[blessing])
        for executor in (TfxExecutor, OurExecutor)
    )
    assert written_logs(theirs["inference_result"]) == 1
    assert written_logs(ours["inference_result"]) == 0
    gate = summary_of(ours["summary"]).gate
    assert gate.verdict == "not_blessed"
    assert ("does not say which model" if not of_model else "blesses model 2") in gate.reason


@pytest.mark.parametrize("splits", [["evaluation"], ["unlabelled", "evaluation"]])
def test_split_that_does_not_exist_is_passed_over_there_and_an_error_here(
    tmp_path, model_for_both, splits
):
    examples = [make_examples(tmp_path / "examples", examples_of(1))]
    theirs = run(TfxExecutor, tmp_path, examples, model_for_both, splits)
    assert written_logs(theirs["inference_result"]) == splits.count("unlabelled")
    with pytest.raises(InputError, match=r"split 'evaluation'.*unlabelled"):
        run(OurExecutor, tmp_path, examples, model_for_both, splits)


def test_files_have_the_names_of_their_splits_here(tmp_path, model_for_both):
    uri = write_examples(tmp_path / "examples", one=examples_of(1), two=examples_of(2, 3))
    examples = [artifact(Examples, uri, ["one", "two"], payload_format="FORMAT_TF_EXAMPLE")]
    theirs, ours = (
        helpers.tree(run(executor, tmp_path, examples, model_for_both)["inference_result"].uri)
        for executor in (TfxExecutor, OurExecutor)
    )
    assert theirs
    assert all(re.fullmatch(r"prediction_logs-\d{5}-of-\d{5}\.gz", name) for name in theirs)
    assert ours == [f"prediction_logs-{split}-00000-of-00001.gz" for split in ("one", "two")]


def test_output_examples_replace_the_predictions_there():
    column = bulk_inferrer_pb2.PredictOutputCol(output_key="y", output_column="y")
    predict = bulk_inferrer_pb2.PredictOutput(output_columns=[column])
    entry = bulk_inferrer_pb2.OutputColumnsSpec(predict_output=predict)
    component = BulkInferrer(
        examples=channel(Examples),
        model=channel(Model),
        output_example_spec=bulk_inferrer_pb2.OutputExampleSpec(output_columns_spec=[entry]),
    )
    assert sorted(component.outputs) == ["output_examples"]
