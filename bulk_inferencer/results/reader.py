"""Reads results back as arrays."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from bulk_inferencer import _files
from bulk_inferencer._formats import tfrecord
from bulk_inferencer._signatures import CLASSES_OUTPUT, REGRESS_OUTPUT, SCORES_OUTPUT
from bulk_inferencer.errors import InputError


class Prediction(NamedTuple):
    """The outputs for one record.

    Attributes:
      record: the serialized record.
      outputs: arrays by output name, of the record's own shape, without a batch dimension;
        strings as object arrays of `bytes`. Outputs of a multi-inference log are named
        `<signature>/<output>`.
    """

    record: bytes
    outputs: dict[str, np.ndarray]


def read_prediction_logs(uri: str, split: str | None = None) -> Iterator[Any]:
    """Yields the PredictionLog protos of an `inference_result` folder, shard by shard.

    Args:
      uri: the folder.
      split: only this split; default: all.

    Raises:
      InputError: the folder has no shard of the split, or a shard cannot be read.
    """
    from tensorflow_serving.apis import prediction_log_pb2

    pattern = f"{_files.literal(uri)}/prediction_logs-{split or '*'}-*-of-*"
    # A split's name may begin with another split's, which the pattern matches too.
    name = re.compile(rf"prediction_logs-{re.escape(split) if split else '.+'}-\d+-of-\d+(\.gz)?")
    shards = [p for p in _files.matching(pattern) if name.fullmatch(posixpath.basename(p))]
    if not shards:
        raise InputError(
            f"Expected shards of predictions, found none that match {pattern}. Check the folder "
            f"and the split; a model that was not blessed leaves no predictions (summary.json)."
        )
    for path in shards:
        for chunk in tfrecord.read_chunks(path):
            for log in chunk:
                yield prediction_log_pb2.PredictionLog.FromString(log)


def read_predictions(uri: str, split: str | None = None) -> Iterator[Prediction]:
    """Yields every prediction of an `inference_result` folder; see `read_prediction_logs`."""
    for log in read_prediction_logs(uri, split):
        yield prediction_of(log)


def prediction_of(log: Any) -> Prediction:
    """Returns what a PredictionLog proto holds."""
    import tensorflow as tf

    kind = log.WhichOneof("log_type")
    entry = getattr(log, kind)
    if kind == "predict_log":
        (record,) = next(iter(entry.request.inputs.values())).string_val
        arrays = {name: tf.make_ndarray(t) for name, t in entry.response.outputs.items()}
        return Prediction(record, {n: a.reshape(a.shape[1:]) for n, a in arrays.items()})
    record = entry.request.input.example_list.examples[0].SerializeToString()
    if kind == "classify_log":
        return Prediction(record, _classification(entry.response.result))
    if kind == "regress_log":
        return Prediction(record, _regression(entry.response.result))
    outputs = {}
    for result in entry.response.results:
        is_classification = result.HasField("classification_result")
        values = (
            _classification(result.classification_result)
            if is_classification
            else _regression(result.regression_result)
        )
        for name, value in values.items():
            outputs[posixpath.join(result.model_spec.signature_name, name)] = value
    return Prediction(record, outputs)


def _classification(result: Any) -> dict[str, np.ndarray]:
    classes = result.classifications[0].classes
    return {
        CLASSES_OUTPUT: np.array([c.label.encode() for c in classes], object),
        SCORES_OUTPUT: np.array([c.score for c in classes], np.float32),
    }


def _regression(result: Any) -> dict[str, np.ndarray]:
    return {REGRESS_OUTPUT: np.float32(result.regressions[0].value).reshape(())}
