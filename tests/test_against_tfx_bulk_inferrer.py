"""What the README says of TFX's own BulkInferrer, shown by running both on the same artifacts."""

import os
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from tfx.components.bulk_inferrer.component import BulkInferrer
from tfx.components.bulk_inferrer.executor import Executor as TfxExecutor
from tfx.proto import bulk_inferrer_pb2
from tfx.types import channel_utils, standard_artifacts

from bulk_inferencer import InferenceSummary, read_predictions
from bulk_inferencer.components.executor import Executor as OurExecutor
from bulk_inferencer.job import local_beam_args
from bulk_inferencer.results.summary import Summary

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
            features = {"x": tf.io.FixedLenFeature([], tf.float32)}
            return {"y": self.factor * tf.io.parse_example(examples, features)["x"]}

    module = FiveTimes()
    uri = str(tmp_path_factory.mktemp("model_for_both"))
    tf.saved_model.save(module, f"{uri}/Format-Serving", {"serving_default": module.serve})
    return uri


@pytest.fixture(scope="module")
def keras_3_model(tmp_path_factory):
    """A Keras 3 model, saved with a signature as TFX's tutorials do it."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    model.set_weights([np.array([[5.0]])])

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")])
    def serve(examples):
        features = {"x": tf.io.FixedLenFeature([1], tf.float32)}
        return {"y": model(tf.io.parse_example(examples, features)["x"])}

    uri = str(tmp_path_factory.mktemp("keras_3_model"))
    tf.saved_model.save(model, f"{uri}/Format-Serving", signatures={"serving_default": serve})
    return uri


def example(x):
    feature = tf.train.Feature(float_list=tf.train.FloatList(value=[x]))
    return tf.train.Example(features=tf.train.Features(feature={"x": feature})).SerializeToString()


def examples_artifact(folder, records):
    artifact = standard_artifacts.Examples()
    artifact.uri = str(folder)
    artifact.split_names = '["unlabelled"]'
    artifact.set_string_custom_property("payload_format", "FORMAT_TF_EXAMPLE")
    os.makedirs(f"{folder}/Split-unlabelled")
    with tf.io.TFRecordWriter(f"{folder}/Split-unlabelled/data.gz", "GZIP") as writer:
        for record in records:
            writer.write(record)
    return artifact


def run(executor, folder, examples, model_uri, blessed=None):
    """Runs an executor and returns its outputs by key."""
    model = standard_artifacts.Model()
    model.uri = model_uri
    model.id = 1
    inputs = {"examples": examples, "model": [model]}
    if blessed is not None:
        blessing = standard_artifacts.ModelBlessing()
        blessing.uri = str(folder)
        blessing.set_int_custom_property("blessed", int(blessed))
        blessing.set_int_custom_property("current_model_id", 1)
        inputs["model_blessing"] = [blessing]
    outputs = {"inference_result": standard_artifacts.InferenceResult()}
    if executor is OurExecutor:
        outputs["summary"] = InferenceSummary()
        outputs["failed_examples"] = standard_artifacts.Examples()
    for key, artifact in outputs.items():
        artifact.uri = str(folder / f"{executor.__module__}-{key}")
        shutil.rmtree(artifact.uri, ignore_errors=True)
        os.makedirs(artifact.uri)
    context = executor.Context(beam_pipeline_args=local_beam_args())
    executor(context).Do(
        inputs,
        {key: [artifact] for key, artifact in outputs.items()},
        {"data_spec": "{}", "model_spec": "{}"},
    )
    return outputs


def written_logs(uri):
    """Returns how many records stand in all files of a folder."""
    files = tf.io.gfile.glob(f"{uri}/prediction_logs*")
    return sum(1 for _ in tf.data.TFRecordDataset(files, "GZIP")) if files else 0


def test_keras_3_model_fails_there_and_is_scored_here(tmp_path, keras_3_model):
    examples = [examples_artifact(tmp_path / "examples", [example(2.0)])]

    with pytest.raises(Exception, match="Could not find variable"):
        run(TfxExecutor, tmp_path, examples, keras_3_model)

    outputs = run(OurExecutor, tmp_path, examples, keras_3_model)
    (prediction,) = read_predictions(outputs["inference_result"].uri)
    assert prediction.outputs["y"] == pytest.approx(10.0)


def test_one_bad_record_ends_the_run_there_and_is_a_failure_here(tmp_path, model_for_both):
    records = [example(float(x)) for x in range(999)]
    records.insert(500, b"not a tf.Example")
    examples = [examples_artifact(tmp_path / "examples", records)]

    with pytest.raises(Exception, match="Error parsing message"):
        run(TfxExecutor, tmp_path, examples, model_for_both)

    outputs = run(OurExecutor, tmp_path, examples, model_for_both)
    total = Summary.read(outputs["summary"].uri).total
    assert (total.examples_read, total.predictions_written, total.examples_failed) == (1000, 999, 1)


def test_artifacts_that_share_a_split_lose_records_there_and_none_here(tmp_path, model_for_both):
    examples = [
        examples_artifact(tmp_path / "monday", [example(float(x)) for x in range(3)]),
        examples_artifact(tmp_path / "tuesday", [example(float(x)) for x in range(4)]),
    ]

    theirs = run(TfxExecutor, tmp_path, examples, model_for_both)
    ours = run(OurExecutor, tmp_path, examples, model_for_both)

    assert written_logs(theirs["inference_result"].uri) == 4
    assert written_logs(ours["inference_result"].uri) == 7


def test_unblessed_model_leaves_no_word_there_and_a_reason_here(tmp_path, model_for_both):
    examples = [examples_artifact(tmp_path / "examples", [example(1.0)])]

    theirs = run(TfxExecutor, tmp_path, examples, model_for_both, blessed=False)
    ours = run(OurExecutor, tmp_path, examples, model_for_both, blessed=False)

    assert os.listdir(theirs["inference_result"].uri) == []
    assert not theirs["inference_result"].mlmd_artifact.custom_properties
    assert ours["inference_result"].get_string_custom_property("gate") == "not_blessed"
    assert "not blessed" in Summary.read(ours["summary"].uri).gate_reason


def test_output_examples_replace_the_predictions_there():
    column = bulk_inferrer_pb2.PredictOutputCol(output_key="y", output_column="y")
    spec = bulk_inferrer_pb2.OutputExampleSpec(
        output_columns_spec=[
            bulk_inferrer_pb2.OutputColumnsSpec(
                predict_output=bulk_inferrer_pb2.PredictOutput(output_columns=[column])
            )
        ]
    )
    component = BulkInferrer(
        examples=channel_utils.as_channel([standard_artifacts.Examples()]),
        model=channel_utils.as_channel([standard_artifacts.Model()]),
        output_example_spec=spec,
    )
    assert sorted(component.outputs) == ["output_examples"]
