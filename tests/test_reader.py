from __future__ import annotations

import re

import ml_dtypes
import numpy as np
import pytest

from bulk_inferencer._formats import tfrecord
from bulk_inferencer._formats.prediction_log import PredictionLogEncoder
from bulk_inferencer._signatures import CLASSIFY, PREDICT, REGRESS, Signature
from bulk_inferencer.errors import InputError
from bulk_inferencer.results.reader import read_prediction_logs, read_predictions
from tests.helpers import example, in_bucket

ONE = [Signature("serving_default", PREDICT)]
RECORDS = [example(x=1.0), example(x=2.0)]


def write_logs(folder, signatures, outputs, records=RECORDS, name="s-00000-of-00001"):
    logs = PredictionLogEncoder(signatures, "examples").encode(records, outputs)
    data = tfrecord.gzip_member(tfrecord.frame(logs))
    (folder / f"prediction_logs-{name}.gz").write_bytes(data)
    return str(folder)


@pytest.mark.parametrize(
    "values",
    [
        np.array([1.5, np.nan], np.float32),
        np.array([[1.5], [-np.inf]], np.float64),
        np.array([[1, 2], [3, 4]], np.float16),
        np.array([[1, 2], [3, 4]], ml_dtypes.bfloat16),
        np.array([1, 2], ml_dtypes.bfloat16),
        np.array([[[1, 2]], [[3, -4]]], np.int64),
        np.array([1, 2], np.uint64),
        np.array([True, False]),
        np.array([b"text", b"\xff\0"], object),
        np.array([[b"a", b"", b"b"], [b"c", b"d", b"e"]], object),
        np.empty((2, 0), np.float32),
        np.empty((2, 3, 0), object),
        np.array([1 + 2j, 3], np.complex64),
    ],
    ids=lambda values: f"{values.dtype}{values.shape}",
)
def test_outputs_come_back_in_the_shape_of_the_record(tmp_path, values):
    found = list(read_predictions(write_logs(tmp_path, ONE, {"y": values})))
    assert [prediction.record for prediction in found] == RECORDS
    for prediction, expected in zip(found, values, strict=True):
        output = prediction.outputs["y"]
        assert output.dtype == values.dtype
        assert output.shape == values.shape[1:]
        np.testing.assert_array_equal(output, np.asarray(expected, values.dtype))


def test_classification_comes_back_as_classes_and_scores(tmp_path):
    outputs = {
        "classes": np.array([[b"a", "ä".encode()]] * 2, object),
        "scores": np.array([[0.25, 0.75], [1, 0]], np.float32),
    }
    _, second = read_predictions(write_logs(tmp_path, [Signature("s", CLASSIFY)], outputs))
    assert second.record == RECORDS[1]
    assert second.outputs["classes"].tolist() == [b"a", "ä".encode()]
    assert second.outputs["scores"].tolist() == [1.0, 0.0]


def test_regression_comes_back_as_a_scalar(tmp_path):
    outputs = {"outputs": np.array([[1.5], [2.5]], np.float32)}
    _, second = read_predictions(write_logs(tmp_path, [Signature("s", REGRESS)], outputs))
    assert second.record == RECORDS[1]
    assert (second.outputs["outputs"].shape, second.outputs["outputs"].tolist()) == ((), 2.5)


def test_multi_inference_comes_back_by_signature(tmp_path):
    outputs = {
        "a/classes": np.array([[b"x"]] * 2, object),
        "a/scores": np.array([[0.5]] * 2, np.float32),
        "b/outputs": np.array([1.5, 2.5], np.float32),
    }
    heads = [Signature("a", CLASSIFY), Signature("b", REGRESS)]
    _, second = read_predictions(write_logs(tmp_path, heads, outputs))
    assert second.record == RECORDS[1]
    assert {name: values.tolist() for name, values in second.outputs.items()} == {
        "a/classes": [b"x"],
        "a/scores": [0.5],
        "b/outputs": 2.5,
    }


def test_shards_and_splits_are_read_in_the_order_of_their_names(tmp_path):
    for name, record in (("b-00000-of-00001", b"3"), ("a-00001-of-00002", b"2")):
        write_logs(tmp_path, ONE, {"y": np.ones(1)}, [record], name)
    uri = write_logs(tmp_path, ONE, {"y": np.ones(1)}, [b"1"], "a-00000-of-00002")
    assert [prediction.record for prediction in read_predictions(uri)] == [b"1", b"2", b"3"]
    assert [prediction.record for prediction in read_predictions(uri, "a")] == [b"1", b"2"]


def test_split_whose_name_begins_another_splits_name_is_read_alone(tmp_path):
    write_logs(tmp_path, ONE, {"y": np.ones(1)}, [b"other"], "eval-late-00000-of-00001")
    uri = write_logs(tmp_path, ONE, {"y": np.ones(1)}, [b"own"], "eval-00000-of-00001")
    assert [prediction.record for prediction in read_predictions(uri, "eval")] == [b"own"]


def test_folder_on_a_filesystem_unknown_to_tensorflow_is_read(tmp_path):
    write_logs(tmp_path, ONE, {"y": np.ones(2)})
    found = read_predictions(in_bucket(tmp_path))
    assert [prediction.record for prediction in found] == RECORDS


def test_prediction_logs_come_as_protos(tmp_path):
    (log, _) = read_prediction_logs(write_logs(tmp_path, ONE, {"y": np.ones(2)}))
    assert log.predict_log.request.inputs["examples"].string_val[0] == RECORDS[0]


@pytest.mark.parametrize(("split", "pattern"), [(None, "*"), ("t", "t")])
def test_missing_shards_are_an_error(tmp_path, split, pattern):
    if split:
        write_logs(tmp_path, ONE, {"y": np.ones(2)})
    message = (
        f"Expected shards of predictions, found none that match "
        f"{tmp_path}/prediction_logs-{pattern}-*-of-*. Check the folder and the split; a model "
        f"that was not blessed leaves no predictions (summary.json)."
    )
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        list(read_predictions(str(tmp_path), split))
