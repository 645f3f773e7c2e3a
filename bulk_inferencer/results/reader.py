"""Reads predictions back as arrays."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from bulk_inferencer import _files, _layout
from bulk_inferencer._formats import tfrecord
from bulk_inferencer._signatures import CLASSES_OUTPUT, REGRESS_OUTPUT, SCORES_OUTPUT
from bulk_inferencer.errors import InputError


class RecordPrediction(NamedTuple):
    """A record and its outputs.

    ```python
    for prediction in read_predictions("results/inference_result"):
        prediction.outputs["y"]
    ```

    Attributes:
      record: the serialized record.
      outputs: arrays by output name, without a batch dimension; strings as object arrays of
        `bytes`. Outputs of a multi-inference log are named `<signature>/<output>`.
    """

    record: bytes
    outputs: dict[str, np.ndarray]


def read_prediction_logs(uri: str, split: str | None = None) -> Iterator[Any]:
    """Yields the PredictionLog protos of an `inference_result` folder, shard by shard.

    Args:
      uri: the folder.
      split: the split to read; default: all splits.

    Raises:
      InputError: the folder has no shard of the split, or a shard cannot be read.
    """
    from tensorflow_serving.apis import prediction_log_pb2

    name = _layout.prediction_logs_pattern(split)
    paths = _files.matching(_files.literal(uri) + "/*")
    shards = [path for path in paths if name.fullmatch(posixpath.basename(path))]
    if not shards:
        which = f" of split '{split}'" if split else ""
        raise InputError(
            f"There are no predictions{which} in {uri}. Check the folder and the split. A model "
            f"that was not blessed leaves no predictions; its summary.json says so."
        )
    for path in shards:
        for chunk in tfrecord.read_chunks(path):
            for log in chunk:
                yield prediction_log_pb2.PredictionLog.FromString(log)


def read_predictions(uri: str, split: str | None = None) -> Iterator[RecordPrediction]:
    """Yields the predictions of an `inference_result` folder; see `read_prediction_logs`."""
    return map(prediction_of, read_prediction_logs(uri, split))


def prediction_of(log: Any) -> RecordPrediction:
    """Returns the record and the outputs of a PredictionLog proto."""
    import tensorflow as tf

    kind = log.WhichOneof("log_type")
    entry = getattr(log, kind)
    if kind == "predict_log":
        (record,) = next(iter(entry.request.inputs.values())).string_val
        arrays = {name: tf.make_ndarray(t) for name, t in entry.response.outputs.items()}
        return RecordPrediction(record, {n: a.reshape(a.shape[1:]) for n, a in arrays.items()})
    record = entry.request.input.example_list.examples[0].SerializeToString()
    if kind == "classify_log":
        return RecordPrediction(record, _classification(entry.response.result))
    if kind == "regress_log":
        return RecordPrediction(record, _regression(entry.response.result))
    outputs = {}
    for result in entry.response.results:
        if result.HasField("classification_result"):
            values = _classification(result.classification_result)
        else:
            values = _regression(result.regression_result)
        for name, value in values.items():
            outputs[f"{result.model_spec.signature_name}/{name}"] = value
    return RecordPrediction(record, outputs)


def _classification(result: Any) -> dict[str, np.ndarray]:
    classes = result.classifications[0].classes
    return {
        CLASSES_OUTPUT: np.array([c.label.encode() for c in classes], object),
        SCORES_OUTPUT: np.array([c.score for c in classes], np.float32),
    }


def _regression(result: Any) -> dict[str, np.ndarray]:
    return {REGRESS_OUTPUT: np.float32(result.regressions[0].value).reshape(())}
